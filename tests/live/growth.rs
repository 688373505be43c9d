//! The growth mode against what targets did, and against what the kernel says of them.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use memtrace_tests::{
    TIMEOUT,
    attach::{Attach, Tracing},
    binary::{run, stderr},
    programs,
    python_target::PythonTarget,
    python_truth::{KnownLine, group_place},
    pythons::system,
    report::{Growth, Report},
    target::Target,
    truth::assert_complete,
};
use rustix::process::{Signal, setpriority_process};
use serde::Deserialize;
use tempfile::TempDir;
use xtask::test_program::compile_with;

const MIB: u64 = 1 << 20;

/// What a target did, in bytes.
#[derive(Debug, Deserialize)]
struct Grown {
    address_space: u64,
    resident: u64,
}

/// A target that grew, and both views of it.
struct Run {
    truth: Grown,
    /// By how much the kernel says that its anonymous memory grew.
    rss_anon_bytes: u64,
    address_space: Report,
    resident: Report,
}

/// By what growth is seen.
const KERNEL: &str = "kernel";
const PROGRAM: &str = "program";

/// What the report says where it was missed.
const MISSED: &str = "the program makes system calls where its code was not looked at";
/// Likewise, of a program that was executed.
const MISSED_SINCE_EXEC: &str = "was executed made system calls before its code was looked at";

impl Run {
    /// Of a test program, seen in both ways.
    fn of(program: &str, way: &str) -> [Self; 2] {
        [KERNEL, PROGRAM].map(|by| Self::seen(program, way, by))
    }

    fn seen(program: &str, way: &str, by: &str) -> Self {
        Self::of_target(Target::start(program, &[way]), by, |target, _| grow(target))
    }

    /// `growing` has the target grow.
    fn of_target(
        mut target: Target,
        by: &str,
        growing: impl FnOnce(&mut Target, &mut Tracing) -> Grown,
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let prefix = directory.path().join("grown");
        let arguments = ["--growth", "--growth-by", by, "-v"];
        let mut tracing = Attach::to(target.pid()).args(&arguments).output(&prefix).armed();
        let before = rss_anon_bytes(target.pid());
        let truth = growing(&mut target, &mut tracing);
        let rss_anon_bytes = rss_anon_bytes(target.pid()) - before;
        let address_space = tracing.interrupt().report();
        assert!(target.quit().success(), "the target was harmed");
        for picture in ["grown.svg", "grown-resident.svg"] {
            let svg = fs::read_to_string(directory.path().join(picture)).unwrap();
            assert!(svg.contains("growth of"), "{picture}: {svg}");
        }
        let resident = of_capture(&prefix.with_extension("memtrace"), "resident-grown");
        assert_complete(&address_space);
        let in_program = address_space.growth.unwrap().in_program;
        assert!(by == "auto" || in_program == (by == PROGRAM), "{by}");
        Self { truth, rss_anon_bytes, address_space, resident }
    }

    /// What the report says of what was missed.
    fn missed(&self) -> Option<&String> {
        let notes = &self.address_space.completeness.notes;
        notes.iter().find(|note| note.contains(MISSED) || note.contains(MISSED_SINCE_EXEC))
    }

    fn growth(&self) -> Growth {
        self.address_space.growth.unwrap()
    }

    /// The estimate is of what the kernel says, within five standard deviations.
    fn assert_same_resident(&self) {
        let Growth { resident, rss, .. } = self.growth();
        let allowed = resident.error_bytes * 5 / 2 + MIB;
        let truth = self.truth.resident;
        assert!(resident.bytes.abs_diff(truth) <= allowed, "{resident:?} is not {truth}");
        assert!(self.rss_anon_bytes.abs_diff(truth) <= MIB, "{}: {truth}", self.rss_anon_bytes);
        let at_end = rss.unwrap().at_end.anonymous_bytes;
        assert!(at_end.abs_diff(truth) < 4 * MIB, "{rss:?} is not {truth}");
    }

    fn assert_same_address_space(&self, slack_bytes: u64) {
        let grown = self.growth().address_space.bytes;
        let truth = self.truth.address_space;
        assert!(grown >= truth && grown - truth <= slack_bytes, "{grown} is not {truth}");
    }
}

/// Whether a memtrace has programs at the tracepoints of all system calls, by the kernel's word.
fn sees_all_system_calls(pid: u32) -> bool {
    links(pid).iter().any(|link| link.contains("tp_name:\tsys_exit"))
}

/// What the kernel says of the descriptors of a process.
fn links(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    entries.filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok()).collect()
}

/// Tells the target to go on; what it says when it has grown.
fn grow(target: &mut Target) -> Grown {
    target.go();
    serde_json::from_str(&target.line()).unwrap()
}

/// Tells a target to go on until it says a line that begins so.
fn go_until(target: &mut Target, said: &str) {
    target.go();
    let line = target.line();
    assert!(line.starts_with(said), "{line}");
}

/// As long as this is there, what the thread starts gets the CPU before others: a program that gets a tenth
/// of one beside many others does not map all the time.
struct PreferChildren;

impl PreferChildren {
    fn new() -> Self {
        setpriority_process(None, -10).unwrap();
        Self
    }
}

impl Drop for PreferChildren {
    fn drop(&mut self) {
        setpriority_process(None, 0).unwrap();
    }
}

/// Stops all threads of a memtrace.
fn stop(tracing: &Tracing) {
    tracing.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", tracing.pid());
    wait_until(|| {
        let mut threads = fs::read_dir(&threads).unwrap();
        threads.all(|thread| {
            let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| stat.contains(") T "))
        })
    });
}

fn wait_until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < TIMEOUT);
        thread::sleep(Duration::from_millis(20));
    }
}

/// Compiles a test program for musl.
fn musl_program(name: &str, directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("programs/c/{name}.c"));
    let program = directory.join(name);
    let specs = format!("-specs=/usr/lib/{ARCH}-linux-musl/musl-gcc.specs");
    compile_with(&["-pthread".into(), specs.into()], &source, &program).unwrap();
    program
}

fn of_capture(capture: &Path, view: &str) -> Report {
    let output = run(&["report", capture.to_str().unwrap(), "--view", view, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn rss_anon_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Live bytes of the sites whose stacks go through a function.
fn through(report: &Report, function: &str) -> u64 {
    let sites = report
        .sites
        .iter()
        .filter(|site| site.stack.frames.iter().any(|frame| frame.function == function));
    sites.map(|site| site.stats.live.bytes).sum()
}

#[test]
fn smoke_growth_of_mappings_is_exact_and_that_of_memory_is_estimated() {
    for run in Run::of("grows", "mappings") {
        assert_mappings(&run);
        assert_eq!(through(&run.address_space, "grow_unused"), 200 * MIB);
        assert_eq!(through(&run.resident, "grow_unused"), 0, "nobody used it");
        let used = through(&run.resident, "grow_and_use");
        assert_eq!(used, run.growth().resident.bytes, "all of it was used there");
    }
}

fn assert_mappings(run: &Run) {
    run.assert_same_address_space(0);
    run.assert_same_resident();
    assert_eq!(run.missed(), None);
    let peak = run.growth().rss.unwrap().peak_bytes;
    assert!(peak >= (64 + 48) * MIB, "what was unmapped was resident once: {peak}");
}

#[test]
fn memory_that_moves_stays_with_who_used_it() {
    for run in Run::of("grows", "moves") {
        run.assert_same_address_space(0);
        run.assert_same_resident();
        assert_eq!(through(&run.address_space, "grow_moved"), 80 * MIB);
        assert_eq!(through(&run.resident, "grow_moved"), 0);
        assert_eq!(run.missed(), None);
    }
}

#[test]
fn smoke_the_program_break_grows_and_shrinks() {
    for run in Run::of("grows", "break") {
        run.assert_same_address_space(0);
        run.assert_same_resident();
        assert_eq!(through(&run.address_space, "grow_break"), 48 * MIB - 16 * MIB);
        assert_eq!(run.missed(), None);
    }
}

/// 64 MiB are reserved; what can be used of them is what the thread has filled.
#[test]
fn an_arena_grows_by_what_is_permitted_and_not_by_what_is_reserved() {
    for run in Run::of("grows", "arena") {
        // The stack of the thread.
        run.assert_same_address_space(9 * MIB);
        run.assert_same_resident();
        let permitted: u64 = run
            .address_space
            .sites
            .iter()
            .filter(|site| site.function == "mprotect")
            .map(|site| site.stats.live.bytes)
            .sum();
        assert!(permitted >= run.truth.address_space, "{permitted}");
        let used = through(&run.resident, "grow_arena");
        assert!(used * 10 >= run.growth().resident.bytes * 9, "{used}");
        assert_eq!(run.missed(), None);
    }
}

#[test]
fn an_allocator_that_nobody_knows_is_followed_like_any_other() {
    let run = Run::seen("grows", "unknown", KERNEL);
    run.assert_same_address_space(0);
    run.assert_same_resident();
    assert_eq!(through(&run.address_space, "grow_by_itself"), 64 * MIB);
    assert_eq!(through(&run.resident, "grow_by_itself"), run.growth().resident.bytes);
}

#[test]
fn a_static_and_stripped_program_is_followed_too() {
    for run in Run::of("grows_static_stripped", "mappings") {
        assert_mappings(&run);
    }
    for run in Run::of("grows_static_stripped", "unknown") {
        run.assert_same_address_space(0);
        run.assert_same_resident();
    }
}

#[test]
fn a_program_without_a_c_library_is_followed_by_its_own_calls() {
    for run in Run::of("grows_alone", "") {
        run.assert_same_address_space(0);
        run.assert_same_resident();
        assert_eq!(through(&run.address_space, "grow_alone"), 48 * MIB);
        assert_eq!(run.missed(), None);
    }
}

#[test]
fn a_program_of_musl_is_followed_by_the_calls_of_that() {
    let directory = TempDir::new().unwrap();
    let program = musl_program("grows", directory.path());
    for way in ["mappings", "moves"] {
        for by in [KERNEL, PROGRAM] {
            let target = Target::start_command(Command::new(&program).arg(way));
            let run = Run::of_target(target, by, |target, _| grow(target));
            run.assert_same_address_space(0);
            run.assert_same_resident();
            assert_eq!(run.missed(), None);
        }
    }
}

/// One that has the same C library, and one that is its own.
#[test]
fn a_program_that_is_executed_is_followed_by_its_calls() {
    for (next, is_new) in [("grows", false), ("grows_static_stripped", true)] {
        let path = programs::path(next);
        let target = Target::start("grows", &["exec", path.to_str().unwrap(), "mappings"]);
        let run = Run::of_target(target, PROGRAM, |target, tracing| {
            go_until(target, "ready ");
            // From then on its calls are seen, and its stacks are walked.
            let (followed, loaded) = ("its growth is followed since", "the target loaded code");
            tracing.wait_until_it_says(if is_new { followed } else { loaded });
            grow(target)
        });
        // What it mapped to begin with.
        run.assert_same_address_space(8 * MIB);
        run.assert_same_resident();
        assert_eq!(run.missed(), None);
        assert_eq!(through(&run.address_space, "grow_unused"), if is_new { 0 } else { 200 * MIB });
    }
}

/// It grows while memtrace does not run.
#[test]
fn what_an_executed_program_does_before_its_code_is_looked_at_is_told() {
    let path = programs::path("grows_static_stripped");
    for waits in [false, true] {
        let target = Target::start("grows", &["exec", path.to_str().unwrap(), "reads"]);
        let run = Run::of_target(target, PROGRAM, |target, tracing| {
            stop(tracing);
            go_until(target, "ready ");
            let truth = grow(target);
            tracing.signal(Signal::CONT);
            if waits {
                tracing.wait_until_it_says("was executed made system calls");
            }
            truth
        });
        run.assert_same_address_space(MIB);
        run.assert_same_resident();
        assert!(run.missed().unwrap().contains("MiB of address space was missed"));
        assert_eq!(through(&run.address_space, "grow_by_reading"), 0);
    }
}

/// What nobody saw is told all the same, without saying who did it.
#[test]
fn what_a_program_does_behind_the_back_of_its_c_library_is_missed_and_told_at_the_end() {
    let run = Run::seen("grows", "unknown", PROGRAM);
    run.assert_same_address_space(0);
    run.assert_same_resident();
    assert_eq!(through(&run.address_space, "grow_by_itself"), 0);
    assert!(run.missed().unwrap().contains("64.0 MiB of address space"), "{:?}", run.missed());
}

#[test]
fn a_program_that_goes_behind_the_back_of_its_c_library_is_followed_in_the_kernel_soon() {
    let target = Target::start("grows", &["unknown-again"]);
    let run = Run::of_target(target, PROGRAM, |target, tracing| {
        go_until(target, "once");
        wait_until(|| sees_all_system_calls(tracing.pid()));
        grow(target)
    });
    run.assert_same_address_space(0);
    run.assert_same_resident();
    // Since it was noticed; it may have been while the target still grew for the first time.
    let seen = through(&run.address_space, "grow_by_itself");
    assert!(seen >= 64 * MIB, "{seen}");
    let missed = run.missed().unwrap();
    let sentence = format!("{}.0 MiB of address space", (128 * MIB - seen) / MIB);
    assert!(missed.contains(&sentence) && missed.contains("since then"), "{missed}");
}

/// A program that would suffer too much is left alone, unless somebody insists. On a kernel that lets
/// programs hang on its functions nothing is in the program to begin with.
#[test]
fn a_program_that_maps_all_the_time_is_followed_in_the_kernel_soon() {
    let _preferred = PreferChildren::new();
    let target = Target::start("grows", &["restless"]);
    let run = Run::of_target(target, "auto", |target, tracing| {
        go_until(target, "mapping");
        let at_functions =
            || links(tracing.pid()).iter().any(|link| link.contains("target_btf_id"));
        wait_until(|| sees_all_system_calls(tracing.pid()) || at_functions());
        grow(target)
    });
    run.assert_same_address_space(0);
    run.assert_same_resident();
    assert_eq!(through(&run.address_space, "grow_and_use"), 32 * MIB);
    let growth = run.growth();
    let notes = &run.address_space.completeness.notes;
    let is_said = notes.iter().any(|note| note.contains("maps and unmaps so much"));
    assert_eq!(is_said, growth.in_program, "{notes:?}");
}

#[test]
fn a_program_that_maps_all_the_time_is_followed_in_it_if_somebody_insists() {
    let target = Target::start("grows", &["restless"]);
    let run = Run::of_target(target, PROGRAM, |target, tracing| {
        go_until(target, "mapping");
        // Two looks, and one more.
        thread::sleep(Duration::from_secs(2));
        assert!(!sees_all_system_calls(tracing.pid()));
        grow(target)
    });
    run.assert_same_address_space(0);
    run.assert_same_resident();
    assert_eq!(run.missed(), None);
}

/// What has many of them pays nothing: no program hangs on system calls as such.
#[test]
fn system_calls_that_are_of_no_interest_are_not_looked_at() {
    for by in ["auto", PROGRAM] {
        let target = Target::start("grows", &[]);
        let tracing = Attach::to(target.pid()).args(&["--growth", "--growth-by", by]).armed();
        assert!(!sees_all_system_calls(tracing.pid()), "{by}");
        let report = tracing.interrupt().report();
        let growth = report.growth.unwrap();
        assert!(growth.in_program || growth.at_functions, "{growth:?}");
    }
}

#[test]
fn pages_that_the_kernel_fills_belong_to_the_system_call() {
    for run in Run::of("grows", "reads") {
        run.assert_same_resident();
        let read = through(&run.resident, "grow_by_reading");
        assert!(read * 10 >= run.growth().resident.bytes * 9, "{read}");
    }
}

#[test]
fn a_model_server_grows_on_the_line_that_loads_models() {
    let mut target =
        PythonTarget::start_with(system().command_with_numpy(), "model_server.py", &[]);
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("server");
    let tracing = Attach::to(target.pid()).args(&["--growth"]).output(&prefix).armed();
    let truth: KnownLine = target.ask("deploy 4 0.1");
    tracing.interrupt().report();
    let report = of_capture(&prefix.with_extension("memtrace"), "resident-grown");
    let largest = &report.groups[0];
    assert_eq!(group_place(largest).as_ref(), Some(&truth.place));
    let grown = largest.survivors.bytes;
    let error = report.growth.unwrap().resident.error_bytes;
    assert!(grown.abs_diff(truth.survivors.bytes) <= error * 5 / 2, "{grown}: {truth:?}");
}

#[test]
fn options_of_allocators_do_not_go_with_growth() {
    let finished = Attach::to(std::process::id()).args(&["--growth", "--pymalloc"]).run();
    finished.assert_refused(&["--growth", "--pymalloc"]);
}
