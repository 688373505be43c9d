//! From a finished trace to the input of the report: names, sums, losses, notes.

use std::collections::HashMap;

use memtrace_common::loss::{KernelCounters, KernelLoss};

use super::{
    code::Code, examine::hex, groups::group_facts, python::unreadable_note, window::Ending,
};
use crate::{
    ledger::{self, Ledger, SiteId},
    model::{AllocFn, loss::Loss, mapping::Mapping, site::Survivors, stack::NamedStack},
    probe::{plan::PlannedProbe, site::SiteCost, target::PlannedObject},
    report::{
        AllocatorReport, Completeness, Distribution, FunctionReport, GroupBy, ProbeReport,
        PythonReport, ReportInput, SiteInput, Target, Totals, Window,
    },
};

impl Ending {
    /// How many stacks have to be named, which can take a while.
    pub fn site_count(&self) -> usize {
        self.ledger.sites().count()
    }

    /// Names every stack and hands over all that the report is made of; sites are taken together
    /// by `group_by`.
    pub fn into_report_input(mut self, min_age_ns: u64, group_by: GroupBy) -> ReportInput {
        self.code.refresh_names();
        let now_ns = self.closed_ns;
        let sites = sites(&self.ledger, &mut self.code, now_ns, min_age_ns);
        let ids: Vec<SiteId> = self.ledger.sites().map(|(id, _)| id).collect();
        let groups = group_facts(&self.ledger, group_by, &sites, &ids, now_ns, min_age_ns);
        let (python, mut python_notes) = std::mem::take(&mut self.python).into_report();
        self.notes.append(&mut python_notes);
        self.notes.extend(unreadable_note(&sites));
        ReportInput {
            window: Window {
                started_at: self.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                duration_ns: self.duration_ns,
                ended_by: self.reason,
                min_age_ns,
                attach_ns: self.attach_ns,
                attach_steps: std::mem::take(&mut self.attach_steps),
                detach_ns: self.detach_ns,
            },
            rss: self.rss,
            timeline: std::mem::take(&mut self.timeline),
            walks: std::mem::take(&mut self.walks),
            totals: totals(&self.ledger),
            sites,
            group_by,
            groups,
            sizes: distribution(self.ledger.sizes()),
            lifetimes: distribution(self.ledger.lifetimes()),
            functions: functions(&self.counters),
            losses: losses(&self),
            completeness: completeness(&mut self),
            unwind_tables: self.code.table_sizes(),
            target: target(self, python),
            view: Default::default(),
            births: Default::default(),
            modules: Vec::new(),
            files: Vec::new(),
        }
    }
}

fn sites(ledger: &Ledger, code: &mut Code, now_ns: u64, min_age_ns: u64) -> Vec<SiteInput> {
    let survivors: HashMap<SiteId, Survivors> =
        ledger.survivors(now_ns, min_age_ns).into_iter().collect();
    ledger
        .sites()
        .map(|(id, entry)| SiteInput {
            function: entry.site.map(|site| site.function),
            stack: match entry.site {
                Some(site) => code.name(site.stack),
                None => NamedStack::default(),
            },
            stats: entry.account.stats,
            survivors: survivors.get(&id).copied().unwrap_or_default(),
            extras: Default::default(),
        })
        .collect()
}

fn totals(ledger: &Ledger) -> Totals {
    let totals = ledger.totals();
    Totals {
        heap: totals.heap,
        mappings: totals.mappings,
        allocator_mappings: totals.allocator_mappings,
        pymalloc_arenas: totals.pymalloc_arenas,
        unmatched_frees: totals.unmatched_frees,
        unmatched_unmapped_bytes: totals.unmatched_unmapped_bytes,
        ..Totals::default()
    }
}

fn distribution(values: &ledger::Distribution) -> Option<Distribution> {
    Some(Distribution {
        count: values.count(),
        min: values.min()?,
        p50: values.quantile(0.5)?,
        p90: values.quantile(0.9)?,
        p99: values.quantile(0.99)?,
        max: values.max()?,
        mean: values.mean()?,
    })
}

/// Functions that were called at all, in the order of [`AllocFn::ALL`].
fn functions(counters: &KernelCounters) -> Vec<FunctionReport> {
    AllocFn::ALL
        .into_iter()
        .map(|function| (function, counters.function(function)))
        .filter(|(_, counters)| counters.entries > 0 || counters.nested > 0)
        .map(|(function, counters)| FunctionReport {
            function: function.name().into(),
            calls: counters.entries,
            nested: counters.nested,
            void: counters.void,
            lost: counters.lost,
        })
        .collect()
}

/// Calls of which the window saw only one end. Not lost: their memory changed hands outside of it.
fn cut_calls(counters: &KernelCounters) -> u64 {
    let unfinished: u64 = AllocFn::ALL
        .into_iter()
        .filter(|function| function.shape().needs_return())
        .map(|function| counters.function(function))
        .map(|counters| counters.entries.saturating_sub(counters.returns))
        .sum();
    let still_inside = unfinished.saturating_sub(counters.loss(KernelLoss::AbandonedCall));
    still_inside + counters.loss(KernelLoss::ReturnWithoutEntry)
}

fn losses(ending: &Ending) -> Vec<(Loss, u64)> {
    let counters = &ending.counters;
    let kernel = KernelLoss::ALL
        .into_iter()
        // A return without an entry is a cut call.
        .filter(|loss| *loss != KernelLoss::ReturnWithoutEntry)
        .map(|loss| (Loss::Kernel(loss), counters.loss(loss)));
    let user = [
        (Loss::RingFull, counters.ring_full.iter().sum()),
        (Loss::Undecodable, ending.undecodable),
        (Loss::StacksFull, ending.unkept_stacks),
    ];
    user.into_iter().chain(ending.ledger.losses()).chain(kernel).collect()
}

fn completeness(ending: &mut Ending) -> Completeness {
    let totals = ending.ledger.totals();
    let mut notes = std::mem::take(&mut ending.notes);
    notes.append(&mut ending.code.take_notes());
    for object in &ending.objects {
        for (function, reason) in &object.plan.skipped {
            notes.push(format!("{} is not probed: {reason}", function.name()));
        }
        notes.extend(object.plan.notes.iter().cloned());
    }
    Completeness {
        events: totals.events,
        cut_calls: cut_calls(&ending.counters),
        forks: totals.forks,
        execs: totals.execs,
        discarded_by_exec: totals.discarded_by_exec,
        notes,
        ..Completeness::default()
    }
}

fn target(ending: Ending, python: Option<PythonReport>) -> Target {
    let process = ending.process;
    Target {
        pid: process.pid,
        command: process.command,
        command_line: process.command_line,
        executable: process.executable,
        allocators: ending.objects.iter().map(allocator).collect(),
        threads: process.threads,
        python,
    }
}

fn allocator(object: &PlannedObject) -> AllocatorReport {
    let plan = &object.plan;
    let Mapping { name, .. } = &plan.mapping;
    AllocatorReport {
        name: plan.allocator.name().to_owned(),
        version: plan.version.clone(),
        path: name.clone(),
        build_id: plan.build_id.as_ref().map(|bytes| hex(bytes)),
        probes: plan.probes.iter().map(probe).collect(),
    }
}

fn probe(probe: &PlannedProbe) -> ProbeReport {
    ProbeReport {
        function: probe.function.name().into(),
        offset: probe.site_offset,
        emulated: probe.cost == SiteCost::Emulated,
    }
}
