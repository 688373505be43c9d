//! Which function a slot of the global offset table leads to.

use std::collections::BTreeMap;

use object::{
    LittleEndian as Le, ReadRef,
    elf::{
        R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT, Rela64,
        SHT_RELA, Sym64,
    },
    read::elf::{SectionHeader, Sym},
};

use super::{Elf, Machine, symbols::name_at};

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The functions that the dynamic linker binds for the file, by the address of the slot that it
    /// puts them into. A file that binds its own functions this way lets others come before them.
    pub fn imports(&self) -> BTreeMap<u64, &'d [u8]> {
        let kinds = match self.machine {
            Machine::X86_64 => [R_X86_64_JUMP_SLOT, R_X86_64_GLOB_DAT],
            Machine::Aarch64 => [R_AARCH64_JUMP_SLOT, R_AARCH64_GLOB_DAT],
        };
        let mut imports = BTreeMap::new();
        let tables = self.sections.iter().filter(|section| section.sh_type(Le) == SHT_RELA);
        for table in tables {
            let Ok(symbols) = self.sections.section(table.link(Le)) else { continue };
            let names = self.names_of(symbols);
            let symbols = symbols.data_as_array::<Sym64<Le>, R>(Le, self.data).unwrap_or_default();
            let entries = table.data_as_array::<Rela64<Le>, R>(Le, self.data).unwrap_or_default();
            for entry in entries.iter().filter(|entry| kinds.contains(&entry.r_type(Le, false))) {
                let name = symbols
                    .get(entry.r_sym(Le, false) as usize)
                    .and_then(|symbol| name_at(names, u64::from(symbol.st_name(Le))));
                imports.extend(name.map(|name| (entry.r_offset.get(Le), name)));
            }
        }
        imports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_binds_what_it_does_not_define() {
        let file = std::fs::read("/proc/self/exe").unwrap();
        let elf = Elf::parse(&*file).unwrap();
        let imports = elf.imports();
        let malloc = imports.iter().find(|(_, name)| **name == b"malloc").unwrap();
        assert!(*malloc.0 > 0);
        assert!(imports.values().all(|name| !name.is_empty()));
    }
}
