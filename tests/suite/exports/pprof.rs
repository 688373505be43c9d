//! By pprof itself.

use std::{fs::File, path::PathBuf};

use memtrace::render;
use memtrace_tests::readers::pprof;
use tempfile::TempDir;

use super::sample;

struct Profile {
    path: PathBuf,
    _directory: TempDir,
}

fn profile() -> Profile {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("memtrace.pb.gz");
    render::pprof::write(&sample::report(), &mut File::create(&path).unwrap()).unwrap();
    Profile { path, _directory: directory }
}

impl Profile {
    fn read(&self, arguments: &[&str]) -> String {
        pprof(arguments, &self.path)
    }

    /// Each function's own and total bytes, by name, as the table has them.
    fn top(&self, arguments: &[&str]) -> Vec<(u64, u64, String)> {
        let table = self.read(&[&["-top", "-unit=B", "-nodecount=100"], arguments].concat());
        table.lines().filter_map(row).collect()
    }
}

/// `1024B 8.33% 8.33% 4096B 33.33% name of the function (inline)`.
fn row(line: &str) -> Option<(u64, u64, String)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let bytes = |word: &str| word.trim_end_matches('B').parse::<u64>().ok();
    let name = words.get(5..)?.join(" ");
    Some((bytes(words[0])?, bytes(words[3])?, name))
}

fn total(rows: &[(u64, u64, String)], name: &str) -> u64 {
    let row = rows.iter().find(|(_, _, it)| it == name);
    row.unwrap_or_else(|| panic!("{name} is not in {rows:?}")).1
}

#[test]
fn it_shows_what_was_never_freed_first_under_whole_names() {
    let rows = profile().top(&[]);
    assert_eq!(total(&rows, "malloc"), 12 << 10);
    assert_eq!(total(&rows, "Model::load(char const*)"), 12 << 10);
    assert_eq!(total(&rows, "grow<float>(int) (inline)"), 4 << 10);
    assert_eq!(total(&rows, "Cache.<locals>.load"), 8 << 10);
    assert_eq!(total(&rows, "<module>"), 8 << 10);
    assert_eq!(total(&rows, "libc.so.6+0x2724a"), 4 << 10);
    let own: u64 = rows.iter().map(|row| row.0).sum();
    assert_eq!(own, 12 << 10);
}

#[test]
fn every_type_has_its_own_sums() {
    let profile = profile();
    let allocated = profile.top(&["-sample_index=alloc_space"]);
    assert_eq!(total(&allocated, "malloc"), 17 << 10);
    assert_eq!(total(&allocated, "tidy?[2J"), 1 << 10);
    for (index, count) in [("inuse_objects", 12), ("alloc_objects", 17)] {
        let table = profile.read(&["-top", &format!("-sample_index={index}")]);
        let of = format!("{count}, 100% of {count} total");
        assert!(table.contains(&of), "{table}");
    }
}

#[test]
fn lines_are_those_of_the_source() {
    let rows = profile().top(&["-lines"]);
    assert_eq!(total(&rows, "Model::load(char const*) /srv/src/model.cc:42"), 12 << 10);
    assert_eq!(total(&rows, "Cache.<locals>.load /srv/serve.py:88"), 8 << 10);
}

#[test]
fn the_program_is_the_first_object_and_has_its_build_id() {
    let raw = profile().read(&["-raw"]);
    let mappings = raw.split("Mappings\n").nth(1).unwrap();
    let mut lines = mappings.lines();
    let program = lines.next().unwrap();
    assert!(program.contains(&format!("{} {}", sample::EXECUTABLE, sample::BUILD_ID)), "{raw}");
    assert!(program.starts_with("1: 0x5000/0x6000/0x1000"), "{raw}");
    assert!(lines.next().unwrap().contains("/lib/libc.so.6"), "{raw}");
}

#[test]
fn threads_can_be_told_apart_and_chosen() {
    let profile = profile();
    let tags = profile.read(&["-tags"]);
    for expected in ["tid: Total", "thread: Total", "worker-1", "worker-2"] {
        assert!(tags.contains(expected), "{tags}");
    }
    let of_one = profile.top(&["-tagfocus=thread=worker-2"]);
    assert_eq!(total(&of_one, "malloc"), 1 << 10);
}

#[test]
fn it_is_told_when_and_what_is_missing() {
    let profile = profile();
    let comments = profile.read(&["-comments"]);
    assert!(comments.contains("INCOMPLETE: 5 events lost"), "{comments}");
    assert!(comments.contains("sh (pid 4242): traced from 2026-03-04T02:58:11Z"), "{comments}");
    let table = profile.read(&["-top"]);
    assert!(table.contains("File: sh\n"), "{table}");
    assert!(table.contains("Build ID: 0f0e0d0c"), "{table}");
    assert!(table.contains("2026"), "{table}");
    assert!(table.contains("Duration: 30s"), "{table}");
    assert!(!table.contains('\x1b'), "{table}");
}

#[test]
fn what_two_profiles_have_in_common_is_taken_away() {
    let (before, after) = (profile(), profile());
    let base = format!("-base={}", before.path.display());
    assert_eq!(after.top(&[]).iter().map(|row| row.0).sum::<u64>(), 12 << 10);
    let table = after.read(&["-top", "-unit=B", &base]);
    assert!(table.contains("Showing nodes accounting for 0, 0% of 0 total"), "{table}");
}
