//! The threads of a replay, of which one goes on at a time.
//!
//! Their stacks are shared memory, so that they are not measured.

use std::{
    ffi::c_void,
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::thread::futex;

use super::shared::{Words, map};

/// More than any allocator needs; only what is used takes memory.
const STACK_BYTES: usize = 512 << 10;

/// What a thread does, with its [`Seat`].
pub type Main = extern "C" fn(*mut c_void) -> *mut c_void;

/// Where a thread waits for its turn. Zeros are one of the first thread.
#[derive(Debug, Default)]
pub struct Seat {
    /// 1 when the turn has come.
    baton: AtomicU32,
    /// The thread's number.
    number: AtomicU32,
}

impl Seat {
    /// The thread's number.
    pub fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Gives the turn to whoever waits here.
    pub fn wake(&self) {
        self.baton.store(1, Ordering::Release);
        let _ = futex::wake(&self.baton, futex::Flags::PRIVATE, 1);
    }

    /// Waits for the turn.
    pub fn wait(&self) {
        while self.baton.swap(0, Ordering::Acquire) == 0 {
            let _ = futex::wait(&self.baton, futex::Flags::PRIVATE, 0, None);
        }
    }
}

/// The threads.
pub struct Crew {
    seats: NonNull<Seat>,
    count: u32,
    /// Of each, its handle; 0 where it is not there.
    handles: Words,
    /// Of each, its stack.
    stacks: Words,
    /// Stacks that nobody has.
    free_stacks: Words,
    free_count: u32,
    /// Who ended and is to be waited for: handle and stack.
    ended: Option<(usize, usize)>,
    main: Main,
}

impl Crew {
    /// Of so many at most; the first one is there.
    ///
    /// # Errors
    /// When there is no room.
    pub fn new(count: u32, main: Main) -> io::Result<Self> {
        let room = count as usize + 1;
        Ok(Self {
            seats: map(room * size_of::<Seat>())?.cast(),
            count,
            handles: Words::new(room)?,
            stacks: Words::new(room)?,
            free_stacks: Words::new(room)?,
            free_count: 0,
            ended: None,
            main,
        })
    }

    /// Where a thread waits.
    pub fn seat(&self, thread: u32) -> &'static Seat {
        let index = thread.min(self.count) as usize;
        // SAFETY: within the mapping, which is zeroed and never unmapped; seats are atomic.
        unsafe { self.seats.add(index).as_ref() }
    }

    /// Where to wake a thread, which is started if it is not there.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn awaiting(&mut self, thread: u32) -> io::Result<&'static Seat> {
        let seat = self.seat(thread);
        if thread != 0 && self.handles.get(thread) == 0 {
            seat.number.store(thread, Ordering::Relaxed);
            self.start(thread, seat)?;
        }
        Ok(seat)
    }

    /// The calling thread is about to end.
    pub fn leave(&mut self, thread: u32) {
        self.ended = Some((self.handles.get(thread), self.stacks.get(thread)));
        self.handles.set(thread, 0);
    }

    /// Waits until who ended is gone: what its end frees is freed before anything else.
    pub fn bury(&mut self) {
        if let Some((handle, stack)) = self.ended.take() {
            // SAFETY: a thread that was started here and is joined once.
            unsafe { libc::pthread_join(handle as libc::pthread_t, std::ptr::null_mut()) };
            self.free_stacks.set(self.free_count, stack);
            self.free_count += 1;
        }
    }

    fn stack(&mut self) -> io::Result<usize> {
        match self.free_count.checked_sub(1) {
            Some(last) => {
                self.free_count = last;
                Ok(self.free_stacks.get(last))
            }
            None => map(STACK_BYTES).map(|start| start.as_ptr() as usize),
        }
    }

    fn start(&mut self, thread: u32, seat: &'static Seat) -> io::Result<()> {
        let stack = self.stack()?;
        let argument = std::ptr::from_ref(seat).cast_mut().cast();
        let mut handle: libc::pthread_t = 0;
        // SAFETY: an all-zero value is one that pthread_attr_init may write over.
        let mut attributes: libc::pthread_attr_t = unsafe { std::mem::zeroed() };
        // SAFETY: the attributes are initialised before they are used, and the stack is memory of
        // that length that no other thread has.
        let error = unsafe {
            libc::pthread_attr_init(&raw mut attributes);
            libc::pthread_attr_setstack(&raw mut attributes, stack as *mut c_void, STACK_BYTES);
            libc::pthread_create(&raw mut handle, &raw const attributes, self.main, argument)
        };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        self.handles.set(thread, handle as usize);
        self.stacks.set(thread, stack);
        Ok(())
    }
}
