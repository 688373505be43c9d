//! Stacks by number, so that they are hashed and compared as numbers: a long window of a large
//! program has a hundred thousand stacks of the same few thousand frames.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::model::stack::{Frame, NamedStack};

/// Numbers stacks: those of equal names have the same number.
#[derive(Default)]
pub(super) struct StackNumbers<'a> {
    /// By address and by content: most frames are shared, and need not be compared.
    by_address: HashMap<*const Frame, u32>,
    by_content: HashMap<&'a Frame, u32>,
    stacks: HashMap<(Option<&'a str>, Box<[u32]>), u32>,
}

impl<'a> StackNumbers<'a> {
    /// Those of several stacks.
    pub(super) fn of(stacks: impl Iterator<Item = &'a NamedStack>) -> Vec<u32> {
        let mut numbers = Self::default();
        stacks.map(|stack| numbers.number(stack)).collect()
    }

    fn number(&mut self, stack: &'a NamedStack) -> u32 {
        let frames = stack.frames.iter().map(|frame| self.frame(frame)).collect();
        let next = self.stacks.len() as u32;
        *self.stacks.entry((stack.missing_root.as_deref(), frames)).or_insert(next)
    }

    fn frame(&mut self, frame: &'a Arc<Frame>) -> u32 {
        let address = Arc::as_ptr(frame);
        if let Some(known) = self.by_address.get(&address) {
            return *known;
        }
        let next = self.by_content.len() as u32;
        let number = *self.by_content.entry(frame.as_ref()).or_insert(next);
        self.by_address.insert(address, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn stacks_of_equal_names_have_one_number_wherever_their_frames_are() {
        let stack = |names: &[&'static str], missing| {
            let frames: Vec<_> = names.iter().map(|name| (*name, "app", None)).collect();
            sample::stack(&frames, missing)
        };
        let stacks = [
            stack(&["load", "main"], None),
            stack(&["main", "load"], None),
            stack(&["load", "main"], None),
            stack(&["load", "main"], Some("[truncated]")),
            stack(&["load"], None),
            stack(&[], None),
        ];
        assert_eq!(StackNumbers::of(stacks.iter()), [0, 1, 0, 2, 3, 4]);
    }
}
