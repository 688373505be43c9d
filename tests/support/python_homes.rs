//! Pythons that are set up in other ways than by a package: virtual environments, copies whose files
//! are taken away, C programs that embed them, containers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::pythons::{Origin, Python};

/// Where the parts of an interpreter are, by its own word.
#[derive(Debug, Deserialize)]
pub struct Parts {
    /// What `PYTHONHOME` would say.
    pub home: PathBuf,
    /// The library with its code; where its code is in the executable, there may be one beside it.
    pub library: Option<PathBuf>,
}

const PARTS: &str = "import json, os, sys, sysconfig; \
    library = os.path.join(*map(sysconfig.get_config_var, ('LIBDIR', 'INSTSONAME'))); \
    there = library if os.path.isfile(library) else None; \
    print(json.dumps({'home': sys.base_prefix, 'library': there}))";

impl Parts {
    /// Asks it.
    pub fn of(python: &Python) -> Self {
        let output = run(python.command().args(["-c", PARTS]));
        serde_json::from_str(&output).unwrap()
    }
}

/// Runs a command to its successful end; what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The Python of a virtual environment in `directory`; a copy of the executable if asked for.
pub fn virtual_environment(python: &Python, directory: &Path, copied: bool) -> Command {
    let how = if copied { "--copies" } else { "--symlinks" };
    run(python.command().args(["-m", "venv", "--without-pip", how]).arg(directory));
    python.command_at(&directory.join("bin/python"))
}

/// A Python whose code is in files of its own.
#[derive(Debug)]
pub struct Copied {
    /// The executable, and the library where there is one.
    pub files: Vec<PathBuf>,
    home: PathBuf,
    directory: PathBuf,
}

impl Copied {
    /// Copies executable and library to `directory`.
    pub fn of(python: &Python, directory: &Path) -> Self {
        let Parts { home, library } = Parts::of(python);
        let library = library.filter(|_| python.is_shared());
        let copy = |file: &Path| {
            let to = directory.join(file.file_name().unwrap());
            fs::copy(file, &to).unwrap();
            to
        };
        let files = [Some(copy(python.path())), library.as_deref().map(copy)];
        let files = files.into_iter().flatten().collect();
        Self { files, home, directory: directory.to_owned() }
    }

    /// Runs it.
    pub fn command(&self, python: &Python) -> Command {
        let mut command = python.command_at(&self.files[0]);
        command.env("PYTHONHOME", &self.home).env("LD_LIBRARY_PATH", &self.directory);
        command
    }
}

/// A C program in `directory` that embeds this Python; `None` where it has no library to link.
pub fn embedder(python: &Python, directory: &Path) -> Option<Command> {
    let Parts { home, library } = Parts::of(python);
    let library = library.filter(|_| python.origin() != Origin::Suite)?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/embed/embedder.c");
    let program = directory.join("worker");
    let mut search_path = std::ffi::OsString::from("-Wl,-rpath,");
    search_path.push(library.parent().unwrap());
    run(Command::new("cc").arg(source).arg("-o").arg(&program).arg(&library).arg(search_path));
    let mut command = Command::new(program);
    command.env("PYTHONHOME", home).env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    Some(command)
}

/// What runs first in a container: makes its root of a Debian suite's files, and has the Python at a
/// path that the host does not have.
const CONTAINER: &str = r#"
root=$1 suite=$2 programs=$3 python=$4
shift 4
mount -t tmpfs tmpfs "$root"
mkdir -p "$root/usr" "$root/opt/app/bin" "$root$programs" "$root/host"
mount --bind "$suite/usr" "$root/usr"
mount --bind "$programs" "$root$programs"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
cp "$python" "$root/opt/app/bin/python3"
cd "$root"
pivot_root . host
exec /opt/app/bin/python3 "$@"
"#;

/// A Python of a Debian suite in a root directory, mount and process namespace of its own, which
/// `directory` is the mount point of. The process is the child of the one that is started.
pub fn container(python: &Python, directory: &Path, programs: &Path) -> Command {
    let suite = python.path().ancestors().nth(3).unwrap();
    // Setup made it run outside of its root; it goes back to how the package has it.
    let original = directory.with_extension("python");
    fs::copy(python.path(), &original).unwrap();
    let linker = ["--set-interpreter", "/lib64/ld-linux-x86-64.so.2", "--remove-rpath"];
    run(Command::new("patchelf").args(linker).arg(&original));
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", CONTAINER, "sh"]);
    command.args([directory, suite, programs, &original]).args(["-B", "-s", "-u"]);
    command.env_remove("PYTHONHOME").env_remove("PYTHONPATH").env("LC_ALL", "C.UTF-8");
    command
}
