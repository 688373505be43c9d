//! Numbers as people read them.

/// What sizes are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Each in the unit that fits it.
    #[default]
    Auto,
    /// `1,234,567 B`: exact.
    Bytes,
    /// All in 2^10 bytes.
    KiB,
    /// All in 2^20 bytes.
    MiB,
    /// All in 2^30 bytes.
    GiB,
}

impl Units {
    /// The size in these units.
    pub fn bytes(self, value: u64) -> String {
        match self {
            Self::Auto => bytes(value),
            Self::Bytes => format!("{} B", count(value)),
            Self::KiB => in_unit(value, 10, "KiB"),
            Self::MiB => in_unit(value, 20, "MiB"),
            Self::GiB => in_unit(value, 30, "GiB"),
        }
    }

    /// The same with a sign.
    pub fn signed_bytes(self, value: i64) -> String {
        let sign = if value < 0 { '-' } else { '+' };
        format!("{sign}{}", self.bytes(value.unsigned_abs()))
    }
}

/// `1,234.5 MiB`; what is there is never shown as 0.
fn in_unit(value: u64, shift: u32, unit: &str) -> String {
    let tenths = ((u128::from(value) * 10 + (1 << (shift - 1))) >> shift) as u64;
    match tenths {
        0 if value > 0 => format!("<0.1 {unit}"),
        _ => format!("{}.{} {unit}", count(tenths / 10), tenths % 10),
    }
}

/// `1.5 MiB`; exact below 1 KiB.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// [`bytes()`] with a sign.
pub fn signed_bytes(value: i64) -> String {
    let sign = if value < 0 { '-' } else { '+' };
    format!("{sign}{}", bytes(value.unsigned_abs()))
}

/// `12,345,678`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `850 ns`, `12.3 us`, `4.5 ms`, `12.3 s`, `5m 03s`, `2h 05m`.
pub fn duration_ns(value: u64) -> String {
    match value {
        0..1_000 => format!("{value} ns"),
        1_000..1_000_000 => format!("{:.1} us", value as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value as f64 / 1e6),
        1_000_000_000..100_000_000_000 => format!("{:.1} s", value as f64 / 1e9),
        _ => {
            let seconds = value / 1_000_000_000;
            match seconds {
                0..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
                _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_one_decimal_and_never_show_1024() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(500 << 20), "500.0 MiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!(signed_bytes(-1024), "-1.0 KiB");
    }

    #[test]
    fn units_are_kept_where_one_is_asked_for() {
        assert_eq!(Units::Auto.bytes(1536), "1.5 KiB");
        assert_eq!(Units::Bytes.bytes(1_234_567), "1,234,567 B");
        assert_eq!(Units::MiB.bytes(5_000 << 20), "5,000.0 MiB");
        assert_eq!(Units::GiB.bytes(1), "<0.1 GiB");
        assert_eq!(Units::KiB.bytes(0), "0.0 KiB");
        assert_eq!(Units::KiB.bytes(1023), "1.0 KiB");
        assert_eq!(Units::GiB.bytes(u64::MAX), "17,179,869,184.0 GiB");
        assert_eq!(Units::MiB.signed_bytes(-(3 << 19)), "-1.5 MiB");
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
    }

    #[test]
    fn durations_pick_their_unit() {
        assert_eq!(duration_ns(850), "850 ns");
        assert_eq!(duration_ns(12_345), "12.3 us");
        assert_eq!(duration_ns(4_500_000), "4.5 ms");
        assert_eq!(duration_ns(12_300_000_000), "12.3 s");
        assert_eq!(duration_ns(303_000_000_000), "5m 03s");
        assert_eq!(duration_ns(7_500_000_000_000), "2h 05m");
    }
}
