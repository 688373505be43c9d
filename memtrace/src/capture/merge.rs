//! Captures of single processes taken together: sums, and every site as it is. Sites of equal names
//! are taken together by the report.

use std::collections::BTreeMap;

use super::{Capture, CapturedProcess, Ending, EventsKept, LossCount, ThreadName};
use crate::model::{
    cost::Cost,
    coverage::{Coverage, Family},
    site::SiteStats,
    timeline::{PeakSource, Timeline, TimelineSample},
    trace::{Completeness, EndReason, FunctionReport, Module, Rss, Totals, Window},
};

/// Samples of several processes that are nearer than this are of the same moment.
const SAME_MOMENT_NS: u64 = 20_000_000;

/// Takes them together; each has one process, which is updated by what it holds. The first is where
/// the rest hangs on. Of one process alone everything stays; of several, walks of the heap and
/// distributions are in [`Capture::processes`] only.
pub fn merge(parts: Vec<Capture>) -> Capture {
    let processes: Vec<CapturedProcess> = parts.iter().filter_map(process).collect();
    let mut parts = parts.into_iter();
    let mut merged = parts.next().unwrap_or_default();
    let number = processes.first().map_or(0, |process| process.number);
    merged.sites.iter_mut().for_each(|site| site.process = number);
    for (part, process) in parts.zip(processes.iter().skip(1)) {
        append(&mut merged, part, process.number);
    }
    if processes.len() > 1 {
        let timeline = timeline(&processes, merged.header.opened_ns);
        merged.ending = ending(&processes, &timeline);
        (merged.timeline, merged.walks) = (timeline, Default::default());
        merged.layouts = Default::default();
    }
    merged.stacks.sort_by_key(|(id, _)| *id);
    merged.threads = threads(std::mem::take(&mut merged.threads));
    merged.processes = processes;
    merged
}

/// What the part's process is by what the part holds.
fn process(part: &Capture) -> Option<CapturedProcess> {
    let process = part.processes.first()?.clone();
    Some(CapturedProcess {
        header: part.header.clone(),
        modules: part.modules.clone(),
        timeline: part.timeline.clone(),
        walks: (&part.walks).into(),
        layouts: part.layouts.clone(),
        ending: Some(part.ending.clone()),
        events: part.events,
        ..process
    })
}

fn append(merged: &mut Capture, mut part: Capture, number: u8) {
    let first = merged.sites.len() as u32;
    part.sites.iter_mut().for_each(|site| site.process = number);
    part.live.iter_mut().for_each(|item| item.site += first);
    // Extras are of all sites or of none.
    merged.extras.resize_with(
        if part.extras.is_empty() { merged.extras.len() } else { merged.sites.len() },
        Default::default,
    );
    merged.extras.append(&mut part.extras);
    merged.sites.append(&mut part.sites);
    merged.live.append(&mut part.live);
    merged.stacks.append(&mut part.stacks);
    merged.threads.append(&mut part.threads);
    add_modules(&mut merged.modules, part.modules);
    merged.selected.is_slice |= part.selected.is_slice;
    let EventsKept { kept, left_out } = part.events;
    merged.events.kept += kept;
    merged.events.left_out += left_out;
}

/// Forked processes have most of them at the same places.
fn add_modules(modules: &mut Vec<Module>, others: Vec<Module>) {
    let new: Vec<Module> = others.into_iter().filter(|module| !modules.contains(module)).collect();
    modules.extend(new);
}

fn threads(mut threads: Vec<ThreadName>) -> Vec<ThreadName> {
    threads.sort();
    threads.dedup_by_key(|thread| thread.tid);
    threads
}

fn ending(processes: &[CapturedProcess], timeline: &Timeline) -> Ending {
    let endings: Vec<&Ending> = processes.iter().filter_map(|it| it.ending.as_ref()).collect();
    let closed_ns = endings.iter().map(|it| it.closed_ns).max().unwrap_or_default();
    let first = endings.first().copied().cloned().unwrap_or_default();
    Ending {
        closed_ns,
        window: window(processes, &endings, closed_ns),
        rss: rss(processes, &endings, timeline, closed_ns),
        totals: endings.iter().fold(Totals::default(), |sum, it| add_totals(sum, &it.totals)),
        sizes: None,
        lifetimes: None,
        functions: functions(&endings),
        completeness: completeness(processes),
        losses: losses(&endings),
        coverage: least_covered(&endings),
        sample_interval_bytes: endings.iter().filter_map(|it| it.sample_interval_bytes).max(),
        cost: dearest(&endings),
        rss_changes: None,
        ..first
    }
}

/// Each site is scaled by the coverage of its own process; this one says how little there is.
fn least_covered(endings: &[&Ending]) -> Coverage {
    let share = |ending: &&&Ending| ending.coverage.share_of(Family::Heap);
    let least = endings.iter().min_by(|one, other| share(one).total_cmp(&share(other)));
    least.map(|ending| ending.coverage.clone()).unwrap_or_default()
}

/// Each process is kept to the limit by itself.
fn dearest(endings: &[&Ending]) -> Option<Cost> {
    let overhead = |cost: &&Cost| cost.overhead.unwrap_or_default();
    let costs = endings.iter().filter_map(|ending| ending.cost.as_ref());
    costs.max_by(|one, other| overhead(one).total_cmp(&overhead(other))).cloned()
}

fn window(processes: &[CapturedProcess], endings: &[&Ending], closed_ns: u64) -> Window {
    let opened_ns = processes.iter().map(|it| it.header.opened_ns).min().unwrap_or_default();
    let last = endings.iter().max_by_key(|it| it.closed_ns);
    let reasons = endings.iter().map(|it| it.window.ended_by);
    let ended_by = reasons.clone().find(|reason| *reason != EndReason::TargetExited);
    let first = endings.first().map(|it| it.window.clone()).unwrap_or_default();
    Window {
        duration_ns: closed_ns.saturating_sub(opened_ns),
        ended_by: ended_by.or(last.map(|it| it.window.ended_by)).unwrap_or_default(),
        detach_ns: endings.iter().map(|it| it.window.detach_ns).sum(),
        ..first
    }
}

/// The sums of those that are there at the end, each since it began to be traced: a process that
/// comes or goes is no growth. Pages that several of them have are in it several times.
fn rss(
    processes: &[CapturedProcess],
    endings: &[&Ending],
    timeline: &Timeline,
    closed_ns: u64,
) -> Rss {
    let alive = processes.iter().filter(|it| it.is_alive_at(closed_ns));
    let rss = alive.filter_map(|it| it.ending.as_ref()).map(|it| it.rss);
    Rss {
        start_bytes: rss.clone().map(|it| it.start_bytes).sum(),
        end_bytes: rss.map(|it| it.end_bytes).sum(),
        peak_bytes: timeline.rss_peak_bytes,
        start_parts: None,
        end_parts: None,
        limit_bytes: endings.iter().filter_map(|it| it.rss.limit_bytes).min(),
        own_peak_bytes: endings.iter().map(|it| it.rss.own_peak_bytes).max().unwrap_or_default(),
    }
}

fn add_totals(mut sum: Totals, other: &Totals) -> Totals {
    add_stats(&mut sum.heap, &other.heap);
    add_stats(&mut sum.mappings, &other.mappings);
    add_stats(&mut sum.allocator_mappings, &other.allocator_mappings);
    add_stats(&mut sum.pymalloc_arenas, &other.pymalloc_arenas);
    sum.survivors += other.survivors;
    sum.unmatched_frees += other.unmatched_frees;
    sum.unmatched_unmapped_bytes += other.unmatched_unmapped_bytes;
    sum
}

fn add_stats(sum: &mut SiteStats, other: &SiteStats) {
    sum.live += other.live;
    sum.allocated += other.allocated;
    sum.freed += other.freed;
    sum.peak += other.peak;
}

fn functions(endings: &[&Ending]) -> Vec<FunctionReport> {
    let mut sums: Vec<FunctionReport> = Vec::new();
    for function in endings.iter().flat_map(|it| &it.functions) {
        match sums.iter_mut().find(|sum| sum.function == function.function) {
            Some(sum) => {
                sum.calls += function.calls;
                sum.nested += function.nested;
                sum.void += function.void;
                sum.lost += function.lost;
                sum.passed_over += function.passed_over;
                sum.requested_bytes += function.requested_bytes;
            }
            None => sums.push(function.clone()),
        }
    }
    sums
}

fn losses(endings: &[&Ending]) -> Vec<LossCount> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for loss in endings.iter().flat_map(|it| &it.losses) {
        *sums.entry(&loss.name).or_default() += loss.count;
    }
    sums.into_iter().map(|(name, count)| LossCount { name: name.to_owned(), count }).collect()
}

fn completeness(processes: &[CapturedProcess]) -> Completeness {
    let mut sum = Completeness { complete: true, ..Completeness::default() };
    for process in processes {
        let Some(ending) = &process.ending else { continue };
        let of = &ending.completeness;
        sum.complete &= of.complete;
        sum.events += of.events;
        sum.cut_calls += of.cut_calls;
        sum.forks += of.forks;
        sum.execs += of.execs;
        sum.discarded_by_exec += of.discarded_by_exec;
    }
    sum.notes = notes(processes);
    sum
}

/// Each once; with the process where it is not of all of them.
fn notes(processes: &[CapturedProcess]) -> Vec<String> {
    let mut notes: Vec<(&str, Vec<u32>)> = Vec::new();
    for process in processes {
        let of = process.ending.iter().flat_map(|it| &it.completeness.notes);
        for note in of {
            let pid = process.header.target.pid;
            match notes.iter_mut().find(|(known, _)| *known == note) {
                Some((_, pids)) => pids.push(pid),
                None => notes.push((note, vec![pid])),
            }
        }
    }
    notes.into_iter().map(|(note, pids)| of_processes(note, &pids, processes.len())).collect()
}

fn of_processes(note: &str, pids: &[u32], all: usize) -> String {
    match pids {
        _ if pids.len() >= all => note.to_owned(),
        [pid] => format!("process {pid}: {note}"),
        [pid, others @ ..] => format!("process {pid} and {} more: {note}", others.len()),
        [] => note.to_owned(),
    }
}

/// The sum at each moment of those that were there then.
fn timeline(processes: &[CapturedProcess], opened_ns: u64) -> Timeline {
    let mut changes: Vec<(u64, usize, Option<&TimelineSample>)> = Vec::new();
    for (at, process) in processes.iter().enumerate() {
        let begun = process.header.opened_ns;
        let samples = process.timeline.samples.iter();
        changes.extend(samples.map(|it| (begun.saturating_add(it.at_ns), at, Some(it))));
        let ending = process.ending.as_ref();
        let exited = ending.filter(|it| it.window.ended_by == EndReason::TargetExited);
        changes.extend(exited.map(|it| (it.closed_ns, at, None)));
    }
    changes.sort_by_key(|(time_ns, at, _)| (*time_ns, *at));
    let samples = sum_up(&changes, processes.len(), opened_ns);
    let highest = |it: &TimelineSample| it.rss_bytes;
    Timeline {
        rss_peak_bytes: samples.iter().map(highest).max().unwrap_or_default(),
        rss_peak_source: (!samples.is_empty()).then_some(PeakSource::Samples),
        cgroup_peak_bytes: processes.iter().filter_map(|it| it.timeline.cgroup_peak_bytes).max(),
        samples,
    }
}

fn sum_up(
    changes: &[(u64, usize, Option<&TimelineSample>)],
    processes: usize,
    opened_ns: u64,
) -> Vec<TimelineSample> {
    let mut now = vec![(0, 0); processes];
    let mut samples: Vec<TimelineSample> = Vec::new();
    for (time_ns, at, sample) in changes {
        now[*at] = sample.map_or((0, 0), |it| (it.rss_bytes, it.live_bytes.unwrap_or_default()));
        let (rss_bytes, live_bytes) = now.iter().fold((0_u64, 0_u64), |sum, (rss, live)| {
            (sum.0.saturating_add(*rss), sum.1.saturating_add(*live))
        });
        let at_ns = time_ns.saturating_sub(opened_ns);
        let next = TimelineSample {
            at_ns,
            rss_bytes,
            live_bytes: Some(live_bytes),
            ..TimelineSample::default()
        };
        match samples.last_mut() {
            Some(last) if at_ns < last.at_ns.saturating_add(SAME_MOMENT_NS) => {
                *last = TimelineSample { at_ns: last.at_ns, ..next };
            }
            _ => samples.push(next),
        }
    }
    samples
}
