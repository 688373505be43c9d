//! All stacks as one tree, from the root to the allocation functions: what stacks share is there
//! once.

use hashbrown::HashMap;
use serde::Serialize;

use super::{column::Column, frames::Frames};
use crate::report::SiteReport;

/// The nodes in the order of a walk: each before its children. Node 0 is all stacks together. The
/// last node of each site's stack is that of its allocation function.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tree {
    /// For each site, how many levels to go up from the last node of the site before.
    up: Column,
    /// For each site, how many nodes to go down from there, each a new one.
    down: Column,
    /// For each node: twice the place of its frame among those that were found below its parent's
    /// frame before; or, where it is a new one, twice its number plus one. Programs call few
    /// functions from each, so that most of these are small.
    frame: Column,
    /// The places, by the frames of parent and node.
    #[serde(skip)]
    places: HashMap<(u32, u32), u64>,
    /// How many places there are, by the frame of the parent.
    #[serde(skip)]
    callees: HashMap<u32, u64>,
    /// Frames on the way to the last node.
    #[serde(skip)]
    path: Vec<u32>,
}

/// Stands for the frame of node 0.
const NO_FRAME: u32 = u32::MAX;

impl Tree {
    /// Adds the stack of a site. A stack must come behind those that it shares its root with, as
    /// they do in ascending order.
    pub(super) fn add(&mut self, stack: &[u32]) {
        let shared = stack.iter().zip(&self.path).take_while(|(new, old)| new == old).count();
        self.up.push((self.path.len() - shared) as u64);
        self.down.push((stack.len() - shared) as u64);
        self.path.truncate(shared);
        for frame in &stack[shared..] {
            self.push_node(*frame);
        }
    }

    fn push_node(&mut self, frame: u32) {
        let parent = self.path.last().copied().unwrap_or(NO_FRAME);
        self.path.push(frame);
        if let Some(place) = self.places.get(&(parent, frame)) {
            return self.frame.push(2 * place);
        }
        let places = self.callees.entry(parent).or_default();
        self.places.insert((parent, frame), *places);
        *places += 1;
        self.frame.push(2 * u64::from(frame) + 1);
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
