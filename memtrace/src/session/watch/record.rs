//! What was known of a process that was killed although nobody traced it: how its memory went, and
//! the last look at its heap, as a capture.

use super::{clock, member::Member};
use crate::{
    analysis::timeline::HighWaterMark,
    capture::{Capture, Ending, Header},
    model::{
        census::Census,
        incident::{Incident, OomKill},
        trace::{EndReason, Rss, Target, Walks, Window},
    },
    sys::{clock::monotonic_ns, procfs::ProcFs},
};

/// Makes it.
pub(super) fn record(
    proc: &ProcFs,
    member: Member,
    census: Option<Census>,
    kill: OomKill,
    command_line: &[String],
) -> Capture {
    let samples = member.recorder.samples();
    let (first, last) = (samples.first().copied(), samples.last().copied());
    let rss = Rss {
        start_bytes: first.unwrap_or_default().rss_bytes,
        end_bytes: last.unwrap_or_default().rss_bytes,
        limit_bytes: kill.limit_bytes,
        own_peak_bytes: proc.resident(std::process::id()).map_or(0, |own| own.peak_bytes),
        ..Rss::default()
    };
    let timeline = member.recorder.finish(None::<HighWaterMark>, kill.peak_bytes);
    let target = Target {
        pid: member.process.pid,
        command: member.process.command.clone(),
        command_line: member.process.command_line.clone(),
        executable: member.process.executable.clone(),
        threads: member.process.threads,
        ..Target::default()
    };
    let closed_ns = monotonic_ns();
    let started_at = clock::now();
    Capture {
        header: Header {
            memtrace_version: env!("CARGO_PKG_VERSION").to_owned(),
            command_line: command_line.to_vec(),
            started_at: started_at.clone(),
            opened_ns: member.seen_ns,
            target: target.clone(),
            start_time_ticks: member.process.start_time_ticks,
            host: proc.host(),
            cgroup: kill.cgroup.clone(),
            limit_bytes: kill.limit_bytes,
            ..Header::default()
        },
        walks: Walks {
            at_ns: census.as_ref().map_or(0, |it| it.time_ns.saturating_sub(member.seen_ns)),
            count: u64::from(census.is_some()),
            after: census,
            ..Walks::default()
        },
        ending: Ending {
            target,
            closed_ns,
            window: Window {
                started_at,
                duration_ns: closed_ns.saturating_sub(member.seen_ns),
                ended_by: EndReason::TargetExited,
                ..Window::default()
            },
            rss: Rss { peak_bytes: timeline.rss_peak_bytes, ..rss },
            incident: Incident { fired: None, oom_kill: Some(kill) },
            ..Ending::default()
        },
        timeline,
        ..Capture::default()
    }
}
