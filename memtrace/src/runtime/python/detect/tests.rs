//! On small files that are put together here; the real interpreters are in `python::tests`.

use std::io::Cursor;

use object::elf::EM_AARCH64;

use super::*;
use crate::{
    elf::tests::{CODE_ADDRESS, CODE_OFFSET, TestElf, TestSymbol},
    model::mapping::Permissions,
};

/// Every address holds the same word.
struct Constant(u64);

impl TargetMemory for Constant {
    fn read(&self, _: u64, buffer: &mut [u8]) -> bool {
        let bytes = self.0.to_le_bytes().into_iter().cycle();
        buffer.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        true
    }
}

const NEW: [&str; 4] = ["_PyRuntime", "Py_Version", "PyCode_Type", "PyEval_EvalFrameEx"];

fn mapping(path: &str, inode: u64) -> Mapping {
    Mapping {
        start: 0x7000_0000 + inode * 0x10000,
        end: 0x7000_1000 + inode * 0x10000,
        file_offset: CODE_OFFSET,
        file: Some(FileId { device: (0, 1), inode }),
        name: path.to_owned(),
        deleted: false,
        permissions: Permissions { read: true, write: false, execute: true },
    }
}

fn elf(symbols: &[&'static str]) -> TestElf {
    let symbols = symbols.iter().zip(0..).map(|(name, at)| TestSymbol::function(name, at * 8, 8));
    TestElf { symbols: symbols.collect(), ..TestElf::default() }
}

fn search_one(path: &str, file: &TestElf, word: u64) -> Search {
    let bytes = file.build();
    search(&[mapping(path, 1)], |_| Ok(Cursor::new(bytes.clone())), &Constant(word))
}

/// The refusal's sentence.
fn refusal(path: &str, file: &TestElf, word: u64) -> String {
    let found = search_one(path, file, word);
    let [refused] = found.refused.as_slice() else { panic!("{found:?}") };
    assert_eq!((refused.path.as_str(), &found.python), (path, &None));
    refused.refusal.to_string()
}

#[test]
fn a_process_without_an_interpreter_has_none_and_nothing_is_refused() {
    let file = elf(&["malloc", "free", "_thread_db_sizeof_pthread"]);
    assert_eq!(search_one("/lib/libc.so.6", &file, 0), Search::default());
    let none = search(&[mapping("/x", 1)], |_| Ok(Cursor::new(b"no file".to_vec())), &Constant(0));
    assert_eq!(none, Search::default());
    let cannot = |_: &Mapping| -> io::Result<Cursor<Vec<u8>>> { Err(io::Error::other("no")) };
    assert_eq!(search(&[mapping("/x", 1)], cannot, &Constant(0)), Search::default());
}

#[test]
fn versions_that_are_not_known_are_refused_by_name() {
    let old = elf(&["PyEval_EvalFrameEx"]);
    let older = "it is Python 2.7; known are 3.8 to 3.14";
    assert_eq!(refusal("/usr/bin/python2.7", &old, 0), older);
    let v3_7 = elf(&["PyEval_EvalFrameEx", "_PyRuntime"]);
    assert_eq!(refusal("/opt/uwsgi", &v3_7, 0), "it is Python 3.7; known are 3.8 to 3.14");
    let newer = "it is Python 3.15.0; known are 3.8 to 3.14";
    assert_eq!(refusal("/usr/bin/python3.11", &elf(&NEW), 0x030f_00a1), newer);
    let unknown = "it is a CPython whose version cannot be told";
    assert_eq!(refusal("/opt/uwsgi", &old, 0), unknown);
}

#[test]
fn other_implementations_and_machines_are_refused_by_name() {
    let pypy = refusal("/opt/libpypy3-c.so", &elf(&["PyPyUnicode_AsUTF8"]), 0);
    assert!(pypy.contains("PyPy"), "{pypy}");
    let foreign = TestElf { machine: EM_AARCH64, ..elf(&NEW) };
    let foreign = refusal("/usr/bin/python3.11", &foreign, 0x030b_07f0);
    assert!(foreign.contains("AArch64"), "{foreign}");
}

#[test]
fn a_stripped_interpreter_is_refused_with_what_it_lacks() {
    let refusal = refusal("/usr/bin/python3.11", &elf(&NEW), 0x030b_07f0);
    assert!(refusal.contains("its symbol PyUnicode_Type is missing"), "{refusal}");
}

#[test]
fn an_interpreter_whose_type_of_code_objects_is_another_is_refused() {
    let all = [&NEW[..], &["PyUnicode_Type", "PyBytes_Type", "_Py_NoneStruct"]].concat();
    let refusal = refusal("/usr/bin/python3.11", &elf(&all), 0x030b_07f0);
    assert!(refusal.contains("is not that of Python 3.11.7"), "{refusal}");
}

#[test]
fn several_interpreters_are_all_named() {
    let bytes = elf(&["PyEval_EvalFrameEx"]).build();
    let maps = [mapping("/usr/bin/python2.7", 1), mapping("/usr/lib/libpython2.7.so", 2)];
    let found = search(&maps, |_| Ok(Cursor::new(bytes.clone())), &Constant(0));
    let paths: Vec<_> = found.refused.iter().map(|refused| refused.path.as_str()).collect();
    assert_eq!(paths, ["/usr/bin/python2.7", "/usr/lib/libpython2.7.so"]);
}

#[test]
fn addresses_are_those_of_the_process() {
    let bytes = elf(&NEW).build();
    let parsed = Elf::parse(bytes.as_slice()).unwrap();
    let mapping = mapping("/usr/bin/python3.11", 1);
    let surveyed = Surveyed::of(&parsed, &mapping).unwrap();
    assert_eq!(surveyed.symbol("Py_Version"), Some(mapping.start + 8));
    assert_eq!(
        parsed.definitions(crate::elf::SymbolTable::Dynamic, |_| true).unwrap()[1].address,
        CODE_ADDRESS + 8
    );
}

#[test]
fn a_process_is_loading_until_the_code_of_its_c_library_is_mapped() {
    let data = |path| Mapping { permissions: Permissions::default(), ..mapping(path, 9) };
    let mut program = Surveyed::default();
    program.is_dynamic_program = true;
    let is_loading = |maps: &[Mapping]| {
        Process { maps, memory: &Constant(0), thread_data: Vec::new() }.is_loading(&program)
    };
    let python = mapping("/usr/bin/python3.11", 5);
    assert!(is_loading(std::slice::from_ref(&python)), "the kernel has not mapped the linker yet");
    assert!(!is_loading(&[python, mapping("/lib/other.so", 6)]), "another C library");
    let linker = mapping("/lib64/ld-linux-x86-64.so.2", 1);
    assert!(is_loading(std::slice::from_ref(&linker)));
    assert!(is_loading(&[linker.clone(), data("/lib/libc.so.6")]));
    assert!(!is_loading(&[linker.clone(), mapping("/lib/libc.so.6", 2)]));
    let old = [linker, mapping("/lib/libc-2.31.so", 2), data("/lib/libpthread-2.31.so")];
    assert!(is_loading(&old));
    let [linker, library, _] = old;
    assert!(!is_loading(&[linker, library, mapping("/lib/libpthread-2.31.so", 3)]));
    let musl = [mapping("/usr/bin/python3.11", 5), mapping("/lib/ld-musl-x86_64.so.1", 4)];
    assert!(!is_loading(&musl), "another C library");
}
