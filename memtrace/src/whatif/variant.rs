//! What is tried: an allocator and its settings, as they are typed and as a process is told.

use std::{fmt, str::FromStr, time::Duration};

use crate::model::census::MallocParameters;

/// Tried where nothing else is asked for; the first is what the others are compared with.
pub const DEFAULT: [&str; 12] = [
    "glibc",
    "glibc:arena_max=1",
    "glibc:arena_max=2",
    "glibc:arena_max=4",
    "glibc:mmap_threshold=128KiB",
    "glibc:trim_threshold=128KiB",
    "glibc:tcache=off",
    "glibc:trim=10s",
    "glibc:hugetlb",
    "jemalloc",
    "tcmalloc",
    "mimalloc",
];

/// glibc's own defaults: `DEFAULT_MMAP_THRESHOLD_MIN`, `DEFAULT_TOP_PAD`, `TCACHE_FILL_COUNT` of
/// malloc/malloc.c.
const DEFAULTS: (u64, u64, u64) = (128 << 10, 128 << 10, 7);

/// Allocators that are libraries, the names of their files and the package of Debian that has them.
pub const LIBRARIES: [Library; 3] = [
    Library { name: "jemalloc", files: &["libjemalloc.so.2"], package: "libjemalloc2" },
    Library {
        name: "tcmalloc",
        files: &["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
        package: "libtcmalloc-minimal4",
    },
    Library {
        name: "mimalloc",
        files: &["libmimalloc.so.2.0", "libmimalloc.so.2", "libmimalloc.so.3"],
        package: "libmimalloc2.0",
    },
];

/// An allocator that is a library of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Library {
    /// As it is typed.
    pub name: &'static str,
    /// Names of its file, the best first.
    pub files: &'static [&'static str],
    /// Debian's package.
    pub package: &'static str,
}

/// A setting of glibc's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `M_ARENA_MAX`.
    ArenaMax(u64),
    /// `M_MMAP_THRESHOLD`, which is fixed by that.
    MmapThreshold(u64),
    /// `M_TRIM_THRESHOLD`.
    TrimThreshold(u64),
    /// `M_TOP_PAD`.
    TopPad(u64),
    /// Blocks of a size in a tcache; 0 for none.
    Tcache(u64),
    /// Huge pages by `madvise`.
    HugePages,
    /// `malloc_trim(0)`, so often.
    Trim(Duration),
}

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// As it was typed.
    pub label: String,
    /// `glibc`, or the name of a library.
    pub allocator: String,
    /// Settings, of glibc only.
    pub settings: Vec<Setting>,
}

impl Variant {
    /// Whether it is the C library's own allocator.
    pub fn is_glibc(&self) -> bool {
        self.allocator == "glibc"
    }

    /// How often it is trimmed, in nanoseconds; 0 for never.
    pub fn trim_ns(&self) -> u64 {
        let of = |setting: &Setting| match setting {
            Setting::Trim(every) => u64::try_from(every.as_nanos()).ok(),
            _ => None,
        };
        self.settings.iter().find_map(of).unwrap_or(0)
    }

    /// What a person sets to have it, e.g. `MALLOC_ARENA_MAX=2`, where it is more than a call.
    pub fn how(&self, library: Option<&str>) -> Option<String> {
        if let Some(library) = library {
            return Some(format!("LD_PRELOAD={library}"));
        }
        let words: Vec<String> = self.settings.iter().map(Setting::how).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// `GLIBC_TUNABLES`: its settings, and those of the target that it does not change.
    pub fn tunables(&self, target: &[Setting]) -> String {
        let is_changed = |setting: &&Setting| {
            let same =
                |it: &Setting| std::mem::discriminant(it) == std::mem::discriminant(*setting);
            self.settings.iter().any(same)
        };
        let kept = target.iter().filter(|it| !is_changed(it));
        let words: Vec<String> = kept.chain(&self.settings).filter_map(Setting::tunable).collect();
        words.join(":")
    }
}

impl Setting {
    /// As a tunable (glibc's manual, "Memory Allocation Tunables"); `None` for what is called.
    fn tunable(&self) -> Option<String> {
        let (name, value) = match *self {
            Self::ArenaMax(count) => ("arena_max", count),
            Self::MmapThreshold(bytes) => ("mmap_threshold", bytes),
            Self::TrimThreshold(bytes) => ("trim_threshold", bytes),
            Self::TopPad(bytes) => ("top_pad", bytes),
            Self::Tcache(count) => ("tcache_count", count),
            Self::HugePages => ("hugetlb", 1),
            Self::Trim(_) => return None,
        };
        Some(format!("glibc.malloc.{name}={value}"))
    }

    fn how(&self) -> String {
        match *self {
            Self::ArenaMax(count) => format!("MALLOC_ARENA_MAX={count}"),
            Self::MmapThreshold(bytes) => format!("MALLOC_MMAP_THRESHOLD_={bytes}"),
            Self::TrimThreshold(bytes) => format!("MALLOC_TRIM_THRESHOLD_={bytes}"),
            Self::TopPad(bytes) => format!("MALLOC_TOP_PAD_={bytes}"),
            Self::Tcache(_) | Self::HugePages => {
                format!("GLIBC_TUNABLES={}", self.tunable().unwrap_or_default())
            }
            Self::Trim(every) => {
                format!("malloc_trim(0) every {}", humantime::format_duration(every))
            }
        }
    }
}

/// What of a target's settings is not glibc's default. A threshold that moved by itself is none.
pub fn settings_of(parameters: &MallocParameters) -> Vec<Setting> {
    let (threshold, top_pad, tcache) = DEFAULTS;
    let mut settings = Vec::new();
    if parameters.arena_max > 0 {
        settings.push(Setting::ArenaMax(parameters.arena_max));
    }
    if !is_dynamic(parameters) {
        settings.push(Setting::MmapThreshold(parameters.mmap_threshold_bytes));
        if parameters.trim_threshold_bytes != threshold {
            settings.push(Setting::TrimThreshold(parameters.trim_threshold_bytes));
        }
    }
    if parameters.top_pad_bytes != top_pad {
        settings.push(Setting::TopPad(parameters.top_pad_bytes));
    }
    if let Some(count) = parameters.tcache_count.filter(|count| *count != tcache) {
        settings.push(Setting::Tcache(count));
    }
    settings
}

/// Both at their beginnings, or moved together by a free of a mapped block: glibc's `free`.
pub fn is_dynamic(parameters: &MallocParameters) -> bool {
    let (threshold, ..) = DEFAULTS;
    let MallocParameters { trim_threshold_bytes, mmap_threshold_bytes, .. } = *parameters;
    (mmap_threshold_bytes, trim_threshold_bytes) == (threshold, threshold)
        || (mmap_threshold_bytes > threshold
            && trim_threshold_bytes == mmap_threshold_bytes.saturating_mul(2))
}

impl FromStr for Variant {
    type Err = String;

    /// `glibc`, `glibc:arena_max=2+trim=10s`, `jemalloc`, the name of a `--lib`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (allocator, settings) = text.split_once(':').unwrap_or((text, ""));
        if allocator.is_empty() {
            return Err("the name of an allocator is missing".to_owned());
        }
        if allocator != "glibc" && !settings.is_empty() {
            return Err(format!("{allocator} has no settings here, only glibc has"));
        }
        let settings: Result<_, String> =
            settings.split('+').filter(|it| !it.is_empty()).map(str::parse).collect();
        Ok(Self {
            label: text.to_owned(),
            allocator: allocator.to_owned(),
            settings: settings.map_err(|error| format!("{text}: {error}"))?,
        })
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let number = || value.parse().map_err(|_| format!("`{value}` is no number"));
        let size = || {
            parse_size::parse_size(value).map_err(|_| format!("`{value}` is no size like 128KiB"))
        };
        match (name, value) {
            ("arena_max", _) => number().map(Self::ArenaMax),
            ("mmap_threshold", _) => size().map(Self::MmapThreshold),
            ("trim_threshold", _) => size().map(Self::TrimThreshold),
            ("top_pad", _) => size().map(Self::TopPad),
            ("tcache", "off") => Ok(Self::Tcache(0)),
            ("tcache", _) => number().map(Self::Tcache),
            ("hugetlb", "") => Ok(Self::HugePages),
            ("trim", _) => match humantime::parse_duration(value) {
                Ok(every) if !every.is_zero() => Ok(Self::Trim(every)),
                _ => Err(format!("`{value}` is no time like 10s")),
            },
            _ => Err(format!(
                "there is no setting `{text}`; there are arena_max=N, mmap_threshold=SIZE, \
                 trim_threshold=SIZE, top_pad=SIZE, tcache=off, trim=TIME and hugetlb"
            )),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(text: &str) -> Variant {
        text.parse().unwrap()
    }

    #[test]
    fn all_that_is_tried_by_default_can_be_typed() {
        assert!(DEFAULT.iter().all(|text| variant(text).label == **text));
    }

    #[test]
    fn settings_are_tunables_and_variables_of_the_environment() {
        let both = variant("glibc:arena_max=2+trim=10s");
        assert_eq!(both.tunables(&[]), "glibc.malloc.arena_max=2");
        assert_eq!(both.trim_ns(), 10_000_000_000);
        assert_eq!(both.how(None).unwrap(), "MALLOC_ARENA_MAX=2 malloc_trim(0) every 10s");
        assert_eq!(variant("jemalloc").how(Some("/l.so")).unwrap(), "LD_PRELOAD=/l.so");
        assert_eq!(variant("glibc").how(None), None);
    }

    #[test]
    fn what_the_target_had_set_stays_unless_it_is_what_is_tried() {
        let target = [Setting::ArenaMax(8), Setting::Tcache(0)];
        let tunables = variant("glibc:arena_max=1").tunables(&target);
        assert_eq!(tunables, "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1");
    }

    #[test]
    fn a_threshold_that_moved_by_itself_was_not_set() {
        let parameters = |mmap, trim| MallocParameters {
            mmap_threshold_bytes: mmap,
            trim_threshold_bytes: trim,
            top_pad_bytes: 128 << 10,
            arena_max: 0,
            tcache_count: Some(7),
        };
        assert_eq!(settings_of(&parameters(128 << 10, 128 << 10)), []);
        assert_eq!(settings_of(&parameters(1 << 20, 2 << 20)), []);
        let fixed = settings_of(&parameters(64 << 10, 128 << 10));
        assert_eq!(fixed, [Setting::MmapThreshold(64 << 10)]);
    }

    #[test]
    fn what_there_is_not_is_said() {
        for (text, words) in [
            ("glibc:arenas=2", "arena_max=N"),
            ("glibc:trim=0s", "10s"),
            ("glibc:arena_max=many", "no number"),
            ("jemalloc:arena_max=2", "only glibc"),
            (":x", "missing"),
        ] {
            let error = text.parse::<Variant>().unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
