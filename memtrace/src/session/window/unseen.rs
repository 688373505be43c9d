//! Growth that is seen in the program may be missed: a program can make system calls anywhere. What
//! was seen is set against what the kernel says, and as soon as that differs, all system calls are
//! looked at. So they are where a program makes so many of those that are seen that it would suffer.

use memtrace_common::loss::KernelCounters;

use super::{super::attach, Window};
use crate::{
    growth::Unseen,
    model::{
        AllocFn,
        event::{Action, Event},
        footprint::GrowthBy,
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

/// What a call takes longer that is seen in the program (docs/growth.md).
const CALL_NS: u64 = 5_000;

/// The program suffers when its calls take longer by more than this part of its CPU time, and by more
/// than this part of a CPU: the kernel's way is dearer for everybody else.
const DEAR: (u64, u64) = (10, 20);

/// Why something was missed.
const UNSEEN: &str = "the program makes system calls where its code was not looked at";
/// The same of a program that was executed in the window.
const UNSEEN_SINCE_EXEC: &str = "the program that was executed made system calls before its code was \
                                 looked at, or where it was not";

/// What a program has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    calls: u64,
    cpu_ns: u64,
    at_ns: u64,
}

impl Work {
    fn is_dear_since(self, before: Self) -> bool {
        let longer_ns = (self.calls - before.calls) * CALL_NS;
        let (of_its_time, of_a_cpu) = DEAR;
        longer_ns * of_its_time > self.cpu_ns.saturating_sub(before.cpu_ns)
            && longer_ns * of_a_cpu > self.at_ns.saturating_sub(before.at_ns)
    }
}

/// Calls that have one half only because the other was made while one kind of probe went and the other
/// came; some threads come back from theirs a while later.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    /// There were so many before.
    unpaired: u64,
    until_ns: u64,
}

/// Why the kernel is asked from now on.
enum Why {
    /// Calls were missed.
    Missed,
    /// There are too many of them.
    Dear,
}

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
    /// As of the last look, and whether it suffered before that.
    work: Option<(Work, bool)>,
    /// The user wants them seen in the program, whatever it costs.
    is_asked_for: bool,
}

impl Calls {
    pub(super) fn new(CallPlan { objects, files }: CallPlan, by: GrowthBy) -> Self {
        Self {
            objects,
            files,
            looked_ns: 0,
            kernel_bytes: None,
            off_by: 0,
            lost: 0,
            work: None,
            is_asked_for: by == GrowthBy::Program,
        }
    }
}

impl Window {
    /// To be called every now and then.
    pub(in crate::session) fn look_for_unseen(&mut self, ring: &mut Ring) {
        let now_ns = clock::monotonic_ns();
        self.settle(now_ns);
        let Some(calls) = &mut self.calls else { return };
        if now_ns.saturating_sub(calls.looked_ns) < LOOK_NS {
            return;
        }
        calls.looked_ns = now_ns;
        self.drain_present(ring);
        let counters = self.kernel.counters().unwrap_or_default();
        let is_dear = self.is_dear(&counters, now_ns);
        if self.lost_more(&counters) {
            self.learn_mappings();
        } else if !self.is_account_known() {
            self.find_unseen_since_exec(ring);
            self.learn_mappings();
        } else if self.is_off() {
            return self.see_all_calls(ring, Why::Missed);
        }
        if is_dear {
            self.see_all_calls(ring, Why::Dear);
        }
    }

    pub(super) fn settle(&mut self, now_ns: u64) {
        if let Some(Settling { unpaired, until_ns }) = self.settling {
            self.ledger.settle_unpaired(unpaired);
            self.settling = self.settling.take_if(|_| now_ns < until_ns);
        }
    }

    /// Whether it was so at the last two looks: a start maps much for a moment.
    fn is_dear(&mut self, counters: &KernelCounters, at_ns: u64) -> bool {
        let cpu_ns = clock::process_cpu_ns(self.process.pid).ok();
        let Some(calls) = self.calls.as_mut().filter(|calls| !calls.is_asked_for) else {
            return false;
        };
        let Some(cpu_ns) = cpu_ns else { return false };
        let of_pages = &counters.functions[AllocFn::PageFault as usize];
        let entries: u64 = counters.functions.iter().map(|function| function.entries).sum();
        let now = Work { calls: entries - of_pages.entries, cpu_ns, at_ns };
        let before = calls.work;
        let is_dear = before.is_some_and(|(before, _)| now.is_dear_since(before));
        calls.work = Some((now, is_dear));
        is_dear && before.is_some_and(|(_, was_dear)| was_dear)
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

    /// What a program did after it was executed and before its calls were seen. Nothing where another
    /// reason is why the account is not known.
    fn find_unseen_since_exec(&mut self, ring: &mut Ring) {
        self.begin_to_reconcile();
        let unseen = self.reconcile(ring, SANE_BYTES);
        self.note_unseen(unseen, UNSEEN_SINCE_EXEC);
    }

    fn note_unseen(&mut self, unseen: Unseen, why: &str) {
        if unseen != Unseen::default() {
            let note = format!("{why}: {} was missed", unseen_words(unseen));
            log::info!("{note}");
            self.notes.push(note);
        }
    }

    fn lost_more(&mut self, counters: &KernelCounters) -> bool {
        let lost = counters.ring_full.iter().sum();
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

    /// While one kind of probe goes and the other comes, calls have one half only: what they did is
    /// found by the mappings, as what was missed before.
    fn see_all_calls(&mut self, ring: &mut Ring, why: Why) {
        self.calls = None;
        let unpaired = self.ledger.unpaired();
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
        let unseen = self.reconcile(ring, 0);
        self.settling = Some(Settling { unpaired, until_ns: clock::monotonic_ns() + LOOK_NS });
        let note = match why {
            Why::Missed => format!(
                "{UNSEEN}: {after} after the window was opened, {} was found that had been missed; \
                 {outcome}",
                unseen_words(unseen)
            ),
            Why::Dear => format!(
                "the program maps and unmaps so much that probes at its system calls slowed it down by \
                 more than a tenth; they were removed {after} after the window was opened, and {outcome} \
                 (--growth-by program keeps them)"
            ),
        };
        self.notes.push(note);
    }

    /// What was missed until the end. To be called while the window is open.
    pub(super) fn begin_last_look(&mut self, ring: &mut Ring) -> Option<Vec<Mapping>> {
        self.calls.as_ref()?;
        // The mappings are to be of the program that is known.
        self.drain_present(ring);
        self.growth.as_ref().filter(|growth| growth.can_reconcile())?;
        self.begin_to_reconcile();
        self.present_mappings()
    }

    /// With all records booked.
    pub(super) fn finish_last_look(&mut self, maps: &[Mapping]) {
        let why = if self.is_account_known() { UNSEEN } else { UNSEEN_SINCE_EXEC };
        let unseen = self.reconcile_with(maps, SANE_BYTES);
        self.note_unseen(unseen, why);
    }

    fn begin_to_reconcile(&mut self) {
        if let Some(growth) = &mut self.growth {
            growth.note_changes();
        }
    }

    fn reconcile(&mut self, ring: &mut Ring, sane_bytes: u64) -> Unseen {
        let Some(maps) = self.present_mappings() else { return Unseen::default() };
        self.drain_present(ring);
        self.reconcile_with(&maps, sane_bytes)
    }

    /// `None` of a process that is ending, which has none.
    fn present_mappings(&self) -> Option<Vec<Mapping>> {
        self.proc.maps(self.process.pid).ok().filter(|maps| !maps.is_empty())
    }

    fn reconcile_with(&mut self, maps: &[Mapping], sane_bytes: u64) -> Unseen {
        let Some(growth) = &mut self.growth else { return Unseen::default() };
        let like = Event::of(AllocFn::Mmap, 0, clock::monotonic_ns(), Action::Exec);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_suffers_from_calls_that_take_a_tenth_of_its_time_and_a_twentieth_of_a_cpu() {
        const SECOND_NS: u64 = 1_000_000_000;
        let begin = Work { calls: 7, cpu_ns: 3, at_ns: 5 };
        let after = |calls: u64, cpu_ns: u64| {
            let work = Work { calls: 7 + calls, cpu_ns: 3 + cpu_ns, at_ns: 5 + SECOND_NS };
            work.is_dear_since(begin)
        };
        assert!(after(20_001, SECOND_NS));
        assert!(!after(19_999, SECOND_NS));
        // Of a service with many threads it is less, and so it is of one that hardly works.
        assert!(!after(20_001, 2 * SECOND_NS));
        assert!(after(10_001, SECOND_NS / 10));
        assert!(!after(9_999, SECOND_NS / 10));
    }
}
