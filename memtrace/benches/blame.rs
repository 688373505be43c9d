//! Who pins a heap of 1 GB with a million traced blocks: `cargo bench -p memtrace --bench blame`.

#[path = "overhead/whatif/blame/heap.rs"]
mod heap;

use divan::Bencher;
use memtrace::analysis::blame::{BlameInput, blame};

fn main() {
    divan::main();
}

#[divan::bench(sample_count = 10)]
fn a_million_blocks_in_a_gigabyte(bencher: Bencher<'_, '_>) {
    let (layout, live) = heap::heap();
    bencher.bench(|| {
        blame(&BlameInput {
            layout: &layout,
            before: None,
            live: &live,
            culprits: &[],
            is_exact: true,
            closed_ns: heap::BLOCKS,
        })
    });
}
