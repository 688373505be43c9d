//! On the real interpreters of this machine: what is read from outside is what they say themselves.

mod pythons;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use memtrace_common::python::{MAX_PYTHON_FRAMES, PythonEnd};

use self::pythons::{Interpreter, Lines, pythons};
use super::{
    Version,
    code::{CodeNames, Moment},
    detect::{Python, Search},
    threads::{Thread, threads},
    walk::walk,
};
use crate::model::{memory::TargetMemory, stack::Language};

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
    let frames = names.resolve(&walked.frames, Moment::NOW, &memory);
    assert_eq!(frames.len(), walked.frames.len());
    let lines = frames.into_iter().flatten().map(|frame| {
        assert_eq!(frame.language, Language::Python);
        let file = frame.file.clone().unwrap();
        assert_eq!(file.rsplit('/').next().unwrap(), frame.module);
        (frame.function.clone(), file, frame.line.unwrap_or(0))
    });
    (lines.collect(), walked.end)
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
            let slot = pthread + u64::from(python.layout.thread_state_slot);
            assert_eq!(interpreter.memory().read_u64(slot), Some(thread.state), "{path:?}");
            let (lines, end) = lines_of(thread, &python, &interpreter);
            let is_cut = expected.len() > MAX_PYTHON_FRAMES;
            let expected = &expected[..expected.len().min(MAX_PYTHON_FRAMES)];
            assert_eq!(lines, expected, "{path:?}");
            assert_eq!(end, if is_cut { PythonEnd::Truncated } else { PythonEnd::Complete });
        }
    }
}

/// Runs until the search says something, for at most some seconds.
fn search_until(interpreter: &Interpreter, mut is_enough: impl FnMut(&Search) -> bool) -> Search {
    let start = Instant::now();
    loop {
        let found = interpreter.search();
        if is_enough(&found) || start.elapsed() > Duration::from_secs(20) {
            return found;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn an_interpreter_that_starts_is_pending_until_it_runs_and_never_refused() {
    for path in pythons() {
        let interpreter = Interpreter::start(&path, &["-c", "import time; time.sleep(60)"]);
        let mut searches = 0;
        let found = search_until(&interpreter, |found| {
            assert_eq!(found.refused, [], "{path:?}");
            searches += 1;
            found.python.is_some()
        });
        assert!(found.python.is_some(), "{path:?} after {searches}: {found:?}");
    }
}

#[test]
fn a_thread_that_never_rests_is_understood() {
    let busy = "def f(n): return n if n == 0 else f(n - 1)\nprint('READY', flush=True)\n\
                while True: f(5)";
    for path in pythons() {
        let mut interpreter = Interpreter::start(&path, &["-c", busy]);
        interpreter.output();
        let found = interpreter.search();
        assert_eq!(found.refused, [], "{path:?}");
        assert!(found.python.is_some(), "{path:?}: {found:?}");
    }
}

#[test]
fn the_interpreter_loop_is_known_where_it_is_needed() {
    for path in pythons() {
        let interpreter = Interpreter::start(&path, &["-c", "import time; time.sleep(60)"]);
        let python = search_until(&interpreter, |found| found.python.is_some()).python.unwrap();
        let [hot, _] = python.layout.eval_ranges;
        assert!(hot.end - hot.start > 500, "{path:?}: {hot:?}");
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(Version::from_name(name).unwrap().is_series_of(python.version()));
        assert!(python.eval_is_complete || python.version().minor < 11, "{path:?}");
    }
}

#[test]
fn threads_of_subinterpreters_are_found_and_read() {
    let program = "import threading, time
try: import _interpreters as it
except ImportError: import _xxsubinterpreters as it
code = 'def within(): import time; time.sleep(60)\\nwithin()'
run = getattr(it, 'exec', None) or it.run_string
threading.Thread(target=lambda: run(it.create(), code), daemon=True).start()
time.sleep(0.3)
print('READY', flush=True)
time.sleep(60)";
    for path in pythons() {
        let mut interpreter = Interpreter::start(&path, &["-c", program]);
        interpreter.output();
        let python = interpreter.search().python.unwrap();
        let threads = threads(&python.objects.offsets, python.runtime, &interpreter.memory());
        let innermost = threads.iter().filter_map(|thread| {
            let (lines, _) = lines_of(thread, &python, &interpreter);
            lines.into_iter().next().map(|(function, _, line)| (function, line))
        });
        let innermost: Vec<_> = innermost.collect();
        assert!(innermost.contains(&("within".to_owned(), 1)), "{path:?}: {innermost:?}");
    }
}
