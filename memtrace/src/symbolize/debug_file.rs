//! Files with debug information that lie apart from the program that they are of: found by build
//! ID or by debug link (GDB manual, "Debugging Information in Separate Files"), and taken only if
//! they are of the very same build.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _},
        },
    },
    path::{Path, PathBuf},
};

use object::ReadCache;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use thiserror::Error;

use crate::elf::{DebugLink, Elf, NameSources};

/// Where distributions put them; the second is the first on merged systems.
const STANDARD: [&str; 2] = ["/usr/lib/debug", "/lib/debug"];

/// Where they are in the target's own file system, below its root.
const IN_TARGET: &str = "usr/lib/debug";

/// Read at a time for a checksum.
const CHUNK_BYTES: usize = 1 << 20;

/// How a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundBy {
    /// `.build-id/xx/yyyy.debug`.
    BuildId,
    /// The name in `.gnu_debuglink`.
    DebugLink,
}

/// A file with debug information of the same build.
#[derive(Debug)]
pub struct DebugFile {
    /// Its path, for people.
    pub path: PathBuf,
    /// How it was found.
    pub found_by: FoundBy,
    /// What it names code with.
    pub sources: NameSources,
    /// The file.
    pub file: File,
}

/// What an object's code is named by.
#[derive(Debug, Default)]
pub struct Names {
    /// What the object itself holds.
    pub own: NameSources,
    /// What lies beside it; looked for only when it holds no debug information itself.
    pub beside: Option<DebugFile>,
}

/// Directories that are searched. They are held open: those of a container stay what they are
/// after its last process has ended.
#[derive(Debug, Default)]
pub struct DebugRoots {
    roots: Vec<Root>,
    /// The target's file system, for debug links next to the object.
    target: Option<Root>,
}

/// A directory that was given cannot be opened.
#[derive(Debug, Error)]
#[error("--debug-dir {}: {source}; give a directory that holds debug files", path.display())]
pub struct NoDirectory {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
struct Root {
    directory: OwnedFd,
    /// Its path, for people.
    label: PathBuf,
    /// Symbolic links in it are relative to it: it is another system's root.
    contained: bool,
}

impl DebugRoots {
    /// The given directories, then what the target's own file system has (`target_root` is
    /// `/proc/PID/root`), then the standard ones.
    ///
    /// # Errors
    /// When a given directory cannot be opened. The others may be missing.
    pub fn new(given: &[PathBuf], target_root: &Path) -> Result<Self, NoDirectory> {
        let open = |path: &PathBuf| {
            Root::open(path).map_err(|source| NoDirectory { path: path.clone(), source })
        };
        let mut roots: Vec<_> = given.iter().map(open).collect::<Result<_, _>>()?;
        let target = Root::open(target_root).ok().map(|root| Root { contained: true, ..root });
        roots.extend(target.as_ref().and_then(Root::debug_directory));
        roots.extend(STANDARD.iter().filter_map(|directory| Root::open(Path::new(directory)).ok()));
        Ok(Self { roots, target })
    }

    /// What names an object's code; `path` is the object's in its own mount namespace.
    pub fn names(&self, object: &File, path: &str) -> Names {
        let cache = ReadCache::new(object);
        let Ok(elf) = Elf::parse(&cache) else { return Names::default() };
        let own = elf.name_sources();
        let search = !own.debug_info;
        let beside = if search { self.find(&Wanted::of(&elf), Path::new(path)) } else { None };
        Names { own, beside }
    }

    fn find(&self, wanted: &Wanted<'_>, path: &Path) -> Option<DebugFile> {
        let by_id = wanted.build_id_path().into_iter().flat_map(|name| {
            self.roots.iter().map(move |root| (root, name.clone(), FoundBy::BuildId))
        });
        let directory = path.parent().unwrap_or(Path::new("/"));
        let inside = directory.strip_prefix("/").unwrap_or(directory);
        let by_link = wanted.link_name().into_iter().flat_map(|name| {
            let near = [inside.join(name), inside.join(".debug").join(name)];
            let apart = [inside.join(name), PathBuf::from(name)];
            let near = self.target.iter().flat_map(move |root| near.clone().map(|at| (root, at)));
            let apart = self.roots.iter().flat_map(move |root| apart.clone().map(|at| (root, at)));
            near.chain(apart).map(|(root, at)| (root, at, FoundBy::DebugLink))
        });
        by_id.chain(by_link).find_map(|(root, at, found_by)| {
            let file = root.open_file(&at).ok()?;
            let sources = wanted.sources_of_same_build(&file)?;
            Some(DebugFile { path: root.label.join(at), found_by, sources, file })
        })
    }
}

impl Root {
    fn open(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, directory, flags, Mode::empty())?;
        Ok(Self { directory: opened, label: directory.to_owned(), contained: false })
    }

    /// The debug directory of the target's system, unless it is the same as ours.
    fn debug_directory(&self) -> Option<Self> {
        let ours = fs::metadata(STANDARD[0]).ok();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = self.resolve(Path::new(IN_TARGET), flags).ok()?;
        let its = rustix::fs::fstat(&directory).ok()?;
        let is_ours = ours.is_some_and(|ours| (ours.dev(), ours.ino()) == (its.st_dev, its.st_ino));
        let label = self.label.join(IN_TARGET);
        (!is_ours).then_some(Self { directory, label, contained: true })
    }

    /// Opens a regular file below. It is looked at before it is opened: what a hostile system has
    /// in its place may block its reader for ever.
    fn open_file(&self, at: &Path) -> io::Result<File> {
        let handle = File::from(self.resolve(at, OFlags::PATH | OFlags::CLOEXEC)?);
        if !handle.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
    }

    fn resolve(&self, at: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let directory = self.directory.as_fd();
        if self.contained {
            let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            Ok(openat2(directory, at, flags, Mode::empty(), within)?)
        } else {
            Ok(openat(directory, at, flags, Mode::empty())?)
        }
    }
}

/// What identifies the file that is looked for.
struct Wanted<'d> {
    build_id: Option<Vec<u8>>,
    link: Option<DebugLink<'d>>,
}

impl<'d> Wanted<'d> {
    fn of<R: object::ReadRef<'d>>(elf: &Elf<'d, R>) -> Self {
        Self { build_id: elf.build_id().map(|build_id| build_id.id), link: elf.debug_link() }
    }

    fn build_id_path(&self) -> Option<PathBuf> {
        let (first, rest) = self.build_id.as_ref()?.split_first()?;
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        (!rest.is_empty()).then(|| PathBuf::from(format!(".build-id/{first:02x}/{rest}.debug")))
    }

    fn link_name(&self) -> Option<&'d OsStr> {
        self.link.map(|link| OsStr::from_bytes(link.name))
    }

    /// What the candidate names code with; `None` when it is of another build, or names nothing.
    fn sources_of_same_build(&self, candidate: &File) -> Option<NameSources> {
        let cache = ReadCache::new(candidate);
        let elf = Elf::parse(&cache).ok()?;
        let is_same = match (&self.build_id, elf.build_id()) {
            (Some(wanted), Some(found)) => *wanted == found.id,
            _ => self.link.is_some_and(|link| crc32(candidate).is_ok_and(|crc| crc == link.crc32)),
        };
        let sources = elf.name_sources();
        (is_same && (sources.debug_info || sources.symtab)).then_some(sources)
    }
}

fn crc32(file: &File) -> io::Result<u32> {
    let (mut hasher, mut at) = (crc32fast::Hasher::new(), 0);
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read_at(&mut chunk, at)?;
        if count == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&chunk[..count]);
        at += count as u64;
    }
}
