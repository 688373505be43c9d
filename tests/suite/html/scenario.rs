//! Reports as large and as varied as real ones.

use std::{collections::HashSet, sync::Arc};

use memtrace::{
    model::{
        AllocFn,
        arena_map::{ArenaCell, ArenaMap, MapSegment},
        census::{
            Arena, Census, GlibcHeap, HeapResidency, MallocParameters, PymallocHeap, RssKind,
            RssRow, RssTable,
        },
        growth::GrowthPattern,
        loss::Loss,
        site::{Amount, SiteStats, Survivors},
        stack::{Frame, Language, NamedStack},
        timeline::{PeakSource, RssParts, Timeline, TimelineSample},
    },
    report::{
        AllocatorReport, ArenaCells, ArenaPins, ArenaPinsReport, ArenaPlace, Birth, Births,
        Completeness, Distribution, EndReason, GroupBy, GroupFacts, GroupName, PinnedCells,
        ProbeReport, PythonReport, Report, ReportInput, Rss, SiteExtras, SiteInput, SurvivorCheck,
        Target, Totals, View, Walks, Window, group_slots,
    },
};

const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;
const BINS: u32 = 60;

/// A model server in Python on the tenth deployment: each leaves 50 MiB behind, beside steady and
/// small survivors in numpy, zlib and the server's native code; one arena is stranded.
pub fn model_server() -> Report {
    let sites = sites();
    let groups = facts(&sites);
    input(sites, groups).build()
}

/// The same with events lost.
pub fn lossy() -> Report {
    let sites = sites();
    let groups = facts(&sites);
    let mut input = input(sites, groups);
    input.losses = vec![(Loss::RingFull, 5_321), (Loss::SitesFull, 7)];
    input.completeness.notes = vec!["The target's libc is in another mount namespace.".to_owned()];
    input.completeness.forks = 1;
    input.build()
}

/// The main arena has a map: pages in use, then trapped ones, returnable ones, and some that are not
/// there.
pub fn with_arena_map() -> Report {
    let mut report = model_server();
    let cell = |at: u64| match at % 10 {
        0..5 => ArenaCell { in_use_bytes: 3072, trapped_bytes: 1024, ..ArenaCell::default() },
        5..7 => ArenaCell { in_use_bytes: 16, trapped_bytes: 4080, ..ArenaCell::default() },
        7..9 => ArenaCell { returnable_bytes: 4096, ..ArenaCell::default() },
        _ => ArenaCell::default(),
    };
    let start = 0x7f00_0000_0030;
    let end = 0x7f00_0000_0000 + 130 * 4096;
    let segments = vec![MapSegment { start, end, cells: (0..130).map(cell).collect() }];
    let heap = report.heap.as_mut().expect("it was walked");
    heap.glibc[0].arenas[0].map = ArenaMap { cell_bytes: 4096, segments };
    report
}

/// Two lines keep what is trapped there: one in two cells, another in one of these and two others.
pub fn with_pins() -> Report {
    let mut report = with_arena_map();
    let name = |line: u32| GroupName {
        function: Some("open_session".to_owned()),
        module: "pusher.py".to_owned(),
        file: Some("/srv/pusher.py".to_owned()),
        line: Some(line),
        language: Language::Python,
    };
    let pins = |line, bytes, cells: &[u32]| PinnedCells {
        name: name(line),
        trapped: Amount::new(bytes, cells.len() as u64),
        arenas: vec![ArenaCells { heap: 0, arena: 0, cells: cells.to_vec() }],
    };
    report.pinned_cells = vec![pins(31, 7 * MIB, &[5, 6]), pins(77, 2 * MIB, &[6, 15, 126])];
    for (site, kept) in report.sites.iter_mut().zip([7 * MIB, 2 * MIB]) {
        site.trapped = Some(Amount::new(kept, 3));
    }
    report
}

/// A line of Python keeps arenas, and so do objects that nobody knows.
pub fn with_arena_pins() -> Report {
    let pins = |trapped_bytes| ArenaPins {
        trapped_bytes,
        drop_bytes: trapped_bytes / 2,
        live: Amount::new(4096, 40),
        arenas: 2,
        ..ArenaPins::default()
    };
    let mut report = with_pins();
    let name = report.pinned_cells[0].name.clone();
    report.arena_pins = Some(ArenaPinsReport {
        arenas: 3,
        trapped_bytes: 3 * MIB,
        is_traced: true,
        places: vec![ArenaPlace { name, pins: pins(2 * MIB), ..ArenaPlace::default() }],
        unowned: pins(MIB),
        ..ArenaPinsReport::default()
    });
    report
}

/// A window that was over at once: no site, no sample, no walk.
pub fn nothing() -> Report {
    let mut input = input(Vec::new(), Vec::new());
    (input.timeline, input.walks) = (Timeline::default(), Walks::default());
    (input.births, input.totals) = (Births::default(), Totals::default());
    (input.sizes, input.lifetimes) = (None, None);
    input.target.allocators.clear();
    input.build()
}

/// As many distinct stacks: walks through a large program's calls, where each function calls a few
/// others.
pub fn many_stacks(count: u64) -> Report {
    let pool: Vec<Arc<Frame>> = (0..FUNCTIONS).map(pooled_frame).collect();
    let mut random = Random(42);
    let mut stack: Vec<u64> = vec![0];
    let mut seen = HashSet::new();
    let mut sites = Vec::new();
    while sites.len() < count as usize {
        stack.truncate(1 + random.below(28) as usize);
        let depth = 20 + random.below(20) as usize;
        while stack.len() < depth {
            let caller = stack[stack.len() - 1];
            stack.push(callee(caller, random.below(CALLEES)));
        }
        if !seen.insert(stack.clone()) {
            continue;
        }
        let frames = stack.iter().rev().map(|function| pool[*function as usize].clone());
        let kept = amount(16 + random.below(1 << 14), 1 + random.below(40));
        let births = [random.below(30), 30 + random.below(30)];
        let births = births.map(|bin| bin as u32);
        sites.push(site(AllocFn::Malloc, frames.collect(), kept, &births));
    }
    input(sites, Vec::new()).build()
}

/// Of the large program.
const FUNCTIONS: u64 = 20_000;

/// How many functions each calls.
const CALLEES: u64 = 12;

fn callee(caller: u64, place: u64) -> u64 {
    Random(caller * CALLEES + place).below(FUNCTIONS)
}

/// A linear congruential generator (Knuth's MMIX): equal numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn pooled_frame(number: u64) -> Arc<Frame> {
    Arc::new(Frame {
        function: format!("service::layer{}::Handler<Request{number}>::process", number % 37),
        module: format!("libservice{}.so", number % 23),
        file: Some(format!("/build/service/src/layer{}/handler_{}.cc", number % 37, number % 900)),
        line: Some(1 + (number % 3000) as u32),
        ..Frame::default()
    })
}

fn amount(bytes: u64, count: u64) -> Amount {
    Amount::new(bytes, count)
}

fn native(function: &str, module: &str, source: Option<(&str, u32)>) -> Arc<Frame> {
    Arc::new(Frame {
        function: function.to_owned(),
        module: module.to_owned(),
        file: source.map(|(file, _)| file.to_owned()),
        line: source.map(|(_, line)| line),
        ..Frame::default()
    })
}

fn python(function: &str, file: &str, line: u32) -> Arc<Frame> {
    Arc::new(Frame {
        function: function.to_owned(),
        module: file.rsplit('/').next().unwrap().to_owned(),
        file: Some(file.to_owned()),
        line: Some(line),
        inlined: false,
        language: Language::Python,
    })
}

/// A site that kept `kept`, in equal parts at the times of `bins`.
fn site(function: AllocFn, frames: Vec<Arc<Frame>>, kept: Amount, bins: &[u32]) -> SiteInput {
    let parts = bins.len() as u64;
    let part = |at: u64| {
        let part = |whole: u64| whole * (at + 1) / parts - whole * at / parts;
        amount(part(kept.bytes), part(kept.count))
    };
    let births: Vec<Birth> =
        bins.iter().zip(0..).map(|(bin, at)| Birth { bin: *bin, amount: part(at) }).collect();
    let age = |bin: u32| u64::from(BINS - bin) * SECOND - SECOND / 2;
    let ages = bins.iter().map(|bin| age(*bin));
    let allocated = amount(kept.bytes * 3, kept.count * 3);
    let block = kept.bytes / kept.count.max(1);
    SiteInput {
        allocator: None,
        function: Some(function),
        stack: NamedStack { frames, missing_root: None },
        stats: SiteStats {
            live: kept,
            allocated,
            freed: amount(kept.bytes * 2, kept.count * 2),
            peak: kept,
        },
        survivors: Survivors {
            amount: kept,
            oldest_age_ns: ages.clone().max().unwrap_or(0),
            median_age_ns: bins.get(bins.len() / 2).map_or(0, |bin| age(*bin)),
            youngest_age_ns: ages.min().unwrap_or(0),
            smallest_bytes: block,
            median_bytes: block,
            largest_bytes: block,
        },
        extras: SiteExtras {
            at_peak: Some(kept),
            temporary: Some(amount(kept.bytes / 2, kept.count / 2)),
            births,
            ..SiteExtras::default()
        },
    }
}

const SERVER: &str = "/srv/app/model_server.py";

fn sites() -> Vec<SiteInput> {
    let base = |caller: &str, line| {
        [
            python(caller, SERVER, line),
            python("handle_request", SERVER, 203),
            python("Server.serve_forever", "/usr/lib/python3.11/socketserver.py", 232),
            python("<module>", SERVER, 240),
            native("Py_RunMain", "python3.11", Some(("/build/python3.11/Modules/main.c", 680))),
            native("Py_BytesMain", "python3.11", Some(("/build/python3.11/Modules/main.c", 734))),
            native("__libc_start_call_main", "libc.so.6", None),
            native("_start", "python3.11", None),
        ]
    };
    let numpy = "_multiarray_umath.cpython-311-x86_64-linux-gnu.so";
    let array = [
        native("PyDataMem_UserNEW", numpy, None),
        native("PyArray_NewFromDescr_int", numpy, None),
        native("array_zeros", numpy, None),
        native("cfunction_call", "python3.11", None),
    ];
    let stack = |leaf: &[Arc<Frame>], line: u32, function: &str, caller: &str, called_at| {
        let mut frames = leaf.to_vec();
        frames.push(python(function, SERVER, line));
        frames.extend(base(caller, called_at));
        frames
    };
    let steps: Vec<u32> = (0..10).map(|step| 2 + step * 6).collect();
    let always: Vec<u32> = (0..BINS).collect();
    let mut sites = vec![
        site(
            AllocFn::Calloc,
            stack(&array, 88, "ModelCache.load_model", "deploy", 101),
            amount(400 * MIB, 40),
            &steps,
        ),
        site(
            AllocFn::Calloc,
            stack(&array, 88, "ModelCache.load_model", "reload", 117),
            amount(100 * MIB, 10),
            &steps,
        ),
        site(
            AllocFn::Malloc,
            stack(
                &[native("deflateInit2_", "libz.so.1.2.13", None), array[3].clone()],
                152,
                "compress_features",
                "predict",
                171,
            ),
            amount(37 * MIB, 148),
            &always,
        ),
        site(
            AllocFn::Realloc,
            stack(
                &[native("PyByteArray_Resize", "python3.11", None)],
                64,
                "RequestLog.append",
                "predict",
                166,
            ),
            amount(21 * MIB, 9_000),
            &always,
        ),
    ];
    for number in 0..40 {
        let leaf = [
            native(
                &format!("tokenizer::Vocabulary::entry<{number}>(std::string_view)"),
                "libtokenizer.so",
                Some(("/src/tokenizer/vocabulary.cc", 40 + number)),
            ),
            native(
                "tokenizer::Encoder::encode",
                "libtokenizer.so",
                Some(("/src/tokenizer/encoder.cc", 311)),
            ),
            array[3].clone(),
        ];
        let kept = amount((3 * MIB) / u64::from(number + 1), u64::from(60 - number));
        let at = [number % 20, 20 + number];
        let frames = stack(&leaf, 130 + number % 5, "tokenize", "predict", 160);
        sites.push(site(AllocFn::Malloc, frames, kept, &at));
    }
    sites
}

fn facts(sites: &[SiteInput]) -> Vec<GroupFacts> {
    let (slots, count) = group_slots(GroupBy::Line, sites);
    let mut facts = vec![GroupFacts::default(); count];
    for (site, slot) in sites.iter().zip(slots) {
        let fact = &mut facts[slot];
        let sum = fact.survivors.amount;
        if site.survivors.amount.bytes > sum.bytes {
            fact.survivors = site.survivors;
            fact.survivors.amount = sum;
        }
        fact.survivors.amount += site.survivors.amount;
        fact.pattern = Some(match site.survivors.amount.bytes / MIB {
            100.. => {
                GrowthPattern::Steps { count: 10, step_bytes: 50 * MIB, interval_ns: 6 * SECOND }
            }
            20.. => {
                GrowthPattern::Steady { bytes_per_s: fact.survivors.amount.bytes / u64::from(BINS) }
            }
            _ => GrowthPattern::Uneven,
        });
    }
    facts
}

fn input(sites: Vec<SiteInput>, groups: Vec<GroupFacts>) -> ReportInput {
    let mut live = Amount::default();
    sites.iter().for_each(|site| live += site.stats.live);
    let heap = SiteStats {
        live,
        allocated: amount(live.bytes * 3, live.count * 3),
        freed: amount(live.bytes * 2, live.count * 2),
        peak: live,
    };
    ReportInput {
        blame: None,
        arena_pins: None,
        pinned_cells: Vec::new(),
        processes: Vec::new(),
        cost: None,
        growth: None,
        place: Default::default(),
        selected: Default::default(),
        sampling: None,
        target: target(),
        window: Window {
            sample_bytes: None,
            started_at: "2026-03-04T02:58:11Z".to_owned(),
            duration_ns: u64::from(BINS) * SECOND,
            ended_by: EndReason::Duration,
            min_age_ns: 0,
            attach_ns: 84_000_000,
            attach_steps: Vec::new(),
            detach_ns: 41_000_000,
        },
        rss: Rss {
            start_bytes: 1200 * MIB,
            end_bytes: 1782 * MIB,
            peak_bytes: 1810 * MIB,
            own_peak_bytes: 31 * MIB,
            start_parts: Some(parts(1150)),
            end_parts: Some(parts(1732)),
            limit_bytes: Some(2048 * MIB),
        },
        timeline: timeline(),
        walks: walks(),
        totals: Totals { heap, unmatched_frees: 12_345, ..Totals::default() },
        sites,
        group_by: GroupBy::Line,
        groups,
        sizes: distribution([1, 64, 512, 4096, 10 * MIB]),
        lifetimes: distribution([210, 3_400, 85_000, 12_000_000, 9 * SECOND]),
        functions: Vec::new(),
        completeness: Completeness { events: 2_470_001, cut_calls: 2, ..Completeness::default() },
        losses: Vec::new(),
        unwind_tables: None,
        view: View::NeverFreed,
        births: Births { bins: BINS, bin_ns: SECOND },
        modules: Vec::new(),
        files: Vec::new(),
    }
}

fn parts(anonymous_mib: u64) -> RssParts {
    RssParts { anonymous_bytes: anonymous_mib * MIB, file_bytes: 49 * MIB, shmem_bytes: MIB }
}

fn distribution([min, p50, p90, p99, max]: [u64; 5]) -> Option<Distribution> {
    Some(Distribution { count: 1_235_573, min, p50, p90, p99, max, mean: p90 as f64 })
}

fn target() -> Target {
    let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    let probe = ProbeReport { function: "malloc".into(), offset: 0, emulated: true };
    Target {
        pid: 4242,
        command: "model-server".to_owned(),
        command_line: ["/usr/bin/python3.11", SERVER, "--port", "8080"].map(str::to_owned).into(),
        executable: "/usr/bin/python3.11".to_owned(),
        allocators: vec![AllocatorReport {
            name: "glibc".to_owned(),
            version: Some("2.36".to_owned()),
            path: libc.to_owned(),
            build_id: None,
            probes: vec![probe],
            ..AllocatorReport::default()
        }],
        threads: 17,
        python: Some(PythonReport {
            version: Some("3.11.2".to_owned()),
            path: "/usr/bin/python3.11".to_owned(),
            refused: None,
        }),
    }
}

/// A deployment every six seconds; a walk of the heap every five.
fn timeline() -> Timeline {
    let sample = |half: u64| {
        let second = half / 2;
        let grown = (second + 4) / 6 * 50 * MIB + second * MIB;
        let walked = half.is_multiple_of(10).then_some(grown);
        TimelineSample {
            at_ns: half * SECOND / 2,
            rss_bytes: 1200 * MIB + grown + if second % 6 == 2 { 28 * MIB } else { 0 },
            rss_peak_bytes: (half == 112).then_some(1810 * MIB),
            live_bytes: Some(grown - second * MIB / 4),
            in_use_bytes: walked.map(|grown| 780 * MIB + grown),
            heap_resident_bytes: walked.map(|grown| 1060 * MIB + grown),
            trapped_bytes: walked.map(|grown| 190 * MIB + grown / 12),
        }
    };
    Timeline {
        samples: (0..=120).map(sample).collect(),
        rss_peak_bytes: 1810 * MIB,
        rss_peak_source: Some(PeakSource::HighWaterMark),
        cgroup_peak_bytes: Some(1900 * MIB),
    }
}

fn arena(index: u32, threads: u64, mib: [u64; 6]) -> Arena {
    let [in_use, trapped, returnable, cached, top, metadata] = mib.map(|it| it * MIB);
    Arena {
        index,
        address: 0x7f00_0000_0030 + u64::from(index) * 0x400_0000,
        attached_threads: Some(threads),
        in_use: amount(in_use, in_use / 900),
        resident: HeapResidency {
            in_use_bytes: in_use,
            trapped_bytes: trapped,
            returnable_bytes: returnable,
            cached_bytes: cached,
            top_bytes: top,
            metadata_bytes: metadata,
            unknown_bytes: 0,
        },
        ..Arena::default()
    }
}

fn census(in_use_mib: u64, trapped_mib: u64) -> Census {
    let arenas = vec![
        arena(0, 1, [in_use_mib - 170, trapped_mib - 74, 22, 3, 9, 1]),
        arena(1, 6, [88, 31, 2, 4, 3, 0]),
        arena(2, 5, [61, 24, 1, 3, 2, 0]),
        arena(3, 5, [18, 12, 1, 2, 1, 0]),
        arena(4, 0, [3, 7, 14, 0, 2, 0]),
    ];
    let rows = [
        (RssKind::InUse, in_use_mib),
        (RssKind::MappedBlocks, 60),
        (RssKind::FreeReturnable, 40),
        (RssKind::FreeTrapped, trapped_mib),
        (RssKind::AllocatorCache, 12),
        (RssKind::Top, 17),
        (RssKind::AllocatorMetadata, 1),
        (RssKind::PymallocInUse, 38),
        (RssKind::PymallocFreeInPools, 6),
        (RssKind::OtherAnonymous, 9),
        (RssKind::File, 49),
    ];
    let row = |(kind, mib): (RssKind, u64)| RssRow { kind, resident_bytes: (mib * MIB) as i64 };
    let heap = GlibcHeap {
        path: "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
        version: Some("2.36".to_owned()),
        arenas,
        mapped: amount(60 * MIB, 6),
        mapped_resident_bytes: 60 * MIB,
        trim_bytes: 57 * MIB,
        parameters: MallocParameters {
            trim_threshold_bytes: 64 * MIB,
            mmap_threshold_bytes: 32 * MIB,
            ..MallocParameters::default()
        },
        ..GlibcHeap::default()
    };
    let pymalloc = PymallocHeap {
        version: "3.11".to_owned(),
        arenas: 44,
        resident: HeapResidency {
            in_use_bytes: 38 * MIB,
            trapped_bytes: 5 * MIB,
            returnable_bytes: MIB,
            ..HeapResidency::default()
        },
        ..PymallocHeap::default()
    };
    Census {
        duration_ns: 21_000_000,
        rss: RssTable {
            rss_bytes: rows.iter().map(|(_, mib)| mib * MIB).sum(),
            rows: rows.map(row).into(),
            huge_bytes: 0,
            swap_bytes: 0,
        },
        glibc: vec![heap],
        pymalloc: vec![pymalloc],
        error_bound_bytes: 2 * MIB,
        ..Census::default()
    }
}

fn walks() -> Walks {
    Walks {
        before: Some(census(780, 190)),
        after: Some(census(1310, 240)),
        at_ns: 60 * SECOND - 40_000_000,
        count: 13,
        cpu_ns: 260_000_000,
        traced_in_use: Some(amount(566 * MIB, 9_300)),
        check: Some(SurvivorCheck { in_use: 9_300, ..SurvivorCheck::default() }),
    }
}
