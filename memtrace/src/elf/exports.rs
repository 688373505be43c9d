//! Exported data, and its bytes in the file.

use object::{
    LittleEndian as Le, ReadRef,
    elf::{PT_LOAD, SHN_UNDEF, SHT_DYNSYM, STT_OBJECT, SectionHeader64, Sym64},
    read::elf::{ProgramHeader, SectionHeader, Sym},
};

use super::Elf;

/// A data object that the file exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportedData {
    /// The wanted name.
    pub name: &'static str,
    /// Address as the file states it.
    pub address: u64,
    /// Its length.
    pub size_bytes: u64,
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The data objects of `.dynsym` under one of the wanted names.
    pub fn exported_data(&self, wanted: &[&'static str]) -> Vec<ExportedData> {
        let table = self.sections.iter().find(|section| section.sh_type(Le) == SHT_DYNSYM);
        table.map(|table| self.data_symbols(table, wanted)).unwrap_or_default()
    }

    fn data_symbols(
        &self,
        table: &SectionHeader64<Le>,
        wanted: &[&'static str],
    ) -> Vec<ExportedData> {
        let symbols = table.data_as_array::<Sym64<Le>, R>(Le, self.data).unwrap_or_default();
        let names = self.names_of(table);
        let is_data = |symbol: &&Sym64<Le>| {
            symbol.st_type() == STT_OBJECT && symbol.st_shndx(Le) != SHN_UNDEF
        };
        let named = |symbol: &Sym64<Le>| {
            let name = super::symbols::name_at(names, u64::from(symbol.st_name(Le)))?;
            let name = wanted.iter().copied().find(|wanted| wanted.as_bytes() == name)?;
            let (address, size_bytes) = (symbol.st_value(Le), symbol.st_size(Le));
            Some(ExportedData { name, address, size_bytes })
        };
        symbols.iter().filter(is_data).filter_map(named).collect()
    }

    /// What the file holds at an address of a loaded segment; `None` when it does not hold all of
    /// it (zeros that follow a segment's data are not in the file).
    pub fn bytes_at(&self, address: u64, size_bytes: u64) -> Option<&'d [u8]> {
        let end = address.checked_add(size_bytes)?;
        let segment = self.segments.iter().find(|segment| {
            let start = segment.p_vaddr(Le);
            let in_file = start.saturating_add(segment.p_filesz(Le));
            segment.p_type(Le) == PT_LOAD && start <= address && end <= in_file
        })?;
        let offset = segment.p_offset(Le).checked_add(address - segment.p_vaddr(Le))?;
        self.data.read_bytes_at(offset, size_bytes).ok()
    }

    /// The addresses, as the file states them, of the zeros that follow the data of its segments:
    /// anonymous memory (`.bss`).
    pub fn zeroed(&self) -> Vec<(u64, u64)> {
        let loaded = self.segments.iter().filter(|segment| segment.p_type(Le) == PT_LOAD);
        let zeroed = loaded.filter_map(|segment| {
            let start = segment.p_vaddr(Le).checked_add(segment.p_filesz(Le))?;
            Some((start, segment.p_vaddr(Le).checked_add(segment.p_memsz(Le))?))
        });
        zeroed.filter(|(start, end)| start < end).collect()
    }

    /// The lowest address of a loaded segment, as the file states it, rounded down to a page: what
    /// the first mapping of the file begins with.
    pub fn first_address(&self) -> Option<u64> {
        let loaded = self.segments.iter().filter(|segment| segment.p_type(Le) == PT_LOAD);
        loaded.map(|segment| segment.p_vaddr(Le) & !0xfff).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn bytes_are_found_by_their_address() {
        let file = own();
        let elf = Elf::parse(&*file).unwrap();
        let first = elf.first_address().unwrap();
        assert_eq!(elf.bytes_at(first, 4), Some(&b"\x7fELF"[..]));
        assert_eq!(elf.bytes_at(u64::MAX - 1, 4), None);
        assert_eq!(elf.bytes_at(1 << 60, 4), None);
    }

    #[test]
    fn the_c_library_exports_what_debuggers_need() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let libc = maps.lines().find_map(|line| {
            Some(&line[line.find("/")?..]).filter(|path| path.contains("libc.so.6"))
        });
        let file = std::fs::read(libc.unwrap()).unwrap();
        let elf = Elf::parse(&*file).unwrap();
        let found = elf.exported_data(&["_thread_db_pthread_list", "environ", "malloc"]);
        let names: Vec<_> = found.iter().map(|it| it.name).collect();
        assert!(names.contains(&"environ") && !names.contains(&"malloc"), "{names:?}");
        let list = found.iter().find(|it| it.name == "_thread_db_pthread_list").unwrap();
        assert_eq!(elf.bytes_at(list.address, list.size_bytes).unwrap().len(), 12);
        let (start, end) = elf.zeroed()[0];
        assert!(elf.bytes_at(start, end - start).is_none());
    }
}
