//! A live process's memory.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicBool, Ordering},
};

use super::procfs::{ProcError, ProcFs};
use crate::model::memory::TargetMemory;

/// Most parts of one call: `UIO_MAXIOV` of include/uapi/linux/uio.h.
const MAX_PARTS: usize = 1024;

/// Larger single reads are worth the check that `process_vm_readv` needs.
const LARGE_BYTES: usize = 32 << 10;

/// The memory of the program that a process runs now: after an exec nothing can be read any more.
///
/// `/proc/PID/mem` is bound to that memory when it is opened, but copies by way of the kernel's own
/// pages; `process_vm_readv` copies directly, many parts in a call, but goes by the pid, which may
/// come to mean other memory. So it does the reading, and the file tells afterwards whether the
/// memory of the beginning is still there.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
    pid: libc::pid_t,
    /// `process_vm_readv` may be called: a seccomp filter (a container's) can forbid it.
    direct: AtomicBool,
}

impl ProcessMemory {
    /// Opens a process's memory.
    pub fn open(proc: &ProcFs, pid: u32) -> Result<Self, ProcError> {
        let file = proc.open_memory(pid)?;
        let pid = libc::pid_t::try_from(pid).map_err(|_| ProcError::NoSuchProcess { pid })?;
        Ok(Self { file, pid, direct: AtomicBool::new(true) })
    }

    /// Whether the memory of the beginning is still there, asked at an address that can be read.
    fn is_there(&self, address: u64) -> bool {
        self.file.read_exact_at(&mut [0], address).is_ok()
    }

    /// Whether the process has come to have other memory, by an exec, or has ended: the file is empty then,
    /// while of memory that is there an address which is not mapped is an error.
    pub fn is_gone(&self) -> bool {
        matches!(self.file.read_at(&mut [0], 0), Ok(0))
    }

    /// Fills what can be filled in one go, and tells how many parts that was.
    fn read_directly(&self, parts: &mut [(u64, &mut [u8])]) -> usize {
        if parts.is_empty() || !self.direct.load(Ordering::Relaxed) {
            return 0;
        }
        let bytes = match process_vm_readv(self.pid, parts) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.give_up_directness(&error);
                return 0;
            }
        };
        let filled = filled_parts(parts, bytes);
        if filled > 0 && !self.is_there(parts[0].0) { 0 } else { filled }
    }

    /// Anything but a bad address will not be better the next time.
    fn give_up_directness(&self, error: &io::Error) {
        if error.raw_os_error() != Some(libc::EFAULT) {
            self.direct.store(false, Ordering::Relaxed);
        }
    }

    fn read_by_file(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.file.read_exact_at(buffer, address).is_ok()
    }
}

impl TargetMemory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let is_large = buffer.len() >= LARGE_BYTES;
        if is_large && self.read_directly(&mut [(address, &mut *buffer)]) == 1 {
            return true;
        }
        self.read_by_file(address, buffer)
    }

    fn read_many(&self, parts: &mut [(u64, &mut [u8])]) -> Vec<bool> {
        let mut done = Vec::with_capacity(parts.len());
        while done.len() < parts.len() {
            let end = parts.len().min(done.len() + MAX_PARTS);
            let filled = self.read_directly(&mut parts[done.len()..end]);
            done.resize(done.len() + filled, true);
            // The part at which the call stopped; by itself it tells whether it can be read.
            if let Some((address, buffer)) = parts[..end].get_mut(done.len()) {
                done.push(self.read_by_file(*address, buffer));
            }
        }
        done
    }
}

/// How many parts, from the first on, are filled by so many bytes.
fn filled_parts(parts: &[(u64, &mut [u8])], bytes: usize) -> usize {
    let ends = parts.iter().scan(0, |end, (_, buffer)| {
        *end += buffer.len();
        Some(*end)
    });
    ends.take_while(|end| *end <= bytes).count()
}

/// Reads as many bytes of the parts as can be read without a gap, from the first part on.
///
/// # Errors
/// `EFAULT` when not even the first can be read; `ESRCH`, `EPERM`, `ENOSYS` (process_vm_readv(2)).
fn process_vm_readv(pid: libc::pid_t, parts: &mut [(u64, &mut [u8])]) -> io::Result<usize> {
    let (local, remote): (Vec<_>, Vec<_>) = parts
        .iter_mut()
        .map(|(address, buffer)| {
            let (base, iov_len) = (buffer.as_mut_ptr(), buffer.len());
            let local = libc::iovec { iov_base: base.cast(), iov_len };
            (local, libc::iovec { iov_base: *address as *mut libc::c_void, iov_len })
        })
        .unzip();
    let count = local.len() as libc::c_ulong;
    // SAFETY: the local vectors describe the buffers, which are borrowed mutably and do not
    // overlap; the remote ones are addresses of the other process, which the kernel checks.
    let bytes =
        unsafe { libc::process_vm_readv(pid, local.as_ptr(), count, remote.as_ptr(), count, 0) };
    usize::try_from(bytes).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> ProcessMemory {
        ProcessMemory::open(&ProcFs::new("/proc"), std::process::id()).unwrap()
    }

    /// Reads words at these addresses in one call.
    fn words(memory: &ProcessMemory, addresses: &[u64]) -> Vec<Option<u64>> {
        let mut words = vec![[0; 8]; addresses.len()];
        let mut parts: Vec<_> =
            addresses.iter().copied().zip(words.iter_mut().map(|word| &mut word[..])).collect();
        let read = memory.read_many(&mut parts);
        let filled = |(word, read): (&[u8; 8], &bool)| read.then(|| u64::from_le_bytes(*word));
        words.iter().zip(&read).map(filled).collect()
    }

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let memory = own();
        let word = 0x1234_5678_9abc_def0_u64;
        assert_eq!(memory.read_u64(&raw const word as u64), Some(word));
        assert_eq!(memory.read_u64(8), None);
    }

    #[test]
    fn a_part_that_cannot_be_read_does_not_hide_the_others() {
        let values: Vec<u64> = (0..3000).map(|value| value * 7).collect();
        let mut addresses: Vec<u64> = values.iter().map(|value| value as *const _ as u64).collect();
        let unreadable = [0, 1, 1023, 1024, 2047, 2999];
        unreadable.iter().for_each(|index| addresses[*index] = 8);
        let read = words(&own(), &addresses);
        for (index, value) in values.iter().enumerate() {
            let expected = (!unreadable.contains(&index)).then_some(*value);
            assert_eq!(read[index], expected, "{index}");
        }
    }

    #[test]
    fn without_the_system_call_the_file_is_read() {
        let memory = own();
        memory.direct.store(false, Ordering::Relaxed);
        let word = 5_u64;
        assert_eq!(words(&memory, &[&raw const word as u64, 8]), [Some(5), None]);
    }

    #[test]
    fn a_large_buffer_is_read_whole_or_not_at_all() {
        let bytes = vec![7; 3 * LARGE_BYTES];
        let mut copy = vec![0; bytes.len()];
        assert!(own().read(bytes.as_ptr() as u64, &mut copy));
        assert_eq!(copy, bytes);
        assert!(!own().read(8, &mut copy));
    }

    /// What a pid means after an exec is other memory, at addresses that may be the same.
    #[test]
    fn after_the_process_has_ended_nothing_is_read() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let proc = ProcFs::new("/proc");
        let memory = ProcessMemory::open(&proc, child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let other = ProcessMemory { pid: std::process::id() as libc::pid_t, ..memory };
        let word = 5_u64;
        assert_eq!(words(&other, &[&raw const word as u64]), [None]);
    }

    #[test]
    fn partly_filled_parts_are_not_filled() {
        let (mut first, mut second) = ([0; 4], [0; 4]);
        let parts = [(0, &mut first[..]), (0, &mut second[..])];
        assert_eq!([0, 3, 4, 7, 8].map(|bytes| filled_parts(&parts, bytes)), [0, 0, 1, 1, 2]);
    }
}
