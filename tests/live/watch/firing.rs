//! Conditions that are met, and the captures of them.

use std::process::{Command, Stdio};

use memtrace_tests::{
    cgroup::Cgroup,
    programs,
    running::Running,
    watch::{Watch, top_function},
};
use rustix::process::Signal;

const LIMIT_BYTES: u64 = 64 << 20;

fn grower(group: &Cgroup, per_second: &str) -> Running {
    let mut command = group.command(&programs::path("grower"));
    Running::start(command.arg(per_second).stdout(Stdio::null()))
}

#[test]
fn the_capture_is_written_before_the_limit_is_reached() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let conditions = ["--when", "swap>1GiB", "--when", "rss>40%", "-d", "10m", "--once"];
    let watch_group = ["--cgroup", group.name()];
    let mut watch = Watch::start(&[&watch_group[..], &conditions[..]].concat());
    let mut target = grower(&group, "1000000");
    let fired = watch.event("fired");
    assert_eq!(fired["fired"]["condition"], "rss>40%");
    assert_eq!(fired["pid"], target.pid());
    // Ten minutes were asked for, and there are some forty seconds.
    let duration_ns = fired["duration_ns"].as_u64().unwrap();
    assert!(duration_ns < 60_000_000_000, "{fired}");
    let report = watch.capture();
    assert!(target.is_running(), "it was written after the kill");
    assert_eq!(top_function(&report), "keep_forever");
    assert_eq!(report["incident"]["fired"]["limit_bytes"], LIMIT_BYTES);
    assert_eq!(report["window"]["ended_by"], "duration");
    let (status, stderr) = watch.wait();
    assert_eq!(status.code(), Some(1), "{stderr}");
}

#[test]
fn processes_of_a_name_are_watched_when_they_come_and_a_hook_is_told() {
    let directory = tempfile::TempDir::new().unwrap();
    let said = directory.path().join("said");
    let hook = format!(
        "echo $MEMTRACE_PID $MEMTRACE_CONDITION $MEMTRACE_CAPTURE > {0}.new; mv {0}.new {0}",
        said.display()
    );
    let conditions = ["--comm", "grower", "--when", "rate>10MiB/min", "-d", "1s", "--exec", &hook];
    let mut watch = Watch::start(&conditions);
    let mut command = Command::new(programs::path("grower"));
    let target = Running::start(command.arg("2000000").stdout(Stdio::null()));
    // Other tests have processes of that name.
    let name = format!("grower ({})", target.pid());
    while watch.event("appeared")["what"] != name.as_str() {}
    memtrace_tests::wait_until("the hook was run for it", || {
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        text.starts_with(&format!("{} rate>10MiB/min /", target.pid()))
    });
    drop(target);
    watch.interrupt();
}

#[test]
fn old_captures_go_when_there_are_too_many() {
    let group = Cgroup::with_limit(1 << 30);
    let frequent = ["--when", "rss>1MiB", "-d", "300ms", "--cool-down", "0s", "--keep", "2"];
    let mut watch = Watch::start(&[&["--cgroup", group.name()], &frequent[..]].concat());
    let target = grower(&group, "1000000");
    (0..4).for_each(|_| _ = watch.capture_event());
    assert!(watch.captures().len() <= 3, "{:?}", watch.captures());
    drop(target);
    let (status, _) = watch.interrupt();
    assert_eq!(status.code(), Some(0));
}

/// As a pod has containers, and a node has pods: the kernel kills in each when its own limit is reached.
#[test]
fn a_group_inside_that_nears_its_own_limit_fires_and_the_others_may_fire_after_it() {
    let whole = Cgroup::with_limit(8 * LIMIT_BYTES);
    let inside =
        [whole.with_one_inside("one", LIMIT_BYTES), whole.with_one_inside("other", LIMIT_BYTES)];
    let [first, second] = [grower(&inside[0], "3000000"), grower(&inside[1], "1000000")];
    // The first of them stays beyond its bound.
    let conditions = ["--when", "rss>30%", "-d", "500ms", "--cool-down", "10m"];
    let mut watch = Watch::start(&[&["--cgroup", whole.name()], &conditions[..]].concat());
    for (group, target) in inside.iter().zip([&first, &second]) {
        let fired = watch.event("fired");
        assert_eq!(fired["pid"], target.pid());
        assert_eq!(fired["fired"]["watched"], group.name());
        assert_eq!(fired["fired"]["limit_bytes"], LIMIT_BYTES);
        let report = watch.capture();
        assert_eq!(report["target"]["pid"], target.pid());
        assert_eq!(top_function(&report), "keep_forever");
        target.signal(Signal::STOP);
    }
    let used = whole.current_bytes();
    assert!(used < 8 * LIMIT_BYTES * 3 / 10, "all of it has used {used}");
    assert_eq!(watch.interrupt().0.code(), Some(0));
}
