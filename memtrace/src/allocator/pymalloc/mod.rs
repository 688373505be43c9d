//! CPython's own allocator: blocks of up to 512 bytes, in pools of one size each, in arenas.
//!
//! An arena goes back to the system only when all of its pools are free, so that one block keeps
//! 1 MiB (256 KiB up to 3.9). Arenas are mapped, and no probe on `malloc` sees what is in them; this
//! walk does.
//!
//! Subinterpreters of 3.12 and later that have an allocator of their own (a GIL of their own) keep
//! its state in the heap, where it is not looked for.

mod arena;
mod calls;
pub mod copies;
mod find;
mod interpreter;
mod layout;
pub mod table;

use thiserror::Error;

pub use calls::ArenaCalls;
pub use interpreter::Interpreter;

use super::{
    present::{NoResidency, Present},
    ranges::{Ranges, writable_data},
};
use crate::model::{
    census::{Extent, PymallocHeap},
    layout::PymallocArenaLayout,
    mapping::Mapping,
    memory::{Residency, TargetMemory},
};
use find::ArenaArray;

/// Versions whose structs are known.
const MINORS: std::ops::RangeInclusive<u8> = 6..=14;

/// The heap of an interpreter, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PymallocWalk {
    /// What it holds.
    pub heap: PymallocHeap,
    /// Where its arenas are, by address.
    pub arenas: Vec<Extent>,
    /// Where their pools lie, in the same order.
    pub layouts: Vec<PymallocArenaLayout>,
    /// The arenas are blocks of another allocator (`PyObject_SetArenaAllocator`), whose own walk
    /// counts them as in use. Otherwise they are mappings, and nobody else's.
    pub is_in_malloc: bool,
}

/// Why an interpreter's small objects cannot be walked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PymallocError {
    /// Objects are in a mimalloc of its own.
    #[error(
        "Python {0} is a free-threaded build: its objects are in a mimalloc inside of it, which \
         is not walked"
    )]
    FreeThreaded(String),
    /// Before 3.6 or after 3.14.
    #[error("Python {0} is not known; 3.6 to 3.14 are")]
    UnknownVersion(String),
    /// Nothing can be read.
    #[error(transparent)]
    NoResidency(#[from] NoResidency),
}

/// Walks the small objects of an interpreter. `None` when it has none: it has not started, it does
/// not use pymalloc (`PYTHONMALLOC=malloc`), or this object is only the program of a `libpython`.
///
/// The target may run: each pool is counted as its header said at one moment.
///
/// # Errors
/// [`PymallocError`].
pub fn walk(
    memory: &impl TargetMemory,
    residency: &impl Residency,
    mappings: &[Mapping],
    interpreter: &Interpreter,
) -> Result<Option<PymallocWalk>, PymallocError> {
    interpreter.check()?;
    let mut present = Present::new(memory, residency);
    let data = writable_data(mappings, interpreter.file);
    let arrays = find::find(&mut present, &data, &Ranges::anonymous(mappings))?;
    let Some(array) = arrays.first() else { return Ok(None) };
    let mut heap = PymallocHeap {
        version: interpreter.version(),
        arena_bytes: array.geometry.arena_bytes,
        pool_bytes: array.geometry.pool_bytes,
        ..PymallocHeap::default()
    };
    let mut layouts = Vec::new();
    for ArenaArray { geometry, arenas: objects } in &arrays {
        for object in objects {
            layouts.push(arena::add(&mut heap, &mut present, object, *geometry)?);
        }
    }
    layouts.sort_unstable_by_key(|arena| arena.extent.start);
    let arenas: Vec<Extent> = layouts.iter().map(|arena| arena.extent).collect();
    let is_in_malloc = arenas.iter().any(|arena| is_in_malloc(*arena, mappings));
    Ok(Some(PymallocWalk { heap, arenas, layouts, is_in_malloc }))
}

/// A mapping of its own starts at a page, and is not the program break's.
fn is_in_malloc(arena: Extent, mappings: &[Mapping]) -> bool {
    let heap = mappings.iter().find(|mapping| mapping.name == "[heap]");
    !arena.start.is_multiple_of(4096) || heap.is_some_and(|heap| heap.contains(arena.start))
}

#[cfg(test)]
mod tests;
