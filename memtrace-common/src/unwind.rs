//! Stack walking, generic over memory and over where frames go, so that one implementation runs
//! in the kernel and in tests. Frames are leaf first.
//!
//! [`walk`] follows unwind tables; [`frame_pointer`] needs none, and is complete only where all code
//! keeps frame pointers.

pub mod frame_pointer;
pub mod memo;
pub mod recall;
pub mod table;
pub mod walk;
pub mod window;

use crate::{opaque::OpaqueWords, python::MAX_PYTHON_FRAMES, wire::MAX_FRAMES};

/// The registers that a walk starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub bp: u64,
}

/// Takes return addresses.
pub trait FrameSink {
    /// Takes one; `false` when there is no room, which ends the walk.
    fn push(&mut self, return_address: u64) -> bool;

    /// Learns that the frame of the address that was taken last occupies `[sp, cfa)`.
    fn place(&mut self, sp: u64, cfa: u64);
}

/// The frames of a stack record as they are sent: Python's, two words each, then the native ones.
/// A power of two that holds the most of both.
pub type StackWords = OpaqueWords<{ (2 * MAX_PYTHON_FRAMES + MAX_FRAMES).next_power_of_two() }>;

/// Mixes a word into a stack hash (the multiplier is FNV-1a's 64-bit prime; the rotation spreads
/// the high bits that code addresses share).
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29)
}

/// The start value of a stack hash (FNV-1a's 64-bit offset basis).
pub const HASH_SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// Makes a hash usable as an id (0 means "no stack"); `end` is a [`crate::wire::StackEnd`].
#[inline(always)]
pub fn finish(hash: u64, end: u32) -> u64 {
    mix(mix(hash, end as u64), HASH_SEED) | 1
}
