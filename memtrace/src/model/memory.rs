//! The target's memory as a parameter: a live process, a recorded image, or a test's arrays.

/// Reads a process's memory as it is at that moment.
///
/// Reading a page that is not present changes the target (the kernel maps it), so that whoever
/// walks large structures asks for [`Residency`] first and reads present pages only.
pub trait TargetMemory {
    /// Fills `buffer` from `address`; `false` when any byte cannot be read, and then the buffer's
    /// content means nothing.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Fills many buffers at once, each from its address; tells for each whether it is filled. The
    /// default reads one after the other.
    fn read_many(&self, parts: &mut [(u64, &mut [u8])]) -> Vec<bool> {
        parts.iter_mut().map(|(address, buffer)| self.read(*address, buffer)).collect()
    }

    /// A little-endian word.
    fn read_u64(&self, address: u64) -> Option<u64> {
        let mut word = [0; 8];
        self.read(address, &mut word).then(|| u64::from_le_bytes(word))
    }

    /// A little-endian half word.
    fn read_u32(&self, address: u64) -> Option<u32> {
        let mut word = [0; 4];
        self.read(address, &mut word).then(|| u32::from_le_bytes(word))
    }
}

/// What the kernel keeps for a page of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageState {
    /// In memory, and counted in RSS.
    Resident,
    /// The shared page of zeros: mapped, but not counted in RSS.
    Zero,
    /// In swap; reading it would bring it back.
    Swapped,
}

/// Pages next to each other that are in the same state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRun {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// What they are.
    pub state: PageState,
    /// They belong to a file or to shared memory, not to the process alone.
    pub file_backed: bool,
    /// They are part of a huge page.
    pub huge: bool,
}

/// Tells which pages are there, without touching them.
pub trait Residency {
    /// The runs in `[start, end)`, ascending, clipped to it; pages that are not there (never
    /// touched, or given back) are in no run. `None` when the kernel does not tell.
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>>;
}
