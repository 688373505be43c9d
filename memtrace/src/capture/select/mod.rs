//! A part of a capture, as a capture of its own: of some time, of some threads, or with what only the
//! events tell.
//!
//! All events are replayed through the ledger, by the rules of a trace. What was obtained outside of
//! the part is known, but in no books; so that its release is no release of unknown memory.

mod cut;
mod keys;
mod notes;
mod outcome;
mod part;
mod processes;
mod replay;
mod temporary;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use self::replay::NamedThread;
use self::{part::Part, replay::Replay};
use super::{Capture, Events};
use crate::model::size::{count, duration_ns};

/// Which part, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What was obtained earlier than this, since the window's start, is left out.
    pub since_ns: Option<u64>,
    /// What is live is what is live then, since the window's start; what happened later is left out.
    pub until_ns: Option<u64>,
    /// Only what these obtained, by the kernel's ids of the initial pid namespace; all where it is
    /// empty. Whoever frees it.
    pub threads: Vec<u32>,
    /// With each thread's share in each site.
    pub by_thread: bool,
    /// Of these, blocks younger than this are no survivors; `None`: as the capture says.
    pub min_age_ns: Option<u64>,
    /// With what is live at the peak, and what is temporary.
    pub extras: bool,
}

impl Selection {
    /// It is the whole capture, without anything that the events tell.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// All of the capture's sites and all of their time.
    pub fn is_whole(&self) -> bool {
        self.is_of_all_time() && self.threads.is_empty()
    }

    fn is_of_all_time(&self) -> bool {
        self.since_ns.is_none() && self.until_ns.is_none()
    }
}

/// Why there is no such part.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SelectError<E> {
    /// There is nothing to replay.
    #[error(
        "the capture holds no events, only sums of the whole window; trace with --events on to look \
         at a part of it, at its peak, or at its threads"
    )]
    NoEvents,
    /// It ends before it begins.
    #[error("nothing lies between {} and {}: --since must be before --until", duration_ns(*since_ns), duration_ns(*until_ns))]
    Empty {
        /// Since the window's start.
        since_ns: u64,
        /// Since the window's start.
        until_ns: u64,
    },
    /// It begins when all is over.
    #[error("--since is {}, but the window ended after {}", duration_ns(*since_ns), duration_ns(*window_ns))]
    AfterTheEnd {
        /// Since the window's start.
        since_ns: u64,
        /// The window's length.
        window_ns: u64,
    },
    /// None of the threads obtained anything.
    #[error("{}", notes::no_such_thread(wanted, others, *more))]
    NoSuchThread {
        /// The threads that were asked for.
        wanted: Vec<u32>,
        /// Threads that obtained memory in that time, with their names, busiest first.
        others: Vec<NamedThread>,
        /// How many more there are.
        more: u64,
    },
    /// The events cannot be read.
    #[error(transparent)]
    Events(E),
}

/// The part, as if it had been traced alone: sites, sums, what is live, timeline. What is known of the
/// whole only (losses, calls by function, walks of the heap) is kept where it still holds and left
/// out where it does not; notes say what was selected.
///
/// # Errors
/// See [`SelectError`].
pub fn select<E: Events + ?Sized>(
    capture: &Capture,
    events: &E,
    selection: &Selection,
) -> Result<Capture, SelectError<E::Error>> {
    if capture.processes.len() > 1 {
        return processes::select_each(capture, events, selection);
    }
    select_one(capture, events, selection)
}

/// Of a capture of one process.
fn select_one<E: Events + ?Sized>(
    capture: &Capture,
    events: &E,
    selection: &Selection,
) -> Result<Capture, SelectError<E::Error>> {
    let part = Part::of(capture, selection)?;
    if capture.events.kept == 0 && capture.ending.completeness.events > 0 {
        return Err(SelectError::NoEvents);
    }
    let mut replay = Replay::new(capture, selection, part);
    events.replay(&mut |event| replay.visit(event)).map_err(SelectError::Events)?;
    let replayed = replay.finish();
    if let Some((others, more)) = replayed.missed_threads(capture, selection) {
        return Err(SelectError::NoSuchThread { wanted: selection.threads.clone(), others, more });
    }
    let mut selected = if selection.is_whole() {
        outcome::with_extras(capture, &replayed)
    } else {
        cut::cut(outcome::of_part(capture, &replayed), part, &replayed.live_bytes)
    };
    selected.selected.what.extend(notes::what(capture, selection, part));
    selected.selected.is_slice |= !selection.threads.is_empty();
    selected.ending.completeness.notes.extend(notes::notes(capture, selection, part, &replayed));
    Ok(selected)
}

/// `12,345 events`.
fn events(number: u64) -> String {
    format!("{} event{}", count(number), if number == 1 { "" } else { "s" })
}
