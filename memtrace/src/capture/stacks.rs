//! Named stacks as a tree: what stacks share near the root is there once.

use std::{borrow::Cow, sync::Arc};

use hashbrown::{HashMap, hash_map::Entry};

use super::{
    codec::{Fields, Malformed, put, put_bytes, put_difference},
    format::{MAX_ALL_FRAMES, MAX_FRAMES, MAX_STACK_FRAMES, MAX_STACKS},
    frames::{FrameReader, frame_bytes, put_frames},
};
use crate::model::stack::{Frame, NamedStack, StackId};

/// Frames and stacks wait until they are about so large.
const BATCH_BYTES: usize = 1 << 20;

/// The end of the tree at the root side.
const ROOT: u32 = 0;

/// Collects stacks for blocks.
#[derive(Default)]
pub struct StackEncoder<'a> {
    /// By address and by content: most frames are shared, and need not be compared.
    by_address: HashMap<*const Frame, u32>,
    by_content: HashMap<&'a Frame, u32>,
    new_frames: Vec<&'a Frame>,
    /// By parent and frame; nodes are numbered from 1.
    nodes: HashMap<(u32, u32), u32>,
    written_nodes: u32,
    columns: Columns,
    waiting_bytes: usize,
}

#[derive(Default)]
struct Columns {
    parents: Vec<u8>,
    frames: Vec<u8>,
    last_frame: u64,
    ids: Vec<u8>,
    leaves: Vec<u8>,
    last_leaf: u64,
    labels: Vec<u8>,
}

impl<'a> StackEncoder<'a> {
    /// Takes a stack. `true` when it is time for a block.
    pub fn push(&mut self, id: StackId, stack: &'a NamedStack) -> bool {
        let shown = stack.frames.len().min(MAX_STACK_FRAMES);
        let mut node = ROOT;
        for frame in stack.frames[..shown].iter().rev() {
            let frame = self.frame(frame);
            node = self.node(node, frame);
        }
        let columns = &mut self.columns;
        columns.ids.extend_from_slice(&id.0.to_le_bytes());
        put_difference(&mut columns.leaves, &mut columns.last_leaf, node.into());
        let label = stack.missing_root.as_deref().unwrap_or_default();
        put_bytes(&mut columns.labels, label.as_bytes());
        self.waiting_bytes += 20 + label.len();
        self.waiting_bytes >= BATCH_BYTES
    }

    fn frame(&mut self, frame: &'a Arc<Frame>) -> u32 {
        let address = Arc::as_ptr(frame);
        if let Some(known) = self.by_address.get(&address) {
            return *known;
        }
        let next = self.by_content.len() as u32;
        let index = *self.by_content.entry(frame.as_ref()).or_insert(next);
        if index == next {
            self.new_frames.push(frame);
            self.waiting_bytes += frame_bytes(frame);
        }
        self.by_address.insert(address, index);
        index
    }

    fn node(&mut self, parent: u32, frame: u32) -> u32 {
        let next = self.nodes.len() as u32 + 1;
        match self.nodes.entry((parent, frame)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                vacant.insert(next);
                put(&mut self.columns.parents, (next - parent).into());
                let Columns { frames, last_frame, .. } = &mut self.columns;
                put_difference(frames, last_frame, frame.into());
                self.waiting_bytes += 8;
                next
            }
        }
    }

    /// The payload of the frames that are new, `None` when none are; to be written first.
    pub fn take_frames(&mut self) -> Option<Vec<u8>> {
        let new = std::mem::take(&mut self.new_frames);
        let first = self.by_content.len() - new.len();
        let mut payload = Vec::new();
        put(&mut payload, first as u64);
        let frames: Vec<FrameRef<'_>> = new.into_iter().map(FrameRef).collect();
        put_frames(&mut payload, &frames);
        (!frames.is_empty()).then_some(payload)
    }

    /// The payload of the stacks that wait.
    pub fn take_stacks(&mut self) -> Vec<u8> {
        let columns = std::mem::take(&mut self.columns);
        let mut payload = Vec::new();
        put(&mut payload, self.written_nodes.into());
        for column in [columns.parents, columns.frames, columns.ids, columns.leaves, columns.labels]
        {
            put_bytes(&mut payload, &column);
        }
        self.written_nodes = self.nodes.len() as u32;
        self.waiting_bytes = 0;
        payload
    }
}

struct FrameRef<'a>(&'a Frame);

impl AsRef<Frame> for FrameRef<'_> {
    fn as_ref(&self) -> &Frame {
        self.0
    }
}

/// Reads frames and stacks.
#[derive(Default)]
pub struct StackDecoder {
    names: FrameReader,
    frames: Vec<Arc<Frame>>,
    /// Parent and frame; the first is node 1.
    nodes: Vec<(u32, u32)>,
    all_frames: usize,
}

impl StackDecoder {
    /// Takes up a block of frames.
    ///
    /// # Errors
    /// When it is none, or one before it is missing.
    pub fn frames(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(payload);
        if fields.index()? != self.frames.len() {
            return Err(Malformed::OutOfStep);
        }
        let frames = self.names.frames(&mut fields)?;
        if self.frames.len() + frames.len() > MAX_FRAMES {
            return Err(Malformed::TooMuch);
        }
        self.frames.extend(frames);
        Ok(())
    }

    /// Appends the stacks of a block.
    ///
    /// # Errors
    /// When it is none, or one before it is missing.
    pub fn stacks(
        &mut self,
        payload: &[u8],
        out: &mut Vec<(StackId, NamedStack)>,
    ) -> Result<(), Malformed> {
        let mut fields = Fields(payload);
        if fields.index()? != self.nodes.len() {
            return Err(Malformed::OutOfStep);
        }
        let [parents, frames, mut ids, mut leaves, mut labels] = fields.columns()?;
        self.grow(parents, frames)?;
        let mut leaf = 0;
        while !ids.0.is_empty() {
            let id = StackId(ids.word()?);
            let stack = self.stack(leaves.difference(&mut leaf)?, labels.text()?)?;
            if out.len() >= MAX_STACKS {
                return Err(Malformed::TooMuch);
            }
            out.push((id, stack));
        }
        Ok(())
    }

    fn grow(&mut self, mut parents: Fields<'_>, mut frames: Fields<'_>) -> Result<(), Malformed> {
        let mut frame = 0;
        while !parents.0.is_empty() {
            let next = self.nodes.len() as u64 + 1;
            let distance = parents.number()?;
            let frame = frames.difference(&mut frame)?;
            let is_known = (1..=next).contains(&distance) && frame < self.frames.len() as u64;
            if !is_known {
                return Err(Malformed::Index);
            }
            if self.nodes.len() >= MAX_FRAMES {
                return Err(Malformed::TooMuch);
            }
            self.nodes.push(((next - distance) as u32, frame as u32));
        }
        Ok(())
    }

    fn stack(&mut self, leaf: u64, label: &str) -> Result<NamedStack, Malformed> {
        let mut node = u32::try_from(leaf).map_err(|_| Malformed::Index)?;
        let mut frames = Vec::new();
        while node != ROOT {
            let (parent, frame) = *self.nodes.get(node as usize - 1).ok_or(Malformed::Index)?;
            if frames.len() == MAX_STACK_FRAMES || self.all_frames == MAX_ALL_FRAMES {
                return Err(Malformed::TooMuch);
            }
            self.all_frames += 1;
            frames.push(self.frames[frame as usize].clone());
            node = parent;
        }
        let missing_root = (!label.is_empty()).then(|| Cow::Owned(label.to_owned()));
        Ok(NamedStack { frames, missing_root })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::testing::{any_stacks, frame};

    fn encoded(
        stacks: &[(StackId, NamedStack)],
        a_block: usize,
    ) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
        let mut encoder = StackEncoder::default();
        let blocks = stacks.chunks(a_block).map(|chunk| {
            for (id, stack) in chunk {
                encoder.push(*id, stack);
            }
            (encoder.take_frames(), encoder.take_stacks())
        });
        blocks.collect()
    }

    proptest! {
        #[test]
        fn any_stacks_come_back_as_they_were(stacks in any_stacks(), a_block in 1_usize..8) {
            let (mut decoder, mut decoded) = (StackDecoder::default(), Vec::new());
            for (frames, stacks) in encoded(&stacks, a_block) {
                frames.iter().for_each(|frames| decoder.frames(frames).expect("frames"));
                decoder.stacks(&stacks, &mut decoded).expect("stacks");
            }
            prop_assert_eq!(decoded, stacks);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let mut decoder = StackDecoder::default();
            let _ = decoder.frames(&bytes);
            let _ = decoder.stacks(&bytes, &mut Vec::new());
        }
    }

    #[test]
    fn stacks_without_the_frames_before_them_are_out_of_step() {
        let stack = |name| NamedStack { frames: vec![frame(name)], missing_root: None };
        let stacks = [(StackId(1), stack("a")), (StackId(2), stack("b"))];
        let blocks = encoded(&stacks, 1);
        let mut decoder = StackDecoder::default();
        assert_eq!(decoder.frames(blocks[1].0.as_ref().unwrap()), Err(Malformed::OutOfStep));
        assert_eq!(decoder.stacks(&blocks[1].1, &mut Vec::new()), Err(Malformed::OutOfStep));
    }

    #[test]
    fn frames_that_are_shared_near_the_root_are_there_once() {
        let [main, run, a, b] = ["main", "run", "a", "b"].map(frame);
        let stack = |leaf: &Arc<Frame>| NamedStack {
            frames: vec![leaf.clone(), run.clone(), main.clone()],
            missing_root: None,
        };
        let stacks = [(StackId(1), stack(&a)), (StackId(2), stack(&b))];
        let mut encoder = StackEncoder::default();
        stacks.iter().for_each(|(id, stack)| assert!(!encoder.push(*id, stack)));
        assert_eq!((encoder.nodes.len(), encoder.by_content.len()), (4, 4));
    }
}
