//! Who pins a heap of 1 GB with a million traced blocks.

mod heap;

use std::time::Instant;

use anyhow::{Result, ensure};
use memtrace::analysis::blame::{BlameInput, blame};

use crate::{
    Setup,
    results::{Requirement, Results, Unit},
};

const GROUP: &str = "Who pins a heap of 1 GB with a million traced blocks of a thousand sites";

const MOST_NS: Requirement = Requirement::MedianAtMost(1e9);

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, results: &mut Results) -> Result<()> {
    let runs = if setup.quick { 3 } else { 9 };
    let (layout, live) = heap::heap();
    let (mut times, mut trapped) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let input = BlameInput {
            layout: &layout,
            before: None,
            live: &live,
            culprits: &[],
            is_exact: true,
            closed_ns: heap::BLOCKS,
        };
        let begun = Instant::now();
        let found = blame(&input);
        times.push(begun.elapsed().as_nanos() as f64);
        ensure!(found.shares.len() as u64 >= heap::SITES, "not every site was found");
        trapped.push(found.trapped_bytes as f64);
    }
    results.add(GROUP, "trapped", Unit::Bytes, &trapped, None);
    results.add(GROUP, "the blame of it", Unit::Ns, &times, Some(MOST_NS));
    Ok(())
}
