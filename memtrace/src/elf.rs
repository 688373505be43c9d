//! What memtrace needs to know of an ELF file: which machine, which functions, where they are in
//! the file, and what build it is.
//!
//! Pure: works on bytes, or on anything else that `object` reads from, and takes every length and
//! offset in them for hostile.

mod data;
mod definitions;
mod exports;
mod extents;
mod frames;
mod imports;
mod names;
mod symbols;

use object::{
    LittleEndian as Le, ReadRef,
    elf::{
        ELFCLASS32, ELFCLASS64, ELFDATA2LSB, ELFDATA2MSB, ELFMAG, EM_386, EM_AARCH64, EM_ARM,
        EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, FileHeader64, NT_GNU_BUILD_ID, PF_X, PT_INTERP,
        PT_LOAD, PT_NOTE, ProgramHeader64,
    },
    read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable},
};
use thiserror::Error;

pub use self::{
    data::{DataSegment, Relative},
    definitions::{Definition, SymbolTable},
    exports::ExportedData,
    extents::Extent,
    frames::{CodeSegment, FrameSection},
    names::{DebugLink, NameSources},
    symbols::{NamedFunction, Symbol, SymbolKind},
};

/// An ELF file of a machine that memtrace supports.
pub struct Elf<'d, R: ReadRef<'d>> {
    data: R,
    header: &'d FileHeader64<Le>,
    segments: &'d [ProgramHeader64<Le>],
    sections: SectionTable<'d, FileHeader64<Le>, R>,
    machine: Machine,
}

/// A supported machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86-64, 64-bit pointers.
    X86_64,
    /// AArch64, little-endian, 64-bit pointers.
    Aarch64,
}

/// The GNU build ID, and where its note is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildId {
    /// The ID; 20 bytes as most linkers make it.
    pub id: Vec<u8>,
    /// File offset of the segment of notes that it is in.
    pub notes_offset: u64,
    /// That segment.
    pub notes: Vec<u8>,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ElfError {
    /// It does not start with the ELF magic.
    #[error("it is not an ELF file")]
    NotElf,
    /// It is for a machine that memtrace has no probes for.
    #[error(
        "it is a {found} program; memtrace traces 64-bit little-endian x86-64 and AArch64 programs"
    )]
    UnsupportedMachine {
        /// What it is.
        found: String,
    },
    /// Its headers contradict each other or the file's length.
    #[error("its ELF {part} are damaged: {reason}")]
    Damaged {
        /// Which headers.
        part: &'static str,
        /// What `object` says.
        reason: String,
    },
    /// A section that is needed as it is.
    #[error("its {section} is compressed")]
    Compressed {
        /// Which one.
        section: &'static str,
    },
    /// An address range that no executable segment holds in the file.
    #[error("{size_bytes} bytes at {address:#x} are in no executable segment of the file")]
    NotInFile {
        /// Start of the range, as the file states addresses.
        address: u64,
        /// Its length.
        size_bytes: u64,
    },
}

impl ElfError {
    fn damaged(part: &'static str) -> impl FnOnce(object::Error) -> Self {
        move |error| Self::Damaged { part, reason: error.to_string() }
    }
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// Reads the headers.
    ///
    /// A file without (readable) section headers is accepted; it has no symbols.
    pub fn parse(data: R) -> Result<Self, ElfError> {
        let machine = machine(data)?;
        let header = FileHeader64::<Le>::parse(data).map_err(ElfError::damaged("file header"))?;
        let segments =
            header.program_headers(Le, data).map_err(ElfError::damaged("program headers"))?;
        let sections = header.sections(Le, data).unwrap_or_default();
        Ok(Self { data, header, segments, sections, machine })
    }

    /// The machine that the code is for.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Whether a dynamic linker is asked for. A program without one is statically linked.
    pub fn has_interpreter(&self) -> bool {
        self.segments.iter().any(|segment| segment.p_type(Le) == PT_INTERP)
    }

    /// Whether the Go linker made it: it writes one of these sections even when stripping.
    /// Source: cmd/link/internal/ld/data.go.
    pub fn is_go(&self) -> bool {
        [".go.buildinfo", ".note.go.buildid"].iter().any(|name| self.has_section(name.as_bytes()))
    }

    /// The build ID, where the linker wrote one.
    pub fn build_id(&self) -> Option<BuildId> {
        let notes = self.segments.iter().filter(|segment| segment.p_type(Le) == PT_NOTE);
        notes.into_iter().find_map(|segment| {
            let id = self.build_id_in(segment)?;
            let notes = segment.data(Le, self.data).ok()?.to_vec();
            Some(BuildId { id, notes_offset: segment.p_offset(Le), notes })
        })
    }

    fn build_id_in(&self, segment: &ProgramHeader64<Le>) -> Option<Vec<u8>> {
        let mut notes = segment.notes(Le, self.data).ok()??;
        while let Ok(Some(note)) = notes.next() {
            if note.name() == b"GNU" && note.n_type(Le) == NT_GNU_BUILD_ID {
                return Some(note.desc().to_vec());
            }
        }
        None
    }

    /// The bytes of a section, empty when there is none (or its bounds are damaged).
    pub fn section(&self, name: &str) -> &'d [u8] {
        let section = self.sections.section_by_name(Le, name.as_bytes());
        section.and_then(|(_, section)| section.data(Le, self.data).ok()).unwrap_or_default()
    }

    fn has_section(&self, name: &[u8]) -> bool {
        self.sections.section_by_name(Le, name).is_some()
    }

    /// Where in the file the code at an address is; `None` outside of executable segments.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let segment = self.executable_segment(address)?;
        Some(address - segment.p_vaddr(Le) + segment.p_offset(Le))
    }

    /// Up to `size_bytes` of code at an address; less at the end of the segment.
    ///
    /// Errors: [`ElfError::NotInFile`].
    pub fn code(&self, address: u64, size_bytes: u64) -> Result<&'d [u8], ElfError> {
        let not_in_file = ElfError::NotInFile { address, size_bytes };
        let segment = self.executable_segment(address).ok_or(not_in_file.clone())?;
        let at = address - segment.p_vaddr(Le);
        let offset = segment.p_offset(Le).checked_add(at).ok_or(not_in_file.clone())?;
        let available = (segment.p_filesz(Le) - at).min(size_bytes);
        self.data.read_bytes_at(offset, available).map_err(|()| not_in_file)
    }

    /// Code around an address: the part of its segment within `reach_bytes`, with the address
    /// that it starts at. Empty when the file does not hold it.
    pub fn code_around(&self, address: u64, reach_bytes: u64) -> (u64, &'d [u8]) {
        let Some(segment) = self.executable_segment(address) else { return (address, &[]) };
        let start = address.saturating_sub(reach_bytes).max(segment.p_vaddr(Le));
        let size = (address - start).saturating_add(reach_bytes);
        (start, self.code(start, size).unwrap_or_default())
    }

    fn executable_segment(&self, address: u64) -> Option<&'d ProgramHeader64<Le>> {
        self.segments.iter().find(|segment| {
            let start = segment.p_vaddr(Le);
            segment.p_type(Le) == PT_LOAD
                && segment.p_flags(Le) & PF_X != 0
                && address.checked_sub(start).is_some_and(|at| at < segment.p_filesz(Le))
                && start.checked_add(segment.p_filesz(Le)).is_some()
                && segment.p_offset(Le).checked_add(segment.p_filesz(Le)).is_some()
        })
    }
}

/// Checks `e_ident` and `e_machine`, whose places are the same in every class.
fn machine<'d, R: ReadRef<'d>>(data: R) -> Result<Machine, ElfError> {
    let start = data.read_bytes_at(0, 20).map_err(|()| ElfError::NotElf)?;
    let &[m0, m1, m2, m3, class, order, ..] = start else { return Err(ElfError::NotElf) };
    if [m0, m1, m2, m3] != ELFMAG {
        return Err(ElfError::NotElf);
    }
    let number = match order {
        ELFDATA2MSB => u16::from_be_bytes([start[18], start[19]]),
        _ => u16::from_le_bytes([start[18], start[19]]),
    };
    match (class, order, number) {
        (ELFCLASS64, ELFDATA2LSB, EM_X86_64) => Ok(Machine::X86_64),
        (ELFCLASS64, ELFDATA2LSB, EM_AARCH64) => Ok(Machine::Aarch64),
        _ => Err(ElfError::UnsupportedMachine { found: describe(class, order, number) }),
    }
}

/// `32-bit little-endian x86`.
fn describe(class: u8, order: u8, machine: u16) -> String {
    let bits = match class {
        ELFCLASS32 => "32-bit",
        ELFCLASS64 => "64-bit",
        _ => "unknown-class",
    };
    let order = match order {
        ELFDATA2LSB => "little-endian",
        ELFDATA2MSB => "big-endian",
        _ => "unknown-endian",
    };
    let machine = match machine {
        EM_386 => "x86".to_owned(),
        EM_X86_64 => "x86-64".to_owned(),
        EM_ARM => "ARM".to_owned(),
        EM_AARCH64 => "AArch64".to_owned(),
        EM_RISCV => "RISC-V".to_owned(),
        EM_PPC64 => "PowerPC".to_owned(),
        EM_S390 => "s390".to_owned(),
        other => format!("machine-{other}"),
    };
    format!("{bits} {order} {machine}")
}

#[cfg(test)]
pub(crate) mod tests;
