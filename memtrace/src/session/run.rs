//! The loop: one closed set of events, from the opened window to the detached target.

use std::{
    future::poll_fn,
    io,
    num::NonZeroU32,
    os::fd::AsRawFd,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep_until},
};

use super::{
    Observer, Options, Outcome, Recorder, Sample, Sink,
    attach::{AttachError, Attached, attach},
    escort::{Escorted, escort},
    follow::Follower,
    prepare::{Prepared, Start},
    stop::Stop,
    traced::{Occurrence, Traced},
    walker::{FirstWalk, Walker},
    window::{Ending, Place, SeenFork, Window},
};
use crate::{
    capture::Header,
    probe::ring::Ring,
    report::EndReason,
    sys::{launch::Held, pidfd::PidFd, procfs::ProcFs, signals::HeldSignals},
    watch::window::SHORTEST,
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
pub(super) const DRAIN_BATCH: usize = 1 << 16;

/// How long the end of a trace may be put off by the last walk of the heap.
const LONGEST_LAST_WALK: Duration = Duration::from_secs(30);
/// The same where memory runs short: a capture without it is better than none.
const LAST_WALK_IN_HASTE: Duration = Duration::from_millis(500);

/// Everything that can happen to a running trace.
enum Happening {
    Tick,
    Sample,
    WalkIsDue,
    /// A budget is to be looked at.
    BudgetIsDue,
    /// To the process at this place of the list.
    Process(usize, Occurrence),
    /// A child has been attached to.
    Followed(Box<Attached>, Place),
    Ended(EndReason),
}

/// What ends a trace from outside. Created before the attach, so that a signal during it is not
/// lost and still gives a result.
pub(super) struct Signals {
    signals: Option<[(Signal, EndReason); 3]>,
    stop: Stop,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let signals = [
            (signal(SignalKind::interrupt())?, EndReason::Interrupted),
            (signal(SignalKind::terminate())?, EndReason::Terminated),
            (signal(SignalKind::hangup())?, EndReason::Terminated),
        ];
        Ok(Self { signals: Some(signals), stop: Stop::default() })
    }

    /// They are somebody else's.
    fn none() -> Self {
        Self { signals: None, stop: Stop::default() }
    }

    pub(super) async fn next(&mut self) -> EndReason {
        let Self { signals, stop } = self;
        let signalled = poll_fn(|context| {
            for (signal, reason) in signals.iter_mut().flatten() {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*reason);
                }
            }
            Poll::Pending
        });
        tokio::select! {
            reason = signalled => reason,
            () = stop.stopped() => EndReason::Condition,
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
) -> Result<Outcome, AttachError> {
    trace_until(options, sink, observer, Stop::default(), None)
}

/// The same; it ends when it is told to, too, and begins with what was made ready.
///
/// # Errors
/// As [`trace`].
pub fn trace_until(
    options: &Options,
    sink: Option<Sink>,
    observer: &mut dyn Observer,
    stop: Stop,
    prepared: Option<Prepared>,
) -> Result<Outcome, AttachError> {
    runtime()?.block_on(async {
        let mut signals = Signals { stop, ..Signals::listen().map_err(AttachError::Runtime)? };
        let held = HeldSignals::hold();
        let attached = attach_all(options, prepared, observer)?;
        drop(held);
        let trace = Trace::open(attached, options, sink)?;
        run(trace, &mut signals, observer).await
    })
}

/// The same of a command that is held at its start: lets it go when the window is open, and ends
/// with it. Signals are nothing to it.
///
/// # Errors
/// As [`trace`]; then the command is still held.
pub fn trace_command(
    command: &mut Held,
    options: &Options,
    sink: Option<Sink>,
    observer: &mut dyn Observer,
) -> Result<Outcome, AttachError> {
    runtime()?.block_on(async {
        let held = HeldSignals::hold();
        let attached = attach_all(options, None, observer)?;
        drop(held);
        let mut trace = Trace::open(attached, options, sink)?;
        escort(command, &mut trace).map_err(AttachError::Release)?;
        run(trace, &mut Signals::none(), observer).await
    })
}

fn runtime() -> Result<Runtime, AttachError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(AttachError::Runtime)
}

/// All that were asked for, or none: whoever names a process wants it.
fn attach_all(
    options: &Options,
    prepared: Option<Prepared>,
    observer: &mut dyn Observer,
) -> Result<Vec<(Attached, Option<Walker>)>, AttachError> {
    let mut start = prepared.map(Start::from).unwrap_or_default();
    let pids = std::iter::once(options.pid).chain(options.more_pids.iter().copied());
    let attach = |pid| {
        // The heap is to be walked as it is when the window opens, and much of a first walk can
        // be done while the probes are armed.
        let first = match options.from_start {
            true => FirstWalk::Later,
            false => FirstWalk::Now { layout: options.wants_layouts() },
        };
        let walker = options.walk.then(|| Walker::start(pid, first)).transpose();
        let walker = walker.map_err(AttachError::Runtime)?;
        let options = Options { pid, ..options.clone() };
        Ok((attach(&options, std::mem::take(&mut start), observer)?, walker))
    };
    pids.map(attach).collect()
}

async fn run(
    mut trace: Trace,
    signals: &mut Signals,
    observer: &mut dyn Observer,
) -> Result<Outcome, AttachError> {
    let Options { duration, latest_end, .. } = trace.options;
    let clock = Clock::start(duration, latest_end);
    let mut sources = Sources { signals, clock };
    let (target, probes) = (trace.target(), trace.probes());
    observer.tracing(&target, probes, trace.attach_ns());
    let reason = loop {
        match sources.next(&mut trace).await {
            Happening::Ended(reason) => break reason,
            other => trace.handle(other, &mut sources.clock, observer),
        }
        if trace.is_over() {
            break EndReason::TargetExited;
        }
    };
    observer.ended(reason);
    if reason != EndReason::TargetExited {
        walk_again(&mut sources, &mut trace, observer).await;
    }
    Ok(trace.close(reason))
}

/// The last walks, with the windows still open: what one says of a block holds for as long as no
/// record says otherwise, and none is missed.
async fn walk_again(sources: &mut Sources<'_>, trace: &mut Trace, observer: &mut dyn Observer) {
    let longest = match trace.options.latest_end {
        Some(_) => LAST_WALK_IN_HASTE,
        None => LONGEST_LAST_WALK,
    };
    sources.clock.deadline = Some(Instant::now() + longest);
    while trace.walk_last() {
        match sources.next(trace).await {
            Happening::Ended(_) => return trace.miss_last_walks(),
            Happening::Followed(..) | Happening::WalkIsDue => {}
            other => trace.handle(other, &mut sources.clock, observer),
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
}

impl Clock {
    fn start(duration: Option<Duration>, latest_end: Option<std::time::Instant>) -> Self {
        let now = Instant::now();
        let deadline = duration.and_then(|duration| now.checked_add(duration));
        let latest = latest_end.map(|at| Instant::from_std(at).max(now + SHORTEST));
        Self {
            drain: skipping(interval(DRAIN_INTERVAL)),
            sample: skipping(interval(FIRST_SAMPLE_INTERVAL)),
            slower_at: Some(now + FIRST),
            progress_at: now,
            deadline: deadline.into_iter().chain(latest).min(),
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

/// What the loop waits for besides the processes.
struct Sources<'s> {
    signals: &'s mut Signals,
    clock: Clock,
}

impl Sources<'_> {
    async fn next(&mut self, trace: &mut Trace) -> Happening {
        let Self { signals, clock } = self;
        let Trace { processes, follower, .. } = trace;
        let walk_at = processes.iter().filter_map(Traced::next_walk_at).min();
        let budget_at = processes.iter().filter_map(|it| it.budget_at).min();
        let Clock { sample, drain, deadline, .. } = clock;
        let of_processes = poll_fn(|context| {
            // In this order: under a flood of records, ends and samples must still be seen.
            poll_changes(processes, context)
                .or_else_ready(|| sample.poll_tick(context).map(|_| Happening::Sample))
                .or_else_ready(|| poll_records(processes, context))
        });
        tokio::select! {
            biased;
            reason = signals.next() => Happening::Ended(reason),
            () = until(*deadline) => Happening::Ended(EndReason::Duration),
            (attached, place) = follower.next() => Happening::Followed(attached, place),
            () = until(budget_at) => Happening::BudgetIsDue,
            happening = of_processes => happening,
            () = until(walk_at) => Happening::WalkIsDue,
            _ = drain.tick() => Happening::Tick,
        }
    }
}

/// Asks the next one if this one has nothing.
trait OrElseReady {
    fn or_else_ready(self, next: impl FnOnce() -> Self) -> Self;
}

impl<T> OrElseReady for Poll<T> {
    fn or_else_ready(self, next: impl FnOnce() -> Self) -> Self {
        if self.is_ready() { self } else { next() }
    }
}

fn poll_changes(processes: &mut [Traced], context: &mut Context<'_>) -> Poll<Happening> {
    for (at, process) in processes.iter_mut().enumerate() {
        if let Poll::Ready(change) = process.poll_change(context) {
            return Poll::Ready(Happening::Process(at, change));
        }
    }
    Poll::Pending
}

fn poll_records(processes: &mut [Traced], context: &mut Context<'_>) -> Poll<Happening> {
    for (at, process) in processes.iter_mut().enumerate() {
        if let Poll::Ready(Ok(())) = process.poll_records(context) {
            return Poll::Ready(Happening::Process(at, Occurrence::Records));
        }
    }
    Poll::Pending
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// All windows of a trace.
struct Trace {
    processes: Vec<Traced>,
    follower: Follower,
    /// Of the processes that have ended.
    endings: Vec<Ending>,
    recorder: Option<Recorder>,
    options: Options,
    /// Why there is none.
    no_capture: Option<String>,
}

impl Escorted for Trace {
    fn see(&mut self) {
        self.drain(0);
    }

    fn expects_python(&self) -> bool {
        self.processes.first().is_some_and(|it| it.window.expects_python())
    }
}

impl Trace {
    fn open(
        attached: Vec<(Attached, Option<Walker>)>,
        options: &Options,
        sink: Option<Sink>,
    ) -> Result<Self, AttachError> {
        let mut trace = Self {
            processes: Vec::new(),
            follower: Follower::new(options, attached.len()),
            endings: Vec::new(),
            recorder: None,
            options: options.clone(),
            no_capture: None,
        };
        let mut sink = sink;
        for (number, (attached, walker)) in attached.into_iter().enumerate() {
            let number = number as u8;
            let place = options.is_of_several().then(|| Place { number, ..Place::default() });
            let opened = Window::open(attached, options, place);
            if let Some(sink) = sink.take() {
                trace.record(sink, opened.0.header());
            }
            trace.add(opened, walker)?;
        }
        if options.follow_forks {
            trace.follow_present();
        }
        Ok(trace)
    }

    fn record(&mut self, sink: Sink, header: &Header) {
        match Recorder::start(sink, header, self.options.ring_bytes) {
            Ok(recorder) => self.recorder = Some(recorder),
            Err(error) => self.no_capture = Some(format!("there is no capture: {error}")),
        }
    }

    fn add(
        &mut self,
        (mut window, ring, pidfd): (Window, Ring, PidFd),
        walker: Option<Walker>,
    ) -> Result<(), AttachError> {
        if let Some(recorder) = &self.recorder {
            window.record_to(recorder.feed());
        }
        window.notes_of_start(self.no_capture.take());
        self.processes.push(Traced::new((window, ring, pidfd), walker)?);
        Ok(())
    }

    /// Children that are there already, and theirs.
    fn follow_present(&mut self) {
        let proc = ProcFs::new("/proc");
        let traced: Vec<u32> = self.processes.iter().map(|it| it.window.pid()).collect();
        let mut children: Vec<(u32, u32)> =
            traced.iter().flat_map(|pid| proc.descendants(*pid)).collect();
        children.retain(|(pid, _)| !traced.contains(pid) && *pid != std::process::id());
        children.sort_unstable();
        children.dedup_by_key(|(pid, _)| *pid);
        let known = |(pid, parent)| SeenFork { pid, parent, time_ns: 0, heap: None };
        self.follow(children.into_iter().map(known).collect());
    }

    fn follow(&mut self, children: Vec<SeenFork>) {
        if self.options.follow_forks && !children.is_empty() {
            self.follower.follow(children, self.processes.len());
        }
    }

    fn target(&self) -> String {
        let targets: Vec<String> = self.processes.iter().map(|it| it.window.target()).collect();
        targets.join(", ")
    }

    fn probes(&self) -> usize {
        self.processes.iter().map(|it| it.window.probes()).sum()
    }

    fn attach_ns(&self) -> u64 {
        self.processes.iter().map(|it| it.window.attach_ns()).sum()
    }

    /// Nobody is left, and nobody is to come; or the command has ended.
    fn is_over(&self) -> bool {
        self.is_over_with_command() || self.processes.is_empty() && self.follower.pending() == 0
    }

    /// Does what an event asks for; its end is the loop's.
    fn handle(&mut self, event: Happening, clock: &mut Clock, observer: &mut dyn Observer) {
        match event {
            Happening::Tick => (0..self.processes.len()).for_each(|at| self.drain(at)),
            Happening::Sample => {
                for process in &mut self.processes {
                    process.window.sample_memory();
                    process.look_for_unseen();
                }
                if clock.progress_is_due() {
                    observer.sample(&self.sample());
                }
            }
            Happening::WalkIsDue => {
                let now = Instant::now();
                self.processes.iter_mut().for_each(|it| it.walk_if_due(now));
            }
            Happening::BudgetIsDue => {
                let now = Instant::now();
                let changes = self.processes.iter_mut().filter_map(|it| it.keep_budget(now));
                changes.for_each(|change| observer.changed(&change));
            }
            Happening::Process(at, Occurrence::Records) => self.drain(at),
            Happening::Process(at, Occurrence::Walked(walked)) => {
                self.processes[at].take_walk(walked);
            }
            Happening::Process(at, Occurrence::Exited) => self.end(at),
            Happening::Followed(attached, place) => self.take_up(*attached, place, observer),
            Happening::Ended(_) => {}
        }
    }

    fn drain(&mut self, at: usize) {
        self.processes[at].drain(DRAIN_BATCH);
        let children = self.processes[at].window.take_forks();
        self.follow(children);
    }

    /// The command is the first of all.
    fn is_over_with_command(&self) -> bool {
        self.options.from_start && self.processes.iter().all(|it| it.window.number() > 0)
    }

    fn end(&mut self, at: usize) {
        let mut ending = self.processes.remove(at).close(EndReason::TargetExited);
        let children = ending.take_forks();
        self.endings.push(ending);
        self.follow(children);
    }

    /// A child begins to be traced.
    fn take_up(&mut self, attached: Attached, place: Place, observer: &mut dyn Observer) {
        let since_fork_ns = place.forked_ns.map(|at| attached.opened_ns.saturating_sub(at));
        let pid = attached.process.pid;
        let first = FirstWalk::Now { layout: self.options.wants_layouts() };
        let start = |pid| Walker::start(pid, first).ok();
        let walker = NonZeroU32::new(pid).filter(|_| self.options.walk).and_then(start);
        let opened = Window::open(attached, &self.options, Some(place));
        let target = opened.0.target();
        match self.add(opened, walker) {
            Ok(()) => observer.followed(&target, since_fork_ns),
            Err(error) => log::warn!("process {pid} is not followed: {error}"),
        }
    }

    fn sample(&mut self) -> Sample {
        let mut sum = Sample::default();
        for process in &mut self.processes {
            let sample = process.window.sample();
            sum.elapsed_ns = sum.elapsed_ns.max(sample.elapsed_ns);
            sum.events += sample.events;
            sum.lost += sample.lost;
            sum.live_bytes += sample.live_bytes;
            sum.rss_bytes += sample.rss_bytes;
        }
        sum
    }

    fn walk_last(&mut self) -> bool {
        // Each is to be asked.
        self.processes.iter_mut().fold(false, |any, process| process.walk_last() | any)
    }

    fn miss_last_walks(&mut self) {
        self.processes.iter_mut().for_each(Traced::miss_last_walk);
    }

    fn close(self, reason: EndReason) -> Outcome {
        let mut endings = self.endings;
        endings.extend(self.processes.into_iter().map(|process| process.close(reason)));
        endings.sort_by_key(Ending::number);
        Outcome { endings, not_followed: self.follower.finish(), recorder: self.recorder }
    }
}
