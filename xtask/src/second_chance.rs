//! Live tests run side by side on whatever cores there are, with real programs that keep time. One
//! that fails there is tried again alone, once; it has failed if it fails again, and is named in any
//! case. Many that fail are no accident and are not tried again.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::shell::{line, say};

/// More than this many failures are no accident.
const ACCIDENTS: usize = 4;

/// Runs the tests that `command` makes of the harness's arguments: first `filter`, then what failed.
pub fn run(filter: &[&str], command: impl Fn(&[&str]) -> Result<Command>) -> Result<()> {
    let mut first = command(filter)?;
    let (status, failed) = watched(&mut first)?;
    if status.success() {
        return Ok(());
    }
    if failed.is_empty() || failed.len() > ACCIDENTS {
        bail!("{status}: {}", line(&first));
    }
    say(format_args!("failed beside others, now tried alone: {}", failed.join(", ")));
    let mut second = command(&alone(&failed))?;
    let (status, _) = watched(&mut second)?;
    if !status.success() {
        bail!("{status}: {}", line(&second));
    }
    say(format_args!("UNSTEADY: passed only alone: {}", failed.join(", ")));
    Ok(())
}

fn alone(failed: &[String]) -> Vec<&str> {
    let names = failed.iter().map(String::as_str);
    ["--exact", "--test-threads=1"].into_iter().chain(names).collect()
}

/// Shows what the tests print and remembers which failed.
fn watched(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    say(format_args!("running {}", line(command)));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", line(command)))?;
    let mut failed = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).split(b'\n') {
            let text = text?;
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            failed.extend(failed_test(&text).map(str::to_owned));
        }
    }
    Ok((child.wait()?, failed))
}

/// The name in `test NAME ... FAILED`.
fn failed_test(text: &str) -> Option<&str> {
    text.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A harness: fails what `script` says when it is run with these arguments as `$*`.
    fn run_script(script: &str) -> Result<()> {
        run(&["all"], |arguments| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh"]).args(arguments);
            Ok(command)
        })
    }

    #[test]
    fn only_the_line_of_a_failed_test_names_one() {
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failed_test("test a::b ... ok"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed"), None);
    }

    #[test]
    fn what_passes_alone_has_passed() {
        run_script(
            "case $* in all) echo 'test a ... FAILED'; exit 101;; *' a') exit 0;; esac; exit 1",
        )
        .unwrap();
    }

    #[test]
    fn what_fails_alone_has_failed() {
        run_script("echo 'test a ... FAILED'; exit 101").unwrap_err();
    }

    #[test]
    fn a_harness_that_dies_and_many_failures_have_no_second_chance() {
        run_script("case $* in all) exit 139;; esac; exit 0").unwrap_err();
        let many = "case $* in all) for n in 1 2 3 4 5; do echo \"test $n ... FAILED\"; done; \
                    exit 101;; esac; exit 0";
        run_script(many).unwrap_err();
    }
}
