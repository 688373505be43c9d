//! `memtrace watch`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args};

use super::{
    LIMITS,
    parse::{parse_duration, parse_max_overhead, parse_max_size},
};
use crate::{cli::MaxOverhead, trigger::Condition};

const EXAMPLES: &str = "\
Examples:
  sudo memtrace watch -p 4242 --when 'rss>80%'
  sudo memtrace watch --unit app.service --when 'rss>2GiB for 30s' --when 'rate>100MiB/min'
  sudo memtrace watch --container 0a1b2c3d4e5f --follow --keep 5   each OOM kill, with its sites
  sudo memtrace watch --cgroup /jobs/7 --when 'psi>20' --exec 'mail -s memory me < \"$MEMTRACE_CAPTURE\"'

Conditions (any of them fires): rss>80% of the limit (or of the machine), rss>2GiB,
rate>100MiB/min, psi>20, psi.full>5, swap>1GiB, trapped>500MiB, majfault>100/s;
each with ` for 30s` if it has to last.

Exit status: 0 it ended; 1 with --once: a capture was taken; 2 bad usage or it could not be done.";

/// The heading of options that say what becomes of captures.
const CAPTURES: &str = "Captures";

/// `memtrace watch`.
#[derive(Debug, Args)]
#[command(
    after_help = EXAMPLES,
    group = ArgGroup::new("subject").required(true).args(["pid", "cgroup", "unit", "container", "pod", "comm"])
)]
pub struct WatchArgs {
    /// Watch a process
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    pub pid: Option<u32>,

    /// Watch all of a control group, by its path or its directory: whoever is in it or comes
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// Watch a unit of systemd
    #[arg(long, value_name = "NAME.service")]
    pub unit: Option<String>,

    /// Watch a container by its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    pub container: Option<String>,

    /// Watch a Kubernetes pod by its uid (`kubectl get pod NAME -o jsonpath='{.metadata.uid}'`), with all of
    /// its containers, also those that are restarted
    #[arg(long, value_name = "UID")]
    pub pod: Option<String>,

    /// Watch every process of this name, also those that come
    #[arg(long, value_name = "NAME")]
    pub comm: Option<String>,

    /// What to look out for; several: any of them [default: rss>80%]
    #[arg(long = "when", value_name = "CONDITION")]
    pub conditions: Vec<Condition>,

    /// Trace from the start, cheaply, and keep what was traced only if something fires or the process
    /// is killed for want of memory: then its capture has the sites
    #[arg(long)]
    pub follow: bool,

    /// How long a capture takes; less where the limit would be reached before it is written
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, default_value = "20s", help_heading = CAPTURES)]
    pub duration: Duration,

    /// Nothing fires for so long after a capture
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "5m", help_heading = CAPTURES)]
    pub cool_down: Duration,

    /// End after the first capture, with status 1
    #[arg(long)]
    pub once: bool,

    /// Where captures go
    #[arg(short, long, value_name = "DIR", default_value = ".", help_heading = CAPTURES)]
    pub output: PathBuf,

    /// Keep the latest so many captures
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..), help_heading = CAPTURES)]
    pub keep: u16,

    /// What all captures may take together; the oldest go first
    #[arg(long, value_name = "SIZE", value_parser = parse_max_size, default_value = "1GiB", help_heading = CAPTURES)]
    pub max_disk: u64,

    /// Run a command in a shell after each capture, with MEMTRACE_CAPTURE, MEMTRACE_PID,
    /// MEMTRACE_CONDITION and MEMTRACE_OOM_KILL (1 after a kill) in its environment
    #[arg(long, value_name = "COMMAND", help_heading = CAPTURES)]
    pub exec: Option<String>,

    /// By how much a traced process may become slower
    #[arg(
        long,
        value_name = "SHARE",
        value_parser = parse_max_overhead,
        default_value = "10%",
        help_heading = LIMITS
    )]
    pub max_overhead: MaxOverhead,

    /// Follow what makes the process grow, and not what it allocates, as attach --growth: next to no
    /// cost, for every allocator
    #[arg(long)]
    pub growth: bool,

    /// Tell the state this often
    #[arg(long, value_name = "TIME", value_parser = super::parse::parse_interval, default_value = "1m")]
    pub every: Duration,

    /// Serve the state to Prometheus at this address (a port alone is one of this machine only, 127.0.0.1): http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS", value_parser = super::parse::parse_address)]
    pub metrics: Option<std::net::SocketAddr>,

    /// Tell all that happens as lines of JSON on stdout
    #[arg(long)]
    pub json: bool,
}
