//! A replay: makes the calls of a [`crate::whatif::program`] in this process, under whatever
//! allocator and settings it was started with, and tells how much memory that takes.
//!
//! `memtrace whatif` starts memtrace again for each. The program is its standard input, a file that
//! it maps, and what it tells goes to its standard output, as records of fixed size. It allocates
//! nothing while it replays, so that all that the allocator under test does is in the program.

pub mod board;
mod calls;
mod clock;
mod crew;
mod memory;
mod player;
mod shared;

use std::{
    env,
    ffi::{CStr, c_char, c_void},
    os::unix::ffi::OsStrExt as _,
};

use memmap2::Mmap;

use self::{board::Record, player::Limits};
use crate::whatif::program::Program;

/// The first argument of a replay.
pub const COMMAND: &str = "__replay";

/// Why a replay cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[repr(u64)]
pub enum Failure {
    /// The standard input.
    #[error("it was not given a program")]
    NoProgram = 1,
    /// A step that is none, or not where it may be.
    #[error("its program is broken")]
    Broken = 2,
    /// `pthread_create`.
    #[error("a thread could not be started")]
    Threads = 3,
    /// Room for its own books, or `/proc/self/smaps_rollup`.
    #[error("there is no room for its books, or the kernel does not tell how much memory it has")]
    Books = 4,
    /// The dynamic linker ignores libraries and settings (`AT_SECURE`).
    #[error(
        "memtrace has more rights than who runs it (file capabilities, set-user-ID): the dynamic \
         linker takes no library and no setting then; run a copy of it without them"
    )]
    Secure = 5,
}

impl Failure {
    /// By number.
    pub fn of(number: u64) -> Option<Self> {
        [Self::NoProgram, Self::Broken, Self::Threads, Self::Books, Self::Secure]
            .into_iter()
            .find(|it| *it as u64 == number)
    }
}

/// Replays and does not return, if this process was started for that. To be called before anything
/// else allocates.
pub fn replay_if_asked() {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first.as_bytes() != COMMAND.as_bytes()) {
        return;
    }
    let mut number = || arguments.next()?.to_str()?.parse().ok();
    let (Some(max_bytes), Some(trim_ns)) = (number(), number()) else { fail(Failure::NoProgram) };
    drop(arguments);
    end_with_parent();
    let Some(program) = program() else { fail(Failure::NoProgram) };
    let Some((program, room)) = Program::open(program) else { fail(Failure::NoProgram) };
    if is_secure() {
        fail(Failure::Secure);
    }
    if player::play(program, room, Limits { max_bytes, trim_ns }).is_err() {
        fail(Failure::Books);
    }
    quit();
}

/// The file that is the standard input, for as long as the process lives.
fn program() -> Option<&'static [u8]> {
    // SAFETY: the file belongs to the memtrace that started this one, which does not change it.
    let map = unsafe { Mmap::map(&std::io::stdin()) }.ok()?;
    Some(Box::leak(Box::new(map)))
}

fn end_with_parent() {
    let signal = Some(rustix::process::Signal::KILL);
    let _ = rustix::process::set_parent_process_death_signal(signal);
}

fn is_secure() -> bool {
    // SAFETY: the call has no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Tells what it is under, before the first call.
fn ready(base_bytes: u64) {
    tell(Record::Ready {
        base_bytes,
        clock_is_recorded: clock::is_ours(),
        glibc_version: glibc_version(),
        inode: inode_of_malloc(),
    });
}

/// Of the file that `malloc` is in; 0 where that cannot be told.
fn inode_of_malloc() -> u64 {
    // SAFETY: the name is a C string.
    let malloc = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"malloc".as_ptr()) };
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: the call writes one such struct, and nothing else.
    let found = unsafe { libc::dladdr(malloc, &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return 0;
    }
    // SAFETY: the dynamic linker's own name of a library that is loaded.
    let path = unsafe { CStr::from_ptr(info.dli_fname) };
    rustix::fs::stat(path).map_or(0, |it| it.st_ino)
}

/// 2036 for 2.36; 0 where it is another C library.
fn glibc_version() -> u64 {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"gnu_get_libc_version".as_ptr()) };
    if found.is_null() {
        return 0;
    }
    // SAFETY: a function of this name has this type.
    let function = unsafe {
        std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const c_char>(found)
    };
    // SAFETY: it returns a C string that stays.
    let version = unsafe { CStr::from_ptr(function()) };
    let Some((major, minor)) = version.to_str().ok().and_then(|text| text.split_once('.')) else {
        return 0;
    };
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    number(major) * 1000 + number(minor)
}

fn tell(record: Record) {
    let mut bytes: &[u8] = &record.bytes();
    while let Ok(count @ 1..) = rustix::io::write(rustix::stdio::stdout(), bytes) {
        bytes = &bytes[count..];
    }
}

/// Ends the process, whatever its threads do.
fn quit() -> ! {
    // SAFETY: nothing is to be done at the end.
    unsafe { libc::_exit(0) }
}

fn fail(failure: Failure) -> ! {
    tell(Record::Failed { reason: failure as u64 });
    quit()
}
