//! `memtrace diff` on captures that are made here.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::Arc,
};

use memtrace::{
    capture::{Capture, EventsKept, KeptEvent, write},
    model::stack::Frame,
};
use memtrace_tests::{
    binary::{memtrace, run, stderr, stdout},
    browser::Browser,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::on_a_terminal,
    report::{HOSTILE, SECOND, alloc, assert_refused, capture, free},
};

/// `load` keeps 1000 bytes, what is called hostile 50.
fn events_before() -> Vec<KeptEvent> {
    vec![alloc(7, 1, 1, 0x10, 1000), alloc(8, 2, 2, 0x20, 50)]
}

/// Elsewhere in memory, `load` keeps 3500 bytes in two blocks; hostile frees all.
fn events_after() -> Vec<KeptEvent> {
    vec![
        alloc(17, 1, 1, 0x9910, 1500),
        alloc(17, 2, 1, 0x9920, 2000),
        alloc(18, 3, 2, 0x9930, 70),
        free(18, 4, 0x9930),
    ]
}

/// Another process, a day later, of an edited source.
fn capture_after(events: &[KeptEvent]) -> Capture {
    let mut capture = capture(events);
    capture.ending.target.pid = 4711;
    capture.ending.window.started_at = "2026-03-05T02:58:11Z".to_owned();
    for (_, stack) in &mut capture.stacks {
        for frame in &mut stack.frames {
            let line = frame.line.map(|line| line + 3);
            *frame = Arc::new(Frame { line, ..(**frame).clone() });
        }
    }
    capture
}

/// Both, in a directory.
struct Pair {
    directory: TempDir,
}

impl Pair {
    fn new() -> Self {
        Self::of(&capture_after(&events_after()), &events_after())
    }

    fn of(after: &Capture, events: &[KeptEvent]) -> Self {
        let pair = Self { directory: TempDir::new().unwrap() };
        let before = write(&capture(&events_before()), &events_before()[..], Vec::new()).unwrap();
        fs::write(pair.path("before.memtrace"), before).unwrap();
        fs::write(pair.path("after.memtrace"), write(after, events, Vec::new()).unwrap()).unwrap();
        pair
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn compared(&self, before: &str, after: &str, options: &[&str]) -> Output {
        let [before, after] = [before, after].map(|name| self.path(name));
        let files = ["diff", before.to_str().unwrap(), after.to_str().unwrap()];
        run(&[&files, options].concat())
    }

    fn diff(&self, options: &[&str]) -> Output {
        self.compared("before.memtrace", "after.memtrace", options)
    }

    fn json(&self, options: &[&str]) -> Value {
        let output = self.diff(&[&["--format", "json"], options].concat());
        assert_eq!((output.status.code(), &*stderr(&output)), (Some(0), ""));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn text(output: &Output) -> String {
    assert_eq!((output.status.code(), &*stderr(output)), (Some(0), ""));
    stdout(output)
}

fn growth(change: &Value) -> i64 {
    change["growth_bytes"].as_i64().unwrap()
}

#[test]
fn places_are_matched_over_processes_and_lines() {
    let diff = Pair::new().json(&[]);
    assert_eq!(diff["schema"], "memtrace-diff/1");
    assert_eq!(growth(&diff["total"]), 3500 - 1050);
    let sites = diff["sites"].as_array().unwrap();
    assert_eq!((sites.len(), growth(&sites[0]), growth(&sites[1])), (2, 2500, -50));
    assert_eq!((&sites[0]["status"], &sites[1]["status"]), (&"grown".into(), &"gone".into()));
    assert_eq!((&sites[0]["growth_count"], &diff["groups"][0]["line"]), (&1.into(), &91.into()));
    assert_eq!(diff["warnings"], Value::Array(vec![]));
}

#[test]
fn lines_count_when_they_are_asked_for() {
    let diff = Pair::new().json(&["--lines"]);
    let growths: Vec<_> = diff["sites"].as_array().unwrap().iter().map(growth).collect();
    assert_eq!(growths, [3500, -50, -1000]);
    assert_eq!(growth(&diff["total"]), 3500 - 1050);
}

#[test]
fn every_view_is_compared() {
    let pair = Pair::new();
    let of = |view: &str| growth(&pair.json(&["--view", view])["total"]);
    assert_eq!(of("live"), 3500 - 1050);
    assert_eq!(of("allocated"), 3570 - 1050);
    assert_eq!(of("freed"), 70);
    assert_eq!(of("peak"), 3570 - 1050);
    assert_eq!(of("temporary"), 70);
}

#[test]
fn the_text_shows_what_grew_the_most_first() {
    let text = text(&Pair::new().diff(&[]));
    for words in [
        "What was never freed grew by 2.4 KiB.",
        "1.0 KiB in 2 blocks -> 3.4 KiB in 2 blocks",
        "2 lines: 1 grown, 1 gone",
        "#1  +2.4 KiB in +1 block, grown",
        "load at /srv/model.c:91",
        "> load",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

#[test]
fn every_format_is_what_its_readers_expect() {
    let pair = Pair::new();
    let folded = text(&pair.diff(&["--format", "folded"]));
    assert_eq!(folded.lines().next(), Some("main (main.c);load (model.c);malloc 1000 3500"));
    let svg = text(&pair.diff(&["--format", "svg"]));
    assert!(svg.starts_with("<?xml") && svg.contains("load (model.c) +2.4 KiB"), "{svg}");
    let html = text(&pair.diff(&["--format", "html"]));
    assert!(html.starts_with("<!doctype html>") && html.contains("<svg"), "{html}");
}

#[test]
fn too_much_growth_fails_and_says_where() {
    let pair = Pair::new();
    let within = pair.diff(&["--fail-above", "2450"]);
    assert_eq!((within.status.code(), &*stderr(&within)), (Some(0), ""));
    for options in [&["--fail-above", "2449B"][..], &["--fail-above", "2449", "--quiet"]] {
        let above = pair.diff(options);
        assert_eq!(above.status.code(), Some(1), "{}", stderr(&above));
        for words in ["grew by 2.4 KiB", "--fail-above", "load at model.c:91", "+2.4 KiB"] {
            assert!(stderr(&above).contains(words), "no {words:?} in {}", stderr(&above));
        }
        assert!(stdout(&above).contains("What was never freed grew"), "it is written all the same");
    }
    let back = pair.compared("after.memtrace", "before.memtrace", &["--fail-above", "0"]);
    assert_eq!(back.status.code(), Some(0), "it shrank");
    assert_refused(&pair.diff(&["--fail-above", "much"]), &["much", "10MiB"]);
}

#[test]
fn a_reader_that_goes_away_is_silent_and_does_not_hide_growth() {
    let pair = Pair::new();
    for (limit, status) in [("1MiB", 0), ("1B", 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(memtrace());
        let files = ["before.memtrace", "after.memtrace"].map(|name| pair.path(name));
        command.arg("diff").args(files).args(["--format", "html", "--fail-above", limit]);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop((reader, command));
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert!(!stderr(&output).contains("ipe"), "{}", stderr(&output));
    }
}

#[test]
fn a_capture_and_itself_do_not_differ() {
    let output = Pair::new().compared("after.memtrace", "after.memtrace", &["--fail-above", "0"]);
    let text = text(&output);
    assert!(text.contains("What was never freed did not grow."), "{text}");
    assert!(text.contains("captures of the same window") && text.contains("1 unchanged"), "{text}");
}

#[test]
fn what_cannot_be_compared_well_is_said() {
    let mut after = capture_after(&events_after());
    after.ending.target.executable = "/usr/bin/other".to_owned();
    after.ending.target.command = "other".to_owned();
    after.ending.window.duration_ns = 30 * SECOND;
    let pair = Pair::of(&after, &events_after());
    let text = text(&pair.diff(&[]));
    for words in ["different programs", "10.0 s and 30.0 s", "100 B -> 116 B a second"] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    let json = pair.diff(&["--format", "json"]);
    assert!(stderr(&json).contains("warning: These are different programs"), "{}", stderr(&json));
    assert_eq!(stderr(&pair.diff(&["--format", "json", "--quiet"])), "");
}

#[test]
fn a_capture_that_was_cut_is_compared_with_a_warning() {
    let pair = Pair::new();
    let whole = fs::read(pair.path("after.memtrace")).unwrap();
    fs::write(pair.path("after.memtrace"), &whole[..whole.len() - 9]).unwrap();
    let output = pair.diff(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("after.memtrace: the capture is incomplete"));
    assert!(stdout(&output).contains("To be known of the capture after"), "{}", stdout(&output));
}

#[test]
fn what_is_no_capture_is_refused() {
    let pair = Pair::new();
    fs::write(pair.path("report.json"), "{\"schema\": \"memtrace-report/1\"}").unwrap();
    let refuse = |before: &str, after: &str, words: &[&str]| {
        assert_refused(&pair.compared(before, after, &[]), words);
    };
    refuse("report.json", "after.memtrace", &["report.json is not a capture", "JSON"]);
    refuse("before.memtrace", "report.json", &["report.json is not a capture"]);
    refuse("before.memtrace", "nowhere", &["cannot open", "nowhere"]);
    let mut without_events = capture_after(&events_after());
    without_events.events = EventsKept { kept: 0, left_out: 4 };
    let pair = Pair::of(&without_events, &[]);
    assert_refused(&pair.diff(&["--view", "peak"]), &["after.memtrace", "no events"]);
}

#[test]
fn files_are_written_as_report_writes_them() {
    let pair = Pair::new();
    let path = pair.path("out.svg");
    let options = ["--format", "svg", "-o", path.to_str().unwrap()];
    assert_eq!(text(&pair.diff(&options)), "");
    assert!(fs::read_to_string(&path).unwrap().contains("</svg>"));
    assert_refused(&pair.diff(&options), &["exists", "--force"]);
    assert_eq!(text(&pair.diff(&[&options[..], &["--force"]].concat())), "");
    for own in ["before.memtrace", "after.memtrace"] {
        let own = pair.path(own);
        let options = ["-o", own.to_str().unwrap(), "--force"];
        assert_refused(&pair.diff(&options), &["the capture itself"]);
    }
}

/// What obeys them shows something else than what is there.
#[test]
fn hostile_names_reach_nobody() {
    assert!(HOSTILE.contains('\x1b'));
    for format in ["text", "folded", "svg", "html"] {
        let text = text(&Pair::new().diff(&["--format", format]));
        let is_harmless = |c: char| c == '\n' || c == '\t' || c == '\r' || !c.is_control();
        assert!(text.chars().all(is_harmless), "{format}");
        assert!(!text.contains('\u{202e}'), "{format}");
        let is_markup = matches!(format, "svg" | "html");
        assert!(!(is_markup && text.contains("<script>alert")), "{format}");
        assert!(text.contains("evil"), "the name itself is shown: {format}");
    }
}

#[test]
fn terminals_get_colours_unless_they_are_not_wanted() {
    let pair = Pair::new();
    let [before, after] = ["before.memtrace", "after.memtrace"].map(|name| pair.path(name));
    let shown = |no_color, format: &[&str]| {
        let files = ["diff", before.to_str().unwrap(), after.to_str().unwrap()];
        on_a_terminal(&[&files, format].concat(), no_color)
    };
    assert!(shown(false, &[]).contains("\x1b[1m"));
    assert!(!shown(true, &[]).contains('\x1b'));
    assert!(shown(false, &["--format", "html"]).contains("not for a terminal"));
}

#[test]
fn help_shows_the_options_and_an_example() {
    let help = stdout(&run(&["diff", "--help"]));
    for word in ["BEFORE", "AFTER", "--lines", "--fail-above", "--view", "--by", "Examples:", "CI"]
    {
        assert!(help.contains(word), "no {word} in {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn the_page_shows_what_grew_in_a_browser_and_its_flamegraph_can_be_searched_and_zoomed() {
    let pair = Pair::new();
    let page = pair.path("diff.html");
    let output = pair.diff(&["--format", "html", "--output", page.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut browser = Browser::start();
    browser.open(&page);
    let heading = browser.text("document.querySelector('h1').textContent");
    assert!(heading.contains("2.4 KiB"), "{heading}");
    let first = browser.text("document.querySelector('table:last-of-type tbody tr').textContent");
    assert!(first.contains("load") && first.contains("+2.4 KiB"), "{first}");
    browser.click("tbody tr summary");
    assert_eq!(browser.eval("document.querySelector('tbody tr details').open"), true);
    // The picture's own script: a click zooms to a frame, and its reset button appears.
    let hidden = "document.querySelector('svg #unzoom').classList.contains('hide')";
    assert_eq!(browser.eval(hidden), true);
    browser.click("svg #frames g:last-of-type rect");
    assert_eq!(browser.eval(hidden), false);
    browser.resize(390, 844, true);
    let overflows = "document.documentElement.scrollWidth > window.innerWidth";
    assert_eq!(browser.eval(overflows), false, "wider than a phone");
    browser.prefer_dark(true);
    let background = "getComputedStyle(document.documentElement).colorScheme";
    assert!(browser.text(background).contains("dark"));
    assert_eq!(browser.complaints(), [""; 0]);
}
