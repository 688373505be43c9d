//! Stacks by stack pointers, for C libraries that tell no more: older glibc, musl, static programs.

use super::ThreadStack;
use crate::model::{census::Extent, mapping::Mapping};

/// The mappings that these stack pointers are in and that have a guard below them, as every thread's
/// stack has that a C library made. A mapping without a guard may be anything else as well.
pub fn by_stack_pointers(pointers: &[u64], maps: &[Mapping]) -> Vec<ThreadStack> {
    let mut extents: Vec<_> =
        pointers.iter().filter_map(|pointer| guarded(*pointer, maps)).collect();
    extents.sort_unstable();
    extents.dedup();
    extents.into_iter().map(|extent| ThreadStack { extent, is_cached: false }).collect()
}

fn guarded(pointer: u64, maps: &[Mapping]) -> Option<Extent> {
    let at = maps.iter().position(|mapping| mapping.contains(pointer))?;
    let (stack, below) = (&maps[at], maps.get(at.checked_sub(1)?)?);
    let is_anonymous = stack.file.is_none() && stack.name.is_empty() && stack.permissions.write;
    let is_guard = below.end == stack.start && below.file.is_none() && !below.permissions.read;
    (is_anonymous && is_guard).then_some(Extent { start: stack.start, end: stack.end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::mapping::Permissions;

    fn mapping(start: u64, end: u64, write: bool, name: &str) -> Mapping {
        Mapping {
            start,
            end,
            file_offset: 0,
            file: None,
            name: name.to_owned(),
            deleted: false,
            permissions: Permissions { read: write, write, execute: false },
        }
    }

    #[test]
    fn a_stack_has_a_guard_below_it() {
        let maps = [
            mapping(0x1000, 0x2000, false, ""),
            mapping(0x2000, 0x9000, true, ""),
            mapping(0xa000, 0xb000, true, ""),
            mapping(0xc000, 0xd000, false, ""),
            mapping(0xd000, 0xe000, true, "[stack]"),
        ];
        let stacks = by_stack_pointers(&[0x8ff0, 0x8000, 0xaff0, 0xdff0, 0x42], &maps);
        let expected = Extent { start: 0x2000, end: 0x9000 };
        assert_eq!(stacks, [ThreadStack { extent: expected, is_cached: false }]);
    }
}
