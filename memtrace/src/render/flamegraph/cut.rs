//! Stacks as lines for inferno, cut where they become too narrow to be drawn.
//!
//! A hundred thousand stacks are a few thousand frames that can be seen. What is cut keeps its place
//! and its width, so that the picture is the same as that of all lines.

use std::{marker::PhantomData, sync::Arc};

use hashbrown::HashMap;
use indexmap::IndexSet;

use super::palette::Source;
use crate::{
    model::stack::Frame,
    render::folded::{frame_name, weights},
    report::{Report, SiteReport},
};

/// Behind the names of all but the last frame of a line.
const SEPARATOR: char = ';';

/// The parts of the lines, and what colours them.
pub(super) struct Lines<'a> {
    /// Ascending, as inferno wants them.
    pub(super) lines: Vec<String>,
    /// Names, each with what it was met as last.
    pub(super) sources: Vec<(String, Source<'a>)>,
}

impl<'a> Lines<'a> {
    /// Those of a report. `min_width_percent` is the least part of the whole that is drawn.
    pub(super) fn of(report: &'a Report, inverted: bool, min_width_percent: f64) -> Self {
        let mut parts = Parts::default();
        let mut stacks: Vec<Stack> = weights(report)
            .map(|(site, bytes)| Stack { parts: parts.stack(site, inverted), bytes })
            .collect();
        let ranked = parts.rank(&mut stacks);
        stacks.sort_unstable_by(|one, other| one.parts.cmp(&other.parts));
        let all_bytes = stacks.iter().map(|stack| stack.bytes).sum::<u64>();
        // Half of it: what rounding might let inferno draw is not cut.
        let narrow_bytes = (all_bytes as f64 * min_width_percent / 200.0) as u64;
        let mut folding = Folding { parts: &ranked, narrow_bytes, lines: Vec::new() };
        folding.fold(&stacks, 0);
        Self { lines: folding.lines, sources: parts.sources() }
    }
}

/// A stack as numbers of parts, in the order of the line.
struct Stack {
    parts: Vec<u32>,
    bytes: u64,
}

/// Distinct parts of lines: a frame's name, with the separator where it is not the last.
#[derive(Default)]
struct Parts<'a> {
    /// By address, which is a frame's own while it is borrowed; apart for those that are last.
    by_address: HashMap<(*const Frame, bool), u32>,
    texts: IndexSet<String>,
    sources: Vec<Source<'a>>,
    of: PhantomData<&'a Frame>,
}

impl<'a> Parts<'a> {
    fn stack(&mut self, site: &'a SiteReport, inverted: bool) -> Vec<u32> {
        let last = site.stack.frames.len() + usize::from(site.stack.missing_root.is_some());
        let is_last = |at: usize| if inverted { at == last } else { at == 0 };
        let mut parts = vec![self.part(site.function, is_last(0), Source::Call)];
        let frames = site.stack.frames.iter().zip(1..);
        parts.extend(frames.map(|(frame, at)| self.frame(frame, is_last(at))));
        let label = site.stack.missing_root.as_deref();
        parts.extend(label.map(|label| self.part(label, is_last(last), Source::Missing)));
        if !inverted {
            parts.reverse();
        }
        parts
    }

    fn frame(&mut self, frame: &'a Arc<Frame>, is_last: bool) -> u32 {
        let key = (Arc::as_ptr(frame), is_last);
        if let Some(known) = self.by_address.get(&key) {
            return *known;
        }
        let part = self.part(&frame_name(frame), is_last, Source::Frame(frame));
        self.by_address.insert(key, part);
        part
    }

    fn part(&mut self, name: &str, is_last: bool, source: Source<'a>) -> u32 {
        let mut text = name.to_owned();
        if !is_last {
            text.push(SEPARATOR);
        }
        let (part, is_new) = self.texts.insert_full(text);
        if is_new {
            self.sources.push(source);
        }
        part as u32
    }

    /// Gives the parts of stacks the numbers that they have in the order of their texts; those.
    fn rank(&self, stacks: &mut [Stack]) -> Vec<&str> {
        let mut order: Vec<u32> = (0..self.texts.len() as u32).collect();
        order.sort_unstable_by_key(|part| &self.texts[*part as usize]);
        let mut ranks = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(part, rank)| ranks[*part as usize] = rank);
        let parts = stacks.iter_mut().flat_map(|stack| &mut stack.parts);
        parts.for_each(|part| *part = ranks[*part as usize]);
        order.into_iter().map(|part| self.texts[part as usize].as_str()).collect()
    }

    fn sources(self) -> Vec<(String, Source<'a>)> {
        let name = |text: String| text.trim_end_matches(SEPARATOR).to_owned();
        self.texts.into_iter().map(name).zip(self.sources).collect()
    }
}

struct Folding<'a> {
    parts: &'a [&'a str],
    narrow_bytes: u64,
    lines: Vec<String>,
}

impl Folding<'_> {
    /// Stacks in ascending order that are equal up to a depth.
    fn fold(&mut self, stacks: &[Stack], depth: usize) {
        for same in stacks.chunk_by(|one, other| one.parts[depth] == other.parts[depth]) {
            let bytes = same.iter().map(|stack| stack.bytes).sum::<u64>();
            let first = &same[0].parts;
            let is_end = depth + 1 == first.len();
            if is_end || bytes < self.narrow_bytes {
                // One more than is drawn: it puts the line where all of its lines would be.
                self.push(&first[..first.len().min(depth + 2)], bytes);
            } else {
                self.fold(same, depth + 1);
            }
        }
    }

    fn push(&mut self, parts: &[u32], bytes: u64) {
        let text: String = parts.iter().map(|part| self.parts[*part as usize]).collect();
        self.lines.push(format!("{} {bytes}", text.trim_end_matches(SEPARATOR)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{AllocFn, site::Amount},
        render::{
            flamegraph::{FlamegraphOptions, write_with},
            folded,
        },
        report::{SiteInput, sample},
    };

    /// Sites with stacks of few functions, many of which have names that begin alike.
    fn any_report() -> impl Strategy<Value = Report> {
        let name = proptest::sample::select(&["a", "a::b", "a b", "a (x)", "ab", "b", "c"][..]);
        let names = proptest::collection::vec(name, 1..7);
        let site = (names, 1..4000_u64, any::<bool>());
        proptest::collection::vec(site, 1..120).prop_map(report)
    }

    fn report(sites: Vec<(Vec<&'static str>, u64, bool)>) -> Report {
        let mut input = sample::leaking_input();
        let site = |(names, bytes, is_cut): (Vec<&'static str>, u64, bool)| {
            let frames: Vec<_> = names.into_iter().map(|name| (name, "", None)).collect();
            let mut site = SiteInput {
                function: Some(AllocFn::Malloc),
                stack: sample::stack(&frames, is_cut.then_some("[truncated]")),
                ..sample::any_site()
            };
            site.survivors.amount = Amount::one(bytes);
            site
        };
        input.sites = sites.into_iter().map(site).collect();
        input.build()
    }

    /// The picture without the parts that do not depend on the lines.
    fn picture(report: &Report, inverted: bool) -> String {
        let mut out = Vec::new();
        let with = FlamegraphOptions { inverted, ..FlamegraphOptions::default() };
        write_with(report, with, &mut out).unwrap();
        rectangles(&out)
    }

    fn rectangles(svg: &[u8]) -> String {
        let svg = std::str::from_utf8(svg).unwrap();
        let frames = &svg[svg.find("<svg id=\"frames\"").unwrap()..];
        // Colours are those of the palette, which is tried elsewhere.
        frames.split(" fill=\"rgb(").map(|it| it.split_once(")\"").map_or(it, |it| it.1)).collect()
    }

    /// What inferno makes of every line by itself.
    fn whole_picture(report: &Report) -> String {
        let mut lines = folded::lines(report);
        let stack = |line: &String| line.rsplit_once(' ').unwrap().0.to_owned();
        lines.sort_by_key(stack);
        let mut options = crate::render::flamegraph::options();
        // It has a line of its own.
        options.subtitle = Some(String::new());
        let mut out = Vec::new();
        let lines = lines.iter().map(String::as_str);
        inferno::flamegraph::from_lines(&mut options, lines, &mut out).unwrap();
        rectangles(&out)
    }

    proptest! {
        #[test]
        fn the_picture_is_that_of_all_lines(report in any_report()) {
            prop_assert_eq!(picture(&report, false), whole_picture(&report));
        }

        #[test]
        fn the_bytes_of_the_lines_are_those_of_the_report(report in any_report(), percent in 0.0..30.0) {
            for inverted in [false, true] {
                let lines = Lines::of(&report, inverted, percent).lines;
                let bytes = |line: &String| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
                prop_assert_eq!(lines.iter().map(bytes).sum::<u64>(), report.weight().bytes);
                prop_assert!(lines.len() <= report.sites.len());
            }
        }
    }

    #[test]
    fn what_is_too_narrow_is_one_line() {
        let few = |index: u64| (vec!["leaf", "middle", "narrow"], 1 + index, false);
        let mut sites: Vec<_> = (0..3).map(few).collect();
        sites.push((vec!["leaf", "wide"], 1_000_000, false));
        let lines = Lines::of(&report(sites), false, 0.1).lines;
        assert_eq!(lines, ["narrow;middle 6", "wide;leaf;malloc 1000000"]);
    }
}
