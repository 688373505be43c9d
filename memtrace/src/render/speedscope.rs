//! speedscope's own format, as its `file-format-schema.json` describes it: one profile for the
//! report's view, and for what was never freed and what was allocated.

use std::io;

use indexmap::IndexSet;
use serde::Serialize;

use super::{
    label::{clean, plural},
    profile::losses,
};
use crate::{
    model::{size, stack::Frame},
    report::{Report, SiteReport, View},
};

/// Writes the document and a newline.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut frames = Frames::default();
    let stacks: Vec<_> = report.sites.iter().map(|site| frames.stack(site)).collect();
    let profiles = views(report.view).map(|view| profile(report, view, &stacks)).collect();
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: name(report),
        exporter: concat!("memtrace@", env!("CARGO_PKG_VERSION")),
        active_profile_index: 0,
        shared: Shared { frames: frames.into_vec() },
        profiles,
    };
    serde_json::to_writer(&mut *out, &file)?;
    out.write_all(b"\n")
}

/// The report's own is shown first.
fn views(view: View) -> impl Iterator<Item = View> {
    let others = [View::NeverFreed, View::Allocated].into_iter().filter(move |it| *it != view);
    std::iter::once(view).chain(others)
}

/// The format has no place for remarks but the name.
fn name(report: &Report) -> String {
    let target = format!("{} (pid {})", clean(&report.target.command), report.target.pid);
    match report.completeness.complete {
        true => target,
        false => format!("{target}, {}", losses(report).join(", ")),
    }
}

/// `stacks` are those of the report's sites.
fn profile<'a>(report: &Report, view: View, stacks: &'a [Vec<usize>]) -> Profile<'a> {
    let weights = report.sites.iter().map(|site| site.weight(view).bytes);
    let (samples, weights): (Vec<_>, Vec<_>) =
        stacks.iter().map(Vec::as_slice).zip(weights).filter(|(_, bytes)| *bytes > 0).unzip();
    Profile {
        r#type: "sampled",
        name: profile_name(report, view),
        unit: "bytes",
        start_value: 0,
        end_value: weights.iter().fold(0, |sum: u64, bytes| sum.wrapping_add(*bytes)),
        samples,
        weights,
    }
}

/// `never freed, at least 10.0 s old: 55 blocks`.
fn profile_name(report: &Report, view: View) -> String {
    let mut blocks: u64 = 0;
    report.sites.iter().for_each(|it| blocks = blocks.wrapping_add(it.weight(view).count));
    let age = match (view, report.window.min_age_ns) {
        (View::NeverFreed, age) if age > 0 => format!(", at least {} old", size::duration_ns(age)),
        _ => String::new(),
    };
    format!("{}{age}: {} block{}", view.label(), size::count(blocks), plural(blocks))
}

/// Each frame once.
#[derive(Default)]
struct Frames<'a>(IndexSet<Key<'a>>);

/// What tells frames apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key<'a> {
    name: &'a str,
    file: &'a str,
    line: Option<u32>,
}

impl<'a> Frames<'a> {
    /// The indices of a site's frames, root first, with the allocation function at the end.
    fn stack(&mut self, site: &'a SiteReport) -> Vec<usize> {
        let missing_root = site.stack.missing_root.as_deref().map(label);
        let frames = site.stack.frames.iter().rev().map(|frame| key(frame));
        let keys = missing_root.into_iter().chain(frames).chain([label(site.function)]);
        keys.map(|key| self.0.insert_full(key).0).collect()
    }

    fn into_vec(self) -> Vec<NamedFrame> {
        let frame = |Key { name, file, line }: Key<'_>| NamedFrame {
            name: clean(name),
            file: (!file.is_empty()).then(|| clean(file)),
            line,
        };
        self.0.into_iter().map(frame).collect()
    }
}

fn label(name: &str) -> Key<'_> {
    Key { name, file: "", line: None }
}

/// Where the source is not known, the object stands for it.
fn key(frame: &Frame) -> Key<'_> {
    let file = frame.file.as_deref().unwrap_or(&frame.module);
    Key { name: &frame.function, file, line: frame.line }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: &'static str,
    active_profile_index: usize,
    shared: Shared,
    profiles: Vec<Profile<'a>>,
}

#[derive(Serialize)]
struct Shared {
    frames: Vec<NamedFrame>,
}

#[derive(Serialize)]
struct NamedFrame {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Vec<&'a [usize]>,
    weights: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::sample;

    fn document(report: &Report) -> Value {
        let mut out = Vec::new();
        write(report, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    fn sum(profile: &Value) -> u64 {
        profile["weights"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).sum()
    }

    #[test]
    fn there_is_what_was_never_freed_and_what_was_allocated() {
        let report = sample::leaking();
        let document = document(&report);
        let [never_freed, allocated] = document["profiles"].as_array().unwrap().as_slice() else {
            panic!("{document}");
        };
        assert_eq!(never_freed["name"], "never freed, at least 10.0 s old: 55 blocks");
        assert_eq!(sum(never_freed), report.totals.survivors.bytes);
        assert_eq!(never_freed["endValue"], report.totals.survivors.bytes);
        assert_eq!(sum(allocated), allocated["endValue"].as_u64().unwrap());
        assert_eq!(allocated["samples"].as_array().unwrap().len(), report.sites.len());
    }

    #[test]
    fn a_stack_is_root_first() {
        let document = document(&sample::leaking());
        let stack = document["profiles"][0]["samples"][0].as_array().unwrap();
        let frame = |at: usize| &document["shared"]["frames"][stack[at].as_u64().unwrap() as usize];
        assert_eq!(frame(0), &serde_json::json!({"name": "_start", "file": "model-server"}));
        let load = serde_json::json!({
            "name": "Model::load_weights(Path const&)", "file": "/srv/src/model.cc", "line": 42
        });
        assert_eq!(frame(6), &load);
        assert_eq!(frame(stack.len() - 1), &serde_json::json!({"name": "malloc"}));
    }

    #[test]
    fn the_view_of_the_report_comes_first() {
        let mut report = sample::leaking();
        report.view = View::Peak;
        let document = document(&report);
        let names: Vec<_> = document["profiles"].as_array().unwrap().iter().collect();
        assert_eq!(names.len(), 3);
        assert!(names[0]["name"].as_str().unwrap().starts_with("live at the peak: "));
    }

    #[test]
    fn losses_are_in_the_name() {
        let name = document(&sample::lossy())["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("model-server (pid 4242), INCOMPLETE: 5,321 events"), "{name}");
        assert_eq!(document(&sample::leaking())["name"], "model-server (pid 4242)");
    }

    #[test]
    fn names_are_data() {
        let mut report = sample::leaking();
        let mut frame = (*report.sites[0].stack.frames[0]).clone();
        frame.function = "a\"b\\c\x1b[2J;d".to_owned();
        report.sites[0].stack.frames[0] = frame.into();
        let document = document(&report);
        let frames = document["shared"]["frames"].as_array().unwrap();
        assert!(frames.iter().any(|frame| frame["name"] == "a\"b\\c?[2J;d"));
    }
}
