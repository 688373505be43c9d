//! A capture that is being taken, on a thread of its own: the watch goes on meanwhile.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use super::kills::Kills;
use crate::{
    capture::Capture, model::incident::Fired, session::Stop, sys::cgroup::Group,
    watch::window::Overheads,
};

/// What to capture.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whom.
    pub pid: NonZeroU32,
    /// What fired. Of a trace that goes on until then: it is empty up to there, and if it is empty at
    /// the end and nobody was killed, nothing is to be kept.
    pub fired: Arc<OnceLock<Fired>>,
    /// How long; `None` until it is stopped.
    pub duration: Option<Duration>,
    /// When the window has to end, so that the capture is written before the limit is reached.
    pub latest_end: Option<Instant>,
    /// Ends it.
    pub stop: Stop,
    /// Whether it was killed.
    pub kills: Kills,
    /// The control group that its memory is charged to, whose marks outlive it.
    pub group: Option<Group>,
}

/// What was captured.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// What is on disk; empty where nothing was to be kept.
    pub files: Vec<PathBuf>,
    /// Captures that had to go for it.
    pub removed: u64,
    /// What it took, for the next time.
    pub overheads: Option<Overheads>,
    /// What is missing in it.
    pub losses: BTreeMap<String, u64>,
}

/// Takes captures. Called from several threads.
pub trait Capturer: Send + Sync {
    /// Makes ready what a capture of this process takes, as far as it is not; the next capture takes it.
    ///
    /// # Errors
    /// A sentence for people.
    fn prepare(&self, pid: NonZeroU32) -> Result<(), String>;

    /// Makes ready a trace of whoever comes after the one that was traced last; not where somebody has come
    /// by now.
    ///
    /// # Errors
    /// As above.
    fn prepare_next(&self) -> Result<bool, String>;

    /// What is being made ready may be needed soon.
    fn hurry(&self);

    /// Traces and writes.
    ///
    /// # Errors
    /// A sentence for people.
    fn capture(&self, order: &Order) -> Result<Taken, String>;

    /// Writes what was known of a process that was killed.
    ///
    /// # Errors
    /// As above.
    fn keep(&self, capture: Capture) -> Result<Taken, String>;
}

/// A job has come to its end.
pub(super) struct Done {
    /// Of the target with this number.
    pub(super) target: u64,
    /// It was a capture of this process, and no record of one.
    pub(super) pid: Option<u32>,
    pub(super) result: Result<Taken, String>,
}

/// A capture under way.
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) fired: Arc<OnceLock<Fired>>,
    pub(super) stop: Stop,
    /// It goes on until something fires.
    pub(super) is_rolling: bool,
}

/// Starts threads, and is told by them.
#[derive(Clone)]
pub(super) struct Jobs {
    pub(super) capturer: Arc<dyn Capturer>,
    pub(super) done: UnboundedSender<Done>,
}

impl Jobs {
    pub(super) fn capture(&self, target: u64, order: Order) -> io::Result<Running> {
        let running = Running {
            pid: order.pid.get(),
            fired: order.fired.clone(),
            stop: order.stop.clone(),
            is_rolling: order.duration.is_none(),
        };
        let pid = Some(running.pid);
        self.start(target, pid, move |capturer| capturer.capture(&order))?;
        Ok(running)
    }

    pub(super) fn keep(&self, target: u64, capture: Capture) -> io::Result<()> {
        self.start(target, None, move |capturer| capturer.keep(capture))
    }

    fn start(
        &self,
        target: u64,
        pid: Option<u32>,
        work: impl FnOnce(&dyn Capturer) -> Result<Taken, String> + Send + 'static,
    ) -> io::Result<()> {
        let Self { capturer, done } = self.clone();
        let run = move || {
            let result = work(&*capturer);
            // Nobody is there any more to be told.
            let _ = done.send(Done { target, pid, result });
        };
        std::thread::Builder::new().name("capture".to_owned()).spawn(run).map(drop)
    }
}
