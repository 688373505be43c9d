//! Keeps to the budget while a trace goes on: what is armed, for how long, and how densely samples
//! are taken. A state machine that knows no clock: whoever owns the probes tells it what was
//! counted, does what it says, and comes back when it says.

use super::{
    Armed,
    account::Account,
    load::{Activity, Load},
    setting::{Choice, Presence, Setting},
    work::{Done, WatchedWork, Work},
};

/// How often a setting that is there all the time is looked at: for so long a target that becomes busy
/// pays whatever it costs. A look takes some 20 us.
const LOOK_NS: u64 = 20_000_000;
/// How often an account that has to grow is looked at.
const WAIT_NS: u64 = 20_000_000;
/// So much of a newer load is believed.
const BELIEF: f64 = 0.4;
/// A finer setting must have fitted for so long before it is taken: no flapping.
const PATIENCE_NS: u64 = 3_000_000_000;
/// And must fit with so much to spare.
const SPARE: f64 = 0.7;
/// Counts of less CPU time than this say nothing about the load.
const LEAST_CPU_NS: f64 = 1_500_000.0;

/// What a burst may take from the target in one piece. Two thirds of it come on top where probes
/// are put in and taken out meanwhile.
const BURST_LOSS_NS: f64 = 25_000_000.0;
/// How long a burst is open: at least, and at most.
const BURST_NS: (f64, f64) = (20_000_000.0, 2_000_000_000.0);
/// A burst goes on when so much of it is left.
const LEAST_REST: f64 = 0.25;
/// So long until it is looked at again.
const LONGEST_REST_NS: f64 = 40_000_000.0;
/// The probes are in the target for about this long before and after a burst, all in all: the
/// kernel arms them link by link, and waits for readers before it disarms them.
pub(super) const LEAD_NS: f64 = 20_000_000.0;
/// When a burst is this rare, nothing would come of it.
const RAREST_BURST_NS: f64 = 20_000_000_000.0;

/// What holds for a whole trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The target may become slower by this share: 0.1 for a tenth.
    pub max_overhead: f64,
    /// What may be chosen.
    pub choice: Choice,
    /// The price of one record with its stack, until it is measured, in nanoseconds.
    pub record_ns: f64,
    /// How many CPUs there are.
    pub cpus: f64,
}

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// CPU time that the target has used, tracing included.
    pub cpu_ns: u64,
    /// CPU time that memtrace has used.
    pub own_cpu_ns: u64,
    /// How long the target's threads waited for a CPU, where that is known.
    pub waited_ns: Option<u64>,
    /// Instructions that it has executed in user mode, where they are counted.
    pub instructions: Option<u64>,
    /// Calls while the window was open.
    pub activity: Activity,
}

/// A target that uses less of a CPU than this is taken for one that uses so much: what is added to
/// next to nothing is not felt, however many times as much it is.
const LEAST_CPUS: f64 = 0.1;

impl Reading {
    /// CPU time that the target used since an earlier reading, in nanoseconds: what a budget is a
    /// share of.
    pub fn used_since_ns(&self, earlier: &Self) -> f64 {
        let cpu_ns = self.cpu_ns.saturating_sub(earlier.cpu_ns) as f64;
        let passed_ns = self.at_ns.saturating_sub(earlier.at_ns) as f64;
        cpu_ns.max(passed_ns * LEAST_CPUS)
    }

    /// What the target would have run, had memtrace not: it has to wait where it uses all CPUs. Never more
    /// than it waited, where that is known; it waits for others, too.
    fn crowded_out_since_ns(&self, earlier: &Self, cpus: f64) -> f64 {
        let passed_ns = self.at_ns.saturating_sub(earlier.at_ns).max(1) as f64;
        let used_cpus = self.cpu_ns.saturating_sub(earlier.cpu_ns) as f64 / passed_ns;
        let own_ns = self.own_cpu_ns.saturating_sub(earlier.own_cpu_ns) as f64;
        let share = (used_cpus + own_ns / passed_ns - (cpus - 1.0)).clamp(0.0, 1.0);
        let waited_ns = self.waited_ns.zip(earlier.waited_ns);
        let waited_ns =
            waited_ns.map(|(now_ns, before_ns)| now_ns.saturating_sub(before_ns) as f64);
        (own_ns * share).min(waited_ns.unwrap_or(f64::INFINITY))
    }
}

/// What to do, and until when.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is to be armed.
    pub armed: Armed,
    /// How densely samples are to be taken.
    pub setting: Setting,
    /// When to come back, `CLOCK_MONOTONIC`; or as soon as possible after.
    pub next_ns: u64,
    /// The setting is another one than before.
    pub change: Option<Change>,
}

/// A setting was given up for another.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Before.
    pub from: Setting,
    /// From now on.
    pub to: Setting,
    /// Why, as a clause.
    pub why: String,
}

/// Keeps to a budget.
#[derive(Clone, Debug)]
pub struct Governor {
    rules: Rules,
    setting: Setting,
    armed: Armed,
    load: Load,
    account: Account,
    /// What may be lost in one piece beyond what is earned meanwhile, while all is armed all the time.
    peak: Account,
    /// What the time between two looks cost, by the last one.
    look_ns: f64,
    last: Reading,
    /// When the present burst began, or the setting was chosen.
    since_ns: u64,
    /// What the target has lost since all was armed.
    burst_lost_ns: f64,
    /// Since when a finer setting would have fitted.
    finer_since_ns: Option<u64>,
    /// The price of what was armed until the last step, if that was more: it takes the kernel a while
    /// to take it out.
    leaving_price: f64,
    /// What the target has lost so far, in nanoseconds of CPU time.
    lost_ns: f64,
    /// What it has used, tracing included.
    used_ns: f64,
    /// What it has done, while all was armed and the window open, and at other times.
    work: Work,
}

impl Governor {
    /// Whether [`Self::begin`] would choose bursts.
    pub fn begins_in_bursts(rules: &Rules, load: &Load) -> bool {
        first_setting(rules, load).is_at_times()
    }

    /// Begins with what was counted before the window. All probes are armed.
    pub fn begin(rules: Rules, load: Load, now: Reading) -> (Self, Step) {
        let account = |most_ns| Account::new(rules.max_overhead, BURST_LOSS_NS, most_ns);
        let mut governor = Self {
            rules,
            setting: Setting::EXACT,
            armed: Armed::All,
            load,
            account: account(2.0 * (BURST_LOSS_NS + LEAD_NS)),
            peak: account(BURST_LOSS_NS),
            look_ns: 0.0,
            last: now,
            since_ns: now.at_ns,
            burst_lost_ns: 0.0,
            finer_since_ns: None,
            leaving_price: 0.0,
            lost_ns: 0.0,
            used_ns: 0.0,
            work: Work::new(),
        };
        // Where even bursts cost too much, the first step says so.
        governor.setting = first_setting(&rules, &governor.load);
        // The window opens with what is armed for the count: the first burst.
        let next_ns = now.at_ns + governor.open_ns();
        let step = Step { armed: Armed::All, setting: governor.setting, next_ns, change: None };
        (governor, step)
    }

    /// The present setting.
    pub fn setting(&self) -> Setting {
        self.setting
    }

    /// The load as it is believed to be.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// By which share the target was slower so far, by what was counted.
    pub fn overhead(&self) -> f64 {
        let used_ns = self.used_ns;
        self.lost_ns / (used_ns - self.lost_ns).max(used_ns * 0.01).max(1.0)
    }

    /// The part of what the target did that it did while it was watched.
    pub fn watched_work(&self) -> WatchedWork {
        self.work.watched()
    }

    /// What the last step asked for is done, which took its time: nothing is learnt of the load from
    /// that time, because the window was closed for part of it.
    /// When to come back.
    pub fn settled(&mut self, now: Reading) -> u64 {
        let now = self.sane(now);
        self.book(&now, false);
        self.last = now;
        (self.since_ns, self.burst_lost_ns) = (now.at_ns, 0.0);
        match self.armed == Armed::All {
            true => now.at_ns + self.open_ns(),
            false => now.at_ns + WAIT_NS,
        }
    }

    /// The CPU time of a process that has ended is not told any more.
    fn sane(&self, now: Reading) -> Reading {
        Reading { cpu_ns: now.cpu_ns.max(self.last.cpu_ns), ..now }
    }

    /// Takes what was counted since the last step.
    pub fn step(&mut self, now: Reading) -> Step {
        let now = self.sane(now);
        self.learn(&now);
        self.book(&now, self.armed == Armed::All);
        let change = self.reconsider(now.at_ns);
        // What was armed when it became too dear was the first burst.
        if change.is_some() && !self.setting.is_at_times() {
            self.since_ns = now.at_ns;
        }
        let next_ns = self.arm(now.at_ns);
        self.last = now;
        Step { armed: self.armed, setting: self.setting, next_ns, change }
    }

    fn learn(&mut self, now: &Reading) {
        let cpu_ns = now.used_since_ns(&self.last);
        if self.armed == Armed::Nothing || cpu_ns < LEAST_CPU_NS {
            return;
        }
        let activity = now.activity.since(&self.last.activity).chilled(cpu_ns);
        let newer = Load::of(&activity, cpu_ns, self.rules.record_ns);
        self.rules.record_ns = newer.record_ns().unwrap_or(self.rules.record_ns);
        match self.armed {
            // Where all is armed all the time, each look in doubt is paid by the target.
            Armed::All if self.is_dearer(&newer) => self.load = newer,
            Armed::All => self.load.approach(&newer, BELIEF),
            _ => self.load.approach(&self.load.with_releases(newer.release_price()), BELIEF),
        }
    }

    /// Whether a setting that is there all the time costs more than was believed.
    fn is_dearer(&self, newer: &Load) -> bool {
        let interval = self.setting.interval;
        !self.setting.is_at_times() && newer.price(interval) > self.load.price(interval)
    }

    /// Books the time since the last reading, in which the window was open or not.
    fn book(&mut self, now: &Reading, is_watched: bool) {
        let cpu_ns = now.used_since_ns(&self.last);
        let activity = now.activity.since(&self.last.activity).chilled(cpu_ns);
        let leaving_ns = cpu_ns * self.leaving_share_since_last(now.at_ns);
        let crowded_out_ns = now.crowded_out_since_ns(&self.last, self.rules.cpus);
        let lost_ns = (activity.added_ns() + leaving_ns + crowded_out_ns).min(cpu_ns);
        self.account.book(cpu_ns, lost_ns);
        self.peak.book(cpu_ns, lost_ns);
        self.burst_lost_ns += lost_ns;
        let passed_ns = now.at_ns.saturating_sub(self.last.at_ns).max(1) as f64;
        self.look_ns = lost_ns * LOOK_NS as f64 / passed_ns;
        self.lost_ns += lost_ns;
        self.used_ns += cpu_ns;
        let used_ns = now.cpu_ns.saturating_sub(self.last.cpu_ns) as f64;
        let counted = now.instructions.zip(self.last.instructions);
        if counted.is_none() {
            self.work.lose_count();
        }
        let executed = counted.map_or(0, |(now, before)| now.saturating_sub(before)) as f64;
        let done = Done {
            instructions: (executed - activity.added_instructions).max(0.0),
            cpu_ns: used_ns,
            lost_ns: (activity.added_ns() + leaving_ns).min(used_ns),
            calls: activity.acquisitions as f64,
            bytes: activity.requested_bytes as f64,
        };
        self.work.add(&done, is_watched);
    }

    /// Probes that come count from the first hit on, however long all of them take; those that go are
    /// there a little longer than they count.
    fn leaving_share_since_last(&self, now_ns: u64) -> f64 {
        let passed_ns = now_ns.saturating_sub(self.last.at_ns).max(1) as f64;
        let leaving = (LEAD_NS / 2.0 / passed_ns).min(1.0);
        leaving * (lost_share(self.leaving_price) - lost_share(self.present_price())).max(0.0)
    }

    /// The price of what is armed now.
    fn present_price(&self) -> f64 {
        match self.armed {
            Armed::Nothing => 0.0,
            Armed::Releases => self.load.release_price(),
            Armed::All => self.load.price(self.setting.interval),
        }
    }

    fn finest(&self, most: f64) -> Setting {
        let setting = self.rules.choice.finest(&self.load, most);
        match setting.is_at_times() && self.is_hopeless(setting) {
            true => Setting { presence: Presence::Never, ..setting },
            false => setting,
        }
    }

    /// Whether bursts would be too rare to tell anything.
    fn is_hopeless(&self, setting: Setting) -> bool {
        let price_ns = self.burst_price_ns(setting);
        self.account.earning_time_ns(price_ns) > RAREST_BURST_NS
    }

    /// What a burst takes from the target, in nanoseconds of its CPU time.
    fn burst_price_ns(&self, setting: Setting) -> f64 {
        let share = lost_share(self.load.price(setting.interval));
        (open_ns(share) + LEAD_NS) * share
    }

    /// Chooses another setting where it is time for one.
    fn reconsider(&mut self, now_ns: u64) -> Option<Change> {
        if self.setting.presence == Presence::Never {
            return None;
        }
        let steady = Account::steady_price(self.rules.max_overhead);
        if self.is_too_dear() {
            self.finer_since_ns = None;
            return self.choose(self.finest(steady), "it cost more than the budget allows");
        }
        let finer = self.finest(steady * SPARE);
        if finer.coarseness() >= self.setting.coarseness() {
            self.finer_since_ns = None;
            return None;
        }
        let since_ns = *self.finer_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) < PATIENCE_NS {
            return None;
        }
        self.finer_since_ns = None;
        self.choose(finer, "the target calls its allocator less than before")
    }

    /// Whether the setting cannot stay.
    fn is_too_dear(&self) -> bool {
        let unbearable = Account::unbearable_price(self.rules.max_overhead);
        match self.setting.presence {
            Presence::Always => {
                let price = self.load.price(self.setting.interval);
                // A short peak that savings pay for is no reason to look less closely for seconds.
                price > unbearable && !self.peak.can_pay(self.look_ns)
            }
            Presence::AcquisitionsAtTimes => self.load.release_price() > unbearable,
            Presence::AtTimes => self.is_hopeless(self.setting),
            Presence::Never => false,
        }
    }

    fn choose(&mut self, to: Setting, why: &str) -> Option<Change> {
        if to == self.setting {
            return None;
        }
        let from = std::mem::replace(&mut self.setting, to);
        let calls = self.load.acquisitions * 1e9;
        let why = format!("{why}: {calls:.0} allocations in a second of its CPU time");
        Some(Change { from, to, why })
    }

    /// Arms or disarms what the setting and the account ask for; when to look again.
    fn arm(&mut self, now_ns: u64) -> u64 {
        let before = self.present_price();
        let (armed, next_ns) = match self.setting.presence {
            Presence::Always => (Armed::All, now_ns + LOOK_NS),
            Presence::AcquisitionsAtTimes => self.come_and_go(Armed::Releases, now_ns),
            Presence::AtTimes => self.come_and_go(Armed::Nothing, now_ns),
            Presence::Never => (Armed::Nothing, u64::MAX),
        };
        if armed != self.armed {
            (self.armed, self.since_ns) = (armed, now_ns);
        }
        self.leaving_price = if self.present_price() < before { before } else { 0.0 };
        next_ns
    }

    fn come_and_go(&self, meanwhile: Armed, now_ns: u64) -> (Armed, u64) {
        if self.armed == Armed::All {
            let until_ns = (self.since_ns + self.open_ns()).max(now_ns + self.rest_ns(now_ns));
            return match now_ns < until_ns {
                true => (Armed::All, until_ns),
                false => (meanwhile, now_ns + WAIT_NS),
            };
        }
        match self.account.can_pay(self.burst_price_ns(self.setting)) {
            true => (Armed::All, now_ns + self.open_ns()),
            false => (meanwhile, now_ns + WAIT_NS),
        }
    }

    /// How much longer a burst is open because the target was there for less of it than it was taken to
    /// be, as where it has to share its CPU: until it has lost about as much as it may.
    fn rest_ns(&self, now_ns: u64) -> u64 {
        let open_ns = now_ns.saturating_sub(self.since_ns) as f64;
        let rest = BURST_LOSS_NS / self.burst_lost_ns.max(1.0) - 1.0;
        match rest < LEAST_REST {
            true => 0,
            false => (open_ns * rest).min(BURST_NS.1 - open_ns).clamp(0.0, LONGEST_REST_NS) as u64,
        }
    }

    /// How long a burst is open, or a setting that is there all the time is left alone.
    fn open_ns(&self) -> u64 {
        match self.setting.is_at_times() {
            true => open_ns(lost_share(self.load.price(self.setting.interval))) as u64,
            false => LOOK_NS,
        }
    }
}

/// What is begun with. The price of a record is a guess until some were made, and what proves too dear
/// is given up at once: so what may be bearable is tried.
fn first_setting(rules: &Rules, load: &Load) -> Setting {
    let bearable = rules.choice.finest(load, Account::unbearable_price(rules.max_overhead));
    match bearable.presence {
        Presence::Always => bearable,
        _ => rules.choice.finest(load, Account::steady_price(rules.max_overhead)),
    }
}

/// The share of its time that a target loses at a price.
fn lost_share(price: f64) -> f64 {
    price / (1.0 + price)
}

/// How long a burst is open when the target loses this share of its time in it.
fn open_ns(share: f64) -> f64 {
    let (least, most) = BURST_NS;
    (BURST_LOSS_NS / share.max(1e-3)).clamp(least, most)
}
