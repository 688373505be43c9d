//! Who is whose child, by `/proc/PID/stat`.

use std::fs;

use super::{ProcFs, process::parse_stat};

impl ProcFs {
    /// All that descend from a process and are alive, each with its parent's pid; parents come
    /// before their children.
    pub fn descendants(&self, pid: u32) -> Vec<(u32, u32)> {
        let everybody = self.parents();
        let (mut found, mut next) = (Vec::new(), vec![pid]);
        while let Some(parent) = next.pop() {
            let children = everybody.iter().filter(|(_, of)| *of == parent);
            for (child, _) in children {
                found.push((*child, parent));
                next.push(*child);
            }
        }
        found
    }

    /// Every process that is no zombie, with its parent's pid.
    fn parents(&self) -> Vec<(u32, u32)> {
        let Ok(entries) = fs::read_dir(&self.root) else { return Vec::new() };
        let parent = |entry: fs::DirEntry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = parse_stat(pid, &self.read(pid, "stat").ok()?).ok()?;
            let is_alive = !matches!(stat.state, 'Z' | 'X');
            Some((pid, u32::try_from(stat.ppid).ok()?)).filter(|_| is_alive)
        };
        let mut all: Vec<(u32, u32)> = entries.flatten().filter_map(parent).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_while_it_lives_and_not_when_it_is_a_zombie() {
        let (proc, this) = (ProcFs::new("/proc"), std::process::id());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let is_found = || proc.descendants(this).contains(&(child.id(), this));
        assert!(is_found());
        let pid = child.id();
        child.kill().unwrap();
        while !proc.process(pid).is_ok_and(|it| it.is_zombie) {
            std::thread::yield_now();
        }
        assert!(!proc.descendants(this).contains(&(pid, this)));
        child.wait().unwrap();
    }
}
