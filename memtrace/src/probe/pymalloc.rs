//! The plan for the interpreters of a process; see [`super::plan::interpreter`].

use object::ReadCache;
use thiserror::Error;

use super::{
    plan::interpreter::{PymallocRefusal, plan_interpreter},
    target::{PlannedObject, executable_files},
};
use crate::{
    allocator::pymalloc::{
        Interpreter,
        table::{self, Table},
    },
    elf::Elf,
    model::mapping::{FileId, Mapping},
    sys::{
        kernel::KernelVersion,
        memory::ProcessMemory,
        procfs::{ProcError, ProcFs},
    },
};

/// Why the calls of CPython's allocator cannot be traced.
#[derive(Debug, Error)]
pub enum PymallocError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcError),
    /// There is none.
    #[error(
        "--pymalloc: process {pid} has mapped no CPython (nothing in it exports PyMem_Malloc and \
         PyObject_Malloc); attach without it, or when Python is loaded"
    )]
    NoPython {
        /// The target.
        pid: u32,
    },
    /// There is one that is not understood.
    #[error("--pymalloc: {path}: {refusal}; attach without it for all else")]
    Refused {
        /// The interpreter's object.
        path: String,
        /// Why.
        refusal: PymallocRefusal,
    },
    /// Its objects are not pymalloc's.
    #[error(
        "--pymalloc: {path} is a free-threaded build, whose objects are in a mimalloc inside of \
         it, where no probe sees them; attach without it for all else"
    )]
    FreeThreaded {
        /// The interpreter's object.
        path: String,
    },
}

/// The plan for a process.
#[derive(Debug, Default)]
pub struct PymallocPlan {
    /// What to arm; empty where malloc serves all objects.
    pub objects: Vec<PlannedObject>,
    /// What is to be known of the result, as sentences.
    pub notes: Vec<String>,
    tables: Vec<Table>,
}

impl PymallocPlan {
    /// Whether CPython calls other functions by now than those that were planned for.
    pub fn has_changed(&self, proc: &ProcFs, pid: u32) -> bool {
        let Ok(memory) = ProcessMemory::open(proc, pid) else { return false };
        let now = |planned: &Table| table::read(planned.slots, &memory);
        self.tables.iter().any(|planned| now(planned).is_some_and(|now| now != *planned))
    }
}

/// Plans the probes of every interpreter that a process has mapped. `maps` are its mappings.
///
/// # Errors
/// [`PymallocError`]; then a trace would take what is alive for leaked, or miss it.
pub fn plan_pymalloc(
    proc: &ProcFs,
    pid: u32,
    maps: &[Mapping],
    kernel: KernelVersion,
) -> Result<PymallocPlan, PymallocError> {
    let mut plan = PymallocPlan::default();
    let mut is_there = false;
    for file in executable_files(maps) {
        is_there |= add(&mut plan, proc, pid, (file, maps), kernel)?;
    }
    is_there.then_some(plan).ok_or(PymallocError::NoPython { pid })
}

/// Adds an object if it is an interpreter; tells whether it is.
fn add(
    plan: &mut PymallocPlan,
    proc: &ProcFs,
    pid: u32,
    (file, maps): (FileId, &[Mapping]),
    kernel: KernelVersion,
) -> Result<bool, PymallocError> {
    let is_own = |map: &&Mapping| map.file == Some(file) && map.permissions.execute;
    let mappings: Vec<Mapping> = maps.iter().filter(is_own).cloned().collect();
    let Some(first) = mappings.first() else { return Ok(false) };
    // What cannot be opened or read was named when the allocators were looked for.
    let Ok(opened) = proc.open_mapped_file(pid, first) else { return Ok(false) };
    let cache = ReadCache::new(&opened);
    let Ok(elf) = Elf::parse(&cache) else { return Ok(false) };
    let memory = ProcessMemory::open(proc, pid)?;
    let path = first.name.clone();
    let planned = plan_interpreter(&elf, &mappings, maps, kernel, &memory);
    let is_free_threaded = Interpreter::of(first).is_some_and(|it| it.is_free_threaded);
    if is_free_threaded && !matches!(planned, Ok(None)) {
        return Err(PymallocError::FreeThreaded { path });
    }
    let planned =
        planned.map_err(|refusal| PymallocError::Refused { path: path.clone(), refusal })?;
    let Some(planned) = planned else { return Ok(false) };
    drop(cache);
    plan.tables.extend(planned.tables);
    match planned.object {
        Some(mut object) => {
            object.version = Interpreter::of(first).map(|it| it.version());
            plan.objects.push(PlannedObject { plan: object, file: opened, armed_after_ns: None });
        }
        None => plan.notes.push(format!(
            "--pymalloc changes nothing: {path} takes all of its memory from malloc \
             (PYTHONMALLOC=malloc), which is traced anyway"
        )),
    }
    Ok(true)
}
