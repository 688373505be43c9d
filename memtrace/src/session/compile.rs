//! The target's files to unwind rows, on a few threads: each object is read and compiled apart.

use std::{
    fs::File,
    io,
    num::NonZero,
    os::unix::fs::FileExt as _,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{
    model::mapping::Mapping,
    symbolize::OpenObject,
    sys::{mapped::MappedFile, procfs::ProcFs},
    unwind::{
        compile::{CompileError, ObjectRows, Wanted, compile_for},
        table::ObjectKey,
    },
};

/// Larger mappings of this name are not the kernel's.
const MAX_VDSO_BYTES: u64 = 1 << 20;
/// The kernel's object in every process.
pub(super) const VDSO: &str = "[vdso]";
/// Most threads: a process has few large objects, and the target wants CPUs too.
const MAX_THREADS: usize = 4;

/// What is put into compiling.
pub(super) struct Effort<'e> {
    /// Most threads.
    pub(super) threads: usize,
    /// Asked again and again. When it is over, what is not compiled is left.
    pub(super) may_go_on: &'e (dyn Fn() -> bool + Sync),
    /// What is left can be compiled later; else it is done without.
    pub(super) can_be_resumed: bool,
}

impl Effort<'_> {
    /// Whatever it takes.
    pub(super) const FULL: Effort<'static> =
        Effort { threads: MAX_THREADS, may_go_on: &|| true, can_be_resumed: false };
}

/// The rows of an object, or why there are none.
pub(super) type Compiled = io::Result<Result<ObjectRows, CompileError>>;

/// Opens the target's mapped files.
pub(super) struct Opener<'a> {
    /// Where `/proc` is.
    pub(super) proc: &'a ProcFs,
    /// The target.
    pub(super) pid: u32,
}

impl OpenObject for Opener<'_> {
    fn open(&self, mapping: &Mapping) -> io::Result<File> {
        self.proc.open_mapped_file(self.pid, mapping).map_err(io::Error::other)
    }
}

/// Compiles the objects of these mappings; the results are in the same order.
pub(super) fn compile_all(
    opener: &Opener<'_>,
    objects: &[(&Mapping, ObjectKey)],
    wanted: Wanted,
    effort: &Effort<'_>,
) -> Vec<Compiled> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((mapping, _)) = objects.get(index) else { return done };
            done.push((index, compile_one(opener, mapping, wanted, effort)));
        }
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads(objects.len(), effort.threads)).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, compiled)| compiled).collect()
}

fn compile_one(
    opener: &Opener<'_>,
    mapping: &Mapping,
    wanted: Wanted,
    effort: &Effort<'_>,
) -> Compiled {
    with_image(opener, mapping, |image| compile_for(image, wanted, effort.may_go_on))
}

/// How many threads are worth it.
fn threads(objects: usize, most: usize) -> usize {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    cpus.min(most).min(objects)
}

/// Hands an object's bytes over: the file by a mapping of our own, because it may be larger than
/// the memory that is left, and the vDSO out of the target's memory.
pub(super) fn with_image<T>(
    opener: &Opener<'_>,
    mapping: &Mapping,
    read: impl FnOnce(&[u8]) -> T,
) -> io::Result<T> {
    if mapping.name == VDSO {
        return vdso(opener, mapping).map(|image| read(&image));
    }
    Ok(MappedFile::new(&opener.open(mapping)?)?.read(read))
}

fn vdso(opener: &Opener<'_>, mapping: &Mapping) -> io::Result<Vec<u8>> {
    let bytes = (mapping.end - mapping.start).min(MAX_VDSO_BYTES);
    let memory = opener.proc.open_memory(opener.pid).map_err(io::Error::other)?;
    let mut image = vec![0; bytes as usize];
    memory.read_exact_at(&mut image, mapping.start)?;
    Ok(image)
}
