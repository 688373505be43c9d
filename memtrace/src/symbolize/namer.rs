//! Names by blazesym: symbol tables, debug information in the file or beside it, inlined
//! functions, demangling.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    os::fd::AsRawFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer as Blazesym,
    source::{Elf as ElfSource, Source},
};

use object::ReadCache;

use crate::{
    elf::{CodeSegment, Elf},
    model::stack::{Frame, Language},
};

use super::{
    address_space::Location,
    debug_file::DebugRoots,
    object::{Object, ObjectId, ObjectTable},
    perf_map::PerfMap,
};

/// The most places whose names are kept; when full, all are forgotten and looked up again.
const MAX_CACHED_PLACES: usize = 1 << 16;

/// The frames of one place, leaf first.
pub(super) type Frames = Arc<[Arc<Frame>]>;

/// The most debug files kept open (twice, when they are read), within the usual limit of
/// descriptors.
const MAX_DEBUG_FILES: usize = 128;

/// Gives places their names.
pub(super) struct Namer {
    blazesym: Blazesym,
    debug_roots: DebugRoots,
    perf_map: PerfMap,
    /// By object: the file that names it better than itself, once it was looked for.
    beside: HashMap<ObjectId, Option<Beside>>,
    cache: HashMap<Location, Frames>,
}

/// A file with the names of an object's code.
struct Beside {
    /// Held open for as long as blazesym may read it by its path, which is of this descriptor.
    #[expect(dead_code, reason = "held for its descriptor")]
    file: File,
    path: PathBuf,
    /// The object's executable segments: the file has addresses only.
    segments: Vec<CodeSegment>,
}

impl fmt::Debug for Namer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Namer").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

impl Default for Namer {
    fn default() -> Self {
        Self::new(DebugRoots::default(), PerfMap::default())
    }
}

impl Namer {
    pub(super) fn new(debug_roots: DebugRoots, perf_map: PerfMap) -> Self {
        let (beside, cache) = Default::default();
        Self { blazesym: blazesym(&debug_roots), debug_roots, perf_map, beside, cache }
    }

    /// Its names may be gone when they are asked for.
    pub(super) fn generated_code_was_seen(&mut self) {
        self.perf_map.read_once();
    }

    /// Takes up what was named since.
    pub(super) fn refresh(&mut self) {
        self.perf_map.read_again();
        self.cache.clear();
    }

    /// The frames of a place: several where functions were inlined, one with `module+0xoffset`
    /// where nothing is known.
    pub(super) fn name(&mut self, place: Location, objects: &ObjectTable) -> Frames {
        if let Some(frames) = self.cache.get(&place) {
            return frames.clone();
        }
        let frames = self.look_up(place, objects.get(place.object));
        if self.cache.len() == MAX_CACHED_PLACES {
            self.cache.clear();
        }
        self.cache.insert(place, frames.clone());
        frames
    }

    fn look_up(&mut self, place: Location, object: &Object) -> Frames {
        // The return address belongs to the next line, or even to the next function.
        let call = place.offset.saturating_sub(1);
        let generated = object.is_generated().then(|| self.perf_map.name(call)).flatten();
        if let Some(name) = generated {
            return [Arc::new(frame(name, None, &object.name, false))].into();
        }
        self.resolve_beside(place.object, object, call)
            .or_else(|| self.resolve(&object.path()?, Input::FileOffset(call)))
            .map(|symbol| frames_of(symbol, &object.name))
            .unwrap_or_else(|| [Arc::new(nameless(object, place.offset))].into())
    }

    /// By the file that names the object better than itself.
    fn resolve_beside(
        &mut self,
        id: ObjectId,
        object: &Object,
        offset: u64,
    ) -> Option<Sym<'static>> {
        if !self.beside.contains_key(&id) {
            let beside = self.find_beside(object);
            self.beside.insert(id, beside);
        }
        let beside = self.beside.get(&id)?.as_ref()?;
        let path = beside.path.clone();
        let address = address_of(&beside.segments, offset)?;
        self.resolve(&path, Input::VirtOffset(address))
    }

    fn find_beside(&self, object: &Object) -> Option<Beside> {
        if self.beside.values().flatten().count() >= MAX_DEBUG_FILES {
            return None;
        }
        let own = object.file.as_ref()?;
        let file = self.debug_roots.names(own, &object.mapped_path).beside?.file;
        let cache = ReadCache::new(own);
        let segments = Elf::parse(&cache).ok()?.code_segments().collect();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Some(Beside { file, path, segments })
    }

    /// Debug information first; where that is broken or knows no name, the symbol tables alone.
    fn resolve(&mut self, path: &Path, place: Input<u64>) -> Option<Sym<'static>> {
        self.try_resolve(path, place, true).or_else(|| self.try_resolve(path, place, false))
    }

    /// Files of a hostile target must not end memtrace: a panic in a parser counts as "no name".
    fn try_resolve(&mut self, path: &Path, place: Input<u64>, debug: bool) -> Option<Sym<'static>> {
        let attempt = catch_unwind(AssertUnwindSafe(|| symbol(&self.blazesym, path, place, debug)));
        attempt.unwrap_or_else(|_| {
            self.blazesym = blazesym(&self.debug_roots);
            None
        })
    }
}

/// Files are named by descriptor and never change under their name: no reloading.
fn blazesym(debug_roots: &DebugRoots) -> Blazesym {
    Blazesym::builder()
        // For what is beside debug files themselves (.gnu_debugaltlink).
        .set_debug_dirs(Some(debug_roots.host_directories()))
        .enable_auto_reload(false)
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(true)
        .build()
}

/// The address, as the file states addresses, that is at an offset of the file.
fn address_of(segments: &[CodeSegment], offset: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let at = offset.checked_sub(segment.file_offset)?;
        (at < segment.size_bytes).then_some(segment.address + at)
    })
}

fn symbol(
    blazesym: &Blazesym,
    path: &Path,
    place: Input<u64>,
    debug: bool,
) -> Option<Sym<'static>> {
    let mut elf = ElfSource::new(path);
    elf.debug_syms = debug;
    let result = blazesym.symbolize_single(&Source::Elf(elf), place);
    match result {
        Ok(Symbolized::Sym(symbol)) if !symbol.name.is_empty() => Some(symbol.into_owned()),
        _ => None,
    }
}

/// blazesym gives the function and then what was inlined into it, outermost first.
fn frames_of(symbol: Sym<'static>, module: &str) -> Frames {
    let inlined = symbol
        .inlined
        .iter()
        .rev()
        .map(|function| frame(&function.name, function.code_info.as_ref(), module, true));
    let outer = frame(&symbol.name, symbol.code_info.as_deref(), module, false);
    inlined.chain([outer]).map(Arc::new).collect()
}

fn frame(function: &str, code: Option<&CodeInfo<'_>>, module: &str, inlined: bool) -> Frame {
    Frame {
        function: function.to_owned(),
        module: module.to_owned(),
        file: code.map(|code| code.to_path().to_string_lossy().into_owned()),
        // DWARF's line 0 is "no line".
        line: code.and_then(|code| code.line).filter(|line| *line != 0),
        inlined,
        language: Language::Native,
    }
}

fn nameless(object: &Object, offset: u64) -> Frame {
    let function = format!("{}+{offset:#x}", object.name);
    Frame { function, module: object.name.clone(), ..Frame::default() }
}
