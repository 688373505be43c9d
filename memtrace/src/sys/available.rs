//! How much memory a new process could have.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{cgroup, procfs::ProcFs};
use crate::model::size::bytes;

/// What is available at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    /// To the machine: `MemAvailable` of `/proc/meminfo`, free memory and what can be reclaimed.
    pub host_bytes: u64,
    /// In the control group that leaves the least.
    pub group: Option<Room>,
}

/// What a control group's limit leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Of the group, or of one that it is in.
    pub limit_bytes: u64,
    /// The limit without what is used; the file cache that is not used at present does not count.
    pub bytes: u64,
    /// The group.
    pub path: PathBuf,
}

/// Why there is too little, or it is not known.
#[derive(Debug, Error)]
pub enum AvailableError {
    /// The kernel does not say.
    #[error("cannot tell how much memory is available: {0}")]
    Unknown(#[from] io::Error),
    /// The machine has too little.
    #[error("{} of memory are needed (--need) and {} are available on this machine (MemAvailable): the command was not started", bytes(*.need_bytes), bytes(*.host_bytes))]
    Host {
        /// As given.
        need_bytes: u64,
        /// What there is.
        host_bytes: u64,
    },
    /// The control group has.
    #[error("{} of memory are needed (--need) and the limit of the control group {} leaves {} of {}: the command was not started", bytes(*.need_bytes), .room.path.display(), bytes(.room.bytes), bytes(.room.limit_bytes))]
    Group {
        /// As given.
        need_bytes: u64,
        /// What there is.
        room: Room,
    },
}

impl Available {
    /// For a child of this process.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn now() -> Result<Self, AvailableError> {
        Ok(Self::of(&ProcFs::new("/proc"), Path::new("/proc/meminfo"), Path::new(cgroup::ROOT))?)
    }

    fn of(proc: &ProcFs, meminfo: &Path, groups: &Path) -> io::Result<Self> {
        let host_bytes = mem_available(&fs::read_to_string(meminfo)?)
            .ok_or_else(|| io::Error::other("/proc/meminfo has no MemAvailable"))?;
        let rooms = cgroup::directories(proc, groups, std::process::id());
        let group = rooms.iter().filter_map(|it| room(it)).min_by_key(|room| room.bytes);
        Ok(Self { host_bytes, group })
    }

    /// Whether there is as much.
    ///
    /// # Errors
    /// When there is less, saying where.
    pub fn check(&self, need_bytes: u64) -> Result<(), AvailableError> {
        match &self.group {
            Some(room) if room.bytes < need_bytes => {
                Err(AvailableError::Group { need_bytes, room: room.clone() })
            }
            _ if self.host_bytes < need_bytes => {
                Err(AvailableError::Host { need_bytes, host_bytes: self.host_bytes })
            }
            _ => Ok(()),
        }
    }
}

/// Names of the files of a control group, by version (Documentation/admin-guide/cgroup-v2.rst,
/// cgroup-v1/memory.rst): limit, use, and in `memory.stat` the file cache that is not in use.
const FILES: [[&str; 3]; 2] = [
    ["memory.max", "memory.current", "inactive_file"],
    ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"],
];

/// v1 has no word for "no limit": it is the largest multiple of the page size below this.
const NO_LIMIT_FROM: u64 = 1 << 62;

/// `None` where there is no limit.
fn room(group: &Path) -> Option<Room> {
    FILES.iter().find_map(|[limit, used, idle]| {
        let limit_bytes = number(&group.join(limit)).filter(|limit| *limit < NO_LIMIT_FROM)?;
        let idle_bytes = stated(&fs::read_to_string(group.join("memory.stat")).ok()?, idle);
        let used_bytes = number(&group.join(used))?.saturating_sub(idle_bytes);
        let bytes = limit_bytes.saturating_sub(used_bytes);
        Some(Room { limit_bytes, bytes, path: group.to_owned() })
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A line of `memory.stat`.
fn stated(stat: &str, key: &str) -> u64 {
    let mut values = stat.lines().filter_map(|line| line.split_once(' '));
    let value = values.find(|(name, _)| *name == key).and_then(|(_, value)| value.parse().ok());
    value.unwrap_or(0)
}

/// `MemAvailable:   123 kB`
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with 8 GiB available, and this process in these groups.
    fn machine(groups: &str, files: &[(&str, &str)]) -> Available {
        let root = tempfile::tempdir().unwrap();
        let own = format!("proc/{}/cgroup", std::process::id());
        let meminfo = "MemTotal:   16777216 kB\nMemAvailable:    8388608 kB\n";
        let all = [(own.as_str(), groups), ("meminfo", meminfo)];
        for (name, content) in all.iter().chain(files) {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let proc = ProcFs::new(root.path().join("proc"));
        Available::of(&proc, &root.path().join("meminfo"), &root.path().join("cg")).unwrap()
    }

    #[test]
    fn without_a_limit_what_the_machine_has_decides() {
        let free = machine("0::/\n", &[("cg/cgroup.procs", "")]);
        assert_eq!(free, Available { host_bytes: 8 << 30, group: None });
        assert!(free.check(8 << 30).is_ok());
        let error = free.check((8 << 30) + 1).unwrap_err().to_string();
        assert!(error.contains("8.0 GiB are available on this machine"), "{error}");
    }

    #[test]
    fn the_tightest_group_decides_and_idle_file_cache_is_room() {
        let files = [
            ("cg/a/b/memory.max", "max\n"),
            ("cg/a/b/memory.current", "900000000\n"),
            ("cg/a/b/memory.stat", "anon 5\ninactive_file 0\n"),
            ("cg/a/memory.max", "1073741824\n"),
            ("cg/a/memory.current", "1000000000\n"),
            ("cg/a/memory.stat", "anon 5\ninactive_file 500000000\n"),
        ];
        let tight = machine("0::/a/b\n", &files);
        let room = tight.group.clone().unwrap();
        assert_eq!((room.limit_bytes, room.bytes), (1 << 30, (1 << 30) - 500_000_000));
        let error = tight.check(1 << 30).unwrap_err().to_string();
        assert!(error.contains("/a leaves 547.2 MiB of 1.0 GiB"), "{error}");
        assert!(tight.check(500 << 20).is_ok());
    }

    #[test]
    fn groups_of_the_old_kind_are_understood() {
        let files = [
            ("cg/memory/jobs/memory.limit_in_bytes", "104857600\n"),
            ("cg/memory/jobs/memory.usage_in_bytes", "4857600\n"),
            ("cg/memory/jobs/memory.stat", "cache 1\ntotal_inactive_file 0\n"),
            ("cg/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let room = machine("5:memory:/jobs\n0::/\n", &files).group.unwrap();
        assert_eq!(room.bytes, 100_000_000);
    }

    #[test]
    fn this_machine_has_some() {
        assert!(Available::now().unwrap().host_bytes > 0);
    }
}
