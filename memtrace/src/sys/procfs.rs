//! The only reader of `/proc`.

mod error;
mod family;
mod host;
mod maps;
mod mounts;
mod process;
mod resident;
mod rollup;
mod smaps;
mod tasks;
mod watching;

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

pub use self::{
    error::ProcError,
    process::{Process, SeccompMode},
    resident::Resident,
    smaps::MappingPages,
};
use super::kernel::{BadRelease, KernelVersion};
use crate::model::mapping::{FileId, Mapping};

/// A mounted proc file system.
#[derive(Clone, Debug)]
pub struct ProcFs {
    root: PathBuf,
}

impl ProcFs {
    /// The proc file system that is mounted at `root`, which is `/proc` outside of tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The running kernel's version.
    pub fn kernel_version(&self) -> io::Result<KernelVersion> {
        let release = fs::read_to_string(self.root.join("sys/kernel/osrelease"))?;
        KernelVersion::parse(&release).map_err(|bad: BadRelease| io::Error::other(bad))
    }

    /// Whether the Yama security module lets only a process's ancestors read its memory, root apart
    /// (Documentation/admin-guide/LSM/Yama.rst).
    pub fn yama_restricts(&self) -> bool {
        let scope = fs::read_to_string(self.root.join("sys/kernel/yama/ptrace_scope"));
        scope.is_ok_and(|scope| scope.trim() != "0")
    }

    /// Whether the files in a process's directory belong to memtrace's own user: those of others, and of
    /// processes that may not be looked into, take the right to read any file.
    pub fn is_own(&self, pid: u32) -> bool {
        let owner = fs::metadata(self.path(pid, "mem")).map(|metadata| metadata.uid());
        owner.is_ok_and(|owner| owner == rustix::process::geteuid().as_raw())
    }

    /// The mappings of a process, by address. Empty for kernel threads.
    ///
    /// Errors: [`ProcError::Zombie`] when the process has ended and its memory is gone.
    pub fn maps(&self, pid: u32) -> Result<Vec<Mapping>, ProcError> {
        let text = self.read(pid, "maps")?;
        let maps = maps::parse(&text).map_err(|line| ProcError::Malformed {
            pid,
            file: "maps",
            content: line,
        })?;
        if maps.is_empty() && self.process(pid)?.is_zombie {
            return Err(ProcError::Zombie { pid });
        }
        Ok(maps)
    }

    /// What the kernel counts for each mapping. It walks all page tables for it: some milliseconds
    /// for a gigabyte.
    pub fn mapping_pages(&self, pid: u32) -> Result<Vec<MappingPages>, ProcError> {
        let text = self.read(pid, "smaps")?;
        smaps::parse(&text).map_err(|content| ProcError::Malformed { pid, file: "smaps", content })
    }

    /// Devices (major, minor) of the file systems in a process's mount namespace that live in
    /// memory.
    pub fn devices_in_memory(&self, pid: u32) -> Result<Vec<(u32, u32)>, ProcError> {
        Ok(mounts::in_memory(&self.read(pid, "mountinfo")?))
    }

    /// What `/proc/PID/{stat,status,cmdline,exe}` tell of a process.
    pub fn process(&self, pid: u32) -> Result<Process, ProcError> {
        Process::read(self, pid)
    }

    /// Resident bytes of a process; cheap, but (on kernels since 6.2, by up to some dozen pages a
    /// CPU) approximate, as `VmRSS` is.
    pub fn rss_bytes(&self, pid: u32) -> Result<u64, ProcError> {
        process::resident_bytes(pid, &self.read(pid, "statm")?)
    }

    /// Resident bytes of a process as `/proc/PID/status` tells them, with their peak and parts.
    pub fn resident(&self, pid: u32) -> Result<Resident, ProcError> {
        Resident::read(self, pid)
    }

    /// The address space of a process without its stack, which grows by itself, in bytes; `None` when it
    /// has ended.
    pub fn address_space_bytes(&self, pid: u32) -> Option<u64> {
        let status = process::Status::new(pid, &self.read(pid, "status").ok()?);
        let all = status.kib("VmSize").ok().filter(|bytes| *bytes > 0)?;
        all.checked_sub(status.kib("VmStk").ok()?)
    }

    /// Sets the process's high-water mark of RSS (VmHWM) back to its RSS of now, for everybody who
    /// reads it (proc_pid_clear_refs(5), since Linux 4.0). Takes the rights of a debugger.
    pub fn reset_peak(&self, pid: u32) -> Result<(), ProcError> {
        fs::write(self.path(pid, "clear_refs"), "5")
            .map_err(|error| self.explain(pid, "clear_refs", error))
    }

    /// The control groups of a process, as the kernel writes them.
    pub fn control_groups(&self, pid: u32) -> Result<String, ProcError> {
        Ok(String::from_utf8_lossy(&self.read(pid, "cgroup")?).into_owned())
    }

    /// The executable's identity by `/proc/PID/exe`; `None` when it cannot be looked at.
    pub fn executable_id(&self, pid: u32) -> Option<FileId> {
        fs::metadata(self.executable_of(pid)).ok().as_ref().map(file_id)
    }

    /// The executable of a process, as a link that leads into its mount namespace.
    pub fn executable_of(&self, pid: u32) -> PathBuf {
        self.path(pid, "exe")
    }

    /// The root directory of a process, as a link that leads into its mount namespace.
    pub fn root_of(&self, pid: u32) -> PathBuf {
        self.path(pid, "root")
    }

    /// The memory of a process, for positioned reads at its addresses.
    pub fn open_memory(&self, pid: u32) -> Result<File, ProcError> {
        File::open(self.path(pid, "mem")).map_err(|error| self.explain(pid, "mem", error))
    }

    /// The page map of a process: which pages are in memory.
    pub fn open_pagemap(&self, pid: u32) -> Result<File, ProcError> {
        File::open(self.path(pid, "pagemap")).map_err(|error| self.explain(pid, "pagemap", error))
    }

    /// The auxiliary vector as (type, value) pairs.
    pub fn auxiliary_vector(&self, pid: u32) -> Result<Vec<(u64, u64)>, ProcError> {
        let bytes = self.read(pid, "auxv")?;
        Ok(bytes.as_chunks::<16>().0.iter().map(process::auxiliary_entry).collect())
    }

    /// Opens the very file that is mapped, also when it is deleted, replaced or in another mount
    /// namespace.
    ///
    /// `map_files/START-END` leads to the mapped file by construction. Where that link may not be
    /// followed (it takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE), `root/PATH` is accepted when
    /// it is [`same_file`].
    ///
    /// Errors: [`ProcError::NotMappedFile`] when neither gives that file.
    pub fn open_mapped_file(&self, pid: u32, mapping: &Mapping) -> Result<File, ProcError> {
        let by_address = self.map_file_path(pid, mapping);
        let refused = match open_regular(&by_address) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let by_path = self.path_in_namespace(pid, mapping);
        let file = open_regular(&by_path).map_err(|_| self.not_mapped(pid, mapping, refused))?;
        if self.is_mapped_file(pid, mapping, &file).unwrap_or(false) {
            return Ok(file);
        }
        let replaced = io::Error::other("another file has its path now");
        Err(self.not_mapped(pid, mapping, replaced))
    }

    /// Whether an open file is the one that is mapped: the target of `map_files/START-END` where
    /// that can be looked at, else [`same_file`].
    pub fn is_mapped_file(&self, pid: u32, mapping: &Mapping, file: &File) -> io::Result<bool> {
        let ours = file_id(&file.metadata()?);
        match fs::metadata(self.map_file_path(pid, mapping)) {
            Ok(mapped) => Ok(file_id(&mapped) == ours),
            Err(_) => Ok(mapping.file.is_some_and(|mapped| same_file(mapped, ours))),
        }
    }

    /// Reads a whole file of a process's directory.
    fn read(&self, pid: u32, file: &'static str) -> Result<Vec<u8>, ProcError> {
        fs::read(self.path(pid, file)).map_err(|error| self.explain(pid, file, error))
    }

    fn explain(&self, pid: u32, file: &'static str, error: io::Error) -> ProcError {
        let directory_exists = self.root.join(pid.to_string()).exists();
        ProcError::from_io(pid, file, error, directory_exists)
    }

    fn not_mapped(&self, pid: u32, mapping: &Mapping, source: io::Error) -> ProcError {
        if !self.root.join(pid.to_string()).exists() {
            return ProcError::Ended { pid };
        }
        ProcError::NotMappedFile { path: mapping.name.clone(), source }
    }

    fn path(&self, pid: u32, file: &str) -> PathBuf {
        self.root.join(pid.to_string()).join(file)
    }

    fn map_file_path(&self, pid: u32, mapping: &Mapping) -> PathBuf {
        self.path(pid, &format!("map_files/{:x}-{:x}", mapping.start, mapping.end))
    }

    fn path_in_namespace(&self, pid: u32, mapping: &Mapping) -> PathBuf {
        let inside = mapping.name.trim_start_matches('/');
        self.path(pid, "root").join(Path::new(OsStr::from_bytes(inside.as_bytes())))
    }
}

/// Whether two identities can be the same file: the inode must be equal; the device may differ,
/// because overlayfs and btrfs report another `st_dev` than `maps` shows. Whoever arms a probe on
/// the strength of this compares the process's memory with the file as well (`probe::verify`).
fn same_file(mapped: FileId, opened: FileId) -> bool {
    mapped.inode == opened.inode
}

/// Start of the page that the kernel puts in place of return addresses that have a return probe
/// (`[uprobes]`); `None` while no probe has made the kernel map it.
pub fn uprobe_trampoline(maps: &[Mapping]) -> Option<u64> {
    maps.iter().find(|mapping| mapping.name == "[uprobes]").map(|mapping| mapping.start)
}

/// Opens a regular file; anything else (a device, a FIFO) is not even opened.
fn open_regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // NONBLOCK: the name may have become a FIFO since.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

fn file_id(metadata: &Metadata) -> FileId {
    let device = metadata.dev();
    FileId { device: (rustix::fs::major(device), rustix::fs::minor(device)), inode: metadata.ino() }
}

#[cfg(test)]
mod tests;
