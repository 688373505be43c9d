use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::profiles::v1development::ExportProfilesServiceRequest,
    common::v1::{AnyValue, any_value},
};

use super::*;
use crate::report::sample;

fn bytes(report: &Report) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(report, &mut bytes).unwrap();
    bytes
}

/// The profiles by their type, and what they refer to.
struct Decoded {
    resource: BTreeMap<String, String>,
    profiles: Vec<Profile>,
    dictionary: ProfilesDictionary,
}

fn decoded(report: &Report) -> Decoded {
    let mut data = ProfilesData::decode(bytes(report).as_slice()).unwrap();
    let mut of_resource = data.resource_profiles.remove(0);
    let attributes = of_resource.resource.unwrap().attributes.into_iter();
    Decoded {
        resource: attributes.map(|it| (it.key, shown(it.value))).collect(),
        profiles: of_resource.scope_profiles.remove(0).profiles,
        dictionary: data.dictionary.unwrap(),
    }
}

fn shown(value: Option<AnyValue>) -> String {
    match value.unwrap().value.unwrap() {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    }
}

impl Decoded {
    fn text(&self, index: i32) -> &str {
        &self.dictionary.string_table[index as usize]
    }

    fn profile(&self, name: &str) -> &Profile {
        let is_it = |it: &&Profile| self.text(it.sample_type.unwrap().type_strindex) == name;
        self.profiles.iter().find(is_it).unwrap()
    }

    fn sum(&self, name: &str) -> i64 {
        self.profile(name).samples.iter().flat_map(|sample| &sample.values).sum()
    }

    fn attributes(&self, indices: &[i32]) -> BTreeMap<&str, String> {
        let table = &self.dictionary.attribute_table;
        let attributes = indices.iter().map(|index| &table[*index as usize]);
        attributes.map(|it| (self.text(it.key_strindex), shown(it.value.clone()))).collect()
    }

    fn locations(&self, sample: &Sample) -> Vec<&Location> {
        let stack = &self.dictionary.stack_table[sample.stack_index as usize];
        let indices = stack.location_indices.iter();
        indices.map(|index| &self.dictionary.location_table[*index as usize]).collect()
    }

    /// `function file:line`, of the innermost line.
    fn place(&self, location: &Location) -> String {
        let line = location.lines[0];
        let function = self.dictionary.function_table[line.function_index as usize];
        let [name, file] = [function.name_strindex, function.filename_strindex];
        format!("{} {}:{}", self.text(name), self.text(file), line.line)
    }
}

#[test]
fn there_is_a_profile_for_each_type_and_its_sum_is_the_reports() {
    let report = sample::leaking();
    let decoded = decoded(&report);
    assert_eq!(decoded.profiles.len(), 4);
    let survivors = report.totals.survivors;
    assert_eq!(decoded.sum("inuse_space"), survivors.bytes as i64);
    assert_eq!(decoded.sum("inuse_objects"), survivors.count as i64);
    let allocated: u64 = report.sites.iter().map(|site| site.stats.allocated.count).sum();
    assert_eq!(decoded.sum("alloc_objects"), allocated as i64);
}

#[test]
fn entry_0_of_every_table_is_empty() {
    for report in [sample::leaking(), sample::idle()] {
        let dictionary = decoded(&report).dictionary;
        assert_eq!(dictionary.mapping_table[0], Mapping::default());
        assert_eq!(dictionary.location_table[0], Location::default());
        assert_eq!(dictionary.function_table[0], Function::default());
        assert_eq!(dictionary.link_table, [Link::default()]);
        assert_eq!(dictionary.string_table[0], "");
        assert_eq!(dictionary.attribute_table[0], Default::default());
        assert_eq!(dictionary.stack_table[0], Stack::default());
    }
}

#[test]
fn a_stack_is_leaf_first_and_in_objects_with_build_ids() {
    let report = sample::leaking();
    let decoded = decoded(&report);
    let samples = &decoded.profile("inuse_space").samples;
    let locations = decoded.locations(&samples[0]);
    assert_eq!(decoded.place(locations[0]), "malloc :0");
    assert_eq!(
        decoded.place(locations[3]),
        "Model::load_weights(Path const&) /srv/src/model.cc:42"
    );
    let mapping = &decoded.dictionary.mapping_table[locations[3].mapping_index as usize];
    assert_eq!(decoded.text(mapping.filename_strindex), "/srv/model-server");
    let build_id = decoded.attributes(&mapping.attribute_indices);
    let expected = report.modules[0].build_id.clone().unwrap();
    assert_eq!(build_id, BTreeMap::from([("process.executable.build_id.gnu", expected)]));
}

#[test]
fn frames_say_what_runs_them() {
    let decoded = decoded(&sample::python());
    let samples = &decoded.profile("inuse_space").samples;
    let types = |sample| -> Vec<Option<String>> {
        let locations = decoded.locations(sample).into_iter();
        let attributes = locations.map(|it| decoded.attributes(&it.attribute_indices));
        attributes.map(|mut it| it.remove("profile.frame.type")).collect()
    };
    let expected = [&[None], &[Some("native"); 3][..], &[Some("cpython"); 3]].concat();
    let types = types(&samples[0]);
    assert_eq!(types.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
}

#[test]
fn the_process_and_the_thread_are_named() {
    let decoded = decoded(&sample::leaking());
    let of = |key: &str| decoded.resource[key].as_str();
    assert_eq!([of("service.name"), of("process.pid")], ["model-server", "4242"]);
    assert_eq!(of("process.command"), "/srv/model-server");
    assert_eq!([of("host.name"), of("container.runtime")], ["node-7", "docker"]);
    assert_eq!(of("container.id").len(), 64);
    assert!(!decoded.resource.contains_key("k8s.pod.uid"), "what is not known is left out");
    let sample = &decoded.profile("alloc_space").samples[0];
    let thread = decoded.attributes(&sample.attribute_indices);
    let expected = [("thread.id", "4243"), ("thread.name", "worker-1")];
    assert_eq!(thread, expected.map(|(key, value)| (key, value.to_owned())).into());
}

#[test]
fn every_profile_says_what_it_lacks() {
    let decoded = decoded(&sample::lossy());
    for profile in &decoded.profiles {
        let about = decoded.attributes(&profile.attribute_indices);
        assert_eq!(about["memtrace.complete"], "false");
        assert!(about["memtrace.losses"].starts_with("INCOMPLETE: 5,321 events"));
        assert_eq!(profile.duration_nano, 30_000_000_000);
        assert_eq!(profile.time_unix_nano, 1_772_593_091_000_000_000);
    }
}

#[test]
fn the_bytes_are_also_a_request_to_a_collector() {
    let report = sample::leaking();
    let request = ExportProfilesServiceRequest::decode(bytes(&report).as_slice()).unwrap();
    let data = ProfilesData::decode(bytes(&report).as_slice()).unwrap();
    assert_eq!(request.resource_profiles, data.resource_profiles);
    assert_eq!(request.dictionary, data.dictionary);
}
