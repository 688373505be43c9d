//! Arenas of Python's small objects that are obtained and released in the window, against the
//! arenas that are there.

use std::process::Stdio;

use memtrace::{
    allocator::pymalloc::{self, Interpreter},
    sys::{memory::ProcessMemory, pagemap::Pagemap, procfs::ProcFs},
};
use memtrace_tests::{attach::Attach, lines::Lines, programs, pythons, running::Running};

fn arenas(pid: u32) -> u64 {
    let proc = ProcFs::new("/proc");
    let (memory, pagemap) =
        (ProcessMemory::open(&proc, pid).unwrap(), Pagemap::open(&proc, pid).unwrap());
    let maps = proc.maps(pid).unwrap();
    let walk = |it: &Interpreter| pymalloc::walk(&memory, &pagemap, &maps, it).unwrap();
    Interpreter::all_of(&maps).iter().find_map(walk).unwrap().heap.arenas
}

#[test]
fn arenas_are_a_footprint_and_no_leak_of_the_programs() {
    use std::io::Write as _;
    for python in pythons::pythons() {
        let mut command = python.command();
        command.arg(programs::python("arenas.py")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running::start(&mut command);
        let mut input = process.child().stdin.take().unwrap();
        let mut lines = Lines::of(process.child().stdout.take().unwrap());
        lines.find("ready").unwrap();
        let tracing = Attach::to(process.pid()).armed();
        let mut count = vec![arenas(process.pid())];
        for _ in 0..2 {
            input.write_all(b"go\n").unwrap();
            lines.find("ready").unwrap();
            count.push(arenas(process.pid()));
        }
        let report = tracing.interrupt().report();
        let (obtained, released) = (count[1] - count[0], count[1] - count[2]);
        assert!(obtained > 20 && released > 15, "{count:?}");
        let seen = &report.totals.pymalloc_arenas;
        let seen = (seen.allocated.count, seen.freed.count, seen.live.count);
        assert_eq!(seen, (obtained, released, obtained - released), "{python:?} {count:?}");
        let bytes = report.totals.pymalloc_arenas.live.bytes;
        assert!(bytes == seen.2 << 20 || bytes == seen.2 << 18, "{bytes}");
        assert!(report.sites.iter().all(|site| site.function != "mmap"), "{:?}", report.sites);
    }
}
