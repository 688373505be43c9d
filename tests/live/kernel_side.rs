//! The BPF programs: their life and their messages.

use std::{num::NonZeroU32, os::fd::AsFd as _};

use memtrace::{
    probe::{
        load::{Kernel, LoadOptions, Room, Sampling, TableWords},
        target::plan_target,
    },
    session::StackMode,
    sys::procfs::ProcFs,
};
use memtrace_tests::{
    attach::Attach,
    bpf::{has_private_stack, is_loaded, machine_code_of_a_program_with_a_stack, programs_of},
    target::Target,
    wait_until,
};
use rustix::process::Signal;

use crate::sampling_changes::sites;

#[test]
fn no_program_outlives_a_killed_memtrace() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let tracing = Attach::to(target.pid()).armed();
    let programs = programs_of(tracing.pid());
    assert!(programs.iter().all(|id| is_loaded(*id)) && !programs.is_empty());
    tracing.kill();
    wait_until("all BPF programs are unloaded", || !programs.iter().any(|id| is_loaded(*id)));
}

#[test]
fn debug_messages_of_the_kernel_side_come_with_vv_only() {
    for (options, expected) in [(["-vv"].as_slice(), true), (&[], false)] {
        let mut target = Target::start("ground_truth", &["heap", "1"]);
        let tracing = Attach::to(target.pid()).args(options).armed();
        target.run();
        let stderr = tracing.interrupt().stderr;
        assert_eq!(stderr.contains("new stack"), expected, "{stderr}");
    }
}

/// Whatever its own verifier says: none has more patience than this one, which refuses a program that
/// takes more than a million instructions to follow.
#[test]
fn smoke_walks_without_bpf_loop_are_not_too_large() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let (proc, pid) = (ProcFs::new("/proc"), target.pid());
    let maps = proc.maps(pid).unwrap();
    let plan = plan_target(&proc, pid, &maps, proc.kernel_version().unwrap(), &[]).unwrap();
    let mut kernel = Kernel::load(LoadOptions {
        pid: NonZeroU32::new(pid).unwrap(),
        ring_bytes: 1 << 20,
        stacks: StackMode::Tables,
        bpf_loop: false,
        table_words: TableWords::default(),
        debug_log: false,
        perf_event_links: false,
        uprobes: true,
        growth: None,
        room: Room::Scarce,
        sampling: Sampling::Exact,
        task_tgid: 0,
    })
    .unwrap();
    let arm = |object: &memtrace::probe::target::PlannedObject| {
        kernel.arm(object.file.as_fd(), &sites(object)).unwrap()
    };
    assert!(plan.objects.iter().map(arm).sum::<usize>() > 0);
}

#[test]
fn quiet_says_nothing() {
    let target = Target::start("ground_truth", &["heap", "1"]);
    let finished = Attach::to(target.pid()).args(&["-q", "-d", "1s"]).run();
    finished.report();
    assert_eq!(finished.stderr, "");
}

#[test]
fn a_stopped_target_is_traced_and_stays_stopped() {
    let mut target = Target::start("ground_truth", &["heap", "1"]);
    target.signal(Signal::STOP);
    let tracing = Attach::to(target.pid()).armed();
    target.signal(Signal::CONT);
    let truth = target.run();
    truth.assert_same_heap(&tracing.interrupt().report());
}

/// What [`crate::smoke`] looks for in memtrace's programs is what such kernels really do.
#[test]
#[cfg(target_arch = "x86_64")]
fn smoke_private_stacks_are_recognised_where_the_kernel_makes_them() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.trim().parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let code = machine_code_of_a_program_with_a_stack();
    assert!(!code.is_empty());
    assert_eq!(has_private_stack(&code), version >= (6, 13), "{release}: {code:02x?}");
}
