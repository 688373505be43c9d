//! The BPF maps and programs that a process holds, as the kernel accounts for them.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use aya::{maps::loaded_maps, programs::loaded_programs};

/// How often a BPF program ran, and how long in all.
#[derive(Clone, Copy, Debug)]
pub struct RunTime {
    pub runs: u64,
    pub ns: u64,
}

/// What a process's BPF maps take, in bytes.
pub fn map_bytes(pid: u32) -> Result<u64> {
    Ok(maps(pid)?.values().sum())
}

/// The same by the map's name.
pub fn map_bytes_by_name(pid: u32) -> Result<BTreeMap<String, u64>> {
    let held = maps(pid)?;
    let mut by_name = BTreeMap::new();
    for map in loaded_maps().filter_map(Result::ok) {
        if let (Some(bytes), Some(name)) = (held.get(&u64::from(map.id())), map.name_as_str()) {
            by_name.insert(name.to_owned(), *bytes);
        }
    }
    Ok(by_name)
}

/// How long one of a process's BPF programs ran, while the kernel measured that.
pub fn run_time(pid: u32, program: &str) -> Result<RunTime> {
    let held = descriptors(pid, "prog_id:", "prog_id:")?;
    loaded_programs()
        .filter_map(Result::ok)
        .filter(|info| held.contains_key(&u64::from(info.id())))
        .find(|info| info.name_as_str() == Some(program))
        .map(|info| RunTime { runs: info.run_count(), ns: info.run_time().as_nanos() as u64 })
        .with_context(|| format!("process {pid} has no BPF program {program}"))
}

/// Bytes by map id.
fn maps(pid: u32) -> Result<BTreeMap<u64, u64>> {
    descriptors(pid, "map_id:", "memlock:")
}

/// A field of all descriptors that have an id.
fn descriptors(pid: u32, id: &str, field: &str) -> Result<BTreeMap<u64, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // The descriptor of this very directory is gone when its turn comes.
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let value = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(value)) = (value(id), value(field)) {
            found.insert(id, value);
        }
    }
    Ok(found)
}
