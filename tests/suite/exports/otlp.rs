//! By OpenTelemetry's own messages for Python, which come from the same schema by another compiler.

use std::fs::File;

use memtrace::render;
use memtrace_tests::readers::python;
use serde_json::{Value, json};

use super::sample;

fn read() -> Value {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memtrace.otlp");
    render::otlp::write(&sample::report(), &mut File::create(&path).unwrap()).unwrap();
    let printed = python("opentelemetry-proto", include_str!("otlp.py"), &[&path]);
    serde_json::from_str(&printed).unwrap()
}

fn sum(profile: &Value) -> i64 {
    let samples = profile["samples"].as_array().unwrap().iter();
    samples.map(|sample| sample["values"][0].as_i64().unwrap()).sum()
}

#[test]
fn the_schema_knows_everything_in_it() {
    let read = read();
    assert_eq!(read["has_unknown_fields"], false);
    assert_eq!(read["scope"], "memtrace");
    assert_eq!(read["resource"]["process.pid"], 4242);
    assert_eq!(read["resource"]["service.name"], "sh");
}

#[test]
fn each_profile_has_its_type_unit_and_sum() {
    let read = read();
    let types = [
        ("alloc_objects", "count", 17),
        ("alloc_space", "bytes", 17 << 10),
        ("inuse_objects", "count", 12),
        ("inuse_space", "bytes", 12 << 10),
    ];
    for (name, unit, expected) in types {
        let profile = &read["profiles"][name];
        assert_eq!(profile["unit"], unit);
        assert_eq!(sum(profile), expected, "{name}");
        assert_eq!(profile["time_unix_nano"], 1_772_593_091_000_000_000_u64);
        assert_eq!(profile["attributes"]["memtrace.complete"], false);
    }
    assert_eq!(read["profiles"].as_object().unwrap().len(), types.len());
}

#[test]
fn a_sample_has_its_frames_objects_and_thread() {
    let read = read();
    let samples = read["profiles"]["inuse_space"]["samples"].as_array().unwrap();
    let in_python = samples.iter().find(|sample| sample["values"][0] == 8192).unwrap();
    let thread = json!({"thread.id": 11, "thread.name": "worker-1"});
    assert_eq!(in_python["attributes"], thread);
    let build_id = json!({"process.executable.build_id.gnu": sample::BUILD_ID});
    let load = json!({
        "function": "Model::load(char const*)", "file": "/srv/src/model.cc", "line": 42,
        "mapping": sample::EXECUTABLE, "of_mapping": build_id,
        "attributes": {"profile.frame.type": "native"},
    });
    let cache = json!({
        "function": "Cache.<locals>.load", "file": "/srv/serve.py", "line": 88,
        "mapping": "", "of_mapping": {}, "attributes": {"profile.frame.type": "cpython"},
    });
    let frames = in_python["frames"].as_array().unwrap();
    assert_eq!(frames[0]["function"], "malloc");
    assert_eq!(frames[1..3], [load, cache]);
}
