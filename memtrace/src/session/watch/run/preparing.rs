//! Captures are made ready for before anything fires.

use std::{num::NonZeroU32, time::Instant};

use super::{
    super::{Event, nonzero},
    News, Watch,
};

/// Before the end of a cool-down, so long.
const AHEAD_NS: u64 = 30_000_000_000;
/// With less time to a limit, preparing is as urgent as what the others do.
const HURRY_NS: u64 = 300_000_000_000;

impl Watch<'_> {
    /// Has it begun if it is due. With `follow`, traces begin while all is calm anyway.
    pub(super) fn prepare(&mut self, now_ns: u64) {
        if self.options.follow || self.is_over() {
            return;
        }
        let mut left = self.targets.values().filter_map(|it| it.status.time_to_limit_ns);
        if self.readiness.is_in_the_making() && left.any(|left_ns| left_ns < HURRY_NS) {
            self.jobs.capturer.hurry();
        }
        let Some((pid, rss_bytes)) = self.likeliest(now_ns) else { return };
        let is_there = |former| self.targets.values().any(|it| it.members.get(former).is_some());
        let former_is_there = self.readiness.of().is_some_and(is_there);
        let is_due = self.readiness.is_due(pid.get(), rss_bytes, now_ns, former_is_there);
        if is_due && self.begin_to_prepare(pid) {
            self.readiness.begin(pid.get(), rss_bytes, now_ns);
        }
    }

    /// Who would be traced if the largest target fired now, and how large it is. Nobody while a capture is
    /// taken, which may take what is ready at any moment.
    fn likeliest(&self, now_ns: u64) -> Option<(NonZeroU32, u64)> {
        if self.targets.values().any(|it| it.running.is_some()) {
            return None;
        }
        let may_fire = self.targets.values().filter(|it| it.cool_until_ns <= now_ns + AHEAD_NS);
        let target = may_fire.max_by_key(|it| it.status.rss.now_bytes)?;
        let member = target.likeliest()?;
        Some((nonzero(member.process.pid)?, member.rss_bytes))
    }

    fn begin_to_prepare(&self, pid: NonZeroU32) -> bool {
        let (capturer, tell) = (self.jobs.capturer.clone(), self.tell.clone());
        let run = move || {
            let begun = Instant::now();
            let result = capturer.prepare(pid).map(|()| begun.elapsed());
            let _ = tell.send(News::Prepared { pid: pid.get(), result });
        };
        let started = std::thread::Builder::new().name("preparation".to_owned()).spawn(run);
        started.map_err(|error| log::warn!("nothing is made ready: {error}")).is_ok()
    }

    pub(super) fn prepared(&mut self, pid: u32, result: Result<std::time::Duration, String>) {
        self.readiness.end(result.is_ok());
        match result {
            Ok(duration) => {
                let is_news = self.not_ready.take().is_some() || !self.was_ready;
                self.was_ready = true;
                self.observer.happened(Event::Ready { pid, duration, is_news });
            }
            Err(error) if self.not_ready.as_ref() != Some(&error) => {
                self.observer.happened(Event::NotReady { pid, reason: &error });
                self.not_ready = Some(error);
            }
            Err(_) => {}
        }
    }
}
