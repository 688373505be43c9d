//! Writes the capture while the window is open, on a thread of its own: a slow disk must not keep
//! the ring from being drained. What there is no time or room for is left out and counted; the
//! accounting does not depend on it.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{
    capture::{Capture, CapturedProcess, EventsKept, Header, KeptEvent, Writer},
    model::{
        stack::{Frame, RawStack, StackId},
        timeline::TimelineSample,
        trace::Module,
    },
};

/// Events that are handed over at once: about half a megabyte.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 512 << 10;

/// Batches that may wait for the disk: as much as the ring holds.
fn waiting(ring_bytes: u32) -> usize {
    (ring_bytes as usize / BATCH_BYTES).clamp(4, 32)
}

/// The most that a capture lacks when memtrace is killed. Small blocks take more room.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Where a capture goes, and what of it is wanted.
pub struct Sink {
    /// The file.
    pub out: Box<dyn Write + Send>,
    /// Whether the events are wanted, too.
    pub events: bool,
    /// When the file has reached this size, events are left out; the rest follows.
    pub max_bytes: u64,
}

/// Something for the file; events and their number are those of a process.
enum Item {
    Events(u8, Vec<KeptEvent>),
    Stacks(Vec<NewStack>),
    Modules(Vec<Module>),
    Process(Box<CapturedProcess>),
    Sample(TimelineSample),
    /// All events have been given: how many were kept?
    Count(u8, Sender<EventsKept>),
    Finish(Box<Capture>),
}

/// A stack and what its Python frames are called.
type NewStack = (StackId, RawStack, Vec<Option<Arc<Frame>>>);

/// The thread.
pub struct Recorder {
    items: SyncSender<Item>,
    thread: JoinHandle<io::Result<()>>,
    wants_events: bool,
}

impl Recorder {
    /// Starts the thread, which begins with the header.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(sink: Sink, header: &Header, ring_bytes: u32) -> io::Result<Self> {
        let (items, received) = sync_channel(waiting(ring_bytes));
        let (wants_events, header) = (sink.events, header.clone());
        let thread = std::thread::Builder::new()
            .name("capture writer".to_owned())
            .spawn(move || Thread::new(sink, &header)?.run(&received))?;
        Ok(Self { items, thread, wants_events })
    }

    /// What a window gives its own to.
    pub(super) fn feed(&self) -> Feed {
        Feed {
            items: self.items.clone(),
            process: None,
            wants_events: self.wants_events,
            batch: Vec::with_capacity(BATCH),
            stacks: Vec::new(),
            left_out: 0,
        }
    }

    /// Writes the rest and ends the thread, once all feeds are gone.
    ///
    /// # Errors
    /// The first that the file gave, also earlier.
    pub fn finish(self, capture: Capture) -> io::Result<()> {
        // Fails when the thread has ended, which its result tells more about.
        let _ = self.items.send(Item::Finish(Box::new(capture)));
        drop(self.items);
        match self.thread.join() {
            Ok(written) => written,
            Err(_) => Err(io::Error::other("the writer of the capture has failed")),
        }
    }
}

/// The thread, as a window sees it.
pub(super) struct Feed {
    items: SyncSender<Item>,
    /// Of several.
    process: Option<Box<CapturedProcess>>,
    wants_events: bool,
    batch: Vec<KeptEvent>,
    /// Go before the events that name them.
    stacks: Vec<NewStack>,
    /// Those for which the thread was too slow.
    left_out: u64,
}

impl Feed {
    /// What is given from here on is of this process, one of several.
    pub(super) fn begin(&mut self, process: CapturedProcess) {
        let _ = self.items.send(Item::Process(Box::new(process.clone())));
        self.process = Some(Box::new(process));
    }

    fn number(&self) -> u8 {
        self.process.as_ref().map_or(0, |process| process.number)
    }

    /// Takes an event.
    pub(super) fn event(&mut self, event: KeptEvent) {
        if !self.wants_events {
            self.left_out += 1;
            return;
        }
        self.batch.push(event);
        if self.batch.len() == BATCH {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if !self.stacks.is_empty() {
            let _ = self.items.try_send(Item::Stacks(std::mem::take(&mut self.stacks)));
        }
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        if let Err(
            TrySendError::Full(Item::Events(_, batch))
            | TrySendError::Disconnected(Item::Events(_, batch)),
        ) = self.items.try_send(Item::Events(self.number(), batch))
        {
            self.left_out += batch.len() as u64;
        }
    }

    /// Takes a new stack, for a file that ends before names are known. It waits for more: names are
    /// read while the target is there, and nothing is to delay that.
    pub(super) fn stack(&mut self, id: StackId, stack: &RawStack, python: &[Option<Arc<Frame>>]) {
        self.stacks.push((id, stack.clone(), python.to_vec()));
        if self.stacks.len() == BATCH {
            self.hand_over();
        }
    }

    /// Takes what code there is now, for the same.
    pub(super) fn modules(&mut self, modules: Vec<Module>) {
        if let Some(process) = &mut self.process {
            process.modules.clone_from(&modules);
            let _ = self.items.try_send(Item::Process(process.clone()));
        }
        if self.number() == 0 {
            let _ = self.items.try_send(Item::Modules(modules));
        }
    }

    /// Takes a sample of the target's memory. Those of the first of several processes are in the
    /// file at once.
    pub(super) fn sample(&mut self, sample: TimelineSample) {
        // With the events so far, so that a file that ends here tells both.
        self.hand_over();
        if self.number() == 0 {
            let _ = self.items.try_send(Item::Sample(sample));
        }
    }

    /// What became of the events; waits until those so far are written.
    pub(super) fn events_kept(&mut self) -> EventsKept {
        self.hand_over();
        let (answer, kept) = channel();
        let asked = self.items.send(Item::Count(self.number(), answer));
        let mut kept = asked.ok().and_then(|()| kept.recv().ok()).unwrap_or_default();
        kept.left_out += self.left_out;
        kept
    }
}

/// The thread's own.
struct Thread {
    writer: Writer<Box<dyn Write + Send>>,
    max_bytes: u64,
    /// By process.
    kept: HashMap<u8, EventsKept>,
    flushed: Instant,
}

impl Thread {
    fn new(sink: Sink, header: &Header) -> io::Result<Self> {
        let writer = Writer::new(sink.out, header)?;
        Ok(Self {
            writer,
            max_bytes: sink.max_bytes,
            kept: HashMap::new(),
            flushed: Instant::now(),
        })
    }

    fn run(mut self, items: &Receiver<Item>) -> io::Result<()> {
        for item in items {
            match item {
                Item::Events(process, events) => self.events(process, &events)?,
                Item::Stacks(stacks) => self.stacks(&stacks)?,
                Item::Modules(modules) => self.writer.modules(&modules)?,
                Item::Sample(sample) => self.sample(&sample)?,
                Item::Process(process) => self.writer.process(&process)?,
                Item::Count(process, answer) => {
                    _ = answer.send(self.kept.get(&process).copied().unwrap_or_default());
                }
                Item::Finish(capture) => return self.writer.finish(&capture).map(drop),
            }
        }
        Ok(())
    }

    fn stacks(&mut self, stacks: &[NewStack]) -> io::Result<()> {
        stacks.iter().try_for_each(|(id, stack, python)| self.writer.raw_stack(*id, stack, python))
    }

    fn events(&mut self, process: u8, events: &[KeptEvent]) -> io::Result<()> {
        let kept = self.kept.entry(process).or_default();
        if self.writer.bytes_written() >= self.max_bytes {
            kept.left_out += events.len() as u64;
            return Ok(());
        }
        kept.kept += events.len() as u64;
        events.iter().try_for_each(|event| self.writer.event(event))
    }

    /// From time to time all that is known is brought into the file.
    fn sample(&mut self, sample: &TimelineSample) -> io::Result<()> {
        self.writer.sample(sample)?;
        if self.flushed.elapsed() < FLUSH_INTERVAL {
            return Ok(());
        }
        self.flushed = Instant::now();
        self.writer.flush()
    }
}
