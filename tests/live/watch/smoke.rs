//! What must work on every kernel: control groups of the unified hierarchy where the kernel counts memory
//! in that, else of the old one.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use memtrace_tests::{
    binary::memtrace,
    cgroup::Cgroup,
    programs,
    running::Running,
    watch::{Watch, top_function},
};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

const LIMIT_BYTES: u64 = 64 << 20;
const PAGE_BYTES: u64 = 4096;

/// Grows by so much a second, from SIGUSR1 on.
fn grower(group: &Cgroup, per_second: &str) -> Running {
    let mut command = group.command(&programs::path("grower"));
    Running::start(command.args([per_second, "3600"]).stdout(Stdio::null()))
}

fn assert_killed(report: &Value, pid: u32, group: &Cgroup) {
    let kill = &report["incident"]["oom_kill"];
    assert_eq!(kill["pid"], pid);
    assert_eq!(kill["command"], "grower");
    assert_eq!(kill["cgroup"], group.name());
    assert_eq!(kill["limit_bytes"], LIMIT_BYTES);
    assert_eq!(kill["oom_score_adj"], 0, "{kill}");
    let peak_bytes = kill["peak_bytes"].as_u64().unwrap();
    assert!(peak_bytes.abs_diff(group.peak_bytes()) <= PAGE_BYTES, "{peak_bytes}");
    assert_eq!(report["timeline"]["cgroup_peak_bytes"], peak_bytes);
    assert_eq!(report["place"]["cgroup"], group.name());
    assert_eq!(report["place"]["limit_bytes"], LIMIT_BYTES);
}

#[test]
fn smoke_each_life_that_is_killed_has_a_capture_with_its_site_and_the_true_peak() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let mut watch = Watch::start(&["--cgroup", group.name(), "--follow", "--when", "rss>100%"]);
    for round in 1..=2 {
        let mut target = grower(&group, "40000000");
        watch.wait_until_it_traces(target.pid());
        target.signal(Signal::USR1);
        let announced = watch.event("oom_kill");
        assert_eq!(announced["oom_kill"]["pid"], target.pid(), "round {round}");
        target.wait();
        let report = watch.capture();
        assert_killed(&report, target.pid(), &group);
        assert_eq!(top_function(&report), "keep_forever", "round {round}");
        // Its own memory is nearly all that there was.
        let own = report["incident"]["oom_kill"]["anonymous_bytes"].as_u64().unwrap();
        assert!((LIMIT_BYTES / 2..=LIMIT_BYTES).contains(&own), "{own}");
        assert_eq!(group.oom_kills(), round);
    }
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
}
