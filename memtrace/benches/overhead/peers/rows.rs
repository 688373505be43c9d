//! Runs as figures.

use super::{rounds::Run, tool::Tool, workload::Workload};
use crate::results::{Requirement, Results, Unit};

/// The groups of slow-downs begin with it; the rest is the workload.
pub const SLOW_DOWN: &str = "Slow-down: ";
const P99: &str = "99th percentile of the answers' times";
const BARE: &str = "Work without any tool";
const REQUIRED: &str = "What is required of memtrace beside slow-downs";
const OWN_PEAK: &str = "memtrace's own peak RSS";
const COVERED: &str = "Part of the time that memtrace's probes were armed";
const LOST: &str = "Events lost, of those that memtrace looked at";

/// The default mode keeps to a budget of 10 %.
const MOST_DEFAULT: f64 = 1.12;
const MOST_SLIGHT: f64 = 1.01;
const MOST_SAMPLED_PAIR: f64 = 1.15;
const MOST_OF_MEMLEAK: f64 = 1.0 / 3.0;
const LEAST_AGAINST_FIRST: f64 = 5.0;
const MOST_OWN_BYTES: f64 = (64 << 20) as f64;

/// Adds the rows of a workload.
pub fn add(workload: Workload, tools: &[Tool], runs: &[Run], results: &mut Results) {
    let of = |tool: Tool| runs.iter().filter(move |run| run.tool == tool);
    let name = workload.name();
    let rates: Vec<f64> = of(Tool::Bare).map(|run| run.done.rate).collect();
    results.add(BARE, name, Unit::PerSecond, &rates, None);
    for tool in tools.iter().filter(|tool| **tool != Tool::Bare) {
        let slow_downs: Vec<f64> = of(*tool).map(Run::slow_down).collect();
        let group = format!("{SLOW_DOWN}{name}");
        results.add(&group, tool.name(), Unit::Ratio, &slow_downs, most(*tool));
    }
    for tool in tools {
        let p99: Vec<f64> = of(*tool).filter_map(|run| run.done.p99_ns).collect();
        results.add(P99, format!("{name}: {}", tool.name()), Unit::Ns, &p99, None);
    }
    add_comparisons(workload, runs, results);
    add_own(workload, tools, runs, results);
}

fn most(tool: Tool) -> Option<Requirement> {
    match tool {
        Tool::Default => Some(Requirement::MedianAtMost(MOST_DEFAULT)),
        Tool::Growth | Tool::Inspect => Some(Requirement::MedianAtMost(MOST_SLIGHT)),
        _ => None,
    }
}

/// Round by round: one tool's figure over another's.
fn over(runs: &[Run], tool: Tool, base: Tool, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
    let find = |tool, round| runs.iter().find(|run| run.tool == tool && run.round == round);
    let of_tool = runs.iter().filter(|run| run.tool == tool);
    of_tool
        .filter_map(|run| Some(figure(run) / figure(find(base, run.round)?)))
        .filter(|ratio| ratio.is_finite())
        .collect()
}

fn add_comparisons(workload: Workload, runs: &[Run], results: &mut Results) {
    let name = workload.name();
    let mut add = |what: &str, ratios: &[f64], requirement| {
        results.add(REQUIRED, format!("{name}: {what}"), Unit::Ratio, ratios, Some(requirement));
    };
    let exact = over(runs, Tool::Exact, Tool::Memleak, Run::added_ns);
    let most = Requirement::MedianAtMost(MOST_OF_MEMLEAK);
    add("added by memtrace exact over added by memleak", &exact, most);
    if workload == Workload::Pairs {
        let sampled = over(runs, Tool::Sampled, Tool::Floor, |run| run.done.unit_ns());
        let most = Requirement::MedianAtMost(MOST_SAMPLED_PAIR);
        add("a pair sampled over one with empty programs", &sampled, most);
    }
    if workload == Workload::Redis {
        let first = over(runs, Tool::FloorFirst, Tool::Exact, Run::added_ns);
        let least = Requirement::MedianAtLeast(LEAST_AGAINST_FIRST);
        add("added at first instructions over added by memtrace exact", &first, least);
    }
}

fn add_own(workload: Workload, tools: &[Tool], runs: &[Run], results: &mut Results) {
    for tool in tools.iter().filter(|tool| tool.is_attach()) {
        let reports: Vec<_> = runs
            .iter()
            .filter(|run| run.tool == *tool)
            .filter_map(|it| it.report.as_ref())
            .collect();
        let name = format!("{}: {}", workload.name(), tool.name());
        let covered: Vec<f64> = reports.iter().filter_map(|it| it.covered_percent()).collect();
        results.add(COVERED, name.clone(), Unit::Percent, &covered, None);
        let peaks: Vec<f64> = reports.iter().map(|it| it.rss.own_peak_bytes as f64).collect();
        let most = (*tool == Tool::Sampled).then_some(Requirement::AllBelow(MOST_OWN_BYTES));
        results.add(OWN_PEAK, name.clone(), Unit::Bytes, &peaks, most);
        let lost: Vec<f64> = reports.iter().map(|report| report.lost_percent()).collect();
        results.add(LOST, name, Unit::Percent, &lost, None);
    }
}
