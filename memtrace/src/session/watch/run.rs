//! The loop: looks, decides, has captures taken.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout_at},
};

use super::{
    Event, Subject, WatchEnd, WatchError, WatchObserver, WatchOptions, clock,
    job::{Capturer, Done, Jobs, Order, Taken},
    kills::{Kills, announced},
    looking::{Wants, pressure_file},
    nonzero,
    record::record,
    subject::named,
    target::{Gone, Kind, LONGEST_GAP_NS, Target},
};
use crate::{
    inspection::Inspection,
    model::incident::{Fired, OomKill},
    probe::oom::OomEvents,
    session::{
        Inspector, Stop,
        run::{Signals, readable},
    },
    sys::{
        btf::{KERNEL_BTF, oom_layout},
        clock::{monotonic_ns, own_cpu_ns},
        pressure::{PressureTrigger, Stalled, stalls},
        procfs::ProcFs,
    },
    trigger::{Bound, Condition, Look, Metric},
    watch::{
        pace::next_look_ns,
        status::{OwnCost, Status},
        window::{Overheads, window},
    },
};

/// How often it is looked for processes of a name.
const DISCOVER_NS: u64 = 2_000_000_000;

/// Looks take at most this part of the time, of one CPU, when no limit is near.
const CALM_SHARE: u64 = 300;

/// The same when one is.
const ALERT_SHARE: u64 = 30;

/// A process to follow is looked for this often while there is none, and its kill.
const FOLLOW_NS: u64 = 200_000_000;

/// After a failure it is not tried to follow again before.
const FAILED_NS: u64 = 5_000_000_000;

/// How long captures that are under way may take at the end.
const LONGEST_END: Duration = Duration::from_secs(60);

/// Another process is followed when it is larger by this factor.
const MUCH_LARGER: u64 = 2;

/// News from threads.
enum News {
    Done(Done),
    Walked { target: u64, pid: u32, inspection: Option<Box<Inspection>> },
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
    status: Status,
    discovered_ns: Option<u64>,
    told_ns: u64,
    looked_ns: Option<u64>,
    /// CPU time of the last look.
    look_cost_ns: u64,
    has_captured: bool,
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
        let (announcements, no_announcements) = match announcements(&proc) {
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
            status: Status::default(),
            discovered_ns: None,
            told_ns: monotonic_ns(),
            looked_ns: None,
            look_cost_ns: 0,
            has_captured: false,
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
        self.look_cost_ns = own_cpu_ns().saturating_sub(cpu_ns);
        self.tell_status(now_ns);
    }

    /// memtrace may not have got to run, or the machine was suspended.
    fn check_gap(&mut self, now_ns: u64) {
        let Some(before_ns) = self.looked_ns.replace(now_ns) else { return };
        let gap_ns = now_ns.saturating_sub(before_ns);
        if now_ns < before_ns || gap_ns > LONGEST_GAP_NS {
            self.status.discontinuities += 1;
            let text = format!(
                "nothing was seen for {}: conditions are measured anew",
                crate::model::size::duration_ns(gap_ns)
            );
            self.observer.happened(Event::Discontinuity(&text));
        }
    }

    fn discover(&mut self, now_ns: u64) {
        let is_soon = |at: u64| now_ns.saturating_sub(at) < DISCOVER_NS;
        if self.discovered_ns.is_some_and(is_soon) {
            return;
        }
        self.discovered_ns = Some(now_ns);
        let Subject::Command(command) = &self.options.subject else { return };
        let known: Vec<Option<u32>> = self.targets.values().map(|it| it.status.pid).collect();
        for pid in named(&self.proc, command) {
            if known.contains(&Some(pid)) {
                continue;
            }
            let Ok(process) = self.proc.process(pid) else { continue };
            if process.check_traceable().is_err() {
                continue;
            }
            let number = self.add(Target::process(&self.proc, &process, &self.options.conditions));
            let title = self.targets[&number].title();
            self.observer.happened(Event::Appeared(&title));
        }
    }

    fn look_at(&mut self, number: u64, now_ns: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let looked = target.look(&self.proc, self.wants, now_ns);
        self.count_kills(number, now_ns);
        match looked {
            Ok(look) => self.decide(number, &look, now_ns),
            Err(Gone) => self.gone(number),
        }
    }

    /// A group may come again, under the same name.
    fn gone(&mut self, number: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let title = target.title();
        if matches!(target.kind, Kind::Group(_)) {
            if !std::mem::replace(&mut self.is_gone, true) {
                self.observer.happened(Event::Gone(&title));
            }
            return;
        }
        // Its capture goes on to its own end.
        if target.running.is_none() {
            self.targets.remove(&number);
            self.observer.happened(Event::Gone(&title));
        }
    }

    fn decide(&mut self, number: u64, look: &Look, now_ns: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        if std::mem::take(&mut self.is_gone) {
            self.observer.happened(Event::Appeared(&target.title()));
        }
        if let Some(pid) = target.wants_walk(self.wants, now_ns) {
            self.walk(number, pid);
        }
        if let Some(firing) = look.firing {
            self.fire(number, &firing.condition, now_ns);
        }
        if self.options.follow {
            self.follow(number, now_ns);
        }
    }

    /// On a thread: it may take a while.
    fn walk(&mut self, target: u64, pid: u32) {
        let tell = self.tell.clone();
        let run = move || {
            let look = |pid| Inspector::open(pid).and_then(|mut it| it.look());
            let inspection = NonZeroU32::new(pid).and_then(|pid| look(pid).ok()).map(Box::new);
            let _ = tell.send(News::Walked { target, pid, inspection });
        };
        let started = std::thread::Builder::new().name("heap walker".to_owned()).spawn(run);
        if let Err(error) = started {
            log::warn!("the heap is not walked: {error}");
        }
    }

    fn fire(&mut self, number: u64, condition: &Condition, now_ns: u64) {
        let is_over = self.is_over();
        let Some(target) = self.targets.get_mut(&number) else { return };
        if now_ns < target.cool_until_ns || is_over {
            return;
        }
        let fired = target.fired(condition, clock::now());
        if let Some(running) = &target.running {
            // One that was taken for an earlier firing has that.
            if running.is_rolling && running.fired.set(fired.clone()).is_ok() {
                self.status.firings += 1;
                let pid = running.pid;
                running.stop.stop();
                self.observer.happened(Event::Fired(&fired, pid, Duration::ZERO));
            }
            return;
        }
        self.status.firings += 1;
        let Some(pid) = target.members.aim().and_then(|it| nonzero(it.process.pid)) else {
            target.cool_until_ns = now_ns.saturating_add(self.options.cool_down.as_nanos() as u64);
            self.observer.happened(Event::NobodyToTrace(&fired));
            return;
        };
        let left = fired.time_to_limit_ns.map(Duration::from_nanos);
        let duration = window(self.options.duration, left, self.overheads);
        self.observer.happened(Event::Fired(&fired, pid.get(), duration));
        self.capture(number, pid, Some(duration), OnceLock::from(fired));
    }

    fn capture(
        &mut self,
        number: u64,
        pid: NonZeroU32,
        duration: Option<Duration>,
        fired: OnceLock<Fired>,
    ) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let order = Order {
            pid,
            fired: Arc::new(fired),
            duration,
            stop: Stop::default(),
            kills: self.kills.clone(),
            group: target.group.clone(),
        };
        match self.jobs.capture(number, order) {
            Ok(running) => target.running = Some(running),
            Err(error) => self.fail(&format!("there is no thread for a capture: {error}")),
        }
    }

    /// Traces whom a kill is most likely to hit, from now on.
    fn follow(&mut self, number: u64, now_ns: u64) {
        let is_over = self.is_over();
        let Some(target) = self.targets.get_mut(&number) else { return };
        let Some(aim) = target.members.aim() else { return };
        match &target.running {
            None if now_ns >= target.follow_after_ns && !is_over => {
                if let Some(pid) = nonzero(aim.process.pid) {
                    self.capture(number, pid, None, OnceLock::new());
                }
            }
            Some(running) if running.is_rolling && running.pid != aim.process.pid => {
                let followed = target.members.get(running.pid).map_or(0, |it| it.rss_bytes);
                if aim.rss_bytes > followed.saturating_mul(MUCH_LARGER) {
                    running.stop.stop();
                }
            }
            _ => {}
        }
    }

    fn take_announcements(&mut self) {
        let page_bytes = rustix::param::page_size() as u64;
        let mut kills = Vec::new();
        if let Some(events) = &mut self.announcements {
            while let Some(victim) = events.get_mut().next_victim() {
                kills.push(announced(&victim, page_bytes));
            }
        }
        kills.into_iter().for_each(|kill| self.killed(kill));
    }

    /// One of those that are watched, or somebody else.
    fn killed(&mut self, kill: OomKill) {
        let mut targets = self.targets.iter();
        let found = targets.find(|(_, target)| target.knows(kill.pid)).map(|(number, _)| *number);
        if let Some(number) = found {
            self.book(number, kill);
        }
    }

    fn book(&mut self, number: u64, kill: OomKill) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        if self.kills.known(kill.pid).is_some() {
            return;
        }
        let kill = target.complete(kill);
        target.status.oom_kills += 1;
        self.status.oom_kills += 1;
        self.kills.add(kill.clone());
        self.observer.happened(Event::Killed(&kill));
        // Else its capture ends with it, and has the sites.
        if target.running.as_ref().is_none_or(|it| it.pid != kill.pid) {
            self.keep(number, kill);
        }
    }

    /// What was known of a process that was killed and has no capture.
    fn keep(&mut self, number: u64, kill: OomKill) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let census = target.take_census(kill.pid);
        let Some(member) = target.take_member(kill.pid) else { return };
        let capture = record(&self.proc, member, census, kill, &self.options.command_line);
        if let Err(error) = self.jobs.keep(number, capture) {
            self.fail(&format!("there is no thread for a record: {error}"));
        }
    }

    /// Kills that were not announced, by the counter of the group: of those that left since the last
    /// look, the largest.
    fn count_kills(&mut self, number: u64, now_ns: u64) {
        if self.announcements.is_none() {
            self.book_counted(number, now_ns);
        }
        if let Some(target) = self.targets.get_mut(&number) {
            target.forget_left(now_ns);
        }
    }

    fn book_counted(&mut self, number: u64, now_ns: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let counted = target.new_kills();
        let mut left: Vec<(u64, u32, String)> = target
            .left
            .iter()
            .map(|(_, it)| (it.rss_bytes, it.process.pid, it.process.command.clone()))
            .filter(|(_, pid, _)| self.kills.known(*pid).is_none())
            .collect();
        left.sort_unstable();
        for (_, pid, command) in left.into_iter().rev().take(counted as usize) {
            self.book(number, OomKill { pid, command, time_ns: now_ns, ..OomKill::default() });
        }
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

    fn learn(&mut self, news: News) {
        match news {
            News::Walked { target, pid, inspection } => {
                if let Some(target) = self.targets.get_mut(&target) {
                    target.walked(pid, inspection.map(|it| *it));
                }
            }
            News::Done(done) => self.done(done),
        }
    }

    fn done(&mut self, done: Done) {
        if let Some(target) = self.targets.get_mut(&done.target)
            && let Some(running) = target.running.take_if(|it| Some(it.pid) == done.pid)
        {
            let now_ns = monotonic_ns();
            let cool_down_ns = self.options.cool_down.as_nanos() as u64;
            if running.fired.get().is_some() {
                target.cool_until_ns = now_ns.saturating_add(cool_down_ns);
            }
            let pause_ns = if done.result.is_ok() { 0 } else { FAILED_NS };
            target.follow_after_ns = now_ns.saturating_add(pause_ns);
        }
        match done.result {
            Ok(taken) => self.took(taken),
            Err(error) => {
                self.fail(&error);
                // It was killed before it could be traced.
                if let Some(kill) = done.pid.and_then(|pid| self.kills.known(pid)) {
                    self.keep(done.target, kill);
                }
            }
        }
    }

    fn took(&mut self, taken: Taken) {
        self.overheads = taken.overheads.unwrap_or(self.overheads);
        self.status.captures_removed += taken.removed;
        for (name, count) in taken.losses {
            *self.status.losses.entry(name).or_default() += count;
        }
        if !taken.files.is_empty() {
            self.status.captures_written += 1;
            self.has_captured = true;
            self.observer.happened(Event::Taken(&taken.files));
        }
    }

    fn fail(&mut self, error: &str) {
        self.status.captures_failed += 1;
        self.observer.happened(Event::Failed(error));
    }

    fn tell_status(&mut self, now_ns: u64) {
        let every_ns = self.options.status_every.as_nanos() as u64;
        let is_due = now_ns.saturating_sub(self.told_ns) >= every_ns;
        if !is_due && !self.options.tell_looks {
            return;
        }
        self.status.time = clock::now();
        self.targets.values_mut().for_each(|it| it.read_peak(&self.proc));
        self.status.targets = self.targets.values().map(|it| it.status.clone()).collect();
        self.status.own = own_cost(&self.proc);
        if self.options.tell_looks {
            self.observer.happened(Event::Looked(&self.status));
        }
        if is_due {
            self.told_ns = now_ns;
            self.observer.happened(Event::Status(&self.status));
        }
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

fn announcements(proc: &ProcFs) -> Result<AsyncFd<OomEvents>, String> {
    let version = proc.kernel_version().map_err(|error| error.to_string())?;
    let layout = oom_layout(Path::new(KERNEL_BTF), version).map_err(|error| error.to_string())?;
    let events = OomEvents::open(&layout).map_err(|error| error.to_string())?;
    readable(events).map_err(|error| error.to_string())
}

/// The kernel's trigger for the first condition on pressure. Without pressure at all it is refused;
/// without triggers (as in some containers) looks have to do.
fn pressure(
    options: &WatchOptions,
) -> Result<Option<(AsyncFd<PressureTrigger>, Condition)>, WatchError> {
    let is_of_pressure =
        |it: &&Condition| matches!(it.metric, Metric::Pressure | Metric::FullPressure);
    let Some(condition) = options.conditions.iter().find(is_of_pressure) else { return Ok(None) };
    let of_group = match &options.subject {
        Subject::Group(group) => group.pressure_file(),
        _ => None,
    };
    let file = pressure_file(of_group);
    stalls(&file)?;
    let Bound::Share(share) = condition.bound else { return Ok(None) };
    let who = match condition.metric {
        Metric::FullPressure => Stalled::Full,
        _ => Stalled::Some,
    };
    let opened = PressureTrigger::open(file, who, share).map_err(|error| error.to_string());
    let registered =
        opened.and_then(|trigger| with_priority(trigger).map_err(|error| error.to_string()));
    match registered {
        Ok(trigger) => Ok(Some((trigger, *condition))),
        Err(error) => {
            log::info!("the kernel does not wake memtrace on pressure: {error}");
            Ok(None)
        }
    }
}

fn with_priority(trigger: PressureTrigger) -> std::io::Result<AsyncFd<PressureTrigger>> {
    // SAFETY: the trigger owns its descriptor and keeps it open for as long as it lives, which is as
    // long as the registration.
    unsafe { AsyncFd::register_with_interest(trigger, Interest::PRIORITY) }
        .map_err(|error| error.into_parts().1)
}

/// Waits for a descriptor, if there is one; what made it ready is the caller's to take.
async fn ready<T: std::os::fd::AsRawFd>(fd: Option<&mut AsyncFd<T>>, interest: Interest) {
    let Some(fd) = fd else { return std::future::pending().await };
    match fd.ready_mut(interest).await {
        Ok(mut guard) => guard.clear_ready(),
        // Nothing more is to be had of it.
        Err(_) => std::future::pending().await,
    }
}

fn own_cost(proc: &ProcFs) -> OwnCost {
    let own = proc.resident(std::process::id()).unwrap_or_default();
    let cpu = crate::sys::clock::process_cpu_ns(std::process::id());
    OwnCost {
        cpu_ns: cpu.unwrap_or_default(),
        rss_bytes: own.bytes,
        peak_rss_bytes: own.peak_bytes,
    }
}
