//! The moment when a program has its libraries, and none of their code has run.
//!
//! A static program has all from the beginning, and so has one of musl: its C library is the linker.
//! glibc's linker maps all libraries, then sets the thread pointer up (`arch_prctl(ARCH_SET_FS)`;
//! rtld.c: `init_tls`), then relocates them and runs their constructors. It is stopped there, at the
//! entry of that system call.

use nix::unistd::Pid;

use super::{
    LaunchError,
    setuid::warn_of_lost_rights,
    stop::{Stop, go_on, next_stop},
};
use crate::{
    model::mapping::{FileId, Mapping},
    sys::procfs::{ProcError, ProcFs},
};

/// Key of the auxiliary vector (<elf.h>): where the linker is; 0 without one.
const AT_BASE: u64 = 7;
/// <linux/audit.h>
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// <asm/prctl.h>
const ARCH_SET_FS: u64 = 0x1002;

/// Lets a program that waits at its start run up to there.
pub(super) fn run_until_loaded(proc: &ProcFs, pid: u32) -> Result<(), LaunchError> {
    warn_of_lost_rights(proc, pid);
    let Some(linker) = Linker::of(proc, pid).map_err(unreadable)? else { return Ok(()) };
    let target = Pid::from_raw(pid as i32);
    let mut loading = Loading { proc, pid, linker, has_threads: false };
    let mut stop = Stop::Exec;
    loop {
        go_on(target, stop, true)?;
        stop = next_stop(target)?;
        if stop == Stop::SystemCall && loading.is_over(target)? {
            return Ok(());
        }
    }
}

fn unreadable(error: ProcError) -> LaunchError {
    LaunchError::Hold(std::io::Error::other(error))
}

/// The dynamic linker of a process that has just been started.
struct Linker {
    file: FileId,
    /// Its code.
    code: Vec<Mapping>,
}

impl Linker {
    /// `None` where there is nothing to wait for.
    fn of(proc: &ProcFs, pid: u32) -> Result<Option<Self>, ProcError> {
        let auxiliary = proc.auxiliary_vector(pid)?;
        let base = auxiliary.iter().find(|(key, _)| *key == AT_BASE).map_or(0, |(_, base)| *base);
        Ok(Self::at(base, &proc.maps(pid)?))
    }

    fn at(base: u64, maps: &[Mapping]) -> Option<Self> {
        let first = maps.iter().find(|mapping| mapping.contains(base))?;
        let file = first.file.filter(|_| !first.base_name().contains("musl"))?;
        let is_code = |map: &&Mapping| map.file == Some(file) && map.permissions.execute;
        Some(Self { file, code: maps.iter().filter(is_code).cloned().collect() })
    }

    fn contains(&self, address: u64) -> bool {
        self.code.iter().any(|mapping| mapping.contains(address))
    }
}

/// What is seen of the linker's work.
struct Loading<'a> {
    proc: &'a ProcFs,
    pid: u32,
    linker: Linker,
    /// The thread pointer is about to be set, or was.
    has_threads: bool,
}

impl Loading<'_> {
    /// At a stop: whether it has got far enough, or further than it should.
    fn is_over(&mut self, target: Pid) -> Result<bool, LaunchError> {
        let call = match nix::sys::ptrace::syscall_info(target) {
            Ok(call) => call,
            Err(errno) => return Err(super::stop::Gone::from(errno).into()),
        };
        if call.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(false);
        }
        if call.arch != AUDIT_ARCH_X86_64 || !self.linker.contains(call.instruction_pointer) {
            return Ok(true);
        }
        // SAFETY: at an entry, this is the member of the union that the kernel has filled in.
        let entry = unsafe { call.u.entry };
        self.has_threads |= entry.nr == libc::SYS_arch_prctl as u64 && entry.args[0] == ARCH_SET_FS;
        // With LD_AUDIT, it is set up before the program's libraries are mapped.
        Ok(self.has_threads && self.has_libraries().map_err(unreadable)?)
    }

    fn has_libraries(&self) -> Result<bool, ProcError> {
        let program = self.proc.executable_id(self.pid).map(|id| id.inode);
        let is_library = |map: &Mapping| {
            let is_other = |file: FileId| file != self.linker.file && Some(file.inode) != program;
            map.permissions.execute && map.file.is_some_and(is_other)
        };
        Ok(self.proc.maps(self.pid)?.iter().any(is_library))
    }
}
