//! Who was killed for want of memory, for the threads that take captures of them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use memtrace_common::{growth::RssKind, oom::Victim};

use crate::model::incident::OomKill;

/// The last so many are remembered.
const REMEMBERED: usize = 64;

/// How often somebody who waits looks.
const LOOK: Duration = Duration::from_millis(20);

/// The latest kills; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Kills(Arc<Mutex<VecDeque<OomKill>>>);

impl Kills {
    /// Remembers a kill. Of one that is known, what is new is added.
    pub(super) fn add(&self, kill: OomKill) {
        let mut kills = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kills.retain(|it| it.pid != kill.pid);
        if kills.len() == REMEMBERED {
            kills.pop_front();
        }
        kills.push_back(kill);
    }

    /// The kill of a process that has ended; waits for `patience`, as news of it may come late.
    pub fn of(&self, pid: u32, patience: Duration) -> Option<OomKill> {
        let until = Instant::now() + patience;
        loop {
            if let Some(kill) = self.known(pid) {
                return Some(kill);
            }
            if Instant::now() >= until {
                return None;
            }
            thread::sleep(LOOK);
        }
    }

    pub(super) fn known(&self, pid: u32) -> Option<OomKill> {
        let kills = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kills.iter().find(|kill| kill.pid == pid).cloned()
    }
}

/// What the kernel announced.
pub(super) fn announced(victim: &Victim, page_bytes: u64) -> OomKill {
    let name: Vec<u8> = victim.command.iter().copied().take_while(|byte| *byte != 0).collect();
    let is_told = !name.is_empty();
    let bytes = |kind: RssKind| is_told.then(|| victim.pages[kind as usize] * page_bytes);
    OomKill {
        pid: victim.pid,
        command: String::from_utf8_lossy(&name).into_owned(),
        time_ns: victim.time_ns,
        anonymous_bytes: bytes(RssKind::Anonymous),
        file_bytes: bytes(RssKind::File),
        shmem_bytes: bytes(RssKind::Shared),
        oom_score_adj: is_told.then_some(victim.oom_score_adj),
        ..OomKill::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kill(pid: u32) -> OomKill {
        OomKill { pid, ..OomKill::default() }
    }

    #[test]
    fn the_latest_kills_are_remembered() {
        let kills = Kills::default();
        (1..=100).for_each(|pid| kills.add(kill(pid)));
        assert_eq!(kills.of(1, Duration::ZERO), None);
        assert_eq!(kills.of(100, Duration::ZERO), Some(kill(100)));
    }

    #[test]
    fn news_that_come_late_are_waited_for() {
        let kills = Kills::default();
        let later = kills.clone();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            later.add(kill(7));
        });
        assert_eq!(kills.of(7, Duration::from_secs(20)), Some(kill(7)));
        thread.join().unwrap();
    }

    #[test]
    fn a_victim_is_told_in_bytes() {
        let mut victim = Victim { pid: 5, pages: [1, 20, 3, 4], ..Victim::default() };
        assert_eq!(announced(&victim, 4096).anonymous_bytes, None);
        victim.command[..2].copy_from_slice(b"sh");
        let kill = announced(&victim, 4096);
        assert_eq!((kill.anonymous_bytes, kill.file_bytes), (Some(20 * 4096), Some(4096)));
        assert_eq!(kill.command, "sh");
    }
}
