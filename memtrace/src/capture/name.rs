//! Names for stacks whose symbols were never looked up, because the capture ended before.

use std::{borrow::Cow, sync::Arc};

use memtrace_common::wire::StackEnd;

use super::raw_stacks::RecordedStack;
use crate::model::{
    stack::{ENTRY_MARK, Frame, NamedStack, PythonEnd},
    trace::Module,
};

/// User addresses never have it; the kernel's have it together with [`ENTRY_MARK`].
const KERNEL_HALF: u64 = 1 << 62;

/// For what is missing at the root side.
const INCOMPLETE: &str = "[incomplete stack]";

/// For calls whose stack is not in the capture.
const NO_STACK: &str = "[no stack]";

/// A stack that nothing is known of.
pub fn unknown() -> NamedStack {
    NamedStack { frames: Vec::new(), missing_root: Some(Cow::Borrowed(NO_STACK)) }
}

/// Names addresses by what was mapped there: `libfoo.so+0x1234`.
pub struct Namer<'a> {
    /// Ascending by start.
    modules: Vec<&'a Module>,
}

impl<'a> Namer<'a> {
    /// Of these modules.
    pub fn new(modules: &'a [Module]) -> Self {
        let mut modules: Vec<_> = modules.iter().collect();
        modules.sort_by_key(|module| module.start);
        Self { modules }
    }

    /// The whole stack. Runs of Python's interpreter loop are replaced by the Python frames that
    /// they run; its other frames on the root side of them say nothing, and go.
    pub fn name(&self, recorded: &RecordedStack) -> NamedStack {
        let RecordedStack { stack, python, .. } = recorded;
        let mut runs = stack.python.iter().zip(python).collect::<Vec<_>>().into_iter();
        let (mut frames, mut interpreter) = (Vec::new(), None);
        for word in &stack.frames {
            let (address, is_entry) = unmarked(*word);
            let module = self.module(address);
            if is_entry {
                interpreter = module;
                frames.extend(next_run(&mut runs));
            } else if interpreter.is_none() || !is_same(interpreter, module) {
                frames.push(Arc::new(native(address, module)));
            }
        }
        frames.extend(runs.filter_map(|(_, name)| name.clone()));
        NamedStack { frames, missing_root: missing_root(recorded).map(Cow::Borrowed) }
    }

    fn module(&self, address: u64) -> Option<&'a Module> {
        let after = self.modules.partition_point(|module| module.start <= address);
        let module = self.modules.get(after.checked_sub(1)?)?;
        (address < module.end).then_some(*module)
    }
}

fn is_same(left: Option<&Module>, right: Option<&Module>) -> bool {
    left.zip(right).is_some_and(|(left, right)| left.path == right.path)
}

fn unmarked(word: u64) -> (u64, bool) {
    let is_marked = word & ENTRY_MARK != 0 && word & KERNEL_HALF == 0;
    (if is_marked { word & !ENTRY_MARK } else { word }, is_marked)
}

fn native(address: u64, module: Option<&Module>) -> Frame {
    let Some(module) = module else {
        return Frame { function: format!("{address:#x}"), ..Frame::default() };
    };
    let name = module.path.rsplit('/').next().unwrap_or_default();
    let offset = (address - module.start).wrapping_add(module.file_offset);
    Frame { function: format!("{name}+{offset:#x}"), module: name.to_owned(), ..Frame::default() }
}

/// The names up to the oldest frame of a run.
fn next_run<'s>(
    runs: &mut impl Iterator<Item = (&'s crate::model::stack::PythonFrame, &'s Option<Arc<Frame>>)>,
) -> Vec<Arc<Frame>> {
    let mut names = Vec::new();
    for (frame, name) in runs {
        names.extend(name.clone());
        if frame.position & ENTRY_MARK != 0 {
            break;
        }
    }
    names
}

fn missing_root(recorded: &RecordedStack) -> Option<&'static str> {
    let RecordedStack { stack, .. } = recorded;
    let is_native_whole = matches!(stack.end, StackEnd::Complete | StackEnd::Root);
    let is_python_whole = !matches!(stack.python_end, PythonEnd::Truncated | PythonEnd::Unreadable);
    (!is_native_whole || !is_python_whole).then_some(INCOMPLETE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::testing::frame,
        model::stack::{PythonFrame, RawStack, StackId},
    };

    fn modules() -> Vec<Module> {
        let module = |path: &str, start| Module {
            path: path.to_owned(),
            build_id: None,
            start,
            end: start + 0x1000,
            file_offset: 0x2000,
        };
        vec![module("/usr/lib/libc.so.6", 0x7000_0000), module("/usr/bin/python3", 0x40_0000)]
    }

    fn functions(stack: &NamedStack) -> Vec<&str> {
        stack.frames.iter().map(|frame| frame.function.as_str()).collect()
    }

    #[test]
    fn addresses_are_named_by_object_and_file_offset() {
        let stack = RawStack::native(vec![0x7000_0010, 0x40_0fff, 0x123], StackEnd::Complete);
        let recorded = RecordedStack { id: StackId(1), stack, python: Vec::new() };
        let modules = modules();
        let named = Namer::new(&modules).name(&recorded);
        assert_eq!(functions(&named), ["libc.so.6+0x2010", "python3+0x2fff", "0x123"]);
        assert_eq!(named.frames[0].module, "libc.so.6");
        assert_eq!(named.missing_root, None);
    }

    #[test]
    fn runs_of_the_interpreter_are_replaced_by_the_lines_they_run() {
        let python = |position| PythonFrame { code: 1, position };
        let stack = RawStack {
            frames: vec![0x7000_0010, 0x40_0010 | ENTRY_MARK, 0x40_0020, 0x7000_0020],
            end: StackEnd::Truncated,
            guessed: false,
            python: vec![python(1), python(2 | ENTRY_MARK)],
            python_end: PythonEnd::Complete,
        };
        let python = vec![Some(frame("inner")), Some(frame("outer"))];
        let recorded = RecordedStack { id: StackId(1), stack, python };
        let modules = modules();
        let named = Namer::new(&modules).name(&recorded);
        assert_eq!(functions(&named), ["libc.so.6+0x2010", "inner", "outer", "libc.so.6+0x2020"]);
        assert_eq!(named.missing_root.as_deref(), Some(INCOMPLETE));
    }
}
