//! Functions by name.
//!
//! `.dynsym` first: it is what the dynamic linker binds callers to. `.symtab` adds what a
//! program that is statically linked, or does not export its allocator, defines.

use std::collections::BTreeMap;

use object::{
    LittleEndian as Le, ReadRef,
    elf::{
        DF_1_PIE, DT_FLAGS_1, DT_SONAME, ET_EXEC, PT_DYNAMIC, SHN_UNDEF, SHT_DYNSYM,
        SHT_GNU_VERSYM, SHT_SYMTAB, STB_GLOBAL, STB_WEAK, STT_FUNC, STT_GNU_IFUNC, SectionHeader64,
        Sym64, VERSYM_HIDDEN, Versym,
    },
    read::elf::{Dyn, ProgramHeader, SectionHeader, Sym},
};

use super::Elf;

/// A function that the file defines under one of the wanted names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The wanted name.
    pub name: &'static str,
    /// Address as the file states it.
    pub address: u64,
    /// Length; 0 when the file does not tell.
    pub size_bytes: u64,
    /// What is at the address.
    pub kind: SymbolKind,
}

/// A function that the file defines, by whatever name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFunction {
    /// Its name.
    pub name: String,
    /// Address as the file states it.
    pub address: u64,
    /// Length; 0 when the file does not tell.
    pub size_bytes: u64,
    /// What is at the address.
    pub kind: SymbolKind,
}

/// What a symbol's address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// The function's first instruction.
    Function,
    /// A resolver, which the dynamic linker calls once to choose among implementations: the
    /// symbol does not lead to the code that is called.
    Indirect,
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The definitions of `wanted` names, at most one for each, in no particular order.
    ///
    /// Undefined symbols do not count. Of several versions of a symbol the default one is taken,
    /// which is what programs were linked against since. Local symbols count in a statically
    /// linked program, where linkers make hidden functions local (glibc's `malloc` in a
    /// static-pie), and only if there is one of the name.
    pub fn functions(&self, wanted: &[&'static str]) -> Vec<Symbol> {
        let mut found = self.functions_of(SHT_DYNSYM, wanted, is_global);
        if self.may_hide_functions() {
            found.extend(self.functions_of(SHT_SYMTAB, &missing(wanted, &found), is_global));
        }
        if self.is_static_program() {
            found.extend(self.only_local_functions(&missing(wanted, &found)));
        }
        found
    }

    /// Whether it is a program that no dynamic linker starts.
    pub fn is_static_program(&self) -> bool {
        let is_program = self.header.e_type.get(Le) == ET_EXEC
            || self.dynamic_value(DT_FLAGS_1).is_some_and(|flags| flags & u64::from(DF_1_PIE) != 0);
        is_program && !self.has_interpreter()
    }

    /// The functions of any binding whose name is wanted, from both tables, each name once. A name
    /// that stands for several functions (local ones of several files) is left out: nobody can tell
    /// which is meant.
    pub fn functions_where(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<NamedFunction> {
        let mut found: BTreeMap<String, Vec<NamedFunction>> = BTreeMap::new();
        for table in [SHT_DYNSYM, SHT_SYMTAB] {
            for function in self.named_functions(table, &is_wanted) {
                let of_name = found.entry(function.name.clone()).or_default();
                if of_name.iter().all(|known| known.address != function.address) {
                    of_name.push(function);
                }
            }
        }
        found.into_values().filter(|of_name| of_name.len() == 1).flatten().collect()
    }

    fn named_functions(&self, table: u32, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<NamedFunction> {
        let Some(section) = self.sections.iter().find(|section| section.sh_type(Le) == table)
        else {
            return Vec::new();
        };
        let symbols = section.data_as_array::<Sym64<Le>, R>(Le, self.data).unwrap_or_default();
        let names = self.names_of(section);
        let named = symbols.iter().filter_map(|symbol| {
            let kind = function_kind(symbol)?;
            let name = name_at(names, u64::from(symbol.st_name(Le))).filter(|it| is_wanted(it))?;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let (address, size_bytes) = (symbol.st_value(Le), symbol.st_size(Le));
            Some(NamedFunction { name, address, size_bytes, kind })
        });
        named.collect()
    }

    fn only_local_functions(&self, wanted: &[&'static str]) -> Vec<Symbol> {
        let mut found = self.all_functions_of(SHT_SYMTAB, wanted, |symbol| !is_global(symbol));
        let names: Vec<_> = found.iter().map(|(symbol, _)| symbol.name).collect();
        found.retain(|(symbol, _)| names.iter().filter(|name| **name == symbol.name).count() == 1);
        found.into_iter().map(|(symbol, _)| symbol).collect()
    }

    /// In a shared library every global function is in `.dynsym` already; reading the `.symtab`
    /// of each would only cost time.
    fn may_hide_functions(&self) -> bool {
        self.header.e_type.get(Le) == ET_EXEC || self.soname().is_none()
    }

    /// `DT_SONAME`.
    pub fn soname(&self) -> Option<&'d [u8]> {
        name_at(self.section(".dynstr"), self.dynamic_value(DT_SONAME)?)
    }

    fn dynamic_value(&self, tag: i64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| segment.p_type(Le) == PT_DYNAMIC)?;
        let entries = segment.dynamic(Le, self.data).ok()??;
        Some(entries.iter().find(|entry| entry.d_tag(Le) == tag)?.d_val(Le))
    }

    /// The functions of a table, the default version of each.
    fn functions_of(
        &self,
        table: u32,
        wanted: &[&'static str],
        counts: fn(&Sym64<Le>) -> bool,
    ) -> Vec<Symbol> {
        let mut found: Vec<(Symbol, bool)> = Vec::new();
        for (function, is_default) in self.all_functions_of(table, wanted, counts) {
            match found.iter_mut().find(|(other, _)| other.name == function.name) {
                Some(known) if is_default && !known.1 => *known = (function, is_default),
                Some(_) => {}
                None => found.push((function, is_default)),
            }
        }
        found.into_iter().map(|(function, _)| function).collect()
    }

    /// Every definition of a wanted name, and whether it is the default version.
    fn all_functions_of(
        &self,
        table: u32,
        wanted: &[&'static str],
        counts: impl Fn(&Sym64<Le>) -> bool,
    ) -> Vec<(Symbol, bool)> {
        let Some((index, section)) =
            self.sections.enumerate().find(|(_, section)| section.sh_type(Le) == table)
        else {
            return Vec::new();
        };
        let symbols = section.data_as_array::<Sym64<Le>, R>(Le, self.data).unwrap_or_default();
        let names = self.names_of(section);
        let hidden = self.hidden_versions(index.0);
        let functions = symbols.iter().enumerate().filter(|(_, symbol)| counts(symbol));
        functions
            .filter_map(|(number, symbol)| {
                Some((wanted_function(symbol, names, wanted)?, !hidden(number)))
            })
            .collect()
    }

    /// The string table of a symbol table, read at once: a name at a time would be a read each.
    pub(super) fn names_of(&self, symbols: &SectionHeader64<Le>) -> &'d [u8] {
        let section = self.sections.section(symbols.link(Le));
        section.and_then(|section| section.data(Le, self.data)).unwrap_or_default()
    }

    /// Whether a symbol of the table with this section index is an old version of its name.
    fn hidden_versions(&self, table: usize) -> impl Fn(usize) -> bool + use<'d, R> {
        let section = self
            .sections
            .iter()
            .find(|section| section.sh_type(Le) == SHT_GNU_VERSYM && section.link(Le).0 == table);
        let versions = section
            .and_then(|section| section.data_as_array::<Versym<Le>, R>(Le, self.data).ok())
            .unwrap_or_default();
        move |symbol| {
            versions.get(symbol).is_some_and(|version| version.0.get(Le) & VERSYM_HIDDEN != 0)
        }
    }
}

fn is_global(symbol: &Sym64<Le>) -> bool {
    matches!(symbol.st_bind(), STB_GLOBAL | STB_WEAK)
}

/// The wanted names that are not found yet.
fn missing(wanted: &[&'static str], found: &[Symbol]) -> Vec<&'static str> {
    let is_missing = |name: &&str| found.iter().all(|symbol| symbol.name != *name);
    wanted.iter().copied().filter(is_missing).collect()
}

/// What a function's symbol leads to; `None` when it defines no function.
pub(super) fn function_kind(symbol: &Sym64<Le>) -> Option<SymbolKind> {
    match symbol.st_type() {
        _ if symbol.st_shndx(Le) == SHN_UNDEF => None,
        STT_FUNC => Some(SymbolKind::Function),
        STT_GNU_IFUNC => Some(SymbolKind::Indirect),
        _ => None,
    }
}

fn wanted_function(symbol: &Sym64<Le>, names: &[u8], wanted: &[&'static str]) -> Option<Symbol> {
    let kind = function_kind(symbol)?;
    let bytes = name_at(names, u64::from(symbol.st_name(Le)))?;
    let name = wanted.iter().copied().find(|name| name.as_bytes() == bytes)?;
    Some(Symbol { name, address: symbol.st_value(Le), size_bytes: symbol.st_size(Le), kind })
}

/// The NUL-terminated string at an offset of a string table.
pub(super) fn name_at(table: &[u8], offset: u64) -> Option<&[u8]> {
    let start = table.get(usize::try_from(offset).ok()?..)?;
    start.split(|byte| *byte == 0).next()
}
