//! `memtrace report` on captures that are made here: every format, view and part, and files that are
//! none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
};

use memtrace::{
    capture::{
        Capture, CapturedSite, Ending, EventsKept, Header, KeptEvent, ThreadName, apply, write,
    },
    ledger::{Ledger, Limits, Start},
    model::{
        AllocFn,
        event::{Action, Event},
        stack::{Frame, NamedStack, StackId},
        timeline::{Timeline, TimelineSample},
        trace::{Completeness, Target, Window},
    },
};
use memtrace_tests::binary::{memtrace, run, stderr, stdout};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::on_a_terminal;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A name as a hostile program would choose it.
pub(crate) const HOSTILE: &str = "evil\x1b[2J;</title><script>alert(1)</script>\u{202e}\n9";

fn event(tid: u32, at_s: u64, function: AllocFn, action: Action) -> KeptEvent {
    let event = Event::of(function, tid, SECOND * (100 + at_s), action);
    KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
}

pub(crate) fn alloc(tid: u32, at_s: u64, stack: u64, address: u64, size_bytes: u64) -> KeptEvent {
    let stack = StackId(stack);
    event(tid, at_s, AllocFn::Malloc, Action::Alloc { address, size_bytes, stack })
}

pub(crate) fn free(tid: u32, at_s: u64, address: u64) -> KeptEvent {
    event(tid, at_s, AllocFn::Free, Action::Free { address })
}

/// Ten seconds: `load` of thread 7 keeps 1000 bytes in the 1st second and 2000 in the 6th; `hostile`
/// of thread 8 holds 4000 from the 3rd to the 5th, and frees 50 at once in the 8th.
fn events() -> Vec<KeptEvent> {
    vec![
        alloc(7, 1, 1, 0x10, 1000),
        alloc(8, 3, 2, 0x20, 4000),
        free(7, 5, 0x20),
        alloc(7, 6, 1, 0x30, 2000),
        alloc(8, 8, 2, 0x40, 50),
        free(8, 9, 0x40),
    ]
}

fn frame(function: &str, module: &str, source: Option<(&str, u32)>) -> Arc<Frame> {
    Arc::new(Frame {
        function: function.to_owned(),
        module: module.to_owned(),
        file: source.map(|(file, _)| file.to_owned()),
        line: source.map(|(_, line)| line),
        ..Frame::default()
    })
}

fn stacks() -> Vec<(StackId, NamedStack)> {
    let main = frame("main", "server", Some(("/srv/main.c", 7)));
    let stack = |leaf| NamedStack { frames: vec![leaf, main.clone()], missing_root: None };
    let load = frame("load", "server", Some(("/srv/model.c", 88)));
    let hostile = frame(HOSTILE, HOSTILE, Some((HOSTILE, 1)));
    vec![(StackId(1), stack(load)), (StackId(2), stack(hostile))]
}

pub(crate) fn capture(events: &[KeptEvent]) -> Capture {
    let limits = Limits { live_blocks: 100, live_ranges: 10, sites: 10 };
    let start = Start { time_ns: 100 * SECOND, initial_break: None, page_bytes: 4096 };
    let mut ledger = Ledger::new(limits, start);
    events.iter().for_each(|event| apply(&mut ledger, event));
    let site = |site: memtrace::model::site::Site| (Some(site.stack), Some(site.function));
    let sites: Vec<_> = ledger.sites().collect();
    let place = |id: u32| sites.iter().position(|(site, _)| site.index() == id as usize);
    let mut live: Vec<_> = ledger.live_items().collect();
    live.iter_mut().for_each(|item| item.site = place(item.site).unwrap() as u32);
    let target = Target {
        pid: 42,
        command: HOSTILE.to_owned(),
        command_line: vec![HOSTILE.to_owned()],
        ..Target::default()
    };
    let sample = |at_s: u64| TimelineSample {
        at_ns: at_s * SECOND,
        rss_bytes: (10 + at_s) << 20,
        live_bytes: Some(0),
        ..TimelineSample::default()
    };
    let totals = ledger.totals();
    let mut ending = Ending {
        target: target.clone(),
        closed_ns: 110 * SECOND,
        window: Window {
            started_at: "2026-03-04T02:58:11Z".to_owned(),
            duration_ns: 10 * SECOND,
            ..Window::default()
        },
        completeness: Completeness { events: totals.events, ..Completeness::default() },
        ..Ending::default()
    };
    ending.totals.heap = totals.heap;
    Capture {
        header: Header { opened_ns: 100 * SECOND, target, ..Header::default() },
        stacks: stacks(),
        sites: sites
            .iter()
            .map(|(_, entry)| {
                let (stack, function) = entry.site.map_or((None, None), site);
                let object = entry.site.map(|site| site.object).unwrap_or_default();
                CapturedSite { stack, function, object, stats: entry.account.stats(), process: 0 }
            })
            .collect(),
        live,
        threads: vec![ThreadName { tid: 7, name: "worker".to_owned() }],
        timeline: Timeline { samples: (0..=10).map(sample).collect(), ..Timeline::default() },
        ending,
        events: EventsKept { kept: events.len() as u64, left_out: 0 },
        ..Capture::default()
    }
}

/// A directory with the capture in it.
struct Captured {
    directory: TempDir,
    path: PathBuf,
}

impl Captured {
    fn new() -> Self {
        let events = events();
        Self::of(&capture(&events), &events)
    }

    fn of(capture: &Capture, events: &[KeptEvent]) -> Self {
        let bytes = write(capture, events, Vec::new()).unwrap();
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("app.memtrace");
        fs::write(&path, bytes).unwrap();
        Self { directory, path }
    }

    fn report(&self, options: &[&str]) -> Output {
        run(&[&["report", self.path.to_str().unwrap()], options].concat())
    }

    /// The report as JSON, of a run that has nothing to say on stderr.
    fn json(&self, options: &[&str]) -> Value {
        let output = self.report(&[&["--format", "json"], options].concat());
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, options: &[&str], words: &[&str]) {
        assert_refused(&self.report(options), words);
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

pub(crate) fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", stdout(output));
    assert_eq!(stdout(output), "");
    for word in words {
        assert!(stderr(output).contains(word), "no {word:?} in {}", stderr(output));
    }
}

fn text(output: &Output) -> String {
    assert_eq!((output.status.code(), &*stderr(output)), (Some(0), ""));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_text_names_what_was_never_freed() {
    let text = text(&Captured::new().report(&[]));
    for word in ["load at /srv/model.c:88", "2.9 KiB in 2 blocks", "Never freed in this window"] {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

#[test]
fn every_format_is_what_its_readers_expect() {
    let captured = Captured::new();
    let starts: [(&str, &[u8]); 7] = [
        ("json", b"{\n  \"schema\": \"memtrace-report/1\""),
        ("html", b"<!doctype html"),
        ("svg", b"<?xml"),
        ("folded", b"main (main.c:7);load (model.c:88);malloc 3000\n"),
        ("pprof", b"\x1f\x8b"),
        ("otlp", b""),
        ("speedscope", b"{"),
    ];
    for (format, start) in starts {
        let output = captured.report(&["--format", format]);
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""), "{format}");
        let head = output.stdout.get(..start.len()).unwrap_or_default().to_ascii_lowercase();
        assert_eq!(head, start.to_ascii_lowercase(), "{format}");
        assert!(output.stdout.len() > 40, "{format}");
    }
    let [short, long] = [&["--json"][..], &["--format", "json"]].map(|it| captured.report(it));
    assert_eq!(short.stdout, long.stdout);
    assert_eq!(captured.report(&["--json", "--format", "svg"]).status.code(), Some(2));
}

#[test]
fn each_view_weighs_what_it_says() {
    let captured = Captured::new();
    let weights = |view: &str| {
        let report = captured.json(&["--view", view]);
        let groups = report["groups"].as_array().unwrap().iter();
        let mut weights: Vec<_> =
            groups.map(|group| group["weight"]["bytes"].as_u64().unwrap()).collect();
        weights.sort_unstable();
        weights
    };
    assert_eq!(weights("never-freed"), [0, 3000]);
    assert_eq!(weights("live"), [0, 3000]);
    assert_eq!(weights("allocated"), [3000, 4050]);
    assert_eq!(weights("freed"), [0, 4050]);
    assert_eq!(weights("peak"), [1000, 4000]);
    assert_eq!(weights("temporary"), [0, 50]);
}

#[test]
fn a_part_of_the_window_is_what_was_obtained_in_it() {
    let report = Captured::new().json(&["--since", "2s", "--until", "7s"]);
    assert_eq!(report["totals"]["heap"]["allocated"]["bytes"], 6000);
    assert_eq!(report["totals"]["heap"]["live"]["bytes"], 2000);
    assert_eq!(report["totals"]["unmatched_frees"], 0);
    assert_eq!(report["window"]["duration_ns"], 5 * SECOND);
    assert_eq!(report["window"]["started_at"], "2026-03-04T02:58:13Z");
    assert_eq!(report["selection"][0], "obtained from 2.0 s to 7.0 s of the window");
    let samples = report["timeline"]["samples"].as_array().unwrap();
    assert_eq!((samples.len(), &samples[2]["live_bytes"]), (6, &4000.into()));
}

#[test]
fn threads_count_for_what_they_obtained_whoever_freed_it() {
    let captured = Captured::new();
    let of_8 = captured.json(&["--thread", "8"]);
    assert_eq!(of_8["totals"]["heap"]["allocated"]["bytes"], 4050);
    assert_eq!(of_8["totals"]["heap"]["freed"]["bytes"], 4050);
    assert_eq!(of_8["verdict"], Value::Null, "two threads do not explain a process");
    let both = captured.json(&["--thread", "8", "--thread", "7"]);
    assert_eq!(both["totals"]["heap"]["allocated"]["bytes"], 7050);
    captured.refused(&["--thread", "9"], &["no memory", "thread 9", "7 (worker)", "8"]);
}

#[test]
fn shares_are_told_by_thread_when_asked_for() {
    let captured = Captured::new();
    let report = captured.json(&["--by-thread"]);
    let share = &report["sites"][0]["threads"][0];
    assert_eq!((&share["tid"], &share["name"]), (&7.into(), &"worker".into()));
    assert_eq!(share["live"]["bytes"], 3000);
    assert!(captured.json(&[])["sites"][0]["threads"].is_null());
    let text = text(&captured.report(&["--by-thread"]));
    assert!(text.contains("thread 7 (worker): 2.9 KiB allocated, 2.9 KiB live"), "{text}");
}

#[test]
fn sites_are_chosen_by_what_their_frames_are_called() {
    let captured = Captured::new();
    let report = captured.json(&["--site", r"model\.c:88"]);
    assert_eq!(report["sites"].as_array().unwrap().len(), 1);
    assert_eq!(report["totals"]["survivors"]["bytes"], 3000);
    let notes = report["completeness"]["notes"].to_string();
    assert!(notes.contains("1 of 2 stacks that match"), "{notes}");
    captured.refused(&["--site", "nobody"], &["--site nobody"]);
    captured.refused(&["--site", "("], &["regex", "unclosed"]);
}

#[test]
fn units_and_inversion_are_kept_to() {
    let captured = Captured::new();
    let in_bytes = text(&captured.report(&["--units", "bytes"]));
    assert!(in_bytes.contains("3,000 B in 2 blocks"), "{in_bytes}");
    let folded = text(&captured.report(&["--format", "folded", "--inverted"]));
    assert_eq!(folded, "malloc;load (model.c:88);main (main.c:7) 3000\n");
    captured.refused(&["--inverted"], &["--inverted", "svg"]);
}

#[test]
fn parts_that_do_not_exist_are_refused() {
    let captured = Captured::new();
    captured.refused(&["--since", "7s", "--until", "7s"], &["--since must be before"]);
    captured.refused(&["--since", "11s"], &["the window ended after 10.0 s"]);
    captured.refused(&["--since", "soon"], &["soon", "30s"]);
    let mut capture = capture(&events());
    capture.events = EventsKept { kept: 0, left_out: 6 };
    let without_events = Captured::of(&capture, &[]);
    without_events.refused(&["--view", "peak"], &["no events", "--events on"]);
    assert_eq!(without_events.json(&[])["totals"]["survivors"]["bytes"], 3000);
}

/// What obeys them shows something else than what is there.
#[test]
fn hostile_names_reach_nobody() {
    let captured = Captured::new();
    let mut seen = 0;
    for format in ["text", "folded", "svg", "html"] {
        let options = ["--format", format, "--view", "allocated", "--by-thread"];
        let text = text(&captured.report(&options));
        let is_harmless = |c: char| c == '\n' || c == '\t' || c == '\r' || !c.is_control();
        assert!(text.chars().all(is_harmless), "{format}");
        assert!(!text.contains('\u{202e}'), "{format}");
        let is_markup = ["svg", "html"].contains(&format);
        assert!(!(is_markup && text.contains("<script>alert")), "{format}");
        seen += usize::from(text.contains("evil"));
        if format == "folded" {
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.lines().all(|line| line.matches(';').count() == 2), "{text}");
        }
    }
    assert_eq!(seen, 4, "the name itself is shown");
}

#[test]
fn what_is_no_capture_is_refused_with_what_it_looks_like() {
    let captured = Captured::new();
    let refuse = |contents: &[u8], words: &[&str]| {
        let path = captured.beside("other");
        fs::write(&path, contents).unwrap();
        assert_refused(&run(&["report", path.to_str().unwrap()]), words);
    };
    refuse(b"", &["other", "empty"]);
    refuse(b"{\"schema\": \"memtrace-report/1\"}", &["not a capture", "JSON", ".memtrace"]);
    refuse(b"<?xml version=\"1.0\"?>", &["not a capture", "picture"]);
    let mut newer = fs::read(&captured.path).unwrap();
    newer[8..12].copy_from_slice(&[9, 0, 9, 0]);
    refuse(&newer, &["format 9.9", "memtrace", "is needed"]);
    let directory = captured.directory.path().to_str().unwrap();
    assert_refused(&run(&["report", directory]), &["is a directory"]);
    assert_refused(&run(&["report", "/nonexistent.memtrace"]), &["cannot open", "No such file"]);
    assert_refused(&run(&["report", "/dev/null"]), &["is not a file"]);
}

#[test]
fn a_capture_that_was_cut_is_reported_with_a_warning() {
    let captured = Captured::new();
    let whole = fs::read(&captured.path).unwrap();
    fs::write(&captured.path, &whole[..whole.len() - 9]).unwrap();
    let output = captured.report(&["--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("warning: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("incomplete"), "{}", stderr(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["completeness"]["notes"].to_string().contains("incomplete"), "{report}");
    let quiet = captured.report(&["--quiet"]);
    assert_eq!((quiet.status.code(), &*stderr(&quiet)), (Some(0), ""));
}

#[test]
fn a_file_is_written_for_its_owner_and_overwritten_only_by_force() {
    use std::os::unix::fs::PermissionsExt as _;
    let captured = Captured::new();
    let path = captured.beside("out.svg");
    let options = ["--format", "svg", "-o", path.to_str().unwrap()];
    assert_eq!(text(&captured.report(&options)), "");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(&path).unwrap().contains("</svg>"));
    captured.refused(&options, &["exists", "--force"]);
    assert_eq!(text(&captured.report(&[&options[..], &["--force"]].concat())), "");
    let own = captured.path.to_str().unwrap();
    captured.refused(&["-o", own, "--force"], &["the capture itself"]);
    captured.refused(&["-o", "/nowhere/out"], &["/nowhere/out", "--output"]);
    assert!(!Path::new("-").exists());
    assert!(text(&captured.report(&["-o", "-"])).contains("Never freed"));
}

#[test]
fn nothing_is_left_where_there_was_nothing_to_report() {
    let captured = Captured::new();
    let path = captured.beside("out.json");
    captured.refused(&["-o", path.to_str().unwrap(), "--thread", "9"], &["thread 9"]);
    assert!(!path.exists());
}

#[test]
fn a_reader_that_goes_away_is_silent() {
    let captured = Captured::new();
    for format in ["text", "json", "html", "pprof"] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(memtrace());
        command.arg("report").arg(&captured.path).args(["--format", format]);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop((reader, command));
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""), "{format}");
    }
}

#[test]
fn terminals_get_text_and_no_documents() {
    let captured = Captured::new();
    let path = captured.path.to_str().unwrap();
    let shown = |format: &[&str]| on_a_terminal(&[&["report", path], format].concat(), false);
    assert!(shown(&[]).contains("\x1b[1m"), "in colour");
    for format in ["pprof", "otlp", "html"] {
        assert!(shown(&["--format", format]).contains("not for a terminal"), "{format}");
    }
    assert!(shown(&["--format", "pprof", "-o", "-"]).contains("not for a terminal"));
    assert!(shown(&["--format", "svg", "-o", "-"]).contains("</svg>"), "asked for");
}

#[test]
fn help_and_the_man_page_show_the_options() {
    let help = stdout(&run(&["report", "--help"]));
    for option in ["--format", "--view", "--since", "--thread", "--site", "speedscope", "KiB"] {
        assert!(help.contains(option), "no {option} in {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    assert!(stdout(&run(&["man", "report"])).contains("\\-\\-by\\-thread"));
}
