//! `/proc/PID/mountinfo`, for one question: which devices are memory. Format: proc_pid_mountinfo(5).

/// File systems whose files are shared memory: the kernel counts their pages as `RssShmem`.
const IN_MEMORY: [&str; 2] = ["tmpfs", "devtmpfs"];

/// Devices (major, minor) of the file systems that live in memory. Lines that are not understood
/// are passed over: at worst shared memory is called a file.
pub(super) fn in_memory(text: &[u8]) -> Vec<(u32, u32)> {
    let text = String::from_utf8_lossy(text);
    let mut devices: Vec<_> = text.lines().filter_map(device_in_memory).collect();
    devices.sort_unstable();
    devices.dedup();
    devices
}

fn device_in_memory(line: &str) -> Option<(u32, u32)> {
    // The optional fields before the separator vary in number.
    let (mount, file_system) = line.split_once(" - ")?;
    let kind = file_system.split(' ').next()?;
    let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    IN_MEMORY.contains(&kind).then_some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_in_memory_are_found_by_their_type() {
        let text = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
23 22 0:21 / /dev/shm rw,nosuid shared:4 master:2 - tmpfs tmpfs rw\n\
24 22 0:22 / /run rw - tmpfs tmpfs rw\n\
25 22 0:21 /a /mnt/tmpfs rw - tmpfs tmpfs rw\n\
26 22 0:5 / /proc rw - proc proc rw\n\
broken - tmpfs\n";
        assert_eq!(in_memory(text), [(0, 21), (0, 22)]);
    }
}
