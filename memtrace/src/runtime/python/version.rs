//! Which CPython it is.

use std::fmt;

use super::linetable::LineFormat;

/// A version of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// 3 of 3.11.7.
    pub major: u8,
    /// 11 of 3.11.7.
    pub minor: u8,
    /// 7 of 3.11.7; `None` where the process does not tell.
    pub micro: Option<u8>,
}

impl Version {
    /// Version 3 without a micro number.
    pub const fn v3(minor: u8) -> Self {
        Self { major: 3, minor, micro: None }
    }

    /// From `PY_VERSION_HEX` (Include/patchlevel.h): major, minor, micro, release level and serial.
    pub fn from_hex(hex: u32) -> Self {
        let [_, micro, minor, major] = hex.to_le_bytes();
        Self { major, minor, micro: Some(micro) }
    }

    /// From a file name: `python3.11`, `libpython3.8.so.1.0`, `libpython3.13t.so`.
    pub fn from_name(name: &str) -> Option<Self> {
        let (_, number) = name.split_once("python")?;
        let (major, rest) = number.split_once('.')?;
        let digits =
            rest.len() - rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
        Some(Self { major: major.parse().ok()?, minor: rest[..digits].parse().ok()?, micro: None })
    }

    /// Whether it is the same release series: the layouts of structs are those of the series.
    pub fn is_series_of(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }

    /// The format of its line tables.
    pub fn line_format(self) -> LineFormat {
        match self.minor {
            ..=9 => LineFormat::Lnotab,
            10 => LineFormat::Ranges,
            _ => LineFormat::Locations,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(f, ".{micro}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_file_names() {
        let cases = [
            ("python3.11", Some((3, 11))),
            ("libpython3.8.so.1.0", Some((3, 8))),
            ("libpython3.13t.so.1.0", Some((3, 13))),
            ("python2.7", Some((2, 7))),
            ("python3", None),
            ("libpython3.so", None),
            ("uwsgi", None),
            ("python3.999", None),
        ];
        for (name, expected) in cases {
            let found = Version::from_name(name).map(|version| (version.major, version.minor));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn versions_are_read_from_the_interpreters_own_constant() {
        assert_eq!(Version::from_hex(0x030b_07f0).to_string(), "3.11.7");
        assert!(Version::from_hex(0x030b_07f0).is_series_of(Version::v3(11)));
    }
}
