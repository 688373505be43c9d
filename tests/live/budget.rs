//! A trace keeps to its budget: measured by what its target gets done.

use std::{fs, process::Command, time::Duration};

use memtrace_tests::{
    attach::Attach,
    programs,
    report::{Cost, Report},
    target::Target,
};
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize)]
struct Done {
    rounds: u64,
    leaked: u64,
}

/// A program that allocates as fast as it can, or at a rate.
struct Hot(Target);

impl Hot {
    fn start(threads: &str, rounds_per_4_ms: &str) -> Self {
        Self::start_nicely(&[threads, rounds_per_4_ms])
    }

    /// One that gets its share of the CPU beside others: what hardly ever runs does not allocate as fast
    /// as it can.
    fn start_tight_loop() -> Self {
        let mut command = Command::new(programs::path("hot"));
        command.args(["1", "0"]);
        Self(Target::start_command(&mut command))
    }

    /// What it does is measured by its CPU time, which it may as well have when others leave it some.
    fn start_nicely(arguments: &[&str]) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "15"]).arg(programs::path("hot")).args(arguments);
        Self(Target::start_command(&mut command))
    }

    /// One that hardly does anything, but keeps so many blocks whenever it is asked what is done.
    fn idle(kept: u64) -> Self {
        Self::start_nicely(&["1", "1", &kept.to_string()])
    }

    fn done(&mut self) -> Done {
        self.0.go();
        let line = self.0.line();
        serde_json::from_str(&line).unwrap()
    }

    /// Rounds for each second of its CPU time, over a while: probes take that, and who else runs on
    /// the machine does not.
    fn rate(&mut self, over: Duration) -> f64 {
        let (before, start) = (self.done(), self.cpu_seconds());
        std::thread::sleep(over);
        let after = self.done();
        (after.rounds - before.rounds) as f64 / (self.cpu_seconds() - start)
    }

    /// Fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.pid())).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
    }
}

/// How much slower it was traced than not, phases of both alternating: the machine may be busy with
/// other things.
fn slow_down(target: &mut Hot, options: &[&str]) -> (f64, Vec<Report>) {
    let (mut bare, mut traced, mut reports) = (0.0, 0.0, Vec::new());
    for _ in 0..3 {
        bare += target.rate(Duration::from_secs(2));
        let tracing = Attach::to(target.0.pid()).args(options).armed();
        traced += target.rate(Duration::from_secs(3));
        reports.push(tracing.interrupt().report());
    }
    (bare / traced, reports)
}

/// Each call recorded, it would be a hundred times as slow. How close it keeps to the limit is for the
/// benchmark to say: other tests run beside this one, and it is up to 1.2 then.
fn assert_bounded(slow_down: f64) {
    assert!(slow_down < 1.5, "{slow_down}");
}

fn cost(report: &Report) -> &Cost {
    report.cost.as_ref().expect("what it cost is reported")
}

fn is_in_bursts(cost: &Cost) -> bool {
    cost.setting.as_deref().is_some_and(|setting| setting.ends_with("in short bursts"))
}

fn finds_leak(report: &Report) -> bool {
    report.sites.first().is_some_and(|site| site.caller() == "leak_here")
}

/// Three seconds have a handful of samples of the leak, or none where other tests take the CPU.
fn longer_window(target: &Hot) -> Report {
    let tracing = Attach::to(target.0.pid()).args(&["--max-overhead", "10%"]).armed();
    std::thread::sleep(Duration::from_secs(10));
    tracing.interrupt().report()
}

#[test]
fn a_tight_loop_keeps_its_speed_and_its_leak_is_found() {
    let mut target = Hot::start_tight_loop();
    let (slow_down, reports) = slow_down(&mut target, &["--max-overhead", "10%"]);
    assert_bounded(slow_down);
    for report in &reports {
        let cost = cost(report);
        assert!(is_in_bursts(cost), "{cost:?}");
        assert!(cost.covered.is_some_and(|covered| (0.001..0.5).contains(&covered)), "{cost:?}");
        assert!(cost.expected.is_some_and(|it| it.exact_overhead > 3.0), "{cost:?}");
        assert!(cost.overhead.is_some_and(|overhead| overhead < 0.2), "{cost:?}");
    }
    assert!(
        reports.iter().any(finds_leak) || (0..3).any(|_| finds_leak(&longer_window(&target))),
        "{:?}",
        reports.last().unwrap().sites
    );
    assert!(target.0.quit().success());
}

#[test]
fn many_threads_keep_to_the_same_budget() {
    let mut target = Hot::start("8", "0");
    let (slow_down, reports) = slow_down(&mut target, &["--max-overhead", "10%"]);
    assert_bounded(slow_down);
    assert!(reports.iter().all(|report| is_in_bursts(cost(report))));
    assert!(target.0.quit().success());
}

#[test]
fn a_quiet_target_is_seen_exactly_and_all_the_time() {
    let mut target = Hot::start("1", "1");
    let before = target.done();
    let tracing = Attach::to(target.0.pid()).args(&["--max-overhead", "10%"]).armed();
    let armed = target.done();
    std::thread::sleep(Duration::from_secs(2));
    let ending = target.done();
    let report = tracing.interrupt().report();
    let cost = cost(&report);
    assert_eq!(cost.setting.as_deref(), Some("every allocation"));
    assert!(cost.changes.is_empty() && cost.covered == Some(1.0), "{cost:?}");
    let rounds = report.function("malloc").calls;
    assert!(rounds >= ending.rounds - armed.rounds, "{rounds} {ending:?} {armed:?}");
    assert!(rounds <= target.done().rounds - before.rounds + 10, "{rounds}");
    assert!(report.completeness.complete, "{:?}", report.completeness);
    assert!(target.0.quit().success());
}

#[test]
fn what_an_idle_program_keeps_in_a_burst_is_seen_to_the_last_block() {
    const KEPT: u64 = 1000;
    let mut target = Hot::idle(KEPT);
    target.done();
    let tracing = Attach::to(target.0.pid()).args(&["--max-overhead", "10%"]).armed();
    std::thread::sleep(Duration::from_millis(500));
    target.done();
    std::thread::sleep(Duration::from_millis(500));
    let report = tracing.interrupt().report();
    let site = report.sites.iter().find(|site| site.caller() == "keep_here");
    let kept = site.map(|site| site.stats.live.count);
    assert_eq!(kept, Some(KEPT), "{:?}", cost(&report));
    assert!(target.0.quit().success());
}

#[test]
fn a_limit_that_allows_for_nothing_detaches_and_says_so() {
    let mut target = Hot::start("1", "0");
    let tracing = Attach::to(target.0.pid()).args(&["--max-overhead", "0.01%"]).armed();
    std::thread::sleep(Duration::from_secs(2));
    let rate = target.rate(Duration::from_secs(1));
    let finished = tracing.interrupt();
    let stderr = finished.stderr.clone();
    let report = finished.report();
    let bare = target.rate(Duration::from_secs(1));
    assert!(bare / rate < 1.4, "{bare} {rate}");
    assert!(stderr.contains("detached"), "{stderr}");
    let last = cost(&report).changes.last().expect("the change is reported");
    assert_eq!(last.to, "nothing");
    assert!(target.0.quit().success());
}

#[test]
fn without_a_limit_every_call_is_seen_whatever_it_costs() {
    let mut target = Hot::start("1", "800");
    let tracing = Attach::to(target.0.pid()).args(&["--max-overhead", "none"]).armed();
    let first = target.done();
    std::thread::sleep(Duration::from_secs(1));
    let last = target.done();
    let report = tracing.interrupt().report();
    assert!(report.function("malloc").calls >= last.rounds - first.rounds);
    assert!(last.leaked > first.leaked);
    let cost = cost(&report);
    assert!(cost.max_overhead.is_none() && cost.overhead.is_none(), "{cost:?}");
    assert!(target.0.quit().success());
}

#[test]
fn what_it_will_cost_is_said_before_the_window_opens() {
    let mut target = Hot::start("1", "0");
    let finished = Attach::to(target.0.pid()).args(&["-d", "1s", "--max-overhead", "10%"]).run();
    let said = finished.stderr.find("calls a second").expect("the rate is said");
    let opened = finished.stderr.find("probes armed").expect("the opening is said");
    assert!(said < opened, "{}", finished.stderr);
    assert!(finished.stderr.contains("times as slow"), "{}", finished.stderr);
    assert!(target.0.quit().success());
}
