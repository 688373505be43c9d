//! `--metrics`: what Prometheus sees of a process.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use memtrace_tests::{
    binary::memtrace,
    http::{free_address, get},
    lines::Lines,
    prometheus::{Prometheus, promtool},
    running::Running,
    target::Target,
    wait_until,
    watch::Watch,
};

const MIB: f64 = 1048576.0;

const MAX: &str = "memtrace_target_rss_max_since_last_scrape_bytes";

/// A memtrace that serves metrics of a process.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    running: Running,
}

impl Serving {
    pub(crate) fn of(pid: u32, options: &[&str]) -> Self {
        let mut command = Command::new(memtrace());
        command.args(["inspect", "-p", &pid.to_string(), "--metrics", "127.0.0.1:0"]);
        command.args(options).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = Running::start(&mut command);
        let mut stderr = Lines::of(running.child().stderr.take().unwrap());
        let line = stderr.find("metrics at http://").expect("it serves metrics");
        let address = line.split("http://").nth(1).unwrap().trim_end_matches("/metrics");
        Self { address: address.parse().unwrap(), running }
    }

    /// What it serves to a scraper that is nobody else.
    fn metrics(&self) -> String {
        get(self.address, "/metrics?scraper=test")
    }

    fn value(&self, series: &str) -> Option<f64> {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    fn wait_for_a_look(&self) {
        let looks = || self.value("memtrace_target_looks_total{").is_some_and(|looks| looks > 0.0);
        wait_until("the target was looked at", looks);
    }
}

#[test]
fn metrics_of_a_process_are_what_promtool_and_the_process_say() {
    let target = Target::start("ground_truth", &["heap", "8"]);
    let serving = Serving::of(target.pid(), &["--every", "1s"]);
    serving.wait_for_a_look();
    let text = serving.metrics();
    let (content, said) = promtool(&["check", "metrics"], &text, Path::new("/"));
    assert!(content, "{said}\n{text}");
    assert_eq!(said.trim(), "", "{text}");
    for series in [
        "memtrace_target_heap_in_use_bytes{target=\"ground_truth\"}",
        "memtrace_target_heap_trapped_max_since_last_scrape_bytes{target=\"ground_truth\"}",
        "memtrace_target_heap_returnable_bytes{",
        "memtrace_target_heap_cached_bytes{",
        "memtrace_build_info{version=",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "no {series} in\n{text}");
    }
    let info = format!("pid=\"{}\"", target.pid());
    assert!(text.contains(&info), "{text}");
}

#[test]
fn memtrace_states_its_own_cost_and_stays_small() {
    let target = Target::start("memory_kinds", &[]);
    let mut serving = Serving::of(target.pid(), &["--every", "1s"]);
    serving.wait_for_a_look();
    let rss = serving.value("process_resident_memory_bytes").unwrap();
    assert!((MIB..64.0 * MIB).contains(&rss), "{rss}");
    assert!(serving.value("process_cpu_seconds_total").unwrap() > 0.0);
    let threads = std::fs::read_dir(format!("/proc/{}/task", serving.running.pid())).unwrap();
    assert_eq!(threads.count(), 2, "one that looks, one that serves");
    assert!(serving.running.is_running());
}

/// A peak of a few milliseconds, between scrapes and between looks.
#[test]
fn a_peak_between_scrapes_is_not_missed_by_prometheus() {
    let mut target = Target::start("spikes", &["192"]);
    let serving = Serving::of(target.pid(), &["--every", "10m"]);
    serving.wait_for_a_look();
    let prometheus = Prometheus::scraping(serving.address);
    prometheus.wait_for("memtrace_target_looks_total", |looks| looks > 0.0);
    let before = prometheus.query(&format!("max_over_time({MAX}[10m])"));
    assert!(before[0] < 64.0 * MIB, "{before:?}");
    target.go();
    target.line();
    prometheus.wait_for(&format!("max_over_time({MAX}[10m])"), |peak| peak >= 192.0 * MIB);
    // And it is over again, as Prometheus is told, too.
    prometheus.wait_for(MAX, |now| now < 64.0 * MIB);
    let sampled = prometheus.query("memtrace_target_rss_bytes");
    assert!(sampled[0] < 64.0 * MIB, "{sampled:?}");
}

#[test]
fn lower_peaks_are_seen_when_the_mark_is_set_back() {
    let mut target = Target::start("spikes", &["192", "96"]);
    let serving = Serving::of(target.pid(), &["--every", "10m", "--reset-peak"]);
    serving.wait_for_a_look();
    for least in [192.0, 96.0] {
        serving.metrics();
        target.go();
        target.line();
        let mut highest = 0.0_f64;
        wait_until("the peak is told", || {
            highest = highest.max(serving.value(MAX).unwrap());
            highest >= least * MIB
        });
        assert!(highest < (least + 64.0) * MIB, "{highest} after a peak of {least} MiB");
        wait_until("it is over", || serving.value(MAX).unwrap() < 64.0 * MIB);
    }
}

/// A control group would do as well; a peak between two looks is the kernel's mark.
#[test]
fn a_watch_serves_what_it_watches() {
    let mut target = Target::start("spikes", &["192"]);
    let (pid, address) = (target.pid().to_string(), free_address());
    let options = ["-p", &pid, "--when", "rss>1TiB", "--metrics", &address.to_string()];
    let _watch = Watch::start(&options);
    let scrape = || get(address, "/metrics?scraper=test");
    wait_until("it was looked at", || scrape().contains("memtrace_target_looks_total{"));
    let (content, said) = promtool(&["check", "metrics"], &scrape(), Path::new("/"));
    assert!(content && said.trim().is_empty(), "{said}");
    assert!(scrape().contains("memtrace_captures_written_total 0\n"));
    assert!(scrape().contains("memtrace_oom_kills_total 0\n"));
    target.go();
    target.line();
    let peak = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(MAX)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    wait_until("the peak is told", || peak(&scrape()) >= 192.0 * MIB);
}

#[test]
fn a_port_that_is_taken_is_an_error_at_once() {
    let target = Target::start("memory_kinds", &[]);
    let serving = Serving::of(target.pid(), &["--every", "1s"]);
    let address = serving.address.to_string();
    let pid = target.pid().to_string();
    for who in [&["inspect", "--every", "1s"][..], &["watch", "--json"]] {
        let mut command = Command::new(memtrace());
        let output = command.args(who).args(["-p", &pid, "--metrics", &address]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(&address) && stderr.contains("taken"), "{stderr}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
fn the_server_ends_with_its_target() {
    let mut target = Target::start("memory_kinds", &[]);
    let mut serving = Serving::of(target.pid(), &["--every", "1s"]);
    serving.wait_for_a_look();
    target.quit();
    assert_eq!(serving.running.wait().code(), Some(0));
    assert!(memtrace_tests::http::try_get(serving.address, "/metrics").is_none());
}
