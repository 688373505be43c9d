//! Heaps in huge pages: the same table, and how much of it they are.

use std::{fs, process::Command};

use memtrace_tests::{programs, target::Target};

use super::{MIB, inspect_idle};

/// What the kernel says is in huge pages.
fn huge_bytes(pid: u32) -> i64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let lines = smaps.lines().filter(|line| line.starts_with("AnonHugePages:"));
    let kib = lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap());
    kib.sum::<i64>() * 1024
}

/// As glibc asks for them in the main arena and for blocks that it maps one by one.
#[test]
fn a_heap_in_huge_pages_adds_up_and_says_how_much_they_are() {
    let mut command = Command::new(programs::path("heap_shapes"));
    command.args(["0", "60000", "plain"]).env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
    let target = Target::start_command(&mut command);
    check(target.pid(), 64 * MIB);
}

/// As a program asks for them itself.
#[test]
fn huge_pages_that_the_program_asks_for_are_told() {
    let target = Target::start("memory_kinds", &[]);
    check(target.pid(), 4 * MIB);
}

/// The kernel has at least `at_least` to spare, unless it is told not to give any.
fn check(pid: u32, at_least: i64) {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
    let look = inspect_idle(pid);
    let huge = huge_bytes(pid);
    assert_eq!(look["rss"]["huge_bytes"], huge, "{look:#}");
    assert!(huge >= at_least || setting.contains("[never]"), "{huge} {setting}");
    assert_eq!(look["error_bound_bytes"], 0, "{look:#}");
}
