//! Breakpoints in a running process, seen from outside.

use std::{fs::File, os::unix::fs::FileExt as _};

use crate::target::Target;

/// How far behind a function's first instruction a probe may sit.
const PROLOGUE_BYTES: usize = 64;

/// The first bytes of malloc, free and realloc, as they are in the process now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prologues([[u8; PROLOGUE_BYTES]; 3]);

impl Prologues {
    /// Reads them from the running process.
    pub fn of(target: &Target) -> Self {
        let memory = File::open(format!("/proc/{}/mem", target.pid())).unwrap();
        let ready = target.ready;
        Self([ready.malloc, ready.free, ready.realloc].map(|address| {
            let mut bytes = [0; PROLOGUE_BYTES];
            memory.read_exact_at(&mut bytes, address).unwrap();
            bytes
        }))
    }
}
