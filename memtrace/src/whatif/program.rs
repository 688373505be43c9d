//! What a replay does, as a stream of bytes: a code and numbers in LEB128, about five bytes a call.
//!
//! It is written once and mapped by every replay, which must not allocate to read it. At its end is
//! a trailer of fixed size, because what it says is only known then.

use std::io::{self, Write};

/// Ends a program.
const MAGIC: u64 = u64::from_le_bytes(*b"MTREPLAY");

/// Magic, slots and threads.
const TRAILER_BYTES: usize = 24;

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The thread of this number goes on; it is started where it is not there.
    Turn {
        /// 0 is the first thread of the process.
        thread: u32,
    },
    /// The thread that is on ends.
    Exit,
    /// `malloc` of so many bytes, and each of their pages is used.
    Malloc {
        /// Where the block is kept.
        slot: u32,
        /// As requested.
        size_bytes: u64,
    },
    /// The same with `calloc`.
    Calloc {
        /// Where the block is kept.
        slot: u32,
        /// As requested.
        size_bytes: u64,
    },
    /// The same with `aligned_alloc`.
    Aligned {
        /// Where the block is kept.
        slot: u32,
        /// As requested.
        size_bytes: u64,
        /// The alignment is two to the power of this.
        exponent: u8,
    },
    /// A block of before the window: only its first bytes are used.
    Seed {
        /// Where the block is kept.
        slot: u32,
        /// Usable bytes.
        size_bytes: u64,
        /// Bytes whose pages are used.
        used_bytes: u64,
    },
    /// `free`.
    Free {
        /// Where the block was kept; nothing is there afterwards.
        slot: u32,
    },
    /// `realloc`, and what it adds is used.
    Realloc {
        /// Where the block is kept.
        slot: u32,
        /// As requested.
        size_bytes: u64,
        /// What of it was used before.
        used_bytes: u64,
    },
    /// So late it was, since the window was opened.
    Clock {
        /// Nanoseconds.
        at_ns: u64,
    },
    /// The same, and memory is measured.
    Sample {
        /// Nanoseconds.
        at_ns: u64,
    },
    /// A block of this size comes and goes, and is not used: glibc's threshold for mapped blocks
    /// follows it.
    Raise {
        /// Its size.
        size_bytes: u64,
    },
}

impl Op {
    /// The slot that it is about.
    pub fn slot(self) -> Option<u32> {
        match self {
            Self::Malloc { slot, .. }
            | Self::Calloc { slot, .. }
            | Self::Aligned { slot, .. }
            | Self::Seed { slot, .. }
            | Self::Free { slot }
            | Self::Realloc { slot, .. } => Some(slot),
            _ => None,
        }
    }

    fn numbers(self) -> (u8, [u64; 3], usize) {
        match self {
            Self::Turn { thread } => (0, [thread.into(), 0, 0], 1),
            Self::Exit => (1, [0; 3], 0),
            Self::Malloc { slot, size_bytes } => (2, [slot.into(), size_bytes, 0], 2),
            Self::Calloc { slot, size_bytes } => (3, [slot.into(), size_bytes, 0], 2),
            Self::Aligned { slot, size_bytes, exponent } => {
                (4, [slot.into(), size_bytes, exponent.into()], 3)
            }
            Self::Seed { slot, size_bytes, used_bytes } => {
                (5, [slot.into(), size_bytes, used_bytes], 3)
            }
            Self::Free { slot } => (6, [slot.into(), 0, 0], 1),
            Self::Realloc { slot, size_bytes, used_bytes } => {
                (7, [slot.into(), size_bytes, used_bytes], 3)
            }
            Self::Clock { at_ns } => (8, [at_ns, 0, 0], 1),
            Self::Sample { at_ns } => (9, [at_ns, 0, 0], 1),
            Self::Raise { size_bytes } => (10, [size_bytes, 0, 0], 1),
        }
    }
}

/// What there must be room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Slots are below this.
    pub slots: u32,
    /// Threads are below this.
    pub threads: u32,
}

/// Writes a program.
#[derive(Debug)]
pub struct ProgramWriter<W> {
    out: W,
    room: Room,
}

impl<W: Write> ProgramWriter<W> {
    /// One without steps yet. What it writes is small pieces: `out` should have a buffer.
    pub fn new(out: W) -> Self {
        Self { out, room: Room { slots: 0, threads: 1 } }
    }

    /// The next step.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn push(&mut self, op: Op) -> io::Result<()> {
        if let Some(slot) = op.slot() {
            self.room.slots = self.room.slots.max(slot.saturating_add(1));
        }
        if let Op::Turn { thread } = op {
            self.room.threads = self.room.threads.max(thread.saturating_add(1));
        }
        let (code, numbers, count) = op.numbers();
        let mut bytes = [code; 31];
        let mut length = 1;
        for number in &numbers[..count] {
            length += leb128(*number, &mut bytes[length..]);
        }
        self.out.write_all(&bytes[..length])
    }

    /// Ends it, and gives back the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        for word in [MAGIC, self.room.slots.into(), self.room.threads.into()] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

fn leb128(mut number: u64, to: &mut [u8]) -> usize {
    let mut length = 0;
    while number >= 0x80 {
        to[length] = number as u8 | 0x80;
        number >>= 7;
        length += 1;
    }
    to[length] = number as u8;
    length + 1
}

/// A program that is read; it allocates nothing.
#[derive(Clone, Debug)]
pub struct Program<'p> {
    steps: &'p [u8],
    at: usize,
}

impl<'p> Program<'p> {
    /// From its first step on, and what there must be room for. `None` where it is none.
    pub fn open(bytes: &'p [u8]) -> Option<(Self, Room)> {
        let (steps, trailer) = bytes.split_at_checked(bytes.len().checked_sub(TRAILER_BYTES)?)?;
        let word = |at: usize| trailer.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        if word(0)? != MAGIC {
            return None;
        }
        let room =
            Room { slots: u32::try_from(word(8)?).ok()?, threads: u32::try_from(word(16)?).ok()? };
        Some((Self { steps, at: 0 }, room))
    }

    #[inline]
    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = *self.steps.get(self.at)?;
            self.at += 1;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }

    #[inline]
    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }
}

impl Iterator for Program<'_> {
    type Item = Op;

    /// The next step; `None` at its end, or where it is broken.
    #[inline]
    fn next(&mut self) -> Option<Op> {
        let code = *self.steps.get(self.at)?;
        self.at += 1;
        Some(match code {
            0 => Op::Turn { thread: self.small()? },
            1 => Op::Exit,
            2 => Op::Malloc { slot: self.small()?, size_bytes: self.number()? },
            3 => Op::Calloc { slot: self.small()?, size_bytes: self.number()? },
            4 => Op::Aligned {
                slot: self.small()?,
                size_bytes: self.number()?,
                exponent: u8::try_from(self.number()?).ok()?,
            },
            5 => Op::Seed {
                slot: self.small()?,
                size_bytes: self.number()?,
                used_bytes: self.number()?,
            },
            6 => Op::Free { slot: self.small()? },
            7 => Op::Realloc {
                slot: self.small()?,
                size_bytes: self.number()?,
                used_bytes: self.number()?,
            },
            8 => Op::Clock { at_ns: self.number()? },
            9 => Op::Sample { at_ns: self.number()? },
            10 => Op::Raise { size_bytes: self.number()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_op() -> impl Strategy<Value = Op> {
        (0..11_u8, any::<u32>(), any::<u64>(), any::<u64>()).prop_map(|(code, slot, one, two)| {
            match code {
                0 => Op::Turn { thread: slot },
                1 => Op::Exit,
                2 => Op::Malloc { slot, size_bytes: one },
                3 => Op::Calloc { slot, size_bytes: one },
                4 => Op::Aligned { slot, size_bytes: one, exponent: two as u8 },
                5 => Op::Seed { slot, size_bytes: one, used_bytes: two },
                6 => Op::Free { slot },
                7 => Op::Realloc { slot, size_bytes: one, used_bytes: two },
                8 => Op::Clock { at_ns: one },
                9 => Op::Sample { at_ns: one },
                _ => Op::Raise { size_bytes: one },
            }
        })
    }

    proptest! {
        #[test]
        fn any_program_comes_back(ops in prop::collection::vec(any_op(), 0..50)) {
            let mut writer = ProgramWriter::new(Vec::new());
            ops.iter().for_each(|op| writer.push(*op).unwrap());
            let bytes = writer.finish().unwrap();
            let (program, room) = Program::open(&bytes).unwrap();
            for op in &ops {
                prop_assert!(op.slot().is_none_or(|slot| slot <= room.slots));
            }
            prop_assert_eq!(program.collect::<Vec<_>>(), ops);
        }

        #[test]
        fn bytes_of_any_kind_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let mut bytes = bytes;
            bytes.extend([MAGIC, 1, 1].map(u64::to_le_bytes).concat());
            let (program, _) = Program::open(&bytes).unwrap();
            prop_assert!(program.count() <= bytes.len());
        }
    }

    #[test]
    fn what_has_no_trailer_is_no_program() {
        assert!(Program::open(b"").is_none());
        assert!(Program::open(&[0; 100]).is_none());
    }
}
