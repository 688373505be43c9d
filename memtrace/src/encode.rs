//! Events to ring-buffer records, as the kernel side writes them: for recorded streams, tests and
//! benchmarks. The reverse of [`crate::decode`].

use bytes::BufMut;
use memtrace_common::wire::{FLAG_INTERNAL, RecordKind, STACK_GUESSED};

use crate::model::{
    event::{Action, Event},
    stack::RawStack,
};

/// Appends the record of an event.
pub fn encode(event: &Event, out: &mut Vec<u8>) {
    out.put_u8(kind_of(&event.action) as u8);
    out.put_u8(event.function as u8);
    let internal = if event.internal { FLAG_INTERNAL } else { 0 };
    out.put_u16_le(internal | event.interval.to_flags() | event.object.to_flags());
    out.put_u32_le(event.tid);
    out.put_u64_le(event.time_ns);
    put_action(&event.action, out);
}

fn kind_of(action: &Action) -> RecordKind {
    match action {
        Action::Alloc { .. } => RecordKind::Alloc,
        Action::Free { .. } => RecordKind::Free,
        Action::ReallocBegin { .. } => RecordKind::ReallocBegin,
        Action::ReallocEnd { .. } => RecordKind::ReallocEnd,
        Action::Map { .. } => RecordKind::Map,
        Action::UnmapBegin { .. } => RecordKind::UnmapBegin,
        Action::UnmapEnd { .. } => RecordKind::UnmapEnd,
        Action::RemapBegin { .. } => RecordKind::RemapBegin,
        Action::RemapEnd { .. } => RecordKind::RemapEnd,
        Action::Break { .. } => RecordKind::Break,
        Action::Stack { .. } => RecordKind::Stack,
        Action::Fork => RecordKind::Fork,
        Action::Exec => RecordKind::Exec,
        Action::ThreadExit => RecordKind::ThreadExit,
        Action::CodeChange => RecordKind::CodeChange,
        Action::Child { .. } => RecordKind::Child,
        Action::Protect { .. } => RecordKind::Protect,
        Action::Discard { .. } => RecordKind::Discard,
    }
}

fn put_action(action: &Action, out: &mut Vec<u8>) {
    match *action {
        Action::Alloc { address, size_bytes, stack } => {
            put_words(out, &[address, size_bytes, stack.0]);
        }
        Action::Free { address } | Action::ReallocBegin { old_address: address } => {
            put_words(out, &[address]);
        }
        Action::ReallocEnd { old_address, new_address, size_bytes, stack } => {
            put_words(out, &[old_address, new_address, size_bytes, stack.0]);
        }
        Action::Map { address, length_bytes, prot, map_flags, stack } => {
            put_words(out, &[address, length_bytes]);
            out.put_u32_le(prot);
            out.put_u32_le(map_flags);
            put_words(out, &[stack.0]);
        }
        Action::UnmapBegin { address, length_bytes }
        | Action::RemapBegin { old_address: address, old_length_bytes: length_bytes }
        | Action::Discard { address, length_bytes } => {
            put_words(out, &[address, length_bytes]);
        }
        Action::UnmapEnd { address, length_bytes, failed } => {
            put_words(out, &[address, length_bytes, u64::from(failed)]);
        }
        Action::RemapEnd {
            old_address,
            old_length_bytes,
            new_address,
            new_length_bytes,
            stack,
        } => {
            put_words(out, &[old_address, old_length_bytes, new_address, new_length_bytes, stack.0])
        }
        Action::Break { old_break, new_break, stack } => {
            put_words(out, &[old_break, new_break, stack.0]);
        }
        Action::Protect { address, length_bytes, prot, stack } => {
            put_words(out, &[address, length_bytes]);
            out.put_u32_le(prot);
            out.put_u32_le(0);
            put_words(out, &[stack.0]);
        }
        Action::Stack { id, ref stack } => put_stack(id.0, stack, out),
        Action::Child { pid, shares_memory } => {
            out.put_u32_le(pid);
            out.put_u32_le(shares_memory.into());
        }
        Action::Fork | Action::Exec | Action::ThreadExit | Action::CodeChange => {}
    }
}

fn put_stack(id: u64, stack: &RawStack, out: &mut Vec<u8>) {
    put_words(out, &[id]);
    out.put_u32_le(stack.frames.len() as u32);
    out.put_u32_le(stack.end as u32 | if stack.guessed { STACK_GUESSED } else { 0 });
    out.put_u32_le(stack.python.len() as u32);
    out.put_u32_le(stack.python_end as u32);
    for frame in &stack.python {
        put_words(out, &[frame.code, frame.position]);
    }
    put_words(out, &stack.frames);
}

fn put_words(out: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        out.put_u64_le(*word);
    }
}
