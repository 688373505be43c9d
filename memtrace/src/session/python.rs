//! The target's Python: found at the attach or as soon as it runs, and asked for names at the first
//! sight of each stack. Whatever stands in the way costs its frames only, and is said.

use std::{collections::HashSet, path::Path, sync::Arc};

use memtrace_common::python::PythonLayout;

use super::compile::Opener;
use crate::{
    model::{
        mapping::{FileId, Mapping},
        stack::{Frame, RawStack},
    },
    probe::target::executable_files,
    report::PythonReport,
    runtime::python::{
        CodeNames, Moment, Refused, Subinterpreters, Version,
        detect::{Pending, Search, Survey},
    },
    symbolize::OpenObject as _,
    sys::{
        btf::{KERNEL_BTF, task_thread_pointer},
        clock,
        memory::ProcessMemory,
        procfs::ProcFs,
    },
};

/// A Python in which nothing runs yet is looked at again after this time, and then ever later: it
/// costs some milliseconds.
const FIRST_RETRY_NS: u64 = 200_000_000;
/// At most so much later.
const LAST_RETRY_NS: u64 = 10_000_000_000;

/// A program is young for so long: it is looked at often, to have the lines of a script from its
/// first on, and what seems to be missing of its Python may just not have been read in yet.
const YOUTH_NS: u64 = 3_000_000_000;
/// How often that is.
const YOUNG_RETRY_NS: u64 = 1_000_000;

/// What a reader must know of a Python with subinterpreters, up to 3.11.
const HIDDEN: &str = "Python has more than one interpreter: up to Python 3.11 the frames of a \
    subinterpreter are missing, and what it allocates is on the line that runs it";

/// See the module.
#[derive(Default)]
pub(super) struct Python {
    /// `false`: nobody asked for its frames.
    is_wanted: bool,
    /// The program that runs now was searched.
    has_looked: bool,
    /// Files with Python in their names that were there then.
    seen: HashSet<FileId>,
    /// What they say, by the files with code that were there.
    survey: Option<(Vec<FileId>, Survey)>,
    /// Until when the program is young, `CLOCK_MONOTONIC`.
    young_until_ns: u64,
    reader: Option<Reader>,
    report: Option<PythonReport>,
    /// When to look again, and how long after that.
    retry: Option<Retry>,
    notes: Vec<String>,
}

/// What names frames.
struct Reader {
    names: CodeNames,
    memory: ProcessMemory,
    /// Where frames of others than the first interpreter are not seen.
    hidden: Option<Subinterpreters>,
}

#[derive(Clone, Copy)]
struct Retry {
    at_ns: u64,
    wait_ns: u64,
}

impl Python {
    /// Knows none yet.
    pub(super) fn new(is_wanted: bool) -> Self {
        Self { is_wanted, ..Self::default() }
    }

    /// The target's program has just been started.
    pub(super) fn young(mut self) -> Self {
        self.is_born();
        self
    }

    fn is_born(&mut self) {
        self.young_until_ns = clock::monotonic_ns().saturating_add(YOUTH_NS);
    }

    /// Looks for it in the target as it is now. Gives what the kernel side walks by once it is
    /// understood; `image` is the number of execs so far.
    pub(super) fn look(
        &mut self,
        proc: &ProcFs,
        pid: u32,
        maps: &[Mapping],
        image: u64,
    ) -> Option<PythonLayout> {
        if !self.is_wanted {
            return None;
        }
        self.has_looked = true;
        self.seen.extend(pythons(maps));
        let memory = ProcessMemory::open(proc, pid).ok()?;
        let opener = Opener { proc, pid };
        let search = self.survey(maps, &opener).search(maps, &memory);
        self.take_up(search, memory, image)
    }

    /// Of the files that are mapped, which are mostly those of the last look.
    fn survey(&mut self, maps: &[Mapping], opener: &Opener<'_>) -> &Survey {
        let files = executable_files(maps);
        let known = self.survey.take().filter(|(of, _)| *of == files);
        let look = || (files, Survey::of(maps, |mapping| opener.open(mapping)));
        &self.survey.insert(known.unwrap_or_else(look)).1
    }

    /// The target executes another program, of which nothing is known.
    pub(super) fn forget(&mut self) {
        self.note_hidden();
        (self.reader, self.retry, self.has_looked) = (None, None, false);
        self.survey = None;
        self.seen.clear();
        self.is_born();
    }

    /// Whether it may have come to the target with these mappings, or was not ready and it is time
    /// to look again. Where it is part of a program of another name, it is there from the start.
    pub(super) fn may_be_new(&self, maps: &[Mapping], now_ns: u64) -> bool {
        let has_new = || pythons(maps).any(|file| !self.seen.contains(&file));
        self.is_wanted
            && self.reader.is_none()
            && (!self.has_looked || self.is_due(now_ns) || has_new())
    }

    /// Whether it is time to look again for a Python that was not ready, or for the first time.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        let is_new = self.is_wanted && !self.has_looked && self.young_until_ns > 0;
        is_new || self.retry.is_some_and(|retry| retry.at_ns <= now_ns)
    }

    /// Whether it may come soon.
    pub(super) fn is_expected(&self) -> bool {
        self.is_wanted && (!self.has_looked || self.retry.is_some())
    }

    /// Says when to look again if it was not ready.
    pub(super) fn set_retry(&mut self, now_ns: u64) {
        if let Some(retry) = &mut self.retry {
            if now_ns < self.young_until_ns {
                retry.at_ns = now_ns.saturating_add(YOUNG_RETRY_NS);
                return;
            }
            retry.at_ns = now_ns.saturating_add(retry.wait_ns);
            retry.wait_ns = (2 * retry.wait_ns).min(LAST_RETRY_NS);
        }
    }

    fn take_up(
        &mut self,
        search: Search,
        memory: ProcessMemory,
        image: u64,
    ) -> Option<PythonLayout> {
        let Search { python, pending, refused } = search;
        let Some(python) = python else {
            self.report = pending.first().map(not_ready).or(refused.first().map(refusal));
            let wait_ns = self.retry.map_or(FIRST_RETRY_NS, |retry| retry.wait_ns);
            let is_young = clock::monotonic_ns() < self.young_until_ns;
            let may_come = !pending.is_empty() || is_young && !refused.is_empty();
            self.retry = may_come.then_some(Retry { at_ns: 0, wait_ns });
            return None;
        };
        (self.retry, self.survey) = (None, None);
        self.notes.extend(refused.iter().map(refused_note));
        let mut report = PythonReport {
            version: Some(python.version().to_string()),
            path: python.path.clone(),
            refused: None,
        };
        let thread_pointer = task_thread_pointer(Path::new(KERNEL_BTF));
        report.refused = thread_pointer.as_ref().err().map(ToString::to_string);
        self.report = Some(report);
        let task_thread_pointer = thread_pointer.ok()?;
        if !python.eval_is_complete {
            self.notes.push(format!(
                "Python frames may not be in their places among the native ones: {} is stripped of \
                 the symbol that tells where its interpreter loop is",
                python.path
            ));
        }
        let hidden = Subinterpreters::of(&python);
        self.reader = Some(Reader { names: CodeNames::new(python.objects), memory, hidden });
        Some(PythonLayout { image, task_thread_pointer, ..python.layout })
    }

    /// What is known of a stack's Python frames, while the target is there to be asked. It was taken
    /// at this time.
    pub(super) fn name(&mut self, stack: &RawStack, taken_ns: u64) -> Vec<Option<Arc<Frame>>> {
        match &mut self.reader {
            Some(Reader { names, memory, hidden }) if !stack.python.is_empty() => {
                hidden.iter_mut().for_each(|it| it.look(memory));
                let moment = Moment { taken_ns, now_ns: clock::monotonic_ns() };
                names.resolve(&stack.python, moment, memory)
            }
            _ => Vec::new(),
        }
    }

    /// Remembers that frames of the program that is no longer traced may be missing.
    fn note_hidden(&mut self) {
        let hidden = self.reader.as_ref().and_then(|reader| reader.hidden.as_ref());
        if hidden.is_some_and(Subinterpreters::were_seen) {
            self.notes.push(HIDDEN.to_owned());
        }
    }

    /// What the report says of it.
    pub(super) fn into_report(mut self) -> (Option<PythonReport>, Vec<String>) {
        self.note_hidden();
        if let Some(PythonReport { path, refused: Some(reason), .. }) = &self.report {
            self.notes.push(format!("Python frames are missing: {path}: {reason}"));
        }
        (self.report, self.notes)
    }
}

/// Mapped code whose name says that it may be Python's.
fn pythons(maps: &[Mapping]) -> impl Iterator<Item = FileId> {
    let may_be =
        |mapping: &&Mapping| mapping.permissions.execute && mapping.base_name().contains("python");
    maps.iter().filter(may_be).filter_map(|mapping| mapping.file)
}

fn not_ready(pending: &Pending) -> PythonReport {
    PythonReport {
        version: Some(pending.version.to_string()),
        path: pending.path.clone(),
        refused: Some(pending.reason.to_owned()),
    }
}

fn refusal(refused: &Refused) -> PythonReport {
    let name = refused.path.rsplit('/').next().unwrap_or_default();
    PythonReport {
        version: Version::from_name(name).map(|version| version.to_string()),
        path: refused.path.clone(),
        refused: Some(refused.refusal.to_string()),
    }
}

fn refused_note(refused: &Refused) -> String {
    format!("Python frames of {} are missing: {}", refused.path, refused.refusal)
}
