//! From a finished trace to its capture: names, sums, losses, notes.

use std::collections::BTreeMap;

use memtrace_common::loss::{KernelCounters, KernelLoss};

use super::{
    code::Code,
    examine::hex,
    prepare::{Former, Prepared},
    window::Ending,
};
use crate::{
    capture::{Books, Capture, CapturedSite, Ending as Finish, LossCount, ThreadName},
    model::{
        AllocFn,
        loss::Loss,
        mapping::Mapping,
        size,
        stack::{NamedStack, StackId},
        trace::{
            AllocatorReport, Completeness, FunctionReport, ProbeReport, PythonReport, Target,
            Window,
        },
    },
    probe::{plan::PlannedProbe, site::SiteCost, target::PlannedObject},
    sys::procfs::Process,
};

/// By then, a block that was freed unseen has been found out, or will not be.
const LONGEST_DOUBT_NS: u64 = 5_000_000_000;

impl Ending {
    /// How many stacks have to be named, which can take a while.
    pub fn site_count(&self) -> usize {
        self.ledger.sites().count()
    }

    /// Where releases were missed, what was obtained shortly before the end has not been looked at often
    /// enough to be told from what comes and goes.
    fn age_of_doubt_ns(&self) -> u64 {
        match self.cost.misses_releases {
            true => (self.duration_ns / 10).min(LONGEST_DOUBT_NS),
            false => 0,
        }
    }

    /// Names every stack and hands over all that is known of the window.
    pub fn into_capture(self) -> Capture {
        self.into_capture_and_rest().0
    }

    /// The same, and what is left of it for another trace.
    pub(super) fn into_capture_and_rest(mut self) -> (Capture, Prepared) {
        self.code.refresh_names();
        let min_age_ns = self.header.min_age_ns.max(self.age_of_doubt_ns());
        let books = Books::of(&self.ledger, self.closed_ns, min_age_ns);
        let stacks = stacks(&books.sites, &mut self.code);
        let (python, mut python_notes) = std::mem::take(&mut self.python).into_report();
        self.notes.append(&mut python_notes);
        let ending = Finish {
            target: target(&self.process, &self.objects, python),
            closed_ns: self.closed_ns,
            window: Window {
                started_at: self.header.started_at.clone(),
                duration_ns: self.duration_ns,
                ended_by: self.reason,
                min_age_ns,
                sample_bytes: self.header.sample_bytes,
                attach_ns: self.attach_ns,
                attach_steps: std::mem::take(&mut self.attach_steps),
                detach_ns: self.detach_ns,
            },
            rss: self.rss,
            functions: functions(&self.counters),
            losses: losses(&self),
            completeness: completeness(&mut self),
            unwind_tables: self.code.table_sizes(),
            cost: Some(self.cost.clone()),
            coverage: self.coverage.clone(),
            room: std::mem::take(&mut self.room),
            sample_interval_bytes: self.sample_bytes,
            rss_changes: self.rss_changes,
            ..Finish::default()
        };
        let former = Former::of(&self.objects, &self.header);
        let mut capture = Capture {
            header: self.header,
            modules: self.code.modules(),
            stacks,
            threads: thread_names(self.thread_names),
            timeline: self.timeline,
            walks: self.walks,
            layouts: self.layouts,
            ending,
            events: self.events,
            processes: self.process_facts.into_iter().collect(),
            ..Capture::default()
        };
        books.put_into(&mut capture);
        (capture, Prepared::out_of(self.code.into_tables(), former))
    }
}

fn stacks(sites: &[CapturedSite], code: &mut Code) -> Vec<(StackId, NamedStack)> {
    let mut ids: Vec<StackId> = sites.iter().filter_map(|site| site.stack).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| (id, code.name(id))).collect()
}

fn thread_names(names: BTreeMap<u32, String>) -> Vec<ThreadName> {
    names.into_iter().map(|(tid, name)| ThreadName { tid, name }).collect()
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
            passed_over: counters.passed_over,
            requested_bytes: counters.requested_bytes,
        })
        .collect()
}

/// Calls of which the window saw only one end. Not lost: their memory changed hands outside of it.
fn cut_calls(counters: &KernelCounters) -> u64 {
    let unfinished: u64 = AllocFn::ALL
        .into_iter()
        .filter(|function| function.shape().needs_return())
        .map(|function| counters.function(function))
        .map(|counters| counters.entries.saturating_sub(counters.passed_over + counters.returns))
        .sum();
    let still_inside = unfinished.saturating_sub(counters.loss(KernelLoss::AbandonedCall));
    still_inside + counters.loss(KernelLoss::ReturnWithoutEntry)
}

fn losses(ending: &Ending) -> Vec<LossCount> {
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
    let all = user.into_iter().chain(ending.ledger.losses()).chain(kernel);
    all.filter(|(_, count)| *count > 0)
        .map(|(loss, count)| LossCount { name: loss.name().to_owned(), count })
        .collect()
}

fn completeness(ending: &mut Ending) -> Completeness {
    let totals = ending.ledger.totals();
    let mut notes = std::mem::take(&mut ending.notes);
    notes.append(&mut ending.code.take_notes());
    notes.extend(unknown_survivors(ending));
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

/// What nobody knows of survivors when probes that see releases were away at times.
fn unknown_survivors(ending: &Ending) -> Option<String> {
    let check = ending.walks.check.unwrap_or_default();
    let live = ending.ledger.totals().heap.live.count;
    let unknown = live.saturating_sub(check.in_use);
    (ending.cost.misses_releases && unknown > 0).then(|| {
        format!(
            "the probes were away at times, when frees were not seen: of {} of the {} blocks that are \
             listed as never freed, the heap did not tell whether they are still in use",
            size::count(unknown),
            size::count(live),
        )
    })
}

/// Who is traced.
pub(super) fn target(
    process: &Process,
    objects: &[PlannedObject],
    python: Option<PythonReport>,
) -> Target {
    Target {
        pid: process.pid,
        command: process.command.clone(),
        command_line: process.command_line.clone(),
        executable: process.executable.clone(),
        allocators: objects.iter().map(allocator).collect(),
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
        symbol_prefix: plan.prefix.clone(),
        armed_after_ns: object.armed_after_ns,
        path: name.clone(),
        build_id: plan.build_id.as_ref().map(|bytes| hex(bytes)),
        probes: plan.probes.iter().map(probe).collect(),
    }
}

fn probe(probe: &PlannedProbe) -> ProbeReport {
    ProbeReport {
        function: probe.name().into(),
        offset: probe.site_offset,
        emulated: probe.cost == SiteCost::Emulated,
    }
}
