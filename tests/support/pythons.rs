//! The Pythons that tests run on.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

pub use xtask::pythons::Origin;

/// How many minor versions "each Python" must be at least.
const MINOR_VERSIONS: usize = 3;

/// A CPython, and what tests know of it.
#[derive(Clone, Debug)]
pub struct Python {
    inner: xtask::pythons::Python,
    numpy: Option<PathBuf>,
}

/// Every CPython here that memtrace knows: the system's, pyenv's, other Debian suites'. Panics
/// when there are fewer than three minor versions: `cargo xtask setup` gets them.
pub fn pythons() -> &'static [Python] {
    static PYTHONS: OnceLock<Vec<Python>> = OnceLock::new();
    PYTHONS.get_or_init(|| {
        let found: Vec<_> =
            xtask::pythons::find(&workspace()).into_iter().map(Python::of).collect();
        let minors: BTreeSet<u32> = found.iter().map(Python::minor).collect();
        assert!(
            minors.len() >= MINOR_VERSIONS,
            "only Python 3.{minors:?} are here: `cargo xtask setup` says why"
        );
        found
    })
}

/// The system's own Python, for what one Python is enough to show.
pub fn system() -> &'static Python {
    let system = pythons().iter().find(|python| python.origin() == Origin::System);
    system.expect("python3 is a CPython that memtrace knows")
}

impl Python {
    fn of(inner: xtask::pythons::Python) -> Self {
        let numpy = Some(inner.wheels(&workspace(), "numpy")).filter(|it| it.is_dir());
        Self { inner, numpy }
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The minor version of Python 3.
    pub fn minor(&self) -> u32 {
        self.inner.version.1
    }

    /// The version as `python --version` has it, without what follows the number.
    pub fn version(&self) -> String {
        let (major, minor, micro) = self.inner.version;
        format!("{major}.{minor}.{micro}")
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        self.inner.origin
    }

    /// Its code is in a `libpython`, not in the executable.
    pub fn is_shared(&self) -> bool {
        let of_debian = self.origin() == Origin::Suite || self.path().starts_with("/usr/bin");
        self.inner.shared && !of_debian
    }

    /// numpy can be imported.
    pub fn has_numpy(&self) -> bool {
        self.numpy.is_some()
    }

    /// Frames have qualified names, as in `Cache.load`; older ones have `load`.
    pub fn has_qualified_names(&self) -> bool {
        self.minor() >= 11
    }

    /// This Python without packages, unbuffered, writing no `.pyc` files (the tests run as root).
    pub fn command(&self) -> Command {
        self.command_at(self.path())
    }

    /// The same for a copy of it.
    pub fn command_at(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.args(["-B", "-s", "-u"]).env_remove("PYTHONHOME").env_remove("PYTHONPATH");
        command
    }

    /// This Python with numpy, if it has it.
    pub fn command_with_numpy(&self) -> Command {
        self.command_with(self.numpy.as_deref())
    }

    /// This Python with packages that setup got for it. Panics when they are not there.
    pub fn command_with_package(&self, package: &str) -> Command {
        let directory = self.package(package);
        self.command_with(Some(&directory))
    }

    /// Where setup put a package for this Python. Panics when it is not there.
    pub fn package(&self, package: &str) -> PathBuf {
        let directory = self.inner.wheels(&workspace(), package);
        assert!(directory.is_dir(), "{directory:?} is not here: `cargo xtask setup` says why");
        directory
    }

    fn command_with(&self, packages: Option<&Path>) -> Command {
        let mut command = self.command();
        if let Some(packages) = packages {
            command.env("PYTHONPATH", packages);
        }
        command
    }
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
