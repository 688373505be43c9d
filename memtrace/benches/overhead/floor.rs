//! Empty programs on the sites that memtrace would arm: what the kernel charges for the probes
//! themselves.

use std::{num::NonZeroU32, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use memtrace::{
    model::AllocFn,
    probe::{
        load::{Kernel, LoadOptions, ProbeSite, Room, Sampling, TableWords},
        plan::PlannedProbe,
        target::plan_target,
        verify::verify,
    },
    session::StackMode,
    sys::procfs::ProcFs,
};

/// Where functions are armed.
#[derive(Clone, Copy, PartialEq)]
pub enum Sites {
    /// Where memtrace arms them.
    Chosen,
    /// There, but `free` at its first instruction, whatever a hit costs there: what a tool does that
    /// does not decode.
    FreeFirst,
    /// All at their first instructions.
    First,
}

/// Armed empty probes; dropping it removes them.
pub struct Floor(Kernel);

impl Floor {
    /// Arms every site of a process.
    pub fn arm(pid: u32, at: Sites) -> Result<Self> {
        let proc = ProcFs::new("/proc");
        let maps = proc.maps(pid)?;
        let plan = plan_target(&proc, pid, &maps, proc.kernel_version()?, &[])?;
        let mut kernel = Kernel::load(LoadOptions {
            task_tgid: 0,
            pid: NonZeroU32::new(pid).context("no pid")?,
            ring_bytes: 64 << 10,
            stacks: StackMode::Off,
            bpf_loop: true,
            table_words: TableWords::default(),
            debug_log: false,
            perf_event_links: false,
            uprobes: true,
            growth: None,
            room: Room::Ample,
            sampling: Sampling::Exact,
        })?;
        for object in &plan.objects {
            let sites: Vec<_> = object.plan.probes.iter().map(|probe| site(probe, at)).collect();
            // The verification is of the planned sites; the first instruction of a function that
            // was decoded from there is a boundary too.
            verify(&object.plan, &object.file, pid, &proc)?;
            kernel.arm_empty(object.file.as_fd(), &sites)?;
        }
        Ok(Self(kernel))
    }

    /// Removes the probes.
    pub fn detach(mut self) {
        self.0.detach();
    }
}

fn site(probe: &PlannedProbe, at: Sites) -> ProbeSite {
    let at_entry = match at {
        Sites::Chosen => false,
        Sites::FreeFirst => probe.function == AllocFn::Free,
        Sites::First => true,
    };
    let back = if at_entry { probe.site_offset } else { 0 };
    ProbeSite {
        function: probe.function,
        shape: probe.shape,
        arguments: probe.arguments,
        site: 0,
        object: Default::default(),
        is_leaf: false,
        offset: probe.file_offset - back,
    }
}
