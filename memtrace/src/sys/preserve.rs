//! What keeps memtrace itself alive where memory runs out: its own is taken at the start and locked,
//! and the kernel is asked to kill others first.

use std::{
    fs, hint, io,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::mm::{MlockAllFlags, mlockall, munlockall};

/// The lowest score: such a process is never killed for want of memory (proc_pid_oom_score_adj(5)).
const NEVER_KILLED: i32 = -1000;

/// Memory was locked.
static IS_LOCKED: AtomicBool = AtomicBool::new(false);

/// What came of it, for the first screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preserved {
    /// Heap that was touched and is kept.
    pub reserved_bytes: u64,
    /// Why memory is not locked; `None` when it is.
    pub not_locked: Option<String>,
    /// The score that memtrace has now, and why it is no lower.
    pub oom_score_adj: i32,
    /// Why the score could not be lowered.
    pub not_lowered: Option<String>,
}

/// Touches `heap_bytes` of heap so that they are there when they are needed, locks what is used and
/// what will be, and lowers the chance to be killed. To be called while there is one thread.
pub fn preserve(heap_bytes: usize) -> Preserved {
    reserve(heap_bytes);
    let not_locked = lock().err().map(|error| error.to_string());
    IS_LOCKED.store(not_locked.is_none(), Ordering::Relaxed);
    let not_lowered = lower_oom_score().err().map(|error| error.to_string());
    Preserved {
        reserved_bytes: heap_bytes as u64,
        not_locked,
        oom_score_adj: own_oom_score(),
        not_lowered,
    }
}

/// What one capture has left free between what is kept would stay beside what the next one takes: it is given
/// back, and so much heap is ready again.
pub fn renew(heap_bytes: usize) {
    give_back();
    touch(heap_bytes);
}

/// Gives back all heap that is free, for what takes memory elsewhere for a moment; [`renew`] is to follow.
pub fn give_back() {
    // The kernel takes back no page that is locked.
    let was_locked = IS_LOCKED.load(Ordering::Relaxed);
    if was_locked && let Err(error) = munlockall() {
        log::debug!("memory stays locked: {error}");
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
    if was_locked && let Err(error) = lock() {
        log::warn!("memory is not locked any more: {error}");
    }
}

/// Larger blocks would be mapped one by one.
const MOST_A_BLOCK: usize = 32 << 20;

/// Of what is touched.
const PIECE_BYTES: usize = 32 << 10;

/// One heap for all threads, which keeps what it has: blocks come from it and go back to it.
fn reserve(bytes: usize) {
    #[cfg(target_env = "gnu")]
    // SAFETY: these calls set numbers of the allocator; they are documented to be made before
    // there are other threads.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MOST_A_BLOCK as i32);
    }
    touch(bytes);
}

/// In pieces that fit into what earlier blocks have left between others: the next ones will be there, too, and
/// the kernel has taken the pages of most of it.
fn touch(bytes: usize) {
    let touched: Vec<Vec<u8>> = (0..bytes / PIECE_BYTES).map(|_| vec![1; PIECE_BYTES]).collect();
    hint::black_box(&touched);
}

/// Pages are locked when they are first used: whole mappings of the program's file would be more
/// than all that watching needs.
fn lock() -> io::Result<()> {
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    raise_lock_limit();
    Ok(mlockall(all)?)
}

/// Root may lock what it likes; where the limit holds, it is as high as may be.
fn raise_lock_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Memlock);
    let limit = Rlimit { current: maximum, maximum };
    if let Err(error) = setrlimit(Resource::Memlock, limit) {
        log::debug!("the limit of locked memory stays as it is: {error}");
    }
}

fn lower_oom_score() -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", NEVER_KILLED.to_string())
}

fn own_oom_score() -> i32 {
    let text = fs::read_to_string("/proc/self/oom_score_adj");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}
