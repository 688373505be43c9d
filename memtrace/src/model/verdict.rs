//! A conclusion about a process's memory, with what speaks for it. docs/verdict.md says how it is
//! reached.

use std::collections::BTreeMap;

use serde::Serialize;

/// What happens to a process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Memory in use explains the growth, and what was allocated is not freed.
    Leak,
    /// Memory that is free, but shares its pages with blocks in use.
    Fragmentation,
    /// Memory that the allocator keeps for the program's next requests and could give back.
    AllocatorCache,
    /// Pages of files, shared memory, thread stacks, the program's own mappings.
    NotTheHeap,
    /// Memory in use explains the growth, but it is freed, too, or has levelled off.
    LiveGrowth,
    /// RSS did not grow, and there is nothing else to say of it.
    NotGrowing,
    /// What was seen does not suffice, or no one cause explains most of it.
    CannotTell,
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// A direction to look in.
    Low,
    /// More likely than anything else.
    Medium,
    /// Act on it.
    High,
}

/// How sure a verdict is, and what keeps it from being surer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confidence {
    /// In a word.
    pub level: Level,
    /// From 0 to 100: an order, not a probability.
    pub score: u8,
    /// What lowered it, as sentences.
    pub doubts: Vec<String>,
}

/// One thing that was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// As a sentence.
    pub text: String,
    /// Its numbers by name; names end in their unit.
    pub numbers: BTreeMap<&'static str, i64>,
}

/// Something worth trying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What to do.
    pub action: String,
    /// Why it should help, and at what price.
    pub why: String,
    /// What it should bring, where that can be computed.
    pub expected_bytes: Option<u64>,
}

/// The conclusion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In a word.
    pub kind: VerdictKind,
    /// It is about growth in a window; otherwise about one look, and growth is not known.
    pub growth_known: bool,
    /// How sure it is.
    pub confidence: Confidence,
    /// As a sentence.
    pub headline: String,
    /// What speaks for it, the most important first.
    pub evidence: Vec<Evidence>,
    /// What to try, the most promising first.
    pub remedies: Vec<Remedy>,
    /// What would make it surer, as sentences.
    pub would_help_to_know: Vec<String>,
}
