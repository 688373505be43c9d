//! The executable objects of a process: what stacks pass through them by, and what names them.

use std::collections::BTreeMap;

use super::hex;
use crate::{
    doctor::{ObjectFacts, SymbolFacts, SymbolKind, SymbolOrigin, TableTotals, UnwindFacts},
    elf::{Elf, NameSources},
    model::mapping::{FileId, Mapping},
    session::{
        code::{LIMITS, key_of},
        compile::{Opener, with_image},
    },
    symbolize::{
        OpenObject as _,
        debug_file::{DebugRoots, FoundBy, Names},
        perf_map::PerfMap,
    },
    sys::{clock, procfs::ProcFs},
    unwind::{
        compile::{CompileStats, ObjectRows, compile},
        table::{ObjectKey, Tables},
    },
};

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
pub(super) struct Survey<'a> {
    opener: Opener<'a>,
    roots: &'a DebugRoots,
    tables: Tables,
    build_ns: u64,
    pub(super) objects: Vec<ObjectFacts>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(proc: &'a ProcFs, pid: u32, roots: &'a DebugRoots) -> Self {
        let tables = Tables::new(LIMITS);
        Self { opener: Opener { proc, pid }, roots, tables, build_ns: 0, objects: Vec::new() }
    }

    /// Leaves the objects sorted by the length of their code.
    pub(super) fn look_at(&mut self, maps: &[Mapping]) {
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

    fn add(&mut self, key: ObjectKey, rows: &ObjectRows) -> UnwindFacts {
        let before = self.tables.size_bytes();
        match self.tables.add_object(key, rows) {
            Ok(_) => with_rows(&rows.stats, (self.tables.size_bytes() - before) as u64),
            Err(error) => without_rows(&error.to_string()),
        }
    }

    pub(super) fn totals(&self) -> TableTotals {
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
pub(super) fn with_map(mut object: ObjectFacts, perf_map: &PerfMap) -> ObjectFacts {
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
        // blazesym without its feature `xz` gives up on the whole file, exported names included.
        NameSources { mini_debug_info: true, .. } => SymbolKind::None,
        NameSources { dynsym: true, .. } => SymbolKind::Exported,
        _ => SymbolKind::None,
    };
    SymbolFacts { kind, ..SymbolFacts::default() }
}
