//! Other releases of glibc than the system's, in the roots that `cargo xtask setup` unpacks, and
//! how a C program is compiled for one: it then names the root's dynamic linker and libraries.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use crate::pythons::ROOTS;

/// A root with a glibc and its headers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Glibc {
    /// Its release, such as `2.31`.
    pub version: String,
    /// The root directory.
    pub root: PathBuf,
    /// Its dynamic linker, an absolute path in the root.
    pub interpreter: PathBuf,
}

impl Glibc {
    /// The glibc of an unpacked root, if it is whole.
    pub fn at(root: &Path) -> Option<Self> {
        let root = root.canonicalize().ok()?;
        let interpreter = libraries(&root).iter().find_map(|directory| linker(directory))?;
        let version = version(&fs::read_to_string(root.join("usr/include/features.h")).ok()?)?;
        Some(Self { version, root, interpreter })
    }

    /// Where its libraries are, in the order to be searched.
    pub fn libraries(&self) -> Vec<PathBuf> {
        libraries(&self.root)
    }

    /// The search path of a program that is to use these libraries, as `DT_RPATH` has it.
    pub fn rpath(&self) -> OsString {
        let directories = self.libraries();
        let directories: Vec<_> = directories.iter().map(|it| it.as_os_str()).collect();
        directories.join(":".as_ref())
    }

    /// Options for the C compiler. `DT_RPATH`, not `DT_RUNPATH`, so that it holds for the
    /// libraries of libraries, too.
    pub fn flags(&self) -> Vec<OsString> {
        let option = |name: &str, value: OsString| {
            let mut option = OsString::from(name);
            option.push(value);
            option
        };
        // Debian's compiler looks for libc and its start files beside itself, whatever the
        // sysroot, unless it is sent elsewhere first.
        let development = libraries(&self.root).pop().unwrap_or_default();
        let search = self.libraries().into_iter().map(|it| option("-L", it.into()));
        let mut flags = vec![
            option("--sysroot=", self.root.clone().into()),
            option("-B", development.into()),
            option("-Wl,--dynamic-linker=", self.interpreter.clone().into()),
            option("-Wl,--disable-new-dtags,-rpath,", self.rpath()),
        ];
        flags.extend(search);
        flags
    }
}

/// Every glibc of an unpacked root, the oldest first.
pub fn find(workspace: &Path) -> Vec<Glibc> {
    let roots = fs::read_dir(workspace.join(ROOTS)).into_iter().flatten().flatten();
    let mut found: Vec<_> = roots.filter_map(|root| Glibc::at(&root.path())).collect();
    found.sort();
    found
}

fn libraries(root: &Path) -> Vec<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let directories = ["lib", "usr/lib"].map(|directory| root.join(directory).join(&triplet));
    directories.into_iter().filter(|directory| directory.is_dir()).collect()
}

fn linker(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten();
    let is_linker = |name: &OsString| name.to_string_lossy().starts_with("ld-linux");
    let name = entries.map(|entry| entry.file_name()).find(is_linker)?;
    Some(directory.join(name))
}

/// The release that `features.h` states.
fn version(features: &str) -> Option<String> {
    let number = |name: &str| {
        let line = features.lines().find(|line| line.starts_with("#define") && line.contains(name));
        Some(line?.split_whitespace().nth(2)?.to_owned())
    };
    Some(format!("{}.{}", number("__GLIBC__")?, number("__GLIBC_MINOR__")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_one_that_the_headers_state() {
        let features = "/* x */\n#define\t__GLIBC__\t2\n#define\t__GLIBC_MINOR__\t31\n";
        assert_eq!(version(features).as_deref(), Some("2.31"));
        assert_eq!(version("#define __GLIBC__ 2\n"), None);
    }

    #[test]
    fn an_empty_root_has_no_glibc() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Glibc::at(directory.path()), None);
    }
}
