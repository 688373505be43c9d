//! Looks at intervals, until the time is over, the target ends or a signal comes.

use std::{io, time::Duration};

use tokio::{
    io::unix::AsyncFd,
    time::{Instant, sleep_until},
};

use super::{InspectError, Inspector};
use crate::{
    inspection::Inspection,
    report::EndReason,
    session::run::{Signals, readable},
    sys::{
        pidfd::PidFd,
        procfs::{ProcError, Resident},
    },
};

/// A look may take this part of the time between looks, of one CPU.
const MAX_CPU_SHARE: u32 = 100;

/// When to look, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct SeriesOptions {
    /// From the beginning of a look to the beginning of the next.
    pub every: Duration,
    /// No look begins after this time.
    pub duration: Option<Duration>,
    /// The most looks.
    pub count: Option<u64>,
    /// How RSS is followed between looks; `None`: not at all.
    pub between: Option<Between>,
}

/// How RSS is followed between looks, which tell more and cost more.
#[derive(Clone, Copy, Debug)]
pub struct Between {
    /// From one reading to the next; a reading takes some 30 us.
    pub every: Duration,
    /// Set the kernel's high-water mark back after each, so that it tells the peak between two.
    pub reset_peak: bool,
}

/// Is given every look.
pub trait SeriesObserver {
    /// A look.
    ///
    /// # Errors
    /// End the series.
    fn sample(&mut self, inspection: &Inspection) -> io::Result<()>;
    /// Looks take so much CPU time that the interval has to be this long now.
    fn stretched(&mut self, cpu: Duration, every: Duration);
    /// RSS between looks, and its high-water mark, which may have been set back since.
    fn resident(&mut self, _resident: Resident, _is_set_back: bool) {}
}

/// How a series ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesEnd {
    /// Why; also [`EndReason::Duration`] when all looks were taken, and
    /// [`EndReason::TargetExited`] when the process started another program.
    pub reason: EndReason,
    /// The process goes on, with another program (execve(2)).
    pub has_changed: bool,
    /// How many looks there were.
    pub samples: u64,
}

/// Looks again and again.
///
/// # Errors
/// When the first look fails, or a sample cannot be delivered. That the target ends later is the
/// end of the series.
pub fn series(
    inspector: &mut Inspector,
    options: SeriesOptions,
    observer: &mut dyn SeriesObserver,
) -> Result<SeriesEnd, InspectError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(InspectError::Runtime)?;
    runtime.block_on(run(inspector, options, observer))
}

async fn run(
    inspector: &mut Inspector,
    options: SeriesOptions,
    observer: &mut dyn SeriesObserver,
) -> Result<SeriesEnd, InspectError> {
    let pid = inspector.process.pid;
    let mut signals = Signals::listen().map_err(InspectError::Runtime)?;
    let pidfd = PidFd::open(pid).map_err(|source| InspectError::Handle { pid, source })?;
    let pidfd = readable(pidfd).map_err(InspectError::Runtime)?;
    let deadline = options.duration.and_then(|it| Instant::now().checked_add(it));
    if options.between.is_some_and(|it| it.reset_peak) {
        inspector.proc.reset_peak(pid)?;
    }
    let mut samples = 0;
    let mut pace = Pace::new(options.every);
    loop {
        let begun = Instant::now();
        let inspection = match inspector.look() {
            Ok(inspection) => inspection,
            Err(error) if samples > 0 && is_end(&error) => {
                let has_changed = matches!(error, InspectError::Changed { .. });
                return Ok(SeriesEnd { reason: EndReason::TargetExited, has_changed, samples });
            }
            Err(error) => return Err(error),
        };
        observer.sample(&inspection).map_err(InspectError::Output)?;
        samples += 1;
        let cpu = Duration::from_nanos(inspection.cost.cpu_ns);
        if let Some(every) = pace.stretch(cpu) {
            observer.stretched(cpu, every);
        }
        let next = begun.checked_add(pace.every);
        let over = over(samples, next, deadline, options.count);
        let mut reading = Reading { inspector, between: options.between, observer };
        let reason = match over {
            None => reading.until(next, &pidfd, &mut signals).await,
            over => over,
        };
        if let Some(reason) = reason {
            return Ok(SeriesEnd { reason, has_changed: false, samples });
        }
    }
}

fn is_end(error: &InspectError) -> bool {
    let InspectError::Proc(error) = error else {
        return matches!(error, InspectError::Changed { .. });
    };
    matches!(
        error,
        ProcError::Ended { .. } | ProcError::NoSuchProcess { .. } | ProcError::Zombie { .. }
    )
}

/// Whether no look follows.
fn over(
    samples: u64,
    next: Option<Instant>,
    deadline: Option<Instant>,
    count: Option<u64>,
) -> Option<EndReason> {
    let all_taken = count.is_some_and(|count| samples >= count);
    let too_late = deadline.is_some_and(|deadline| next.is_none_or(|next| next > deadline));
    (all_taken || too_late).then_some(EndReason::Duration)
}

/// The time between two looks.
struct Reading<'a> {
    inspector: &'a Inspector,
    between: Option<Between>,
    observer: &'a mut dyn SeriesObserver,
}

impl Reading<'_> {
    async fn until(
        &mut self,
        next: Option<Instant>,
        pidfd: &AsyncFd<PidFd>,
        signals: &mut Signals,
    ) -> Option<EndReason> {
        loop {
            self.read();
            let due = self.between.and_then(|it| Instant::now().checked_add(it.every));
            let due = due.filter(|due| next.is_none_or(|next| *due < next));
            let reason = wait(due.or(next), pidfd, signals).await;
            if reason.is_some() || due.is_none() {
                return reason;
            }
        }
    }

    /// A process that has ended is noticed by its pidfd.
    fn read(&mut self) {
        let Some(between) = self.between else { return };
        let (proc, pid) = (&self.inspector.proc, self.inspector.process.pid);
        let Ok(resident) = proc.resident(pid) else { return };
        // The kernel takes a lock of the process for it: only where there is something to forget.
        let is_due = between.reset_peak && resident.peak_bytes > resident.bytes;
        let is_set_back = is_due && proc.reset_peak(pid).is_ok();
        self.observer.resident(resident, is_set_back);
    }
}

async fn wait(
    next: Option<Instant>,
    pidfd: &AsyncFd<PidFd>,
    signals: &mut Signals,
) -> Option<EndReason> {
    let next = async {
        match next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        reason = signals.next() => Some(reason),
        _ = pidfd.readable() => Some(EndReason::TargetExited),
        () = next => None,
    }
}

/// The interval, which is never shorter than was asked for.
struct Pace {
    asked: Duration,
    every: Duration,
}

impl Pace {
    fn new(every: Duration) -> Self {
        Self { asked: every, every }
    }

    /// Takes account of what a look took; the new interval, if it has become much longer.
    fn stretch(&mut self, cpu: Duration) -> Option<Duration> {
        let before = self.every;
        self.every = self.asked.max(cpu.saturating_mul(MAX_CPU_SHARE));
        (self.every > before.saturating_mul(5) / 4).then_some(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_takes_no_more_than_a_hundredth_of_a_cpu() {
        let mut pace = Pace::new(Duration::from_secs(5));
        assert_eq!(pace.stretch(Duration::from_millis(50)), None);
        assert_eq!(pace.every, Duration::from_secs(5));
        let stretched = Duration::from_secs(20);
        assert_eq!(pace.stretch(Duration::from_millis(200)), Some(stretched));
        assert_eq!(pace.stretch(Duration::from_millis(210)), None);
        assert_eq!(pace.every, Duration::from_secs(21));
        assert_eq!(pace.stretch(Duration::from_millis(1)), None);
        assert_eq!(pace.every, Duration::from_secs(5));
    }
}
