//! Does a stack reach its root? The frame-pointer walk cannot know: code without frame pointers
//! leaves anything in `rbp`, also a zero. The names decide.

use memtrace_common::wire::StackEnd;

use crate::model::stack::Frame;

/// The walk met an address outside of all code: garbage, or code that was mapped and unmapped
/// between two looks at the target's mappings.
pub(super) const UNKNOWN_MAPPING: &str = "[unknown mapping]";

/// The walk left the chain of frame pointers.
const NO_FRAME_POINTER: &str = "[no frame pointer]";

/// The stack was deeper than the kernel side's buffer.
pub(super) const TRUNCATED: &str = "[truncated]";

/// The stack's memory could not be read.
pub(super) const UNREADABLE: &str = "[unreadable stack]";

/// The unwind information does not say how to leave a function.
const NO_RULE: &str = "[no unwind information]";

/// A signal handler: what it interrupted is not walked.
const SIGNAL: &str = "[signal handler]";

/// The unwind information led nowhere.
const STUCK: &str = "[broken stack]";

/// The root was reached, but through code without unwind information, by its frame pointer.
pub(super) const GUESSED: &str = "[guessed by frame pointer]";

/// The call has no stack (see the losses).
pub(super) const NO_STACK: &str = "[no stack]";

/// Functions that nothing calls: glibc's and musl's starts of processes and threads.
const ROOTS: [&str; 13] = [
    "_start",
    "_start_c",
    "_dl_start",
    "_dl_start_user",
    "__libc_start_main",
    "__libc_start_main_impl",
    "__libc_start_call_main",
    "libc_start_main_stage2",
    "start_thread",
    "clone",
    "__clone",
    "clone3",
    "__clone3",
];

/// Where functions that nothing calls are when their names were stripped.
const C_LIBRARIES: [&str; 4] = ["libc.so", "libc-2.", "libpthread", "ld-musl"];

/// The label for what is missing at the root side, given the named frames (leaf first) and why
/// the walk ended.
pub(super) fn missing(frames: &[impl AsRef<Frame>], end: StackEnd) -> Option<&'static str> {
    match end {
        StackEnd::Truncated => Some(TRUNCATED),
        _ if ends_at_root(frames, end) => None,
        StackEnd::Unreadable => Some(UNREADABLE),
        StackEnd::Root | StackEnd::NoFramePointer => Some(NO_FRAME_POINTER),
        StackEnd::Complete => None,
        StackEnd::UnknownMapping => Some(UNKNOWN_MAPPING),
        StackEnd::NoRule => Some(NO_RULE),
        StackEnd::Signal => Some(SIGNAL),
        StackEnd::Stuck => Some(STUCK),
    }
}

fn ends_at_root(frames: &[impl AsRef<Frame>], end: StackEnd) -> bool {
    let [rest @ .., last] = frames else { return false };
    let last = last.as_ref();
    let called_main = rest.last().is_some_and(|frame| frame.as_ref().function == "main");
    is_start(last)
        || (is_nameless(last)
            && is_c_library(&last.module)
            && (called_main || end == StackEnd::Root))
}

/// Whether nothing calls the frame's function.
pub(super) fn is_start(frame: &Frame) -> bool {
    ROOTS.contains(&base_symbol(&frame.function))
}

/// The name without symbol versions (`__libc_start_main@@GLIBC_2.34`).
fn base_symbol(function: &str) -> &str {
    function.split('@').next().unwrap_or_default()
}

fn is_nameless(frame: &Frame) -> bool {
    frame.function.strip_prefix(&frame.module).is_some_and(|rest| rest.starts_with("+0x"))
}

/// Whether a module of this name is a C library, which holds the start of processes and threads.
pub(super) fn is_c_library(module: &str) -> bool {
    C_LIBRARIES.iter().any(|prefix| module.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn stack(functions: &[(&str, &str)]) -> Vec<Arc<Frame>> {
        functions
            .iter()
            .map(|(function, module)| {
                let (function, module) = ((*function).to_owned(), (*module).to_owned());
                Arc::new(Frame { function, module, ..Frame::default() })
            })
            .collect()
    }

    #[test]
    fn a_start_function_is_the_root_whatever_the_walk_said() {
        let frames = stack(&[("main", "app"), ("__libc_start_call_main", "libc.so.6")]);
        for end in [StackEnd::Root, StackEnd::NoFramePointer, StackEnd::Unreadable] {
            assert_eq!(missing(&frames, end), None);
        }
    }

    #[test]
    fn a_zero_frame_pointer_in_an_ordinary_function_is_not_the_root() {
        let frames = stack(&[("work", "app")]);
        assert_eq!(missing(&frames, StackEnd::Root), Some(NO_FRAME_POINTER));
        assert_eq!(missing(&stack(&[]), StackEnd::Root), Some(NO_FRAME_POINTER));
    }

    #[test]
    fn nameless_code_of_the_c_library_is_the_root_below_main_or_a_zero_frame_pointer() {
        let below_main = stack(&[("main", "app"), ("libc.so.6+0x2724a", "libc.so.6")]);
        assert_eq!(missing(&below_main, StackEnd::NoFramePointer), None);
        let thread = stack(&[("worker", "app"), ("libc.so.6+0x88fff", "libc.so.6")]);
        assert_eq!(missing(&thread, StackEnd::Root), None);
        assert_eq!(missing(&thread, StackEnd::NoFramePointer), Some(NO_FRAME_POINTER));
        let nameless = stack(&[("app+0x10", "app")]);
        assert_eq!(missing(&nameless, StackEnd::Root), Some(NO_FRAME_POINTER));
    }

    #[test]
    fn a_full_buffer_is_said_first() {
        let frames = stack(&[("_start", "app")]);
        assert_eq!(missing(&frames, StackEnd::Truncated), Some("[truncated]"));
        let frames = stack(&[("work", "app")]);
        assert_eq!(missing(&frames, StackEnd::Unreadable), Some("[unreadable stack]"));
    }
}
