//! The loop: one closed set of events, from the opened window to the detached target.

use std::{io, os::fd::AsRawFd, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep_until},
};

use super::{
    Observer, Options, Sink,
    attach::{AttachError, Attached, attach},
    walker::{NoWalk, Walk, Walker},
    window::{Ending, Window},
};
use crate::{
    probe::ring::Ring,
    report::EndReason,
    sys::{pidfd::PidFd, signals::HeldSignals},
};

/// The ring is looked at this often even if the kernel side sees no reason to wake memtrace.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the target's memory is sampled.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is sampled at first, so that a short window has a line, too. A sample takes about
/// 30 us.
const FIRST_SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
/// How long that is.
const FIRST: Duration = Duration::from_secs(10);
/// Records taken from the ring before signals are looked at again.
const DRAIN_BATCH: usize = 1 << 16;

/// How long the end of a trace may be put off by the last walk of the heap.
const LONGEST_LAST_WALK: Duration = Duration::from_secs(30);

/// Everything that can happen to a running trace.
#[derive(Debug)]
enum Happening {
    Records,
    Tick,
    Sample,
    WalkIsDue,
    /// The budget is to be looked at.
    BudgetIsDue,
    /// `None` when there will be no more.
    Walked(Option<Result<Box<Walk>, NoWalk>>),
    Ended(EndReason),
}

/// What ends a trace from outside. Created before the attach, so that a signal during it is not
/// lost and still gives a result.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> EndReason {
        tokio::select! {
            _ = self.interrupt.recv() => EndReason::Interrupted,
            _ = self.terminate.recv() => EndReason::Terminated,
            _ = self.hangup.recv() => EndReason::Terminated,
        }
    }
}

/// Attaches, traces until something ends it, and detaches.
///
/// # Errors
/// Only for what prevents the trace; what happens to a running one ends in a result.
pub fn trace(
    options: &Options,
    sink: Option<Sink>,
    observer: &mut dyn Observer,
) -> Result<Ending, AttachError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AttachError::Runtime)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(AttachError::Runtime)?;
        // The heap is to be walked as it is when the window opens, and much of a first walk can
        // be done while the probes are armed.
        let walker = options.walk.then(|| Walker::start(options.pid)).transpose();
        let walker = walker.map_err(AttachError::Runtime)?;
        let held = HeldSignals::hold();
        let attached = attach(options, observer)?;
        drop(held);
        run(attached, walker, options, sink, &mut signals, observer).await
    })
}

async fn run(
    attached: Attached,
    walker: Option<Walker>,
    options: &Options,
    sink: Option<Sink>,
    signals: &mut Signals,
    observer: &mut dyn Observer,
) -> Result<Ending, AttachError> {
    let (mut window, ring, pidfd) = Window::open(attached, options, sink);
    let clock = Clock::start(options.duration);
    let ring = readable(ring).map_err(AttachError::Runtime)?;
    let pidfd = readable(pidfd).map_err(AttachError::Runtime)?;
    let mut sources = Sources { ring, pidfd, signals, clock, walker };
    sources.clock.budget_at = window.budget_is_due_in().map(|wait| Instant::now() + wait);
    observer.tracing(&window.target(), window.probes(), window.attach_ns());
    let reason = loop {
        match sources.next().await {
            Happening::Ended(reason) => break reason,
            other => sources.handle(other, &mut window, observer),
        }
    };
    observer.ended(reason);
    if reason != EndReason::TargetExited {
        walk_again(&mut sources, &mut window, observer).await;
    }
    Ok(window.close(sources.ring.into_inner(), reason))
}

/// The last walk, with the window still open: what it says of a block holds for as long as no
/// record says otherwise, and none is missed.
async fn walk_again(sources: &mut Sources<'_>, window: &mut Window, observer: &mut dyn Observer) {
    sources.clock.deadline = Some(Instant::now() + LONGEST_LAST_WALK);
    let mut asked = false;
    while let Some(walker) = &mut sources.walker {
        if !walker.is_walking() {
            if asked {
                return;
            }
            asked = walker.walk(window.walk_request(true));
            if !asked {
                return;
            }
        }
        match sources.next().await {
            Happening::WalkIsDue => return,
            Happening::Ended(EndReason::TargetExited) => return,
            Happening::Ended(_) => return window.miss_last_walk(),
            other => sources.handle(other, window, observer),
        }
    }
}

/// Registers a descriptor with the runtime.
pub(super) fn readable<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Ring` and `PidFd` own their descriptor and keep it open for as long as they live,
    // which is as long as the registration.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// The timers of a trace.
struct Clock {
    drain: Interval,
    sample: Interval,
    /// When samples become rarer.
    slower_at: Option<Instant>,
    progress_at: Instant,
    deadline: Option<Instant>,
    /// When the budget is to be looked at.
    budget_at: Option<Instant>,
}

impl Clock {
    fn start(duration: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            drain: skipping(interval(DRAIN_INTERVAL)),
            sample: skipping(interval(FIRST_SAMPLE_INTERVAL)),
            slower_at: Some(now + FIRST),
            progress_at: now,
            deadline: duration.and_then(|duration| now.checked_add(duration)),
            budget_at: None,
        }
    }

    /// Asked at every sample: whether it is time to tell progress again.
    fn progress_is_due(&mut self) -> bool {
        let now = Instant::now();
        if self.slower_at.is_some_and(|at| now >= at) {
            self.slower_at = None;
            self.sample = skipping(interval_at(now + SAMPLE_INTERVAL, SAMPLE_INTERVAL));
        }
        // A little early is better than one sample late.
        let due = now + FIRST_SAMPLE_INTERVAL / 2 >= self.progress_at;
        if due {
            self.progress_at = now + PROGRESS_INTERVAL;
        }
        due
    }
}

/// A timer that does not catch up on what it missed.
fn skipping(mut interval: Interval) -> Interval {
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// What the loop waits for.
struct Sources<'s> {
    ring: AsyncFd<Ring>,
    pidfd: AsyncFd<PidFd>,
    signals: &'s mut Signals,
    clock: Clock,
    /// `None` when the heap is not walked, or not any more.
    walker: Option<Walker>,
}

impl Sources<'_> {
    async fn next(&mut self) -> Happening {
        let Self { ring, pidfd, signals, clock, walker } = self;
        let walk_at = walker.as_ref().and_then(Walker::next_at);
        tokio::select! {
            // In this order: under a flood of records, ends and samples must still be seen.
            biased;
            reason = signals.next() => Happening::Ended(reason),
            _ = pidfd.readable() => Happening::Ended(EndReason::TargetExited),
            () = until(clock.deadline) => Happening::Ended(EndReason::Duration),
            _ = clock.sample.tick() => Happening::Sample,
            () = until(clock.budget_at) => Happening::BudgetIsDue,
            walked = end_of_walk(walker) => Happening::Walked(walked),
            () = until(walk_at) => Happening::WalkIsDue,
            Ok(mut ready) = ring.readable_mut() => {
                ready.clear_ready();
                Happening::Records
            }
            _ = clock.drain.tick() => Happening::Tick,
        }
    }

    /// Does what an event asks for; its end is the loop's.
    fn handle(&mut self, event: Happening, window: &mut Window, observer: &mut dyn Observer) {
        match event {
            Happening::Records | Happening::Tick => {
                window.drain(self.ring.get_mut(), DRAIN_BATCH);
            }
            Happening::Sample => {
                window.sample_memory();
                if self.clock.progress_is_due() {
                    observer.sample(&window.sample());
                }
            }
            Happening::BudgetIsDue => {
                if let Some(change) = window.keep_budget() {
                    observer.changed(&change);
                }
                let wait = window.budget_is_due_in();
                self.clock.budget_at = wait.map(|wait| Instant::now() + wait);
            }
            Happening::WalkIsDue => {
                if let Some(walker) = &mut self.walker {
                    walker.walk(window.walk_request(false));
                }
            }
            Happening::Walked(walked) => {
                if walked.is_none() {
                    self.walker = None;
                }
                let is_of_use = window.take_walk(walked);
                if let Some(walker) = self.walker.as_mut().filter(|_| !is_of_use) {
                    walker.walk(window.walk_request(false));
                }
            }
            Happening::Ended(_) => {}
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn end_of_walk(walker: &mut Option<Walker>) -> Option<Result<Box<Walk>, NoWalk>> {
    match walker {
        Some(walker) => walker.walked().await,
        None => std::future::pending().await,
    }
}
