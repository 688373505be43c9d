//! The target's resident memory over the window, as the kernel tells it.

use std::path::Path;

use crate::{
    analysis::timeline::{HighWaterMark, MAX_SAMPLES, TimelineRecorder},
    model::{
        census::Census,
        timeline::{Timeline, TimelineSample},
    },
    report::Rss,
    sys::{
        cgroup::{self, GroupMemory},
        clock,
        procfs::{ProcError, ProcFs, Process, Resident},
    },
};

/// Samples the target's memory.
pub(super) struct MemoryWatch {
    proc: ProcFs,
    pid: u32,
    start_time_ticks: u64,
    opened_ns: u64,
    recorder: TimelineRecorder,
    mark: HighWaterMark,
    /// Of the target's life, also when the kernel was made to forget it.
    peak_bytes: u64,
    start: Resident,
    end: Resident,
    group: GroupMemory,
}

impl MemoryWatch {
    /// Takes the first sample. The window was opened at `opened_ns` of `CLOCK_MONOTONIC`.
    pub(super) fn begin(proc: &ProcFs, process: &Process, opened_ns: u64) -> Self {
        let at_attach = Resident {
            bytes: process.resident_bytes,
            peak_bytes: process.peak_resident_bytes,
            parts: None,
        };
        let start = alive(proc.resident(process.pid)).unwrap_or(at_attach);
        let peak = start.peak_bytes;
        let mut watch = Self {
            proc: proc.clone(),
            pid: process.pid,
            start_time_ticks: process.start_time_ticks,
            opened_ns,
            recorder: TimelineRecorder::new(opened_ns, MAX_SAMPLES),
            mark: HighWaterMark { start_bytes: peak, end_bytes: peak, reset: false },
            peak_bytes: peak,
            start,
            end: start,
            group: GroupMemory::default(),
        };
        watch.record(0, start, Some(0));
        watch
    }

    /// Makes the kernel forget the peak so far, so that it tells that of the window exactly.
    pub(super) fn reset_peak(&mut self) -> Result<(), ProcError> {
        self.proc.reset_peak(self.pid)?;
        let now = self.proc.resident(self.pid)?;
        let peak = now.peak_bytes;
        self.mark = HighWaterMark { start_bytes: peak, end_bytes: peak, reset: true };
        Ok(())
    }

    /// Takes a sample, if the target is still there.
    pub(super) fn sample(&mut self, live_bytes: u64) -> Option<TimelineSample> {
        let now = alive(self.proc.resident(self.pid))?;
        let at_ns = clock::monotonic_ns().saturating_sub(self.opened_ns);
        Some(self.record(at_ns, now, Some(live_bytes)))
    }

    /// The last sample: of a target that may have ended, and whose pid may be another's by now.
    pub(super) fn sample_end(&mut self, live_bytes: u64) {
        let process = self.proc.process(self.pid);
        if process.is_ok_and(|it| it.start_time_ticks == self.start_time_ticks) {
            self.sample(live_bytes);
            self.look_at_group();
        }
    }

    /// Adds what a walk of the heap found.
    pub(super) fn add_walk(&mut self, census: &Census) {
        self.recorder.add_walk(census);
    }

    /// Reads the control group's peak; it is gone when the target is.
    pub(super) fn look_at_group(&mut self) {
        if let Ok(group) = cgroup::memory(&self.proc, Path::new(cgroup::ROOT), self.pid) {
            self.group = group;
        }
    }

    /// RSS as of the last sample.
    pub(super) fn rss_bytes(&self) -> u64 {
        self.end.bytes
    }

    /// All of it.
    pub(super) fn finish(self) -> (Rss, Timeline) {
        let rss = Rss {
            start_bytes: self.start.bytes,
            end_bytes: self.end.bytes,
            peak_bytes: self.peak_bytes,
            start_parts: self.start.parts,
            end_parts: self.end.parts,
            limit_bytes: self.group.limit_bytes,
            own_peak_bytes: self.own_peak_bytes(),
        };
        (rss, self.recorder.finish(Some(self.mark), self.group.peak_bytes))
    }

    fn own_peak_bytes(&self) -> u64 {
        self.proc.resident(std::process::id()).map_or(0, |own| own.peak_bytes)
    }

    fn record(&mut self, at_ns: u64, now: Resident, live_bytes: Option<u64>) -> TimelineSample {
        let risen = now.peak_bytes > self.mark.end_bytes;
        let sample = TimelineSample {
            at_ns,
            rss_bytes: now.bytes,
            rss_peak_bytes: risen.then_some(now.peak_bytes),
            live_bytes,
            ..TimelineSample::default()
        };
        self.recorder.record(sample);
        self.mark.end_bytes = self.mark.end_bytes.max(now.peak_bytes);
        self.peak_bytes = self.peak_bytes.max(now.peak_bytes);
        self.end = now;
        sample
    }
}

/// A process that has ended, or is about to, has no resident memory.
fn alive(resident: Result<Resident, ProcError>) -> Option<Resident> {
    resident.ok().filter(|resident| resident.bytes > 0)
}

#[cfg(test)]
mod tests {
    use std::hint;

    use super::*;
    use crate::model::timeline::PeakSource;

    fn watch() -> MemoryWatch {
        let proc = ProcFs::new("/proc");
        let this = proc.process(std::process::id()).unwrap();
        MemoryWatch::begin(&proc, &this, clock::monotonic_ns())
    }

    #[test]
    fn growth_and_its_peak_are_seen() {
        let mut watch = watch();
        let filled = hint::black_box(vec![1_u8; 256 << 20]);
        watch.sample(filled.len() as u64);
        drop(filled);
        watch.sample_end(0);
        let (rss, timeline) = watch.finish();
        let [first, high, last] = timeline.samples[..] else { panic!("{timeline:?}") };
        assert!(high.rss_bytes >= first.rss_bytes + (200 << 20), "{timeline:?}");
        assert_eq!((high.live_bytes, last.live_bytes), (Some(256 << 20), Some(0)));
        assert!(timeline.rss_peak_bytes >= high.rss_bytes, "{timeline:?}");
        assert_eq!(timeline.rss_peak_source, Some(PeakSource::HighWaterMark));
        assert!(rss.peak_bytes >= timeline.rss_peak_bytes && rss.start_parts.is_some());
    }

    #[test]
    fn a_target_that_is_gone_keeps_its_last_sample() {
        let mut watch = watch();
        watch.proc = ProcFs::new("/nowhere");
        watch.sample(9);
        watch.sample_end(9);
        let start_bytes = watch.start.bytes;
        let (rss, timeline) = watch.finish();
        assert_eq!(timeline.samples.len(), 1);
        assert_eq!(rss.end_bytes, start_bytes);
    }
}
