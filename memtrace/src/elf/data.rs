//! Writable data as the file holds it, and the relocations that only add the load address.

use object::{
    LittleEndian as Le, ReadRef, U64,
    elf::{
        DT_NULL, DT_RELA, DT_RELASZ, DT_RELR, DT_RELRSZ, PF_W, PT_DYNAMIC, PT_LOAD,
        ProgramHeader64, R_AARCH64_RELATIVE, R_X86_64_RELATIVE, Rela64, Relr64,
    },
    read::elf::{Dyn as _, ProgramHeader as _, RelrIterator},
};

use super::{Elf, Machine};

/// A writable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSegment<'d> {
    /// Where it starts, as the file states addresses.
    pub address: u64,
    /// What the file holds of it; zeros follow.
    pub bytes: &'d [u8],
    /// Its size in memory.
    pub memory_bytes: u64,
}

/// A word of the loaded object that holds the address of another place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relative {
    /// Address of the word.
    pub place: u64,
    /// The address that it holds, before the load address is added.
    pub value: u64,
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The writable segments, the part that becomes read-only after relocation included.
    pub fn data_segments(&self) -> Vec<DataSegment<'d>> {
        let writable = self.loaded().filter(|segment| segment.p_flags(Le) & PF_W != 0);
        writable.filter_map(|segment| self.data_segment(segment)).collect()
    }

    fn data_segment(&self, segment: &ProgramHeader64<Le>) -> Option<DataSegment<'d>> {
        let bytes = segment.data(Le, self.data).ok()?;
        let (address, memory_bytes) = (segment.p_vaddr(Le), segment.p_memsz(Le));
        address.checked_add(memory_bytes.max(bytes.len() as u64))?;
        Some(DataSegment { address, bytes, memory_bytes })
    }

    /// What is to be added to the file's addresses when the page at `file_offset` is mapped at
    /// `address`. `None` when no segment has that page.
    pub fn load_bias(&self, file_offset: u64, address: u64) -> Option<u64> {
        let segment = self.loaded().find(|segment| {
            let start = segment.p_offset(Le) & !0xfff;
            let end = segment.p_offset(Le).saturating_add(segment.p_filesz(Le));
            (start..end).contains(&file_offset)
        })?;
        let in_file = segment.p_vaddr(Le).wrapping_sub(segment.p_offset(Le));
        Some(address.wrapping_sub(in_file.wrapping_add(file_offset)))
    }

    /// All relocations that add the load address alone (`DT_RELA` and `DT_RELR`).
    pub fn relative_relocations(&self) -> Vec<Relative> {
        let mut all = self.relative_in_rela();
        all.extend(self.relative_in_relr());
        all
    }

    fn relative_in_rela(&self) -> Vec<Relative> {
        let kind = match self.machine {
            Machine::X86_64 => R_X86_64_RELATIVE,
            Machine::Aarch64 => R_AARCH64_RELATIVE,
        };
        let entries: &[Rela64<Le>] = self.dynamic_table(DT_RELA, DT_RELASZ).unwrap_or_default();
        let relative = entries.iter().filter(|entry| entry.r_type(Le, false) == kind);
        relative
            .map(|entry| Relative {
                place: entry.r_offset.get(Le),
                value: entry.r_addend.get(Le) as u64,
            })
            .collect()
    }

    fn relative_in_relr(&self) -> Vec<Relative> {
        let words: &[Relr64<Le>] = self.dynamic_table(DT_RELR, DT_RELRSZ).unwrap_or_default();
        let segments = self.data_segments();
        let places = RelrIterator::<object::elf::FileHeader64<Le>>::new(Le, words);
        places
            .filter_map(|place| Some(Relative { place, value: word_in(&segments, place)? }))
            .collect()
    }

    fn dynamic_table<T: object::Pod>(&self, address: i64, size: i64) -> Option<&'d [T]> {
        let dynamic = self.segments.iter().find(|segment| segment.p_type(Le) == PT_DYNAMIC)?;
        let entries = dynamic.dynamic(Le, self.data).ok()??;
        let entries = entries.iter().take_while(|entry| entry.d_tag(Le) != DT_NULL);
        let mut found = (None, None);
        for entry in entries {
            match entry.d_tag(Le) {
                tag if tag == address => found.0 = Some(entry.d_val(Le)),
                tag if tag == size => found.1 = Some(entry.d_val(Le)),
                _ => {}
            }
        }
        let count = usize::try_from(found.1?).ok()? / size_of::<T>();
        self.data.read_slice_at(self.offset_of(found.0?)?, count).ok()
    }

    /// Where in the file the byte at an address is.
    fn offset_of(&self, address: u64) -> Option<u64> {
        self.loaded().find_map(|segment| {
            let at = address.checked_sub(segment.p_vaddr(Le))?;
            (at < segment.p_filesz(Le)).then(|| segment.p_offset(Le).checked_add(at))?
        })
    }

    fn loaded(&self) -> impl Iterator<Item = &'d ProgramHeader64<Le>> {
        self.segments.iter().filter(|segment| segment.p_type(Le) == PT_LOAD)
    }
}

fn word_in(segments: &[DataSegment<'_>], address: u64) -> Option<u64> {
    segments.iter().find_map(|segment| segment.word(address))
}

impl DataSegment<'_> {
    /// The 8 bytes at an address, where the file holds them.
    pub fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.address)?).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(8)?)?;
        Some(object::pod::from_bytes::<U64<Le>>(bytes).ok()?.0.get(Le))
    }
}
