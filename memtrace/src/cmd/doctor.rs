//! `memtrace doctor`: what an attach would see, and what it would lack.

use std::{
    io::{self, Write as _},
    num::NonZeroU32,
};

use anyhow::{Context as _, Result};

use super::{Status, output::text_options};
use crate::{
    cli::DoctorArgs,
    doctor::Diagnosis,
    render,
    session::{ExamineOptions, examine},
};

/// Runs the command. A process that cannot be traced is diagnosed all the same; then the error is
/// the one that an attach would end with.
pub fn run(args: &DoctorArgs) -> Result<Status> {
    let examination = examine(&ExamineOptions {
        pid: args.pid.and_then(NonZeroU32::new),
        debug_dirs: args.debug_dirs.clone(),
        allocator_symbols: args.allocator_symbols.clone(),
        counts_calls: !args.no_probes,
    })?;
    print(&examination.diagnosis, args.json).context("cannot write the diagnosis to stdout")?;
    match examination.refusal {
        Some(refusal) => Err(refusal.into()),
        None => Ok(Status::Done),
    }
}

fn print(diagnosis: &Diagnosis, json: bool) -> io::Result<()> {
    let stdout = io::stdout();
    let options = text_options(&stdout);
    let mut out = io::BufWriter::new(stdout.lock());
    if json {
        render::json::write_diagnosis(diagnosis, &mut out)?;
    } else {
        render::text::doctor::write(diagnosis, options, &mut out)?;
    }
    out.flush()
}
