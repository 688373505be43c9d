//! `memtrace run`: what a command does is seen from its very first allocation on.

use std::{
    ffi::OsString,
    fs::{Permissions, copy, set_permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    report::Report,
    run::{Finished, Run},
    truth::{Truth, assert_complete},
};
use tempfile::TempDir;
use xtask::test_program::compile_with;

/// The status that `first` ends with.
const STATUS: i32 = 7;

/// Compiles `programs/run/first.c`.
fn compile(options: &[OsString], to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/run/first.c");
    compile_with(options, &source, to).unwrap();
}

/// A program with a library that allocates in its constructor.
fn first() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let library = directory.path().join("libearly.so");
    compile(&["-DLIBRARY", "-shared", "-fPIC"].map(OsString::from), &library);
    let program = directory.path().join("first");
    let mut rpath = OsString::from("-Wl,-rpath,");
    rpath.push(directory.path());
    compile(&["-Wl,--no-as-needed".into(), library.into(), rpath], &program);
    (directory, program)
}

/// The same in one piece.
fn whole(options: &[&str]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("first");
    let mut all: Vec<OsString> = options.iter().map(OsString::from).collect();
    all.push("-DWHOLE".into());
    compile(&all, &program);
    (directory, program)
}

fn truth(finished: &Finished) -> Truth {
    assert_eq!(finished.status.code(), Some(STATUS), "{}", finished.stderr);
    let books = finished.stdout.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(books.expect("the command said what it did")).unwrap()
}

fn assert_whole_truth(program: &Path, options: &[&str]) -> Report {
    let finished = Run::of(program, &["0"]).options(options).wait();
    let report = finished.report();
    truth(&finished).assert_same_heap(&report);
    assert_eq!(report.window.ended_by, "target_exited");
    report
}

#[test]
fn an_allocation_in_the_constructor_of_a_library_is_seen() {
    let (_directory, program) = first();
    let report = assert_whole_truth(&program, &[]);
    assert_eq!(report.sites_of("site_constructor_kept").count(), 1);
}

#[test]
fn a_static_program_is_seen_from_its_first_allocation_on() {
    let musl = format!("-specs=/usr/lib/{}-linux-musl/musl-gcc.specs", std::env::consts::ARCH);
    for options in [&["-static"][..], &["-static-pie"], &["-static", &musl]] {
        let (_directory, program) = whole(options);
        let finished = Run::of(&program, &["0"]).wait();
        let report = finished.report();
        assert_complete(&report);
        // The C library in it obtains some blocks even before the first constructor.
        truth(&finished).assert_same_sites(&report);
    }
}

#[test]
fn it_is_seen_with_probes_by_perf_events_too() {
    let (_directory, program) = first();
    assert_whole_truth(&program, &["--perf-event-links"]);
}

#[test]
fn within_a_budget_the_first_allocation_is_seen_too() {
    let (_directory, program) = first();
    assert_whole_truth(&program, &["--max-overhead", "10%"]);
}

#[test]
fn threads_are_counted_exactly() {
    let (_directory, program) = first();
    let finished = Run::of(&program, &["8"]).wait();
    let report = finished.report();
    assert_complete(&report);
    truth(&finished).assert_same_sites(&report);
}

#[test]
fn what_a_wrapper_executes_is_seen_from_its_start() {
    let (_directory, program) = first();
    let path = program.to_str().unwrap();
    for wrapper in [["env", "A=b"].as_slice(), &["sh", "-c", "exec \"$0\" 0"]] {
        let arguments: Vec<&str> = wrapper[1..].iter().copied().chain([path]).collect();
        let finished = Run::of(wrapper[0], &arguments).wait();
        let report = finished.report();
        truth(&finished).assert_same_sites(&report);
        assert!(report.completeness.execs >= 1);
    }
}

#[test]
fn a_static_program_that_a_wrapper_executes_is_seen_from_its_start() {
    let (_directory, program) = whole(&["-static"]);
    let finished = Run::of("env", &[program.to_str().unwrap()]).wait();
    truth(&finished).assert_same_sites(&finished.report());
}

#[test]
fn children_are_followed() {
    let (_directory, program) = first();
    let script = format!("{} 0 & sleep 3; wait $!", program.display());
    let finished = Run::of("bash", &["-c", &script]).options(&["--follow-forks"]).wait();
    assert_eq!(finished.status.code(), Some(STATUS), "{}", finished.stderr);
    let report = finished.report();
    assert!(report.completeness.forks >= 1, "{:?}", report.completeness);
}

#[test]
fn growth_is_followed_from_the_start() {
    let (_directory, program) = whole(&["-static"]);
    let finished =
        Run::of(&program, &["0"]).options(&["--growth"]).options(&["--max-overhead", "none"]);
    let finished = finished.wait();
    assert_eq!(finished.status.code(), Some(STATUS), "{}", finished.stderr);
    let growth = finished.report().growth.expect("growth was followed");
    assert!(growth.address_space.bytes > 0, "{growth:?}");
}

#[test]
fn the_command_is_in_its_own_words_and_as_its_own_user() {
    let finished = Run::of("id", &["-un"]).options(&["--user", "nobody"]).wait();
    assert_eq!((finished.stdout.as_str(), finished.status.code()), ("nobody", Some(0)));
    let given = Run::of("printf", &["%s|", "a b", "--need", "-p"]).wait();
    assert_eq!(given.stdout, "a b|--need|-p|", "{}", given.stderr);
}

fn as_nobody(command: &[&'static str]) -> Vec<&'static str> {
    [&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], command].concat()
}

/// Makes it root's, and whoever executes it.
fn make_setuid(program: &Path) {
    set_permissions(program.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    set_permissions(program, Permissions::from_mode(0o4755)).unwrap();
}

/// A copy of `id` that says the user that it has the rights of.
fn setuid_id() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("id");
    copy("/usr/bin/id", &program).unwrap();
    make_setuid(&program);
    (directory, program)
}

#[test]
fn a_setuid_program_has_its_rights_and_is_seen_from_its_start() {
    let (_directory, id) = setuid_id();
    let (_directory, program) = whole(&[]);
    make_setuid(&program);
    let as_nobody = as_nobody(&[]);
    let cases = [(true, &[][..]), (true, &["env"]), (false, &as_nobody)];
    for (is_by_option, wrapper) in cases {
        let run = |program: &Path, argument| {
            let words = [wrapper, &[program.to_str().unwrap(), argument]].concat();
            let options: &[&str] = if is_by_option { &["--user", "nobody"] } else { &[] };
            Run::of(words[0], &words[1..]).options(options).wait()
        };
        let said = run(&id, "-u");
        assert_eq!((said.stdout.as_str(), said.status.code()), ("0", Some(0)), "{}", said.stderr);
        assert!(!said.stderr.contains("setuid"), "{}", said.stderr);
        let finished = run(&program, "2");
        let report = finished.report();
        assert_complete(&report);
        // setpriv may take too long to be gone with until it executes the program, which then may have
        // ended before its functions can be named.
        if is_by_option {
            truth(&finished).assert_same_sites(&report);
        }
    }
}

#[test]
fn a_setuid_program_that_does_not_get_its_rights_is_named() {
    const RIGHTS: [&str; 2] = [
        "--inh-caps=+bpf,+perfmon,+dac_read_search",
        "--ambient-caps=+bpf,+perfmon,+dac_read_search",
    ];
    let (_directory, id) = setuid_id();
    let finished = Run::of(&id, &["-u"]).under(&as_nobody(&RIGHTS)).wait();
    assert_eq!((finished.stdout.as_str(), finished.status.code()), ("65534", Some(0)));
    let named = finished.stderr.contains("id is setuid, but does not get the rights of user 0");
    assert!(named && finished.stderr.contains("CAP_SYS_PTRACE"), "{}", finished.stderr);
}

#[test]
fn input_and_a_clean_output_are_the_commands() {
    let mut running = Run::of("cat", &[]).start();
    running.tell("one");
    assert_eq!(running.output.next_line().as_deref(), Some("one"));
    running.signal(rustix::process::Signal::INT);
    let finished = running.wait();
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(130), "one"));
}

#[test]
fn it_composes_with_timeout() {
    let finished = Run::of("sleep", &["1000"]).under(&["timeout", "--preserve-status", "4"]).wait();
    assert_eq!(finished.status.code(), Some(143), "{}", finished.stderr);
    assert_eq!(finished.report().window.ended_by, "target_exited");
}

#[test]
fn a_command_without_enough_memory_is_not_started() {
    let finished = Run::of("echo", &["started"]).options(&["--need", "1000TiB"]).wait();
    finished.assert_not_started(2, &["--need", "available", "not started"]);
}

#[test]
fn what_cannot_be_started_is_said_as_a_shell_says_it() {
    let nowhere = Run::of("no-such-command-here", &[]).wait();
    nowhere.assert_not_started(127, &["no-such-command-here", "not found"]);
    Run::of("/etc/passwd", &[])
        .wait()
        .assert_not_started(126, &["/etc/passwd", "cannot be executed"]);
    let somebody = Run::of("true", &[]).options(&["--user", "no-such-user-here"]).wait();
    somebody.assert_not_started(2, &["no user no-such-user-here"]);
}

#[test]
fn a_program_that_cannot_be_traced_is_not_started() {
    let directory = TempDir::new().unwrap();
    let (source, program) = (directory.path().join("tiny.c"), directory.path().join("tiny"));
    std::fs::write(&source, "void _start(void) { __builtin_trap(); }").unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-static", "-nostdlib", "-O1", "-o"]).args([&program, &source]);
    assert!(compiler.status().unwrap().success());
    let finished = Run::of(&program, &[]).wait();
    finished.assert_not_started(2, &["the command was not started", "statically linked"]);
}

#[test]
fn without_the_right_to_trace_the_command_is_not_started() {
    let directory = TempDir::new().unwrap();
    let mark = directory.path().join("mark");
    let finished = Run::of("touch", &[mark.to_str().unwrap()]).under(&as_nobody(&[])).wait();
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("the command was not started"), "{}", finished.stderr);
    assert!(!mark.exists());
}
