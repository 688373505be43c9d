//! Reading code objects, and the strings and tables that they lead to.

use std::sync::Arc;

use super::{
    super::objects::{self, Extent, HEADER_BYTES, Header, half_word, word},
    Objects,
    batch::read_all,
};
use crate::{
    model::{
        memory::TargetMemory,
        stack::{Frame, Language},
    },
    runtime::python::offsets::{OB_SIZE, OB_TYPE},
};

/// The most bytes of names and tables read at once, for one stack.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// The most lines of a function whose frames are kept.
const MAX_KEPT_LINES: usize = 256;

/// The most bytes of [`Identity::constants`]: of 3.8 to 3.10, `co_argcount` to `co_names`.
const CONSTANT_BYTES: usize = 56;

/// Bytes of an instruction without operands, and of what precedes the first.
const CODE_UNIT_BYTES: u64 = 2;

/// All that makes a code object what it is and never changes: numbers, and the addresses of
/// what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// From `ob_size` on: number of instructions (3.11 and later) or arguments, flags, constants,
    /// names.
    constants: [u8; CONSTANT_BYTES],
    /// `co_firstlineno`.
    pub(super) first_line: i32,
    filename: u64,
    name: u64,
    qualname: Option<u64>,
    line_table: u64,
}

impl Identity {
    /// Whether an instruction can be at this offset (3.11 and later: `ob_size` is the number of
    /// code units). One unit before the first: not started.
    pub(super) fn may_be_at(&self, offset: i64) -> bool {
        let size_bytes = word(&self.constants, 0).saturating_mul(CODE_UNIT_BYTES);
        let from_before = offset.wrapping_add(CODE_UNIT_BYTES.cast_signed()).cast_unsigned();
        from_before < size_bytes.saturating_add(CODE_UNIT_BYTES)
    }

    /// Whether it may be CPython's own code: `_Py_InitCleanup`, whose frame is below `__init__`
    /// (3.12 and later, Python/specialize.c), has its name for its file, and no lines.
    pub(super) fn is_shim(&self) -> bool {
        self.filename == self.name
    }

    /// What has an object's header: the strings, then the table.
    fn contents(&self) -> [u64; 3] {
        [self.filename, self.qualname.unwrap_or(self.name), self.line_table]
    }
}

/// What is known of a code object.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Of which object.
    pub(super) identity: Identity,
    /// Its line table.
    pub(super) line_table: Box<[u8]>,
    without_line: Frame,
    frames: Vec<Arc<Frame>>,
}

impl Names {
    /// The function at a line.
    pub(super) fn frame(&mut self, line: Option<u32>) -> Arc<Frame> {
        if let Some(known) = self.frames.iter().find(|frame| frame.line == line) {
            return known.clone();
        }
        let frame = Arc::new(Frame { line, ..self.without_line.clone() });
        if self.frames.len() < MAX_KEPT_LINES {
            self.frames.push(frame.clone());
        }
        frame
    }
}

/// Reads code objects of one process.
pub(super) struct Reader<'a, M> {
    /// Where they have what.
    pub(super) objects: &'a Objects,
    /// Where they are.
    pub(super) memory: &'a M,
}

impl<M: TargetMemory> Reader<'_, M> {
    /// What the objects at these addresses are now; without those that cannot be read, or are no
    /// code objects. In the same order.
    pub(super) fn identities(&self, codes: &[u64]) -> Vec<(u64, Identity)> {
        let size = self.objects.offsets.code.basic_size as usize;
        let read = read_all(self.memory, codes.iter().map(|code| (*code, size)));
        let identities = codes.iter().zip(read);
        identities.filter_map(|(code, bytes)| Some((*code, self.identity(&bytes?)?))).collect()
    }

    fn identity(&self, bytes: &[u8]) -> Option<Identity> {
        let offsets = &self.objects.offsets.code;
        (word(bytes, OB_TYPE) == self.objects.code_type).then_some(())?;
        let mut constants = [0; CONSTANT_BYTES];
        let never_changes = bytes.get(OB_SIZE as usize..offsets.constant_end as usize)?;
        constants.get_mut(..never_changes.len())?.copy_from_slice(never_changes);
        Some(Identity {
            constants,
            first_line: half_word(bytes, offsets.first_line).cast_signed(),
            filename: word(bytes, offsets.filename),
            name: word(bytes, offsets.name),
            qualname: offsets.qualname.map(|qualname| word(bytes, qualname)),
            line_table: word(bytes, offsets.line_table),
        })
    }

    /// The names of these code objects; without those that have none, or are others by now.
    pub(super) fn names(&self, codes: &[(u64, Identity)]) -> Vec<(u64, Names)> {
        let contents = self.contents(codes);
        let named = codes.iter().zip(contents.chunks(3));
        let mut named: Vec<_> = named
            .filter_map(|((code, identity), contents)| Some((*code, names(identity, contents)?)))
            .collect();
        // An object that was replaced while its names were read may have lent some of them.
        let codes: Vec<u64> = named.iter().map(|(code, _)| *code).collect();
        let now = self.identities(&codes);
        named
            .retain(|(code, names)| now.iter().any(|it| (it.0, &it.1) == (*code, &names.identity)));
        named
    }

    /// What the three contents of each code object hold.
    fn contents(&self, codes: &[(u64, Identity)]) -> Vec<Option<(Vec<u8>, Extent)>> {
        let addresses: Vec<u64> =
            codes.iter().flat_map(|(_, identity)| identity.contents()).collect();
        let headers = read_all(self.memory, addresses.iter().map(|it| (*it, HEADER_BYTES)));
        let mut left_bytes = MAX_BATCH_BYTES;
        let extents: Vec<Option<Extent>> = addresses
            .iter()
            .zip(headers)
            .enumerate()
            .map(|(index, (address, header))| {
                let extent = self.extent(*address, &header?, index % 3 == 2)?;
                left_bytes = left_bytes.checked_sub(extent.size_bytes)?;
                Some(extent)
            })
            .collect();
        let wanted = extents.iter().flatten().map(|extent| (extent.address, extent.size_bytes));
        let mut read = read_all(self.memory, wanted).into_iter();
        let with_contents = |extent: Option<Extent>| {
            let extent = extent?;
            Some((read.next()??, extent))
        };
        extents.into_iter().map(with_contents).collect()
    }

    fn extent(&self, address: u64, header: &[u8], is_table: bool) -> Option<Extent> {
        let header = Header(*header.first_chunk()?);
        let (wanted_type, offsets) = match is_table {
            true => (self.objects.bytes_type, &self.objects.offsets.objects),
            false => (self.objects.string_type, &self.objects.offsets.objects),
        };
        (header.object_type() == wanted_type).then_some(())?;
        if is_table { header.bytes(address, offsets) } else { header.string(address, offsets) }
    }
}

fn names(identity: &Identity, contents: &[Option<(Vec<u8>, Extent)>]) -> Option<Names> {
    let [Some(filename), Some(function), Some((line_table, _))] = contents else { return None };
    let text = |(bytes, extent): &(Vec<u8>, Extent)| objects::text(bytes, extent.character_bytes);
    let file = text(filename)?;
    let without_line = Frame {
        function: text(function)?,
        module: file.rsplit('/').next().unwrap_or(&file).to_owned(),
        file: Some(file),
        line: None,
        inlined: false,
        language: Language::Python,
    };
    let line_table = line_table.as_slice().into();
    Some(Names { identity: identity.clone(), line_table, without_line, frames: Vec::new() })
}
