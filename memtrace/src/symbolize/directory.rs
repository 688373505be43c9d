//! A directory that is searched for files, held open: that of a container stays what it is after
//! the container's last process has ended.

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// See the module.
#[derive(Debug)]
pub(super) struct Directory {
    handle: OwnedFd,
    /// Its path, for people.
    pub(super) label: PathBuf,
    /// It belongs to another system: nothing in it may lead out of it, and it is the root of
    /// absolute symbolic links.
    pub(super) contained: bool,
}

impl Directory {
    /// A directory of this system.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let handle = openat(CWD, path, HANDLE | OFlags::DIRECTORY, Mode::empty())?;
        Ok(Self { handle, label: path.to_owned(), contained: false })
    }

    /// The root of another system, or of this one through a link of `/proc`.
    pub(super) fn open_root(path: &Path) -> io::Result<Self> {
        Ok(Self { contained: true, ..Self::open(path)? })
    }

    /// A directory below.
    pub(super) fn below(&self, at: &str) -> io::Result<Self> {
        let handle = self.resolve(Path::new(at), HANDLE | OFlags::DIRECTORY)?;
        Ok(Self { handle, label: self.label.join(at), contained: self.contained })
    }

    /// Whether the other path leads to the same directory.
    pub(super) fn is(&self, other: &Path) -> bool {
        let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let ours = rustix::fs::fstat(&self.handle).map(identity);
        ours.is_ok() && ours == rustix::fs::stat(other).map(identity)
    }

    /// Opens a regular file below. It is looked at before it is opened: what a hostile system has
    /// in its place could block its reader for ever.
    pub(super) fn open_file(&self, at: &Path) -> io::Result<File> {
        let handle = File::from(self.resolve(at, HANDLE)?);
        if !handle.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
    }

    fn resolve(&self, at: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let directory = self.handle.as_fd();
        if self.contained {
            let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            Ok(openat2(directory, at, flags, Mode::empty(), within)?)
        } else {
            Ok(openat(directory, at, flags, Mode::empty())?)
        }
    }
}
