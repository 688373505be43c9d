//! Completions and man pages, made from the command line's own definition.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;

use super::Status;
use crate::cli::Cli;

/// Prints the completions of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "memtrace", &mut script);
    print(&script)
}

/// Prints a man page in roff.
pub fn man(name: Option<&str>) -> Result<Status> {
    let mut root = Cli::command();
    root.build();
    let command = match name {
        None => root,
        Some(name) => match root.find_subcommand(name) {
            Some(command) => command.clone(),
            None => bail!("there is no command {name:?}; `memtrace --help` lists them"),
        },
    };
    let mut page = Vec::new();
    write_man(command, &mut page).context("cannot render the man page")?;
    print(&page)
}

/// clap_mangen's page, but examples are shown line by line as they were written.
fn write_man(mut command: clap::Command, page: &mut Vec<u8>) -> std::io::Result<()> {
    let examples = command.get_after_help().map(|text| text.to_string());
    command = command.after_help(None::<&str>);
    clap_mangen::Man::new(command).render(page)?;
    if let Some(examples) = examples {
        // groff_man(7): .EX and .EE enclose an example; a leading `.` or `'` would be a request.
        let text = examples.replace('\\', "\\e").replace('-', "\\-");
        write!(page, ".SH NOTES\n.EX\n{text}\n.EE\n")?;
    }
    Ok(())
}

fn print(bytes: &[u8]) -> Result<Status> {
    std::io::stdout().lock().write_all(bytes)?;
    Ok(Status::Done)
}
