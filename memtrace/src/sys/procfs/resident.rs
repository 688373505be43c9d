//! How much of a process is resident.

use super::{ProcError, ProcFs, process::Status};
use crate::model::timeline::RssParts;

/// Resident bytes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// VmRSS; 0 when the process has ended.
    pub bytes: u64,
    /// VmHWM: the largest VmRSS so far, or since it was reset.
    pub peak_bytes: u64,
    /// What it consists of; since Linux 4.5.
    pub parts: Option<RssParts>,
}

impl Resident {
    pub(super) fn read(proc: &ProcFs, pid: u32) -> Result<Self, ProcError> {
        let status = Status::new(pid, &proc.read(pid, "status")?);
        Ok(Self {
            bytes: status.kib("VmRSS")?,
            peak_bytes: status.kib("VmHWM")?,
            parts: parts(&status)?,
        })
    }
}

fn parts(status: &Status) -> Result<Option<RssParts>, ProcError> {
    let Some(anonymous_bytes) = status.kib_if_there("RssAnon")? else { return Ok(None) };
    let (file_bytes, shmem_bytes) = (status.kib("RssFile")?, status.kib("RssShmem")?);
    Ok(Some(RssParts { anonymous_bytes, file_bytes, shmem_bytes }))
}

#[cfg(test)]
mod tests {
    use std::{fs, hint, process};

    use super::*;

    fn fake(status: &str) -> Result<Resident, ProcError> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("42")).unwrap();
        fs::write(root.path().join("42/status"), status).unwrap();
        ProcFs::new(root.path()).resident(42)
    }

    #[test]
    fn parts_are_told_where_the_kernel_tells_them() {
        let new =
            "VmHWM:\t 9 kB\nVmRSS:\t 7 kB\nRssAnon:\t 4 kB\nRssFile:\t 2 kB\nRssShmem:\t 1 kB\n";
        let parts =
            RssParts { anonymous_bytes: 4 << 10, file_bytes: 2 << 10, shmem_bytes: 1 << 10 };
        let read = fake(new).unwrap();
        assert_eq!(read, Resident { bytes: 7 << 10, peak_bytes: 9 << 10, parts: Some(parts) });
        let old = fake("VmHWM:\t 9 kB\nVmRSS:\t 7 kB\n").unwrap();
        assert_eq!(old, Resident { bytes: 7 << 10, peak_bytes: 9 << 10, parts: None });
        assert_eq!(fake("Name:\tzombie\n").unwrap(), Resident::default());
        assert!(matches!(fake("VmRSS:\t7 MB\n"), Err(ProcError::Malformed { .. })));
    }

    #[test]
    fn a_reset_forgets_a_peak_that_is_over() {
        const BYTES: usize = 64 << 20;
        let (proc, this) = (ProcFs::new("/proc"), process::id());
        let mut peak = vec![1_u8; BYTES];
        hint::black_box(&mut peak);
        drop(peak);
        let before = proc.resident(this).unwrap();
        assert!(before.peak_bytes >= BYTES as u64, "{before:?}");
        proc.reset_peak(this).unwrap();
        let after = proc.resident(this).unwrap();
        assert!(after.peak_bytes < before.peak_bytes, "{before:?} {after:?}");
        let parts = after.parts.unwrap();
        let sum = parts.anonymous_bytes + parts.file_bytes + parts.shmem_bytes;
        assert!(sum.abs_diff(after.bytes) < 4 << 20, "{after:?}");
    }
}
