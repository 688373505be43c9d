//! Never-freed bytes as folded stacks, the format that flamegraph tools share: one line a stack,
//! root first, frames separated by `;`, then a space and the bytes.

use std::io;

use crate::{
    model::stack::Frame,
    report::{Report, SiteReport},
};

use super::label::{clean, short_place};

/// The lines, largest first. Sites without never-freed bytes have none.
pub fn lines(report: &Report) -> Vec<String> {
    report.sites.iter().filter(|site| site.survivors.amount.bytes > 0).map(line).collect()
}

/// Writes the lines.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    lines(report).iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn line(site: &SiteReport) -> String {
    format!("{} {}", names(site).join(";"), site.survivors.amount.bytes)
}

/// The names of a site's frames, root first: what is missing at the root, the stack, and the
/// allocation function as the leaf.
pub(super) fn names(site: &SiteReport) -> Vec<String> {
    let missing_root = site.stack.missing_root.iter().map(|label| label.to_string());
    let frames = site.stack.frames.iter().rev().map(|frame| frame_name(frame));
    missing_root.chain(frames).chain([site.function.to_owned()]).collect()
}

/// `function (file:line)`: the line is part of the name, so that two places of one function stay
/// apart.
pub(super) fn frame_name(frame: &Frame) -> String {
    let function = clean(&frame.function);
    let name = match short_place(frame) {
        place if place.is_empty() => function,
        place => format!("{function} ({place})"),
    };
    // `;` separates frames.
    name.replace(';', ":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn separators_in_names_are_replaced() {
        let frame = Frame {
            function: "take::<[u8; 8]>\n".to_owned(),
            module: "app".to_owned(),
            ..Frame::default()
        };
        assert_eq!(frame_name(&frame), "take::<[u8: 8]>? (app)");
    }

    #[test]
    fn the_bytes_of_all_lines_are_the_survivors() {
        let report = sample::leaking();
        let bytes = |line: &String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        let sum: u64 = lines(&report).iter().map(bytes).sum();
        assert_eq!(sum, report.totals.survivors.bytes);
    }

    #[test]
    fn a_report_without_survivors_has_no_lines() {
        assert_eq!(lines(&sample::tidy()), Vec::<String>::new());
    }
}
