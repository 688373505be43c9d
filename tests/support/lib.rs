//! What the tests share: the test programs, the memtrace binary, and how to run one on the other.
//!
//! Everything here panics with what it saw instead of returning errors, kills what it started when
//! it is dropped, and gives up after [`TIMEOUT`]: no test hangs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it fails")]

use std::time::Duration;

pub mod attach;
pub mod binary;
pub mod bpf;
pub mod browser;
pub mod cgroup;
pub mod code;
pub mod glibcs;
pub mod http;
pub mod inspection;
pub mod lines;
pub mod programs;
pub mod prometheus;
pub mod python_homes;
pub mod python_target;
pub mod python_truth;
pub mod pythons;
pub mod readers;
pub mod receiver;
pub mod report;
pub mod run;
pub mod running;
pub mod swap;
pub mod target;
pub mod terminal;
pub mod truth;
pub mod watch;

/// How long anything may take. Generous: machines without hardware virtualisation are slow.
pub const TIMEOUT: Duration = Duration::from_secs(120);

/// Calls `condition` until it holds; panics with `what` when it does not within [`TIMEOUT`].
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that `/proc/PID/status` tells of one kind of memory: `VmRSS`, `VmSwap`, `VmLck`.
pub fn status_bytes(pid: u32, kind: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
