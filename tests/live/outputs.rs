//! What is written, and what happens when it cannot be.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use memtrace_tests::{attach::Attach, binary::memtrace, target::Target, wait_until};
use quick_xml::{Reader, events::Event};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

/// All titles of an SVG; panics where it is not well-formed XML.
fn titles(svg: &str) -> Vec<String> {
    let mut reader = Reader::from_str(svg);
    let (mut titles, mut in_title) = (Vec::new(), false);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) => in_title = tag.name().as_ref() == b"title",
            Event::Text(text) if in_title => titles.push(String::from_utf8(text.to_vec()).unwrap()),
            Event::End(_) => in_title = false,
            Event::Eof => return titles,
            _ => {}
        }
    }
}

#[test]
fn the_flamegraph_is_xml_and_names_the_leak() {
    let mut target = Target::start("ground_truth", &["heap", "1"]);
    let tracing = Attach::to(target.pid()).armed();
    target.run();
    let svg = tracing.interrupt().svg.unwrap();
    let titles = titles(&svg);
    for name in ["main", "heap", "site_malloc_huge_kept"] {
        assert!(titles.iter().any(|title| title.contains(name)), "no {name} in {titles:?}");
    }
    let freed = titles.iter().any(|title| title.contains("site_malloc_huge_freed"));
    assert!(!freed, "what was freed does not belong there");
}

#[test]
fn the_text_report_names_the_leak_and_its_files() {
    let mut target = Target::start("ground_truth", &["heap", "1"]);
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("result");
    let tracing = Attach::to(target.pid()).text().output(&prefix).armed();
    target.run();
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    let text = finished.stdout;
    for word in ["ground_truth", "site_malloc_huge_kept", "glibc", "result.svg"] {
        assert!(text.contains(word), "no {word} in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "colours are for terminals");
}

#[test]
fn a_minimum_age_leaves_out_what_is_young() {
    let mut target = Target::start("ground_truth", &["ages", "1"]);
    let tracing = Attach::to(target.pid()).args(&["--min-age", "2s"]).armed();
    target.run();
    let report = tracing.interrupt().report();
    let survivors = |site: &str| {
        let sites = report.sites_of(site).map(|site| site.survivors);
        sites.fold((0, 0), |(bytes, count), it| (bytes + it.bytes, count + it.count))
    };
    assert_eq!(survivors("site_malloc_old"), (3000, 2));
    assert_eq!(survivors("site_malloc_young"), (0, 0));
    assert_eq!((report.totals.survivors.bytes, report.totals.survivors.count), (3000, 2));
    let young = report.sites_of("site_malloc_young").next().unwrap();
    assert_eq!(young.stats.live.count, 1, "it is live, but no survivor");
    let old = report.sites_of("site_malloc_old").next().unwrap();
    assert!(old.survivors.youngest_age_ns >= 2_900_000_000, "{old:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for json in [true, false] {
        let mut target = Target::start("ground_truth", &["heap", "1"]);
        let directory = TempDir::new().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(memtrace());
        command.args(["attach", "-d", "1s", "-p", &target.pid().to_string(), "-o"]);
        command.arg(directory.path().join("out")).args(json.then_some("--json"));
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop((reader, command));
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        assert!(directory.path().join("out.svg").exists());
        target.run();
    }
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_the_attach() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let finished = Attach::to(target.pid()).output(Path::new("/proc/nowhere/out")).run();
    finished.assert_refused(&["/proc/nowhere/out.memtrace", "--output"]);
    assert!(!finished.stderr.contains("tracing"), "{}", finished.stderr);
}

#[test]
fn files_that_exist_are_overwritten_only_by_force() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let directory = TempDir::new().unwrap();
    let (prefix, svg) = (directory.path().join("out"), directory.path().join("out.svg"));
    fs::write(&svg, "precious").unwrap();
    Attach::to(target.pid()).output(&prefix).run().assert_refused(&["exists", "--force"]);
    assert_eq!(fs::read_to_string(&svg).unwrap(), "precious");
    let options = ["--force", "-d", "1s"];
    Attach::to(target.pid()).output(&prefix).args(&options).run().report();
    assert!(fs::read_to_string(&svg).unwrap().contains("<svg"));
}

/// A file system of 16 KiB, which is unmounted on drop.
struct TinyDisk(TempDir);

impl TinyDisk {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let size = c"size=16k";
        mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), size).unwrap();
        Self(directory)
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_costs_the_file_but_not_the_report() {
    let disk = TinyDisk::new();
    fs::write(disk.0.path().join("rest"), [0; 8192]).unwrap();
    let mut target = Target::start("ground_truth", &["heap", "1"]);
    let tracing = Attach::to(target.pid()).text().output(&disk.0.path().join("out")).armed();
    target.run();
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("out.svg"), "{}", finished.stderr);
    assert!(finished.stderr.contains("No space left"), "{}", finished.stderr);
    assert!(finished.stdout.contains("site_malloc_huge_kept"), "{}", finished.stdout);
    assert!(!disk.0.path().join("out.svg").exists(), "half a file is no file");
}

#[test]
fn without_a_prefix_the_files_are_named_by_the_process_and_the_time() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let directory = TempDir::new().unwrap();
    let mut command = Command::new(memtrace());
    command.args(["attach", "-d", "100ms", "-p", &target.pid().to_string()]);
    let output = command.current_dir(directory.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let names = fs::read_dir(directory.path()).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    let start = format!("memtrace-ground_truth-{}-", target.pid());
    assert!(names.len() == 3 && names.iter().all(|name| name.starts_with(&start)), "{names:?}");
    for ending in ["Z.memtrace", "Z.svg", "Z-timeline.svg"] {
        assert!(names.iter().any(|name| name.ends_with(ending)), "{ending} of {names:?}");
    }
}

#[test]
fn files_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let target = Target::start("ground_truth", &["heap", "1"]);
    let directory = TempDir::new().unwrap();
    // Who names the capture gets that name, not `out.memtrace.memtrace`.
    let capture = directory.path().join("out.memtrace");
    Attach::to(target.pid()).output(&capture).args(&["-d", "100ms"]).run().report();
    for name in ["out.svg", "out.memtrace"] {
        let file = directory.path().join(name);
        wait_until("the file is there", || file.exists());
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}
