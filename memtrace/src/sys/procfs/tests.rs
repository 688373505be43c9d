//! On fake trees, and on this process.

use std::{fs, path::Path, process};

use super::*;
use crate::model::mapping::Permissions;

const STAT: &str = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 5 3 0 0 20 0 7 0 987654 \
    1000000 250 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
const STATUS: &str = "Name:\ta (b) c\nTgid:\t42\nPid:\t42\nNSpid:\t42\t7\nVmHWM:\t    2048 kB\n\
    VmRSS:\t    1000 kB\nThreads:\t7\nSeccomp:\t2\n";

fn fake(files: &[(&str, &[u8])]) -> (tempfile::TempDir, ProcFs) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("42")).unwrap();
    for (name, content) in files {
        let path = root.path().join("42").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let proc = ProcFs::new(root.path());
    (root, proc)
}

fn sleeping() -> (tempfile::TempDir, ProcFs) {
    fake(&[
        ("stat", STAT.as_bytes()),
        ("status", STATUS.as_bytes()),
        ("cmdline", b"/usr/bin/a\0--flag\0\0"),
        ("statm", b"1000 250 10 1 0 100 0\n"),
    ])
}

fn mapping_of(path: &Path) -> Mapping {
    let metadata = fs::metadata(path).unwrap();
    Mapping {
        start: 0x1000,
        end: 0x2000,
        file_offset: 0,
        file: Some(file_id(&metadata)),
        name: "/lib/libfake.so".to_owned(),
        deleted: false,
        permissions: Permissions { read: true, write: false, execute: true },
    }
}

#[test]
fn a_process_is_read_with_parentheses_in_its_name() {
    let (root, proc) = sleeping();
    std::os::unix::fs::symlink("/usr/bin/a (deleted)", root.path().join("42/exe")).unwrap();
    let process = proc.process(42).unwrap();
    assert_eq!(process.command, "a (b) c");
    assert_eq!(process.command_line, ["/usr/bin/a", "--flag", ""]);
    assert_eq!(process.executable, "/usr/bin/a");
    assert_eq!(process.start_time_ticks, 987_654);
    assert_eq!(process.threads, 7);
    assert_eq!(process.seccomp, SeccompMode::Filter);
    assert_eq!(process.resident_bytes, 1000 << 10);
    assert_eq!(process.peak_resident_bytes, 2 << 20);
    assert_eq!(process.namespace_pids, [42, 7]);
    process.check_traceable().unwrap();
}

#[test]
fn resident_bytes_are_pages_of_statm() {
    let (_root, proc) = sleeping();
    assert_eq!(proc.rss_bytes(42).unwrap(), 250 * procfs::page_size());
}

#[test]
fn a_pid_that_is_not_there_says_to_look_it_up_again() {
    let (_root, proc) = fake(&[]);
    let error = proc.maps(43).unwrap_err();
    assert!(matches!(error, ProcError::NoSuchProcess { pid: 43 }));
    assert!(error.to_string().contains("look the pid up again"));
}

#[test]
fn a_process_that_goes_away_between_two_files_has_ended() {
    let root = tempfile::tempdir().unwrap();
    let proc = ProcFs::new(root.path());
    let error = ProcError::from_io(42, "maps", rustix::io::Errno::SRCH.into(), true);
    assert!(matches!(error, ProcError::Ended { pid: 42 }));
    drop(root);
    assert!(matches!(proc.process(42), Err(ProcError::NoSuchProcess { .. })));
}

#[test]
fn permission_denied_says_to_run_as_root() {
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = ProcError::from_io(42, "maps", denied, true);
    assert!(error.to_string().contains("run as root"), "{error}");
}

#[test]
fn a_zombie_has_no_maps_and_is_named() {
    let zombie = STAT.replace(") S ", ") Z ");
    let (_root, proc) = fake(&[
        ("stat", zombie.as_bytes()),
        ("status", b"Tgid:\t42\nThreads:\t1\n"),
        ("cmdline", b""),
        ("maps", b""),
    ]);
    assert!(matches!(proc.maps(42), Err(ProcError::Zombie { pid: 42 })));
    assert!(matches!(
        proc.process(42).unwrap().check_traceable(),
        Err(ProcError::Zombie { pid: 42 })
    ));
}

#[test]
fn a_kernel_thread_is_named() {
    let kthread = STAT.replace(" 4194560 ", " 2129984 ");
    let (_root, proc) = fake(&[
        ("stat", kthread.as_bytes()),
        ("status", b"Tgid:\t42\nThreads:\t1\n"),
        ("cmdline", b""),
    ]);
    let process = proc.process(42).unwrap();
    assert!(matches!(process.check_traceable(), Err(ProcError::KernelThread { pid: 42 })));
    assert!(process.command_line.is_empty());
}

#[test]
fn a_thread_points_to_its_process() {
    let status = STATUS.replace("Tgid:\t42", "Tgid:\t40");
    let (_root, proc) =
        fake(&[("stat", STAT.as_bytes()), ("status", status.as_bytes()), ("cmdline", b"a\0")]);
    let error = proc.process(42).unwrap().check_traceable().unwrap_err();
    assert!(error.to_string().contains("-p 40"), "{error}");
}

#[test]
fn malformed_files_are_errors_with_the_text() {
    for stat in ["", "42", "42 (a", "42 a)", "(a) S", "42 (a)", "42 (a) S 1"] {
        let (_root, proc) = fake(&[("stat", stat.as_bytes())]);
        let error = proc.process(42).unwrap_err();
        assert!(matches!(error, ProcError::Malformed { file: "stat", .. }), "{stat}: {error}");
    }
    let (_root, proc) = fake(&[("maps", b"nonsense\n")]);
    assert!(matches!(proc.maps(42), Err(ProcError::Malformed { file: "maps", .. })));
}

#[test]
fn the_mapped_file_is_opened_by_address_first() {
    let (root, proc) = fake(&[
        ("map_files/1000-2000", b"mapped"),
        ("root/lib/libfake.so", b"another file of that name"),
    ]);
    let mapping = mapping_of(&root.path().join("42/map_files/1000-2000"));
    let file = proc.open_mapped_file(42, &mapping).unwrap();
    assert_eq!(io::read_to_string(file).unwrap(), "mapped");
}

#[test]
fn without_map_files_the_path_is_taken_when_the_inode_agrees() {
    let (root, proc) = fake(&[("root/lib/libfake.so", b"by path")]);
    let mapping = mapping_of(&root.path().join("42/root/lib/libfake.so"));
    let file = proc.open_mapped_file(42, &mapping).unwrap();
    assert_eq!(io::read_to_string(file).unwrap(), "by path");
}

#[test]
fn without_map_files_a_replaced_file_is_refused() {
    let (root, proc) = fake(&[("root/lib/libfake.so", b"old")]);
    let mapping = mapping_of(&root.path().join("42/root/lib/libfake.so"));
    fs::write(root.path().join("42/root/lib/new"), "new").unwrap();
    fs::rename(root.path().join("42/root/lib/new"), root.path().join("42/root/lib/libfake.so"))
        .unwrap();
    let error = proc.open_mapped_file(42, &mapping).unwrap_err();
    assert!(error.to_string().contains("another file has its path now"), "{error}");
}

#[test]
fn something_that_is_not_a_regular_file_is_never_opened() {
    let (root, proc) = fake(&[]);
    let directory = root.path().join("42/map_files/1000-2000");
    fs::create_dir_all(&directory).unwrap();
    let error = proc.open_mapped_file(42, &mapping_of(&directory)).unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[test]
fn the_trampoline_is_where_uprobes_is_mapped() {
    let text = b"1000-2000 r-xp 0 08:01 7 /a\n7fffffffe000-7ffffffff000 --xp 0 00:00 0 [uprobes]\n";
    let maps = maps::parse(text).unwrap();
    assert_eq!(uprobe_trampoline(&maps), Some(0x7fff_ffff_e000));
    assert_eq!(uprobe_trampoline(&maps[..1]), None);
}

#[test]
fn this_process_is_read_from_the_real_proc() {
    let proc = ProcFs::new("/proc");
    let this = proc.process(process::id()).unwrap();
    this.check_traceable().unwrap();
    assert!(this.resident_bytes > 1 << 20 && this.peak_resident_bytes >= this.resident_bytes / 2);
    assert_eq!(Path::new(&this.executable), std::env::current_exe().unwrap());
    let maps = proc.maps(process::id()).unwrap();
    let libc = maps.iter().find(|mapping| mapping.contains(libc_function())).unwrap();
    assert!(libc.permissions.execute && libc.file.is_some());
    assert!(proc.rss_bytes(process::id()).unwrap() > 1 << 20);
    assert!(proc.kernel_version().unwrap() >= KernelVersion::new(4, 0));
    assert_eq!(
        proc.executable_id(process::id()),
        Some(file_id(&fs::metadata("/proc/self/exe").unwrap()))
    );
}

/// Some address of executable code in a mapped file.
fn libc_function() -> u64 {
    this_process_is_read_from_the_real_proc as *const () as u64
}
