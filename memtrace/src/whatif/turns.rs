//! Who goes on when: calls of several threads in an order with few changes of turn.
//!
//! A change of turn costs as much as some ten calls. Calls that are less than [`WINDOW`] apart may
//! change places, if they are of different threads and not of the same block. The order is made
//! once, before any replay, so that all replays of a program do the same in the same order.

use hashbrown::HashMap;

use super::program::Op;

/// So many calls are put in order together.
pub const WINDOW: usize = 512;

/// A call and who makes it.
#[derive(Clone, Copy, Debug)]
struct Call {
    thread: u32,
    op: Op,
    /// The call before that is about the same block, in this window.
    after: Option<u32>,
}

/// Puts calls in order.
#[derive(Debug)]
pub struct Turns {
    window: Vec<Call>,
    last_of_slot: HashMap<u32, u32>,
    /// Whose turn it is.
    on: u32,
}

/// Who had the turn has ended.
const NOBODY: u32 = u32::MAX;

impl Default for Turns {
    /// It is the turn of the first thread.
    fn default() -> Self {
        Self { window: Vec::with_capacity(WINDOW), last_of_slot: HashMap::new(), on: 0 }
    }
}

impl Turns {
    /// The next call, in the order of the window that was traced.
    pub fn push(&mut self, thread: u32, op: Op, sink: &mut dyn FnMut(Op)) {
        let index = self.window.len() as u32;
        let after = op.slot().and_then(|slot| self.last_of_slot.insert(slot, index));
        self.window.push(Call { thread, op, after });
        if self.window.len() == WINDOW {
            self.flush(sink);
        }
    }

    /// All calls so far are made before those that come.
    pub fn flush(&mut self, sink: &mut dyn FnMut(Op)) {
        let mut queues = Queues::new(&self.window);
        let mut is_done = vec![false; self.window.len()];
        let mut first = 0;
        while first < self.window.len() {
            if is_done[first] {
                first += 1;
                continue;
            }
            // What was left of the last turn; else who waits longest, whose call nothing holds up.
            let mut made = self.turn(self.on, &mut queues, &mut is_done, sink);
            if made == 0 {
                let thread = self.window[first].thread;
                sink(Op::Turn { thread });
                self.on = thread;
                made = self.turn(thread, &mut queues, &mut is_done, sink);
            }
            debug_assert!(made > 0, "the first call that is left can be made");
        }
        self.window.clear();
        self.last_of_slot.clear();
    }

    /// As many calls of a thread as can be made now.
    fn turn(
        &mut self,
        thread: u32,
        queues: &mut Queues,
        is_done: &mut [bool],
        sink: &mut dyn FnMut(Op),
    ) -> usize {
        let mut made = 0;
        while let Some(index) = queues.head(thread) {
            let call = self.window[index as usize];
            if call.after.is_some_and(|before| !is_done[before as usize]) {
                break;
            }
            sink(call.op);
            is_done[index as usize] = true;
            queues.advance(thread);
            made += 1;
            // Whoever ended has no more turns; another one may have its number.
            if call.op == Op::Exit {
                self.on = NOBODY;
                break;
            }
        }
        made
    }

    /// Lets the first thread go on, for what only it can do.
    pub fn finish(&mut self, sink: &mut dyn FnMut(Op)) {
        self.flush(sink);
        if self.on != 0 {
            sink(Op::Turn { thread: 0 });
            self.on = 0;
        }
    }
}

/// The calls of each thread that are not made, in their order.
struct Queues(HashMap<u32, (usize, Vec<u32>)>);

impl Queues {
    fn new(window: &[Call]) -> Self {
        let mut queues: HashMap<u32, (usize, Vec<u32>)> = HashMap::new();
        for (index, call) in window.iter().enumerate() {
            queues.entry(call.thread).or_default().1.push(index as u32);
        }
        Self(queues)
    }

    fn head(&self, thread: u32) -> Option<u32> {
        let (at, calls) = self.0.get(&thread)?;
        calls.get(*at).copied()
    }

    fn advance(&mut self, thread: u32) {
        if let Some((at, _)) = self.0.get_mut(&thread) {
            *at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ordered(calls: &[(u32, Op)]) -> Vec<(u32, Op)> {
        let (mut turns, mut ops) = (Turns::default(), Vec::new());
        for (thread, op) in calls {
            turns.push(*thread, *op, &mut |op| ops.push(op));
        }
        turns.finish(&mut |op| ops.push(op));
        let mut on = 0;
        let mut made = Vec::new();
        for op in ops {
            match op {
                Op::Turn { thread } => on = thread,
                op => made.push((on, op)),
            }
        }
        made
    }

    #[test]
    fn two_threads_that_alternate_take_few_turns() {
        let malloc = |slot| Op::Malloc { slot, size_bytes: 8 };
        let calls: Vec<_> = (0..100).map(|slot| (slot % 2, malloc(slot))).collect();
        let made = ordered(&calls);
        let changes = made.windows(2).filter(|pair| pair[0].0 != pair[1].0).count();
        assert_eq!((made.len(), changes), (100, 1));
    }

    proptest! {
        /// By random threads, on few slots: many calls wait for others.
        #[test]
        fn each_thread_and_each_block_keeps_its_order(
            calls in prop::collection::vec((0..4_u32, 0..6_u32), 0..2000),
        ) {
            let calls: Vec<_> = calls
                .iter()
                .enumerate()
                .map(|(at, (thread, slot))| {
                    (*thread, Op::Malloc { slot: *slot, size_bytes: at as u64 })
                })
                .collect();
            let made = ordered(&calls);
            for number in 0..6 {
                let of_thread = |calls: &[(u32, Op)]| -> Vec<_> {
                    calls.iter().filter(|it| it.0 == number).copied().collect()
                };
                prop_assert_eq!(of_thread(&made), of_thread(&calls));
                let of_slot = |calls: &[(u32, Op)]| -> Vec<_> {
                    calls.iter().filter(|it| it.1.slot() == Some(number)).copied().collect()
                };
                prop_assert_eq!(of_slot(&made), of_slot(&calls));
            }
        }
    }
}
