//! From events to a program that makes the same calls in the same order by the same threads.

use hashbrown::HashMap;

use super::{
    blocks::{Block, Blocks},
    program::Op,
    survey::{Survey, is_replayed},
    threads::Threads,
    turns::Turns,
};
use crate::{
    capture::KeptEvent,
    model::{
        AllocFn,
        event::{Action, Event},
        stack::StackId,
    },
};

/// Larger requests CPython's allocator hands on to malloc (`SMALL_REQUEST_THRESHOLD`,
/// Objects/obmalloc.c).
const PYMALLOC_BYTES: u64 = 512;

/// How exactly a replay knows what time it is.
const CLOCK_NS: u64 = 10_000_000;

/// When memory is measured.
#[derive(Clone, Debug, Default)]
pub struct Sampling {
    /// At these times since the window was opened, ascending.
    pub times: Vec<u64>,
    /// After so many calls; 0 for never.
    pub every_calls: u64,
}

/// What did not go as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Frees and reallocs of blocks whose allocation was not seen.
    pub unknown_blocks: u64,
    /// Blocks whose free was not seen: another one came to lie at their address.
    pub implied_frees: u64,
}

/// Makes the program.
pub struct Compiler<'a> {
    pub(super) blocks: Blocks,
    pub(super) threads: Threads,
    pub(super) turns: Turns,
    pub(super) sink: &'a mut dyn FnMut(Op),
    survey: &'a Survey,
    /// What threads resize, with the address.
    open: HashMap<u32, (u64, Option<Block>)>,
    opened_ns: u64,
    /// Events before this are in the heap that the replay begins with.
    begins_at_ns: u64,
    /// Of several programs that the process executed, the last is replayed.
    execs_to_come: u64,
    sampling: Sampling,
    next_time: usize,
    calls: u64,
    clock_ns: u64,
    oddities: Oddities,
}

impl<'a> Compiler<'a> {
    /// Of a window that was opened at this time, in a process whose first thread is this.
    pub fn new(
        opened_ns: u64,
        first_tid: u32,
        survey: &'a Survey,
        sampling: Sampling,
        sink: &'a mut dyn FnMut(Op),
    ) -> Self {
        Self {
            blocks: Blocks::default(),
            threads: Threads::new(first_tid),
            turns: Turns::default(),
            sink,
            survey,
            open: HashMap::new(),
            opened_ns,
            begins_at_ns: 0,
            execs_to_come: survey.execs,
            sampling,
            next_time: 0,
            calls: 0,
            clock_ns: 0,
            oddities: Oddities::default(),
        }
    }

    /// What happened up to this time since the start is in the heap that was rebuilt.
    pub fn begin_at(&mut self, at_ns: u64) {
        self.begins_at_ns = at_ns;
        while self.sampling.times.get(self.next_time).is_some_and(|time| *time < at_ns) {
            self.next_time += 1;
        }
        self.clock_ns = at_ns;
        self.sample(at_ns);
    }

    /// Takes the next event.
    pub fn visit(&mut self, kept: &KeptEvent) {
        let event = &kept.event;
        if event.action == Action::Exec {
            return self.exec();
        }
        let at_ns = event.time_ns.saturating_sub(self.opened_ns);
        // A free that the heap told of at the end has no time of its own.
        let is_late = kept.is_unseen || at_ns >= self.begins_at_ns;
        if self.execs_to_come > 0 || !is_late {
            return;
        }
        self.advance(at_ns);
        if event.action == Action::ThreadExit {
            return self.thread_exit(event.tid);
        }
        if is_replayed(kept) && self.call(event) {
            self.count();
        }
    }

    /// Ends the program, at this time since the start.
    pub fn finish(mut self, at_ns: u64) -> (Blocks, Oddities) {
        self.advance(at_ns);
        self.turns.finish(self.sink);
        self.sample(at_ns.max(self.clock_ns));
        (self.blocks, self.oddities)
    }

    /// So many calls the program has so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    fn push(&mut self, tid: u32, op: Op) {
        let thread = self.threads.number(tid);
        self.turns.push(thread, op, self.sink);
    }

    /// Whether it was a call that is replayed.
    fn call(&mut self, event: &Event) -> bool {
        let Event { function, tid, .. } = *event;
        match event.action {
            Action::Alloc { address, size_bytes, stack } => {
                self.abandon(tid);
                is_of_malloc(function, size_bytes)
                    && self.alloc((tid, function, stack), address, size_bytes)
            }
            Action::Free { address } => {
                self.abandon(tid);
                self.free(tid, address)
            }
            Action::ReallocBegin { old_address } => {
                self.abandon(tid);
                let block = self.blocks.remove(old_address);
                self.open.insert(tid, (old_address, block));
                false
            }
            Action::ReallocEnd { old_address, new_address, size_bytes, stack } => {
                let old = self.reopened(tid, old_address);
                let by = (tid, function, stack);
                self.realloc(by, (old_address, old), (new_address, size_bytes))
            }
            _ => false,
        }
    }

    fn alloc(&mut self, by: (u32, AllocFn, StackId), address: u64, size_bytes: u64) -> bool {
        let (tid, function, stack) = by;
        let slot = self.blocks.slot();
        self.place(tid, address, Block { slot, size_bytes });
        let op = match (self.survey.exponent(stack, function), function) {
            (Some(exponent), _) => Op::Aligned { slot, size_bytes, exponent },
            (_, AllocFn::Calloc | AllocFn::Zalloc) => Op::Calloc { slot, size_bytes },
            _ => Op::Malloc { slot, size_bytes },
        };
        self.push(tid, op);
        true
    }

    /// A block that was thought to be there was freed unseen.
    fn place(&mut self, tid: u32, address: u64, block: Block) {
        if let Some(old) = self.blocks.insert(address, block) {
            self.oddities.implied_frees += 1;
            self.release(tid, old);
        }
    }

    fn release(&mut self, tid: u32, block: Block) {
        self.push(tid, Op::Free { slot: block.slot });
        self.blocks.give_up(block.slot);
    }

    fn free(&mut self, tid: u32, address: u64) -> bool {
        match self.blocks.remove(address) {
            Some(block) => self.release(tid, block),
            None => self.oddities.unknown_blocks += 1,
        }
        true
    }

    /// A realloc whose end was not seen most likely succeeded.
    fn abandon(&mut self, tid: u32) {
        if let Some((_, Some(block))) = self.open.remove(&tid) {
            self.release(tid, block);
        }
    }

    /// What a realloc was begun with.
    fn reopened(&mut self, tid: u32, old_address: u64) -> Option<Block> {
        match self.open.remove(&tid) {
            Some((address, block)) if address == old_address => block,
            _ => self.blocks.remove(old_address),
        }
    }

    fn realloc(
        &mut self,
        by: (u32, AllocFn, StackId),
        (old_address, old): (u64, Option<Block>),
        (new_address, size_bytes): (u64, u64),
    ) -> bool {
        let (tid, function, _) = by;
        if new_address == 0 && size_bytes > 0 {
            if let Some(block) = old {
                self.blocks.insert(old_address, block);
            }
            return false;
        }
        let stays = new_address != 0 && is_of_malloc(function, size_bytes);
        match old {
            Some(Block { slot, size_bytes: used_bytes }) if stays => {
                self.place(tid, new_address, Block { slot, size_bytes });
                let used_bytes = used_bytes.min(size_bytes);
                self.push(tid, Op::Realloc { slot, size_bytes, used_bytes });
            }
            Some(block) => self.release(tid, block),
            None => {
                self.oddities.unknown_blocks += u64::from(old_address != 0);
                return stays && self.alloc(by, new_address, size_bytes);
            }
        }
        true
    }

    /// A thread that did nothing has no number, and its end changes nothing.
    fn thread_exit(&mut self, tid: u32) {
        self.abandon(tid);
        if let Some(number) = self.threads.end(tid) {
            self.turns.push(number, Op::Exit, self.sink);
        }
    }

    fn exec(&mut self) {
        self.execs_to_come = self.execs_to_come.saturating_sub(1);
    }

    fn count(&mut self) {
        self.calls += 1;
        if self.sampling.every_calls > 0 && self.calls.is_multiple_of(self.sampling.every_calls) {
            self.sample(self.clock_ns);
        }
    }

    /// The ring's order is nearly that of time: the clock never goes back.
    fn advance(&mut self, at_ns: u64) {
        while let Some(time) = self.sampling.times.get(self.next_time).filter(|it| **it <= at_ns) {
            let at_ns = (*time).max(self.clock_ns);
            self.next_time += 1;
            self.sample(at_ns);
        }
        if at_ns >= self.clock_ns + CLOCK_NS {
            self.clock_ns = at_ns;
            self.turns.flush(self.sink);
            (self.sink)(Op::Clock { at_ns });
        }
    }

    fn sample(&mut self, at_ns: u64) {
        self.clock_ns = at_ns;
        self.turns.flush(self.sink);
        (self.sink)(Op::Sample { at_ns });
    }
}

/// What CPython's own allocator has no room for comes from malloc.
fn is_of_malloc(function: AllocFn, size_bytes: u64) -> bool {
    !function.is_python() || size_bytes > PYMALLOC_BYTES
}

#[cfg(test)]
mod tests;
