//! Each kind of condition is met by what it is about.

use std::{
    fs,
    process::{self, Command, Stdio},
    time::{Duration, Instant},
};

use memtrace_tests::{
    cgroup::Cgroup, programs, running::Running, target::Target, wait_until, watch::Watch,
};
use serde::Deserialize;

/// Watches until the condition has fired; whom that was about.
fn fired(subject: [&str; 2], condition: &str) -> u32 {
    let options = ["--when", condition, "-d", "300ms", "--once"];
    let mut watch = Watch::start(&[&subject[..], &options].concat());
    let event = watch.event("fired");
    assert_eq!(event["fired"]["condition"], condition);
    assert_eq!(watch.wait().0.code(), Some(1));
    event["pid"].as_u64().unwrap() as u32
}

#[test]
fn faults_that_wait_for_the_disk_are_told_of_a_group_and_of_a_process() {
    let group = Cgroup::with_limit(8 << 20);
    let program = programs::path("rereads");
    // On a disk, and more than the group may have.
    let file = program.with_file_name(format!("faults-{}", process::id()));
    let mut command = group.command(&program);
    let target = Running::start(command.arg(&file).arg((32 << 20).to_string()).arg("mapped"));
    wait_until("there is a file", || file.exists());
    fs::remove_file(file).unwrap();
    let pid = target.pid().to_string();
    for subject in [["--cgroup", group.name()], ["-p", &pid]] {
        assert_eq!(fired(subject, "majfault>20/s"), target.pid());
    }
}

#[derive(Deserialize)]
struct Steps {
    trimmed: u64,
    without_sessions: u64,
}

#[test]
fn trapped_memory_is_told_of_a_process() {
    let mut target = Target::start("pins", &["sessions", "0"]);
    target.go();
    assert_eq!(target.line(), "filled");
    let pid = target.pid().to_string();
    assert_eq!(fired(["-p", &pid], "trapped>10MiB"), target.pid());
    // What malloc gives back when those blocks are gone that it could not give back before.
    target.go();
    let steps: Steps = serde_json::from_str(&target.line()).unwrap();
    assert!(steps.trimmed - steps.without_sessions > 10 << 20);
}

#[test]
fn what_has_to_last_fires_when_it_has_lasted() {
    const HOLD: Duration = Duration::from_secs(3);
    let mut command = Command::new(programs::path("grower"));
    let target = Running::start(command.args(["1", "3600"]).stdout(Stdio::null()));
    let begun = Instant::now();
    let pid = target.pid().to_string();
    assert_eq!(fired(["-p", &pid], "rss>100KiB for 3s"), target.pid());
    assert!(begun.elapsed() >= HOLD, "{:?}", begun.elapsed());
}

/// By the names that systemd and container runtimes give to groups.
#[test]
fn units_and_containers_are_found_by_their_names() {
    let id =
        format!("{:08x}{}", process::id(), "4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a6978".repeat(2));
    let id = &id[..64];
    let (unit, container) =
        (format!("memtrace-test-{}", process::id()), format!("docker-{id}.scope"));
    for (option, value, name) in [
        ("--unit", unit.as_str(), format!("{unit}.service")),
        ("--container", &id[..12], container),
    ] {
        let group = Cgroup::named(&name);
        group.limit(64 << 20);
        let mut command = group.command(&programs::path("grower"));
        let target = Running::start(command.args(["1", "3600"]).stdout(Stdio::null()));
        wait_until("it has memory", || group.current_bytes() > 100 << 10);
        assert_eq!(fired([option, value], "rss>100KiB"), target.pid());
    }
}
