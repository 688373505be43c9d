//! Leaks in programs that are so busy that the default mode looks at them in short bursts only: what is
//! kept must not be hidden behind what only seemed to stay.

use std::{ops::Range, process::Command, thread, time::Duration};

use memtrace::sys::instructions::Instructions;
use memtrace_tests::{
    attach::Attach, programs, python_target::PythonTarget, pythons::system, report::SiteReport,
    target::Target,
};
use serde::Deserialize;

/// As long as an engineer would wait.
const WINDOW: Duration = Duration::from_secs(30);

#[derive(Debug, Deserialize)]
struct Answer {
    kept: u64,
}

fn leads_through(site: &SiteReport, function: &str) -> bool {
    site.stack.frames.iter().any(|frame| frame.function == function)
}

/// The first site of a window in the default mode leads through this function.
fn assert_first(service: &str, function: &str) {
    let mut target = PythonTarget::start(system(), "busy_leaks.py", &[]);
    target.tell(&format!("{service} {}", (WINDOW + Duration::from_secs(5)).as_secs()));
    let tracing = Attach::to(target.pid()).args(&["--max-overhead", "10%"]).armed();
    thread::sleep(WINDOW);
    let report = tracing.interrupt().report();
    let cost = report.cost.expect("what it cost is reported");
    let setting = cost.setting.clone().unwrap_or_default();
    assert!(setting.ends_with("in short bursts"), "not what is to be tested: {cost:?}");
    let answer: Answer = target.answer();
    assert!(answer.kept > 0, "the program has kept nothing");
    let seen: Vec<_> = report.sites.iter().take(3).map(|site| (&site.stack, &site.stats)).collect();
    assert!(leads_through(&report.sites[0], function), "{answer:?} {cost:?} {seen:#?}");
}

#[test]
fn a_version_that_is_kept_is_told_from_models_that_are_replaced_by_the_same_lines() {
    assert_first("models", "keep_version");
}

#[test]
fn a_buffer_that_is_kept_is_told_from_buffers_that_are_passed_on() {
    assert_first("pusher", "keep_for_replay");
}

/// What a program of C has done so far.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Done {
    allocated_bytes: u64,
    kept_bytes: u64,
    held_bytes: u64,
}

fn done(target: &mut Target) -> Done {
    target.go();
    serde_json::from_str(&target.line()).unwrap()
}

/// How near what was allocated is told: by instructions that is hardly a matter of how busy the machine is.
fn near() -> Range<f64> {
    if Instructions::are_countable() { 0.8..1.25 } else { 0.4..2.5 }
}

fn ratio(estimate: u64, truth: u64) -> f64 {
    estimate as f64 / truth as f64
}

/// What was said of a program, over what is true; by itself each is near to 1.
struct Ratios {
    allocated: f64,
    /// All that seemed to be live, over what was kept and what was held for a while.
    live: f64,
    kept: f64,
    seen: String,
}

/// Traces a program that answers with [`Done`] in bursts, beside other tests.
fn ratios(program: &str, arguments: [&str; 2], time: Duration) -> Ratios {
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(programs::path(program)).args(arguments);
    let mut target = Target::start_command(&mut command);
    let tracing = Attach::to(target.pid()).args(&["--max-overhead", "10%"]).armed();
    let before = done(&mut target);
    thread::sleep(time);
    let after = done(&mut target);
    let report = tracing.interrupt().report();
    let cost = report.cost.as_ref().expect("what it cost is reported");
    let setting = cost.setting.clone().unwrap_or_default();
    assert!(setting.ends_with("in short bursts"), "not what is to be tested: {cost:?}");
    let heap = &report.totals.heap;
    let kept_bytes = after.kept_bytes - before.kept_bytes;
    let of_keeper = |site: &&SiteReport| leads_through(site, "keep_here");
    let kept = report.sites.iter().find(of_keeper).map_or(0, |site| site.stats.live.bytes);
    assert!(target.quit().success());
    Ratios {
        allocated: ratio(heap.allocated.bytes, after.allocated_bytes - before.allocated_bytes),
        live: ratio(heap.live.bytes, kept_bytes + after.held_bytes),
        kept: ratio(kept, kept_bytes),
        seen: format!("{before:?} {after:?} {heap:?} {cost:?}"),
    }
}

/// Addresses are used again and again, and taken by what is kept; the program is several times slower while
/// it is watched. Without regard to either, half of what was allocated was seen, and ten times what was
/// there seemed to be.
#[test]
fn blocks_that_are_replaced_all_the_time_are_not_taken_for_kept() {
    let Ratios { allocated, live, kept, seen } =
        ratios("churning", ["10000", "90"], Duration::from_secs(20));
    println!("allocated {allocated} live {live} kept {kept}");
    assert!(near().contains(&allocated), "{allocated}: {seen}");
    assert!((0.4..2.5).contains(&kept), "{kept}: {seen}");
    assert!((0.4..6.0).contains(&live), "{live}: {seen}");
}

/// No block is seen to be freed soon, and the addresses of those that were freed long ago are in use: what
/// is there can be told by how many chunks of a size the heap has. It seemed to be ten times as much.
#[test]
fn blocks_that_are_freed_many_at_once_are_not_taken_for_kept() {
    let Ratios { allocated, live, kept, seen } =
        ratios("batches", ["20000", "50"], Duration::from_secs(15));
    println!("allocated {allocated} live {live} kept {kept}");
    assert!(near().contains(&allocated), "{allocated}: {seen}");
    assert!((0.4..2.5).contains(&kept), "{kept}: {seen}");
    assert!((0.4..2.5).contains(&live), "{live}: {seen}");
}
