//! Ring-buffer records to events. This alone knows the wire format of the user side.
//!
//! The input is what the kernel side wrote, but a version mix-up or a bug there must show as an
//! error that is counted, never as a panic or as a wrong event. Nothing is allocated except for
//! the frames of a stack.

use bytes::Buf;
use memtrace_common::python::{MAX_PYTHON_FRAMES, PythonEnd, PythonFrame};
use memtrace_common::sample::{FLAGS_MASK, Interval};
use memtrace_common::wire::{
    AllocRecord, BreakRecord, ChildRecord, FLAG_INTERNAL, FreeRecord, MAX_FRAMES, MapRecord,
    OBJECT_FLAGS_MASK, ObjectNumber, ProcessRecord, RangeRecord, ReallocRecord, RecordHeader,
    RecordKind, RemapRecord, STACK_GUESSED, StackEnd, StackHeader, UnmapRecord,
};
use thiserror::Error;

use crate::model::{
    AllocFn,
    event::{Action, Event},
    stack::{RawStack, StackId},
};

/// The ring aligns records to 8 bytes, so up to 7 bytes may follow one.
const MAX_PADDING_BYTES: usize = 7;

/// Why a record could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The record ends before its struct does.
    #[error("record of {actual_bytes} bytes where {needed_bytes} are needed")]
    Short {
        /// What the kind (and the number of frames) calls for.
        needed_bytes: usize,
        /// What is there.
        actual_bytes: usize,
    },
    /// More follows the struct than alignment explains.
    #[error("{extra_bytes} bytes after the end of the record")]
    Trailing {
        /// Bytes after the struct.
        extra_bytes: usize,
    },
    /// No [`RecordKind`] has this value.
    #[error("unknown kind of record {0}")]
    UnknownKind(u8),
    /// No [`AllocFn`] has this value.
    #[error("unknown function {0}")]
    UnknownFunction(u8),
    /// A flag bit that this version does not define.
    #[error("unknown flags {0:#x}")]
    UnknownFlags(u16),
    /// No [`StackEnd`] or [`PythonEnd`] has this value.
    #[error("unknown end of stack {0}")]
    UnknownStackEnd(u32),
    /// More frames than [`MAX_FRAMES`] or [`MAX_PYTHON_FRAMES`].
    #[error("stack of {0} frames, more than the most that are ever written")]
    TooManyFrames(u32),
    /// A field that is never 0 is.
    #[error("{0} is 0")]
    Zero(&'static str),
    /// A truth value that is neither 0 nor 1.
    #[error("truth value {0}")]
    NotBoolean(u64),
}

/// Decodes one record of the ring buffer.
///
/// # Errors
/// A [`DecodeError`] for anything that the kernel side of this version does not write.
pub fn decode(record: &[u8]) -> Result<Event, DecodeError> {
    let mut rest = record;
    let kind = take_kind(&mut rest)?;
    check_length(record.len(), struct_bytes(kind), kind)?;
    let function = take_function(&mut rest)?;
    let (internal, interval, object) = take_flags(&mut rest)?;
    let tid = rest.get_u32_le();
    let time_ns = rest.get_u64_le();
    let action = take_action(kind, &mut rest)?;
    Ok(Event { function, tid, time_ns, internal, interval, object, action })
}

/// Bytes of the struct of a kind, without a stack's frames.
fn struct_bytes(kind: RecordKind) -> usize {
    match kind {
        RecordKind::Alloc => size_of::<AllocRecord>(),
        RecordKind::Free | RecordKind::ReallocBegin => size_of::<FreeRecord>(),
        RecordKind::ReallocEnd => size_of::<ReallocRecord>(),
        RecordKind::Map | RecordKind::Protect => size_of::<MapRecord>(),
        RecordKind::UnmapBegin | RecordKind::RemapBegin | RecordKind::Discard => {
            size_of::<RangeRecord>()
        }
        RecordKind::UnmapEnd => size_of::<UnmapRecord>(),
        RecordKind::RemapEnd => size_of::<RemapRecord>(),
        RecordKind::Break => size_of::<BreakRecord>(),
        RecordKind::Stack => size_of::<StackHeader>(),
        RecordKind::Fork | RecordKind::Exec | RecordKind::ThreadExit | RecordKind::CodeChange => {
            size_of::<ProcessRecord>()
        }
        RecordKind::Child => size_of::<ChildRecord>(),
    }
}

/// Checks that a record holds its struct and, unless frames follow, not more than that.
fn check_length(
    actual_bytes: usize,
    needed_bytes: usize,
    kind: RecordKind,
) -> Result<(), DecodeError> {
    match actual_bytes.checked_sub(needed_bytes) {
        None => Err(DecodeError::Short { needed_bytes, actual_bytes }),
        Some(extra) if kind != RecordKind::Stack => check_padding(extra),
        Some(_) => Ok(()),
    }
}

fn check_padding(extra_bytes: usize) -> Result<(), DecodeError> {
    if extra_bytes > MAX_PADDING_BYTES {
        return Err(DecodeError::Trailing { extra_bytes });
    }
    Ok(())
}

fn take_kind(rest: &mut &[u8]) -> Result<RecordKind, DecodeError> {
    let too_short =
        DecodeError::Short { needed_bytes: size_of::<RecordHeader>(), actual_bytes: rest.len() };
    let kind = rest.try_get_u8().map_err(|_| too_short)?;
    RecordKind::from_u8(kind).ok_or(DecodeError::UnknownKind(kind))
}

fn take_function(rest: &mut &[u8]) -> Result<AllocFn, DecodeError> {
    let function = rest.get_u8();
    AllocFn::from_u8(function).ok_or(DecodeError::UnknownFunction(function))
}

fn take_flags(rest: &mut &[u8]) -> Result<(bool, Interval, ObjectNumber), DecodeError> {
    let flags = rest.get_u16_le();
    let unknown = flags & !(FLAG_INTERNAL | OBJECT_FLAGS_MASK | FLAGS_MASK) != 0;
    let interval = Interval::from_flags(flags).filter(|_| !unknown);
    let interval = interval.ok_or(DecodeError::UnknownFlags(flags))?;
    Ok((flags & FLAG_INTERNAL != 0, interval, ObjectNumber::from_flags(flags)))
}

/// Decodes what follows the header; [`check_length`] has made sure that the struct is there.
fn take_action(kind: RecordKind, rest: &mut &[u8]) -> Result<Action, DecodeError> {
    Ok(match kind {
        RecordKind::Alloc => Action::Alloc {
            address: take_nonzero(rest, "the address of a block")?,
            size_bytes: rest.get_u64_le(),
            stack: take_stack_id(rest),
        },
        RecordKind::Free => {
            Action::Free { address: take_nonzero(rest, "the address of a freed block")? }
        }
        RecordKind::ReallocBegin => Action::ReallocBegin {
            old_address: take_nonzero(rest, "the address of a block given to realloc")?,
        },
        RecordKind::ReallocEnd => Action::ReallocEnd {
            old_address: rest.get_u64_le(),
            new_address: rest.get_u64_le(),
            size_bytes: rest.get_u64_le(),
            stack: take_stack_id(rest),
        },
        RecordKind::Fork => Action::Fork,
        RecordKind::Exec => Action::Exec,
        RecordKind::ThreadExit => Action::ThreadExit,
        RecordKind::CodeChange => Action::CodeChange,
        RecordKind::Child => {
            let (pid, shares_memory) = (rest.get_u32_le(), rest.get_u32_le());
            Action::Child { pid, shares_memory: boolean(shares_memory.into())? }
        }
        RecordKind::Stack => take_stack(rest)?,
        RecordKind::Map
        | RecordKind::UnmapBegin
        | RecordKind::UnmapEnd
        | RecordKind::RemapBegin
        | RecordKind::RemapEnd
        | RecordKind::Break
        | RecordKind::Protect
        | RecordKind::Discard => take_mapping_action(kind, rest)?,
    })
}

fn take_mapping_action(kind: RecordKind, rest: &mut &[u8]) -> Result<Action, DecodeError> {
    Ok(match kind {
        RecordKind::Map => Action::Map {
            address: rest.get_u64_le(),
            length_bytes: rest.get_u64_le(),
            prot: rest.get_u32_le(),
            map_flags: rest.get_u32_le(),
            stack: take_stack_id(rest),
        },
        RecordKind::UnmapBegin => {
            Action::UnmapBegin { address: rest.get_u64_le(), length_bytes: rest.get_u64_le() }
        }
        RecordKind::UnmapEnd => Action::UnmapEnd {
            address: rest.get_u64_le(),
            length_bytes: rest.get_u64_le(),
            failed: take_bool(rest)?,
        },
        RecordKind::RemapBegin => Action::RemapBegin {
            old_address: rest.get_u64_le(),
            old_length_bytes: rest.get_u64_le(),
        },
        RecordKind::RemapEnd => Action::RemapEnd {
            old_address: rest.get_u64_le(),
            old_length_bytes: rest.get_u64_le(),
            new_address: rest.get_u64_le(),
            new_length_bytes: rest.get_u64_le(),
            stack: take_stack_id(rest),
        },
        RecordKind::Break => Action::Break {
            old_break: rest.get_u64_le(),
            new_break: rest.get_u64_le(),
            stack: take_stack_id(rest),
        },
        RecordKind::Protect => take_protection(rest),
        RecordKind::Discard => {
            Action::Discard { address: rest.get_u64_le(), length_bytes: rest.get_u64_le() }
        }
        other => return Err(DecodeError::UnknownKind(other as u8)),
    })
}

fn take_protection(rest: &mut &[u8]) -> Action {
    let (address, length_bytes) = (rest.get_u64_le(), rest.get_u64_le());
    let prot = rest.get_u32_le();
    let _flags_of_a_mapping = rest.get_u32_le();
    Action::Protect { address, length_bytes, prot, stack: take_stack_id(rest) }
}

fn take_stack_id(rest: &mut &[u8]) -> StackId {
    StackId(rest.get_u64_le())
}

fn take_nonzero(rest: &mut &[u8], what: &'static str) -> Result<u64, DecodeError> {
    match rest.get_u64_le() {
        0 => Err(DecodeError::Zero(what)),
        value => Ok(value),
    }
}

fn take_bool(rest: &mut &[u8]) -> Result<bool, DecodeError> {
    boolean(rest.get_u64_le())
}

fn boolean(word: u64) -> Result<bool, DecodeError> {
    match word {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(DecodeError::NotBoolean(other)),
    }
}

fn take_stack(rest: &mut &[u8]) -> Result<Action, DecodeError> {
    let id = StackId(take_nonzero(rest, "the id of a stack")?);
    let frames = limited(rest.get_u32_le(), MAX_FRAMES)?;
    let word = rest.get_u32_le();
    let guessed = word & STACK_GUESSED != 0;
    let end = word & !STACK_GUESSED;
    let end = StackEnd::from_u32(end).ok_or(DecodeError::UnknownStackEnd(end))?;
    let python_frames = limited(rest.get_u32_le(), MAX_PYTHON_FRAMES)?;
    let python_end = rest.get_u32_le();
    let python_end =
        PythonEnd::from_u32(python_end).ok_or(DecodeError::UnknownStackEnd(python_end))?;
    check_frames(rest, python_frames * size_of::<PythonFrame>() + frames * size_of::<u64>())?;
    let python = (0..python_frames).map(|_| take_python_frame(rest)).collect();
    let frames = (0..frames).map(|_| rest.get_u64_le()).collect();
    Ok(Action::Stack { id, stack: RawStack { frames, end, guessed, python, python_end } })
}

fn take_python_frame(rest: &mut &[u8]) -> PythonFrame {
    PythonFrame { code: rest.get_u64_le(), position: rest.get_u64_le() }
}

/// A number of frames, checked before anything is allocated for them.
fn limited(count: u32, most: usize) -> Result<usize, DecodeError> {
    if count as usize > most { Err(DecodeError::TooManyFrames(count)) } else { Ok(count as usize) }
}

/// Checks that just the frames follow.
fn check_frames(rest: &[u8], frame_bytes: usize) -> Result<(), DecodeError> {
    match rest.len().checked_sub(frame_bytes) {
        Some(extra) => check_padding(extra),
        None => Err(DecodeError::Short {
            needed_bytes: size_of::<StackHeader>() + frame_bytes,
            actual_bytes: size_of::<StackHeader>() + rest.len(),
        }),
    }
}

#[cfg(test)]
mod tests;
