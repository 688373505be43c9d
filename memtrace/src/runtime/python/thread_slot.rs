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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const DATA: ThreadData = ThreadData { blocks: 0x510, slot_bytes: 16, slots: 32, data: 8 };
    /// Where the first block is in glibc's `struct pthread` on x86-64.
    const FIRST_BLOCK: u64 = 0x310;

    /// Words at addresses; all others of the threads are 0.
    #[derive(Default)]
    struct Threads(HashMap<u64, u64>);

    impl TargetMemory for Threads {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let words = (0..).step_by(8).map(|at| self.0.get(&(address + at)).copied());
            for (chunk, word) in buffer.chunks_mut(8).zip(words) {
                chunk.copy_from_slice(&word.unwrap_or(0).to_le_bytes()[..chunk.len()]);
            }
            true
        }
    }

    impl Threads {
        /// A thread with this data under these keys.
        fn add(&mut self, pthread: u64, data: &[(u64, u64)]) {
            self.0.insert(pthread + TCB_SELF, pthread);
            self.0.insert(pthread + 0x510, pthread + FIRST_BLOCK);
            for (key, value) in data {
                self.0.insert(pthread + FIRST_BLOCK + 16 * key + 8, *value);
            }
        }
    }

    const TWO: [Thread; 2] =
        [Thread { state: 0xaa00, pthread: 0x10000 }, Thread { state: 0xbb00, pthread: 0x20000 }];

    fn slot_of_key(key: u32) -> u32 {
        0x318 + 16 * key
    }

    fn find(data: [&[(u64, u64)]; 2], key: Option<u32>) -> Result<u32, Refusal> {
        let mut threads = Threads::default();
        TWO.iter().zip(data).for_each(|(thread, data)| threads.add(thread.pthread, data));
        DATA.find_slot(&TWO, key, &threads)
    }

    #[test]
    fn the_runtimes_key_is_taken_when_a_thread_has_its_state_there() {
        let with_pybind11 = [(2, 0xaa00), (5, 0xaa00)];
        assert_eq!(find([&with_pybind11, &[]], Some(2)), Ok(slot_of_key(2)));
        assert_eq!(find([&with_pybind11, &[]], Some(5)), Ok(slot_of_key(5)));
    }

    #[test]
    fn the_only_slot_with_the_states_is_the_one_when_the_key_is_unknown_or_wrong() {
        let data: [&[(u64, u64)]; 2] = [&[(2, 0xaa00), (5, 0xaa00)], &[(2, 0xbb00)]];
        assert_eq!(find(data, None), Ok(slot_of_key(2)));
        assert_eq!(find(data, Some(900)), Ok(slot_of_key(2)));
    }

    #[test]
    fn several_slots_or_none_are_refused() {
        let both = find([&[(2, 0xaa00), (5, 0xaa00)], &[]], None).unwrap_err();
        assert!(both.to_string().contains("several slots"), "{both}");
        let none = find([&[(2, 0xcc00)], &[]], Some(2)).unwrap_err();
        assert!(none.to_string().contains("no slot holds"), "{none}");
    }

    #[test]
    fn threads_that_are_gone_are_passed_over_and_all_gone_is_refused() {
        let mut threads = Threads::default();
        threads.add(TWO[1].pthread, &[(2, 0xbb00)]);
        assert_eq!(DATA.find_slot(&TWO, Some(2), &threads), Ok(slot_of_key(2)));
        let refusal = DATA.find_slot(&TWO, Some(2), &Threads::default()).unwrap_err();
        assert!(refusal.to_string().contains("no thread's own data"), "{refusal}");
    }
}
