//! What commands that trace have in common: from arguments to a session, from its outcome to files
//! and a report.

mod files;
mod options;

use std::io;

pub use self::{
    files::{Files, default_prefix, given_prefix, with_suffix},
    options::{options, say_interval},
};
use super::{Status, progress::Progress};
use crate::{
    cli::TraceArgs,
    render::{self, text::TextOptions},
    report::{GrowthView, Report, ReportOptions},
    session::{Observer as _, Outcome},
};

/// What came of a trace, to be shown.
pub struct Results {
    /// The report.
    pub report: Report,
    /// The same by pages in use, where growth was followed.
    of_pages: Option<Report>,
    /// Whether all files were written.
    pub status: Status,
}

impl Results {
    /// Names all stacks and writes the files. `json`: the report will be shown as that, which has
    /// what each site traps.
    pub fn of(
        outcome: Outcome,
        files: Files,
        args: &TraceArgs,
        json: bool,
        progress: &mut Progress,
    ) -> Self {
        progress.naming(outcome.site_count());
        let (mut capture, recorder) = outcome.into_capture();
        let whole = args.by_process.then(|| capture.clone());
        if args.by_process {
            capture.split_by_process();
        }
        let options = ReportOptions {
            group_by: options::group_by(args.by),
            with_trapped: json,
            ..ReportOptions::default()
        };
        let mut report = Report::of(&capture, options);
        let by_pages = ReportOptions { growth: GrowthView::Resident, ..options };
        let mut of_pages = args.growth.then(|| Report::of(&capture, by_pages));
        progress.clear();
        let capture = whole.unwrap_or(capture);
        let status = files.write(&mut report, of_pages.as_mut(), capture, recorder);
        Self { report, of_pages, status }
    }

    /// Writes the report, as JSON or as text.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn render(
        &self,
        json: bool,
        options: TextOptions,
        out: &mut impl io::Write,
    ) -> io::Result<()> {
        match json {
            true => render::json::write(&self.report, out),
            false => render::text::write_both(&self.report, self.of_pages.as_ref(), options, out),
        }
    }
}
