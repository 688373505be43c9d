//! Why a Python's frames are not shown. Each refuses the Python part alone.

use thiserror::Error;

use super::{offsets::KNOWN, version::Version};

/// A reason, as a sentence's end: `the Python frames of PATH are not shown: ...`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Neither its file nor its memory tells which version it is.
    #[error("it is a CPython whose version cannot be told")]
    NoVersion,
    /// Too old, or too new.
    #[error("it is Python {version}; known are {} to {}", KNOWN.0, KNOWN.1)]
    UnknownVersion {
        /// What it is.
        version: Version,
    },
    /// Two sources contradict each other.
    #[error("it says that it is Python {stated}, but looks like {found}")]
    VersionsDiffer {
        /// What it says of itself.
        stated: String,
        /// What it was taken for.
        found: Version,
    },
    /// Another implementation.
    #[error("it is PyPy, which has other frames than CPython")]
    PyPy,
    /// Built with `--disable-gil`.
    #[error("it is a free-threaded build of Python {version}, which is not supported yet")]
    FreeThreaded {
        /// Which one.
        version: Version,
    },
    /// Built with a debugging object header (`Py_TRACE_REFS`), or patched.
    #[error(
        "its type of code objects is not that of Python {version}: it is a debug or a patched build"
    )]
    OtherLayout {
        /// What it should be.
        version: Version,
    },
    /// Stripped of what leads to its state.
    #[error("its symbol {name} is missing: it was stripped of symbols that CPython exports")]
    MissingSymbol {
        /// Which one.
        name: &'static str,
    },
    /// Not for the machine that is supported.
    #[error("it is a Python for AArch64, whose frames are not read yet")]
    Machine,
    /// Memory that must be there is not.
    #[error("its {what} cannot be read")]
    Unreadable {
        /// Which part.
        what: &'static str,
    },
    /// `_Py_DebugOffsets` has no cookie.
    #[error("it does not describe its structs as Python 3.13 and later do")]
    NotDescribed,
    /// `_Py_DebugOffsets` holds what cannot be.
    #[error("the description of its structs is damaged or is not that of Python {version}")]
    ImplausibleOffsets {
        /// Which one.
        version: Version,
    },
    /// The C library keeps thread data where nobody has looked.
    #[error("its threads' data cannot be found: the C library is {library}; glibc is supported")]
    OtherLibc {
        /// `musl`, or `an unknown one`.
        library: &'static str,
    },
    /// No slot of the threads' data holds the thread's Python state.
    #[error("the slot with a thread's Python state was not found ({reason})")]
    NoThreadSlot {
        /// What was found instead.
        reason: &'static str,
    },
    /// Its threads' frames do not decode.
    #[error("its frames could not be read at the attach ({reason}): it is a patched build")]
    WalkFailed {
        /// What was wrong with the last try.
        reason: String,
    },
    /// Another Python of the process is the one that is read.
    #[error("another Python in the process is the one that is read, {taken}")]
    NotTheOnlyOne {
        /// Its path.
        taken: String,
    },
}

/// An object of the target that was not taken, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its path in the target's mount namespace.
    pub path: String,
    /// Why.
    pub refusal: Refusal,
}
