//! What a capture takes is made ready before anything fires.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use memtrace_tests::{
    cgroup::Cgroup,
    programs,
    running::Running,
    watch::{Watch, top_function},
};
use rustix::process::Signal;

/// Debian's libjemalloc2: `cargo xtask setup` installs it.
fn jemalloc() -> PathBuf {
    let path = format!("/usr/lib/{}-linux-gnu/libjemalloc.so.2", std::env::consts::ARCH);
    assert!(Path::new(&path).exists(), "libjemalloc2 is not installed");
    path.into()
}

/// Waits for SIGUSR1, then grows by 3 MB a second.
fn waiting(group: &Cgroup, preload: Option<PathBuf>) -> Running {
    let mut command = group.command(&programs::path("grower"));
    if let Some(library) = preload {
        command.env("LD_PRELOAD", library);
    }
    Running::start(command.args(["3000000", "3600"]).stdout(Stdio::null()))
}

/// Incident 3 in small: its allocator is no C library's, and what grows is followed.
#[test]
fn a_job_with_an_allocator_of_its_own_is_captured_before_the_kill() {
    let group = Cgroup::with_limit(48 << 20);
    let mut target = waiting(&group, Some(jemalloc()));
    let arguments = ["--cgroup", group.name(), "--growth", "--when", "rss>50%", "--once"];
    let mut watch = Watch::start(&arguments);
    assert_eq!(watch.event("ready")["pid"], target.pid());
    target.signal(Signal::USR1);
    watch.event("fired");
    let report = watch.capture();
    assert!(target.is_running() && group.oom_kills() == 0, "it was written after the kill");
    assert_eq!(top_function(&report), "keep_forever");
    let fired = &report["incident"]["fired"];
    assert!(fired["armed_after_ns"].as_u64().is_some_and(|it| it > 0), "{fired}");
    assert_eq!(watch.wait().0.code(), Some(1));
}

/// A service that is killed and restarted: its next life finds what it takes ready.
#[test]
fn with_follow_the_next_life_is_made_ready_for_before_it_comes() {
    const LIMIT_BYTES: u64 = 64 << 20;
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let mut watch = Watch::start(&["--cgroup", group.name(), "--follow", "--when", "rss>100%"]);
    let mut tables = Vec::new();
    for life in 1..=2 {
        let mut command = group.command(&programs::path("grower"));
        command.args(["40000000", "3600"]).stdout(Stdio::null());
        let mut target = Running::start(&mut command);
        watch.wait_until_it_traces(target.pid());
        target.signal(Signal::USR1);
        target.wait();
        let report = watch.capture();
        assert_eq!(report["incident"]["oom_kill"]["pid"], target.pid(), "life {life}");
        assert_eq!(top_function(&report), "keep_forever", "life {life}");
        tables.push(report["unwind_tables"].clone());
        assert_eq!(watch.event("ready")["pid"], serde_json::Value::Null);
    }
    let number = |life: usize, of: &str| tables[life][of].as_u64().unwrap();
    assert_eq!(number(0, "rows"), number(1, "rows"));
    // None of them was compiled again.
    let (first_ns, second_ns) = (number(0, "build_ns"), number(1, "build_ns"));
    assert!(second_ns < first_ns / 10, "{first_ns} and {second_ns}");
    assert_eq!(watch.interrupt().0.code(), Some(0));
}

#[test]
fn what_was_made_ready_for_one_process_serves_for_another() {
    let group = Cgroup::with_limit(256 << 20);
    let first = waiting(&group, None);
    let mut watch = Watch::start(&["--cgroup", group.name(), "--when", "rss>8MiB", "-d", "1s"]);
    assert_eq!(watch.event("ready")["pid"], first.pid());
    // It fires too soon for anything to be made ready for it.
    let mut command = group.command(&programs::path("grower"));
    let second = Running::start(command.arg("8000000").stdout(Stdio::null()));
    assert_eq!(watch.event("fired")["pid"], second.pid());
    let report = watch.capture();
    assert_eq!(report["target"]["pid"], second.pid());
    assert_eq!(top_function(&report), "keep_forever");
    watch.interrupt();
}
