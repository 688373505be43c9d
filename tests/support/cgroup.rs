//! A real control group with a limit of memory: of the old hierarchy, or of the unified one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

/// A group of this test's own; removed on drop, when its processes have ended.
pub struct Cgroup {
    name: String,
    directory: PathBuf,
    is_new: bool,
}

impl Cgroup {
    /// Makes one with this limit.
    pub fn with_limit(bytes: u64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = Self::named(&format!("memtrace-test-{}-{number}", process::id()));
        group.limit(bytes);
        group
    }

    /// Makes one of this name.
    pub fn named(name: &str) -> Self {
        let old = Path::new("/sys/fs/cgroup/memory");
        let is_new = !old.exists();
        let root = if is_new { Path::new("/sys/fs/cgroup") } else { old };
        if is_new {
            fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let directory = root.join(name);
        fs::create_dir(&directory)
            .unwrap_or_else(|error| panic!("no group {}: {error}", directory.display()));
        Self { name: format!("/{name}"), directory, is_new }
    }

    /// Sets its limit.
    pub fn limit(&self, bytes: u64) {
        let file = if self.is_new { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.directory.join(file), bytes.to_string()).unwrap();
    }

    /// As `/proc/PID/cgroup` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is charged to it.
    pub fn current_bytes(&self) -> u64 {
        self.number(if self.is_new { "memory.current" } else { "memory.usage_in_bytes" })
    }

    /// The most that ever was.
    pub fn peak_bytes(&self) -> u64 {
        self.number(if self.is_new { "memory.peak" } else { "memory.max_usage_in_bytes" })
    }

    /// Processes of it that were killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.is_new { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill ")).unwrap();
        line.trim().parse().unwrap()
    }

    fn number(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        text.trim().parse().unwrap()
    }

    /// A command that runs a program in it from its first instruction on.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("/bin/sh");
        let script =
            format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", self.directory.display());
        command.args(["-c", &script]).arg(program);
        command
    }

    /// Removes it, once nobody is in it.
    pub fn remove(&self) {
        crate::wait_until("the control group can be removed", || {
            !self.directory.exists() || fs::remove_dir(&self.directory).is_ok()
        });
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let procs = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines().filter_map(|it| it.parse().ok()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        for _ in 0..500 {
            if !self.directory.exists() || fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
