//! Where a process runs: the machine, its control group, and the container that this is of.

use serde::{Deserialize, Serialize};

use super::trace::Host;

/// Where the target ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The machine.
    pub host: Host,
    /// Its control group, e.g. `/kubepods/burstable/pod1/0a1b`; empty where there is none.
    pub cgroup: String,
    /// The container that the control group is of, where its name says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The lowest memory limit of its control groups.
    pub limit_bytes: Option<u64>,
}

impl Place {
    /// Of a control group on a host.
    pub fn new(host: Host, cgroup: &str, limit_bytes: Option<u64>) -> Self {
        let container = Container::of_cgroup(cgroup);
        Self { host, cgroup: cgroup.to_owned(), container, limit_bytes }
    }
}

/// A container, as the names of control groups tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// `docker`, `containerd`, `cri-o`, `podman`, `lxc`; `None` where only an id is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Its id (64 hex digits), or with LXC its name.
    pub id: String,
    /// The uid of its Kubernetes pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
}

/// How the systemd scopes of runtimes begin (`docker-ID.scope`).
const SCOPES: [(&str, &str); 5] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
];

/// Whose groups a directory of this name holds (`/docker/ID`).
const PARENTS: [(&str, &str); 4] =
    [("docker", "docker"), ("lxc", "lxc"), ("libpod_parent", "podman"), ("actions_job", "docker")];

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// Digits that people tell containers by.
const SHORT_DIGITS: usize = 12;

impl Container {
    /// By the path of a control group; the innermost container of several.
    pub fn of_cgroup(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let pod_uid = parts.iter().rev().find_map(|part| pod_uid(part));
        (0..parts.len()).rev().find_map(|at| {
            let parent = at.checked_sub(1).map(|above| parts[above]);
            let (runtime, id) = named(parts[at], parent)?;
            Some(Self { runtime: runtime.map(str::to_owned), id, pod_uid: pod_uid.clone() })
        })
    }

    /// The id as runtimes list it.
    pub fn short_id(&self) -> &str {
        match is_id(&self.id) {
            true => &self.id[..SHORT_DIGITS],
            false => &self.id,
        }
    }
}

/// Runtime and id, by the name of a group and of the one above it.
fn named(part: &str, parent: Option<&str>) -> Option<(Option<&'static str>, String)> {
    if let Some(name) = part.strip_prefix("lxc.payload.") {
        return Some((Some("lxc"), name.to_owned()));
    }
    let scope = part.strip_suffix(".scope").unwrap_or(part);
    for (prefix, runtime) in SCOPES {
        if let Some(id) = scope.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some((Some(runtime), id.to_owned()));
        }
    }
    let owner = PARENTS.iter().find(|(name, _)| Some(*name) == parent).map(|(_, runtime)| *runtime);
    // With cgroupfs, containerd's CRI plug-in has `POD/ID`, or `:cri-containerd:ID` behind a slice.
    let id = scope.rsplit(':').next().unwrap_or(scope);
    (is_id(id) || owner == Some("lxc")).then(|| (owner, id.to_owned()))
}

fn is_id(text: &str) -> bool {
    text.len() == ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The uid of a Kubernetes pod, by the name of its control group: `podUID` with cgroupfs,
/// `kubepods-burstable-podU_I_D.slice` with systemd.
pub fn pod_uid(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let part = part.strip_prefix("kubepods-").unwrap_or(part);
    let part = part.trim_start_matches("burstable-").trim_start_matches("besteffort-");
    let uid = part.strip_prefix("pod")?.replace('_', "-");
    let is_uid = uid.len() >= 32 && uid.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-');
    is_uid.then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2a9c0d1e3b5a7c9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f";
    const UID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

    fn found(path: &str) -> Option<(Option<String>, String, Option<String>)> {
        Container::of_cgroup(path).map(|it| (it.runtime, it.id, it.pod_uid))
    }

    #[test]
    fn containers_are_known_by_the_names_that_runtimes_give_to_groups() {
        let uid = UID.replace('-', "_");
        let cases = [
            (format!("/docker/{ID}"), Some("docker"), false),
            (format!("/system.slice/docker-{ID}.scope"), Some("docker"), false),
            (format!("/system.slice/docker-{ID}.scope/init"), Some("docker"), false),
            (format!("/machine.slice/libpod-{ID}.scope/container"), Some("podman"), false),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), None, true),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/\
                     cri-containerd-{ID}.scope"
                ),
                Some("containerd"),
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{uid}.slice/crio-{ID}.scope"),
                Some("cri-o"),
                true,
            ),
            (format!("/system.slice/kubepods-pod{uid}.slice:cri-containerd:{ID}"), None, false),
        ];
        for (path, runtime, in_pod) in cases {
            let expected =
                (runtime.map(str::to_owned), ID.to_owned(), in_pod.then(|| UID.to_owned()));
            assert_eq!(found(&path), Some(expected), "{path}");
        }
    }

    #[test]
    fn lxc_calls_containers_by_name() {
        for path in ["/lxc/web1", "/lxc.payload.web1/system.slice/app.service"] {
            assert_eq!(found(path), Some((Some("lxc".into()), "web1".into(), None)), "{path}");
        }
    }

    #[test]
    fn groups_of_the_host_are_of_no_container() {
        for path in ["", "/", "/system.slice/docker.service", "/user.slice/user-0.slice", "/docker"]
        {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn an_id_is_shown_as_runtimes_list_it() {
        let container = Container::of_cgroup(&format!("/docker/{ID}")).unwrap();
        assert_eq!(container.short_id(), "4f2a9c0d1e3b");
        assert_eq!(Container::of_cgroup("/lxc/web1").unwrap().short_id(), "web1");
    }
}
