//! A control group that is watched: its processes and its memory, in both hierarchies.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{Hierarchy, NO_LIMIT_FROM, V1, V2, number};

/// Groups inside of a group that are looked at; more are left out.
const MOST_GROUPS: usize = 4096;

/// Every group has it, in both versions.
pub(super) const PROCESSES: &str = "cgroup.procs";

/// Where memory controllers are, below the root: a hierarchy's own mount, or all in one.
const MEMORY_MOUNTS: [&str; 3] = ["memory", "", "unified"];

/// Hierarchies that tell who is in a group, where its memory is not counted.
pub(super) const OTHER_MOUNTS: [&str; 3] = ["systemd", "pids", "cpu"];

/// Why a group cannot be watched.
#[derive(Debug, Error)]
pub enum GroupError {
    /// There is none of that name.
    #[error(
        "there is no control group {path}; give its path as /proc/PID/cgroup shows it, or its \
         directory in {root}"
    )]
    Missing {
        /// As given.
        path: String,
        /// Where they are mounted.
        root: String,
    },
    /// It was there, and is not any more.
    #[error("control group {path} has gone")]
    Gone {
        /// As given.
        path: String,
    },
    /// It cannot be read.
    #[error("control group {path} cannot be read: {source}")]
    Unreadable {
        /// As given.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// The memory of a group and of those in it; `None` is what the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// All that is charged to it.
    pub current_bytes: u64,
    /// The same without inactive files, which the kernel can drop at once.
    pub working_set_bytes: u64,
    /// Of those: files that were read lately, which the kernel drops when there is nothing else.
    pub active_file_bytes: u64,
    /// The highest that was charged to it at a time, since it was made.
    pub peak_bytes: Option<u64>,
    /// The lowest limit of it and of those that it is in.
    pub limit_bytes: Option<u64>,
    /// Swapped out.
    pub swap_bytes: Option<u64>,
    /// Faults that waited for the disk, since it was made.
    pub major_faults: Option<u64>,
    /// Processes that the kernel killed for want of memory, since it was made.
    pub oom_kills: Option<u64>,
}

/// A control group.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    directory: PathBuf,
    /// The version, if it has a memory controller here.
    memory: Option<bool>,
}

impl Group {
    /// The group at a directory, or at a path like `/system.slice/app.service` below `root`.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: &Path, path: &str) -> Result<Self, GroupError> {
        let below = path.trim_start_matches('/');
        let given = Path::new(path);
        let direct = given.is_absolute().then(|| given.to_owned());
        let mounted = MEMORY_MOUNTS.iter().chain(&OTHER_MOUNTS).map(|it| root.join(it).join(below));
        let groups: Vec<Self> = direct
            .into_iter()
            .chain(mounted)
            .filter(|it| it.join(PROCESSES).exists())
            .map(|directory| Self::at(path, directory))
            .collect();
        let with_memory = groups.iter().find(|group| group.memory.is_some());
        with_memory.or(groups.first()).cloned().ok_or_else(|| GroupError::Missing {
            path: path.to_owned(),
            root: root.display().to_string(),
        })
    }

    fn at(name: &str, directory: PathBuf) -> Self {
        let is_new = directory.join("memory.current").exists();
        let is_old = directory.join("memory.usage_in_bytes").exists();
        Self { name: name.to_owned(), memory: (is_new || is_old).then_some(is_new), directory }
    }

    /// As it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether its memory is counted.
    pub fn has_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Where the kernel tells the pressure on its memory: of the group (v2), else of the machine.
    pub fn pressure_file(&self) -> Option<PathBuf> {
        Some(self.directory.join("memory.pressure")).filter(|it| it.exists())
    }

    /// Every process in it and in the groups in it, and the directory of its group.
    ///
    /// # Errors
    /// When the group has gone.
    pub fn processes(&self) -> Result<BTreeMap<u32, PathBuf>, GroupError> {
        let mut found = BTreeMap::new();
        for directory in self.tree() {
            let text = match fs::read_to_string(directory.join(PROCESSES)) {
                Ok(text) => text,
                Err(error) if directory == self.directory => return Err(self.explain(error)),
                // One that goes meanwhile has no processes any more.
                Err(_) => continue,
            };
            let pids = text.lines().filter_map(|it| it.parse().ok());
            found.extend(pids.map(|pid: u32| (pid, directory.clone())));
        }
        Ok(found)
    }

    /// The group at a directory in this one, or the nearest that it is in whose memory is counted.
    pub fn counted_at(&self, directory: &Path) -> Option<Self> {
        let is_inside = |it: &&Path| it.starts_with(&self.directory);
        let mut groups = directory.ancestors().take_while(is_inside).filter_map(|it| {
            let name = Path::new(&self.name).join(it.strip_prefix(&self.directory).ok()?);
            Some(Self::at(name.to_str()?.trim_end_matches('/'), it.to_owned()))
        });
        groups.find(Self::has_memory)
    }

    /// Its memory now; `None` where that is not counted.
    ///
    /// # Errors
    /// When the group has gone.
    pub fn usage(&self) -> Result<Option<GroupUsage>, GroupError> {
        let Some(is_new) = self.memory else { return Ok(None) };
        let current = if is_new { "memory.current" } else { "memory.usage_in_bytes" };
        let text = fs::read_to_string(self.directory.join(current));
        let text = text.map_err(|error| self.explain(error))?;
        let current_bytes: u64 = text.trim().parse().unwrap_or_default();
        let stat = fs::read_to_string(self.directory.join("memory.stat")).unwrap_or_default();
        // v1 tells the group's own and, as total_, that of the groups in it, too.
        let stated =
            |name: &str| keyed(&stat, &format!("total_{name}")).or_else(|| keyed(&stat, name));
        let inactive_bytes = stated("inactive_file").unwrap_or_default();
        let working_set_bytes = current_bytes.saturating_sub(inactive_bytes);
        let active_bytes: u64 = stated("active_file").unwrap_or_default();
        let hierarchy = if is_new { V2 } else { V1 };
        Ok(Some(GroupUsage {
            current_bytes,
            working_set_bytes,
            active_file_bytes: active_bytes.min(working_set_bytes),
            peak_bytes: number(&self.directory.join(hierarchy.peak)),
            limit_bytes: self.limit(&hierarchy),
            swap_bytes: match is_new {
                true => number(&self.directory.join("memory.swap.current")),
                false => stated("swap"),
            },
            major_faults: stated("pgmajfault"),
            oom_kills: self.oom_kills(is_new),
        }))
    }

    /// Of this group and those that it is in, those in `outer` that have a limit of their own; the innermost
    /// first.
    pub fn limited_inside(&self, outer: &Self) -> Vec<Self> {
        let Some(is_new) = self.memory else { return Vec::new() };
        let file = if is_new { V2.limit } else { V1.limit };
        let has_limit = |directory: &Path| {
            number(&directory.join(file)).is_some_and(|limit| limit < NO_LIMIT_FROM)
        };
        let is_inside = |it: &&Path| *it != outer.directory && it.starts_with(&outer.directory);
        let directories = self.directory.ancestors().take_while(is_inside);
        let named = directories.zip(Path::new(&self.name).ancestors());
        let limited = named.filter(|(directory, _)| has_limit(directory));
        limited
            .map(|(directory, name)| Self {
                name: name.display().to_string(),
                directory: directory.to_owned(),
                memory: self.memory,
            })
            .collect()
    }

    /// Whether it is this group, or in it.
    pub fn is_within(&self, outer: &Self) -> bool {
        self.directory.starts_with(&outer.directory)
    }

    fn limit(&self, hierarchy: &Hierarchy) -> Option<u64> {
        let groups = self.directory.ancestors().take_while(|it| it.join(PROCESSES).exists());
        let limits = groups.filter_map(|it| number(&it.join(hierarchy.limit)));
        limits.filter(|limit| *limit < NO_LIMIT_FROM).min()
    }

    /// v2 counts those of the groups in it, too.
    fn oom_kills(&self, is_new: bool) -> Option<u64> {
        let count = |directory: &Path, file: &str| {
            keyed(&fs::read_to_string(directory.join(file)).ok()?, "oom_kill")
        };
        if is_new {
            return count(&self.directory, "memory.events");
        }
        let counts = self.tree().into_iter().filter_map(|it| count(&it, "memory.oom_control"));
        counts.reduce(|sum, one| sum.saturating_add(one))
    }

    /// Its directory, and those of the groups in it.
    fn tree(&self) -> Vec<PathBuf> {
        let mut found = vec![self.directory.clone()];
        let mut next = 0;
        while let Some(directory) = found.get(next).filter(|_| found.len() < MOST_GROUPS) {
            next += 1;
            let Ok(entries) = fs::read_dir(directory) else { continue };
            let is_group = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|it| it.is_dir());
            found.extend(entries.flatten().filter(is_group).map(|entry| entry.path()));
        }
        found
    }

    fn explain(&self, source: io::Error) -> GroupError {
        let path = self.name.clone();
        // An open file of a group that was removed gives ENODEV.
        let is_gone =
            source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(libc::ENODEV);
        if is_gone { GroupError::Gone { path } } else { GroupError::Unreadable { path, source } }
    }
}

/// The value behind a key, in a file of lines `KEY VALUE`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    const NEW: &[(&str, &str)] = &[
        ("cgroup.procs", ""),
        ("pod/cgroup.procs", "7\n"),
        ("pod/memory.current", "1000\n"),
        ("pod/memory.stat", "anon 600\ninactive_file 300\nactive_file 40\npgmajfault 5\n"),
        ("pod/memory.peak", "2000\n"),
        ("pod/memory.max", "4000\n"),
        ("pod/memory.swap.current", "50\n"),
        ("pod/memory.events", "low 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ("pod/a/cgroup.procs", "12\n8\n"),
    ];

    #[test]
    fn a_group_of_the_unified_hierarchy_tells_its_memory_and_its_processes() {
        let root = tree(NEW);
        let group = Group::open(root.path(), "/pod").unwrap();
        let processes: Vec<_> = group.processes().unwrap().into_iter().collect();
        let (pod, inner) = (root.path().join("pod"), root.path().join("pod/a"));
        assert_eq!(processes, [(7, pod.clone()), (8, inner.clone()), (12, inner.clone())]);
        // The memory of the one inside is not counted for itself.
        assert_eq!(group.counted_at(&inner).unwrap().directory(), pod);
        assert_eq!(group.counted_at(&inner).unwrap().name(), "/pod");
        let expected = GroupUsage {
            current_bytes: 1000,
            working_set_bytes: 700,
            active_file_bytes: 40,
            peak_bytes: Some(2000),
            limit_bytes: Some(4000),
            swap_bytes: Some(50),
            major_faults: Some(5),
            oom_kills: Some(2),
        };
        assert_eq!(group.usage().unwrap(), Some(expected));
    }

    #[test]
    fn a_group_of_the_old_hierarchy_tells_the_same_with_the_groups_in_it() {
        let root = tree(&[
            ("memory/cgroup.procs", ""),
            ("memory/memory.limit_in_bytes", "9000\n"),
            ("memory/job/cgroup.procs", "1\n"),
            ("memory/job/memory.usage_in_bytes", "1000\n"),
            ("memory/job/memory.limit_in_bytes", "9223372036854771712\n"),
            (
                "memory/job/memory.stat",
                "inactive_file 1\nswap 2\ntotal_inactive_file 400\ntotal_active_file 700\ntotal_swap 60\n",
            ),
            ("memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory/job/in/cgroup.procs", "2\n"),
            ("memory/job/in/memory.oom_control", "oom_kill_disable 0\noom_kill 3\n"),
            ("systemd/job/cgroup.procs", "5\n"),
        ]);
        let usage = Group::open(root.path(), "job").unwrap().usage().unwrap().unwrap();
        assert_eq!((usage.working_set_bytes, usage.swap_bytes), (600, Some(60)));
        assert_eq!(usage.active_file_bytes, 600, "read a moment later");
        assert_eq!((usage.limit_bytes, usage.oom_kills), (Some(9000), Some(4)));
    }

    #[test]
    fn a_group_without_a_memory_controller_still_has_processes() {
        let root = tree(&[("systemd/app.service/cgroup.procs", "5\n")]);
        let group = Group::open(root.path(), "/app.service").unwrap();
        let pids: Vec<u32> = group.processes().unwrap().into_keys().collect();
        assert_eq!((pids, group.usage().unwrap()), (vec![5], None));
    }

    #[test]
    fn groups_inside_that_have_a_limit_of_their_own_are_told_from_the_innermost_on() {
        let files: Vec<(String, &str)> =
            ["", "pods/", "pods/one/", "pods/one/app/", "pods/one/app/init/"]
                .iter()
                .flat_map(|at| {
                    [(format!("{at}cgroup.procs"), ""), (format!("{at}memory.current"), "1\n")]
                })
                .chain([
                    ("pods/memory.max".to_owned(), "9000\n"),
                    ("pods/one/memory.max".to_owned(), "max\n"),
                    ("pods/one/app/memory.max".to_owned(), "500\n"),
                    ("pods/one/app/init/memory.max".to_owned(), "400\n"),
                ])
                .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let root = tree(&files);
        let all = Group::open(root.path(), "/pods").unwrap();
        let inner = all.counted_at(&root.path().join("pods/one/app/init")).unwrap();
        let limited = inner.limited_inside(&all);
        let names: Vec<&str> = limited.iter().map(Group::name).collect();
        assert_eq!(names, ["/pods/one/app/init", "/pods/one/app"]);
        assert_eq!(limited[1].usage().unwrap().unwrap().limit_bytes, Some(500));
        assert!(inner.is_within(&limited[1]) && !limited[1].is_within(&inner));
        assert!(all.limited_inside(&all).is_empty());
    }

    #[test]
    fn a_group_that_is_not_there_or_goes_is_told_apart() {
        let root = tree(NEW);
        let error = Group::open(root.path(), "/nothing").unwrap_err();
        assert!(matches!(error, GroupError::Missing { .. }), "{error}");
        let group = Group::open(root.path(), "/pod").unwrap();
        fs::remove_dir_all(root.path().join("pod")).unwrap();
        assert!(matches!(group.usage(), Err(GroupError::Gone { .. })));
        assert!(matches!(group.processes(), Err(GroupError::Gone { .. })));
    }
}
