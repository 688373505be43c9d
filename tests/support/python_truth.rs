//! What a Python program knows of its own allocations (see `programs/python/talk.py`), and the
//! comparison with what memtrace says.

use serde::Deserialize;

use crate::report::{Amount, Frame, Group, Language, Report, SiteReport, Stack};

/// A place in Python source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Place {
    /// Qualified since Python 3.11, else the bare name.
    pub function: String,
    /// As the code object has it.
    pub file: String,
    /// 1-based.
    pub line: u32,
}

/// A line that allocates, and what was allocated there and is still alive.
#[derive(Clone, Debug, Deserialize)]
pub struct KnownLine {
    /// The program's name for it.
    pub name: String,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// The interpreter's own view of the stack there, innermost first.
    pub stack: Vec<Place>,
    /// Blocks, and the bytes that were asked of malloc for them.
    pub survivors: Amount,
}

impl From<&Frame> for Place {
    fn from(frame: &Frame) -> Self {
        let file = frame.file.clone().unwrap_or_default();
        Self { function: frame.function.clone(), file, line: frame.line.unwrap_or_default() }
    }
}

/// The Python frames of a stack, innermost first.
pub fn python_stack(stack: &Stack) -> Vec<Place> {
    let frames = stack.frames.iter();
    frames.filter(|frame| frame.language == Language::Python).map(Place::from).collect()
}

/// A group's place, if it is one of Python.
pub fn group_place(group: &Group) -> Option<Place> {
    let (function, file) = (group.function.clone()?, group.file.clone()?);
    (group.language == Language::Python).then_some(Place { function, file, line: group.line? })
}

impl KnownLine {
    /// The sites whose Python frames are those of this line, all the way to the root.
    pub fn sites<'a>(&'a self, report: &'a Report) -> impl Iterator<Item = &'a SiteReport> {
        report.sites.iter().filter(|site| python_stack(&site.stack) == self.stack)
    }

    /// The group of survivors of this line.
    pub fn group<'a>(&self, report: &'a Report) -> &'a Group {
        let found = report.groups.iter().find(|it| group_place(it).as_ref() == Some(&self.place));
        found.unwrap_or_else(|| panic!("no group {:?} in {:#?}", self.place, report.groups))
    }

    /// What is alive of the sites with exactly this stack.
    pub fn seen(&self, report: &Report) -> Amount {
        let mut sum = Amount::default();
        self.sites(report).for_each(|site| sum += site.stats.live);
        sum
    }

    /// Asserts that the report has this stack, frame by frame, with exactly these survivors.
    pub fn assert_in_sites(&self, report: &Report) {
        let near = || -> Vec<_> {
            let stacks = report.sites.iter().map(|site| python_stack(&site.stack));
            stacks.filter(|stack| stack.first() == Some(&self.place)).collect()
        };
        let seen = self.seen(report);
        assert_eq!(
            seen,
            self.survivors,
            "{:?}: seen (left), true (right).\nTrue stack: {:#?}\nStacks from there: {:#?}",
            self.name,
            self.stack,
            near()
        );
    }

    /// Asserts that the survivors of this line are in one group, and exact.
    pub fn assert_in_groups(&self, report: &Report) {
        let survivors = self.group(report).survivors;
        let seen = Amount { bytes: survivors.bytes, count: survivors.count };
        assert_eq!(seen, self.survivors, "{:?}: seen (left), true (right)", self.place);
    }
}
