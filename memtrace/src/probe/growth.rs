//! The growth mode in the kernel: programs at functions of the kernel itself, nothing in the target.
//! Where that is refused, system calls are seen at the target's own instructions, if those are known,
//! else at tracepoints; and pages at tracepoints.

use std::path::Path;

use aya::{
    Btf, Endianness,
    maps::Array,
    programs::{
        FEntry, FExit, Program, ProgramError, RawTracePoint, fentry::FEntryLink, fexit::FExitLink,
        raw_trace_point::RawTracePointLink,
    },
};
use memtrace_common::{
    function::CallShape,
    growth::{GrowthConfig, RssCounts},
};

use super::{
    error::{LoadError, classify_program_error, missing_map},
    load::Kernel,
};
use crate::{
    model::footprint::GrowthBy,
    sys::btf::{KERNEL_BTF, functions_of_kernel},
};

/// Programs at the start of functions. The end comes first in time to be armed, and the start last:
/// so each start has its end.
const AT_ENTRY: [(&str, &str); 3] = [
    ("enter_sys_munmap", "__x64_sys_munmap"),
    ("enter_sys_mremap", "__x64_sys_mremap"),
    ("enter_sys_madvise", "__x64_sys_madvise"),
];

/// Programs at their end.
const AT_EXIT: [(&str, &str); 5] = [
    ("leave_sys_mmap", "__x64_sys_mmap"),
    ("leave_sys_munmap", "__x64_sys_munmap"),
    ("leave_sys_mremap", "__x64_sys_mremap"),
    ("leave_sys_brk", "__x64_sys_brk"),
    ("leave_sys_mprotect", "__x64_sys_mprotect"),
];

/// The program of new pages.
const PAGE_PROGRAM: &str = "enter_new_page";

/// What is called for each new page: by this name since Linux 6.8, and by the other before.
const NEW_PAGE: [&str; 2] = ["folio_add_new_anon_rmap", "page_add_new_anon_rmap"];

/// Tracepoints of all system calls, and the programs of the same names.
const SYSTEM_CALLS: [&str; 2] = ["sys_exit", "sys_enter"];

/// Tracepoints of new pages, likewise, where programs cannot hang on functions: that is forbidden in
/// some sandboxes, and not possible without BTF.
const FAULTS: [&str; 2] = ["page_fault_user", "page_fault_kernel"];

/// What a trace of growth has to know.
#[derive(Clone, Copy, Debug)]
pub struct GrowthOptions {
    /// Where the kernel has what.
    pub config: GrowthConfig,
    /// It is known where the target makes its system calls.
    pub knows_calls: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Growing {
    /// How many probes there are.
    pub probes: usize,
    /// They are at functions of the kernel; else at tracepoints.
    pub at_functions: bool,
    /// But system calls are to be seen in the target: those are the caller's to arm.
    pub in_program: bool,
}

/// An armed program; dropping it removes it.
#[expect(dead_code, reason = "held for its drop")]
pub(super) enum GrowthLink {
    Entry(FEntryLink),
    Exit(FExitLink),
    Tracepoint(RawTracePointLink),
}

impl Kernel {
    /// Arms all that the growth mode needs but what is in the target. `initial` is what is resident now.
    ///
    /// # Errors
    /// [`LoadError::NoGrowth`] where the kernel has not got what it takes.
    pub fn grow(
        &mut self,
        options: &GrowthOptions,
        initial: &RssCounts,
    ) -> Result<Growing, LoadError> {
        self.write_growth(&options.config, initial)?;
        self.load_growth(options)?;
        let in_program = self.sees_calls_in_program(options);
        if !in_program {
            self.arm_calls()?;
        }
        match self.has_growth_functions {
            true => self.arm_entry(PAGE_PROGRAM)?,
            false => self.arm_tracepoints(&FAULTS)?,
        }
        self.arm_tracepoint(rss_program(&options.config), "rss_stat")?;
        let (probes, at_functions) = (self.growth.len(), self.has_growth_functions);
        Ok(Growing { probes, at_functions, in_program })
    }

    /// From here on system calls are seen in the kernel, and none in the target. Between the two there is
    /// a moment in which none is.
    ///
    /// # Errors
    /// The kernel's; when programs do not load, all is as it was.
    pub fn see_all_calls(&mut self) -> Result<(), LoadError> {
        if !self.has_growth_functions {
            self.load_tracepoints(&SYSTEM_CALLS)?;
        }
        self.disarm_all();
        self.arm_calls()
    }

    /// Loads all of it, so that arming takes a moment.
    ///
    /// # Errors
    /// As [`Self::grow`].
    pub(super) fn load_growth(&mut self, options: &GrowthOptions) -> Result<(), LoadError> {
        if self.sees_calls_in_program(options) {
            self.load_programs(&[CallShape::CallBegin, CallShape::CallEnd])?;
            self.forget_unloaded_programs();
        } else if !self.has_growth_functions {
            self.load_tracepoints(&SYSTEM_CALLS)?;
        }
        if !self.has_growth_functions {
            self.load_tracepoints(&FAULTS)?;
        }
        self.loaded_program::<RawTracePoint>(rss_program(&options.config)).map(drop)
    }

    /// What costs most programs least.
    fn sees_calls_in_program(&self, options: &GrowthOptions) -> bool {
        let is_better = match self.growth_by {
            GrowthBy::Auto => !self.has_growth_functions,
            GrowthBy::Kernel => false,
            GrowthBy::Program => true,
        };
        is_better && options.knows_calls
    }

    /// Loads programs that hang on the kernel's functions, if they can. Where they can be loaded but not
    /// hang there, only arming them shows that: they hang there for a moment, with the window closed.
    pub(super) fn try_growth_functions(&mut self) {
        let tried = self.load_functions().and_then(|()| {
            self.arm_functions()?;
            self.arm_entry(PAGE_PROGRAM)
        });
        self.growth.clear();
        self.has_growth_functions = tried.is_ok();
        if let Err(error) = tried {
            log::info!("programs cannot hang on the kernel's functions: {error}");
            self.unload_functions();
        }
    }

    /// Only what is listed costs anything.
    fn load_functions(&mut self) -> Result<(), LoadError> {
        let btf = kernel_functions()?;
        // Where one that does next to nothing cannot hang, the kernel need not verify those that walk
        // stacks.
        let [(first, function), others @ ..] = AT_ENTRY;
        self.load_entry(first, function, &btf)?;
        self.arm_entry(first)?;
        self.growth.clear();
        for (program, function) in AT_EXIT {
            let loaded = self.program_named::<FExit>(program)?.load(function, &btf);
            loaded.map_err(|source| refused(program, function, source))?;
        }
        for (program, function) in others {
            self.load_entry(program, function, &btf)?;
        }
        let [current, former] = NEW_PAGE;
        match self.load_entry(PAGE_PROGRAM, current, &btf) {
            Err(LoadError::NoGrowth { .. }) => self.load_entry(PAGE_PROGRAM, former, &btf),
            other => other,
        }
    }

    fn load_entry(&mut self, name: &str, function: &str, btf: &Btf) -> Result<(), LoadError> {
        let loaded = self.program_named::<FEntry>(name)?.load(function, btf);
        loaded.map_err(|source| refused(name, function, source))
    }

    fn arm_functions(&mut self) -> Result<(), LoadError> {
        AT_EXIT.iter().try_for_each(|(program, _)| self.arm_exit(program))?;
        AT_ENTRY.iter().try_for_each(|(program, _)| self.arm_entry(program))
    }

    fn arm_calls(&mut self) -> Result<(), LoadError> {
        match self.has_growth_functions {
            true => self.arm_functions(),
            false => self.arm_tracepoints(&SYSTEM_CALLS),
        }
    }

    /// They take memory, and are of no use.
    fn unload_functions(&mut self) {
        for (name, _) in AT_EXIT {
            drop(self.program_named::<FExit>(name).map(FExit::unload));
        }
        for name in AT_ENTRY.map(|(name, _)| name).into_iter().chain([PAGE_PROGRAM]) {
            drop(self.program_named::<FEntry>(name).map(FEntry::unload));
        }
    }

    fn load_tracepoints(&mut self, names: &[&str]) -> Result<(), LoadError> {
        let load = |name: &&str| self.loaded_program::<RawTracePoint>(name).map(drop);
        names.iter().try_for_each(load)
    }

    fn arm_tracepoints(&mut self, names: &[&str]) -> Result<(), LoadError> {
        names.iter().try_for_each(|name| self.arm_tracepoint(name, name))
    }

    fn write_growth(
        &mut self,
        config: &GrowthConfig,
        initial: &RssCounts,
    ) -> Result<(), LoadError> {
        let map = self.ebpf.map_mut("GROWTH").ok_or_else(missing_map)?;
        Array::<_, GrowthConfig>::try_from(map)
            .and_then(|mut array| array.set(0, config, 0))
            .map_err(|source| LoadError::Map { name: "GROWTH", source })?;
        let map = self.ebpf.map_mut("RSS").ok_or_else(missing_map)?;
        Array::<_, RssCounts>::try_from(map)
            .and_then(|mut array| array.set(0, initial, 0))
            .map_err(|source| LoadError::Map { name: "RSS", source })
    }

    /// What the kernel counted so far.
    pub fn rss_counts(&self) -> Result<RssCounts, LoadError> {
        let map = self.ebpf.map("RSS").ok_or_else(missing_map)?;
        Array::<_, RssCounts>::try_from(map)
            .and_then(|array| array.get(&0, 0))
            .map_err(|source| LoadError::Map { name: "RSS", source })
    }

    fn arm_tracepoint(&mut self, name: &str, tracepoint: &str) -> Result<(), LoadError> {
        let program: &mut RawTracePoint = self.loaded_program(name)?;
        let link = program
            .attach(tracepoint)
            .and_then(|id| program.take_link(id))
            .map_err(|source| classify_program_error(name, source.into()))?;
        self.growth.push(GrowthLink::Tracepoint(link));
        Ok(())
    }

    fn arm_entry(&mut self, name: &str) -> Result<(), LoadError> {
        let program: &mut FEntry = self.program_named(name)?;
        let link = program
            .attach()
            .and_then(|id| program.take_link(id))
            .map_err(|source| classify_program_error(name, source.into()))?;
        self.growth.push(GrowthLink::Entry(link));
        Ok(())
    }

    fn arm_exit(&mut self, name: &str) -> Result<(), LoadError> {
        let program: &mut FExit = self.program_named(name)?;
        let link = program
            .attach()
            .and_then(|id| program.take_link(id))
            .map_err(|source| classify_program_error(name, source.into()))?;
        self.growth.push(GrowthLink::Exit(link));
        Ok(())
    }

    fn program_named<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P, LoadError>
    where
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let missing = || LoadError::MissingProgram { name: name.to_owned() };
        let program = self.ebpf.program_mut(name).ok_or_else(missing)?;
        program
            .try_into()
            .map_err(|source: ProgramError| classify_program_error(name, source.into()))
    }
}

/// Both have the tracepoint's name; a kernel that does not tell values refuses the one that reads
/// them.
fn rss_program(config: &GrowthConfig) -> &'static str {
    if config.rss_count == 0 { "rss_stat_counted" } else { "rss_stat" }
}

/// As which types the kernel has the functions that programs are to hang on.
fn kernel_functions() -> Result<Btf, LoadError> {
    let at = AT_ENTRY.into_iter().chain(AT_EXIT).map(|(_, function)| function);
    let names: Vec<_> = at.chain(NEW_PAGE).collect();
    let no_growth = |reason| LoadError::NoGrowth { reason };
    let bytes = functions_of_kernel(Path::new(KERNEL_BTF), &names)
        .map_err(|error| no_growth(error.to_string()))?;
    Btf::parse(&bytes, Endianness::default()).map_err(|error| no_growth(error.to_string()))
}

fn refused(name: &str, function: &str, source: ProgramError) -> LoadError {
    match source {
        ProgramError::Btf(error) => {
            LoadError::NoGrowth { reason: format!("its BTF has no {function}: {error}") }
        }
        source => classify_program_error(name, source.into()),
    }
}
