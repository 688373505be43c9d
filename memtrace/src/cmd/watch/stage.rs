//! What the next capture takes, made ready on a thread in the background.

use std::{
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::RESERVED_BYTES;
use crate::{
    model::size::bytes,
    session::{Options, Prepared},
    sys::{
        cgroup::{self, Group},
        preserve::renew,
        priority::{calm_down, hurry},
        procfs::ProcFs,
    },
};

/// What maps, programs and verifying them take of the kernel's memory for a moment: 22 MiB were measured on
/// Linux 6.18.
const NEEDED_BYTES: u64 = 24 << 20;

/// The same of the programs that follow growth: 15 MiB.
const NEEDED_FOR_GROWTH_BYTES: u64 = 17 << 20;

/// What an earlier capture had is given back in that time.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub struct Stage {
    ready: Mutex<Option<Prepared>>,
    /// A capture waits.
    is_urgent: AtomicBool,
    /// The thread that makes it ready; 0 when there is none.
    thread: AtomicU32,
}

impl Stage {
    /// Makes ready what a trace with these options takes, on this thread, which others go before.
    ///
    /// # Errors
    /// When memtrace's own control group has no room for it, and whatever would stand in the way of
    /// the trace.
    pub fn prepare(&self, options: &Options) -> Result<()> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut ready, options)?;
        self.calm_down();
        let is_urgent = || self.is_urgent.load(Ordering::Relaxed);
        let prepared = Prepared::make(options, ready.take(), &is_urgent);
        self.thread.store(0, Ordering::Relaxed);
        renew(RESERVED_BYTES);
        *ready = Some(prepared?);
        Ok(())
    }

    /// What is left of a trace serves the next one.
    pub fn keep(&self, rest: Option<Prepared>) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_none() {
            *ready = rest;
        }
    }

    /// Makes ready a trace of whoever comes next, if something was kept and nobody has come yet; whether it was so.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_next(&self, options: &Options) -> Result<bool> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.as_ref().is_none_or(Prepared::is_loaded) {
            return Ok(false);
        }
        make_room(&mut ready, options)?;
        let Some(rest) = ready.take() else { return Ok(false) };
        self.calm_down();
        let loaded = rest.load(options);
        self.thread.store(0, Ordering::Relaxed);
        *ready = Some(loaded?);
        Ok(true)
    }

    fn calm_down(&self) {
        match calm_down() {
            Ok(thread) => {
                self.thread.store(thread, Ordering::SeqCst);
                // Whoever waits for it since before that has hurried nobody.
                if self.is_urgent.load(Ordering::SeqCst) {
                    self.hurry();
                }
            }
            Err(error) => log::debug!("preparing is as urgent as all else: {error}"),
        }
    }

    /// There is not much time left: what is in the making takes its turn on the CPUs.
    pub fn hurry(&self) {
        let thread = self.thread.swap(0, Ordering::SeqCst);
        if thread != 0
            && let Err(error) = hurry(thread)
        {
            log::debug!("preparing is not hurried: {error}");
        }
    }

    /// What is ready for a trace with these options; waits for what is in the making.
    ///
    /// # Errors
    /// When nothing is, and there is no room for it.
    pub fn take(&self, options: &Options) -> Result<Option<Prepared>> {
        self.is_urgent.store(true, Ordering::SeqCst);
        self.hurry();
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.is_urgent.store(false, Ordering::Relaxed);
        make_room(&mut ready, options)?;
        Ok(ready)
    }
}

fn is_loaded(ready: &Option<Prepared>) -> bool {
    ready.as_ref().is_some_and(Prepared::is_loaded)
}

/// Sees that there is room for the programs: what is left of the trace before gives way to them.
fn make_room(ready: &mut Option<Prepared>, options: &Options) -> Result<()> {
    if is_loaded(ready) {
        return Ok(());
    }
    let room = check_room(options);
    if room.is_ok() || ready.take().is_none() {
        return room;
    }
    renew(RESERVED_BYTES);
    check_room(options)
}

/// Verifying is charged to memtrace's own control group, and is no reason to be killed by its limit. The
/// kernel takes a moment to free maps.
fn check_room(options: &Options) -> Result<()> {
    let begun = Instant::now();
    loop {
        let room = check_room_now(options);
        if room.is_ok() || begun.elapsed() > GIVEN_BACK_WITHIN {
            return room;
        }
        thread::sleep(GIVEN_BACK_WITHIN / 20);
    }
}

fn check_room_now(options: &Options) -> Result<()> {
    let path = cgroup::path(&ProcFs::new("/proc"), std::process::id())?;
    let Ok(group) = Group::open(Path::new(cgroup::ROOT), &path) else { return Ok(()) };
    let Ok(Some(usage)) = group.usage() else { return Ok(()) };
    let Some(limit_bytes) = usage.limit_bytes else { return Ok(()) };
    // What a capture has read of libraries goes when room is needed.
    let in_use_bytes = usage.working_set_bytes - usage.active_file_bytes;
    let left_bytes = limit_bytes.saturating_sub(in_use_bytes);
    let needed_bytes =
        if options.growth.is_some() { NEEDED_FOR_GROWTH_BYTES } else { NEEDED_BYTES };
    if left_bytes < needed_bytes {
        bail!(
            "memtrace's own control group has {} left, and verifying its programs takes {} for a moment: \
             raise its limit",
            bytes(left_bytes),
            bytes(needed_bytes)
        );
    }
    Ok(())
}
