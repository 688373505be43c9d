//! Sites taken together by what their key frame has in common: the line, the function, the module.

use hashbrown::HashMap;
use serde::Serialize;

use super::{
    build::SiteInput,
    key_frame::{key_frame, python_package},
    profile::View,
    site_function,
    stacks::StackNumbers,
};
use crate::model::{
    growth::GrowthPattern,
    site::{Amount, SiteStats, Survivors},
    stack::{Frame, Language, NamedStack, PROCESS},
};

/// What sites are taken together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The line of the key frame; the function where the line is not known.
    #[default]
    Line,
    /// The function of the key frame.
    Function,
    /// The object, or Python package or file, of the key frame.
    Module,
    /// The whole stack and the function that it calls.
    Stack,
}

/// Sites that were taken together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// The process, where sites are split by process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The key frame's function, or that of the allocator where there is no frame; `None` by
    /// module.
    pub function: Option<String>,
    /// The object's file name, or the Python file's; by module: the object or package.
    pub module: String,
    /// The source file, where it is the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, where it is the same for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What the key frame was written in.
    pub language: Language,
    /// Accounting over the window; `peak` is the sum of the sites' peaks: an upper bound.
    #[serde(flatten)]
    pub stats: SiteStats,
    /// Live blocks that are at least `min_age_ns` old.
    pub survivors: Survivors,
    /// How they came to be; `None` where it was not looked at.
    pub pattern: Option<GrowthPattern>,
    /// What it weighs in the view.
    pub weight: Amount,
    /// How many of the sites weigh anything.
    pub sites: u64,
    /// Index in [`super::Report::sites`] of the one with the most of them.
    pub largest_site: usize,
}

impl GroupReport {
    /// What it is called by.
    pub fn name(&self) -> GroupName {
        let Self { function, module, file, line, language, .. } = self.clone();
        GroupName { function, module, file, line, language }
    }
}

/// What is known of a group beyond its sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Of all its sites.
    pub survivors: Survivors,
    /// How they came to be, if that was looked at.
    pub pattern: Option<GrowthPattern>,
}

/// Equal for the sites of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Key<'a> {
    function: Option<&'a str>,
    module: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    language: Language,
    /// Its number.
    stack: Option<u32>,
    allocator: Option<&'a str>,
    process: Option<&'a str>,
}

/// What a site's group follows from.
#[derive(Clone, Copy)]
pub(super) struct Caller<'a> {
    /// What the stack calls.
    pub(super) allocator: &'static str,
    /// Leaf first.
    pub(super) stack: &'a NamedStack,
    /// Equal for equal stacks.
    pub(super) number: u32,
    /// See [`key_frame`].
    pub(super) key_frame: Option<usize>,
}

impl GroupBy {
    fn key(self, place: Caller<'_>) -> Key<'_> {
        let process = process_of(place.stack);
        Key { process, ..self.key_of_frames(place) }
    }

    fn key_of_frames(self, place: Caller<'_>) -> Key<'_> {
        let Caller { allocator, stack, number, key_frame } = place;
        let Some(index) = key_frame else {
            let number = (self == Self::Stack).then_some(number);
            return Key { function: Some(allocator), stack: number, ..Key::default() };
        };
        let frame = &*stack.frames[index];
        let Frame { function, module, file, line, language, .. } = frame;
        let of_line = Key {
            function: Some(function),
            module,
            file: file.as_deref(),
            line: *line,
            language: *language,
            ..Key::default()
        };
        match self {
            Self::Line => of_line,
            Self::Function => Key { line: None, file: python_file(frame), ..of_line },
            Self::Module => {
                let module = package(frame);
                Key { module, function: None, file: None, line: None, ..of_line }
            }
            Self::Stack => Key { stack: Some(number), allocator: Some(allocator), ..of_line },
        }
    }
}

/// The process that a stack is of, where stacks are split by process.
fn process_of(stack: &NamedStack) -> Option<&str> {
    let root = stack.frames.last().filter(|frame| frame.module == PROCESS)?;
    Some(&root.function)
}

/// A native function is the same whichever of its lines it is met at, also in headers.
fn python_file(frame: &Frame) -> Option<&str> {
    frame.file.as_deref().filter(|_| frame.language == Language::Python)
}

/// What a frame belongs to by module: the Python package, or the object's or file's name.
pub(crate) fn package(frame: &Frame) -> &str {
    python_file(frame).and_then(python_package).unwrap_or(&frame.module)
}

/// For each site the number of its group, and how many groups there are; they are numbered in the
/// order of first appearance.
pub fn group_slots(by: GroupBy, sites: &[SiteInput]) -> (Vec<usize>, usize) {
    slots_of(by, sites.iter().map(|site| (site_function(site.function), &site.stack)))
}

/// The same of what the stacks call, and the stacks.
pub fn slots_of<'a>(
    by: GroupBy,
    sites: impl Iterator<Item = (&'static str, &'a NamedStack)> + Clone,
) -> (Vec<usize>, usize) {
    let numbers = match by {
        GroupBy::Stack => StackNumbers::of(sites.clone().map(|(_, stack)| stack)),
        _ => Vec::new(),
    };
    let numbers = numbers.into_iter().chain(std::iter::repeat(0));
    let places = sites.zip(numbers).map(|((allocator, stack), number)| {
        let key_frame = key_frame(&stack.frames);
        Caller { allocator, stack, number, key_frame }
    });
    slots_of_places(by, places)
}

/// The same of sites whose places are known.
pub(super) fn slots_of_places<'a>(
    by: GroupBy,
    places: impl Iterator<Item = Caller<'a>>,
) -> (Vec<usize>, usize) {
    let mut groups = HashMap::new();
    let slots = places.map(|place| {
        let next = groups.len();
        *groups.entry(by.key(place)).or_insert(next)
    });
    (slots.collect(), groups.len())
}

/// What a group is called by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupName {
    /// As [`GroupReport::function`].
    pub function: Option<String>,
    /// As [`GroupReport::module`].
    pub module: String,
    /// As [`GroupReport::file`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// As [`GroupReport::line`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// As [`GroupReport::language`].
    pub language: Language,
}

impl GroupName {
    /// Of the group that a stack and the function that it calls belong to.
    pub fn of(by: GroupBy, allocator: &'static str, stack: &NamedStack) -> Self {
        let key_frame = key_frame(&stack.frames);
        let place = Caller { allocator, stack, number: 0, key_frame };
        let Key { function, module, file, line, language, .. } = by.key(place);
        let function = function.map(str::to_owned);
        Self { function, module: module.to_owned(), file: file.map(str::to_owned), line, language }
    }

    /// As a frame, which texts are made of.
    pub fn frame(&self) -> Frame {
        Frame {
            function: self.function.clone().unwrap_or_else(|| self.module.clone()),
            module: self.module.clone(),
            file: self.file.clone(),
            line: self.line,
            inlined: false,
            language: self.language,
        }
    }
}

/// A group of one site.
pub(super) fn of_site(
    view: View,
    by: GroupBy,
    site: &super::SiteReport,
    index: usize,
) -> GroupReport {
    let (allocator, stack) = (site.function, &site.stack);
    let place = Caller { allocator, stack, number: 0, key_frame: site.key_frame };
    let Key { function, module, file, line, language, process, .. } = by.key(place);
    GroupReport {
        process: process.map(str::to_owned),
        function: function.map(str::to_owned),
        module: module.to_owned(),
        file: file.map(str::to_owned),
        line,
        language,
        stats: site.stats,
        survivors: site.survivors,
        pattern: None,
        weight: site.weight(view),
        sites: u64::from(site.weight(view).count > 0),
        largest_site: index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{self, python_frame};

    fn slots(by: GroupBy, stacks: &[NamedStack]) -> Vec<usize> {
        let site = |stack: &NamedStack| SiteInput { stack: stack.clone(), ..sample::any_site() };
        group_slots(by, &stacks.iter().map(site).collect::<Vec<_>>()).0
    }

    fn python(frames: &[(&str, &str, u32)]) -> NamedStack {
        let frames =
            frames.iter().map(|(function, file, line)| python_frame(function, file, *line));
        NamedStack { frames: frames.collect(), missing_root: None }
    }

    #[test]
    fn sites_are_taken_together_by_what_their_key_frames_share() {
        let stacks = [
            python(&[("load", "/srv/server.py", 88), ("get", "/srv/server.py", 10)]),
            python(&[("load", "/srv/server.py", 88), ("put", "/srv/server.py", 20)]),
            python(&[("load", "/srv/server.py", 90)]),
            python(&[("load", "/srv/other.py", 88)]),
        ];
        assert_eq!(slots(GroupBy::Line, &stacks), [0, 0, 1, 2]);
        assert_eq!(slots(GroupBy::Function, &stacks), [0, 0, 0, 1]);
        assert_eq!(slots(GroupBy::Module, &stacks), [0, 0, 0, 1]);
        assert_eq!(slots(GroupBy::Stack, &stacks), [0, 1, 2, 3]);
    }

    #[test]
    fn a_line_is_the_same_whatever_is_below_it() {
        let line = python_frame("load", "/srv/server.py", 88);
        let below = |name: &str| {
            sample::stack(&[("malloc_wrapper", "lib.so", None), ("x", "lib.so", None)], None)
                .frames
                .into_iter()
                .map(|frame| {
                    std::sync::Arc::new(Frame { function: name.to_owned(), ..(*frame).clone() })
                })
                .chain([line.clone()])
                .collect::<Vec<_>>()
        };
        let stack = |name| NamedStack { frames: below(name), missing_root: None };
        let stacks = [stack("array_new"), stack("array_copy")];
        assert_eq!(slots(GroupBy::Line, &stacks), [0, 0]);
        assert_eq!(slots(GroupBy::Stack, &stacks), [0, 1]);
    }

    #[test]
    fn stacks_without_frames_are_groups_by_the_function_of_the_allocator() {
        let none = NamedStack::default();
        assert_eq!(slots(GroupBy::Line, &[none.clone(), none.clone()]), [0, 0]);
        let report = sample::lossy();
        assert!(
            report.groups.iter().any(|group| group.function.as_deref() == Some("[other sites]"))
        );
    }

    #[test]
    fn a_python_module_is_the_package_or_the_file() {
        let module = |file: &str| {
            let stack = python(&[("f", file, 1)]);
            GroupName::of(GroupBy::Module, "malloc", &stack).module
        };
        assert_eq!(module("/venv/lib/python3.11/site-packages/pandas/core/frame.py"), "pandas");
        assert_eq!(module("/usr/lib/python3/dist-packages/six.py"), "six");
        assert_eq!(module("/usr/lib/python3.11/json/decoder.py"), "json");
        assert_eq!(module("/srv/server.py"), "server.py");
    }
}
