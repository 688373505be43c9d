//! Files and streams that a command writes.

use std::{
    env, fmt,
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal, Write as _},
    os::{
        fd::AsFd,
        unix::fs::{OpenOptionsExt as _, fchown},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::render::text::TextOptions;

/// A file that is opened before the work begins, so that a bad path is an error at once and not
/// after a long trace. If nothing is written, all is as it was before.
pub struct OutputFile {
    path: PathBuf,
    file: Option<File>,
    existed: bool,
}

impl OutputFile {
    /// Creates the file, readable by its owner only. One that exists is opened if `overwrite`
    /// permits it, and keeps its contents until others are written.
    pub fn create(path: PathBuf, overwrite: bool) -> Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                hand_to_sudo_caller(&file);
                Ok(Self { path, file: Some(file), existed: false })
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(cannot(&path, error)),
            Err(_) if overwrite => {
                let file = OpenOptions::new().write(true).open(&path);
                let file = file.map_err(|error| cannot(&path, error))?;
                Ok(Self { path, file: Some(file), existed: true })
            }
            Err(_) => bail!(
                "{} exists: choose another name with --output, or pass --force",
                path.display()
            ),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For what is written while it comes about, in place of what was there. What is written stays
    /// only if [`Self::keep`] is called.
    ///
    /// # Errors
    /// When the file does not permit it.
    pub fn writer(&self) -> Result<File> {
        let file = self.file.as_ref().context("the file is written already")?;
        let empty = || {
            if file.metadata()?.is_file() {
                file.set_len(0)?;
            }
            file.try_clone()
        };
        empty().with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Keeps what was written, on disk.
    ///
    /// # Errors
    /// When the disk does not take it; it stays as far as it does.
    pub fn keep(mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let is_regular = file.metadata().is_ok_and(|it| it.is_file());
        let synced = if is_regular { file.sync_all() } else { Ok(()) };
        synced.with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes all of it, in place of what was there; on failure the partial file is removed.
    pub fn write(self, contents: &[u8]) -> Result<()> {
        self.write_with(|out| out.write_all(contents))
    }

    /// The same of what `write` writes.
    pub fn write_with(
        mut self,
        write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
    ) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let written = replace(&file, write);
        if written.is_err() {
            remove(&self.path);
        }
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if self.file.is_some() && !self.existed {
            remove(&self.path);
        }
    }
}

fn cannot(path: &Path, error: io::Error) -> anyhow::Error {
    let text = format!("cannot write {}: choose another place with --output", path.display());
    anyhow::Error::new(error).context(text)
}

/// A pipe or a device (`-o /dev/...`) has no length to set and nothing to sync.
fn replace(
    file: &File,
    write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let is_regular = file.metadata()?.is_file();
    if is_regular {
        file.set_len(0)?;
    }
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.flush()?;
    drop(out);
    if is_regular { file.sync_all() } else { Ok(()) }
}

/// Who typed `sudo memtrace` wants to open the result without sudo: sudo says in these variables
/// who that is (sudo(8), ENVIRONMENT). Where it cannot be done the file stays root's.
fn hand_to_sudo_caller(file: &File) {
    let id = |name| env::var(name).ok()?.parse().ok();
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID"))
        && let Err(error) = fchown(file, Some(user), Some(group))
    {
        log::debug!("an output file stays memtrace's own: {error}");
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        log::warn!("cannot remove {}: {error}", path.display());
    }
}

/// One line on stderr. Not `eprintln!`, which panics when the terminal was closed.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "memtrace: {line}");
}

/// Columns of the terminal; `None` when the stream is none, where lines are not cut, or when it
/// does not say.
pub fn terminal_columns(stream: &impl AsFd) -> Option<usize> {
    let columns = rustix::termios::tcgetwinsize(stream).ok()?.ws_col;
    (columns > 0).then_some(usize::from(columns))
}

/// How text is written to a stream: with colours on a terminal unless `NO_COLOR` is set, and cut to
/// its width; elsewhere lines are not cut.
pub fn text_options(stream: &(impl AsFd + IsTerminal)) -> TextOptions {
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    TextOptions {
        colour: stream.is_terminal() && !no_color,
        width: terminal_columns(stream),
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_is_never_written_leaves_things_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs::write(&old, "a former result").unwrap();
        drop(OutputFile::create(new.clone(), false).unwrap());
        drop(OutputFile::create(old.clone(), true).unwrap());
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(old).unwrap(), "a former result");
    }

    #[test]
    fn a_file_that_exists_is_overwritten_only_when_asked_and_then_wholly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old");
        fs::write(&path, "a former and longer result").unwrap();
        let refused = OutputFile::create(path.clone(), false).err().unwrap().to_string();
        assert!(refused.contains("--force"), "{refused}");
        OutputFile::create(path.clone(), true).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "new");
    }
}
