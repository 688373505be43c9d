//! Looks for golden files.

use super::{Cost, Inspection, KernelStatement, SCHEMA, Subject, Summary, verdict_of};
use crate::model::{
    arena_map::ArenaMap,
    census::{
        Arena, Census, GlibcHeap, HeapResidency, MallocParameters, MuslHeap, OpaqueAllocator,
        PymallocHeap, Refusal, RssKind, RssRow, RssTable, WalkQuality,
    },
    site::Amount,
};

const MIB: u64 = 1 << 20;

fn inspection(census: Census) -> Inspection {
    Inspection {
        schema: SCHEMA,
        taken_at: "2026-03-01T12:00:00Z".to_owned(),
        target: Subject {
            pid: 4242,
            command: "pusher".to_owned(),
            command_line: vec!["python3".to_owned(), "pusher.py".to_owned()],
            executable: "/usr/bin/python3.11".to_owned(),
            threads: 9,
        },
        kernel: KernelStatement {
            rss_bytes: census.rss.rss_bytes,
            peak_rss_bytes: census.rss.rss_bytes + 20 * MIB,
            lazy_free_bytes: 0,
            zero_bytes: Some(8192),
        },
        summary: Summary { live_stacks: 8, cached_stacks: 2, ..Summary::of(&census) },
        verdict: verdict_of(&census),
        census,
        cost: Cost { cpu_ns: 41_000_000 },
    }
}

fn arena(index: u32, attached: u64, in_use: u64, trapped: u64) -> Arena {
    let resident = HeapResidency {
        in_use_bytes: in_use * MIB,
        returnable_bytes: 2 * MIB,
        trapped_bytes: trapped * MIB,
        cached_bytes: MIB,
        top_bytes: MIB,
        metadata_bytes: 4096,
        unknown_bytes: 0,
    };
    Arena {
        index,
        address: 0x7f00_0000_0030 + (u64::from(index) << 26),
        attached_threads: Some(attached),
        system_bytes: (in_use + trapped + 6) * MIB,
        max_system_bytes: (in_use + trapped + 9) * MIB,
        segments: 1 + index,
        in_use: Amount::new(in_use * MIB, in_use * 9000),
        in_use_sizes: Default::default(),
        free: Amount::new((trapped + 3) * MIB, trapped * 700),
        top_bytes: MIB,
        fastbins: Amount::new(640, 10),
        tcache: Amount::new(MIB - 640, 210),
        overhead_bytes: 4096,
        resident,
        map: ArenaMap::default(),
        quality: WalkQuality::default(),
    }
}

fn rows(rows: &[(RssKind, u64)], remainder: i64) -> RssTable {
    let mut rows: Vec<_> = rows
        .iter()
        .map(|(kind, bytes)| RssRow { kind: *kind, resident_bytes: *bytes as i64 })
        .collect();
    if remainder != 0 {
        rows.push(RssRow { kind: RssKind::Remainder, resident_bytes: remainder });
    }
    let sum: i64 = rows.iter().map(|row| row.resident_bytes).sum();
    RssTable { rss_bytes: sum as u64, rows, huge_bytes: 4 * MIB, swap_bytes: 3 * MIB }
}

/// Incident 2: more free and trapped than in use.
pub(crate) fn fragmented() -> Inspection {
    let glibc = GlibcHeap {
        path: "/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned(),
        version: Some("2.36".to_owned()),
        arenas: vec![arena(0, 1, 200, 105), arena(1, 5, 60, 160), arena(2, 0, 10, 40)],
        mapped: Amount::new(10 * MIB, 3),
        mapped_resident_bytes: 9 * MIB,
        mapped_stated_bytes: 10 * MIB,
        error_bound_bytes: 0,
        parameters: MallocParameters {
            trim_threshold_bytes: 4 * MIB,
            top_pad_bytes: 128 << 10,
            mmap_threshold_bytes: 2 * MIB,
            arena_max: 0,
            tcache_count: Some(7),
        },
        trim_bytes: 6 * MIB,
    };
    let pymalloc = PymallocHeap {
        version: "3.11".to_owned(),
        arena_bytes: MIB,
        pool_bytes: 16 << 10,
        arenas: 30,
        resident: HeapResidency {
            in_use_bytes: 25 * MIB,
            trapped_bytes: 3 * MIB,
            returnable_bytes: MIB,
            ..HeapResidency::default()
        },
        ..PymallocHeap::default()
    };
    let rss = rows(
        &[
            (RssKind::InUse, 270 * MIB),
            (RssKind::MappedBlocks, 9 * MIB),
            (RssKind::FreeReturnable, 6 * MIB),
            (RssKind::FreeTrapped, 305 * MIB),
            (RssKind::AllocatorCache, 3 * MIB),
            (RssKind::Top, 3 * MIB),
            (RssKind::AllocatorMetadata, 12_288),
            (RssKind::PymallocInUse, 25 * MIB),
            (RssKind::PymallocFreeInPools, 3 * MIB),
            (RssKind::PymallocFreePools, MIB),
            (RssKind::ThreadStacks, 300 << 10),
            (RssKind::OtherAnonymous, 2 * MIB),
            (RssKind::PrivateFile, 3 * MIB),
            (RssKind::File, 12 * MIB),
        ],
        0,
    );
    inspection(Census {
        duration_ns: 58_000_000,
        rss,
        glibc: vec![glibc],
        pymalloc: vec![pymalloc],
        error_bound_bytes: 0,
        ..Census::default()
    })
}

/// A process that changes while it is looked at, with parts that cannot be looked into.
pub(crate) fn incomplete() -> Inspection {
    let rss = rows(
        &[
            (RssKind::HeapUnknown, 2 * MIB),
            (RssKind::CachedStacks, 64 << 10),
            (RssKind::OpaqueAllocator, 500 * MIB),
            (RssKind::Shmem, MIB),
        ],
        -40_960,
    );
    let mut look = inspection(Census {
        duration_ns: 1_200_000_000,
        rss,
        musl: vec![MuslHeap { path: "/lib/ld-musl-x86_64.so.1".to_owned(), ..Default::default() }],
        opaque: vec![OpaqueAllocator {
            name: "jemalloc".to_owned(),
            path: "/usr/lib/libjemalloc.so.2".to_owned(),
        }],
        refusals: vec![Refusal {
            part: "glibc".to_owned(),
            reason:
                "/opt/libc.so.6 has no main arena that is understood; please report its version"
                    .to_owned(),
        }],
        error_bound_bytes: 300 << 10,
        ..Census::default()
    });
    look.kernel.zero_bytes = None;
    look.kernel.lazy_free_bytes = 7 * MIB;
    look
}
