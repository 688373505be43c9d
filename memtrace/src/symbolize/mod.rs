//! From return addresses to names.
//!
//! An address is resolved in two steps, because the target may be gone when its names are wanted.
//! At first sight it becomes a place: an object that the target maps, and an offset in its file
//! ([`Symbolizer::observe`]). The files are kept open, so that names can be read from them at the
//! end ([`Symbolizer::name`]), also of deleted files and of those in other mount namespaces.
//!
//! Not `Send`: blazesym shares its parsed files without locks.

mod address_space;
mod call_site;
pub mod debug_file;
mod directory;
mod merge;
mod namer;
mod object;
pub mod perf_map;
mod python;
mod root;

use std::{collections::HashMap, fs::File, sync::Arc};

use memtrace_common::wire::StackEnd;

use crate::model::{
    mapping::Mapping,
    stack::{Frame, NamedStack, RawStack, StackId},
    trace::Module,
};

use self::{
    address_space::{AddressSpace, Location},
    debug_file::DebugRoots,
    namer::Namer,
    object::{ObjectId, ObjectTable},
    perf_map::PerfMap,
    python::{PythonStack, with_python},
};

pub use self::{object::OpenObject, python::PythonFrames};

/// The most frames kept over all stacks (at most 24 bytes each).
const MAX_FRAMES: usize = 1 << 23;

/// The most stacks kept.
const MAX_STACKS: usize = 1 << 18;

/// What became of an observed stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It is kept.
    Kept,
    /// It is kept up to an address outside of the known executable mappings. When the target has
    /// mapped new code since, add its mappings and observe the stack again.
    UnknownMapping,
    /// The table of stacks is full: it will have no frames.
    TableFull,
}

/// Why a kept stack ends, for the label of its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As the kernel side said.
    Walk(StackEnd),
    /// An address was in no code.
    UnknownMapping,
    /// An address was not the return address of a call.
    NotACall,
}

/// A stack that no longer depends on the target.
#[derive(Debug)]
struct Stack {
    frames: Box<[Location]>,
    end: End,
    guessed: bool,
    /// `None` without Python frames, as most stacks of most programs are.
    python: Option<Box<PythonStack>>,
}

impl Stack {
    fn frame_count(&self) -> usize {
        self.frames.len() + self.python.as_ref().map_or(0, |python| python.places.len())
    }
}

/// Resolves the stacks of one target.
#[derive(Debug, Default)]
pub struct Symbolizer {
    objects: ObjectTable,
    space: AddressSpace,
    stacks: HashMap<StackId, Stack>,
    /// Of the objects whose files were asked for theirs.
    build_ids: HashMap<ObjectId, Option<String>>,
    kept_frames: usize,
    namer: Namer,
    python_frames: PythonFrames,
    out_of_place: u64,
}

impl Symbolizer {
    /// Knows no mapping and no stack.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same; names come from these, too.
    pub fn with_names(debug_roots: DebugRoots, perf_map: PerfMap) -> Self {
        Self { namer: Namer::new(debug_roots, perf_map), ..Self::default() }
    }

    /// The same; Python's frames are shown like that.
    pub fn with_python_frames(self, python_frames: PythonFrames) -> Self {
        Self { python_frames, ..self }
    }

    /// How many named stacks have their Python frames at the end, because the native ones that run
    /// them could not be told.
    pub fn out_of_place(&self) -> u64 {
        self.out_of_place
    }

    /// Takes the last names of generated code; call it when no more stacks will come.
    pub fn refresh_names(&mut self) {
        self.namer.refresh();
    }

    /// Adds the executable ones of these mappings, and opens their files. Call it with all
    /// mappings at the attach and whenever the target may have mapped new code; mappings that are
    /// gone stay known until others take their addresses.
    pub fn add_mappings(&mut self, mappings: &[Mapping], opener: &impl OpenObject) {
        for mapping in mappings.iter().filter(|mapping| mapping.permissions.execute) {
            let object = self.objects.intern(mapping, opener);
            self.space.add(mapping, object);
        }
    }

    /// Forgets the mappings, for a target that executed another program. Stacks observed so far
    /// keep their places.
    pub fn forget_mappings(&mut self) {
        self.space.clear();
    }

    /// Keeps a stack under its id, resolved against the mappings of this moment. A stack that is
    /// observed again replaces the former.
    ///
    /// `python` has what is known of each of the stack's Python frames, in order; `None` for one
    /// that is no code. It is kept as it is, so that the target may be gone when it is wanted.
    pub fn observe(
        &mut self,
        id: StackId,
        raw: &RawStack,
        python: &[Option<Arc<Frame>>],
    ) -> Observed {
        self.forget(id);
        let frames = raw.frames.len() + raw.python.len();
        if self.stacks.len() >= MAX_STACKS || self.kept_frames + frames > MAX_FRAMES {
            return Observed::TableFull;
        }
        let stack = self.locate(raw, python);
        let unknown = stack.end == End::UnknownMapping || raw.end == StackEnd::UnknownMapping;
        self.kept_frames += stack.frame_count();
        self.stacks.insert(id, stack);
        if unknown { Observed::UnknownMapping } else { Observed::Kept }
    }

    /// The names of a stack. One that was never observed, or not kept, has no frames and says so.
    pub fn name(&mut self, id: StackId) -> NamedStack {
        let Some(stack) = self.stacks.get(&id) else {
            return NamedStack { frames: Vec::new(), missing_root: Some(root::NO_STACK.into()) };
        };
        let mut named = Vec::with_capacity(stack.frames.len());
        for place in &stack.frames {
            named.push(self.namer.name(*place, &self.objects));
        }
        let frames: Vec<_> = named.iter().flat_map(|of_place| of_place.iter().cloned()).collect();
        let missing_native = missing_root(stack, &frames);
        let Some(python) = &stack.python else {
            return NamedStack { frames, missing_root: missing_native.map(Into::into) };
        };
        let (stack, in_place) = match self.python_frames {
            PythonFrames::Only => (python.alone(), true),
            _ => with_python(&stack.frames, python, named, missing_native),
        };
        self.out_of_place += u64::from(!in_place);
        stack
    }

    /// The executable mappings that are known, with what `build_id` reads from their files, once
    /// from each.
    pub fn modules(&mut self, build_id: impl Fn(&File) -> Option<String>) -> Vec<Module> {
        let build_ids = &mut self.build_ids;
        self.space
            .ranges()
            .filter(|range| !self.objects.get(range.object).is_generated())
            .map(|range| {
                let object = self.objects.get(range.object);
                let of_file = || object.file.as_ref().and_then(&build_id);
                Module {
                    path: object.mapped_path.clone(),
                    build_id: build_ids.entry(range.object).or_insert_with(of_file).clone(),
                    start: range.start,
                    end: range.end,
                    file_offset: range.start_offset,
                }
            })
            .collect()
    }

    fn forget(&mut self, id: StackId) {
        if let Some(old) = self.stacks.remove(&id) {
            self.kept_frames -= old.frame_count();
        }
    }

    /// Resolves as many frames as can be trusted. The first was read at the probe itself; those
    /// above it come from a walk that may have followed garbage.
    fn locate(&mut self, raw: &RawStack, python: &[Option<Arc<Frame>>]) -> Stack {
        let mut frames = Vec::with_capacity(raw.frames.len());
        let mut entries = Vec::new();
        let mut end = End::Walk(raw.end);
        let by_rules = is_by_rules(raw);
        let mut generated = false;
        for (index, word) in raw.frames.iter().enumerate() {
            let (address, is_entry) = merge::unmarked(*word);
            let Some(place) = self.space.locate(address) else {
                end = End::UnknownMapping;
                break;
            };
            if index > 0 && !by_rules && !self.objects.get(place.object).may_return_to(place.offset)
            {
                end = End::NotACall;
                break;
            }
            generated |= self.objects.get(place.object).is_generated();
            entries.extend(is_entry.then_some(index as u32));
            frames.push(place);
        }
        if generated {
            self.namer.generated_code_was_seen();
        }
        let python = match self.python_frames {
            PythonFrames::None => None,
            _ => PythonStack::of(raw, python, entries).map(Box::new),
        };
        Stack { frames: frames.into(), end, guessed: raw.guessed, python }
    }
}

/// The label for the native frames that are missing at the root side.
fn missing_root(stack: &Stack, frames: &[Arc<Frame>]) -> Option<&'static str> {
    match stack.end {
        End::Walk(end) => root::missing(frames, end).or(stack.guessed.then_some(root::GUESSED)),
        End::NotACall => root::missing(frames, StackEnd::NoFramePointer),
        End::UnknownMapping => {
            root::missing(frames, StackEnd::NoFramePointer).map(|_| root::UNKNOWN_MAPPING)
        }
    }
}

/// Whether all frames were found by unwind rules. Those may return to places that no call is before
/// (the start of a coroutine).
fn is_by_rules(raw: &RawStack) -> bool {
    use StackEnd::{Complete, NoRule, Signal, Stuck, UnknownMapping};
    !raw.guessed && matches!(raw.end, Complete | UnknownMapping | NoRule | Signal | Stuck)
}

#[cfg(test)]
mod tests;
