//! The loop: one closed set of events, from the opened window to the detached target.

use std::{io, os::fd::AsRawFd, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep_until},
};

use super::{
    Observer, Options,
    attach::{AttachError, Attached, attach},
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

/// Everything that can happen to a running trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Records,
    Tick,
    Sample,
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
pub fn trace(options: &Options, observer: &mut dyn Observer) -> Result<Ending, AttachError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(AttachError::Runtime)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(AttachError::Runtime)?;
        let held = HeldSignals::hold();
        let attached = attach(options)?;
        drop(held);
        run(attached, options, &mut signals, observer).await
    })
}

async fn run(
    attached: Attached,
    options: &Options,
    signals: &mut Signals,
    observer: &mut dyn Observer,
) -> Result<Ending, AttachError> {
    let (mut window, ring, pidfd) = Window::open(attached, options);
    let mut ring = readable(ring).map_err(AttachError::Runtime)?;
    let pidfd = readable(pidfd).map_err(AttachError::Runtime)?;
    observer.tracing(&window.target(), window.probes(), window.attach_ns());
    let mut clock = Clock::start(options.duration);
    let reason = loop {
        match next(&mut ring, &pidfd, signals, &mut clock).await {
            Happening::Records | Happening::Tick => {
                window.drain(ring.get_mut(), DRAIN_BATCH);
            }
            Happening::Sample => {
                window.sample_memory();
                if clock.progress_is_due() {
                    observer.sample(&window.sample());
                }
            }
            Happening::Ended(reason) => break reason,
        }
    };
    observer.ended(reason);
    Ok(window.close(ring.into_inner(), reason))
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

async fn next(
    ring: &mut AsyncFd<Ring>,
    pidfd: &AsyncFd<PidFd>,
    signals: &mut Signals,
    clock: &mut Clock,
) -> Happening {
    let deadline = async {
        match clock.deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        // In this order: under a flood of records, ends and samples must still be seen.
        biased;
        reason = signals.next() => Happening::Ended(reason),
        _ = pidfd.readable() => Happening::Ended(EndReason::TargetExited),
        () = deadline => Happening::Ended(EndReason::Duration),
        _ = clock.sample.tick() => Happening::Sample,
        Ok(mut ready) = ring.readable_mut() => {
            ready.clear_ready();
            Happening::Records
        }
        _ = clock.drain.tick() => Happening::Tick,
    }
}
