//! The files of a trace: opened before it begins, written when it is over.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::super::{
    Status,
    output::{OutputFile, say},
};
use crate::{
    capture::Capture,
    cli::{Events, TraceArgs},
    render,
    report::Report,
    session::{Recorder, Sink},
    sys::procfs::Process,
};

/// What is written of a capture at once, between its flushes.
const FILE_BUFFER_BYTES: usize = 256 << 10;

/// What draws a picture of a report.
type Draw = fn(&Report, &mut Vec<u8>) -> io::Result<()>;

/// Every picture: what its file's name ends in, and what draws it.
const PICTURES: [(&str, Draw); 2] =
    [(".svg", render::flamegraph::write), ("-timeline.svg", render::timeline::write)];

/// See the module. If nothing is written, all is as it was before.
pub struct Files {
    capture: OutputFile,
    pictures: Vec<OutputFile>,
    /// Where growth is followed: by pages in use.
    resident: Option<OutputFile>,
}

impl Files {
    /// Creates them.
    ///
    /// # Errors
    /// When one cannot be written, or exists and may not be overwritten.
    pub fn create(prefix: &Path, args: &TraceArgs) -> Result<Self> {
        let create = |suffix| OutputFile::create(with_suffix(prefix, suffix), args.force);
        Ok(Self {
            capture: create(".memtrace")?,
            pictures: PICTURES.iter().map(|(suffix, _)| create(suffix)).collect::<Result<_>>()?,
            resident: args.growth.then(|| create("-resident.svg")).transpose()?,
        })
    }

    /// Where the capture goes while the window is open.
    ///
    /// # Errors
    /// When its file does not permit it.
    pub fn sink(&self, args: &TraceArgs) -> Result<Sink> {
        Ok(Sink {
            out: Box::new(io::BufWriter::with_capacity(FILE_BUFFER_BYTES, self.capture.writer()?)),
            events: args.events == Events::On,
            max_bytes: args.max_size,
        })
    }

    /// Writes the rest of the capture, and the pictures; the report knows of them then. What cannot
    /// be written is said.
    pub fn write(
        self,
        report: &mut Report,
        of_pages: Option<&mut Report>,
        capture: Capture,
        recorder: Option<Recorder>,
    ) -> Status {
        let mut all = keep_capture(report, capture, recorder, self.capture);
        for ((_, draw), file) in PICTURES.into_iter().zip(self.pictures) {
            all &= write_picture(report, draw, file);
        }
        if let (Some(of_pages), Some(file)) = (of_pages, self.resident) {
            all &= write_picture(of_pages, render::flamegraph::write, file);
            report.files.append(&mut of_pages.files);
        }
        if all { Status::Done } else { Status::Incomplete }
    }
}

/// The prefix that was given. Whoever names the capture itself gets that, and the others beside it.
pub fn given_prefix(args: &TraceArgs) -> Option<PathBuf> {
    let prefix = args.output.as_ref()?;
    let names_capture = prefix.extension().is_some_and(|it| it == "memtrace");
    Some(if names_capture { prefix.with_extension("") } else { prefix.clone() })
}

/// The prefix of all files unless another was given: `memtrace-COMMAND-PID-TIME`.
pub fn default_prefix(process: &Process) -> PathBuf {
    let command: String = process
        .command
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    PathBuf::from(format!("memtrace-{command}-{}-{time}", process.pid))
}

/// The path of one of the files with a prefix.
pub fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// What there is of one that could not be written is kept: it can be read up to there.
fn keep_capture(
    report: &mut Report,
    capture: Capture,
    recorder: Option<Recorder>,
    file: OutputFile,
) -> bool {
    // Without it there is none, which is a note in the report.
    let Some(recorder) = recorder else { return false };
    let path = file.path().display().to_string();
    let written = recorder.finish(capture).with_context(|| format!("cannot write {path}"));
    let kept = file.keep();
    match written.and(kept) {
        Ok(()) => {
            report.files.push(path);
            true
        }
        Err(error) => {
            say(format_args!(
                "error: {error:#}; the capture can be read up to there, and the report follows"
            ));
            false
        }
    }
}

/// A picture that cannot be written must not cost the report: that is said, and all else goes on.
fn write_picture(report: &mut Report, draw: Draw, file: OutputFile) -> bool {
    let path = file.path().display().to_string();
    let mut svg = Vec::new();
    let written = draw(report, &mut svg)
        .with_context(|| format!("cannot draw {path}"))
        .and_then(|()| file.write(&svg));
    match written {
        Ok(()) => report.files.push(path),
        Err(ref error) => say(format_args!("error: {error:#}; the report follows without it")),
    }
    written.is_ok()
}
