//! Which frame of a stack to look at first: the one nearest to the leaf that somebody on call can
//! do something about.

use std::sync::Arc;

use crate::model::stack::Frame;

/// Objects whose frames only pass an allocation on, by the start of their file name.
const PASSING_MODULES: [&str; 14] = [
    "libc.so",
    "libc-2.",
    "ld-linux",
    "ld-musl",
    "libpthread",
    "libstdc++",
    "libc++",
    "libgcc_s",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libglib-2.0",
    "[vdso]",
    "[return probe]",
];

/// Functions that only pass an allocation on, by the start of their name: wrappers of `malloc`,
/// containers, and the allocators of language runtimes.
const PASSING_FUNCTIONS: [&str; 34] = [
    "operator new",
    "std::",
    "__gnu_cxx::",
    "void std::",
    "void* std::",
    "alloc::",
    "<alloc::",
    "core::",
    "<core::",
    "<std::",
    "hashbrown::",
    "<hashbrown::",
    "bytes::",
    "<bytes::",
    "__rust_",
    "__rustc",
    "__rdl_",
    "__rg_",
    "_PyMem_",
    "PyMem_",
    "_PyObject_Malloc",
    "_PyObject_Calloc",
    "_PyObject_Realloc",
    "PyObject_Malloc",
    "PyObject_Calloc",
    "PyObject_Realloc",
    "xmalloc",
    "xcalloc",
    "xrealloc",
    "zmalloc",
    "zcalloc",
    "zrealloc",
    "ztrymalloc",
    "g_malloc",
];

/// The index of that frame; the leaf when every frame only passes on, `None` without frames.
pub(super) fn key_frame(frames: &[Arc<Frame>]) -> Option<usize> {
    let passing = |frame: &Arc<Frame>| only_passes_on(frame);
    let index = frames.iter().position(|frame| !passing(frame)).unwrap_or(0);
    (!frames.is_empty()).then_some(index)
}

fn only_passes_on(frame: &Frame) -> bool {
    let starts = |text: &str, prefixes: &[&str]| prefixes.iter().any(|one| text.starts_with(one));
    starts(&frame.module, &PASSING_MODULES) || starts(&frame.function, &PASSING_FUNCTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(functions: &[(&str, &str)], expected: Option<usize>) {
        let frame = |(function, module): &(&str, &str)| {
            let (function, module) = ((*function).to_owned(), (*module).to_owned());
            Arc::new(Frame { function, module, ..Frame::default() })
        };
        let frames: Vec<_> = functions.iter().map(frame).collect();
        assert_eq!(key_frame(&frames), expected);
    }

    #[test]
    fn libraries_and_containers_are_passed_over() {
        check(
            &[
                ("operator new(unsigned long)", "libstdc++.so.6"),
                ("std::vector<int>::push_back(int&&)", "app"),
                ("Cache::insert(Key const&)", "app"),
                ("main", "app"),
            ],
            Some(2),
        );
        check(&[("strdup", "libc.so.6"), ("read_line", "app")], Some(1));
    }

    #[test]
    fn the_leaf_is_taken_when_all_frames_pass_on() {
        check(&[("strdup", "libc.so.6"), ("libc.so.6+0x2724a", "libc.so.6")], Some(0));
    }

    #[test]
    fn a_stack_without_frames_has_no_key_frame() {
        check(&[], None);
    }
}
