mod differential;
mod fragments;
mod hostile;
mod mappings;
mod reference;
mod tables;

use std::{fs, path::Path};

use memtrace_common::unwind::table::{CfaRule, FpRule, Rule};

use super::{
    compile::{ObjectRow, ObjectRows, compile},
    table::{Limits, ObjectKey, ObjectRef, Tables},
};
use crate::model::mapping::{Mapping, Permissions};

fn rule(cfa: CfaRule, cfa_offset: i32) -> Rule {
    Rule { cfa: cfa as u8, fp: FpRule::Same as u8, fp_offset: 0, cfa_offset }
}

fn with_fp(rule: Rule, fp: FpRule, fp_offset: i16) -> Rule {
    Rule { fp: fp as u8, fp_offset, ..rule }
}

fn key(number: u8) -> ObjectKey {
    ObjectKey::BuildId(Box::new([number]))
}

/// The tables of one object.
fn tables_of(object: &ObjectRows) -> (Tables, ObjectRef) {
    let mut tables = Tables::new(Limits::DEFAULT);
    let added = tables.add_object(key(0), object).unwrap().clone();
    (tables, added)
}

fn code(start: u64, end: u64, file_offset: u64) -> Mapping {
    let permissions = Permissions { read: true, write: false, execute: true };
    let name = String::from("/lib/a.so");
    Mapping { start, end, file_offset, file: None, name, deleted: false, permissions }
}

/// The executable mappings of this process: path or `[vdso]`, and content.
fn own_objects() -> Vec<(Mapping, Vec<u8>)> {
    let maps = crate::sys::procfs::ProcFs::new("/proc").maps(std::process::id()).unwrap();
    let executable = maps.into_iter().filter(|mapping| mapping.permissions.execute);
    let content = |mapping: &Mapping| match mapping.name.as_str() {
        "[vdso]" => Some(own_memory(mapping)),
        path if path.starts_with('/') => fs::read(Path::new(path)).ok(),
        _ => None,
    };
    executable.filter_map(|mapping| content(&mapping).map(|file| (mapping, file))).collect()
}

fn own_memory(mapping: &Mapping) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; (mapping.end - mapping.start) as usize];
    let memory = fs::File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut bytes, mapping.start).unwrap();
    bytes
}
