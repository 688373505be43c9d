//! The target executes another program.

use super::{
    super::{
        AttachError,
        attach::{First, allocator_code, arm_sides},
    },
    Window, left_out_note,
};
use crate::{
    allocator::LateHeaps,
    model::{
        event::Event,
        mapping::{FileId, Mapping},
        size::duration_ns,
    },
    probe::{
        pymalloc::{PymallocPlan, plan_pymalloc},
        target::{PlanError, PlannedObject, TargetPlan, plan_target},
    },
    sys::{clock, kernel::KernelVersion},
};

/// For so long a program that was executed may take to map its C library.
const STARTING_NS: u64 = 2_000_000_000;

/// A program that was executed and has not mapped an allocator yet: the notice of it comes before its
/// dynamic linker has run.
#[derive(Debug)]
pub(super) struct Starting {
    /// When it was executed, for people.
    after: String,
    /// Empty where it had ended before it could be looked at.
    program: String,
    since_ns: u64,
}

impl Starting {
    fn is_overdue(&self) -> bool {
        clock::monotonic_ns().saturating_sub(self.since_ns) > STARTING_NS
    }

    fn note(&self, outcome: &str) -> String {
        format!("after {} the target executed {}; {outcome}", self.after, self.program)
    }

    /// Nothing was found of it by the end of the window.
    fn given_up(&self) -> String {
        if self.program.is_empty() {
            return format!(
                "after {} the target executed a program that had ended before it could be looked at: names \
                 of its functions are missing",
                self.after
            );
        }
        self.note("it had not loaded an allocator by the end of the window")
    }
}

impl Window {
    /// The target runs another program now: other mappings, perhaps another allocator. Probes on
    /// files that both programs map are there already.
    pub(super) fn follow_exec(&mut self, event: &Event) {
        let pid = self.process.pid;
        self.trampoline_known = false;
        if let Err(error) = self.kernel.set_trampoline(0) {
            log::warn!("{error}");
        }
        self.code.forget_mappings();
        self.python.forget();
        self.arena_calls.forget();
        self.late_heaps = LateHeaps::default();
        self.walks.forget_program();
        let after = duration_ns(event.time_ns.saturating_sub(self.opened_ns));
        let Ok(maps) = self.proc.maps(pid) else { return };
        self.add_mappings(&maps);
        let program = self.proc.process(pid).map(|process| process.executable).unwrap_or_default();
        self.begin_program(Starting { after, program, since_ns: clock::monotonic_ns() }, &maps);
    }

    /// Looks again at a program that had not mapped its libraries yet.
    pub(super) fn look_at_starting_program(&mut self) {
        let Some(starting) = self.starting.take() else { return };
        let Ok(maps) = self.proc.maps(self.process.pid) else {
            self.starting = Some(starting);
            return;
        };
        self.add_mappings(&maps);
        self.begin_program(starting, &maps);
    }

    fn begin_program(&mut self, starting: Starting, maps: &[Mapping]) {
        let outcome = match self.arm_new_objects(maps, &starting.program) {
            Ok(since) => since.to_owned(),
            Err(AttachError::Plan(PlanError::NoAllocator { .. })) if !starting.is_overdue() => {
                self.starting = Some(starting);
                return;
            }
            Err(error) => format!("it is not traced: {error}"),
        };
        let note = starting.note(&outcome);
        log::info!("{note}");
        self.notes.push(note);
    }

    /// The window ends before the program had anything to trace.
    pub(super) fn give_up_starting_program(&mut self) {
        if let Some(starting) = self.starting.take() {
            self.notes.push(starting.given_up());
        }
    }

    fn arm_new_objects(
        &mut self,
        maps: &[Mapping],
        executable: &str,
    ) -> Result<&'static str, AttachError> {
        if self.growth.is_some() {
            return Ok(match self.look_for_calls(maps) {
                false => "its growth is followed from its start",
                true => "its growth is followed since shortly after",
            });
        }
        let pid = self.process.pid;
        let version = self.proc.kernel_version().map_err(AttachError::KernelVersion)?;
        let known: Vec<Option<FileId>> =
            self.objects.iter().map(|object| object.plan.mapping.file).collect();
        let TargetPlan { mut objects, left_out, files, .. } =
            plan_target(&self.proc, pid, maps, version, &self.given)?;
        self.files = files;
        self.notes.extend(left_out.iter().map(left_out_note));
        self.plan_pymalloc(maps, version, &mut objects);
        let code = allocator_code(&objects, executable);
        self.kernel.set_allocator_code(&code, self.ledger.totals().execs)?;
        let is_armed = |object: &PlannedObject| {
            let allocators = known.iter().zip(&self.objects);
            allocators.into_iter().any(|(file, armed)| {
                *file == object.plan.mapping.file && armed.plan.is_of_same(&object.plan)
            })
        };
        objects.retain(|object| !is_armed(object));
        let first = First::after(&self.objects);
        let sides = self.governing.sides();
        let kernel = &mut self.kernel;
        self.probes += arm_sides(kernel, &objects, &self.proc, pid, first, sides)?;
        let since = if objects.is_empty() {
            "it is traced from its start"
        } else {
            "it is traced since shortly after"
        };
        self.objects.append(&mut objects);
        Ok(since)
    }

    /// Plans CPython's allocator anew, for the program that runs since.
    fn plan_pymalloc(
        &mut self,
        maps: &[Mapping],
        version: KernelVersion,
        objects: &mut Vec<PlannedObject>,
    ) {
        let Some(pymalloc) = &mut self.pymalloc else { return };
        match plan_pymalloc(&self.proc, self.process.pid, maps, version) {
            Ok(mut plan) => {
                objects.append(&mut plan.objects);
                self.notes.append(&mut plan.notes);
                *pymalloc = plan;
            }
            Err(error) => {
                self.notes.push(error.to_string());
                *pymalloc = PymallocPlan::default();
            }
        }
    }

    /// A table that changed in the window leads to functions without probes.
    pub(super) fn check_pymalloc(&mut self) {
        let pymalloc = self.pymalloc.as_ref();
        if pymalloc.is_some_and(|plan| plan.has_changed(&self.proc, self.process.pid)) {
            let note = "the program exchanged the functions of Python's allocator in the window \
                        (tracemalloc does when it starts and stops): objects may be missing, and \
                        what never seems freed may have been";
            self.notes.push(note.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_nothing_was_found_of_is_told_from_one_that_was_gone() {
        let starting = |program: &str| Starting {
            after: "3.0 s".into(),
            program: program.into(),
            since_ns: 0,
        };
        let late = starting("/bin/late").given_up();
        assert!(
            late.starts_with("after 3.0 s the target executed /bin/late; it had not"),
            "{late}"
        );
        let gone = starting("").given_up();
        assert!(gone.contains("a program that had ended before it could be looked at"), "{gone}");
    }
}
