//! `/proc/PID/task`: the threads of a process, and where their stacks are.

use std::{collections::BTreeMap, fs};

use super::ProcFs;

/// The stack pointer in `/proc/PID/task/TID/syscall`: the last but one word of a thread that waits,
/// in a system call or not; a thread that runs has none (proc_pid_syscall(5)).
fn stack_pointer(text: &str) -> Option<u64> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let [_, .., pointer, _] = words.as_slice() else { return None };
    u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok().filter(|pointer| *pointer != 0)
}

impl ProcFs {
    /// The names of a process's threads, by their ids. Threads that end meanwhile are left out.
    pub fn thread_names(&self, pid: u32) -> BTreeMap<u32, String> {
        let Ok(tasks) = fs::read_dir(self.path(pid, "task")) else { return BTreeMap::new() };
        let name = |task: fs::DirEntry| {
            let tid = task.file_name().to_str()?.parse().ok()?;
            let name = fs::read(task.path().join("comm")).ok()?;
            Some((tid, String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned()))
        };
        tasks.flatten().filter_map(name).collect()
    }

    /// Another process that has a perf event open, as profilers have; `None` where there is none, or
    /// none that may be looked at.
    pub fn user_of_perf_events(&self) -> Option<u32> {
        let own = std::process::id();
        let processes = fs::read_dir(&self.root).ok()?.flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid| *pid != own && self.has_perf_events(*pid))
    }

    fn has_perf_events(&self, pid: u32) -> bool {
        let descriptors = fs::read_dir(self.path(pid, "fd")).into_iter().flatten().flatten();
        let mut targets = descriptors.filter_map(|it| fs::read_link(it.path()).ok());
        targets.any(|target| target.as_os_str() == "anon_inode:[perf_event]")
    }

    /// The stack pointers of the threads that do not run right now. Threads that run, end
    /// meanwhile, or may not be looked at are left out.
    pub fn stack_pointers(&self, pid: u32) -> Vec<u64> {
        let Ok(tasks) = fs::read_dir(self.path(pid, "task")) else { return Vec::new() };
        tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("syscall")).ok())
            .filter_map(|text| stack_pointer(&text))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_known_by_their_names() {
        let root = tempfile::tempdir().unwrap();
        for (tid, name) in [("42", "server\n"), ("43", "worker 1\n")] {
            let task = root.path().join("42/task").join(tid);
            fs::create_dir_all(&task).unwrap();
            fs::write(task.join("comm"), name).unwrap();
        }
        let names = ProcFs::new(root.path()).thread_names(42);
        let expected = [(42, "server"), (43, "worker 1")].map(|(tid, it)| (tid, it.to_owned()));
        assert_eq!(names, expected.into());
        assert!(ProcFs::new(root.path()).thread_names(7).is_empty());
    }

    #[test]
    fn a_waiting_thread_tells_its_stack_pointer_and_a_running_one_does_not() {
        let waiting = "7 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd4b0c9e40 0x7f0a5b0f1c36\n";
        assert_eq!(stack_pointer(waiting), Some(0x7ffd_4b0c_9e40));
        assert_eq!(stack_pointer("-1 0x7ffd4b0c9e40 0x7f0a5b0f1c36\n"), Some(0x7ffd_4b0c_9e40));
        for other in ["running\n", "", "0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", "x y z"] {
            assert_eq!(stack_pointer(other), None, "{other:?}");
        }
    }
}
