//! Kills for want of memory, announced or counted.

use super::{
    super::{Event, kills::announced, record::record},
    Watch,
};
use crate::model::incident::OomKill;

impl Watch<'_> {
    pub(super) fn take_announcements(&mut self) {
        let page_bytes = rustix::param::page_size() as u64;
        let mut kills = Vec::new();
        if let Some(events) = &mut self.announcements {
            while let Some(victim) = events.get_mut().next_victim() {
                kills.push(announced(&victim, page_bytes));
            }
        }
        kills.into_iter().for_each(|kill| self.killed(kill));
    }

    /// One of those that are watched, or somebody else.
    pub(super) fn killed(&mut self, kill: OomKill) {
        let mut targets = self.targets.iter();
        let found = targets.find(|(_, target)| target.knows(kill.pid)).map(|(number, _)| *number);
        if let Some(number) = found {
            self.book(number, kill);
        }
    }

    pub(super) fn book(&mut self, number: u64, kill: OomKill) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        if self.kills.known(kill.pid).is_some() {
            return;
        }
        let kill = target.complete(kill);
        target.status.oom_kills += 1;
        // No look sees what it had in the end.
        target.status.rss.raise(kill.undroppable_bytes());
        self.status.oom_kills += 1;
        self.kills.add(kill.clone());
        self.observer.happened(Event::Killed(&kill));
        // Else its capture ends with it, and has the sites.
        if target.running.as_ref().is_none_or(|it| it.pid != kill.pid) {
            self.keep(number, kill);
        }
    }

    /// What was known of a process that was killed and has no capture.
    pub(super) fn keep(&mut self, number: u64, kill: OomKill) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let census = target.take_census(kill.pid);
        let Some(member) = target.take_member(kill.pid) else { return };
        let capture = record(&self.proc, member, census, kill, &self.options.command_line);
        if let Err(error) = self.jobs.keep(number, capture) {
            self.fail(&format!("there is no thread for a record: {error}"));
        }
    }

    /// Kills that were not announced, by the counter of the group: of those that left since the last
    /// look, the largest.
    pub(super) fn count_kills(&mut self, number: u64, now_ns: u64) {
        if self.announcements.is_none() {
            self.book_counted(number, now_ns);
        }
        if let Some(target) = self.targets.get_mut(&number) {
            target.forget_left(now_ns);
        }
    }

    pub(super) fn book_counted(&mut self, number: u64, now_ns: u64) {
        let Some(target) = self.targets.get_mut(&number) else { return };
        let counted = target.new_kills();
        let mut left: Vec<(u64, u32, String)> = target
            .left
            .iter()
            .map(|(_, it)| (it.rss_bytes, it.process.pid, it.process.command.clone()))
            .filter(|(_, pid, _)| self.kills.known(*pid).is_none())
            .collect();
        left.sort_unstable();
        for (_, pid, command) in left.into_iter().rev().take(counted as usize) {
            self.book(number, OomKill { pid, command, time_ns: now_ns, ..OomKill::default() });
        }
    }
}
