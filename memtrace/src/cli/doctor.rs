//! `memtrace doctor`.

use std::path::PathBuf;

use clap::Args;

use super::parse::parse_names;
use crate::allocator::GivenNames;

/// `memtrace doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The process to look at; without it, only what this machine allows
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=0x7fff_ffff))]
    pub pid: Option<u32>,

    /// Arm no probes, and leave open what an attach would cost: for that its probes count calls for
    /// up to 200 ms
    #[arg(long)]
    pub no_probes: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Trace an allocator by its functions' names: those of malloc and kin with a prefix, in the
    /// objects whose names begin with LIB (all, without it); can be given more than once
    #[arg(long = "allocator-symbols", value_name = "prefix=PREFIX[,lib=LIB]", value_parser = parse_names)]
    pub allocator_symbols: Vec<GivenNames>,

    /// Look for debug files here, too (.build-id/xx/yyyy.debug, or the names of debug links)
    #[arg(long = "debug-dir", value_name = "DIR")]
    pub debug_dirs: Vec<PathBuf>,
}
