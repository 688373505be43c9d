//! What time it is, for threads that would ask too often.

use crate::opaque::Opaque;

/// A clock that a busy thread looks at now and then only: to look costs as much as several of Python's
/// frames. While a thread's events follow each other closely, some have an estimated time, as if all were
/// as far apart as those of the looks before: ascending, and for one tick of the kernel's at most. Lives
/// in map memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The tick of the last look, and the time then.
    tick: Opaque<u64>,
    look_ns: Opaque<u64>,
    /// The time of the last event, and how much later the next one is taken to be.
    time_ns: Opaque<u64>,
    gap_ns: Opaque<u64>,
    /// How many events may do without a look after that one, and how many did.
    most: Opaque<u64>,
    done: Opaque<u64>,
}

/// Events of a busy thread for one look.
pub const EVENTS_A_LOOK: u64 = 16;
/// A thread is busy whose events since the last look were closer than this on average.
pub const BUSY_NS: u64 = 8_000;

impl Clock {
    /// The time of an event, given the number of the kernel's tick. `look` says what time it is.
    #[inline(always)]
    pub fn time_ns(&mut self, tick: u64, look: impl FnOnce() -> u64) -> u64 {
        let events = self.done.get().wrapping_add(1);
        if events <= self.most.get() && self.tick.get() == tick {
            self.done.set(events);
            let time_ns = self.time_ns.get().wrapping_add(self.gap_ns.get());
            self.time_ns.set(time_ns);
            return time_ns;
        }
        let look_ns = look();
        let since_ns = look_ns.wrapping_sub(self.look_ns.get());
        let is_busy = since_ns < events.wrapping_mul(BUSY_NS);
        self.most.set(if is_busy { EVENTS_A_LOOK - 1 } else { 0 });
        self.gap_ns.set(since_ns.checked_div(events).unwrap_or(0).max(1));
        self.done.set(0);
        self.tick.set(tick);
        self.look_ns.set(look_ns);
        // The estimates may have been ahead.
        let time_ns = look_ns.max(self.time_ns.get().wrapping_add(1));
        self.time_ns.set(time_ns);
        time_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK_NS: u64 = 4_000_000;

    /// What a clock says at these times, and how often it looked.
    fn clocked(times: &[u64]) -> (Vec<u64>, usize) {
        let (mut clock, mut looks) = (Clock::default(), 0);
        let mut said = |now_ns: &u64| {
            clock.time_ns(now_ns / TICK_NS, || {
                looks += 1;
                *now_ns
            })
        };
        (times.iter().map(&mut said).collect(), looks)
    }

    #[test]
    fn a_busy_thread_looks_at_the_clock_once_in_some_events() {
        let times: Vec<u64> = (0..1602).map(|event| 1_000_000_000 + 1000 * event).collect();
        let (said, looks) = clocked(&times);
        assert_eq!(looks, 102);
        assert!(said.is_sorted_by(|one, next| one < next));
        // Of a steady thread, all are right but those before it was known to be one.
        let wrong = said.iter().zip(&times).filter(|(said, now_ns)| said != now_ns);
        assert_eq!(wrong.count(), 0);
    }

    #[test]
    fn a_thread_that_is_not_busy_knows_the_time() {
        let times: Vec<u64> = (0..100).map(|event| 1_000_000_000 + (BUSY_NS + 1) * event).collect();
        assert_eq!(clocked(&times), (times, 100));
    }

    #[test]
    fn a_busy_thread_that_has_slept_knows_the_time_with_the_next_tick() {
        let awake = (0..22).map(|event| 1_000_000_000 + 1000 * event);
        let times: Vec<u64> = awake.chain([1_000_000_000 + TICK_NS]).collect();
        let (said, looks) = clocked(&times);
        assert_eq!((said.last(), looks), (times.last(), 4));
    }

    proptest! {
        #[test]
        fn clocks_are_off_by_little_and_ascend(
            gaps in proptest::collection::vec(1u64..20_000, 1..200),
        ) {
            let times: Vec<u64> = gaps
                .iter()
                .scan(1_000_000_000, |now_ns, gap| {
                    *now_ns += gap * 2;
                    Some(*now_ns)
                })
                .collect();
            let (said, _) = clocked(&times);
            prop_assert!(said.is_sorted_by(|one, next| one < next));
            for (said, now_ns) in said.iter().zip(&times) {
                prop_assert!(*said < now_ns + EVENTS_A_LOOK * BUSY_NS, "ahead: {said} {now_ns}");
                prop_assert!(*now_ns < said + TICK_NS, "late: {said} {now_ns}");
            }
        }
    }
}
