//! What came of it, as data: one row a variant, and what the target really had.

use serde::{Deserialize, Serialize};

use crate::model::{
    size::{bytes, duration_ns},
    verdict::Remedy,
};

/// The document's name and version.
pub const SCHEMA: &str = "memtrace-whatif/1";

/// A result is worth a word when it is so much less than the baseline.
const WORTH: f64 = 0.05;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WhatIf {
    /// [`SCHEMA`].
    pub schema: String,
    /// The file.
    pub capture: String,
    /// Process id of the target.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// Length of the window.
    pub window_ns: u64,
    /// What the program is made of.
    pub program: ProgramFacts,
    /// What the target really had.
    pub target: TargetFacts,
    /// By how much the baseline's replay is wrong; `None` where the target's heap is not known.
    pub error: Option<ReplayError>,
    /// The baseline first.
    pub variants: Vec<Row>,
    /// The best first, as a sentence.
    pub summary: String,
    /// What a reader must know, as sentences.
    pub notes: Vec<String>,
}

/// What the program is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgramFacts {
    /// Calls.
    pub calls: u64,
    /// Its size.
    pub program_bytes: u64,
    /// Chunks of the heap as it was at the start.
    pub seeded_chunks: u64,
    /// Their bytes.
    pub seeded_bytes: u64,
    /// Free chunks between them.
    pub seeded_free_bytes: u64,
    /// What is live when it ends.
    pub live_bytes: u64,
    /// Frees of blocks that are not known.
    pub unknown_blocks: u64,
    /// Blocks whose free was not seen.
    pub implied_frees: u64,
    /// The program's own mappings, which are not replayed, and their bytes.
    pub mappings: u64,
    /// See `mappings`: as requested, those that are gone again among them.
    pub mapped_bytes: u64,
}

/// What the target really had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetFacts {
    /// Which allocator it has, e.g. `glibc 2.36`.
    pub allocator: String,
    /// Resident bytes of its heap at the last walk.
    pub heap_bytes: Option<u64>,
    /// RSS then.
    pub rss_bytes: Option<u64>,
    /// When that was, since the window was opened.
    pub at_ns: u64,
    /// Resident bytes of its heap at each walk: time and bytes.
    pub heap_over_time: Vec<(u64, u64)>,
}

impl TargetFacts {
    /// RSS that is not the heap: the same under every allocator.
    pub fn other_bytes(&self) -> Option<u64> {
        Some(self.rss_bytes?.saturating_sub(self.heap_bytes?))
    }
}

/// By how much the baseline is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplayError {
    /// At the last walk: 0.02 for 2 % too much.
    pub at_end: f64,
    /// The sum of its amounts at all walks, over the sum of what was real: a heap of next to nothing
    /// at the start of a program, off by a few pages, weighs as little as it is.
    pub mean: f64,
}

/// A variant and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// As it is typed.
    pub name: String,
    /// What to set to have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The most that its heap took at any sample.
    pub peak_bytes: u64,
    /// What it took at the end.
    pub end_bytes: u64,
    /// The same, and what of the target's RSS is not the heap.
    pub rss_bytes: Option<u64>,
    /// `end_bytes` over the baseline's.
    pub ratio: Option<f64>,
    /// CPU time of all calls.
    pub cpu_ns: u64,
    /// Time of all calls.
    pub wall_ns: u64,
    /// Calls, those that rebuild the heap among them.
    pub calls: u64,
    /// Calls that the allocator refused.
    pub refused: u64,
    /// Time and bytes.
    pub samples: Vec<(u64, u64)>,
}

/// How a replay ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Outcome {
    /// All was done.
    Done,
    /// It took more than `--max-rss` and was stopped.
    OverLimit,
    /// The library is not on this machine.
    NotFound {
        /// Which package has it.
        package: String,
    },
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
    },
    /// Nothing was tried.
    #[default]
    Nothing,
}

impl WhatIf {
    /// The first, if all of it was done.
    pub fn baseline(&self) -> Option<&Row> {
        self.variants.first().filter(|row| row.outcome == Outcome::Done)
    }

    /// Compares the rows: ratios, the error of the replay, the sentence.
    pub fn conclude(&mut self) {
        let baseline = self.baseline().map(|row| row.end_bytes);
        let other_bytes = self.target.other_bytes();
        for row in self.variants.iter_mut().filter(|row| row.outcome == Outcome::Done) {
            let ratio = |baseline: u64| row.end_bytes as f64 / baseline.max(1) as f64;
            row.ratio = baseline.map(ratio);
            row.rss_bytes = other_bytes.map(|other| other + row.end_bytes);
        }
        self.error = self.baseline().and_then(|row| error(row, &self.target));
        self.summary = self.sentence();
    }

    /// Variants that would have ended lower than the baseline, the lowest first.
    pub fn better(&self) -> Vec<&Row> {
        let is_better = |row: &&Row| row.ratio.is_some_and(|ratio| ratio < 1.0 - WORTH);
        let mut better: Vec<&Row> = self.variants.iter().filter(is_better).collect();
        better.sort_by_key(|row| row.end_bytes);
        better
    }

    fn sentence(&self) -> String {
        let Some(baseline) = self.baseline() else {
            return "There is no baseline to compare with.".to_owned();
        };
        let better = self.better();
        let Some((best, others)) = better.split_first() else {
            return format!(
                "Nothing that was tried would have ended below {}.",
                bytes(baseline.end_bytes)
            );
        };
        let end = bytes(best.end_bytes);
        let mut text = format!(
            "{} would have ended at {end} instead of {}",
            best.name,
            bytes(baseline.end_bytes)
        );
        for row in others.iter().take(2) {
            text.push_str(&format!("; {} at {}", row.name, bytes(row.end_bytes)));
        }
        text + "."
    }

    /// What to try, as measured.
    pub fn remedies(&self) -> Vec<Remedy> {
        let Some(baseline) = self.baseline() else { return Vec::new() };
        let remedy = |row: &&Row| {
            let how = row.how.clone().unwrap_or_else(|| row.name.clone());
            let cpu = duration_ns(row.cpu_ns);
            Remedy {
                action: format!("restart with {how}"),
                why: format!(
                    "measured by a replay of the same {} calls: the heap would have ended at {} \
                     instead of {}, for {cpu} of CPU time in malloc and free instead of {}",
                    crate::model::size::count(baseline.calls),
                    bytes(row.end_bytes),
                    bytes(baseline.end_bytes),
                    duration_ns(baseline.cpu_ns),
                ),
                expected_bytes: Some(baseline.end_bytes - row.end_bytes),
            }
        };
        self.better().iter().take(2).map(remedy).collect()
    }
}

fn error(baseline: &Row, target: &TargetFacts) -> Option<ReplayError> {
    let real_bytes = target.heap_bytes.filter(|bytes| *bytes > 0)?;
    let at_end = at(&baseline.samples, target.at_ns)? as f64 / real_bytes as f64 - 1.0;
    let (mut off, mut all) = (0, 0);
    for (at_ns, real_bytes) in &target.heap_over_time {
        off += at(&baseline.samples, *at_ns)?.abs_diff(*real_bytes);
        all += real_bytes;
    }
    let mean = if all == 0 { at_end.abs() } else { off as f64 / all as f64 };
    Some(ReplayError { at_end, mean })
}

/// The sample that is nearest to a time.
fn at(samples: &[(u64, u64)], at_ns: u64) -> Option<u64> {
    samples.iter().min_by_key(|(time, _)| time.abs_diff(at_ns)).map(|(_, value)| *value)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    pub(crate) fn row(name: &str, end_mib: u64) -> Row {
        Row {
            name: name.to_owned(),
            outcome: Outcome::Done,
            peak_bytes: (end_mib + 5) * MIB,
            end_bytes: end_mib * MIB,
            cpu_ns: 1_500_000_000,
            calls: 8_000_000,
            samples: vec![(0, 0), (5_000_000_000, end_mib * MIB), (10_000_000_000, end_mib * MIB)],
            ..Row::default()
        }
    }

    /// Of a pusher.
    pub(crate) fn result() -> WhatIf {
        let jemalloc = Row {
            how: Some("LD_PRELOAD=/usr/lib/libjemalloc.so.2".into()),
            ..row("jemalloc", 310)
        };
        let over = Row { outcome: Outcome::OverLimit, ..row("glibc:tcache=off", 900) };
        let missing = Outcome::NotFound { package: "libmimalloc2.0".to_owned() };
        let mut result = WhatIf {
            schema: SCHEMA.to_owned(),
            capture: "pusher.memtrace".to_owned(),
            pid: 42,
            command: "python3".to_owned(),
            window_ns: 10_000_000_000,
            target: TargetFacts {
                allocator: "glibc 2.36".to_owned(),
                heap_bytes: Some(600 * MIB),
                rss_bytes: Some(650 * MIB),
                at_ns: 10_000_000_000,
                heap_over_time: vec![(10_000_000_000, 600 * MIB)],
            },
            variants: vec![
                row("glibc", 580),
                row("glibc:arena_max=2", 470),
                jemalloc,
                over,
                Row { outcome: missing, name: "mimalloc".to_owned(), ..Row::default() },
            ],
            notes: vec!["The replay begins with an empty heap.".to_owned()],
            ..WhatIf::default()
        };
        result.program.calls = 8_000_000;
        result.conclude();
        result
    }

    #[test]
    fn the_best_come_first_and_what_was_stopped_is_not_among_them() {
        let result = result();
        let expected = "jemalloc would have ended at 310.0 MiB instead of 580.0 MiB; \
             glibc:arena_max=2 at 470.0 MiB.";
        assert_eq!(result.summary, expected);
        assert_eq!(result.variants[2].rss_bytes, Some(360 * MIB));
        assert_eq!(result.variants[3].ratio, None);
    }

    #[test]
    fn the_baseline_says_how_wrong_a_replay_is() {
        let error = result().error.unwrap();
        assert!((error.at_end + 1.0 / 30.0).abs() < 1e-9 && error.mean > 0.03, "{error:?}");
        let mut unknown = result();
        unknown.target.heap_bytes = None;
        unknown.conclude();
        assert_eq!((unknown.error, unknown.variants[0].rss_bytes), (None, None));
    }

    #[test]
    fn a_heap_of_next_to_nothing_that_is_off_by_some_pages_hardly_counts() {
        let mut started = result();
        started.target.heap_over_time.insert(0, (5_000_000_000, 100 << 10));
        started.variants[0].samples[1].1 = 500 << 10;
        started.conclude();
        let error = started.error.unwrap();
        assert!(error.mean < 0.04, "{error:?}");
    }

    #[test]
    fn remedies_are_what_was_measured() {
        let remedies = result().remedies();
        assert_eq!(remedies[0].action, "restart with LD_PRELOAD=/usr/lib/libjemalloc.so.2");
        assert_eq!(remedies[0].expected_bytes, Some(270 * MIB));
        assert_eq!(remedies.len(), 2);
    }

    #[test]
    fn without_a_baseline_nothing_is_concluded() {
        let mut result = result();
        result.variants[0].outcome = Outcome::OverLimit;
        result.conclude();
        assert!(
            result.better().iter().all(|row| row.ratio.is_none()) || result.better().is_empty()
        );
        assert!(result.remedies().is_empty());
        assert!(result.summary.contains("no baseline"));
    }
}
