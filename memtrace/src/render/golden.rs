//! Golden files of every renderer for every sample report; `INSTA_UPDATE=always cargo test` writes
//! them anew.

use insta::assert_snapshot;

use super::{
    folded, json,
    text::{self, TextOptions},
};
use crate::{
    doctor::{self, Diagnosis},
    inspection::{self, Inspection},
    model::size::Units,
    report::{Report, View, sample},
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
    let options = TextOptions { colour: true, width: Some(100), top: 1, ..TextOptions::default() };
    assert_snapshot!(as_text(&sample::leaking(), options).replace('\x1b', "ESC"));
}

#[test]
fn text_of_a_leak_in_python() {
    assert_snapshot!(plain(&sample::python()));
}

#[test]
fn report_of_samples() {
    assert_snapshot!(plain(&sample::sampled()));
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

/// What is asked for by `--view`; only the part that differs.
#[test]
fn text_by_view() {
    let views = View::ALL.map(|view| {
        let text = plain(&sample::leaking_input_in(view).build());
        let from = text.lines().skip_while(|line| !line.starts_with("live  ")).skip(2);
        from.take_while(|line| !line.starts_with("sizes")).collect::<Vec<_>>().join("\n")
    });
    assert_snapshot!(views.join("\n====\n"));
}

#[test]
fn text_of_a_selection_in_mebibytes() {
    let options = TextOptions { units: Units::MiB, top: 1, ..TextOptions::default() };
    assert_snapshot!(as_text(&sample::selection(), options));
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
fn diagnosis_of_a_machine() {
    let text = diagnosis_as_text(&doctor::sample::machine(), TextOptions::default());
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

fn inspection_as_text(look: &Inspection, with_arenas: bool, options: TextOptions) -> String {
    let mut out = Vec::new();
    text::inspect::write(look, with_arenas, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn inspection_of_a_fragmented_heap() {
    let look = inspection::sample::fragmented();
    assert_snapshot!(inspection_as_text(&look, true, TextOptions::default()));
}

#[test]
fn inspection_of_what_cannot_be_looked_into() {
    let look = inspection::sample::incomplete();
    assert_snapshot!(inspection_as_text(&look, false, TextOptions::default()));
}

#[test]
fn inspection_on_a_narrow_terminal_in_colour() {
    let options = TextOptions { colour: true, width: Some(64), ..TextOptions::default() };
    let text = inspection_as_text(&inspection::sample::fragmented(), true, options);
    let plain = text.replace("\x1b[0m", "").replace("\x1b[1m", "");
    let plain = plain.replace("\x1b[2m", "").replace("\x1b[33m", "");
    assert!(plain.lines().all(|line| line.chars().count() <= 64), "{plain}");
    assert_snapshot!(text.replace('\x1b', "ESC"));
}

#[test]
fn inspections_one_after_the_other() {
    let mut out = Vec::new();
    let options = TextOptions::default();
    text::inspect::write_heading(options, &mut out).unwrap();
    for look in [inspection::sample::fragmented(), inspection::sample::incomplete()] {
        text::inspect::write_sample(&look, options, &mut out).unwrap();
    }
    assert_snapshot!(String::from_utf8(out).unwrap());
}

#[test]
fn json_of_an_inspection() {
    let mut out = Vec::new();
    json::write_inspection(&inspection::sample::fragmented(), &mut out).unwrap();
    assert_snapshot!(String::from_utf8(out).unwrap());
}
