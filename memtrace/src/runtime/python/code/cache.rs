//! What is known of code objects, by address; of limited size.

use std::collections::HashMap;

use super::read::{Identity, Names};

/// The most code objects kept; a large service has some ten thousand.
const MAX_CODES: usize = 1 << 16;

/// The most bytes of line tables kept.
const MAX_TABLE_BYTES: usize = 64 << 20;

/// Names by the address of the code object. When it is full it is emptied: what is still in use
/// is read again.
#[derive(Debug, Default)]
pub(super) struct Cache {
    by_code: HashMap<u64, Known>,
    table_bytes: usize,
}

#[derive(Debug)]
struct Known {
    names: Names,
    /// When the object was last read and found to be this one.
    seen_ns: u64,
}

impl Cache {
    /// What the object was at this time, if it was read since: it has not become another between.
    pub(super) fn at(&self, code: u64, time_ns: u64) -> Option<&Identity> {
        let known = self.by_code.get(&code).filter(|known| known.seen_ns >= time_ns);
        known.map(|known| &known.names.identity)
    }

    /// Notes that an object was read at this time and is still the same, if it is.
    pub(super) fn see(&mut self, code: u64, found: &Identity, now_ns: u64) {
        if let Some(known) = self.by_code.get_mut(&code).filter(|it| it.names.identity == *found) {
            known.seen_ns = known.seen_ns.max(now_ns);
        }
    }

    /// Whether the object that is there now is the one that is known.
    pub(super) fn knows(&self, code: u64, found: &Identity) -> bool {
        self.by_code.get(&code).is_some_and(|known| known.names.identity == *found)
    }

    /// What is known of it, if it is still the same object.
    pub(super) fn get(&mut self, code: u64, found: &Identity) -> Option<&mut Names> {
        let names = self.by_code.get_mut(&code).map(|known| &mut known.names);
        names.filter(|names| names.identity == *found)
    }

    /// Keeps names in place of what was known of the address.
    pub(super) fn insert(&mut self, code: u64, names: Names, now_ns: u64) {
        let added = names.line_table.len();
        if self.by_code.len() >= MAX_CODES || self.table_bytes + added > MAX_TABLE_BYTES {
            self.by_code.clear();
            self.table_bytes = 0;
        }
        self.table_bytes += added;
        if let Some(old) = self.by_code.insert(code, Known { names, seen_ns: now_ns }) {
            self.table_bytes -= old.names.line_table.len();
        }
    }
}
