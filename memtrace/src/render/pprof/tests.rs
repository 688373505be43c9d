use std::{collections::BTreeSet, io::Read};

use flate2::read::GzDecoder;

use super::*;
use crate::{
    model::stack::NamedStack,
    report::{View, sample},
};

fn decoded(report: &Report) -> message::Profile {
    let mut compressed = Vec::new();
    write(report, &mut compressed).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(compressed.as_slice()).read_to_end(&mut bytes).unwrap();
    message::Profile::decode(bytes.as_slice()).unwrap()
}

impl message::Profile {
    fn text(&self, index: i64) -> &str {
        &self.string_table[index as usize]
    }

    fn texts(&self, indices: &[i64]) -> Vec<&str> {
        indices.iter().map(|index| self.text(*index)).collect()
    }

    fn sum(&self, name: &str) -> i64 {
        let is_it = |it: &message::ValueType| self.text(it.r#type) == name;
        let at = self.sample_type.iter().position(is_it).unwrap();
        self.sample.iter().map(|sample| sample.value[at]).sum()
    }

    /// `function file:line object`, innermost first.
    fn frames(&self, sample: &message::Sample) -> Vec<String> {
        let mut frames = Vec::new();
        for location in sample.location_id.iter().map(|id| &self.location[*id as usize - 1]) {
            let object = match location.mapping_id {
                0 => "-",
                id => self.text(self.mapping[id as usize - 1].filename),
            };
            for line in &location.line {
                let function = &self.function[line.function_id as usize - 1];
                let [name, file] = [function.name, function.filename].map(|it| self.text(it));
                frames.push(format!("{name} {file}:{} {object}", line.line));
            }
        }
        frames
    }
}

#[test]
fn sums_are_those_of_the_report() {
    let report = sample::leaking();
    let profile = decoded(&report);
    let survivors = report.totals.survivors;
    assert_eq!(profile.sum("inuse_space"), survivors.bytes as i64);
    assert_eq!(profile.sum("inuse_objects"), survivors.count as i64);
    let allocated: u64 = report.sites.iter().map(|site| site.stats.allocated.bytes).sum();
    assert_eq!(profile.sum("alloc_space"), allocated as i64);
    assert_eq!(profile.text(profile.default_sample_type), "inuse_space");
}

#[test]
fn a_stack_has_its_functions_lines_and_objects() {
    let profile = decoded(&sample::leaking());
    let frames = profile.frames(&profile.sample[0]);
    let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    let expected = [
        (0, "malloc :0 -".to_owned()),
        (1, "operator new(unsigned long) :0 -".to_owned()),
        (3, "Model::load_weights(Path const&) /srv/src/model.cc:42 /srv/model-server".to_owned()),
        (7, format!("__libc_start_call_main :0 {libc}")),
    ];
    for (at, expected) in expected {
        assert_eq!(frames[at], expected);
    }
    assert_eq!(frames.len(), 10);
}

#[test]
fn objects_have_build_ids_and_the_program_is_the_first() {
    let mut report = sample::leaking();
    report.modules.reverse();
    let profile = decoded(&report);
    let ids: Vec<_> = profile.mapping.iter().map(|it| profile.text(it.build_id)).collect();
    let expected = report.modules.iter().rev().map(|it| it.build_id.clone().unwrap());
    assert_eq!(ids, expected.collect::<Vec<_>>());
    let mapping = &profile.mapping[0];
    assert_eq!(profile.text(mapping.filename), report.target.executable);
    assert_eq!(mapping.memory_limit - mapping.memory_start, 0x10_0000);
}

#[test]
fn threads_are_labels() {
    let profile = decoded(&sample::leaking());
    let sample = &profile.sample[0];
    let labels = sample.label.iter().map(|it| (profile.text(it.key), profile.text(it.str)));
    assert_eq!(labels.collect::<Vec<_>>(), [("tid", "4243"), ("thread", "worker-1")]);
}

#[test]
fn missing_frames_are_at_the_root() {
    let report = sample::leaking();
    let profile = decoded(&report);
    let cut = report.sites.iter().position(|site| site.stack.missing_root.is_some()).unwrap();
    assert_eq!(profile.frames(&profile.sample[cut]).pop().unwrap(), "[no frame pointer] :0 -");
}

#[test]
fn an_incomplete_profile_says_so() {
    let profile = decoded(&sample::lossy());
    let comments = profile.texts(&profile.comment);
    assert!(comments.iter().any(|it| it.starts_with("INCOMPLETE: 5,321 events")), "{comments:?}");
    assert_eq!((profile.time_nanos, profile.duration_nanos), (1_772_593_091 * SECOND, 30 * SECOND));
}

const SECOND: i64 = 1_000_000_000;

#[test]
fn a_view_that_is_not_of_memory_in_use_is_not_called_so() {
    let mut report = sample::leaking();
    report.view = View::Temporary;
    let profile = decoded(&report);
    assert_eq!(profile.text(profile.default_sample_type), "temporary_space");
    let temporary: u64 = report.sites.iter().map(|it| it.weight(View::Temporary).bytes).sum();
    assert_eq!(profile.sum("temporary_space"), temporary as i64);
}

#[test]
fn every_reference_leads_somewhere() {
    for report in [sample::leaking(), sample::python(), sample::lossy(), sample::idle()] {
        let profile = decoded(&report);
        let ids = |ids: Vec<u64>| assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
        ids(profile.mapping.iter().map(|it| it.id).collect());
        ids(profile.location.iter().map(|it| it.id).collect());
        ids(profile.function.iter().map(|it| it.id).collect());
        profile.sample.iter().for_each(|sample| _ = profile.frames(sample));
        let strings: BTreeSet<_> = profile.string_table.iter().collect();
        assert_eq!(strings.len(), profile.string_table.len());
        assert_eq!(profile.string_table[0], "");
    }
}

#[test]
fn what_did_nothing_is_left_out() {
    let mut report = sample::leaking();
    let mut nothing = report.sites[0].clone();
    nothing.stack = NamedStack::default();
    (nothing.stats, nothing.survivors) = Default::default();
    nothing.threads.clear();
    report.sites = vec![nothing];
    assert_eq!(decoded(&report).sample, []);
}

#[test]
fn hostile_names_are_only_names() {
    let mut report = sample::leaking();
    let mut frame = (*report.sites[0].stack.frames[0]).clone();
    frame.function = "\x1b[2J;a\nb\0 größe<int>".to_owned();
    report.sites[0].stack.frames[0] = frame.into();
    report.sites[0].threads[0].name = Some("\x1b]0;x".to_owned());
    report.target.command = "\r\nfake".to_owned();
    let profile = decoded(&report);
    assert!(profile.string_table.contains(&"?[2J;a?b? größe<int>".to_owned()));
    assert!(profile.string_table.iter().all(|text| !text.contains(char::is_control)));
}
