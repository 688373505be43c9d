//! What the benchmark traces: programs compiled from memtrace/benches/overhead, scripts beside
//! them, and interpreters and compilers that the system may have.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use xtask::test_program;

use crate::shell::{output, root, run, say, succeeds};

const SOURCES: &str = "memtrace/benches/overhead";
const COMPILED: [&str; 4] =
    ["pairs.c", "targets/walk.c", "targets/threads.c", "targets/throws.cpp"];
const SCRIPTS: [&str; 6] = [
    "targets/http_service.py",
    "targets/leak.bt",
    "targets/service.py",
    "targets/work.pl",
    "targets/work.py",
    "targets/work.sql",
];
/// Of the tests' programs.
const TEST_PROGRAMS: &str = "tests/programs/python";
const TEST_SCRIPTS: [&str; 2] = ["pusher.py", "talk.py"];
const RUST: &str = "targets/collections.rs";
/// What GCC's compiler proper is given, with its headers in it.
const HEADERS: &str = "targets/headers.cpp";

/// Brings the targets into a directory.
pub fn prepare(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let sources = root().join(SOURCES);
    let in_directory =
        |source: &str| directory.join(Path::new(source).file_name().unwrap_or_default());
    for source in COMPILED {
        test_program::compile(&sources.join(source), &in_directory(source).with_extension(""))?;
    }
    for script in SCRIPTS {
        fs::copy(sources.join(script), in_directory(script)).context(script)?;
    }
    for script in TEST_SCRIPTS {
        let source = root().join(TEST_PROGRAMS).join(script);
        fs::copy(source, directory.join(script)).context(script)?;
    }
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    run(Command::new(rustc)
        .args(["-O", "--edition", "2024", "-o"])
        .arg(in_directory(RUST).with_extension(""))
        .arg(sources.join(RUST)))?;
    let preprocessed = in_directory(HEADERS).with_extension("ii");
    run(Command::new("c++").arg("-E").arg("-o").arg(preprocessed).arg(sources.join(HEADERS)))
}

/// GCC's C++ compiler proper, if `c++` is GCC.
pub fn cc1plus() -> Option<PathBuf> {
    let path = output(Command::new("c++").arg("-print-prog-name=cc1plus")).ok()?;
    let path = PathBuf::from(path.trim());
    path.is_absolute().then_some(path)
}

/// Pythons that can import numpy: the system's, and one that was built from source, as pyenv does,
/// if there is any. Where numpy is missing it is installed into environments of our own.
pub fn pythons(directory: &Path) -> Vec<PathBuf> {
    let system = Some(PathBuf::from("/usr/bin/python3"));
    [(system, "venv"), (built_by_pyenv(), "venv-pyenv")]
        .into_iter()
        .filter_map(|(python, environment)| Some((python?, directory.join(environment))))
        .filter_map(|(python, environment)| match with_numpy(&python, &environment) {
            Ok(python) => Some(python),
            Err(error) => {
                say(format_args!("nothing is measured on {}: {error:#}", python.display()));
                None
            }
        })
        .collect()
}

/// From PyPI.
const SERVICES_NEED: [&str; 5] = ["numpy", "memray", "pyperformance", "fastapi", "uvicorn"];

/// What the Python services need.
pub struct Services {
    /// Can import numpy, memray, FastAPI and uvicorn.
    pub python: PathBuf,
    /// Where pyperformance's benchmarks are.
    pub pyperformance: PathBuf,
}

/// An environment of the system's Python for the services.
pub fn services(directory: &Path) -> Result<Services> {
    const BENCHMARKS: &str = "import pathlib, pyperformance, numpy, memray, fastapi, uvicorn; \
        print(pathlib.Path(pyperformance.__file__).parent / 'data-files/benchmarks')";
    let environment = directory.join("venv-services");
    let python = environment.join("bin/python3");
    let ask = || {
        let mut ask = Command::new(&python);
        ask.args(["-c", BENCHMARKS]);
        ask
    };
    if !succeeds(&mut ask()) {
        say(format_args!("installing {} into {}", SERVICES_NEED.join(", "), environment.display()));
        output(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        output(
            Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(SERVICES_NEED),
        )?;
    }
    let pyperformance = PathBuf::from(output(&mut ask())?.trim());
    Ok(Services { python, pyperformance })
}

fn with_numpy(python: &Path, environment: &Path) -> Result<PathBuf> {
    let own = environment.join("bin/python3");
    if !can_import_numpy(&own) {
        say(format_args!("installing numpy and pandas into {}", environment.display()));
        output(Command::new(python).args(["-m", "venv", "--clear"]).arg(environment))?;
        let pip = ["-m", "pip", "install", "--quiet", "numpy", "pandas"];
        output(Command::new(&own).args(pip))?;
    }
    ensure!(can_import_numpy(&own), "it cannot import numpy");
    Ok(own)
}

fn can_import_numpy(python: &Path) -> bool {
    succeeds(Command::new(python).args(["-c", "import numpy"]))
}

/// The newest CPython 3 that pyenv has built, by the number of its minor version.
fn built_by_pyenv() -> Option<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(env::home_dir()?.join(".pyenv")))?;
    let versions = fs::read_dir(root.join("versions")).ok()?.filter_map(Result::ok);
    versions
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let minor: u32 = name.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
            Some((minor, entry.path().join("bin/python3")))
        })
        .filter(|(_, python)| python.is_file())
        .max()
        .map(|(_, python)| python)
}
