//! Walks the target's heap on a thread of its own, so that the ring is drained meanwhile.

use std::{
    num::NonZeroU32,
    sync::mpsc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{sync::mpsc as answers, time::Instant};

use super::inspect::{BlockStates, Found, InspectError, Inspector, Wanted};
use crate::{
    allocator::glibc::inquiry::BlockState,
    ledger::{LiveBlock, Suspects},
    model::{
        census::{Census, Refusal},
        layout::HeapLayout,
        site::Amount,
    },
};

/// Most blocks that a walk is asked for: they take about 50 bytes each.
pub(super) const MOST_BLOCKS: usize = 1 << 19;

/// Walks may take this part of the time between them, of one CPU.
const MAX_CPU_SHARE: u32 = 100;

/// The shortest time between walks.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// The same where releases are missed: memory that comes and goes is in use at half of all looks, and
/// is told from what stays by many.
const SHORTEST_PAUSE_IN_DOUBT: Duration = Duration::from_millis(500);

/// What to look for.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    /// Which of the target's programs, by the number of execs.
    pub(super) image: u64,
    /// The window ends after it.
    pub(super) is_last: bool,
    /// Live blocks to look for; `None` where nobody asks.
    pub(super) suspects: Option<Suspects>,
    /// Where everything lies is wanted, too.
    pub(super) layout: bool,
}

/// What a walk found.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) image: u64,
    pub(super) is_last: bool,
    /// Of the process, by which it is told from a later one of its pid.
    pub(super) start_time_ticks: u64,
    pub(super) census: Census,
    pub(super) cpu: Duration,
    /// Of the blocks that were asked for.
    pub(super) blocks: Option<BlocksFound>,
    /// Where everything lay, where that was wanted.
    pub(super) layout: Option<HeapLayout>,
}

/// What became of the blocks that were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct BlocksFound {
    /// In use, by the sizes of their chunks.
    pub(super) in_use: Amount,
    /// Free, by two looks.
    pub(super) freed: Vec<LiveBlock>,
    /// In no heap of glibc's, or in a part of it that was not understood.
    pub(super) unknown: u64,
    /// Not asked for, by requested bytes.
    pub(super) others: Amount,
}

/// Why there is no walk.
#[derive(Debug)]
pub(super) struct NoWalk {
    pub(super) image: u64,
    pub(super) reason: String,
}

/// The thread, as the loop sees it.
pub(super) struct Walker {
    requests: mpsc::Sender<Request>,
    answers: answers::UnboundedReceiver<Result<Box<Walk>, NoWalk>>,
    begun: Option<Instant>,
    next_at: Option<Instant>,
}

/// When the first walk is.
#[derive(Clone, Copy, Debug)]
pub(super) enum FirstWalk {
    /// At once.
    Now {
        /// It is to tell where everything lies.
        layout: bool,
    },
    /// After a while: there is nothing to walk yet.
    Later,
}

impl Walker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(pid: NonZeroU32, first: FirstWalk) -> std::io::Result<Self> {
        let (requests, to_thread) = mpsc::channel();
        let (from_thread, answers) = answers::unbounded_channel();
        std::thread::Builder::new().name("heap walker".to_owned()).spawn(move || {
            let mut thread = Thread { pid, inspector: None };
            for request in to_thread {
                if from_thread.send(thread.answer(request)).is_err() {
                    return;
                }
            }
        })?;
        let mut walker = Self { requests, answers, begun: None, next_at: None };
        match first {
            FirstWalk::Now { layout } => {
                walker.walk(Request { layout, ..Request::default() });
            }
            FirstWalk::Later => walker.next_at = Instant::now().checked_add(SHORTEST_PAUSE),
        }
        Ok(walker)
    }

    /// When the next walk is due; `None` while one is under way, or when there are no more.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.begun.is_none())
    }

    /// Whether a walk is under way.
    pub(super) fn is_walking(&self) -> bool {
        self.begun.is_some()
    }

    /// Begins a walk. `false` when the thread is gone.
    pub(super) fn walk(&mut self, request: Request) -> bool {
        let is_sent = self.requests.send(request).is_ok();
        (self.begun, self.next_at) = (is_sent.then(Instant::now), None);
        is_sent
    }

    /// The end of the walk under way. `None` when the thread is gone.
    pub(super) fn poll_walked(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Box<Walk>, NoWalk>>> {
        if self.begun.is_none() {
            return Poll::Pending;
        }
        let answer = ready!(self.answers.poll_recv(context));
        let begun = self.begun.take();
        self.next_at = match (&answer, begun) {
            (Some(Ok(walk)), Some(begun)) => begun.checked_add(pause(walk)),
            _ => None,
        };
        Poll::Ready(answer)
    }
}

/// From the beginning of a walk to that of the next.
fn pause(walk: &Walk) -> Duration {
    let shortest = match walk.blocks {
        Some(_) => SHORTEST_PAUSE_IN_DOUBT,
        None => SHORTEST_PAUSE,
    };
    walk.cpu.saturating_mul(MAX_CPU_SHARE).max(shortest)
}

/// The thread's own.
struct Thread {
    pid: NonZeroU32,
    /// Of which program.
    inspector: Option<(u64, Inspector)>,
}

impl Thread {
    fn answer(&mut self, request: Request) -> Result<Box<Walk>, NoWalk> {
        let image = request.image;
        let answer = self.inspector(image).and_then(|inspector| walk(inspector, request));
        answer.map(Box::new).map_err(|error| {
            self.inspector = None;
            NoWalk { image, reason: error.to_string() }
        })
    }

    /// A handle on a process's memory is one on the program's that it ran then.
    fn inspector(&mut self, image: u64) -> Result<&mut Inspector, InspectError> {
        let known = self.inspector.take().filter(|(of, _)| *of == image);
        let inspector = match known {
            Some((_, inspector)) => inspector,
            None => Inspector::open(self.pid)?,
        };
        Ok(&mut self.inspector.insert((image, inspector)).1)
    }
}

fn walk(inspector: &mut Inspector, request: Request) -> Result<Walk, InspectError> {
    let Request { image, is_last, suspects, layout } = request;
    let start_time_ticks = inspector.process().start_time_ticks;
    let asks_for_blocks = suspects.is_some();
    let Suspects { mut blocks, others } = suspects.unwrap_or_default();
    blocks.sort_unstable();
    let asked = addresses(&blocks);
    let (look, found) = inspector.look_for(Wanted { blocks: &asked, layout })?;
    let Found { blocks: found, layout } = found;
    let mut cpu = Duration::from_nanos(look.cost.cpu_ns);
    if !asks_for_blocks {
        let census = look.census;
        return Ok(Walk { image, is_last, start_time_ticks, census, cpu, blocks: None, layout });
    }
    let unknown = found.states.iter().filter(|state| **state == BlockState::Unknown).count();
    let mut freed = freed(&blocks, &found);
    if !freed.is_empty() {
        let asked = addresses(&freed);
        let (again, found) = inspector.look_for(Wanted { blocks: &asked, layout: false })?;
        cpu += Duration::from_nanos(again.cost.cpu_ns);
        freed = self::freed(&freed, &found.blocks);
    }
    let mut census = look.census;
    if is_wrapped(found.in_use, &freed, blocks.len()) {
        census.refusals.push(wrapped());
        freed.clear();
    }
    let blocks = BlocksFound { in_use: found.in_use, freed, unknown: unknown as u64, others };
    let blocks = Some(blocks);
    Ok(Walk { image, is_last, start_time_ticks, census, cpu, blocks, layout })
}

fn addresses(blocks: &[LiveBlock]) -> Vec<u64> {
    blocks.iter().map(|block| block.address.get()).collect()
}

/// Of these blocks, those that are free.
fn freed(blocks: &[LiveBlock], found: &BlockStates) -> Vec<LiveBlock> {
    let states = blocks.iter().zip(&found.states);
    states.filter(|(_, state)| **state == BlockState::Freed).map(|(block, _)| *block).collect()
}

/// Whether no block is where glibc has blocks: something between the program and glibc puts a
/// header of its own before each (mcheck, a debugging allocator).
fn is_wrapped(in_use: Amount, freed: &[LiveBlock], asked: usize) -> bool {
    in_use.count == 0 && asked > 1 && freed.len() == asked
}

fn wrapped() -> Refusal {
    Refusal {
        part: "survivors".to_owned(),
        reason: "no block is where glibc has blocks, so that it cannot be said which are in use"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(cpu_ms: u64, blocks: Option<BlocksFound>) -> Walk {
        let (image, is_last, start_time_ticks) = (0, false, 0);
        let (cpu, census, layout) = (Duration::from_millis(cpu_ms), Census::default(), None);
        Walk { image, is_last, start_time_ticks, census, cpu, blocks, layout }
    }

    #[test]
    fn walks_take_a_hundredth_of_a_cpu_and_come_no_faster_than_seconds() {
        assert_eq!(pause(&walk(1, None)), SHORTEST_PAUSE);
        assert_eq!(pause(&walk(90, None)), Duration::from_secs(9));
    }

    #[test]
    fn the_heap_is_asked_more_often_where_releases_are_missed() {
        let in_doubt = || Some(BlocksFound::default());
        assert_eq!(pause(&walk(1, in_doubt())), SHORTEST_PAUSE_IN_DOUBT);
        assert_eq!(pause(&walk(90, in_doubt())), Duration::from_secs(9));
    }
}
