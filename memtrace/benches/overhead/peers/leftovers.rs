//! What tools may leave in the kernel when they end or are killed.

use std::{collections::BTreeSet, fs};

use crate::results::{Requirement, Results, Unit};

const EVENTS: [&str; 2] =
    ["/sys/kernel/tracing/uprobe_events", "/sys/kernel/debug/tracing/uprobe_events"];
const PINNED: &str = "/sys/fs/bpf";

/// What was there before.
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// Looks before anything is started.
    pub fn before() -> Self {
        Self(there())
    }

    /// Adds the row: what is there now and was not before.
    pub fn add(&self, results: &mut Results) {
        let left = there();
        let left: Vec<&String> = left.difference(&self.0).collect();
        left.iter().for_each(|what| eprintln!("bench: left in the kernel: {what}"));
        let (group, name) =
            ("Left in the kernel", "uprobe events of tracefs and pinned BPF objects");
        let none = Some(Requirement::AllEqual(0.0));
        results.add(group, name, Unit::Count, &[left.len() as f64], none);
    }
}

/// Where neither is mounted, nothing can be left.
fn there() -> BTreeSet<String> {
    let events = EVENTS.iter().filter_map(|path| fs::read_to_string(path).ok()).next();
    let events = events.unwrap_or_default();
    let pinned = fs::read_dir(PINNED).into_iter().flatten().flatten();
    let pinned = pinned.map(|entry| entry.path().display().to_string());
    events.lines().map(str::to_owned).chain(pinned).collect()
}
