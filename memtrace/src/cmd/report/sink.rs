//! Where a report goes: a file or stdout.

use std::{
    fs,
    io::{self, BufWriter, IsTerminal as _, Write},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use super::super::output::{OutputFile, text_options};
use crate::{cli::ReportFormat, render::text::TextOptions};

/// What was asked for.
#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// The file, or `-`; stdout where there is none.
    pub output: Option<&'a Path>,
    /// A file that exists is overwritten.
    pub force: bool,
    /// What is written.
    pub kind: Kind,
    /// Files that are read for it.
    pub inputs: &'a [&'a Path],
}

/// Opened before the work begins, so that what cannot be written is an error at once.
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file.
    File(OutputFile),
}

/// How a format and a terminal go together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Made for it.
    Readable,
    /// Does no harm there, but is of no use: somebody forgot where it should go.
    Document,
    /// Would do harm.
    Binary,
}

impl Sink {
    /// The one that was asked for.
    pub fn open(to: Destination<'_>) -> Result<Self> {
        match to.output {
            Some(path) if path != Path::new("-") => {
                to.inputs.iter().try_for_each(|input| refuse_the_capture(path, input))?;
                OutputFile::create(path.to_owned(), to.force).map(Self::File)
            }
            asked_for => {
                refuse_a_terminal(to.kind, asked_for.is_some())?;
                Ok(Self::Stdout)
            }
        }
    }

    /// Whether what is written is seen at once, where a bar would be in its way.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout) && io::stdout().is_terminal()
    }

    /// Writes what `write` writes, with the options for text there.
    pub fn write(
        self,
        write: impl FnOnce(&mut dyn Write, TextOptions) -> io::Result<()>,
    ) -> Result<()> {
        match self {
            Self::File(file) => file.write_with(|out| write(out, TextOptions::default())),
            Self::Stdout => {
                let stdout = io::stdout();
                let options = text_options(&stdout);
                let mut out = BufWriter::new(stdout.lock());
                write(&mut out, options)
                    .and_then(|()| out.flush())
                    .context("cannot write the report to stdout")
            }
        }
    }
}

/// Of the formats of reports.
pub fn kind(format: ReportFormat) -> Kind {
    match format {
        ReportFormat::Text | ReportFormat::Json | ReportFormat::Folded => Kind::Readable,
        ReportFormat::Html | ReportFormat::Svg | ReportFormat::Speedscope => Kind::Document,
        ReportFormat::Pprof | ReportFormat::Otlp => Kind::Binary,
    }
}

fn refuse_a_terminal(kind: Kind, is_asked_for: bool) -> Result<()> {
    let is_fine = match kind {
        Kind::Readable => true,
        Kind::Document => is_asked_for,
        Kind::Binary => false,
    };
    if is_fine || !io::stdout().is_terminal() {
        return Ok(());
    }
    bail!("this format is not for a terminal: write it to a file with -o FILE, or into a pipe")
}

/// It is read while the report is written.
fn refuse_the_capture(path: &Path, capture: &Path) -> Result<()> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    if let Some(output) = identity(path)
        && identity(capture) == Some(output)
    {
        bail!("{} is the capture itself: choose another name with --output", path.display());
    }
    Ok(())
}
