//! What several commands show, and how.

use clap::ValueEnum;

/// What never-freed blocks are taken together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// The line to look at first.
    #[default]
    Line,
    /// The function.
    Function,
    /// The object, or Python package or file.
    Module,
    /// The whole stack.
    Stack,
}

/// What sites are weighed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ViewArg {
    /// Live at the end, and old enough.
    #[default]
    NeverFreed,
    /// Live at the end, of any age.
    Live,
    /// Allocated, freed or not.
    Allocated,
    /// Allocated and freed.
    Freed,
    /// Live when all together had the most.
    Peak,
    /// Freed by the thread that allocated it, before it allocated anything else.
    Temporary,
    /// Never freed and in memory, as of the last walk of the heap.
    Resident,
    /// Free memory that live blocks keep from being given back, as of the last walk of the heap.
    Trapped,
    /// Of attach --growth: address space that was not given back.
    Grown,
    /// Of attach --growth: pages in use, estimated.
    ResidentGrown,
}

/// What sizes are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum UnitsArg {
    /// Each in the unit that fits it.
    #[default]
    Auto,
    /// Exactly.
    Bytes,
    /// 2^10 bytes.
    #[value(name = "KiB", alias = "kib")]
    KiB,
    /// 2^20 bytes.
    #[value(name = "MiB", alias = "mib")]
    MiB,
    /// 2^30 bytes.
    #[value(name = "GiB", alias = "gib")]
    GiB,
}
