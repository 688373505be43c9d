//! Watches processes and control groups until something fires, and has captures taken then. What a
//! capture is and where it goes is the [`Capturer`]'s.

mod clock;
mod inside;
mod job;
mod kills;
mod looking;
mod member;
mod record;
mod run;
mod subject;
mod target;

use std::{collections::BTreeMap, io, num::NonZeroU32, path::PathBuf, time::Duration};

use thiserror::Error;

pub use self::{
    job::{Capturer, Order, Taken},
    kills::Kills,
    run::watch,
    subject::Subject,
};
use crate::{
    capture::Capture,
    model::incident::{Fired, OomKill},
    sys::{
        cgroup::{FindError, GroupError},
        pressure::PressureError,
        procfs::ProcError,
    },
    trigger::Condition,
    watch::status::Status,
};

/// What to watch, and what to do.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Whom.
    pub subject: Subject,
    /// Any of these fires.
    pub conditions: Vec<Condition>,
    /// How long a capture takes, if there is time.
    pub duration: Duration,
    /// How long nothing fires after a capture.
    pub cool_down: Duration,
    /// End after the first capture.
    pub once: bool,
    /// Trace from the start, so that a kill's capture has sites.
    pub follow: bool,
    /// How often to tell the state.
    pub status_every: Duration,
    /// Tell it after each look, too.
    pub tell_looks: bool,
    /// What was typed, for captures that are made here.
    pub command_line: Vec<String>,
}

/// Why nothing is watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// The control group cannot.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// There is none.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A condition is on what this kernel does not measure.
    #[error(transparent)]
    Pressure(#[from] PressureError),
    /// A condition is on what the group does not tell.
    #[error("{condition}: the memory of control group {group} is not counted here")]
    NotCounted {
        /// As typed.
        condition: String,
        /// As given.
        group: String,
    },
    /// The pid is memtrace's own.
    #[error("{0} is memtrace itself; give another process")]
    Own(u32),
    /// memtrace itself cannot run.
    #[error("cannot set up memtrace's event loop: {0}")]
    Runtime(io::Error),
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// With `once`, after a capture.
    Fired,
    /// What was watched has ended, and nothing of it can come again.
    Ended,
    /// By a signal.
    Interrupted,
}

/// What happens in a watch.
pub enum Event<'e> {
    /// All is set up: whom it watches now, and whether kills are announced (else the control group's
    /// counter tells them, why not).
    Watching {
        /// Names, with pids where they are processes.
        targets: Vec<String>,
        /// Why kills are not announced by the kernel.
        no_announcements: Option<String>,
    },
    /// A process or group has come.
    Appeared(&'e str),
    /// It has gone.
    Gone(&'e str),
    /// A capture of this process can begin in a moment: what it takes was made ready, in so long.
    Ready {
        /// The process; `None` for whoever comes next.
        pid: Option<u32>,
        /// How long it took; next to nothing where it was ready but for what has been loaded since.
        duration: Duration,
        /// For the first time, or again.
        is_news: bool,
    },
    /// It takes longer, and why.
    NotReady {
        /// The process; `None` for whoever comes next.
        pid: Option<u32>,
        /// A clause.
        reason: &'e str,
    },
    /// A condition is met, and a capture of this process begins, which may take so long.
    Fired(&'e Fired, u32, Duration),
    /// A condition is met, but nobody can be traced.
    NobodyToTrace(&'e Fired),
    /// A capture is on disk.
    Taken(&'e [PathBuf]),
    /// One could not be taken.
    Failed(&'e str),
    /// The kernel killed a process of those that are watched.
    Killed(&'e OomKill),
    /// The clock jumped, or memtrace did not get to run.
    Discontinuity(&'e str),
    /// From time to time.
    Status(&'e Status),
    /// The same after each look, where that was asked for.
    Looked(&'e Status),
}

/// Is told what happens.
pub trait WatchObserver {
    /// See [`Event`].
    fn happened(&mut self, event: Event<'_>);
}

/// A process that can be traced.
fn nonzero(pid: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(pid).filter(|pid| pid.get() != std::process::id())
}

/// Losses of a capture by their names.
pub fn losses(capture: &Capture) -> BTreeMap<String, u64> {
    capture.ending.losses.iter().map(|loss| (loss.name.clone(), loss.count)).collect()
}
