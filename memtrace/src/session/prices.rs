//! What was counted in the kernel, at the price of each call.

use memtrace_common::loss::{FunctionCounters, KernelCounters};

use crate::{
    budget::Activity,
    model::{AllocFn, cost::ProbeCosts},
    probe::{side::Side, site::SiteCost, target::PlannedObject},
    sys::kernel::KernelVersion,
};

/// What a record with its stack takes until it was measured: some 50 native frames that are recalled,
/// or as many of Python. What is too high leads to fewer looks at first, what is too low to a slower
/// target.
pub(super) const RECORD_NS: f64 = 3000.0;

/// What a record takes besides its stack, which is measured: its place in the ring and in the table
/// of followed blocks.
const WRITE_NS: f64 = 400.0;

/// How the kernel lets return probes be hit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Returns {
    /// Not at all after a call that is not recorded.
    pub(super) are_skipped: bool,
    /// What the target executes for it.
    pub(super) instructions: f64,
}

impl Returns {
    /// By a breakpoint, and since Linux 6.11 by a system call with what saves registers around it
    /// (arch/x86/kernel/uprobes.c, `uretprobe_trampoline_entry`).
    pub(super) fn of(are_skipped: bool, version: KernelVersion) -> Self {
        let is_call = version >= KernelVersion::new(6, 11);
        Self { are_skipped, instructions: if is_call { 8.0 } else { 1.0 } }
    }
}

/// The price of a call of each function.
#[derive(Clone, Debug)]
pub(super) struct Prices {
    /// Of an entry, by [`AllocFn`].
    entry_ns: [f64; AllocFn::COUNT],
    return_ns: f64,
    /// Calls that are not recorded are spared their return probe.
    skips_returns: bool,
    /// Instructions that a return probe has the target execute.
    return_instructions: f64,
}

impl Prices {
    /// By the armed sites. Of a function with several, the dearest counts.
    pub(super) fn of(objects: &[PlannedObject], costs: &ProbeCosts, returns: Returns) -> Self {
        let mut entry_ns = [costs.emulated_ns; AllocFn::COUNT];
        for probe in objects.iter().flat_map(|object| &object.plan.probes) {
            if probe.cost != SiteCost::Emulated {
                entry_ns[probe.function as usize] = costs.stepped_ns;
            }
        }
        let Returns { are_skipped: skips_returns, instructions: return_instructions } = returns;
        Self { entry_ns, return_ns: costs.return_ns, skips_returns, return_instructions }
    }

    /// What was counted.
    pub(super) fn activity(&self, counters: &KernelCounters) -> Activity {
        let mut activity = Activity::default();
        for function in AllocFn::ALL {
            self.add(&mut activity, function, counters.function(function));
        }
        activity.record_ns = counters.stacks_ns as f64 + activity.recorded as f64 * WRITE_NS;
        activity
    }

    fn add(&self, activity: &mut Activity, function: AllocFn, counted: &FunctionCounters) {
        let calls = counted.entries + counted.nested;
        let recorded = counted.entries.saturating_sub(counted.passed_over);
        let returns = self.returns(function, calls, recorded) as f64;
        let traps_ns = calls as f64 * self.entry_ns[function as usize] + returns * self.return_ns;
        activity.added_instructions += returns * self.return_instructions;
        match Side::of(function) {
            Side::Acquisitions => {
                activity.acquisitions += counted.entries;
                activity.acquire_trap_ns += traps_ns;
            }
            Side::Releases | Side::Mappings => {
                activity.releases += counted.entries;
                activity.release_trap_ns += traps_ns;
            }
        }
        if function.shape().needs_return() && !function.shape().is_mapping() {
            activity.requested_bytes += counted.requested_bytes;
            activity.recorded += recorded;
        }
    }

    fn returns(&self, function: AllocFn, calls: u64, recorded: u64) -> u64 {
        match (function.shape().needs_return(), self.skips_returns) {
            (false, _) => 0,
            (true, true) => recorded,
            (true, false) => calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use memtrace_common::loss::CALIBRATION_SLOT;

    use super::*;

    fn prices(skips_returns: bool) -> Prices {
        let costs =
            ProbeCosts { emulated_ns: 500.0, stepped_ns: 1000.0, return_ns: 400.0, measured: true };
        let returns = Returns::of(skips_returns, KernelVersion::new(6, 18));
        let mut prices = Prices::of(&[], &costs, returns);
        prices.entry_ns[AllocFn::Free as usize] = costs.stepped_ns;
        prices
    }

    fn counters() -> KernelCounters {
        let mut counters = KernelCounters { stacks_ns: 20_000, ..KernelCounters::default() };
        let calls = |entries, passed_over, requested_bytes| FunctionCounters {
            entries,
            passed_over,
            requested_bytes,
            ..FunctionCounters::default()
        };
        counters.functions[AllocFn::Malloc as usize] = calls(100, 90, 6400);
        counters.functions[AllocFn::Free as usize] = calls(50, 45, 0);
        counters
    }

    #[test]
    fn a_call_costs_its_traps_and_a_recorded_one_its_stack() {
        let activity = prices(false).activity(&counters());
        assert_eq!(activity.acquisitions, 100);
        assert_eq!(activity.acquire_trap_ns.round(), 100.0 * (500.0 + 400.0));
        assert_eq!(activity.release_trap_ns.round(), 50.0 * 1000.0);
        assert_eq!((activity.recorded, activity.requested_bytes), (10, 6400));
        assert_eq!(activity.record_ns, 20_000.0 + 10.0 * WRITE_NS);
    }

    #[test]
    fn calls_that_memtrace_makes_to_measure_are_not_the_targets() {
        let mut counters = KernelCounters::default();
        let own = &mut counters.functions[usize::from(CALIBRATION_SLOT)];
        (own.entries, own.passed_over, own.requested_bytes) = (1728, 1728, 110_592);
        assert_eq!(prices(true).activity(&counters), Activity::default());
    }

    #[test]
    fn calls_that_are_passed_over_are_spared_their_return_where_the_kernel_can() {
        let activity = prices(true).activity(&counters());
        assert_eq!(activity.acquire_trap_ns.round(), 100.0 * 500.0 + 10.0 * 400.0);
        assert_eq!(activity.added_instructions, 10.0 * 8.0);
    }
}
