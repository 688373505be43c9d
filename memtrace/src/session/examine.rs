//! What `memtrace doctor` tells: the same look at a process as an attach, without a probe.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf};

use super::{
    StackMode,
    attach::{AttachError, BPF_LOOP_SINCE, debug_roots, identify, perf_map},
    code::key_of,
    compile::{Opener, with_image},
};
use crate::{
    doctor::{
        AllocatorFacts, Diagnosis, Exception, KernelFacts, ObjectFacts, ProbeFacts, SCHEMA,
        Subject, SymbolFacts, SymbolKind, SymbolOrigin, TableTotals, UnwindFacts, findings,
    },
    elf::{Elf, NameSources},
    model::mapping::{FileId, Mapping},
    probe::{
        error::LoadError,
        load::{Kernel, LoadOptions, RING_BYTES, TableWords},
        plan::{ObjectPlan, PlannedProbe, SiteCost},
        target::{PlannedObject, TargetPlan, plan_target},
        verify::verify,
    },
    symbolize::{
        OpenObject as _,
        debug_file::{DebugRoots, FoundBy, Names},
        perf_map::PerfMap,
    },
    sys::{
        clock,
        kernel::KernelVersion,
        preflight::preflight,
        procfs::{ProcFs, Process, SeccompMode},
    },
    unwind::{
        compile::{CompileStats, compile},
        table::{ObjectKey, Tables},
    },
};

/// A process to look at.
#[derive(Clone, Debug)]
pub struct ExamineOptions {
    /// The process.
    pub pid: NonZeroU32,
    /// Where else debug files are.
    pub debug_dirs: Vec<PathBuf>,
}

/// What was found, and what an attach would have failed with.
pub struct Examination {
    /// For people and programs.
    pub diagnosis: Diagnosis,
    /// The first obstacle.
    pub refusal: Option<AttachError>,
}

/// Looks at a process.
///
/// # Errors
/// When there is no such process to look at, or the caller may not; what only an attach needs is
/// in [`Examination::refusal`].
pub fn examine(options: &ExamineOptions) -> Result<Examination, AttachError> {
    let pid = options.pid.get();
    let proc = ProcFs::new("/proc");
    let process = identify(&proc, pid)?;
    let version = proc.kernel_version().map_err(AttachError::KernelVersion)?;
    let maps = proc.maps(pid)?;
    let roots = debug_roots(&proc, pid, &options.debug_dirs)?;
    let mut perf_map = perf_map(&proc, &process);
    perf_map.read();
    let hazard = preflight(&process, version).err();
    let plan = plan_target(&proc, pid, &maps, version);
    let kernel = try_kernel(options.pid, version);
    let facts = kernel_facts(version, hazard.is_some(), &kernel);
    let (planned, left_out, unplanned) = match plan {
        Ok(TargetPlan { objects, left_out, .. }) => (objects, left_out, None),
        Err(error) => (Vec::new(), Vec::new(), Some(error)),
    };
    let mismatch = planned.iter().find_map(|it| verify(&it.plan, &it.file, pid, &proc).err());
    let refusals: Vec<AttachError> = [
        hazard.map(AttachError::from),
        unplanned.map(AttachError::from),
        kernel.err().map(AttachError::from),
        mismatch.map(AttachError::from),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut survey = Survey::new(&proc, pid, &roots);
    survey.look_at(&maps);
    let mut diagnosis = Diagnosis {
        schema: SCHEMA,
        traceable: refusals.is_empty(),
        obstacles: refusals.iter().map(AttachError::to_string).collect(),
        target: subject(process),
        kernel: facts,
        allocators: planned.iter().map(allocator).collect(),
        left_out: left_out
            .into_iter()
            .map(|left| Exception { name: left.path, reason: left.reason })
            .collect(),
        totals: survey.totals(),
        objects: survey.objects.into_iter().map(|it| with_map(it, &perf_map)).collect(),
        findings: Vec::new(),
    };
    diagnosis.findings = findings(&diagnosis);
    Ok(Examination { diagnosis, refusal: refusals.into_iter().next() })
}

/// Creates the maps and loads a program, as an attach would; whether there are multi-uprobe links.
fn try_kernel(pid: NonZeroU32, version: KernelVersion) -> Result<bool, LoadError> {
    let kernel = Kernel::load(LoadOptions {
        pid,
        ring_bytes: *RING_BYTES.start() as u32,
        stacks: StackMode::Off,
        bpf_loop: version >= BPF_LOOP_SINCE,
        table_words: TableWords::default(),
        debug_log: false,
        perf_event_links: false,
    })?;
    Ok(kernel.has_multi_uprobe_links())
}

fn kernel_facts(
    version: KernelVersion,
    seccomp_hazard: bool,
    tried: &Result<bool, LoadError>,
) -> KernelFacts {
    KernelFacts {
        version: version.to_string(),
        uprobes: !matches!(tried, Err(LoadError::NoUprobes { .. })),
        bpf_permitted: match tried {
            Ok(_) => Some(true),
            Err(LoadError::Permission { .. }) => Some(false),
            Err(_) => None,
        },
        multi_uprobe_links: tried.as_ref().ok().copied(),
        bpf_loop: version >= BPF_LOOP_SINCE,
        seccomp_hazard,
    }
}

fn subject(process: Process) -> Subject {
    Subject {
        pid: process.pid,
        command: process.command,
        command_line: process.command_line,
        executable: process.executable,
        threads: process.threads,
        resident_bytes: process.resident_bytes,
        seccomp_filter: process.seccomp == SeccompMode::Filter,
    }
}

fn allocator(object: &PlannedObject) -> AllocatorFacts {
    let ObjectPlan { mapping, allocator, version, build_id, probes, skipped, notes } =
        object.plan.clone();
    AllocatorFacts {
        name: allocator.name().to_owned(),
        version,
        path: mapping.name,
        build_id: build_id.map(|id| hex(&id)),
        probes: probes.iter().map(probe).collect(),
        skipped: skipped
            .into_iter()
            .map(|(function, reason)| Exception { name: function.name().to_owned(), reason })
            .collect(),
        notes,
    }
}

fn probe(probe: &PlannedProbe) -> ProbeFacts {
    ProbeFacts {
        function: probe.function.name(),
        aliases: probe.aliases.iter().map(|function| function.name()).collect(),
        offset: probe.site_offset,
        emulated: probe.cost == SiteCost::Emulated,
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What two executable mappings of one object have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    File(FileId),
    Memory(String),
}

impl Identity {
    fn of(mapping: &Mapping) -> Self {
        match mapping.file {
            Some(file) => Self::File(file),
            None => Self::Memory(mapping.name.clone()),
        }
    }
}

/// Goes through the executable mappings, object by object.
struct Survey<'a> {
    opener: Opener<'a>,
    roots: &'a DebugRoots,
    tables: Tables,
    build_ns: u64,
    objects: Vec<ObjectFacts>,
}

impl<'a> Survey<'a> {
    fn new(proc: &'a ProcFs, pid: u32, roots: &'a DebugRoots) -> Self {
        let tables = Tables::new(super::code::LIMITS);
        Self { opener: Opener { proc, pid }, roots, tables, build_ns: 0, objects: Vec::new() }
    }

    /// Leaves the objects sorted by the length of their code.
    fn look_at(&mut self, maps: &[Mapping]) {
        let mut by_object: BTreeMap<Identity, Vec<&Mapping>> = BTreeMap::new();
        for mapping in maps.iter().filter(|mapping| mapping.permissions.execute) {
            by_object.entry(Identity::of(mapping)).or_default().push(mapping);
        }
        self.objects = by_object.values().filter_map(|mappings| self.object(mappings)).collect();
        self.objects.sort_by(|a, b| (b.text_bytes, &a.path).cmp(&(a.text_bytes, &b.path)));
    }

    fn object(&mut self, mappings: &[&Mapping]) -> Option<ObjectFacts> {
        let first = *mappings.first()?;
        let file = first.file.and_then(|_| self.opener.open(first).ok());
        let names = file.as_ref().map(|file| self.roots.names(file, &first.name));
        Some(ObjectFacts {
            path: if first.name.is_empty() { "[anon]".to_owned() } else { first.name.clone() },
            deleted: first.deleted,
            build_id: self.build_id(first),
            text_bytes: mappings.iter().map(|mapping| mapping.end - mapping.start).sum(),
            unwind: self.unwind(first),
            symbols: symbols(names.unwrap_or_default()),
        })
    }

    fn build_id(&self, mapping: &Mapping) -> Option<String> {
        let id = |image: &[u8]| Some(Elf::parse(image).ok()?.build_id()?.id);
        key_of(mapping).and_then(|_| with_image(&self.opener, mapping, id).ok()?).map(|id| hex(&id))
    }

    fn unwind(&mut self, mapping: &Mapping) -> UnwindFacts {
        let Some(key) = key_of(mapping) else { return without_rows(why_no_file(mapping)) };
        let begun = clock::monotonic_ns();
        let facts = match with_image(&self.opener, mapping, compile) {
            Ok(Ok(rows)) => self.add(key, &rows),
            Ok(Err(error)) => without_rows(&error.to_string()),
            Err(error) => without_rows(&format!("it cannot be read: {error}")),
        };
        self.build_ns += clock::monotonic_ns().saturating_sub(begun);
        facts
    }

    fn add(&mut self, key: ObjectKey, rows: &crate::unwind::compile::ObjectRows) -> UnwindFacts {
        let before = self.tables.size_bytes();
        match self.tables.add_object(key, rows) {
            Ok(_) => with_rows(&rows.stats, (self.tables.size_bytes() - before) as u64),
            Err(error) => without_rows(&error.to_string()),
        }
    }

    fn totals(&self) -> TableTotals {
        TableTotals {
            text_bytes: self.objects.iter().map(|object| object.text_bytes).sum(),
            rows: self.objects.iter().map(|object| object.unwind.rows).sum(),
            table_bytes: self.tables.size_bytes() as u64,
            build_ns: self.build_ns,
        }
    }
}

fn with_rows(stats: &CompileStats, table_bytes: u64) -> UnwindFacts {
    UnwindFacts {
        rows: stats.rows,
        table_bytes,
        functions: stats.fdes,
        unsupported_functions: stats.unsupported_fdes,
        unsupported: stats.unsupported.clone(),
        missing: (stats.rows == 0)
            .then(|| "its unwind information describes no function".to_owned()),
    }
}

fn without_rows(reason: &str) -> UnwindFacts {
    UnwindFacts { missing: Some(reason.to_owned()), ..UnwindFacts::default() }
}

fn why_no_file(mapping: &Mapping) -> &'static str {
    match mapping.name.as_str() {
        "[vsyscall]" | "[uprobes]" => "it is the kernel's own",
        _ => "its code was generated at run time",
    }
}

fn symbols(names: Names) -> SymbolFacts {
    let own = SymbolFacts { origin: Some(SymbolOrigin::Embedded), ..facts(names.own) };
    let beside = names.beside.map(|file| SymbolFacts {
        origin: Some(match file.found_by {
            FoundBy::BuildId => SymbolOrigin::BuildId,
            FoundBy::DebugLink => SymbolOrigin::DebugLink,
        }),
        path: Some(file.path.to_string_lossy().into_owned()),
        ..facts(file.sources)
    });
    match beside {
        Some(beside) if beside.kind > own.kind => beside,
        _ if own.kind == SymbolKind::None => SymbolFacts::default(),
        _ => own,
    }
}

/// Generated code is named by the map that its compiler writes, if it does.
fn with_map(mut object: ObjectFacts, perf_map: &PerfMap) -> ObjectFacts {
    if let Some(path) = perf_map.path().filter(|_| object.is_generated()) {
        let path = Some(path.to_string_lossy().into_owned());
        object.symbols = SymbolFacts { kind: SymbolKind::PerfMap, origin: None, path };
    }
    object
}

fn facts(sources: NameSources) -> SymbolFacts {
    let kind = match sources {
        NameSources { debug_info: true, lines: true, .. } => SymbolKind::Lines,
        NameSources { debug_info: true, .. } => SymbolKind::DebugInfo,
        NameSources { symtab: true, .. } => SymbolKind::Functions,
        NameSources { dynsym: true, .. } => SymbolKind::Exported,
        _ => SymbolKind::None,
    };
    SymbolFacts { kind, ..SymbolFacts::default() }
}
