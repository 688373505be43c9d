//! What is known when a window opens, for the head of its capture.

use std::path::Path;

use super::{Options, attach::Attached, gather::target, window::program_break};
use crate::{capture::Header, sys::cgroup};

/// Asks the system for what the attach did not need.
pub(super) fn header(attached: &Attached, options: &Options) -> Header {
    let Attached { proc, process, objects, maps, .. } = attached;
    let group = cgroup::memory(proc, Path::new(cgroup::ROOT), process.pid).unwrap_or_default();
    Header {
        memtrace_version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: options.command_line.clone(),
        started_at: attached.started_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        opened_ns: attached.opened_ns,
        target: target(process, objects, None),
        start_time_ticks: process.start_time_ticks,
        host: proc.host(),
        cgroup: cgroup::path(proc, process.pid).unwrap_or_default(),
        limit_bytes: group.limit_bytes,
        initial_break: program_break(maps),
        min_age_ns: options.min_age_ns,
        growth: attached.growth,
        sample_bytes: attached.governing.sample_bytes(&attached.kernel),
    }
}
