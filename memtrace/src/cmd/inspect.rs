//! `memtrace inspect`: what the memory of a process is, as it is.

mod metrics;

use std::{
    io::{self, Write as _},
    num::NonZeroU32,
    time::Duration,
};

use anyhow::{Context as _, Result};

use self::metrics::Exported;
use super::{
    Status,
    output::{say, text_options},
};
use crate::{
    cli::InspectArgs,
    inspection::Inspection,
    model::size::duration_ns,
    render::{
        self,
        text::{TextOptions, inspect},
    },
    report::EndReason,
    session::{Between, InspectError, Inspector, SeriesObserver, SeriesOptions, series},
    sys::procfs::Resident,
};

/// Runs the command.
pub fn run(args: &InspectArgs, quiet: bool) -> Result<Status> {
    // The parser has refused 0.
    let pid = NonZeroU32::new(args.pid).unwrap_or(NonZeroU32::MIN);
    let mut inspector = Inspector::open(pid)?;
    match args.every {
        Some(every) => repeat(&mut inspector, every, args, quiet),
        None => {
            let inspection = inspector.look()?;
            print(&inspection, args).context("cannot write to stdout")?;
            Ok(Status::Done)
        }
    }
}

fn print(inspection: &Inspection, args: &InspectArgs) -> io::Result<()> {
    let stdout = io::stdout();
    let options = text_options(&stdout);
    let mut out = io::BufWriter::new(stdout.lock());
    if args.json {
        render::json::write_inspection(inspection, &mut out)?;
    } else {
        inspect::write(inspection, args.arenas, options, &mut out)?;
    }
    out.flush()
}

fn repeat(
    inspector: &mut Inspector,
    every: Duration,
    args: &InspectArgs,
    quiet: bool,
) -> Result<Status> {
    let exported = args.metrics.map(|address| Exported::start(address, inspector, quiet));
    let exported = exported.transpose()?;
    let between = exported
        .as_ref()
        .map(|_| Between { every: metrics::READ_EVERY, reset_peak: args.reset_peak });
    let options = SeriesOptions { every, duration: args.duration, count: args.count, between };
    let mut lines = Lines { json: args.json, quiet, begun: false, exported };
    let end = match series(inspector, options, &mut lines) {
        // Not an error of memtrace: the reader has gone.
        Err(InspectError::Output(error)) => return Err(error).context("cannot write to stdout"),
        end => end?,
    };
    if end.reason == EndReason::TargetExited && !quiet {
        let what = if end.has_changed { "started another program" } else { "ended" };
        say(format_args!("process {} has {what}", args.pid));
    }
    Ok(if end.samples == 0 { Status::Interrupted } else { Status::Done })
}

/// A line for each look.
struct Lines {
    json: bool,
    quiet: bool,
    begun: bool,
    exported: Option<Exported>,
}

impl Lines {
    fn text(
        &mut self,
        inspection: &Inspection,
        options: TextOptions,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            inspect::write_heading(options, out)?;
        }
        inspect::write_sample(inspection, options, out)
    }
}

impl SeriesObserver for Lines {
    fn sample(&mut self, inspection: &Inspection) -> io::Result<()> {
        if let Some(exported) = &mut self.exported {
            exported.look(inspection);
        }
        let stdout = io::stdout();
        let options = text_options(&stdout);
        let mut out = stdout.lock();
        if self.json {
            render::json::write_inspection_line(inspection, &mut out)?;
        } else {
            self.text(inspection, options, &mut out)?;
        }
        out.flush()
    }

    fn stretched(&mut self, cpu: Duration, every: Duration) {
        if !self.quiet {
            say(format_args!(
                "a look took {} of CPU time: the next comes after {}, to stay below 1 % of a CPU",
                duration_ns(cpu.as_nanos() as u64),
                duration_ns(every.as_nanos() as u64)
            ));
        }
    }

    fn resident(&mut self, resident: Resident, is_set_back: bool) {
        if let Some(exported) = &mut self.exported {
            exported.resident(resident, is_set_back);
        }
    }
}
