//! An interpreter's threads: `_PyRuntime.interpreters` → `PyInterpreterState` → `PyThreadState`.

use super::offsets::Offsets;
use crate::model::memory::TargetMemory;

/// The most interpreters and threads looked at; enough to prove that they are understood.
const MAX_INTERPRETERS: usize = 64;
const MAX_THREADS: usize = 256;

/// A thread that Python knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    /// Address of its `PyThreadState`.
    pub(super) state: u64,
    /// Its `pthread_self()`; 0 before it has run.
    pub(super) pthread: u64,
}

/// The threads of all interpreters, as far as the lists can be followed: they change meanwhile.
pub(super) fn threads(offsets: &Offsets, runtime: u64, memory: &impl TargetMemory) -> Vec<Thread> {
    let heads = list(
        memory,
        pointer(memory, runtime, offsets.runtime.interpreters_head),
        offsets.interpreter.next,
        MAX_INTERPRETERS,
    );
    let mut threads = Vec::new();
    for interpreter in heads {
        let first = pointer(memory, interpreter, offsets.interpreter.threads_head);
        let left = MAX_THREADS.saturating_sub(threads.len());
        let states = list(memory, first, offsets.thread.next, left);
        threads.extend(states.into_iter().filter_map(|state| {
            let pthread = pointer(memory, state, offsets.thread.thread_id)?;
            Some(Thread { state, pthread })
        }));
    }
    threads
}

/// The elements of a list that is linked at `next`.
fn list(memory: &impl TargetMemory, first: Option<u64>, next: u32, most: usize) -> Vec<u64> {
    let is_element = |address: &u64| *address != 0;
    let elements = std::iter::successors(first.filter(is_element), |element| {
        pointer(memory, *element, next).filter(is_element)
    });
    elements.take(most).collect()
}

fn pointer(memory: &impl TargetMemory, base: u64, offset: u32) -> Option<u64> {
    memory.read_u64(base.checked_add(offset.into())?)
}
