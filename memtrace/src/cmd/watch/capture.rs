//! Takes the captures of a watch: traces, and writes what came of it.

use std::{
    collections::BTreeSet,
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use memtrace_common::sample::Interval;

use super::{RESERVED_BYTES, hook, stage::Stage, store::Store};
use crate::{
    budget::Change,
    capture::{self, Capture},
    cli::WatchArgs,
    cmd::output::OutputFile,
    model::{
        cost::Cost,
        incident::{Fired, Incident},
    },
    render,
    report::{EndReason, Report, ReportOptions},
    session::{
        self, Choice, GrowthBy, Inspector, Limit, Observer, Options, Outcome, PythonFrames, Room,
        Sample, Sampling, Sink, StackMode,
        watch::{Capturer, Order, Taken, losses},
    },
    sys::preserve::renew,
    watch::window::Overheads,
};

/// Smaller than attach's: all of a watch is to fit into 64 MiB.
const RING_BYTES: u32 = 1 << 20;

/// Likewise.
const MAX_LIVE: usize = 200_000;

/// What is written at once.
const FILE_BUFFER_BYTES: usize = 64 << 10;

/// News of a kill may come later than the end of the process.
const PATIENCE: Duration = Duration::from_millis(600);

/// As for attach --growth.
const GROWTH_INTERVAL: u8 = 19;

/// See the module.
pub struct Captures {
    store: Store,
    exec: Option<String>,
    options: Options,
    /// What the next one takes.
    stage: Stage,
    /// Captures are cut off here, so that one alone keeps to `--max-disk`.
    max_bytes: u64,
    /// Files that were begun and nothing was written to yet.
    begun: Mutex<BTreeSet<PathBuf>>,
}

impl Captures {
    /// Captures as these arguments want them.
    pub fn new(args: &WatchArgs, store: Store) -> Self {
        Self {
            max_bytes: store.allowance().bytes,
            store,
            exec: args.exec.clone(),
            options: options(args),
            stage: Stage::default(),
            begun: Mutex::default(),
        }
    }

    /// Removes what captures that were not waited for have left: files without a byte.
    pub fn remove_empty(&self) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        let is_empty = |path: &&PathBuf| path.metadata().is_ok_and(|it| it.len() == 0);
        for path in begun.iter().filter(is_empty) {
            if let Err(error) = fs::remove_file(path) {
                log::warn!("cannot remove {}: {error}", path.display());
            }
        }
    }

    /// A file for a capture.
    fn begin(&self, prefix: &Path) -> Result<OutputFile> {
        let path = with_suffix(prefix, ".memtrace");
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let file = OutputFile::create(path.clone(), false)?;
        begun.retain(|it| it.exists());
        begun.insert(path);
        Ok(file)
    }

    fn take(&self, order: &Order) -> Result<Taken> {
        let begun = Instant::now();
        let pid = order.pid.get();
        let prefix = self.store.prefix(&command(pid), pid)?;
        let file = self.begin(&prefix)?;
        let mut taken = Taken::default();
        if order.fired.get().is_some() {
            taken.files.extend(self.inspect(order.pid, &prefix));
        }
        let sink = Sink {
            out: Box::new(io::BufWriter::with_capacity(FILE_BUFFER_BYTES, file.writer()?)),
            events: order.fired.get().is_some(),
            max_bytes: self.max_bytes,
        };
        let Order { pid: target, duration, latest_end, .. } = *order;
        let options = Options { pid: target, duration, latest_end, ..self.options.clone() };
        let was_fired = order.fired.get().is_some();
        let mut times = Times { begun, was_fired, open: None, ended: None };
        let prepared = self.stage.take(&options)?;
        let stop = order.stop.clone();
        let traced = session::trace_until(&options, Some(sink), &mut times, stop, prepared);
        let outcome = traced.with_context(|| format!("process {pid} cannot be traced"))?;
        let fired = order.fired.get().map(|it| times.of(it));
        let kept = self.keep_outcome(outcome, (order, fired), file, &prefix)?;
        let Some((mut files, capture)) = kept else { return Ok(Taken::default()) };
        taken.files.append(&mut files);
        taken.overheads = times.overheads();
        taken.losses = losses(&capture);
        self.deliver(&mut taken, &capture.ending.incident, pid);
        Ok(taken)
    }

    /// What is there right now, in case there is no time for more.
    fn inspect(&self, pid: NonZeroU32, prefix: &Path) -> Option<PathBuf> {
        let look = || -> Result<PathBuf> {
            let inspection = Inspector::open(pid)?.look()?;
            let path = with_suffix(prefix, ".inspect.json");
            let file = OutputFile::create(path.clone(), false)?;
            file.write_with(|out| render::json::write_inspection(&inspection, out))?;
            Ok(path)
        };
        look().map_err(|error| log::info!("no inspection of {pid}: {error:#}")).ok()
    }

    /// Nothing, where nothing has happened.
    fn keep_outcome(
        &self,
        outcome: Outcome,
        (order, fired): (&Order, Option<Fired>),
        file: OutputFile,
        prefix: &Path,
    ) -> Result<Option<(Vec<PathBuf>, Capture)>> {
        let has_exited = outcome.has_exited();
        let patience = if has_exited { PATIENCE } else { Duration::ZERO };
        let oom_kill = order.kills.of(order.pid.get(), patience);
        let incident = Incident { fired, oom_kill };
        if incident.is_nothing() {
            return Ok(None);
        }
        let (mut capture, recorder, rest) = outcome.into_capture_and_rest();
        self.stage.keep(rest);
        tell_of_group(&mut capture, order);
        capture.ending.incident = incident;
        let path = file.path().to_owned();
        let recorder = recorder.context("the capture could not be begun")?;
        let written = recorder.finish(capture.clone());
        // Also one that is cut can be read.
        file.keep()?;
        written.with_context(|| {
            format!("cannot write {}; it can be read up to there", path.display())
        })?;
        let mut files = vec![path];
        files.extend(draw(&capture, prefix));
        Ok(Some((files, capture)))
    }

    fn deliver(&self, taken: &mut Taken, incident: &Incident, pid: u32) {
        taken.removed = self.store.tidy();
        let is_capture = |it: &&PathBuf| it.extension().is_some_and(|it| it == "memtrace");
        if let (Some(command), Some(path)) = (&self.exec, taken.files.iter().find(is_capture)) {
            hook::start(command, path, pid, incident);
        }
    }

    fn keep_record(&self, capture: &Capture) -> Result<Taken> {
        let target = &capture.ending.target;
        let prefix = self.store.prefix(&target.command, target.pid)?;
        let file = self.begin(&prefix)?;
        let path = file.path().to_owned();
        file.write_with(|out| {
            capture::Writer::new(out, &capture.header)?.finish(capture).map(drop)
        })?;
        let mut taken = Taken { files: vec![path], ..Taken::default() };
        self.deliver(&mut taken, &capture.ending.incident, target.pid);
        Ok(taken)
    }
}

impl Capturer for Captures {
    fn prepare(&self, pid: NonZeroU32) -> Result<(), String> {
        let options = Options { pid, ..self.options.clone() };
        self.stage.prepare(&options).map_err(|error| format!("{error:#}"))
    }

    fn prepare_next(&self) -> Result<bool, String> {
        self.stage.prepare_next(&self.options).map_err(|error| format!("{error:#}"))
    }

    fn hurry(&self) {
        self.stage.hurry();
    }

    fn capture(&self, order: &Order) -> Result<Taken, String> {
        let taken = self.take(order).map_err(|error| format!("{error:#}"));
        renew(RESERVED_BYTES);
        taken
    }

    fn keep(&self, capture: Capture) -> Result<Taken, String> {
        self.keep_record(&capture).map_err(|error| format!("{error:#}"))
    }
}

fn options(args: &WatchArgs) -> Options {
    Options {
        pid: NonZeroU32::MIN,
        more_pids: Vec::new(),
        follow_forks: false,
        from_start: false,
        duration: None,
        latest_end: None,
        ring_bytes: RING_BYTES,
        room: Room::Scarce,
        max_live: MAX_LIVE,
        stacks: StackMode::Tables,
        pymalloc: false,
        python: PythonFrames::Merged,
        debug_dirs: Vec::new(),
        allocator_symbols: Vec::new(),
        debug_log: false,
        ignore_hazards: false,
        reset_peak: false,
        walk: true,
        sampling: match args.max_overhead.0 {
            Some(_) => Sampling::Variable { interval: Interval::MAX, blocks: MAX_LIVE },
            None => Sampling::Exact,
        },
        limit: Limit { max_overhead: args.max_overhead.0, choice: Choice::Any },
        growth: args.growth.then(|| Interval::from_exponent(GROWTH_INTERVAL)),
        growth_by: GrowthBy::Auto,
        perf_event_links: false,
        min_age_ns: 0,
        command_line: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
    }
}

/// The group outlives its process, and has the true peak.
fn tell_of_group(capture: &mut Capture, order: &Order) {
    let usage = order.group.as_ref().and_then(|group| group.usage().ok().flatten());
    if let Some(usage) = usage {
        capture.timeline.cgroup_peak_bytes =
            usage.peak_bytes.or(capture.timeline.cgroup_peak_bytes);
        capture.ending.rss.limit_bytes = usage.limit_bytes.or(capture.ending.rss.limit_bytes);
    }
}

/// A picture that cannot be drawn does not cost the capture.
fn draw(capture: &Capture, prefix: &Path) -> Option<PathBuf> {
    let path = with_suffix(prefix, ".svg");
    let draw = || -> Result<()> {
        let report = Report::of(capture, ReportOptions::default());
        let mut svg = Vec::new();
        render::flamegraph::write(&report, &mut svg)?;
        OutputFile::create(path.clone(), false)?.write(&svg)
    };
    match draw() {
        Ok(()) => Some(path),
        Err(error) => {
            log::warn!("no flamegraph: {error:#}");
            None
        }
    }
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

fn command(pid: u32) -> String {
    crate::sys::procfs::ProcFs::new("/proc").command(pid).unwrap_or_default()
}

/// When what happened.
struct Times {
    begun: Instant,
    /// It began with a firing.
    was_fired: bool,
    open: Option<Instant>,
    ended: Option<Instant>,
}

impl Times {
    /// The firing, with how long it took until all was armed; not of a trace that went on before.
    fn of(&self, fired: &Fired) -> Fired {
        let armed_after = self.open.filter(|_| self.was_fired).map(|open| open - self.begun);
        let armed_after_ns = armed_after.map(|it| it.as_nanos() as u64);
        Fired { armed_after_ns, ..fired.clone() }
    }

    fn overheads(&self) -> Option<Overheads> {
        let (open, ended) = (self.open?, self.ended?);
        Some(Overheads { attach: open - self.begun, finish: ended.elapsed() })
    }
}

impl Observer for Times {
    fn expected(&mut self, _: &Cost) {}
    fn changed(&mut self, _: &Change) {}
    fn tracing(&mut self, _: &str, _: usize, _: u64) {
        self.open = Some(Instant::now());
    }
    fn followed(&mut self, _: &str, _: Option<u64>) {}
    fn sample(&mut self, _: &Sample) {}
    fn ended(&mut self, _: EndReason) {
        self.ended = Some(Instant::now());
    }
    fn naming(&mut self, _: usize) {}
}
