//! Stacks by thread: for the ledger, what two threads do at one stack are two sites.

use hashbrown::HashMap;

use crate::model::{
    event::{Action, Event},
    stack::StackId,
};

/// The most that are told apart; the others are one, without a stack.
const MAX_KEYS: usize = 1 << 20;

/// Stands for all beyond.
const OTHERS: StackId = StackId(u64::MAX);

/// Numbers for stacks of threads.
#[derive(Debug, Default)]
pub struct Keys {
    numbers: HashMap<(StackId, u32), StackId>,
    /// By number.
    pairs: Vec<(StackId, u32)>,
}

impl Keys {
    /// The event with such a number for its stack.
    pub fn renamed(&mut self, event: &Event) -> Event {
        let mut renamed = event.clone();
        if let Some(stack) = stack_of(&mut renamed.action) {
            *stack = self.number(*stack, event.tid);
        }
        renamed
    }

    /// What a number stands for.
    pub fn pair(&self, number: StackId) -> Option<(StackId, u32)> {
        self.pairs.get(usize::try_from(number.0).ok()?).copied()
    }

    fn number(&mut self, stack: StackId, tid: u32) -> StackId {
        if let Some(number) = self.numbers.get(&(stack, tid)) {
            return *number;
        }
        if self.pairs.len() >= MAX_KEYS {
            return OTHERS;
        }
        let number = StackId(self.pairs.len() as u64);
        self.numbers.insert((stack, tid), number);
        self.pairs.push((stack, tid));
        number
    }
}

fn stack_of(action: &mut Action) -> Option<&mut StackId> {
    match action {
        Action::Alloc { stack, .. }
        | Action::ReallocEnd { stack, .. }
        | Action::Map { stack, .. }
        | Action::RemapEnd { stack, .. }
        | Action::Break { stack, .. } => Some(stack),
        _ => None,
    }
}

/// Whether memory is obtained by it, if it succeeded.
pub fn obtains(action: &Action) -> bool {
    matches!(
        action,
        Action::Alloc { .. }
            | Action::ReallocEnd { .. }
            | Action::Map { .. }
            | Action::RemapEnd { .. }
            | Action::Break { .. }
    )
}
