//! Memory as a parameter: the kernel reads user memory by a BPF helper, the user side by
//! `process_vm_readv`, a test from an array.

use crate::{python::FRAME_WORDS, unwind::walk::WINDOW_WORDS};

/// Reads the target's memory.
pub trait ReadMemory {
    /// Reads `N` little-endian words from `address`; `None` when any byte cannot be read.
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]>;

    /// Reads one word from `address`; `None` when it cannot be read.
    fn read_word(&self, address: u64) -> Option<u64> {
        self.read_words::<1>(address).map(|[word]| word)
    }

    /// Reads a whole window in place, because in the kernel it is too large to pass through the
    /// stack; `false` when any byte cannot be read.
    fn read_window(&self, address: u64, window: &mut [u64; WINDOW_WORDS]) -> bool {
        match self.read_words::<WINDOW_WORDS>(address) {
            Some(words) => *window = words,
            None => return false,
        }
        true
    }

    /// Reads the first `bytes` of a Python frame in place, at most as many as there is room for;
    /// `false` when any of them cannot be read.
    fn read_frame(&self, address: u64, bytes: u32, frame: &mut [u64; FRAME_WORDS]) -> bool {
        let words = (bytes as usize).div_ceil(8).min(FRAME_WORDS);
        frame.iter_mut().take(words).enumerate().all(|(index, word)| {
            let value = self.read_word(address.wrapping_add(8 * index as u64));
            *word = value.unwrap_or_default();
            value.is_some()
        })
    }
}
