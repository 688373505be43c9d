//! On small files that are put together here, and on damaged ones.

use std::fs;

use object::elf::{
    DT_SONAME, EM_ARM, ET_DYN, ET_EXEC, PT_DYNAMIC, SHF_COMPRESSED, SHN_UNDEF, SHT_DYNSYM,
    SHT_GNU_VERSYM, SHT_NULL, SHT_PROGBITS, SHT_STRTAB, SHT_SYMTAB, STB_LOCAL, STB_WEAK,
    STT_GNU_IFUNC, STT_OBJECT, VERSYM_HIDDEN,
};
use proptest::prelude::*;

use super::*;

/// Where [`TestElf`] puts code: file offset and address differ, as in real files.
pub(crate) const CODE_OFFSET: u64 = 0x1000;
pub(crate) const CODE_ADDRESS: u64 = 0x40_1000;
pub(crate) const NOTE_OFFSET: usize = 0x200;
const DYNAMIC_OFFSET: usize = 0x300;

/// An ELF file with code, functions, a build ID and `.rodata`.
#[derive(Clone)]
pub(crate) struct TestElf {
    pub(crate) machine: u16,
    pub(crate) build_id: Vec<u8>,
    pub(crate) code: Vec<u8>,
    pub(crate) rodata: Vec<u8>,
    pub(crate) symbols: Vec<TestSymbol>,
    /// Name and content.
    pub(crate) extra_section: Option<(&'static str, Vec<u8>)>,
    pub(crate) soname: Option<&'static str>,
    pub(crate) has_interpreter: bool,
    /// `e_type`.
    pub(crate) kind: u16,
    /// Section type of the symbol table.
    pub(crate) symbol_table: u32,
}

#[derive(Clone)]
pub(crate) struct TestSymbol {
    pub(crate) name: &'static str,
    pub(crate) info: u8,
    pub(crate) section: u16,
    pub(crate) at: u64,
    pub(crate) size: u64,
    pub(crate) version: u16,
}

impl TestSymbol {
    /// A global function at an offset of the code.
    pub(crate) fn function(name: &'static str, at: u64, size: u64) -> Self {
        Self { name, info: STB_GLOBAL_FUNC, section: 1, at, size, version: 1 }
    }
}

const STB_GLOBAL_FUNC: u8 = 1 << 4 | 2;

impl Default for TestElf {
    fn default() -> Self {
        Self {
            machine: EM_X86_64,
            build_id: vec![0xab; 20],
            code: vec![0x90; 64],
            rodata: Vec::new(),
            symbols: Vec::new(),
            extra_section: None,
            soname: None,
            has_interpreter: true,
            kind: ET_DYN,
            symbol_table: SHT_DYNSYM,
        }
    }
}

struct Section {
    name: &'static str,
    kind: u32,
    offset: usize,
    size: usize,
    link: u32,
}

impl TestElf {
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut file = vec![0; CODE_OFFSET as usize];
        let mut sections = vec![Section::new("", SHT_NULL, 0, 0, 0)];
        let mut add = |file: &mut Vec<u8>, name, kind, link, bytes: &[u8]| {
            file.resize(file.len().next_multiple_of(8), 0);
            sections.push(Section::new(name, kind, file.len(), bytes.len(), link));
            file.extend_from_slice(bytes);
        };
        let (symbols, names, versions) = self.symbol_tables();
        add(&mut file, ".text", SHT_PROGBITS, 0, &self.code);
        add(&mut file, ".rodata", SHT_PROGBITS, 0, &self.rodata);
        add(&mut file, ".dynsym", self.symbol_table, 4, &symbols);
        add(&mut file, ".dynstr", SHT_STRTAB, 0, &names);
        add(&mut file, ".gnu.version", SHT_GNU_VERSYM, 3, &versions);
        if let Some((name, content)) = &self.extra_section {
            add(&mut file, name, SHT_PROGBITS, 0, content);
        }
        add(&mut file, ".shstrtab", SHT_STRTAB, 0, &[0; 128]);
        put(&mut file, NOTE_OFFSET, &self.note());
        put(&mut file, DYNAMIC_OFFSET, &DT_SONAME.to_le_bytes());
        put(&mut file, DYNAMIC_OFFSET + 8, &1u64.to_le_bytes());
        put(&mut file, 16, &self.kind.to_le_bytes());
        finish(file, self.machine, &self.segments(), &sections)
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        let size = self.code.len() as u64;
        let note = self.note().len() as u64;
        let mut segments = vec![
            segment(PT_LOAD, PF_X | 4, CODE_OFFSET, CODE_ADDRESS, size),
            segment(PT_NOTE, 4, NOTE_OFFSET as u64, NOTE_OFFSET as u64, note),
        ];
        if self.soname.is_some() {
            let dynamic = DYNAMIC_OFFSET as u64;
            segments.push(segment(PT_DYNAMIC, 4, dynamic, dynamic, 32));
        }
        if self.has_interpreter {
            segments.push(segment(PT_INTERP, 4, 0, 0, 0));
        }
        segments
    }

    fn symbol_tables(&self) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (mut symbols, mut names, mut versions) = (vec![0; 24], vec![0], vec![0, 0]);
        names.extend(self.soname.unwrap_or_default().as_bytes());
        names.push(0);
        for symbol in &self.symbols {
            symbols.extend((names.len() as u32).to_le_bytes());
            symbols.extend([symbol.info, 0]);
            symbols.extend(symbol.section.to_le_bytes());
            symbols.extend((CODE_ADDRESS + symbol.at).to_le_bytes());
            symbols.extend(symbol.size.to_le_bytes());
            names.extend(symbol.name.as_bytes());
            names.push(0);
            versions.extend(symbol.version.to_le_bytes());
        }
        (symbols, names, versions)
    }

    fn note(&self) -> Vec<u8> {
        let mut note = Vec::new();
        note.extend(4u32.to_le_bytes());
        note.extend((self.build_id.len() as u32).to_le_bytes());
        note.extend(NT_GNU_BUILD_ID.to_le_bytes());
        note.extend(b"GNU\0");
        note.extend(&self.build_id);
        note
    }
}

impl Section {
    fn new(name: &'static str, kind: u32, offset: usize, size: usize, link: u32) -> Self {
        Self { name, kind, offset, size, link }
    }
}

/// Adds section names, section headers, program headers and the file header.
fn finish(mut file: Vec<u8>, machine: u16, segments: &[Vec<u8>], sections: &[Section]) -> Vec<u8> {
    let names_at = sections.last().unwrap().offset;
    let mut name_offset = 1;
    let mut headers = Vec::new();
    for section in sections {
        let start = names_at + name_offset;
        file[start..start + section.name.len()].copy_from_slice(section.name.as_bytes());
        let entry_size = match section.kind {
            SHT_DYNSYM | SHT_SYMTAB => 24u64,
            _ => 0,
        };
        headers.extend((name_offset as u32).to_le_bytes());
        headers.extend(section.kind.to_le_bytes());
        for word in [0, 0, section.offset as u64, section.size as u64] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(section.link.to_le_bytes());
        headers.extend(0u32.to_le_bytes());
        headers.extend(1u64.to_le_bytes());
        headers.extend(entry_size.to_le_bytes());
        name_offset += section.name.len() + 1;
    }
    file.resize(file.len().next_multiple_of(8), 0);
    let headers_at = file.len() as u64;
    file.extend(headers);
    put(&mut file, 0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(&mut file, 18, &machine.to_le_bytes());
    put(&mut file, 20, &1u32.to_le_bytes());
    put(&mut file, 32, &64u64.to_le_bytes());
    put(&mut file, 40, &headers_at.to_le_bytes());
    let counts = [64, 56, segments.len(), 64, sections.len(), sections.len() - 1];
    for (index, half) in counts.into_iter().enumerate() {
        put(&mut file, 52 + 2 * index, &(half as u16).to_le_bytes());
    }
    put(&mut file, 64, &segments.concat());
    file
}

fn segment(kind: u32, flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(kind.to_le_bytes());
    header.extend(flags.to_le_bytes());
    for word in [offset, address, address, size, size, 4] {
        header.extend(word.to_le_bytes());
    }
    header
}

fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

fn names(symbols: &[Symbol]) -> Vec<&str> {
    symbols.iter().map(|symbol| symbol.name).collect()
}

#[test]
fn code_is_found_by_address_and_by_file_offset() {
    let test = TestElf { code: (0..64).collect(), ..TestElf::default() };
    let file = test.build();
    let elf = Elf::parse(file.as_slice()).unwrap();
    assert_eq!(elf.machine(), Machine::X86_64);
    assert_eq!(elf.file_offset(CODE_ADDRESS + 7), Some(CODE_OFFSET + 7));
    assert_eq!(elf.file_offset(CODE_ADDRESS + 64), None);
    assert_eq!(elf.file_offset(CODE_ADDRESS - 1), None);
    assert_eq!(elf.code(CODE_ADDRESS + 8, 4).unwrap(), [8, 9, 10, 11]);
    assert_eq!(elf.code(CODE_ADDRESS + 62, 100).unwrap(), [62, 63]);
    assert!(matches!(elf.code(0, 4), Err(ElfError::NotInFile { address: 0, size_bytes: 4 })));
    let (start, around) = elf.code_around(CODE_ADDRESS + 10, 4);
    assert_eq!((start, around), (CODE_ADDRESS + 6, &test.code[6..14]));
    assert_eq!(elf.code_around(CODE_ADDRESS + 10, u64::MAX).1, test.code);
}

#[test]
fn the_build_id_is_read_with_its_note() {
    let file = TestElf::default().build();
    let build_id = Elf::parse(file.as_slice()).unwrap().build_id().unwrap();
    assert_eq!(build_id.id, vec![0xab; 20]);
    assert_eq!(build_id.notes_offset, NOTE_OFFSET as u64);
    assert_eq!(build_id.notes, file[NOTE_OFFSET..NOTE_OFFSET + 36]);
}

#[test]
fn defined_global_functions_are_found_and_others_are_not() {
    let object = TestSymbol { info: 1 << 4 | STT_OBJECT, ..TestSymbol::function("brk", 0, 8) };
    let local = TestSymbol { info: STB_LOCAL << 4 | 2, ..TestSymbol::function("sbrk", 0, 8) };
    let undefined = TestSymbol { section: SHN_UNDEF, ..TestSymbol::function("mmap", 0, 0) };
    let resolver =
        TestSymbol { info: 1 << 4 | STT_GNU_IFUNC, ..TestSymbol::function("free", 8, 4) };
    let weak = TestSymbol { info: STB_WEAK << 4 | 2, ..TestSymbol::function("malloc", 16, 0) };
    let symbols = vec![object, local, undefined, resolver, weak];
    let file = TestElf { symbols, ..TestElf::default() }.build();
    let elf = Elf::parse(file.as_slice()).unwrap();
    let found = elf.functions(&["brk", "sbrk", "mmap", "free", "malloc", "calloc"]);
    assert_eq!(names(&found), ["free", "malloc"]);
    assert_eq!(found[0].kind, SymbolKind::Indirect);
    assert_eq!(found[1].kind, SymbolKind::Function);
    assert_eq!((found[1].address, found[1].size_bytes), (CODE_ADDRESS + 16, 0));
}

#[test]
fn a_static_programs_only_local_function_of_a_name_is_found() {
    let local = |name, at| TestSymbol { info: 2, ..TestSymbol::function(name, at, 8) };
    let symbols = vec![
        local("malloc", 8),
        local("brk", 0),
        local("brk", 16),
        local("free", 0),
        TestSymbol::function("free", 24, 8),
    ];
    let program = TestElf {
        symbols,
        has_interpreter: false,
        kind: ET_EXEC,
        symbol_table: SHT_SYMTAB,
        ..TestElf::default()
    };
    let found = |test: &TestElf| {
        let file = test.build();
        let elf = Elf::parse(file.as_slice()).unwrap();
        let found = elf.functions(&["malloc", "brk", "free"]);
        found.into_iter().map(|symbol| (symbol.name, symbol.address)).collect::<Vec<_>>()
    };
    assert_eq!(found(&program), [("free", CODE_ADDRESS + 24), ("malloc", CODE_ADDRESS + 8)]);
    let dynamic = TestElf { has_interpreter: true, ..program.clone() };
    assert_eq!(found(&dynamic), [("free", CODE_ADDRESS + 24)]);
    let library = TestElf { kind: ET_DYN, ..program };
    assert_eq!(found(&library), [("free", CODE_ADDRESS + 24)]);
}

#[test]
fn the_default_version_of_a_symbol_wins_over_old_ones() {
    let old =
        |at| TestSymbol { version: 2 | VERSYM_HIDDEN, ..TestSymbol::function("realloc", at, 8) };
    let current = TestSymbol { version: 3, ..TestSymbol::function("realloc", 32, 8) };
    for symbols in [vec![old(0), current.clone(), old(8)], vec![current.clone(), old(0)]] {
        let file = TestElf { symbols, ..TestElf::default() }.build();
        let found = Elf::parse(file.as_slice()).unwrap().functions(&["realloc"]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address, CODE_ADDRESS + 32);
    }
}

#[test]
fn the_soname_and_the_interpreter_are_read() {
    let test = TestElf { soname: Some("libx.so.1"), ..TestElf::default() };
    let file = test.build();
    let elf = Elf::parse(file.as_slice()).unwrap();
    assert_eq!(elf.soname(), Some(&b"libx.so.1"[..]));
    assert!(elf.has_interpreter());
    let file = TestElf { has_interpreter: false, ..TestElf::default() }.build();
    let elf = Elf::parse(file.as_slice()).unwrap();
    assert!(elf.soname().is_none() && !elf.has_interpreter());
}

#[test]
fn go_is_known_by_its_sections() {
    let file = TestElf::default().build();
    assert!(!Elf::parse(file.as_slice()).unwrap().is_go());
    let extra_section = Some((".go.buildinfo", vec![0; 16]));
    let file = TestElf { extra_section, ..TestElf::default() }.build();
    assert!(Elf::parse(file.as_slice()).unwrap().is_go());
}

#[test]
fn executable_segments_are_listed() {
    let file = TestElf::default().build();
    let segments: Vec<_> = Elf::parse(file.as_slice()).unwrap().code_segments().collect();
    let code = CodeSegment { address: CODE_ADDRESS, file_offset: CODE_OFFSET, size_bytes: 64 };
    assert_eq!(segments, [code]);
}

#[test]
fn unwind_information_is_found_by_its_section() {
    for name in [".eh_frame", ".debug_frame"] {
        let extra_section = Some((name, vec![7; 12]));
        let file = TestElf { extra_section, ..TestElf::default() }.build();
        let found = Elf::parse(file.as_slice()).unwrap().frame_section().unwrap();
        assert_eq!(found, Some(FrameSection { name, address: 0, data: &[7; 12] }));
    }
    let file = TestElf::default().build();
    assert_eq!(Elf::parse(file.as_slice()).unwrap().frame_section(), Ok(None));
}

#[test]
fn a_frame_section_with_only_a_terminator_is_none() {
    let extra_section = Some((".eh_frame", vec![0; 4]));
    let file = TestElf { extra_section, ..TestElf::default() }.build();
    assert_eq!(Elf::parse(file.as_slice()).unwrap().frame_section(), Ok(None));
}

#[test]
fn compressed_unwind_information_is_refused_by_name() {
    let extra_section = Some((".debug_frame", vec![7; 12]));
    let mut file = TestElf { extra_section, ..TestElf::default() }.build();
    let headers_at = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    // The section behind the six that every test file has, and its flags.
    put(&mut file, headers_at + 6 * 64 + 8, &u64::from(SHF_COMPRESSED).to_le_bytes());
    let error = Elf::parse(file.as_slice()).unwrap().frame_section().unwrap_err();
    assert_eq!(error, ElfError::Compressed { section: ".debug_frame" });
}

#[test]
fn without_section_headers_the_loaders_way_leads_to_the_same_section() {
    let mut file = fs::read(std::env::current_exe().unwrap()).unwrap();
    let find = |file: &[u8]| {
        let section = Elf::parse(file).unwrap().frame_section().unwrap().unwrap();
        (section.name, section.address, section.data.to_vec())
    };
    let (name, address, by_name) = find(&file);
    put(&mut file, 40, &[0; 8]);
    put(&mut file, 60, &[0; 4]);
    let (loaded_name, loaded_address, loaded) = find(&file);
    assert_eq!((name, address), (loaded_name, loaded_address));
    assert_eq!(by_name, loaded[..by_name.len()]);
}

#[test]
fn aarch64_is_accepted() {
    let file = TestElf { machine: EM_AARCH64, ..TestElf::default() }.build();
    assert_eq!(Elf::parse(file.as_slice()).unwrap().machine(), Machine::Aarch64);
}

#[test]
fn other_machines_are_refused_by_name() {
    let cases = [
        ([1, 1], EM_386.to_le_bytes(), "32-bit little-endian x86"),
        ([1, 1], EM_X86_64.to_le_bytes(), "32-bit little-endian x86-64"),
        ([1, 1], EM_ARM.to_le_bytes(), "32-bit little-endian ARM"),
        ([2, 2], EM_AARCH64.to_be_bytes(), "64-bit big-endian AArch64"),
        ([2, 1], EM_RISCV.to_le_bytes(), "64-bit little-endian RISC-V"),
        ([2, 2], EM_S390.to_be_bytes(), "64-bit big-endian s390"),
        ([7, 9], [0x34, 0x12], "unknown-class unknown-endian machine-4660"),
    ];
    for (ident, machine, expected) in cases {
        let mut file = TestElf::default().build();
        put(&mut file, 4, &ident);
        put(&mut file, 18, &machine);
        let error = Elf::parse(file.as_slice()).err().unwrap();
        assert_eq!(error, ElfError::UnsupportedMachine { found: expected.to_owned() });
        assert!(error.to_string().contains(expected));
    }
}

#[test]
fn what_is_no_elf_file_is_told_from_a_damaged_one() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\nexec something\n"] {
        assert_eq!(Elf::parse(bytes).err(), Some(ElfError::NotElf));
    }
    let mut file = TestElf::default().build();
    put(&mut file, 32, &u64::MAX.to_le_bytes());
    let error = Elf::parse(file.as_slice()).err().unwrap();
    assert!(matches!(error, ElfError::Damaged { part: "program headers", .. }), "{error}");
}

#[test]
fn damaged_section_headers_leave_a_file_without_symbols() {
    let symbols = vec![TestSymbol::function("malloc", 0, 8)];
    let mut file = TestElf { symbols, ..TestElf::default() }.build();
    put(&mut file, 40, &(u64::MAX - 7).to_le_bytes());
    let elf = Elf::parse(file.as_slice()).unwrap();
    assert!(elf.functions(&["malloc"]).is_empty());
    assert!(elf.build_id().is_some());
}

/// Asks everything that can be asked.
fn read_all(bytes: &[u8]) {
    let Ok(elf) = Elf::parse(bytes) else { return };
    let _ = (elf.build_id(), elf.is_go(), elf.has_interpreter(), elf.soname());
    for symbol in elf.functions(&["malloc", "free"]) {
        let _ = elf.code(symbol.address, symbol.size_bytes);
        let _ = elf.code_around(symbol.address, symbol.size_bytes);
        let _ = elf.file_offset(symbol.address);
    }
    let _ = (elf.name_sources(), elf.debug_link());
}

fn with_functions() -> Vec<u8> {
    let symbols = ["malloc", "free"].map(|name| TestSymbol::function(name, 8, 16)).to_vec();
    TestElf { symbols, soname: Some("libx.so"), ..TestElf::default() }.build()
}

proptest! {
    #[test]
    fn damaged_files_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..6),
        length in any::<prop::sample::Index>(),
        truncate in any::<bool>(),
    ) {
        let mut file = with_functions();
        // The zeros between the headers and the code are not worth damaging.
        let interesting: Vec<usize> =
            (0..0x340).chain(CODE_OFFSET as usize..file.len() - 8).collect();
        for (index, word) in damage {
            put(&mut file, *index.get(&interesting), &word.to_le_bytes());
        }
        if truncate {
            file.truncate(length.index(file.len()));
        }
        read_all(&file);
    }

    #[test]
    fn single_flipped_bytes_never_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut file = with_functions();
        let headers = file.len() - 64 * 7;
        let candidates: Vec<usize> = (0..0x340).chain(headers..file.len()).collect();
        file[*at.get(&candidates)] = value;
        read_all(&file);
    }
}

#[test]
fn the_running_test_is_read() {
    let file = fs::read("/proc/self/exe").unwrap();
    let elf = Elf::parse(file.as_slice()).unwrap();
    assert!(elf.has_interpreter() && !elf.is_go());
    assert_eq!(elf.functions(&["main"]).len(), 1);
}

#[test]
fn a_program_with_debug_information_names_its_lines_and_leads_nowhere_else() {
    let file = fs::read("/proc/self/exe").unwrap();
    let elf = Elf::parse(file.as_slice()).unwrap();
    let sources = NameSources {
        debug_info: true,
        lines: true,
        symtab: true,
        dynsym: true,
        mini_debug_info: false,
    };
    assert_eq!(elf.name_sources(), sources);
    assert_eq!(elf.debug_link(), None);
    let small = TestElf::default().build();
    let names = Elf::parse(small.as_slice()).unwrap().name_sources();
    assert_eq!(names, NameSources { dynsym: true, ..NameSources::default() });
}
