//! Which sites of two captures are the same place of the program, though processes, addresses,
//! lines and builds differ.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use crate::{
    model::stack::{Frame, NamedStack},
    report::{Report, SiteReport},
};

/// Behind these, compilers put a number to a copy of a function (GCC's `clone_function_name`,
/// LLVM's `ThinLTO` promotion): it differs from build to build.
const COPY_MARKS: [&str; 7] =
    [".isra.", ".constprop.", ".part.", ".lto_priv.", ".llvm.", ".cold", " [clone"];

/// What stands for a function without a name where its address says nothing.
const NAMELESS: &str = "+0x...";

/// Sites of both captures that are one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Matched<'a> {
    pub before: Vec<&'a SiteReport>,
    pub after: Vec<&'a SiteReport>,
}

impl<'a> Matched<'a> {
    fn join(&mut self, other: Matched<'a>) {
        self.before.extend(other.before);
        self.after.extend(other.after);
    }

    fn is_on_both_sides(&self) -> bool {
        !self.before.is_empty() && !self.after.is_empty()
    }

    /// All of them, those of `after` first.
    pub fn sites(&self) -> impl Iterator<Item = &'a SiteReport> {
        self.after.iter().chain(&self.before).copied()
    }
}

/// A stack and the function that it calls, by what is compared of them.
type Key = (NamedStack, &'static str);

/// Every site of both, each once. What is equal in all names (and lines, where they count) is one
/// place. What is left over on both sides is one where it is equal without directories of sources,
/// versions of libraries and the numbers of compilers' copies; and in objects of another build
/// without the addresses of functions that have no name.
pub(super) fn matched<'a>(before: &'a Report, after: &'a Report, lines: bool) -> Vec<Matched<'a>> {
    let exact = gather(
        before.sites.iter().map(|site| (true, site)),
        after.sites.iter().map(|site| (false, site)),
        |site| (exact(&site.stack, lines), site.function),
    );
    let (mut both, single): (Vec<_>, Vec<_>) =
        exact.into_values().partition(Matched::is_on_both_sides);
    let rebuilt = rebuilt(before, after);
    let mut loosely: BTreeMap<Key, Vec<Matched<'_>>> = BTreeMap::new();
    for one in single {
        let key =
            one.sites().next().map(|site| (loose(&site.stack, lines, &rebuilt), site.function));
        loosely.entry(key.unwrap_or_default()).or_default().push(one);
    }
    both.extend(loosely.into_values().flat_map(joined));
    both
}

fn gather<'a>(
    before: impl Iterator<Item = (bool, &'a SiteReport)>,
    after: impl Iterator<Item = (bool, &'a SiteReport)>,
    key: impl Fn(&SiteReport) -> Key,
) -> BTreeMap<Key, Matched<'a>> {
    let mut places: BTreeMap<Key, Matched<'a>> = BTreeMap::new();
    for (is_before, site) in before.chain(after) {
        let place = places.entry(key(site)).or_default();
        let side = if is_before { &mut place.before } else { &mut place.after };
        side.push(site);
    }
    places
}

/// One place if both sides have a part in it; else they stay as they are.
fn joined(parts: Vec<Matched<'_>>) -> Vec<Matched<'_>> {
    let mut whole = Matched::default();
    parts.iter().for_each(|part| whole.join(part.clone()));
    if whole.is_on_both_sides() { vec![whole] } else { parts }
}

fn exact(stack: &NamedStack, lines: bool) -> NamedStack {
    mapped(stack, |frame| Frame {
        function: without_address(frame),
        line: frame.line.filter(|_| lines),
        inlined: false,
        ..frame.clone()
    })
}

/// The stack without its lines, unless they count.
pub(super) fn without_lines(stack: &NamedStack, lines: bool) -> NamedStack {
    mapped(stack, |frame| Frame { line: frame.line.filter(|_| lines), ..frame.clone() })
}

fn loose(stack: &NamedStack, lines: bool, rebuilt: &HashSet<&str>) -> NamedStack {
    mapped(stack, |frame| Frame {
        function: loose_function(frame, rebuilt),
        module: loose_module(&frame.module).to_owned(),
        file: None,
        line: frame.line.filter(|_| lines),
        inlined: false,
        language: frame.language,
    })
}

fn mapped(stack: &NamedStack, of_frame: impl Fn(&Frame) -> Frame) -> NamedStack {
    let frames = stack.frames.iter().map(|frame| Arc::new(of_frame(frame)));
    NamedStack { frames: frames.collect(), missing_root: stack.missing_root.clone() }
}

/// Offsets in a file are the same in every process; those in memory without a file (`[anon]`) are
/// not.
fn without_address(frame: &Frame) -> String {
    let has_file = !frame.module.starts_with('[');
    match frame.function.strip_prefix(&frame.module) {
        Some(rest) if !has_file && rest.starts_with("+0x") => {
            format!("{}{NAMELESS}", frame.module)
        }
        _ => frame.function.clone(),
    }
}

fn loose_function(frame: &Frame, rebuilt: &HashSet<&str>) -> String {
    let is_nameless =
        frame.function.strip_prefix(&frame.module).is_some_and(|rest| rest.starts_with("+0x"));
    if is_nameless && rebuilt.contains(frame.module.as_str()) {
        return NAMELESS.to_owned();
    }
    let function = without_address(frame);
    let copy = COPY_MARKS.iter().filter_map(|mark| function.find(mark)).filter(|at| *at > 0).min();
    copy.map_or(function.clone(), |at| function[..at].to_owned())
}

/// `libssl.so` of `libssl.so.3`.
fn loose_module(module: &str) -> &str {
    module.find(".so.").map_or(module, |at| &module[..at + ".so".len()])
}

/// Names of the objects that both captures have, of different build IDs.
fn rebuilt<'a>(before: &'a Report, after: &'a Report) -> HashSet<&'a str> {
    let builds = |report: &'a Report| -> HashMap<&'a str, &'a str> {
        let known = report
            .modules
            .iter()
            .filter_map(|module| Some((file_name(&module.path), module.build_id.as_deref()?)));
        known.collect()
    };
    let after = builds(after);
    let differs = |(name, build): &(&str, &str)| after.get(name).is_some_and(|it| it != build);
    builds(before).into_iter().filter(differs).map(|(name, _)| name).collect()
}

/// Whether the program itself, not only a library of it, was built anew.
pub(super) fn is_rebuilt(before: &Report, after: &Report) -> bool {
    rebuilt(before, after).contains(file_name(&after.target.executable))
}

pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, module: &str) -> Frame {
        Frame { function: function.to_owned(), module: module.to_owned(), ..Frame::default() }
    }

    #[test]
    fn addresses_count_only_where_a_file_gives_them() {
        assert_eq!(without_address(&frame("[anon]+0x7f12", "[anon]")), "[anon]+0x...");
        assert_eq!(without_address(&frame("[anon]", "[anon]")), "[anon]");
        assert_eq!(without_address(&frame("app+0x10", "app")), "app+0x10");
    }

    #[test]
    fn what_compilers_and_packagers_change_is_left_out_at_second_sight() {
        let none = HashSet::new();
        let function = |name: &str| loose_function(&frame(name, "app"), &none);
        assert_eq!(function("load.constprop.0.isra.0"), "load");
        assert_eq!(function("load(int) [clone .part.0]"), "load(int)");
        assert_eq!(function(".cold"), ".cold");
        assert_eq!(function("app+0x10"), "app+0x10");
        let rebuilt = HashSet::from(["app"]);
        assert_eq!(loose_function(&frame("app+0x10", "app"), &rebuilt), NAMELESS);
        assert_eq!(loose_module("libssl.so.3"), "libssl.so");
        assert_eq!(loose_module("model.socket"), "model.socket");
    }
}
