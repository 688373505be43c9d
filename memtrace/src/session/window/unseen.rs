//! Growth that is seen in the program may be missed: a program can make system calls anywhere. What
//! was seen is set against what the kernel says, and as soon as that differs, all system calls are
//! looked at.

use super::{super::attach, Window};
use crate::{
    growth::Unseen,
    model::{
        AllocFn,
        event::{Action, Event},
        mapping::{FileId, Mapping},
        size::{bytes, duration_ns},
    },
    probe::{
        calls::{CallPlan, plan_calls},
        ring::Ring,
        target::{PlannedObject, executable_files},
    },
    sys::clock,
};

/// How often that is looked at.
const LOOK_NS: u64 = 500_000_000;

/// Address space that may differ: less is not worth a look at all system calls.
const SANE_BYTES: u64 = 1 << 20;

/// Where system calls are seen in the program.
#[derive(Debug)]
pub(super) struct Calls {
    objects: Vec<PlannedObject>,
    /// The files in which they were looked for.
    files: Vec<FileId>,
    looked_ns: u64,
    /// The address space, as of the last look.
    kernel_bytes: Option<u64>,
    /// How much it was off at the last look.
    off_by: i64,
    /// Records that were lost until then: what they said is not known.
    lost: u64,
}

impl Calls {
    pub(super) fn new(CallPlan { objects, files }: CallPlan) -> Self {
        Self { objects, files, looked_ns: 0, kernel_bytes: None, off_by: 0, lost: 0 }
    }
}

impl Window {
    /// To be called every now and then.
    pub(in crate::session) fn look_for_unseen(&mut self, ring: &mut Ring) {
        let now_ns = clock::monotonic_ns();
        let Some(calls) = &mut self.calls else { return };
        if now_ns.saturating_sub(calls.looked_ns) < LOOK_NS {
            return;
        }
        calls.looked_ns = now_ns;
        self.drain(ring, usize::MAX);
        if self.lost_more() || !self.is_account_known() {
            return self.learn_mappings();
        }
        if self.is_off() {
            self.see_all_calls(ring);
        }
    }

    /// Whether the last two looks have found the same: one may come between a call and the word of it.
    fn is_off(&mut self) -> bool {
        let now = self.proc.address_space_bytes(self.process.pid);
        let (Some(calls), Some(growth)) = (&mut self.calls, &mut self.growth) else { return false };
        let before = std::mem::replace(&mut calls.kernel_bytes, now);
        let off_by = growth.deviation(before).filter(|off_by| off_by.unsigned_abs() > SANE_BYTES);
        let off_before = std::mem::replace(&mut calls.off_by, off_by.unwrap_or_default());
        off_by.is_some_and(|off_by| off_by.signum() == off_before.signum())
    }

    fn is_account_known(&self) -> bool {
        self.growth.as_ref().is_some_and(|growth| growth.is_account_known())
    }

    fn lost_more(&mut self) -> bool {
        let lost = self.kernel.counters().map_or(0, |counters| counters.ring_full.iter().sum());
        let Some(calls) = &mut self.calls else { return false };
        std::mem::replace(&mut calls.lost, lost) != lost
    }

    /// What is mapped now is what is to be expected from here on.
    pub(super) fn learn_mappings(&mut self) {
        let (Some(calls), Some(growth)) = (&mut self.calls, &mut self.growth) else { return };
        (calls.kernel_bytes, calls.off_by) = (None, 0);
        if let Ok(maps) = self.proc.maps(self.process.pid) {
            growth.learn(&maps);
        }
    }

    fn see_all_calls(&mut self, ring: &mut Ring) {
        self.calls = None;
        self.begin_to_reconcile();
        let after = duration_ns(clock::monotonic_ns().saturating_sub(self.opened_ns));
        let at_functions = self.header.growth.is_some_and(|growth| growth.at_functions);
        let outcome = match self.kernel.see_all_calls() {
            Ok(()) if at_functions => {
                "since then it was followed at functions of the kernel".to_owned()
            }
            Ok(()) => {
                "since then it was followed at tracepoints: every system call of every process \
                       took a little longer"
                    .to_owned()
            }
            Err(error) => format!("what it did so since then is not known: {error}"),
        };
        let unseen = self.reconcile(ring);
        self.notes.push(format!(
            "the program makes system calls where its code was not looked at: {after} after the window \
             was opened, {} was found that had been missed; {outcome}",
            unseen_words(unseen)
        ));
    }

    /// What was missed until the end. To be called while the window is open.
    pub(super) fn begin_last_look(&mut self) -> Option<Vec<Mapping>> {
        self.calls.as_ref().filter(|_| self.is_account_known())?;
        self.begin_to_reconcile();
        self.present_mappings()
    }

    /// With all records booked.
    pub(super) fn finish_last_look(&mut self, maps: &[Mapping]) {
        let unseen = self.reconcile_with(maps, SANE_BYTES);
        if unseen != Unseen::default() {
            self.notes.push(format!(
                "the program makes system calls where its code was not looked at: {} was missed",
                unseen_words(unseen)
            ));
        }
    }

    fn begin_to_reconcile(&mut self) {
        if let Some(growth) = &mut self.growth {
            growth.note_changes();
        }
    }

    fn reconcile(&mut self, ring: &mut Ring) -> Unseen {
        let Some(maps) = self.present_mappings() else { return Unseen::default() };
        self.drain(ring, usize::MAX);
        self.reconcile_with(&maps, 0)
    }

    /// `None` of a process that is ending, which has none.
    fn present_mappings(&self) -> Option<Vec<Mapping>> {
        self.proc.maps(self.process.pid).ok().filter(|maps| !maps.is_empty())
    }

    fn reconcile_with(&mut self, maps: &[Mapping], sane_bytes: u64) -> Unseen {
        let Some(growth) = &mut self.growth else { return Unseen::default() };
        let like = Event {
            function: AllocFn::Mmap,
            tid: 0,
            time_ns: clock::monotonic_ns(),
            internal: false,
            interval: Default::default(),
            object: Default::default(),
            action: Action::Exec,
        };
        let mut grown = Vec::new();
        let unseen = growth.reconcile(maps, sane_bytes, &like, &mut grown);
        self.keep_grown(&mut grown);
        unseen
    }

    /// Arms the system calls of what was loaded since; whether there are any.
    pub(super) fn look_for_calls(&mut self, maps: &[Mapping]) -> bool {
        let Some(calls) = &mut self.calls else { return false };
        if executable_files(maps).iter().all(|file| calls.files.contains(file)) {
            return false;
        }
        let pid = self.process.pid;
        let Ok(version) = self.proc.kernel_version() else { return false };
        let CallPlan { objects, files } = plan_calls(&self.proc, pid, maps, version, &calls.files);
        calls.files.extend(files);
        let armed = attach::arm(
            &mut self.kernel,
            &objects,
            &self.proc,
            pid,
            attach::First::after(&calls.objects),
        );
        match armed {
            Ok(armed) => self.probes += armed,
            // What that misses is found out.
            Err(error) => log::info!("system calls of what was loaded are not seen: {error}"),
        }
        let is_new = !objects.is_empty();
        calls.objects.extend(objects);
        is_new
    }
}

fn unseen_words(unseen: Unseen) -> String {
    let Unseen { obtained_bytes, given_back_bytes } = unseen;
    match given_back_bytes {
        0 => format!("{} of address space", bytes(obtained_bytes)),
        _ => format!(
            "that {} of address space was obtained and {} given back",
            bytes(obtained_bytes),
            bytes(given_back_bytes)
        ),
    }
}
