//! The processes of a target, as they are seen from look to look.

use std::collections::BTreeMap;

use crate::{
    analysis::timeline::TimelineRecorder,
    model::timeline::TimelineSample,
    sys::{
        cgroup::Group,
        procfs::{ProcFs, Process},
    },
    trigger::Trend,
    watch::aim::{Candidate, aim},
};

/// Samples that are kept of each.
const SAMPLES: usize = 128;

/// A process.
pub(super) struct Member {
    /// As it was when it was first seen.
    pub(super) process: Process,
    /// `CLOCK_MONOTONIC` then.
    pub(super) seen_ns: u64,
    pub(super) rss_bytes: u64,
    /// The one that its memory is charged to: of a watched group, or of one in it, such as a container
    /// of a pod.
    pub(super) group: Option<Group>,
    trend: Trend,
    pub(super) recorder: TimelineRecorder,
}

impl Member {
    fn of(process: Process, group: Option<Group>, seen_ns: u64) -> Self {
        Self {
            process,
            seen_ns,
            rss_bytes: 0,
            group,
            trend: Trend::default(),
            recorder: TimelineRecorder::new(seen_ns, SAMPLES),
        }
    }

    fn sample(&mut self, now_ns: u64, rss_bytes: u64) {
        self.rss_bytes = rss_bytes;
        self.trend.push(now_ns, rss_bytes);
        let at_ns = now_ns.saturating_sub(self.seen_ns);
        self.recorder.record(TimelineSample { at_ns, rss_bytes, ..TimelineSample::default() });
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            pid: self.process.pid,
            rss_bytes: self.rss_bytes,
            bytes_per_second: self.trend.bytes_per_second().unwrap_or_default() as i64,
        }
    }
}

/// All of a target.
#[derive(Default)]
pub(super) struct Members(BTreeMap<u32, Member>);

impl Members {
    /// Takes note of who is there now, and how large; returns who has gone. The group of those who are new
    /// is asked for.
    pub(super) fn refresh(
        &mut self,
        proc: &ProcFs,
        pids: &[u32],
        now_ns: u64,
        group_of: impl Fn(u32) -> Option<Group>,
    ) -> Vec<Member> {
        let gone: Vec<u32> = self.0.keys().copied().filter(|pid| !pids.contains(pid)).collect();
        let mut gone: Vec<Member> = gone.iter().filter_map(|pid| self.0.remove(pid)).collect();
        for pid in pids {
            let Ok(rss_bytes @ 1..) = proc.rss_bytes(*pid) else {
                // A zombie, or one that is about to be.
                gone.extend(self.0.remove(pid));
                continue;
            };
            if !self.0.contains_key(pid)
                && let Ok(process) = proc.process(*pid)
            {
                self.0.insert(*pid, Member::of(process, group_of(*pid), now_ns));
            }
            if let Some(member) = self.0.get_mut(pid) {
                member.sample(now_ns, rss_bytes);
            }
        }
        gone
    }

    /// Who should be looked at; never memtrace itself, which may be in the same group.
    pub(super) fn aim(&self) -> Option<&Member> {
        self.aim_at(|_| true)
    }

    /// The same among those that are in a group.
    pub(super) fn aim_in(&self, group: &Group) -> Option<&Member> {
        self.aim_at(|member| member.group.as_ref().is_some_and(|it| it.is_within(group)))
    }

    fn aim_at(&self, may_be: impl Fn(&Member) -> bool) -> Option<&Member> {
        let own = std::process::id();
        let others = self.0.values().filter(|it| it.process.pid != own && may_be(it));
        let candidates: Vec<Candidate> = others.map(Member::candidate).collect();
        self.0.get(&aim(&candidates)?.pid)
    }

    /// The groups that their memory is charged to, each once.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        let groups = self.0.values().filter_map(|member| member.group.as_ref());
        let each_once: BTreeMap<&str, &Group> = groups.map(|it| (it.name(), it)).collect();
        each_once.into_values()
    }

    pub(super) fn get(&self, pid: u32) -> Option<&Member> {
        self.0.get(&pid)
    }

    pub(super) fn remove(&mut self, pid: u32) -> Option<Member> {
        self.0.remove(&pid)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The RSS of all together; what they share is counted for each.
    pub(super) fn rss_bytes(&self) -> u64 {
        self.0.values().map(|member| member.rss_bytes).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_comes_is_sampled_and_who_goes_is_handed_back() {
        let proc = ProcFs::new("/proc");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (this, other) = (std::process::id(), child.id());
        let mut members = Members::default();
        assert!(members.refresh(&proc, &[this, other], 1, |_| None).is_empty());
        assert_eq!(members.len(), 2);
        // This process is the larger one, but the one that watches.
        assert_eq!(members.aim().unwrap().process.pid, other);
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = members.refresh(&proc, &[this, other], 2, |_| None);
        assert_eq!(gone.iter().map(|it| it.process.pid).collect::<Vec<_>>(), [other]);
        assert_eq!(gone[0].recorder.samples().len(), 1);
    }
}
