//! Symbols of any kind that a file defines: functions and data.

use object::{
    LittleEndian as Le, ReadRef,
    elf::{SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB, STT_FUNC, STT_OBJECT, Sym64},
    read::elf::{SectionHeader, Sym},
};

use super::{Elf, symbols::name_at};

/// A symbol that the file defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition<'d> {
    /// Its name.
    pub name: &'d [u8],
    /// Address as the file states it.
    pub address: u64,
    /// Length in bytes; 0 when the file does not tell.
    pub size_bytes: u64,
}

/// Which symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolTable {
    /// `.dynsym`: those that other objects may use.
    Dynamic,
    /// `.symtab`: all, local ones included; often stripped.
    Full,
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The functions and data that a table defines under a name that is wanted, in its order.
    /// `None` when the file does not have the table.
    pub fn definitions(
        &self,
        table: SymbolTable,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<Definition<'d>>> {
        let kind = match table {
            SymbolTable::Dynamic => SHT_DYNSYM,
            SymbolTable::Full => SHT_SYMTAB,
        };
        let section = self.sections.iter().find(|section| section.sh_type(Le) == kind)?;
        let symbols = section.data_as_array::<Sym64<Le>, R>(Le, self.data).ok()?;
        let names = self.names_of(section);
        let defined = symbols.iter().filter(|symbol| is_definition(symbol));
        let definitions = defined.filter_map(|symbol| {
            let name = name_at(names, u64::from(symbol.st_name(Le)))?;
            let (address, size_bytes) = (symbol.st_value(Le), symbol.st_size(Le));
            is_wanted(name).then_some(Definition { name, address, size_bytes })
        });
        Some(definitions.collect())
    }
}

fn is_definition(symbol: &Sym64<Le>) -> bool {
    symbol.st_shndx(Le) != SHN_UNDEF && matches!(symbol.st_type(), STT_FUNC | STT_OBJECT)
}

#[cfg(test)]
mod tests {
    use object::elf::{SHT_SYMTAB, STT_OBJECT};

    use super::{
        super::tests::{CODE_ADDRESS, TestElf, TestSymbol},
        *,
    };

    fn symbols() -> Vec<TestSymbol> {
        let data = TestSymbol { info: STT_OBJECT, ..TestSymbol::function("state", 8, 16) };
        let undefined = TestSymbol { section: SHN_UNDEF, ..TestSymbol::function("used", 0, 0) };
        vec![TestSymbol::function("run", 0, 4), data, undefined]
    }

    fn names(table: SymbolTable, symbol_table: u32) -> Option<Vec<(String, u64, u64)>> {
        let file = TestElf { symbols: symbols(), symbol_table, ..TestElf::default() }.build();
        let elf = Elf::parse(file.as_slice()).unwrap();
        let found = elf.definitions(table, |name| name != b"nobody")?;
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        Some(found.iter().map(|it| (text(it.name), it.address, it.size_bytes)).collect())
    }

    #[test]
    fn functions_and_data_are_found_and_what_is_only_used_is_not() {
        let expected =
            vec![("run".to_owned(), CODE_ADDRESS, 4), ("state".to_owned(), CODE_ADDRESS + 8, 16)];
        assert_eq!(names(SymbolTable::Dynamic, SHT_DYNSYM), Some(expected.clone()));
        assert_eq!(names(SymbolTable::Full, SHT_SYMTAB), Some(expected));
    }

    #[test]
    fn a_missing_table_is_told_from_an_empty_one() {
        assert_eq!(names(SymbolTable::Full, SHT_DYNSYM), None);
    }
}
