//! What pprof and OTLP have in common: tables in which everything is once, and samples that refer
//! to them.

mod about;
mod modules;
mod sample;
mod strings;
mod tables;

pub(super) use self::{
    about::{comments, losses, start_unix_ns},
    sample::{Sample, samples},
    strings::Strings,
    tables::{Function, Line, Location, Tables},
};
use crate::report::View;

/// One of the numbers that a sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValueType {
    /// What is counted.
    pub(super) name: &'static str,
    /// `count` or `bytes`.
    pub(super) unit: &'static str,
}

/// What samples are a distance of apart: the period, 1 where every byte is seen.
pub(super) const PERIOD: ValueType = ValueType { name: "space", unit: "bytes" };

/// The numbers of a sample, in this order: what was allocated, then what is held. Those are the
/// names, and the order, that Go's heap profiles have, so that readers know them; where the view is
/// not of memory in use, the held part is called what it is.
pub(super) fn value_types(view: View) -> [ValueType; 4] {
    let [objects, space] = match held(view) {
        View::Freed => ["freed_objects", "freed_space"],
        View::Temporary => ["temporary_objects", "temporary_space"],
        View::Resident => ["resident_objects", "resident_space"],
        View::Trapped => ["trapping_objects", "trapped_space"],
        View::NeverFreed | View::Live | View::Allocated | View::Peak => {
            ["inuse_objects", "inuse_space"]
        }
    };
    [
        ValueType { name: "alloc_objects", unit: "count" },
        ValueType { name: "alloc_space", unit: "bytes" },
        ValueType { name: objects, unit: "count" },
        ValueType { name: space, unit: "bytes" },
    ]
}

/// Which of [`value_types`] the view is of.
pub(super) fn shown_first(view: View) -> ValueType {
    let [_, allocated, _, held] = value_types(view);
    if view == View::Allocated { allocated } else { held }
}

/// What the last two values are: the view, or, where that has values of its own anyway, what was
/// never freed.
pub(super) fn held(view: View) -> View {
    if view == View::Allocated { View::NeverFreed } else { view }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_memory_in_use_is_called_so() {
        let held_space = |view| value_types(view)[3].name;
        assert_eq!(held_space(View::NeverFreed), "inuse_space");
        assert_eq!(held_space(View::Peak), "inuse_space");
        assert_eq!(held_space(View::Freed), "freed_space");
        assert_eq!(held_space(View::Temporary), "temporary_space");
        assert_eq!(held_space(View::Resident), "resident_space");
        assert_eq!(held_space(View::Trapped), "trapped_space");
    }

    #[test]
    fn the_view_is_what_a_reader_sees_first() {
        assert_eq!(shown_first(View::Allocated).name, "alloc_space");
        assert_eq!(shown_first(View::Live).name, "inuse_space");
        assert_eq!(shown_first(View::Freed).name, "freed_space");
    }
}
