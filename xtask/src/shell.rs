//! Running other programs: said before, checked after.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    // xtask is never installed: it runs from the checkout that it was built in.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

/// Where xtask keeps what it downloads and builds: `target/NAME`.
pub fn work_dir(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// The cargo that runs this xtask (cargo sets `CARGO` for what it runs), at the root.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(root());
    command
}

/// One line of progress.
pub fn say(message: impl std::fmt::Display) {
    eprintln!("xtask: {message}");
}

/// Runs `command` with its output shown. An error unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    say(format_args!("running {}", line(command)));
    let status = command.status().with_context(|| format!("cannot start {}", program(command)))?;
    if !status.success() {
        bail!("{status}: {}", line(command));
    }
    Ok(())
}

/// The standard output of `command`. An error, with what it said, unless it exits with 0.
pub fn output(command: &mut Command) -> Result<String> {
    output_of(command.stdin(Stdio::null()))
}

/// The same of a command that has been given its standard input.
pub fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", program(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}\n{}", output.status, line(command), said.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("not UTF-8: {}", line(command)))
}

/// Whether `command` starts and exits with 0, in silence.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs `work` under a headline, and says how long it took.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(format_args!("── {name}"));
    let start = Instant::now();
    let result = work().with_context(|| format!("{name} failed"))?;
    say(format_args!("── {name}: done in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(result)
}

/// Where `name` is found on PATH.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(quoted).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_so_that_it_can_be_pasted() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo it's"]);
        assert_eq!(line(&command), r"sh -c 'echo it'\''s'");
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = output(Command::new("sh").args(["-c", "echo lost >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("lost") && text.contains('3'), "{text}");
    }
}
