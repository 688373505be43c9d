//! What is compared: memtrace in its modes, empty programs, and the tools that people use instead.

use std::{path::Path, process::Command};

use super::{Peers, workload::Workload};
use crate::{
    process::which,
    tracer::{exact, sampled},
};

/// What watches, or what the program is started under.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Tool {
    Bare,
    Floor,
    FloorFirst,
    Exact,
    Sampled,
    Default,
    Growth,
    Inspect,
    Memleak,
    Bpftrace,
    Heaptrack,
    MemrayRun,
    MemrayAttach,
    Jemalloc,
}

use Tool::{
    Bare, Bpftrace, Default, Exact, Floor, FloorFirst, Growth, Heaptrack, Inspect, Jemalloc,
    Memleak, MemrayAttach, MemrayRun, Sampled,
};

impl Tool {
    /// In the order of a round.
    pub const ALL: [Self; 14] = [
        Bare,
        Floor,
        FloorFirst,
        Exact,
        Sampled,
        Default,
        Growth,
        Inspect,
        Memleak,
        Bpftrace,
        Heaptrack,
        MemrayRun,
        MemrayAttach,
        Jemalloc,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Bare => "nothing",
            Floor => "empty programs on memtrace's sites",
            FloorFirst => "empty programs at first instructions",
            Exact => "memtrace, exact",
            Sampled => "memtrace, sampled",
            Default => "memtrace, default",
            Growth => "memtrace, growth",
            Inspect => "memtrace inspect",
            Memleak => "memleak (libbpf-tools)",
            Bpftrace => "bpftrace",
            Heaptrack => "heaptrack",
            MemrayRun => "memray run --native",
            MemrayAttach => "memray attach --native",
            Jemalloc => "jemalloc's profiler",
        }
    }

    /// What one would type, for the document.
    pub fn command(self) -> Option<&'static str> {
        Some(match self {
            Bare | Floor | FloorFirst => return None,
            Exact => "memtrace attach -p PID --exact --max-overhead none",
            Sampled => "memtrace attach -p PID --sample-bytes 512KiB --max-overhead none",
            Default => "memtrace attach -p PID",
            Growth => "memtrace attach -p PID --growth",
            Inspect => "memtrace inspect -p PID --every 2s (in production 30s)",
            Memleak => "memleak -p PID 1 (of redis: -O libjemalloc.so.2)",
            Bpftrace => "bpftrace -p PID leak.bt (in memtrace/benches/overhead/targets)",
            Heaptrack => "heaptrack PROGRAM",
            MemrayRun => "python -m memray run --native PROGRAM",
            MemrayAttach => "python -m memray attach --native --method lldb PID",
            Jemalloc => {
                "MALLOC_CONF=prof:true,prof_active:true,lg_prof_sample:19 \
                 LD_PRELOAD=libjemalloc.so.2 PROGRAM"
            }
        })
    }

    /// The program is started under it, in a process of its own for all rounds.
    pub fn is_started_under(self) -> bool {
        matches!(self, Heaptrack | MemrayRun | MemrayAttach | Jemalloc)
    }

    /// It costs so little that it is compared with a bare run right before it.
    pub fn is_slight(self) -> bool {
        matches!(self, Default | Growth | Inspect)
    }

    /// memtrace, with a report at the end.
    pub fn is_attach(self) -> bool {
        matches!(self, Exact | Sampled | Default | Growth)
    }

    /// How memtrace is told.
    pub fn options(self, memtrace: &Path) -> Vec<&'static str> {
        match self {
            Exact => exact(memtrace),
            Sampled => sampled(memtrace),
            Growth => vec!["--growth"],
            _ => Vec::new(),
        }
    }

    /// What of memtrace must be there.
    fn needed_option(self) -> Option<&'static str> {
        match self {
            Sampled => Some("--sample-bytes"),
            Default => Some("--max-overhead"),
            Growth => Some("--growth"),
            _ => None,
        }
    }

    /// Why it cannot be used at all.
    pub fn missing(self, peers: &Peers<'_>) -> Option<String> {
        if let Some(option) = self.needed_option().filter(|option| !peers.knows(option)) {
            return Some(format!("this memtrace has no {option}"));
        }
        let (there, what) = match self {
            Memleak => (
                peers.setup.memleak.is_some(),
                "there is no memleak in PATH (Debian 12's libbpf-tools has none)",
            ),
            Bpftrace => (which("bpftrace").is_some(), "there is no bpftrace in PATH"),
            Heaptrack => (which("heaptrack").is_some(), "there is no heaptrack in PATH"),
            MemrayRun => return peers.without_memray(),
            MemrayAttach if which("lldb").is_none() => {
                (false, "there is no lldb, which it injects itself by")
            }
            MemrayAttach => return peers.without_memray(),
            Jemalloc => return no_profiling_jemalloc(),
            _ => return None,
        };
        (!there).then(|| what.to_owned())
    }

    /// Why it makes no sense on this workload.
    pub fn unfit(self, workload: Workload) -> Option<&'static str> {
        match self {
            MemrayRun | MemrayAttach if !workload.is_python() => Some("it is for Python only"),
            _ => None,
        }
    }
}

/// A jemalloc that was built without its profiler says so and goes on.
fn no_profiling_jemalloc() -> Option<String> {
    let Some(library) = jemalloc() else {
        return Some("there is no libjemalloc.so.2".to_owned());
    };
    let mut command = Command::new("true");
    let command = command.env("LD_PRELOAD", library).env("MALLOC_CONF", "prof:true");
    let said = command.output().map(|output| output.stderr).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    (!said.trim().is_empty()).then(|| format!("it was built without: {}", said.trim()))
}

/// Where Debian puts jemalloc.
pub fn jemalloc() -> Option<String> {
    let arch = std::env::consts::ARCH;
    let path = format!("/usr/lib/{arch}-linux-gnu/libjemalloc.so.2");
    Path::new(&path).exists().then_some(path)
}
