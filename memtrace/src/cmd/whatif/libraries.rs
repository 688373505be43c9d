//! Where allocators are that are libraries of their own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::whatif::variant::LIBRARIES;

/// Where Linux distributions have them, the multiarch directories of Debian first.
const DIRECTORIES: [&str; 8] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/lib64",
    "/usr/lib",
    "/lib64",
    "/lib",
];

/// Where `ldconfig` is told of more.
const CONFIGURATION: &str = "/etc/ld.so.conf.d";

/// Those that were given and those that are known.
pub struct Libraries {
    given: Vec<(String, PathBuf)>,
    directories: Vec<PathBuf>,
}

impl Libraries {
    /// With those that were given.
    ///
    /// # Errors
    /// When one of them is not there.
    pub fn new(given: &[(String, PathBuf)]) -> Result<Self> {
        let mut known = Vec::new();
        for (name, path) in given {
            match fs::canonicalize(path) {
                Ok(path) if path.is_file() => known.push((name.clone(), path)),
                _ => bail!("there is no library {} for --lib {name}", path.display()),
            }
        }
        Ok(Self { given: known, directories: directories() })
    }

    /// Whether the name means something.
    pub fn knows(&self, name: &str) -> bool {
        self.given.iter().any(|it| it.0 == name) || LIBRARIES.iter().any(|it| it.name == name)
    }

    /// The file; `None` where it is not on this machine.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        if let Some((_, path)) = self.given.iter().find(|it| it.0 == name) {
            return Some(path.clone());
        }
        let library = LIBRARIES.iter().find(|it| it.name == name)?;
        let mut files = library
            .files
            .iter()
            .flat_map(|file| self.directories.iter().map(move |directory| directory.join(file)));
        files.find(|path| path.is_file())
    }

    /// Which package of Debian's has it.
    pub fn package(&self, name: &str) -> String {
        let library = LIBRARIES.iter().find(|it| it.name == name);
        library.map_or(String::new(), |it| it.package.to_owned())
    }
}

fn directories() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = DIRECTORIES.iter().map(PathBuf::from).collect();
    for entry in fs::read_dir(CONFIGURATION).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let lines = text.lines().map(str::trim).filter(|line| line.starts_with('/'));
        directories.extend(lines.map(|line| Path::new(line).to_owned()));
    }
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_given_goes_before_one_that_is_known() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let given = [("jemalloc".to_owned(), file.path().to_owned())];
        let libraries = Libraries::new(&given).unwrap();
        let path = fs::canonicalize(file.path()).unwrap();
        assert_eq!(libraries.path("jemalloc"), Some(path));
        assert!(libraries.knows("mimalloc") && !libraries.knows("hoard"));
        assert_eq!(libraries.package("tcmalloc"), "libtcmalloc-minimal4");
    }

    #[test]
    fn a_library_that_is_not_there_is_refused() {
        let given = [("x".to_owned(), PathBuf::from("/nowhere/libx.so"))];
        assert!(Libraries::new(&given).err().unwrap().to_string().contains("/nowhere/libx.so"));
    }
}
