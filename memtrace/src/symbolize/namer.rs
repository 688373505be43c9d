//! Names by blazesym: symbol tables, debug information in the file or beside it, inlined
//! functions, demangling.

use std::{
    collections::HashMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use blazesym::symbolize::{
    CodeInfo, Input, Sym, Symbolized, Symbolizer as Blazesym,
    source::{Elf, Source},
};

use crate::model::stack::Frame;

use super::{
    address_space::Location,
    object::{Object, ObjectTable},
};

/// The most places whose names are kept; when full, all are forgotten and looked up again.
const MAX_CACHED_PLACES: usize = 1 << 16;

/// The frames of one place, leaf first.
pub(super) type Frames = Arc<[Arc<Frame>]>;

/// Gives places their names.
pub(super) struct Namer {
    blazesym: Blazesym,
    cache: HashMap<Location, Frames>,
}

impl fmt::Debug for Namer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Namer").field("cached", &self.cache.len()).finish_non_exhaustive()
    }
}

impl Default for Namer {
    fn default() -> Self {
        Self { blazesym: blazesym(), cache: HashMap::new() }
    }
}

impl Namer {
    /// The frames of a place: several where functions were inlined, one with `module+0xoffset`
    /// where nothing is known.
    pub(super) fn name(&mut self, place: Location, objects: &ObjectTable) -> Frames {
        if let Some(frames) = self.cache.get(&place) {
            return frames.clone();
        }
        let frames = self.look_up(objects.get(place.object), place.offset);
        if self.cache.len() == MAX_CACHED_PLACES {
            self.cache.clear();
        }
        self.cache.insert(place, frames.clone());
        frames
    }

    fn look_up(&mut self, object: &Object, offset: u64) -> Frames {
        // The return address belongs to the next line, or even to the next function.
        let call = offset.saturating_sub(1);
        object
            .path()
            .and_then(|path| self.resolve(&path, call))
            .map(|symbol| frames_of(symbol, &object.name))
            .unwrap_or_else(|| [Arc::new(nameless(object, offset))].into())
    }

    /// Debug information first; where that is broken or knows no name, the symbol tables alone.
    fn resolve(&mut self, path: &Path, offset: u64) -> Option<Sym<'static>> {
        self.try_resolve(path, offset, true).or_else(|| self.try_resolve(path, offset, false))
    }

    /// Files of a hostile target must not end memtrace: a panic in a parser counts as "no name".
    fn try_resolve(&mut self, path: &Path, offset: u64, debug: bool) -> Option<Sym<'static>> {
        let attempt =
            catch_unwind(AssertUnwindSafe(|| symbol(&self.blazesym, path, offset, debug)));
        attempt.unwrap_or_else(|_| {
            self.blazesym = blazesym();
            None
        })
    }
}

/// Files are named by descriptor and never change under their name: no reloading.
fn blazesym() -> Blazesym {
    Blazesym::builder()
        .enable_auto_reload(false)
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(true)
        .build()
}

fn symbol(blazesym: &Blazesym, path: &Path, offset: u64, debug: bool) -> Option<Sym<'static>> {
    let mut elf = Elf::new(path);
    elf.debug_syms = debug;
    let result = blazesym.symbolize_single(&Source::Elf(elf), Input::FileOffset(offset));
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
    }
}

fn nameless(object: &Object, offset: u64) -> Frame {
    let function = format!("{}+{offset:#x}", object.name);
    Frame { function, module: object.name.clone(), ..Frame::default() }
}
