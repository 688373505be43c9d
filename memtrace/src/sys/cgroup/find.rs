//! Finding the control group of a service or a container by its name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::model::place::pod_uid;

use super::group::{Group, GroupError, OTHER_MOUNTS, PROCESSES};

/// How deep groups are looked for; Kubernetes with systemd needs six.
const DEEPEST: usize = 10;

/// The fewest letters of the id of a container or pod that are no accident.
const SHORTEST_ID: usize = 6;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A unit of systemd: `app.service`, or `app`.
    Unit(String),
    /// A container by its id, or the beginning of it: in `docker-ID.scope`, `cri-containerd-ID.scope`,
    /// `ID`, ...
    Container(String),
    /// A Kubernetes pod by its uid, or the beginning of it: in `podUID` (cgroupfs), or
    /// `kubepods-burstable-podU_I_D.slice` (systemd).
    Pod(String),
}

/// Why there is no group.
#[derive(Debug, Error)]
pub enum FindError {
    /// Nothing matches.
    #[error("there is no control group of {what} in {root}: is it running?")]
    Nothing {
        /// What was looked for.
        what: String,
        /// Where.
        root: String,
    },
    /// More than one does.
    #[error("{what} could be {first} or {second}: give more of it, or --cgroup with the path")]
    Ambiguous {
        /// What was looked for.
        what: String,
        /// A match.
        first: String,
        /// Another one.
        second: String,
    },
    /// So short an id would match by accident.
    #[error("`{0}` is too short for an id: give at least {SHORTEST_ID} characters")]
    TooShort(String),
    /// It was found, and cannot be read.
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl Wanted {
    fn what(&self) -> String {
        match self {
            Self::Unit(name) => format!("unit {name}"),
            Self::Container(id) => format!("container {id}"),
            Self::Pod(uid) => format!("pod {uid}"),
        }
    }

    fn matches(&self, directory: &str) -> bool {
        match self {
            Self::Unit(name) if name.contains('.') => directory == name,
            Self::Unit(name) => directory.strip_suffix(".service") == Some(name),
            Self::Container(id) => {
                directory.split(['-', '.', ':']).any(|part| part.starts_with(id.as_str()))
            }
            Self::Pod(uid) => pod_uid(directory).is_some_and(|it| it.starts_with(uid.as_str())),
        }
    }
}

/// Finds it below `root`, in whatever hierarchy has it.
///
/// # Errors
/// A [`FindError`].
pub fn find(root: &Path, wanted: &Wanted) -> Result<Group, FindError> {
    if let Wanted::Container(id) | Wanted::Pod(id) = wanted
        && id.len() < SHORTEST_ID
    {
        return Err(FindError::TooShort(id.clone()));
    }
    let mounts = ["memory", "", "unified"].into_iter().chain(OTHER_MOUNTS);
    for mount in mounts.map(|mount| root.join(mount)).filter(|it| it.join(PROCESSES).exists()) {
        let mut found = Vec::new();
        collect(&mount, wanted, DEEPEST, &mut found);
        // Containers make groups of their own inside.
        found.sort();
        match &*found {
            [] => {}
            [one] => return Ok(Group::open(root, &below(&mount, one))?),
            [first, second, ..] => {
                let (first, second) = (below(&mount, first), below(&mount, second));
                return Err(FindError::Ambiguous { what: wanted.what(), first, second });
            }
        }
    }
    Err(FindError::Nothing { what: wanted.what(), root: root.display().to_string() })
}

/// The outermost groups that match.
fn collect(directory: &Path, wanted: &Wanted, deepest: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let groups = entries.flatten().filter(|it| it.file_type().is_ok_and(|kind| kind.is_dir()));
    for group in groups {
        if group.file_name().to_str().is_some_and(|name| wanted.matches(name)) {
            found.push(group.path());
        } else if deepest > 0 {
            collect(&group.path(), wanted, deepest - 1, found);
        }
    }
}

fn below(mount: &Path, group: &Path) -> String {
    format!("/{}", group.strip_prefix(mount).unwrap_or(group).display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in ["memory"].iter().chain(paths) {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(PROCESSES), "").unwrap();
        }
        root
    }

    fn found(root: &tempfile::TempDir, wanted: Wanted) -> Result<String, FindError> {
        find(root.path(), &wanted).map(|group| group.name().to_owned())
    }

    #[test]
    fn units_are_found_with_and_without_their_suffix() {
        let root = groups(&["memory/system.slice/app.service", "memory/system.slice/app2.service"]);
        for name in ["app", "app.service"] {
            let path = found(&root, Wanted::Unit(name.into())).unwrap();
            assert_eq!(path, "/system.slice/app.service", "{name}");
        }
        let error = found(&root, Wanted::Unit("other".into())).unwrap_err();
        assert!(error.to_string().contains("unit other"), "{error}");
    }

    #[test]
    fn containers_are_found_by_the_beginning_of_their_ids() {
        let kube = "memory/kubepods.slice/pod1.slice/cri-containerd-0a1b2c3d4e5f.scope";
        let root = groups(&[kube, "memory/docker/0f9e8d7c6b5a", "memory/docker/0f9e8dffffff"]);
        let path = found(&root, Wanted::Container("0a1b2c3d".into())).unwrap();
        assert!(path.ends_with("cri-containerd-0a1b2c3d4e5f.scope"), "{path}");
        let path = found(&root, Wanted::Container("0f9e8d7c".into())).unwrap();
        assert_eq!(path, "/docker/0f9e8d7c6b5a");
        let error = found(&root, Wanted::Container("0f9e8d".into())).unwrap_err();
        assert!(matches!(error, FindError::Ambiguous { .. }), "{error}");
        let error = found(&root, Wanted::Container("0f".into())).unwrap_err();
        assert!(matches!(error, FindError::TooShort(_)), "{error}");
    }

    #[test]
    fn pods_are_found_by_their_uids_whoever_made_their_groups() {
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        let systemd = format!(
            "memory/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice",
            uid.replace('-', "_")
        );
        let inside = format!("{systemd}/cri-containerd-0f1e2d3c4b5a.scope");
        let cgroupfs = "memory/kubepods/besteffort/pod7a6b5c4d-4b5a-6978-8796-a5b4c3d2e1f0";
        let root = groups(&[&systemd, &inside, cgroupfs]);
        for wanted in [uid, "0f1e2d3c-4b"] {
            let path = found(&root, Wanted::Pod(wanted.into())).unwrap();
            assert_eq!(format!("memory{path}"), systemd);
        }
        let path = found(&root, Wanted::Pod("7a6b5c4d".into())).unwrap();
        assert_eq!(format!("memory{path}"), cgroupfs);
        let error = found(&root, Wanted::Pod("0f1".into())).unwrap_err();
        assert!(matches!(error, FindError::TooShort(_)), "{error}");
    }

    #[test]
    fn a_unit_whose_memory_is_not_counted_is_found_by_its_processes() {
        let root = groups(&["systemd", "systemd/system.slice/app.service"]);
        assert!(found(&root, Wanted::Unit("app".into())).is_ok());
    }
}
