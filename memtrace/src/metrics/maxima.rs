//! The most of each size since the last scrape, for each of those who scrape.

use super::reading::{Quantity, Reading};

/// Maxima of the sizes of one target.
#[derive(Clone, Debug, Default)]
pub(super) struct Maxima {
    /// Since the target is there: what a new scraper begins with.
    ever: Reading,
    /// By the number of the scraper, since its last scrape.
    windows: Vec<Option<Reading>>,
}

impl Maxima {
    /// Sizes that were seen.
    pub(super) fn observe(&mut self, seen: &Reading) {
        let windows = self.windows.iter_mut().flatten();
        for window in windows.chain([&mut self.ever]) {
            raise(window, seen);
        }
    }

    /// The maxima for a scraper, for whom a new window begins with what is now.
    pub(super) fn take(&mut self, scraper: usize, now: Reading) -> Reading {
        if self.windows.len() <= scraper {
            self.windows.resize(scraper + 1, None);
        }
        let window = self.windows[scraper].replace(now);
        window.unwrap_or(self.ever)
    }
}

fn raise(window: &mut Reading, seen: &Reading) {
    for quantity in Quantity::ALL {
        // None is less than anything.
        window.set(quantity, window.get(quantity).max(seen.get(quantity)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rss(bytes: u64) -> Reading {
        Reading::default().with(Quantity::Rss, bytes)
    }

    #[test]
    fn a_scrape_takes_the_maximum_and_the_next_window_begins_with_the_present() {
        let mut maxima = Maxima::default();
        for bytes in [10, 90, 20] {
            maxima.observe(&rss(bytes));
        }
        assert_eq!(maxima.take(0, rss(20)), rss(90));
        assert_eq!(maxima.take(0, rss(20)), rss(20));
        maxima.observe(&rss(30));
        maxima.observe(&rss(25));
        assert_eq!(maxima.take(0, rss(25)), rss(30));
    }

    #[test]
    fn who_else_scrapes_takes_nothing_away() {
        let mut maxima = Maxima::default();
        maxima.observe(&rss(10));
        maxima.take(0, rss(10));
        maxima.take(1, rss(10));
        maxima.observe(&rss(70));
        maxima.observe(&rss(5));
        assert_eq!(maxima.take(0, rss(5)), rss(70));
        assert_eq!(maxima.take(1, rss(5)), rss(70));
    }

    #[test]
    fn who_comes_later_is_told_the_maximum_since_the_beginning() {
        let mut maxima = Maxima::default();
        maxima.observe(&rss(70));
        maxima.take(0, rss(5));
        maxima.observe(&rss(6));
        assert_eq!(maxima.take(3, rss(6)), rss(70));
        assert_eq!(maxima.take(3, rss(6)), rss(6));
    }
}
