//! The processes of a window, each with its own books.

use serde::Serialize;

use super::{GroupName, Report, ReportOptions};
use crate::{
    capture::{Capture, CapturedProcess},
    model::{
        process::{Inherited, PrivatePages},
        site::Amount,
        size,
        trace::{EndReason, LossReport},
        verdict::Verdict,
    },
};

/// RSS that grows by less is noise.
const NOTICED_BYTES: u64 = 1 << 20;

/// One of several processes that were traced together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessReport {
    /// Its process id.
    pub pid: u32,
    /// The kernel's 15-byte name, as of the end.
    pub command: String,
    /// Arguments.
    pub command_line: Vec<String>,
    /// The traced process that it is a child of; `None` for those that were given.
    pub parent: Option<u32>,
    /// When it began to be traced, since the window's start.
    pub began_ns: u64,
    /// From its fork to then: what it did meanwhile was not seen. `None` where it was there before.
    pub unseen_ns: Option<u64>,
    /// When it ended, since the window's start; `None` where it was there until the end.
    pub ended_ns: Option<u64>,
    /// VmRSS when it began to be traced.
    pub rss_start_bytes: u64,
    /// VmRSS at the end; the last sample where it had ended.
    pub rss_end_bytes: u64,
    /// Who else has its pages, when it began to be traced.
    pub pages_before: Option<PrivatePages>,
    /// The same at the end; `None` where it had ended.
    pub pages_after: Option<PrivatePages>,
    /// What it allocated or mapped itself while it was traced, and had at the end.
    pub live: Amount,
    /// Of that what is at least `min_age_ns` old.
    pub survivors: Amount,
    /// The parent's traced blocks that it got by fork; not part of `live`.
    pub inherited: Option<Inherited>,
    /// What of these it had at the end; `None` also where that is not known.
    pub inherited_live: Option<Amount>,
    /// Frees of blocks that are older than its part of the window, inherited ones among them.
    pub unmatched_frees: u64,
    /// Events received from it.
    pub events: u64,
    /// Nothing of it was lost.
    pub complete: bool,
    /// Every loss that happened.
    pub losses: Vec<LossReport>,
    /// What happens to its memory, and what to try; by its own heap.
    pub verdict: Option<Verdict>,
    /// Where most of what it never freed was allocated.
    pub top: Option<TopGroup>,
}

/// The largest group of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopGroup {
    /// What it is called.
    #[serde(flatten)]
    pub name: GroupName,
    /// What was never freed of it.
    pub survivors: Amount,
}

/// Of each process of a capture; none where one was traced alone.
pub(super) fn processes(capture: &Capture, options: ReportOptions) -> Vec<ProcessReport> {
    let of = |process: &CapturedProcess| {
        let alone = Capture { processes: Vec::new(), ..capture.of_process(process) };
        describe(capture, process, &Report::of(&alone, options))
    };
    capture.processes.iter().map(of).collect()
}

/// That of the process which matters the most, with its name; `None` where none has one.
pub(super) fn verdict(processes: &[ProcessReport]) -> Option<Verdict> {
    let process = foremost(processes)?;
    let mut verdict = process.verdict.clone()?;
    verdict.headline = format!(
        "Look at process {} ({}), {} of {}: {}",
        process.pid,
        process.command,
        why(process),
        processes.len(),
        verdict.headline
    );
    Some(verdict)
}

/// Whose memory grew the most; where none did noticeably, who has the most that was never freed.
fn foremost(processes: &[ProcessReport]) -> Option<&ProcessReport> {
    let with_verdict = processes.iter().filter(|process| process.verdict.is_some());
    with_verdict.max_by_key(|process| {
        let grown = grown_bytes(process);
        let noticed = if grown < NOTICED_BYTES { 0 } else { grown };
        (noticed, process.survivors.bytes, std::cmp::Reverse(process.pid))
    })
}

fn grown_bytes(process: &ProcessReport) -> u64 {
    process.rss_end_bytes.saturating_sub(process.rss_start_bytes)
}

fn why(process: &ProcessReport) -> String {
    match grown_bytes(process) {
        grown if grown >= NOTICED_BYTES => {
            format!("which grew the most (by {})", size::bytes(grown))
        }
        _ => "which never freed the most".to_owned(),
    }
}

fn describe(capture: &Capture, process: &CapturedProcess, report: &Report) -> ProcessReport {
    let opened_ns = capture.header.opened_ns;
    let ending = process.ending.clone().unwrap_or_default();
    let since = |time_ns: u64| time_ns.saturating_sub(opened_ns);
    let has_exited = ending.window.ended_by == EndReason::TargetExited;
    let mut live = report.totals.heap.live;
    live += report.totals.mappings.live;
    let survived = report.groups.first().filter(|group| group.survivors.amount.count > 0);
    let inherited = process.inherited;
    ProcessReport {
        pid: report.target.pid,
        command: report.target.command.clone(),
        command_line: report.target.command_line.clone(),
        parent: process.parent,
        began_ns: since(process.header.opened_ns),
        unseen_ns: process.forked_ns.map(|at| process.header.opened_ns.saturating_sub(at)),
        ended_ns: has_exited.then(|| since(ending.closed_ns)),
        rss_start_bytes: report.rss.start_bytes,
        rss_end_bytes: report.rss.end_bytes,
        pages_before: process.pages_before,
        pages_after: process.pages_after,
        live,
        survivors: report.totals.survivors,
        inherited,
        inherited_live: inherited.filter(|it| !it.is_sum_only).map(|it| it.live()),
        unmatched_frees: report.totals.unmatched_frees,
        events: report.completeness.events,
        complete: report.completeness.complete,
        losses: report.completeness.losses.clone(),
        verdict: report.verdict.clone(),
        top: survived
            .map(|group| TopGroup { name: group.name(), survivors: group.survivors.amount }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    fn processes(grown_mib: [u64; 3], kept: [u64; 3]) -> Vec<ProcessReport> {
        let capture = Capture::default();
        let of = |(index, (grown, kept)): (u32, (u64, u64))| {
            let mut process = describe(&capture, &CapturedProcess::default(), &sample::leaking());
            process.pid = 100 + index;
            process.rss_end_bytes = process.rss_start_bytes + (grown << 20);
            process.survivors = Amount::one(kept);
            process
        };
        (0..).zip(grown_mib.into_iter().zip(kept)).map(of).collect()
    }

    fn headline(processes: &[ProcessReport]) -> String {
        verdict(processes).unwrap().headline
    }

    #[test]
    fn the_verdict_of_several_is_that_of_the_one_that_grew_the_most() {
        let processes = processes([3, 200, 40], [900, 1, 2]);
        let expected = format!(
            "Look at process 101 ({}), which grew the most (by 200.0 MiB) of 3: {}",
            processes[1].command,
            processes[1].verdict.as_ref().unwrap().headline
        );
        assert_eq!(headline(&processes), expected);
    }

    #[test]
    fn where_none_grew_it_is_that_of_the_one_that_never_freed_the_most() {
        let said = headline(&processes([0, 0, 0], [5, 6, 7]));
        assert!(said.starts_with("Look at process 102 ("), "{said}");
        assert!(said.contains("which never freed the most"), "{said}");
    }

    #[test]
    fn without_a_verdict_of_any_there_is_none() {
        let mut processes = processes([1, 2, 3], [1, 2, 3]);
        processes.iter_mut().for_each(|process| process.verdict = None);
        assert_eq!(verdict(&processes), None);
    }
}
