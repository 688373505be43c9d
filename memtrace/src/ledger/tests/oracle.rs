//! The ledger against a model that keeps every byte of the address space and every block in the
//! plainest way, on random events: lost halves, addresses handed out twice, interleaved threads.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*};

use super::*;

/// Small pages and a small address space, so that every byte can have a cell.
const PAGE: u64 = 8;
const SPACE: u64 = 12 * PAGE;
const TINY: Start = Start { time_ns: 0, initial_break: Some(20), page_bytes: PAGE };
const FIXED: u32 = 0x10;

/// A byte that is mapped.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    /// Which mapping.
    mapping: usize,
    /// It was asked for, and not added by rounding.
    asked: bool,
}

type Cells = Vec<(usize, Cell)>;

/// Who owns a mapping; `None` for the allocator.
type Owner = Option<Site>;

#[derive(Default)]
struct Oracle {
    blocks: HashMap<u64, (u64, Site)>,
    reallocs: HashMap<u32, (u64, Option<(u64, Site)>)>,
    cells: Vec<Option<Cell>>,
    owners: Vec<(Owner, bool)>,
    releases: HashMap<u32, ((u64, u64), Cells, u64)>,
    program_break: Option<u64>,
    allocated: HashMap<Owner, Amount>,
    heap_allocated: Amount,
    discarded: HashMap<Owner, Amount>,
    unmatched_frees: u64,
    unmatched_bytes: u64,
    unpaired: u64,
    implied: u64,
}

impl Oracle {
    fn new() -> Self {
        let cells = vec![None; SPACE as usize * 4];
        Self { cells, program_break: TINY.initial_break, ..Self::default() }
    }

    fn apply(&mut self, event: &Event) {
        let tid = event.tid;
        let site = |stack| Site { stack, function: event.function, object: event.object };
        let owner = |stack| (!event.internal).then(|| site(stack));
        match event.action {
            Action::Alloc { address, size_bytes, stack } => {
                self.give_up_realloc(tid);
                self.add_block(address, size_bytes, site(stack));
            }
            Action::Free { address } => {
                self.give_up_realloc(tid);
                let known = self.blocks.remove(&address).is_some();
                self.unmatched_frees += u64::from(!known);
            }
            Action::ReallocBegin { old_address } => {
                self.give_up_realloc(tid);
                let old = self.blocks.remove(&old_address);
                self.reallocs.insert(tid, (old_address, old));
            }
            Action::ReallocEnd { old_address, new_address, size_bytes, stack } => {
                self.realloc(tid, old_address, new_address, size_bytes, site(stack));
            }
            Action::Map { address, length_bytes, map_flags, stack, .. } => {
                self.give_up_release(tid);
                self.map(address, length_bytes, map_flags & FIXED != 0, owner(stack));
            }
            Action::UnmapBegin { address, length_bytes }
            | Action::RemapBegin { old_address: address, old_length_bytes: length_bytes } => {
                self.give_up_release(tid);
                let (cells, unknown) = self.take(pages(address, length_bytes));
                self.releases.insert(tid, ((address, length_bytes), cells, unknown));
            }
            Action::UnmapEnd { address, length_bytes, failed } => {
                let (cells, unknown) = self.end_release(tid, address, length_bytes);
                self.finish_release(cells, unknown, failed);
            }
            Action::RemapEnd {
                old_address,
                old_length_bytes,
                new_address,
                new_length_bytes,
                stack,
            } => {
                let (cells, unknown) = self.end_release(tid, old_address, old_length_bytes);
                let is_internal = |cell: &Cell| self.owners[cell.mapping].0.is_none();
                let inherits = !cells.is_empty() && cells.iter().all(|(_, cell)| is_internal(cell));
                self.finish_release(cells, unknown, new_address == 0);
                if new_address != 0 {
                    let owner = owner(stack).filter(|_| !inherits);
                    self.map(new_address, new_length_bytes, true, owner);
                }
            }
            Action::Break { old_break, new_break, stack } => {
                self.give_up_release(tid);
                self.move_break(old_break, new_break, owner(stack));
            }
            Action::Exec => self.exec(),
            Action::ThreadExit => {
                self.give_up_realloc(tid);
                self.give_up_release(tid);
            }
            Action::Stack { .. }
            | Action::Fork
            | Action::Child { .. }
            | Action::CodeChange
            | Action::Protect { .. }
            | Action::Discard { .. } => {}
        }
    }

    fn give_up_realloc(&mut self, tid: u32) {
        self.unpaired += u64::from(self.reallocs.remove(&tid).is_some());
    }

    fn add_block(&mut self, address: u64, size_bytes: u64, site: Site) {
        self.implied += u64::from(self.blocks.insert(address, (size_bytes, site)).is_some());
        *self.allocated.entry(Some(site)).or_default() += Amount::one(size_bytes);
        self.heap_allocated += Amount::one(size_bytes);
    }

    fn realloc(&mut self, tid: u32, old_address: u64, new_address: u64, size: u64, site: Site) {
        let old = match self.reallocs.remove(&tid) {
            Some((address, old)) if address == old_address => old,
            other => {
                self.unpaired += u64::from(other.is_some()) + u64::from(old_address != 0);
                self.blocks.remove(&old_address)
            }
        };
        if new_address == 0 && size > 0 {
            if let Some(old) = old {
                let taken = self.blocks.contains_key(&old_address);
                self.implied += u64::from(taken);
                self.blocks.entry(old_address).or_insert(old);
            }
            return;
        }
        self.unmatched_frees += u64::from(old_address != 0 && old.is_none());
        if new_address != 0 {
            self.add_block(new_address, size, site);
        }
    }

    fn take(&mut self, range: std::ops::Range<u64>) -> (Cells, u64) {
        let length = range.end - range.start;
        let cells: Cells =
            range.filter_map(|at| Some((at as usize, self.cells[at as usize].take()?))).collect();
        let unknown = length - cells.len() as u64;
        (cells, unknown)
    }

    fn give_up_release(&mut self, tid: u32) {
        if let Some((_, _, unknown)) = self.releases.remove(&tid) {
            self.unpaired += 1;
            self.unmatched_bytes += unknown;
        }
    }

    fn end_release(&mut self, tid: u32, address: u64, length: u64) -> (Cells, u64) {
        match self.releases.remove(&tid) {
            Some((range, cells, unknown)) if range == (address, length) => (cells, unknown),
            other => {
                self.unpaired += u64::from(other.is_some()) + u64::from(length != 0);
                self.unmatched_bytes += other.map_or(0, |(_, _, unknown)| unknown);
                self.take(pages(address, length))
            }
        }
    }

    fn finish_release(&mut self, cells: Cells, unknown: u64, failed: bool) {
        if !failed {
            self.unmatched_bytes += unknown;
            return;
        }
        for (at, cell) in cells {
            self.cells[at].get_or_insert(cell);
        }
    }

    fn map(&mut self, address: u64, length: u64, may_replace: bool, owner: Owner) {
        let (covered, _) = self.take(pages(address, length));
        self.implied += u64::from(!may_replace && !covered.is_empty());
        self.fill(pages(address, length), length, owner, false);
    }

    fn fill(&mut self, range: std::ops::Range<u64>, length: u64, owner: Owner, is_break: bool) {
        let mapping = self.owners.len();
        self.owners.push((owner, is_break));
        for at in range.clone() {
            self.cells[at as usize] = Some(Cell { mapping, asked: at - range.start < length });
        }
        *self.allocated.entry(owner).or_default() += Amount::one(length);
    }

    fn move_break(&mut self, old_break: u64, new_break: u64, owner: Owner) {
        let known = self.program_break.replace(new_break);
        let Some(old_break) = Some(old_break).filter(|old| *old != 0).or(known) else { return };
        if new_break < old_break {
            self.unmatched_bytes += self.take(new_break..old_break).1;
        } else if new_break > old_break {
            let grown = old_break..new_break;
            let (covered, _) = self.take(grown.clone());
            self.implied += u64::from(!covered.is_empty());
            match self.cells[old_break as usize - 1] {
                Some(below) if owner.is_none() && self.owners[below.mapping] == (None, true) => {
                    let bytes = new_break - old_break;
                    *self.allocated.entry(None).or_default() += amount(bytes, 0);
                    grown.for_each(|at| self.cells[at as usize] = Some(below));
                }
                _ => self.fill(grown, new_break - old_break, owner, true),
            }
        }
    }

    fn exec(&mut self) {
        for (owner, live) in self.live() {
            *self.discarded.entry(owner).or_default() += live;
        }
        let Self { blocks, reallocs, cells, releases, .. } = self;
        blocks.clear();
        reallocs.clear();
        releases.clear();
        cells.fill(None);
        self.program_break = None;
    }

    /// Counted anew from what is there, every time.
    fn live(&self) -> HashMap<Owner, Amount> {
        let mut live: HashMap<Owner, Amount> = HashMap::new();
        let open_blocks = self.reallocs.values().filter_map(|(_, old)| old.as_ref());
        for (size, site) in self.blocks.values().chain(open_blocks) {
            *live.entry(Some(*site)).or_default() += Amount::one(*size);
        }
        let open_cells = self.releases.values().flat_map(|(_, cells, _)| cells);
        let open_cells = open_cells.map(|(_, cell)| cell);
        let mut seen = vec![false; self.owners.len()];
        for cell in self.cells.iter().flatten().chain(open_cells) {
            let is_first = !std::mem::replace(&mut seen[cell.mapping], true);
            let part = amount(u64::from(cell.asked), u64::from(is_first));
            *live.entry(self.owners[cell.mapping].0).or_default() += part;
        }
        live
    }
}

fn pages(address: u64, length: u64) -> std::ops::Range<u64> {
    if length == 0 {
        return 0..0;
    }
    address / PAGE * PAGE..(address + length).div_ceil(PAGE) * PAGE
}

fn assert_agree(ledger: &Ledger, oracle: &Oracle) {
    let of =
        |amounts: &HashMap<Owner, Amount>, owner| amounts.get(&owner).copied().unwrap_or_default();
    let live = oracle.live();
    let mut sites_seen = 0;
    for (_, entry) in ledger.sites() {
        sites_seen += 1;
        assert_eq!(entry.account.stats().allocated, of(&oracle.allocated, entry.site));
        assert_eq!(entry.account.stats().live, of(&live, entry.site), "{:?}", entry.site);
        assert_eq!(entry.account.discarded(), of(&oracle.discarded, entry.site));
    }
    assert_eq!(sites_seen, oracle.allocated.keys().flatten().count());
    let allocator = ledger.mappings.mapped().allocator_account();
    assert_eq!(allocator.stats().allocated, of(&oracle.allocated, None));
    assert_eq!(allocator.stats().live, of(&live, None));
    assert_eq!(allocator.discarded(), of(&oracle.discarded, None));
    let totals = ledger.totals();
    assert_eq!(totals.heap.allocated, oracle.heap_allocated);
    assert_eq!(totals.unmatched_frees, oracle.unmatched_frees);
    assert_eq!(totals.unmatched_unmapped_bytes, oracle.unmatched_bytes);
    assert_eq!(totals.open_calls as usize, oracle.reallocs.len() + oracle.releases.len());
    let losses: HashMap<_, _> = ledger.losses().collect();
    let count = |loss| losses.get(&loss).copied().unwrap_or_default();
    assert_eq!(count(Loss::Unpaired), oracle.unpaired);
    assert_eq!(count(Loss::ImpliedFree), oracle.implied);
}

fn any_stack() -> impl Strategy<Value = StackId> {
    (1..4_u64).prop_map(StackId)
}

fn heap_action() -> impl Strategy<Value = Action> {
    let address = 1..7_u64;
    let size = prop_oneof![Just(0), 1..100_u64];
    prop_oneof![
        (address.clone(), size.clone(), any_stack()).prop_map(|(address, size_bytes, stack)| {
            Action::Alloc { address, size_bytes, stack }
        }),
        address.clone().prop_map(|address| Action::Free { address }),
        address.clone().prop_map(|old_address| Action::ReallocBegin { old_address }),
        (0..7_u64, 0..7_u64, size, any_stack()).prop_map(
            |(old_address, new_address, size_bytes, stack)| Action::ReallocEnd {
                old_address,
                new_address,
                size_bytes,
                stack
            }
        ),
    ]
}

/// Few enough that an end often finds its begin.
fn any_range() -> impl Strategy<Value = (u64, u64)> {
    let length = prop_oneof![1..4 * PAGE, (1..5_u64).prop_map(|pages| pages * PAGE)];
    (1..SPACE / PAGE, length).prop_map(|(page, length)| (page * PAGE, length))
}

/// As passed to munmap and mremap, which may be nothing.
fn any_old_range() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![9 => any_range(), 1 => Just((PAGE, 0))]
}

fn mapping_action() -> impl Strategy<Value = Action> {
    let flags = prop_oneof![Just(PRIVATE), Just(PRIVATE | FIXED)];
    let new = prop_oneof![3 => any_range(), 1 => Just((0, PAGE))];
    let edge = || 1..SPACE;
    prop_oneof![
        (any_range(), flags, any_stack()).prop_map(
            |((address, length_bytes), map_flags, stack)| Action::Map {
                address,
                length_bytes,
                prot: 0,
                map_flags,
                stack
            }
        ),
        (any_old_range(), any::<bool>()).prop_map(|((address, length_bytes), failed)| {
            Action::UnmapEnd { address, length_bytes, failed }
        }),
        (any_old_range(), new, any_stack()).prop_map(|(old, new, stack)| Action::RemapEnd {
            old_address: old.0,
            old_length_bytes: old.1,
            new_address: new.0,
            new_length_bytes: new.1,
            stack
        }),
        (prop_oneof![Just(0), edge()], edge(), any_stack()).prop_map(
            |(old_break, new_break, stack)| Action::Break { old_break, new_break, stack }
        ),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        40 => heap_action(),
        50 => mapping_action(),
        1 => Just(Action::Exec),
        2 => Just(Action::ThreadExit),
        1 => Just(Action::Fork),
    ]
}

/// What the kernel side would have reported when the call was entered.
fn begin_of(action: &Action) -> Option<Action> {
    match *action {
        Action::ReallocEnd { old_address, .. } if old_address != 0 => {
            Some(Action::ReallocBegin { old_address })
        }
        Action::UnmapEnd { address, length_bytes, .. } => {
            Some(Action::UnmapBegin { address, length_bytes })
        }
        Action::RemapEnd { old_address, old_length_bytes, .. } => {
            Some(Action::RemapBegin { old_address, old_length_bytes })
        }
        _ => None,
    }
}

/// Where the two halves of a call go.
#[derive(Clone, Copy, Debug)]
enum Halves {
    Both,
    OnlyBegin,
    OnlyEnd,
    /// The end comes this many events later, so that other threads get between.
    Late(usize),
}

fn any_halves() -> impl Strategy<Value = Halves> {
    prop_oneof![
        5 => Just(Halves::Both),
        1 => Just(Halves::OnlyBegin),
        1 => Just(Halves::OnlyEnd),
        8 => (1..6_usize).prop_map(Halves::Late),
    ]
}

prop_compose! {
    fn any_stream()(
        calls in vec((1..4_u32, any_action(), any_halves(), prop::bool::weighted(0.2)), 1..120),
    ) -> Vec<Event> {
        // Positions are spread out so that a late end finds a place between other events.
        let mut stream: Vec<(usize, u32, bool, Action)> = Vec::new();
        for (index, (tid, action, halves, internal)) in calls.into_iter().enumerate() {
            let begin = begin_of(&action).filter(|_| !matches!(halves, Halves::OnlyEnd));
            let is_open = begin.is_some();
            stream.extend(begin.map(|begin| (index * 2, tid, internal, begin)));
            match halves {
                Halves::OnlyBegin if is_open => {}
                Halves::Late(by) => stream.push(((index + by) * 2 + 1, tid, internal, action)),
                _ => stream.push((index * 2, tid, internal, action)),
            }
        }
        stream.sort_by_key(|(position, ..)| *position);
        (1..)
            .zip(stream)
            .map(|(time_ns, (_, tid, internal, action))| {
                let function = AllocFn::Realloc;
                Event { internal, ..Event::of(function, tid, time_ns, action) }
            })
            .collect()
    }
}

proptest! {
    #[test]
    fn the_ledger_agrees_with_a_model_of_every_byte(stream in any_stream()) {
        let mut ledger = Ledger::new(LIMITS, TINY);
        let mut oracle = Oracle::new();
        for event in &stream {
            ledger.apply(event);
            oracle.apply(event);
            assert_balanced(&ledger);
            assert_agree(&ledger, &oracle);
        }
    }

    #[test]
    fn with_tables_that_are_too_small_the_books_still_balance(stream in any_stream()) {
        let limits = Limits { live_blocks: 2, live_ranges: 2, sites: 2 };
        let mut ledger = Ledger::new(limits, TINY);
        for event in &stream {
            ledger.apply(event);
            assert_balanced(&ledger);
        }
    }
}
