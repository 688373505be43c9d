//! The plan for a process: every mapped object that serves allocations, with its open file.

use std::{fs::File, io::ErrorKind};

use thiserror::Error;

use super::{
    load_order::load_order,
    loader::plan_loader,
    plan::{ObjectPlan, plan_object},
};
use crate::{
    allocator::{AllocatorId, GivenNames, opaque},
    elf::{Elf, ElfError},
    model::mapping::{FileId, Mapping},
    sys::{
        kernel::KernelVersion,
        mapped::MappedFile,
        procfs::{ProcError, ProcFs},
    },
};

/// A planned object and the very file that is mapped: probes are attached to
/// `/proc/self/fd/N` of it, which no rename or mount namespace can redirect.
#[derive(Debug)]
pub struct PlannedObject {
    /// The plan.
    pub plan: ObjectPlan,
    /// The mapped file.
    pub file: File,
    /// When it was armed after the window was opened; `None` when before.
    pub armed_after_ns: Option<u64>,
}

/// The plan for a process.
#[derive(Debug, Default)]
pub struct TargetPlan {
    /// In lookup order: the first is the one that serves `malloc`. Never empty.
    pub objects: Vec<PlannedObject>,
    /// The dynamic linker, which tells when the loaded libraries change.
    pub loader: Option<PlannedObject>,
    /// Objects that are, or may be, allocators and are not traced.
    pub left_out: Vec<LeftOut>,
    /// All files that were looked at.
    pub files: Vec<FileId>,
}

/// An object that is not traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its path in the target's mount namespace.
    pub path: String,
    /// Why, as a clause.
    pub reason: String,
}

/// Why a process cannot be traced.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcError),
    /// The executable is for a machine without probes.
    #[error("{path} cannot be traced: {source}")]
    UnsupportedMachine {
        /// The executable.
        path: String,
        /// Names the machine.
        source: ElfError,
    },
    /// A Go program without a C library.
    #[error(
        "{path} is a Go program without a C library: its memory is the Go runtime's, which has no \
         malloc to trace; use Go's own heap profile (net/http/pprof, `go tool pprof`)"
    )]
    StaticGo {
        /// The executable.
        path: String,
    },
    /// A Go program that contains its C library.
    #[error(
        "{path} is a Go program with a C library inside; a return probe in it would crash it, \
         because Go moves its stacks; use Go's own heap profile, or link it dynamically"
    )]
    GoWithAllocator {
        /// The executable.
        path: String,
    },
    /// A statically linked program whose allocator has no name.
    #[error(
        "{path} is statically linked and its symbol table names no malloc and free: it was \
         stripped, or does not allocate by them; run a build that keeps its symbols, or see with \
         --growth who makes its memory grow"
    )]
    StaticStripped {
        /// The executable.
        path: String,
    },
    /// Files may not be opened.
    #[error(
        "the files that process {pid} has mapped may not be opened (permission denied): run as root \
         (sudo), and in a container with CAP_SYS_PTRACE; files that were deleted or replaced, and \
         those of a process in a chroot, take CAP_CHECKPOINT_RESTORE, too"
    )]
    NotPermitted {
        /// The target.
        pid: u32,
    },
    /// No object defines the functions.
    #[error(
        "no object that process {pid} ({path}) has mapped defines both malloc and free{}; if it \
         has just been started, try again in a moment",
        because(.left_out)
    )]
    NoAllocator {
        /// The target.
        pid: u32,
        /// The executable.
        path: String,
        /// Objects that could not be looked into or probed.
        left_out: Vec<LeftOut>,
    },
}

/// Plans the probes of a process. `maps` are its mappings.
///
/// Every object that defines `malloc` and `free` is planned, whichever of them serves: a program
/// may reach several (a plugin's own allocator, a C library that preloads bypass). `given` are names
/// of allocators that are not known.
///
/// Errors: [`PlanError`], when there is nothing to trace.
pub fn plan_target(
    proc: &ProcFs,
    pid: u32,
    maps: &[Mapping],
    kernel: KernelVersion,
    given: &[GivenNames],
) -> Result<TargetPlan, PlanError> {
    if maps.is_empty() {
        return Err(ProcError::KernelThread { pid }.into());
    }
    let mut survey = Survey::new(proc, pid, kernel, given);
    let files = executable_files(maps);
    for file in &files {
        survey.look_at(*file, maps)?;
    }
    let order = load_order(proc, pid, maps);
    survey.finish(order.as_deref(), files)
}

/// Plans what a process has loaded since: the allocators in the files that are not among those that
/// were looked at. Nothing is found in most.
///
/// Errors: when the process cannot be looked at.
pub fn plan_loaded(
    proc: &ProcFs,
    pid: u32,
    maps: &[Mapping],
    kernel: KernelVersion,
    given: &[GivenNames],
    known: &[FileId],
) -> Result<TargetPlan, PlanError> {
    let mut survey = Survey::new(proc, pid, kernel, given);
    let files: Vec<FileId> =
        executable_files(maps).into_iter().filter(|file| !known.contains(file)).collect();
    for file in &files {
        survey.look_at(*file, maps)?;
    }
    let Survey { objects, left_out, .. } = survey;
    Ok(TargetPlan { objects, loader: None, left_out, files })
}

/// The files with executable mappings, each once.
pub fn executable_files(maps: &[Mapping]) -> Vec<FileId> {
    let mut files = Vec::new();
    for file in maps.iter().filter(|map| map.permissions.execute).filter_map(|map| map.file) {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

/// What is known of the executable itself.
#[derive(Default)]
struct Executable {
    path: String,
    file: Option<FileId>,
    is_go: bool,
    is_static: bool,
}

struct Survey<'a> {
    proc: &'a ProcFs,
    pid: u32,
    kernel: KernelVersion,
    given: &'a [GivenNames],
    executable_inode: Option<u64>,
    executable: Executable,
    objects: Vec<PlannedObject>,
    loader: Option<PlannedObject>,
    left_out: Vec<LeftOut>,
    /// Something was left out for want of rights.
    is_denied: bool,
}

impl<'a> Survey<'a> {
    fn new(proc: &'a ProcFs, pid: u32, kernel: KernelVersion, given: &'a [GivenNames]) -> Self {
        // The inode alone: overlayfs shows one device here and another in maps.
        let executable_inode = proc.executable_id(pid).map(|id| id.inode);
        let (executable, objects, loader, left_out) = Default::default();
        Self {
            proc,
            pid,
            kernel,
            given,
            executable_inode,
            executable,
            objects,
            loader,
            left_out,
            is_denied: false,
        }
    }

    fn look_at(&mut self, file: FileId, maps: &[Mapping]) -> Result<(), PlanError> {
        let mappings: Vec<Mapping> = maps
            .iter()
            .filter(|map| map.file == Some(file) && map.permissions.execute)
            .cloned()
            .collect();
        let Some(first) = mappings.first() else { return Ok(()) };
        let is_executable = Some(file.inode) == self.executable_inode;
        if is_executable {
            self.executable.path.clone_from(&first.name);
            self.executable.file = Some(file);
        }
        let opened = match self.proc.open_mapped_file(self.pid, first) {
            Ok(opened) => opened,
            Err(ProcError::NotMappedFile { path, source }) => {
                self.is_denied |= source.kind() == ErrorKind::PermissionDenied;
                self.leave_out(&path, &format!("it cannot be opened ({source})"));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let image = match MappedFile::new(&opened) {
            Ok(image) => image,
            Err(error) => {
                self.leave_out(&first.name, &format!("it cannot be read ({error})"));
                return Ok(());
            }
        };
        let planned = image.read(|image| match Elf::parse(image) {
            Ok(elf) => {
                self.look_for_loader(&elf, &opened, &mappings);
                self.plan(&elf, &mappings, is_executable)
            }
            Err(source) => self.no_elf(&first.name, source, is_executable).map(|()| Vec::new()),
        })?;
        for plan in planned {
            let Ok(file) = opened.try_clone() else { continue };
            self.objects.push(PlannedObject { plan, file, armed_after_ns: None });
        }
        Ok(())
    }

    fn look_for_loader<'d, R: object::ReadRef<'d>>(
        &mut self,
        elf: &Elf<'d, R>,
        file: &File,
        mappings: &[Mapping],
    ) {
        if self.loader.is_none()
            && let Some(plan) = plan_loader(elf, mappings, self.kernel)
            && let Ok(file) = file.try_clone()
        {
            self.loader = Some(PlannedObject { plan, file, armed_after_ns: None });
        }
    }

    fn plan<'d, R: object::ReadRef<'d>>(
        &mut self,
        elf: &Elf<'d, R>,
        mappings: &[Mapping],
        is_executable: bool,
    ) -> Result<Vec<ObjectPlan>, PlanError> {
        if is_executable {
            self.executable.is_go = elf.is_go();
            self.executable.is_static = elf.is_static_program();
        }
        let path = mappings.first().map(|mapping| mapping.name.clone()).unwrap_or_default();
        let given = self.given_for(&path);
        match plan_object(elf, mappings, self.kernel, &given) {
            Ok(plans) if plans.is_empty() => {
                self.look_for_nameless(elf, &path);
                Ok(plans)
            }
            Ok(_) if elf.is_go() && is_executable => Err(PlanError::GoWithAllocator { path }),
            Ok(_) if elf.is_go() => {
                let reason = "it is Go code, whose stacks move: a return probe would crash it";
                self.leave_out(&path, reason);
                Ok(Vec::new())
            }
            Ok(plans) => Ok(plans),
            Err(error) => {
                let reason =
                    format!("{} cannot be probed: {}", error.function.name(), error.reason);
                self.leave_out(&error.path, &reason);
                Ok(Vec::new())
            }
        }
    }

    fn given_for(&self, path: &str) -> Vec<GivenNames> {
        let base_name = path.rsplit('/').next().unwrap_or(path);
        self.given.iter().filter(|names| names.are_for(base_name)).cloned().collect()
    }

    /// An allocator whose functions have no names is known by what it prints.
    fn look_for_nameless<'d, R: object::ReadRef<'d>>(&mut self, elf: &Elf<'d, R>, path: &str) {
        if elf.name_sources().symtab {
            return;
        }
        let is_python = !elf.exported_data(&["_PyRuntime"]).is_empty();
        if let Some(name) = opaque::recognise_nameless(elf.section(".rodata"), is_python) {
            self.leave_out(path, &nameless(name));
        }
    }

    /// Mapped code that is not an ELF file (a JIT's cache) is no allocator; a damaged or foreign
    /// one might be.
    fn no_elf(
        &mut self,
        path: &str,
        source: ElfError,
        is_executable: bool,
    ) -> Result<(), PlanError> {
        match source {
            ElfError::NotElf => {}
            ElfError::UnsupportedMachine { .. } if is_executable => {
                return Err(PlanError::UnsupportedMachine { path: path.to_owned(), source });
            }
            other => self.leave_out(path, &other.to_string()),
        }
        Ok(())
    }

    fn leave_out(&mut self, path: &str, reason: &str) {
        self.left_out.push(LeftOut { path: path.to_owned(), reason: reason.to_owned() });
    }

    fn finish(
        mut self,
        order: Option<&[FileId]>,
        files: Vec<FileId>,
    ) -> Result<TargetPlan, PlanError> {
        if self.objects.is_empty() {
            return Err(self.nothing());
        }
        let executable = self.executable.file;
        self.objects.sort_by_key(|object| rank(&object.plan, order, executable));
        if self.executable.is_go {
            let note = "the target is a Go program: only what its C code allocates is traced, the \
                        Go heap is not";
            self.objects[0].plan.notes.push(note.to_owned());
        }
        let Self { objects, loader, left_out, .. } = self;
        Ok(TargetPlan { objects, loader, left_out, files })
    }

    fn nothing(self) -> PlanError {
        let Executable { path, is_go, is_static, .. } = self.executable;
        match () {
            // The right to look, and not the allocator, is what is missing.
            () if self.is_denied => PlanError::NotPermitted { pid: self.pid },
            () if !self.left_out.is_empty() => {
                PlanError::NoAllocator { pid: self.pid, path, left_out: self.left_out }
            }
            () if is_go => PlanError::StaticGo { path },
            () if is_static => PlanError::StaticStripped { path },
            () => PlanError::NoAllocator { pid: self.pid, path, left_out: Vec::new() },
        }
    }
}

/// Sorts objects by who serves `malloc`: the linker's order where it is known. Else the
/// executable, then allocators that were put before the C library, then the C library.
fn rank(plan: &ObjectPlan, order: Option<&[FileId]>, executable: Option<FileId>) -> usize {
    let file = plan.mapping.file;
    match order {
        Some(order) => order.iter().position(|loaded| Some(*loaded) == file).unwrap_or(order.len()),
        None if file == executable => 0,
        None => match plan.allocator {
            AllocatorId::Glibc | AllocatorId::Musl => 2,
            _ => 1,
        },
    }
}

/// Why an allocator without names is left out.
fn nameless(allocator: &str) -> String {
    format!(
        "it contains {allocator}, by what it prints, whose functions have no names (the file was \
         stripped); what they do is seen only where they obtain pages: --growth shows who does, or \
         use a build that keeps its symbols"
    )
}

fn because(left_out: &[LeftOut]) -> String {
    if left_out.is_empty() {
        return String::new();
    }
    let reasons: Vec<_> =
        left_out.iter().map(|left| format!("{}: {}", left.path, left.reason)).collect();
    format!(" ({})", reasons.join("; "))
}

#[cfg(test)]
mod tests;
