//! What `memtrace doctor` says is what an attach then meets.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

use memtrace_tests::{
    attach::Attach,
    binary::{memtrace, run, stderr},
    programs,
    target::{Background, Target},
    wait_until,
};
use serde_json::Value;

const NOBODY: u32 = 65534;

fn doctor(pid: u32) -> Output {
    run(&["doctor", "-p", &pid.to_string(), "--json"])
}

fn diagnosis(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), stderr(output))
    })
}

#[test]
fn a_process_that_can_be_traced_is_described() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let output = doctor(target.pid());
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let diagnosis = diagnosis(&output);
    assert_eq!(
        (&diagnosis["traceable"], &diagnosis["obstacles"]),
        (&true.into(), &Value::Array(vec![]))
    );
    let kernel = &diagnosis["kernel"];
    assert_eq!((&kernel["uprobes"], &kernel["bpf_permitted"]), (&true.into(), &true.into()));
    let allocator = &diagnosis["allocators"][0];
    assert_eq!(allocator["name"], "glibc");
    let probes = allocator["probes"].as_array().unwrap();
    assert!(probes.iter().any(|probe| probe["function"] == "malloc"), "{probes:?}");
    let path = programs::path("ground_truth").canonicalize().unwrap();
    let objects = diagnosis["objects"].as_array().unwrap();
    let program = objects.iter().find(|it| it["path"].as_str() == path.to_str()).unwrap();
    assert_eq!(program["symbols"]["kind"], "lines");
    let vdso = objects.iter().find(|it| it["path"] == "[vdso]").unwrap();
    assert!(vdso["unwind"]["rows"].as_u64() > Some(0), "{vdso}");
    let sum: u64 = objects.iter().map(|it| it["unwind"]["rows"].as_u64().unwrap()).sum();
    assert_eq!(diagnosis["totals"]["rows"], sum);
}

#[test]
fn the_cost_of_an_attach_is_known_from_the_calls_of_a_moment() {
    let mut target = Target::start("hot", &["1", "0"]);
    let described = diagnosis(&doctor(target.pid()));
    let expected = &described["cost"]["expected"];
    let of = |field: &str| expected[field].as_f64().unwrap();
    assert!(of("calls_per_second") > 100_000.0, "{expected}");
    // Each call recorded, it would be many times as slow; the usual limit is a tenth.
    assert!(of("exact_overhead") > 3.0 && of("overhead") <= 0.1, "{expected}");
    assert!(of("counted_ns") > 0.0 && of("counted_ns") < 10e9, "{expected}");
    let text = run(&["doctor", "-p", &target.pid().to_string()]);
    let text = String::from_utf8(text.stdout).unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("calls a second; recording every allocation would take"), "{text}");
    assert!(text.contains("(counted by its probes for"), "{text}");
    assert!(target.quit().success());
}

#[test]
fn a_process_that_rests_costs_nothing_and_without_probes_that_is_not_known() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let counted = diagnosis(&doctor(target.pid()));
    assert_eq!(counted["cost"]["expected"]["calls_per_second"], 0.0, "{}", counted["cost"]);
    assert_eq!(counted["cost"]["setting"], "every allocation");
    let pid = target.pid().to_string();
    let output = run(&["doctor", "-p", &pid, "--json", "--no-probes"]);
    let described = diagnosis(&output);
    assert_eq!((&described["cost"], &described["not_counted"]), (&Value::Null, &Value::Null));
    assert_eq!(described["traceable"], true);
}

fn assert_same_refusal(pid: u32) {
    let refused = Attach::to(pid).run();
    let output = doctor(pid);
    assert_eq!((output.status.code(), refused.status.code()), (Some(2), Some(2)));
    assert_eq!(stderr(&output).trim_end(), refused.stderr.trim_end());
    assert!(stderr(&output).starts_with("memtrace: error: "), "{}", stderr(&output));
}

#[test]
fn what_cannot_be_traced_is_refused_in_the_words_of_attach() {
    assert_same_refusal(4_194_305);
    assert_same_refusal(2);
    assert_same_refusal(Target::start("nomalloc", &[]).pid());
}

#[test]
fn a_zombie_is_refused_in_the_words_of_attach() {
    let mut child = Command::new("true").spawn().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    wait_until("it is a zombie", || fs::read_to_string(&stat).unwrap().contains(") Z "));
    assert_same_refusal(child.id());
    child.wait().unwrap();
}

#[test]
fn a_process_without_an_allocator_is_described_all_the_same() {
    let target = Target::start("nomalloc", &[]);
    let diagnosis = diagnosis(&doctor(target.pid()));
    assert_eq!(diagnosis["traceable"], false);
    assert!(diagnosis["obstacles"][0].as_str().unwrap().contains("malloc"), "{diagnosis}");
    assert_ne!(diagnosis["objects"], Value::Array(Vec::new()));
}

/// Runs the doctor as nobody, with a copy of memtrace that nobody can get at.
fn doctor_as_nobody(directory: &Path, pid: u32) -> Output {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.join("memtrace");
    fs::copy(memtrace(), &copy).unwrap();
    let mut command = Command::new(copy);
    command.args(["doctor", "--json", "-p", &pid.to_string()]);
    command.uid(NOBODY).gid(NOBODY).output().unwrap()
}

#[test]
fn a_process_of_root_is_not_described_to_nobody() {
    let directory = tempfile::TempDir::new().unwrap();
    let target = Target::start("ground_truth", &["heap", "1"]);
    let output = doctor_as_nobody(directory.path(), target.pid());
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), b"".as_slice()));
    assert!(stderr(&output).contains("sudo"), "{}", stderr(&output));
}

#[test]
fn a_process_of_nobody_is_described_to_nobody_without_the_right_to_trace_it() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo here; exec sleep 1000"]).uid(NOBODY).gid(NOBODY);
    let target = Background::start(&mut command, "here");
    let comm = format!("/proc/{}/comm", target.pid());
    wait_until("it is sleep", || fs::read_to_string(&comm).unwrap() == "sleep\n");
    let output = doctor_as_nobody(directory.path(), target.pid());
    assert_eq!(output.status.code(), Some(2));
    let diagnosis = diagnosis(&output);
    assert_eq!(diagnosis["kernel"]["bpf_permitted"], false);
    assert!(stderr(&output).contains("permission denied"), "{}", stderr(&output));
    let libc = diagnosis["allocators"][0]["path"].as_str().unwrap().to_owned();
    assert!(libc.contains("libc.so"), "{libc}");
}

#[test]
fn without_a_process_it_says_what_the_machine_allows() {
    let output = run(&["doctor", "--json"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    let diagnosis = diagnosis(&output);
    assert_eq!((&diagnosis["traceable"], &diagnosis["target"]), (&true.into(), &Value::Null));
    let kernel = &diagnosis["kernel"];
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(kernel["release"], release.trim());
    assert_eq!(kernel["lacking_rights"], Value::Array(vec![]));
    let text = String::from_utf8(run(&["doctor"]).stdout).unwrap();
    assert!(text.starts_with("memtrace can trace processes on this machine"), "{text}");
}

/// With these capabilities and no others, as containers are given them.
fn with_rights(rights: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--inh-caps=-all", "--bounding-set", &format!("-all,{rights}")]);
    command.arg(memtrace()).args(arguments).output().unwrap()
}

#[test]
fn three_capabilities_are_enough_and_a_missing_one_is_named() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let pid = target.pid().to_string();
    let needed = ["bpf", "perfmon", "sys_ptrace"];
    let all = needed.map(|name| format!("+{name}")).join(",");
    let enough = with_rights(&all, &["doctor", "--json", "-p", &pid]);
    assert_eq!(enough.status.code(), Some(0), "{}", stderr(&enough));
    assert_eq!(diagnosis(&enough)["kernel"]["lacking_rights"], Value::Array(vec![]));
    let directory = tempfile::TempDir::new().unwrap();
    let prefix = directory.path().join("traced");
    let traced = ["attach", "-p", &pid, "-d", "1s", "-o", prefix.to_str().unwrap()];
    let traced = with_rights(&all, &traced);
    assert_eq!(traced.status.code(), Some(0), "{}", stderr(&traced));
    for missing in ["bpf", "perfmon"] {
        let others = needed.into_iter().filter(|name| *name != missing);
        let others: Vec<_> = others.map(|name| format!("+{name}")).collect();
        let output = with_rights(&others.join(","), &["doctor", "--json"]);
        assert_eq!(output.status.code(), Some(2), "{missing}");
        let diagnosis = diagnosis(&output);
        let name = format!("CAP_{}", missing.to_uppercase());
        assert_eq!(diagnosis["kernel"]["lacking_rights"][0]["name"], name);
        assert!(diagnosis["findings"][0]["what"].as_str().unwrap().contains(&name));
    }
}
