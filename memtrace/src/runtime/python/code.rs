//! From code objects to names and lines.
//!
//! What was read of a code object is kept by its address, and believed only as long as the object
//! there is the same: when a new stack names it, all that never changes in a code object is read
//! again and compared. Objects are freed, and others take their addresses. What was read after a
//! stack was taken serves it without being read again: stacks that have waited are named at once,
//! and also where the code has gone since.

mod batch;
mod cache;
mod read;

use std::sync::Arc;

use super::{offsets::Offsets, version::Version};
use crate::model::{
    memory::TargetMemory,
    stack::{ENTRY_MARK, Frame, Language, PythonFrame},
};

use self::{
    cache::Cache,
    read::{Identity, Reader},
};

pub use crate::model::stack::UNREADABLE_PYTHON as UNREADABLE;

/// What is to be known of a CPython to read its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objects {
    /// Its version.
    pub version: Version,
    /// Where its structs have what.
    pub offsets: Offsets,
    /// Address of `PyCode_Type`.
    pub code_type: u64,
    /// Address of `PyUnicode_Type`.
    pub string_type: u64,
    /// Address of `PyBytes_Type`.
    pub bytes_type: u64,
    /// Address of `_Py_NoneStruct`.
    pub none: u64,
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A line of the program.
    Frame(Arc<Frame>),
    /// The interpreter's own (a shim): not shown.
    Internal,
    /// It could not be read, or what was read is no code object with names.
    Unreadable,
}

/// When a stack was taken, and when its frames are named (`CLOCK_MONOTONIC`, nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When it was taken.
    pub taken_ns: u64,
    /// Now, before anything is read.
    pub now_ns: u64,
}

impl Moment {
    /// Of a stack that is walked right now: nothing that was read before serves it.
    pub const NOW: Self = Self { taken_ns: u64::MAX, now_ns: 0 };
}

/// Names the frames of one process's CPython.
#[derive(Debug)]
pub struct CodeNames {
    objects: Objects,
    cache: Cache,
    placeholder: Arc<Frame>,
}

impl CodeNames {
    /// Knows no code yet.
    pub fn new(objects: Objects) -> Self {
        let placeholder = Frame {
            function: UNREADABLE.to_owned(),
            language: Language::Python,
            ..Frame::default()
        };
        Self { objects, cache: Cache::default(), placeholder: Arc::new(placeholder) }
    }

    /// The frames' names, one for each; `None` for the interpreter's own frames, which are not
    /// shown, and a frame named [`UNREADABLE`] for one that cannot be read. Call it at the first
    /// sight of a stack: later its objects may be gone.
    pub fn resolve(
        &mut self,
        frames: &[PythonFrame],
        moment: Moment,
        memory: &impl TargetMemory,
    ) -> Vec<Option<Arc<Frame>>> {
        let resolved = self.resolve_each(frames, moment, memory);
        resolved.into_iter().map(|frame| self.shown(frame)).collect()
    }

    fn shown(&self, resolved: Resolved) -> Option<Arc<Frame>> {
        match resolved {
            Resolved::Frame(frame) => Some(frame),
            Resolved::Internal => None,
            Resolved::Unreadable => Some(self.placeholder.clone()),
        }
    }

    /// The same, with what became of each.
    pub fn resolve_each(
        &mut self,
        frames: &[PythonFrame],
        moment: Moment,
        memory: &impl TargetMemory,
    ) -> Vec<Resolved> {
        let mut codes: Vec<u64> = frames.iter().map(|frame| frame.code).collect();
        codes.sort_unstable();
        codes.dedup();
        let identities = self.identities(&codes, moment, memory);
        frames.iter().map(|frame| self.name(frame, &identities)).collect()
    }

    /// What the objects at these addresses were, in order of the addresses.
    fn identities(
        &mut self,
        codes: &[u64],
        moment: Moment,
        memory: &impl TargetMemory,
    ) -> Vec<(u64, Identity)> {
        let reader = Reader { objects: &self.objects, memory };
        let known = |code: &u64| Some((*code, self.cache.at(*code, moment.taken_ns)?.clone()));
        let mut identities: Vec<_> = codes.iter().filter_map(known).collect();
        let is_unknown = |code: &u64| !identities.iter().any(|(known, _)| known == code);
        let unknown: Vec<u64> = codes.iter().copied().filter(is_unknown).collect();
        let read = reader.identities(&unknown);
        self.learn(&read, moment.now_ns, memory);
        identities.extend(read);
        identities.sort_unstable_by_key(|(code, _)| *code);
        identities
    }

    /// Reads the names of all code objects that are new, or are others than before.
    fn learn(&mut self, identities: &[(u64, Identity)], now_ns: u64, memory: &impl TargetMemory) {
        let reader = Reader { objects: &self.objects, memory };
        let is_new = |(code, found): &&(u64, Identity)| !self.cache.knows(*code, found);
        let new: Vec<_> = identities.iter().filter(is_new).cloned().collect();
        for (code, names) in reader.names(&new) {
            self.cache.insert(code, names, now_ns);
        }
        identities.iter().for_each(|(code, found)| self.cache.see(*code, found, now_ns));
    }

    fn name(&mut self, frame: &PythonFrame, identities: &[(u64, Identity)]) -> Resolved {
        if frame.code == self.objects.none {
            return Resolved::Internal;
        }
        let identity = identities.binary_search_by_key(&frame.code, |(code, _)| *code);
        let Ok(identity) = identity.map(|at| &identities[at].1) else {
            return Resolved::Unreadable;
        };
        let Some(offset) = self.instruction_offset(frame, identity) else {
            return Resolved::Unreadable;
        };
        let format = self.objects.version.line_format();
        let Some(names) = self.cache.get(frame.code, identity) else {
            return Resolved::Unreadable;
        };
        match format.line_at(&names.line_table, identity.first_line, offset) {
            None if identity.is_shim() => Resolved::Internal,
            line => Resolved::Frame(names.frame(line)),
        }
    }

    /// Bytes from the code's first instruction; negative before it. `None` when the position is
    /// outside of the code, so that the frame was not of this code object.
    fn instruction_offset(&self, frame: &PythonFrame, identity: &Identity) -> Option<i64> {
        // The mark took the sign's place.
        let position = (frame.position << 1).cast_signed() >> 1;
        match self.objects.offsets.code.instructions {
            Some(instructions) => {
                let address = frame.position & !ENTRY_MARK;
                let start = frame.code.wrapping_add(instructions.into());
                let offset = address.wrapping_sub(start).cast_signed();
                identity.may_be_at(offset).then_some(offset)
            }
            // Code units in 3.10, bytes before.
            None if self.objects.version.minor >= 10 => position.checked_mul(2),
            None => Some(position),
        }
    }
}

#[cfg(test)]
mod tests;
