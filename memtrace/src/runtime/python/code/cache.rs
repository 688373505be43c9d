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
    by_code: HashMap<u64, Names>,
    table_bytes: usize,
}

impl Cache {
    /// Whether the object that is there now is the one that is known.
    pub(super) fn knows(&self, code: u64, found: &Identity) -> bool {
        self.by_code.get(&code).is_some_and(|names| names.identity == *found)
    }

    /// What is known of it, if it is still the same object.
    pub(super) fn get(&mut self, code: u64, found: &Identity) -> Option<&mut Names> {
        self.by_code.get_mut(&code).filter(|names| names.identity == *found)
    }

    /// Keeps names in place of what was known of the address.
    pub(super) fn insert(&mut self, code: u64, names: Names) {
        let added = names.line_table.len();
        if self.by_code.len() >= MAX_CODES || self.table_bytes + added > MAX_TABLE_BYTES {
            self.by_code.clear();
            self.table_bytes = 0;
        }
        self.table_bytes += added;
        if let Some(old) = self.by_code.insert(code, names) {
            self.table_bytes -= old.line_table.len();
        }
    }
}
