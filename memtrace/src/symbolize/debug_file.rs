//! Files with debug information that lie apart from the program that they are of: found by build
//! ID or by debug link (GDB manual, "Debugging Information in Separate Files"), and taken only if
//! they are of the very same build.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use object::ReadCache;
use thiserror::Error;

use super::directory::Directory;
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

/// Directories that are searched.
#[derive(Debug, Default)]
pub struct DebugRoots {
    roots: Vec<Directory>,
    /// The target's file system, for debug links next to the object.
    target: Option<Directory>,
}

/// A directory that was given cannot be opened.
#[derive(Debug, Error)]
#[error("--debug-dir {}: {source}; give a directory that holds debug files", path.display())]
pub struct NoDirectory {
    path: PathBuf,
    source: io::Error,
}

impl DebugRoots {
    /// The given directories, then what the target's own file system has (`target_root` is
    /// `/proc/PID/root`), then the standard ones.
    ///
    /// # Errors
    /// When a given directory cannot be opened. The others may be missing.
    pub fn new(given: &[PathBuf], target_root: &Path) -> Result<Self, NoDirectory> {
        let open = |path: &PathBuf| {
            Directory::open(path).map_err(|source| NoDirectory { path: path.clone(), source })
        };
        let mut roots: Vec<_> = given.iter().map(open).collect::<Result<_, _>>()?;
        let target = Directory::open_root(target_root).ok();
        let in_target = target.as_ref().and_then(|root| root.below(IN_TARGET).ok());
        roots.extend(in_target.filter(|root| !root.is(Path::new(STANDARD[0]))));
        roots.extend(
            STANDARD.iter().filter_map(|directory| Directory::open(Path::new(directory)).ok()),
        );
        Ok(Self { roots, target })
    }

    /// The directories of this system, in their order.
    pub fn host_directories(&self) -> impl Iterator<Item = &Path> {
        self.roots.iter().filter(|root| !root.contained).map(|root| root.label.as_path())
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
