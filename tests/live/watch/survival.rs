//! A watch survives what it watches.

use std::process::Stdio;

use memtrace_tests::{
    binary::{memtrace, memtrace_in_memory},
    cgroup::Cgroup,
    programs,
    running::Running,
    status_bytes, wait_until,
    watch::{Watch, top_function},
};
use rustix::process::Signal;

/// What all of a watch may take.
const ALLOWED_BYTES: u64 = 64 << 20;

#[test]
fn a_watch_works_in_a_control_group_of_64_mib() {
    let (own, group) = (Cgroup::with_limit(ALLOWED_BYTES), Cgroup::with_limit(32 << 20));
    let mut command = own.command(&memtrace_in_memory());
    let arguments = ["--cgroup", group.name(), "--when", "rss>100%"];
    let mut watch = Watch::start_command(command.arg("watch"), &arguments, None);
    assert!(status_bytes(watch.pid(), "VmLck") > 0, "nothing is locked");
    let mut grower = group.command(&programs::path("grower"));
    let mut target = Running::start(grower.args(["6000000", "1"]).stdout(Stdio::null()));
    // The record of a kill, with a look at its heap.
    let report = watch.capture();
    assert_eq!(report["incident"]["oom_kill"]["pid"], target.pid());
    target.wait();
    assert_eq!(watch.interrupt().0.code(), Some(0));
    // What the kernel counts for it: its maps and programs, too.
    assert!(own.peak_bytes() < ALLOWED_BYTES && own.oom_kills() == 0, "{}", own.peak_bytes());
}

/// From its start to the end of a capture it has no more than it may take: what the kernel needs to
/// verify its programs, too.
fn captures_twice_within_what_is_allowed(options: &[&str]) {
    let (own, group) = (Cgroup::with_limit(ALLOWED_BYTES), Cgroup::with_limit(256 << 20));
    let mut grower = group.command(&programs::path("grower"));
    let target = Running::start(grower.args(["3000000", "3600"]).stdout(Stdio::null()));
    let condition = ["--when", "rss>8MiB", "-d", "2s", "--cool-down", "1s"];
    let arguments = [&["--cgroup", group.name()], options, &condition[..]].concat();
    let mut command = own.command(&memtrace_in_memory());
    let mut watch = Watch::start_command(command.arg("watch"), &arguments, None);
    watch.event("ready");
    target.signal(Signal::USR1);
    for _ in 0..2 {
        let report = watch.capture();
        // Either of them may be the one that finds the heap too small.
        assert!(["keep_forever", "use_and_free"].contains(&top_function(&report)), "{report}");
        assert_eq!(report["completeness"]["losses"], serde_json::json!([]));
    }
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
    let refusals = ["made ready first", "failed"];
    assert!(!refusals.iter().any(|it| stderr.contains(it)), "{stderr}");
    assert!(own.peak_bytes() <= ALLOWED_BYTES && own.oom_kills() == 0, "{}", own.peak_bytes());
}

#[test]
fn a_watch_captures_in_a_control_group_of_64_mib() {
    captures_twice_within_what_is_allowed(&[]);
}

#[test]
fn a_watch_follows_growth_in_a_control_group_of_64_mib() {
    captures_twice_within_what_is_allowed(&["--growth"]);
}

/// Both are in the same group: what the target takes is missing for the watch. It stays as it is while the
/// limit comes down to what both have, so that what is left does not depend on who is faster.
#[test]
fn a_capture_is_written_when_98_percent_of_the_memory_is_gone() {
    const GROWN_BYTES: u64 = 150 << 20;
    const GONE: f64 = 0.985;
    let group = Cgroup::with_limit(GROWN_BYTES * 2);
    let arguments = ["--cgroup", group.name(), "--follow", "--when", "rss>98%", "--once"];
    let mut command = group.command(&memtrace());
    let mut watch = Watch::start_command(command.arg("watch"), &arguments, None);
    let mut grower = group.command(&programs::path("grower"));
    let mut target = Running::start(grower.args(["12000000", "3600"]).stdout(Stdio::null()));
    watch.wait_until_it_traces(target.pid());
    target.signal(Signal::USR1);
    wait_until("it has grown", || group.working_set_bytes() > GROWN_BYTES);
    target.signal(Signal::STOP);
    let limit_bytes = (group.working_set_bytes() as f64 / GONE) as u64;
    group.limit(limit_bytes);
    let fired = watch.event("fired");
    let used = fired["fired"]["rss_bytes"].as_u64().unwrap();
    assert!(used as f64 > 0.98 * limit_bytes as f64, "{used} of {limit_bytes}");
    let report = watch.capture();
    assert_eq!(top_function(&report), "keep_forever");
    assert!(target.is_running() && group.oom_kills() == 0, "the kernel had to kill it");
    assert_eq!(watch.wait().0.code(), Some(1));
}
