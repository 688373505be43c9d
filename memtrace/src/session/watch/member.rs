//! The processes of a target, as they are seen from look to look.

use std::{collections::BTreeMap, path::Path};

use crate::{
    analysis::timeline::TimelineRecorder,
    model::timeline::TimelineSample,
    sys::{
        cgroup::{self, Group},
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
    fn of(proc: &ProcFs, process: Process, seen_ns: u64) -> Self {
        let path = cgroup::path(proc, process.pid).ok();
        let group = path.and_then(|path| Group::open(Path::new(cgroup::ROOT), &path).ok());
        Self {
            process,
            seen_ns,
            rss_bytes: 0,
            group: group.filter(Group::has_memory),
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
    /// Takes note of who is there now, and how large; returns who has gone.
    pub(super) fn refresh(&mut self, proc: &ProcFs, pids: &[u32], now_ns: u64) -> Vec<Member> {
        let gone: Vec<u32> = self.0.keys().copied().filter(|pid| !pids.contains(pid)).collect();
        let mut gone: Vec<Member> = gone.iter().filter_map(|pid| self.0.remove(pid)).collect();
        for pid in pids {
            match proc.rss_bytes(*pid) {
                // A zombie, or one that is about to be.
                Ok(0) | Err(_) => gone.extend(self.0.remove(pid)),
                Ok(rss_bytes) => self.sample(proc, *pid, now_ns, rss_bytes),
            }
        }
        gone
    }

    fn sample(&mut self, proc: &ProcFs, pid: u32, now_ns: u64, rss_bytes: u64) {
        if !self.0.contains_key(&pid)
            && let Ok(process) = proc.process(pid)
        {
            self.0.insert(pid, Member::of(proc, process, now_ns));
        }
        if let Some(member) = self.0.get_mut(&pid) {
            member.sample(now_ns, rss_bytes);
        }
    }

    /// Who should be looked at; never memtrace itself, which may be in the same group.
    pub(super) fn aim(&self) -> Option<&Member> {
        let own = std::process::id();
        let others = self.0.values().filter(|member| member.process.pid != own);
        let candidates: Vec<Candidate> = others.map(Member::candidate).collect();
        self.0.get(&aim(&candidates)?.pid)
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
        assert!(members.refresh(&proc, &[this, other], 1).is_empty());
        assert_eq!(members.len(), 2);
        // This process is the larger one, but the one that watches.
        assert_eq!(members.aim().unwrap().process.pid, other);
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = members.refresh(&proc, &[this, other], 2);
        assert_eq!(gone.iter().map(|it| it.process.pid).collect::<Vec<_>>(), [other]);
        assert_eq!(gone[0].recorder.samples().len(), 1);
    }
}
