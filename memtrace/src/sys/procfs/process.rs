//! What the kernel tells of one process.

use std::{fs, str};

use procfs::{
    FromRead,
    process::{Stat, StatM},
};

use super::{ProcError, ProcFs};

/// `PF_KTHREAD` of include/linux/sched.h.
const KERNEL_THREAD_FLAG: u32 = 0x0020_0000;

/// A process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// As given.
    pub pid: u32,
    /// The process that it belongs to; differs from `pid` when that names a thread.
    pub thread_group: u32,
    /// The kernel's 15-byte name.
    pub command: String,
    /// Arguments; empty for kernel threads and zombies.
    pub command_line: Vec<String>,
    /// The executable's path in the target's own mount namespace, without ` (deleted)`; empty
    /// when the kernel does not tell.
    pub executable: String,
    /// Start time in clock ticks since boot; with the pid it names a process for good.
    pub start_time_ticks: u64,
    /// Where its main stack begins, by `startstack` of `/proc/PID/stat`; with address space
    /// randomisation another one after each exec. 0 where the kernel does not tell.
    pub stack_start: u64,
    /// It has no user memory.
    pub is_kernel_thread: bool,
    /// It has ended; its parent has not asked for its status yet.
    pub is_zombie: bool,
    /// Effective user.
    pub user: u32,
    /// Threads.
    pub threads: u64,
    /// Whether system calls are filtered.
    pub seccomp: SeccompMode,
    /// It gets no huge pages, by its own wish (`PR_SET_THP_DISABLE`); known since Linux 5.0.
    pub refuses_huge_pages: bool,
    /// VmRSS.
    pub resident_bytes: u64,
    /// VmHWM: the largest VmRSS so far.
    pub peak_resident_bytes: u64,
    /// Its pid in every pid namespace from ours inwards; the last is what it knows itself by.
    pub namespace_pids: Vec<u32>,
}

/// `Seccomp` of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SeccompMode {
    /// 0, or a kernel without seccomp.
    #[default]
    Off,
    /// 1: only read, write, exit and sigreturn.
    Strict,
    /// 2: a filter program decides, as in most containers.
    Filter,
}

impl Process {
    pub(super) fn read(proc: &ProcFs, pid: u32) -> Result<Self, ProcError> {
        let stat = parse_stat(pid, &proc.read(pid, "stat")?)?;
        let status = proc.read(pid, "status").map_err(|error| gone(pid, error))?;
        let status = Status::new(pid, &status);
        let command_line = proc.read(pid, "cmdline").map_err(|error| gone(pid, error))?;
        Ok(Self {
            pid,
            thread_group: status.number("Tgid")?,
            command: stat.comm,
            command_line: arguments(&command_line),
            executable: executable(proc, pid),
            start_time_ticks: stat.starttime,
            stack_start: stat.startstack,
            is_kernel_thread: stat.flags & KERNEL_THREAD_FLAG != 0,
            is_zombie: matches!(stat.state, 'Z' | 'X'),
            user: status.numbers("Uid").get(1).copied().unwrap_or_default(),
            threads: status.number("Threads")?,
            seccomp: status.seccomp(),
            refuses_huge_pages: status.value("THP_enabled") == Some("0"),
            resident_bytes: status.kib("VmRSS")?,
            peak_resident_bytes: status.kib("VmHWM")?,
            namespace_pids: status.numbers("NSpid"),
        })
    }

    /// Whether probes can be attached at all.
    ///
    /// Errors: [`ProcError::Zombie`], [`ProcError::KernelThread`], [`ProcError::Thread`].
    pub fn check_traceable(&self) -> Result<(), ProcError> {
        let pid = self.pid;
        match () {
            () if self.is_kernel_thread => Err(ProcError::KernelThread { pid }),
            () if self.is_zombie => Err(ProcError::Zombie { pid }),
            () if self.thread_group != pid => {
                Err(ProcError::Thread { pid, process: self.thread_group })
            }
            () => Ok(()),
        }
    }
}

/// A process whose `stat` was read and whose next file is not there has ended.
fn gone(pid: u32, error: ProcError) -> ProcError {
    match error {
        ProcError::NoSuchProcess { .. } => ProcError::Ended { pid },
        other => other,
    }
}

/// `/proc/PID/stat` through the procfs crate, which wants text after the command's parentheses.
pub(super) fn parse_stat(pid: u32, bytes: &[u8]) -> Result<Stat, ProcError> {
    let malformed = || ProcError::Malformed {
        pid,
        file: "stat",
        content: String::from_utf8_lossy(bytes).into_owned(),
    };
    let opened = bytes.iter().position(|byte| *byte == b'(').ok_or_else(malformed)?;
    let closed = bytes.iter().rposition(|byte| *byte == b')').ok_or_else(malformed)?;
    if opened == 0 || closed < opened || !bytes[closed..].starts_with(b") ") {
        return Err(malformed());
    }
    Stat::from_read(bytes).map_err(|_| malformed())
}

/// Resident bytes by `/proc/PID/statm`.
pub(super) fn resident_bytes(pid: u32, bytes: &[u8]) -> Result<u64, ProcError> {
    let statm = StatM::from_read(bytes).map_err(|_| ProcError::Malformed {
        pid,
        file: "statm",
        content: String::from_utf8_lossy(bytes).into_owned(),
    })?;
    Ok(statm.resident.saturating_mul(procfs::page_size()))
}

/// One entry of `/proc/PID/auxv`: two native words.
pub(super) fn auxiliary_entry(bytes: &[u8; 16]) -> (u64, u64) {
    let [key, value] = [0, 8].map(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(word)
    });
    (key, value)
}

fn executable(proc: &ProcFs, pid: u32) -> String {
    let link = fs::read_link(proc.path(pid, "exe")).unwrap_or_default();
    let path = link.to_string_lossy();
    path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
}

fn arguments(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\0').unwrap_or(&text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split('\0').map(str::to_owned).collect()
}

/// `/proc/PID/status`. Own reader: the procfs crate's wants every field that a recent kernel has
/// and fails on a command name that is not UTF-8.
pub(super) struct Status {
    pid: u32,
    text: String,
}

impl Status {
    pub(super) fn new(pid: u32, bytes: &[u8]) -> Self {
        Self { pid, text: String::from_utf8_lossy(bytes).into_owned() }
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name == key).then(|| value.trim())
        })
    }

    fn number<T: str::FromStr>(&self, key: &str) -> Result<T, ProcError> {
        let value = self.value(key).unwrap_or_default();
        value.parse().map_err(|_| self.malformed(key, value))
    }

    fn numbers(&self, key: &str) -> Vec<u32> {
        let values = self.value(key).unwrap_or_default();
        values.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
    }

    /// A `123 kB` value; 0 where it is missing, as it is for kernel threads and zombies.
    pub(super) fn kib(&self, key: &str) -> Result<u64, ProcError> {
        Ok(self.kib_if_there(key)?.unwrap_or(0))
    }

    /// A `123 kB` value; `None` where it is missing.
    pub(super) fn kib_if_there(&self, key: &str) -> Result<Option<u64>, ProcError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let kib = value.strip_suffix(" kB").and_then(|number| number.trim().parse::<u64>().ok());
        let bytes = kib.and_then(|kib| kib.checked_mul(1024));
        bytes.map(Some).ok_or_else(|| self.malformed(key, value))
    }

    fn seccomp(&self) -> SeccompMode {
        match self.value("Seccomp") {
            Some("1") => SeccompMode::Strict,
            Some("2") => SeccompMode::Filter,
            _ => SeccompMode::Off,
        }
    }

    fn malformed(&self, key: &str, value: &str) -> ProcError {
        ProcError::Malformed { pid: self.pid, file: "status", content: format!("{key}: {value}") }
    }
}
