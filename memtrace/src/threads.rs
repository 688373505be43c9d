//! Where the stacks of threads are: by the lists that glibc keeps for debuggers, or by the stack
//! pointers of the threads.

mod glibc;
mod pointers;

use crate::model::census::Extent;

pub use self::{
    glibc::{LINKER_DATA, StackLists, Target},
    pointers::by_stack_pointers,
};

/// Memory that a thread has for its stack, without the guard below it. With glibc the thread's own
/// variables are at its upper end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadStack {
    /// The memory.
    pub extent: Extent,
    /// The thread has ended: libc keeps the memory for another.
    pub is_cached: bool,
}
