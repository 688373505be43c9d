//! What a replay tells whoever started it: records of fixed size, written one by one, so that what
//! was told stays when it is killed.

/// A record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The allocator is there, and the clocks are those of the window or not.
    Ready {
        /// The private memory that is the replay's own.
        base_bytes: u64,
        /// Clocks show the recorded time.
        clock_is_recorded: bool,
        /// glibc's version as major * 1000 + minor; 0 where it is another libc.
        glibc_version: u64,
        /// Device and inode number of the file that `malloc` is in, by `or` of the two.
        inode: u64,
    },
    /// So it was at a time of the window.
    Sample {
        /// Since the window was opened.
        at_ns: u64,
        /// Private memory beyond what is the replay's own.
        heap_bytes: u64,
        /// Calls so far.
        calls: u64,
        /// CPU time of the calls so far.
        cpu_ns: u64,
    },
    /// All was done.
    Done {
        /// Calls.
        calls: u64,
        /// CPU time, without that of measuring.
        cpu_ns: u64,
        /// The same by the clock on the wall.
        wall_ns: u64,
        /// Calls that the allocator refused.
        refused: u64,
    },
    /// It stopped by itself, because it had more than it may have.
    OverLimit {
        /// What it had.
        heap_bytes: u64,
    },
    /// It could not go on.
    Failed {
        /// See `Failure`.
        reason: u64,
    },
}

/// Bytes of a record.
pub const RECORD_BYTES: usize = 40;

impl Record {
    /// As bytes.
    pub fn bytes(self) -> [u8; RECORD_BYTES] {
        let words = match self {
            Self::Ready { base_bytes, clock_is_recorded, glibc_version, inode } => {
                [1, base_bytes, clock_is_recorded.into(), glibc_version, inode]
            }
            Self::Sample { at_ns, heap_bytes, calls, cpu_ns } => {
                [2, at_ns, heap_bytes, calls, cpu_ns]
            }
            Self::Done { calls, cpu_ns, wall_ns, refused } => [3, calls, cpu_ns, wall_ns, refused],
            Self::OverLimit { heap_bytes } => [4, heap_bytes, 0, 0, 0],
            Self::Failed { reason } => [5, reason, 0, 0, 0],
        };
        let mut bytes = [0; RECORD_BYTES];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// Of bytes; `None` where there are too few, or they are no record.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let (words, _) = bytes.get(..RECORD_BYTES)?.as_chunks::<8>();
        let word = |at: usize| u64::from_le_bytes(words[at]);
        let [one, two, three, four] = [1, 2, 3, 4].map(word);
        Some(match word(0) {
            1 => Self::Ready {
                base_bytes: one,
                clock_is_recorded: two != 0,
                glibc_version: three,
                inode: four,
            },
            2 => Self::Sample { at_ns: one, heap_bytes: two, calls: three, cpu_ns: four },
            3 => Self::Done { calls: one, cpu_ns: two, wall_ns: three, refused: four },
            4 => Self::OverLimit { heap_bytes: one },
            5 => Self::Failed { reason: one },
            _ => return None,
        })
    }

    /// All that were written.
    pub fn all(bytes: &[u8]) -> Vec<Self> {
        bytes.chunks(RECORD_BYTES).map_while(Self::of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_one_that_was_cut_is_none() {
        let records = [
            Record::Ready { base_bytes: 1, clock_is_recorded: true, glibc_version: 2036, inode: 4 },
            Record::Sample { at_ns: 1, heap_bytes: 2, calls: 3, cpu_ns: 4 },
            Record::Done { calls: 1, cpu_ns: 2, wall_ns: 3, refused: 4 },
            Record::OverLimit { heap_bytes: 5 },
            Record::Failed { reason: 6 },
        ];
        let mut bytes = records.map(Record::bytes).concat();
        assert_eq!(Record::all(&bytes), records);
        bytes.pop();
        assert_eq!(Record::all(&bytes), records[..4]);
        assert_eq!(Record::of(&[9; RECORD_BYTES]), None);
    }
}
