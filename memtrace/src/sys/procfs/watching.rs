//! What is asked of many processes, again and again: one small file each.

use std::fs;

use super::{
    ProcFs,
    process::{Status, parse_stat},
};

/// Where the system keeps its memory: `MemTotal` of `/proc/meminfo`.
const MEMORY: &str = "MemTotal:";

impl ProcFs {
    /// Every process.
    pub fn pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The kernel's 15-byte name; `None` when there is no such process.
    pub fn command(&self, pid: u32) -> Option<String> {
        let bytes = self.read(pid, "comm").ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
    }

    /// When it started, in clock ticks since the boot; `None` when it has ended.
    pub fn start_time_ticks(&self, pid: u32) -> Option<u64> {
        let stat = parse_stat(pid, &self.read(pid, "stat").ok()?).ok()?;
        (!matches!(stat.state, 'Z' | 'X')).then_some(stat.starttime)
    }

    /// Faults that waited for the disk since it started.
    pub fn major_faults(&self, pid: u32) -> Option<u64> {
        parse_stat(pid, &self.read(pid, "stat").ok()?).ok().map(|stat| stat.majflt)
    }

    /// What of it is swapped out.
    pub fn swap_bytes(&self, pid: u32) -> Option<u64> {
        Status::new(pid, &self.read(pid, "status").ok()?).kib_if_there("VmSwap").ok()?
    }

    /// The machine's memory.
    pub fn memory_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.root.join("meminfo")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(MEMORY))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_one_of_all_and_tells_what_it_is() {
        let (proc, this) = (ProcFs::new("/proc"), std::process::id());
        assert!(proc.pids().contains(&this));
        assert_eq!(proc.start_time_ticks(this), Some(proc.process(this).unwrap().start_time_ticks));
        assert!(proc.command(this).is_some() && proc.major_faults(this).is_some());
        assert!(proc.swap_bytes(this).is_some());
        assert!(proc.memory_bytes().unwrap() > 64 << 20);
    }

    #[test]
    fn who_is_not_there_tells_nothing() {
        let proc = ProcFs::new("/proc");
        assert_eq!(proc.command(0x7fff_ffff), None);
        assert_eq!(proc.start_time_ticks(0x7fff_ffff), None);
    }
}
