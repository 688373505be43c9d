//! The end of a window.

use std::{collections::BTreeMap, time::Instant};

use jiff::Timestamp;
use memtrace_common::loss::KernelCounters;

use super::{
    super::{code::Code, python::Python, recorder::Feed},
    SeenFork, Window,
};
use crate::{
    capture::{CapturedProcess, EventsKept, Header, Layouts},
    ledger::{InheritedHeap, Ledger},
    model::{
        cost::Cost, coverage::Coverage, footprint::RssChanges, room::Room, timeline::Timeline,
    },
    probe::{ring::Ring, target::PlannedObject},
    report::{self, AttachStep, EndReason, Rss},
    sys::{clock, procfs::Process},
};

/// A finished trace, for the report.
pub struct Ending {
    /// The target, as it was at the attach.
    pub process: Process,
    /// What was probed.
    pub objects: Vec<PlannedObject>,
    /// The accounting.
    pub ledger: Ledger,
    /// Names the stacks.
    pub(in crate::session) code: Code,
    /// The target's Python.
    pub(in crate::session) python: Python,
    /// The kernel side's counters.
    pub counters: KernelCounters,
    /// Records that could not be decoded.
    pub undecodable: u64,
    /// Stacks that were sent but did not fit into the table.
    pub unkept_stacks: u64,
    /// RSS from start to end.
    pub rss: Rss,
    /// The same in between.
    pub timeline: Timeline,
    /// The heap at both ends.
    pub walks: report::Walks,
    /// Where everything in it lay.
    pub layouts: Layouts,
    /// When the window was opened.
    pub started_at: Timestamp,
    /// `CLOCK_MONOTONIC` when the window was closed.
    pub closed_ns: u64,
    /// Its length.
    pub duration_ns: u64,
    /// Why it was closed.
    pub reason: EndReason,
    /// From the start of the attach to the opened window.
    pub attach_ns: u64,
    /// Where that time went.
    pub attach_steps: Vec<AttachStep>,
    /// From the closed window to the last probe's removal.
    pub detach_ns: u64,
    /// What a reader must know besides.
    pub notes: Vec<String>,
    /// What was known when the window was opened.
    pub header: Header,
    /// How resident memory went; only where growth was followed.
    pub rss_changes: Option<RssChanges>,
    /// Names of threads, as far as they were seen.
    pub thread_names: BTreeMap<u32, String>,
    /// What became of the events.
    pub events: EventsKept,
    /// What it is among several; `None` where it was alone.
    pub process_facts: Option<CapturedProcess>,
    /// Children that nobody has asked for.
    pub(in crate::session) forks: Vec<SeenFork>,
    /// What it cost the target.
    pub cost: Cost,
    /// When the probes were there.
    pub coverage: Coverage,
    /// How many live blocks one that was seen stands for, where the heap says so.
    pub room: Room,
    /// The mean distance of samples at the end, in bytes; `None` where each allocation was looked at.
    pub sample_bytes: Option<u64>,
}

impl Ending {
    /// Its number among several.
    pub(in crate::session) fn number(&self) -> u8 {
        self.process_facts.as_ref().map_or(0, |process| process.number)
    }

    /// Children that were forked shortly before.
    pub(in crate::session) fn take_forks(&mut self) -> Vec<SeenFork> {
        std::mem::take(&mut self.forks)
    }
}

impl Window {
    /// Closes the window, books what is waiting, and removes all probes.
    pub(in crate::session) fn close(mut self, mut ring: Ring, reason: EndReason) -> Ending {
        let closed_ns = clock::monotonic_ns();
        self.read_thread_names();
        self.give_up_starting_program();
        self.check_pymalloc();
        let maps = self.begin_last_look(&mut ring).filter(|_| reason != EndReason::TargetExited);
        if let Err(error) = self.kernel.set_active(false) {
            self.notes.push(format!("the window could not be closed at one moment: {error}"));
        }
        self.close_budget();
        self.drain(&mut ring, usize::MAX);
        if let Some(maps) = maps {
            self.finish_last_look(&maps);
        }
        self.memory.sample_end(self.live_bytes());
        let pages_after = self.proc.private_pages(self.process.pid).ok();
        let (cost, coverage) = self.finish_budget(closed_ns);
        let sample_bytes = self.governing.sample_bytes(&self.kernel);
        let detaching = Instant::now();
        self.kernel.detach();
        let detach_ns = detaching.elapsed().as_nanos() as u64;
        // A program that ran on another CPU when the window was closed may have finished since.
        self.drain(&mut ring, usize::MAX);
        self.settle(closed_ns);
        let mut counters = self.kernel.counters().unwrap_or_else(|error| {
            self.notes.push(format!("losses in the kernel are not known: {error}"));
            KernelCounters::default()
        });
        self.governing.counted_in_window(&mut counters);
        self.notes.append(&mut self.walks.notes);
        let (walks, layouts, room) = self.finish_walks(closed_ns, &coverage);
        let rss_changes = self.rss_changes();
        let events = self.recorder.as_mut().map(Feed::events_kept).unwrap_or_default();
        let process_facts = self.place.as_ref().map(|place| CapturedProcess {
            pages_before: self.pages_before,
            pages_after: pages_after.filter(|_| reason != EndReason::TargetExited),
            inherited: self.inherited.as_ref().map(InheritedHeap::report),
            ..place.begun(self.header.clone())
        });
        let (rss, timeline) = self.memory.finish();
        Ending {
            process: self.process,
            objects: self.objects,
            ledger: self.ledger,
            code: self.code,
            python: self.python,
            counters,
            undecodable: self.undecodable,
            unkept_stacks: self.unkept_stacks,
            rss,
            timeline,
            walks,
            layouts,
            started_at: self.started_at,
            closed_ns,
            duration_ns: closed_ns.saturating_sub(self.opened_ns),
            reason,
            attach_ns: self.attach_ns,
            attach_steps: self.attach_steps,
            detach_ns,
            notes: self.notes,
            header: self.header,
            rss_changes,
            thread_names: self.thread_names,
            events,
            process_facts,
            forks: self.forks,
            cost,
            coverage,
            room,
            sample_bytes,
        }
    }
}
