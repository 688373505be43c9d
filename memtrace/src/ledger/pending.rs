//! Calls of which only the `*Begin` was seen so far, by thread.

use hashbrown::HashMap;

/// The most threads that can be inside a call at once; beyond it a `*Begin` is dropped, and its
/// `*End` is treated as one without `*Begin`.
pub const MAX_THREADS: usize = 1 << 16;

/// At most one open call a thread: a thread's calls of one family do not nest.
#[derive(Debug)]
pub struct Pending<T> {
    by_tid: HashMap<u32, T>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { by_tid: HashMap::new() }
    }
}

impl<T> Pending<T> {
    /// Whether another thread's call can be opened.
    pub fn has_room(&self) -> bool {
        self.by_tid.len() < MAX_THREADS
    }

    /// Opens a call; the thread must have none and there must be room.
    pub fn open(&mut self, tid: u32, call: T) {
        debug_assert!(self.has_room());
        let previous = self.by_tid.insert(tid, call);
        debug_assert!(previous.is_none(), "thread {tid} is already inside a call");
    }

    /// Closes the thread's call. Most events find no call open at all, which costs no lookup.
    pub fn close(&mut self, tid: u32) -> Option<T> {
        if self.by_tid.is_empty() {
            return None;
        }
        self.by_tid.remove(&tid)
    }

    /// How many calls are open.
    pub fn open_calls(&self) -> usize {
        self.by_tid.len()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_tid.clear();
    }
}
