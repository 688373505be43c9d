//! An arbitrary ELF file through the unwind compiler into tables: never a panic, and every row is
//! found where it is. Good seeds are small real libraries and the vDSO.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::unwind::{
    compile::compile,
    table::{Limits, ObjectKey, Tables},
};

fuzz_target!(|file: &[u8]| {
    let Ok(object) = compile(file) else { return };
    let mut tables = Tables::new(Limits::DEFAULT);
    let Ok(added) = tables.add_object(ObjectKey::Vdso, &object).cloned() else { return };
    for row in &object.rows {
        assert_eq!(tables.lookup(&added, object.address(row)), object.rules[row.rule as usize]);
    }
});
