//! Starting a command so that it can be traced from its first allocation: it waits where its
//! libraries are mapped and none of their code has run.
//!
//! The command is a child, so that it may be stopped before it starts. This is done by ptrace, at
//! stops that are no signals: should memtrace be killed, even by SIGKILL, the kernel lets the command
//! go on as if nothing had been. Its memory and registers are never written to: a breakpoint, also
//! one of the processor's, would outlive memtrace and kill the command.

mod error;
mod held;
mod loaded;
mod setuid;
mod spawn;
mod stop;
mod user;

pub use self::{
    error::LaunchError,
    held::{Held, Progress},
    spawn::Launch,
    user::{User, UserError},
};

use super::procfs::ProcFs;

/// Starts a command, and holds it where it has its libraries. It is to be let go by the thread that
/// called this.
///
/// # Errors
/// [`LaunchError`]; nothing is left of the command then.
pub fn start(proc: &ProcFs, launch: &Launch) -> Result<Held, LaunchError> {
    let mut held = Held::new(spawn::start(launch)?);
    match loaded::run_until_loaded(proc, held.pid()) {
        Ok(()) => Ok(held),
        Err(LaunchError::Ended(_)) => Err(LaunchError::Ended(held.wait()?)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
