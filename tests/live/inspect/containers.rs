//! Targets in containers: process 1 of its own process namespace, another user, another root.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{glibcs::glibcs, programs, target::Target};
use tempfile::TempDir;

use super::{NOBODY, inspect_idle, libcs::check_both};

/// A directory that nobody may look into, for the container and for what starts it.
pub(crate) struct Container {
    directory: TempDir,
    pub(crate) target: Target,
    pub(crate) pid: u32,
}

impl Container {
    /// Starts a program whose libraries are found in `libraries` and not among the system's.
    fn start(program: &str, libraries: &[PathBuf]) -> Self {
        Self::start_with(program, libraries, &[])
    }

    /// The same with arguments.
    pub(crate) fn start_with(program: &str, libraries: &[PathBuf], arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let launcher = directory.path().join("contained");
        fs::copy(programs::path("contained"), &launcher).unwrap();
        let root = directory.path().join("root");
        fill(&root, &programs::path(program), libraries);
        let mut command = Command::new(&launcher);
        command.arg(&root).arg("/program").args(arguments).uid(NOBODY).gid(NOBODY);
        let target = Target::start_command(&mut command);
        let pid = only_child(target.pid());
        Self { directory, target, pid }
    }
}

/// The program as `/program`, and its libraries where its paths say, taken from `libraries`.
fn fill(root: &Path, program: &Path, libraries: &[PathBuf]) {
    let temporary = root.join("var/tmp");
    fs::create_dir_all(&temporary).unwrap();
    fs::set_permissions(temporary, fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(program, root.join("program")).unwrap();
    let copies = needed(program).into_iter().map(|path| {
        let to = root.join(path.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap();
        let mut theirs = libraries.iter().map(|directory| directory.join(name));
        fs::copy(theirs.find(|it| it.exists()).as_ref().unwrap_or(&path), &to).unwrap();
        to
    });
    link_loader(&copies.collect::<Vec<_>>());
}

/// The loader is found among the libraries, too, without a cache of their places.
fn link_loader(copies: &[PathBuf]) {
    let find = |start: &str| {
        let is_named =
            |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(start);
        copies.iter().find(is_named).unwrap()
    };
    let (loader, libc) = (find("ld-linux"), find("libc.so"));
    let beside = libc.with_file_name(loader.file_name().unwrap());
    if !beside.exists() {
        fs::hard_link(loader, beside).unwrap();
    }
}

/// The libraries of a program and its loader.
fn needed(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// The child's pid in our own namespace.
fn only_child(pid: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

fn assert_contained(container: &Container) {
    let namespace = |pid: u32, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
    for name in ["mnt", "pid", "user"] {
        assert_ne!(namespace(container.pid, name), namespace(std::process::id(), name), "{name}");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", container.pid)).unwrap();
    let inner = format!("NSpid:\t{}\t1\n", container.pid);
    assert!(status.contains(&inner), "{status}");
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t")), "{status}");
    let root = fs::read_link(format!("/proc/{}/root", container.pid)).unwrap();
    assert_eq!(root, Path::new("/"), "{}", container.directory.path().display());
}

#[test]
fn a_process_in_a_container_is_seen_as_any_other() {
    let container = Container::start("memory_kinds", &[]);
    assert_contained(&container);
    let look = inspect_idle(container.pid);
    assert_eq!(look["refusals"].as_array().unwrap().len(), 0, "{look:#}");
    // The lists of stacks name the main thread by its id in the container.
    let stacks = (&look["summary"]["live_stacks"], &look["summary"]["cached_stacks"]);
    assert_eq!(stacks, (&4.into(), &2.into()));
    assert_eq!(look["target"]["executable"], "/program");
}

/// The system has other libraries at the same paths.
#[test]
fn libraries_of_a_container_are_not_mistaken_for_those_of_the_system() {
    // The program needs a release that is no older than the system's.
    let glibcs = glibcs();
    let newest = glibcs.last().unwrap();
    let mut container = Container::start("two_libcs", &newest.libraries());
    assert_contained(&container);
    let look = check_both(container.pid, &mut container.target);
    assert_eq!(look["glibc"][0]["version"], newest.version, "{look:#}");
    assert!(container.target.quit().success(), "it was harmed");
}
