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
    pub skipped: Vec<Note>,
    /// What one would type to have it measured by hand.
    #[serde(default)]
    pub commands: Vec<Note>,
    /// The part that is being measured.
    #[serde(skip)]
    part: String,
}

/// A remark on a part.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Note {
    /// As given to `--only`.
    pub part: String,
    pub about: String,
    pub text: String,
}

/// One figure.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Row {
    /// As given to `--only`.
    pub part: String,
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
    /// A place in a list, from 1; 0 where it is not in there.
    Rank,
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
    /// The median is at least this.
    MedianAtLeast(f64),
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
        let (rows, skipped, commands) = Default::default();
        Self { machine, quick, rows, skipped, commands, part: String::new() }
    }

    /// What is added from now on belongs to this part.
    pub fn begin(&mut self, part: &str) {
        part.clone_into(&mut self.part);
    }

    /// What belongs to some parts.
    pub fn only(mut self, parts: &[String]) -> Self {
        let is_wanted = |part: &String| parts.is_empty() || parts.contains(part);
        self.rows.retain(|row| is_wanted(&row.part));
        self.skipped.retain(|note| is_wanted(&note.part));
        self.commands.retain(|note| is_wanted(&note.part));
        self
    }

    /// Says how a thing is done by hand.
    pub fn command(&mut self, about: &str, text: &str) {
        let part = self.part.clone();
        self.commands.push(Note { part, about: about.to_owned(), text: text.to_owned() });
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
            part: self.part.clone(),
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
        let text = what.into();
        eprintln!("bench: skipped: {text}");
        self.skipped.push(Note { part: self.part.clone(), about: String::new(), text });
    }
}

impl Row {
    /// Whether the requirement is met; `None` where there is none.
    pub fn passes(&self) -> Option<bool> {
        Some(match self.requirement? {
            Requirement::MedianAtMost(limit) => self.median <= limit,
            Requirement::MedianAtLeast(limit) => self.median >= limit,
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
