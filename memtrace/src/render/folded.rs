//! The bytes of the report's view as folded stacks, the format that flamegraph tools share: one line a stack,
//! root first, frames separated by `;`, then a space and the bytes.

use std::{io, marker::PhantomData, sync::Arc};

use hashbrown::HashMap;

use crate::{
    model::stack::Frame,
    report::{Report, SiteReport},
};

use super::label::{clean, short_place};

/// The lines, largest first. Sites without bytes in the view have none.
pub fn lines(report: &Report) -> Vec<String> {
    let mut names = FrameNames::default();
    weights(report).map(|(site, bytes)| names.line(site, bytes)).collect()
}

/// Writes the lines.
///
/// # Errors
/// Those of the writer.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut names = FrameNames::default();
    weights(report).try_for_each(|(site, bytes)| writeln!(out, "{}", names.line(site, bytes)))
}

/// Writes the lines of stacks that are turned over: the allocation function first, the root last.
///
/// # Errors
/// Those of the writer.
pub fn write_inverted(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut names = FrameNames::default();
    weights(report).try_for_each(|(site, bytes)| writeln!(out, "{}", names.inverted(site, bytes)))
}

/// Sites that weigh anything, and how much.
pub(super) fn weights(report: &Report) -> impl Iterator<Item = (&SiteReport, u64)> {
    let weigh = |site| (site, SiteReport::weight(site, report.view).bytes);
    report.sites.iter().map(weigh).filter(|(_, bytes)| *bytes > 0)
}

/// The names of a report's frames. Each is made once: most frames are those of many stacks.
#[derive(Default)]
struct FrameNames<'a> {
    /// By address, which is a frame's own while it is borrowed.
    names: HashMap<*const Frame, String>,
    of: PhantomData<&'a Frame>,
}

impl<'a> FrameNames<'a> {
    fn name(&mut self, frame: &'a Arc<Frame>) -> &str {
        self.names.entry(Arc::as_ptr(frame)).or_insert_with(|| frame_name(frame))
    }

    /// Root first: what is missing at the root, the stack, and the allocation function as the leaf.
    fn line(&mut self, site: &'a SiteReport, bytes: u64) -> String {
        let mut line = String::new();
        if let Some(label) = &site.stack.missing_root {
            line.extend([label.as_ref(), ";"]);
        }
        for frame in site.stack.frames.iter().rev() {
            line.extend([self.name(frame), ";"]);
        }
        line + &format!("{} {bytes}", site.function)
    }

    fn inverted(&mut self, site: &'a SiteReport, bytes: u64) -> String {
        let mut line = site.function.to_owned();
        for frame in &site.stack.frames {
            line.extend([";", self.name(frame)]);
        }
        if let Some(label) = &site.stack.missing_root {
            line.extend([";", label.as_ref()]);
        }
        line + &format!(" {bytes}")
    }
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
        let (lines, mut written) = (lines(&report), Vec::new());
        write_inverted(&report, &mut written).unwrap();
        let inverted: Vec<&str> = std::str::from_utf8(&written).unwrap().lines().collect();
        assert_eq!(lines.len(), inverted.len());
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
