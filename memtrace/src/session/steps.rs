//! Where the time of an attach goes.

use std::time::Instant;

use crate::report::AttachStep;

/// Times steps that follow each other.
pub(super) struct Steps {
    begun: Instant,
    last: Instant,
    steps: Vec<AttachStep>,
}

impl Steps {
    /// The first step begins now.
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, steps: Vec::new() }
    }

    /// A step is over, and the next one begins.
    pub(super) fn over(&mut self, step: &'static str) {
        let now = Instant::now();
        let duration_ns = (now - self.last).as_nanos() as u64;
        log::info!("{step}: {:.1} ms", duration_ns as f64 / 1e6);
        self.steps.push(AttachStep { step: step.into(), duration_ns });
        self.last = now;
    }

    /// How long all of it took, up to now, in nanoseconds; and the steps.
    pub(super) fn finish(self) -> (u64, Vec<AttachStep>) {
        (self.begun.elapsed().as_nanos() as u64, self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_up_to_no_more_than_the_whole() {
        let mut steps = Steps::begin();
        steps.over("one");
        std::thread::sleep(std::time::Duration::from_millis(2));
        steps.over("two");
        let (whole_ns, steps) = steps.finish();
        let names: Vec<_> = steps.iter().map(|step| step.step.clone()).collect();
        assert_eq!(names, ["one", "two"]);
        assert!(steps[1].duration_ns >= 2_000_000, "{steps:?}");
        assert!(steps.iter().map(|step| step.duration_ns).sum::<u64>() <= whole_ns);
    }
}
