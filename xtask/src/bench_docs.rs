//! The tables of docs/benchmarks.md that `cargo xtask bench --docs` writes itself: those between
//! `<!-- bench NAME -->` and `<!-- end of bench NAME -->`, where NAME is a group of the benchmark.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::shell::{output_of, root, say};

const DOCUMENT: &str = "docs/benchmarks.md";

/// Puts the figures of a run into the document. What the run has no figures of stays as it is.
pub fn write(overhead: &Path, results: &Path) -> Result<()> {
    let path = root().join(DOCUMENT);
    let mut text = fs::read_to_string(&path)?;
    for group in groups(&text) {
        let mut render = Command::new(overhead);
        render.args(["render", "--format", "markdown", "--only", &group]);
        let tables = output_of(render.stdin(fs::File::open(results)?))?;
        // Only the machine is said where there are no figures.
        if tables.contains('|') {
            text = replaced(&text, &group, &tables).context("a mark is missing")?;
            say(format_args!("wrote the tables of {group} into {DOCUMENT}"));
        }
    }
    fs::write(path, text).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// Those that have a place in the document.
fn groups(text: &str) -> Vec<String> {
    let name =
        |line: &str| line.strip_prefix("<!-- bench ")?.strip_suffix(" -->").map(str::to_owned);
    text.lines().filter_map(name).collect()
}

fn replaced(text: &str, group: &str, tables: &str) -> Option<String> {
    let (begin, end) =
        (format!("<!-- bench {group} -->\n"), format!("<!-- end of bench {group} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}\n\n{end}{after}", tables.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Top\n<!-- bench peers -->\nold\n<!-- end of bench peers -->\nrest\n\
                        <!-- bench scale -->\n<!-- end of bench scale -->\n";

    #[test]
    fn every_place_is_found() {
        assert_eq!(groups(TEXT), ["peers", "scale"]);
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = replaced(TEXT, "peers", "\n| new |\n").unwrap();
        let expected = TEXT.replace("\nold\n", "\n\n| new |\n\n");
        assert_eq!(text, expected);
        assert_eq!(replaced(&text, "peers", "| new |").unwrap(), text);
    }

    #[test]
    fn without_both_marks_nothing_is_replaced() {
        assert_eq!(replaced("<!-- bench peers -->\n", "peers", ""), None);
        assert_eq!(replaced(TEXT, "capture", ""), None);
    }
}
