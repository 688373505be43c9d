//! On the real interpreters of this machine: what is read from outside is what they say themselves.

mod pythons;

use std::path::PathBuf;

use memtrace_common::python::{MAX_PYTHON_FRAMES, PythonEnd};

use self::pythons::{Interpreter, Lines, pythons};
use super::{
    code::CodeNames,
    detect::Python,
    threads::{Thread, threads},
    walk::walk,
};
use crate::model::stack::Language;

fn program() -> String {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/runtime/python/tests/program.py");
    path.to_str().unwrap().to_owned()
}

/// The frames of a thread, walked and named from outside.
fn lines_of(thread: &Thread, python: &Python, interpreter: &Interpreter) -> (Lines, PythonEnd) {
    let memory = interpreter.memory();
    let walked = walk(&python.layout, thread.state, &memory);
    let mut names = CodeNames::new(python.objects.clone());
    let frames = names.resolve(&walked.frames, &memory);
    assert_eq!(frames.len(), walked.frames.len());
    let lines = frames.into_iter().flatten().map(|frame| {
        assert_eq!(frame.language, Language::Python);
        let file = frame.file.clone().unwrap();
        assert_eq!(file.rsplit('/').next().unwrap(), frame.module);
        (frame.function.clone(), file, frame.line.unwrap_or(0))
    });
    let lines = lines.collect();
    assert_eq!(names.unreadable(), 0);
    (lines, walked.end)
}

#[test]
fn every_thread_is_where_the_interpreter_itself_says() {
    for path in pythons() {
        let mut interpreter = Interpreter::start(&path, &[&program()]);
        let truth = interpreter.threads();
        assert_eq!(truth.len(), 6, "{path:?}");
        let found = interpreter.search();
        assert_eq!((found.pending, found.refused), (vec![], vec![]), "{path:?}");
        let python = found.python.unwrap();
        let threads = threads(&python.objects.offsets, python.runtime, &interpreter.memory());
        for (pthread, expected) in truth {
            let thread = threads.iter().find(|thread| thread.pthread == pthread).unwrap();
            let (lines, end) = lines_of(thread, &python, &interpreter);
            let is_cut = expected.len() > MAX_PYTHON_FRAMES;
            let expected = &expected[..expected.len().min(MAX_PYTHON_FRAMES)];
            assert_eq!(lines, expected, "{path:?}");
            assert_eq!(end, if is_cut { PythonEnd::Truncated } else { PythonEnd::Complete });
        }
    }
}
