//! The names of all stacks: each text and each frame once.

use std::sync::Arc;

use hashbrown::HashMap;
use serde::Serialize;

use super::column::Column;
use crate::{
    model::stack::{Frame, Language},
    report::package,
};

/// Texts by number; the first is the empty one.
#[derive(Debug)]
pub(super) struct Strings<'a> {
    texts: Vec<&'a str>,
    numbers: HashMap<&'a str, u64>,
}

impl<'a> Strings<'a> {
    fn new() -> Self {
        Self { texts: vec![""], numbers: HashMap::from([("", 0)]) }
    }

    fn number(&mut self, text: &'a str) -> u64 {
        *self.numbers.entry(text).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() as u64 - 1
        })
    }
}

impl Serialize for Strings<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.texts.serialize(serializer)
    }
}

/// What a node of the tree of stacks stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Name<'a> {
    Frame(&'a Frame),
    /// The allocation function, at the tip of a stack.
    Call(&'a str),
    /// What stands for a missing root.
    Missing(&'a str),
}

/// Frames by number, as columns.
#[derive(Debug, Serialize)]
pub(super) struct Frames<'a> {
    /// Number of the function's text.
    function: Column,
    module: Column,
    file: Column,
    /// 0 where it is not known.
    line: Column,
    /// What the frame belongs to when sites are taken together by module.
    package: Column,
    /// 0 compiled, 1 Python, 2 allocation function, 3 stands for what is missing; plus 4 when
    /// inlined.
    kind: Column,
    #[serde(skip)]
    strings: Strings<'a>,
    #[serde(skip)]
    numbers: HashMap<Name<'a>, u32>,
    /// Most frames are those of many stacks, which share them.
    #[serde(skip)]
    shared: HashMap<*const Frame, u32>,
}

impl<'a> Frames<'a> {
    pub(super) fn new() -> Self {
        Self {
            function: Column::default(),
            module: Column::default(),
            file: Column::default(),
            line: Column::default(),
            package: Column::default(),
            kind: Column::default(),
            strings: Strings::new(),
            numbers: HashMap::new(),
            shared: HashMap::new(),
        }
    }

    /// The number of a frame of a stack.
    pub(super) fn frame(&mut self, frame: &'a Arc<Frame>) -> u32 {
        let address = Arc::as_ptr(frame);
        if let Some(number) = self.shared.get(&address) {
            return *number;
        }
        let number = self.number(Name::Frame(frame));
        self.shared.insert(address, number);
        number
    }

    /// The number of an allocation function.
    pub(super) fn call(&mut self, function: &'a str) -> u32 {
        self.number(Name::Call(function))
    }

    /// The number of what stands for a missing root.
    pub(super) fn missing(&mut self, label: &'a str) -> u32 {
        self.number(Name::Missing(label))
    }

    /// All texts, once all frames have a number.
    pub(super) fn take_strings(&mut self) -> Strings<'a> {
        std::mem::replace(&mut self.strings, Strings::new())
    }

    fn number(&mut self, name: Name<'a>) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name, number);
        self.push(name);
        number
    }

    fn push(&mut self, name: Name<'a>) {
        match name {
            Name::Frame(frame) => self.push_frame(frame),
            Name::Call(function) => self.push_plain(function, 2),
            Name::Missing(label) => self.push_plain(label, 3),
        }
    }

    fn push_frame(&mut self, frame: &'a Frame) {
        let kind = u64::from(frame.language == Language::Python);
        self.function.push(self.strings.number(&frame.function));
        self.module.push(self.strings.number(&frame.module));
        self.file.push(self.strings.number(frame.file.as_deref().unwrap_or_default()));
        self.line.push(frame.line.unwrap_or(0).into());
        self.package.push(self.strings.number(package(frame)));
        self.kind.push(kind + 4 * u64::from(frame.inlined));
    }

    fn push_plain(&mut self, text: &'a str, kind: u64) {
        self.function.push(self.strings.number(text));
        for column in [&mut self.module, &mut self.file, &mut self.line, &mut self.package] {
            column.push(0);
        }
        self.kind.push(kind);
    }
}
