//! Keeps up with the target's mappings: code that is loaded later, Python in it, the trampoline.

use super::Window;
use crate::{
    model::mapping::Mapping,
    sys::{clock, procfs::uprobe_trampoline},
};

/// New code in the target is looked for at most this often.
const MAPS_REFRESH_NS: u64 = 50_000_000;

impl Window {
    /// Reads the mappings again, unless that was just done; the target may have loaded a library.
    pub(super) fn refresh_mappings(&mut self) -> bool {
        let now = clock::monotonic_ns();
        if now.saturating_sub(self.maps_read_ns) < MAPS_REFRESH_NS {
            return false;
        }
        self.read_mappings()
    }

    pub(super) fn read_mappings(&mut self) -> bool {
        self.maps_read_ns = clock::monotonic_ns();
        let Ok(maps) = self.proc.maps(self.process.pid) else { return false };
        self.add_mappings(&maps);
        match self.growth {
            None => self.look_for_allocators(&maps),
            Some(_) => _ = self.look_for_calls(&maps),
        }
        true
    }

    pub(super) fn add_mappings(&mut self, maps: &[Mapping]) {
        self.code.add(&self.proc, self.process.pid, maps);
        self.arena_calls.learn(maps);
        self.late_heaps.learn(maps);
        if let Err(error) = self.code.publish(&mut self.kernel, maps) {
            self.notes.push(format!("stacks may be incomplete in code loaded later: {error}"));
        }
        self.look_for_python(maps);
        self.record_modules();
    }

    /// Whether there is a Python that is not understood yet, or may be one.
    pub(in crate::session) fn expects_python(&self) -> bool {
        self.python.is_expected()
    }

    /// It was not ready.
    pub(super) fn look_for_python_again(&mut self) {
        if let Ok(maps) = self.proc.maps(self.process.pid) {
            self.look_for_python(&maps);
        }
    }

    /// In code that was loaded since, or that has begun to run.
    fn look_for_python(&mut self, maps: &[Mapping]) {
        if !self.python.may_be_new(maps, clock::monotonic_ns()) {
            return;
        }
        let image = self.ledger.totals().execs;
        let layout = self.python.look(&self.proc, self.process.pid, maps, image);
        if let Some(Err(error)) = layout.map(|layout| self.kernel.set_python(&layout)) {
            self.notes.push(format!("Python frames are missing: {error}"));
        }
        self.python.set_retry(clock::monotonic_ns());
    }

    /// Tells the kernel side where return addresses are redirected to, which exists from the first
    /// return probe's hit on.
    pub(super) fn find_trampoline(&mut self) {
        let found = self.proc.maps(self.process.pid).ok().and_then(|maps| uprobe_trampoline(&maps));
        if let Some(address) = found {
            self.trampoline_known = true;
            if let Err(error) = self.kernel.set_trampoline(address) {
                log::warn!("{error}");
            }
        }
    }
}
