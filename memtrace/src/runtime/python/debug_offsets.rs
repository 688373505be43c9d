//! How CPython 3.13 and later describe themselves: `_Py_DebugOffsets`, the first member of
//! `_PyRuntime` (pycore_debug_offsets.h, in 3.13 pycore_runtime.h).

use super::{
    offsets::{
        CodeOffsets, FrameOffsets, InterpreterOffsets, OB_SIZE, OB_TYPE, ObjectOffsets, Offsets,
        RuntimeOffsets, ThreadOffsets, UNICODE_STATE,
    },
    refusal::Refusal,
    version::Version,
};
use crate::model::memory::TargetMemory;

/// `_Py_Debug_Cookie`.
const COOKIE: &[u8; 8] = b"xdebugpy";

/// As much as is read of it.
const READ_BYTES: usize = 656;

/// The largest size of a struct that is believed; `PyInterpreterState` has about 300 KiB.
const MAX_STRUCT_BYTES: u64 = 1 << 24;

/// `sizeof(PyCompactUnicodeObject) - sizeof(PyASCIIObject)`: `utf8_length` and `utf8`.
const COMPACT_EXTRA_BYTES: u32 = 16;

/// Where the description has what: the place of a struct's size, and of members of it.
struct Places {
    runtime: Struct<1>,
    interpreter: Struct<2>,
    thread: Struct<3>,
    frame: Struct<4>,
    code: Struct<6>,
    ob_type: Struct<1>,
    bytes: Struct<2>,
    unicode: Struct<3>,
}

struct Struct<const N: usize> {
    size: usize,
    members: [usize; N],
}

const fn at<const N: usize>(size: usize, members: [usize; N]) -> Struct<N> {
    Struct { size, members }
}

/// DWARF of 3.13.0.
static PLACES_3_13: Places = Places {
    runtime: at(24, [40]),
    interpreter: at(48, [64, 72]),
    thread: at(152, [168, 192, 184]),
    frame: at(224, [240, 232, 248, 264]),
    code: at(272, [312, 280, 288, 296, 304, 344]),
    ob_type: at(352, [360]),
    bytes: at(512, [520, 528]),
    unicode: at(536, [544, 552, 560]),
};

/// DWARF of Debian's 3.14.10.
static PLACES_3_14: Places = Places {
    runtime: at(24, [40]),
    interpreter: at(48, [64, 72]),
    thread: at(176, [192, 216, 208]),
    frame: at(248, [264, 256, 272, 288]),
    code: at(312, [352, 320, 328, 336, 344, 384]),
    ob_type: at(400, [408]),
    bytes: at(592, [600, 608]),
    unicode: at(616, [624, 632, 640]),
};

/// Reads the offsets that a process states at `runtime` (the address of `_PyRuntime`).
///
/// Errors: a [`Refusal`] when they are not there (yet), of another version, of a free-threaded
/// build, or cannot be true.
pub fn read(
    memory: &impl TargetMemory,
    runtime: u64,
    version: Version,
) -> Result<Offsets, Refusal> {
    let mut bytes = [0; READ_BYTES];
    if !memory.read(runtime, &mut bytes) {
        return Err(Refusal::Unreadable { what: "_PyRuntime" });
    }
    parse(&bytes, version)
}

/// The same, of bytes.
fn parse(bytes: &[u8; READ_BYTES], version: Version) -> Result<Offsets, Refusal> {
    let description = Description(bytes);
    if !bytes.starts_with(COOKIE) {
        return Err(Refusal::NotDescribed);
    }
    let stated = Version::from_hex(description.word(8) as u32);
    if !stated.is_series_of(version) {
        return Err(Refusal::VersionsDiffer { stated: stated.to_string(), found: version });
    }
    if description.word(16) != 0 {
        return Err(Refusal::FreeThreaded { version });
    }
    let places = match version.minor {
        13 => &PLACES_3_13,
        14 => &PLACES_3_14,
        _ => return Err(Refusal::UnknownVersion { version }),
    };
    let known = Offsets::of(version).ok_or(Refusal::UnknownVersion { version })?;
    description.offsets(places, known).ok_or(Refusal::ImplausibleOffsets { version })
}

struct Description<'b>(&'b [u8; READ_BYTES]);

impl Description<'_> {
    fn word(&self, at: usize) -> u64 {
        let bytes = self.0.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The offsets of members, each of `widths` bytes and aligned to that, if all lie within
    /// their struct.
    fn members<const N: usize>(&self, places: &Struct<N>, widths: [u64; N]) -> Option<[u32; N]> {
        let size = self.word(places.size);
        let mut offsets = [0; N];
        for ((offset, place), width) in offsets.iter_mut().zip(places.members).zip(widths) {
            let stated = self.word(place);
            let fits = stated.checked_add(width).is_some_and(|end| end <= size);
            let plausible = fits && size <= MAX_STRUCT_BYTES && stated.is_multiple_of(width);
            *offset = u32::try_from(stated).ok().filter(|_| plausible)?;
        }
        Some(offsets)
    }

    fn offsets(&self, places: &Places, known: &Offsets) -> Option<Offsets> {
        let [interpreters_head] = self.members(&places.runtime, [8])?;
        let [next, threads_head] = self.members(&places.interpreter, [8; 2])?;
        let interpreter = InterpreterOffsets { next, threads_head };
        let [next, thread_id, frame] = self.members(&places.thread, [8; 3])?;
        let thread = ThreadOffsets { next, thread_id, frame, cframe: None };
        Some(Offsets {
            runtime: RuntimeOffsets { interpreters_head, ..known.runtime },
            interpreter,
            thread,
            frame: self.frame(places, known)?,
            code: self.code(places, known)?,
            objects: self.objects(places)?,
        })
    }

    fn frame(&self, places: &Places, known: &Offsets) -> Option<FrameOffsets> {
        let [code, previous, position, owner] = self.members(&places.frame, [8, 8, 8, 1])?;
        let needed = [code + 8, previous + 8, position + 8, owner + 1].into_iter().max()?;
        let size = needed.next_multiple_of(8);
        (size <= 128).then_some(())?;
        Some(FrameOffsets { size, code, previous, position, owner, ..known.frame })
    }

    fn code(&self, places: &Places, known: &Offsets) -> Option<CodeOffsets> {
        let [first_line, filename, name, qualname, line_table, instructions] =
            self.members(&places.code, [4, 8, 8, 8, 8, 1])?;
        let members = [first_line, filename, name, qualname, line_table];
        let precede = members.into_iter().all(|member| member < instructions);
        (precede && instructions <= 1024).then_some(CodeOffsets {
            first_line,
            filename,
            name,
            qualname: Some(qualname),
            line_table,
            instructions: Some(instructions),
            basic_size: instructions,
            ..known.code
        })
    }

    /// The places that all versions have in common are checked, not taken.
    fn objects(&self, places: &Places) -> Option<ObjectOffsets> {
        let [ob_type] = self.members(&places.ob_type, [8])?;
        let [ob_size, bytes_data] = self.members(&places.bytes, [8, 1])?;
        let [state, length, ascii_data] = self.members(&places.unicode, [4, 8, 8])?;
        let as_ever =
            (ob_type, ob_size, state, length) == (OB_TYPE, OB_SIZE, UNICODE_STATE, OB_SIZE);
        (as_ever && ascii_data <= 256).then_some(ObjectOffsets {
            ascii_data,
            compact_data: ascii_data + COMPACT_EXTRA_BYTES,
            bytes_data,
        })
    }
}

#[cfg(test)]
mod tests;
