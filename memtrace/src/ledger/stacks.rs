//! The stacks that sites refer to.

use hashbrown::HashMap;

use crate::model::stack::{RawStack, StackId};

/// Stacks by id, at most as many as given at the start.
#[derive(Debug)]
pub struct StackTable {
    limit: usize,
    stacks: HashMap<StackId, RawStack>,
}

impl StackTable {
    /// Makes a table for `limit` stacks.
    pub fn new(limit: usize) -> Self {
        Self { limit, stacks: HashMap::with_capacity(limit) }
    }

    /// Keeps a stack; the first one of an id stays. `false` when there is no room.
    pub fn insert(&mut self, id: StackId, stack: &RawStack) -> bool {
        if self.stacks.contains_key(&id) {
            return true;
        }
        if self.stacks.len() >= self.limit {
            return false;
        }
        self.stacks.insert(id, stack.clone());
        true
    }

    /// The frames of a stack, if they were received.
    pub fn get(&self, id: StackId) -> Option<&RawStack> {
        self.stacks.get(&id)
    }

    /// Every stack, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (StackId, &RawStack)> {
        self.stacks.iter().map(|(id, stack)| (*id, stack))
    }
}
