//! Calls in flight: what a thread's entry probe remembers for its return probe.
//!
//! A thread has one [`InFlight`] in a map keyed by thread, never per-CPU scratch: uprobe programs
//! are preemptible. It has one slot for heap functions and one for mapping functions, because
//! `malloc` calls `mmap` and both must be seen; within a family only the outermost call counts
//! (`reallocarray` → `realloc`, `realloc(NULL)` → `malloc`, `sbrk` → `brk`).
//!
//! Calls are told apart by the stack pointer at entry. A pending outer call's return address has
//! been replaced by the kernel's return-probe trampoline, so a slot whose stack word is *not*
//! hijacked belongs to a call that will never return (a return probe that the kernel could not
//! place) and must not swallow later calls. Nor must one that was left by `longjmp`, whose stack
//! word can stay as it was: a call inside it must come from the allocator's own code.

use crate::{
    clock::Clock,
    function::{AllocFn, CallShape},
    loss::CALIBRATION_SLOT,
    opaque::Opaque,
    python::walk::PythonThread,
    sample::Interval,
    wire::{OBJECT_FLAGS_SHIFT, OBJECTS, ObjectNumber, RecordKind},
};

/// What a uprobe's attach cookie says: the function, where its arguments are, which armed site it is
/// and whose (several allocators may be in one process).
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteCookie(pub u64);

/// Where the number of the site begins, of [`SiteCookie::OBJECT_SHIFT`] less this many bits.
const SITE_SHIFT: u32 = 16;

/// Where the registers of the arguments begin.
const REGISTERS_SHIFT: u32 = 41;

impl SiteCookie {
    /// Where the number of the object begins.
    const OBJECT_SHIFT: u32 = 36;
    /// The most sites that are told apart.
    pub const MAX_SITES: u32 = 1 << (Self::OBJECT_SHIFT - SITE_SHIFT);

    /// Packs a function, the shape of the arguments at the site, a site number (below
    /// [`Self::MAX_SITES`]) and the number of the object it is in.
    pub fn new(function: AllocFn, shape: CallShape, site: u32, object: ObjectNumber) -> Self {
        let site = u64::from(site % Self::MAX_SITES) << SITE_SHIFT;
        let object = u64::from(object.0) << Self::OBJECT_SHIFT;
        Self(object | site | (shape as u64) << 8 | function as u64)
    }

    /// Where the arguments are that are not where the calling convention has them.
    pub fn with_arguments(self, arguments: ArgumentPlaces) -> Self {
        Self(self.0 | u64::from(arguments.0) << REGISTERS_SHIFT)
    }

    /// Says that the function calls no other traced one of its family.
    pub fn of_a_leaf(self) -> Self {
        Self(self.0 | LEAF)
    }

    /// Says that the calls are memtrace's own and of no function: they are counted apart.
    pub fn of_calibration(self) -> Self {
        Self(self.0 & !0xff | u64::from(CALIBRATION_SLOT))
    }

    /// Whether the function is CPython's own.
    #[inline(always)]
    pub fn is_of_python(self) -> bool {
        let function = self.function();
        function >= AllocFn::PyMemMalloc as u8 && function <= AllocFn::PyObjectFree as u8
    }

    /// Says that the site is armed for entries and returns at once.
    pub fn of_a_session(self) -> Self {
        Self(self.0 | SESSION)
    }

    /// Whether the site is armed for entries and returns at once.
    #[inline(always)]
    pub fn is_session(self) -> bool {
        self.0 & SESSION != 0
    }

    /// Whether the function calls no other traced one of its family.
    #[inline(always)]
    pub fn is_leaf(self) -> bool {
        self.0 & LEAF != 0
    }

    /// The function's discriminant, below [`AllocFn::COUNT`] for cookies made by [`Self::new`]; or
    /// [`CALIBRATION_SLOT`].
    pub fn function(self) -> u8 {
        self.0 as u8
    }

    /// The discriminant of the [`CallShape`].
    #[inline(always)]
    pub fn shape(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The object, as flags of a record.
    #[inline(always)]
    pub fn object_flags(self) -> u16 {
        ((self.0 >> Self::OBJECT_SHIFT) as u16 % OBJECTS) << OBJECT_FLAGS_SHIFT
    }

    /// Where the arguments are.
    #[inline(always)]
    pub fn arguments(self) -> ArgumentPlaces {
        ArgumentPlaces((self.0 >> REGISTERS_SHIFT) as u16 & ArgumentPlaces::MASK)
    }

    /// Whether the function's return address is left alone ([`CallShape::Throwing`]).
    #[inline(always)]
    pub fn is_throwing(self) -> bool {
        self.shape() == CallShape::Throwing as u8
    }
}

/// In which registers the first arguments are: 4 bits each, the number of the register in
/// instructions plus one (1 is `rax`, 8 is `rdi`), 0 where the calling convention has it.
/// (x86-64; `r15` cannot be said.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ArgumentPlaces(u16);

impl ArgumentPlaces {
    /// How many arguments can be elsewhere.
    pub const COUNT: usize = 3;
    const MASK: u16 = (1 << (4 * Self::COUNT)) - 1;
    /// All where the calling convention has them.
    pub const USUAL: Self = Self(0);

    /// With an argument in a register of this number in instructions (0 is `rax`); `None` when that
    /// cannot be said.
    pub fn with(self, argument: usize, register: u8) -> Option<Self> {
        let can_be_said = argument < Self::COUNT && register < 15;
        can_be_said.then(|| Self(self.0 | (u16::from(register) + 1) << (4 * argument)))
    }

    /// 0, or the register's number plus one.
    #[inline(always)]
    pub fn place(self, argument: usize) -> u16 {
        self.0 >> (4 * argument) & 0xf
    }
}

/// Bits of a cookie that say so; above all else.
const LEAF: u64 = 1 << 63;
const SESSION: u64 = 1 << 62;

/// A call at its entry, in the terms of [`Call`], before it is known whether it counts. In map
/// memory the verifier knows nothing of it, and follows what all shapes have in common once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    /// As [`Call::address`].
    pub address: Opaque<u64>,
    /// As [`Call::size_bytes`].
    pub size_bytes: Opaque<u64>,
    /// As [`Call::extra`].
    pub extra: Opaque<u64>,
    /// 1 when the function manages address ranges and not heap blocks.
    pub is_mapping: Opaque<u32>,
    /// The [`RecordKind`] that says what the call may release before it returns;
    /// [`NOTHING_BEGINS`] when it releases nothing.
    pub begin: Opaque<u32>,
    /// [`Verdict`]'s discriminant.
    pub verdict: Opaque<u32>,
    /// [`crate::config::Config::interval`] as it was when the call came. Read once: it changes while
    /// calls are decided on, and a block must not be told to be drawn from another than it was.
    pub interval: Opaque<u32>,
}

impl Arrival {
    /// How densely allocations were looked at when the call came.
    #[inline(always)]
    pub fn interval(&self) -> Interval {
        Interval::from_exponent(self.interval.get() as u8)
    }
}

/// What becomes of an outermost call.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is recorded.
    Recorded = 0,
    /// A `realloc` whose new block was not drawn, but whose old one is followed: it is recorded as
    /// the release that it is if it succeeds.
    ReleaseOnly = 1,
    /// It is only counted.
    PassedOver = 2,
    /// Another call that is only counted makes it.
    Nested = 3,
    /// It is only counted, and followed to its return because of the calls that it makes.
    Followed = 4,
}

/// What is in [`Call::flags`] for a [`Verdict::Followed`]; above those of the wire.
pub const NOT_RECORDED: u64 = 1 << 16;

/// What [`Call::extra`] is for a [`Verdict::ReleaseOnly`].
pub const RELEASE_ONLY: u64 = 1;

/// What [`Arrival::begin`] is for a call that releases nothing.
pub const NOTHING_BEGINS: u32 = RecordKind::COUNT as u32;

/// One call that was entered and has not returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Stack pointer at entry (the return address is there); 0 = no call.
    pub sp: u64,
    /// The return address as it was before the kernel replaced it; 0 when the trampoline is known,
    /// which says the same, unless the kernel does not replace it ([`CallShape::Throwing`]).
    pub return_address: u64,
    /// A [`SiteCookie`].
    pub cookie: u64,
    /// Old block, out pointer or start of the range, by shape.
    pub address: u64,
    /// Requested bytes, or the new length.
    pub size_bytes: u64,
    /// `mremap`: the old length. `mmap`: prot in the low, flags in the high half. `sbrk`: unused.
    pub extra: u64,
    /// Hash of the stack at entry, 0 when there is none.
    pub stack: u64,
    /// Wire flags for the record ([`crate::wire::FLAG_INTERNAL`]), or [`NOT_RECORDED`].
    pub flags: u64,
}

/// A thread's calls in flight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// malloc and kin.
    pub heap: Call,
    /// mmap and kin.
    pub mapping: Call,
    /// The last block that CPython's allocator was given back.
    pub handed_on: HandedOn,
    /// The last heap call that was passed over and may make others.
    pub passed_over: PassedOver,
    /// The call that is being entered.
    pub arrival: Arrival,
    /// What is known of the thread for walks of Python's frames.
    pub python: PythonThread,
    /// When the thread's last events of the heap were.
    pub clock: Clock,
}

/// A block that a free of CPython's allocator was called with. If it is one of `malloc`, that free
/// hands it on to `free`, and it must not be recorded as freed twice. A return probe would tell
/// the same for the price of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOn {
    /// Stack pointer at the entry of the outer free.
    pub sp: u64,
    /// The block; 0 = none.
    pub address: u64,
}

impl HandedOn {
    /// Whether a `free` of `address` entered at stack pointer `sp` is that of the outer free. A
    /// block is live until then, so that nobody else can free it in between; the memory of the
    /// outer free ends with the thread's next call that allocates.
    #[inline(always)]
    pub fn leads_to(&self, sp: u64, address: u64) -> bool {
        self.address != 0 && self.address == address && sp <= self.sp
    }
}

/// A heap call that was only counted: nothing tells when it returns. The calls that it makes must
/// not be counted, nor drawn, once more.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Stack pointer at entry; 0 = there is none.
    pub sp: u64,
    /// Its return address.
    pub return_address: u64,
    /// A [`SiteCookie`].
    pub cookie: u64,
}

impl PassedOver {
    /// Whether a call entered at `sp` may be inside it. If not, it has returned.
    #[inline(always)]
    pub fn may_contain(&self, sp: u64) -> bool {
        self.sp != 0 && sp <= self.sp
    }

    /// Whether it has jumped to another function, which was entered with `cookie` and returns to
    /// `return_address`. A function that has returned meanwhile and is called again from the same
    /// frame returns to the same place only when the same call instruction is executed, which
    /// leads to one function. `trampoline` as for [`Call::classify_entry`].
    #[inline(always)]
    pub fn has_jumped_to(
        &self,
        sp: u64,
        cookie: u64,
        return_address: u64,
        trampoline: u64,
    ) -> bool {
        sp == self.sp && cookie != self.cookie && self.returns_by(return_address, trampoline)
    }

    /// Its return address may have been replaced all the same: without sessions, and by those who
    /// trace other processes that have mapped the same file. As long as it is not known by what: by
    /// the start of a page, which no call returns to but by chance.
    #[inline(always)]
    fn returns_by(&self, word: u64, trampoline: u64) -> bool {
        const PAGE_MASK: u64 = 0xfff;
        word == self.return_address
            || word == trampoline
            || trampoline == 0 && word & PAGE_MASK == 0
    }
}

/// What an entry is with regard to the slot of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// No call is in flight: record this one.
    Outermost,
    /// The call in the slot will never return: record this one, count that one as abandoned.
    AfterAbandoned,
    /// Inside the call in the slot: do not record.
    Nested,
}

/// Bytes that `ret` (and nothing else) pops: a return probe sees `sp` at entry plus this.
const RETURN_POPS_BYTES: u64 = 8;

impl Call {
    /// Whether the slot is in use.
    pub fn is_active(&self) -> bool {
        self.sp != 0
    }

    /// Whether its outcome is told.
    #[inline(always)]
    pub fn is_recorded(&self) -> bool {
        self.flags & NOT_RECORDED == 0
    }

    /// Classifies an entry at stack pointer `sp`.
    ///
    /// `from_allocator` says whether the call may come from allocator code, or from a probed function
    /// that jumped to it: whose return address is that of the call in the slot, which it is given;
    /// `read_word` reads the target's stack; `trampoline` is the address that the kernel puts in place of return
    /// addresses in this process, 0 when not known yet.
    #[inline(always)]
    pub fn classify_entry(
        &self,
        sp: u64,
        trampoline: u64,
        from_allocator: impl FnOnce(u64) -> bool,
        read_word: impl Fn(u64) -> Option<u64>,
    ) -> Entry {
        if !self.is_active() {
            return Entry::Outermost;
        }
        if self.contains(sp, trampoline, from_allocator, read_word) {
            Entry::Nested
        } else {
            Entry::AfterAbandoned
        }
    }

    /// Whether a heap or mapping call at `sp` is inside this one; arguments as for
    /// [`Self::classify_entry`].
    #[inline(always)]
    pub fn contains(
        &self,
        sp: u64,
        trampoline: u64,
        from_allocator: impl FnOnce(u64) -> bool,
        read_word: impl Fn(u64) -> Option<u64>,
    ) -> bool {
        // The stack grows down: a frame above the slot's means that the slot's frame is gone. An
        // equal one is a tail call (`reallocarray` jumps to `realloc`), whose return address is the
        // trampoline and not in the allocator, or a dead frame.
        if !self.is_active() || sp > self.sp {
            return false;
        }
        let Some(word) = read_word(self.sp).filter(|word| self.is_pending(trampoline, *word))
        else {
            return false;
        };
        sp == self.sp || from_allocator(word)
    }

    /// Whether its return address is what it must be while the call goes on.
    #[inline(always)]
    fn is_pending(&self, trampoline: u64, word: u64) -> bool {
        if SiteCookie(self.cookie).is_throwing() {
            return word == self.return_address;
        }
        if trampoline == 0 { word != self.return_address } else { word == trampoline }
    }

    /// Whether a return of `cookie`'s function with stack pointer `sp` ends this call.
    #[inline(always)]
    pub fn is_ended_by(&self, sp: u64, cookie: u64) -> bool {
        self.is_active() && self.sp.wrapping_add(RETURN_POPS_BYTES) == sp && self.cookie == cookie
    }

    /// Whether an [`CallShape::Exit`] site that is hit with stack pointer `sp` ends this call. By
    /// the stack alone: functions that a throwing one jumps to return in its place.
    #[inline(always)]
    pub fn is_left_at(&self, sp: u64) -> bool {
        self.is_active() && self.sp == sp && SiteCookie(self.cookie).is_throwing()
    }
}

/// `count * size` as `calloc` sees it; `u64::MAX` on overflow, which makes the call fail.
///
/// By halves, because the compiler turns `checked_mul` into a 128-bit product, which BPF lacks.
#[inline(always)]
pub fn product(count: u64, size: u64) -> u64 {
    let (count_high, size_high) = (count >> 32, size >> 32);
    if count_high | size_high == 0 {
        return count * size;
    }
    if count_high != 0 && size_high != 0 {
        return u64::MAX;
    }
    let (count_low, size_low) = (count & 0xffff_ffff, size & 0xffff_ffff);
    // One of the two terms is zero.
    let cross = count_high * size_low + count_low * size_high;
    let low = count_low * size_low;
    let sum = (cross << 32).wrapping_add(low);
    if cross >> 32 != 0 || sum < low { u64::MAX } else { sum }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn products_equal_a_checked_multiplication(
            count in any::<u64>(), size in any::<u64>(), shift in 0u32..64, other in 0u32..64,
        ) {
            let (count, size) = (count >> shift, size >> other);
            prop_assert_eq!(product(count, size), count.saturating_mul(size));
        }
    }

    const TRAMPOLINE: u64 = 0x7fff_ffff_e000;
    const RETURN: u64 = 0x40_1234;

    fn pending(sp: u64) -> Call {
        Call { sp, return_address: RETURN, cookie: 2, ..Call::default() }
    }

    fn hijacked(_: u64) -> Option<u64> {
        Some(TRAMPOLINE)
    }

    fn intact(_: u64) -> Option<u64> {
        Some(RETURN)
    }

    #[test]
    fn an_empty_slot_makes_the_call_outermost() {
        assert_eq!(Call::default().classify_entry(0x100, 0, |_| true, hijacked), Entry::Outermost);
    }

    #[test]
    fn a_deeper_call_under_a_pending_one_is_nested() {
        assert_eq!(pending(0x1000).classify_entry(0xf00, 0, |_| true, hijacked), Entry::Nested);
        assert_eq!(
            pending(0x1000).classify_entry(0xf00, TRAMPOLINE, |_| true, hijacked),
            Entry::Nested
        );
    }

    #[test]
    fn a_tail_call_keeps_the_stack_pointer_and_is_nested() {
        assert_eq!(pending(0x1000).classify_entry(0x1000, 0, |_| true, hijacked), Entry::Nested);
    }

    #[test]
    fn a_call_from_a_shallower_frame_ends_an_abandoned_one() {
        assert_eq!(
            pending(0x1000).classify_entry(0x1008, 0, |_| true, hijacked),
            Entry::AfterAbandoned
        );
    }

    #[test]
    fn a_call_that_was_never_hijacked_does_not_swallow_deeper_ones() {
        assert_eq!(
            pending(0x1000).classify_entry(0xf00, 0, |_| true, intact),
            Entry::AfterAbandoned
        );
        assert_eq!(
            pending(0x1000).classify_entry(0x1000, 0, |_| true, intact),
            Entry::AfterAbandoned
        );
    }

    #[test]
    fn with_a_known_trampoline_an_overwritten_stack_word_is_abandoned() {
        let overwritten = |_: u64| Some(0x1234);
        assert_eq!(
            pending(0x1000).classify_entry(0xf00, TRAMPOLINE, |_| true, overwritten),
            Entry::AfterAbandoned
        );
    }

    #[test]
    fn a_call_that_was_left_by_longjmp_does_not_swallow_deeper_ones_of_the_program() {
        let from_program = |_: u64| false;
        assert_eq!(
            pending(0x1000).classify_entry(0xf00, TRAMPOLINE, from_program, hijacked),
            Entry::AfterAbandoned
        );
        assert!(!pending(0x1000).contains(0xf00, TRAMPOLINE, from_program, hijacked));
        assert!(pending(0x1000).contains(0x1000, TRAMPOLINE, from_program, hijacked), "tail call");
    }

    #[test]
    fn an_unreadable_stack_word_is_abandoned() {
        assert_eq!(
            pending(0x1000).classify_entry(0xf00, 0, |_| true, |_| None),
            Entry::AfterAbandoned
        );
    }

    #[test]
    fn a_return_matches_by_stack_pointer_and_site() {
        let call = pending(0x1000);
        assert!(call.is_ended_by(0x1008, 2));
        assert!(!call.is_ended_by(0x1008, 3));
        assert!(!call.is_ended_by(0x1000, 2));
        assert!(!Call::default().is_ended_by(8, 0));
    }

    #[test]
    fn a_block_is_handed_on_to_a_deeper_free_or_a_tail_call_of_the_same_address() {
        let outer = HandedOn { sp: 0x1000, address: 0x5000 };
        assert!(outer.leads_to(0xf00, 0x5000) && outer.leads_to(0x1000, 0x5000));
        assert!(!outer.leads_to(0x1008, 0x5000), "from a shallower frame");
        assert!(!outer.leads_to(0xf00, 0x5010), "another block");
        assert!(!HandedOn::default().leads_to(0, 0), "there was no outer free");
    }

    #[test]
    fn a_call_that_was_passed_over_contains_what_it_jumps_to() {
        let realloc =
            SiteCookie::new(AllocFn::Realloc, CallShape::OldSize, 1, ObjectNumber::default()).0;
        let malloc = SiteCookie::new(AllocFn::Malloc, CallShape::Size, 0, ObjectNumber::default())
            .of_a_leaf()
            .0;
        let outer = PassedOver { sp: 0x1000, return_address: RETURN, cookie: realloc };
        assert!(outer.may_contain(0x1000) && outer.may_contain(0xf00));
        assert!(!outer.may_contain(0x1008), "from a shallower frame");
        let jumped = |sp, cookie, return_address| {
            outer.has_jumped_to(sp, cookie, return_address, TRAMPOLINE)
        };
        assert!(jumped(0x1000, malloc, RETURN));
        assert!(jumped(0x1000, malloc, TRAMPOLINE), "with a return probe");
        assert!(!jumped(0x1000, malloc, RETURN + 9), "the caller's next call");
        assert!(!jumped(0x1000, realloc, RETURN), "the same call, in a loop");
        assert!(!jumped(0xff8, malloc, RETURN));
        assert!(outer.has_jumped_to(0x1000, malloc, TRAMPOLINE, 0), "it is not known yet");
        assert!(!outer.has_jumped_to(0x1000, malloc, RETURN + 9, 0));
        assert!(!PassedOver::default().may_contain(0));
    }

    #[test]
    fn a_call_that_is_followed_and_not_recorded_is_told_by_its_flags() {
        let call = Call { flags: NOT_RECORDED | 0xffff, ..pending(0x1000) };
        assert!(!call.is_recorded() && pending(0x1000).is_recorded());
    }

    #[test]
    fn cookies_carry_the_function_and_the_shape_and_differ_by_site() {
        let object = ObjectNumber::of(3);
        for function in AllocFn::ALL {
            let cookie = SiteCookie::new(function, function.shape(), 77, object);
            assert_eq!(cookie.function(), function as u8);
            assert_eq!(cookie.shape(), function.shape() as u8);
            assert_eq!(cookie.is_of_python(), function.is_python());
            assert_ne!(cookie, SiteCookie::new(function, function.shape(), 78, object));
            let leaf = cookie.of_a_leaf();
            assert!(leaf.is_leaf() && !cookie.is_leaf() && !leaf.is_session());
            assert!(cookie.of_a_session().is_session() && !cookie.of_a_session().is_leaf());
            assert_eq!((leaf.function(), leaf.shape()), (cookie.function(), cookie.shape()));
        }
    }

    #[test]
    fn calls_of_a_calibration_are_of_no_function_and_else_as_those_that_they_stand_for() {
        let malloc = SiteCookie::new(AllocFn::Malloc, CallShape::Size, 0, ObjectNumber::default())
            .of_a_leaf()
            .of_a_session();
        let own = malloc.of_calibration();
        assert_eq!(own.function(), CALIBRATION_SLOT);
        assert!(AllocFn::ALL.iter().all(|function| *function as u8 != own.function()));
        assert_eq!(own.shape(), malloc.shape());
        assert!(own.is_leaf() && own.is_session() && !own.is_of_python());
    }

    #[test]
    fn cookies_say_which_registers_arguments_were_moved_to() {
        let places = ArgumentPlaces::USUAL.with(0, 6).and_then(|it| it.with(2, 14)).unwrap();
        let last = SiteCookie::MAX_SITES - 1;
        let cookie = SiteCookie::new(AllocFn::Malloc, CallShape::Size, last, ObjectNumber::of(31))
            .with_arguments(places);
        assert_eq!(cookie.arguments(), places);
        assert_eq!([0, 1, 2].map(|index| places.place(index)), [7, 0, 15]);
        assert_eq!(ObjectNumber::from_flags(cookie.object_flags()), ObjectNumber::of(31));
        assert_eq!(ArgumentPlaces::USUAL.with(0, 15), None, "r15");
        assert_eq!(ArgumentPlaces::USUAL.with(3, 0), None);
    }

    #[test]
    fn a_call_that_may_throw_goes_on_while_its_return_address_is_untouched() {
        let cookie =
            SiteCookie::new(AllocFn::OperatorNew, CallShape::Throwing, 1, ObjectNumber::of(0));
        let call = Call { cookie: cookie.0, ..pending(0x1000) };
        assert_eq!(call.classify_entry(0xf00, TRAMPOLINE, |_| true, intact), Entry::Nested);
        let other = |_: u64| Some(RETURN + 1);
        assert_eq!(call.classify_entry(0xf00, TRAMPOLINE, |_| true, other), Entry::AfterAbandoned);
        assert!(call.is_left_at(0x1000) && !call.is_left_at(0x1008));
        assert!(!pending(0x1000).is_left_at(0x1000), "it has a return probe");
    }
}
