//! Stacks as addresses, as they come: what a capture that ends early is named by.

use std::sync::Arc;

use hashbrown::HashMap;
use memtrace_common::wire::StackEnd;

use super::{
    codec::{Fields, Malformed, put, put_difference},
    frames::{FrameReader, frame_bytes, put_frames},
};
use crate::model::stack::{Frame, PythonEnd, PythonFrame, RawStack, StackId};

/// Stacks wait until they are about so large.
const BATCH_BYTES: usize = 1 << 19;

/// A stack as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedStack {
    /// Its id.
    pub id: StackId,
    /// Its addresses.
    pub stack: RawStack,
    /// Names of its Python frames, where they were known.
    pub python: Vec<Option<Arc<Frame>>>,
}

/// Collects stacks until there are enough for a block.
#[derive(Default)]
pub struct RawStackEncoder {
    rows: Vec<u8>,
    names: Vec<Arc<Frame>>,
    name_ids: HashMap<Arc<Frame>, u64>,
    names_bytes: usize,
}

impl RawStackEncoder {
    /// Takes a stack. `true` when it is time for a block.
    pub fn push(&mut self, id: StackId, stack: &RawStack, python: &[Option<Arc<Frame>>]) -> bool {
        let rows = &mut self.rows;
        rows.extend_from_slice(&id.0.to_le_bytes());
        put(rows, stack.end as u64);
        put(rows, stack.guessed.into());
        put(rows, stack.python_end as u64);
        put_words(rows, stack.frames.iter().copied());
        put_words(rows, stack.python.iter().map(|frame| frame.code));
        put_words(rows, stack.python.iter().map(|frame| frame.position));
        put(rows, python.len() as u64);
        for frame in python {
            let name = frame.as_ref().map_or(0, |frame| self.name(frame) + 1);
            put(&mut self.rows, name);
        }
        self.rows.len() + self.names_bytes >= BATCH_BYTES
    }

    fn name(&mut self, frame: &Arc<Frame>) -> u64 {
        let next = self.names.len() as u64;
        *self.name_ids.entry_ref(frame).or_insert_with(|| {
            self.names.push(frame.clone());
            self.names_bytes += frame_bytes(frame);
            next
        })
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends the block's payload, and begins the next.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        put_frames(out, &self.names);
        out.append(&mut self.rows);
        self.names.clear();
        self.name_ids.clear();
        self.names_bytes = 0;
    }
}

/// The mark in the highest bit goes to the lowest, where it costs little.
fn put_words(out: &mut Vec<u8>, words: impl ExactSizeIterator<Item = u64>) {
    put(out, words.len() as u64);
    let mut before = 0;
    words.for_each(|word| put_difference(out, &mut before, word.rotate_left(1)));
}

fn words(fields: &mut Fields<'_>) -> Result<Vec<u64>, Malformed> {
    let (count, mut before) = (fields.count()?, 0);
    let word = |_| Ok(fields.difference(&mut before)?.rotate_right(1));
    (0..count).map(word).collect()
}

/// Appends the stacks of a block.
///
/// # Errors
/// When it is none.
pub fn read_raw_stacks(
    payload: &[u8],
    names: &mut FrameReader,
    out: &mut Vec<RecordedStack>,
) -> Result<(), Malformed> {
    let mut fields = Fields(payload);
    let names = names.frames(&mut fields)?;
    while !fields.0.is_empty() {
        out.push(recorded(&mut fields, &names)?);
    }
    Ok(())
}

fn recorded(fields: &mut Fields<'_>, names: &[Arc<Frame>]) -> Result<RecordedStack, Malformed> {
    let id = StackId(fields.word()?);
    let end = StackEnd::from_u32(fields.number_u32()?).ok_or(Malformed::Code)?;
    let guessed = fields.number()? != 0;
    let python_end = PythonEnd::from_u32(fields.number_u32()?).ok_or(Malformed::Code)?;
    let frames = words(fields)?;
    let (codes, positions) = (words(fields)?, words(fields)?);
    if codes.len() != positions.len() {
        return Err(Malformed::Short);
    }
    let python = codes.into_iter().zip(positions);
    let python = python.map(|(code, position)| PythonFrame { code, position }).collect();
    let stack = RawStack { frames, end, guessed, python, python_end };
    let count = fields.count()?;
    let name = |_| match fields.index()? {
        0 => Ok(None),
        name => names.get(name - 1).cloned().map(Some).ok_or(Malformed::Index),
    };
    let python = (0..count).map(name).collect::<Result<_, _>>()?;
    Ok(RecordedStack { id, stack, python })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::testing::any_recorded;

    proptest! {
        #[test]
        fn any_raw_stacks_come_back_as_they_were(
            stacks in proptest::collection::vec(any_recorded(), 0..20),
        ) {
            let mut encoder = RawStackEncoder::default();
            for RecordedStack { id, stack, python } in &stacks {
                encoder.push(*id, stack, python);
            }
            let (mut payload, mut decoded) = (Vec::new(), Vec::new());
            encoder.take(&mut payload);
            let result = read_raw_stacks(&payload, &mut FrameReader::default(), &mut decoded);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(decoded, stacks);
            prop_assert!(encoder.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read_raw_stacks(&bytes, &mut FrameReader::default(), &mut Vec::new());
        }
    }
}
