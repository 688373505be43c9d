//! The bytes of the report's view as folded stacks, the format that flamegraph tools share: one line a stack,
//! root first, frames separated by `;`, then a space and the bytes.

use std::io;

use crate::{
    model::stack::Frame,
    report::{Report, SiteReport},
};

use super::label::{clean, short_place};

/// The lines, largest first. Sites without bytes in the view have none.
pub fn lines(report: &Report) -> Vec<String> {
    weights(report).map(|(site, bytes)| line(&names(site), bytes)).collect()
}

/// The same with every stack turned over: the allocation function first, the root last.
pub fn inverted_lines(report: &Report) -> Vec<String> {
    let turned = |(site, bytes)| {
        let mut names = names(site);
        names.reverse();
        line(&names, bytes)
    };
    weights(report).map(turned).collect()
}

/// Writes the lines.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    write_lines(&lines(report), out)
}

/// Writes the lines of stacks that are turned over.
///
/// # Errors
/// Those of the writer.
pub fn write_inverted(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    write_lines(&inverted_lines(report), out)
}

/// Sites that weigh anything, and how much.
fn weights(report: &Report) -> impl Iterator<Item = (&SiteReport, u64)> {
    let weigh = |site| (site, SiteReport::weight(site, report.view).bytes);
    report.sites.iter().map(weigh).filter(|(_, bytes)| *bytes > 0)
}

fn write_lines(lines: &[String], out: &mut impl io::Write) -> io::Result<()> {
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn line(names: &[String], bytes: u64) -> String {
    format!("{} {bytes}", names.join(";"))
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
    use crate::report::{View, sample};

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
    fn lines_weigh_what_the_view_weighs() {
        let bytes = |line: &String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        for view in View::ALL {
            let report = Report { view, ..sample::leaking() };
            let lines = lines(&report);
            assert!(!lines.is_empty(), "{view:?}");
            assert_eq!(lines.iter().map(bytes).sum::<u64>(), report.weight().bytes, "{view:?}");
        }
    }

    #[test]
    fn inverted_stacks_begin_with_the_allocation_function() {
        let report = sample::leaking();
        let (lines, inverted) = (lines(&report), inverted_lines(&report));
        for (line, inverted) in lines.iter().zip(&inverted) {
            let (stack, bytes) = line.rsplit_once(' ').unwrap();
            let turned: Vec<_> = stack.split(';').rev().collect();
            assert_eq!(*inverted, format!("{} {bytes}", turned.join(";")));
        }
        assert!(inverted[0].starts_with("malloc;operator new"), "{}", inverted[0]);
    }

    #[test]
    fn a_report_without_survivors_has_no_lines() {
        assert_eq!(lines(&sample::tidy()), Vec::<String>::new());
    }
}
