//! Where CPython's structs have what, by version.
//!
//! x86-64 and AArch64 agree in all but the address of the thread key before 3.13 (pthread's types
//! that precede it differ in size). From 3.13 on the process describes itself
//! ([`super::debug_offsets`]), and this is what it does not say.

use memtrace_common::python::{PythonKind, PythonLayout};

use super::version::Version;

/// Offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `_PyRuntimeState`.
    pub runtime: RuntimeOffsets,
    /// `PyInterpreterState`.
    pub interpreter: InterpreterOffsets,
    /// `PyThreadState`.
    pub thread: ThreadOffsets,
    /// `PyFrameObject` (up to 3.10) or `_PyInterpreterFrame`.
    pub frame: FrameOffsets,
    /// `PyCodeObject`.
    pub code: CodeOffsets,
    /// `PyASCIIObject` and `PyBytesObject`.
    pub objects: ObjectOffsets,
}

/// Of `_PyRuntimeState`, which is `_PyRuntime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuntimeOffsets {
    /// `interpreters.head`.
    pub interpreters_head: u32,
    /// `autoTSSkey._key` on x86-64.
    pub tss_key: u32,
    /// The same on AArch64, untested; `None` where nobody has measured it.
    pub tss_key_aarch64: Option<u32>,
}

/// Of `PyInterpreterState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpreterOffsets {
    /// `next`.
    pub next: u32,
    /// `tstate_head`, or `threads.head`.
    pub threads_head: u32,
}

/// Of `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadOffsets {
    /// `next`.
    pub next: u32,
    /// `thread_id`: what `pthread_self()` is in the thread.
    pub thread_id: u32,
    /// `frame`, `current_frame`, or `cframe`, which leads to it.
    pub frame: u32,
    /// In the `_PyCFrame`: `current_frame` and `previous`, in versions that have it in between.
    pub cframe: Option<(u32, u32)>,
}

/// Of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameOffsets {
    /// What kind of chain it is in.
    pub kind: PythonKind,
    /// Up to here it is read; past all that is needed of it.
    pub size: u32,
    /// `f_code`, `f_executable`.
    pub code: u32,
    /// `f_back`, `previous`.
    pub previous: u32,
    /// `f_lasti`, `prev_instr`, `instr_ptr`.
    pub position: u32,
    /// `is_entry` (3.11), `owner`; 0 where every frame is an entry.
    pub owner: u32,
    /// Bits of the pointer to the code that are tags (`_PyStackRef`).
    pub code_tag_mask: u64,
}

/// Of `PyCodeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeOffsets {
    /// `co_firstlineno`.
    pub first_line: u32,
    /// `co_filename`.
    pub filename: u32,
    /// `co_name`.
    pub name: u32,
    /// `co_qualname`, from 3.11 on.
    pub qualname: Option<u32>,
    /// `co_lnotab`, `co_linetable`.
    pub line_table: u32,
    /// `co_code_adaptive`: the first instruction, from 3.11 on.
    pub instructions: Option<u32>,
    /// `[16, this)` is set when the object is made and never changes.
    pub constant_end: u32,
    /// `PyCode_Type.tp_basicsize`.
    pub basic_size: u32,
}

/// Of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectOffsets {
    /// `sizeof(PyASCIIObject)`: where an ASCII string's characters are.
    pub ascii_data: u32,
    /// `sizeof(PyCompactUnicodeObject)`: where another compact string's characters are.
    pub compact_data: u32,
    /// `PyBytesObject.ob_sval`.
    pub bytes_data: u32,
}

/// `ob_type` in every object.
pub const OB_TYPE: u32 = 8;
/// `ob_size` in `PyVarObject`s, `length` in strings.
pub const OB_SIZE: u32 = 16;
/// `state` in strings: bits 2-4 the bytes of a character, bit 5 compact, bit 6 ASCII.
pub const UNICODE_STATE: u32 = 32;
/// `tp_basicsize` in `PyTypeObject`.
pub const TP_BASICSIZE: u32 = 32;
/// A frame's owner from which on it is an entry frame: `FRAME_OWNED_BY_CSTACK` is 3 up to 3.13;
/// `FRAME_OWNED_BY_INTERPRETER` is 3 and `FRAME_OWNED_BY_CSTACK` 4 in 3.14
/// (pycore_frame.h, pycore_interpframe_structs.h).
pub const ENTRY_OWNER_MIN: u32 = 3;

/// The oldest and the newest series that are known.
pub const KNOWN: (Version, Version) = (Version::v3(8), Version::v3(14));

impl Offsets {
    /// Those of a release series.
    pub fn of(version: Version) -> Option<&'static Self> {
        match (version.major, version.minor) {
            (3, 8) => Some(&V3_8),
            (3, 9) => Some(&V3_9),
            (3, 10) => Some(&V3_10),
            (3, 11) => Some(&V3_11),
            (3, 12) => Some(&V3_12),
            (3, 13) => Some(&V3_13),
            (3, 14) => Some(&V3_14),
            _ => None,
        }
    }

    /// What the kernel side needs of them; without the places of one process (the slot, the
    /// interpreter loop, the image).
    pub fn layout(&self) -> PythonLayout {
        let (cframe_frame, cframe_previous) = self.thread.cframe.unwrap_or_default();
        PythonLayout {
            kind: self.frame.kind as u32,
            thread_frame: self.thread.frame,
            has_cframe: u32::from(self.thread.cframe.is_some()),
            cframe_frame,
            cframe_previous,
            frame_bytes: self.frame.size,
            frame_code: self.frame.code,
            frame_previous: self.frame.previous,
            frame_position: self.frame.position,
            frame_owner: self.frame.owner,
            entry_owner_min: ENTRY_OWNER_MIN,
            code_tag_mask: self.frame.code_tag_mask,
            ..PythonLayout::default()
        }
    }
}

/// DWARF of 3.8.18 (x86-64). AArch64: `tstate_current` of py-spy's constants plus the same
/// distance as on x86-64.
static V3_8: Offsets = Offsets {
    runtime: RuntimeOffsets { interpreters_head: 32, tss_key: 1396, tss_key_aarch64: Some(1412) },
    interpreter: InterpreterOffsets { next: 0, threads_head: 8 },
    thread: ThreadOffsets { next: 8, thread_id: 176, frame: 24, cframe: None },
    frame: FrameOffsets {
        kind: PythonKind::FrameObjects,
        size: 112,
        code: 32,
        previous: 24,
        position: 104,
        owner: 0,
        code_tag_mask: 0,
    },
    code: CodeOffsets {
        first_line: 40,
        filename: 104,
        name: 112,
        qualname: None,
        line_table: 120,
        instructions: None,
        constant_end: 72,
        basic_size: 176,
    },
    objects: ObjectOffsets { ascii_data: 48, compact_data: 72, bytes_data: 32 },
};

/// DWARF of 3.9.18; AArch64 as for 3.8.
static V3_9: Offsets = Offsets {
    runtime: RuntimeOffsets { interpreters_head: 32, tss_key: 588, tss_key_aarch64: Some(604) },
    ..V3_8
};

/// DWARF of 3.10.13; AArch64 as for 3.8.
static V3_10: Offsets = Offsets { frame: FrameOffsets { position: 96, ..V3_9.frame }, ..V3_9 };

/// DWARF of 3.11.7 and of Debian's 3.11.2; AArch64: DWARF of Debian's 3.11.2.
static V3_11: Offsets = Offsets {
    runtime: RuntimeOffsets { interpreters_head: 40, tss_key: 596, tss_key_aarch64: Some(612) },
    interpreter: InterpreterOffsets { next: 0, threads_head: 16 },
    thread: ThreadOffsets { next: 8, thread_id: 152, frame: 56, cframe: Some((8, 16)) },
    frame: FrameOffsets {
        kind: PythonKind::CFrames,
        size: 72,
        code: 32,
        previous: 48,
        position: 56,
        owner: 68,
        code_tag_mask: 0,
    },
    code: CodeOffsets {
        first_line: 72,
        filename: 112,
        name: 120,
        qualname: Some(128),
        line_table: 136,
        instructions: Some(184),
        constant_end: 52,
        basic_size: 184,
    },
    objects: ObjectOffsets { ascii_data: 48, compact_data: 72, bytes_data: 32 },
};

/// DWARF of 3.12.1. AArch64: not measured.
static V3_12: Offsets = Offsets {
    runtime: RuntimeOffsets { interpreters_head: 40, tss_key: 1548, tss_key_aarch64: None },
    interpreter: InterpreterOffsets { next: 0, threads_head: 72 },
    thread: ThreadOffsets { next: 8, thread_id: 136, frame: 56, cframe: Some((0, 8)) },
    frame: FrameOffsets {
        kind: PythonKind::EntryFrames,
        code: 0,
        previous: 8,
        owner: 70,
        ..V3_11.frame
    },
    code: CodeOffsets { first_line: 68, instructions: Some(192), basic_size: 192, ..V3_11.code },
    objects: ObjectOffsets { ascii_data: 40, compact_data: 56, bytes_data: 32 },
};

/// DWARF of 3.13.0 and of Debian's 3.13.18, both machines.
static V3_13: Offsets = Offsets {
    runtime: RuntimeOffsets { interpreters_head: 632, tss_key: 2164, tss_key_aarch64: Some(2164) },
    interpreter: InterpreterOffsets { next: 7264, threads_head: 7344 },
    thread: ThreadOffsets { next: 8, thread_id: 152, frame: 72, cframe: None },
    frame: FrameOffsets { code_tag_mask: 1, ..V3_12.frame },
    code: CodeOffsets { instructions: Some(200), basic_size: 200, ..V3_12.code },
    objects: V3_12.objects,
};

/// DWARF of Debian's 3.14.10, both machines.
static V3_14: Offsets = Offsets {
    runtime: RuntimeOffsets { interpreters_head: 808, tss_key: 2340, tss_key_aarch64: Some(2340) },
    interpreter: InterpreterOffsets { next: 7272, threads_head: 7344 },
    thread: V3_13.thread,
    frame: FrameOffsets { size: 80, owner: 74, code_tag_mask: 3, ..V3_13.frame },
    code: CodeOffsets { instructions: Some(208), basic_size: 208, ..V3_13.code },
    objects: V3_13.objects,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = (Version, &'static Offsets)> {
        (0..=u8::MAX).map(Version::v3).filter_map(|version| Some((version, Offsets::of(version)?)))
    }

    #[test]
    fn every_series_from_the_oldest_to_the_newest_is_known_and_no_other() {
        let known: Vec<u8> = all().map(|(version, _)| version.minor).collect();
        assert_eq!(known, (KNOWN.0.minor..=KNOWN.1.minor).collect::<Vec<_>>());
        assert_eq!(Offsets::of(Version { major: 2, minor: 7, micro: None }), None);
    }

    #[test]
    fn what_is_read_of_a_frame_holds_all_that_is_needed_of_it() {
        for (version, offsets) in all() {
            let frame = &offsets.frame;
            let ends = [frame.code + 8, frame.previous + 8, frame.position + 8, frame.owner + 1];
            assert!(
                ends.into_iter().all(|end| end <= frame.size && frame.size <= 128),
                "{version}"
            );
            assert!(frame.size.is_multiple_of(8), "{version}");
        }
    }
}
