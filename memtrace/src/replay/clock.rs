//! In a replay it is as late as it was when the calls were made: allocators that give memory back
//! after a while (jemalloc's decay, mimalloc's purges) do so as they would have.
//!
//! They ask the C library, whose function a program may define itself: the dynamic linker gives that
//! one to all libraries. Outside of a replay it hands the question on.

use std::{
    ffi::c_int,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use libc::{clockid_t, timespec};

const SECOND_NS: u64 = 1_000_000_000;

/// What the clocks of a replay show; 0 outside of one.
static NOW_NS: AtomicU64 = AtomicU64::new(0);

/// The C library's function, once it was looked up.
static REAL: AtomicUsize = AtomicUsize::new(0);

type ClockGettime = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;

/// Sets the clocks that only go forward.
pub fn set(now_ns: u64) {
    NOW_NS.store(now_ns, Ordering::Relaxed);
}

/// What they really show.
pub fn real_ns() -> u64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) };
    (now.tv_sec as u64).saturating_mul(SECOND_NS).saturating_add(now.tv_nsec as u64)
}

/// Whether libraries are given the function below.
pub fn is_ours() -> bool {
    // SAFETY: the name is a C string; what is returned is only compared.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"clock_gettime".as_ptr()) };
    std::ptr::eq(found.cast_const().cast(), clock_gettime as *const ())
}

/// As in POSIX.
///
/// # Safety
/// `now` is valid for writing.
// A static program has the C library's own, and no library to give this one to.
#[cfg_attr(not(target_feature = "crt-static"), unsafe(no_mangle))]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, now: *mut timespec) -> c_int {
    let now_ns = NOW_NS.load(Ordering::Relaxed);
    if now_ns == 0 || !goes_forward(clock) {
        // SAFETY: as the caller promises.
        return unsafe { ask(clock, now) };
    }
    let (tv_sec, tv_nsec) = ((now_ns / SECOND_NS) as i64, (now_ns % SECOND_NS) as i64);
    // SAFETY: as the caller promises.
    unsafe { now.write(timespec { tv_sec, tv_nsec }) };
    0
}

fn goes_forward(clock: clockid_t) -> bool {
    matches!(
        clock,
        libc::CLOCK_MONOTONIC
            | libc::CLOCK_MONOTONIC_RAW
            | libc::CLOCK_MONOTONIC_COARSE
            | libc::CLOCK_BOOTTIME
    )
}

/// # Safety
/// `now` is valid for writing.
unsafe fn ask(clock: clockid_t, now: *mut timespec) -> c_int {
    let mut real = REAL.load(Ordering::Relaxed);
    if real == 0 {
        // SAFETY: the name is a C string.
        real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"clock_gettime".as_ptr()) } as usize;
        REAL.store(real, Ordering::Relaxed);
    }
    if real == 0 {
        // SAFETY: as the caller promises.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, now) } as c_int;
    }
    // SAFETY: a function of this name has this type.
    let function = unsafe { std::mem::transmute::<usize, ClockGettime>(real) };
    // SAFETY: as the caller promises.
    unsafe { function(clock, now) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn outside_of_a_replay_clocks_show_the_time() {
        let before = real_ns();
        let start = Instant::now();
        while real_ns() < before + 1_000_000 {}
        assert!(start.elapsed().as_nanos() >= 500_000);
    }

    #[test]
    fn clocks_of_processors_and_of_the_day_are_left_alone() {
        assert!(goes_forward(libc::CLOCK_MONOTONIC_COARSE));
        assert!(!goes_forward(libc::CLOCK_REALTIME));
        assert!(!goes_forward(libc::CLOCK_THREAD_CPUTIME_ID));
    }
}
