//! A report whose numbers are known, as what reads the exports should show it.

use std::sync::Arc;

use memtrace::{
    model::{
        AllocFn,
        loss::Loss,
        site::{Amount, SiteStats, Survivors},
        stack::{Frame, Language, NamedStack},
        timeline::Timeline,
    },
    report::{
        Births, Completeness, GroupBy, Module, Report, ReportInput, Rss, SiteExtras, SiteInput,
        Target, ThreadShare, Totals, View, Walks, Window,
    },
};

pub const BUILD_ID: &str = "0f0e0d0c0b0a09080706050403020100aabbccdd";

/// An executable that is on the system that the test runs on: a reader could look into it.
pub const EXECUTABLE: &str = "/bin/sh";

fn native(function: &str, module: &str, line: u32) -> Frame {
    Frame {
        function: function.to_owned(),
        module: module.to_owned(),
        file: (line > 0).then(|| "/srv/src/model.cc".to_owned()),
        line: Some(line).filter(|line| *line > 0),
        ..Frame::default()
    }
}

fn python(function: &str, line: u32) -> Frame {
    Frame {
        module: "serve.py".to_owned(),
        file: Some("/srv/serve.py".to_owned()),
        language: Language::Python,
        ..native(function, "", line)
    }
}

fn stack(frames: Vec<Frame>) -> NamedStack {
    NamedStack { frames: frames.into_iter().map(Arc::new).collect(), missing_root: None }
}

fn site(stack: NamedStack, threads: &[(u32, &str, u64, u64)]) -> SiteInput {
    let blocks = |bytes| Amount::new(bytes, bytes / 1024);
    let share = |(tid, name, allocated, live): &(u32, &str, u64, u64)| ThreadShare {
        tid: *tid,
        name: Some((*name).to_owned()),
        allocated: blocks(*allocated),
        live: blocks(*live),
        survivors: blocks(*live),
    };
    let allocated = blocks(threads.iter().map(|it| it.2).sum());
    let live = blocks(threads.iter().map(|it| it.3).sum());
    SiteInput {
        allocator: None,
        function: Some(AllocFn::Malloc),
        stack,
        stats: SiteStats { live, allocated, freed: Amount::default(), peak: live },
        survivors: Survivors { amount: live, ..Survivors::default() },
        extras: SiteExtras {
            threads: threads.iter().map(share).collect(),
            ..SiteExtras::default()
        },
    }
}

fn sites() -> Vec<SiteInput> {
    let inlined = Frame { inlined: true, ..native("grow<float>(int)", "sh", 7) };
    let load = native("Model::load(char const*)", "sh", 42);
    let native_stack = stack(vec![
        inlined,
        load.clone(),
        native("libc.so.6+0x2724a", "libc.so.6", 0),
        native("main", "sh", 12),
    ]);
    let in_python = stack(vec![load, python("Cache.<locals>.load", 88), python("<module>", 140)]);
    vec![
        site(native_stack, &[(11, "worker-1", 4096, 3072), (12, "worker-2", 2048, 1024)]),
        site(in_python, &[(11, "worker-1", 10_240, 8192)]),
        site(stack(vec![native("tidy\x1b[2J", "sh", 99)]), &[(12, "worker-2", 1024, 0)]),
    ]
}

/// 12 KiB of 17 KiB were never freed; five events were lost.
pub fn report() -> Report {
    let module = |path: &str, start| Module {
        path: path.to_owned(),
        build_id: Some(BUILD_ID.to_owned()).filter(|_| path == EXECUTABLE),
        start,
        end: start + 0x1000,
        file_offset: 0x1000,
    };
    let input = ReportInput {
        blame: None,
        arena_pins: None,
        pinned_cells: Vec::new(),
        processes: Vec::new(),
        cost: None,
        growth: None,
        place: Default::default(),
        selected: Default::default(),
        sampling: None,
        target: Target {
            pid: 4242,
            command: "sh".to_owned(),
            executable: EXECUTABLE.to_owned(),
            ..Target::default()
        },
        window: Window {
            started_at: "2026-03-04T02:58:11Z".to_owned(),
            duration_ns: 30_000_000_000,
            ..Window::default()
        },
        rss: Rss::default(),
        timeline: Timeline::default(),
        walks: Walks::default(),
        totals: Totals::default(),
        sites: sites(),
        group_by: GroupBy::Line,
        groups: Vec::new(),
        sizes: None,
        lifetimes: None,
        functions: Vec::new(),
        completeness: Completeness::default(),
        losses: vec![(Loss::RingFull, 5)],
        unwind_tables: None,
        view: View::NeverFreed,
        births: Births::default(),
        modules: vec![module("/lib/libc.so.6", 0x7000), module(EXECUTABLE, 0x5000)],
        files: Vec::new(),
    };
    input.build()
}
