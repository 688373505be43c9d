//! What a file can name its code with, and where it says that more of it is.

use object::{
    LittleEndian as Le, ReadRef,
    elf::{SHT_DYNSYM, SHT_NOBITS, SHT_SYMTAB, SectionHeader64},
    read::elf::SectionHeader,
};

use super::Elf;

/// What of a file names code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NameSources {
    /// DWARF debug information (`.debug_info`): functions, inlined functions.
    pub debug_info: bool,
    /// DWARF line tables (`.debug_line`).
    pub lines: bool,
    /// `.symtab`: all functions.
    pub symtab: bool,
    /// `.dynsym`: functions that other objects may call.
    pub dynsym: bool,
    /// `.gnu_debugdata`: a `.symtab` compressed with xz, as Fedora's packages have it.
    pub mini_debug_info: bool,
}

/// The name and the checksum of a file with debug information, from `.gnu_debuglink`
/// (GDB manual, "Debugging Information in Separate Files").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugLink<'d> {
    /// File name without directories.
    pub name: &'d [u8],
    /// CRC-32 (as of zlib) of the whole file.
    pub crc32: u32,
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// What the file itself names its code with.
    pub fn name_sources(&self) -> NameSources {
        let has = |wanted: fn(&SectionHeader64<Le>) -> bool| self.sections.iter().any(wanted);
        NameSources {
            debug_info: self.has_contents(".debug_info") || self.has_contents(".zdebug_info"),
            lines: self.has_contents(".debug_line") || self.has_contents(".zdebug_line"),
            symtab: has(|section| section.sh_type(Le) == SHT_SYMTAB && section.sh_size(Le) > 0),
            dynsym: has(|section| section.sh_type(Le) == SHT_DYNSYM && section.sh_size(Le) > 0),
            mini_debug_info: self.has_contents(".gnu_debugdata"),
        }
    }

    /// Where the file says that its debug information is; `None` also for a link that would lead
    /// out of the directories that are searched.
    pub fn debug_link(&self) -> Option<DebugLink<'d>> {
        let section = self.section(".gnu_debuglink");
        let length = section.iter().position(|byte| *byte == 0)?;
        let crc_at = (length + 1).next_multiple_of(4);
        let crc = section.get(crc_at..)?.first_chunk::<4>()?;
        let name = &section[..length];
        let leads_elsewhere = name.is_empty() || name.contains(&b'/');
        (!leads_elsewhere).then_some(DebugLink { name, crc32: u32::from_le_bytes(*crc) })
    }

    /// Files of debug information keep the headers of the sections that they leave out.
    fn has_contents(&self, name: &str) -> bool {
        let section = self.sections.section_by_name(Le, name.as_bytes());
        section.is_some_and(|(_, section)| {
            section.sh_type(Le) != SHT_NOBITS && section.sh_size(Le) > 0
        })
    }
}
