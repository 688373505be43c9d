//! A real control group with a limit of memory: of the old hierarchy, or of the unified one.

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
};

/// Where control groups are mounted.
const MOUNTED: &str = "/sys/fs/cgroup";

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

    /// Makes one of this name: in the unified hierarchy where that counts memory, else in the old one.
    /// Nothing of it is swapped out, unless it may be: another test may have made swap meanwhile.
    pub fn named(name: &str) -> Self {
        let root = Path::new(MOUNTED);
        let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let is_new = controllers.split_whitespace().any(|it| it == "memory");
        if is_new {
            fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let directory = if is_new { root.join(name) } else { root.join("memory").join(name) };
        fs::create_dir(&directory)
            .unwrap_or_else(|error| panic!("no group {}: {error}", directory.display()));
        let group = Self { name: format!("/{name}"), directory, is_new };
        group.set(group.swap_file(), "0");
        group
    }

    /// Lets it be swapped out.
    pub fn may_swap(&self) {
        self.set(self.swap_file(), if self.is_new { "max" } else { "60" });
    }

    fn swap_file(&self) -> &'static str {
        if self.is_new { "memory.swap.max" } else { "memory.swappiness" }
    }

    /// Makes one in this one, with a limit; it goes first.
    pub fn with_one_inside(&self, name: &str, bytes: u64) -> Self {
        if self.is_new {
            self.set("cgroup.subtree_control", "+memory");
        }
        let directory = self.directory.join(name);
        fs::create_dir(&directory).unwrap();
        let group = Self { name: format!("{}/{name}", self.name), directory, is_new: self.is_new };
        group.limit(bytes);
        group
    }

    /// Sets its limit.
    pub fn limit(&self, bytes: u64) {
        let file = if self.is_new { "memory.max" } else { "memory.limit_in_bytes" };
        self.set(file, &bytes.to_string());
    }

    /// Whether it is of the unified hierarchy.
    pub fn is_unified(&self) -> bool {
        self.is_new
    }

    /// Writes to a file of it, which may be there in one version only.
    pub fn set(&self, file: &str, value: &str) {
        fs::write(self.directory.join(file), value).unwrap();
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// As `/proc/PID/cgroup` has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is charged to it.
    pub fn current_bytes(&self) -> u64 {
        self.number(if self.is_new { "memory.current" } else { "memory.usage_in_bytes" })
    }

    /// The same without what can be dropped at once: files that nobody uses.
    pub fn working_set_bytes(&self) -> u64 {
        let dropped = if self.is_new { "inactive_file" } else { "total_inactive_file" };
        self.current_bytes().saturating_sub(self.keyed("memory.stat", dropped).unwrap())
    }

    /// The most that ever was.
    pub fn peak_bytes(&self) -> u64 {
        self.number(if self.is_new { "memory.peak" } else { "memory.max_usage_in_bytes" })
    }

    /// What of it is swapped out.
    pub fn swap_bytes(&self) -> u64 {
        match self.is_new {
            true => self.number("memory.swap.current"),
            false => self.keyed("memory.stat", "swap").unwrap(),
        }
    }

    /// Processes of it that were killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        self.kills("oom_kill").unwrap()
    }

    /// How often all of it were killed together, which `memory.oom.group` asks for.
    pub fn kills_of_all(&self) -> u64 {
        self.kills("oom_group_kill").unwrap_or(0)
    }

    fn kills(&self, key: &str) -> Option<u64> {
        self.keyed(if self.is_new { "memory.events" } else { "memory.oom_control" }, key)
    }

    fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }

    fn number(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        text.trim().parse().unwrap()
    }

    /// A command that runs a program in it from its first instruction on.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let members = OpenOptions::new().write(true).open(self.directory.join("cgroup.procs"));
        let members = members.unwrap();
        // Whoever writes 0 is moved itself.
        let join = move || Ok(rustix::io::write(&members, b"0").map(drop)?);
        // SAFETY: between fork and exec, it makes a system call only.
        unsafe { command.pre_exec(join) };
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
