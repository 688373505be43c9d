//! The loop: looks, decides, has captures taken.

mod firing;
mod kills;
mod looking;
mod news;
mod preparing;
mod sources;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout_at},
};

use self::sources::{announcements, pressure, ready};
use super::{
    Event, Subject, WatchEnd, WatchError, WatchObserver, WatchOptions,
    job::{Capturer, Done, Jobs},
    kills::Kills,
    looking::Wants,
    target::{LONGEST_GAP_NS, Target},
};
use crate::{
    inspection::Inspection,
    probe::oom::OomEvents,
    session::run::Signals,
    sys::{
        clock::{monotonic_ns, own_cpu_ns},
        pressure::PressureTrigger,
        procfs::ProcFs,
    },
    trigger::{Bound, Condition, Metric},
    watch::{pace::next_look_ns, readiness::Readiness, status::Status, window::Overheads},
};

/// Looks take at most this part of the time, of one CPU, when no limit is near.
const CALM_SHARE: u64 = 300;

/// The same when one is.
const ALERT_SHARE: u64 = 30;

/// A process to follow is looked for this often while there is none, and its kill.
const FOLLOW_NS: u64 = 200_000_000;

/// How long captures that are under way may take at the end.
const LONGEST_END: Duration = Duration::from_secs(60);

/// News from threads.
enum News {
    Done(Done),
    Walked {
        target: u64,
        pid: u32,
        inspection: Option<Box<Inspection>>,
    },
    /// What a capture of this process takes, or of whoever comes next, is ready, after so long, or cannot be
    /// made ready.
    Prepared {
        pid: Option<u32>,
        result: Result<Duration, String>,
    },
}

enum Happening {
    Signal,
    News(News),
    /// Somebody was killed.
    Killed,
    /// The kernel says that a bound of pressure is exceeded.
    Pressed,
    Look,
}

/// Watches until something ends it.
///
/// # Errors
/// When there is nothing to watch, or it cannot be.
pub fn watch(
    options: &WatchOptions,
    capturer: Arc<dyn Capturer>,
    observer: &mut dyn WatchObserver,
) -> Result<WatchEnd, WatchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(WatchError::Runtime)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(WatchError::Runtime)?;
        let mut watch = Watch::open(options, capturer, observer)?;
        let end = watch.run(&mut signals).await;
        watch.close(&mut signals).await;
        Ok(end)
    })
}

struct Watch<'w> {
    options: &'w WatchOptions,
    observer: &'w mut dyn WatchObserver,
    proc: ProcFs,
    wants: Wants,
    targets: BTreeMap<u64, Target>,
    next_target: u64,
    kills: Kills,
    jobs: Jobs,
    news: UnboundedReceiver<News>,
    tell: UnboundedSender<News>,
    announcements: Option<AsyncFd<OomEvents>>,
    pressure: Option<(AsyncFd<PressureTrigger>, Condition)>,
    overheads: Overheads,
    readiness: Readiness,
    was_ready: bool,
    /// Why, where that was said.
    not_ready: Option<String>,
    status: Status,
    discovered_ns: Option<u64>,
    told_ns: u64,
    looked_ns: Option<u64>,
    /// CPU time of the last look.
    look_cost_ns: u64,
    has_captured: bool,
    /// A trace has come to its end since the last look.
    has_ended: bool,
    /// The group has gone, and was said to.
    is_gone: bool,
}

impl<'w> Watch<'w> {
    fn open(
        options: &'w WatchOptions,
        capturer: Arc<dyn Capturer>,
        observer: &'w mut dyn WatchObserver,
    ) -> Result<Self, WatchError> {
        let (tell, news) = unbounded_channel();
        let (done, mut ends) = unbounded_channel::<Done>();
        let forward = tell.clone();
        tokio::spawn(async move {
            while let Some(end) = ends.recv().await {
                let _ = forward.send(News::Done(end));
            }
        });
        let proc = ProcFs::new("/proc");
        let (announcements, no_announcements) = match announcements() {
            Ok(events) => (Some(events), None),
            Err(reason) => (None, Some(reason)),
        };
        let mut watch = Self {
            options,
            observer,
            wants: Wants::of(&options.conditions),
            targets: BTreeMap::new(),
            next_target: 0,
            kills: Kills::default(),
            jobs: Jobs { capturer, done },
            news,
            tell,
            announcements,
            pressure: pressure(options)?,
            overheads: Overheads::default(),
            readiness: Readiness::default(),
            was_ready: false,
            not_ready: None,
            status: Status::default(),
            discovered_ns: None,
            told_ns: monotonic_ns(),
            looked_ns: None,
            look_cost_ns: 0,
            has_captured: false,
            has_ended: false,
            is_gone: false,
            proc,
        };
        watch.begin()?;
        let targets = watch.targets.values().map(Target::title).collect();
        watch.observer.happened(Event::Watching { targets, no_announcements });
        Ok(watch)
    }

    /// The first targets: a process or a group has to be there.
    fn begin(&mut self) -> Result<(), WatchError> {
        match &self.options.subject {
            Subject::Process(pid) => {
                let pid = pid.get();
                if pid == std::process::id() {
                    return Err(WatchError::Own(pid));
                }
                let process = self.proc.process(pid)?;
                process.check_traceable()?;
                self.add(Target::process(&self.proc, &process, &self.options.conditions));
            }
            Subject::Group(group) => {
                self.check_counted(group.has_memory(), group.name())?;
                self.add(Target::group(group.clone(), &self.options.conditions));
            }
            Subject::Command(_) => self.discover(monotonic_ns()),
        }
        Ok(())
    }

    /// Swap and faults of a group are told by its memory controller only.
    fn check_counted(&self, has_memory: bool, group: &str) -> Result<(), WatchError> {
        let needs = |it: &&Condition| matches!(it.metric, Metric::Swap | Metric::MajorFaults);
        match self.options.conditions.iter().find(needs) {
            Some(condition) if !has_memory => Err(WatchError::NotCounted {
                condition: condition.to_string(),
                group: group.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn add(&mut self, target: Target) -> u64 {
        let number = self.next_target;
        self.next_target += 1;
        self.targets.insert(number, target);
        number
    }

    async fn run(&mut self, signals: &mut Signals) -> WatchEnd {
        loop {
            self.look();
            if let Some(end) = self.end() {
                return end;
            }
            match self.next(signals).await {
                Happening::Signal => return WatchEnd::Interrupted,
                Happening::News(news) => self.learn(news),
                Happening::Killed => self.take_announcements(),
                Happening::Pressed => self.take_pressure(),
                Happening::Look => {}
            }
        }
    }

    async fn next(&mut self, signals: &mut Signals) -> Happening {
        let wait = self.wait();
        tokio::select! {
            biased;
            _ = signals.next() => Happening::Signal,
            Some(news) = self.news.recv() => Happening::News(news),
            () = ready(self.announcements.as_mut(), Interest::READABLE) => Happening::Killed,
            () = ready(self.pressure.as_mut().map(|it| &mut it.0), Interest::PRIORITY) => {
                Happening::Pressed
            }
            () = sleep(wait) => Happening::Look,
        }
    }

    /// The time to the next look: not more often than looks may cost.
    fn wait(&self) -> Duration {
        let left = self.targets.values().filter_map(|it| it.status.time_to_limit_ns).min();
        let seeks = self.options.follow && self.targets.values().any(|it| it.running.is_none());
        let wanted_ns = match seeks {
            true => next_look_ns(left).min(FOLLOW_NS),
            false => next_look_ns(left),
        };
        let share = if wanted_ns < next_look_ns(None) { ALERT_SHARE } else { CALM_SHARE };
        let least_ns = self.look_cost_ns.saturating_mul(share);
        Duration::from_nanos(wanted_ns.max(least_ns).min(LONGEST_GAP_NS / 3))
    }

    fn look(&mut self) {
        let cpu_ns = own_cpu_ns();
        let now_ns = monotonic_ns();
        self.check_gap(now_ns);
        self.take_announcements();
        if matches!(self.options.subject, Subject::Command(_)) {
            self.discover(now_ns);
        }
        let numbers: Vec<u64> = self.targets.keys().copied().collect();
        for number in numbers {
            self.look_at(number, now_ns);
        }
        self.prepare(now_ns);
        self.look_cost_ns = own_cpu_ns().saturating_sub(cpu_ns);
        self.tell_status(now_ns);
    }

    /// The bound was exceeded within the last second.
    fn take_pressure(&mut self) {
        let Some((_, condition)) = &self.pressure else { return };
        let Bound::Share(share) = condition.bound else { return };
        // Beyond the bound, by next to nothing.
        let said = Some(share + f64::EPSILON);
        let (some, full) = match condition.metric {
            Metric::FullPressure => (None, said),
            _ => (said, None),
        };
        self.targets.values_mut().for_each(|it| it.before.announced(some, full));
    }

    /// With `once` there is one capture.
    fn is_over(&self) -> bool {
        self.options.once && self.has_captured
    }

    fn end(&self) -> Option<WatchEnd> {
        let is_process = matches!(self.options.subject, Subject::Process(_));
        match () {
            () if self.is_over() => Some(WatchEnd::Fired),
            () if is_process && self.targets.is_empty() => Some(WatchEnd::Ended),
            () => None,
        }
    }

    /// Lets captures that are under way come to their end.
    async fn close(&mut self, signals: &mut Signals) {
        let running = self.targets.values().filter_map(|it| it.running.as_ref());
        running.for_each(|it| it.stop.stop());
        let until = Instant::now() + LONGEST_END;
        while self.targets.values().any(|it| it.running.is_some()) {
            let news = tokio::select! {
                news = timeout_at(until, self.news.recv()) => news,
                // Whoever is in a hurry gets what is there.
                _ = signals.next() => return,
            };
            let Ok(Some(news)) = news else { return };
            self.learn(news);
        }
    }
}
