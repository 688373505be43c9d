//! Events to blocks.

use std::cmp::Ordering;

use hashbrown::HashMap;
use memtrace_common::sample::Interval;

use super::{
    flat::{Flat, OPERANDS, Operands},
    recent::Recent,
};
use crate::{
    capture::{
        KeptEvent,
        codec::{put, put_bytes, put_difference, zigzag},
        format::{EVENTS_A_BLOCK, MAX_DICTIONARY},
    },
    model::{ObjectNumber, event::Event, stack::StackId},
};

/// Bits of a shape's flags.
pub(super) const INTERNAL: u8 = 1;
/// See [`KeptEvent::is_arena`].
pub(super) const ARENA: u8 = 2;
/// See [`KeptEvent::is_unseen`].
pub(super) const UNSEEN: u8 = 4;

/// In the byte of the action: the event is a sample. Readers that do not know it refuse the block,
/// because they would take the sample for all there was.
const SAMPLED: u8 = 0x80;
/// In the byte of the action: the sixth bit of the interval's exponent.
const SIXTH_BIT: u8 = 0x40;
/// Where its first five bits are in the flags.
const LOW_BITS_SHIFT: u32 = 3;
/// The bits of the byte of the action that are the action.
pub(super) const ACTION: u8 = !(SAMPLED | SIXTH_BIT);

/// What is added to the bytes of the action and of the flags; nothing where all is looked at.
fn interval_bits(interval: Interval) -> [u8; 2] {
    let exponent = interval.exponent();
    match exponent {
        0 => [0; 2],
        _ => [SAMPLED | ((exponent >> 5) * SIXTH_BIT), exponent << LOW_BITS_SHIFT],
    }
}

/// The reverse of [`interval_bits`]; `None` for what it never makes.
pub(super) fn interval_of_bits(action: u8, flags: u8) -> Option<Interval> {
    let sixth_bit = u8::from(action & SIXTH_BIT != 0) << 5;
    let exponent = (flags >> LOW_BITS_SHIFT) | sixth_bit;
    let is_sampled = action & SAMPLED != 0;
    let known = is_sampled == (exponent > 0) && exponent <= Interval::MAX.exponent();
    known.then(|| Interval::from_exponent(exponent))
}

/// Addresses lie at multiples of 8: their low bits go where they cost nothing.
pub(super) const ROTATION: u32 = 3;

/// What an event is, without its numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Action, function, flags.
    code: [u8; 3],
    object: ObjectNumber,
}

/// The columns of a block.
#[derive(Default)]
struct Columns {
    shapes: Vec<u8>,
    threads: Vec<u8>,
    times: Vec<u8>,
    references: Vec<u8>,
    addresses: Vec<u8>,
    stacks: Vec<u8>,
    sizes: Vec<u8>,
    others: Vec<u8>,
}

impl Columns {
    fn all(&mut self) -> [&mut Vec<u8>; 8] {
        let Self { shapes, threads, times, references, addresses, stacks, sizes, others } = self;
        [shapes, threads, times, references, addresses, stacks, sizes, others]
    }
}

/// A thread in a block.
#[derive(Clone, Copy)]
struct Thread {
    tid: u32,
    /// Its last new address, rotated: threads have their own arenas.
    address: u64,
}

/// The size that a stack asked for last, and in which block.
#[derive(Clone, Copy, Default)]
pub(super) struct LastSize {
    pub(super) block: u32,
    pub(super) size_bytes: u64,
}

/// A size's place when the one before is put first: 0 for the same again.
#[inline]
fn size_code(before: u64, size_bytes: u64) -> u64 {
    match size_bytes.cmp(&before) {
        Ordering::Equal => 0,
        Ordering::Less => size_bytes + 1,
        Ordering::Greater => size_bytes,
    }
}

/// The reverse of [`size_code`].
#[inline]
pub(super) fn size_of_code(before: u64, code: u64) -> u64 {
    match code {
        0 => before,
        1.. if code <= before => code - 1,
        _ => code,
    }
}

/// Collects events until a block is full.
pub struct EventEncoder {
    count: usize,
    /// Blocks are told apart, so that nothing in one rests on another.
    block: u32,
    columns: Columns,
    shapes: Vec<Shape>,
    threads: Vec<Thread>,
    thread_ids: HashMap<u32, usize>,
    time_ns: u64,
    recent: Recent,
    /// All stacks that events referred to, and what each asked for last.
    dictionary: HashMap<StackId, usize>,
    sizes: Vec<LastSize>,
    /// Those that are new in this block.
    new_stacks: Vec<u8>,
    known_stacks: usize,
}

impl Default for EventEncoder {
    fn default() -> Self {
        Self {
            count: 0,
            block: 1,
            columns: Columns::default(),
            shapes: Vec::new(),
            threads: Vec::new(),
            thread_ids: HashMap::new(),
            time_ns: 0,
            recent: Recent::default(),
            dictionary: HashMap::new(),
            sizes: Vec::new(),
            new_stacks: Vec::new(),
            known_stacks: 0,
        }
    }
}

impl EventEncoder {
    /// Takes an event; stacks are none, and are left out. `true` when the block is full.
    #[inline]
    pub fn push(&mut self, kept: &KeptEvent) -> bool {
        let Some(flat) = Flat::of(&kept.event.action) else { return false };
        self.count += 1;
        let Event { function, tid, time_ns, internal, interval, object, .. } = kept.event;
        let flags = if internal { INTERNAL } else { 0 }
            | if kept.is_arena { ARENA } else { 0 }
            | if kept.is_unseen { UNSEEN } else { 0 };
        let [sampled, low_bits] = interval_bits(interval);
        self.put_shape(Shape {
            code: [flat.code | sampled, function as u8, flags | low_bits],
            object,
        });
        let thread = self.put_thread(tid);
        put_difference(&mut self.columns.times, &mut self.time_ns, time_ns);
        self.put_operands(&flat, OPERANDS[usize::from(flat.code)], thread);
        self.count >= EVENTS_A_BLOCK
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    #[inline]
    fn put_operands(&mut self, flat: &Flat, has: Operands, thread: usize) {
        for address in &flat.addresses[..has.addresses] {
            self.put_address(*address, thread);
        }
        if has.has_stack {
            let stack = self.stack(flat.stack);
            put(&mut self.columns.stacks, stack as u64);
            if has.has_size {
                self.put_size(stack, flat.size_bytes);
            }
        }
        for other in &flat.others[..has.others] {
            put(&mut self.columns.others, *other);
        }
    }

    #[inline]
    fn put_shape(&mut self, shape: Shape) {
        let index = self.shapes.iter().position(|known| *known == shape).unwrap_or_else(|| {
            self.shapes.push(shape);
            self.shapes.len() - 1
        });
        put(&mut self.columns.shapes, index as u64);
    }

    #[inline]
    fn put_thread(&mut self, tid: u32) -> usize {
        let threads = &mut self.threads;
        let index = *self.thread_ids.entry(tid).or_insert_with(|| {
            threads.push(Thread { tid, address: 0 });
            threads.len() - 1
        });
        put(&mut self.columns.threads, index as u64);
        index
    }

    #[inline]
    fn put_address(&mut self, address: u64, thread: usize) {
        let references = &mut self.columns.references;
        if address == 0 {
            return put(references, 1);
        }
        if let Some(distance) = self.recent.distance(address) {
            return put(references, distance + 1);
        }
        put(references, 0);
        let before = &mut self.threads[thread].address;
        put_difference(&mut self.columns.addresses, before, address.rotate_right(ROTATION));
    }

    #[inline]
    fn put_size(&mut self, stack: usize, size_bytes: u64) {
        let last = &mut self.sizes[stack];
        if last.block != self.block {
            *last = LastSize { block: self.block, size_bytes: 0 };
        }
        put(&mut self.columns.sizes, size_code(last.size_bytes, size_bytes));
        last.size_bytes = size_bytes;
    }

    #[inline]
    fn stack(&mut self, id: StackId) -> usize {
        let next = self.sizes.len();
        let index = *self.dictionary.entry(id).or_insert(next);
        if index == next {
            self.sizes.push(LastSize::default());
            self.new_stacks.extend_from_slice(&id.0.to_le_bytes());
        }
        index
    }

    /// Appends the block's payload, and begins the next. How many events are in it.
    pub fn take(&mut self, out: &mut Vec<u8>) -> usize {
        let count = self.count;
        put(out, count as u64);
        put(out, self.known_stacks as u64);
        put_bytes(out, &self.new_stacks);
        let codes: Vec<_> = self.shapes.iter().map(|shape| shape.code).collect();
        put_bytes(out, codes.as_flattened());
        put_bytes(out, &self.thread_column());
        for column in self.columns.all() {
            put_bytes(out, column);
            column.clear();
        }
        put_bytes(out, &self.objects());
        self.begin();
        count
    }

    /// By shape; nothing where all are the first.
    fn objects(&self) -> Vec<u8> {
        let objects = self.shapes.iter().map(|shape| shape.object.position() as u8);
        let objects: Vec<u8> = objects.collect();
        if objects.iter().all(|object| *object == 0) { Vec::new() } else { objects }
    }

    fn thread_column(&self) -> Vec<u8> {
        let (mut column, mut before) = (Vec::new(), 0);
        for thread in &self.threads {
            put(&mut column, zigzag(u64::from(thread.tid).wrapping_sub(before)));
            before = thread.tid.into();
        }
        column
    }

    fn begin(&mut self) {
        if self.sizes.len() > MAX_DICTIONARY - EVENTS_A_BLOCK {
            self.dictionary.clear();
            self.sizes.clear();
        }
        self.count = 0;
        self.block += 1;
        self.shapes.clear();
        self.threads.clear();
        self.thread_ids.clear();
        self.time_ns = 0;
        self.recent.clear();
        self.new_stacks.clear();
        self.known_stacks = self.sizes.len();
    }
}
