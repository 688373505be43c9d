//! `/proc/PID/smaps_rollup`: what of a process's memory is its own. Format: proc_pid_smaps(5); since
//! Linux 4.14.

use super::{ProcError, ProcFs, process::Status};
use crate::model::process::PrivatePages;

impl ProcFs {
    /// Who else has the resident pages of a process. The kernel walks all page tables for it: some
    /// milliseconds for a gigabyte.
    ///
    /// # Errors
    /// When the kernel does not tell, or the process has ended.
    pub fn private_pages(&self, pid: u32) -> Result<PrivatePages, ProcError> {
        let rollup = Status::new(pid, &self.read(pid, "smaps_rollup")?);
        let sum = |kinds: [&str; 2]| {
            let [one, other] = kinds.map(|kind| rollup.kib(kind));
            Ok::<u64, ProcError>(one?.saturating_add(other?))
        };
        Ok(PrivatePages {
            rss_bytes: rollup.kib("Rss")?,
            pss_bytes: rollup.kib("Pss")?,
            private_bytes: sum(["Private_Clean", "Private_Dirty"])?,
            shared_bytes: sum(["Shared_Clean", "Shared_Dirty"])?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn private_and_shared_pages_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("42")).unwrap();
        let text = "55d0c5a00000-7ffd4b1fe000 ---p 00000000 00:00 0    [rollup]\n\
            Rss:   100 kB\nPss:    60 kB\nPss_Dirty:  40 kB\nShared_Clean:  30 kB\n\
            Shared_Dirty:   20 kB\nPrivate_Clean:   10 kB\nPrivate_Dirty:   40 kB\n";
        fs::write(root.path().join("42/smaps_rollup"), text).unwrap();
        let [rss_bytes, pss_bytes, private_bytes, shared_bytes] =
            [100, 60, 50, 50].map(|kib| kib << 10);
        let expected = PrivatePages { rss_bytes, pss_bytes, private_bytes, shared_bytes };
        assert_eq!(ProcFs::new(root.path()).private_pages(42).unwrap(), expected);
    }

    #[test]
    fn pages_of_this_process_add_up() {
        let pages = ProcFs::new("/proc").private_pages(std::process::id()).unwrap();
        assert_eq!(pages.private_bytes + pages.shared_bytes, pages.rss_bytes);
        assert!(pages.pss_bytes <= pages.rss_bytes && pages.pss_bytes >= pages.private_bytes);
    }
}
