//! On a small library that is really mapped into this process, and then changed.

use std::{fs, io::Write, path::Path, process, ptr};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tempfile::{NamedTempFile, TempDir};

use super::*;
use crate::{
    elf::tests::{CODE_OFFSET, NOTE_OFFSET, TestElf, TestSymbol},
    probe::plan::plan_object,
    sys::kernel::KernelVersion,
};

/// malloc: endbr64; push %rbx; pop %rbx; ret. free: test %rdi,%rdi; je +1; ret; ret.
/// calloc: nop5; ret.
const CODE: [u8; 24] = [
    0xf3, 0x0f, 0x1e, 0xfa, 0x53, 0x5b, 0xc3, 0xcc, 0x48, 0x85, 0xff, 0x74, 0x01, 0xc3, 0xc3, 0xcc,
    0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3, 0xcc, 0xcc,
];

/// A library that is mapped while this lives.
struct Mapped {
    file: File,
    path: std::path::PathBuf,
    address: *mut std::ffi::c_void,
    length: usize,
    _directory: TempDir,
}

impl Mapped {
    fn new(content: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("liballoc.so");
        fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        let protection = ProtFlags::READ | ProtFlags::EXEC;
        // SAFETY: a new private mapping at an address that the kernel chooses; nothing reads it
        // through a reference.
        let address = unsafe {
            mmap(ptr::null_mut(), content.len(), protection, MapFlags::PRIVATE, &file, 0)
        };
        let address = address.unwrap();
        Self { file, path, address, length: content.len(), _directory: directory }
    }

    fn unmap(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping that `new` made, to which no reference exists.
            unsafe { munmap(self.address, self.length) }.unwrap();
            self.length = 0;
        }
    }

    fn plan(&self) -> ObjectPlan {
        let path = self.path.to_str().unwrap();
        let mut maps = proc().maps(process::id()).unwrap();
        maps.retain(|mapping| mapping.name == path);
        let content = fs::read(&self.path).unwrap();
        let elf = Elf::parse(content.as_slice()).unwrap();
        plan_object(&elf, &maps, KernelVersion::new(6, 18), &[]).unwrap().remove(0)
    }

    fn verify(&self, plan: &ObjectPlan) -> Result<(), VerifyError> {
        verify(plan, &self.file, process::id(), &proc())
    }

    /// Changes the file in place, as `dd conv=notrunc` would. The mapping shows it too.
    fn change_file(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// Changes this process's private copy, as a debugger would.
    fn change_memory(&self, offset: u64, bytes: &[u8]) {
        let memory = File::options().write(true).open("/proc/self/mem").unwrap();
        memory.write_all_at(bytes, self.address as u64 + offset).unwrap();
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.unmap();
    }
}

fn proc() -> ProcFs {
    ProcFs::new("/proc")
}

fn library(build_id: u8, code: &[u8]) -> Vec<u8> {
    let names = ["malloc", "free", "calloc"];
    let symbols = (0u64..).zip(names).map(|(index, name)| TestSymbol::function(name, 8 * index, 7));
    TestElf {
        build_id: vec![build_id; 20],
        code: code.to_vec(),
        symbols: symbols.collect(),
        ..TestElf::default()
    }
    .build()
}

fn mapped() -> (Mapped, ObjectPlan) {
    let library = Mapped::new(&library(1, &CODE));
    let plan = library.plan();
    (library, plan)
}

const MALLOC_SITE: u64 = CODE_OFFSET + 4;
const FREE_SITE: u64 = CODE_OFFSET + 11;
const CALLOC_SITE: u64 = CODE_OFFSET + 16;
const BUILD_ID: u64 = NOTE_OFFSET as u64 + 16;

#[test]
fn an_unchanged_object_passes() {
    let (library, plan) = mapped();
    let sites: Vec<_> = plan.probes.iter().map(|probe| probe.file_offset).collect();
    assert_eq!(sites, [MALLOC_SITE, CALLOC_SITE, FREE_SITE]);
    library.verify(&plan).unwrap();
}

#[test]
fn another_file_is_refused_even_with_the_same_content() {
    let (library, plan) = mapped();
    let mut copy = NamedTempFile::new().unwrap();
    copy.write_all(&fs::read(&library.path).unwrap()).unwrap();
    let other = File::open(copy.path()).unwrap();
    let error = verify(&plan, &other, process::id(), &proc()).unwrap_err();
    assert!(matches!(error, VerifyError::OtherFile { .. }), "{error}");
}

#[test]
fn a_file_that_replaced_the_mapped_one_is_refused_and_the_mapped_one_is_not() {
    let (library, plan) = mapped();
    let new = library.path.with_extension("new");
    fs::write(&new, self::library(2, &CODE)).unwrap();
    fs::rename(&new, &library.path).unwrap();
    let replacement = File::open(&library.path).unwrap();
    // The kernel now shows the mapping as deleted: still the same mapping of the same file.
    let error = verify(&plan, &replacement, process::id(), &proc()).unwrap_err();
    assert!(matches!(error, VerifyError::OtherFile { .. }), "{error}");
    library.verify(&plan).unwrap();
}

#[test]
fn one_byte_changed_at_a_site_is_refused() {
    for site in [MALLOC_SITE, FREE_SITE] {
        let (library, plan) = mapped();
        library.change_file(site, &[0x90]);
        let error = library.verify(&plan).unwrap_err();
        assert!(matches!(error, VerifyError::OtherCode { .. }), "{error}");
    }
}

#[test]
fn a_site_that_has_come_to_lie_inside_an_instruction_is_refused() {
    let (library, plan) = mapped();
    // movabs $imm,%rax over the bytes before the site, which keeps its own bytes.
    library.change_file(CODE_OFFSET, &[0x48, 0xb8, 0, 0]);
    let error = library.verify(&plan).unwrap_err();
    assert!(matches!(error, VerifyError::OtherCode { .. }), "{error}");
}

#[test]
fn a_changed_build_id_is_refused() {
    let (library, plan) = mapped();
    library.change_file(BUILD_ID, &[2]);
    let error = library.verify(&plan).unwrap_err();
    assert!(matches!(error, VerifyError::OtherBuild { .. }), "{error}");
}

#[test]
fn a_plan_for_one_library_is_refused_on_another() {
    let (library_a, plan_a) = mapped();
    let shifted: Vec<u8> = [0x90; 8].into_iter().chain(CODE[..16].to_vec()).collect();
    let library_b = Mapped::new(&library(2, &shifted));
    let error = library_b.verify(&plan_a).unwrap_err();
    assert!(matches!(error, VerifyError::OtherFile { .. }), "{error}");
    // Even if it were the same file and the same mapping, as after `cp B A`.
    library_a.change_file(0, &fs::read(&library_b.path).unwrap());
    let error = library_a.verify(&plan_a).unwrap_err();
    assert!(matches!(error, VerifyError::OtherBuild { .. }), "{error}");
    // Even if B had A's build ID.
    library_a.change_file(BUILD_ID, &[1; 20]);
    let error = library_a.verify(&plan_a).unwrap_err();
    assert!(matches!(error, VerifyError::OtherCode { .. }), "{error}");
}

#[test]
fn code_that_was_patched_in_memory_only_is_refused() {
    let (library, plan) = mapped();
    library.change_memory(FREE_SITE, &[0xeb]);
    let error = library.verify(&plan).unwrap_err();
    let is_free = |function| function == AllocFn::Free;
    assert!(matches!(error, VerifyError::OtherMemory { function, .. } if is_free(function)));
}

#[test]
fn memory_of_another_build_is_refused() {
    let (library, plan) = mapped();
    library.change_memory(BUILD_ID, &[7]);
    let error = library.verify(&plan).unwrap_err();
    assert!(matches!(error, VerifyError::OtherBuild { .. }), "{error}");
}

#[test]
fn the_probe_of_another_tracer_is_tolerated() {
    let (library, plan) = mapped();
    library.change_memory(FREE_SITE, &[INT3]);
    library.verify(&plan).unwrap();
    // The kernel's optimised probe on a 5-byte nop.
    library.change_memory(CALLOC_SITE, &[CALL, 1, 2, 3, 4]);
    library.verify(&plan).unwrap();
    library.change_memory(FREE_SITE, &[CALL]);
    assert!(matches!(library.verify(&plan), Err(VerifyError::OtherMemory { .. })));
}

#[test]
fn a_mapping_that_is_gone_is_refused() {
    let (mut library, plan) = mapped();
    library.unmap();
    let error = library.verify(&plan).unwrap_err();
    assert!(matches!(error, VerifyError::MappingChanged { .. }), "{error}");
}

#[test]
fn a_truncated_file_is_refused() {
    let (library, plan) = mapped();
    File::options().write(true).open(&library.path).unwrap().set_len(CODE_OFFSET).unwrap();
    let error = library.verify(&plan).unwrap_err();
    assert!(matches!(error, VerifyError::Elf { .. } | VerifyError::OtherCode { .. }), "{error}");
    File::options().write(true).open(&library.path).unwrap().set_len(10).unwrap();
    let error = library.verify(&plan).unwrap_err();
    assert!(matches!(error, VerifyError::Elf { .. }), "{error}");
}

#[test]
fn a_process_that_has_ended_is_named() {
    let (library, plan) = mapped();
    let empty = tempfile::tempdir().unwrap();
    let error = verify(&plan, &library.file, 42, &ProcFs::new(empty.path())).unwrap_err();
    assert!(matches!(error, VerifyError::Process(ProcError::NoSuchProcess { pid: 42 })));
}

#[test]
fn every_refusal_says_what_to_do() {
    let (path, pid, function) = ("/lib/x.so".to_owned(), 42, AllocFn::Free);
    for error in [
        VerifyError::OtherFile { path: path.clone(), pid },
        VerifyError::MappingChanged { path: path.clone(), pid },
        VerifyError::OtherBuild { path: path.clone() },
        VerifyError::OtherCode { path: path.clone(), function },
        VerifyError::Elf { path: path.clone(), source: ElfError::NotElf },
    ] {
        let sentence = error.to_string();
        assert!(sentence.contains("run memtrace again"), "{sentence}");
        assert!(sentence.contains(path.as_str()) && Path::new(&path).is_absolute());
    }
}
