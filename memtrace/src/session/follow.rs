//! Children of traced processes: attached to while the others go on being traced, as long as there
//! is room.

use std::{
    collections::VecDeque,
    num::NonZeroU32,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{
    Observer, Options, Sample,
    attach::{AttachError, Attached, attach},
    prepare::Start,
    window::{Place, SeenFork},
};
use crate::{
    budget::Change,
    model::{
        cost::Cost,
        trace::{EndReason, NotFollowed, Refused},
    },
    probe::target::PlanError,
    sys::{procfs::ProcError, signals::HeldSignals},
};

/// Most processes that are traced at a time: each has its own programs and maps in the kernel.
const MAX_AT_ONCE: usize = 32;

/// Most of a window; their numbers have eight bits in a capture.
const MAX_IN_ALL: usize = 256;

/// Attaches under way at a time: the target wants CPUs, too.
const MAX_ATTACHES: usize = 2;

/// A child that executes a program while memtrace attaches is attached to again for so long.
const LONGEST_START: Duration = Duration::from_secs(2);

/// Its program may have mapped more after this.
const NEXT_LOOK: Duration = Duration::from_millis(20);

/// Most refusals that are told one by one.
const MAX_REFUSED: usize = 8;

/// Rings of children are smaller than those that were asked for by this.
const RING_SHARE: u32 = 4;

/// An attach that came to its end.
type Attempt = (SeenFork, Result<Box<Attached>, AttachError>);

/// See the module.
pub(super) struct Follower {
    options: Arc<Options>,
    waiting: VecDeque<SeenFork>,
    attaches: JoinSet<Attempt>,
    /// Processes that were given a number.
    numbered: usize,
    not_followed: NotFollowed,
}

impl Follower {
    /// Follows children if that is asked for; so many processes are traced already.
    pub(super) fn new(options: &Options, traced: usize) -> Self {
        let ring_bytes = (options.ring_bytes / RING_SHARE).max(64 << 10);
        Self {
            options: Arc::new(Options { ring_bytes, ..options.clone() }),
            waiting: VecDeque::new(),
            attaches: JoinSet::new(),
            numbered: traced,
            not_followed: NotFollowed::default(),
        }
    }

    /// Takes children; there are so many processes now.
    pub(super) fn follow(&mut self, children: Vec<SeenFork>, traced: usize) {
        for child in children {
            let at_once = traced + self.waiting.len() + self.attaches.len();
            if at_once >= MAX_AT_ONCE || self.numbered + self.pending() >= MAX_IN_ALL {
                self.not_followed.beyond_limit += 1;
            } else {
                self.waiting.push_back(child);
            }
        }
        self.start();
    }

    fn start(&mut self) {
        while self.attaches.len() < MAX_ATTACHES {
            let Some(child) = self.waiting.pop_front() else { return };
            let options = self.options.clone();
            self.attaches.spawn_blocking(move || {
                let attached = attach_to(child.pid, &options);
                (child, attached)
            });
        }
    }

    /// How many children are still to be attached to.
    pub(super) fn pending(&self) -> usize {
        self.waiting.len() + self.attaches.len()
    }

    /// A child that has been attached to, and its place. Never ready while there is none.
    pub(super) async fn next(&mut self) -> (Box<Attached>, Place) {
        loop {
            let Some(joined) = self.attaches.join_next().await else {
                return std::future::pending().await;
            };
            self.start();
            match joined {
                Ok((child, Ok(attached))) => return (attached, self.place(child)),
                Ok((child, Err(error))) => self.miss(&child, &error),
                Err(error) => log::warn!("an attach to a child has failed: {error}"),
            }
            if self.pending() == 0 {
                return std::future::pending().await;
            }
        }
    }

    /// The next place.
    fn place(&mut self, child: SeenFork) -> Place {
        let number = u8::try_from(self.numbered).unwrap_or(u8::MAX);
        self.numbered += 1;
        let SeenFork { parent, time_ns, heap, .. } = child;
        let forked_ns = (time_ns > 0).then_some(time_ns);
        Place { number, parent: Some(parent), forked_ns, heap }
    }

    fn miss(&mut self, child: &SeenFork, error: &AttachError) {
        if has_ended(error) {
            self.not_followed.ended_early += 1;
            return;
        }
        self.not_followed.refused_count += 1;
        if self.not_followed.refused.len() < MAX_REFUSED {
            let refused = Refused { pid: child.pid, reason: error.to_string() };
            self.not_followed.refused.push(refused);
        }
    }

    /// What could not be followed. Attaches under way are given up.
    pub(super) fn finish(mut self) -> NotFollowed {
        self.not_followed.beyond_window += self.pending() as u64;
        self.attaches.abort_all();
        self.not_followed
    }
}

/// Attaches to a child, which may execute a program at any moment.
fn attach_to(pid: u32, options: &Options) -> Result<Box<Attached>, AttachError> {
    let pid = NonZeroU32::new(pid).unwrap_or(NonZeroU32::MIN);
    let options = Options { pid, ..options.clone() };
    let _held = HeldSignals::hold();
    until_it_has_begun(|| attach(&options, Start::default(), &mut Silent)).map(Box::new)
}

/// Tries again while the failure may be of a program that was executed a moment ago.
fn until_it_has_begun<T>(
    mut attach: impl FnMut() -> Result<T, AttachError>,
) -> Result<T, AttachError> {
    let begun = Instant::now();
    loop {
        match attach() {
            Err(error) if is_beginning(&error) && begun.elapsed() < LONGEST_START => {
                thread::sleep(NEXT_LOOK);
            }
            other => return other,
        }
    }
}

/// It executed a program meanwhile, or one whose linker has not mapped the C library yet.
fn is_beginning(error: &AttachError) -> bool {
    use AttachError::{Executed, Plan, Verify};
    matches!(error, Executed { .. } | Plan(PlanError::NoAllocator { .. }) | Verify(_))
}

/// What happens during the attach to a child is nobody's business.
struct Silent;

impl Observer for Silent {
    fn expected(&mut self, _: &Cost) {}
    fn changed(&mut self, _: &Change) {}
    fn tracing(&mut self, _: &str, _: usize, _: u64) {}
    fn followed(&mut self, _: &str, _: Option<u64>) {}
    fn sample(&mut self, _: &Sample) {}
    fn ended(&mut self, _: EndReason) {}
    fn naming(&mut self, _: usize) {}
}

/// It was too short-lived: that is no refusal.
fn has_ended(error: &AttachError) -> bool {
    match error {
        AttachError::PidReused { .. } => true,
        AttachError::Handle { source, .. } => {
            source.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
        }
        AttachError::Proc(error) => is_gone(error),
        AttachError::Plan(PlanError::Process(error)) => is_gone(error),
        _ => false,
    }
}

fn is_gone(error: &ProcError) -> bool {
    matches!(
        error,
        ProcError::NoSuchProcess { .. } | ProcError::Ended { .. } | ProcError::Zombie { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_allocator() -> AttachError {
        let (path, left_out) = ("/bin/sh".to_owned(), Vec::new());
        PlanError::NoAllocator { pid: 7, path, left_out }.into()
    }

    #[test]
    fn a_program_that_was_just_executed_is_looked_at_until_it_has_its_libraries() {
        let failures = [AttachError::Executed { pid: 7 }, no_allocator(), no_allocator()];
        let mut failures = failures.into_iter();
        let attached = until_it_has_begun(|| failures.next().map_or(Ok("attached"), Err));
        assert_eq!(attached.unwrap(), "attached");
    }

    #[test]
    fn what_never_gets_an_allocator_is_given_up_and_what_may_not_be_traced_at_once() {
        let mut looks = 0;
        let mut never = || -> Result<(), _> {
            looks += 1;
            Err(no_allocator())
        };
        assert!(until_it_has_begun(&mut never).is_err());
        assert!(looks > 2);
        let mut looks = 0;
        let mut own = || -> Result<(), _> {
            looks += 1;
            Err(AttachError::Own { pid: 7 })
        };
        assert!(until_it_has_begun(&mut own).is_err());
        assert_eq!(looks, 1);
    }
}
