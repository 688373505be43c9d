//! What `memtrace inspect` says adds up to what the kernel counts, and changes nothing.

mod arrays;
pub(crate) mod containers;
mod huge_pages;
mod libcs;
mod rights;
mod successors;
mod swap;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use memtrace_tests::{
    binary::{memtrace, run, stderr},
    programs, status_bytes,
    target::{Background, Target},
    wait_until,
};
use serde_json::Value;

const NOBODY: u32 = 65534;
const MIB: i64 = 1 << 20;

fn document(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn inspect(pid: u32) -> Value {
    document(&run(&["inspect", "--json", "-p", &pid.to_string()]))
}

/// Resident bytes by the page tables: `VmRSS` is approximate on some kernels.
fn resident_by_pages(pid: u32) -> i64 {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let lines = smaps.lines().filter(|line| line.starts_with("Rss:"));
    lines.map(|line| line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 1024).sum()
}

fn rows(look: &Value) -> Vec<(String, i64)> {
    let rows = look["rss"]["rows"].as_array().unwrap();
    let row = |row: &Value| {
        let kind = row["kind"].as_str().unwrap().to_owned();
        (kind, row["resident_bytes"].as_i64().unwrap())
    };
    rows.iter().map(row).collect()
}

fn bytes(look: &Value, kind: &str) -> i64 {
    rows(look).iter().find(|(name, _)| name == kind).map_or(0, |(_, bytes)| *bytes)
}

/// Waits until a process waits for something: what it prints is not always the last that it does.
fn wait_until_idle(pid: u32) {
    let stat = format!("/proc/{pid}/stat");
    wait_until("it waits", || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        fs::read_to_string(&stat).unwrap().contains(") S ")
    });
}

/// Looks at a process that does nothing, and checks what must be true of each.
fn inspect_idle(pid: u32) -> Value {
    wait_until_idle(pid);
    let before = resident_by_pages(pid);
    let look = inspect(pid);
    assert_eq!(resident_by_pages(pid), before, "looking has changed the target");
    assert_eq!(look["rss"]["rss_bytes"], before);
    let sum: i64 = rows(&look).iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(sum, before, "{:?}", rows(&look));
    assert_eq!(bytes(&look, "remainder"), 0, "{look:#}");
    assert_eq!(bytes(&look, "shmem"), status_bytes(pid, "RssShmem") as i64, "{:?}", rows(&look));
    look
}

#[test]
fn every_kind_of_memory_is_told_from_the_others() {
    let target = Target::start("memory_kinds", &[]);
    let look = inspect_idle(target.pid());
    assert_eq!(bytes(&look, "shmem"), 7 * MIB);
    // With what libraries and the loader keep in anonymous memory.
    let other = bytes(&look, "other_anonymous");
    assert!((12 * MIB..12 * MIB + 256 * 1024).contains(&other), "{other}");
    let private = bytes(&look, "private_file");
    assert!((MIB..MIB + 256 * 1024).contains(&private), "{private}");
    assert!(bytes(&look, "file") > 2 * MIB);
    // 256 KiB each, and what the thread's calls need.
    let live = bytes(&look, "thread_stacks");
    assert!((MIB..MIB + 256 * 1024).contains(&live), "{live}");
    let cached = bytes(&look, "cached_stacks");
    // An ending thread gives back most of its stack itself.
    assert!((2 * 4096..256 * 1024).contains(&cached), "{cached}");
    assert_eq!(
        (&look["summary"]["live_stacks"], &look["summary"]["cached_stacks"]),
        (&4.into(), &2.into())
    );
    let zero = look["kernel"]["zero_bytes"].as_i64();
    assert!(zero.is_none_or(|zero| zero >= MIB), "{zero:?}");
}

#[test]
fn a_program_with_heap_and_threads_adds_up() {
    let mut target = Target::start("ground_truth", &["heap", "8"]);
    inspect_idle(target.pid());
    target.run();
    inspect_idle(target.pid());
}

#[test]
fn a_static_program_adds_up() {
    let target = Target::start("ground_truth_static", &["heap", "2"]);
    inspect_idle(target.pid());
}

#[test]
fn a_python_program_adds_up() {
    let program = "import threading, time, sys\n\
                   keep = [bytearray(1000) for _ in range(50000)] + [str(i) for i in range(50000)]\n\
                   keep = keep[::3]\n\
                   for _ in range(3): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n\
                   time.sleep(0.2); print('here', flush=True); time.sleep(1000)";
    let target = Background::start(Command::new("python3").args(["-c", program]), "here");
    let look = inspect_idle(target.pid());
    assert_eq!(look["summary"]["live_stacks"], 3);
    assert!(bytes(&look, "pymalloc_in_use") > 0, "{:?}", rows(&look));
}

/// Debian's libjemalloc2, where it is installed: `cargo xtask setup` says how.
fn jemalloc() -> PathBuf {
    let paths = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let found = paths.iter().map(|path| Path::new(path).join("libjemalloc.so.2"));
    found.into_iter().find(|path| path.exists()).expect("libjemalloc2 is not installed")
}

#[test]
fn an_allocator_that_cannot_be_walked_is_named_with_what_it_has_at_most() {
    let mut command = Command::new(programs::path("ground_truth"));
    let command = command.args(["heap", "4"]).env("LD_PRELOAD", jemalloc());
    let mut target = Target::start_command(command);
    target.run();
    let look = inspect_idle(target.pid());
    assert_eq!(look["opaque"][0]["name"], "jemalloc");
    assert!(bytes(&look, "opaque_allocator") > 0, "{:?}", rows(&look));
    assert_eq!(bytes(&look, "other_anonymous"), 0);
    // What glibc gave to itself and to the loader.
    assert!(bytes(&look, "in_use") < 4096, "{:?}", rows(&look));
    let text = run(&["inspect", "-p", &target.pid().to_string()]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("jemalloc, at most") && text.contains("cannot be walked"), "{text}");
}

#[test]
fn a_file_that_is_deleted_is_still_looked_into() {
    let directory = tempfile::TempDir::new().unwrap();
    let copy = directory.path().join("kinds");
    fs::copy(programs::path("memory_kinds"), &copy).unwrap();
    let target = Target::start_command(&mut Command::new(&copy));
    fs::remove_file(&copy).unwrap();
    let look = inspect_idle(target.pid());
    assert_eq!(look["refusals"], Value::Array(Vec::new()));
    assert_eq!(look["summary"]["live_stacks"], 4);
}

/// A program of musl's, linked as the options say.
fn musl_program(directory: &Path, options: &[&str]) -> PathBuf {
    let source = directory.join("keeper.c");
    let text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n\
                int main(void) { for (int i = 0; i < 5000; i++) memset(malloc(1000), 1, 1000);\n\
                free(malloc(1));\n\
                puts(\"here\"); fflush(stdout); pause(); }";
    fs::write(&source, text).unwrap();
    let program = directory.join("keeper");
    let mut compiler = Command::new("musl-gcc");
    let compiler = compiler.args(["-O0", "-fno-builtin", "-o"]).arg(&program).arg(&source);
    assert!(compiler.args(options).status().unwrap().success());
    program
}

#[test]
fn a_program_of_musl_adds_up() {
    for options in [[].as_slice(), &["-static"]] {
        let directory = tempfile::TempDir::new().unwrap();
        let program = musl_program(directory.path(), options);
        let target = Background::start(&mut Command::new(program), "here");
        let look = inspect_idle(target.pid());
        let in_use = bytes(&look, "in_use");
        assert!((5_000_000..5_700_000).contains(&in_use), "{options:?}: {look:#}");
    }
}

fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), b"".as_slice()));
    let text = stderr(output);
    assert!(text.starts_with("memtrace: error: "), "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word} is not in {text}"));
}

#[test]
fn what_has_no_memory_is_refused() {
    assert_refused(&run(&["inspect", "-p", "4194305"]), &["no process"]);
    assert_refused(&run(&["inspect", "-p", "2"]), &["kernel thread"]);
    let mut child = Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    wait_until("it is a zombie", || fs::read_to_string(&stat).unwrap().contains(") Z "));
    assert_refused(&run(&["inspect", "-p", &child.id().to_string()]), &["zombie"]);
    child.wait().unwrap();
}

#[test]
fn a_process_that_ends_while_it_is_looked_at_ends_the_series_and_no_more() {
    let mut target = Target::start("memory_kinds", &[]);
    let mut command = Command::new(memtrace());
    command.args(["inspect", "--json", "--every", "10ms", "-p", &target.pid().to_string()]);
    let mut series = Background::start(&mut command, "memtrace-inspect/1");
    assert!(target.quit().success());
    wait_until("the series has ended", || !series.is_running());
}

#[test]
fn looks_one_after_the_other_are_lines() {
    let target = Target::start("memory_kinds", &[]);
    let pid = target.pid().to_string();
    let output = run(&["inspect", "-p", &pid, "--json", "--every", "10ms", "--count", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let looks: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(looks.len(), 3);
    assert!(looks.iter().all(|look| look["rss"] == looks[0]["rss"]), "{text}");
    // The first look reads the files, which is more than 0.1 ms of CPU time.
    assert!(stderr(&output).contains("1 % of a CPU"), "{}", stderr(&output));
}

#[test]
fn a_process_that_ends_at_any_moment_is_no_crash() {
    for delay_us in (0..60_000).step_by(3_000) {
        let mut target = Background::start(
            Command::new("sh").args(["-c", "echo here; exec sleep 1000"]),
            "here",
        );
        let mut command = Command::new(memtrace());
        command.args(["inspect", "--json", "-p", &target.pid().to_string()]);
        let child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(delay_us));
        assert!(target.is_running());
        drop(target);
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => drop(document(&output)),
            code => {
                assert_eq!(code, Some(2), "{}", stderr(&output));
                assert!(stderr(&output).starts_with("memtrace: error: "), "{}", stderr(&output));
            }
        }
    }
}
