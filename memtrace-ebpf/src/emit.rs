//! Records into the ring buffer. A record that does not fit is counted, never waited for.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
};
use memtrace_common::{
    config::Config,
    function::AllocFn,
    wire::{RecordHeader, RecordKind},
};

use crate::maps::{EVENTS, count_ring_full};

/// Bytes that the ring adds to each record (`BPF_RINGBUF_HDR_SZ`).
const RING_HEADER_BYTES: u64 = 8;

/// A power of two, of which each ring is a multiple.
pub const BLOCK_BYTES: u64 = 4096;

/// The most bytes that a record takes in the ring, but for those of stacks, which ask for themselves.
const MOST_BYTES: u64 = 128;

/// `CLOCK_MONOTONIC`, in nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// The head of a record of the current thread, now.
#[inline(always)]
pub fn header(kind: RecordKind, function: u8, flags: u64) -> RecordHeader {
    header_of(bpf_get_current_pid_tgid(), kind, function, flags, now_ns())
}

/// The head of a record of the current thread, which has this `pid_tgid`, at a time.
#[inline(always)]
pub fn header_of(
    thread: u64,
    kind: RecordKind,
    function: u8,
    flags: u64,
    time_ns: u64,
) -> RecordHeader {
    RecordHeader { kind: kind as u8, function, flags: flags as u16, tid: thread as u32, time_ns }
}

/// The head of a record in which no function is involved.
#[inline(always)]
pub fn plain_header(kind: RecordKind) -> RecordHeader {
    header(kind, AllocFn::Malloc as u8, 0)
}

/// Puts a record into the ring; `false`, and counted, when it does not fit.
#[inline(always)]
pub fn record<T: 'static>(config: &Config, kind: RecordKind, record: T) -> bool {
    const { assert!(size_of::<T>() as u64 + RING_HEADER_BYTES <= MOST_BYTES) };
    put(kind, record, |place| {
        if begins_block(config, place) {
            wakeup_flags(config, BLOCK_BYTES + MOST_BYTES)
        } else {
            u64::from(BPF_RB_NO_WAKEUP)
        }
    })
}

/// Flags of a record that wakes the reader in any case.
pub const WAKE_NOW: u64 = BPF_RB_FORCE_WAKEUP as u64;

/// As [`record`], and wakes the reader in any case.
#[inline(always)]
pub fn record_now<T: 'static>(kind: RecordKind, record: T) -> bool {
    put(kind, record, |_| WAKE_NOW)
}

#[inline(always)]
fn put<T: 'static>(kind: RecordKind, record: T, flags: impl FnOnce(*const u8) -> u64) -> bool {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count_ring_full(kind);
        return false;
    };
    let flags = flags(entry.as_ptr().cast());
    entry.write(record);
    entry.submit(flags);
    true
}

/// Whether a record is the first, or one of the first, in its block of the ring. To ask how full the
/// ring is costs as much as to write a record, so that only these do. The blocks begin somewhere:
/// the verifier lets nothing be known of an address but how far it is from another.
#[inline(always)]
fn begins_block(config: &Config, place: *const u8) -> bool {
    let anywhere = core::ptr::from_ref(config).cast::<u8>();
    let distance = (place as u64).wrapping_sub(anywhere as u64);
    distance & (BLOCK_BYTES - 1) < MOST_BYTES
}

/// The flags of a record, when the ring was last asked so many bytes before its end at most. Wakes the
/// reader once when the fill level passes the mark, and not for every record: a wakeup costs more
/// than all else here. The reader also looks by itself every few milliseconds.
#[inline(always)]
pub fn wakeup_flags(config: &Config, since_bytes: u64) -> u64 {
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let before = waiting.saturating_sub(since_bytes);
    if waiting >= config.wake_bytes && before < config.wake_bytes {
        WAKE_NOW
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}
