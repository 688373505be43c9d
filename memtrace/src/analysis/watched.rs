//! When births were seen: a budget takes probes off for most of the time.

use crate::model::coverage::{Coverage, Family, Phase};

/// Fewer times than that are no sequence.
const FEWEST_PHASES: usize = 4;

/// The times in which the heap's allocations of any process were watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// In order and apart from each other, `CLOCK_MONOTONIC`; `None` where it was all the time.
    phases: Option<Vec<Phase>>,
}

impl Watched {
    /// Those of processes, of each of which it is known when its window was closed (`CLOCK_MONOTONIC`).
    pub fn of<'c>(processes: impl IntoIterator<Item = (&'c Coverage, u64)>) -> Self {
        let mut all = Vec::new();
        for (coverage, closed_ns) in processes {
            let mut families = coverage.families.iter();
            let Some(heap) = families.find(|it| it.family == Family::Heap && it.share() < 1.0)
            else {
                return Self::default();
            };
            // A window's phases count from its own start.
            let opened_ns = closed_ns.saturating_sub(heap.window_ns);
            all.extend(heap.phases.iter().map(|phase| Phase {
                since_ns: phase.since_ns.saturating_add(opened_ns),
                until_ns: phase.until_ns.saturating_add(opened_ns),
            }));
        }
        if all.is_empty() { Self::default() } else { Self::at(all) }
    }

    /// At these times, `CLOCK_MONOTONIC`.
    pub fn at(mut phases: Vec<Phase>) -> Self {
        phases.sort_unstable_by_key(|phase| phase.since_ns);
        let mut joined: Vec<Phase> = Vec::new();
        for phase in phases {
            match joined.last_mut() {
                Some(last) if phase.since_ns <= last.until_ns => {
                    last.until_ns = last.until_ns.max(phase.until_ns);
                }
                _ => joined.push(phase),
            }
        }
        Self { phases: Some(joined) }
    }

    /// Whether it was all the time.
    pub fn is_always(&self) -> bool {
        self.phases.is_none()
    }

    /// Whether it was at too few times to tell how things went on.
    pub fn is_seldom(&self) -> bool {
        self.phases.as_ref().is_some_and(|phases| phases.len() < FEWEST_PHASES)
    }

    /// For how long, in ns, until a time; the time itself where it was always.
    pub fn until(&self, time_ns: u64) -> u64 {
        let Some(phases) = &self.phases else { return time_ns };
        let until = |phase: &Phase| phase.until_ns.min(time_ns).saturating_sub(phase.since_ns);
        phases.iter().map(until).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::coverage::FamilyCoverage;

    fn phase(since_ns: u64, until_ns: u64) -> Phase {
        Phase { since_ns, until_ns }
    }

    #[test]
    fn the_clock_stands_still_where_nobody_watches() {
        let watched = Watched::at(vec![phase(50, 60), phase(10, 20), phase(15, 30)]);
        let at = [0, 10, 12, 30, 49, 55, 60, 99].map(|time_ns| watched.until(time_ns));
        assert_eq!(at, [0, 0, 2, 20, 20, 25, 30, 30]);
        assert_eq!(Watched::default().until(77), 77);
    }

    #[test]
    fn windows_have_their_own_clocks_and_one_that_was_watched_always_suffices() {
        let at_times =
            |phases| Coverage { families: vec![FamilyCoverage::new(Family::Heap, 100, phases)] };
        let [early, late] = [at_times(vec![phase(0, 10)]), at_times(vec![phase(20, 40)])];
        let both = Watched::of([(&early, 1100), (&late, 2100)]);
        assert_eq!(both, Watched::at(vec![phase(1000, 1010), phase(2020, 2040)]));
        assert!(Watched::of([(&early, 1100), (&Coverage::default(), 2100)]).is_always());
        assert!(Watched::of([]).is_always());
    }
}
