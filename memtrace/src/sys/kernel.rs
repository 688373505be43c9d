//! Which kernel is running.

use std::fmt;

use thiserror::Error;

/// A kernel release, as far as behaviour is told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelVersion {
    /// The 6 of 6.18.3.
    pub major: u32,
    /// The 18 of 6.18.3.
    pub minor: u32,
}

/// A release string that does not start with `MAJOR.MINOR`.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("the kernel calls its release {release:?}, which does not start with MAJOR.MINOR")]
pub struct BadRelease {
    /// The string.
    pub release: String,
}

impl KernelVersion {
    /// A version by its numbers.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads the release of `uname -r`. Distributions freeze the third number, so it is not kept.
    pub fn parse(release: &str) -> Result<Self, BadRelease> {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|digits| digits.parse().ok());
        match (next(), next()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(BadRelease { release: release.trim().to_owned() }),
        }
    }
}

/// The third number of a release, which stable kernels count up; `None` where there is none.
pub fn patch_level(release: &str) -> Option<u32> {
    let numbers = release.trim().split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    numbers.split('.').nth(2)?.parse().ok()
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        let cases = [
            ("6.1.0-32-cloud-amd64", (6, 1)),
            ("6.18.3\n", (6, 18)),
            ("5.15.153.1-microsoft-standard-WSL2", (5, 15)),
            ("6.19-rc2", (6, 19)),
            ("4.18.0-553.el8_10.x86_64", (4, 18)),
        ];
        for (release, (major, minor)) in cases {
            assert_eq!(KernelVersion::parse(release), Ok(KernelVersion::new(major, minor)));
        }
    }

    #[test]
    fn other_strings_are_refused_with_the_string() {
        for release in ["", "next", "6", "6.", "v6.1", "99999999999.1"] {
            assert_eq!(
                KernelVersion::parse(release),
                Err(BadRelease { release: release.to_owned() })
            );
        }
    }

    #[test]
    fn stable_kernels_are_told_apart_by_their_third_number() {
        let cases = [("6.12.9-amd64", Some(9)), ("6.18.3\n", Some(3)), ("6.19-rc2", None)];
        for (release, expected) in cases {
            assert_eq!(patch_level(release), expected, "{release}");
        }
    }

    #[test]
    fn versions_are_ordered_by_number_not_by_text() {
        assert!(KernelVersion::new(6, 9) < KernelVersion::new(6, 18));
        assert!(KernelVersion::new(5, 19) < KernelVersion::new(6, 0));
    }
}
