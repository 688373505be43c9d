//! Kills for want of memory: each has a capture.

use std::{net::SocketAddr, process::Stdio};

use memtrace_tests::{
    cgroup::Cgroup,
    http::{free_address, get},
    lines::Lines,
    programs,
    running::Running,
    watch::{Watch, top_function},
};
use rustix::process::Signal;
use serde_json::Value;

const LIMIT_BYTES: u64 = 48 << 20;
const PAGE_BYTES: u64 = 4096;

/// Grows by so much a second, from this time after its start or SIGUSR1 on; it waits already.
fn grower(group: &Cgroup, per_second: &str, wait_seconds: &str) -> Running {
    let mut command = group.command(&programs::path("grower"));
    let mut target =
        Running::start(command.args([per_second, wait_seconds]).stdout(Stdio::piped()));
    let mut output = Lines::of(target.child().stdout.take().unwrap());
    assert!(output.find("growing").is_some(), "it did not start");
    target
}

fn scraped(address: SocketAddr, series: &str) -> u64 {
    let text = get(address, "/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next().unwrap();
    value.parse().unwrap()
}

fn most_since_last_scrape(address: SocketAddr) -> u64 {
    scraped(address, "memtrace_target_rss_max_since_last_scrape_bytes{")
}

fn kill_of(report: &Value) -> &Value {
    &report["incident"]["oom_kill"]
}

#[test]
fn every_kill_in_a_control_group_has_a_capture_with_its_site_and_the_true_peak() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let address = free_address();
    let never = ["--cgroup", group.name(), "--follow", "--when", "rss>100%", "--max-disk", "1MiB"];
    let serving = ["--metrics", &address.to_string()];
    let mut watch = Watch::start(&[&never[..], &serving].concat());
    for round in 1..=5 {
        let mut target = grower(&group, "10000000", "3600");
        let pid = target.pid();
        watch.wait_until_it_traces(pid);
        target.signal(Signal::USR1);
        let announced = watch.event("oom_kill");
        assert_eq!(announced["oom_kill"]["pid"], pid, "round {round}");
        target.wait();
        let report = watch.capture();
        let kill = kill_of(&report);
        assert_eq!(kill["pid"], pid, "round {round}: {kill}");
        assert_eq!(kill["command"], "grower");
        assert_eq!(kill["limit_bytes"], LIMIT_BYTES);
        assert_eq!(top_function(&report), "keep_forever", "round {round}");
        let peak_bytes = report["timeline"]["cgroup_peak_bytes"].as_u64().unwrap();
        assert!(peak_bytes.abs_diff(group.peak_bytes()) <= PAGE_BYTES, "{peak_bytes}");
        assert_eq!(kill["peak_bytes"].as_u64().unwrap(), peak_bytes);
        // Its own memory is nearly all that there was.
        let own = kill["anonymous_bytes"].as_u64().unwrap();
        assert!((LIMIT_BYTES / 2..=LIMIT_BYTES).contains(&own), "{own}");
        // Whoever scrapes only now, after all of it, is told what this life reached.
        let told = most_since_last_scrape(address);
        assert!((own..=LIMIT_BYTES).contains(&told), "round {round}: {told}, {own} when killed");
        assert_eq!(scraped(address, "memtrace_oom_kills_total "), round);
    }
    assert_eq!(group.oom_kills(), 5);
    assert_eq!(watch.captures().len(), 5);
    assert!(watch.disk_bytes() <= 1 << 20, "{}", watch.disk_bytes());
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn a_kill_that_nobody_traced_has_a_record_of_how_it_came() {
    let group = Cgroup::with_limit(LIMIT_BYTES);
    let mut watch = Watch::start(&["--cgroup", group.name(), "--when", "rss>100%"]);
    let mut target = grower(&group, "6000000", "2");
    let report = watch.capture();
    assert_eq!(kill_of(&report)["pid"], target.pid());
    target.wait();
    let samples = report["timeline"]["samples"].as_array().unwrap();
    assert!(samples.len() >= 3, "{samples:?}");
    let last = samples.last().unwrap()["rss_bytes"].as_u64().unwrap();
    assert!(last > LIMIT_BYTES / 4, "{last}");
    // A look at its heap while it grew.
    assert!(report["rss_table"].is_object(), "{report}");
}

#[test]
fn a_kill_elsewhere_is_none_of_the_watch() {
    let (watched, other) = (Cgroup::with_limit(LIMIT_BYTES), Cgroup::with_limit(16 << 20));
    let watch = Watch::start(&["--cgroup", watched.name(), "--when", "rss>100%"]);
    let mut target = grower(&other, "20000000", "0");
    target.wait();
    assert_eq!(other.oom_kills(), 1);
    assert_eq!(watch.captures(), [] as [std::path::PathBuf; 0]);
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(!stderr.contains("KILLED"), "{stderr}");
}
