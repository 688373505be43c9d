//! Functions, locations and objects, each once. Indices count from 0.

use std::ptr;

use hashbrown::{DefaultHashBuilder, HashMap};
use indexmap::IndexSet;

use super::modules::Modules;
use crate::{
    model::stack::{Frame, Language},
    report::{Module, Report, SiteReport},
};

/// What the stacks of a report consist of.
pub(in crate::render) struct Tables<'a> {
    modules: Modules<'a>,
    all_modules: &'a [Module],
    mappings: IndexSet<usize>,
    functions: IndexSet<Function<'a>, DefaultHashBuilder>,
    locations: IndexSet<Location, DefaultHashBuilder>,
    /// The locations of frames by where the report has them: stacks share their frames, and to
    /// compare names for each stack again would take most of the time.
    known: HashMap<*const Frame, usize>,
}

/// A function, in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::render) struct Function<'a> {
    /// As the report has it.
    pub(in crate::render) name: &'a str,
    /// Its source; empty where that is not known.
    pub(in crate::render) file: &'a str,
}

/// A place in the code: what one return address stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::render) struct Location {
    /// Index of the object.
    pub(in crate::render) mapping: Option<usize>,
    /// `None` for what stands for something that is no frame.
    pub(in crate::render) language: Option<Language>,
    /// Innermost first: all but the last were inlined into the next.
    pub(in crate::render) lines: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::render) struct Line {
    /// Index of the function.
    pub(in crate::render) function: usize,
    /// 1-based; 0 where it is not known.
    pub(in crate::render) line: u32,
}

impl<'a> Tables<'a> {
    /// Empty ones.
    pub(in crate::render) fn of(report: &'a Report) -> Self {
        Self {
            modules: Modules::of(&report.modules),
            all_modules: &report.modules,
            mappings: IndexSet::new(),
            functions: IndexSet::default(),
            locations: IndexSet::default(),
            known: HashMap::new(),
        }
    }

    /// Adds an object that no frame need be in.
    pub(in crate::render) fn add_mapping_of(&mut self, path: &str) {
        self.mappings.extend(self.all_modules.iter().position(|module| module.path == path));
    }

    /// Adds the stack of a site; the indices of its locations, leaf first: the allocation function,
    /// the frames, and what stands for missing ones.
    pub(in crate::render) fn add_stack(&mut self, site: &'a SiteReport) -> Vec<usize> {
        let mut stack = vec![self.label(site.function)];
        let groups = site.stack.frames.chunk_by(|inner, _| inner.inlined);
        stack.extend(groups.map(|frames| match frames {
            [frame] => self.single(frame),
            frames => {
                let lines = frames.iter().map(|frame| self.line(frame)).collect();
                self.location(frames.last().map(AsRef::as_ref), lines)
            }
        }));
        stack.extend(site.stack.missing_root.as_deref().map(|label| self.label(label)));
        stack
    }

    /// The objects.
    pub(in crate::render) fn mappings(&self) -> impl Iterator<Item = &'a Module> {
        self.mappings.iter().map(|index| &self.all_modules[*index])
    }

    /// The functions.
    pub(in crate::render) fn functions(&self) -> impl Iterator<Item = Function<'a>> {
        self.functions.iter().copied()
    }

    /// The locations.
    pub(in crate::render) fn locations(&self) -> impl Iterator<Item = &Location> {
        self.locations.iter()
    }

    fn label(&mut self, name: &'a str) -> usize {
        let function = self.functions.insert_full(Function { name, file: "" }).0;
        self.location(None, vec![Line { function, line: 0 }])
    }

    /// The location of a frame that nothing is inlined into.
    fn single(&mut self, frame: &'a Frame) -> usize {
        if let Some(known) = self.known.get(&ptr::from_ref(frame)) {
            return *known;
        }
        let lines = vec![self.line(frame)];
        let location = self.location(Some(frame), lines);
        self.known.insert(frame, location);
        location
    }

    fn line(&mut self, frame: &'a Frame) -> Line {
        let file = frame.file.as_deref().unwrap_or_default();
        let function = Function { name: &frame.function, file };
        let function = self.functions.insert_full(function).0;
        Line { function, line: frame.line.unwrap_or_default() }
    }

    /// `frame` is the one that the others were inlined into.
    fn location(&mut self, frame: Option<&Frame>, lines: Vec<Line>) -> usize {
        let module = frame.and_then(|frame| self.modules.of_frame(frame));
        let mapping = module.map(|module| self.mappings.insert_full(module).0);
        let language = frame.map(|frame| frame.language);
        self.locations.insert_full(Location { mapping, language, lines }).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn frames_that_stacks_share_are_kept_once() {
        let mut report = sample::leaking();
        report.sites.truncate(1);
        let mut twice = report.sites[0].clone();
        twice.stack.frames.remove(0);
        report.sites.push(twice);
        let mut tables = Tables::of(&report);
        let stacks: Vec<_> = report.sites.iter().map(|site| tables.add_stack(site)).collect();
        assert_eq!(tables.locations().count(), report.sites[0].stack.frames.len() + 1);
        assert_eq!(stacks[0][2..], stacks[1][1..]);
    }

    #[test]
    fn inlined_frames_are_lines_of_the_location_that_they_are_in() {
        let mut report = sample::leaking();
        let frames = &mut report.sites[0].stack.frames;
        for at in [1, 2] {
            let mut frame = (*frames[at]).clone();
            frame.inlined = true;
            frames[at] = frame.into();
        }
        let names: Vec<_> = frames[1..4].iter().map(|frame| frame.function.clone()).collect();
        let count = frames.len();
        let mut tables = Tables::of(&report);
        let stack = tables.add_stack(&report.sites[0]);
        assert_eq!(stack.len(), 1 + count - 2);
        let functions: Vec<_> = tables.functions().collect();
        let location = tables.locations().nth(stack[2]).unwrap();
        let lines: Vec<_> = location.lines.iter().map(|it| functions[it.function].name).collect();
        assert_eq!(lines, names);
        assert_eq!(tables.mappings().nth(location.mapping.unwrap()).unwrap(), &report.modules[0]);
    }
}
