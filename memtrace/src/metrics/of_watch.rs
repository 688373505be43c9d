//! The state of a watch, put on the board.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{About, Board, Quantity, Reading, Target, Work};
use crate::{
    model::place::{Container, pod_uid},
    watch::status::{Gauge, Status, TargetStatus},
};

/// A board that follows a watch.
#[derive(Debug)]
pub struct WatchBoard {
    board: Board,
    shown: BTreeSet<String>,
}

impl WatchBoard {
    /// On this board.
    pub fn new(board: Board) -> Self {
        Self { board, shown: BTreeSet::new() }
    }

    /// Puts a new state on it.
    pub fn show(&mut self, status: &Status) {
        let looked_at = status.time.parse::<Timestamp>().ok();
        let looked_at_unix_ms = looked_at.and_then(|it| it.as_millisecond().try_into().ok());
        let names = names(&status.targets);
        for (name, target) in names.iter().zip(&status.targets) {
            self.board.update(name, |shown| {
                fill(shown, target);
                shown.looked_at_unix_ms = looked_at_unix_ms;
            });
            self.board.reached(name, &reached(target));
        }
        self.forget_others(names.into_iter().collect());
        self.board.did(work(status));
    }

    fn forget_others(&mut self, names: BTreeSet<String>) {
        let gone = self.shown.difference(&names);
        gone.for_each(|name| self.board.remove(name));
        self.shown = names;
    }
}

/// Values of the label `target`: names, and where several processes have one name, their pids, too.
fn names(targets: &[TargetStatus]) -> Vec<String> {
    let is_shared = |name: &str| targets.iter().filter(|it| it.name == name).count() > 1;
    let name = |target: &TargetStatus| match target.pid {
        Some(pid) if is_shared(&target.name) => format!("{} ({pid})", target.name),
        _ => target.name.clone(),
    };
    targets.iter().map(name).collect()
}

fn gauges(target: &TargetStatus) -> [(Quantity, Option<Gauge>); 5] {
    [
        (Quantity::Rss, Some(target.rss)),
        (Quantity::Live, target.live),
        (Quantity::InUse, target.in_use),
        (Quantity::Trapped, target.trapped),
        (Quantity::Returnable, target.returnable),
    ]
}

fn fill(shown: &mut Target, target: &TargetStatus) {
    for (quantity, gauge) in gauges(target) {
        shown.now.set(quantity, gauge.map(|it| it.now_bytes));
    }
    shown.now.set(Quantity::Swap, target.swap_bytes);
    shown.limit_bytes = target.limit_bytes;
    let is_process = target.pid.is_some();
    shown.peak_rss_bytes = target.peak_bytes.filter(|_| is_process);
    shown.peak_cgroup_bytes = target.peak_bytes.filter(|_| !is_process);
    shown.processes = Some(target.processes).filter(|_| !is_process);
    shown.time_to_limit_ns = target.time_to_limit_ns;
    shown.oom_kills = Some(target.oom_kills);
    shown.looks += 1;
    shown.about = about(target);
}

fn about(target: &TargetStatus) -> About {
    match target.pid {
        Some(pid) => About { pid: Some(pid), command: target.name.clone(), ..About::default() },
        None => {
            let container = Container::of_cgroup(&target.name).map(|it| it.id);
            About {
                cgroup: target.name.clone(),
                container: container.unwrap_or_default(),
                pod_uid: target.name.split('/').rev().find_map(pod_uid).unwrap_or_default(),
                ..About::default()
            }
        }
    }
}

fn reached(target: &TargetStatus) -> Reading {
    gauges(target).into_iter().fold(Reading::default(), |sizes, (quantity, gauge)| {
        sizes.with(quantity, gauge.map(|it| it.reached_bytes))
    })
}

fn work(status: &Status) -> Work {
    Work {
        firings: status.firings,
        captures_written: status.captures_written,
        captures_failed: status.captures_failed,
        captures_removed: status.captures_removed,
        oom_kills: status.oom_kills,
        losses: status.losses.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, pid: Option<u32>, now_bytes: u64, reached_bytes: u64) -> TargetStatus {
        let rss = Gauge { now_bytes, reached_bytes, ..Gauge::default() };
        TargetStatus { name: name.to_owned(), pid, rss, ..TargetStatus::default() }
    }

    fn shown(board: &Board, targets: Vec<TargetStatus>) -> String {
        let mut watch = WatchBoard::new(board.clone());
        watch.show(&Status { targets, oom_kills: 2, ..Status::default() });
        board.scrape("").unwrap()
    }

    #[test]
    fn processes_of_one_name_are_told_apart_and_a_process_alone_keeps_its_name() {
        let two = vec![target("web", Some(7), 1, 1), target("web", Some(8), 2, 2)];
        let text = shown(&Board::default(), two);
        assert!(text.contains("memtrace_target_rss_bytes{target=\"web (7)\"} 1\n"), "{text}");
        let text = shown(&Board::default(), vec![target("web", Some(7), 1, 1)]);
        assert!(text.contains("memtrace_target_rss_bytes{target=\"web\"} 1\n"), "{text}");
        assert!(text.contains("memtrace_oom_kills_total 2\n"), "{text}");
    }

    #[test]
    fn a_peak_between_two_looks_is_in_the_next_scrape_only_and_so_is_an_equal_one_later() {
        const MAX: &str = "memtrace_target_rss_max_since_last_scrape_bytes{target=\"/pods\"}";
        let board = Board::default();
        let mut watch = WatchBoard::new(board.clone());
        let mut look = |now, reached| {
            let targets = vec![target("/pods", None, now, reached)];
            watch.show(&Status { targets, ..Status::default() });
        };
        look(10, 10);
        board.scrape("").unwrap();
        for _ in 0..2 {
            look(11, 90);
            look(12, 12);
            assert!(board.scrape("").unwrap().contains(&format!("{MAX} 90\n")));
            look(13, 13);
            assert!(board.scrape("").unwrap().contains(&format!("{MAX} 13\n")));
        }
    }

    #[test]
    fn what_is_watched_no_more_is_not_shown() {
        let board = Board::default();
        let mut watch = WatchBoard::new(board.clone());
        let targets = vec![target("web", Some(7), 1, 1)];
        watch.show(&Status { targets, ..Status::default() });
        watch.show(&Status::default());
        assert!(!board.scrape("").unwrap().contains("web"));
    }
}
