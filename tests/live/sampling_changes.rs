//! The interval changes while the window is open, as a budget makes it do: by the kernel side's own
//! interface, with books of what it tells.

use std::{collections::HashMap, num::NonZeroU32, os::fd::AsFd as _};

use memtrace::{
    decode::decode,
    model::{
        AllocFn,
        event::{Action, Event},
    },
    probe::{
        load::{Kernel, LoadOptions, ProbeSite, Room, Sampling, TableWords},
        plan::AllocatorCode,
        ring::Ring,
        target::{PlannedObject, plan_target},
        verify::verify,
    },
    session::StackMode,
    sys::procfs::ProcFs,
};
use memtrace_common::{loss::KernelLoss, sample::Interval};
use memtrace_tests::{target::Target, truth::Truth};

/// An open window.
struct Window {
    kernel: Kernel,
    ring: Ring,
}

impl Window {
    fn open(pid: u32, interval: Interval) -> Self {
        let proc = ProcFs::new("/proc");
        let maps = proc.maps(pid).unwrap();
        let plan = plan_target(&proc, pid, &maps, proc.kernel_version().unwrap(), &[]).unwrap();
        let mut kernel = Kernel::load(LoadOptions {
            pid: NonZeroU32::new(pid).unwrap(),
            ring_bytes: 64 << 20,
            stacks: StackMode::Off,
            bpf_loop: true,
            table_words: TableWords::default(),
            debug_log: false,
            perf_event_links: false,
            uprobes: true,
            growth: None,
            room: Room::Ample,
            sampling: Sampling::Variable { interval, blocks: 100_000 },
            task_tgid: 0,
        })
        .unwrap();
        let mut code = AllocatorCode::default();
        for object in &plan.objects {
            verify(&object.plan, &object.file, pid, &proc).unwrap();
            kernel.arm(object.file.as_fd(), &sites(object)).unwrap();
            code.callers.append(&mut object.plan.allocator_code(false));
            code.heap.append(&mut object.plan.heap_code());
        }
        kernel.set_allocator_code(&code, 0).unwrap();
        kernel.set_active(true).unwrap();
        let ring = kernel.take_ring().unwrap();
        Self { kernel, ring }
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.ring.drain(usize::MAX, |record| events.push(decode(record).unwrap()));
        events
    }
}

/// All sites of an object.
pub fn sites(object: &PlannedObject) -> Vec<ProbeSite> {
    let probes = object.plan.probes.iter().zip(0..);
    let site = |(probe, site): (&memtrace::probe::plan::PlannedProbe, u32)| ProbeSite {
        function: probe.function,
        shape: probe.shape,
        arguments: probe.arguments,
        site,
        object: Default::default(),
        is_leaf: object.plan.is_leaf(probe.function),
        offset: probe.file_offset,
    };
    probes.map(site).collect()
}

/// What is followed, by address: the interval and the size.
#[derive(Default)]
struct Books {
    live: HashMap<u64, (Interval, u64)>,
    /// Of what was obtained since the last look.
    estimated_count: f64,
    variance: f64,
}

impl Books {
    fn obtain(&mut self, event: &Event, address: u64, size_bytes: u64) {
        let weight = event.interval.weight(size_bytes);
        self.estimated_count += weight;
        self.variance += weight * (weight - 1.0);
        let before = self.live.insert(address, (event.interval, size_bytes));
        assert_eq!(before, None, "the release of {address:#x} was not told: {event:?}");
    }

    fn release(&mut self, address: u64) {
        assert!(self.live.remove(&address).is_some(), "{address:#x} was not told of");
    }

    fn apply(&mut self, event: &Event) {
        match event.action {
            Action::Alloc { address, size_bytes, .. } => self.obtain(event, address, size_bytes),
            Action::Free { address } => self.release(address),
            Action::ReallocEnd { old_address, new_address, size_bytes, .. } => {
                if new_address == 0 && size_bytes != 0 {
                    return;
                }
                self.release(old_address);
                if new_address != 0 {
                    self.obtain(event, new_address, size_bytes);
                }
            }
            _ => {}
        }
    }

    /// Compares with what the program did since the last look.
    fn assert_estimates(&mut self, allocated: u64) {
        let off = (self.estimated_count - allocated as f64).abs();
        let allowed = 4.5 * self.variance.sqrt() + 0.5;
        assert!(off <= allowed, "{} of {allocated}: off by {off}", self.estimated_count);
        (self.estimated_count, self.variance) = (0.0, 0.0);
    }
}

fn allocated(truth: &Truth) -> u64 {
    truth.sites.iter().map(|site| site.stats.allocated.count).sum()
}

fn live(truth: &Truth) -> u64 {
    truth.sites.iter().map(|site| site.stats.live.count).sum()
}

#[test]
fn blocks_of_all_intervals_are_followed_while_it_changes() {
    let mut target = Target::start("sampled", &["1", "400"]);
    let mut window = Window::open(target.pid(), Interval::EXACT);
    let (mut books, mut before) = (Books::default(), 0);
    for exponent in [0, 10, 6, 14, 0, 8] {
        let interval = Interval::from_exponent(exponent);
        window.kernel.set_interval(interval).unwrap();
        let truth = target.run();
        for event in window.events() {
            let is_new = matches!(event.action, Action::Alloc { .. } | Action::ReallocEnd { .. });
            assert!(!is_new || event.interval == interval, "{event:?}");
            books.apply(&event);
        }
        books.assert_estimates(allocated(&truth) - before);
        before = allocated(&truth);
        assert!(books.live.len() as u64 <= live(&truth));
    }
    let counters = window.kernel.counters().unwrap();
    assert_eq!(KernelLoss::ALL.map(|loss| counters.loss(loss)), [0; KernelLoss::COUNT]);
    let unfinished = |function: AllocFn| {
        let counters = counters.function(function);
        counters.entries - counters.passed_over - counters.returns
    };
    let with_return = AllocFn::ALL.into_iter().filter(|function| function.shape().needs_return());
    assert_eq!(with_return.map(unfinished).sum::<u64>(), 0);
    assert!(target.quit().success());
}
