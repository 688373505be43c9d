//! Doing as root what only root may do, and nothing more.

use std::{
    fmt,
    io::{IsTerminal, stdin},
    path::Path,
    process::Command,
};

use crate::shell::{line, output, succeeds, which};

/// What a caller must do before this can go on. xtask exits with 2 on it.
#[derive(Debug)]
pub struct Unmet {
    /// What is missing.
    pub what: String,
    /// The one command that provides it.
    pub command: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. This does it:\n\n    {}\n", self.what, self.command)
    }
}

impl std::error::Error for Unmet {}

/// How this process becomes root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Privilege {
    /// It is.
    Root,
    /// sudo asks for nothing.
    Sudo,
    /// sudo may ask the person at the terminal.
    SudoAsks,
    /// Not at all.
    None,
}

impl Privilege {
    /// Looks at the user id, then at sudo.
    pub fn now() -> Self {
        if output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
            Self::Root
        } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
            Self::Sudo
        } else if which("sudo").is_some() && stdin().is_terminal() {
            Self::SudoAsks
        } else {
            Self::None
        }
    }

    /// `program` run as root with the variables `env`, which sudo would drop on its own. An
    /// [`Unmet`] with the command to type where that cannot be done without asking.
    pub fn command(
        self,
        what: &str,
        env: &[(&str, &str)],
        program: &Path,
        args: &[&str],
    ) -> Result<Command, Unmet> {
        if self == Self::Root {
            let mut command = Command::new(program);
            command.args(args).envs(env.iter().copied());
            return Ok(command);
        }
        let command = through_sudo(env, program, args);
        if self == Self::None {
            return Err(Unmet { what: what.to_owned(), command: line(&command) });
        }
        Ok(command)
    }
}

fn through_sudo(env: &[(&str, &str)], program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("sudo");
    if !env.is_empty() {
        command.arg("env").args(env.iter().map(|(key, value)| format!("{key}={value}")));
    }
    command.arg(program).args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENV: &[(&str, &str)] = &[("A", "b c")];

    #[test]
    fn root_needs_no_sudo() {
        let command = Privilege::Root.command("x", ENV, Path::new("true"), &["-v"]).unwrap();
        assert_eq!(line(&command), "true -v");
    }

    #[test]
    fn sudo_is_handed_the_environment_on_its_command_line() {
        let command = Privilege::Sudo.command("x", ENV, Path::new("true"), &["-v"]).unwrap();
        assert_eq!(line(&command), "sudo env 'A=b c' true -v");
    }

    #[test]
    fn without_privilege_the_one_command_is_said() {
        let unmet =
            Privilege::None.command("No root here", &[], Path::new("id"), &["-u"]).unwrap_err();
        assert_eq!(unmet.to_string(), "No root here. This does it:\n\n    sudo id -u\n");
    }
}
