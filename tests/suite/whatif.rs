//! `memtrace whatif` on captures that are made here: what a replay takes is what was asked for, and
//! captures that cannot be replayed are refused.

use std::{
    fs,
    path::PathBuf,
    process::Output,
    thread::{sleep, spawn},
    time::Duration,
};

use memtrace::{
    capture::{Capture, EventsKept, KeptEvent, write},
    whatif::result::{Outcome, ReplayError, Row, SCHEMA, WhatIf},
};
use memtrace_tests::binary::{run, stderr, stdout};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::report::{alloc, assert_refused, capture, free};

const MIB: u64 = 1 << 20;

/// A capture in a directory.
struct Captured {
    directory: TempDir,
    path: PathBuf,
}

impl Captured {
    fn of(events: &[KeptEvent]) -> Self {
        Self::with(&capture(events), events)
    }

    fn with(capture: &Capture, events: &[KeptEvent]) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.memtrace");
        fs::write(&path, write(capture, events, Vec::new()).unwrap()).unwrap();
        Self { directory, path }
    }

    fn whatif(&self, options: &[&str]) -> Output {
        run(&[&["whatif", self.path.to_str().unwrap()], options].concat())
    }

    fn result(&self, options: &[&str]) -> WhatIf {
        let output = self.whatif(&[&["--format", "json"], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Two threads get 20 blocks of a mebibyte each, and one frees all of the other's but two.
fn twenty_each() -> Vec<KeptEvent> {
    let blocks =
        |tid: u32, from: u64| (from..from + 20).map(move |it| alloc(tid, 1, 1, it << 24, MIB));
    let frees = (1..19).map(|it| free(8, 9, it << 24));
    blocks(42, 1).chain(blocks(8, 101)).chain(frees).collect()
}

fn about(seen: u64, expected: u64) -> bool {
    seen.abs_diff(expected) <= expected / 20
}

fn row<'w>(result: &'w WhatIf, name: &str) -> &'w Row {
    result.variants.iter().find(|row| row.name == name).unwrap()
}

#[test]
fn a_replay_takes_what_was_asked_for_and_gives_back_what_was_freed() {
    let captured = Captured::of(&twenty_each());
    let result = captured.result(&["--with", "glibc,glibc:arena_max=1,glibc:trim=1s"]);
    assert_eq!((result.program.calls, result.program.live_bytes), (58, 22 * MIB));
    for row in &result.variants {
        assert_eq!((&row.outcome, row.calls, row.refused), (&Outcome::Done, 58, 0), "{row:?}");
        assert!(about(row.peak_bytes, 40 * MIB) && about(row.end_bytes, 22 * MIB), "{row:?}");
    }
    let how = row(&result, "glibc:arena_max=1").how.as_deref();
    assert_eq!(how, Some("MALLOC_ARENA_MAX=1"));
}

#[test]
fn two_replays_of_one_capture_say_the_same() {
    let mut events = Vec::new();
    for number in 0..90_u64 {
        let tid = 42 + (number % 3) as u32;
        events.push(alloc(tid, 1, 1, (number + 1) << 20, 5_000 + 977 * number));
        if number % 3 == 1 {
            events.push(free(42, 2, (number / 2 + 1) << 20));
        }
    }
    let captured = Captured::of(&events);
    let ends = || -> Vec<u64> {
        let result = captured.result(&["--with", "glibc,glibc:tcache=off", "--jobs", "2"]);
        result.variants.iter().map(|row| row.end_bytes).collect()
    };
    for (one, other) in ends().into_iter().zip(ends()) {
        assert!(one > 0 && one.abs_diff(other) <= one / 200, "{one} and {other}");
    }
}

#[test]
fn a_replay_that_takes_too_much_is_stopped_and_says_so() {
    let captured = Captured::of(&twenty_each());
    let options = ["--with", "glibc", "--max-rss", "8MiB"];
    let result = captured.result(&options);
    let row = row(&result, "glibc");
    assert_eq!(row.outcome, Outcome::OverLimit);
    assert!(result.summary.contains("no baseline"), "{}", result.summary);
    let text = stdout(&captured.whatif(&options));
    assert!(text.contains("more than --max-rss"), "{text}");
}

#[test]
fn a_library_that_does_not_load_is_a_row_of_its_own() {
    let captured = Captured::of(&twenty_each());
    let library = captured.directory.path().join("libnothing.so");
    fs::write(&library, "no library").unwrap();
    let option = format!("nothing={}", library.display());
    let result = captured.result(&["--with", "glibc,nothing", "--lib", &option]);
    assert_eq!(row(&result, "glibc").outcome, Outcome::Done);
    let Outcome::Failed { reason } = &row(&result, "nothing").outcome else {
        panic!("{:?}", result.variants)
    };
    assert!(reason.contains("was not loaded"), "{reason}");
}

/// The replay that is under a variant with this tunable, once it has started.
fn replay_under(tunable: &str) -> Pid {
    let contains = |file: PathBuf, text: &str| {
        fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text))
    };
    loop {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let path = entry.path();
            let is_it = contains(path.join("cmdline"), "__replay")
                && contains(path.join("environ"), tunable);
            if let Some(pid) = entry.file_name().to_str().filter(|_| is_it) {
                return Pid::from_raw(pid.parse().unwrap()).unwrap();
            }
        }
        sleep(Duration::from_millis(1));
    }
}

/// A count that no other test's replay is under.
#[test]
fn a_replay_that_is_killed_is_a_row_of_its_own_and_leaves_nothing_behind() {
    let events: Vec<_> = (1..30_000_u64).map(|it| alloc(42, 1, 1, it << 16, 4000)).collect();
    let captured = Captured::of(&events);
    let killer = spawn(|| {
        let pid = replay_under("tcache_count=123");
        kill_process(pid, Signal::KILL).unwrap();
        pid
    });
    let result = captured.result(&["--with", "glibc,glibc:tcache=123,glibc:tcache=124"]);
    let killed = killer.join().unwrap();
    let Outcome::Failed { reason } = &row(&result, "glibc:tcache=123").outcome else {
        panic!("{:?}", result.variants)
    };
    assert!(reason.contains("SIGKILL"), "{reason}");
    for name in ["glibc", "glibc:tcache=124"] {
        assert_eq!(row(&result, name).outcome, Outcome::Done, "{name}");
    }
    let gone = test_kill_process(killed);
    assert_eq!(gone, Err(rustix::io::Errno::SRCH), "it was waited for");
}

#[test]
fn what_cannot_be_replayed_is_refused_with_what_to_do() {
    let refused = |change: fn(&mut Capture), words: &[&str]| {
        let events = twenty_each();
        let mut capture = capture(&events);
        change(&mut capture);
        let captured = Captured::with(&capture, &events);
        assert_refused(&captured.whatif(&["--with", "glibc"]), words);
    };
    refused(|it| it.header.sample_bytes = Some(4096), &["samples", "--exact"]);
    refused(|it| it.ending.sample_interval_bytes = Some(4096), &["samples", "--exact"]);
    refused(|it| it.header.growth = Some(Default::default()), &["growth"]);
    refused(|it| it.events.left_out = 1000, &["left out", "--max-size"]);
    let mut without = capture(&[]);
    without.events = EventsKept { kept: 0, left_out: 6 };
    assert_refused(&Captured::with(&without, &[]).whatif(&[]), &["no events"]);
}

#[test]
fn a_capture_that_was_cut_is_refused() {
    let captured = Captured::of(&twenty_each());
    let bytes = fs::read(&captured.path).unwrap();
    fs::write(&captured.path, &bytes[..bytes.len() - 40]).unwrap();
    assert_refused(&captured.whatif(&["--with", "glibc"]), &["cannot be replayed"]);
}

#[test]
fn what_there_is_not_is_said_before_anything_is_read() {
    let captured = Captured::of(&twenty_each());
    assert_refused(&captured.whatif(&["--with", "hoard"]), &["hoard", "--lib"]);
    let missing = ["--lib", "x=/nowhere/libx.so"];
    assert_refused(&captured.whatif(&missing), &["/nowhere/libx.so"]);
    assert_refused(&captured.whatif(&["--with", "glibc", "--process", "7"]), &["process 7"]);
    let output = captured.whatif(&["--with", "glibc:arenas=2"]);
    assert!(stderr(&output).contains("arena_max=N"), "{}", stderr(&output));
}

#[test]
fn the_chart_and_the_table_have_every_variant() {
    let captured = Captured::of(&twenty_each());
    let with = ["--with", "glibc,glibc:hugetlb"];
    let text = stdout(&captured.whatif(&with));
    let chart = captured.directory.path().join("chart.svg");
    let chart = chart.to_str().unwrap();
    captured.whatif(&[&with[..], &["--format", "svg", "-o", chart]].concat());
    for written in [text, fs::read_to_string(chart).unwrap()] {
        assert!(written.contains("glibc:hugetlb"), "{written}");
    }
}

#[test]
fn a_report_names_the_remedy_that_was_measured() {
    let events = twenty_each();
    let captured = Captured::of(&events);
    let row = |name: &str, end_bytes| Row {
        name: name.to_owned(),
        how: Some("MALLOC_ARENA_MAX=1".to_owned()),
        outcome: Outcome::Done,
        end_bytes,
        ratio: Some(end_bytes as f64 / (100 * MIB) as f64),
        ..Row::default()
    };
    let measured = WhatIf {
        schema: SCHEMA.to_owned(),
        pid: 42,
        variants: vec![row("glibc", 100 * MIB), row("glibc:arena_max=1", 60 * MIB)],
        error: Some(ReplayError::default()),
        ..WhatIf::default()
    };
    let file = captured.directory.path().join("whatif.json");
    let report = || {
        let options = ["--format", "json", "--whatif", file.to_str().unwrap()];
        run(&[&["report", captured.path.to_str().unwrap()], &options[..]].concat())
    };
    fs::write(&file, serde_json::to_vec(&measured).unwrap()).unwrap();
    let output = report();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report_json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let remedy = &report_json["verdict"]["remedies"][0];
    assert_eq!(remedy["expected_bytes"], 40 * MIB, "{report_json}");
    assert!(remedy["why"].as_str().unwrap().contains("measured by a replay"));
    fs::write(&file, serde_json::to_vec(&WhatIf { pid: 7, ..measured }).unwrap()).unwrap();
    assert_refused(&report(), &["of the process 7"]);
    fs::write(&file, "{}").unwrap();
    assert_refused(&report(), &["whatif --format json"]);
}
