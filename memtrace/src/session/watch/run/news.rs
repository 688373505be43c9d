//! What threads have come to, and what is told of it.

use super::{
    super::{
        Event, clock,
        job::{Done, Taken},
    },
    News, Watch,
};
use crate::{
    sys::{
        clock::{monotonic_ns, process_cpu_ns},
        procfs::ProcFs,
    },
    watch::status::OwnCost,
};

/// After a failure it is not tried to follow again before.
const FAILED_NS: u64 = 5_000_000_000;

impl Watch<'_> {
    pub(super) fn learn(&mut self, news: News) {
        match news {
            News::Walked { target, pid, inspection } => {
                if let Some(target) = self.targets.get_mut(&target) {
                    target.walked(pid, inspection.map(|it| *it));
                }
            }
            News::Prepared { pid, result } => self.prepared(pid, result),
            News::Done(done) => self.done(done),
        }
    }

    pub(super) fn done(&mut self, done: Done) {
        self.has_ended |= done.pid.is_some();
        if let Some(target) = self.targets.get_mut(&done.target)
            && let Some(running) = target.running.take_if(|it| Some(it.pid) == done.pid)
        {
            let now_ns = monotonic_ns();
            let cool_down_ns = self.options.cool_down.as_nanos() as u64;
            if let Some(fired) = running.fired.get() {
                target.cool(fired, now_ns.saturating_add(cool_down_ns));
            }
            let pause_ns = if done.result.is_ok() { 0 } else { FAILED_NS };
            target.follow_after_ns = now_ns.saturating_add(pause_ns);
        }
        match done.result {
            Ok(taken) => self.took(taken),
            Err(error) => {
                self.fail(&error);
                // It was killed before it could be traced.
                if let Some(kill) = done.pid.and_then(|pid| self.kills.known(pid)) {
                    self.keep(done.target, kill);
                }
            }
        }
    }

    pub(super) fn took(&mut self, taken: Taken) {
        self.overheads = taken.overheads.unwrap_or(self.overheads);
        self.status.captures_removed += taken.removed;
        for (name, count) in taken.losses {
            *self.status.losses.entry(name).or_default() += count;
        }
        if !taken.files.is_empty() {
            self.status.captures_written += 1;
            self.has_captured = true;
            self.observer.happened(Event::Taken(&taken.files));
        }
    }

    pub(super) fn fail(&mut self, error: &str) {
        self.status.captures_failed += 1;
        self.observer.happened(Event::Failed(error));
    }

    pub(super) fn tell_status(&mut self, now_ns: u64) {
        let every_ns = self.options.status_every.as_nanos() as u64;
        let is_due = now_ns.saturating_sub(self.told_ns) >= every_ns;
        if !is_due && !self.options.tell_looks {
            return;
        }
        self.status.time = clock::now();
        self.targets.values_mut().for_each(|it| it.read_peak(&self.proc));
        self.status.targets = self.targets.values().map(|it| it.status.clone()).collect();
        self.status.own = own_cost(&self.proc);
        if self.options.tell_looks {
            self.observer.happened(Event::Looked(&self.status));
            self.targets.values_mut().for_each(|it| it.status.look_told());
        }
        if is_due {
            self.told_ns = now_ns;
            self.observer.happened(Event::Status(&self.status));
            self.targets.values_mut().for_each(|it| it.status.status_told());
        }
    }
}

fn own_cost(proc: &ProcFs) -> OwnCost {
    let own = proc.resident(std::process::id()).unwrap_or_default();
    let cpu = process_cpu_ns(std::process::id());
    OwnCost {
        cpu_ns: cpu.unwrap_or_default(),
        rss_bytes: own.bytes,
        peak_rss_bytes: own.peak_bytes,
    }
}
