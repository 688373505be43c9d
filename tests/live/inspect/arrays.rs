//! numpy's arrays: large ones are blocks that malloc maps one by one, smaller ones are in its heap.

use memtrace_tests::{
    python_target::PythonTarget, python_truth::KnownLine, pythons::system, report::Amount,
};
use serde_json::Value;

use super::{bytes, inspect_idle};

const PAGE_BYTES: u64 = 4096;

/// What the arrays of a model server made of a heap.
struct Growth {
    arrays: Amount,
    before: Value,
    after: Value,
}

impl Growth {
    fn by(count: u64, array_bytes: u64) -> Self {
        let arguments = ["--bytes", &array_bytes.to_string()];
        let command = system().command_with_numpy();
        let mut server = PythonTarget::start_with(command, "model_server.py", &arguments);
        let _: KnownLine = server.ask("deploy 3 0");
        let before = inspect_idle(server.pid());
        let arrays: KnownLine = server.ask(&format!("deploy {count} 0"));
        let after = inspect_idle(server.pid());
        Self { arrays: arrays.survivors, before, after }
    }

    /// How much more of a row there is.
    fn of(&self, kind: &str) -> u64 {
        u64::try_from(bytes(&self.after, kind) - bytes(&self.before, kind)).unwrap()
    }

    fn of_mapped_blocks(&self, field: &str) -> u64 {
        let of = |look: &Value| look["glibc"][0]["mapped"][field].as_u64().unwrap();
        of(&self.after) - of(&self.before)
    }
}

#[test]
fn large_arrays_are_blocks_that_are_mapped_one_by_one() {
    const COUNT: u64 = 4;
    let growth = Growth::by(COUNT, 40_000_000);
    let known = growth.arrays.bytes / growth.arrays.count * COUNT;
    assert_eq!(growth.of_mapped_blocks("count"), COUNT);
    let mapped = growth.of_mapped_blocks("bytes");
    // With a header, in whole pages; versions differ by some bytes.
    assert!((known..known + COUNT * 2 * PAGE_BYTES).contains(&mapped), "{mapped}, {known} known");
    assert_eq!(growth.of("mapped_blocks"), mapped, "every page was written to");
}

#[test]
fn small_arrays_are_in_use_in_the_heap() {
    const COUNT: u64 = 300;
    let growth = Growth::by(COUNT, 100_000);
    let known = growth.arrays.bytes / growth.arrays.count * COUNT;
    let in_use = growth.of("in_use");
    assert!((known..known + known / 100).contains(&in_use), "{in_use}, {known} known");
    assert_eq!(growth.of_mapped_blocks("count"), 0);
}
