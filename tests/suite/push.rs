//! `memtrace push`, against a server that reads what it is sent with the tools of those who read it.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Output},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memtrace::{
    capture::Reader,
    report::{Report, ReportOptions},
};
use memtrace_tests::{
    binary::{run, stderr},
    http::free_address,
    readers::{pprof, python},
    receiver::{Answer, Receiver, Request},
};
use serde_json::Value;
use tempfile::TempDir;

fn capture() -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../memtrace/src/capture/golden/v1.memtrace");
    PathBuf::from(root).canonicalize().unwrap()
}

fn push(url: &str, options: &[&str]) -> Output {
    let capture = capture();
    let fixed = ["push", capture.to_str().unwrap(), "--to", url];
    run(&[&fixed[..], options].concat())
}

fn assert_taken(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    assert_eq!(output.stdout, b"");
}

fn assert_refused(output: &Output, words: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{}", stderr(output));
    for word in words {
        assert!(stderr(output).contains(word), "no {word:?} in {}", stderr(output));
    }
}

/// Bytes and blocks that were allocated, by the report of the same capture.
fn allocated() -> (u64, u64) {
    let capture = Reader::open(File::open(capture()).unwrap()).unwrap().capture;
    let report = Report::of(&capture, ReportOptions::default());
    let mut sum = (0, 0);
    for site in &report.sites {
        sum = (sum.0 + site.stats.allocated.bytes, sum.1 + site.stats.allocated.count);
    }
    assert!(sum.0 > 0);
    sum
}

/// What pprof adds up in a profile that was sent.
fn assert_is_the_profile(profile: &[u8]) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sent.pb.gz");
    fs::write(&path, profile).unwrap();
    for (index, sum) in [("alloc_space", allocated().0), ("alloc_objects", allocated().1)] {
        let index = format!("-sample_index={index}");
        let raw = pprof(&["-top", "-unit=B", &index, "-nodecount=1"], &path);
        let total = format!("{sum}");
        let line = raw.lines().find(|line| line.contains(" total")).unwrap();
        assert!(line.contains(&total), "{total} is not in {line}");
    }
}

/// The label of a series of Pyroscope's push API.
fn label<'a>(series: &'a Value, name: &str) -> Option<&'a str> {
    let labels = series["labels"].as_array().unwrap();
    labels.iter().find(|it| it["name"] == name)?["value"].as_str()
}

#[test]
fn pprof_goes_to_pyroscopes_push_api() {
    let server = Receiver::answering(&[Answer::OK]);
    let options = ["--name", "shop", "--label", "region=eu-west", "--header", "X-Scope-OrgID=blue"];
    let output = push(&server.url(), &options);
    assert_taken(&output);
    assert!(stderr(&output).contains("shop sent to http://127.0.0.1"), "{}", stderr(&output));
    let request = server.request();
    assert_eq!(request.line, "POST /push.v1.PusherService/Push HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("x-scope-orgid"), Some("blue"));
    assert!(request.header("user-agent").unwrap().starts_with("memtrace/"));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let series = &body["series"][0];
    assert_eq!(label(series, "__name__"), Some("memory"));
    assert_eq!(label(series, "service_name"), Some("shop"));
    assert_eq!(label(series, "region"), Some("eu-west"));
    let profile = series["samples"][0]["rawProfile"].as_str().unwrap();
    assert_is_the_profile(&STANDARD.decode(profile).unwrap());
}

#[test]
fn pprof_goes_to_the_older_api_when_the_path_says_so() {
    let server = Receiver::answering(&[Answer::OK]);
    assert_taken(&push(&format!("{}/ingest", server.url()), &["--name", "shop"]));
    let request = server.request();
    let query = request.line.strip_prefix("POST /ingest?").unwrap();
    assert!(query.starts_with("name=shop%7B") && query.contains("&format=pprof"), "{query}");
    assert_is_the_profile(&request.body);
}

fn gunzipped(request: &Request) -> Vec<u8> {
    assert_eq!(request.header("content-encoding"), Some("gzip"));
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("body.gz");
    fs::write(&path, &request.body).unwrap();
    Command::new("gzip").arg("-dc").arg(&path).output().unwrap().stdout
}

#[test]
fn opentelemetry_profiles_go_to_a_collector() {
    let server = Receiver::answering(&[Answer::OK]);
    let options = ["--format", "otlp", "--name", "shop", "--label", "deployment.environment=prod"];
    assert_taken(&push(&server.url(), &options));
    let request = server.request();
    assert_eq!(request.line, "POST /v1development/profiles HTTP/1.1");
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sent.otlp");
    fs::write(&path, gunzipped(&request)).unwrap();
    let printed = python("opentelemetry-proto", include_str!("exports/otlp.py"), &[&path]);
    let read: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(read["has_unknown_fields"], false);
    assert_eq!(read["resource"]["service.name"], "shop");
    assert_eq!(read["resource"]["deployment.environment"], "prod");
    let samples = read["profiles"]["alloc_space"]["samples"].as_array().unwrap().iter();
    let sum: u64 = samples.map(|it| it["values"][0].as_u64().unwrap()).sum();
    assert_eq!(sum, allocated().0);
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let busy = Answer { status: "503 Service Unavailable", header: "retry-after: 0", body: b"" };
    let server = Receiver::answering(&[busy, busy, Answer::OK]);
    let output = push(&server.url(), &[]);
    assert_taken(&output);
    assert_eq!(stderr(&output).matches("trying again").count(), 2, "{}", stderr(&output));
    let bodies: Vec<_> = (0..3).map(|_| server.request().body).collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the same is sent again");
}

#[test]
fn attempts_come_to_an_end() {
    let busy = Answer { status: "429 Too Many Requests", header: "retry-after: 0", body: b"later" };
    let server = Receiver::answering(&[busy; 4]);
    let output = push(&server.url(), &["--retries", "2"]);
    assert_refused(&output, &["429", "later", "after 3 attempts"]);
    assert_eq!(server.rest().len(), 3);
}

#[test]
fn what_a_server_refuses_is_said_in_its_words_and_not_sent_again() {
    let words = b"tenant blue\nhas no \x1b[1mquota\x1b[0m";
    let no = Answer { status: "400 Bad Request", header: "x: y", body: words };
    let server = Receiver::answering(&[no, Answer::OK]);
    let output = push(&server.url(), &[]);
    assert_refused(&output, &["400 Bad Request", "tenant blue has no ?[1mquota"]);
    assert_eq!(server.rest().len(), 1);
}

/// A secret must not follow to wherever a server points.
#[test]
fn a_redirection_is_said_and_not_followed() {
    let elsewhere = "location: http://elsewhere.example/";
    let moved = Answer { status: "301 Moved Permanently", header: elsewhere, body: b"" };
    let server = Receiver::answering(&[moved]);
    let output = push(&server.url(), &["--header", "Authorization=secret-token"]);
    assert_refused(&output, &["301", "elsewhere.example"]);
    assert!(!stderr(&output).contains("secret-token"), "{}", stderr(&output));
}

/// `partial_success { rejected_profiles: 4, error_message: "too old" }` of the collector's answer.
#[test]
fn a_collector_that_takes_a_part_only_is_an_error() {
    let body = b"\x0a\x0b\x08\x04\x12\x07too old";
    let partial = Answer { status: "200 OK", header: "content-type: application/x-protobuf", body };
    let server = Receiver::answering(&[partial]);
    let output = push(&server.url(), &["--format", "otlp"]);
    assert_refused(&output, &["4 of the profiles were rejected", "too old"]);
}

#[test]
fn a_secret_is_read_from_a_file() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "Bearer abc\n").unwrap();
    let server = Receiver::answering(&[Answer::OK]);
    let header = format!("Authorization=@{}", path.display());
    assert_taken(&push(&server.url(), &["--header", &header]));
    assert_eq!(server.request().header("authorization"), Some("Bearer abc"));
    let absent = push(&server.url(), &["--header", "Authorization=@/nonexistent"]);
    assert_refused(&absent, &["/nonexistent"]);
}

#[test]
fn nobody_there_is_said_after_the_attempts() {
    let url = format!("http://{}", free_address());
    let output = push(&url, &["--retries", "1"]);
    assert_refused(&output, &[&url, "refused", "after 2 attempts"]);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let output = push(&url, &["--retries", "0", "--timeout", "300ms"]);
    assert_refused(&output, &[&url, "timeout"]);
}

#[test]
fn what_cannot_be_sent_is_refused_before_anything_is_read() {
    assert_refused(&push("pyroscope:4040", &[]), &["--to", "http://"]);
    assert_refused(&push("http://x", &["--label", "a-b=c"]), &["--label a-b"]);
    assert_refused(&push("http://x", &["--label", "abc"]), &["NAME=VALUE"]);
    let absent = run(&["push", "/nonexistent.memtrace", "--to", "http://localhost:1"]);
    assert_refused(&absent, &["/nonexistent.memtrace"]);
}
