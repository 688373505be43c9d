//! Which probes come and go together.

use memtrace_common::function::CallShape;

use crate::model::AllocFn;

/// Functions whose probes are armed and disarmed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Those that map memory, and what tells of loaded libraries: few calls, of which none may be
    /// missed.
    Mappings,
    /// Those that may release a heap block: of a block that is followed none may be missed.
    Releases,
    /// Those that only obtain heap blocks.
    Acquisitions,
}

impl Side {
    /// All, in the order to arm them in: no block is obtained before its release would be seen.
    pub const ALL: [Self; 3] = [Self::Mappings, Self::Releases, Self::Acquisitions];

    /// That of a function.
    pub fn of(function: AllocFn) -> Self {
        use CallShape::{
            Block, ContextBlock, ContextOldSize, InPlace, OldCountSize, OldSize, PythonBlock,
        };
        match function.shape() {
            _ if function == AllocFn::DlDebugState => Self::Mappings,
            shape if shape.is_mapping() => Self::Mappings,
            Block | PythonBlock | ContextBlock => Self::Releases,
            OldSize | OldCountSize | ContextOldSize | InPlace => Self::Releases,
            _ => Self::Acquisitions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_release_a_heap_block_is_armed_with_free() {
        let of =
            |functions: &[AllocFn]| functions.iter().copied().map(Side::of).collect::<Vec<_>>();
        use AllocFn::*;
        let releases = [
            Free,
            Realloc,
            Reallocarray,
            PyMemRealloc,
            PyMemFree,
            PyObjectRealloc,
            PyObjectFree,
            Rallocx,
            Xallocx,
            Dallocx,
            Sdallocx,
            OperatorDelete,
            OperatorDeleteArray,
            ReallocAligned,
        ];
        assert_eq!(of(&releases), [Side::Releases; 14]);
        assert_eq!(of(&[AllocFn::Malloc, AllocFn::PosixMemalign]), [Side::Acquisitions; 2]);
        assert_eq!(of(&[AllocFn::Munmap, AllocFn::DlDebugState]), [Side::Mappings; 2]);
    }
}
