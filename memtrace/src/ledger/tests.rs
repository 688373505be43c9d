mod bursts;
mod estimates;
mod heap;
mod mappings;
mod oracle;
mod process;
mod program;
mod unwatched;

use super::*;
use crate::model::AllocFn;
use crate::model::stack::StackId;

const LIMITS: Limits = Limits { live_blocks: 100, live_ranges: 100, sites: 100 };
const START: Start = Start { time_ns: 0, initial_break: None, page_bytes: 4096 };
const PAGE: u64 = 4096;
/// Where mappings of the tests are.
const BASE: u64 = 0x7f00_0000_0000;
/// `MAP_PRIVATE | MAP_ANONYMOUS`.
const PRIVATE: u32 = 0x22;

/// A stack that stands for a call site.
const A: StackId = StackId(0xa);
/// Another one.
const B: StackId = StackId(0xb);

/// A ledger under test and a clock: every event is one nanosecond after the one before.
struct Trace {
    ledger: Ledger,
    now_ns: u64,
}

impl Trace {
    fn new() -> Self {
        Self::with(LIMITS, START)
    }

    fn with(limits: Limits, start: Start) -> Self {
        Self { ledger: Ledger::new(limits, start), now_ns: start.time_ns }
    }

    fn apply(&mut self, event: Event) -> &mut Self {
        self.ledger.apply(&event);
        assert_balanced(&self.ledger);
        self
    }

    fn by(&mut self, tid: u32, function: AllocFn, action: Action) -> &mut Self {
        self.now_ns += 1;
        let time_ns = self.now_ns;
        self.apply(Event::of(function, tid, time_ns, action))
    }

    fn by_allocator(&mut self, function: AllocFn, action: Action) -> &mut Self {
        self.now_ns += 1;
        let time_ns = self.now_ns;
        self.apply(Event { internal: true, ..Event::of(function, 1, time_ns, action) })
    }

    fn alloc(&mut self, address: u64, size_bytes: u64, stack: StackId) -> &mut Self {
        self.by(1, AllocFn::Malloc, Action::Alloc { address, size_bytes, stack })
    }

    fn free(&mut self, address: u64) -> &mut Self {
        self.by(1, AllocFn::Free, Action::Free { address })
    }

    fn losses(&self) -> Vec<(Loss, u64)> {
        self.ledger.losses().collect()
    }

    fn totals(&self) -> LedgerTotals {
        self.ledger.totals()
    }

    /// The books of a site that was seen.
    fn site(&self, stack: StackId, function: AllocFn) -> Account {
        let wanted = Some(Site { stack, function, object: Default::default() });
        let mut sites = self.ledger.sites();
        sites.find(|(_, entry)| entry.site == wanted).expect("the site allocated").1.account.clone()
    }
}

fn amount(bytes: u64, count: u64) -> Amount {
    Amount::new(bytes, count)
}

const NOTHING: Amount = Amount::new(0, 0);

fn sum(amounts: impl IntoIterator<Item = Amount>) -> Amount {
    amounts.into_iter().fold(NOTHING, |mut sum, amount| {
        sum += amount;
        sum
    })
}

/// allocated = live + freed + discarded, by site and in total; sites add up to the totals, and
/// what is live to the survivors of any age.
fn assert_balanced(ledger: &Ledger) {
    let accounts: Vec<_> = ledger.sites().map(|(_, entry)| entry.account.clone()).collect();
    let families = [
        ledger.heap.account().clone(),
        ledger.mappings.mapped().program_account().clone(),
        ledger.mappings.mapped().allocator_account().clone(),
    ];
    for account in accounts.iter().chain(&families) {
        let stats = account.stats();
        assert_eq!(stats.allocated, sum([stats.live, stats.freed, account.discarded()]));
        assert!(stats.peak.bytes >= stats.live.bytes && stats.peak.count >= stats.live.count);
    }
    let [heap, program, _] = families;
    let by_site = |of: fn(&Account) -> Amount| sum(accounts.iter().map(of));
    let by_family = |of: fn(&Account) -> Amount| sum([of(&heap), of(&program)]);
    for of in [
        (|account: &Account| account.stats().live) as fn(&Account) -> Amount,
        |account| account.stats().allocated,
        |account| account.stats().freed,
        |account| account.discarded(),
    ] {
        assert_eq!(by_site(of), by_family(of));
    }
    let survivors = ledger.survivors(u64::MAX, 0);
    let live = by_site(|account| account.stats().live);
    assert_eq!(sum(survivors.iter().map(|(_, of_site)| of_site.amount)), live);
}
