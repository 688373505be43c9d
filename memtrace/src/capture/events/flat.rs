//! An action as numbers of a few sorts.

use crate::{
    capture::codec::Malformed,
    model::{event::Action, stack::StackId},
};

/// What an action has, besides what every event has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operands {
    /// How many addresses.
    pub(super) addresses: usize,
    /// The caller's stack.
    pub(super) has_stack: bool,
    /// Bytes that the caller asked for.
    pub(super) has_size: bool,
    /// How many other numbers.
    pub(super) others: usize,
}

/// By [`Flat::code`]: the numbers are part of the format.
pub(super) const OPERANDS: [Operands; 14] = [
    operands(1, true, true, 0),   // 0 Alloc
    operands(1, false, false, 0), // 1 Free
    operands(1, false, false, 0), // 2 ReallocBegin
    operands(2, true, true, 0),   // 3 ReallocEnd
    operands(1, true, true, 2),   // 4 Map
    operands(1, false, false, 1), // 5 UnmapBegin
    operands(1, false, false, 2), // 6 UnmapEnd
    operands(1, false, false, 1), // 7 RemapBegin
    operands(2, true, true, 1),   // 8 RemapEnd
    operands(2, true, false, 0),  // 9 Break
    operands(0, false, false, 0), // 10 Fork
    operands(0, false, false, 0), // 11 Exec
    operands(0, false, false, 0), // 12 ThreadExit
    operands(0, false, false, 0), // 13 CodeChange
];

const fn operands(addresses: usize, has_stack: bool, has_size: bool, others: usize) -> Operands {
    Operands { addresses, has_stack, has_size, others }
}

/// An action; what it does not have is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flat {
    pub(super) code: u8,
    pub(super) addresses: [u64; 2],
    pub(super) stack: StackId,
    pub(super) size_bytes: u64,
    pub(super) others: [u64; 2],
}

impl Flat {
    fn new(code: u8, addresses: [u64; 2]) -> Self {
        Self { code, addresses, stack: StackId::NONE, size_bytes: 0, others: [0; 2] }
    }

    fn by(self, stack: StackId, size_bytes: u64) -> Self {
        Self { stack, size_bytes, ..self }
    }

    fn with(self, others: [u64; 2]) -> Self {
        Self { others, ..self }
    }

    /// `None` for a stack, which is no event.
    #[inline]
    pub(super) fn of(action: &Action) -> Option<Self> {
        Some(match *action {
            Action::Alloc { address, size_bytes, stack } => {
                Self::new(0, [address, 0]).by(stack, size_bytes)
            }
            Action::Free { address } => Self::new(1, [address, 0]),
            Action::ReallocBegin { old_address } => Self::new(2, [old_address, 0]),
            Action::ReallocEnd { old_address, new_address, size_bytes, stack } => {
                Self::new(3, [old_address, new_address]).by(stack, size_bytes)
            }
            _ => return Self::of_mapping(action),
        })
    }

    fn of_mapping(action: &Action) -> Option<Self> {
        Some(match *action {
            Action::Map { address, length_bytes, prot, map_flags, stack } => {
                let others = [prot.into(), map_flags.into()];
                Self::new(4, [address, 0]).by(stack, length_bytes).with(others)
            }
            Action::UnmapBegin { address, length_bytes } => {
                Self::new(5, [address, 0]).with([length_bytes, 0])
            }
            Action::UnmapEnd { address, length_bytes, failed } => {
                Self::new(6, [address, 0]).with([length_bytes, failed.into()])
            }
            Action::RemapBegin { old_address, old_length_bytes } => {
                Self::new(7, [old_address, 0]).with([old_length_bytes, 0])
            }
            Action::RemapEnd {
                old_address,
                old_length_bytes,
                new_address,
                new_length_bytes,
                stack,
            } => Self::new(8, [old_address, new_address])
                .by(stack, new_length_bytes)
                .with([old_length_bytes, 0]),
            Action::Break { old_break, new_break, stack } => {
                Self::new(9, [old_break, new_break]).by(stack, 0)
            }
            Action::Fork => Self::new(10, [0; 2]),
            Action::Exec => Self::new(11, [0; 2]),
            Action::ThreadExit => Self::new(12, [0; 2]),
            Action::CodeChange => Self::new(13, [0; 2]),
            _ => return None,
        })
    }

    /// The reverse of [`Self::of`].
    #[inline]
    pub(super) fn action(self) -> Result<Action, Malformed> {
        let Self { addresses: [address, new_address], stack, size_bytes, .. } = self;
        Ok(match self.code {
            0 => Action::Alloc { address, size_bytes, stack },
            1 => Action::Free { address },
            2 => Action::ReallocBegin { old_address: address },
            3 => Action::ReallocEnd { old_address: address, new_address, size_bytes, stack },
            _ => return self.mapping_action(),
        })
    }

    fn mapping_action(self) -> Result<Action, Malformed> {
        let Self { addresses: [address, second], stack, size_bytes, others, .. } = self;
        let bits = |value: u64| u32::try_from(value).map_err(|_| Malformed::Overlong);
        Ok(match self.code {
            4 => Action::Map {
                address,
                length_bytes: size_bytes,
                prot: bits(others[0])?,
                map_flags: bits(others[1])?,
                stack,
            },
            5 => Action::UnmapBegin { address, length_bytes: others[0] },
            6 => Action::UnmapEnd { address, length_bytes: others[0], failed: others[1] != 0 },
            7 => Action::RemapBegin { old_address: address, old_length_bytes: others[0] },
            8 => Action::RemapEnd {
                old_address: address,
                old_length_bytes: others[0],
                new_address: second,
                new_length_bytes: size_bytes,
                stack,
            },
            9 => Action::Break { old_break: address, new_break: second, stack },
            10 => Action::Fork,
            11 => Action::Exec,
            12 => Action::ThreadExit,
            13 => Action::CodeChange,
            _ => return Err(Malformed::Code),
        })
    }
}
