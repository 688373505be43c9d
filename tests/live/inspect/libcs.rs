//! Several C libraries in one process, each with its own heap.

use memtrace_tests::{
    glibcs::{compile, glibcs},
    target::Target,
};
use serde::Deserialize;
use serde_json::Value;

use super::{bytes, inspect_idle};

/// What mallinfo says of one of them.
#[derive(Debug, Deserialize, PartialEq, Eq)]
struct MallInfo {
    arena: u64,
    hblkhd: u64,
    uordblks: u64,
    fordblks: u64,
}

impl MallInfo {
    /// The same of a heap that was walked.
    fn of(heap: &Value) -> Self {
        let arenas = heap["arenas"].as_array().unwrap();
        let sum = |field: &str| -> u64 {
            arenas.iter().map(|arena| arena.pointer(field).unwrap().as_u64().unwrap()).sum()
        };
        let (arena, hblkhd) = (sum("/system_bytes"), heap["mapped"]["bytes"].as_u64().unwrap());
        let fordblks = sum("/free/bytes") + sum("/top_bytes") + sum("/fastbins/bytes");
        Self { arena, hblkhd, uordblks: arena - fordblks, fordblks }
    }
}

/// Looks at `two_libcs`, and compares both heaps with what they say themselves.
pub fn check_both(pid: u32, target: &mut Target) -> Value {
    let look = inspect_idle(pid);
    target.go();
    let stated: Vec<MallInfo> = serde_json::from_str(&target.line()).unwrap();
    let heaps = look["glibc"].as_array().unwrap();
    let mut seen: Vec<MallInfo> = heaps.iter().map(MallInfo::of).collect();
    // In the order of their addresses, which the linker chooses.
    seen.sort_by_key(|info| info.arena);
    assert_eq!(seen, stated, "{look:#}");
    assert_eq!(look["refusals"].as_array().unwrap().len(), 0, "{look:#}");
    assert_eq!(look["error_bound_bytes"], 0);
    let in_use = heaps.iter().flat_map(|heap| heap["arenas"].as_array().unwrap());
    let in_use = in_use.map(|arena| arena["in_use"]["bytes"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(look["summary"]["in_use_bytes"], in_use);
    // Every block was written to.
    assert_eq!(bytes(&look, "in_use"), in_use as i64);
    look
}

#[test]
fn a_second_libc_in_a_namespace_of_the_linker_is_summed_up_with_the_first() {
    let mut target = Target::start("two_libcs", &[]);
    let look = check_both(target.pid(), &mut target);
    let arenas = |heap: usize| look["glibc"][heap]["arenas"].as_array().unwrap().len();
    // The second thread has one of its own in each.
    assert_eq!((arenas(0), arenas(1)), (2, 2));
    assert_ne!(look["glibc"][0]["arenas"][0]["address"], look["glibc"][1]["arenas"][0]["address"]);
    assert!(target.quit().success(), "it was harmed");
}

#[test]
fn two_libcs_of_every_release() {
    let directory = tempfile::tempdir().unwrap();
    for glibc in glibcs() {
        println!("glibc {}", glibc.version);
        let program = compile(&glibc, "two_libcs", directory.path());
        let mut target = Target::start_command(&mut std::process::Command::new(program));
        check_both(target.pid(), &mut target);
    }
}
