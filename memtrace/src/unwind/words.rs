//! An array that only grows, in the chunks that a BPF map takes it in.

use memtrace_common::unwind::table::CHUNK_WORDS;

/// A chunk and its place in the map.
pub type Chunk<'a> = (u32, &'a [u32; CHUNK_WORDS]);

/// The words, and how many of them have been uploaded.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Whole chunks.
    words: Vec<u32>,
    used: usize,
    uploaded: usize,
}

impl Words {
    /// How many words there are.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// The word at an index; 0 behind the end, as in the map.
    pub(super) fn get(&self, index: u32) -> u32 {
        self.words.get(index as usize).copied().unwrap_or_default()
    }

    /// The words in use.
    pub(super) fn as_slice(&self) -> &[u32] {
        &self.words[..self.used]
    }

    pub(super) fn extend(&mut self, words: impl ExactSizeIterator<Item = u32>) {
        let end = self.used + words.len();
        self.words.resize(end.next_multiple_of(CHUNK_WORDS), 0);
        for (to, word) in self.words[self.used..end].iter_mut().zip(words) {
            *to = word;
        }
        self.used = end;
    }

    /// The chunks that hold words which have not been uploaded.
    pub(super) fn dirty_chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let first = self.uploaded / CHUNK_WORDS;
        let (chunks, _) = self.words.as_chunks::<CHUNK_WORDS>();
        let dirty = if self.uploaded == self.used { &[] } else { &chunks[first..] };
        (first as u32..).zip(dirty)
    }

    pub(super) fn mark_uploaded(&mut self) {
        self.uploaded = self.used;
    }

    /// The map is another one.
    pub(super) fn forget_uploaded(&mut self) {
        self.uploaded = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;

    fn dirty(words: &Words) -> Vec<u32> {
        words.dirty_chunks().map(|(chunk, _)| chunk).collect()
    }

    #[test]
    fn only_chunks_with_new_words_are_dirty() {
        let mut words = Words::default();
        assert!(dirty(&words).is_empty());
        words.extend(repeat_n(7, CHUNK_WORDS + 1));
        assert_eq!(dirty(&words), [0, 1]);
        words.mark_uploaded();
        assert!(dirty(&words).is_empty());
        words.extend(repeat_n(8, 1));
        assert_eq!(dirty(&words), [1]);
        let (_, chunk) = words.dirty_chunks().next().unwrap();
        assert_eq!(chunk[..3], [7, 8, 0]);
    }

    #[test]
    fn a_full_chunk_is_not_dirty_when_the_next_one_begins() {
        let mut words = Words::default();
        words.extend(repeat_n(7, CHUNK_WORDS));
        words.mark_uploaded();
        assert!(dirty(&words).is_empty());
        words.extend(repeat_n(8, 1));
        assert_eq!(dirty(&words), [1]);
        assert_eq!((words.len(), words.get(CHUNK_WORDS as u32)), (CHUNK_WORDS + 1, 8));
    }
}
