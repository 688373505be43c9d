//! Probes into the target, and out of it.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    panic::resume_unwind,
    path::PathBuf,
    thread::{self, ScopedJoinHandle},
};

use aya::{
    Ebpf,
    programs::{
        RawTracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memtrace_common::{call::SiteCookie, sample::Interval};

use super::{
    Kernel, OBJECT, Room,
    programs::{CALLS, attachment, entry_program, programs_of, return_program},
};
use crate::{
    model::{AllocFn, ArgumentPlaces, CallShape, ObjectNumber},
    probe::{
        calibrate::Calibrator,
        error::{LoadError, classify_arm_error, classify_program_error},
        growth::GrowthOptions,
        multi::{self, Attachment},
        side::Side,
    },
};

/// How probes are put into the target.
pub(super) enum Backend {
    /// One link per program and file.
    Multi {
        /// Those that can still be loaded; `None` when no more will be.
        programs: Option<Box<multi::Programs>>,
        loaded: HashMap<&'static str, multi::LoadedProgram>,
        /// Entry and return are one program, see [`Attachment::Sessions`].
        has_sessions: bool,
    },
    /// One perf event per site, where the kernel has nothing better.
    PerfEvent,
}

/// An armed probe, or many; dropping it removes them.
#[expect(dead_code, reason = "held for their drop")]
enum Link {
    Multi(multi::MultiLink),
    PerfEvent(UProbeLink),
}

/// A link, and what it is of.
pub(super) struct Armed {
    side: Side,
    link: Link,
}

/// A function to arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    /// What is called.
    pub function: AllocFn,
    /// The shape of the arguments at the site.
    pub shape: CallShape,
    /// The registers that they are in.
    pub arguments: ArgumentPlaces,
    /// Number of the site, for the cookie.
    pub site: u32,
    /// The object that it is in.
    pub object: ObjectNumber,
    /// It calls no other traced function of its family: nothing has to be remembered of its calls
    /// that are not looked at.
    pub is_leaf: bool,
    /// Offset in the file of the instruction to put the probe on.
    pub offset: u64,
}

/// Tracepoints of the target's life, and the programs of the same names.
const FOLLOWED: [&str; 3] = ["task_newtask", "sched_process_exec", "sched_process_exit"];

impl Kernel {
    /// Whether all probes of a program in a file are one link (else each is one).
    pub fn has_multi_uprobe_links(&self) -> bool {
        matches!(self.backend, Backend::Multi { .. })
    }

    /// What measures the cost of a probe; `None` without multi-uprobe links. While no allocation is
    /// drawn, what runs there is what runs in the target, and counts the calls; else it is empty.
    pub fn calibrator(&self) -> Option<Calibrator> {
        let Backend::Multi { programs, loaded, .. } = &self.backend else { return None };
        let counts = self.config.interval() == Interval::MAX;
        let entry = loaded.get(CALLS).filter(|_| counts).or_else(|| loaded.get("empty"))?;
        let at_return = programs.as_ref()?.load("empty_return", Attachment::Probes).ok()?;
        let cookie = ProbeSite::CALIBRATION.cookie(entry.attachment()).of_calibration().0;
        Some(Calibrator::new(entry.try_clone().ok()?, cookie, at_return))
    }

    /// Whether calls that are not looked at are spared their return probe (Linux 6.13).
    pub fn has_sessions(&self) -> bool {
        matches!(self.backend, Backend::Multi { has_sessions: true, .. })
    }

    /// Arms the entry probes of functions in a file, and the return probes of those that have
    /// one; returns how many probes that made. `file` is the very file that the target maps: the
    /// kernel gets it by descriptor, so that no path is resolved a second time.
    pub fn arm(&mut self, file: BorrowedFd<'_>, sites: &[ProbeSite]) -> Result<usize, LoadError> {
        let shapes: Vec<CallShape> = sites.iter().map(|site| site.shape).collect();
        self.load_programs(&shapes)?;
        if self.has_sessions() && !self.draws() {
            return self.arm_at_once(file, sites);
        }
        let mut armed = 0;
        for side in Side::ALL {
            let of_side = sites.iter().copied().filter(|site| Side::of(site.function) == side);
            // Ends come first, as return probes do.
            let (ends, begins): (Vec<_>, Vec<_>) = of_side.partition(|site| is_end(site.shape));
            armed += self.arm_side(file, side, &ends)? + self.arm_side(file, side, &begins)?;
        }
        Ok(armed)
    }

    /// Whether allocations are looked at: then probes have to come in an order.
    fn draws(&self) -> bool {
        self.config.active != 0 && self.config.interval() != Interval::MAX
    }

    /// Arms all side by side. The kernel waits for a grace period for each link, and for most of them
    /// during the same one.
    fn arm_at_once(
        &mut self,
        file: BorrowedFd<'_>,
        sites: &[ProbeSite],
    ) -> Result<usize, LoadError> {
        let pid = self.pid();
        let Backend::Multi { loaded, .. } = &self.backend else { return Ok(0) };
        let mut groups: BTreeMap<(Side, &'static str), Vec<ProbeSite>> = BTreeMap::new();
        for site in sites {
            let key = (Side::of(site.function), entry_program(site.shape));
            groups.entry(key).or_default().push(*site);
        }
        let links: Vec<_> = thread::scope(|scope| {
            let mut threads = Vec::new();
            for ((side, name), group) in &groups {
                let Some(program) = loaded.get(name) else { continue };
                let points = points(group, program.attachment());
                let link = scope.spawn(move || program.link(file, &points, pid, false));
                threads.push((*side, group, link));
            }
            let join = |thread: ScopedJoinHandle<'_, io::Result<_>>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            threads.into_iter().map(|(side, group, link)| (side, group, join(link))).collect()
        });
        for (side, group, link) in links {
            let link = link.map_err(|source| classify_arm_error(group, source.into()))?;
            self.probes.push(Armed { side, link: Link::Multi(link) });
        }
        Ok(sites.len() + sites.iter().filter(|site| site.shape.needs_return()).count())
    }

    fn arm_side(
        &mut self,
        file: BorrowedFd<'_>,
        side: Side,
        sites: &[ProbeSite],
    ) -> Result<usize, LoadError> {
        if self.has_sessions() {
            let halves = sites.iter().filter(|site| site.shape.needs_return()).count();
            return Ok(halves
                + self.arm_half(file, side, sites, |shape| Some(entry_program(shape)), false)?);
        }
        // The return half first: an entry without it would wait for a return that never comes.
        let returns = self.arm_half(file, side, sites, return_program, true)?;
        let entries =
            self.arm_half(file, side, sites, |shape| Some(entry_program(shape)), false)?;
        Ok(returns + entries)
    }

    /// Arms empty programs, as a floor to compare with.
    pub fn arm_empty(
        &mut self,
        file: BorrowedFd<'_>,
        sites: &[ProbeSite],
    ) -> Result<usize, LoadError> {
        let empty_return = |shape: CallShape| shape.needs_return().then_some("empty_return");
        let returns = self.arm_half(file, Side::Mappings, sites, empty_return, true)?;
        Ok(returns + self.arm_half(file, Side::Mappings, sites, |_| Some("empty"), false)?)
    }

    /// Loads what a trace with these sites, or one of growth, needs. It can be done long before, and for
    /// any target: see [`Kernel::aim`].
    ///
    /// # Errors
    /// The kernel's; [`LoadError::NoGrowth`].
    pub fn load_ahead(
        &mut self,
        shapes: &[CallShape],
        growth: Option<&GrowthOptions>,
    ) -> Result<(), LoadError> {
        for name in FOLLOWED {
            self.loaded_program::<RawTracePoint>(name)?;
        }
        if let Some(growth) = growth {
            self.load_growth(growth)?;
        }
        self.load_programs(shapes)
    }

    /// Loads what calls of these shapes need and is not loaded yet, all at once if there is room: the verifier takes
    /// some 50 ms and 5 MiB for the program that walks stacks, and a CPU for each program. Perf-event links
    /// load one by one.
    pub(in crate::probe) fn load_programs(
        &mut self,
        shapes: &[CallShape],
    ) -> Result<(), LoadError> {
        let Backend::Multi { programs, loaded, has_sessions } = &mut self.backend else {
            return Ok(());
        };
        let names: BTreeMap<&'static str, Attachment> = shapes
            .iter()
            .flat_map(|shape| programs_of(*shape, *has_sessions))
            .filter(|name| !loaded.contains_key(name))
            .map(|name| (name, attachment(name, *has_sessions)))
            .collect();
        let at_once = match self.room {
            Room::Ample => names.len(),
            Room::Scarce => 1,
        };
        let Some(programs) = programs else { return Ok(()) };
        for (name, program) in programs.load_all(&names, at_once) {
            let program = program.map_err(|source| classify_program_error(name, source.into()))?;
            loaded.insert(name, program);
        }
        Ok(())
    }

    /// No more of them will be loaded: what is not takes some MiB.
    pub(in crate::probe) fn forget_unloaded_programs(&mut self) {
        if let Backend::Multi { programs, .. } = &mut self.backend {
            *programs = None;
        }
    }

    fn arm_half(
        &mut self,
        file: BorrowedFd<'_>,
        side: Side,
        sites: &[ProbeSite],
        program_of: impl Fn(CallShape) -> Option<&'static str>,
        at_return: bool,
    ) -> Result<usize, LoadError> {
        let mut groups: BTreeMap<&'static str, Vec<ProbeSite>> = BTreeMap::new();
        for site in sites {
            if let Some(program) = program_of(site.shape) {
                groups.entry(program).or_default().push(*site);
            }
        }
        for (program, group) in &groups {
            if matches!(self.backend, Backend::Multi { .. }) {
                self.arm_multi(program, file, side, group, at_return)?;
            } else {
                group
                    .iter()
                    .try_for_each(|site| self.arm_perf_event(program, file, side, *site))?;
            }
        }
        Ok(groups.values().map(Vec::len).sum())
    }

    fn arm_multi(
        &mut self,
        name: &'static str,
        file: BorrowedFd<'_>,
        side: Side,
        sites: &[ProbeSite],
        at_return: bool,
    ) -> Result<(), LoadError> {
        let pid = self.pid();
        let Backend::Multi { programs, loaded, has_sessions } = &mut self.backend else {
            return Ok(());
        };
        let attachment = attachment(name, *has_sessions);
        let missing = || LoadError::MissingProgram { name: name.to_owned() };
        let program = match loaded.entry(name) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(
                programs
                    .as_ref()
                    .ok_or_else(missing)?
                    .load(name, attachment)
                    .map_err(|source| classify_program_error(name, source.into()))?,
            ),
        };
        let points = points(sites, attachment);
        let link = program
            .link(file, &points, pid, at_return)
            .map_err(|source| classify_arm_error(sites, source.into()))?;
        self.probes.push(Armed { side, link: Link::Multi(link) });
        Ok(())
    }

    fn arm_perf_event(
        &mut self,
        name: &'static str,
        file: BorrowedFd<'_>,
        side: Side,
        site: ProbeSite,
    ) -> Result<(), LoadError> {
        let scope = UProbeScope::OneProcess(self.pid());
        let program: &mut UProbe = self.loaded_program(name)?;
        let point = UProbeAttachPoint {
            location: UProbeAttachLocation::AbsoluteOffset(site.offset),
            cookie: Some(site.cookie(Attachment::Probes).0),
        };
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let link = program
            .attach(point, &path, scope)
            .and_then(|id| program.take_link(id))
            .map_err(|source| classify_arm_error(&[site], source.into()))?;
        self.probes.push(Armed { side, link: Link::PerfEvent(link) });
        Ok(())
    }

    /// Starts to follow forks, execs and ends of threads.
    pub fn follow_process(&mut self) -> Result<(), LoadError> {
        for name in FOLLOWED {
            let program: &mut RawTracePoint = self.loaded_program(name)?;
            let link =
                program.attach(name).and_then(|id| program.take_link(id)).map_err(|source| {
                    LoadError::Program { name: name.to_owned(), source: source.into() }
                })?;
            self.tracepoints.push(link);
        }
        Ok(())
    }

    /// Loads a program that traces, which takes a right of its own, and attaches it nowhere.
    pub fn try_tracing(&mut self) -> Result<(), LoadError> {
        self.loaded_program::<RawTracePoint>(FOLLOWED[0]).map(|_| ())
    }

    /// Begins to remove the probes of some sides, and does not wait: they are out of the target
    /// within some 10 ms, and the kernel waits for grace periods afterwards.
    pub fn disarm(&mut self, sides: &[Side]) {
        self.leaving.retain(|thread| !thread.is_finished());
        let leaving = self.probes.extract_if(.., |armed| sides.contains(&armed.side));
        // Waiting together takes one grace period.
        let threads = leaving.map(|armed| thread::spawn(move || drop(armed.link)));
        self.leaving.extend(threads);
    }

    /// Removes all probes from the target, and waits for that.
    pub(in crate::probe) fn disarm_all(&mut self) {
        self.disarm(&Side::ALL);
        for thread in self.leaving.drain(..) {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    }

    /// Removes all probes; the counters stay readable.
    pub fn detach(&mut self) {
        self.disarm_all();
        self.tracepoints.clear();
        self.growth.clear();
    }
}

impl ProbeSite {
    /// A malloc that never was.
    const CALIBRATION: Self = Self {
        function: AllocFn::Malloc,
        shape: CallShape::Size,
        arguments: ArgumentPlaces::USUAL,
        site: 0,
        object: ObjectNumber::FIRST,
        is_leaf: true,
        offset: 0,
    };

    fn cookie(self, attachment: Attachment) -> SiteCookie {
        let cookie = SiteCookie::new(self.function, self.shape, self.site, self.object)
            .with_arguments(self.arguments);
        let cookie = if self.is_leaf { cookie.of_a_leaf() } else { cookie };
        match attachment {
            Attachment::Probes => cookie,
            Attachment::Sessions => cookie.of_a_session(),
        }
    }
}

/// Whether what begins at one site ends at such a one.
fn is_end(shape: CallShape) -> bool {
    matches!(shape, CallShape::CallEnd | CallShape::Exit)
}

/// As the kernel is told of them.
fn points(sites: &[ProbeSite], attachment: Attachment) -> Vec<multi::Site> {
    let point =
        |site: &ProbeSite| multi::Site { offset: site.offset, cookie: site.cookie(attachment).0 };
    sites.iter().map(point).collect()
}

pub(super) fn choose_backend(ebpf: &Ebpf) -> Backend {
    let multi = multi::Programs::new(OBJECT, ebpf.maps())
        .and_then(|programs| Ok((programs.load("empty", Attachment::Probes)?, programs)));
    match multi {
        Ok((empty, programs)) if multi::is_supported(&empty) => {
            let has_sessions = has_sessions(&programs);
            let loaded = HashMap::from([("empty", empty)]);
            Backend::Multi { programs: Some(Box::new(programs)), loaded, has_sessions }
        }
        Ok(_) => Backend::PerfEvent,
        Err(error) => {
            log::debug!("no multi-uprobe links, using perf events: {error}");
            Backend::PerfEvent
        }
    }
}

/// Whether the kernel has sessions; one that has not may refuse the program or its link.
fn has_sessions(programs: &multi::Programs) -> bool {
    let empty = programs.load("empty_session", Attachment::Sessions);
    empty.is_ok_and(|empty| multi::is_supported(&empty))
}
