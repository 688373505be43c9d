//! A plain read of a process's heap: the bandwidth that there is.

use std::{io, time::Instant};

use anyhow::{Context as _, Result, ensure};
use memtrace::{
    model::{
        mapping::Mapping,
        memory::{PageRun, PageState, Residency as _},
    },
    sys::{pagemap::Pagemap, procfs::ProcFs},
};

/// A buffer that stays in the caches, as a walker's does.
const BUFFER_BYTES: usize = 256 << 10;

/// The resident pages of a process's heap.
pub struct Plain {
    pid: libc::pid_t,
    runs: Vec<PageRun>,
}

impl Plain {
    /// Those of the program break and of anonymous memory that the program writes to.
    pub fn of(pid: u32) -> Result<Self> {
        let proc = ProcFs::new("/proc");
        let pagemap = Pagemap::open(&proc, pid)?;
        let maps = proc.maps(pid)?;
        let runs = maps.iter().filter(|mapping| is_heap(mapping)).map(|mapping| {
            pagemap.runs(mapping.start, mapping.end).context("the target has ended")
        });
        let runs: Vec<Vec<PageRun>> = runs.collect::<Result<_>>()?;
        let is_there = |run: &PageRun| run.state == PageState::Resident;
        let runs = runs.into_iter().flatten().filter(is_there).collect();
        Ok(Self { pid: pid.try_into()?, runs })
    }

    /// How much that is.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// How long it takes to read it all.
    pub fn read_ns(&self) -> Result<f64> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let begun = Instant::now();
        for run in &self.runs {
            for address in (run.start..run.end).step_by(BUFFER_BYTES) {
                let bytes = (run.end - address).min(BUFFER_BYTES as u64) as usize;
                read(self.pid, address, &mut buffer[..bytes])?;
            }
        }
        Ok(begun.elapsed().as_nanos() as f64)
    }
}

fn is_heap(mapping: &Mapping) -> bool {
    mapping.permissions.write
        && mapping.file.is_none()
        && (mapping.name.is_empty() || mapping.name == "[heap]")
}

fn read(pid: libc::pid_t, address: u64, buffer: &mut [u8]) -> Result<()> {
    let iov_len = buffer.len();
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len };
    // SAFETY: the local vector describes the buffer, which is borrowed mutably; the remote one is of
    // the other process, which the kernel checks.
    let bytes =
        unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    ensure!(
        usize::try_from(bytes) == Ok(iov_len),
        "cannot read {iov_len} bytes at {address:#x}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}
