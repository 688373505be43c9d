//! Damaged and hostile files: an error or fewer rows, in bounded time, and never a panic.

use std::sync::LazyLock;

use gimli::{Register, X86_64, write::CallFrameInstruction as Cfi};
use proptest::prelude::*;

use super::{
    fragments::{cie, file},
    *,
};
use crate::{
    elf::Elf,
    unwind::compile::{CompileError, Wanted, compile_for},
};

/// The vDSO of this process: real, complete, and small.
static VDSO: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let vdso = own_objects().into_iter().find(|(mapping, _)| mapping.name == "[vdso]");
    vdso.expect("the kernel maps a vDSO").1
});

/// The dynamic linker: assembly, several CIEs, a PLT.
static LINKER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let is_linker = |mapping: &Mapping| mapping.base_name().starts_with("ld-linux");
    let linker = own_objects().into_iter().find(|(mapping, _)| is_linker(mapping));
    linker.expect("the test is linked dynamically").1
});

/// Where the unwind information is in the file.
fn frames(file: &[u8]) -> std::ops::Range<usize> {
    let section = Elf::parse(file).unwrap().frame_section().unwrap().unwrap();
    let start = section.data.as_ptr() as usize - file.as_ptr() as usize;
    start..start + section.data.len()
}

/// What must hold of whatever is accepted.
fn check(file: &[u8]) {
    let Ok(object) = compile(file) else { return };
    assert!(object.rows.is_sorted_by(|one, next| one.offset < next.offset));
    assert!(object.rows.iter().all(|row| (row.rule as usize) < object.rules.len()));
    assert!(object.rows.len() <= file.len());
    let mut tables = Tables::new(Limits::DEFAULT);
    let Ok(added) = tables.add_object(key(0), &object).cloned() else { return };
    for row in &object.rows {
        let expected = object.rules[row.rule as usize];
        assert_eq!(tables.lookup(&added, object.address(row)), expected, "{row:?}");
    }
}

/// Replaces bytes at places given as fractions of a range.
fn mutate(file: &mut [u8], range: std::ops::Range<usize>, changes: &[(prop::sample::Index, u8)]) {
    for (place, byte) in changes {
        file[range.start + place.index(range.len())] = *byte;
    }
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..40)
}

proptest! {
    #[test]
    fn damaged_unwind_information_is_survived(changes in changes()) {
        for original in [&*VDSO, &*LINKER] {
            let mut file = original.clone();
            mutate(&mut file, frames(original), &changes);
            check(&file);
        }
    }

    #[test]
    fn damaged_headers_are_survived(changes in changes()) {
        // File header and program headers; section headers are behind everything else.
        for original in [&*VDSO, &*LINKER] {
            let mut file = original.clone();
            mutate(&mut file, 16..64 + 56 * 8, &changes[..1 + changes.len() / 8]);
            let length = file.len();
            mutate(&mut file, length - 64 * 16..length, &changes[1 + changes.len() / 8..]);
            check(&file);
        }
    }

    #[test]
    fn truncated_files_are_survived(length in any::<prop::sample::Index>()) {
        check(&VDSO[..length.index(VDSO.len())]);
        check(&LINKER[..length.index(LINKER.len())]);
    }

    #[test]
    fn random_unwind_information_is_survived(frames in prop::collection::vec(any::<u8>(), 5..200)) {
        let extra_section = Some((".eh_frame", frames));
        check(&crate::elf::tests::TestElf { extra_section, ..Default::default() }.build());
    }
}

#[test]
fn a_damaged_entry_costs_only_what_is_behind_it() {
    let whole = compile(&LINKER).unwrap();
    let mut file = LINKER.clone();
    let section = frames(&file);
    // The length of an entry after more than half of them.
    let middle = entry_after(&file[section.clone()], section.len() / 2);
    file[section.start + middle..][..4].copy_from_slice(&0x7fff_fff0u32.to_le_bytes());
    let damaged = compile(&file).unwrap();
    assert_eq!(damaged.stats.unsupported["damaged entry, and all behind it"], 1);
    assert!(damaged.stats.fdes > whole.stats.fdes / 4 && damaged.stats.fdes < whole.stats.fdes);
}

/// The first entry at or behind an offset.
fn entry_after(section: &[u8], offset: usize) -> usize {
    let mut entry = 0;
    while entry < offset {
        entry += 4 + u32::from_le_bytes(section[entry..entry + 4].try_into().unwrap()) as usize;
    }
    entry
}

#[test]
fn a_long_cie_that_many_functions_use_is_refused() {
    let mut long = cie(1);
    (0..3000).for_each(|_| long.add_instruction(Cfi::SameValue(X86_64::RBX)));
    let functions = |count| (0..count).map(|n| (n, 1, &[][..])).collect::<Vec<_>>();
    let code = [0x90; 1000];
    assert_eq!(compile(&file(&code, long.clone(), &functions(10))).unwrap().stats.fdes, 10);
    assert_eq!(compile(&file(&code, long, &functions(500))), Err(CompileError::TooMuchWork));
}

#[test]
fn more_registers_than_there_are_cost_only_their_function() {
    let mut many = cie(1);
    (0..100).for_each(|n| many.add_instruction(Cfi::SameValue(Register(n))));
    let call = [0xe8, 0, 0, 0, 0];
    let object = compile(&file(&call, many, &[(0, 5, &[])])).unwrap();
    assert_eq!(object.stats.unsupported["damaged instructions"], 1);
    assert_eq!(object.rows.len(), 1, "only the end of the code");
}

#[test]
fn segments_that_are_too_far_apart_are_refused() {
    let mut file = crate::elf::tests::TestElf::default().build();
    // The second program header, a note segment, becomes code at the end of the address space.
    let header = 64 + 56;
    file[header..header + 8].copy_from_slice(&[1, 0, 0, 0, 5, 0, 0, 0]);
    file[header + 16..header + 24].copy_from_slice(&(u64::MAX - 0xffff).to_le_bytes());
    assert!(matches!(compile(&file), Err(CompileError::TooWide { .. })));
}

#[test]
fn compiling_stops_when_it_may_not_go_on() {
    assert_eq!(compile_for(&LINKER, Wanted::Calls, &|| false), Err(CompileError::Stopped));
    assert!(compile_for(&LINKER, Wanted::Calls, &|| true).is_ok());
}
