//! The budget at work: calls are counted before the window opens, and while it is open the probes
//! come and go as the governor says.

use memtrace_common::{
    loss::{KernelCounters, KernelLoss},
    sample::Interval,
};

use super::{
    attach::{AttachError, First, arm_sides},
    counting::{self, Counted},
    prices::{Prices, RECORD_NS, Returns},
};
use crate::{
    budget::{
        Activity, Armed, Change, Choice, Governor, Load, Presence, Reading, Rules, Setting, Step,
        WatchedWork,
    },
    model::{
        cost::{Cost, Expected, ProbeCosts, SettingChange},
        coverage::{Coverage, Family, FamilyCoverage, Phase},
    },
    probe::{load::Kernel, side::Side, target::PlannedObject},
    sys::{clock, instructions::Instructions, kernel::KernelVersion, procfs::ProcFs},
};

/// Drawn at this distance, nothing is: for when the probes come and go.
const CLOSED: Interval = Interval::MAX;

/// What return probes are taken to be like where the kernel does not tell its release.
const UNKNOWN_KERNEL: KernelVersion = KernelVersion::new(6, 11);

/// Where the probes belong.
pub(super) struct Place<'p> {
    pub(super) kernel: &'p mut Kernel,
    pub(super) objects: &'p [PlannedObject],
    pub(super) proc: &'p ProcFs,
    pub(super) pid: u32,
}

impl Place<'_> {
    /// What calls cost there where hits cost so much.
    pub(super) fn prices(&self, probes: &ProbeCosts) -> Prices {
        let version = self.proc.kernel_version().unwrap_or(UNKNOWN_KERNEL);
        Prices::of(self.objects, probes, Returns::of(self.kernel.has_sessions(), version))
    }
}

/// Keeps a trace to its budget.
pub(super) struct Governing {
    /// `None` without a limit.
    governor: Option<Governor>,
    prices: Prices,
    cost: Cost,
    armed: Armed,
    /// When the governor wants to look again, `CLOCK_MONOTONIC`.
    due_ns: u64,
    opened_ns: u64,
    /// When everything was armed, since the window's start.
    phases: Vec<Phase>,
    /// Since when everything is.
    open_since_ns: Option<u64>,
    /// Releases are seen again since the last step.
    came_back: bool,
    /// What had been counted when the window opened.
    before: KernelCounters,
    /// The target's; `None` where they are not counted.
    instructions: Option<Instructions>,
    /// What was counted when the window was closed.
    last: Option<Reading>,
}

/// What the budget is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// By which share the target may become slower; `None` without a limit.
    pub max_overhead: Option<f64>,
    /// What may be chosen.
    pub choice: Choice,
}

impl Governing {
    /// Counts calls if the target `runs`, chooses how closely to look, and opens the window. All probes
    /// are armed, and nothing has been drawn yet.
    pub(super) fn open(
        place: &mut Place<'_>,
        limit: Limit,
        runs: bool,
    ) -> Result<Self, AttachError> {
        let mut governing = Self::new(place, limit);
        let step = match runs {
            true => governing.choose(place, limit)?,
            false => governing.begin(place, limit)?,
        };
        if let Some(step) = step {
            governing.apply(place, &step)?;
        }
        governing.before = place.kernel.counters()?;
        governing.opened_ns = clock::monotonic_ns();
        Ok(governing)
    }

    /// What [`Self::open`] would begin with: calls are counted, and nothing is done about them.
    pub(super) fn forecast(place: &Place<'_>, limit: Limit) -> Result<Cost, AttachError> {
        let mut governing = Self::new(place, limit);
        governing.choose(place, limit)?;
        Ok(governing.cost)
    }

    fn new(place: &Place<'_>, limit: Limit) -> Self {
        let probes = ProbeCosts::default();
        let prices = place.prices(&probes);
        let cost = Cost { max_overhead: limit.max_overhead, probes, ..Cost::default() };
        Self {
            governor: None,
            prices,
            cost,
            armed: Armed::All,
            due_ns: u64::MAX,
            opened_ns: 0,
            phases: Vec::new(),
            open_since_ns: Some(0),
            came_back: false,
            before: KernelCounters::default(),
            instructions: None,
            last: None,
        }
    }

    /// Of a target that has not begun to run, nothing is known: it is looked at as closely as may be,
    /// until it is. Nothing is to be chosen without a limit.
    fn begin(&mut self, place: &Place<'_>, limit: Limit) -> Result<Option<Step>, AttachError> {
        let probes = counting::calibrate(place);
        self.learn(place, probes);
        let Some(max_overhead) = limit.max_overhead else { return Ok(None) };
        let rules = rules(place, max_overhead, limit.choice);
        self.count_instructions(place);
        let now = self.reading(place)?;
        let nothing = Load::of(&Activity::default(), now.used_since_ns(&now), RECORD_NS);
        let (governor, step) = Governor::begin(rules, nothing, now);
        self.cost.setting = Some(step.setting.to_string());
        self.governor = Some(governor);
        Ok(Some(step))
    }

    /// By a count of calls.
    fn choose(&mut self, place: &Place<'_>, limit: Limit) -> Result<Option<Step>, AttachError> {
        let Some(max_overhead) = limit.max_overhead else { return self.begin(place, limit) };
        let rules = rules(place, max_overhead, limit.choice);
        let Counted { first, last, probes } = counting::count(place)?;
        self.learn(place, probes);
        let cpu_ns = last.used_since_ns(&first);
        let activity = last.activity.since(&first.activity).chilled(cpu_ns);
        let load = Load::of(&activity, cpu_ns, RECORD_NS);
        let opening = match Governor::begins_in_bursts(&rules, &load) {
            true => {
                self.count_instructions(place);
                self.reading(place)?
            }
            false => last,
        };
        let (governor, step) = Governor::begin(rules, load, opening);
        self.cost.expected =
            Some(expected(&activity, &load, &first, &last, step.setting, rules.max_overhead));
        self.cost.setting = Some(step.setting.to_string());
        self.governor = Some(governor);
        Ok(Some(step))
    }

    fn reading(&self, place: &Place<'_>) -> Result<Reading, AttachError> {
        let reading = counting::reading(place, &self.prices)?;
        // Last, so that what follows at once, the beginning or the end of a burst, is close to it.
        Ok(Reading { instructions: self.instructions(), ..reading })
    }

    /// From now on, if they can be counted. Only of targets that are to be watched in bursts, or that do not
    /// run yet: a virtual machine's CPU can stand still for 180 ms when it is the first to count.
    fn count_instructions(&mut self, place: &Place<'_>) {
        let counted = Instructions::of(place.pid).inspect_err(|error| {
            log::info!("instructions of {} are not counted: {error}", place.pid);
        });
        self.instructions = counted.ok();
    }

    /// How many the target has executed so far.
    fn instructions(&self) -> Option<u64> {
        self.instructions.as_ref()?.count()
    }

    /// What a hit costs is known.
    fn learn(&mut self, place: &Place<'_>, probes: ProbeCosts) {
        self.prices = place.prices(&probes);
        self.cost.probes = probes;
    }

    /// When [`Self::step`] is due; `None` when it never is.
    pub(super) fn due_ns(&self) -> Option<u64> {
        (self.governor.is_some() && self.due_ns < u64::MAX).then_some(self.due_ns)
    }

    /// Looks at what was counted, and does what follows.
    ///
    /// # Errors
    /// When the probes cannot be armed again; they stay away then.
    pub(super) fn step(&mut self, place: &mut Place<'_>) -> Result<Option<Change>, AttachError> {
        let now = self.reading(place)?;
        let Some(governor) = &mut self.governor else { return Ok(None) };
        let step = governor.step(now);
        if let Some(change) = &step.change {
            self.note(change, now.at_ns);
        }
        let outcome = self.apply(place, &step);
        if outcome.is_err() {
            self.give_up(place, now.at_ns);
        }
        outcome.map(|()| step.change)
    }

    fn note(&mut self, change: &Change, at_ns: u64) {
        self.cost.changes.push(SettingChange {
            at_ns: at_ns.saturating_sub(self.opened_ns),
            from: change.from.to_string(),
            to: change.to.to_string(),
            why: change.why.clone(),
        });
    }

    /// Arms and disarms what a step asks for.
    fn apply(&mut self, place: &mut Place<'_>, step: &Step) -> Result<(), AttachError> {
        self.due_ns = step.next_ns;
        if step.armed != Armed::All {
            self.pause(self.now_ns());
            place.kernel.set_interval(CLOSED)?;
        }
        if step.setting.presence == Presence::Never && step.armed == Armed::Nothing {
            place.kernel.disarm(&Side::ALL);
        }
        let moved = step.armed != self.armed;
        if moved {
            self.move_to(place, step.armed)?;
        }
        if moved {
            let now = self.reading(place)?;
            if let Some(governor) = &mut self.governor {
                self.due_ns = governor.settled(now);
            }
        }
        if step.armed == Armed::All {
            place.kernel.set_interval(step.setting.interval)?;
            self.resume();
        }
        Ok(())
    }

    fn move_to(&mut self, place: &mut Place<'_>, armed: Armed) -> Result<(), AttachError> {
        let (had, wanted) = (sides(self.armed), sides(armed));
        let leaving: Vec<_> = had.iter().copied().filter(|side| !wanted.contains(side)).collect();
        let coming: Vec<_> = wanted.iter().copied().filter(|side| !had.contains(side)).collect();
        self.came_back |= self.armed == Armed::Nothing;
        self.cost.misses_releases |= armed == Armed::Nothing;
        self.armed = armed;
        place.kernel.disarm(&leaving);
        if !coming.is_empty() {
            arm_again(place, &coming)?;
        }
        Ok(())
    }

    /// The mean distance of samples while all probes are armed, in bytes; `None` where each allocation
    /// is looked at.
    pub(super) fn sample_bytes(&self, kernel: &Kernel) -> Option<u64> {
        let chosen = self.governor.as_ref().map(|governor| governor.setting().interval);
        let interval = chosen.unwrap_or_else(|| kernel.interval());
        (!interval.is_exact()).then(|| interval.mean_bytes())
    }

    /// The probes that are armed now, for objects that come later.
    pub(super) fn sides(&self) -> &'static [Side] {
        sides(self.armed)
    }

    fn pause(&mut self, until_ns: u64) {
        if let Some(since_ns) = self.open_since_ns.take() {
            self.phases.push(Phase { since_ns, until_ns });
        }
    }

    fn resume(&mut self) {
        self.open_since_ns = self.open_since_ns.or(Some(self.now_ns()));
    }

    /// Since the window was opened.
    fn now_ns(&self) -> u64 {
        match self.opened_ns {
            0 => 0,
            opened_ns => clock::monotonic_ns().saturating_sub(opened_ns),
        }
    }

    fn give_up(&mut self, place: &mut Place<'_>, at_ns: u64) {
        self.pause(self.now_ns());
        place.kernel.disarm(&Side::ALL);
        (self.armed, self.due_ns) = (Armed::Nothing, u64::MAX);
        if let Some(governor) = &self.governor {
            let from = governor.setting();
            let to = Setting { presence: Presence::Never, ..from };
            let why = "the probes could not be armed again".to_owned();
            self.note(&Change { from, to, why }, at_ns);
        }
    }

    /// Whether releases are seen again that were not until the last step.
    pub(super) fn is_back_since_last_step(&mut self) -> bool {
        std::mem::take(&mut self.came_back)
    }

    /// Whether releases are not seen now.
    pub(super) fn misses_releases(&self) -> bool {
        self.armed == Armed::Nothing
    }

    /// Whether all probes are armed, and will not be soon.
    pub(super) fn is_in_burst(&self) -> bool {
        let presence = self.governor.as_ref().map(|governor| governor.setting().presence);
        self.armed == Armed::All && presence == Some(Presence::AtTimes)
    }

    /// How long all probes were armed each time, on average.
    pub(super) fn mean_phase_ns(&self) -> u64 {
        let since_ns = self.open_since_ns.map(|since_ns| self.now_ns().saturating_sub(since_ns));
        let phases = self.phases.iter().map(|phase| phase.duration_ns());
        let (count, sum_ns) = phases
            .chain(since_ns)
            .fold((0, 0), |(count, sum_ns), phase_ns| (count + 1, sum_ns + phase_ns));
        sum_ns / u64::max(count, 1)
    }

    /// What was counted in the window alone.
    pub(super) fn counted_in_window(&self, counters: &mut KernelCounters) {
        for (counted, before) in counters.functions.iter_mut().zip(&self.before.functions) {
            counted.entries -= before.entries.min(counted.entries);
            counted.nested -= before.nested.min(counted.nested);
            counted.void -= before.void.min(counted.void);
            counted.passed_over -= before.passed_over.min(counted.passed_over);
            counted.requested_bytes -= before.requested_bytes.min(counted.requested_bytes);
            counted.returns -= before.returns.min(counted.returns);
        }
        // A call that was in flight when the probes were taken out is no loss.
        let abandoned = &mut counters.losses[KernelLoss::AbandonedCall as usize];
        *abandoned = abandoned.saturating_sub(self.interrupted());
        // A return in a closed window is nothing that the window cut.
        for (counted, before) in counters.losses.iter_mut().zip(&self.before.losses) {
            *counted -= (*before).min(*counted);
        }
    }

    /// How many calls the coming and going of probes may have interrupted: one a thread, of which
    /// there are not many in the allocator at once.
    fn interrupted(&self) -> u64 {
        match self.cost.misses_releases {
            true => self.phases.len() as u64,
            false => 0,
        }
    }

    /// How fast the target got on while it was watched, compared with when it was not.
    pub(super) fn pace_while_watched(&self) -> f64 {
        let covered_ns: u64 = self.phases.iter().map(|phase| phase.duration_ns()).sum();
        let time = covered_ns as f64 / self.now_ns().max(1) as f64;
        let work = self.governor.as_ref().map_or(time, |it| it.watched_work().share);
        let odds = |share: f64| share / (1.0 - share).max(f64::EPSILON);
        odds(work) / odds(time).max(f64::EPSILON)
    }

    /// What it cost so far.
    pub(super) fn cost(&self) -> &Cost {
        &self.cost
    }

    /// Takes the last count, right after the window was closed: to book what came in may take long.
    pub(super) fn closed(&mut self, place: &Place<'_>) {
        self.last = self.reading(place).ok();
    }

    /// Hands over what is to be reported of a window that was closed at `closed_ns`, `CLOCK_MONOTONIC`.
    pub(super) fn finish(&mut self, place: &Place<'_>, closed_ns: u64) -> (Cost, Coverage) {
        let window_ns = closed_ns.saturating_sub(self.opened_ns);
        self.pause(window_ns);
        if let (Some(governor), Some(last)) = (&mut self.governor, self.last.take()) {
            governor.step(last);
            self.cost.overhead = Some(governor.overhead());
        }
        let work = self.governor.as_ref().map(Governor::watched_work);
        let covered_ns: u64 = self.phases.iter().map(|phase| phase.duration_ns()).sum();
        self.cost.covered = Some((covered_ns as f64 / window_ns.max(1) as f64).min(1.0));
        let was_always_open = self.phases.len() == 1 && self.armed == Armed::All;
        let coverage = match was_always_open {
            true => Coverage::default(),
            false => coverage(window_ns, &self.phases, work, place.objects),
        };
        (self.cost.clone(), coverage)
    }
}

/// All families that come and go, of those that are traced at all.
fn coverage(
    window_ns: u64,
    phases: &[Phase],
    work: Option<WatchedWork>,
    objects: &[PlannedObject],
) -> Coverage {
    let is_traced = |family: &Family| {
        let mut probes = objects.iter().flat_map(|object| &object.plan.probes);
        probes.any(|probe| Family::of(probe.function) == *family)
    };
    let traced = [Family::Heap, Family::Python].into_iter().filter(is_traced);
    let of = |family| {
        let covered = FamilyCoverage::new(family, window_ns, phases.to_vec());
        match work {
            Some(work) => covered.with_work(work.share).known_to(work.margin, work.by),
            None => covered,
        }
    };
    Coverage { families: traced.map(of).collect() }
}

/// The probes of mappings stay, as long as there is a chance of others.
fn sides(armed: Armed) -> &'static [Side] {
    match armed {
        Armed::Nothing => &[Side::Mappings],
        Armed::Releases => &[Side::Mappings, Side::Releases],
        Armed::All => &Side::ALL,
    }
}

/// Arms sides of all objects. One that is not mapped any more, after an exec, is left out.
fn arm_again(place: &mut Place<'_>, sides: &[Side]) -> Result<(), AttachError> {
    let (mut armed, mut failure) = (0, None);
    for (at, object) in place.objects.iter().enumerate() {
        let first = First::after(&place.objects[..at]);
        let objects = std::slice::from_ref(object);
        match arm_sides(place.kernel, objects, place.proc, place.pid, first, sides) {
            Ok(count) => armed += count,
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if armed == 0 => Err(error),
        _ => Ok(()),
    }
}

fn rules(place: &Place<'_>, max_overhead: f64, choice: Choice) -> Rules {
    Rules { max_overhead, choice, record_ns: RECORD_NS, cpus: place.proc.online_cpus() as f64 }
}

/// By how many times more calls it would make if nobody counted: what counting took off the time that
/// was there. A target that waits most of the time is hardly held up.
fn undisturbed(cpu_ns: f64, counted_ns: f64, added_ns: f64) -> f64 {
    let there_ns = cpu_ns.max(counted_ns).max(1.0);
    there_ns / (there_ns - added_ns).max(there_ns * 0.004)
}

fn expected(
    activity: &Activity,
    load: &Load,
    first: &Reading,
    last: &Reading,
    setting: Setting,
    max_overhead: f64,
) -> Expected {
    let counted_ns = last.at_ns.saturating_sub(first.at_ns);
    let cpu_ns = last.cpu_ns.saturating_sub(first.cpu_ns) as f64;
    let calls = (activity.acquisitions + activity.releases) as f64;
    let undisturbed = undisturbed(cpu_ns, counted_ns as f64, activity.added_ns());
    let target_cpus = cpu_ns / counted_ns.max(1) as f64;
    let exact_overhead = load.price(Interval::EXACT);
    Expected {
        counted_ns,
        calls_per_second: calls * 1e9 / counted_ns.max(1) as f64 * undisturbed,
        target_cpus,
        exact_cpus: target_cpus * exact_overhead / (1.0 + exact_overhead),
        exact_overhead,
        overhead: match setting.presence {
            Presence::Always => load.price(setting.interval),
            Presence::AcquisitionsAtTimes | Presence::AtTimes => max_overhead,
            Presence::Never => 0.0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_holds_up_who_is_busy_and_hardly_who_waits() {
        const SECOND: f64 = 1e9;
        let busy = undisturbed(SECOND, SECOND, 0.9 * SECOND);
        assert!((9.9..10.1).contains(&busy), "{busy}");
        let two_threads = undisturbed(2.0 * SECOND, SECOND, 1.0 * SECOND);
        assert!((1.9..2.1).contains(&two_threads), "{two_threads}");
        let waits = undisturbed(0.1 * SECOND, SECOND, 0.09 * SECOND);
        assert!((1.0..1.15).contains(&waits), "{waits}");
        assert_eq!(undisturbed(0.0, 0.0, 0.0), 1.0);
    }
}
