//! Blocks to events.

use memtrace_common::sample::Interval;

use super::{
    encode::{ACTION, ARENA, INTERNAL, LastSize, ROTATION, UNSEEN, interval_of_bits, size_of_code},
    flat::{Flat, OPERANDS},
};
use crate::{
    capture::{
        KeptEvent,
        codec::{Fields, Malformed},
        format::MAX_DICTIONARY,
    },
    model::{AllocFn, ObjectNumber, event::Event, stack::StackId},
};

/// What is kept from block to block.
#[derive(Default)]
pub struct EventDecoder {
    dictionary: Vec<StackId>,
    sizes: Vec<LastSize>,
    block: u32,
    seen: Vec<u64>,
}

/// A thread in a block.
struct Thread {
    tid: u32,
    /// Its last new address, rotated.
    address: u64,
}

/// What an event is, without its numbers.
struct Shape {
    code: u8,
    function: AllocFn,
    flags: u8,
    interval: Interval,
    object: ObjectNumber,
}

/// A block that is read.
struct Block<'a> {
    shapes: Vec<Shape>,
    threads: Vec<Thread>,
    time_ns: u64,
    columns: Columns<'a>,
}

struct Columns<'a> {
    shapes: Fields<'a>,
    threads: Fields<'a>,
    times: Fields<'a>,
    references: Fields<'a>,
    addresses: Fields<'a>,
    stacks: Fields<'a>,
    sizes: Fields<'a>,
    others: Fields<'a>,
}

impl EventDecoder {
    /// Calls `visit` with the events of a block's payload, which are of this process. Stacks whose block is lost are
    /// [`StackId::NONE`].
    ///
    /// # Errors
    /// When it is not what the encoder makes; some events may have been visited.
    pub fn block(
        &mut self,
        payload: &[u8],
        process: u8,
        visit: &mut dyn FnMut(&KeptEvent),
    ) -> Result<(), Malformed> {
        let mut fields = Fields(payload);
        let count = fields.index()?;
        self.learn(&mut fields)?;
        let mut block = Block {
            shapes: shapes(fields.bytes()?)?,
            threads: threads(Fields(fields.bytes()?))?,
            time_ns: 0,
            columns: columns(&mut fields)?,
        };
        // Older files do not have them.
        let objects = if fields.0.is_empty() { &[] } else { fields.bytes()? };
        for (shape, object) in block.shapes.iter_mut().zip(objects) {
            shape.object = ObjectNumber::of((*object).into());
        }
        self.seen.clear();
        self.block = self.block.wrapping_add(1);
        for _ in 0..count {
            let kept = self.event(&mut block)?;
            visit(&KeptEvent { process, ..kept });
        }
        Ok(())
    }

    /// Takes up the block's part of the dictionary.
    fn learn(&mut self, fields: &mut Fields<'_>) -> Result<(), Malformed> {
        let known = fields.index()?;
        let new = fields.bytes()?;
        if known == 0 {
            self.dictionary.clear();
        }
        if known.saturating_add(new.len() / 8) > MAX_DICTIONARY {
            return Err(Malformed::TooMuch);
        }
        self.dictionary.resize(known, StackId::NONE);
        let (words, _) = new.as_chunks();
        self.dictionary.extend(words.iter().map(|word| StackId(u64::from_le_bytes(*word))));
        self.sizes.resize(self.dictionary.len(), LastSize::default());
        Ok(())
    }

    #[inline]
    fn event(&mut self, block: &mut Block<'_>) -> Result<KeptEvent, Malformed> {
        let shape = block.shapes.get(block.columns.shapes.index()?).ok_or(Malformed::Index)?;
        let thread = block.threads.get_mut(block.columns.threads.index()?);
        let thread = thread.ok_or(Malformed::Index)?;
        let time_ns = block.columns.times.difference(&mut block.time_ns)?;
        let flat = self.flat(shape.code, thread, &mut block.columns)?;
        let event = Event {
            function: shape.function,
            tid: thread.tid,
            time_ns,
            internal: shape.flags & INTERNAL != 0,
            interval: shape.interval,
            object: shape.object,
            action: flat.action()?,
        };
        let is_arena = shape.flags & ARENA != 0;
        Ok(KeptEvent { event, is_arena, is_unseen: shape.flags & UNSEEN != 0, process: 0 })
    }

    #[inline]
    fn flat(
        &mut self,
        code: u8,
        thread: &mut Thread,
        columns: &mut Columns<'_>,
    ) -> Result<Flat, Malformed> {
        let has = OPERANDS.get(usize::from(code)).ok_or(Malformed::Code)?;
        let (addresses, others, stack) = ([0; 2], [0; 2], StackId::NONE);
        let mut flat = Flat { code, addresses, stack, size_bytes: 0, others };
        for address in &mut flat.addresses[..has.addresses] {
            *address = self.address(thread, columns)?;
        }
        if has.has_stack {
            let index = columns.stacks.index()?;
            flat.stack = *self.dictionary.get(index).ok_or(Malformed::Index)?;
            if has.has_size {
                flat.size_bytes = self.size(index, columns)?;
            }
        }
        for other in &mut flat.others[..has.others] {
            *other = columns.others.number()?;
        }
        Ok(flat)
    }

    #[inline]
    fn address(
        &mut self,
        thread: &mut Thread,
        columns: &mut Columns<'_>,
    ) -> Result<u64, Malformed> {
        let address = match columns.references.index()? {
            0 => columns.addresses.difference(&mut thread.address)?.rotate_left(ROTATION),
            1 => return Ok(0),
            reference => {
                let at = self.seen.len().checked_sub(reference - 1);
                *at.and_then(|at| self.seen.get(at)).ok_or(Malformed::Index)?
            }
        };
        self.seen.push(address);
        Ok(address)
    }

    #[inline]
    fn size(&mut self, stack: usize, columns: &mut Columns<'_>) -> Result<u64, Malformed> {
        let last = self.sizes.get_mut(stack).ok_or(Malformed::Index)?;
        let before = if last.block == self.block { last.size_bytes } else { 0 };
        let size_bytes = size_of_code(before, columns.sizes.number()?);
        *last = LastSize { block: self.block, size_bytes };
        Ok(size_bytes)
    }
}

fn shapes(column: &[u8]) -> Result<Vec<Shape>, Malformed> {
    let (shapes, _) = column.as_chunks();
    let parse = |[code, function, flags]: &[u8; 3]| {
        let function = AllocFn::from_u8(*function).ok_or(Malformed::Code)?;
        let interval = interval_of_bits(*code, *flags).ok_or(Malformed::Code)?;
        let object = ObjectNumber::default();
        Ok(Shape { code: *code & ACTION, function, flags: *flags, interval, object })
    };
    shapes.iter().map(parse).collect()
}

fn threads(mut column: Fields<'_>) -> Result<Vec<Thread>, Malformed> {
    let (mut threads, mut before) = (Vec::new(), 0);
    while !column.0.is_empty() {
        let tid = u32::try_from(column.difference(&mut before)?);
        threads.push(Thread { tid: tid.map_err(|_| Malformed::Overlong)?, address: 0 });
    }
    Ok(threads)
}

fn columns<'a>(fields: &mut Fields<'a>) -> Result<Columns<'a>, Malformed> {
    let [shapes, threads, times, references, addresses, stacks, sizes, others] =
        fields.columns()?;
    Ok(Columns { shapes, threads, times, references, addresses, stacks, sizes, others })
}
