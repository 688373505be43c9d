//! Looks, and what they lead to.

use std::num::NonZeroU32;

use super::{
    super::{
        Event, Subject,
        subject::named,
        target::{Due, Gone, Kind, LONGEST_GAP_NS, Target},
    },
    News, Watch,
    sources::pressure,
};
use crate::{model::size::duration_ns, session::Inspector};

/// How often it is looked for processes of a name.
const DISCOVER_NS: u64 = 2_000_000_000;

impl Watch<'_> {
    /// memtrace may not have got to run, or the machine was suspended.
    pub(super) fn check_gap(&mut self, now_ns: u64) {
        let Some(before_ns) = self.looked_ns.replace(now_ns) else { return };
        let gap_ns = now_ns.saturating_sub(before_ns);
        if now_ns < before_ns || gap_ns > LONGEST_GAP_NS {
            self.status.discontinuities += 1;
            let text = format!(
                "nothing was seen for {}: conditions are measured anew",
                duration_ns(gap_ns)
            );
            self.observer.happened(Event::Discontinuity(&text));
        }
    }

    pub(super) fn discover(&mut self, now_ns: u64) {
        let is_soon = |at: u64| now_ns.saturating_sub(at) < DISCOVER_NS;
        if self.discovered_ns.is_some_and(is_soon) {
            return;
        }
        self.discovered_ns = Some(now_ns);
        let Subject::Command(command) = &self.options.subject else { return };
        let known: Vec<Option<u32>> = self.targets.values().map(|it| it.status.pid).collect();
        for pid in named(&self.proc, command) {
            if known.contains(&Some(pid)) {
                continue;
            }
            let Ok(process) = self.proc.process(pid) else { continue };
            if process.check_traceable().is_err() {
                continue;
            }
            let number = self.add(Target::process(&self.proc, &process, &self.options.conditions));
            let title = self.targets[&number].title();
            self.observer.happened(Event::Appeared(&title));
        }
    }

    pub(super) fn look_at(&mut self, number: u64, now_ns: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let looked = target.look(&self.proc, self.wants, now_ns);
        self.count_kills(number, now_ns);
        match looked {
            Ok(due) => self.decide(number, due.as_ref(), now_ns),
            Err(Gone) => self.gone(number),
        }
    }

    /// A group may come again, under the same name.
    pub(super) fn gone(&mut self, number: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let title = target.title();
        if matches!(target.kind, Kind::Group(_)) {
            // Its trigger has gone with it, and the last thing that it says is no pressure.
            self.pressure = None;
            target.forget();
            if !std::mem::replace(&mut self.is_gone, true) {
                self.observer.happened(Event::Gone(&title));
            }
            return;
        }
        // Its capture goes on to its own end.
        if target.running.is_none() {
            self.targets.remove(&number);
            self.observer.happened(Event::Gone(&title));
        }
    }

    pub(super) fn decide(&mut self, number: u64, due: Option<&Due>, now_ns: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        if std::mem::take(&mut self.is_gone) {
            self.pressure = pressure(self.options).unwrap_or_else(|error| {
                log::warn!("{error}");
                None
            });
            self.observer.happened(Event::Appeared(&target.title()));
        }
        if let Some(pid) = target.wants_walk(self.wants, now_ns) {
            self.walk(number, pid);
        }
        if let Some(due) = due {
            self.fire(number, due, now_ns);
        }
        if self.options.follow {
            self.follow(number, now_ns);
        }
    }

    /// On a thread: it may take a while.
    pub(super) fn walk(&mut self, target: u64, pid: u32) {
        let tell = self.tell.clone();
        let run = move || {
            let look = |pid| Inspector::open(pid).and_then(|mut it| it.look());
            let inspection = NonZeroU32::new(pid).and_then(|pid| look(pid).ok()).map(Box::new);
            let _ = tell.send(News::Walked { target, pid, inspection });
        };
        let started = std::thread::Builder::new().name("heap walker".to_owned()).spawn(run);
        if let Err(error) = started {
            log::warn!("the heap is not walked: {error}");
        }
    }
}
