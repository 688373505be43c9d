//! `/proc/PID/task`: the threads of a process, and where their stacks are.

use std::fs;

use super::ProcFs;

/// The stack pointer in `/proc/PID/task/TID/syscall`: the last but one word of a thread that waits,
/// in a system call or not; a thread that runs has none (proc_pid_syscall(5)).
fn stack_pointer(text: &str) -> Option<u64> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let [_, .., pointer, _] = words.as_slice() else { return None };
    u64::from_str_radix(pointer.strip_prefix("0x")?, 16).ok().filter(|pointer| *pointer != 0)
}

impl ProcFs {
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
    fn a_waiting_thread_tells_its_stack_pointer_and_a_running_one_does_not() {
        let waiting = "7 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd4b0c9e40 0x7f0a5b0f1c36\n";
        assert_eq!(stack_pointer(waiting), Some(0x7ffd_4b0c_9e40));
        assert_eq!(stack_pointer("-1 0x7ffd4b0c9e40 0x7f0a5b0f1c36\n"), Some(0x7ffd_4b0c_9e40));
        for other in ["running\n", "", "0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", "x y z"] {
            assert_eq!(stack_pointer(other), None, "{other:?}");
        }
    }
}
