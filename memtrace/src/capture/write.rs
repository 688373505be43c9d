//! Writes a capture while it happens.
//!
//! Memory is bounded by one block of each sort; what was flushed can be read, whatever becomes of
//! the rest.

use std::{error::Error, io, sync::Arc};

use serde::Serialize;

use super::{
    Capture, CapturedProcess, CapturedSite, Events, EventsKept, Header, KeptEvent, Layouts,
    block::Packer,
    events::EventEncoder,
    format::{
        BlockKind, FLAG_CONTINUED, FLAG_REQUIRED, MAX_BLOCK_BYTES, MAX_RECORD_BYTES, PROCESS_SHIFT,
        preamble,
    },
    layout::{Of, Side, put_layout},
    raw_stacks::RawStackEncoder,
    read::UnknownRecord,
    records::{EndRecord, WalksRecord},
    stacks::StackEncoder,
    tables::{ROWS_A_BLOCK, put_live, put_sites, rows_a_block},
};
use crate::model::{
    stack::{Frame, NamedStack, RawStack, StackId},
    timeline::{Timeline, TimelineSample},
    trace::{Module, Walks},
};

/// Samples of a block.
const SAMPLES_A_BLOCK: usize = 4096;

/// Names of threads of a block.
const THREADS_A_BLOCK: usize = 1 << 16;

/// A capture that is being written.
pub struct Writer<W: io::Write> {
    out: W,
    bytes_written: u64,
    packer: Packer,
    events: EventEncoder,
    event_count: u64,
    /// Whose events wait.
    process: u8,
    raw_stacks: RawStackEncoder,
    samples: Vec<TimelineSample>,
    payload: Vec<u8>,
}

impl<W: io::Write> Writer<W> {
    /// Begins a file; its header is flushed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self {
            out,
            bytes_written: 0,
            packer: Packer::new()?,
            events: EventEncoder::default(),
            event_count: 0,
            process: 0,
            raw_stacks: RawStackEncoder::default(),
            samples: Vec::new(),
            payload: Vec::new(),
        };
        writer.put(&preamble())?;
        writer.record(BlockKind::Header, header)?;
        writer.out.flush()?;
        Ok(writer)
    }

    /// A stack when it is seen for the first time, with the names of its Python frames, where they
    /// are known: a capture that ends early has no others. It may wait for more.
    ///
    /// # Errors
    /// When blocks cannot be written.
    pub fn raw_stack(
        &mut self,
        id: StackId,
        stack: &RawStack,
        python: &[Option<Arc<Frame>>],
    ) -> io::Result<()> {
        if self.raw_stacks.push(id, stack, python) { self.end_raw_stacks() } else { Ok(()) }
    }

    /// The objects that are mapped; takes the place of what was given before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn modules(&mut self, modules: &[Module]) -> io::Result<()> {
        self.record(BlockKind::Modules, modules)
    }

    /// An event; it may wait for more. An [`crate::model::event::Action::Stack`] is none and is
    /// left out.
    ///
    /// # Errors
    /// When blocks cannot be written.
    #[inline]
    pub fn event(&mut self, event: &KeptEvent) -> io::Result<()> {
        if event.process != self.process {
            self.end_events()?;
            self.process = event.process;
        }
        if self.events.push(event) { self.end_events() } else { Ok(()) }
    }

    /// What is known of a process; takes the place of what was given of it before. Where one is
    /// traced alone there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn process(&mut self, process: &CapturedProcess) -> io::Result<()> {
        self.record(BlockKind::Process, process)
    }

    /// A sample of the timeline; it may wait for more.
    ///
    /// # Errors
    /// When blocks cannot be written.
    pub fn sample(&mut self, sample: &TimelineSample) -> io::Result<()> {
        self.samples.push(*sample);
        if self.samples.len() < SAMPLES_A_BLOCK { Ok(()) } else { self.end_samples() }
    }

    /// What walks of the heap found so far; takes the place of what was given before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn walks(&mut self, walks: &Walks) -> io::Result<()> {
        self.record(BlockKind::Walks, &WalksRecord::from(walks))
    }

    /// Bytes of the file so far, without what waits.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// How many events are in the file, without those that wait.
    pub fn events_written(&self) -> u64 {
        self.event_count
    }

    /// Writes what waits: everything that was given so far can be read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.end_events()?;
        self.end_raw_stacks()?;
        self.end_samples()?;
        self.out.flush()
    }

    /// Writes all that is known at the end, and gives the output back, flushed. How many events
    /// were kept is what was given to [`Self::event`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self, capture: &Capture) -> io::Result<W> {
        self.finish_with(capture, &[])
    }

    /// The same with what the file had that it was read from and that is not known.
    pub(super) fn finish_with(
        mut self,
        capture: &Capture,
        unknown: &[UnknownRecord],
    ) -> io::Result<W> {
        self.flush()?;
        self.record(BlockKind::Header, &capture.header)?;
        self.modules(&capture.modules)?;
        self.stacks(&capture.stacks)?;
        for sites in capture.sites.chunks(rows_a_block(&capture.sites)) {
            self.block(BlockKind::Sites, &put_sites(sites))?;
        }
        for live in capture.live.chunks(ROWS_A_BLOCK) {
            self.block(BlockKind::Live, &put_live(live))?;
        }
        for threads in capture.threads.chunks(THREADS_A_BLOCK) {
            self.record(BlockKind::Threads, threads)?;
        }
        self.timeline(&capture.timeline)?;
        self.walks(&capture.walks)?;
        capture.processes.iter().try_for_each(|it| self.process(&placed(it, &capture.sites)))?;
        self.layouts(capture)?;
        for record in unknown {
            let (header, stored) = record.as_stored();
            self.put(&header)?;
            self.put(stored)?;
        }
        self.ending(capture)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn stacks(&mut self, stacks: &[(StackId, NamedStack)]) -> io::Result<()> {
        let mut encoder = StackEncoder::default();
        for (at, (id, stack)) in stacks.iter().enumerate() {
            let is_full = encoder.push(*id, stack);
            if is_full || at + 1 == stacks.len() {
                if let Some(frames) = encoder.take_frames() {
                    self.block(BlockKind::Frames, &frames)?;
                }
                self.block(BlockKind::Stacks, &encoder.take_stacks())?;
            }
        }
        Ok(())
    }

    fn timeline(&mut self, timeline: &Timeline) -> io::Result<()> {
        let Timeline { samples, rss_peak_bytes, rss_peak_source, cgroup_peak_bytes } = timeline;
        let without_samples = Timeline {
            samples: Vec::new(),
            rss_peak_bytes: *rss_peak_bytes,
            rss_peak_source: *rss_peak_source,
            cgroup_peak_bytes: *cgroup_peak_bytes,
        };
        self.record(BlockKind::Timeline, &without_samples)?;
        samples.iter().try_for_each(|sample| self.sample(sample))?;
        self.end_samples()
    }

    /// Where everything lay, of each process.
    fn layouts(&mut self, capture: &Capture) -> io::Result<()> {
        for (process, layouts) in layouts_of(capture) {
            let sides = [(Side::Before, &layouts.before), (Side::After, &layouts.after)];
            for (side, layout) in sides {
                let Some(layout) = layout else { continue };
                put_layout(Of { process, side }, layout, &mut |payload| {
                    self.part_with(BlockKind::Layout, 0, payload)
                })?;
            }
        }
        Ok(())
    }

    fn ending(&mut self, capture: &Capture) -> io::Result<()> {
        let kept = EventsKept { kept: self.event_count, ..capture.events };
        self.record(BlockKind::EventsKept, &kept)?;
        self.record(BlockKind::Ending, &capture.ending)?;
        let end = EndRecord {
            events: self.event_count,
            stacks: capture.stacks.len() as u64,
            sites: capture.sites.len() as u64,
            live: capture.live.len() as u64,
        };
        self.record(BlockKind::End, &end)
    }

    /// The stacks that events refer to come before them.
    fn end_events(&mut self) -> io::Result<()> {
        self.end_raw_stacks()?;
        if self.events.is_empty() {
            return Ok(());
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.clear();
        self.event_count += self.events.take(&mut payload) as u64;
        let flags = u16::from(self.process) << PROCESS_SHIFT;
        let result = self.part(BlockKind::Events, flags, &payload);
        self.payload = payload;
        result
    }

    fn end_raw_stacks(&mut self) -> io::Result<()> {
        if self.raw_stacks.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        self.raw_stacks.take(&mut payload);
        self.block(BlockKind::RawStacks, &payload)
    }

    fn end_samples(&mut self) -> io::Result<()> {
        if self.samples.is_empty() {
            return Ok(());
        }
        let samples = std::mem::take(&mut self.samples);
        self.record(BlockKind::Samples, &samples)
    }

    /// A structured record, in as many blocks as it needs.
    fn record(&mut self, kind: BlockKind, record: &(impl Serialize + ?Sized)) -> io::Result<()> {
        let json = serde_json::to_vec(record)?;
        if json.len() > MAX_RECORD_BYTES {
            let message = format!("the {kind:?} of the capture have {} bytes", json.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut parts = json.chunks(MAX_BLOCK_BYTES).peekable();
        while let Some(part) = parts.next() {
            let continued = if parts.peek().is_some() { FLAG_CONTINUED } else { 0 };
            self.part(kind, continued, part)?;
        }
        Ok(())
    }

    fn block(&mut self, kind: BlockKind, payload: &[u8]) -> io::Result<()> {
        self.part(kind, 0, payload)
    }

    fn part(&mut self, kind: BlockKind, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.part_with(kind, FLAG_REQUIRED | flags, payload)
    }

    fn part_with(&mut self, kind: BlockKind, flags: u16, payload: &[u8]) -> io::Result<()> {
        let (header, stored) = self.packer.pack(kind as u16, flags, payload)?;
        self.out.write_all(&header)?;
        self.out.write_all(stored)?;
        self.bytes_written += (header.len() + stored.len()) as u64;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes_written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

/// Those of each process by its number.
fn layouts_of(capture: &Capture) -> Vec<(u8, &Layouts)> {
    match &capture.processes[..] {
        [] => vec![(0, &capture.layouts)],
        [one] => vec![(one.number, &capture.layouts)],
        several => several.iter().map(|process| (process.number, &process.layouts)).collect(),
    }
}

/// With the places of its sites.
fn placed(process: &CapturedProcess, sites: &[CapturedSite]) -> CapturedProcess {
    let is_own = |site: &CapturedSite| site.process == process.number;
    let first_site = sites.iter().position(is_own).unwrap_or_default() as u64;
    let count = sites.iter().filter(|site| is_own(site)).count() as u64;
    CapturedProcess { first_site, sites: count, ..process.clone() }
}

/// Writes a whole capture.
///
/// # Errors
/// When it cannot be written, or its events cannot be read.
pub fn write<E, W>(capture: &Capture, events: &E, out: W) -> io::Result<W>
where
    E: Events<Error: Into<Box<dyn Error + Send + Sync>>> + ?Sized,
    W: io::Write,
{
    write_with(capture, events, &[], out)
}

/// The same with what is not known of the file that it was read from.
pub(super) fn write_with<E, W>(
    capture: &Capture,
    events: &E,
    unknown: &[UnknownRecord],
    out: W,
) -> io::Result<W>
where
    E: Events<Error: Into<Box<dyn Error + Send + Sync>>> + ?Sized,
    W: io::Write,
{
    let mut writer = Writer::new(out, &capture.header)?;
    let mut result = Ok(());
    let replayed = events.replay(&mut |event| {
        if result.is_ok() {
            result = writer.event(event);
        }
    });
    result?;
    replayed.map_err(io::Error::other)?;
    writer.finish_with(capture, unknown)
}
