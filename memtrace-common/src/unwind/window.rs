//! The piece of a stack that was read at once: a read costs several times as much as the words in it.

use crate::{
    landing,
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// Words that there is room for; a power of two.
const ROOM_WORDS: usize = 1024;
/// The most words that are read at once.
pub const WINDOW_WORDS: usize = ROOM_WORDS - landing::SHIFT;
const WINDOW_BYTES: u64 = WINDOW_WORDS as u64 * 8;
/// What is read where the need is not known.
const FURTHER_BYTES: u64 = 2048;
/// A need is forgotten by this part with each stack that has less.
const FORGETTING: u64 = 8;
/// Of the smallest pages.
const PAGE_SIZE: u64 = 4096;

/// See the module. Lives in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    start: Opaque<u64>,
    bytes: Opaque<u64>,
    distance: Opaque<u64>,
    /// Which word is the first, and room for the address of where it would be.
    first: Opaque<usize>,
    landing: Opaque<u64>,
    /// How much the stacks that were read before needed.
    wanted_bytes: Opaque<u64>,
    /// A word outside of the window.
    single: Opaque<u64>,
    words: OpaqueWords<ROOM_WORDS>,
}

impl Window {
    /// Forgets what was read.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.bytes.set(0);
    }

    /// As many bytes of a stack are read at first as the last ones turned out to need: some bytes
    /// too many cost less than another read.
    #[inline(always)]
    pub fn want(&mut self, bytes: u64) {
        let before = self.wanted_bytes.get();
        self.wanted_bytes.set(bytes.max(before - before / FORGETTING));
    }

    /// The word at an address, which is read together with those above it; `None` when it cannot
    /// be read, or is not aligned.
    #[inline(always)]
    pub fn word<M: ReadMemory>(&mut self, memory: &M, address: u64) -> Option<u64> {
        if self.is_inside(address) {
            return Some(self.inside());
        }
        self.fetch(memory, address).then(|| self.single.get())
    }

    /// The same, but what was read before stays.
    #[inline(always)]
    pub fn peek<M: ReadMemory>(&mut self, memory: &M, address: u64) -> Option<u64> {
        self.known(address).or_else(|| memory.read_word(address))
    }

    /// The word at an address, if it was read.
    #[inline(always)]
    pub fn known(&mut self, address: u64) -> Option<u64> {
        self.is_inside(address).then(|| self.inside())
    }

    #[inline(always)]
    fn is_inside(&mut self, address: u64) -> bool {
        let distance = address.wrapping_sub(self.start.get());
        // Through memory: the compiler would drop the mask, which the check makes needless to it,
        // but not to the verifier.
        self.distance.set(distance);
        distance < self.bytes.get() && address & 7 == 0
    }

    #[inline(always)]
    fn inside(&self) -> u64 {
        self.words.get(self.first.get().wrapping_add((self.distance.get() >> 3) as usize))
    }

    #[inline(never)]
    fn fetch<M: ReadMemory>(&mut self, memory: &M, address: u64) -> bool {
        if address & 7 != 0 {
            return false;
        }
        if self.fill(memory, address) {
            self.single.set(self.words.get(self.first.get()));
            return true;
        }
        let word = memory.read_word(address);
        self.single.set(word.unwrap_or_default());
        word.is_some()
    }

    /// Reads no further than the page, except where the stack before went there: what is behind may
    /// not be there.
    #[inline(always)]
    fn fill<M: ReadMemory>(&mut self, memory: &M, address: u64) -> bool {
        let page_bytes = PAGE_SIZE - (address & (PAGE_SIZE - 1));
        let wanted = if self.bytes.get() == 0 { self.wanted_bytes.get() } else { 0 };
        let bytes = wanted.max(page_bytes.min(FURTHER_BYTES)).min(WINDOW_BYTES) & !7;
        self.start.set(address);
        self.bytes.set(bytes);
        if self.copy(memory, address, bytes) {
            return true;
        }
        // The end of the stack was passed: a read that fails costs as much as ten.
        self.wanted_bytes.set(0);
        self.bytes.set(page_bytes);
        let is_read = bytes > page_bytes && self.copy(memory, address, page_bytes);
        if !is_read {
            self.bytes.set(0);
        }
        is_read
    }

    #[inline(always)]
    fn copy<M: ReadMemory>(&mut self, memory: &M, address: u64, bytes: u64) -> bool {
        let (words, first) = self.words.part_mut::<0, WINDOW_WORDS>(address, &mut self.landing);
        self.first.set(first);
        memory.read_part(address, bytes as u32, words)
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
    fn every_word_that_is_there_is_found_in_any_order_whatever_was_wanted() {
        for wanted in [0, 8, 600, PAGE_SIZE, 2 * PAGE_SIZE, 9 * PAGE_SIZE, u64::MAX] {
            let mut window = Window::default();
            window.want(wanted);
            for address in (FIRST..END).step_by(8).chain((FIRST..END).rev().step_by(56)) {
                let address = address & !7;
                assert_eq!(window.peek(&Pages, address), Some(address));
                assert_eq!(window.word(&Pages, address), Some(address));
            }
            for address in [FIRST - 8, END, FIRST + 4, 0, u64::MAX, u64::MAX - 7] {
                assert_eq!(window.word(&Pages, address), None, "{address:#x}");
            }
            assert_eq!(window.word(&Pages, FIRST), Some(FIRST));
        }
    }

    #[test]
    fn a_stack_that_needs_as_much_as_the_one_before_is_read_at_once() {
        let mut window = Window::default();
        window.want(PAGE_SIZE + 64);
        assert_eq!(window.word(&Pages, FIRST + 8), Some(FIRST + 8));
        assert!(window.is_inside(FIRST + 64 + PAGE_SIZE));
        assert!(!window.is_inside(FIRST + 72 + PAGE_SIZE) && !window.is_inside(FIRST));
        window.clear();
        window.want(u64::MAX);
        assert_eq!(window.word(&Pages, END - 16), Some(END - 16), "nothing is behind");
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
        assert_eq!(window.word(&memory, 64), Some(1));
        memory.0.set(2);
        assert_eq!(window.word(&memory, 72), Some(1));
        window.clear();
        assert_eq!(window.word(&memory, 72), Some(2));
    }
}
