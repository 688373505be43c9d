//! A bar on stderr for what takes longer than a moment: none for what does not, none where stderr is
//! no terminal, none when nothing is to be said.

use std::{
    io::{self, IsTerminal as _, Read, Seek, SeekFrom},
    thread,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less is not worth a bar.
const MOMENT: Duration = Duration::from_secs(1);

/// How often it moves.
const TICK: Duration = Duration::from_millis(100);

/// While a file is read.
const READING: &str = "memtrace: reading the capture {bar:30} {bytes} of {total_bytes}";

/// While something goes on whose length is not known.
const DOING: &str = "memtrace: {msg} {spinner} {elapsed}";

/// While something goes on whose length is known.
const PARTS: &str = "memtrace: {msg} {bar:30} {percent} % {elapsed}";

/// A bar that may come.
pub struct Working {
    bar: ProgressBar,
}

impl Working {
    /// Comes after a moment, unless it is not wanted.
    pub fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(READING) {
            bar.set_style(style);
        }
        if !quiet && io::stderr().is_terminal() {
            show_after_a_moment(&bar);
        }
        Self { bar }
    }

    /// What is read through it moves the bar.
    pub fn watch<R>(&self, inner: R, length_bytes: u64) -> Watched<R> {
        self.bar.set_length(length_bytes);
        Watched { inner, bar: self.bar.clone() }
    }

    /// What comes after the reading, e.g. `making the report`.
    pub fn phase(&self, what: &'static str) {
        if let Ok(style) = ProgressStyle::with_template(DOING) {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
    }

    /// What comes next, with how many parts; [`Self::advance`] moves the bar.
    pub fn parts(&self, what: &'static str, count: u64) {
        if let Ok(style) = ProgressStyle::with_template(PARTS) {
            self.bar.set_style(style);
        }
        self.bar.set_message(what);
        self.bar.set_position(0);
        self.bar.set_length(count);
    }

    /// So many parts are done.
    pub fn advance(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Does something that may write to stderr.
    pub fn pause(&self, during: impl FnOnce()) {
        self.bar.suspend(during);
    }

    /// It goes away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.finish();
    }
}

fn show_after_a_moment(bar: &ProgressBar) {
    let bar = bar.downgrade();
    thread::spawn(move || {
        thread::sleep(MOMENT);
        if let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
    });
}

/// A file and the bar that it moves.
#[derive(Debug)]
pub struct Watched<R> {
    inner: R,
    bar: ProgressBar,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bar.inc(count as u64);
        Ok(count)
    }
}

impl<R: Seek> Seek for Watched<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.inner.seek(to)?;
        self.bar.set_position(position);
        Ok(position)
    }
}
