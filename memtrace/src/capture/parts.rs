//! What was found in the blocks of a file, one after the other.

use serde::de::DeserializeOwned;

use super::{
    CapturedProcess, CapturedSite, Ending, EventsKept, Header, LiveItem, ThreadName,
    codec::Malformed,
    format::{BlockKind, FLAG_CONTINUED, MAX_RECORD_BYTES, MAX_SAMPLES, MAX_SITES},
    layout::LayoutDecoder,
    records::{EndRecord, WalksRecord},
    stacks::StackDecoder,
    tables::{read_live, read_sites},
};
use crate::model::{
    stack::{NamedStack, StackId},
    timeline::{Timeline, TimelineSample},
    trace::{Module, Walks},
};

/// So many live records are read of any file, and of a large one as many as it has bytes.
const MAX_LIVE: u64 = 1 << 22;

/// The most names of threads.
const MAX_THREADS: usize = 1 << 20;

/// The most modules.
const MAX_MODULES: usize = 1 << 17;

/// Everything but events, raw stacks and what is not known.
#[derive(Default)]
pub struct Parts {
    /// The last header.
    pub header: Option<Header>,
    /// The last list of modules.
    pub modules: Vec<Module>,
    /// Stacks with names.
    pub stacks: Vec<(StackId, NamedStack)>,
    /// Sites.
    pub sites: Vec<CapturedSite>,
    /// Live records.
    pub live: Vec<LiveItem>,
    /// Names of threads.
    pub threads: Vec<ThreadName>,
    /// The timeline.
    pub timeline: Timeline,
    /// The last walks.
    pub walks: Walks,
    /// Where everything in heaps lay.
    pub layouts: LayoutDecoder,
    /// What became of the events.
    pub kept: Option<EventsKept>,
    /// Known when the window was closed.
    pub ending: Option<Ending>,
    /// Processes that were traced together.
    pub processes: Vec<CapturedProcess>,
    /// The file is whole.
    pub end: Option<EndRecord>,
    stack_decoder: StackDecoder,
    max_live: u64,
    /// The parts of a record so far.
    begun: Option<(BlockKind, Vec<u8>)>,
}

impl Parts {
    /// Of a file of so many bytes.
    pub fn new(file_bytes: u64) -> Self {
        Self { max_live: file_bytes.max(MAX_LIVE), ..Self::default() }
    }

    /// Takes up the payload of a block.
    ///
    /// # Errors
    /// When it does not hold what its kind says.
    pub fn take(&mut self, kind: BlockKind, flags: u16, payload: &[u8]) -> Result<(), Malformed> {
        let begun = self.begun.take().filter(|(begun, _)| *begun == kind);
        if flags & FLAG_CONTINUED == 0 && begun.is_none() {
            return self.record(kind, payload);
        }
        let mut whole = begun.map_or_else(Vec::new, |(_, begun)| begun);
        if whole.len() + payload.len() > MAX_RECORD_BYTES {
            return Err(Malformed::TooMuch);
        }
        whole.extend_from_slice(payload);
        if flags & FLAG_CONTINUED == 0 {
            return self.record(kind, &whole);
        }
        self.begun = Some((kind, whole));
        Ok(())
    }

    fn record(&mut self, kind: BlockKind, payload: &[u8]) -> Result<(), Malformed> {
        match kind {
            BlockKind::Header => self.header = Some(json(payload)?),
            BlockKind::Modules => self.modules = bounded(json(payload)?, MAX_MODULES)?,
            BlockKind::RawStacks | BlockKind::Events => {}
            BlockKind::Samples => self.samples(json(payload)?)?,
            BlockKind::Walks => self.walks = json::<WalksRecord>(payload)?.into(),
            BlockKind::Frames => self.stack_decoder.frames(payload)?,
            BlockKind::Stacks => self.stack_decoder.stacks(payload, &mut self.stacks)?,
            BlockKind::Sites => self.sites(payload)?,
            BlockKind::Live => self.live(payload)?,
            BlockKind::Threads => self.threads(json(payload)?)?,
            BlockKind::Timeline => self.timeline = json(payload)?,
            BlockKind::EventsKept => self.kept = Some(json(payload)?),
            BlockKind::Ending => self.ending = Some(json(payload)?),
            BlockKind::End => self.end = Some(json(payload)?),
            BlockKind::Process => self.process(json(payload)?),
            BlockKind::Layout => self.layouts.block(payload)?,
        }
        Ok(())
    }

    fn samples(&mut self, samples: Vec<TimelineSample>) -> Result<(), Malformed> {
        self.timeline.samples.extend(samples);
        bound(&mut self.timeline.samples, MAX_SAMPLES)
    }

    fn sites(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        read_sites(payload, &mut self.sites)?;
        bound(&mut self.sites, MAX_SITES)
    }

    fn live(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        read_live(payload, &mut self.live)?;
        let most = usize::try_from(self.max_live).unwrap_or(usize::MAX);
        bound(&mut self.live, most)
    }

    fn process(&mut self, process: CapturedProcess) {
        match self.processes.iter_mut().find(|known| known.number == process.number) {
            Some(known) => *known = process,
            None => self.processes.push(process),
        }
    }

    fn threads(&mut self, threads: Vec<ThreadName>) -> Result<(), Malformed> {
        self.threads.extend(threads);
        bound(&mut self.threads, MAX_THREADS)
    }
}

/// Fields that are not known are ignored, and those that are missing have their defaults.
fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(payload).map_err(|_| Malformed::Json)
}

fn bounded<T>(mut items: Vec<T>, most: usize) -> Result<Vec<T>, Malformed> {
    bound(&mut items, most).map(|()| items)
}

fn bound<T>(items: &mut Vec<T>, most: usize) -> Result<(), Malformed> {
    if items.len() <= most {
        return Ok(());
    }
    items.truncate(most);
    Err(Malformed::TooMuch)
}
