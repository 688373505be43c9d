//! What the target really had, and what differs here.

use anyhow::{Context as _, Result};

use super::run::Seen;
use crate::{capture::Capture, whatif::result::TargetFacts};

/// What the last walk and those before it say.
pub fn target(capture: &Capture) -> TargetFacts {
    let walks = &capture.walks;
    // What cannot be walked is not in the sum, and the rest would be taken for the heap.
    let after = walks.after.as_ref().filter(|it| it.opaque.is_empty() && it.refusals.is_empty());
    let samples = capture.timeline.samples.iter();
    let walked = samples.filter_map(|it| Some((it.at_ns, it.heap_resident_bytes?)));
    TargetFacts {
        allocator: allocator(capture),
        heap_bytes: after.map(|census| census.heap_resident_bytes()).filter(|bytes| *bytes > 0),
        rss_bytes: after.map(|census| census.rss.rss_bytes),
        at_ns: walks.at_ns,
        heap_over_time: after.map(|_| walked.collect()).unwrap_or_default(),
    }
}

/// e.g. `glibc 2.36`.
fn allocator(capture: &Capture) -> String {
    let Some(first) = capture.header.target.allocators.first() else { return String::new() };
    match &first.version {
        Some(version) => format!("{} {version}", first.name),
        None => first.name.clone(),
    }
}

/// What a reader must know of this machine beside the target's.
pub fn notes(capture: &Capture, seen: Option<Seen>) -> Vec<String> {
    let mut notes = Vec::new();
    let target = allocator(capture);
    let Some(seen) = seen else { return notes };
    let here = format!("glibc {}.{}", seen.glibc_version / 1000, seen.glibc_version % 1000);
    if !target.starts_with("glibc") {
        notes.push(format!(
            "The target's malloc is {target}; the baseline is what {here} would have made of its calls."
        ));
    } else if seen.glibc_version > 0 && target != here && target != "glibc" {
        notes.push(format!("The target has {target}; replays of glibc are of {here}."));
    }
    if !seen.clock_is_recorded {
        notes.push(
            "Allocators saw the time of the replay and not that of the window: those that give \
             memory back after a while may have given back less."
                .to_owned(),
        );
    }
    notes
}

/// `MemAvailable`.
pub fn available_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes
        .map(|it| it << 10)
        .context("/proc/meminfo does not say what is available: set --max-rss")
}
