//! Reads Rust sources just well enough to know which modules and crates they name.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A source file of memtrace, without its tests and comments.
pub struct Source {
    /// Relative to `memtrace/src`.
    pub path: PathBuf,
    code: String,
}

impl Source {
    /// The module right below the crate's root that it belongs to; `main` and `lib` are their own.
    pub fn module(&self) -> &str {
        let first = self.path.iter().next().unwrap().to_str().unwrap();
        first.trim_end_matches(".rs")
    }

    /// The first path segments that follow `root::`, in paths and in `use` groups.
    pub fn segments_after(&self, root: &str) -> BTreeSet<String> {
        segments_after(&self.code, root)
    }
}

/// Every source file of memtrace that is not a test.
pub fn memtrace_sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../memtrace/src");
    let mut sources = Vec::new();
    collect(&root, &root, &mut sources);
    assert!(sources.len() > 10, "memtrace's sources were not found");
    sources
}

fn collect(root: &Path, directory: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap();
        if stem == "tests" {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let code = without_tests_and_comments(&fs::read_to_string(&path).unwrap());
            let path = path.strip_prefix(root).unwrap().to_owned();
            sources.push(Source { path, code });
        }
    }
}

/// Tests are at the end of a file, from the first `#[cfg(test)]` on that opens a module.
fn without_tests_and_comments(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn segments_after(code: &str, root: &str) -> BTreeSet<String> {
    let path = format!("{root}::");
    let mut segments = BTreeSet::new();
    for (at, _) in code.match_indices(&path) {
        let before = code[..at].chars().next_back();
        // Part of a longer name or path.
        if before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':') {
            continue;
        }
        let rest = code[at + path.len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(group) => segments.extend(group_members(group)),
            None => segments.extend(identifier(rest)),
        }
    }
    segments
}

/// The first segments of the members of a `use` group, given what follows its opening brace.
fn group_members(group: &str) -> Vec<String> {
    let (mut depth, mut members, mut start) = (0, Vec::new(), 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                members.extend(identifier(&group[start..at]));
                return members;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.extend(identifier(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    members
}

fn identifier(text: &str) -> Option<String> {
    let name = text.trim_start().split(|it: char| !it.is_alphanumeric() && it != '_').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[test]
fn paths_and_groups_are_understood() {
    let code = "use crate::{\n    model::{site::{Amount, Site}, size},\n    report,\n};\n\
                fn f() -> crate::sys::Clock { xcrate::no::one(); a::crate::nor() }\n\
                use crate::elf;";
    let expected = ["elf", "model", "report", "sys"].map(str::to_owned);
    assert_eq!(segments_after(code, "crate"), BTreeSet::from(expected));
}

#[test]
fn tests_and_comments_do_not_count() {
    let text = "//! crate::a\nuse crate::b; // crate::c\n#[cfg(test)]\nmod tests {\nuse crate::d;}";
    assert_eq!(segments_after(&without_tests_and_comments(text), "crate").len(), 1);
}
