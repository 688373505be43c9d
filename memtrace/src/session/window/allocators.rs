//! Allocators in libraries that the target loads while the window is open.

use super::{
    super::{
        AttachError,
        attach::{First, allocator_code, arm},
    },
    Window, left_out_note,
};
use crate::{
    model::{mapping::Mapping, size::duration_ns},
    probe::target::{PlannedObject, TargetPlan, executable_files, plan_loaded},
    sys::clock,
};

impl Window {
    /// Arms the allocators in libraries that were loaded since.
    pub(super) fn look_for_allocators(&mut self, maps: &[Mapping]) {
        if executable_files(maps).iter().all(|file| self.files.contains(file)) {
            return;
        }
        if let Err(error) = self.arm_loaded(maps) {
            self.notes.push(format!("an allocator that was loaded is not traced: {error}"));
        }
    }

    fn arm_loaded(&mut self, maps: &[Mapping]) -> Result<(), AttachError> {
        let pid = self.process.pid;
        let version = self.proc.kernel_version().map_err(AttachError::KernelVersion)?;
        let TargetPlan { mut objects, left_out, files, .. } =
            plan_loaded(&self.proc, pid, maps, version, &self.given, &self.files)?;
        self.files.extend(files);
        self.notes.extend(left_out.iter().map(left_out_note));
        if objects.is_empty() {
            return Ok(());
        }
        let first = First::after(&self.objects);
        let armed = self.objects.iter().chain(&objects);
        let code = allocator_code(armed, &self.process.executable);
        self.kernel.set_allocator_code(&code, self.ledger.totals().execs)?;
        self.probes += arm(&mut self.kernel, &objects, &self.proc, pid, first)?;
        let armed_after_ns = clock::monotonic_ns().saturating_sub(self.opened_ns);
        for object in &mut objects {
            object.armed_after_ns = Some(armed_after_ns);
            self.notes.push(loaded_note(object, armed_after_ns));
        }
        self.objects.append(&mut objects);
        Ok(())
    }
}

/// From when on the report knows of an allocator.
fn loaded_note(object: &PlannedObject, armed_after_ns: u64) -> String {
    format!(
        "{} of {} was loaded in the window and is traced since {} after it was opened; what it \
         served before is not known",
        object.plan.allocator.name(),
        object.plan.mapping.name,
        duration_ns(armed_after_ns)
    )
}
