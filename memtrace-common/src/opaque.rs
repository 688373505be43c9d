//! Values that the compiler and the verifier know nothing of.
//!
//! What lives in map memory and is read and written volatile is unknown to the verifier, so that
//! its states merge. With a loop's state in registers each of its branches would be followed apart.

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

    /// Writes a word.
    #[inline(always)]
    pub fn set(&mut self, index: usize, value: u64) {
        // SAFETY: as above.
        unsafe { self.0.get_unchecked_mut(index & Self::MASK) }.set(value);
    }

    /// The first words as such, for a reader to fill.
    #[inline(always)]
    pub fn first_mut<const M: usize>(&mut self) -> &mut [u64; M] {
        const { assert!(M <= N) };
        // SAFETY: `Opaque` is transparent, and there are as many.
        unsafe { &mut *core::ptr::from_mut(self).cast() }
    }

    /// The last words, likewise.
    #[inline(always)]
    pub fn last_mut<const M: usize>(&mut self) -> &mut [u64; M] {
        const { assert!(M <= N) };
        // SAFETY: as above, behind the others.
        unsafe { &mut *core::ptr::from_mut(self).cast::<u64>().add(N - M).cast() }
    }

    /// The words as such, for a reader to fill.
    #[inline(always)]
    pub fn as_words_mut(&mut self) -> &mut [u64; N] {
        // SAFETY: `Opaque` is transparent, so that this is the same array.
        unsafe { &mut *core::ptr::from_mut(self).cast() }
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
        assert_eq!(words.as_words_mut(), &[0, 0, 7, 0]);
    }

    #[test]
    fn parts_of_words_are_at_both_ends() {
        let mut words = OpaqueWords::<4>::default();
        *words.first_mut() = [1, 2, 3];
        *words.last_mut() = [4];
        assert_eq!(words.as_words_mut(), &[1, 2, 3, 4]);
    }
}
