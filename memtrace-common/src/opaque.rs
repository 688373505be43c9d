//! Values that the compiler and the verifier know nothing of.
//!
//! What lives in map memory and is read and written volatile is unknown to the verifier, so that
//! its states merge. With a loop's state in registers each of its branches would be followed apart.

use crate::landing;

/// Such a value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opaque<T: Copy>(T);

impl<T: Copy> Opaque<T> {
    /// A value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Reads it.
    #[inline(always)]
    pub fn get(&self) -> T {
        // SAFETY: a reference is valid for reads.
        unsafe { core::ptr::from_ref(&self.0).read_volatile() }
    }

    /// Writes it.
    #[inline(always)]
    pub fn set(&mut self, value: T) {
        // SAFETY: a unique reference is valid for writes.
        unsafe { core::ptr::from_mut(&mut self.0).write_volatile(value) }
    }
}

/// An array of such words whose length is a power of two. Indexes wrap: the mask repeats for the
/// verifier what the callers guarantee.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct OpaqueWords<const N: usize>([Opaque<u64>; N]);

impl<const N: usize> OpaqueWords<N> {
    const MASK: usize = {
        assert!(N.is_power_of_two());
        N - 1
    };

    /// Reads a word.
    #[inline(always)]
    pub fn get(&self, index: usize) -> u64 {
        // SAFETY: the mask keeps the index inside of the array.
        unsafe { self.0.get_unchecked(index & Self::MASK) }.get()
    }

    /// Reads the word that a byte belongs to. Of offsets in bytes that are computed this is ready sooner
    /// than [`Self::get`].
    #[inline(always)]
    pub fn at_byte(&self, byte: u64) -> u64 {
        let first = byte as usize & (Self::MASK * size_of::<u64>());
        // SAFETY: the mask keeps the offset inside of the array, and at a multiple of a word's size.
        unsafe { &*self.0.as_ptr().byte_add(first) }.get()
    }

    /// Writes a word.
    #[inline(always)]
    pub fn set(&mut self, index: usize, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.get_unchecked_mut(index & Self::MASK) }.set(value);
    }

    /// The words `index / M * M` and on. They have one address for the compiler to keep, and not one
    /// each.
    #[inline(always)]
    pub fn block<const M: usize>(&self, index: usize) -> &OpaqueWords<M> {
        const { assert!(M.is_power_of_two() && M <= N) };
        let first = index & Self::MASK & !(M - 1);
        // SAFETY: both are transparent, and from a multiple of `M` below `N` there are `M` more.
        unsafe { &*self.0.as_ptr().add(first).cast() }
    }

    /// `M` words as such, for a reader to fill from `source`: those from `START` on, or from
    /// [`landing::SHIFT`] further on. Also says which word is the first. `address` is room for an
    /// address in map memory: what comes back from there is a number to the verifier.
    #[inline(always)]
    pub fn part_mut<const START: usize, const M: usize>(
        &mut self,
        source: u64,
        address: &mut Opaque<u64>,
    ) -> (&mut [u64; M], usize) {
        const { assert!(START + landing::SHIFT + M <= N) };
        let usual = self.0.as_mut_ptr().wrapping_add(START);
        address.set(usual.expose_provenance() as u64);
        let shift = landing::shift(source, address.get()) & landing::SHIFT;
        // SAFETY: `Opaque` is transparent, and there are as many words behind the first.
        let words = unsafe { &mut *usual.add(shift).cast() };
        (words, START + shift)
    }
}

impl<const N: usize> Default for OpaqueWords<N> {
    fn default() -> Self {
        Self([Opaque::new(0); N])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_of_words_wrap() {
        let mut words = OpaqueWords::<4>::default();
        words.set(6, 7);
        assert_eq!((words.get(2), words.get(usize::MAX)), (7, 0));
    }

    #[test]
    fn a_word_is_found_by_each_of_its_bytes() {
        let mut words = OpaqueWords::<4>::default();
        words.set(3, 7);
        let bytes: Vec<u64> = (0..64).filter(|byte| words.at_byte(*byte) == 7).collect();
        assert_eq!(bytes, [(24..32).collect::<Vec<_>>(), (56..64).collect()].concat());
        assert_eq!(words.at_byte(u64::MAX), 7);
    }

    #[test]
    fn a_block_of_words_begins_at_a_multiple_of_its_length() {
        let mut words = OpaqueWords::<16>::default();
        (0..16).for_each(|index| words.set(index, index as u64));
        for (index, first) in [(0, 0), (7, 4), (8, 8), (19, 0)] {
            let block = words.block::<4>(index);
            assert_eq!((block.get(0), block.get(3)), (first, first + 3));
        }
    }

    #[test]
    fn parts_of_words_are_where_they_say_whatever_is_copied() {
        let mut words = OpaqueWords::<64>::default();
        for source in (0..4096).step_by(8) {
            let (part, first) = words.part_mut::<8, 3>(source, &mut Opaque::new(0));
            *part = [1, 2, source];
            assert!(first == 8 || first == 8 + landing::SHIFT);
            assert_eq!((words.get(first), words.get(first + 2)), (1, source));
        }
    }
}
