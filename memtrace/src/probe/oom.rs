//! Kills for want of memory, as the kernel announces them: one small program, nothing in a process.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use aya::{Ebpf, EbpfLoader, maps::Array, programs::RawTracePoint};
use memtrace_common::oom::{OomLayout, Victim};

use super::{
    error::{LoadError, classify_object_error, classify_program_error, missing_map},
    load::{Loadable as _, OBJECT},
    ring::Ring,
};

/// Maps of other programs, which are made with the object: as small as they can be.
const OTHERS: [&str; 8] = [
    "STACKS",
    "ROWS",
    "PAGES",
    "REMEMBERED",
    "RECORDINGS",
    "MAPPINGS",
    "IN_FLIGHT",
    "STACK_BUFFERS",
];

/// The smallest ring: a page.
const RING_BYTES: u32 = 4096;

/// Readable when somebody is killed.
pub struct OomEvents {
    ring: Ring,
    waiting: VecDeque<Victim>,
    /// Held for its program.
    _ebpf: Ebpf,
}

impl OomEvents {
    /// Listens from now on.
    ///
    /// # Errors
    /// When programs cannot be loaded here.
    pub fn open(layout: &OomLayout) -> Result<Self, LoadError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None).map_max_entries("EVENTS", RING_BYTES);
        for map in OTHERS {
            loader.map_max_entries(map, 1);
        }
        let mut ebpf = loader.load(OBJECT).map_err(classify_object_error)?;
        write_layout(&mut ebpf, layout)?;
        arm(&mut ebpf)?;
        let map = ebpf.take_map("VICTIMS").ok_or_else(missing_map)?;
        let ring = Ring::new(map).map_err(|source| LoadError::Map { name: "VICTIMS", source })?;
        Ok(Self { ring, waiting: VecDeque::new(), _ebpf: ebpf })
    }

    /// The next victim that has not been asked for.
    pub fn next_victim(&mut self) -> Option<Victim> {
        let Self { ring, waiting, .. } = self;
        ring.drain(usize::MAX, |record| waiting.extend(Victim::decode(record)));
        waiting.pop_front()
    }
}

fn write_layout(ebpf: &mut Ebpf, layout: &OomLayout) -> Result<(), LoadError> {
    let map = ebpf.map_mut("OOM_LAYOUT").ok_or_else(missing_map)?;
    Array::<_, OomLayout>::try_from(map)
        .and_then(|mut array| array.set(0, layout, 0))
        .map_err(|source| LoadError::Map { name: "OOM_LAYOUT", source })
}

fn arm(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    const NAME: &str = "mark_victim";
    let missing = || LoadError::MissingProgram { name: NAME.to_owned() };
    let program = ebpf.program_mut(NAME).ok_or_else(missing)?;
    let program: &mut RawTracePoint =
        program.try_into().map_err(|source: aya::programs::ProgramError| {
            classify_program_error(NAME, source.into())
        })?;
    program
        .load_program()
        .and_then(|()| program.attach(NAME))
        .map(drop)
        .map_err(|source| classify_program_error(NAME, source.into()))
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl AsRawFd for OomEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}
