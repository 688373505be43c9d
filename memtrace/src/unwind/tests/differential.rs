//! Every call of real objects: what the tables say is what the unwind information says.

use std::collections::HashMap;

use gimli::{
    BaseAddresses, CieOrFde, FrameDescriptionEntry, LittleEndian, UnwindContext, UnwindSection,
};
use iced_x86::{Decoder, DecoderOptions, FlowControl};

use super::{
    reference::{Section, Step, by_dwarf, by_rule, find_rule, is_plain},
    *,
};
use crate::{elf::Elf, unwind::mappings::code_mappings};

type Fde<'d> = FrameDescriptionEntry<gimli::EndianSlice<'d, LittleEndian>>;

/// Objects other than the test's own, of more kinds: C++, realigned stacks, assembly.
const OTHERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/x86_64-linux-gnu/libm.so.6",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    "/usr/lib/x86_64-linux-gnu/libquadmath.so.0",
    "/usr/bin/python3.11",
    "/usr/bin/perl",
];

/// How many calls were compared, by what is known of them.
#[derive(Debug, Default)]
struct Compared {
    equal: u64,
    /// The tables have no rule for what an unwinder with full expressions could unwind.
    unsupported: u64,
    /// No function is described there, and the tables say so.
    undescribed: u64,
}

struct Object<'d> {
    elf: Elf<'d, &'d [u8]>,
    section: Section<'d>,
    bases: BaseAddresses,
}

impl<'d> Object<'d> {
    fn new(file: &'d [u8]) -> Self {
        let elf = Elf::parse(file).unwrap();
        let frames = elf.frame_section().unwrap().unwrap();
        let section = Section::new(frames.data, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(frames.address);
        Self { elf, section, bases }
    }

    /// All functions, ascending.
    fn functions(&self) -> Vec<Fde<'d>> {
        let mut functions: Vec<_> = self
            .section
            .entries(&self.bases)
            .filter_map(|entry| match entry.unwrap() {
                CieOrFde::Cie(_) => None,
                CieOrFde::Fde(entry) => Some(entry.parse(Section::cie_from_offset).unwrap()),
            })
            .filter(|fde| fde.len() > 0 && self.elf.file_offset(fde.initial_address()).is_some())
            .collect();
        functions.sort_by_key(Fde::initial_address);
        functions
    }

    /// The return addresses, less one, of all calls in some code, by linear disassembly.
    fn calls(&self, start: u64, end: u64) -> Vec<u64> {
        let Ok(code) = self.elf.code(start, end - start) else { return Vec::new() };
        let decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        let calls = decoder.into_iter().filter(|instruction| {
            matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
                && instruction.code() != iced_x86::Code::Syscall
        });
        calls.map(|instruction| instruction.next_ip() - 1).filter(|pc| *pc < end).collect()
    }

    fn compare(&self, lookup: impl Fn(u64) -> Rule) -> Compared {
        let mut compared = Compared::default();
        let mut context = UnwindContext::new();
        let mut covered = self.elf.code_segments().map(|code| code.address).min().unwrap();
        for fde in self.functions() {
            for pc in self.calls(covered, fde.initial_address().max(covered)) {
                assert_eq!(by_rule(lookup(pc), pc), Step::Unknown, "between functions, {pc:#x}");
                compared.undescribed += 1;
            }
            self.compare_function(&fde, &mut context, &lookup, &mut compared);
            covered = covered.max(fde.end_address());
        }
        compared
    }

    fn compare_function(
        &self,
        fde: &Fde<'d>,
        context: &mut UnwindContext<usize>,
        lookup: impl Fn(u64) -> Rule,
        compared: &mut Compared,
    ) {
        let calls = self.calls(fde.initial_address(), fde.end_address());
        let mut table = fde.rows(&self.section, &self.bases, context).unwrap();
        while let Some(row) = table.next_row().unwrap() {
            for &pc in calls.iter().filter(|pc| row.contains(**pc)) {
                let found = by_rule(lookup(pc), pc);
                if found == Step::Unknown && !is_plain(row) {
                    compared.unsupported += 1;
                    continue;
                }
                let wanted = match fde.is_signal_trampoline() {
                    true => Step::Signal,
                    false => by_dwarf(row, &self.section, pc),
                };
                assert_eq!(found, wanted, "{pc:#x}: {row:?}");
                compared.equal += 1;
            }
        }
    }
}

#[test]
fn every_call_of_this_process_is_unwound_as_gimli_unwinds_it() {
    let objects = own_objects();
    let mut tables = Tables::new(Limits::DEFAULT);
    let mut refs = HashMap::new();
    for (number, (mapping, file)) in objects.iter().enumerate() {
        let rows = compile(file).unwrap();
        let object = tables.add_object(key(number as u8), &rows).unwrap();
        refs.insert(mapping.name.clone(), object.clone());
    }
    let maps: Vec<_> = objects.iter().map(|(mapping, _)| mapping.clone()).collect();
    let (code, left_out) = code_mappings(&maps, |mapping| refs.get(&mapping.name));
    assert_eq!((left_out, code.count as usize), (0, objects.len()));
    for (mapping, file) in &objects {
        // All of them are position-independent and begin at address 0.
        let bias = load_address(&mapping.name);
        let compared = Object::new(file).compare(|pc| find_rule(&tables, &code, pc + bias));
        eprintln!("{}: {compared:?}", mapping.name);
        assert!(compared.equal > 0 || mapping.name == "[vdso]");
        assert!(compared.unsupported * 50 <= compared.equal, "{}", mapping.name);
    }
}

/// Where the first page of an object of this process is.
fn load_address(name: &str) -> u64 {
    let maps = crate::sys::procfs::ProcFs::new("/proc").maps(std::process::id()).unwrap();
    let first = maps.iter().find(|mapping| mapping.name == name).unwrap();
    assert_eq!(first.file_offset, 0);
    first.start
}

#[test]
fn every_call_of_installed_objects_is_unwound_as_gimli_unwinds_it() {
    for path in OTHERS.iter().filter(|path| Path::new(path).exists()) {
        let file = fs::read(path).unwrap();
        let rows = compile(&file).unwrap();
        let (tables, object) = tables_of(&rows);
        let compared = Object::new(&file).compare(|pc| tables.lookup(&object, pc));
        eprintln!("{path}: {compared:?}, {:?}", rows.stats);
        assert!(compared.equal > 0, "{path}");
        assert!(compared.unsupported * 50 <= compared.equal, "{path}");
    }
}
