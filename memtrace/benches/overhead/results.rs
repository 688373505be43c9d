//! What was measured, as data.

use serde::{Deserialize, Serialize};

/// Everything of one run.
#[derive(Debug, Deserialize, Serialize)]
pub struct Results {
    /// Where it was measured.
    pub machine: String,
    /// `--quick` was given.
    pub quick: bool,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

/// One figure.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// Rows of one group make one table.
    pub group: String,
    /// What was measured.
    pub name: String,
    /// Of the three values.
    pub unit: Unit,
    /// Smallest value.
    pub min: f64,
    /// The figure.
    pub median: f64,
    /// Largest value.
    pub max: f64,
    /// How many values there were.
    pub samples: usize,
    /// What the figure must be, if anything.
    pub requirement: Option<Requirement>,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds.
    Ns,
    /// Bytes.
    Bytes,
    /// A quotient.
    Ratio,
    /// Hundredths of the whole.
    Percent,
    /// A mean of counts.
    Decimal,
    /// A number of things.
    Count,
    /// Things a second.
    PerSecond,
    /// Bytes a second.
    BytesPerSecond,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// The median is at most this.
    MedianAtMost(f64),
    /// Every value is less than this.
    AllBelow(f64),
    /// Every value is this.
    AllEqual(f64),
    /// Every value is at least this.
    AllAtLeast(f64),
}

impl Results {
    /// Nothing yet.
    pub fn new(machine: String, quick: bool) -> Self {
        Self { machine, quick, rows: Vec::new(), skipped: Vec::new() }
    }

    /// Adds a figure made of samples; without samples there is none.
    pub fn add(
        &mut self,
        group: &str,
        name: impl Into<String>,
        unit: Unit,
        samples: &[f64],
        requirement: Option<Requirement>,
    ) {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { return };
        self.rows.push(Row {
            group: group.to_owned(),
            name: name.into(),
            unit,
            min: *min,
            median: median(&sorted),
            max: *max,
            samples: sorted.len(),
            requirement,
        });
    }

    /// Says what is left out, and why.
    pub fn skip(&mut self, what: impl Into<String>) {
        let what = what.into();
        eprintln!("bench: skipped: {what}");
        self.skipped.push(what);
    }
}

impl Row {
    /// Whether the requirement is met; `None` where there is none.
    pub fn passes(&self) -> Option<bool> {
        Some(match self.requirement? {
            Requirement::MedianAtMost(limit) => self.median <= limit,
            Requirement::AllBelow(limit) => self.max < limit,
            Requirement::AllEqual(value) => self.min == value && self.max == value,
            Requirement::AllAtLeast(value) => self.min >= value,
        })
    }
}

/// The middle of sorted values, or the mean of the two in the middle.
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
