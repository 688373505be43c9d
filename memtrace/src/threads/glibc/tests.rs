//! On threads of the test's own, against what pthread_getattr_np(3) says of them; and on memory
//! that is not what it should be.

use std::{collections::HashMap, fs, sync::mpsc, thread};

use super::*;
use crate::{
    model::memory::PageRun,
    sys::{memory::ProcessMemory, pagemap::Pagemap, procfs::ProcFs},
};

/// The calling thread's stack, as its C library describes it.
fn own_stack() -> (u64, u64) {
    let mut start = std::ptr::null_mut();
    let mut bytes = 0;
    // SAFETY: the attributes are initialised by the first call and destroyed by the last.
    unsafe {
        let mut attributes = std::mem::zeroed();
        assert_eq!(libc::pthread_getattr_np(libc::pthread_self(), &mut attributes), 0);
        assert_eq!(libc::pthread_attr_getstack(&attributes, &mut start, &mut bytes), 0);
        libc::pthread_attr_destroy(&mut attributes);
    }
    (start as u64, start as u64 + bytes as u64)
}

fn address_of(maps: &[Mapping], file: &str, address: u64) -> u64 {
    let first = maps.iter().find(|mapping| mapping.base_name() == file).unwrap();
    let image = fs::read(&first.name).unwrap();
    first.start + address - Elf::parse(&*image).unwrap().first_address().unwrap()
}

#[test]
fn stacks_are_where_the_threads_say() {
    let proc = ProcFs::new("/proc");
    let pid = std::process::id();
    let (tell, told) = mpsc::channel();
    let (_keep, wait) = mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    for _ in 0..4 {
        let (tell, wait) = (tell.clone(), wait.clone());
        thread::spawn(move || {
            tell.send(own_stack()).unwrap();
            let _ = wait.lock().map(|wait| wait.recv());
        });
    }
    let expected: Vec<_> = (0..4).map(|_| told.recv().unwrap()).collect();
    let maps = proc.maps(pid).unwrap();
    let libc = maps.iter().find(|mapping| mapping.base_name() == "libc.so.6").unwrap();
    let image = fs::read(&libc.name).unwrap();
    let lists = StackLists::of(&Elf::parse(&*image).unwrap()).unwrap();
    let linker = maps.iter().find(|mapping| mapping.base_name().starts_with("ld-linux")).unwrap();
    let image = fs::read(&linker.name).unwrap();
    let data = Elf::parse(&*image).unwrap().exported_data(&[LINKER_DATA])[0];
    let data = address_of(&maps, linker.base_name(), data.address);
    let memory = ProcessMemory::open(&proc, pid).unwrap();
    let residency = Pagemap::open(&proc, pid).unwrap();
    let target = Target { memory: &memory, residency: &residency, maps: &maps };
    let stacks = lists.stacks(&target, data, pid);
    for (start, end) in expected {
        let found = stacks.iter().find(|it| it.extent.end == end && !it.is_cached);
        let found = found.unwrap_or_else(|| panic!("{start:#x}-{end:#x} is not in {stacks:?}"));
        // pthread_attr_getstack counts the guard in or out, by version.
        assert!(found.extent.start.abs_diff(start) <= 2 * 4096, "{found:?} {start:#x}");
    }
}

/// Words of memory; everything else is absent.
struct Words(HashMap<u64, u64>);

impl TargetMemory for Words {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        for (at, byte) in buffer.iter_mut().enumerate() {
            let address = address + at as u64;
            let word = self.0.get(&(address & !7)).copied().unwrap_or_default();
            *byte = word.to_le_bytes()[(address & 7) as usize];
        }
        true
    }
}

struct Everywhere;

impl Residency for Everywhere {
    fn runs(&self, start: u64, end: u64) -> Option<Vec<PageRun>> {
        let state = PageState::Resident;
        Some(vec![PageRun { start, end, state, file_backed: false, huge: false }])
    }
}

const LISTS: StackLists =
    StackLists { heads: [0, 16, 32], link: 0x10, tid: 0x20, descriptor_bytes: 0x100 };

fn stacks_in(words: &[(u64, u64)]) -> Vec<ThreadStack> {
    let memory = Words(words.iter().copied().collect());
    let target = Target { memory: &memory, residency: &Everywhere, maps: &[] };
    LISTS.stacks(&target, 0x1000, 1)
}

#[test]
fn a_list_that_never_ends_is_given_up() {
    assert_eq!(stacks_in(&[(0x1000, 0x2010), (0x2010, 0x2010)]), []);
}

#[test]
fn nonsense_is_no_stack() {
    assert_eq!(stacks_in(&[(0x1000, u64::MAX - 3)]), []);
    assert_eq!(stacks_in(&[(0x1000, 0x2010), (0x2010, 0x1000), (0x2030, 7)]), []);
}
