//! Which programs a function needs, by the shape of its calls.

use crate::{model::CallShape, probe::multi::Attachment};

/// The program of all functions whose result matters.
pub(super) const CALLS: &str = "enter";

pub(super) fn entry_program(shape: CallShape) -> &'static str {
    match shape {
        CallShape::Block => "enter_block",
        CallShape::PythonBlock => "enter_python_block",
        CallShape::ContextBlock => "enter_context_block",
        CallShape::Nothing => "enter_nothing",
        CallShape::Exit => "leave_by_return",
        CallShape::CallBegin => "begin_call",
        CallShape::CallEnd => "end_call",
        CallShape::Size
        | CallShape::CountSize
        | CallShape::OldSize
        | CallShape::OldCountSize
        | CallShape::InPlace
        | CallShape::Throwing
        | CallShape::AlignSize
        | CallShape::OutAlignSize
        | CallShape::Mmap
        | CallShape::Munmap
        | CallShape::Mremap
        | CallShape::Brk
        | CallShape::Sbrk
        | CallShape::ContextSize
        | CallShape::ContextCountSize
        | CallShape::ContextOldSize => CALLS,
    }
}

pub(super) fn return_program(shape: CallShape) -> Option<&'static str> {
    match shape {
        CallShape::Block
        | CallShape::PythonBlock
        | CallShape::ContextBlock
        | CallShape::Throwing
        | CallShape::Exit
        | CallShape::CallBegin
        | CallShape::CallEnd
        | CallShape::Nothing => None,
        CallShape::Size
        | CallShape::CountSize
        | CallShape::AlignSize
        | CallShape::ContextSize
        | CallShape::ContextCountSize => Some("leave_block"),
        CallShape::OldSize | CallShape::OldCountSize | CallShape::ContextOldSize => {
            Some("leave_realloc")
        }
        CallShape::OutAlignSize => Some("leave_out_block"),
        CallShape::InPlace => Some("leave_in_place"),
        CallShape::Mmap
        | CallShape::Munmap
        | CallShape::Mremap
        | CallShape::Brk
        | CallShape::Sbrk => Some("leave_mapping"),
    }
}

/// The programs of a shape.
pub(super) fn programs_of(
    shape: CallShape,
    has_sessions: bool,
) -> impl Iterator<Item = &'static str> {
    let at_return = return_program(shape).filter(|_| !has_sessions);
    at_return.into_iter().chain([entry_program(shape)])
}

/// What a program is attached as, where the kernel has sessions or not.
pub(super) fn attachment(program: &str, has_sessions: bool) -> Attachment {
    match program {
        CALLS if has_sessions => Attachment::Sessions,
        _ => Attachment::Probes,
    }
}
