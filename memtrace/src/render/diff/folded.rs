//! Two columns behind each stack, bytes before and bytes after, as difffolded.pl and
//! `inferno-diff-folded` write them and flamegraph tools read them.

use std::io;

use crate::{
    diff::{Diff, SiteChange},
    model::stack::Frame,
    render::folded::frame_name,
};

/// Writes a line for every place, what grew the most first.
///
/// # Errors
/// Those of the writer.
pub fn write(diff: &Diff, out: &mut impl io::Write) -> io::Result<()> {
    diff.sites.iter().try_for_each(|site| {
        let (before, after) = (site.change.before.bytes, site.change.after.bytes);
        writeln!(out, "{} {before} {after}", names(site, diff.lines).join(";"))
    })
}

/// From the root to the allocation function; with lines only where they tell places apart.
pub(super) fn names(site: &SiteChange, lines: bool) -> Vec<String> {
    let missing_root = site.stack.missing_root.iter().map(|label| label.to_string());
    let name = |frame: &Frame| match lines {
        true => frame_name(frame),
        false => frame_name(&Frame { line: None, ..frame.clone() }),
    };
    let frames = site.stack.frames.iter().rev().map(|frame| name(frame));
    missing_root.chain(frames).chain([site.function.to_owned()]).collect()
}
