//! Makes the calls of a program.

use std::{
    ffi::c_void,
    io,
    sync::atomic::{AtomicPtr, Ordering},
};

use super::{
    board::Record,
    calls, clock,
    crew::{Crew, Seat},
    memory::private_bytes,
    shared::Words,
    tell,
};
use crate::whatif::program::{Op, Program, Room};

/// Whoever has the turn has it to itself.
static PLAYER: AtomicPtr<Player> = AtomicPtr::new(std::ptr::null_mut());

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It stops when it has more than that.
    pub max_bytes: u64,
    /// `malloc_trim(0)` is called so often; 0 for never.
    pub trim_ns: u64,
}

/// Where a replay is.
pub struct Player {
    program: Program<'static>,
    slots: Words,
    crew: Crew,
    limits: Limits,
    /// What clocks show at the start of the window.
    epoch_ns: u64,
    next_trim_ns: u64,
    base_bytes: u64,
    calls: u64,
    refused: u64,
    begun: Times,
    measuring: Times,
}

/// Time that went by.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    cpu_ns: u64,
    wall_ns: u64,
}

impl Times {
    fn now() -> Self {
        Self { cpu_ns: cpu_ns(), wall_ns: clock::real_ns() }
    }

    fn since(self, before: Self) -> Self {
        Self { cpu_ns: self.cpu_ns - before.cpu_ns, wall_ns: self.wall_ns - before.wall_ns }
    }
}

/// Of all threads.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

/// How a turn ended.
enum Next {
    /// It is the turn of whoever waits there.
    Turn(&'static Seat),
    /// The same, and this thread ends.
    Exit(&'static Seat),
    /// The program is over.
    Over,
}

/// Makes all calls, and tells what comes of them. To be called by the first thread, once.
///
/// # Errors
/// When there is no room for its own books.
pub fn play(program: Program<'static>, room: Room, limits: Limits) -> io::Result<()> {
    let epoch_ns = clock::real_ns();
    let mut player = Player {
        program,
        slots: Words::new(room.slots as usize)?,
        crew: Crew::new(room.threads, thread_main)?,
        limits,
        epoch_ns,
        next_trim_ns: limits.trim_ns,
        base_bytes: private_bytes().ok_or(io::ErrorKind::Unsupported)?,
        calls: 0,
        refused: 0,
        begun: Times::now(),
        measuring: Times::default(),
    };
    super::ready(player.base_bytes);
    clock::set(epoch_ns);
    let seat = player.crew.seat(0);
    PLAYER.store(&raw mut player, Ordering::Release);
    act(seat);
    player.done();
    Ok(())
}

extern "C" fn thread_main(seat: *mut c_void) -> *mut c_void {
    // SAFETY: a thread is given its seat, which stays.
    let seat = unsafe { &*seat.cast::<Seat>() };
    seat.wait();
    act(seat);
    std::ptr::null_mut()
}

/// What a thread does from its first turn to its end.
fn act(seat: &'static Seat) {
    let player = PLAYER.load(Ordering::Acquire);
    loop {
        // SAFETY: the player lives as long as the process has threads, and only who has the turn
        // gets here.
        match unsafe { (*player).turn(seat.number()) } {
            Next::Turn(next) => {
                next.wake();
                seat.wait();
            }
            Next::Exit(next) => return next.wake(),
            Next::Over if seat.number() == 0 => return,
            Next::Over => super::fail(super::Failure::Broken),
        }
    }
}

impl Player {
    /// Goes on until it is another one's turn.
    fn turn(&mut self, me: u32) -> Next {
        self.crew.bury();
        while let Some(op) = self.program.next() {
            match op {
                Op::Malloc { slot, size_bytes } => {
                    self.put(slot, calls::malloc(size_bytes, size_bytes))
                }
                Op::Free { slot } => self.free(slot),
                Op::Realloc { slot, size_bytes, used_bytes } => {
                    self.realloc(slot, size_bytes, used_bytes);
                }
                Op::Calloc { slot, size_bytes } => self.put(slot, calls::calloc(size_bytes)),
                Op::Aligned { slot, size_bytes, exponent } => {
                    self.put(slot, calls::aligned(size_bytes, exponent));
                }
                Op::Seed { slot, size_bytes, used_bytes } => {
                    self.put(slot, calls::malloc(size_bytes, used_bytes));
                }
                Op::Raise { size_bytes } => {
                    // SAFETY: the block is not used.
                    unsafe { calls::free(calls::malloc(size_bytes, 0)) };
                }
                Op::Clock { at_ns } => self.clock(at_ns),
                Op::Sample { at_ns } => {
                    self.clock(at_ns);
                    self.sample(at_ns);
                }
                Op::Turn { thread } => return Next::Turn(self.seat(thread)),
                Op::Exit => return self.leave(me),
            }
        }
        Next::Over
    }

    /// Where whose turn it is waits; a new thread is started, and waits.
    fn seat(&mut self, thread: u32) -> &'static Seat {
        self.crew.awaiting(thread).unwrap_or_else(|_| super::fail(super::Failure::Threads))
    }

    /// Whose turn it is after this thread, which ends.
    fn leave(&mut self, me: u32) -> Next {
        self.crew.leave(me);
        loop {
            match self.program.next() {
                Some(Op::Turn { thread }) => return Next::Exit(self.seat(thread)),
                Some(Op::Clock { at_ns }) => self.clock(at_ns),
                Some(Op::Sample { at_ns }) => {
                    self.clock(at_ns);
                    self.sample(at_ns);
                }
                _ => super::fail(super::Failure::Broken),
            }
        }
    }

    #[inline]
    fn put(&mut self, slot: u32, block: usize) {
        self.calls += 1;
        self.refused += u64::from(block == 0);
        self.slots.set(slot, block);
    }

    #[inline]
    fn free(&mut self, slot: u32) {
        self.calls += 1;
        // SAFETY: the slot holds a block, or none, and is emptied.
        unsafe { calls::free(self.slots.get(slot)) };
        self.slots.set(slot, 0);
    }

    fn realloc(&mut self, slot: u32, size_bytes: u64, used_bytes: u64) {
        // SAFETY: the slot holds a block, or none, and takes the new one.
        let block = unsafe { calls::realloc(self.slots.get(slot), size_bytes, used_bytes) };
        if block == 0 {
            self.calls += 1;
            self.refused += 1;
        } else {
            self.put(slot, block);
        }
    }

    fn clock(&mut self, at_ns: u64) {
        clock::set(self.epoch_ns.saturating_add(at_ns));
        if self.limits.trim_ns > 0 && at_ns >= self.next_trim_ns {
            calls::trim();
            self.next_trim_ns = at_ns.saturating_add(self.limits.trim_ns);
        }
    }

    fn sample(&mut self, at_ns: u64) {
        let before = Times::now();
        let cpu_ns = before.since(self.begun).cpu_ns - self.measuring.cpu_ns;
        let heap_bytes = private_bytes().unwrap_or(0).saturating_sub(self.base_bytes);
        tell(Record::Sample { at_ns, heap_bytes, calls: self.calls, cpu_ns });
        if heap_bytes > self.limits.max_bytes {
            tell(Record::OverLimit { heap_bytes });
            super::quit();
        }
        let took = Times::now().since(before);
        self.measuring.cpu_ns += took.cpu_ns;
        self.measuring.wall_ns += took.wall_ns;
    }

    fn done(&self) {
        let all = Times::now().since(self.begun);
        tell(Record::Done {
            calls: self.calls,
            cpu_ns: all.cpu_ns - self.measuring.cpu_ns,
            wall_ns: all.wall_ns - self.measuring.wall_ns,
            refused: self.refused,
        });
    }
}
