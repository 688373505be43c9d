//! The mapped objects: which are C libraries, interpreters or allocators, and where their own data
//! is. A file is read once, however often the process is looked at.

use std::{collections::HashMap, rc::Rc};

use crate::{
    allocator::{self, AllocatorId, family, glibc::layout::Layout, opaque},
    analysis::residency::Claim,
    elf::{Elf, ElfError},
    model::{
        census::{Refusal, RssKind},
        mapping::{FileId, Mapping},
    },
    sys::{mapped::MappedFile, procfs::ProcFs},
    threads::{LINKER_DATA, StackLists},
};

/// What a file says of itself.
pub(super) struct Facts {
    /// Which C library or known allocator it is.
    pub(super) allocator: AllocatorId,
    /// Its version, where it says it.
    pub(super) version: Option<String>,
    /// The allocator in it that cannot be walked.
    pub(super) opaque: Option<&'static str>,
    /// It exports `malloc` and `free`, which callers in other objects get.
    exports_malloc: bool,
    /// Lowest address in the file.
    first_address: u64,
    /// It is a program without a dynamic linker.
    pub(super) is_static: bool,
    /// Where glibc's arenas are, if it has them.
    pub(super) layout: Option<Layout>,
    /// `.bss`, as the file states addresses.
    zeroed: Vec<(u64, u64)>,
    /// Where to find the stacks of threads, if it is glibc.
    pub(super) lists: Option<StackLists>,
    /// `_rtld_global`, if it is glibc's dynamic linker; as the file states it.
    linker_data: Option<u64>,
}

/// A file as it is mapped; twice, if it is loaded in two namespaces of the dynamic linker.
pub(super) struct Object {
    /// What the file says.
    pub(super) facts: Rc<Facts>,
    /// Its first executable mapping.
    pub(super) mapping: Mapping,
    /// What is added to the file's addresses.
    pub(super) bias: u64,
}

/// All objects of a process at one moment.
#[derive(Default)]
pub(super) struct Loaded {
    pub(super) objects: Vec<Object>,
    pub(super) refusals: Vec<Refusal>,
}

/// The files that were read so far; `None` is no program or library.
#[derive(Default)]
pub(super) struct Objects {
    files: HashMap<FileId, Result<Option<Rc<Facts>>, String>>,
}

impl Objects {
    /// The objects with executable mappings.
    pub(super) fn loaded(&mut self, proc: &ProcFs, pid: u32, maps: &[Mapping]) -> Loaded {
        let mut loaded = Loaded::default();
        for (start, mapping) in executable(maps) {
            let Some(file) = mapping.file else { continue };
            let known = self.files.entry(file).or_insert_with(|| read(proc, pid, mapping));
            match known {
                Ok(Some(facts)) => loaded.objects.push(Object {
                    facts: facts.clone(),
                    mapping: mapping.clone(),
                    bias: start.wrapping_sub(facts.first_address),
                }),
                Ok(None) => {}
                Err(reason) => loaded.refuse(&mapping.name, reason),
            }
        }
        loaded
    }
}

impl Loaded {
    fn refuse(&mut self, path: &str, reason: &str) {
        let refusal = Refusal { part: path.to_owned(), reason: reason.to_owned() };
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    /// Whether `malloc` is served by an allocator that cannot be walked: one that was put before
    /// the C library (`LD_PRELOAD`, `-ljemalloc`), or in its place in a static program.
    pub(super) fn is_malloc_opaque(&self) -> bool {
        self.objects
            .iter()
            .any(|object| object.facts.opaque.is_some() && object.facts.exports_malloc)
    }

    /// `_rtld_global` in the process.
    pub(super) fn linker_data(&self) -> Option<u64> {
        self.objects
            .iter()
            .find_map(|object| Some(object.facts.linker_data?.wrapping_add(object.bias)))
    }

    /// `.bss` belongs to the file's data, although the pages are anonymous.
    pub(super) fn claims(&self) -> impl Iterator<Item = Claim> {
        self.objects.iter().flat_map(|object| {
            object.facts.zeroed.iter().map(|(start, end)| {
                let (start, end) = (start.wrapping_add(object.bias), end.wrapping_add(object.bias));
                super::pages::claim(start, end.saturating_add(0xfff) & !0xfff, RssKind::PrivateFile)
            })
        })
    }
}

/// Every loaded file's first executable mapping, and the address at which its first page is mapped.
fn executable(maps: &[Mapping]) -> Vec<(u64, &Mapping)> {
    let mut starts: HashMap<FileId, u64> = HashMap::new();
    let mut found: Vec<(u64, &Mapping)> = Vec::new();
    for mapping in maps {
        let Some(file) = mapping.file else { continue };
        if mapping.file_offset == 0 {
            starts.insert(file, mapping.start);
        }
        let Some(start) = starts.get(&file).filter(|_| mapping.permissions.execute) else {
            continue;
        };
        if !found.iter().any(|(other, seen)| other == start && seen.file == mapping.file) {
            found.push((*start, mapping));
        }
    }
    found
}

fn read(proc: &ProcFs, pid: u32, mapping: &Mapping) -> Result<Option<Rc<Facts>>, String> {
    let file = proc.open_mapped_file(pid, mapping).map_err(|error| error.to_string())?;
    let image = MappedFile::new(&file).map_err(|error| format!("it cannot be read: {error}"))?;
    image.read(|image| match Elf::parse(image) {
        Ok(elf) => Ok(Some(Rc::new(facts(&elf)))),
        Err(ElfError::NotElf) => Ok(None),
        Err(error) => Err(error.to_string()),
    })
}

fn facts<'d>(elf: &Elf<'d, &'d [u8]>) -> Facts {
    let mut wanted = allocator::wanted_symbols();
    wanted.extend(opaque::wanted_symbols());
    let functions = elf.functions(&wanted);
    let defines = |name: &str| functions.iter().any(|function| function.name == name);
    let rodata = elf.section(".rodata");
    let (allocator, version) = allocator::identify(defines, rodata);
    let serves = (defines("malloc") && defines("free")).then_some(allocator);
    let is_static = elf.is_static_program();
    let is_library = matches!(allocator, AllocatorId::Glibc | AllocatorId::Musl) && !is_static;
    // A static program that was stripped does not say which C library it contains.
    let may_be_glibc = allocator == AllocatorId::Glibc || is_static;
    Facts {
        allocator,
        version,
        is_static,
        opaque: opaque::recognise(serves, &family::in_object(elf), defines, rodata)
            .filter(|_| !is_library),
        exports_malloc: serves.is_some(),
        first_address: elf.first_address().unwrap_or_default(),
        layout: may_be_glibc.then(|| Layout::find(elf)).flatten(),
        zeroed: elf.zeroed(),
        lists: StackLists::of(elf),
        linker_data: elf.exported_data(&[LINKER_DATA]).first().map(|data| data.address),
    }
}
