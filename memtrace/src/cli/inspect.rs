//! `memtrace inspect`.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::parse::{parse_address, parse_duration, parse_interval};

/// `memtrace inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The process to look at; it is not stopped, and no probe is armed
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    pub pid: u32,

    /// Show each arena of glibc: its threads, and what it holds
    #[arg(long, conflicts_with = "every")]
    pub arenas: bool,

    /// Look again and again, a line each time; less often where looking would take more than 1 % of a CPU
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub every: Option<Duration>,

    /// End after this time (30s, 5m, 1h 30m; a bare number is seconds); without it: on Ctrl-C, SIGTERM or the process's end
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, requires = "every")]
    pub duration: Option<Duration>,

    /// End after so many looks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "every")]
    pub count: Option<u64>,

    /// Print one JSON document; with --every one on each line
    #[arg(long)]
    pub json: bool,

    /// Serve the numbers to Prometheus at this address (a port alone is one of this machine only, 127.0.0.1): http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, requires = "every")]
    pub metrics: Option<SocketAddr>,

    /// With --metrics: make the kernel forget the process's peak of RSS (VmHWM) up to ten times a second, so that every peak between scrapes is seen, and not only a new highest one; who else reads VmHWM sees the same
    #[arg(long, requires = "metrics")]
    pub reset_peak: bool,
}
