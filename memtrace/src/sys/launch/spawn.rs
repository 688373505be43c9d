//! The child process, up to the moment when it has become the command.

use std::{
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    thread::{self, JoinHandle},
};

use nix::{
    sys::{ptrace, signal::SigSet},
    unistd::Pid,
};

use super::{
    LaunchError, User,
    stop::{Gone, Stop, go_on, next_stop},
};

/// What to start, and how.
#[derive(Clone, Debug)]
pub struct Launch {
    /// A path, or a name to look for in `PATH`.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Who it is to be; without it, who memtrace is.
    pub user: Option<User>,
    /// Signals that it is to hold back, as memtrace's parent wanted it.
    pub held_back: SigSet,
}

impl Launch {
    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }
}

/// Starts it, held by ptrace at the end of its `execve`.
pub(super) fn start(launch: &Launch) -> Result<Child, LaunchError> {
    let failed = |source| LaunchError::Start { program: launch.name(), source };
    let (mut announced, announce) = io::pipe().map_err(failed)?;
    let (permitted, mut permit) = io::pipe().map_err(failed)?;
    let gate = Gate { announce, permitted, permit: permit.as_raw_fd() };
    let spawned = spawn(launch, gate).map_err(failed)?;
    let Some(pid) = read_pid(&mut announced) else { return Err(launch.failure(spawned)) };
    let options = ptrace::Options::PTRACE_O_TRACEEXEC | ptrace::Options::PTRACE_O_TRACESYSGOOD;
    if let Err(errno) = ptrace::seize(pid, options) {
        // It sees that there is no permission to come, and ends.
        drop(permit);
        let _ = join(spawned);
        return Err(LaunchError::Hold(errno.into()));
    }
    permit.write_all(&[1]).map_err(failed)?;
    drop(permit);
    match (run_until_exec(pid), join(spawned)) {
        (Ok(()), Ok(child)) => Ok(child),
        (_, Err(error)) => Err(LaunchError::of_exec(launch.name(), error)),
        (Err(gone), Ok(mut child)) => {
            let _ = child.kill();
            child.wait()?;
            Err(gone.into())
        }
    }
}

impl Launch {
    fn failure(&self, spawned: JoinHandle<io::Result<Child>>) -> LaunchError {
        let error = match join(spawned) {
            Err(error) => error,
            Ok(_) => io::Error::other("it did not say which process it is"),
        };
        LaunchError::Start { program: self.name(), source: error }
    }
}

/// What passes between memtrace and the child before its `execve`. All descriptors are closed there.
struct Gate {
    /// The child says its pid.
    announce: PipeWriter,
    /// It waits for a byte.
    permitted: PipeReader,
    /// The other end of that: the child's copy is to be closed, so that it sees when memtrace dies.
    permit: RawFd,
}

/// Starts it on a thread of its own: this comes to its end only when the child has become the command,
/// for which it needs the permission of the thread that holds it.
fn spawn(launch: &Launch, gate: Gate) -> io::Result<JoinHandle<io::Result<Child>>> {
    let mut command = Command::new(&launch.program);
    command.args(&launch.arguments);
    if let Some(user) = &launch.user {
        command.envs(user.environment());
    }
    let (user, held_back) = (launch.user.clone(), launch.held_back);
    let prepare = move || {
        gate.wait()?;
        user.iter().try_for_each(User::become_it)?;
        held_back.thread_set_mask().map_err(io::Error::from)
    };
    // SAFETY: between fork and exec only system calls are made, on memory that is there already.
    unsafe { command.pre_exec(prepare) };
    thread::Builder::new().name("starter".to_owned()).spawn(move || command.spawn())
}

impl Gate {
    /// In the child: says its pid, and waits until it is held.
    fn wait(&self) -> io::Result<()> {
        // SAFETY: the descriptor is the child's copy of memtrace's, and nobody uses it here.
        unsafe { libc::close(self.permit) };
        let pid = std::process::id().to_ne_bytes();
        (&self.announce).write_all(&pid)?;
        (&self.permitted).read_exact(&mut [0])
    }
}

/// `None` when there is no child.
fn read_pid(announced: &mut PipeReader) -> Option<Pid> {
    let mut bytes = [0; 4];
    announced.read_exact(&mut bytes).ok()?;
    i32::try_from(u32::from_ne_bytes(bytes)).ok().map(Pid::from_raw)
}

fn run_until_exec(pid: Pid) -> Result<(), Gone> {
    loop {
        match next_stop(pid)? {
            Stop::Exec => return Ok(()),
            stop => go_on(pid, stop, false)?,
        }
    }
}

fn join(spawned: JoinHandle<io::Result<Child>>) -> io::Result<Child> {
    spawned.join().unwrap_or_else(|_| Err(io::Error::other("the thread that starts it ended")))
}
