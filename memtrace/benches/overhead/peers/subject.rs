//! A program that can be made to work for a while.

use std::{process::Command, time::Duration};

use anyhow::Result;

use crate::{
    process::{Process, Watchdog},
    target::{Target, Timing},
};

/// What was done, and how promptly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Done {
    /// Units of work a second, by the clock on the wall.
    pub rate: f64,
    /// 99 of 100 answers took at most this, where there are answers.
    pub p99_ns: Option<f64>,
}

impl Done {
    /// Of a unit, by the clock on the wall.
    pub fn unit_ns(self) -> f64 {
        1e9 / self.rate
    }
}

/// A running program; killed on drop.
pub trait Subject {
    fn pid(&self) -> u32;

    /// Works for about as long.
    fn work(&mut self, duration: Duration) -> Result<Done>;

    /// Works until it is dropped, and leaks if it was started to do so; what makes it work, too,
    /// must be dropped.
    fn work_on(&mut self) -> Result<Option<Process>> {
        Ok(None)
    }
}

/// How long a piece of work may take before it counts as stuck. Some tools make a program several
/// thousand times slower.
pub fn patience(duration: Duration) -> Duration {
    duration * 10 + Duration::from_secs(60)
}

/// A program that is told line by line (see threads.c and service.py).
pub struct Talker(Target);

impl Talker {
    pub fn start(command: &mut Command) -> Result<Self> {
        Target::start(command).map(Self)
    }
}

impl Subject for Talker {
    fn pid(&self) -> u32 {
        self.0.pid()
    }

    fn work(&mut self, duration: Duration) -> Result<Done> {
        let _watchdog = Watchdog::over(self.pid(), patience(duration));
        let timing: Timing = self.0.pace(duration.as_nanos() as u64, 0)?;
        Ok(Done { rate: timing.rate(), p99_ns: None })
    }

    fn work_on(&mut self) -> Result<Option<Process>> {
        let hour = Duration::from_secs(3600);
        self.0.begin_pace(hour.as_nanos() as u64, 0).map(|()| None)
    }
}
