//! `memtrace run` at a terminal: the command has it as it would without memtrace.

use std::fs;

use memtrace_tests::{binary::memtrace, terminal::Terminal};
use tempfile::TempDir;

/// Types a command that runs a script under memtrace. It is short: a shell scrolls what is longer than a
/// line.
fn run(terminal: &mut Terminal, directory: &TempDir, script: &str) {
    let directory = directory.path();
    let (memtrace, python) = (memtrace(), directory.join("go.py"));
    let command = format!(
        "exec {} run -q --force -o {} -- /usr/bin/python3 {}",
        memtrace.display(),
        directory.join("x").display(),
        python.display()
    );
    fs::write(&python, script).unwrap();
    fs::write(directory.join("go"), command).unwrap();
    terminal.type_line(&format!("sh {}/go", directory.display()));
    terminal.until("/go");
}

/// A script that says whenever it is told a signal, until it has read a line.
fn told(signal: &str) -> String {
    format!(
        r#"
import os, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{signal}])
def say(text):
    # At once: print writes word by word, and the threads between each other's.
    os.write(1, text.encode() + b"\n")
def read():
    say("READ " + sys.stdin.readline())
    os._exit(0)
threading.Thread(target=read).start()
say("BEGUN")
while True:
    signal.sigwait([signal.{signal}])
    say("TOLD")
"#
    )
}

/// It reads what is typed, and then ends well without having been stopped.
fn assert_reads_and_ends(terminal: &mut Terminal) {
    terminal.type_line("line");
    terminal.until("READ line");
    let rest = terminal.until_prompt();
    assert!(!rest.contains("Stopped"), "{rest}");
    assert_eq!(terminal.status(), 0);
}

#[test]
fn its_size_its_input_and_its_raw_mode_are_the_commands() {
    let (mut terminal, directory) = (Terminal::open(77, 33), TempDir::new().unwrap());
    let script = r#"
import os, signal, sys, termios, tty
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
print("AT", sys.stdin.isatty(), sys.stdout.isatty(), os.get_terminal_size()[:], flush=True)
signal.sigwait([signal.SIGWINCH])
print("NOW", os.get_terminal_size().columns)
print("HELLO", input("WHO? "))
before = termios.tcgetattr(0)
tty.setraw(0)
print("RAW", flush=True)
key = sys.stdin.read(1)
termios.tcsetattr(0, 0, before)
print("KEY", repr(key))
"#;
    run(&mut terminal, &directory, script);
    terminal.until("AT True True (77, 33)");
    terminal.resize(100, 40);
    terminal.until("NOW 100");
    terminal.until("WHO?");
    terminal.type_line("Ann");
    terminal.until("HELLO Ann");
    terminal.until("RAW");
    terminal.press("\u{3}");
    terminal.until("KEY '\\x03'");
    terminal.until_prompt();
    assert_eq!(terminal.status(), 0);
}

#[test]
fn ctrl_z_stops_both_and_fg_wakes_both_once_and_for_all() {
    let (mut terminal, directory) = (Terminal::open(80, 24), TempDir::new().unwrap());
    // The shell names the command before it gives it the terminal and wakes it.
    run(&mut terminal, &directory, &told("SIGCONT"));
    terminal.until("BEGUN");
    for _ in 0..5 {
        terminal.press("\u{1a}");
        terminal.until("Stopped");
        terminal.until_prompt();
        terminal.type_line("fg");
        terminal.until("TOLD");
    }
    assert_reads_and_ends(&mut terminal);
}

#[test]
fn a_command_that_does_not_obey_ctrl_z_keeps_the_terminal() {
    let (mut terminal, directory) = (Terminal::open(80, 24), TempDir::new().unwrap());
    run(&mut terminal, &directory, &told("SIGTSTP"));
    terminal.until("BEGUN");
    terminal.press("\u{1a}");
    terminal.until("TOLD");
    assert_reads_and_ends(&mut terminal);
}

#[test]
fn ctrl_c_is_the_commands() {
    let (mut terminal, directory) = (Terminal::open(80, 24), TempDir::new().unwrap());
    let script = "import time; print('BEGUN', flush=True)\nwhile True: time.sleep(0.1)";
    run(&mut terminal, &directory, script);
    terminal.until("BEGUN");
    terminal.press("\u{3}");
    let said = terminal.until_prompt();
    assert!(said.contains("KeyboardInterrupt"), "{said}");
    assert_eq!(terminal.status(), 130);
}
