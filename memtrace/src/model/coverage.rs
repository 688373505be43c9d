//! When probes were armed: a budget can take those of a family of functions off for a while.

use serde::{Deserialize, Serialize};

use super::{AllocFn, estimate::Scale};

/// Functions whose probes come and go together.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// malloc and kin, `free` apart, which stays.
    Heap,
    /// `PyObject_Malloc` and kin.
    Python,
    /// mmap and kin.
    Mappings,
    /// One that a later version knows.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Family {
    /// That of a function which obtains memory.
    pub fn of(function: AllocFn) -> Self {
        if function.is_python() {
            Self::Python
        } else if function.shape().is_mapping() {
            Self::Mappings
        } else {
            Self::Heap
        }
    }
}

/// A span of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// Its start, since the window's start.
    pub since_ns: u64,
    /// Its end, since the window's start.
    pub until_ns: u64,
}

impl Phase {
    /// How long it is.
    pub fn duration_ns(self) -> u64 {
        self.until_ns.saturating_sub(self.since_ns)
    }

    /// What of it lies in another, on the clock of that one.
    fn within(self, window: Self) -> Option<Self> {
        let since_ns = self.since_ns.max(window.since_ns);
        let until_ns = self.until_ns.min(window.until_ns);
        (since_ns < until_ns).then(|| Self {
            since_ns: since_ns - window.since_ns,
            until_ns: until_ns - window.since_ns,
        })
    }
}

/// What a target's work is told by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkBy {
    /// The instructions that it executed in user mode.
    Instructions,
    /// The CPU time that probes left to it, by what they are known to cost.
    #[default]
    #[serde(other)]
    CpuTime,
}

/// When the probes of a family that obtain memory were armed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FamilyCoverage {
    /// Which.
    pub family: Family,
    /// How long they were armed, all together.
    pub covered_ns: u64,
    /// How long the window was.
    pub window_ns: u64,
    /// When they were armed: in order, apart from each other, inside of the window.
    pub phases: Vec<Phase>,
    /// How fast the target got on meanwhile, compared with the whole window; `None` as fast. Probes slow
    /// it down while they are armed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<f64>,
    /// What that is told by; `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_by: Option<WorkBy>,
    /// What is scaled up by it is this many times too much or too little at most, with 95 % confidence;
    /// `None` where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
}

impl FamilyCoverage {
    /// Armed in these phases, which are in order and apart from each other, of a window.
    pub fn new(family: Family, window_ns: u64, phases: Vec<Phase>) -> Self {
        let covered_ns = phases.iter().map(|phase| phase.duration_ns()).sum();
        Self { family, covered_ns, window_ns, phases, pace: None, work_by: None, margin: None }
    }

    /// The same of a target that did this part of its work meanwhile, from 0 to 1.
    pub fn with_work(self, share: f64) -> Self {
        let pace = share / self.share().max(f64::MIN_POSITIVE);
        Self { pace: Some(pace), ..self }
    }

    /// The same where it is told by this, and can be so many times more or less.
    pub fn known_to(self, margin: f64, by: WorkBy) -> Self {
        Self { margin: Some(margin), work_by: Some(by), ..self }
    }

    /// How many times too much or too little is what is scaled up, at most; 1 where that is not known.
    pub fn margin(&self) -> f64 {
        let known = self.margin.filter(|margin| *margin > 1.0 && margin.is_finite());
        if self.share() >= 1.0 { 1.0 } else { known.unwrap_or(1.0) }
    }

    /// The part of the time that they were armed, from 0 to 1.
    pub fn share(&self) -> f64 {
        (self.covered_ns as f64 / self.window_ns.max(1) as f64).min(1.0)
    }

    /// The part of what the target did that it did meanwhile, from 0 to 1.
    pub fn work_share(&self) -> f64 {
        let pace = self.pace.filter(|pace| *pace > 0.0 && pace.is_finite()).unwrap_or(1.0);
        // Where nothing was left out, there was no other pace.
        if self.share() >= 1.0 { 1.0 } else { (self.share() * pace).min(1.0) }
    }
}

/// When which probes were armed. A family that is not listed was all the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage {
    /// Families that were not armed all the time.
    pub families: Vec<FamilyCoverage>,
}

impl Coverage {
    /// Everything was armed all the time.
    pub fn is_full(&self) -> bool {
        self.families.iter().all(|family| family.covered_ns >= family.window_ns)
    }

    /// The part of the time that a family was armed, from 0 to 1.
    pub fn share_of(&self, family: Family) -> f64 {
        let known = self.families.iter().find(|known| known.family == family);
        known.map_or(1.0, FamilyCoverage::share)
    }

    /// The part of what the target did that it did while a family was armed, from 0 to 1.
    fn work_share_of(&self, family: Family) -> f64 {
        let known = self.families.iter().find(|known| known.family == family);
        known.map_or(1.0, FamilyCoverage::work_share)
    }

    /// How many times more there was than was seen, if the target went on with what it did while it was
    /// seen: 1 where all or none was seen.
    pub fn factor_of(&self, family: Family) -> f64 {
        match self.work_share_of(family) {
            0.0 => 1.0,
            share => share.recip(),
        }
    }

    /// The same, and how far it can be off.
    pub fn scale_of(&self, family: Family) -> Scale {
        let known = self.families.iter().find(|known| known.family == family);
        let margin = known.map_or(1.0, FamilyCoverage::margin);
        Scale { factor: self.factor_of(family), margin }
    }

    /// That of a part of the window.
    pub fn within(&self, part: Phase) -> Self {
        let cut = |known: &FamilyCoverage| {
            let phases = known.phases.iter().filter_map(|phase| phase.within(part)).collect();
            let cut = FamilyCoverage::new(known.family, part.duration_ns(), phases);
            // The fewer phases, the more they differ by chance.
            let fewer = known.phases.len() as f64 / cut.phases.len().max(1) as f64;
            let margin = known.margin.map(|margin| margin.powf(fewer.sqrt()));
            FamilyCoverage { pace: known.pace, work_by: known.work_by, margin, ..cut }
        };
        Self { families: self.families.iter().map(cut).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(since_ns: u64, until_ns: u64) -> Phase {
        Phase { since_ns, until_ns }
    }

    fn coverage() -> Coverage {
        let phases = vec![phase(0, 10), phase(40, 50)];
        Coverage { families: vec![FamilyCoverage::new(Family::Heap, 100, phases)] }
    }

    #[test]
    fn what_is_not_listed_was_armed_all_the_time() {
        assert_eq!(coverage().share_of(Family::Heap), 0.2);
        assert_eq!(coverage().factor_of(Family::Heap), 5.0);
        assert_eq!(coverage().share_of(Family::Mappings), 1.0);
        assert!(!coverage().is_full() && Coverage::default().is_full());
    }

    #[test]
    fn a_target_that_was_slowed_down_meanwhile_did_less_of_its_work() {
        let coverage = |work| Coverage {
            families: coverage().families.into_iter().map(|it| it.with_work(work)).collect(),
        };
        assert_eq!(coverage(0.1).factor_of(Family::Heap), 10.0);
        assert_eq!(coverage(0.1).share_of(Family::Heap), 0.2);
        assert_eq!(coverage(0.1).within(phase(5, 45)).factor_of(Family::Heap), 8.0);
        assert_eq!(coverage(0.4).factor_of(Family::Heap), 2.5, "it was idle at other times");
        assert_eq!(coverage(7.0).factor_of(Family::Heap), 1.0);
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(coverage(nonsense).factor_of(Family::Heap), 5.0);
        }
        let all = FamilyCoverage::new(Family::Heap, 10, vec![phase(0, 10)]).with_work(0.5);
        assert_eq!(all.work_share(), 1.0);
    }

    #[test]
    fn what_is_scaled_up_is_known_as_well_as_the_work_is() {
        let coverage = |margin| Coverage {
            families: coverage()
                .families
                .into_iter()
                .map(|it| it.with_work(0.1).known_to(margin, WorkBy::Instructions))
                .collect(),
        };
        let of = |coverage: Coverage| coverage.scale_of(Family::Heap);
        assert_eq!(of(coverage(1.25)), Scale { factor: 10.0, margin: 1.25 });
        assert_eq!(coverage(1.25).scale_of(Family::Mappings), 1.0.into());
        let part = of(coverage(1.25).within(phase(0, 25)));
        assert!((part.margin / 1.25f64.powf(2f64.sqrt()) - 1.0).abs() < 1e-9, "{part:?}");
        for nonsense in [0.5, f64::NAN, f64::INFINITY] {
            assert_eq!(of(coverage(nonsense)).margin, 1.0);
        }
    }

    #[test]
    fn a_part_of_the_window_has_the_phases_that_lie_in_it() {
        let part = coverage().within(phase(5, 45));
        assert_eq!(part.families[0].phases, [phase(0, 5), phase(35, 40)]);
        assert_eq!(part.share_of(Family::Heap), 0.25);
        assert_eq!(coverage().within(phase(10, 40)).factor_of(Family::Heap), 1.0, "none is seen");
    }

    #[test]
    fn functions_belong_to_the_family_that_their_probes_are_armed_with() {
        let of = [AllocFn::Calloc, AllocFn::PyMemMalloc, AllocFn::Mmap].map(Family::of);
        assert_eq!(of, [Family::Heap, Family::Python, Family::Mappings]);
        let unknown: Family = serde_json::from_str("\"of_the_future\"").unwrap();
        assert_eq!(unknown, Family::Unknown);
    }
}
