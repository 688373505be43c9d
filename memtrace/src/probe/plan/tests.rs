//! On small ELF files that are put together here.

use object::elf::{EM_AARCH64, STT_GNU_IFUNC};

use super::*;
use crate::{
    elf::tests::{CODE_ADDRESS, CODE_OFFSET, TestElf, TestSymbol},
    model::mapping::{FileId, Permissions},
};

const LINUX: KernelVersion = KernelVersion::new(6, 1);

/// endbr64; push %rbx; pop %rbx; ret
const PUSHES: [u8; 8] = [0xf3, 0x0f, 0x1e, 0xfa, 0x53, 0x5b, 0xc3, 0xcc];
/// test %rdi,%rdi; je +1; ret; ret
const CHECKS: [u8; 8] = [0x48, 0x85, 0xff, 0x74, 0x01, 0xc3, 0xc3, 0xcc];
/// hlt
const REFUSED: [u8; 8] = [0xf4, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc];

fn executable_mapping() -> Mapping {
    Mapping {
        start: 0x7f00_0000_1000,
        end: 0x7f00_0000_2000,
        file_offset: CODE_OFFSET,
        file: Some(FileId { device: (8, 1), inode: 7 }),
        name: "/lib/liballoc.so".to_owned(),
        deleted: false,
        permissions: Permissions { read: true, write: false, execute: true },
    }
}

/// An object whose n-th function is the n-th name with the n-th code.
fn object(functions: &[(&'static str, [u8; 8])]) -> TestElf {
    let symbols = functions
        .iter()
        .enumerate()
        .map(|(index, (name, _))| TestSymbol::function(name, 8 * index as u64, 7))
        .collect();
    let code = functions.iter().flat_map(|(_, code)| *code).collect();
    TestElf { symbols, code, ..TestElf::default() }
}

fn all_planned(test: &TestElf, given: &[GivenNames]) -> Result<Vec<ObjectPlan>, UnprobeableObject> {
    let file = test.build();
    plan_object(&Elf::parse(file.as_slice()).unwrap(), &[executable_mapping()], LINUX, given)
}

fn planned(test: &TestElf) -> Result<Option<ObjectPlan>, UnprobeableObject> {
    let mut plans = all_planned(test, &[])?;
    assert!(plans.len() <= 1);
    Ok(plans.pop())
}

fn plan(test: &TestElf) -> ObjectPlan {
    planned(test).unwrap().unwrap()
}

#[test]
fn sites_are_given_as_file_offsets_with_their_code() {
    let plan = plan(&object(&[("free", CHECKS), ("malloc", PUSHES)]));
    let malloc = PlannedProbe {
        function: AllocFn::Malloc,
        shape: AllocFn::Malloc.shape(),
        arguments: ArgumentPlaces::USUAL,
        aliases: Vec::new(),
        symbol_address: CODE_ADDRESS + 8,
        symbol_size_bytes: 7,
        file_offset: CODE_OFFSET + 12,
        site_offset: 4,
        cost: SiteCost::Emulated,
        code: vec![0x53],
    };
    assert_eq!(plan.probes[0], malloc);
    let free = &plan.probes[1];
    assert_eq!((free.function, free.file_offset), (AllocFn::Free, CODE_OFFSET + 3));
    assert_eq!(free.code, [0x74, 0x01]);
    assert_eq!(plan.build_id, Some(vec![0xab; 20]));
    assert_eq!((plan.allocator, plan.version.as_deref()), (AllocatorId::Unknown, None));
    assert_eq!(plan.mapping, executable_mapping());
    assert!(plan.skipped.is_empty() && plan.notes.is_empty());
}

#[test]
fn the_allocator_is_recognised_with_its_version() {
    let mut test = object(&[("malloc", PUSHES), ("free", CHECKS), ("tc_malloc", PUSHES)]);
    test.rodata = b"\0gperftools 2.10\0".to_vec();
    let plan = plan(&test);
    assert_eq!((plan.allocator, plan.version.as_deref()), (AllocatorId::Tcmalloc, Some("2.10")));
}

#[test]
fn functions_at_one_address_share_a_probe() {
    let mut test = object(&[("malloc", PUSHES), ("free", CHECKS), ("memalign", PUSHES)]);
    test.symbols.push(TestSymbol::function("aligned_alloc", 16, 7));
    test.symbols.push(TestSymbol::function("munmap", 16, 7));
    let plan = plan(&test);
    assert_eq!(plan.probes.len(), 3);
    assert_eq!(plan.probes[2].function, AllocFn::Memalign);
    assert_eq!(plan.probes[2].aliases, [AllocFn::AlignedAlloc]);
    assert_eq!(plan.skipped.len(), 1);
    assert_eq!(plan.skipped[0].0, AllocFn::Munmap);
}

#[test]
fn two_names_of_a_function_are_one_probe_or_two_by_their_addresses() {
    let functions = [("malloc", PUSHES), ("free", CHECKS), ("mmap", PUSHES), ("mmap64", PUSHES)];
    let count = |plan: &ObjectPlan| {
        plan.probes.iter().filter(|probe| probe.function == AllocFn::Mmap).count()
    };
    let mut test = object(&functions);
    assert_eq!(count(&plan(&test)), 2);
    test.symbols[3].at = test.symbols[2].at;
    let plan = plan(&test);
    assert_eq!(count(&plan), 1);
    assert!(plan.probes[2].aliases.is_empty() && plan.skipped.is_empty());
}

#[test]
fn an_object_needs_both_malloc_and_free() {
    assert_eq!(planned(&object(&[("malloc", PUSHES), ("calloc", PUSHES)])), Ok(None));
    assert_eq!(planned(&object(&[("free", PUSHES)])), Ok(None));
    assert_eq!(planned(&object(&[])), Ok(None));
}

#[test]
fn the_dynamic_linker_serves_only_itself() {
    let mut test = object(&[("malloc", PUSHES), ("free", CHECKS)]);
    test.soname = Some("ld-linux-x86-64.so.2");
    assert_eq!(planned(&test), Ok(None));
    test.soname = Some("libc.so.6");
    assert!(planned(&test).unwrap().is_some());
}

#[test]
fn a_function_that_cannot_be_probed_is_skipped_with_the_reason() {
    let mut test =
        object(&[("malloc", PUSHES), ("free", CHECKS), ("calloc", REFUSED), ("valloc", PUSHES)]);
    test.symbols[3].info = 1 << 4 | STT_GNU_IFUNC;
    test.symbols.push(TestSymbol::function("realloc", 1 << 30, 8));
    let plan = plan(&test);
    assert_eq!(plan.probes.len(), 2);
    let reasons: Vec<_> = plan.skipped.iter().map(|(_, reason)| reason.as_str()).collect();
    assert!(reasons[0].contains("refuses a probe on its first instruction (f4)"), "{reasons:?}");
    assert!(reasons[1].contains("no executable segment"), "{reasons:?}");
    assert!(reasons[2].contains("IFUNC"), "{reasons:?}");
}

#[test]
fn one_unprobeable_name_of_a_function_does_not_cost_the_other() {
    let functions = [("malloc", PUSHES), ("free", CHECKS), ("mmap", PUSHES), ("mmap64", REFUSED)];
    let plan = plan(&object(&functions));
    assert_eq!(plan.probes.len(), 3);
    assert_eq!(plan.skipped.len(), 1);
}

#[test]
fn an_entered_function_that_cannot_be_probed_at_its_entry_is_skipped() {
    // A prefix that the kernel refuses, then a push that a cold part jumps to.
    let refused_entry = [0x3e, 0x48, 0x89, 0xf8, 0x53, 0x5b, 0xc3, 0xcc];
    let mut jump = [0xe9, 0, 0, 0, 0, 0xcc, 0xcc, 0xcc];
    jump[1..5].copy_from_slice(&(20i32 - 29).to_le_bytes());
    let functions =
        [("malloc", PUSHES), ("free", CHECKS), ("valloc", refused_entry), ("cold", jump)];
    let plan = plan(&object(&functions));
    assert_eq!(plan.probes.len(), 2);
    assert_eq!(plan.skipped[0].0, AllocFn::Valloc);
}

#[test]
fn an_object_whose_malloc_or_free_cannot_be_probed_is_an_error() {
    let error = planned(&object(&[("malloc", PUSHES), ("free", REFUSED)])).unwrap_err();
    assert_eq!(error.function, AllocFn::Free);
    assert!(error.to_string().starts_with("free of /lib/liballoc.so cannot be probed"), "{error}");
    let mut test = object(&[("malloc", PUSHES), ("free", CHECKS)]);
    test.symbols[0].info = 1 << 4 | STT_GNU_IFUNC;
    assert_eq!(planned(&test).unwrap_err().function, AllocFn::Malloc);
}

#[test]
fn code_that_is_not_mapped_is_not_planned() {
    let file = object(&[("malloc", PUSHES), ("free", CHECKS)]).build();
    let elf = Elf::parse(file.as_slice()).unwrap();
    let elsewhere = Mapping { file_offset: 0x8000, ..executable_mapping() };
    let error = plan_object(&elf, &[elsewhere], LINUX, &[]).unwrap_err();
    assert!(error.reason.contains("not mapped"), "{error}");
}

#[test]
fn a_jump_into_a_function_from_outside_makes_its_entry_the_site() {
    // jmp to the push of malloc, from a cold part with no symbol.
    let mut jump = [0xe9, 0, 0, 0, 0, 0xcc, 0xcc, 0xcc];
    let mut test = object(&[("malloc", PUSHES), ("free", CHECKS), ("cold", jump)]);
    assert_eq!(plan(&test).probes[0].site_offset, 4);
    jump[1..5].copy_from_slice(&(4i32 - 21).to_le_bytes());
    test.code[16..24].copy_from_slice(&jump);
    let plan = plan(&test);
    let malloc = &plan.probes[0];
    assert_eq!((malloc.site_offset, malloc.cost), (0, SiteCost::Stepped));
    assert_eq!((malloc.file_offset, &malloc.code[..]), (CODE_OFFSET, &PUSHES[..4]));
    assert_eq!(plan.probes[1].site_offset, 3);
}

#[test]
fn a_function_of_unknown_size_is_probed_at_its_entry() {
    let mut test = object(&[("malloc", PUSHES), ("free", CHECKS)]);
    test.symbols[1].size = 0;
    let plan = plan(&test);
    assert_eq!((plan.probes[1].site_offset, plan.probes[1].cost), (0, SiteCost::Stepped));
}

/// push %rbx; pop %rbx; ret, behind a call that throws.
const NEW: [u8; 8] = [0x53, 0x5b, 0xc3, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc];
/// jmp to the function 16 bytes before.
const JUMP_BACK: [u8; 8] = [0xe9, 0xeb, 0xff, 0xff, 0xff, 0xcc, 0xcc, 0xcc];

#[test]
fn operator_new_is_probed_where_it_returns_and_not_by_a_return_probe() {
    let plan = plan(&object(&[("malloc", PUSHES), ("free", CHECKS), ("_Znwm", NEW)]));
    let new: Vec<_> =
        plan.probes.iter().filter(|probe| probe.function == AllocFn::OperatorNew).collect();
    let shapes: Vec<_> = new.iter().map(|probe| (probe.shape, probe.file_offset)).collect();
    let start = CODE_OFFSET + 16;
    assert_eq!(shapes, [(CallShape::Throwing, start), (CallShape::Exit, start + 2)]);
    assert!(new.iter().all(|probe| !probe.shape.needs_return()));
    assert_eq!((new[1].name(), &new[1].code[..]), ("operator new (return)", &[0xc3][..]));
    assert!(plan.notes.is_empty() && plan.skipped.is_empty());
}

#[test]
fn an_operator_new_whose_returns_cannot_be_told_is_said() {
    let by_table = [0xff, 0xe0, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc];
    let plan = plan(&object(&[("malloc", PUSHES), ("free", CHECKS), ("_Znwm", by_table)]));
    assert_eq!(plan.probes.len(), 2);
    assert!(plan.skipped[0].1.contains("may throw"), "{:?}", plan.skipped);
    assert!(plan.notes[0].contains("operator new"), "{:?}", plan.notes);
}

#[test]
fn a_release_that_goes_on_to_another_is_left_to_that() {
    let functions =
        [("malloc", PUSHES), ("free", CHECKS), ("other", PUSHES), ("_ZdlPv", JUMP_BACK)];
    let functions_of = |plan: ObjectPlan| -> Vec<AllocFn> {
        plan.probes.iter().map(|probe| probe.function).collect()
    };
    // 24 + 5 - 21 = 8: free.
    assert_eq!(functions_of(plan(&object(&functions))), [AllocFn::Malloc, AllocFn::Free]);
    let mut elsewhere = object(&functions);
    elsewhere.symbols[1].at = 16;
    elsewhere.symbols[2].at = 8;
    let expected = [AllocFn::Malloc, AllocFn::Free, AllocFn::OperatorDelete];
    assert_eq!(functions_of(plan(&elsewhere)), expected);
}

#[test]
fn an_allocator_under_a_prefix_is_one_of_its_own() {
    let test = object(&[
        ("malloc", PUSHES),
        ("free", CHECKS),
        ("_rjem_malloc", PUSHES),
        ("_rjem_sdallocx", CHECKS),
        ("_rjem_mallctl", PUSHES),
    ]);
    let plans = all_planned(&test, &[]).unwrap();
    let found: Vec<_> = plans
        .iter()
        .map(|plan| (plan.allocator, plan.prefix.as_str(), plan.probes.len()))
        .collect();
    assert_eq!(found, [(AllocatorId::Unknown, "", 2), (AllocatorId::Jemalloc, "_rjem_", 2)]);
    assert_eq!(plans[1].probes[1].function, AllocFn::Sdallocx);
}

#[test]
fn a_family_needs_something_that_obtains_and_something_that_releases() {
    let test = object(&[("x_malloc", PUSHES), ("x_mallctl", PUSHES)]);
    assert_eq!(all_planned(&test, &[]), Ok(Vec::new()));
}

#[test]
fn given_names_are_an_allocator_although_nothing_tells() {
    let test = object(&[("sn_malloc", PUSHES), ("sn_free", CHECKS)]);
    assert_eq!(all_planned(&test, &[]), Ok(Vec::new()));
    let given = GivenNames { prefix: "sn_".to_owned(), library: None };
    let plans = all_planned(&test, &[given]).unwrap();
    assert_eq!((plans[0].allocator, plans[0].prefix.as_str()), (AllocatorId::Unknown, "sn_"));
    assert_eq!(plans[0].probes.len(), 2);
}

#[test]
fn a_prefix_that_is_known_says_which_allocator_it_is() {
    for (prefix, obtain, release, allocator) in [
        ("mi_", "mi_heap_malloc", "mi_free_size", AllocatorId::Mimalloc),
        ("tc_", "tc_newarray_nothrow", "tc_deletearray_sized", AllocatorId::Tcmalloc),
    ] {
        let test = object(&[(obtain, PUSHES), (release, CHECKS)]);
        assert_eq!(all_planned(&test, &[]), Ok(Vec::new()), "nothing else tells");
        let library = Some("libown".to_owned());
        let plans =
            all_planned(&test, &[GivenNames { prefix: prefix.to_owned(), library }]).unwrap();
        assert_eq!((plans.len(), plans[0].allocator, plans[0].probes.len()), (1, allocator, 2));
    }
}

#[test]
fn aarch64_objects_are_planned_at_their_entries() {
    let stp = [0xfd, 0x7b, 0xbe, 0xa9, 0xc0, 0x03, 0x5f, 0xd6];
    let test = TestElf { machine: EM_AARCH64, ..object(&[("malloc", stp), ("free", stp)]) };
    let plan = plan(&test);
    assert_eq!(plan.probes.len(), 2);
    assert!(plan.probes.iter().all(|probe| probe.site_offset == 0));
    assert_eq!(plan.probes[1].code, stp[..4]);
}
