//! Pressure on memory, as the kernel measures it (Documentation/accounting/psi.rst): how long tasks
//! waited for it, and a descriptor that tells when that is too long.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    path::Path,
};

use thiserror::Error;

/// Where the kernel tells that of the whole machine.
pub const OF_THE_MACHINE: &str = "/proc/pressure/memory";

/// Over how long the kernel's trigger measures. Without CAP_SYS_RESOURCE it is a multiple of two seconds,
/// since Linux 6.5, and nothing before.
const WINDOWS_US: [u64; 2] = [1_000_000, 2_000_000];

/// Why pressure cannot be watched.
#[derive(Debug, Error)]
pub enum PressureError {
    /// The kernel does not measure it.
    #[error(
        "psi: this kernel does not measure pressure (CONFIG_PSI; perhaps booted with psi=0): \
         {path}: {source}; leave out the conditions on psi"
    )]
    Missing {
        /// What was read.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// What it says is not understood.
    #[error("psi: {path} is not understood: {text}")]
    Malformed {
        /// What was read.
        path: String,
        /// As read.
        text: String,
    },
}

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stalled {
    /// At least one task.
    Some,
    /// All of them.
    Full,
}

/// How long was waited since the boot, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stalls {
    /// By some task.
    pub some_us: u64,
    /// By all.
    pub full_us: u64,
}

/// Reads a file of pressure.
///
/// # Errors
/// When the kernel does not measure it.
pub fn stalls(path: &Path) -> Result<Stalls, PressureError> {
    let text = fs::read_to_string(path).map_err(|source| missing(path, source))?;
    parse(&text).ok_or_else(|| PressureError::Malformed { path: shown(path), text })
}

fn missing(path: &Path, source: io::Error) -> PressureError {
    PressureError::Missing { path: shown(path), source }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn parse(text: &str) -> Option<Stalls> {
    let total = |who: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(who))?;
        line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?.parse().ok()
    };
    Some(Stalls { some_us: total("some")?, full_us: total("full").unwrap_or_default() })
}

/// Becomes readable with priority (`POLLPRI`) when tasks wait for too long.
#[derive(Debug)]
pub struct PressureTrigger {
    file: File,
}

impl PressureTrigger {
    /// For when more than this share of a second or two is waited.
    ///
    /// # Errors
    /// When the kernel does not measure pressure, or takes no triggers.
    pub fn open(path: &Path, who: Stalled, share: f64) -> Result<Self, PressureError> {
        let open = |window_us| {
            let mut file = OpenOptions::new().read(true).write(true).open(path)?;
            file.write_all(line(who, share, window_us).as_bytes())?;
            Ok(Self { file })
        };
        let [short, long] = WINDOWS_US;
        open(short).or_else(|_| open(long)).map_err(|source| missing(path, source))
    }
}

/// The kernel wants the end of the string, too.
fn line(who: Stalled, share: f64, window_us: u64) -> String {
    let who = match who {
        Stalled::Some => "some",
        Stalled::Full => "full",
    };
    let stall_us = (share.clamp(0.0, 1.0) * window_us as f64).max(1.0) as u64;
    format!("{who} {stall_us} {window_us}\0")
}

impl AsFd for PressureTrigger {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for PressureTrigger {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_of_both_lines() {
        let text = "some avg10=1.00 avg60=0.00 avg300=0.00 total=62329197\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=9387706\n";
        assert_eq!(parse(text), Some(Stalls { some_us: 62_329_197, full_us: 9_387_706 }));
        let some_only = parse("some avg10=0.00 total=7\n");
        assert_eq!(some_only, Some(Stalls { some_us: 7, full_us: 0 }));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn a_share_is_a_part_of_the_window() {
        let [short, long] = WINDOWS_US;
        assert_eq!(line(Stalled::Some, 0.2, short), "some 200000 1000000\0");
        assert_eq!(line(Stalled::Some, 0.2, long), "some 400000 2000000\0");
        assert_eq!(line(Stalled::Full, 5.0, short), "full 1000000 1000000\0");
        assert_eq!(line(Stalled::Full, 0.0, short), "full 1 1000000\0");
    }

    #[test]
    fn a_kernel_without_pressure_is_named_with_what_to_do() {
        let error = stalls(Path::new("/nonexistent/memory")).unwrap_err().to_string();
        assert!(error.contains("CONFIG_PSI") && error.contains("leave out"), "{error}");
    }
}
