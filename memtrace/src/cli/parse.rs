//! What is typed as a value: times, sizes, shares, names.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use memtrace_common::sample::Interval;
use regex::Regex;

use super::MaxOverhead;
use crate::allocator::GivenNames;

/// `prefix=_rjem_,lib=libpolars`
pub(super) fn parse_names(text: &str) -> Result<GivenNames, String> {
    let (mut prefix, mut library) = (None, None);
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("prefix", value)) if !value.is_empty() => prefix = Some(value.to_owned()),
            Some(("lib", value)) if !value.is_empty() => library = Some(value.to_owned()),
            _ => return Err(format!("`{part}` is neither prefix=PREFIX nor lib=LIB")),
        }
    }
    let prefix = prefix.ok_or("what the names begin with is missing: prefix=PREFIX")?;
    Ok(GivenNames { prefix, library })
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    // As for sleep(1) and timeout(1).
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|_| "write a time like 30s, 5m or 1h 30m".to_owned())
}

/// What the names of several files begin with: stdout has place for one thing only.
pub(super) fn check_prefix(prefix: PathBuf) -> Result<PathBuf, String> {
    match prefix.as_os_str().as_encoded_bytes() {
        b"" | b"-" => Err("several files are written: say what their names begin with".to_owned()),
        _ => Ok(prefix),
    }
}

pub(super) fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

/// An interval: not nothing.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval.is_zero() {
        return Err("a time longer than 0 is needed".to_owned());
    }
    Ok(interval)
}

/// A size that there must be.
pub(super) fn parse_need(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|_| "write a size like 512MiB or 20GiB".to_owned())
}

pub(super) fn parse_limit(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|_| "write a size like 64KiB or 10MiB".to_owned())
}

pub(super) fn parse_max_live(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(value @ 1_000..=100_000_000) => Ok(value),
        _ => Err("a number from 1000 to 100000000 is needed".to_owned()),
    }
}

pub(super) fn parse_max_size(text: &str) -> Result<u64, String> {
    parse_size::parse_size(text).map_err(|_| "write a size like 64MiB or 2GiB".to_owned())
}

pub(super) fn parse_max_overhead(text: &str) -> Result<MaxOverhead, String> {
    if text == "none" {
        return Ok(MaxOverhead(None));
    }
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent.is_finite() => {
            Ok(MaxOverhead(Some(percent / 100.0)))
        }
        _ => Err("write a percentage like 5% or 0.5%, or none".to_owned()),
    }
}

/// `127.0.0.1:9464`, or `9464` for a port of this machine only.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let port = text.strip_prefix(':').unwrap_or(text).parse().map(loopback);
    port.or_else(|_| text.parse()).map_err(|_| {
        "write an address and a port, like 127.0.0.1:9464, [::1]:9464 or 0.0.0.0:9464, or a port"
            .to_owned()
    })
}

/// The nearest interval that there is; 1 is every allocation.
pub(super) fn parse_sample_bytes(text: &str) -> Result<Interval, String> {
    let bytes = parse_size::parse_size(text)
        .map_err(|_| "write a size like 64KiB, 512KiB or 4MiB".to_owned())?;
    if !(1..=Interval::MAX.mean_bytes()).contains(&bytes) {
        return Err("a size from 1 (every allocation) to 1TiB is needed".to_owned());
    }
    Ok(Interval::nearest(bytes))
}

/// A size as the kernel wants it for a ring: a power of two, and whole pages.
pub(super) fn parse_ring_size(text: &str) -> Result<u32, String> {
    let limits = crate::probe::load::RING_BYTES;
    let bytes = parse_size::parse_size(text)
        .map_err(|error| format!("{error}; write it like 64KiB, 16MiB or 1GiB"))?;
    let rounded = bytes.checked_next_power_of_two().filter(|bytes| limits.contains(bytes));
    rounded
        .and_then(|bytes| u32::try_from(bytes).ok())
        .ok_or_else(|| "a size from 64KiB to 1GiB is needed".to_owned())
}

/// `name=/path/to/library.so`
pub(super) fn parse_library(text: &str) -> Result<(String, std::path::PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("write it like snmalloc=/opt/libsnmallocshim.so".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_are_rounded_up_to_powers_of_two_within_limits() {
        assert_eq!(parse_ring_size("64KiB"), Ok(64 << 10));
        assert_eq!(parse_ring_size("5MiB"), Ok(8 << 20));
        assert_eq!(parse_ring_size("65536"), Ok(64 << 10));
        for wrong in ["0", "1KiB", "32GiB", "many", "18446744073709551615"] {
            assert!(parse_ring_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_have_names() {
        for wrong in ["", "-"] {
            assert!(check_prefix(wrong.into()).unwrap_err().contains("begin with"), "{wrong}");
        }
        for good in ["x", "/tmp/-", "./-", "-x"] {
            assert_eq!(check_prefix(good.into()), Ok(good.into()));
        }
    }

    #[test]
    fn metrics_are_served_to_this_machine_unless_an_address_is_given() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for text in ["9464", ":9464", "127.0.0.1:9464"] {
            assert_eq!(parse_address(text), Ok(address("127.0.0.1:9464")), "{text}");
        }
        assert_eq!(parse_address("[::]:9464"), Ok(address("[::]:9464")));
        for wrong in ["", "localhost", "1.2.3.4", "70000", "::1:"] {
            assert!(parse_address(wrong).unwrap_err().contains("127.0.0.1:9464"), "{wrong}");
        }
    }

    #[test]
    fn the_limit_of_the_overhead_is_a_percentage_or_none() {
        assert_eq!(parse_max_overhead("5%"), Ok(MaxOverhead(Some(0.05))));
        assert_eq!(parse_max_overhead("none"), Ok(MaxOverhead(None)));
        for wrong in ["5", "0%", "-1%", "%", "much", "inf%"] {
            assert!(parse_max_overhead(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn allocators_are_named_by_a_prefix_and_perhaps_a_library() {
        let names = |prefix: &str, library: Option<&str>| GivenNames {
            prefix: prefix.to_owned(),
            library: library.map(str::to_owned),
        };
        let both = "prefix=_rjem_,lib=libpolars";
        assert_eq!(parse_names(both), Ok(names("_rjem_", Some("libpolars"))));
        assert_eq!(parse_names("prefix=sn_"), Ok(names("sn_", None)));
        for wrong in ["", "lib=libc", "prefix=", "_rjem_", "prefix=a,path=b"] {
            assert!(parse_names(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_of_samples_are_rounded_to_the_nearest_power_of_two() {
        let bytes = |text| parse_sample_bytes(text).map(Interval::mean_bytes);
        assert_eq!(bytes("500KB"), Ok(512 << 10));
        assert_eq!(bytes("524288"), Ok(512 << 10));
        assert_eq!(bytes("1"), Ok(1));
        for wrong in ["0", "2TiB", "few", "-1"] {
            assert!(parse_sample_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_words_of_time_or_seconds() {
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(parse_interval("0s").is_err());
        assert!(parse_duration("soon").unwrap_err().contains("30s"));
    }
}
