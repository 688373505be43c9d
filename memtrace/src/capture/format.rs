//! The constants of the file: docs/format.md is its description.

/// The first bytes of every capture. The first of them is no text in any encoding in use, the last
/// one is lost in transfers that take files for text.
pub const MAGIC: [u8; 8] = *b"\x89MEMTRC\n";

/// A file's version: within a major one, readers skip what they do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Raised when a reader of the one before would misunderstand the file: another layout, another
    /// function or action of events.
    pub major: u16,
    /// Raised when something was added.
    pub minor: u16,
}

impl std::fmt::Display for Version {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// The version that is written.
pub const VERSION: Version = Version { major: 1, minor: 2 };

/// The oldest memtrace that reads [`VERSION`]; in the file for those that do not.
pub const NEEDS: &str = "0.1.0";

/// Bytes before the first block: magic, version (minor and major, 2 bytes each), [`NEEDS`] filled up
/// with zeros to 12 bytes.
pub const PREAMBLE_BYTES: usize = 24;

/// Bytes of a block's header.
pub const BLOCK_HEADER_BYTES: usize = 20;

/// The most bytes of a block, uncompressed.
pub const MAX_BLOCK_BYTES: usize = 4 << 20;

/// The most bytes of a record of several blocks, uncompressed.
pub const MAX_RECORD_BYTES: usize = 32 << 20;

/// The most events of a block that is written.
pub const EVENTS_A_BLOCK: usize = 16_384;

/// The most stacks that the dictionary of the events holds; then it is begun anew.
pub const MAX_DICTIONARY: usize = 1 << 20;

/// The most distinct stacks of a capture.
pub const MAX_STACKS: usize = 1 << 20;

/// The most frames of one stack.
pub const MAX_STACK_FRAMES: usize = 4096;

/// The most frames of all stacks together.
pub const MAX_ALL_FRAMES: usize = 1 << 25;

/// The most distinct frames, and the most nodes of the tree of stacks.
pub const MAX_FRAMES: usize = 1 << 22;

/// The most samples.
pub const MAX_SAMPLES: usize = 1 << 20;

/// The most bytes of the pieces of a layout of heaps, and the most pages, blocks and pools of one:
/// more than a walk writes.
pub const MAX_LAYOUT_BYTES: usize = 1 << 28;

/// The most sites.
pub const MAX_SITES: usize = 1 << 21;

/// A reader that does not know the kind of the block must not go on.
pub const FLAG_REQUIRED: u16 = 1;

/// The record goes on in the next block of the same kind.
pub const FLAG_CONTINUED: u16 = 2;

/// Where a block of events has the number of the process whose they are in its flags.
pub const PROCESS_SHIFT: u32 = 8;

/// What a block holds. In the file: a `u16`.
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockKind {
    /// [`crate::capture::Header`], JSON.
    Header = 1,
    /// A list of [`crate::model::trace::Module`], JSON. A later one takes its place.
    Modules = 2,
    /// Stacks as addresses.
    RawStacks = 3,
    /// Events.
    Events = 4,
    /// A list of [`crate::model::timeline::TimelineSample`], JSON; they follow those before.
    Samples = 5,
    /// [`crate::model::trace::Walks`], JSON. A later one takes its place.
    Walks = 6,
    /// Distinct frames.
    Frames = 7,
    /// Stacks as a tree of frames.
    Stacks = 8,
    /// Sites and their books.
    Sites = 9,
    /// What was live at the end.
    Live = 10,
    /// A list of [`crate::capture::ThreadName`], JSON.
    Threads = 11,
    /// [`crate::model::timeline::Timeline`] without samples, JSON. Samples before it are void.
    Timeline = 12,
    /// [`crate::capture::EventsKept`], JSON.
    EventsKept = 13,
    /// [`crate::capture::Ending`], JSON.
    Ending = 14,
    /// How much there should be, JSON. The file is whole.
    End = 15,
    /// [`crate::capture::CapturedProcess`], JSON. A later one of the same number takes its place.
    Process = 16,
    /// Where everything in a heap lay; may be ignored.
    Layout = 17,
}

impl BlockKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Header,
        Self::Modules,
        Self::RawStacks,
        Self::Events,
        Self::Samples,
        Self::Walks,
        Self::Frames,
        Self::Stacks,
        Self::Sites,
        Self::Live,
        Self::Threads,
        Self::Timeline,
        Self::EventsKept,
        Self::Ending,
        Self::End,
        Self::Process,
        Self::Layout,
    ];

    /// The kind with this number; `None` for those of later versions.
    pub fn from_u16(value: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == value)
    }
}

/// [`PREAMBLE_BYTES`] of a file of the version that is written.
pub fn preamble() -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.minor.to_le_bytes());
    bytes[10..12].copy_from_slice(&VERSION.major.to_le_bytes());
    bytes[12..12 + NEEDS.len()].copy_from_slice(NEEDS.as_bytes());
    bytes
}

/// What a file says of itself before its first block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Its version.
    pub version: Version,
    /// The oldest memtrace that reads it, e.g. `0.1.0`.
    pub needs: String,
}

/// The reverse of [`preamble`]; `None` when the magic is another.
pub fn parse_preamble(bytes: &[u8; PREAMBLE_BYTES]) -> Option<Preamble> {
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let is_version = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+".contains(byte);
    let needs = bytes[12..].iter().copied().take_while(is_version).map(char::from).collect();
    let version = Version { minor: word(8), major: word(10) };
    (bytes[..8] == MAGIC).then_some(Preamble { version, needs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_name_the_version_and_who_reads_it() {
        let preamble = parse_preamble(&preamble()).expect("it is one");
        assert_eq!((preamble.version, preamble.needs.as_str()), (VERSION, NEEDS));
        assert_eq!(parse_preamble(&[0; PREAMBLE_BYTES]), None);
    }

    #[test]
    fn kinds_are_numbered_without_gaps_so_that_none_is_forgotten() {
        let numbers: Vec<u16> = BlockKind::ALL.into_iter().map(|kind| kind as u16).collect();
        assert_eq!(numbers, (1..=17).collect::<Vec<_>>());
        assert_eq!(BlockKind::from_u16(18), None);
    }
}
