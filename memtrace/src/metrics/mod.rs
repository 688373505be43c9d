//! What Prometheus is told: the memory of watched processes, the most of it since the last scrape,
//! and what memtrace did and cost ([docs/metrics.md](../../../docs/metrics.md)).
//!
//! Whoever watches puts what it knows on a [`Board`], and [`serve()`] shows that to whoever scrapes.
//! Nothing is kept but the present and the maxima.

mod board;
mod exposition;
mod high_water;
mod maxima;
mod of_watch;
mod own;
mod reading;
mod serve;

pub use self::{
    board::{Board, ScrapeError},
    exposition::CONTENT_TYPE,
    high_water::HighWater,
    of_watch::WatchBoard,
    reading::{About, Quantity, Reading, Target, Work},
    serve::{Exporter, ServeError, serve},
};
