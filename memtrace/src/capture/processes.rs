//! Processes that were traced together, and each of them by itself.

use hashbrown::HashSet;
use serde::{Deserialize, Serialize};

use super::{
    Capture, CapturedSite, Ending, Events, EventsKept, Header, KeptEvent, Layouts,
    records::WalksRecord,
};
use crate::model::{
    process::{Inherited, PrivatePages},
    stack::StackId,
    timeline::Timeline,
    trace::Module,
};

/// One of the processes of a window. What a capture of it alone would hold is here, but for stacks,
/// sites and live memory: those are where [`Capture`] has them, and say whose they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapturedProcess {
    /// In the order in which they were attached to, from 0.
    pub number: u8,
    /// The pid of the traced process that forked it, where one did while it was traced.
    pub parent: Option<u32>,
    /// When it was forked, where that was seen; `CLOCK_MONOTONIC`.
    pub forked_ns: Option<u64>,
    /// Known when its window was opened.
    pub header: Header,
    /// Its objects.
    pub modules: Vec<Module>,
    /// How its memory went.
    pub timeline: Timeline,
    /// Walks of its heap.
    pub walks: WalksRecord,
    /// Where everything in its heap lay then; a record of its own in a file.
    #[serde(skip)]
    pub layouts: Layouts,
    /// Known when its window was closed; `None` of a file that ends before.
    pub ending: Option<Ending>,
    /// What became of its events.
    pub events: EventsKept,
    /// How much of its memory was its own and shared when its window was opened.
    pub pages_before: Option<PrivatePages>,
    /// The same at the end.
    pub pages_after: Option<PrivatePages>,
    /// What it got from its parent's traced memory.
    pub inherited: Option<Inherited>,
    /// Index in [`Capture::sites`] of its first site; only in a file.
    pub first_site: u64,
    /// How many sites it has, one after the other; only in a file.
    pub sites: u64,
}

impl CapturedProcess {
    /// Whether it was there until the window was closed.
    pub fn is_alive_at(&self, closed_ns: u64) -> bool {
        use crate::model::trace::EndReason::TargetExited;
        let has_exited = |ending: &Ending| {
            ending.window.ended_by == TargetExited && ending.closed_ns < closed_ns
        };
        !self.ending.as_ref().is_some_and(has_exited)
    }
}

impl Capture {
    /// The process with this pid; of several, the last.
    pub fn process(&self, pid: u32) -> Option<&CapturedProcess> {
        self.processes.iter().rev().find(|process| process.header.target.pid == pid)
    }

    /// One of its processes, as if it had been traced alone.
    pub fn of_process(&self, process: &CapturedProcess) -> Self {
        let is_own: Vec<bool> =
            self.sites.iter().map(|site| site.process == process.number).collect();
        let mut part = Self {
            header: process.header.clone(),
            modules: process.modules.clone(),
            selected: self.selected.clone(),
            sites: kept(&self.sites, &is_own),
            extras: kept(&self.extras, &is_own),
            live: self.live.clone(),
            threads: self.threads.clone(),
            timeline: process.timeline.clone(),
            walks: process.walks.clone().into(),
            layouts: process.layouts.clone(),
            ending: process.ending.clone().unwrap_or_default(),
            events: process.events,
            processes: vec![process.clone()],
            stacks: Vec::new(),
        };
        let places = places(&is_own);
        part.live.retain(|item| is_own.get(item.site as usize) == Some(&true));
        part.live.iter_mut().for_each(|item| item.site = places[item.site as usize]);
        let stacks: HashSet<StackId> = part.sites.iter().filter_map(|site| site.stack).collect();
        part.stacks = self.stacks.iter().filter(|(id, _)| stacks.contains(id)).cloned().collect();
        part
    }

    /// What is known at the end of a site's process.
    pub fn ending_of(&self, site: &CapturedSite) -> &Ending {
        let own = self.processes.iter().find(|process| process.number == site.process);
        let own = own.filter(|_| self.processes.len() > 1).and_then(|it| it.ending.as_ref());
        own.unwrap_or(&self.ending)
    }

    /// What is known at the end of each of its processes.
    pub fn endings(&self) -> Vec<&Ending> {
        match &self.processes[..] {
            [] | [_] => vec![&self.ending],
            several => several.iter().filter_map(|process| process.ending.as_ref()).collect(),
        }
    }

    /// Each of its processes by itself.
    pub fn parts(&self) -> Vec<Self> {
        self.processes.iter().map(|process| self.of_process(process)).collect()
    }
}

fn kept<T: Clone>(items: &[T], is_kept: &[bool]) -> Vec<T> {
    items.iter().zip(is_kept).filter(|(_, kept)| **kept).map(|(item, _)| item.clone()).collect()
}

/// Where each that is kept will be.
fn places(is_kept: &[bool]) -> Vec<u32> {
    let mut next = 0;
    let place = |kept: &bool| {
        let place = next;
        next += u32::from(*kept);
        place
    };
    is_kept.iter().map(place).collect()
}

/// The events of one process.
pub struct OfProcess<'e, E: ?Sized> {
    /// Of all.
    pub events: &'e E,
    /// Its number.
    pub number: u8,
}

impl<E: Events + ?Sized> Events for OfProcess<'_, E> {
    type Error = E::Error;

    fn replay(&self, visit: &mut dyn FnMut(&KeptEvent)) -> Result<(), Self::Error> {
        self.events.replay(&mut |kept| {
            if kept.process == self.number {
                visit(kept);
            }
        })
    }
}
