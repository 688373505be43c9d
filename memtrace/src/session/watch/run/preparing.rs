//! Captures are made ready for before anything fires.

use std::{num::NonZeroU32, time::Instant};

use super::{
    super::{Capturer, Event, nonzero},
    News, Watch,
};

/// Before the end of a cool-down, so long.
const AHEAD_NS: u64 = 30_000_000_000;
/// With less time to a limit, preparing is as urgent as what the others do.
const HURRY_NS: u64 = 300_000_000_000;

impl Watch<'_> {
    /// Has it begun if it is due.
    pub(super) fn prepare(&mut self, now_ns: u64) {
        if self.is_over() {
            return;
        }
        if self.options.follow {
            return self.prepare_next();
        }
        let mut left = self.targets.values().filter_map(|it| it.status.time_to_limit_ns);
        if self.readiness.is_in_the_making() && left.any(|left_ns| left_ns < HURRY_NS) {
            self.jobs.capturer.hurry();
        }
        let Some((pid, rss_bytes)) = self.likeliest(now_ns) else { return };
        let is_there = |former| self.targets.values().any(|it| it.members.get(former).is_some());
        let former_is_there = self.readiness.of().is_some_and(is_there);
        let is_due = self.readiness.is_due(pid.get(), rss_bytes, now_ns, former_is_there);
        if is_due
            && self.start_to_prepare(Some(pid.get()), move |it| it.prepare(pid).map(|()| true))
        {
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

    /// With `follow`, a trace begins as soon as somebody is there: when one has ended, the next is made ready
    /// until then.
    fn prepare_next(&mut self) {
        let is_due = std::mem::take(&mut self.has_ended);
        if !is_due || self.targets.values().any(|it| it.running.is_some()) {
            return;
        }
        self.start_to_prepare(None, |capturer| capturer.prepare_next());
    }

    /// On a thread of its own; whether there is one.
    fn start_to_prepare(
        &self,
        pid: Option<u32>,
        prepare: impl FnOnce(&dyn Capturer) -> Result<bool, String> + Send + 'static,
    ) -> bool {
        let (capturer, tell) = (self.jobs.capturer.clone(), self.tell.clone());
        let run = move || {
            let begun = Instant::now();
            let result = match prepare(&*capturer) {
                // Somebody came first.
                Ok(false) => return,
                prepared => prepared.map(|_| begun.elapsed()),
            };
            let _ = tell.send(News::Prepared { pid, result });
        };
        let started = std::thread::Builder::new().name("preparation".to_owned()).spawn(run);
        started.map_err(|error| log::warn!("nothing is made ready: {error}")).is_ok()
    }

    pub(super) fn prepared(
        &mut self,
        pid: Option<u32>,
        result: Result<std::time::Duration, String>,
    ) {
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
