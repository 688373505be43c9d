//! By the schema that speedscope publishes.

use std::{fs, path::Path};

use memtrace::render;
use memtrace_tests::readers::python;

use super::sample;

/// Prints what is wrong with a document, a line each.
const VALIDATE: &str = "
import json, sys
from jsonschema import Draft7Validator
schema, document = (json.load(open(path)) for path in sys.argv[1:])
Draft7Validator.check_schema(schema)
for error in Draft7Validator(schema).iter_errors(document):
    print(list(error.path), error.validator)
";

fn wrong(document: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memtrace.speedscope.json");
    fs::write(&path, document).unwrap();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/speedscope");
    python("jsonschema", VALIDATE, &[&schema.join("file-format-schema.json"), &path])
}

fn document() -> Vec<u8> {
    let mut document = Vec::new();
    render::speedscope::write(&sample::report(), &mut document).unwrap();
    document
}

#[test]
fn the_document_is_as_the_schema_says() {
    assert_eq!(wrong(&document()), "");
}

#[test]
fn the_schema_finds_what_is_wrong() {
    let document = String::from_utf8(document()).unwrap();
    let without = document.replace("\"weights\"", "\"waits\"");
    assert!(wrong(without.as_bytes()).contains("['profiles', 0] anyOf"));
}
