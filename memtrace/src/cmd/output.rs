//! Files and streams that a command writes.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::render::text::TextOptions;

/// A file that is created before the work begins, so that a bad path is an error at once and not
/// after a long trace; if nothing is written it goes away again.
pub struct OutputFile {
    path: PathBuf,
    file: Option<File>,
}

impl OutputFile {
    /// Creates the file, readable by its owner only.
    pub fn create(path: PathBuf, overwrite: bool) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        if overwrite {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        match options.open(&path) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!(
                    "{} exists: choose another name with --output, or pass --force",
                    path.display()
                )
            }
            Err(error) => Err(error).with_context(|| {
                format!("cannot write {}: choose another place with --output", path.display())
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it; on failure the partial file is removed.
    pub fn write(mut self, contents: &[u8]) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = file.write_all(contents).and_then(|()| file.sync_all());
        if written.is_err() {
            remove(&self.path);
        }
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            remove(&self.path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log::warn!("cannot remove {}: {error}", path.display());
    }
}

/// How text is written to stdout: with colours on a terminal unless `NO_COLOR` is set, and cut to
/// its width; elsewhere lines are not cut.
pub fn text_options(stdout: &io::Stdout) -> TextOptions {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    TextOptions {
        colour: stdout.is_terminal() && !no_color,
        width: rustix::termios::tcgetwinsize(stdout).ok().map(|size| usize::from(size.ws_col)),
        ..TextOptions::default()
    }
}

/// Whether an error is a reader that went away (`| head`), which is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
