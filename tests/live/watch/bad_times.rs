//! What goes wrong around a watch is said and counted, and the watch goes on.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use memtrace_tests::{
    binary::{memtrace, run, stderr},
    cgroup::Cgroup,
    programs,
    running::Running,
    watch::Watch,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

#[test]
fn what_cannot_be_watched_is_refused_in_words() {
    let long_id = "0123456789abcdef";
    let cases: [(&[&str], &[&str]); 7] = [
        (&["-p", "2147483647"], &["no process"]),
        (&["--cgroup", "/nothing/there"], &["/nothing/there", "/proc/PID/cgroup"]),
        (&["--unit", "nothing.service"], &["unit nothing.service", "running"]),
        (&["--container", long_id], &["container", long_id]),
        (&["--container", "01"], &["too short"]),
        (&["--pod", long_id], &["pod", long_id]),
        (&["-p", "1", "-o", "/proc/nothing"], &["--output"]),
    ];
    for (arguments, words) in cases {
        let output = run(&[&["watch"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        for word in words {
            assert!(stderr(&output).contains(word), "{arguments:?}: {}", stderr(&output));
        }
    }
}

#[test]
fn a_control_group_that_goes_may_come_again() {
    // As the kubelet calls the group of a pod.
    let uid = format!("{:08x}-4b5a-6978-8796-a5b4c3d2e1f0", std::process::id());
    let name = format!("pod{uid}");
    let group = Cgroup::named(&name);
    let mut watch = Watch::start(&["--pod", &uid, "--when", "rss>1GiB"]);
    group.remove();
    assert_eq!(watch.event("gone")["what"], group.name());
    let again = Cgroup::named(&name);
    assert_eq!(watch.event("appeared")["what"], again.name());
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn a_process_that_ends_ends_its_watch() {
    let mut target = Running::start(Command::new("sleep").arg("600"));
    let watch = Watch::start(&["-p", &target.pid().to_string(), "--when", "rss>1GiB"]);
    target.signal(rustix::process::Signal::KILL);
    target.wait();
    let (status, stderr) = watch.wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("has gone"), "{stderr}");
}

#[test]
fn a_full_disk_costs_the_capture_and_not_the_watch() {
    let place = tempfile::TempDir::new().unwrap();
    mount("none", place.path(), "tmpfs", MountFlags::empty(), Some(c"size=24m")).unwrap();
    let mut command = Command::new(programs::path("grower"));
    let target = Running::start(command.arg("4000000").stdout(Stdio::null()));
    let pid = target.pid().to_string();
    let options = ["-p", &pid, "--when", "rss>32MiB", "-d", "1s", "--cool-down", "0s"];
    let mut watch = Watch::start_in(place.path(), &options);
    let ballast = place.path().join("ballast");
    let _ = fs::write(&ballast, vec![1; 24 << 20]);
    let failed = watch.event("failed");
    assert!(failed["error"].as_str().unwrap().contains("No space left"), "{failed}");
    fs::remove_file(&ballast).unwrap();
    watch.event("captured");
    watch.interrupt();
    drop(target);
    unmount(place.path(), UnmountFlags::DETACH).unwrap();
}

#[test]
fn two_watches_of_one_process_take_a_capture_each() {
    let mut command = Command::new(programs::path("grower"));
    let target = Running::start(command.arg("4000000").stdout(Stdio::null()));
    let pid = target.pid().to_string();
    let options = ["-p", &pid, "--when", "rss>24MiB", "-d", "1s", "--once"];
    let mut watches = [Watch::start(&options), Watch::start(&options)];
    for watch in &mut watches {
        let report = watch.capture();
        assert_eq!(memtrace_tests::watch::top_function(&report), "keep_forever");
    }
    for watch in watches {
        assert_eq!(watch.wait().0.code(), Some(1));
    }
}

#[test]
fn a_target_that_ends_in_its_capture_has_one_all_the_same() {
    let mut command = Command::new(programs::path("grower"));
    let mut target = Running::start(command.arg("4000000").stdout(Stdio::null()));
    let pid = target.pid().to_string();
    let mut watch = Watch::start(&["-p", &pid, "--when", "rss>16MiB", "-d", "10m", "--once"]);
    watch.event("fired");
    watch.wait_until_it_traces(target.pid());
    target.signal(rustix::process::Signal::KILL);
    target.wait();
    let report = watch.capture();
    assert_eq!(report["window"]["ended_by"], "target_exited");
    assert!(report["incident"]["oom_kill"].is_null(), "{report}");
    assert_eq!(watch.wait().0.code(), Some(1));
}

/// The kernel kills one after the other, mostly while they are looked at.
#[test]
fn captures_of_those_who_are_killed_meanwhile_come_to_an_end() {
    let group = Cgroup::with_limit(48 << 20);
    let frequent = ["--when", "rss>50%", "--cool-down", "0s", "--growth"];
    let directory = tempfile::TempDir::new().unwrap();
    let arguments = [&["--cgroup", group.name()], &frequent[..]].concat();
    let mut watch = Watch::start_in(directory.path(), &arguments);
    for _ in 0..4 {
        let mut command = group.command(&programs::path("grower"));
        Running::start(command.arg("40000000").stdout(Stdio::null())).wait();
    }
    assert_eq!(group.oom_kills(), 4);
    // Each has the record of its kill, or a capture that was begun before.
    watch.capture_event();
    let asked = Instant::now();
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
    // Captures that do not end are given up after a minute.
    assert!(asked.elapsed() < Duration::from_secs(50), "{:?}: {stderr}", asked.elapsed());
    for entry in fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.metadata().unwrap().len() > 0, "{:?} is empty", entry.path());
    }
}

#[test]
fn a_watch_that_did_not_get_to_run_says_so() {
    let target = Running::start(Command::new("sleep").arg("600"));
    let pid = target.pid().to_string();
    let mut watch = Watch::start(&["-p", &pid, "--when", "rss>1GiB", "--every", "1s"]);
    watch.event("status");
    let stopped = rustix::process::Pid::from_raw(watch.pid() as i32).unwrap();
    rustix::process::kill_process(stopped, rustix::process::Signal::STOP).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(17));
    rustix::process::kill_process(stopped, rustix::process::Signal::CONT).unwrap();
    watch.event("discontinuity");
    watch.interrupt();
}

#[test]
fn conditions_that_are_none_show_the_grammar() {
    let output =
        Command::new(memtrace()).args(["watch", "-p", "1", "--when", "heap>1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("rate>100MiB/min"), "{}", stderr(&output));
}
