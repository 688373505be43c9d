//! The command line as a user without privileges meets it.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{FromRawFd as _, OwnedFd},
    process::{Command, Output, Stdio},
};

use memtrace_tests::binary::{memtrace, run, stderr, stdout};

/// Asserts success, with these words on stdout and nothing on stderr.
fn assert_says(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert_eq!(stderr(output), "");
    for word in words {
        assert!(stdout(output).contains(word), "no {word:?} in {}", stdout(output));
    }
}

/// Asserts exit status 2, with these words on stderr and nothing on stdout.
fn assert_refuses(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", stdout(output));
    assert_eq!(stdout(output), "");
    for word in words {
        assert!(stderr(output).contains(word), "no {word:?} in {}", stderr(output));
    }
}

#[test]
fn help_shows_the_commands_examples_and_exit_status() {
    let words =
        ["Usage: memtrace", "attach", "Examples:", "sudo memtrace attach -p", "Exit status"];
    assert_says(&run(&["--help"]), &words);
}

#[test]
fn help_of_attach_shows_its_options() {
    let options = [
        "--pid",
        "--duration",
        "--output",
        "--min-age",
        "--by",
        "--python",
        "--json",
        "--top",
        "--ring-size",
        "--max-live",
        "--no-stacks",
        "--debug-dir",
    ];
    assert_says(&run(&["attach", "--help"]), &options);
}

#[test]
fn help_of_doctor_shows_its_options() {
    assert_says(&run(&["doctor", "--help"]), &["--pid", "--json", "--debug-dir"]);
    assert_says(&run(&["man", "doctor"]), &[".TH", "\\-\\-debug\\-dir"]);
}

#[test]
fn no_line_of_help_is_wider_than_100_columns() {
    for arguments in [["--help"].as_slice(), &["attach", "--help"], &["doctor", "--help"]] {
        for line in stdout(&run(arguments)).lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}

#[test]
fn the_version_is_said() {
    assert_says(&run(&["--version"]), &[concat!("memtrace ", env!("CARGO_PKG_VERSION"))]);
}

#[test]
fn bad_usage_is_refused() {
    assert_refuses(&run(&["frobnicate"]), &["frobnicate", "--help"]);
    assert_refuses(&run(&["attach"]), &["--pid", "--help"]);
    assert_refuses(&run(&["attach", "-p", "1", "--by", "colour"]), &["colour", "line", "module"]);
    assert_refuses(&run(&["attach", "-p", "1", "--python", "some"]), &["some", "merged", "only"]);
    assert_refuses(&run(&["attach", "-p", "0"]), &["0"]);
    assert_refuses(&run(&["attach", "-p", "-1"]), &["-1"]);
    assert_refuses(&run(&["attach", "-p", "abc"]), &["abc"]);
    assert_refuses(&run(&["attach", "-p", "1", "--nope"]), &["--nope"]);
    assert_refuses(&run(&["attach", "-p", "1", "-q", "-v"]), &["cannot be used with"]);
}

#[test]
fn values_that_cannot_be_read_are_answered_with_an_example() {
    assert_refuses(&run(&["attach", "-p", "1", "-d", "soon"]), &["soon", "30s"]);
    assert_refuses(&run(&["attach", "-p", "1", "--ring-size", "big"]), &["big", "16MiB"]);
    assert_refuses(&run(&["attach", "-p", "1", "--ring-size", "1KiB"]), &["1KiB", "64KiB"]);
    assert_refuses(&run(&["attach", "-p", "1", "--max-live", "1"]), &["1000"]);
    assert_refuses(&run(&["attach", "-p", "1", "--top", "many"]), &["many"]);
}

#[test]
fn nothing_at_all_is_answered_with_help() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage: memtrace"), "{}", stderr(&output));
}

#[test]
fn a_pid_that_does_not_exist_is_said_whoever_asks() {
    let output = run(&["attach", "-p", "4194305", "-o", "/tmp/memtrace-is-never-written"]);
    assert_refuses(&output, &["memtrace: ", "no process", "4194305"]);
    assert_eq!(stderr(&output).lines().count(), 1, "one sentence: {}", stderr(&output));
}

#[test]
fn doctor_refuses_what_attach_refuses() {
    let absent = run(&["doctor", "-p", "4194305"]);
    assert_refuses(&absent, &["memtrace: ", "no process", "4194305"]);
    let pid = std::process::id().to_string();
    let no_directory = run(&["doctor", "-p", &pid, "--debug-dir", "/nonexistent"]);
    assert_refuses(&no_directory, &["--debug-dir", "/nonexistent"]);
}

/// With and without privileges: what may be looked at is told, and what may not is an error.
#[test]
fn doctor_describes_a_process_of_the_caller() {
    let pid = std::process::id().to_string();
    let output = run(&["doctor", "-p", &pid, "--json"]);
    let diagnosis: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(diagnosis["schema"], "memtrace-doctor/1");
    assert_eq!(diagnosis["target"]["pid"], std::process::id());
    let traceable = diagnosis["traceable"] == true;
    assert_eq!(output.status.code(), Some(if traceable { 0 } else { 2 }), "{}", stderr(&output));
    let first = diagnosis["obstacles"].get(0).and_then(|it| it.as_str()).unwrap_or_default();
    assert!(stderr(&output).contains(first), "{first} is not in {}", stderr(&output));
    let own = std::env::current_exe().unwrap();
    let objects = diagnosis["objects"].as_array().unwrap();
    let this = objects.iter().find(|it| it["path"].as_str() == own.to_str()).unwrap();
    assert_eq!(this["symbols"]["kind"], "lines");
    assert_eq!(this["symbols"]["origin"], "embedded");
    assert!(this["unwind"]["rows"].as_u64() > Some(100), "{this}");
    assert_eq!(this["unwind"]["missing"], serde_json::Value::Null);
}

#[test]
fn inspect_refuses_what_it_cannot_look_at() {
    let absent = run(&["inspect", "-p", "4194305"]);
    assert_refuses(&absent, &["memtrace: ", "no process", "4194305"]);
    assert_refuses(&run(&["inspect"]), &["--pid", "--help"]);
    assert_refuses(&run(&["inspect", "-p", "1", "--every", "0s"]), &["longer than 0"]);
    assert_refuses(&run(&["inspect", "-p", "1", "--count", "2"]), &["--every"]);
    assert_refuses(&run(&["inspect", "-p", "1", "-d", "2s"]), &["--every"]);
    let both = run(&["inspect", "-p", "1", "--every", "1s", "--arenas"]);
    assert_refuses(&both, &["--arenas", "--every"]);
}

/// A parent may read the memory of its child, unless Yama forbids even that.
#[test]
fn inspect_describes_a_child_of_the_caller() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let pid = child.id().to_string();
    let json = run(&["inspect", "-p", &pid, "--json"]);
    let text = run(&["inspect", "-p", &pid]);
    let coloured = on_a_terminal(&["inspect", "-p", &pid], false);
    let plain = on_a_terminal(&["inspect", "-p", &pid], true);
    child.kill().unwrap();
    child.wait().unwrap();
    if json.status.code() == Some(2) {
        return assert_refuses(&json, &["sudo"]);
    }
    let look: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&look["schema"], &look["target"]["command"]),
        (&"memtrace-inspect/1".into(), &"sleep".into())
    );
    assert_says(&text, &["sleep (pid", "in use", "RSS", "100.0 %"]);
    assert!(!stdout(&text).contains('\x1b') && !plain.contains('\x1b'));
    assert!(coloured.contains('\x1b'));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for (shell, word) in
        [("bash", "complete"), ("zsh", "#compdef memtrace"), ("fish", "complete -c memtrace")]
    {
        assert_says(&run(&["completions", shell]), &[word, "attach", "ring-size"]);
    }
    assert_refuses(&run(&["completions", "cobol"]), &["cobol", "bash"]);
}

#[test]
fn completions_of_bash_are_a_valid_script() {
    let mut bash = Command::new("bash");
    let script = run(&["completions", "bash"]).stdout;
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("completions");
    std::fs::write(&path, script).unwrap();
    let output = bash.arg("-n").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

#[test]
fn the_man_pages_are_roff() {
    assert_says(&run(&["man"]), &[".TH memtrace", ".SH NAME", "attach"]);
    assert_says(&run(&["man", "inspect"]), &[".TH", "\\-\\-arenas", "\\-\\-every"]);
    assert_says(&run(&["man", "attach"]), &[".TH", "\\-\\-min\\-age", "\\-\\-ring\\-size"]);
    assert_refuses(&run(&["man", "frobnicate"]), &["frobnicate"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for arguments in [["man"].as_slice(), &["completions", "bash"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(memtrace());
        command.args(arguments).stdout(writer).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        drop((reader, command));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "");
    }
}

/// What memtrace writes to a terminal.
pub(crate) fn on_a_terminal(arguments: &[&str], no_color: bool) -> String {
    let (master, slave) = pseudo_terminal();
    let mut command = Command::new(memtrace());
    command.args(arguments).stdin(Stdio::null()).env("TERM", "xterm-256color");
    command
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR")
        .envs(no_color.then_some(("NO_COLOR", "1")));
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut text = Vec::new();
    // Reading fails (EIO), after all output, when the last user of the other side is gone.
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = File::from(master.try_clone().unwrap()).read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

fn pseudo_terminal() -> (OwnedFd, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: the first two point to integers, the rest may be null (openpty(3)).
    let result = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were just opened for us.
    unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

#[test]
fn colours_are_for_terminals_and_can_be_turned_off() {
    for arguments in [["--help"].as_slice(), &["frobnicate"]] {
        assert!(on_a_terminal(arguments, false).contains('\x1b'), "{arguments:?}");
        assert!(!on_a_terminal(arguments, true).contains('\x1b'), "{arguments:?}");
    }
    assert!(!stdout(&run(&["--help"])).contains('\x1b'));
    assert!(!stderr(&run(&["frobnicate"])).contains('\x1b'));
}
