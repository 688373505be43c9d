//! What the control groups of a process say of memory. Both hierarchies: the unified one (v2) and
//! the memory controller's own (v1).

mod find;
mod group;

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

pub use self::{
    find::{FindError, Wanted, find},
    group::{Group, GroupError, GroupUsage},
};

use super::procfs::{ProcError, ProcFs};
use crate::model::place::Container;

/// Where control groups are mounted on nearly every system.
pub const ROOT: &str = "/sys/fs/cgroup";

/// v1 has no word for "no limit": it is the largest multiple of the page size below this.
const NO_LIMIT_FROM: u64 = 1 << 62;

/// A version's names of files, and what lies between the mount point of all and its groups.
struct Hierarchy {
    /// Directories below the root under which its groups can be.
    mounts: &'static [&'static str],
    peak: &'static str,
    limit: &'static str,
}

/// Documentation/admin-guide/cgroup-v2.rst; `memory.peak` since Linux 5.19. `unified` is where it
/// is mounted beside v1.
const V2: Hierarchy =
    Hierarchy { mounts: &["", "unified"], peak: "memory.peak", limit: "memory.max" };

/// Documentation/admin-guide/cgroup-v1/memory.rst.
const V1: Hierarchy = Hierarchy {
    mounts: &["memory"],
    peak: "memory.max_usage_in_bytes",
    limit: "memory.limit_in_bytes",
};

/// The memory of a process's control group: of all its processes, page cache included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupMemory {
    /// The highest so far, since the group was made.
    pub peak_bytes: Option<u64>,
    /// The lowest limit of the group and of those that it is in; `None` where there is none.
    pub limit_bytes: Option<u64>,
}

/// Reads it. Nothing is in it where there are no groups, or they cannot be looked at.
///
/// # Errors
/// Those of reading `/proc/PID/cgroup`.
pub fn memory(proc: &ProcFs, root: &Path, pid: u32) -> Result<GroupMemory, ProcError> {
    let groups = proc.control_groups(pid)?;
    let found = groups.lines().filter_map(hierarchy).filter_map(|(hierarchy, group)| {
        hierarchy.mounts.iter().find_map(|mount| read(&hierarchy, &root.join(mount), group))
    });
    let outside = groups.lines().filter_map(outside).filter_map(|(hierarchy, end)| {
        hierarchy.mounts.iter().find_map(|mount| {
            let mount = root.join(mount);
            read(&hierarchy, &mount, &group_with_end(&mount, &end)?)
        })
    });
    Ok(found.chain(outside).reduce(joined).unwrap_or_default())
}

/// The directories of a process's control group and of those that it is in, innermost first. Nothing
/// where there are none.
pub(super) fn directories(proc: &ProcFs, root: &Path, pid: u32) -> Vec<PathBuf> {
    let groups = proc.control_groups(pid).unwrap_or_default();
    let of = |(hierarchy, group): (Hierarchy, &Path)| {
        let mounts = hierarchy.mounts.iter().map(|mount| root.join(mount));
        let all = mounts.flat_map(|mount| {
            let directory = mount.join(group);
            let upwards = directory.ancestors().take_while(|it| it.starts_with(&mount));
            upwards.map(Path::to_owned).collect::<Vec<_>>()
        });
        all.collect::<Vec<_>>()
    };
    groups.lines().filter_map(hierarchy).flat_map(of).collect()
}

/// The control group that a process's memory is charged to, e.g. `/system.slice/app.service`.
///
/// # Errors
/// Those of reading `/proc/PID/cgroup`.
pub fn path(proc: &ProcFs, pid: u32) -> Result<String, ProcError> {
    let groups = proc.control_groups(pid)?;
    let paths = groups.lines().filter_map(hierarchy).map(|(_, group)| group.to_owned());
    let ends = groups.lines().filter_map(outside).map(|(_, end)| end);
    // With both hierarchies, a process is often in the root of one.
    let deepest = paths.chain(ends).max_by_key(|group| group.components().count());
    Ok(deepest.map(|group| format!("/{}", group.display())).unwrap_or_default())
}

/// `0::/GROUP` and `N:CONTROLLER,...:/GROUP` of proc_pid_cgroup(5). A path that leads out of the
/// part of the tree that is visible here is of no use.
fn hierarchy(line: &str) -> Option<(Hierarchy, &Path)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    let group = Path::new(group.strip_prefix('/')?);
    if group.components().any(|it| !matches!(it, Component::Normal(_))) {
        return None;
    }
    match controllers {
        "" => Some((V2, group)),
        _ if controllers.split(',').any(|it| it == "memory") => Some((V1, group)),
        _ => None,
    }
}

/// The end of a path that leads out of memtrace's own control group namespace
/// (cgroup_namespaces(7)): `/../../kubepods/pod1/ID`, as containers see it that are not privileged.
fn outside(line: &str) -> Option<(Hierarchy, PathBuf)> {
    let (controllers, path) = line.rsplit_once(":/..")?;
    let mut end = path;
    while let Some(rest) = end.strip_prefix("/..") {
        end = rest;
    }
    let line = format!("{controllers}:{end}");
    let (hierarchy, end) = hierarchy(&line)?;
    (!end.as_os_str().is_empty()).then(|| (hierarchy, end.to_owned()))
}

/// How deep a container's group can lie below the root, its own part of the path apart:
/// `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice`.
const MOST_ABOVE: usize = 3;

/// The group below a mount whose path ends so. What lies above is looked for only for containers,
/// whose names nobody else has.
fn group_with_end(mount: &Path, end: &Path) -> Option<PathBuf> {
    if mount.join(end).is_dir() {
        return Some(end.to_owned());
    }
    Container::of_cgroup(&end.to_string_lossy())?;
    let mut level = vec![PathBuf::new()];
    for _ in 0..MOST_ABOVE {
        level = level.iter().flat_map(|above| subdirectories(mount, above)).collect();
        if let Some(above) = level.iter().find(|above| mount.join(above).join(end).is_dir()) {
            return Some(above.join(end));
        }
    }
    None
}

/// Directories in a directory below a mount, by their paths below it.
fn subdirectories(mount: &Path, above: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(mount.join(above)).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir()));
    directories.map(|entry| above.join(entry.file_name())).collect()
}

/// `None` where the group has no memory controller under this mount.
fn read(hierarchy: &Hierarchy, mount: &Path, group: &Path) -> Option<GroupMemory> {
    let directory: PathBuf = mount.join(group);
    let peak_bytes = number(&directory.join(hierarchy.peak));
    let upwards = directory.ancestors().take_while(|it| it.starts_with(mount));
    let limits = upwards.filter_map(|it| number(&it.join(hierarchy.limit)));
    let limit_bytes = limits.filter(|limit| *limit < NO_LIMIT_FROM).min();
    let found = peak_bytes.is_some() || limit_bytes.is_some();
    found.then_some(GroupMemory { peak_bytes, limit_bytes })
}

/// `None` also for `max`, which is no limit.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The controller is in one hierarchy only; the other one has nothing to say.
fn joined(one: GroupMemory, other: GroupMemory) -> GroupMemory {
    GroupMemory {
        peak_bytes: one.peak_bytes.or(other.peak_bytes),
        limit_bytes: one.limit_bytes.or(other.limit_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory_of(cgroup: &str, files: &[(&str, &str)]) -> GroupMemory {
        let root = tempfile::tempdir().unwrap();
        let all = [("proc/42/cgroup", cgroup)].into_iter().chain(files.iter().copied());
        for (name, content) in all {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let proc = ProcFs::new(root.path().join("proc"));
        memory(&proc, &root.path().join("cg"), 42).unwrap()
    }

    #[test]
    fn the_group_is_the_one_that_memory_is_charged_to() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("42")).unwrap();
        let cases = [
            ("0::/pods/one\n", "/pods/one"),
            ("5:memory:/jobs/7\n3:cpu:/\n0::/\n", "/jobs/7"),
            ("3:cpu:/elsewhere\n", ""),
        ];
        for (text, expected) in cases {
            fs::write(root.path().join("42/cgroup"), text).unwrap();
            assert_eq!(path(&ProcFs::new(root.path()), 42).unwrap(), expected);
        }
    }

    fn group(peak_bytes: Option<u64>, limit_bytes: Option<u64>) -> GroupMemory {
        GroupMemory { peak_bytes, limit_bytes }
    }

    /// In a container whose control group namespace is its own, with the host's groups mounted.
    #[test]
    fn groups_outside_of_the_own_namespace_are_found_by_the_end_of_their_path() {
        const ID: &str = "4f2a9c0d1e3b5a7c9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";
        let limit = format!("cg/kubepods.slice/burstable.slice/pod2.slice/cri-{ID}/memory.max");
        let files = [(limit.as_str(), "536870912\n"), ("cg/jobs/memory.max", "7\n")];
        let sibling = format!("0::/../../pod2.slice/cri-{ID}\n");
        assert_eq!(memory_of(&sibling, &files), group(None, None), "no id of a container");
        let limit = limit.replace("cri-", "");
        let files = [(limit.as_str(), "536870912\n"), ("cg/jobs/memory.max", "7\n")];
        let sibling = format!("0::/../../pod2.slice/{ID}\n");
        assert_eq!(memory_of(&sibling, &files), group(None, Some(512 << 20)));
        assert_eq!(memory_of("0::/../../jobs\n", &files), group(None, Some(7)));
        for nowhere in ["0::/../..\n", "0::/../pod2.slice\n", "0::/../a/../b\n"] {
            assert_eq!(memory_of(nowhere, &files), group(None, None), "{nowhere}");
        }
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("42")).unwrap();
        fs::write(root.path().join("42/cgroup"), &sibling).unwrap();
        let path = path(&ProcFs::new(root.path()), 42).unwrap();
        assert_eq!(path, format!("/pod2.slice/{ID}"));
    }

    #[test]
    fn the_unified_hierarchy_is_read_up_to_its_root() {
        let files = [
            ("cg/pods/one/memory.peak", "123456789\n"),
            ("cg/pods/one/memory.max", "max\n"),
            ("cg/pods/memory.max", "536870912\n"),
            ("cg/memory.max", "999999999999\n"),
        ];
        assert_eq!(memory_of("0::/pods/one\n", &files), group(Some(123_456_789), Some(512 << 20)));
    }

    #[test]
    fn the_old_hierarchy_is_read_beside_a_new_one_without_memory() {
        let files = [
            ("cg/memory/job/memory.max_usage_in_bytes", "77\n"),
            ("cg/memory/job/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cg/unified/job/cgroup.procs", ""),
        ];
        let cgroup = "9:name=systemd:/\n4:cpu,memory:/job\n0::/job\n";
        assert_eq!(memory_of(cgroup, &files), group(Some(77), None));
    }

    #[test]
    fn odd_paths_and_missing_files_give_nothing() {
        let files = [("memory.peak", "1\n"), ("cg/memory.peak", "2\n")];
        for cgroup in ["0::/../..\n", "0::/a\n", "nonsense\n", "", "0::a\n", "4:memory:/\n"] {
            assert_eq!(memory_of(cgroup, &files), GroupMemory::default(), "{cgroup:?}");
        }
        assert_eq!(memory_of("0::/\n", &files), group(Some(2), None));
    }

    #[test]
    fn this_process_can_be_asked() {
        let proc = ProcFs::new("/proc");
        let memory = memory(&proc, Path::new(ROOT), std::process::id()).unwrap();
        assert!(memory.peak_bytes.is_none_or(|peak| peak > 0), "{memory:?}");
    }
}
