//! Finding the CPython of a process, and proving that it is understood.

use std::io::{self, Read, Seek};

use memtrace_common::python::PythonLayout;
use object::ReadCache;

use super::{
    code::Objects,
    code_type, debug_offsets, micro,
    offsets::Offsets,
    refusal::{Refusal, Refused},
    sanity::{Proof, prove},
    survey::Surveyed,
    thread_slot::ThreadData,
    threads::threads,
    version::Version,
};
use crate::{
    elf::Elf,
    model::{
        mapping::{FileId, Mapping},
        memory::TargetMemory,
    },
};

/// How often frames are read again that do not decode: threads change them while they are read.
const TRIES: usize = 20;

/// An interpreter that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// Path of the object that it is in, in the target's mount namespace.
    pub path: String,
    /// How its objects are read.
    pub objects: Objects,
    /// What the kernel side walks by; without the image, which the session knows.
    pub layout: PythonLayout,
    /// Address of `_PyRuntime`.
    pub runtime: u64,
    /// The layout has all of the interpreter loop's code, or does not need it. Otherwise (3.8 to
    /// 3.10, stripped) native and Python frames may not be told to belong together.
    pub eval_is_complete: bool,
    /// How many frames proved it.
    pub proven_frames: usize,
}

impl Python {
    /// Its version.
    pub fn version(&self) -> Version {
        self.objects.version
    }
}

/// An interpreter that may be understood later: nothing runs in it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Path of the object that it is in.
    pub path: String,
    /// Its version.
    pub version: Version,
    /// What it lacks, as a clause.
    pub reason: &'static str,
}

/// What a process has of Python. All empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The interpreter whose frames can be read.
    pub python: Option<Python>,
    /// Interpreters in which no Python runs yet: search again when the target has run some time.
    pub pending: Vec<Pending>,
    /// Interpreters whose frames cannot be read.
    pub refused: Vec<Refused>,
}

/// What became of one interpreter.
enum Outcome {
    Ready(Box<Python>),
    Pending(Pending),
    Refused(Refusal),
}

/// Searches the mapped files for CPythons. `open` gives the file behind a mapping.
///
/// Takes about as long as reading the symbol tables of all mapped objects, some milliseconds.
pub fn search<F: Read + Seek>(
    maps: &[Mapping],
    open: impl Fn(&Mapping) -> io::Result<F>,
    memory: &impl TargetMemory,
) -> Search {
    Survey::of(maps, open).search(maps, memory)
}

/// What the mapped files say, to be searched more than once while they are the same.
#[derive(Clone, Debug, Default)]
pub struct Survey(Vec<Surveyed>);

impl Survey {
    /// Looks into them.
    pub fn of<F: Read + Seek>(maps: &[Mapping], open: impl Fn(&Mapping) -> io::Result<F>) -> Self {
        Self(survey(maps, open))
    }

    /// As [`search`], and takes some microseconds.
    pub fn search(&self, maps: &[Mapping], memory: &impl TargetMemory) -> Search {
        let thread_data: Vec<_> =
            self.0.iter().filter_map(|object| ThreadData::of(object, memory)).collect();
        let process = Process { maps, memory, thread_data };
        let mut search = Search::default();
        for object in self.0.iter().filter(|object| object.is_python()) {
            search.add(object, process.examine(object));
        }
        search
    }
}

impl Search {
    fn add(&mut self, object: &Surveyed, outcome: Outcome) {
        let refusal = match (outcome, &self.python) {
            (Outcome::Ready(python), None) => {
                self.python = Some(*python);
                return;
            }
            (Outcome::Pending(pending), _) => {
                self.pending.push(pending);
                return;
            }
            (Outcome::Ready(_), Some(taken)) => {
                Refusal::NotTheOnlyOne { taken: taken.path.clone() }
            }
            (Outcome::Refused(refusal), _) => refusal,
        };
        self.refused.push(Refused { path: object.path.clone(), refusal });
    }
}

/// Looks into every mapped object once, at one of its executable mappings.
fn survey<F: Read + Seek>(
    maps: &[Mapping],
    open: impl Fn(&Mapping) -> io::Result<F>,
) -> Vec<Surveyed> {
    let mut seen: Vec<FileId> = Vec::new();
    let mut surveyed = Vec::new();
    for mapping in maps.iter().filter(|mapping| mapping.permissions.execute) {
        let Some(file) = mapping.file.filter(|file| !seen.contains(file)) else { continue };
        seen.push(file);
        surveyed.extend(open(mapping).ok().and_then(|file| look_into(file, mapping)));
    }
    surveyed
}

fn look_into<F: Read + Seek>(file: F, mapping: &Mapping) -> Option<Surveyed> {
    let cache = ReadCache::new(file);
    Surveyed::of(&Elf::parse(&cache).ok()?, mapping)
}

struct Process<'a, M> {
    maps: &'a [Mapping],
    memory: &'a M,
    thread_data: Vec<ThreadData>,
}

impl<M: TargetMemory> Process<'_, M> {
    fn examine(&self, object: &Surveyed) -> Outcome {
        self.identify(object)
            .and_then(|(runtime, objects)| self.understand(object, runtime, objects))
            .unwrap_or_else(Outcome::Refused)
    }

    /// Its version, and where it has what.
    fn identify(&self, object: &Surveyed) -> Result<(u64, Objects), Refusal> {
        if object.is_pypy() {
            return Err(Refusal::PyPy);
        }
        if object.is_foreign {
            return Err(Refusal::Machine);
        }
        let version = self.version(object)?;
        let known = Offsets::of(version).ok_or(Refusal::UnknownVersion { version })?;
        let symbol = |name| object.symbol(name).ok_or(Refusal::MissingSymbol { name });
        let runtime = symbol("_PyRuntime")?;
        let offsets = match version.minor {
            ..=12 => *known,
            _ => debug_offsets::read(self.memory, runtime, version)?,
        };
        let objects = Objects {
            version,
            offsets,
            code_type: symbol("PyCode_Type")?,
            string_type: symbol("PyUnicode_Type")?,
            bytes_type: symbol("PyBytes_Type")?,
            none: symbol("_Py_NoneStruct")?,
        };
        Ok((runtime, objects))
    }

    /// From 3.11 on the process has it, before the exported functions tell.
    fn version(&self, object: &Surveyed) -> Result<Version, Refusal> {
        let Some(address) = object.symbol("Py_Version") else {
            let series = object.version_by_api().ok_or(Refusal::NoVersion)?;
            return Ok(micro::complete(series, &object.zeroed, self.memory));
        };
        let hex =
            self.memory.read_u32(address).ok_or(Refusal::Unreadable { what: "Py_Version" })?;
        Ok(Version::from_hex(hex))
    }

    /// Proves it on its threads; more than once, because they run.
    fn understand(
        &self,
        object: &Surveyed,
        runtime: u64,
        objects: Objects,
    ) -> Result<Outcome, Refusal> {
        let mut last = Ok(Outcome::Refused(Refusal::NoVersion));
        for _ in 0..TRIES {
            last = self.try_to_understand(object, runtime, &objects);
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn try_to_understand(
        &self,
        object: &Surveyed,
        runtime: u64,
        objects: &Objects,
    ) -> Result<Outcome, Refusal> {
        let pending = |reason| {
            let (path, version) = (object.path.clone(), objects.version);
            Ok(Outcome::Pending(Pending { path, version, reason }))
        };
        let threads = threads(&objects.offsets, runtime, self.memory);
        if threads.is_empty() {
            return pending("it has no threads (yet)");
        }
        // Only now: before, the loader may not have put the addresses into the type.
        code_type::check(objects, self.memory)?;
        let mut layout = objects.offsets.layout();
        layout.eval_ranges = object.eval.ranges;
        let proven_frames = match prove(objects, &layout, &threads, self.memory) {
            Proof::NoFrames => return pending("none of its threads runs Python code (yet)"),
            Proof::Failed(reason) => return Err(Refusal::WalkFailed { reason }),
            Proof::Frames(count) => count,
        };
        let key_at = runtime.checked_add(objects.offsets.runtime.tss_key.into());
        let key = key_at.and_then(|address| self.memory.read_u32(address));
        if self.is_loading(object) {
            return pending("it is still being loaded");
        }
        layout.thread_state_slot =
            self.thread_slot(|data| data.find_slot(&threads, key, self.memory))?;
        let needs_ranges = objects.offsets.layout().kind
            == memtrace_common::python::PythonKind::FrameObjects as u32;
        Ok(Outcome::Ready(Box::new(Python {
            path: object.path.clone(),
            objects: objects.clone(),
            layout,
            runtime,
            eval_is_complete: object.eval.is_complete || !needs_ranges,
            proven_frames,
        })))
    }

    /// By the C library that has the threads.
    fn thread_slot(
        &self,
        find: impl Fn(&ThreadData) -> Result<u32, Refusal>,
    ) -> Result<u32, Refusal> {
        let library = if self.maps_any(&["ld-musl"]) { "musl" } else { "an unknown one" };
        let mut result = Err(Refusal::OtherLibc { library });
        for data in &self.thread_data {
            result = find(data);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Whether the mappings are those of a moment before the C library was loaded: there is glibc's
    /// dynamic linker and not all of glibc, or not even a linker. The linker maps a library whole,
    /// and then its code over that. Up to 2.33, whose files are named after it, threads are in a
    /// library of their own.
    fn is_loading(&self, object: &Surveyed) -> bool {
        let has_all = self.has_code_of("libc.so")
            || self.has_code_of("libc-2.") && self.has_code_of("libpthread");
        let has_linker = self.maps_any(&["ld-linux", "ld-2."]);
        !has_all && (has_linker || object.is_dynamic_program && self.is_alone())
    }

    /// Whether no code but that of one file is mapped.
    fn is_alone(&self) -> bool {
        let mut files = self.maps.iter().filter(|it| it.permissions.execute).map(|it| it.file);
        let first = files.find(Option::is_some);
        files.flatten().all(|file| Some(Some(file)) == first)
    }

    /// Whether the code of a file with such a name is mapped.
    fn has_code_of(&self, prefix: &str) -> bool {
        let code = self.maps.iter().filter(|mapping| mapping.permissions.execute);
        code.map(Mapping::base_name).any(|name| name.starts_with(prefix))
    }

    /// Whether a file with such a name is mapped.
    fn maps_any(&self, prefixes: &[&str]) -> bool {
        let is_any = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.maps.iter().any(|mapping| is_any(mapping.base_name()))
    }
}

#[cfg(test)]
mod tests;
