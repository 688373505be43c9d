//! The machine that memtrace runs on, by `/proc/sys/kernel`.

use std::{env::consts::ARCH, fs, num::NonZero, thread};

use super::ProcFs;
use crate::model::trace::Host;

impl ProcFs {
    /// What is known of the machine; names are empty where the kernel does not tell them.
    pub fn host(&self) -> Host {
        let read = |name: &str| {
            let text = fs::read_to_string(self.root.join("sys/kernel").join(name));
            text.unwrap_or_default().trim_end().to_owned()
        };
        Host {
            name: read("hostname"),
            kernel: read("osrelease"),
            machine: ARCH.to_owned(),
            page_bytes: rustix::param::page_size() as u64,
            cpus: thread::available_parallelism().map_or(0, NonZero::get) as u64,
        }
    }

    /// How many CPUs the machine has that are not switched off, whoever may use them: a line each in
    /// `stat` (proc_stat(5)). One if that is not known.
    pub fn online_cpus(&self) -> usize {
        let stat = fs::read_to_string(self.root.join("stat")).unwrap_or_default();
        let is_cpu = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()))
        };
        stat.lines().filter(is_cpu).count().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_what_the_kernel_calls_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("sys/kernel");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("osrelease"), "6.12.1-amd64\n").unwrap();
        let host = ProcFs::new(root.path()).host();
        assert_eq!((&*host.kernel, &*host.name), ("6.12.1-amd64", ""));
        assert!(host.page_bytes >= 4096 && host.cpus > 0);
    }

    #[test]
    fn cpus_are_counted_without_their_sum() {
        let root = tempfile::tempdir().unwrap();
        let proc = ProcFs::new(root.path());
        assert_eq!(proc.online_cpus(), 1, "not known");
        fs::write(root.path().join("stat"), "cpu  9 0\ncpu0 4 0\ncpu3 5 0\nintr 7\n").unwrap();
        assert_eq!(proc.online_cpus(), 2);
    }
}
