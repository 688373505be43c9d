//! Memory as a parameter: the kernel reads user memory by a BPF helper, the user side by
//! `process_vm_readv`, a test from an array.

/// Reads the target's memory.
pub trait ReadMemory {
    /// Reads `N` little-endian words from `address`; `None` when any byte cannot be read.
    fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]>;

    /// Reads one word from `address`; `None` when it cannot be read.
    fn read_word(&self, address: u64) -> Option<u64> {
        self.read_words::<1>(address).map(|[word]| word)
    }

    /// Reads the first `bytes` of a window in place, because in the kernel it is too large to pass
    /// through the stack; at most as many as there is room for. `false` when any of them cannot be
    /// read.
    fn read_part<const N: usize>(&self, address: u64, bytes: u32, window: &mut [u64; N]) -> bool {
        let words = (bytes as usize).div_ceil(8).min(N);
        window.iter_mut().take(words).enumerate().all(|(index, word)| {
            let value = self.read_word(address.wrapping_add(8 * index as u64));
            *word = value.unwrap_or_default();
            value.is_some()
        })
    }

    /// Learns that a walk depends on the word at an address of the stack.
    #[inline(always)]
    fn used(&self, _address: u64, _value: u64) {}

    /// Learns that a walk depends on the frame pointer that it started with.
    #[inline(always)]
    fn used_frame_pointer(&self, _value: u64) {}
}
