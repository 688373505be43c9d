//! Distinct frames, with their names once each.

use std::sync::Arc;

use hashbrown::HashMap;

use super::codec::{Fields, Malformed, put, put_bytes};
use crate::model::stack::{Frame, Language};

/// The most bytes of names of all frames of a capture that is read: they are kept once for each
/// frame.
const MAX_NAMES_BYTES: usize = 256 << 20;

/// The most bytes of one name that are kept.
const MAX_NAME_BYTES: usize = 256 << 10;

/// Bits of a frame's flags.
const INLINED: u8 = 1;
/// See [`Language`].
const PYTHON: u8 = 2;

/// About how many bytes a frame takes in a block.
pub fn frame_bytes(frame: &Frame) -> usize {
    32 + frame.function.len() + frame.module.len() + frame.file.as_ref().map_or(0, String::len)
}

/// Names by their order of appearance.
#[derive(Default)]
struct Names<'a> {
    ids: HashMap<&'a str, u64>,
    bytes: Vec<u8>,
}

impl<'a> Names<'a> {
    fn id(&mut self, name: &'a str) -> u64 {
        let next = self.ids.len() as u64;
        let name = &name[..end_of(name)];
        *self.ids.entry(name).or_insert_with(|| {
            put_bytes(&mut self.bytes, name.as_bytes());
            next
        })
    }
}

/// Where a name ends that is not too long.
fn end_of(name: &str) -> usize {
    let most = name.len().min(MAX_NAME_BYTES);
    (0..=most).rev().find(|at| name.is_char_boundary(*at)).unwrap_or_default()
}

/// Appends a table of frames.
pub fn put_frames(out: &mut Vec<u8>, frames: &[impl AsRef<Frame>]) {
    let (mut names, mut columns) = (Names::default(), <[Vec<u8>; 5]>::default());
    for frame in frames {
        let frame = frame.as_ref();
        let [functions, modules, files, lines, flags] = &mut columns;
        put(functions, names.id(&frame.function));
        put(modules, names.id(&frame.module));
        put(files, frame.file.as_ref().map_or(0, |file| names.id(file) + 1));
        put(lines, frame.line.map_or(0, |line| u64::from(line) + 1));
        flags.push(flags_of(frame));
    }
    put(out, names.ids.len() as u64);
    put_bytes(out, &names.bytes);
    columns.iter().for_each(|column| put_bytes(out, column));
}

fn flags_of(frame: &Frame) -> u8 {
    let language = match frame.language {
        Language::Native => 0,
        Language::Python => PYTHON,
    };
    language | if frame.inlined { INLINED } else { 0 }
}

/// Reads tables of frames.
pub struct FrameReader {
    names_left: usize,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self { names_left: MAX_NAMES_BYTES }
    }
}

impl FrameReader {
    /// The reverse of [`put_frames`].
    ///
    /// # Errors
    /// When it is no table of frames, or when all names together are more than is read.
    pub fn frames(&mut self, fields: &mut Fields<'_>) -> Result<Vec<Arc<Frame>>, Malformed> {
        let names = names(fields)?;
        let [mut functions, mut modules, mut files, mut lines, flags] = fields.columns()?;
        let mut frames = Vec::with_capacity(flags.0.len());
        for flags in flags.0 {
            let frame = Frame {
                function: self.name(&names, functions.index()?)?,
                module: self.name(&names, modules.index()?)?,
                file: match files.index()? {
                    0 => None,
                    file => Some(self.name(&names, file - 1)?),
                },
                line: match lines.number()? {
                    0 => None,
                    line => Some(u32::try_from(line - 1).map_err(|_| Malformed::Overlong)?),
                },
                inlined: flags & INLINED != 0,
                language: if flags & PYTHON != 0 { Language::Python } else { Language::Native },
            };
            frames.push(Arc::new(frame));
        }
        Ok(frames)
    }

    fn name(&mut self, names: &[&str], index: usize) -> Result<String, Malformed> {
        let name = *names.get(index).ok_or(Malformed::Index)?;
        let left = self.names_left.checked_sub(name.len()).ok_or(Malformed::TooMuch)?;
        self.names_left = left;
        Ok(name.to_owned())
    }
}

fn names<'a>(fields: &mut Fields<'a>) -> Result<Vec<&'a str>, Malformed> {
    let count = fields.index()?;
    let mut bytes = Fields(fields.bytes()?);
    if count > bytes.0.len() {
        return Err(Malformed::Short);
    }
    (0..count).map(|_| bytes.text()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::testing::any_frame;

    proptest! {
        #[test]
        fn any_frames_come_back_as_they_were(
            frames in proptest::collection::vec(any_frame(), 0..40),
        ) {
            let mut bytes = Vec::new();
            put_frames(&mut bytes, &frames);
            let mut fields = Fields(&bytes);
            prop_assert_eq!(FrameReader::default().frames(&mut fields), Ok(frames));
            prop_assert!(fields.0.is_empty());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = FrameReader::default().frames(&mut Fields(&bytes));
        }
    }

    #[test]
    fn many_frames_with_one_long_name_are_refused_rather_than_kept() {
        let name = "x".repeat(MAX_NAME_BYTES);
        let frame = Arc::new(Frame { function: name, ..Frame::default() });
        let mut bytes = Vec::new();
        put_frames(&mut bytes, &vec![frame; 1 + MAX_NAMES_BYTES / MAX_NAME_BYTES]);
        let result = FrameReader { names_left: MAX_NAME_BYTES }.frames(&mut Fields(&bytes));
        assert_eq!(result, Err(Malformed::TooMuch));
    }
}
