//! Unwind tables: what `.eh_frame` says, compiled to what a walk needs.
//!
//! A *row* is a place in code and the *rule* that holds from there on. Rows of all objects lie in
//! one array, sorted within each object; an *index* entry for each [`PAGE_BYTES`] of an object's
//! code holds the number of the first row of that page, and one more entry ends the last page.
//! Each object's first row is a [`CfaRule::Unknown`] row that its first page's entry points behind,
//! so that the row before any row of an object exists.
//!
//! Only rows that a return address can fall into are kept (their range holds a `call`), because
//! nothing else is ever looked up: a walk starts at the caller of a probed function. Rows of signal
//! trampolines and PLTs are kept, too.

/// log2 of the code bytes that one index entry covers.
pub const PAGE_BITS: u32 = 10;
/// Code bytes that one index entry covers.
pub const PAGE_BYTES: u64 = 1 << PAGE_BITS;
/// Words in one element of the row and index maps; a map has as many elements as are needed.
pub const CHUNK_WORDS: usize = 1 << 16;
/// Most distinct rules; whole systems have about 1,100.
pub const MAX_RULES: u32 = 8192;
/// Most executable mappings of a process.
pub const MAX_MAPPINGS: usize = 1024;

/// A row: the low [`PAGE_BITS`] bits of its first address above, the number of its rule below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Row(pub u32);

/// Bits of a row that hold the rule.
const RULE_BITS: u32 = 32 - PAGE_BITS;

impl Row {
    /// A row at an address (relative to its object) with a rule.
    pub fn new(address: u64, rule: u32) -> Self {
        Self((address as u32 & (PAGE_BYTES as u32 - 1)) << RULE_BITS | rule)
    }

    /// Where in its page the row begins.
    #[inline(always)]
    pub fn page_offset(self) -> u32 {
        self.0 >> RULE_BITS
    }

    /// The number of its rule.
    #[inline(always)]
    pub fn rule(self) -> u32 {
        self.0 & ((1 << RULE_BITS) - 1)
    }
}

/// How the canonical frame address (the caller's stack pointer after the return) is found.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CfaRule {
    /// There is no rule, or one that is not supported: the walk ends.
    Unknown = 0,
    /// `sp + offset`
    Sp = 1,
    /// `bp + offset`
    Bp = 2,
    /// `sp + 8`, and 8 more when the low 4 bits of the pc are at least `offset`: a PLT entry that
    /// has pushed its relocation index.
    Plt = 3,
    /// `*(bp + offset)`: a realigned stack.
    DerefBp = 4,
    /// `*(sp + offset)`
    DerefSp = 5,
    /// A signal trampoline: registers are in the `ucontext` at `sp`.
    Signal = 6,
    /// The return address is undefined: the root of the stack.
    Root = 7,
    /// Nothing is known: by the frame pointer, if it looks like one.
    Guess = 8,
}

/// How the caller's frame pointer is found.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FpRule {
    /// It has not been touched.
    Same = 0,
    /// `*(CFA + offset)`
    Cfa = 1,
    /// `*bp` (`DW_OP_breg6 0`, with a realigned stack)
    DerefBp = 2,
}

/// One unwind rule. The return address is at CFA - 8 (x86-64).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// A [`CfaRule`].
    pub cfa: u8,
    /// A [`FpRule`].
    pub fp: u8,
    /// For [`FpRule::Cfa`].
    pub fp_offset: i16,
    /// For the CFA.
    pub cfa_offset: i32,
}

/// An executable mapping of the target and where its object's tables are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// What to subtract from an address to get the one that rows and index are relative to.
    pub bias: u64,
    /// The object's first index entry.
    pub first_page: u32,
    /// The object's pages; 0 = the code has no rows (JIT, hand-written).
    pub pages: u32,
}

/// The target's executable mappings, ascending.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeMappings {
    /// How many there are.
    pub count: u64,
    /// The mappings; the rest is unused.
    pub mappings: [CodeMapping; MAX_MAPPINGS],
}

impl Rule {
    /// For code that nothing describes.
    pub const GUESS: Self =
        Self { cfa: CfaRule::Guess as u8, fp: FpRule::Same as u8, fp_offset: 0, cfa_offset: 0 };
}

const _: () = {
    assert!(size_of::<Rule>() == 8);
    assert!(size_of::<CodeMapping>() == 32);
    assert!(MAX_RULES <= 1 << RULE_BITS);
};

// SAFETY: `repr(C)`, only integers, no padding, any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Rule {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CodeMappings {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_a_page_offset_and_a_rule() {
        let row = Row::new(0x1_23ff, 8191);
        assert_eq!((row.page_offset(), row.rule()), (0x3ff, 8191));
    }
}
