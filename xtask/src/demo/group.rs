//! A control group with a limit of memory, of either hierarchy.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use anyhow::{Context, Result};

/// How often it is tried to remove one: its last process may still be on its way out.
const ATTEMPTS: u32 = 500;

/// See the module; it is removed with this.
pub struct Group {
    name: String,
    directory: PathBuf,
    is_unified: bool,
}

impl Group {
    /// Makes one.
    pub fn with_limit(name: &str, bytes: u64) -> Result<Self> {
        let old = Path::new("/sys/fs/cgroup/memory");
        let is_unified = !old.exists();
        let root = if is_unified { Path::new("/sys/fs/cgroup") } else { old };
        if is_unified {
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .context("cannot have memory counted")?;
        }
        let directory = root.join(name);
        // One that an interrupted run has left; whose processes are there, it stays, and that is told.
        let _ = fs::remove_dir(&directory);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        let group = Self { name: format!("/{name}"), directory, is_unified };
        let limit = if is_unified { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(group.directory.join(limit), bytes.to_string()).context("cannot limit it")?;
        Ok(group)
    }

    /// As in `/proc/PID/cgroup`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs in it from the start.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        let procs = self.directory.join("cgroup.procs");
        let script = format!("echo $$ > {}; exec \"$0\" \"$@\"", procs.display());
        command.args(["-c", &script]).arg(program);
        command
    }

    /// Processes in it that were killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64> {
        let file = if self.is_unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.directory.join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.context("the kernel does not count kills")?.trim().parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..ATTEMPTS {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}
