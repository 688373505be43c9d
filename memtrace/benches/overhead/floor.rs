//! Empty programs on the sites that memtrace would arm: what the kernel charges for the probes
//! themselves.

use std::{num::NonZeroU32, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use memtrace::{
    model::AllocFn,
    probe::{
        load::{Kernel, LoadOptions, ProbeSite, Sampling, TableWords},
        plan::PlannedProbe,
        target::plan_target,
        verify::verify,
    },
    session::StackMode,
    sys::procfs::ProcFs,
};

/// Where `free` is armed.
#[derive(Clone, Copy, PartialEq)]
pub enum FreeAt {
    /// Where memtrace arms it.
    Site,
    /// At its first instruction, whatever a hit costs there: what a tool does that does not decode.
    Entry,
}

/// Armed empty probes; dropping it removes them.
pub struct Floor(Kernel);

impl Floor {
    /// Arms every site of a process.
    pub fn arm(pid: u32, free_at: FreeAt) -> Result<Self> {
        let proc = ProcFs::new("/proc");
        let maps = proc.maps(pid)?;
        let plan = plan_target(&proc, pid, &maps, proc.kernel_version()?, &[])?;
        let mut kernel = Kernel::load(LoadOptions {
            pid: NonZeroU32::new(pid).context("no pid")?,
            ring_bytes: 64 << 10,
            stacks: StackMode::Off,
            bpf_loop: true,
            table_words: TableWords::default(),
            debug_log: false,
            perf_event_links: false,
            sampling: Sampling::Exact,
        })?;
        for object in &plan.objects {
            let sites: Vec<_> =
                object.plan.probes.iter().map(|probe| site(probe, free_at)).collect();
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

fn site(probe: &PlannedProbe, free_at: FreeAt) -> ProbeSite {
    let at_entry = probe.function == AllocFn::Free && free_at == FreeAt::Entry;
    let back = if at_entry { probe.site_offset } else { 0 };
    ProbeSite {
        arguments: probe.arguments,
        object: Default::default(),
        function: probe.function,
        shape: probe.shape,
        site: 0,
        is_leaf: false,
        offset: probe.file_offset - back,
    }
}
