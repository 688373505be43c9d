//! Diagnoses for the tests of findings and renderers.

use std::collections::BTreeMap;

use crate::model::{
    cost::{Cost, Expected},
    place::Place,
    trace::Host,
};

use super::{
    AllocatorFacts, Diagnosis, Exception, KernelFacts, LockdownFacts, ObjectFacts, ProbeFacts,
    PythonFacts, SCHEMA, Subject, SymbolFacts, SymbolKind, SymbolOrigin, TableTotals, UnwindFacts,
    findings,
};

fn object(path: &str, text_bytes: u64, kind: SymbolKind, unwind: UnwindFacts) -> ObjectFacts {
    let origin = (kind != SymbolKind::None).then_some(SymbolOrigin::Embedded);
    let symbols = SymbolFacts { kind, origin, path: None };
    ObjectFacts { path: path.to_owned(), text_bytes, unwind, symbols, ..ObjectFacts::default() }
}

fn rows(rows: u64) -> UnwindFacts {
    UnwindFacts { rows, table_bytes: rows * 4 + 2000, functions: rows / 2, ..Default::default() }
}

fn no_rows(reason: &str) -> UnwindFacts {
    UnwindFacts { missing: Some(reason.to_owned()), ..UnwindFacts::default() }
}

fn probe(function: &'static str, offset: u64, emulated: bool) -> ProbeFacts {
    ProbeFacts { function, aliases: Vec::new(), offset, emulated }
}

fn cost() -> Cost {
    let expected = Expected {
        counted_ns: 200_000_000,
        calls_per_second: 41_000.0,
        target_cpus: 0.5,
        exact_cpus: 0.06,
        exact_overhead: 0.14,
        overhead: 0.08,
    };
    Cost {
        max_overhead: Some(0.1),
        expected: Some(expected),
        setting: Some("a sample every 16.0 KiB".to_owned()),
        ..Cost::default()
    }
}

/// Everything is there.
pub(crate) fn whole() -> Diagnosis {
    let mut libc = object("/usr/lib/libc.so.6", 1_396_736, SymbolKind::Lines, rows(5131));
    libc.build_id = Some("82ce4e6e4ef08fa58a3535f7437bd3e592db5ac0".to_owned());
    libc.symbols.origin = Some(SymbolOrigin::BuildId);
    libc.symbols.path =
        Some("/usr/lib/debug/.build-id/82/ce4e6e4ef08fa58a3535f7437bd3e592db5ac0.debug".to_owned());
    Diagnosis {
        schema: SCHEMA,
        traceable: true,
        obstacles: Vec::new(),
        place: None,
        target: Some(Subject {
            pid: 4242,
            command: "shop-worker".to_owned(),
            command_line: vec!["/srv/shop-worker".to_owned(), "--listen".to_owned()],
            executable: "/srv/shop-worker".to_owned(),
            threads: 9,
            resident_bytes: 512 << 20,
            seccomp_filter: false,
        }),
        kernel: KernelFacts {
            version: "6.18".to_owned(),
            release: "6.18.3-amd64".to_owned(),
            btf: true,
            jit: Some(true),
            counts_instructions: true,
            tracefs: Some("/sys/kernel/tracing".to_owned()),
            uprobes: true,
            bpf_permitted: Some(true),
            multi_uprobe_links: Some(true),
            bpf_loop: true,
            ..KernelFacts::default()
        },
        allocators: vec![AllocatorFacts {
            name: "glibc".to_owned(),
            version: Some("2.36".to_owned()),
            symbol_prefix: String::new(),
            path: "/usr/lib/libc.so.6".to_owned(),
            build_id: libc.build_id.clone(),
            probes: vec![
                probe("malloc", 0, true),
                ProbeFacts { aliases: vec!["aligned_alloc"], ..probe("memalign", 4, true) },
                probe("free", 7, true),
            ],
            skipped: Vec::new(),
            notes: Vec::new(),
        }],
        left_out: Vec::new(),
        growth_probes: Some(18),
        python: None,
        objects: vec![
            libc,
            object("/srv/shop-worker", 802_816, SymbolKind::Lines, rows(1900)),
            object("[vdso]", 8192, SymbolKind::None, rows(12)),
        ],
        totals: TableTotals {
            text_bytes: 2_207_744,
            rows: 7043,
            table_bytes: 34_172,
            build_ns: 3_400_000,
        },
        cost: Some(cost()),
        not_counted: None,
        findings: Vec::new(),
    }
}

/// Something of everything is missing, but it can be traced.
pub(crate) fn lacking() -> Diagnosis {
    let mut diagnosis = whole();
    let mut crypto =
        object("/usr/lib/libcrypto.so.3", 2_490_368, SymbolKind::DebugInfo, rows(14_926));
    crypto.unwind.unsupported_functions = 660;
    crypto.unwind.unsupported = BTreeMap::from([("CFA in another register", 700)]);
    let mut python = object("/usr/bin/python3.11", 2_818_048, SymbolKind::Exported, rows(12_536));
    python.deleted = true;
    let libc = &mut diagnosis.objects[0];
    libc.symbols = SymbolFacts {
        kind: SymbolKind::Functions,
        origin: Some(SymbolOrigin::DebugLink),
        path: Some("/srv/symbols/libc.so.6.debug".to_owned()),
    };
    let hand = no_rows("it has no unwind information");
    let jit = no_rows("its code was generated at run time");
    diagnosis.objects.extend([
        object("/opt/lib/libhand.so", 40_960, SymbolKind::None, hand),
        object("[anon]", 131_072, SymbolKind::None, jit),
    ]);
    diagnosis.objects.splice(0..0, [python, crypto]);
    let exception =
        |name: &str, reason: &str| Exception { name: name.to_owned(), reason: reason.to_owned() };
    diagnosis.allocators[0].probes[0].emulated = false;
    diagnosis.allocators[0].skipped =
        vec![exception("pvalloc", "its code is not mapped into the process")];
    diagnosis.allocators[0].notes = vec!["operator new and delete are not traced".to_owned()];
    diagnosis.python = Some(PythonFacts {
        version: Some("3.13".to_owned()),
        path: "/usr/lib/libpython3.13t.so.1.0".to_owned(),
        refused: Some("it is a free-threaded build".to_owned()),
    });
    diagnosis.left_out = vec![exception("/opt/lib/libodd.so", "its .eh_frame is compressed")];
    diagnosis.kernel = KernelFacts {
        multi_uprobe_links: Some(false),
        release: "6.6.31-0-virt".to_owned(),
        version: "6.6".to_owned(),
        btf: false,
        jit: Some(false),
        counts_instructions: false,
        profiler_hazard: true,
        ..diagnosis.kernel
    };
    diagnosis.place = Some(Place::new(
        Host::default(),
        "/docker/4f2a9c0d1e3b5a7c9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f",
        Some(1 << 30),
    ));
    diagnosis.findings = findings(&diagnosis);
    diagnosis
}

/// It cannot be traced, and nobody may look closer.
pub(crate) fn refused() -> Diagnosis {
    let mut diagnosis = whole();
    diagnosis.traceable = false;
    diagnosis.cost = None;
    diagnosis.obstacles =
        vec!["the kernel refused creating a map: permission denied\n  run memtrace as root".into()];
    diagnosis.kernel.bpf_permitted = Some(false);
    diagnosis.kernel.multi_uprobe_links = None;
    diagnosis.kernel.lockdown = LockdownFacts::Confidentiality;
    diagnosis.kernel.lacking_rights = vec![Exception {
        name: "CAP_BPF".to_owned(),
        reason: "load BPF programs and create their maps".to_owned(),
    }];
    diagnosis.findings = findings(&diagnosis);
    diagnosis
}

/// Only the machine was looked at.
pub(crate) fn machine() -> Diagnosis {
    Diagnosis {
        target: None,
        allocators: Vec::new(),
        objects: Vec::new(),
        totals: TableTotals::default(),
        cost: None,
        growth_probes: None,
        ..whole()
    }
}
