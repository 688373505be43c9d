//! Polars, which brings an allocator of its own along, linked into its library: jemalloc as `_rjem_malloc`.
//! What malloc of the C library sees of such a job is next to nothing.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use memtrace_tests::{
    attach::Attach,
    binary::{memtrace_in_memory, memtrace_on_disk_only},
    cgroup::Cgroup,
    lines::Lines,
    programs,
    python_target::PythonTarget,
    python_truth::{KnownLine, group_place, python_stack},
    pythons::system,
    report::{Amount, SiteReport},
    running::Running,
    truth::assert_complete,
    watch::Watch,
};
use serde_json::Value;

const POLARS: &str = "polars";

#[test]
fn the_line_that_keeps_columns_is_the_first_that_is_named() {
    let command = system().command_with_package(POLARS);
    let mut target = PythonTarget::start_with(command, "polars_columns.py", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let truth: Vec<KnownLine> = target.ask("scale 20");
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    assert_complete(&report);
    let [columns] = &*truth else { panic!("{truth:?}") };
    assert_eq!(columns.survivors.count, 20);
    assert_eq!(group_place(&report.groups[0]).as_ref(), Some(&columns.place));
    // What Polars has to say of a column is on the heap, too.
    let group = report.groups[0].survivors;
    let share = group.bytes as f64 / columns.survivors.bytes as f64;
    assert!((1.0..1.001).contains(&share), "{group:?} of {columns:?}");
    let column_bytes = columns.survivors.bytes / columns.survivors.count;
    let is_data = |site: &&SiteReport| {
        let live = site.stats.live;
        live.count > 0 && live.bytes == live.count * column_bytes
    };
    let mut data = Amount::default();
    // Polars' own frames are inside of the line that calls it.
    let is_there = |site: &&SiteReport| python_stack(&site.stack).ends_with(&columns.stack);
    for site in report.sites.iter().filter(is_there).filter(is_data) {
        assert_eq!(site.allocator.as_deref(), Some("jemalloc (_rjem_)"));
        data += site.stats.live;
    }
    assert_eq!(data, columns.survivors);
}

/// What all of a watch may take.
const ALLOWED_BYTES: u64 = 64 << 20;
/// What the job may take: on a busy machine two captures take their time.
const LIMIT_BYTES: u64 = 2 << 30;

/// The job of incident 3, which grows when it is told to.
fn job(group: &Cgroup) -> Running {
    let mut command: Command = group.command(system().path());
    command.args(["-B", "-s", "-u"]).env("PYTHONPATH", system().package(POLARS));
    command.arg(programs::python("polars_job.py")).args(["8", "wait"]);
    let mut job = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut output = Lines::of(job.child().stdout.take().unwrap());
    assert!(output.find("waiting").is_some(), "it did not start");
    job
}

fn has_frame(report: &Value, key: &str, part: &str) -> bool {
    let sites = report["sites"].as_array().unwrap().iter();
    let mut frames = sites.flat_map(|site| site["stack"]["frames"].as_array().unwrap());
    frames.any(|frame| frame[key].as_str().is_some_and(|it| it.contains(part)))
}

/// Incident 3: it heads for its limit, and the watch may take 64 MiB, programs, maps and the tables of all
/// of its code included. Whether a report names what makes it grow is for `names_it` to say.
fn captured_twice_by_a_watch_of_64_mib(options: &[&str], names_it: fn(&Value) -> bool) {
    let (own, group) = (Cgroup::with_limit(ALLOWED_BYTES), Cgroup::with_limit(LIMIT_BYTES));
    let mut job = job(&group);
    let conditions = ["--when", "rss>10%", "-d", "8s", "--cool-down", "5s"];
    let arguments = [&["--cgroup", group.name()], options, &conditions[..]].concat();
    let mut command = own.command(&memtrace_in_memory());
    let mut watch = Watch::start_command(command.arg("watch"), &arguments, None);
    assert_eq!(watch.event("ready")["pid"], job.pid());
    job.child().stdin.take().unwrap().write_all(b"go\n").unwrap();
    for _ in 0..2 {
        watch.event("fired");
        let report = watch.capture();
        assert!(job.is_running() && group.oom_kills() == 0, "it was written after the kill");
        assert!(names_it(&report), "{report:#}");
    }
    let (status, stderr) = watch.interrupt();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(own.peak_bytes() <= ALLOWED_BYTES && own.oom_kills() == 0, "{}", own.peak_bytes());
    assert!(!stderr.contains("failed"), "{stderr}");
}

/// Nothing is ready yet: tables are compiled, the kernel's types read and programs verified in one go.
fn growth_is_captured_at_once(memtrace: &Path, allowed_bytes: u64) {
    let (own, group) = (Cgroup::with_limit(allowed_bytes), Cgroup::with_limit(LIMIT_BYTES));
    let mut job = job(&group);
    job.child().stdin.take().unwrap().write_all(b"go\n").unwrap();
    let arguments =
        ["--cgroup", group.name(), "--growth", "--when", "rss>1MiB", "-d", "5s", "--once"];
    let mut command = own.command(memtrace);
    let mut watch = Watch::start_command(command.arg("watch"), &arguments, None);
    let report = watch.capture();
    assert!(has_frame(&report, "function", "polars_"), "{report:#}");
    assert_eq!(watch.wait().0.code(), Some(1));
    assert!(own.peak_bytes() <= allowed_bytes && own.oom_kills() == 0, "{}", own.peak_bytes());
}

#[test]
fn growth_of_a_job_is_captured_by_a_watch_of_64_mib_that_fires_at_once() {
    growth_is_captured_at_once(&memtrace_in_memory(), ALLOWED_BYTES);
}

/// What is locked of its own file counts, too.
#[test]
fn growth_of_a_job_is_captured_at_once_by_a_watch_that_has_to_be_read_from_the_disk() {
    // That much more code is in use of a build that is not optimised.
    let not_optimised_bytes = if cfg!(debug_assertions) { 20 << 20 } else { 0 };
    let directory = tempfile::tempdir().unwrap();
    let memtrace = memtrace_on_disk_only(directory.path());
    growth_is_captured_at_once(&memtrace, ALLOWED_BYTES + not_optimised_bytes);
}

#[test]
fn growth_of_a_job_is_captured_twice_by_a_watch_of_64_mib() {
    captured_twice_by_a_watch_of_64_mib(&["--growth"], |report| {
        has_frame(report, "function", "polars_") && has_frame(report, "file", "polars_job.py")
    });
}

#[test]
fn allocations_of_a_job_are_captured_twice_by_a_watch_of_64_mib() {
    captured_twice_by_a_watch_of_64_mib(&[], |report| {
        has_frame(report, "function", "polars_") && has_frame(report, "file", "polars_job.py")
    });
}
