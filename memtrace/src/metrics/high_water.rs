//! The kernel's own high-water mark, which no sample can miss.

/// Follows RSS and VmHWM from sample to sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct HighWater {
    mark_bytes: Option<u64>,
}

impl HighWater {
    /// The most that was resident since the sample before: a mark that rose was reached meanwhile.
    /// One that did not rise says nothing, so that a peak below it is seen only if it was sampled;
    /// unless the mark is set back each time.
    pub fn reached(&mut self, rss_bytes: u64, mark_bytes: u64) -> u64 {
        let before = self.mark_bytes.replace(mark_bytes);
        let rose = before.is_some_and(|before| mark_bytes > before);
        if rose { mark_bytes.max(rss_bytes) } else { rss_bytes }
    }

    /// The mark was set back, to about this RSS.
    pub fn set_back(&mut self, rss_bytes: u64) {
        self.mark_bytes = Some(rss_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_the_time_before_memtrace_came_is_not_of_this_time() {
        let mut mark = HighWater::default();
        assert_eq!(mark.reached(10, 500), 10);
        assert_eq!(mark.reached(12, 500), 12);
    }

    #[test]
    fn a_mark_that_rose_was_reached_between_two_samples() {
        let mut mark = HighWater::default();
        mark.reached(10, 20);
        assert_eq!(mark.reached(11, 90), 90);
        assert_eq!(mark.reached(11, 90), 11);
    }

    #[test]
    fn with_a_mark_that_is_set_back_a_lower_peak_is_seen_too() {
        let mut mark = HighWater::default();
        mark.reached(10, 500);
        mark.set_back(10);
        assert_eq!(mark.reached(11, 80), 80);
        mark.set_back(11);
        assert_eq!(mark.reached(12, 60), 60);
    }
}
