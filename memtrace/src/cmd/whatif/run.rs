//! Starts replays, some at a time, and listens to what they tell.

use std::{
    fs::File,
    io::{Read as _, Seek as _},
    os::unix::{
        fs::{FileExt as _, MetadataExt as _},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::fs::{MemfdFlags, memfd_create};

use super::prepare::Prepared;
use crate::{
    replay::{
        COMMAND, Failure,
        board::{RECORD_BYTES, Record},
    },
    whatif::result::{Outcome, Row},
};

/// How often a replay's memory is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// A replay that is to be run.
pub struct Job {
    /// Of its row.
    pub name: String,
    /// Of its row.
    pub how: Option<String>,
    /// `GLIBC_TUNABLES`.
    pub tunables: String,
    /// `LD_PRELOAD`.
    pub library: Option<PathBuf>,
    /// How often `malloc_trim(0)` is called; 0 for never.
    pub trim_ns: u64,
    /// Why there is nothing to run.
    pub missing: Option<Outcome>,
}

/// What replays may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The heap of each.
    pub max_bytes: u64,
    /// How many run at a time.
    pub at_a_time: usize,
}

/// What a replay saw of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Clocks showed the recorded time.
    pub clock_is_recorded: bool,
    /// As major * 1000 + minor.
    pub glibc_version: u64,
}

/// Runs all of them; `advance` is told how many samples there are so far.
pub fn run(
    jobs: &[Job],
    prepared: &Prepared,
    limits: Limits,
    advance: impl Fn(u64) + Sync,
) -> Result<Vec<(Row, Option<Seen>)>> {
    let (next, done) = (AtomicUsize::new(0), AtomicU64::new(0));
    let tell = |samples: u64| advance(done.fetch_add(samples, Ordering::Relaxed) + samples);
    let work = || {
        let mut rows = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return Ok(rows) };
            rows.push((index, one(job, prepared, limits.max_bytes, &tell)?));
        }
    };
    let rows: Result<Vec<Vec<_>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..limits.at_a_time).map(|_| scope.spawn(work)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    let mut rows: Vec<_> = rows?.into_iter().flatten().collect();
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn one(
    job: &Job,
    prepared: &Prepared,
    max_bytes: u64,
    advance: &dyn Fn(u64),
) -> Result<(Row, Option<Seen>)> {
    let row = Row { name: job.name.clone(), how: job.how.clone(), ..Row::default() };
    if let Some(missing) = &job.missing {
        advance(prepared.samples);
        return Ok((Row { outcome: missing.clone(), ..row }, None));
    }
    let board = memfd_create("memtrace-board", MemfdFlags::CLOEXEC).context("cannot replay")?;
    let board = File::from(board);
    let mut child = start(job, prepared, max_bytes, &board)?;
    let is_over = watch(&mut child, &board, max_bytes, advance)?;
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut said);
    }
    let status = child.wait()?;
    let records = records(&board)?;
    let outcome = outcome(&records, is_over, job.library.as_deref())
        .unwrap_or_else(|| Outcome::Failed { reason: ended(status, &records, &said) });
    Ok((filled(row, &records, outcome), seen(&records)))
}

fn start(job: &Job, prepared: &Prepared, max_bytes: u64, board: &File) -> Result<Child> {
    let own = std::env::current_exe().context("cannot start memtrace again")?;
    let mut command = Command::new(own);
    command.arg(COMMAND).args([max_bytes, job.trim_ns].map(|it| it.to_string()));
    command.env_clear();
    if !job.tunables.is_empty() {
        command.env("GLIBC_TUNABLES", &job.tunables);
    }
    if let Some(library) = &job.library {
        command.env("LD_PRELOAD", library);
    }
    command.stdin(prepared.program.try_clone()?).stdout(board.try_clone()?);
    command.stderr(Stdio::piped()).spawn().context("cannot start memtrace again")
}

/// Until it ends, or takes too much and is ended; whether it did.
fn watch(child: &mut Child, board: &File, max_bytes: u64, advance: &dyn Fn(u64)) -> Result<bool> {
    let (mut told, mut base_bytes) = (0, 0);
    while child.try_wait()?.is_none() {
        let samples = board.metadata()?.len() / RECORD_BYTES as u64;
        advance(samples - told);
        told = samples;
        if base_bytes == 0 {
            base_bytes = base(board);
        }
        if private_bytes(child.id()).saturating_sub(base_bytes) > max_bytes {
            // It may have ended by itself.
            let _ = child.kill();
            child.wait()?;
            return Ok(true);
        }
        thread::sleep(PERIOD);
    }
    Ok(false)
}

fn base(board: &File) -> u64 {
    let mut bytes = [0; RECORD_BYTES];
    match board.read_exact_at(&mut bytes, 0).ok().and_then(|()| Record::of(&bytes)) {
        Some(Record::Ready { base_bytes, .. }) => base_bytes,
        _ => 0,
    }
}

/// About: resident pages without those of files and of shared memory.
fn private_bytes(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: Vec<u64> = text.split(' ').filter_map(|it| it.parse().ok()).collect();
    match pages[..] {
        [_, resident, shared, ..] => {
            resident.saturating_sub(shared) * rustix::param::page_size() as u64
        }
        _ => 0,
    }
}

fn records(mut board: &File) -> Result<Vec<Record>> {
    let mut bytes = Vec::new();
    board.rewind()?;
    board.read_to_end(&mut bytes)?;
    Ok(Record::all(&bytes))
}

/// `None` where it ended without a word.
fn outcome(records: &[Record], is_over: bool, library: Option<&Path>) -> Option<Outcome> {
    let failed = |reason: String| Some(Outcome::Failed { reason });
    for record in records {
        match record {
            Record::Ready { inode, .. } if !serves_malloc(*inode, library) => {
                return failed("the library was not loaded, or has no malloc".to_owned());
            }
            Record::OverLimit { .. } => return Some(Outcome::OverLimit),
            Record::Done { .. } => return Some(Outcome::Done),
            Record::Failed { reason } => {
                let reason = Failure::of(*reason).map(|it| it.to_string());
                return failed(reason.unwrap_or_default());
            }
            _ => {}
        }
    }
    is_over.then_some(Outcome::OverLimit)
}

/// How a replay ended that did not say so itself.
fn ended(status: ExitStatus, records: &[Record], said: &str) -> String {
    let samples = records.iter().filter(|it| matches!(it, Record::Sample { .. })).count();
    let killed = match status.signal() {
        Some(9) => " (SIGKILL: by somebody, or by the kernel for want of memory)",
        _ => "",
    };
    let text = format!("it ended after {samples} samples by {status}{killed}");
    match said.trim() {
        "" => text,
        said => format!("{text}: {said}"),
    }
}

/// A library that cannot be loaded is left out by the dynamic linker, which goes on without it.
fn serves_malloc(inode: u64, library: Option<&Path>) -> bool {
    let Some(library) = library else { return true };
    std::fs::metadata(library).is_ok_and(|it| it.ino() == inode)
}

fn seen(records: &[Record]) -> Option<Seen> {
    records.iter().find_map(|record| match *record {
        Record::Ready { clock_is_recorded, glibc_version, .. } => {
            Some(Seen { clock_is_recorded, glibc_version })
        }
        _ => None,
    })
}

fn filled(row: Row, records: &[Record], outcome: Outcome) -> Row {
    let samples: Vec<(u64, u64)> = records
        .iter()
        .filter_map(|record| match *record {
            Record::Sample { at_ns, heap_bytes, .. } => Some((at_ns, heap_bytes)),
            _ => None,
        })
        .collect();
    let peak_bytes = samples.iter().map(|it| it.1).max().unwrap_or(0);
    let end_bytes = samples.last().map_or(0, |it| it.1);
    let row = Row { outcome, peak_bytes, end_bytes, samples, ..row };
    match records.last() {
        Some(Record::Done { calls, cpu_ns, wall_ns, refused }) => {
            Row { calls: *calls, cpu_ns: *cpu_ns, wall_ns: *wall_ns, refused: *refused, ..row }
        }
        _ => row,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Record = Record::Sample { at_ns: 1, heap_bytes: 2, calls: 3, cpu_ns: 4 };

    #[test]
    fn a_replay_that_ends_without_a_word_has_no_outcome_of_its_own() {
        assert_eq!(outcome(&[], false, None), None);
        assert_eq!(outcome(&[SAMPLE], false, None), None);
        assert_eq!(outcome(&[SAMPLE], true, None), Some(Outcome::OverLimit));
    }

    #[test]
    fn how_it_was_ended_is_said_in_words() {
        let killed = ended(ExitStatus::from_raw(9), &[SAMPLE], "");
        assert!(killed.starts_with("it ended after 1 samples by signal: 9"), "{killed}");
        assert!(killed.contains("want of memory"), "{killed}");
        let said = ended(ExitStatus::from_raw(127 << 8), &[], " no such library\n");
        assert_eq!(said, "it ended after 0 samples by exit status: 127: no such library");
    }

    #[test]
    fn what_it_said_before_it_ended_stays() {
        let limit = Record::OverLimit { heap_bytes: 9 };
        assert_eq!(outcome(&[SAMPLE, limit], false, None), Some(Outcome::OverLimit));
        let failed = Record::Failed { reason: Failure::Threads as u64 };
        let Some(Outcome::Failed { reason }) = outcome(&[failed], false, None) else {
            panic!("it failed")
        };
        assert_eq!(reason, "a thread could not be started");
        let row = filled(Row::default(), &[SAMPLE, limit], Outcome::OverLimit);
        assert_eq!((row.peak_bytes, row.samples), (2, vec![(1, 2)]));
    }
}
