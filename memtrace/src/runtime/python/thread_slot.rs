//! Where a thread keeps its `PyThreadState`: a slot of the data of `pthread_setspecific`.
//!
//! CPython binds the state of a thread to the key `_PyRuntime.autoTSSkey` and leaves it there
//! while the GIL is released. glibc says where its threads keep such data by constants for
//! debuggers (nptl_db/structs.def). All of it is verified on live threads: the slot of the key
//! must hold the thread's state.

use super::{refusal::Refusal, survey::Surveyed, threads::Thread};
use crate::model::memory::TargetMemory;

/// `struct pthread`'s pointer to itself, at the thread pointer (x86-64: `tcbhead_t.self`).
const TCB_SELF: u64 = 16;

/// The largest offset in `struct pthread` that is believed.
const MAX_PTHREAD_BYTES: u32 = 1 << 16;

/// The most slots of a block that are believed (glibc: `PTHREAD_KEY_2NDLEVEL_SIZE`, 32).
const MAX_SLOTS: u32 = 1024;

/// How a C library keeps its threads' data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ThreadData {
    /// In `struct pthread`: pointers to blocks of slots; the first block is in the struct itself.
    blocks: u32,
    /// Bytes of a slot.
    slot_bytes: u32,
    /// Slots of a block.
    slots: u32,
    /// In a slot: the data.
    data: u32,
}

impl ThreadData {
    /// By the constants of an object, when it is a C library that has them: three numbers each:
    /// bits of an element, how many, offset (`DB_STRUCT_ARRAY_FIELD`).
    pub(super) fn of(object: &Surveyed, memory: &impl TargetMemory) -> Option<Self> {
        let constants = |name| {
            let mut numbers = [0; 3];
            let address: u64 = object.symbol(name)?;
            for (index, number) in (0u64..).zip(&mut numbers) {
                *number = memory.read_u32(address.checked_add(index * 4)?)?;
            }
            Some(numbers)
        };
        let [_, _, blocks] = constants("_thread_db_pthread_specific")?;
        let [bits, slots, _] = constants("_thread_db_pthread_key_data_level2_data")?;
        let [_, _, data] = constants("_thread_db_pthread_key_data_data")?;
        let slot_bytes = bits / 8;
        let plausible = blocks < MAX_PTHREAD_BYTES
            && (1..=MAX_SLOTS).contains(&slots)
            && (8..=64).contains(&slot_bytes)
            && data.saturating_add(8) <= slot_bytes;
        plausible.then_some(Self { blocks, slot_bytes, slots, data })
    }

    /// The offset from the thread pointer of the slot that holds each thread's state. `key` is
    /// what `_PyRuntime` says.
    pub(super) fn find_slot(
        &self,
        threads: &[Thread],
        key: Option<u32>,
        memory: &impl TargetMemory,
    ) -> Result<u32, Refusal> {
        let no_slot = |reason| Refusal::NoThreadSlot { reason };
        let read: Vec<_> =
            threads.iter().filter_map(|thread| self.slots_with(thread, memory)).collect();
        let (first, _) = *read.first().ok_or(no_slot("no thread's own data could be read"))?;
        let of_key = |key: u32| read.iter().filter(|(_, slots)| slots.contains(&key)).count();
        if read.iter().any(|(block, _)| *block != first) {
            return Err(no_slot("threads keep their data at different places"));
        }
        let confirmed = key.filter(|key| of_key(*key) > 0);
        let slot = match confirmed {
            Some(key) => key,
            None => self.only_slot(&read).map_err(no_slot)?,
        };
        Ok(first + slot * self.slot_bytes + self.data)
    }

    /// Where the key is not known: the one slot that holds the state in every thread that has any.
    fn only_slot(&self, read: &[(u32, Vec<u32>)]) -> Result<u32, &'static str> {
        let with_any = || read.iter().filter(|(_, slots)| !slots.is_empty());
        let in_all = |slot: &u32| with_any().all(|(_, slots)| slots.contains(slot));
        let mut candidates = (0..self.slots).filter(|slot| with_any().count() > 0 && in_all(slot));
        match (candidates.next(), candidates.next()) {
            (Some(slot), None) => Ok(slot),
            (None, _) => Err("no slot holds a thread's state"),
            (Some(_), Some(_)) => Err("several slots hold the threads' states"),
        }
    }

    /// Where in the thread its first block is, and which slots of that hold its state. `None` when
    /// the thread is not there (any more).
    fn slots_with(&self, thread: &Thread, memory: &impl TargetMemory) -> Option<(u32, Vec<u32>)> {
        let pthread = thread.pthread;
        let own = memory.read_u64(pthread.checked_add(TCB_SELF)?)?;
        (own == pthread).then_some(())?;
        let block = memory.read_u64(pthread.checked_add(self.blocks.into())?)?;
        let first = u32::try_from(block.checked_sub(pthread)?).ok()?;
        (first < MAX_PTHREAD_BYTES).then_some(())?;
        let mut bytes = vec![0; (self.slots * self.slot_bytes) as usize];
        memory.read(block, &mut bytes).then_some(())?;
        let holds = |slot: &[u8]| super::objects::word(slot, self.data) == thread.state;
        let slots = bytes.chunks(self.slot_bytes as usize).zip(0..);
        Some((first, slots.filter(|(slot, _)| holds(slot)).map(|(_, index)| index).collect()))
    }
}
