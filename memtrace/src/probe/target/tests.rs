//! On fake processes, whose mapped files are put together here, and on this one.

use std::{fs, os::unix::fs::MetadataExt, process};

use object::elf::{EM_386, ET_EXEC};
use tempfile::TempDir;

use super::*;
use crate::{
    elf::tests::{CODE_OFFSET, TestElf, TestSymbol},
    model::AllocFn,
    probe::verify::verify,
};

const LINUX: KernelVersion = KernelVersion::new(6, 1);
const PID: u32 = 42;

/// A process with these files mapped executable, the first as its executable.
fn process_with(files: &[(&str, Vec<u8>)]) -> (TempDir, ProcFs) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(PID.to_string());
    fs::create_dir_all(directory.join("map_files")).unwrap();
    let mut maps = String::new();
    for (index, (name, content)) in files.iter().enumerate() {
        let (start, end) = ((index + 1) << 32, ((index + 1) << 32) + 0x10_0000);
        let path = directory.join(format!("map_files/{start:x}-{end:x}"));
        fs::write(&path, content).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        maps += &format!("{start:x}-{end:x} r-xp 00000000 08:01 {inode}   {name}\n");
        if index == 0 {
            fs::hard_link(&path, directory.join("exe")).unwrap();
        }
    }
    fs::write(directory.join("maps"), maps).unwrap();
    let proc = ProcFs::new(root.path());
    (root, proc)
}

fn plan_of(files: &[(&str, Vec<u8>)]) -> Result<TargetPlan, PlanError> {
    let (_root, proc) = process_with(files);
    plan_target(&proc, PID, &proc.maps(PID).unwrap(), LINUX, &[])
}

/// push %rbp; ret
const PUSH: [u8; 2] = [0x55, 0xc3];

fn object(functions: &[&'static str]) -> TestElf {
    let symbols =
        (0u64..).zip(functions).map(|(index, name)| TestSymbol::function(name, 2 * index, 2));
    let code = PUSH.repeat(functions.len());
    TestElf { symbols: symbols.collect(), code, soname: Some("libx.so"), ..TestElf::default() }
}

fn program() -> TestElf {
    TestElf { soname: None, ..object(&["main"]) }
}

fn allocator(marker: &'static str) -> Vec<u8> {
    object(&["malloc", "free", marker]).build()
}

fn names(plan: &TargetPlan) -> Vec<&str> {
    plan.objects.iter().map(|object| object.plan.mapping.name.as_str()).collect()
}

#[test]
fn every_object_with_malloc_and_free_is_planned() {
    let plan = plan_of(&[
        ("/bin/program", program().build()),
        ("/lib/libc.so.6", allocator("gnu_get_libc_version")),
        ("/lib/libother.so", object(&["other"]).build()),
        ("/memfd:jit (deleted)", b"\x55\xc3".to_vec()),
        ("/lib/libplugin.so", allocator("other")),
    ])
    .unwrap();
    assert_eq!(names(&plan), ["/lib/libplugin.so", "/lib/libc.so.6"]);
    assert!(plan.left_out.is_empty(), "{:?}", plan.left_out);
    let probe = &plan.objects[0].plan.probes[0];
    assert_eq!((probe.function, probe.file_offset), (AllocFn::Malloc, CODE_OFFSET));
}

#[test]
fn without_the_linkers_list_the_program_comes_first_and_the_c_library_last() {
    let own = TestElf { soname: None, ..object(&["malloc", "free"]) };
    let plan = plan_of(&[
        ("/bin/program", own.build()),
        ("/lib/libc.so", allocator("__dls3")),
        ("/lib/libjemalloc.so.2", allocator("mallctl")),
    ])
    .unwrap();
    assert_eq!(names(&plan), ["/bin/program", "/lib/libjemalloc.so.2", "/lib/libc.so"]);
}

#[test]
fn with_the_linkers_list_its_order_decides() {
    let plan = plan_of(&[
        ("/bin/program", program().build()),
        ("/lib/libc.so", allocator("__dls3")),
        ("/lib/libplugin.so", allocator("mallctl")),
    ])
    .unwrap();
    let [plugin, libc] = &plan.objects[..] else { panic!("{plan:?}") };
    let order = [libc, plugin].map(|object| object.plan.mapping.file.unwrap());
    assert_eq!(rank(&libc.plan, Some(&order), None), 0);
    assert_eq!(rank(&plugin.plan, Some(&order), None), 1);
    assert_eq!(rank(&plugin.plan, Some(&order[..1]), None), 1);
}

#[test]
fn a_static_go_program_points_to_its_own_profiler() {
    let go = TestElf {
        extra_section: Some((".go.buildinfo", vec![0; 16])),
        has_interpreter: false,
        kind: ET_EXEC,
        ..program()
    };
    let error = plan_of(&[("/bin/server", go.build())]).unwrap_err();
    assert!(matches!(error, PlanError::StaticGo { .. }));
    assert!(error.to_string().contains("/bin/server is a Go program"), "{error}");
    let TestElf { symbols, code, .. } = object(&["malloc", "free"]);
    let with_libc = TestElf { symbols, code, ..go.clone() };
    let error = plan_of(&[("/bin/server", with_libc.build())]).unwrap_err();
    assert!(matches!(error, PlanError::GoWithAllocator { .. }), "{error}");
}

#[test]
fn a_go_program_with_a_c_library_is_traced_with_a_note() {
    let go = TestElf { extra_section: Some((".note.go.buildid", vec![0; 16])), ..program() };
    let libc = allocator("gnu_get_libc_version");
    let plan = plan_of(&[("/bin/server", go.build()), ("/lib/libc.so.6", libc)]).unwrap();
    assert!(plan.objects[0].plan.notes[0].contains("Go"), "{:?}", plan.objects[0].plan.notes);
}

#[test]
fn a_stripped_static_program_says_so() {
    let stripped = TestElf { has_interpreter: false, kind: ET_EXEC, ..program() };
    let error = plan_of(&[("/bin/busybox", stripped.build())]).unwrap_err();
    assert!(matches!(error, PlanError::StaticStripped { .. }));
    assert!(error.to_string().contains("statically linked"), "{error}");
}

#[test]
fn a_program_without_an_allocator_names_what_was_left_out() {
    let error = plan_of(&[("/bin/program", program().build())]).unwrap_err();
    assert!(matches!(&error, PlanError::NoAllocator { left_out, .. } if left_out.is_empty()));
    let mut unprobeable = object(&["malloc", "free"]);
    unprobeable.code = vec![0xf4, 0xc3];
    let mut damaged = object(&["malloc", "free"]).build();
    damaged[32..40].fill(0xff);
    let error = plan_of(&[
        ("/bin/program", program().build()),
        ("/lib/liba.so", unprobeable.build()),
        ("/lib/libb.so", damaged),
    ])
    .unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.contains("/lib/liba.so: malloc cannot be probed"), "{sentence}");
    assert!(sentence.contains("/lib/libb.so: its ELF program headers are damaged"), "{sentence}");
}

#[test]
fn an_unprobeable_object_beside_a_good_one_is_left_out_by_name() {
    let mut unprobeable = object(&["malloc", "free"]);
    unprobeable.code = vec![0xf4, 0xc3];
    let plan = plan_of(&[
        ("/bin/program", program().build()),
        ("/lib/liba.so", unprobeable.build()),
        ("/lib/libc.so.6", allocator("gnu_get_libc_version")),
    ])
    .unwrap();
    assert_eq!(names(&plan), ["/lib/libc.so.6"]);
    assert_eq!(plan.left_out[0].path, "/lib/liba.so");
}

#[test]
fn a_program_of_another_machine_is_refused_by_name() {
    let mut file = program().build();
    file[4] = 1;
    file[18..20].copy_from_slice(&EM_386.to_le_bytes());
    let error = plan_of(&[("/bin/old", file)]).unwrap_err();
    assert!(matches!(error, PlanError::UnsupportedMachine { .. }));
    assert!(error.to_string().contains("32-bit little-endian x86"), "{error}");
}

#[test]
fn a_file_that_cannot_be_opened_is_left_out_by_name() {
    let libc = allocator("gnu_get_libc_version");
    let (root, proc) = process_with(&[("/bin/a", program().build()), ("/lib/libc.so.6", libc)]);
    let maps = proc.maps(PID).unwrap();
    let (start, end) = (maps[1].start, maps[1].end);
    fs::remove_file(root.path().join(format!("{PID}/map_files/{start:x}-{end:x}"))).unwrap();
    let error = plan_target(&proc, PID, &maps, LINUX, &[]).unwrap_err();
    assert!(error.to_string().contains("/lib/libc.so.6: it cannot be opened"), "{error}");
}

#[test]
fn files_that_may_not_be_opened_are_a_matter_of_rights() {
    let proc = ProcFs::new("/proc");
    let mut survey = Survey::new(&proc, PID, LINUX, &[]);
    survey.leave_out("/lib/libc.so.6", "it cannot be opened");
    assert!(matches!(survey.nothing(), PlanError::NoAllocator { .. }));
    let mut survey = Survey::new(&proc, PID, LINUX, &[]);
    survey.leave_out("/lib/libc.so.6", "it cannot be opened");
    survey.is_denied = true;
    let sentence = survey.nothing().to_string();
    assert!(sentence.contains("CAP_SYS_PTRACE"), "{sentence}");
}

#[test]
fn a_process_that_ends_meanwhile_has_ended() {
    let (root, proc) = process_with(&[("/bin/a", program().build())]);
    let maps = proc.maps(PID).unwrap();
    fs::remove_dir_all(root.path().join(PID.to_string())).unwrap();
    let error = plan_target(&proc, PID, &maps, LINUX, &[]).unwrap_err();
    assert!(matches!(error, PlanError::Process(ProcError::Ended { pid: PID })), "{error}");
}

#[test]
fn a_process_without_user_memory_is_a_kernel_thread() {
    let proc = ProcFs::new("/proc");
    let error = plan_target(&proc, 2, &[], LINUX, &[]).unwrap_err();
    assert!(matches!(error, PlanError::Process(ProcError::KernelThread { pid: 2 })));
}

#[test]
fn the_c_library_of_this_process_is_planned_and_passes_verification() {
    let proc = ProcFs::new("/proc");
    let pid = process::id();
    let maps = proc.maps(pid).unwrap();
    let kernel = proc.kernel_version().unwrap();
    let target = plan_target(&proc, pid, &maps, kernel, &[]).unwrap();
    // Tests of other modules map small allocators for a moment: they were loaded by no linker, so
    // they come after the C library.
    let PlannedObject { plan, file, .. } = &target.objects[0];
    assert!(matches!(plan.allocator, AllocatorId::Glibc | AllocatorId::Musl), "{plan:?}");
    assert!(plan.version.as_deref().is_some_and(|version| version.contains('.')), "{plan:?}");
    assert!(plan.mapping.base_name().contains("libc") || plan.mapping.base_name().contains("musl"));
    for function in [AllocFn::Malloc, AllocFn::Calloc, AllocFn::Realloc, AllocFn::Free] {
        assert!(plan.probes.iter().any(|probe| probe.function == function), "{function:?}");
    }
    for function in [AllocFn::Mmap, AllocFn::Munmap, AllocFn::Mremap, AllocFn::Sbrk] {
        assert!(plan.probes.iter().any(|probe| probe.function == function), "{function:?}");
    }
    verify(plan, file, pid, &proc).unwrap();
}
