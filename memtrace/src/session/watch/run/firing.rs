//! Conditions that are met: whose capture is taken, and for how long.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use super::{
    super::{Event, clock, job::Order, nonzero, target::Due},
    Watch,
};
use crate::{
    model::incident::Fired,
    session::Stop,
    watch::window::{latest_end, window},
};

/// Another process is followed when it is larger by this factor.
const MUCH_LARGER: u64 = 2;

impl Watch<'_> {
    pub(super) fn fire(&mut self, number: u64, due: &Due, now_ns: u64) {
        let is_over = self.is_over();
        let Some(target) = self.targets.get_mut(&number).filter(|_| !is_over) else { return };
        let fired = target.fired(due, clock::now());
        if let Some(running) = &target.running {
            if running.is_rolling && !target.concerns(due, running.pid) {
                // It fires at a later look, when nobody else is followed any more.
                running.stop.stop();
                return;
            }
            // One that was taken for an earlier firing has that.
            if running.is_rolling && running.fired.set(fired.clone()).is_ok() {
                self.status.firings += 1;
                let pid = running.pid;
                running.stop.stop();
                self.observer.happened(Event::Fired(&fired, pid, Duration::ZERO));
            }
            return;
        }
        self.status.firings += 1;
        let Some(pid) = target.aim(due).and_then(|it| nonzero(it.process.pid)) else {
            let cool_down_ns = self.options.cool_down.as_nanos() as u64;
            target.cool(&fired, now_ns.saturating_add(cool_down_ns));
            self.observer.happened(Event::NobodyToTrace(&fired));
            return;
        };
        let left = fired.time_to_limit_ns.map(Duration::from_nanos);
        let duration = window(self.options.duration, left, self.overheads);
        let latest_end = latest_end(left, self.overheads).map(|left| Instant::now() + left);
        self.observer.happened(Event::Fired(&fired, pid.get(), duration));
        self.capture(number, pid, (Some(duration), latest_end), OnceLock::from(fired));
    }

    pub(super) fn capture(
        &mut self,
        number: u64,
        pid: NonZeroU32,
        (duration, latest_end): (Option<Duration>, Option<Instant>),
        fired: OnceLock<Fired>,
    ) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let order = Order {
            pid,
            fired: Arc::new(fired),
            duration,
            latest_end,
            stop: Stop::default(),
            kills: self.kills.clone(),
            group: target.group_of(pid.get()).cloned(),
        };
        match self.jobs.capture(number, order) {
            Ok(running) => {
                target.running = Some(running);
                self.readiness.spend();
            }
            Err(error) => self.fail(&format!("there is no thread for a capture: {error}")),
        }
    }

    /// Traces whom a kill is most likely to hit, from now on.
    pub(super) fn follow(&mut self, number: u64, now_ns: u64) {
        let is_over = self.is_over();
        let Some(target) = self.targets.get_mut(&number) else { return };
        let Some(aim) = target.likeliest() else { return };
        match &target.running {
            None if now_ns >= target.follow_after_ns && !is_over => {
                if let Some(pid) = nonzero(aim.process.pid) {
                    self.capture(number, pid, (None, None), OnceLock::new());
                }
            }
            Some(running) if running.is_rolling && running.pid != aim.process.pid => {
                let followed = target.members.get(running.pid).map_or(0, |it| it.rss_bytes);
                if aim.rss_bytes > followed.saturating_mul(MUCH_LARGER) {
                    running.stop.stop();
                }
            }
            _ => {}
        }
    }
}
