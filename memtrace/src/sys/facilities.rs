//! What this machine lets memtrace do, as far as files say it; what can only be tried is not here.

use std::{fs, path::Path};

/// Where the kernel's tracing files are usually mounted.
const TRACEFS: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// A right that memtrace needs, or one that does as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// `CAP_BPF`, ...; capabilities(7).
    pub name: &'static str,
    /// What memtrace cannot do without it, as a clause.
    pub needed_to: &'static str,
    /// Bits of `CapEff` any of which gives it.
    bits: [u32; 2],
}

/// Bits by include/uapi/linux/capability.h. `CAP_SYS_ADMIN` (21) includes what `CAP_PERFMON` and
/// `CAP_BPF` (Linux 5.8) were taken from.
pub const RIGHTS: [Right; 4] = [
    Right { name: "CAP_BPF", needed_to: "load BPF programs and create their maps", bits: [39, 21] },
    Right { name: "CAP_PERFMON", needed_to: "put probes into other processes", bits: [38, 21] },
    Right {
        name: "CAP_SYS_PTRACE",
        needed_to: "read the memory and the mapped files of other users' processes",
        bits: [19, 19],
    },
    // `/proc/PID/{mem,pagemap,...}` are files of the target's user, readable by that user only.
    // CAP_DAC_OVERRIDE (1) includes it.
    Right {
        name: READ_FILES,
        needed_to: "open the files in /proc of other users' processes",
        bits: [2, 1],
    },
];

/// The one right that processes of memtrace's own user do not take.
pub const READ_FILES: &str = "CAP_DAC_READ_SEARCH";

/// How far the kernel protects itself from root; kernel_lockdown(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lockdown {
    /// Off, or not known: its file system is not mounted.
    #[default]
    Off,
    /// The kernel may not be changed; memtrace does not.
    Integrity,
    /// It may not be read either: BPF programs that read kernel memory are refused.
    Confidentiality,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facilities {
    /// `uname -r`.
    pub release: String,
    /// How far root is trusted.
    pub lockdown: Lockdown,
    /// The kernel describes its types (`CONFIG_DEBUG_INFO_BTF`).
    pub btf: bool,
    /// BPF programs are compiled, not interpreted; `None` where that cannot be read.
    pub jit: Option<bool>,
    /// Where tracefs is mounted; memtrace does not need it.
    pub tracefs: Option<String>,
    /// Bits of this process's effective capabilities.
    effective: u64,
}

impl Facilities {
    /// Reads them below a root directory, `/`.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let jit = text("proc/sys/net/core/bpf_jit_enable");
        Self {
            release: text("proc/sys/kernel/osrelease").trim().to_owned(),
            lockdown: lockdown(&text("sys/kernel/security/lockdown")),
            btf: root.join("sys/kernel/btf/vmlinux").exists(),
            jit: jit.trim().parse().ok().map(|value: u32| value != 0),
            tracefs: tracefs(root),
            effective: effective(&text("proc/self/status")),
        }
    }

    /// Which of [`RIGHTS`] this process lacks, for targets of its own user or for all.
    pub fn lacking(&self, is_own: bool) -> impl Iterator<Item = Right> {
        let has = |bit: u32| self.effective >> bit & 1 == 1;
        let is_needed = move |right: &Right| !(is_own && right.name == READ_FILES);
        let wanted = RIGHTS.into_iter().filter(is_needed);
        wanted.filter(move |right| !right.bits.into_iter().any(has))
    }
}

/// `none [integrity] confidentiality`: the one in brackets is in force.
fn lockdown(text: &str) -> Lockdown {
    match text.split_whitespace().find(|word| word.starts_with('[')) {
        Some("[integrity]") => Lockdown::Integrity,
        Some("[confidentiality]") => Lockdown::Confidentiality,
        _ => Lockdown::Off,
    }
}

fn tracefs(root: &Path) -> Option<String> {
    let is_mounted = |path: &&&str| root.join(path).join("available_tracers").exists();
    TRACEFS.iter().find(is_mounted).map(|path| format!("/{path}"))
}

fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Facilities {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Facilities::read(root.path())
    }

    fn lacking(status: &str) -> Vec<&'static str> {
        found(&[("proc/self/status", status)]).lacking(false).map(|right| right.name).collect()
    }

    #[test]
    fn nothing_is_assumed_where_nothing_can_be_read() {
        let facilities = found(&[]);
        assert_eq!(facilities, Facilities::default());
        assert_eq!(facilities.lacking(false).count(), RIGHTS.len());
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        let cases = [
            ("[none] integrity confidentiality\n", Lockdown::Off),
            ("none [integrity] confidentiality\n", Lockdown::Integrity),
            ("none integrity [confidentiality]\n", Lockdown::Confidentiality),
        ];
        for (text, expected) in cases {
            assert_eq!(found(&[("sys/kernel/security/lockdown", text)]).lockdown, expected);
        }
    }

    #[test]
    fn rights_are_those_in_force_and_the_administrator_has_those_that_were_split_off() {
        assert_eq!(lacking("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n").len(), 4);
        assert_eq!(lacking("CapEff:\t000001ffffffffff\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t000000c000080004\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t000000c000080002\n"), [""; 0]);
        assert_eq!(lacking("CapEff:\t000000c000080000\n"), [READ_FILES]);
        assert_eq!(lacking("CapEff:\t0000000000200004\n"), ["CAP_SYS_PTRACE"]);
        assert_eq!(lacking("CapEff:\t0000008000080004\n"), ["CAP_PERFMON"]);
        let own = found(&[("proc/self/status", "CapEff:\t000000c000080000\n")]);
        assert_eq!(own.lacking(true).count(), 0, "a process of the same user");
    }

    #[test]
    fn what_the_kernel_offers_is_read_from_its_files() {
        let facilities = found(&[
            ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
            ("proc/sys/net/core/bpf_jit_enable", "0\n"),
            ("sys/kernel/btf/vmlinux", ""),
            ("sys/kernel/debug/tracing/available_tracers", "nop\n"),
        ]);
        assert_eq!((&*facilities.release, facilities.jit), ("6.12.9-amd64", Some(false)));
        assert!(facilities.btf);
        assert_eq!(facilities.tracefs.as_deref(), Some("/sys/kernel/debug/tracing"));
    }
}
