//! All stacks as one tree, from the root to the allocation functions: what stacks share is there
//! once.

use serde::Serialize;

use super::{column::Column, frames::Frames};
use crate::report::SiteReport;

/// The nodes in the order of a walk: each before its children. Node 0 is all stacks together and is
/// not in the columns.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tree {
    /// How many levels to go up from the node before to the parent: 0 for its child.
    up: Column,
    /// The node's frame.
    frame: Column,
    #[serde(skip)]
    nodes: u64,
    /// Frames on the way to the last node.
    #[serde(skip)]
    path: Vec<u32>,
}

impl Tree {
    /// Adds a stack and returns the number of its last node. A stack must come behind those that
    /// it shares its root with, as they do in ascending order.
    pub(super) fn add(&mut self, stack: &[u32]) -> u64 {
        let shared = stack.iter().zip(&self.path).take_while(|(new, old)| new == old).count();
        let mut up = self.path.len() - shared;
        for frame in &stack[shared..] {
            self.up.push(up as u64);
            self.frame.push((*frame).into());
            self.nodes += 1;
            up = 0;
        }
        self.path.truncate(shared);
        self.path.extend(&stack[shared..]);
        self.nodes
    }
}

/// Sites with their stacks as numbers, root first and the allocation function last, in ascending
/// order of those.
pub(super) fn stacks<'a>(
    frames: &mut Frames<'a>,
    sites: &'a [SiteReport],
) -> Vec<(Vec<u32>, &'a SiteReport)> {
    let mut stacks: Vec<_> = sites.iter().map(|site| (numbers(frames, site), site)).collect();
    stacks.sort_by(|(one, _), (other, _)| one.cmp(other));
    stacks
}

fn numbers<'a>(frames: &mut Frames<'a>, site: &'a SiteReport) -> Vec<u32> {
    let stack = &site.stack;
    let mut numbers = Vec::with_capacity(stack.frames.len() + 2);
    numbers.extend(stack.missing_root.as_deref().map(|label| frames.missing(label)));
    numbers.extend(stack.frames.iter().rev().map(|frame| frames.frame(frame)));
    numbers.push(frames.call(site.function));
    numbers
}
