//! CPython in the target: which it is, where its threads keep their frames, and what those are
//! called.
//!
//! [`detect::search`] finds an interpreter and proves that it is understood: it follows at least
//! one thread's frames to names and lines before anything is trusted. The result has the layout
//! that the kernel side walks by; [`code::CodeNames`] names what the kernel side sends.

pub mod code;
mod code_type;
mod debug_offsets;
pub mod detect;
mod linetable;
mod micro;
mod objects;
mod offsets;
mod refusal;
mod sanity;
mod subinterpreters;
mod survey;
mod thread_slot;
mod threads;
mod version;
mod walk;

pub use self::{
    code::{CodeNames, Moment, Objects, Resolved, UNREADABLE},
    linetable::LineFormat,
    offsets::Offsets,
    refusal::{Refusal, Refused},
    subinterpreters::Subinterpreters,
    version::Version,
    walk::{Walked, walk},
};

#[cfg(test)]
mod tests;
