//! Other releases of glibc than the system's.

use memtrace_tests::glibcs::{Glibc, compile, glibcs};

use super::check_at;

/// Runs a check with `heap_shapes` on each release, and says on which.
fn on_each(tunables: &[&str], threads: &[u32], mode: &str) {
    let directory = tempfile::tempdir().unwrap();
    for glibc in glibcs() {
        let program = compile(&glibc, "heap_shapes", directory.path());
        for tunables in tunables.iter().filter(|it| exists(&glibc, it)) {
            for threads in threads {
                println!("glibc {}, {threads} threads, {tunables:?}", glibc.version);
                check_at(&program, tunables, *threads, 20_000 / (threads + 1), mode);
            }
        }
    }
}

/// Whether a release has a tunable (or one before it has made it meaningless).
fn exists(glibc: &Glibc, tunables: &str) -> bool {
    let minor: u32 = glibc.version.strip_prefix("2.").unwrap().parse().unwrap();
    let only = |name: &str, releases: std::ops::Range<u32>| {
        !tunables.contains(name) || releases.contains(&minor)
    };
    only("hugetlb", 35..u32::MAX) && only("mxfast", 30..43)
}

#[test]
fn every_field_on_every_release() {
    on_each(&[""], &[1, 4, 32], "plain");
}

#[test]
fn every_tunable_on_every_release() {
    let tunables = [
        "glibc.malloc.arena_max=2",
        "glibc.malloc.tcache_count=0",
        "glibc.malloc.tcache_count=100",
        "glibc.malloc.tcache_max=20000",
        "glibc.malloc.mmap_threshold=20000",
        "glibc.malloc.mmap_threshold=40000000",
        "glibc.malloc.top_pad=4000000",
        "glibc.malloc.mxfast=0",
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.hugetlb=2",
    ];
    on_each(&tunables, &[3], "plain");
}

#[test]
fn a_main_arena_with_gaps_on_every_release() {
    on_each(&[""], &[1], "foreign");
    on_each(&[""], &[1], "blocked");
}
