//! What `memtrace watch` takes while nothing happens: over 200 idle processes of one control group,
//! and over as many by their name.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    Setup,
    process::Process,
    results::{Requirement, Results, Unit},
    usage::{cpu_seconds, peak_bytes, rss_bytes},
};

const PROCESSES: usize = 200;

/// As the kernel has it, and nothing else on the machine is called.
const NAME: &str = "memtrace-idle";

const MOST_CPU: Requirement = Requirement::MedianAtMost(0.5);
const MOST_RSS: Requirement = Requirement::AllBelow((64 << 20) as f64);
/// Of its RSS, from the first minute to the last.
const MOST_GROWTH: Requirement = Requirement::AllBelow((1 << 20) as f64);

/// Time in which a watch begins.
const SETTLE: Duration = Duration::from_secs(5);

/// Measures, and adds the rows.
pub fn measure(setup: &Setup, results: &mut Results) -> Result<()> {
    let (windows, window) = if setup.quick { (6, 10) } else { (10, 60) };
    let crowd = Crowd::start(&setup.targets)?;
    let subjects = [
        (format!("{PROCESSES} idle processes in a control group"), "--cgroup", crowd.group.name()),
        (format!("{PROCESSES} idle processes by their name"), "--comm", NAME.to_owned()),
    ];
    for (about, option, subject) in subjects {
        eprintln!("bench: watch of {about}, {} s", windows * window);
        let watch = Watch::start(setup, option, &subject)?;
        let samples = watch.samples(windows, Duration::from_secs(window))?;
        let group = format!("memtrace watch over {about} for {} min", windows * window / 60);
        samples.add_to(&group, results);
    }
    Ok(())
}

/// The idle processes.
struct Crowd {
    // In this order: a group with processes in it is not removed.
    _processes: Vec<Process>,
    group: Group,
}

impl Crowd {
    fn start(targets: &Path) -> Result<Self> {
        let program = targets.join(NAME);
        fs::copy("/bin/sleep", &program).context("no /bin/sleep")?;
        let group = Group::make()?;
        let start = |_| {
            let process = Process::start(Command::new(&program).arg("1d").stdin(Stdio::null()))?;
            group.take(process.pid())?;
            Ok(process)
        };
        let processes = (0..PROCESSES).map(start).collect::<Result<_>>()?;
        Ok(Self { _processes: processes, group })
    }
}

/// A control group without a limit, in either hierarchy.
struct Group(PathBuf);

impl Group {
    fn make() -> Result<Self> {
        let old = Path::new("/sys/fs/cgroup/memory");
        let root = if old.exists() { old } else { Path::new("/sys/fs/cgroup") };
        let directory = root.join(format!("{NAME}-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self(directory))
    }

    /// As in `/proc/PID/cgroup`.
    fn name(&self) -> String {
        let name = self.0.file_name().unwrap_or_default();
        format!("/{}", name.to_string_lossy())
    }

    fn take(&self, pid: u32) -> Result<()> {
        Ok(fs::write(self.0.join("cgroup.procs"), pid.to_string())?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let begun = Instant::now();
        // Its processes may still be on their way out.
        while fs::remove_dir(&self.0).is_err() && begun.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A memtrace that watches.
struct Watch(Process);

impl Watch {
    fn start(setup: &Setup, option: &str, subject: &str) -> Result<Self> {
        let mut command = Command::new(&setup.memtrace);
        command.args(["watch", "--json", option, subject, "--when", "rss>90%", "-o"]);
        command.arg(&setup.targets).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(command.stderr(Stdio::null()))?;
        let output = BufReader::new(process.take_stdout()?);
        let (sender, receiver) = std::sync::mpsc::channel();
        // It reads to the end, so that the watch never waits for its reader.
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line.contains("\"watching\""));
            }
        });
        loop {
            match receiver.recv_timeout(Duration::from_secs(30)) {
                Ok(true) => return Ok(Self(process)),
                Ok(false) => {}
                Err(_) => bail!("the watch did not begin"),
            }
        }
    }

    fn samples(mut self, windows: u64, window: Duration) -> Result<Samples> {
        let pid = self.0.pid();
        thread::sleep(SETTLE);
        let begin_bytes = rss_bytes(pid)?;
        let mut cpu_percent = Vec::new();
        for _ in 0..windows {
            let (before, begun) = (cpu_seconds(pid)?, Instant::now());
            thread::sleep(window);
            let took = cpu_seconds(pid)? - before;
            cpu_percent.push(100.0 * took / begun.elapsed().as_secs_f64());
        }
        if !self.0.is_alive() {
            bail!("the watch ended while nothing happened");
        }
        let growth_bytes = (rss_bytes(pid)? - begin_bytes).max(0.0);
        Ok(Samples { cpu_percent, growth_bytes, peak_bytes: peak_bytes(pid)? })
    }
}

struct Samples {
    /// Of one CPU, by window.
    cpu_percent: Vec<f64>,
    growth_bytes: f64,
    peak_bytes: f64,
}

impl Samples {
    fn add_to(&self, group: &str, results: &mut Results) {
        let cpu = "CPU time, of one CPU";
        results.add(group, cpu, Unit::Percent, &self.cpu_percent, Some(MOST_CPU));
        results.add(group, "peak RSS", Unit::Bytes, &[self.peak_bytes], Some(MOST_RSS));
        let growth = "growth of its RSS";
        results.add(group, growth, Unit::Bytes, &[self.growth_bytes], Some(MOST_GROWTH));
    }
}
