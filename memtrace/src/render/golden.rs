//! Golden files of every renderer for every sample report; `INSTA_UPDATE=always cargo test` writes
//! them anew.

use insta::assert_snapshot;

use super::{
    folded, json,
    text::{self, TextOptions},
};
use crate::{
    doctor::{self, Diagnosis},
    report::{Report, sample},
};

fn as_text(report: &Report, options: TextOptions) -> String {
    let mut out = Vec::new();
    text::write(report, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(report: &Report) -> String {
    as_text(report, TextOptions::default())
}

#[test]
fn text_of_a_leak() {
    assert_snapshot!(plain(&sample::leaking()));
}

#[test]
fn text_of_a_leak_on_a_narrow_terminal() {
    let options = TextOptions { width: Some(60), top: 2, ..TextOptions::default() };
    let text = as_text(&sample::leaking(), options);
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 60, "{longest}");
    assert_snapshot!(text);
}

#[test]
fn text_of_a_leak_in_colour() {
    let options = TextOptions { colour: true, width: Some(100), top: 1 };
    assert_snapshot!(as_text(&sample::leaking(), options).replace('\x1b', "ESC"));
}

#[test]
fn text_of_a_leak_in_python() {
    assert_snapshot!(plain(&sample::python()));
}

#[test]
fn text_of_an_incomplete_window() {
    assert_snapshot!(plain(&sample::lossy()));
}

#[test]
fn text_when_everything_was_freed() {
    assert_snapshot!(plain(&sample::tidy()));
}

#[test]
fn text_when_nothing_happened() {
    assert_snapshot!(plain(&sample::idle()));
}

#[test]
fn json_of_a_leak() {
    let mut out = Vec::new();
    json::write(&sample::leaking(), &mut out).unwrap();
    assert_snapshot!(String::from_utf8(out).unwrap());
}

#[test]
fn folded_stacks_of_a_leak() {
    assert_snapshot!(folded::lines(&sample::lossy()).join("\n"));
}

#[test]
fn folded_stacks_of_a_leak_in_python() {
    assert_snapshot!(folded::lines(&sample::python()).join("\n"));
}

fn diagnosis_as_text(diagnosis: &Diagnosis, options: TextOptions) -> String {
    let mut out = Vec::new();
    text::doctor::write(diagnosis, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn diagnosis_of_a_process_that_lacks_nothing() {
    let text = diagnosis_as_text(&doctor::sample::whole(), TextOptions::default());
    assert_snapshot!(text);
}

#[test]
fn diagnosis_of_a_process_that_lacks_much() {
    let text = diagnosis_as_text(&doctor::sample::lacking(), TextOptions::default());
    assert_snapshot!(text);
}

#[test]
fn diagnosis_on_a_narrow_terminal() {
    let options = TextOptions { width: Some(90), ..TextOptions::default() };
    let text = diagnosis_as_text(&doctor::sample::lacking(), options);
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest <= 90, "{longest}");
    assert_snapshot!(text);
}

#[test]
fn diagnosis_of_a_process_that_cannot_be_traced() {
    let text = diagnosis_as_text(&doctor::sample::refused(), TextOptions::default());
    assert_snapshot!(text);
}

#[test]
fn json_of_a_diagnosis() {
    let mut out = Vec::new();
    json::write_diagnosis(&doctor::sample::lacking(), &mut out).unwrap();
    assert_snapshot!(String::from_utf8(out).unwrap());
}

/// A reader that goes away (`| head`).
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_told_to_the_caller() {
    let report = sample::leaking();
    let results = [
        text::write(&report, TextOptions::default(), &mut Closed),
        json::write(&report, &mut Closed),
        folded::write(&report, &mut Closed),
        super::flamegraph::write(&report, &mut Closed),
        text::doctor::write(&doctor::sample::whole(), TextOptions::default(), &mut Closed),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    }
}
