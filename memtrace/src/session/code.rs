//! The target's code: the tables that the kernel side walks stacks by, and the files that name
//! what it finds. Both are kept up with the target's mappings.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use super::{
    Options, StackMode,
    compile::{Compiled, Effort, Opener, VDSO, compile_all},
    examine::hex,
};

use crate::{
    elf::Elf,
    model::{
        mapping::{FileId, Mapping},
        stack::{Frame, NamedStack, RawStack, StackId},
        trace::Module,
    },
    probe::{
        error::LoadError,
        load::{Kernel, Room, TableWords},
    },
    report::UnwindTables,
    symbolize::{Observed, Symbolizer},
    sys::{mapped::MappedFile, procfs::ProcFs},
    unwind::{
        compile::{CompileError, Wanted},
        mappings::code_mappings,
        table::{Limits, ObjectKey, ObjectRef, Tables},
    },
};

/// Most unwind rows, far beyond the largest programs.
const MAX_ROWS: usize = 64 << 20;
/// Most pages of code with rows: 16 GiB of code.
const MAX_PAGES: usize = 16 << 20;
/// Room in the tables of one target.
pub(super) const LIMITS: Limits = Limits { rows: MAX_ROWS, pages: MAX_PAGES, ..Limits::DEFAULT };
/// Room for rows of libraries that the target loads later: a program that is run has loaded nothing yet,
/// and Polars alone, 120 MB of code, takes 110,000. 1 MiB.
const SPARE_ROWS: usize = 256 << 10;
/// Room for their pages, of 1 KiB: 512 MB of code. 2 MiB.
const SPARE_PAGES: usize = 512 << 10;
/// All code has eight times the rows of calls; as much again would be more memory than it is worth.
const ROWS_OF_ALL_CODE: usize = 4;
/// Where memory runs short, libraries that are loaded later have as much less room.
const SCARCE: usize = 4;

/// The tables that the kernel side walks stacks by.
pub(super) struct CodeTables {
    tables: Tables,
    /// Objects that have been looked at, with or without success.
    seen: HashMap<ObjectKey, bool>,
    walk_by_tables: bool,
    wanted: Wanted,
    room: Room,
    text_bytes: u64,
    build_ns: u64,
    /// An object found no room in the kernel's tables.
    is_full: bool,
    notes: Vec<String>,
}

impl CodeTables {
    /// Knows no code yet.
    pub(super) fn of(options: &Options) -> Self {
        let mut code = Self::new(options.stacks == StackMode::Tables);
        code.room = options.room;
        if options.growth.is_some() { code.everywhere() } else { code }
    }

    /// Knows no code; makes tables only if stacks are to be walked by them.
    pub(super) fn new(walk_by_tables: bool) -> Self {
        Self {
            tables: Tables::new(LIMITS),
            seen: HashMap::new(),
            walk_by_tables,
            wanted: Wanted::Calls,
            room: Room::Ample,
            text_bytes: 0,
            build_ns: 0,
            is_full: false,
            notes: Vec::new(),
        }
    }

    /// Makes rows for all code, not for calls alone.
    fn everywhere(mut self) -> Self {
        self.wanted = Wanted::Everywhere;
        self
    }

    /// Takes up the code in these mappings.
    pub(super) fn add(&mut self, proc: &ProcFs, pid: u32, maps: &[Mapping]) {
        self.add_with(proc, pid, maps, &Effort::FULL);
    }

    /// The same with so much effort; small objects come first, so that most of them are there where it
    /// does not suffice for all.
    pub(super) fn add_with(
        &mut self,
        proc: &ProcFs,
        pid: u32,
        maps: &[Mapping],
        effort: &Effort<'_>,
    ) {
        if !self.walk_by_tables {
            return;
        }
        let begun = Instant::now();
        let mut unseen = self.unseen(maps);
        unseen.sort_by_key(|(mapping, _)| mapping.end - mapping.start);
        // Where memory counts, one after the other: what is not laid out yet takes four times the room.
        let at_once = if effort.threads == 1 { 1 } else { unseen.len().max(1) };
        for objects in unseen.chunks(at_once) {
            let compiled = compile_all(&Opener { proc, pid }, objects, self.wanted, effort);
            for ((mapping, key), compiled) in objects.iter().zip(compiled) {
                self.take_rows(mapping, key, compiled, effort);
            }
        }
        self.build_ns += begun.elapsed().as_nanos() as u64;
    }

    fn take_rows(
        &mut self,
        mapping: &Mapping,
        key: &ObjectKey,
        compiled: Compiled,
        effort: &Effort<'_>,
    ) {
        let was_stopped = matches!(compiled, Ok(Err(CompileError::Stopped)));
        if was_stopped && effort.can_be_resumed {
            return;
        }
        if was_stopped {
            self.notes.push(format!(
                "stacks are walked by frame pointers in {}, and may end there: there was no time to \
                 compile its unwind tables",
                mapping.name
            ));
        }
        let added = self.add_rows(mapping, key.clone(), compiled);
        self.seen.insert(key.clone(), added);
    }

    /// The kernel's tables are of this size from here on; what does not fit is left out.
    pub(super) fn limit(&mut self, words: TableWords) {
        self.tables.limit(Limits { rows: words.rows, pages: words.pages, ..LIMITS });
    }

    /// What another trace can begin with: all objects with rows. Others are looked at again, as there may
    /// not have been time for them.
    fn for_another_trace(mut self) -> Self {
        self.tables.forget_uploaded(LIMITS);
        self.seen.retain(|_, has_rows| *has_rows);
        self.notes.clear();
        self.build_ns = 0;
        self
    }

    /// Whether something was left out for want of room.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// A mapping of each object with code that has not been looked at.
    fn unseen<'m>(&self, maps: &'m [Mapping]) -> Vec<(&'m Mapping, ObjectKey)> {
        let mut unseen: Vec<(&Mapping, ObjectKey)> = Vec::new();
        let mut found = HashSet::new();
        for mapping in maps.iter().filter(|mapping| mapping.permissions.execute) {
            let Some(key) = key_of(mapping) else { continue };
            if !self.seen.contains_key(&key) && found.insert(key.clone()) {
                unseen.push((mapping, key));
            }
        }
        unseen
    }

    /// Adds the rows of a mapping's object; code without rows is walked by frame pointers.
    fn add_rows(&mut self, mapping: &Mapping, key: ObjectKey, compiled: Compiled) -> bool {
        let rows = match compiled {
            Ok(Ok(rows)) => rows,
            Ok(Err(error)) => {
                log::debug!("no unwind rows for {}: {error}", mapping.name);
                return false;
            }
            Err(error) => {
                log::debug!("cannot read {}: {error}", mapping.name);
                return false;
            }
        };
        if let Err(error) = self.tables.add_object(key, &rows) {
            self.is_full = true;
            self.notes.push(format!("stacks end in {}: {error}", mapping.name));
            return false;
        }
        self.text_bytes += rows.stats.text_bytes;
        true
    }

    /// How large the tables are; `None` where stacks are not walked by them.
    pub(super) fn table_sizes(&self) -> Option<UnwindTables> {
        let with_rows = self.seen.values().filter(|has_rows| **has_rows).count();
        self.walk_by_tables.then(|| UnwindTables {
            objects: with_rows as u64,
            objects_without_rows: (self.seen.len() - with_rows) as u64,
            text_bytes: self.text_bytes,
            rows: self.tables.rows().len() as u64,
            pages: self.tables.index().len() as u64,
            rules: self.tables.rules().len() as u64,
            size_bytes: self.tables.size_bytes() as u64,
            build_ns: self.build_ns,
        })
    }

    /// How large the kernel's tables have to be, with room for what is loaded later.
    pub(super) fn table_words(&self) -> TableWords {
        if !self.walk_by_tables {
            return TableWords::default();
        }
        let part = if self.room == Room::Scarce { SCARCE } else { 1 };
        let rows_of_code = if self.wanted == Wanted::Everywhere { ROWS_OF_ALL_CODE } else { 1 };
        TableWords {
            rows: self.tables.rows().len() + SPARE_ROWS * rows_of_code / part,
            pages: self.tables.index().len() + SPARE_PAGES / part,
        }
    }

    /// Brings the kernel's tables up to date, the mappings last.
    pub(super) fn publish(
        &mut self,
        kernel: &mut Kernel,
        maps: &[Mapping],
    ) -> Result<(), LoadError> {
        if !self.walk_by_tables {
            return Ok(());
        }
        let dirty = self.tables.dirty_chunks();
        for (number, words) in &dirty.rows {
            kernel.write_rows(*number, words)?;
        }
        for (number, words) in &dirty.index {
            kernel.write_pages(*number, words)?;
        }
        let (first, rules) = dirty.rules;
        kernel.write_rules(first, rules)?;
        self.tables.mark_uploaded();
        let (mappings, left_out) = code_mappings(maps, |mapping| self.object(mapping));
        if left_out > 0 {
            self.notes.push(format!(
                "stacks end in {left_out} of the target's executable mappings: there are too many"
            ));
        }
        kernel.publish_mappings(&mappings)
    }

    fn object(&self, mapping: &Mapping) -> Option<&ObjectRef> {
        self.tables.object(&key_of(mapping)?)
    }
}

/// See the module.
pub(super) struct Code {
    symbolizer: Symbolizer,
    tables: CodeTables,
}

impl Code {
    /// The tables, for another trace.
    pub(super) fn into_tables(self) -> CodeTables {
        self.tables.for_another_trace()
    }

    /// Names what is in these tables.
    pub(super) fn new(tables: CodeTables, symbolizer: Symbolizer) -> Self {
        Self { symbolizer, tables }
    }

    /// Takes up the names of the code in these mappings.
    pub(super) fn add_names(&mut self, proc: &ProcFs, pid: u32, maps: &[Mapping]) {
        self.symbolizer.add_mappings(maps, &Opener { proc, pid });
    }

    /// Takes up the code in these mappings.
    pub(super) fn add(&mut self, proc: &ProcFs, pid: u32, maps: &[Mapping]) {
        self.add_names(proc, pid, maps);
        self.tables.add(proc, pid, maps);
    }

    /// How large the tables are; `None` where stacks are not walked by them.
    pub(super) fn table_sizes(&self) -> Option<UnwindTables> {
        self.tables.table_sizes()
    }

    /// Brings the kernel's tables up to date, the mappings last.
    pub(super) fn publish(
        &mut self,
        kernel: &mut Kernel,
        maps: &[Mapping],
    ) -> Result<(), LoadError> {
        self.tables.publish(kernel, maps)
    }

    /// Keeps a stack, resolved against the mappings of this moment.
    pub(super) fn observe(
        &mut self,
        id: StackId,
        stack: &RawStack,
        python: &[Option<Arc<Frame>>],
    ) -> Observed {
        self.symbolizer.observe(id, stack, python)
    }

    /// Names a stack.
    pub(super) fn name(&mut self, id: StackId) -> NamedStack {
        self.symbolizer.name(id)
    }

    /// The objects that stacks lead through.
    pub(super) fn modules(&mut self) -> Vec<Module> {
        self.symbolizer.modules(|file| {
            let image = MappedFile::new(file).ok()?;
            let build_id = Elf::parse(&image[..]).ok()?.build_id()?;
            Some(hex(&build_id.id))
        })
    }

    /// Takes the last names of generated code.
    pub(super) fn refresh_names(&mut self) {
        self.symbolizer.refresh_names();
    }

    /// Forgets the mappings of a program that another one has replaced.
    pub(super) fn forget_mappings(&mut self) {
        self.symbolizer.forget_mappings();
    }

    /// Takes what a reader of the result must know.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.tables.notes);
        notes.dedup();
        if self.symbolizer.out_of_place() > 0 {
            notes.push(format!(
                "Python frames are not in their places, but follow the native ones, in {} of the \
                 stacks: which native frame runs which of them could not be told",
                self.symbolizer.out_of_place()
            ));
        }
        notes
    }
}

/// What the tables call a mapping's object; `None` for code without one.
pub(super) fn key_of(mapping: &Mapping) -> Option<ObjectKey> {
    match mapping.file {
        Some(FileId { inode: 0, .. }) | None => (mapping.name == VDSO).then_some(ObjectKey::Vdso),
        Some(file) => Some(ObjectKey::File(file)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> (ProcFs, u32, Vec<Mapping>) {
        let (proc, pid) = (ProcFs::new("/proc"), std::process::id());
        let maps = proc.maps(pid).unwrap();
        (proc, pid, maps)
    }

    const NO_TIME: Effort<'static> =
        Effort { threads: 1, may_go_on: &|| false, can_be_resumed: false };

    #[test]
    fn what_there_was_no_time_for_is_compiled_later_where_that_is_wanted() {
        let (proc, pid, maps) = own();
        let mut code = CodeTables::new(true);
        code.add_with(&proc, pid, &maps, &Effort { can_be_resumed: true, ..NO_TIME });
        assert_eq!((code.table_sizes().unwrap().rows, code.notes.len()), (0, 0));
        code.add(&proc, pid, &maps);
        assert!(code.table_sizes().unwrap().rows > 0);
    }

    #[test]
    fn what_is_done_without_is_said_and_not_tried_again() {
        let (proc, pid, maps) = own();
        let mut code = CodeTables::new(true);
        code.add_with(&proc, pid, &maps, &NO_TIME);
        let said = code.notes.len();
        assert!(code.notes.iter().any(|note| note.contains("no time")), "{:?}", code.notes);
        code.add(&proc, pid, &maps);
        assert_eq!((code.table_sizes().unwrap().rows, code.notes.len()), (0, said));
    }

    #[test]
    fn what_does_not_fit_into_the_kernels_tables_is_left_out() {
        let (proc, pid, maps) = own();
        let mut code = CodeTables::new(true);
        code.limit(TableWords { rows: 16, pages: 16 });
        code.add(&proc, pid, &maps);
        assert!(code.is_full() && code.table_sizes().unwrap().rows <= 16);
    }
}
