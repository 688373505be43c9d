//! The piece of a stack that was read at once: a read costs several times as much as the words in it.

use crate::{
    landing,
    memory::ReadMemory,
    opaque::{Opaque, OpaqueWords},
};

/// Words that there is room for; a power of two.
const ROOM_WORDS: usize = 2048;
/// The most words that are read at once.
pub const WINDOW_WORDS: usize = ROOM_WORDS - landing::SHIFT;
/// What is read where the need is not known, or far more than this.
const FURTHER_BYTES: u64 = 2048;
/// What is read at once where that much is needed.
const AT_ONCE_BYTES: u64 = 14336;
/// An end that is further up is that of another stack.
const FURTHEST_BYTES: u64 = 1 << SHARED_BITS;
/// What was read too much of is forgotten by this part with each walk.
const FORGETTING: u64 = 8;
/// Threads' stacks are some MiB apart: an end is kept for each of as many of them.
const ENDS: usize = 16;
/// log2 of the bytes in which stacks share an end.
const SHARED_BITS: u32 = 22;
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
    /// Up to where the stacks that were read before were needed: all walks of a thread end at the
    /// same place.
    ends: OpaqueWords<ENDS>,
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

    /// Reads what is at an address and above it, instead of what was read before.
    #[inline(always)]
    pub fn read<M: ReadMemory>(&mut self, memory: &M, address: u64) {
        self.clear();
        if address & 7 == 0 {
            self.fill(memory, address);
        }
    }

    /// A walk of the stack at `address` has looked at so much; the next ones will mostly look no
    /// further. A few bytes too many cost less than another read, so that an end which was further
    /// up is forgotten little by little.
    #[inline(always)]
    pub fn want(&mut self, address: u64, bytes: u64) {
        let (thread, end) = (Self::thread(address), address.wrapping_add(bytes));
        let further = self.ends.get(thread).wrapping_sub(end);
        let kept = if further <= AT_ONCE_BYTES { further - further / FORGETTING } else { 0 };
        self.ends.set(thread, end.wrapping_add(kept));
    }

    #[inline(always)]
    fn thread(address: u64) -> usize {
        (address >> SHARED_BITS) as usize
    }

    /// How much to read from an address on: up to where the walks before went, or a part of it
    /// where that is far; where it is not known, no further than the page, because what is behind may
    /// not be there.
    #[inline(always)]
    fn bytes_from(&self, address: u64, page_bytes: u64) -> u64 {
        let known = self.ends.get(Self::thread(address)).wrapping_sub(address);
        // Less than a word is no more than nothing.
        if known.wrapping_sub(8) >= FURTHEST_BYTES {
            page_bytes.min(FURTHER_BYTES)
        } else if known > AT_ONCE_BYTES {
            FURTHER_BYTES
        } else {
            known
        }
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

    /// Whether the word at an address was read.
    #[inline(always)]
    pub fn holds(&self, address: u64) -> bool {
        address.wrapping_sub(self.start.get()) < self.bytes.get()
    }

    /// Which word is that at an aligned address, for [`Self::at_index`]. Less than 0, as a number that
    /// wraps, for addresses below those that were read.
    #[inline(always)]
    pub fn index_of(&self, address: u64) -> u64 {
        let distance = address.wrapping_sub(self.start.get());
        (self.first.get() as u64).wrapping_add(distance >> 3)
    }

    /// A word by its index, of which only the low bits matter.
    #[inline(always)]
    pub fn at_index(&self, index: u64) -> u64 {
        self.words.get(index as usize)
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

    #[inline(always)]
    fn fill<M: ReadMemory>(&mut self, memory: &M, address: u64) -> bool {
        let page_bytes = PAGE_SIZE - (address & (PAGE_SIZE - 1));
        let bytes = self.bytes_from(address, page_bytes) & !7;
        self.start.set(address);
        self.bytes.set(bytes);
        if self.copy(memory, address, bytes) {
            return true;
        }
        // The end of the stack was passed: a read that fails costs as much as ten.
        self.ends.set(Self::thread(address), 0);
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

const _: () = assert!(AT_ONCE_BYTES <= WINDOW_WORDS as u64 * 8);

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
            window.want(FIRST, wanted);
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

    /// How much is read from `FIRST` on.
    fn read_bytes(window: &mut Window) -> u64 {
        window.clear();
        assert!(window.word(&Endless, FIRST).is_some());
        window.bytes.get()
    }

    #[test]
    fn a_stack_is_read_at_once_up_to_where_the_walks_before_went() {
        let mut window = Window::default();
        assert_eq!(read_bytes(&mut window), FURTHER_BYTES);
        window.want(FIRST - 512, 5512);
        assert_eq!(read_bytes(&mut window), 5000);
        window.want(FIRST + 64, AT_ONCE_BYTES);
        assert_eq!(read_bytes(&mut window), FURTHER_BYTES, "pieces are skipped where that is far");
        window.want(FIRST + ((ENDS as u64) << SHARED_BITS), 64);
        assert_eq!(read_bytes(&mut window), FURTHER_BYTES, "of another thread");
    }

    #[test]
    fn an_end_that_was_further_up_is_forgotten_little_by_little() {
        let mut window = Window::default();
        window.want(FIRST, 2000);
        window.want(FIRST, 1200);
        assert_eq!(read_bytes(&mut window), 1896, "a part of 696 bytes is rounded up");
        (0..100).for_each(|_| window.want(FIRST, 1200));
        assert!(read_bytes(&mut window) < 1216);
    }

    #[test]
    fn an_end_behind_which_nothing_is_costs_one_read_more() {
        let mut window = Window::default();
        window.want(END - 16, 32);
        assert_eq!(window.word(&Pages, END - 16), Some(END - 16));
        assert_eq!(window.ends.get(Window::thread(END)), 0);
    }

    struct Endless;
    impl ReadMemory for Endless {
        fn read_words<const N: usize>(&self, _: u64) -> Option<[u64; N]> {
            Some([0; N])
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
        assert_eq!(window.word(&memory, 64), Some(1));
        memory.0.set(2);
        assert_eq!(window.word(&memory, 72), Some(1));
        window.clear();
        assert_eq!(window.word(&memory, 72), Some(2));
    }
}
