//! What memtrace was built for, in small: what it must say of each, without being told anything.

use std::time::Duration;

use memtrace_tests::{
    attach::Attach,
    inspection::Inspection,
    python_target::PythonTarget,
    python_truth::{KnownLine, group_place},
    pythons::system,
    report::GrowthPattern,
};
use serde::Deserialize;

fn model_server() -> PythonTarget {
    PythonTarget::start_with(system().command_with_numpy(), "model_server.py", &[])
}

fn about(seen: u64, expected: u64, tolerance: f64) -> bool {
    (seen as f64 - expected as f64).abs() <= tolerance * expected as f64
}

/// Three of the models are in the cache; all that were ever loaded are alive.
#[test]
fn a_model_server_leaks_a_model_at_each_deployment_on_the_line_that_loads_it() {
    let mut target = model_server();
    let tracing = Attach::to(target.pid()).armed();
    let truth: KnownLine = target.ask("deploy 6 0.5");
    let finished = tracing.interrupt();
    let report = finished.report();
    let group = &report.groups[0];
    assert_eq!(group_place(group).as_ref(), Some(&truth.place));
    let Some(GrowthPattern::Steps { count, step_bytes, interval_ns }) = group.pattern else {
        panic!("no steps: {group:?}");
    };
    assert_eq!(count, truth.survivors.count);
    assert!(about(step_bytes, truth.survivors.bytes / count, 0.01), "{step_bytes}");
    let pause = Duration::from_millis(500).as_nanos() as u64;
    assert!(interval_ns >= pause && interval_ns < 3 * pause, "{interval_ns}");
    let label = format!("load_model (model_server.py:{})", truth.place.line);
    assert!(finished.svg.unwrap().contains(&label), "the flamegraph does not say {label}");
    assert_eq!(report.verdict.map(|it| it.kind).as_deref(), Some("leak"));
}

#[test]
fn the_text_report_names_the_line_that_loads_models() {
    let mut target = model_server();
    let tracing = Attach::to(target.pid()).text().armed();
    let truth: KnownLine = target.ask("deploy 3 0.1");
    let text = tracing.interrupt().stdout;
    let label = format!("load_model (model_server.py:{})", truth.place.line);
    assert!(text.contains(&label), "no {label} in {text}");
}

/// glibc's sums, and what the kernel says is resident.
#[derive(Debug, Deserialize)]
struct Mallinfo {
    arena: u64,
    fordblks: u64,
    uordblks: u64,
    hblkhd: u64,
    rss_bytes: u64,
    #[serde(default)]
    rss_before_bytes: u64,
}

#[test]
fn a_pusher_is_fragmented_and_the_free_memory_is_that_of_mallinfo() {
    let mut target = PythonTarget::start(system(), "pusher.py", &[]);
    let truth: Mallinfo = target.ask("run 3");
    let inspection = Inspection::of(target.pid());
    assert!(about(inspection.obtained_bytes(), truth.arena, 0.01), "{inspection:?}, {truth:?}");
    assert!(about(inspection.free_bytes(), truth.fordblks, 0.01), "{inspection:?}, {truth:?}");
    assert_eq!(inspection.verdict.kind, "fragmentation", "{}", inspection.verdict.headline);
    let again: Mallinfo = target.ask("mallinfo");
    assert!(about(again.rss_bytes, truth.rss_bytes, 0.001), "{again:?} is not {truth:?}");
    let trimmed: Mallinfo = target.ask("trim");
    let returned = trimmed.rss_before_bytes - trimmed.rss_bytes;
    let predicted = inspection.summary.trim_bytes.unwrap();
    assert!(about(predicted, returned, 0.01), "{predicted} predicted, {returned} returned");
    let trapped = truth.fordblks - returned;
    assert!(about(inspection.summary.trapped_bytes, trapped, 0.02), "{inspection:?}: {trapped}");
}

/// Long enough for every small object to have been replaced, on a machine that is busy.
#[test]
fn a_pusher_that_grows_is_fragmentation_and_no_leak_with_the_numbers_of_mallinfo() {
    let mut target = PythonTarget::start(system(), "pusher.py", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let truth: Mallinfo = target.ask("run 10");
    let finished = tracing.interrupt();
    let report = finished.report();
    let verdict = report.verdict.unwrap();
    assert_eq!(verdict.kind, "fragmentation", "{}", verdict.headline);
    let heap = report.heap.unwrap();
    let arenas = || heap.glibc.iter().flat_map(|heap| &heap.arenas);
    let free: u64 = arenas().map(|it| it.free.bytes + it.top_bytes + it.fastbins.bytes).sum();
    assert!(about(free, truth.fordblks, 0.01), "{free} free, {truth:?}");
    assert!(about(heap.in_use_bytes, truth.uordblks + truth.hblkhd, 0.01), "{heap:?}, {truth:?}");
    let trimmed: Mallinfo = target.ask("trim");
    let returned = trimmed.rss_before_bytes - trimmed.rss_bytes;
    let trapped = truth.fordblks - returned;
    assert!(about(heap.trapped_bytes, trapped, 0.02), "{heap:?}: {trapped}");
    let table = report.rss_table.unwrap();
    assert_eq!(
        table.rows.iter().map(|row| row.resident_bytes).sum::<i64>() as u64,
        table.rss_bytes
    );
    // The interpreter goes on a little between the walk and its answer.
    assert!(about(table.rss_bytes, truth.rss_bytes, 0.001), "{table:?}, {truth:?}");
}

/// Three models are loaded before, and two while it looks.
#[test]
fn what_was_allocated_before_the_attach_is_told_by_the_walk() {
    let mut target = model_server();
    let before: KnownLine = target.ask("deploy 3 0");
    let in_use = Inspection::of(target.pid()).summary.in_use_bytes;
    let tracing = Attach::to(target.pid()).armed();
    let all: KnownLine = target.ask("deploy 2 0.3");
    let heap = tracing.interrupt().report().heap.unwrap();
    let older = heap.allocated_before_bytes.unwrap();
    assert!(older >= before.survivors.bytes, "{heap:?} {before:?}");
    assert!(about(older, in_use, 0.01), "{older} of before, {in_use} were in use then");
    assert!(about(heap.in_use_bytes - older, all.survivors.bytes - before.survivors.bytes, 0.01));
    let check = heap.survivor_check.unwrap();
    assert_eq!((check.freed.count, check.unknown, check.unchecked), (0, 0, 0), "{check:?}");
    assert!(check.in_use >= 2 && heap.walks >= 2, "{heap:?}");
}
