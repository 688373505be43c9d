//! A real Prometheus, and its promtool.

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http::{escaped, free_address, get, try_get},
    running::Running,
    wait_until,
};

/// A server that scrapes one target each second.
pub struct Prometheus {
    address: SocketAddr,
    _running: Running,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it, and waits until it is ready.
    pub fn scraping(target: SocketAddr) -> Self {
        let (address, directory) = (free_address(), TempDir::new().unwrap());
        let settings = directory.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs:\n\
             - job_name: memtrace\n  static_configs:\n  - targets: ['{target}']\n"
        );
        fs::write(&settings, text).unwrap();
        let program = existing(xtask::readers::prometheus(&workspace()));
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", settings.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
        command.arg(format!("--web.listen-address={address}"));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(&mut command);
        let is_ready = || try_get(address, "/-/ready").is_some_and(|it| it.status == 200);
        wait_until("Prometheus is ready", is_ready);
        Self { address, _running: running, _directory: directory }
    }

    /// The values of what an expression selects; panics when it is none.
    pub fn query(&self, expression: &str) -> Vec<f64> {
        let path = format!("/api/v1/query?query={}", escaped(expression));
        let answer: Value = serde_json::from_str(&get(self.address, &path)).unwrap();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let series = answer["data"]["result"].as_array().unwrap().iter();
        series.map(|it| it["value"][1].as_str().unwrap().parse().unwrap()).collect()
    }

    /// Waits until an expression selects a value of which this is true.
    pub fn wait_for(&self, expression: &str, is_right: impl Fn(f64) -> bool) {
        let mut last = Vec::new();
        let what = format!("{expression} is right");
        let start = std::time::Instant::now();
        wait_until(&what, || {
            last = self.query(expression);
            let late = start.elapsed() > crate::TIMEOUT / 2;
            assert!(!late, "{expression} is {last:?}");
            last.iter().any(|value| is_right(*value))
        });
    }
}

/// Runs promtool on a text; what it says, and whether it is content.
pub fn promtool(arguments: &[&str], input: &str, directory: &Path) -> (bool, String) {
    let mut command = Command::new(existing(xtask::readers::promtool(&workspace())));
    command.args(arguments).current_dir(directory);
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn existing(program: PathBuf) -> PathBuf {
    assert!(program.is_file(), "{} is not here: `cargo xtask setup` says why", program.display());
    program
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}
