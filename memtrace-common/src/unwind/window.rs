//! A piece of memory that was read at once: a read costs several times as much as the words in it.

use crate::{
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// Words that are read at once.
pub const WINDOW_WORDS: usize = 256;
const WINDOW_BYTES: u64 = WINDOW_WORDS as u64 * 8;
/// Of the smallest pages.
const PAGE_SIZE: u64 = 4096;
/// How far behind a word the window goes that looks down.
const BEHIND_BYTES: u64 = 128;

/// Where the next words are likely to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// At higher addresses: the frames of callers on the stack.
    Up,
    /// At lower addresses: the older frames of CPython 3.11 and later, whose stack grows up.
    Down,
}

/// See the module.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    start: Opaque<u64>,
    bytes: Opaque<u64>,
    distance: Opaque<u64>,
    words: OpaqueWords<WINDOW_WORDS>,
}

impl Window {
    /// Forgets what was read.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.bytes.set(0);
    }

    /// The word at an address, which is read together with those around it; `None` when it cannot
    /// be read, or is not aligned.
    #[inline(always)]
    pub fn word<M: ReadMemory>(
        &mut self,
        memory: &M,
        address: u64,
        direction: Direction,
    ) -> Option<u64> {
        if address & 7 != 0 {
            return None;
        }
        let distance = address.wrapping_sub(self.start.get());
        // Through memory: the compiler would drop the mask, which the check makes needless to it,
        // but not to the verifier.
        self.distance.set(distance);
        if distance >= self.bytes.get() && !self.fill_around(memory, address, direction) {
            return memory.read_word(address);
        }
        Some(self.words.get((self.distance.get() >> 3) as usize))
    }

    /// Reads no further than to the ends of the page: what is behind may not be there.
    #[inline(never)]
    fn fill_around<M: ReadMemory>(
        &mut self,
        memory: &M,
        address: u64,
        direction: Direction,
    ) -> bool {
        let page = address & !(PAGE_SIZE - 1);
        let page_end = page.wrapping_add(PAGE_SIZE);
        let (start, end) = match direction {
            Direction::Up => (address, address.wrapping_add(WINDOW_BYTES).min(page_end)),
            Direction::Down => {
                let end = address.wrapping_add(BEHIND_BYTES).min(page_end);
                (end.wrapping_sub(WINDOW_BYTES).max(page), end)
            }
        };
        let bytes = end.wrapping_sub(start).min(WINDOW_BYTES);
        self.start.set(start);
        self.bytes.set(bytes);
        self.distance.set(address.wrapping_sub(start));
        let is_read = memory.read_part(start, bytes as u32, self.words.as_words_mut());
        if !is_read {
            self.bytes.set(0);
        }
        is_read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages whose words are their addresses, with nothing around.
    struct Pages;

    const FIRST: u64 = 0x10_0000;
    const END: u64 = FIRST + 2 * PAGE_SIZE;

    impl ReadMemory for Pages {
        fn read_words<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
            let end = address.checked_add(8 * N as u64)?;
            (address >= FIRST && end <= END)
                .then(|| core::array::from_fn(|index| address + 8 * index as u64))
        }
    }

    #[test]
    fn every_word_that_is_there_is_found_in_both_directions_and_in_any_order() {
        for direction in [Direction::Up, Direction::Down] {
            let mut window = Window::default();
            for address in (FIRST..END).step_by(8).chain((FIRST..END).rev().step_by(56)) {
                let address = address & !7;
                assert_eq!(window.word(&Pages, address, direction), Some(address));
            }
            for address in [FIRST - 8, END, FIRST + 4, 0, u64::MAX, u64::MAX - 7] {
                assert_eq!(window.word(&Pages, address, direction), None, "{address:#x}");
            }
            assert_eq!(window.word(&Pages, FIRST, direction), Some(FIRST));
        }
    }

    #[test]
    fn a_cleared_window_is_read_again() {
        struct Changing(core::cell::Cell<u64>);
        impl ReadMemory for Changing {
            fn read_words<const N: usize>(&self, _: u64) -> Option<[u64; N]> {
                Some([self.0.get(); N])
            }
        }
        let memory = Changing(core::cell::Cell::new(1));
        let mut window = Window::default();
        assert_eq!(window.word(&memory, 64, Direction::Up), Some(1));
        memory.0.set(2);
        assert_eq!(window.word(&memory, 72, Direction::Up), Some(1));
        window.clear();
        assert_eq!(window.word(&memory, 72, Direction::Up), Some(2));
    }
}
