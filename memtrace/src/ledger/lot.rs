//! Lots that decide which blocks are meant where only their number is known.

use super::live::Block;

/// A number from 0 to below 1 that is a block's own in a `draw`: the same for each who asks (the finalizer of
/// SplitMix64, Steele and others, 2014).
pub(super) fn lot(block: &Block, draw: u64) -> f64 {
    let mut value = block.address.get() ^ block.time_ns.rotate_left(32);
    value = value.wrapping_add(draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    // As many bits as are exact.
    ((value ^ value >> 31) >> 11) as f64 / 2_f64.powi(53)
}
