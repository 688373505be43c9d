//! `memtrace inspect` and its JSON document: only the fields that tests look at.

use serde::Deserialize;

use crate::{
    binary::{run, stderr},
    report::{Amount, Verdict},
};

/// The document.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/inspect-json.md")]
pub struct Inspection {
    pub summary: Summary,
    pub verdict: Verdict,
    pub glibc: Vec<GlibcHeap>,
}

/// What is to be read first.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/inspect-json.md")]
pub struct Summary {
    pub in_use_bytes: u64,
    pub trapped_bytes: u64,
    pub trim_bytes: Option<u64>,
}

/// A heap of glibc.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/inspect-json.md")]
pub struct GlibcHeap {
    pub arenas: Vec<Arena>,
}

/// An arena.
#[derive(Clone, Copy, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in docs/inspect-json.md")]
pub struct Arena {
    pub system_bytes: u64,
    pub free: Amount,
    pub top_bytes: u64,
    pub fastbins: Amount,
}

impl Inspection {
    /// Looks at a process.
    pub fn of(pid: u32) -> Self {
        let output = run(&["inspect", "--json", "-p", &pid.to_string()]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn arenas(&self) -> impl Iterator<Item = &Arena> {
        self.glibc.iter().flat_map(|heap| &heap.arenas)
    }

    /// What mallinfo2 calls `arena`: obtained from the kernel, mapped chunks apart.
    pub fn obtained_bytes(&self) -> u64 {
        self.arenas().map(|arena| arena.system_bytes).sum()
    }

    /// What mallinfo2 calls `fordblks`: free, and not in a thread's cache.
    pub fn free_bytes(&self) -> u64 {
        let free = |arena: &Arena| arena.free.bytes + arena.top_bytes + arena.fastbins.bytes;
        self.arenas().map(free).sum()
    }
}
