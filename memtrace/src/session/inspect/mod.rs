//! A look at a process's memory as it is: no probe, nothing stopped, and only pages read that are
//! present, so that the target's RSS is the same afterwards.

mod heaps;
mod layout;
mod objects;
mod pages;
mod series;
mod stacks;

use std::{io, num::NonZeroU32, path::Path};

use jiff::Timestamp;
use thiserror::Error;

pub(super) use self::heaps::BlockStates;
pub use self::series::{Between, SeriesEnd, SeriesObserver, SeriesOptions, series};

use self::objects::Objects;
use crate::{
    analysis::residency::{Claim, Claims, Heaps, PageCount, table},
    inspection::{Cost, Inspection, KernelStatement, SCHEMA, Subject, Summary, verdict_of},
    model::{
        census::{Census, OpaqueAllocator, RssKind},
        layout::HeapLayout,
        mapping::Mapping,
        place::Place,
    },
    sys::{
        cgroup, clock,
        memory::ProcessMemory,
        pagemap::Pagemap,
        pidfd::PidFd,
        procfs::{ProcError, ProcFs, Process},
    },
};

/// Why a process cannot be inspected.
#[derive(Debug, Error)]
pub enum InspectError {
    /// It cannot be looked at.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// It is the caller's own, and Yama forbids.
    #[error(
        "process {pid} is yours, but the kernel lets a process's memory be read by its parents only \
         (kernel.yama.ptrace_scope); run as root (sudo), or `sysctl kernel.yama.ptrace_scope=0`"
    )]
    Yama {
        /// As given.
        pid: u32,
    },
    /// The pid is memtrace's own.
    #[error("{pid} is memtrace itself, whose memory changes as it looks; give another process")]
    Own {
        /// As given.
        pid: u32,
    },
    /// The target is no process that memtrace can have a handle on.
    #[error("cannot get hold of process {pid}: {source}")]
    Handle {
        /// As given.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// The process has started another program, or its own anew.
    #[error("process {pid} has started another program; inspect it again for that one")]
    Changed {
        /// As given.
        pid: u32,
    },
    /// memtrace itself cannot run.
    #[error("cannot set up memtrace's event loop: {0}")]
    Runtime(io::Error),
    /// A sample could not be delivered.
    #[error("cannot write to stdout")]
    Output(#[source] io::Error),
}

/// What to look for besides sums.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'w> {
    /// Blocks of malloc at these addresses, ascending.
    pub(super) blocks: &'w [u64],
    /// Where everything lies.
    pub(super) layout: bool,
}

/// What was found of that.
pub(super) struct Found {
    /// What became of the blocks.
    pub(super) blocks: BlockStates,
    /// Where everything lies, where that was wanted; at an unknown time.
    pub(super) layout: Option<HeapLayout>,
}

/// A process that is looked at, once or repeatedly.
pub struct Inspector {
    proc: ProcFs,
    process: Process,
    pidfd: PidFd,
    memory: ProcessMemory,
    pagemap: Pagemap,
    objects: Objects,
}

impl Inspector {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// When there is no such process, or the caller may not read its memory.
    pub fn open(pid: NonZeroU32) -> Result<Self, InspectError> {
        let pid = pid.get();
        if pid == std::process::id() {
            return Err(InspectError::Own { pid });
        }
        let proc = ProcFs::new("/proc");
        let process = proc.process(pid)?;
        process.check_traceable()?;
        let permitted = |error| not_permitted(&proc, &process, error);
        let memory = ProcessMemory::open(&proc, pid).map_err(permitted)?;
        let pagemap = Pagemap::open(&proc, pid).map_err(permitted)?;
        let pidfd = PidFd::open(pid).map_err(|source| InspectError::Handle { pid, source })?;
        Ok(Self { proc, process, pidfd, memory, pagemap, objects: Objects::default() })
    }

    /// Looks at it.
    ///
    /// # Errors
    /// When the process ended, or became another program, meanwhile.
    pub fn look(&mut self) -> Result<Inspection, InspectError> {
        self.look_for(Wanted::default()).map(|(inspection, _)| inspection)
    }

    /// The pid, as given.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// The kernel's name of the process, when it was taken hold of.
    pub fn command(&self) -> &str {
        &self.process.command
    }

    /// Where it runs: host, control group and container, memory limit.
    pub fn place(&self) -> Place {
        let (proc, pid) = (&self.proc, self.process.pid);
        let group = cgroup::memory(proc, Path::new(cgroup::ROOT), pid).unwrap_or_default();
        let path = cgroup::path(proc, pid).unwrap_or_default();
        Place::new(proc.host(), &path, group.limit_bytes)
    }

    /// The process, as it was taken hold of.
    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Looks at it, and for what is wanted besides.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub(super) fn look_for(
        &mut self,
        wanted: Wanted<'_>,
    ) -> Result<(Inspection, Found), InspectError> {
        let (time_ns, cpu_ns) = (clock::monotonic_ns(), clock::own_cpu_ns());
        let taken_at = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let looked = self.census(wanted);
        let process = self.check_identity()?;
        let Looked { mut census, pages, stacks, found } =
            looked.map_err(|error| if_it_goes_on(error, process.pid))?;
        census.time_ns = time_ns;
        census.duration_ns = clock::monotonic_ns().saturating_sub(time_ns);
        let zero_bytes = self.pagemap.tells_zero_pages().then_some(pages.count.zero_bytes);
        let inspection = Inspection {
            schema: SCHEMA,
            taken_at,
            kernel: KernelStatement {
                rss_bytes: process.resident_bytes,
                peak_rss_bytes: process.peak_resident_bytes,
                lazy_free_bytes: pages.lazy_free_bytes,
                zero_bytes,
            },
            target: subject(process),
            summary: Summary {
                live_stacks: stacks.live,
                cached_stacks: stacks.cached,
                ..Summary::of(&census)
            },
            verdict: verdict_of(&census),
            census,
            cost: Cost { cpu_ns: clock::own_cpu_ns().saturating_sub(cpu_ns) },
        };
        Ok((inspection, found))
    }

    fn census(&mut self, wanted: Wanted<'_>) -> Result<Looked, InspectError> {
        let pid = self.process.pid;
        let maps = self.proc.maps(pid)?;
        let loaded = self.objects.loaded(&self.proc, pid, &maps);
        let mut refusals = loaded.refusals.clone();
        let stacks = stacks::find(self, &loaded, &maps);
        let mut heaps = heaps::walk(self, &loaded, &maps, &stacks.stacks, wanted);
        refusals.extend(stacks.refusal.clone());
        refusals.extend(heaps.refusals);
        let claims = heaps.claims.into_iter().chain(stacks.claims()).chain(loaded.claims());
        let opaque = loaded.opaque();
        let claims = Claims::new(claims.chain(named_memory(&maps)));
        let mut pages =
            pages::count(&self.proc, pid, &self.pagemap, &claims, heaps.layout.as_mut())?;
        if let Some(layout) = &mut heaps.layout {
            layout::add_page_sizes(layout, self.process.refuses_huge_pages);
        }
        if loaded.is_malloc_opaque() {
            give_to_opaque(&mut pages.count);
        }
        let walked = Heaps { glibc: &heaps.glibc, musl: &heaps.musl, pymalloc: &heaps.pymalloc };
        let mut rss = table(&pages.count, walked);
        rss.huge_bytes = pages.huge_bytes;
        let error_bound_bytes =
            heaps.error_bound_bytes.saturating_add(rss.bytes(RssKind::Remainder).unsigned_abs());
        let census = Census {
            rss,
            glibc: heaps.glibc,
            musl: heaps.musl,
            pymalloc: heaps.pymalloc,
            opaque,
            refusals,
            error_bound_bytes,
            ..Census::default()
        };
        let found = Found { blocks: heaps.blocks, layout: heaps.layout };
        Ok(Looked { census, pages, stacks: stacks.count(), found })
    }

    /// Files of a process are read by its pid: whatever they said holds only if the pid still means
    /// the process of the beginning, and that process still runs the same program.
    fn check_identity(&self) -> Result<Process, InspectError> {
        let pid = self.process.pid;
        let now = self.proc.process(pid);
        if self.pidfd.has_ended() {
            return Err(ProcError::Ended { pid }.into());
        }
        let now = now?;
        if now.executable.is_empty() {
            // It is about to end, and has no memory any more.
            return Err(ProcError::Ended { pid }.into());
        }
        let is_same = now.start_time_ticks == self.process.start_time_ticks
            && now.executable == self.process.executable
            // A file may be executed anew, and its pages not be there yet: nothing of them is read then.
            && !self.memory.is_gone();
        if is_same { Ok(now) } else { Err(InspectError::Changed { pid }) }
    }
}

/// Why memory is gone whose process goes on, and runs the same file: that was started anew.
fn if_it_goes_on(error: InspectError, pid: u32) -> InspectError {
    match error {
        InspectError::Proc(ProcError::Ended { .. }) => InspectError::Changed { pid },
        error => error,
    }
}

/// What there was to see.
struct Looked {
    census: Census,
    pages: pages::Pages,
    stacks: stacks::Count,
    found: Found,
}

/// Names what stands in the way of a user who looks at an own process.
fn not_permitted(proc: &ProcFs, process: &Process, error: ProcError) -> InspectError {
    let is_own = process.user == rustix::process::geteuid().as_raw();
    match error {
        ProcError::PermissionDenied { pid, .. } if is_own && proc.yama_restricts() => {
            InspectError::Yama { pid }
        }
        error => error.into(),
    }
}

/// Memory that an allocator has put its name on.
fn named_memory(maps: &[Mapping]) -> impl Iterator<Item = Claim> {
    let named = maps
        .iter()
        .filter(|mapping| crate::allocator::opaque::owner_of_memory(&mapping.name).is_some());
    named.map(|mapping| pages::claim(mapping.start, mapping.end, RssKind::OpaqueAllocator))
}

/// When an allocator that cannot be walked serves `malloc`, what nobody else claims is its, except
/// for what the program maps itself: an upper bound, and said to be one.
fn give_to_opaque(count: &mut PageCount) {
    if let Some(bytes) = count.kinds.remove(&RssKind::OtherAnonymous) {
        *count.kinds.entry(RssKind::OpaqueAllocator).or_default() += bytes;
    }
}

fn subject(process: Process) -> Subject {
    Subject {
        pid: process.pid,
        command: process.command,
        command_line: process.command_line,
        executable: process.executable,
        threads: process.threads,
    }
}

impl objects::Loaded {
    /// The allocators that cannot be walked.
    fn opaque(&self) -> Vec<OpaqueAllocator> {
        let opaque = self.objects.iter().filter_map(|object| {
            let name = object.facts.opaque?.to_owned();
            Some(OpaqueAllocator { name, path: object.mapping.name.clone() })
        });
        opaque.collect()
    }
}
