//! Where a walk through one segment is, and where it can be taken up again.

use super::{
    super::{
        segment::Segment,
        shape::{ALIGNMENT_BYTES, SMALLEST_CHUNK_BYTES},
        tally::Tally,
    },
    recent::Recent,
};

/// How often in a segment a window is copied again, for each MiB of it and besides.
const RETRIES_PER_MIB: u64 = 8;
const MOST_RETRIES: u64 = 64;
/// How often in a segment the walk goes back behind a chunk that led astray, as above.
const RETURNS_PER_MIB: u64 = 1;
const MOST_RETURNS: u64 = 64;
/// Headers beyond the window that are read one by one where the chain was lost, in a segment.
const MOST_FAR_READS: u32 = 4096;

/// A chunk of which the next will tell whether it is in use.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub start: u64,
    pub end: u64,
    /// The second word of the program's memory: the place of a tcache's key.
    pub key: u64,
}

/// Where a walk can be taken up again.
#[derive(Clone, Copy)]
pub(super) struct Checkpoint {
    pub at: u64,
    pub pending: Option<Pending>,
    pub tally: Tally,
    pub fast: usize,
    pub candidates: usize,
    pub recent: Recent,
}

/// What may still be done for a segment. However its memory looks: the walk comes to its end.
pub(super) struct Patience {
    pub retries: u64,
    pub returns: u64,
    pub far_reads: u32,
}

impl Patience {
    /// For a segment of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let mib = bytes >> 20;
        Self {
            retries: MOST_RETRIES + mib * RETRIES_PER_MIB,
            returns: MOST_RETURNS + mib * RETURNS_PER_MIB,
            far_reads: MOST_FAR_READS,
        }
    }
}

/// The state of a walk through one segment.
pub(super) struct Course<'s> {
    pub arena: u64,
    pub segment: &'s mut Segment,
    /// Chunks in fastbins, ascending, and the first that is not behind.
    pub fastbins: &'s [u64],
    pub fast: usize,
    pub at: u64,
    pub pending: Option<Pending>,
    /// The last chunks.
    pub recent: Recent,
    pub tally: Tally,
    /// Where to stop, at the latest behind the chunk that is there.
    pub until: u64,
    /// What the last chunk in use has behind that.
    pub overshoot: u64,
    pub checkpoint: Checkpoint,
    /// Since the checkpoint.
    pub retries: u32,
    pub patience: Patience,
    /// Where the chain was last taken up again.
    pub resumed: u64,
}

impl<'s> Course<'s> {
    /// From `at` to `until`; `candidates` is how many there are before.
    pub fn new(
        arena: u64,
        segment: &'s mut Segment,
        fastbins: &'s [u64],
        tally: Tally,
        (at, until): (u64, u64),
        candidates: usize,
    ) -> Self {
        let fast = fastbins.partition_point(|chunk| *chunk < at);
        let recent = Recent::default();
        let checkpoint = Checkpoint { at, pending: None, tally, fast, candidates, recent };
        let patience = Patience::new(segment.end.min(until).saturating_sub(at));
        Self {
            arena,
            segment,
            fastbins,
            fast,
            at,
            pending: None,
            recent,
            tally,
            until,
            overshoot: 0,
            checkpoint,
            retries: 0,
            patience,
            resumed: 0,
        }
    }

    /// Where it ends, at the latest.
    pub fn limit(&self) -> u64 {
        self.until.min(self.segment.end)
    }

    /// Where the chunk starts of which it is not known whether it is in use.
    pub fn found(&self) -> u64 {
        self.pending.map_or(self.at, |pending| pending.start)
    }

    /// Up to where memory is looked at: the header behind the end tells about the last chunk.
    pub fn reach(&self) -> u64 {
        self.until.max(self.at).saturating_add(SMALLEST_CHUNK_BYTES).min(self.segment.end)
    }

    /// Whether a chunk is in a fastbin; asked in ascending order.
    pub fn is_fast(&mut self, chunk: u64) -> bool {
        while self.fastbins.get(self.fast).is_some_and(|fast| *fast < chunk) {
            self.fast += 1;
        }
        self.fastbins.get(self.fast) == Some(&chunk)
    }

    /// Where to look for the chain that `last` did not lead on to: from that chunk on, as it is
    /// now, but never again where the search began before.
    pub fn search_from(&mut self, last: Option<Pending>) -> u64 {
        let behind = self.at + ALIGNMENT_BYTES;
        match last.filter(|_| self.patience.returns > 0) {
            Some(last) => {
                self.patience.returns -= 1;
                last.start.max(self.resumed + ALIGNMENT_BYTES)
            }
            None => behind,
        }
    }

    /// Goes on somewhere else, where nothing is known of the chunk before.
    pub fn resume(&mut self, at: u64) {
        (self.at, self.resumed) = (at, at);
        self.pending = None;
        self.recent = Recent::default();
    }

    /// Size of the chunk before.
    pub fn previous_bytes(&self) -> Option<u64> {
        self.pending.map(|pending| pending.end - pending.start)
    }

    /// A place from which it can be taken up again, with so many candidates found.
    pub fn mark(&mut self, candidates: usize) {
        self.retries = 0;
        self.checkpoint = Checkpoint {
            at: self.at,
            pending: self.pending,
            tally: self.tally,
            fast: self.fast,
            candidates,
            recent: self.recent,
        };
    }

    /// Back to that place.
    pub fn rewind(&mut self) {
        let Checkpoint { at, pending, tally, fast, candidates: _, recent } = self.checkpoint;
        (self.at, self.pending, self.tally, self.fast) = (at, pending, tally, fast);
        self.recent = recent;
    }
}
