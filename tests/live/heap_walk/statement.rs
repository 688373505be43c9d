//! What glibc says of its own heap: `malloc_info` and `mallinfo2`.

use memtrace_tests::target::Target;
use serde::Deserialize;

/// `struct mallinfo2`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct MallInfo2 {
    pub arena: u64,
    pub ordblks: u64,
    pub smblks: u64,
    pub hblks: u64,
    pub hblkhd: u64,
    pub fsmblks: u64,
    pub uordblks: u64,
    pub fordblks: u64,
    pub keepcost: u64,
}

/// A `<heap>` of `malloc_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    pub fast: (u64, u64),
    pub rest: (u64, u64),
    pub system_bytes: u64,
    pub max_system_bytes: u64,
    pub segments: Option<u64>,
}

/// All of it.
pub struct Statement {
    pub heaps: Vec<Heap>,
    /// The `<total>` behind all heaps: blocks that were mapped one by one.
    pub mapped: (u64, u64),
    pub info: MallInfo2,
    /// Blocks that are live, and their usable bytes.
    pub live: Vec<(u64, u64)>,
    /// Blocks that were freed, and perhaps used again.
    pub freed: Vec<u64>,
}

impl Statement {
    /// Lets `heap_shapes` say what it has.
    pub fn of(target: &mut Target) -> Self {
        target.go();
        let (mut heaps, mut open, mut mapped) = (Vec::new(), None, (0, 0));
        loop {
            let line = target.line();
            if line.starts_with("<heap") {
                open = Some(Heap::default());
            } else if line == "</heap>" {
                heaps.extend(open.take());
            } else if line.starts_with("<total type=\"mmap\"") {
                mapped = amount(&line);
            } else if line == "</malloc>" {
                break;
            } else if let Some(heap) = &mut open {
                heap.read(&line);
            }
        }
        let info = serde_json::from_str(&target.line()).unwrap();
        let (mut live, mut freed) = (Vec::new(), Vec::new());
        loop {
            let line = target.line();
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["live", at, bytes] => live.push((at.parse().unwrap(), bytes.parse().unwrap())),
                ["freed", at] => freed.push(at.parse().unwrap()),
                _ => break,
            }
        }
        Self { heaps, mapped, info, live, freed }
    }
}

impl Heap {
    fn read(&mut self, line: &str) {
        let is = |start: &str| line.starts_with(start);
        if is("<total type=\"fast\"") {
            self.fast = amount(line);
        } else if is("<total type=\"rest\"") {
            self.rest = amount(line);
        } else if is("<system type=\"current\"") {
            self.system_bytes = number(line, "size");
        } else if is("<system type=\"max\"") {
            self.max_system_bytes = number(line, "size");
        } else if is("<aspace type=\"subheaps\"") {
            self.segments = Some(number(line, "size"));
        }
    }
}

/// Count and size.
fn amount(line: &str) -> (u64, u64) {
    (number(line, "count"), number(line, "size"))
}

fn number(line: &str, attribute: &str) -> u64 {
    let (_, rest) = line.split_once(&format!(" {attribute}=\"")).unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}
