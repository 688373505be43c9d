//! Events for tests.

use crate::{
    capture::KeptEvent,
    model::{
        AllocFn,
        event::{Action, Event},
        stack::StackId,
    },
};

pub(super) fn event(tid: u32, function: AllocFn, time_ns: u64, action: Action) -> KeptEvent {
    let event = Event::of(function, tid, time_ns, action);
    KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
}

pub(super) fn alloc_by(function: AllocFn, tid: u32, address: u64, size_bytes: u64) -> KeptEvent {
    event(tid, function, 0, Action::Alloc { address, size_bytes, stack: StackId(1) })
}
