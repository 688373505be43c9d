//! mallocng's structs: src/malloc/mallocng/meta.h, 1.2.1 and later.

use crate::model::census::Extent;

/// `sizeof(struct meta_area)` with all its slots: a page.
pub(super) const META_AREA_BYTES: usize = 4096;

/// `offsetof(struct meta_area, slots)`.
const SLOTS_OFFSET: usize = 24;

/// `sizeof(struct meta)`.
const META_BYTES: usize = 40;

/// `UNIT`: sizes are multiples of it, and a group's header takes one.
pub(super) const UNIT: u64 = 16;

/// Pages of `maplen`, whatever the machine's are.
const MAP_PAGE_BYTES: u64 = 4096;

/// The class of what was mapped alone.
const MAPPED_ALONE: u64 = 63;

/// `__malloc_size_classes`, in [`UNIT`]s.
const SIZE_CLASSES: [u64; 48] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 20, 25, 31, 36, 42, 50, 63, 72, 84, 102, 127, 146,
    170, 204, 255, 292, 340, 409, 511, 584, 682, 818, 1023, 1169, 1364, 1637, 2047, 2340, 2730,
    3276, 4095, 4680, 5460, 6552, 8191,
];

/// A page of metas.
pub(super) struct MetaArea {
    /// The context's secret, if it is one.
    pub(super) check: u64,
    pub(super) next: u64,
    pub(super) groups: Vec<Group>,
}

impl MetaArea {
    pub(super) fn decode(address: u64, bytes: &[u8; META_AREA_BYTES]) -> Self {
        let slots = half(bytes, 16) as usize;
        let metas = bytes[SLOTS_OFFSET..].as_chunks::<META_BYTES>().0;
        let first = address + SLOTS_OFFSET as u64;
        let groups = metas.iter().take(slots).zip((first..).step_by(META_BYTES));
        Self {
            check: word(bytes, 0),
            next: word(bytes, 8),
            groups: groups.filter_map(|(meta, at)| Group::decode(at, meta)).collect(),
        }
    }
}

/// Up to 32 slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Address of its `struct meta`, which the group's header states.
    pub(super) meta: u64,
    /// Its address.
    pub(super) memory: u64,
    pub(super) slots: u32,
    /// A bit for each slot that is free, or was never handed out.
    pub(super) free: u32,
    /// Bytes from slot to slot.
    pub(super) stride: u64,
    /// Bytes of its mapping; 0 when it is in a slot of another group, or in memory that the dynamic
    /// linker left over.
    pub(super) mapped_bytes: u64,
}

impl Group {
    fn decode(meta: u64, bytes: &[u8; META_BYTES]) -> Option<Self> {
        let (memory, masks, bits) = (word(bytes, 16), word(bytes, 24), word(bytes, 32));
        let (last, class, pages) = (bits & 31, bits >> 6 & 63, bits >> 12);
        let all = u32::MAX >> (31 - last);
        let mapped_bytes = pages.checked_mul(MAP_PAGE_BYTES)?;
        let stride = match last == 0 && pages > 0 {
            true => mapped_bytes - UNIT,
            false => SIZE_CLASSES.get(class as usize)? * UNIT,
        };
        let free = (masks as u32 | (masks >> 32) as u32) & all;
        let group = Self { meta, memory, slots: last as u32 + 1, free, stride, mapped_bytes };
        let is_class = class == MAPPED_ALONE || (class as usize) < SIZE_CLASSES.len();
        let is_placed = memory != 0 && memory % UNIT == 0 && memory < 1 << 56;
        let fits = mapped_bytes == 0 || group.used_bytes() <= mapped_bytes;
        (is_class && is_placed && fits && mapped_bytes < 1 << 56).then_some(group)
    }

    fn used_bytes(&self) -> u64 {
        UNIT + self.stride * u64::from(self.slots)
    }

    /// All of its memory.
    pub(super) fn extent(&self) -> Extent {
        let bytes = self.used_bytes().max(self.mapped_bytes);
        Extent { start: self.memory, end: self.memory + bytes }
    }

    /// What it has besides its slots: the header, and the rest of its mapping.
    pub(super) fn margins(&self) -> [Extent; 2] {
        let Extent { start, end } = self.extent();
        [Extent { start, end: start + UNIT }, Extent { start: start + self.used_bytes(), end }]
    }

    pub(super) fn slot(&self, index: u32) -> Extent {
        let start = self.memory + UNIT + self.stride * u64::from(index);
        Extent { start, end: start + self.stride }
    }

    /// The slot that holds an address.
    pub(super) fn slot_of(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(self.memory + UNIT)?;
        u32::try_from(offset / self.stride).ok().filter(|index| *index < self.slots)
    }

    pub(super) fn is_free(&self, slot: u32) -> bool {
        self.free >> slot & 1 == 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.count_ones() == self.slots
    }
}

fn word<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> u64 {
    u64::from(half(bytes, at)) | u64::from(half(bytes, at + 4)) << 32
}

fn half<const LENGTH: usize>(bytes: &[u8; LENGTH], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
