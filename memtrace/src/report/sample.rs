//! Reports for the tests of the builder and of the renderers.

use std::sync::Arc;

use memtrace_common::sample::Interval;

use crate::{
    capture::Selected,
    model::{
        AllocFn,
        census::{Arena, Census, GlibcHeap, HeapResidency, RssKind, RssRow, RssTable},
        coverage::{Family, WorkBy},
        growth::GrowthPattern,
        loss::Loss,
        place::Place,
        site::{Amount, SiteStats, Survivors},
        stack::{Frame, Language, NamedStack},
        timeline::{PeakSource, RssParts, Timeline, TimelineSample},
        trace::Host,
    },
};

use super::{
    AllocatorReport, AttachStep, Birth, Births, Completeness, Covered, Distribution, EndReason,
    FunctionReport, GroupBy, GroupFacts, Module, ProbeReport, PythonReport, Report, Rss, Sampling,
    SiteExtras, SurvivorCheck, Target, ThreadShare, Totals, UnwindTables, View, Walks, Window,
    build::{ReportInput, SiteInput},
};

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

/// (function, module, file and line), leaf first.
type FrameParts = (&'static str, &'static str, Option<(&'static str, u32)>);

/// A stack of such frames.
pub(crate) fn stack(frames: &[FrameParts], missing_root: Option<&'static str>) -> NamedStack {
    let frame = |(function, module, source): &FrameParts| {
        Arc::new(Frame {
            function: (*function).to_owned(),
            module: (*module).to_owned(),
            file: source.map(|(file, _)| file.to_owned()),
            line: source.map(|(_, line)| line),
            ..Frame::default()
        })
    };
    NamedStack {
        frames: frames.iter().map(frame).collect(),
        missing_root: missing_root.map(Into::into),
    }
}

fn amount(bytes: u64, count: u64) -> Amount {
    Amount::new(bytes, count)
}

/// A site that allocated `allocated` and kept `kept`.
fn site(function: AllocFn, stack: NamedStack, allocated: Amount, kept: Amount) -> SiteInput {
    let mut freed = allocated;
    freed -= kept;
    let age = |seconds| if kept.count == 0 { 0 } else { seconds * SECOND };
    SiteInput {
        function: Some(function),
        allocator: None,
        stack,
        stats: SiteStats { live: kept, allocated, freed, peak: kept },
        survivors: Survivors {
            amount: kept,
            oldest_age_ns: age(28),
            median_age_ns: age(20),
            youngest_age_ns: age(11),
            smallest_bytes: kept.bytes / kept.count.max(1),
            median_bytes: kept.bytes / kept.count.max(1),
            largest_bytes: kept.bytes / kept.count.max(1),
        },
        extras: extras(allocated, kept),
    }
}

/// Bins of births in the window.
const BIRTHS: Births = Births { bins: 30, bin_ns: SECOND };

/// Half of the blocks that were kept come from the window's third second, the others from its 19th.
fn extras(allocated: Amount, kept: Amount) -> SiteExtras {
    let half = amount(kept.bytes / 2, kept.count / 2);
    let mut rest = kept;
    rest -= half;
    let births = [(2, half), (18, rest)].map(|(bin, amount)| Birth { bin, amount });
    SiteExtras {
        at_peak: Some(amount(kept.bytes + 4096, kept.count + 1)),
        temporary: Some(amount(allocated.bytes / 4, allocated.count / 4)),
        resident: Some(amount(kept.bytes / 4 * 3, kept.count)),
        trapped: Some(amount(kept.count * 3000, kept.count)),
        threads: vec![ThreadShare {
            tid: 4243,
            name: Some("worker-1".to_owned()),
            allocated,
            live: kept,
            survivors: kept,
        }],
        births: births.into_iter().filter(|birth| birth.amount.count > 0).collect(),
    }
}

/// The objects of [`stack`]'s frames.
fn modules() -> Vec<Module> {
    let module = |(path, build_id, start): (&str, &str, u64)| Module {
        path: path.to_owned(),
        build_id: Some(build_id.to_owned()),
        start,
        end: start + 0x10_0000,
        file_offset: 0x1000,
    };
    [
        ("/srv/model-server", "0f0e0d0c0b0a09080706050403020100aabbccdd", 0x5555_5555_5000),
        (
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "93d7ac1dc86a8a1c5e3c8a1d1d7ae2be5ff1ab25",
            0x7f00_0002_6000,
        ),
    ]
    .map(module)
    .into()
}

/// A frame of Python's own stack.
pub(crate) fn python_frame(function: &str, file: &str, line: u32) -> Arc<Frame> {
    let module = file.rsplit('/').next().unwrap_or_default().to_owned();
    let (function, language) = (function.to_owned(), Language::Python);
    let (file, line, inlined) = (Some(file.to_owned()), Some(line), false);
    Arc::new(Frame { function, module, file, line, inlined, language })
}

/// The leak as samples have it, of a heap that was watched a fifth of the time.
pub(crate) fn sampled() -> Report {
    let mut input = leaking_input();
    let sampled = |amount: &mut Amount| {
        let samples = (amount.bytes >> 20) + u64::from(amount.count > 0);
        *amount = (0..samples).fold(Amount::default(), |mut sum, _| {
            sum += Amount::sampled(4096, Interval::from_exponent(19)).scaled(2.0);
            sum
        });
    };
    let mut live = Amount::default();
    let is_heap = |site: &&mut SiteInput| site.function != Some(AllocFn::Mmap);
    for site in input.sites.iter_mut().filter(is_heap) {
        let SiteStats { live: of_site, allocated, freed, .. } = &mut site.stats;
        [&mut *of_site, freed].into_iter().for_each(sampled);
        (*allocated, site.survivors.amount) = (*of_site, *of_site);
        *allocated += *freed;
        site.extras = SiteExtras::default();
        live += *of_site;
    }
    (input.groups, input.totals.heap.live) = (Vec::new(), live);
    input.sampling = Some(Sampling {
        interval_bytes: Some(512 << 10),
        samples: input.sites.iter().map(|site| site.stats.allocated.samples()).sum(),
        coverage: vec![Covered {
            family: Family::Heap,
            share: 0.2,
            covered_ns: 6 * SECOND,
            phases: 3,
            work_share: 0.15,
            work_share_95: Some([0.14, 0.16]),
            work_by: Some(WorkBy::Instructions),
        }],
    });
    input.build()
}

/// A site for tests that look at its stack only.
pub(crate) fn any_site() -> SiteInput {
    site(AllocFn::Malloc, NamedStack::default(), amount(10, 1), amount(10, 1))
}

fn weights() -> NamedStack {
    stack(
        &[
            ("operator new(unsigned long)", "libstdc++.so.6.0.30", None),
            (
                "std::vector<float, std::allocator<float> >::_M_default_append(unsigned long)",
                "model-server",
                Some(("/usr/include/c++/12/bits/vector.tcc", 650)),
            ),
            ("Model::load_weights(Path const&)", "model-server", Some(("/srv/src/model.cc", 42))),
            ("Cache::get(ModelId)", "model-server", Some(("/srv/src/cache.cc", 108))),
            ("handle_predict(Request&)", "model-server", Some(("/srv/src/serve.cc", 77))),
            ("main", "model-server", Some(("/srv/src/main.cc", 12))),
            ("__libc_start_call_main", "libc.so.6", None),
            ("__libc_start_main_impl", "libc.so.6", None),
            ("_start", "model-server", None),
        ],
        None,
    )
}

pub(crate) fn sites() -> Vec<SiteInput> {
    let log = [("log_line", "model-server", Some(("/srv/src/log.cc", 9)))];
    let plugin = [("libplugin.so+0x1a2b0", "libplugin.so", None)];
    let arena = [
        ("arena_grow", "model-server", Some(("/srv/src/arena.cc", 31))),
        ("worker", "model-server", Some(("/srv/src/worker.cc", 15))),
        ("start_thread", "libc.so.6", None),
        ("clone3", "libc.so.6", None),
    ];
    let json = [("parse_json", "model-server", Some(("/srv/src/json.cc", 210)))];
    let cut = Some("[no frame pointer]");
    vec![
        site(AllocFn::Malloc, stack(&json, cut), amount(90 * MIB, 1_234_567), amount(0, 0)),
        site(AllocFn::Malloc, stack(&plugin, cut), amount(3 * MIB, 12), amount(MIB, 4)),
        site(AllocFn::Malloc, weights(), amount(940 * MIB, 94), amount(470 * MIB, 47)),
        site(AllocFn::Mmap, stack(&arena, None), amount(64 * MIB, 1), amount(64 * MIB, 1)),
        site(AllocFn::Realloc, stack(&log, cut), amount(77_777, 900), amount(333, 3)),
    ]
}

/// What the ledger knows of each site's line; no two sites share one.
fn facts(sites: &[SiteInput]) -> Vec<GroupFacts> {
    let pattern = |survivors: &Survivors| match survivors.amount.count {
        0 => None,
        1 => Some(GrowthPattern::Once),
        3 | 4 => Some(GrowthPattern::Few),
        count => Some(GrowthPattern::Steps {
            count,
            step_bytes: survivors.median_bytes,
            interval_ns: SECOND / 2,
        }),
    };
    let facts = |site: &SiteInput| GroupFacts {
        survivors: site.survivors,
        pattern: pattern(&site.survivors),
    };
    sites.iter().map(facts).collect()
}

fn target() -> Target {
    let probe = |function: AllocFn, emulated| ProbeReport {
        function: function.name().into(),
        offset: if emulated { 0 } else { 4 },
        emulated,
    };
    Target {
        pid: 4242,
        command: "model-server".to_owned(),
        command_line: ["/srv/model-server", "--port", "8080"].map(str::to_owned).into(),
        executable: "/srv/model-server".to_owned(),
        allocators: vec![AllocatorReport {
            name: "glibc".to_owned(),
            version: Some("2.36".to_owned()),
            path: "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
            build_id: Some("93d7ac1dc86a8a1c5e3c8a1d1d7ae2be5ff1ab25".to_owned()),
            probes: vec![probe(AllocFn::Malloc, true), probe(AllocFn::Free, false)],
            ..AllocatorReport::default()
        }],
        threads: 17,
        python: None,
    }
}

fn window() -> Window {
    Window {
        started_at: "2026-03-04T02:58:11Z".to_owned(),
        duration_ns: 30 * SECOND,
        ended_by: EndReason::Duration,
        min_age_ns: 10 * SECOND,
        sample_bytes: None,
        attach_ns: 84_000_000,
        attach_steps: [("plan the probes", 30_000_000), ("compile unwind tables", 41_000_000)]
            .map(|(step, duration_ns)| AttachStep { step: step.into(), duration_ns })
            .into(),
        detach_ns: 41_000_000,
    }
}

fn stats(allocated: Amount, live: Amount) -> SiteStats {
    let mut freed = allocated;
    freed -= live;
    SiteStats { live, allocated, freed, peak: live }
}

fn totals() -> Totals {
    Totals {
        heap: stats(amount(1033 * MIB + 77_777, 1_235_573), amount(471 * MIB + 333, 54)),
        mappings: stats(amount(64 * MIB, 1), amount(64 * MIB, 1)),
        allocator_mappings: stats(amount(512 * MIB, 9), amount(480 * MIB, 8)),
        pymalloc_arenas: SiteStats::default(),
        survivors: Amount::default(),
        unmatched_frees: 12_345,
        unmatched_unmapped_bytes: 3 * MIB,
    }
}

fn distribution(values: [u64; 5], mean: f64) -> Option<Distribution> {
    let [min, p50, p90, p99, max] = values;
    Some(Distribution { count: 1_235_573, min, p50, p90, p99, max, mean })
}

fn parts(anonymous_mib: u64) -> RssParts {
    RssParts { anonymous_bytes: anonymous_mib * MIB, file_bytes: 49 * MIB, shmem_bytes: MIB }
}

/// Ten models in a row, with a walk in the middle and a peak at the end of one load.
fn timeline() -> Timeline {
    let sample = |second: u64| {
        let live = second / 3 * 53 * MIB;
        TimelineSample {
            at_ns: second * SECOND,
            rss_bytes: 1200 * MIB + live,
            rss_peak_bytes: (second == 21).then_some(1810 * MIB),
            live_bytes: Some(live),
            ..TimelineSample::default()
        }
    };
    let mut samples: Vec<_> = (0..=30).map(sample).collect();
    samples.insert(
        16,
        TimelineSample {
            at_ns: 15 * SECOND + SECOND / 2,
            rss_bytes: 1465 * MIB,
            in_use_bytes: Some(1100 * MIB),
            heap_resident_bytes: Some(1380 * MIB),
            trapped_bytes: Some(200 * MIB),
            ..TimelineSample::default()
        },
    );
    Timeline {
        samples,
        rss_peak_bytes: 1810 * MIB,
        rss_peak_source: Some(PeakSource::HighWaterMark),
        cgroup_peak_bytes: Some(1900 * MIB),
    }
}

/// RSS and live bytes stay where they are.
fn level() -> Timeline {
    let sample = |second| TimelineSample {
        at_ns: second * SECOND,
        rss_bytes: 1200 * MIB,
        live_bytes: Some(0),
        ..TimelineSample::default()
    };
    Timeline {
        samples: (0..=30).map(sample).collect(),
        rss_peak_bytes: 1200 * MIB,
        rss_peak_source: Some(PeakSource::Samples),
        cgroup_peak_bytes: None,
    }
}

/// The table at both ends, and a heap from which an eighth was allocated before the window.
fn walks() -> Walks {
    let census = |in_use: i64, trapped: i64, other: i64| {
        let rows = [
            (RssKind::InUse, in_use),
            (RssKind::MappedBlocks, 300),
            (RssKind::FreeTrapped, trapped),
            (RssKind::AllocatorCache, 2),
            (RssKind::Top, 1),
            (RssKind::OtherAnonymous, other),
            (RssKind::File, 49),
            (RssKind::Shmem, 1),
        ];
        let row = |(kind, mib): (RssKind, i64)| RssRow { kind, resident_bytes: mib << 20 };
        let rss_bytes = rows.iter().map(|(_, mib)| *mib as u64).sum::<u64>() << 20;
        let arena = Arena {
            attached_threads: Some(1),
            in_use: amount(in_use as u64 * MIB, 7_000),
            resident: HeapResidency {
                in_use_bytes: in_use as u64 * MIB,
                trapped_bytes: trapped as u64 * MIB,
                ..HeapResidency::default()
            },
            ..Arena::default()
        };
        let heap = GlibcHeap {
            path: "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
            version: Some("2.36".to_owned()),
            arenas: vec![arena],
            mapped: amount(300 * MIB, 30),
            mapped_resident_bytes: 300 * MIB,
            mapped_stated_bytes: 300 * MIB,
            trim_bytes: 3 * MIB,
            ..GlibcHeap::default()
        };
        Census {
            duration_ns: 21_000_000,
            rss: RssTable { rss_bytes, rows: rows.map(row).into(), huge_bytes: 0, swap_bytes: 0 },
            glibc: vec![heap],
            ..Census::default()
        }
    };
    Walks {
        before: Some(census(592, 30, 225)),
        after: Some(census(1063, 35, 289)),
        at_ns: 30 * SECOND - 40_000_000,
        count: 9,
        cpu_ns: 160_000_000,
        traced_in_use: Some(amount(472 * MIB, 54)),
        check: Some(SurvivorCheck { in_use: 54, ..SurvivorCheck::default() }),
    }
}

/// A leak of 47 models, a mapping, and small change; nothing lost.
/// In a container with a limit.
fn place() -> Place {
    let id = "4f2a9c0d1e3b5a7c9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";
    let host = Host {
        name: "node-7".to_owned(),
        kernel: "6.12.1-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        page_bytes: 4096,
        cpus: 8,
    };
    Place::new(host, &format!("/system.slice/docker-{id}.scope"), Some(2048 * MIB))
}

pub(crate) fn leaking_input() -> ReportInput {
    ReportInput {
        cost: None,
        target: target(),
        processes: Vec::new(),
        sampling: None,
        place: place(),
        window: window(),
        rss: Rss {
            start_bytes: 1200 * MIB,
            end_bytes: 1740 * MIB,
            peak_bytes: 1810 * MIB,
            own_peak_bytes: 31 * MIB,
            start_parts: Some(parts(1150)),
            end_parts: Some(parts(1690)),
            limit_bytes: Some(4096 * MIB),
        },
        timeline: timeline(),
        walks: walks(),
        blame: None,
        totals: totals(),
        groups: facts(&sites()),
        group_by: GroupBy::Line,
        sites: sites(),
        sizes: distribution([1, 64, 512, 4096, 10 * MIB], 876.5),
        lifetimes: distribution([210, 3_400, 85_000, 12_000_000, 9 * SECOND], 61_000.25),
        functions: vec![FunctionReport {
            function: "malloc".into(),
            calls: 1_235_573,
            nested: 4,
            void: 0,
            lost: 0,
            passed_over: 0,
            requested_bytes: 79_324_118,
        }],
        completeness: Completeness { events: 2_470_001, cut_calls: 2, ..Completeness::default() },
        losses: Vec::new(),
        unwind_tables: Some(UnwindTables {
            objects: 11,
            objects_without_rows: 1,
            text_bytes: 31 * MIB,
            rows: 81_000,
            pages: 31_800,
            rules: 640,
            size_bytes: 456_320,
            build_ns: 41_000_000,
        }),
        view: View::NeverFreed,
        arena_pins: None,
        pinned_cells: Vec::new(),
        growth: None,
        births: BIRTHS,
        modules: modules(),
        selected: Default::default(),
        files: ["model-server.svg", "model-server.json"].map(str::to_owned).into(),
    }
}

/// [`leaking_input`], as a report.
pub(crate) fn leaking() -> Report {
    leaking_input().build()
}

/// A model server in Python: one line leaves a model behind with each deployment, on two paths;
/// another buffers steadily.
pub(crate) fn python() -> Report {
    let mut input = leaking_input();
    let in_numpy = [
        ("numpy.so+0x1a2b0", "numpy.so", None),
        ("array_zeros", "numpy.so", None),
        ("cfunction_call", "python3.11", None),
    ];
    let server = "/srv/app/model_server.py";
    let load = python_frame("ModelCache.load_model", server, 88);
    let main = python_frame("<module>", server, 140);
    let path = |caller: &str, line| {
        let mut stack = stack(&in_numpy, None);
        let caller = python_frame(caller, server, line);
        stack.frames.extend([load.clone(), caller, main.clone()]);
        stack
    };
    let mut buffers = stack(&[("PyByteArray_Resize", "python3.11", None)], None);
    let codec = "/usr/lib/python3.11/codecs.py";
    buffers.frames.extend([python_frame("decode", codec, 322), python_frame("read", server, 31)]);
    input.sites = vec![
        site(
            AllocFn::Malloc,
            path("ModelCache.deploy", 101),
            amount(80 * MIB, 4),
            amount(80 * MIB, 4),
        ),
        site(
            AllocFn::Malloc,
            path("ModelCache.reload", 117),
            amount(40 * MIB, 2),
            amount(20 * MIB, 1),
        ),
        site(AllocFn::Realloc, buffers, amount(9 * MIB, 1_000), amount(3 * MIB, 300)),
    ];
    let mut models = input.sites[0].survivors;
    models.amount += input.sites[1].survivors.amount;
    let steps = GrowthPattern::Steps { count: 5, step_bytes: 20 * MIB, interval_ns: 6 * SECOND };
    let buffers = Survivors { smallest_bytes: 600, ..input.sites[2].survivors };
    let steady = GrowthPattern::Steady { bytes_per_s: 104_857 };
    input.groups = [(models, steps), (buffers, steady)]
        .map(|(survivors, pattern)| GroupFacts { survivors, pattern: Some(pattern) })
        .into();
    input.target.python = Some(PythonReport {
        version: Some("3.11.7".to_owned()),
        path: "/usr/bin/python3.11".to_owned(),
        refused: None,
    });
    input.build()
}

/// The same with losses, a fork, an exec, a note, and an end by the target's exit.
pub(crate) fn lossy() -> Report {
    let mut input = leaking_input();
    input.target.python = Some(PythonReport {
        version: Some("3.15".to_owned()),
        path: "/usr/lib/libpython3.15.so.1.0".to_owned(),
        refused: Some("its layout is not known".to_owned()),
    });
    input.losses = vec![(Loss::RingFull, 5_321), (Loss::SitesFull, 7), (Loss::Unpaired, 0)];
    input.completeness.forks = 1;
    input.completeness.execs = 2;
    input.completeness.discarded_by_exec = amount(5 * MIB, 60);
    input.completeness.notes = vec!["The target's libc is in another mount namespace.".to_owned()];
    input.window.ended_by = EndReason::TargetExited;
    let other =
        SiteInput { function: None, stack: stack(&[], Some("[no stack]")), ..sites().remove(1) };
    input.sites.push(other);
    input.build()
}

/// Everything that was allocated was freed.
pub(crate) fn tidy() -> Report {
    let mut input = leaking_input();
    input.sites.retain(|site| site.survivors.amount.count == 0);
    input.groups = facts(&input.sites);
    input.totals.heap.live = Amount::default();
    input.totals.mappings = SiteStats::default();
    input.rss.end_bytes = input.rss.start_bytes;
    input.timeline = level();
    input.build()
}

/// Nothing happened.
pub(crate) fn idle() -> Report {
    let mut input = leaking_input();
    input.sites.clear();
    input.groups.clear();
    input.totals = Totals::default();
    input.rss.end_bytes = input.rss.start_bytes;
    input.timeline = level();
    (input.sizes, input.lifetimes) = (None, None);
    input.functions.clear();
    input.completeness = Completeness::default();
    input.files.clear();
    input.build()
}

/// The leaking process, weighed by a view.
pub(crate) fn leaking_input_in(view: View) -> ReportInput {
    ReportInput { view, ..leaking_input() }
}

/// What a thread of the leaking process did.
pub(crate) fn selection() -> Report {
    let mut input = leaking_input();
    input.selected =
        Selected { what: vec!["obtained by thread 4243 (worker-1)".to_owned()], is_slice: true };
    input.build()
}
