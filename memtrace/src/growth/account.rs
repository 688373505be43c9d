//! The address space that a process has by all that was seen of it, to be set against what the kernel
//! says: what differs was changed by calls that nobody saw.

use std::{collections::HashSet, ops::RangeInclusive};

use super::{
    Unseen,
    ranges::{Range, Ranges},
};
use crate::model::{
    event::{Action, Event},
    mapping::{FileId, Mapping, Permissions},
};

/// Mappings that come and grow by no system call: these are not counted.
const UNASKED: [&str; 3] = ["[stack]", "[vsyscall]", "[uprobes]"];

/// What the kernel maps into each new program has a name that begins so.
const OF_THE_KERNEL: &str = "[v";

/// See the module.
#[derive(Debug)]
pub(super) struct Account {
    page_bytes: u64,
    known: Known,
    mapped: Ranges,
    bytes: u64,
    program_break: Option<u64>,
    /// The least and the most that it was since it was last asked for that.
    bounds: RangeInclusive<u64>,
    /// Where something was seen since that is of interest.
    changed: Option<Ranges>,
}

/// How much is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// All.
    All,
    /// What a program did since it was executed, as far as that was seen; not what it came with.
    SinceExec,
    /// Nothing.
    Nothing,
}

/// What is not as it should be by what was seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// Mapped, by nobody.
    pub(super) unseen: Vec<(Range, Permissions)>,
    /// Not mapped any more.
    pub(super) gone: Vec<Range>,
}

impl Differences {
    /// How much it is.
    pub(super) fn sum(&self) -> Unseen {
        let obtained = self.unseen.iter().map(|(range, _)| *range).collect::<Vec<_>>();
        Unseen { obtained_bytes: bytes(&obtained), given_back_bytes: bytes(&self.gone) }
    }
}

impl Account {
    /// Of a process with these mappings.
    pub(super) fn of(page_bytes: u64, mappings: &[Mapping]) -> Self {
        let mut account = Self {
            page_bytes,
            known: Known::All,
            mapped: Ranges::default(),
            bytes: 0,
            program_break: None,
            bounds: 0..=0,
            changed: None,
        };
        account.learn(mappings);
        account
    }

    /// What is so from now on, whatever was seen.
    pub(super) fn learn(&mut self, mappings: &[Mapping]) {
        (self.mapped, self.bytes, self.known) = (Ranges::default(), 0, Known::All);
        counted(mappings).for_each(|mapping| self.add(range_of(mapping)));
        self.program_break =
            mappings.iter().find(|mapping| mapping.name == "[heap]").map(|mapping| mapping.end);
        self.bounds = self.bytes..=self.bytes;
        self.changed = None;
    }

    /// Whether all is known, so that [`Self::deviation`] can be told.
    pub(super) fn is_known(&self) -> bool {
        self.known == Known::All
    }

    /// Whether [`Self::differences`] can be told.
    pub(super) fn has_differences(&self) -> bool {
        self.known != Known::Nothing
    }

    /// Another program has nothing yet but what it came with.
    fn begin_program(&mut self) {
        (self.mapped, self.bytes, self.known) = (Ranges::default(), 0, Known::SinceExec);
        (self.program_break, self.changed) = (None, None);
    }

    /// Takes account of what was seen.
    pub(super) fn see(&mut self, event: &Event) {
        match event.action {
            Action::Map { address, length_bytes, .. } => self.map(address, length_bytes),
            Action::UnmapEnd { address, length_bytes, failed: false } => {
                self.unmap(address, length_bytes);
            }
            Action::RemapEnd {
                old_address,
                old_length_bytes,
                new_address,
                new_length_bytes,
                ..
            } if new_address != 0 => {
                self.unmap(old_address, old_length_bytes);
                self.map(new_address, new_length_bytes);
            }
            Action::Break { new_break, .. } => self.move_break(new_break),
            Action::Exec => self.begin_program(),
            _ => return,
        }
        let (low, high) = self.bounds.clone().into_inner();
        self.bounds = low.min(self.bytes)..=high.max(self.bytes);
    }

    /// By how much the kernel's word is more, or less, than all that it can have been since this was
    /// last asked; `None` when that is not known.
    pub(super) fn deviation(&mut self, kernel_bytes: Option<u64>) -> Option<i64> {
        let bounds = std::mem::replace(&mut self.bounds, self.bytes..=self.bytes);
        let nearest = kernel_bytes?.clamp(*bounds.start(), *bounds.end());
        self.is_known().then_some(kernel_bytes? as i64 - nearest as i64)
    }

    /// What changes from here on is no difference: mappings may be read before it or after.
    pub(super) fn note_changes(&mut self) {
        self.changed = Some(Ranges::default());
    }

    /// What is not as it was seen, by these mappings. None where they may be of another program: one was
    /// executed since [`Self::note_changes`].
    pub(super) fn differences(&mut self, mappings: &[Mapping]) -> Differences {
        let Some(mut changed) = self.changed.take().filter(|_| self.has_differences()) else {
            return Differences::default();
        };
        if self.known == Known::SinceExec {
            come_with_program(mappings).for_each(|mapping| changed.add(range_of(mapping)));
        }
        let mut there = Ranges::default();
        let mut differences = Differences::default();
        for mapping in counted(mappings) {
            let range = range_of(mapping);
            there.add(range);
            let unseen = self.mapped.without(range).into_iter();
            let unseen = unseen.flat_map(|part| changed.without(part));
            differences.unseen.extend(unseen.map(|part| (part, mapping.permissions)));
        }
        let all = self.mapped.within(Range { start: 0, end: u64::MAX });
        let gone = all.into_iter().flat_map(|range| there.without(range));
        differences.gone = gone.flat_map(|part| changed.without(part)).collect();
        differences
    }

    fn map(&mut self, address: u64, length_bytes: u64) {
        if let Some(range) = self.range(address, length_bytes) {
            self.add(range);
            self.change(range);
        }
    }

    fn unmap(&mut self, address: u64, length_bytes: u64) {
        if let Some(range) = self.range(address, length_bytes) {
            self.remove(range);
            self.change(range);
        }
    }

    /// From nobody knows where it may have moved over anything.
    fn move_break(&mut self, new_break: u64) {
        let Some(new) = new_break.checked_next_multiple_of(self.page_bytes) else { return };
        match self.program_break.replace(new) {
            Some(old) if old < new => self.map(old, new - old),
            Some(old) if old > new => self.unmap(new, old - new),
            Some(_) => {}
            // A new program's heap is as large as it was seen to grow, until its mappings are read.
            None if self.known == Known::SinceExec => {}
            None => self.known = Known::Nothing,
        }
    }

    fn change(&mut self, range: Range) {
        if let Some(changed) = &mut self.changed {
            changed.add(range);
        }
    }

    fn add(&mut self, range: Range) {
        self.bytes += bytes(&self.mapped.without(range));
        self.mapped.add(range);
    }

    fn remove(&mut self, range: Range) {
        self.bytes -= bytes(&self.mapped.within(range));
        self.mapped.remove(range);
    }

    fn range(&self, address: u64, length_bytes: u64) -> Option<Range> {
        super::pages_of(address, length_bytes, self.page_bytes)
    }
}

fn counted(mappings: &[Mapping]) -> impl Iterator<Item = &Mapping> {
    mappings.iter().filter(|mapping| !UNASKED.contains(&mapping.name.as_str()))
}

/// What the kernel maps when a program is executed: its file and that of its dynamic linker, with the
/// memory behind each that is zero to begin with. Those of libraries look alike.
fn come_with_program(mappings: &[Mapping]) -> impl Iterator<Item = &Mapping> {
    let code = mappings.iter().filter(|mapping| mapping.permissions.execute);
    let files: HashSet<FileId> = code.filter_map(|mapping| mapping.file).collect();
    let mut file_end = None;
    mappings.iter().filter(move |mapping| {
        let is_of_file = mapping.file.is_some_and(|file| files.contains(&file));
        let is_behind = mapping.name.is_empty() && file_end == Some(mapping.start);
        file_end = is_of_file.then_some(mapping.end);
        is_of_file || is_behind || mapping.name.starts_with(OF_THE_KERNEL)
    })
}

fn range_of(mapping: &Mapping) -> Range {
    Range { start: mapping.start, end: mapping.end }
}

fn bytes(ranges: &[Range]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AllocFn, stack::StackId};

    const PAGE: u64 = 4096;
    const MIB: u64 = 1 << 20;

    fn mapping(start: u64, bytes: u64, name: &str) -> Mapping {
        Mapping {
            start,
            end: start + bytes,
            file_offset: 0,
            file: None,
            name: name.to_owned(),
            deleted: false,
            permissions: Permissions::default(),
        }
    }

    /// Has 2 MiB of a heap and 1 MiB elsewhere.
    fn mappings() -> Vec<Mapping> {
        vec![
            mapping(MIB, 2 * MIB, "[heap]"),
            mapping(16 * MIB, MIB, ""),
            mapping(1 << 40, MIB, "[stack]"),
        ]
    }

    fn account() -> Account {
        Account::of(PAGE, &mappings())
    }

    fn see(account: &mut Account, action: Action) {
        account.see(&Event::of(AllocFn::Mmap, 1, 1, action));
    }

    fn map(address: u64, length_bytes: u64) -> Action {
        Action::Map { address, length_bytes, prot: 3, map_flags: 0, stack: StackId::NONE }
    }

    fn unmap(address: u64, length_bytes: u64) -> Action {
        Action::UnmapEnd { address, length_bytes, failed: false }
    }

    fn brk(new_break: u64) -> Action {
        Action::Break { old_break: 0, new_break, stack: StackId::NONE }
    }

    #[test]
    fn what_was_seen_is_what_the_kernel_says() {
        let mut account = account();
        assert_eq!(account.deviation(Some(3 * MIB)), Some(0));
        see(&mut account, map(32 * MIB, 4 * MIB - 1));
        // Once more, in its place.
        see(&mut account, map(33 * MIB, MIB));
        see(&mut account, brk(6 * MIB - 5));
        see(&mut account, unmap(16 * MIB, 100 * PAGE));
        see(&mut account, brk(5 * MIB));
        account.deviation(None);
        assert_eq!(account.deviation(Some(3 * MIB + 4 * MIB + 2 * MIB - 100 * PAGE)), Some(0));
        let moved = Action::RemapEnd {
            old_address: 32 * MIB,
            old_length_bytes: 4 * MIB,
            new_address: 64 * MIB,
            new_length_bytes: 8 * MIB,
            stack: StackId::NONE,
        };
        see(&mut account, moved);
        account.deviation(None);
        assert_eq!(account.deviation(Some(13 * MIB - 100 * PAGE)), Some(0));
    }

    #[test]
    fn any_value_that_it_had_meanwhile_may_be_what_the_kernel_said() {
        let mut account = account();
        see(&mut account, map(32 * MIB, 64 * MIB));
        see(&mut account, unmap(32 * MIB, 64 * MIB));
        assert_eq!(account.deviation(Some(40 * MIB)), Some(0));
        assert_eq!(account.deviation(Some(40 * MIB)), Some(37 * MIB as i64));
        assert_eq!(account.deviation(Some(MIB)), Some(-2 * MIB as i64));
    }

    fn of_file(start: u64, bytes: u64, inode: u64, execute: bool) -> Mapping {
        Mapping {
            file: Some(FileId { device: (8, 1), inode }),
            permissions: Permissions { execute, ..Permissions::default() },
            ..mapping(start, bytes, "/program")
        }
    }

    #[test]
    fn of_a_new_program_all_is_unseen_that_was_not_seen_and_did_not_come_with_it() {
        let mut account = account();
        see(&mut account, Action::Exec);
        assert_eq!(account.deviation(Some(100 * MIB)), None);
        see(&mut account, map(64 * MIB, MIB));
        // Where the heap ends, of which nobody has seen how it got there; and what it grows by then.
        see(&mut account, brk(13 * MIB));
        see(&mut account, brk(14 * MIB));
        account.note_changes();
        let now = [
            of_file(MIB, MIB, 1, true),
            of_file(2 * MIB, MIB, 1, false),
            mapping(3 * MIB, 4 * MIB, ""),
            mapping(12 * MIB, 2 * MIB, "[heap]"),
            mapping(20 * MIB, MIB, "[anon: named]"),
            of_file(32 * MIB, MIB, 2, false),
            mapping(33 * MIB, MIB, ""),
            mapping(64 * MIB, MIB, ""),
            mapping(1 << 40, MIB, "[stack]"),
            mapping(1 << 41, MIB, "[vvar]"),
        ];
        let found = account.differences(&now);
        let unseen = [(12, 13), (20, 21), (32, 33), (33, 34)]
            .map(|(start, end)| Range { start: start * MIB, end: end * MIB });
        assert_eq!(found.unseen.iter().map(|(range, _)| *range).collect::<Vec<_>>(), unseen);
        assert_eq!(found.gone, []);
    }

    #[test]
    fn mappings_that_may_be_of_the_program_before_tell_nothing_of_the_new_one() {
        let mut account = account();
        account.note_changes();
        see(&mut account, Action::Exec);
        assert_eq!(account.differences(&mappings()), Differences::default());
    }

    #[test]
    fn nothing_is_known_after_a_break_from_nowhere() {
        let mut account = account();
        account.learn(&[mapping(16 * MIB, MIB, "")]);
        assert_eq!(account.deviation(Some(MIB)), Some(0));
        see(&mut account, brk(5 * MIB));
        assert_eq!(account.deviation(Some(MIB)), None);
    }

    #[test]
    fn differences_are_what_nobody_has_seen() {
        let mut account = account();
        account.note_changes();
        see(&mut account, map(64 * MIB, MIB));
        see(&mut account, unmap(16 * MIB, PAGE));
        let mut now = mappings();
        // The heap is half gone, something has come, and what was seen is not there yet.
        now[0].end = 2 * MIB;
        now.push(mapping(128 * MIB, 3 * MIB, ""));
        let found = account.differences(&now);
        let unseen = Range { start: 128 * MIB, end: 131 * MIB };
        assert_eq!(found.unseen, [(unseen, Permissions::default())]);
        assert_eq!(found.gone, [Range { start: 2 * MIB, end: 3 * MIB }]);
    }
}
