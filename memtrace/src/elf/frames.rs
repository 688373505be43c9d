//! Where the unwind information is, and which code it is for.

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian, Pointer};
use object::{
    LittleEndian as Le, ReadRef,
    elf::{PF_X, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64, SHF_COMPRESSED, SHT_NOBITS},
    read::elf::{ProgramHeader, SectionHeader},
};

use super::{Elf, ElfError};

/// Width of an address, of all supported machines.
const ADDRESS_BYTES: u8 = 8;

/// An executable segment, as far as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSegment {
    /// First address, as the file states it.
    pub address: u64,
    /// Where in the file that is.
    pub file_offset: u64,
    /// Length in the file; address and offset plus this do not overflow.
    pub size_bytes: u64,
}

/// Unwind information as the file holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSection<'d> {
    /// `.eh_frame` or `.debug_frame`, which differ in format.
    pub name: &'static str,
    /// First address, as the file states it.
    pub address: u64,
    /// Its bytes; maybe with others behind them.
    pub data: &'d [u8],
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The executable segments, in the file's order.
    pub fn code_segments(&self) -> impl Iterator<Item = CodeSegment> {
        let executable = |segment: &&ProgramHeader64<Le>| {
            segment.p_type(Le) == PT_LOAD && segment.p_flags(Le) & PF_X != 0
        };
        self.segments.iter().filter(executable).filter_map(|segment| {
            let size_bytes = segment.p_filesz(Le);
            let (address, file_offset) = (segment.p_vaddr(Le), segment.p_offset(Le));
            address.checked_add(size_bytes)?;
            file_offset.checked_add(size_bytes)?;
            Some(CodeSegment { address, file_offset, size_bytes })
        })
    }

    /// The unwind information: `.eh_frame`, found by its section header or by what the loader
    /// uses, and where there is none `.debug_frame`.
    ///
    /// Errors: [`ElfError::Compressed`].
    pub fn frame_section(&self) -> Result<Option<FrameSection<'d>>, ElfError> {
        if let Some(section) = self.named_frame_section(".eh_frame")? {
            return Ok(Some(section));
        }
        if let Some(section) = self.loaded_frame_section() {
            return Ok(Some(section));
        }
        self.named_frame_section(".debug_frame")
    }

    /// `None` also for one that holds no more than its terminator.
    fn named_frame_section(
        &self,
        name: &'static str,
    ) -> Result<Option<FrameSection<'d>>, ElfError> {
        let Some((_, header)) = self.sections.section_by_name(Le, name.as_bytes()) else {
            return Ok(None);
        };
        if header.sh_type(Le) == SHT_NOBITS {
            return Ok(None);
        }
        if header.sh_flags(Le) & u64::from(SHF_COMPRESSED) != 0 {
            return Err(ElfError::Compressed { section: name });
        }
        let data = header.data(Le, self.data).map_err(ElfError::damaged("section headers"))?;
        let section = FrameSection { name, address: header.sh_addr(Le), data };
        Ok((data.len() > size_of::<u32>()).then_some(section))
    }

    /// By `PT_GNU_EH_FRAME` (LSB core, `.eh_frame_hdr`), which files without section headers have.
    fn loaded_frame_section(&self) -> Option<FrameSection<'d>> {
        let header = self.segments.iter().find(|segment| segment.p_type(Le) == PT_GNU_EH_FRAME)?;
        let data = header.data(Le, self.data).ok()?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.p_vaddr(Le));
        let header = EhFrameHdr::new(data, LittleEndian).parse(&bases, ADDRESS_BYTES).ok()?;
        let Pointer::Direct(address) = header.eh_frame_ptr() else { return None };
        let data = self.loaded_from(address)?;
        Some(FrameSection { name: ".eh_frame", address, data })
    }

    /// The file's part of a segment, from an address on.
    fn loaded_from(&self, address: u64) -> Option<&'d [u8]> {
        let loaded = self.segments.iter().filter(|segment| segment.p_type(Le) == PT_LOAD);
        loaded.into_iter().find_map(|segment| {
            let at = usize::try_from(address.checked_sub(segment.p_vaddr(Le))?).ok()?;
            segment.data(Le, self.data).ok()?.get(at..).filter(|data| !data.is_empty())
        })
    }
}
