//! What is known of all targets, shared by who watches and who serves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use indexmap::IndexMap;
use thiserror::Error;

use super::{
    exposition::{Scrape, Shown, encode},
    maxima::Maxima,
    own::OwnCost,
    reading::{Reading, Target, Work},
};

/// Most names of scrapers: each keeps a window of maxima for every target.
const MAX_SCRAPERS: usize = 16;

/// Why a scrape has no answer.
#[derive(Debug, Error)]
pub enum ScrapeError {
    /// Another name than the ones that came before, and there are enough of those.
    #[error(
        "{name:?} would be one of more than {MAX_SCRAPERS} names of scrapers, each of which has \
         maxima of its own: use a name that stays the same, or none"
    )]
    TooManyScrapers {
        /// The name.
        name: String,
    },
    /// The exporter does not accept its own numbers.
    #[error("the metrics cannot be written: {0}")]
    Encode(#[from] prometheus::Error),
}

/// Where whoever watches puts what it knows; clones are the same board.
#[derive(Clone, Debug)]
pub struct Board(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    started_unix_s: f64,
    targets: IndexMap<String, Entry>,
    work: Option<Work>,
    scrapers: Vec<String>,
}

#[derive(Debug, Default)]
struct Entry {
    target: Target,
    maxima: Maxima,
}

impl Default for Board {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_unix_s = since.map_or(0.0, |it| it.as_secs_f64());
        let state =
            State { started_unix_s, targets: IndexMap::new(), work: None, scrapers: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Board {
    /// Changes what is known of a target, which is new if this is a new name. The name is the
    /// value of the label `target`: one that outlives restarts (a control group, a unit, a command),
    /// and no pid.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut Target)) {
        let mut state = self.lock();
        let entry = state.targets.entry(name.to_owned()).or_default();
        change(&mut entry.target);
        entry.maxima.observe(&entry.target.now);
    }

    /// A target had these sizes for a moment since the last update.
    pub fn reached(&self, name: &str, sizes: &Reading) {
        if let Some(entry) = self.lock().targets.get_mut(name) {
            entry.maxima.observe(sizes);
        }
    }

    /// What memtrace did so far.
    pub fn did(&self, work: Work) {
        self.lock().work = Some(work);
    }

    /// Forgets a target.
    pub fn remove(&self, name: &str) {
        self.lock().targets.shift_remove(name);
    }

    /// The metrics as text, for who is called `scraper`; its maxima begin anew.
    ///
    /// # Errors
    /// See [`ScrapeError`].
    pub fn scrape(&self, scraper: &str) -> Result<String, ScrapeError> {
        let mut state = self.lock();
        let number = state.number(scraper)?;
        let started_unix_s = state.started_unix_s;
        let targets = state.targets.iter_mut().map(|(name, entry)| Shown {
            name: name.clone(),
            max: entry.maxima.take(number, entry.target.now),
            target: entry.target.clone(),
        });
        let targets = targets.collect();
        let work = state.work.clone();
        // Nobody who watches waits for the writing.
        drop(state);
        Ok(encode(&Scrape { targets, work, own: OwnCost::now(), started_unix_s })?)
    }

    /// A thread that panicked has left nothing half done: changes are plain stores.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn number(&mut self, scraper: &str) -> Result<usize, ScrapeError> {
        if let Some(number) = self.scrapers.iter().position(|name| name == scraper) {
            return Ok(number);
        }
        if self.scrapers.len() == MAX_SCRAPERS {
            return Err(ScrapeError::TooManyScrapers { name: scraper.to_owned() });
        }
        self.scrapers.push(scraper.to_owned());
        Ok(self.scrapers.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Quantity;

    fn rss(bytes: u64) -> Reading {
        Reading::default().with(Quantity::Rss, bytes)
    }

    const MAX: &str = "memtrace_target_rss_max_since_last_scrape_bytes{target=\"app\"}";

    fn value(text: &str, series: &str) -> String {
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).trim().to_owned()
    }

    #[test]
    fn a_peak_between_two_scrapes_is_in_the_next_and_only_there() {
        let board = Board::default();
        board.update("app", |target| target.now = rss(100));
        board.scrape("").unwrap();
        board.reached("app", &rss(900));
        board.update("app", |target| target.now = rss(200));
        assert_eq!(value(&board.scrape("").unwrap(), MAX), "900");
        assert_eq!(value(&board.scrape("").unwrap(), MAX), "200");
    }

    #[test]
    fn a_target_that_was_removed_is_not_shown_and_cannot_be_reached() {
        let board = Board::default();
        board.update("app", |target| target.now = rss(100));
        board.remove("app");
        board.reached("app", &rss(100));
        assert!(!board.scrape("").unwrap().contains("target=\"app\""));
    }

    #[test]
    fn names_of_scrapers_cannot_fill_the_memory() {
        let board = Board::default();
        for number in 0..MAX_SCRAPERS {
            board.scrape(&format!("prometheus-{number}")).unwrap();
        }
        let refused = board.scrape("one more").unwrap_err().to_string();
        assert!(refused.contains("one more"), "{refused}");
        assert!(board.scrape("prometheus-3").is_ok());
    }
}
