//! A look at a process's heap from outside, by the library.

use std::io::Read as _;

use memtrace::{
    allocator::glibc::{
        layout::Layout,
        scan::scan,
        target::Target,
        walk::{Request, Walked, walk},
    },
    elf::Elf,
    model::{census::Extent, mapping::Mapping},
    sys::{memory::ProcessMemory, pagemap::Pagemap, procfs::ProcFs},
};

/// What is needed to walk the heap of a process.
pub struct Look {
    memory: ProcessMemory,
    pagemap: Pagemap,
    mappings: Vec<Mapping>,
    layout: Layout,
}

impl Look {
    /// At the glibc of a process: its libc's, or that in its executable.
    pub fn at(pid: u32) -> Self {
        let proc = ProcFs::new("/proc");
        let mappings = proc.maps(pid).unwrap();
        let libc = mappings.iter().find(|mapping| is_libc(mapping));
        let object = libc.or(mappings.iter().find(|mapping| mapping.file.is_some())).unwrap();
        let mut bytes = Vec::new();
        proc.open_mapped_file(pid, object).unwrap().read_to_end(&mut bytes).unwrap();
        let elf = Elf::parse(&bytes[..]).unwrap();
        let bias = elf.load_bias(object.file_offset, object.start).unwrap();
        let layout = Layout::find(&elf).expect("no layout").at(bias);
        let memory = ProcessMemory::open(&proc, pid).unwrap();
        Self { memory, pagemap: Pagemap::open(&proc, pid).unwrap(), mappings, layout }
    }

    fn target(&self) -> Target<'_> {
        let page_bytes = rustix::param::page_size() as u64;
        let (memory, residency, mappings) = (&self.memory, &self.pagemap, &self.mappings[..]);
        Target { memory, residency, mappings, page_bytes }
    }

    /// The layout by the file, and that by a scan of the object's data, which has no parameters.
    pub fn layouts(&self) -> (Layout, Layout) {
        let libc = self.mappings.iter().filter(|it| is_libc(it));
        let data = libc.filter(|mapping| mapping.permissions.write);
        let data: Vec<_> = data.map(|it| Extent { start: it.start, end: it.end }).collect();
        let scanned = scan(&self.target(), &data).expect("no main_arena found");
        (Layout { parameters: None, ..self.layout }, scanned)
    }

    /// Whether it is a release that counts mapped blocks without their headers: since 2.43.
    pub fn forgets_headers(&self) -> bool {
        !self.layout.shape.mapped_size_has_header()
    }

    /// The same look by another layout.
    pub fn by(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }

    /// A walk that asks for some blocks, ascending.
    pub fn walk(&self, blocks: &[u64]) -> Walked {
        let excluded: [Extent; 0] = [];
        walk(
            &self.target(),
            &self.layout,
            Request { excluded: &excluded, blocks, ..Request::default() },
        )
        .unwrap()
    }

    /// Resident bytes of some memory, by the kernel alone.
    pub fn resident_bytes(&self, extents: &[Extent]) -> u64 {
        use memtrace::model::memory::{PageState, Residency as _};
        let runs = extents.iter().flat_map(|it| self.pagemap.runs(it.start, it.end).unwrap());
        let resident = runs.filter(|run| run.state == PageState::Resident);
        resident.map(|run| run.end - run.start).sum()
    }
}

/// Until 2.33, the file that is mapped is named by the release.
fn is_libc(mapping: &Mapping) -> bool {
    let name = mapping.base_name();
    name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"))
}
