//! How long exports take of a report with 100,000 distinct stacks of 30 frames, from 20,000
//! functions: what a long window of a large server gives. Run:
//! `cargo bench -p memtrace --bench exports`.

use std::{io, sync::Arc};

use divan::Bencher;
use memtrace::{
    model::{
        AllocFn,
        site::{Amount, SiteStats, Survivors},
        stack::{Frame, NamedStack},
        timeline::Timeline,
    },
    render,
    report::{
        Births, Completeness, GroupBy, Module, Report, ReportInput, Rss, SiteExtras, SiteInput,
        Target, ThreadShare, Totals, View, Walks, Window,
    },
};

const STACKS: usize = 100_000;
const DEPTH: usize = 30;
const FUNCTIONS: usize = 20_000;

fn main() {
    divan::main();
}

fn function(index: usize) -> Arc<Frame> {
    Arc::new(Frame {
        function: format!("service::module_{}::Handler<T>::function_{index}", index % 300),
        module: "service".to_owned(),
        file: Some(format!("/srv/service/src/module_{}.rs", index % 300)),
        line: Some(index as u32 % 2000 + 1),
        ..Frame::default()
    })
}

/// The functions of a stack: the nearer to the root, the fewer there are.
fn stack(functions: &[Arc<Frame>], index: usize) -> NamedStack {
    let at = |depth: usize| {
        let spread = if depth == 0 { FUNCTIONS } else { (FUNCTIONS / (depth * depth)).max(1) };
        let hash = (index + depth).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        functions[(depth * 97 + hash % spread) % FUNCTIONS].clone()
    };
    NamedStack { frames: (0..DEPTH).map(at).collect(), missing_root: None }
}

fn site(functions: &[Arc<Frame>], index: usize) -> SiteInput {
    let amount = Amount::new(4096 + index as u64, 1 + index as u64 % 7);
    let name = Some(format!("worker-{}", index % 64));
    let thread = ThreadShare {
        name,
        allocated: amount,
        live: amount,
        survivors: amount,
        ..ThreadShare::none(1000 + index as u32 % 64)
    };
    SiteInput {
        allocator: None,
        function: Some(AllocFn::Malloc),
        stack: stack(functions, index),
        stats: SiteStats { live: amount, allocated: amount, ..SiteStats::default() },
        survivors: Survivors { amount, ..Survivors::default() },
        extras: SiteExtras { threads: vec![thread], ..SiteExtras::default() },
    }
}

fn report() -> Report {
    let functions: Vec<_> = (0..FUNCTIONS).map(function).collect();
    let module = Module { path: "/srv/service".to_owned(), ..Module::default() };
    let input = ReportInput {
        blame: None,
        arena_pins: None,
        pinned_cells: Vec::new(),
        processes: Vec::new(),
        selected: Default::default(),
        sampling: None,
        target: Target::default(),
        place: Default::default(),
        cost: None,
        growth: None,
        window: Window::default(),
        rss: Rss::default(),
        timeline: Timeline::default(),
        walks: Walks::default(),
        totals: Totals::default(),
        sites: (0..STACKS).map(|index| site(&functions, index)).collect(),
        group_by: GroupBy::Line,
        groups: Vec::new(),
        sizes: None,
        lifetimes: None,
        functions: Vec::new(),
        completeness: Completeness::default(),
        losses: Vec::new(),
        unwind_tables: None,
        view: View::NeverFreed,
        births: Births::default(),
        blame: Default::default(),
        modules: vec![module],
        files: Vec::new(),
    };
    let report = input.build();
    assert!(report.sites.len() > STACKS * 9 / 10, "{} distinct stacks", report.sites.len());
    report
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn pprof(bencher: Bencher<'_, '_>) {
    let report = report();
    bencher.bench_local(|| render::pprof::write(&report, &mut io::sink()).map_err(drop));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn otlp(bencher: Bencher<'_, '_>) {
    let report = report();
    bencher.bench_local(|| render::otlp::write(&report, &mut io::sink()).map_err(drop));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn speedscope(bencher: Bencher<'_, '_>) {
    let report = report();
    bencher.bench_local(|| render::speedscope::write(&report, &mut io::sink()).map_err(drop));
}
