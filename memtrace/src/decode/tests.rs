use proptest::{collection::vec, prelude::*};

use super::*;
use crate::encode::encode;

fn encoded(action: Action) -> Vec<u8> {
    let mut record = Vec::new();
    let event = Event { internal: true, ..Event::of(AllocFn::Calloc, 7, 9, action) };
    encode(&event, &mut record);
    record
}

fn free() -> Vec<u8> {
    encoded(Action::Free { address: 0x1000 })
}

fn stack(frames: usize) -> Vec<u8> {
    let python = vec![PythonFrame { code: 0x50_0000, position: 7 }; 2];
    let frames = vec![0x40_0000; frames];
    let python_end = PythonEnd::Complete;
    let stack = RawStack { frames, end: StackEnd::Root, guessed: true, python, python_end };
    encoded(Action::Stack { id: StackId(5), stack })
}

/// A record with some of its bytes replaced.
fn patched(mut record: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    record[at..at + bytes.len()].copy_from_slice(bytes);
    record
}

#[test]
fn a_record_is_read_at_the_offsets_of_its_struct() {
    // Written out by hand from memtrace_common::wire, so that encode and decode cannot be wrong
    // together.
    let mut record = vec![0, 7, 1, 0, 0x44, 0x33, 0x22, 0x11];
    for word in [0x0102_0304_0506_0708_u64, 0x7f00_0000_1010, 100, 0xabcd] {
        record.extend(word.to_le_bytes());
    }
    let expected = Event {
        internal: true,
        ..Event::of(
            AllocFn::PosixMemalign,
            0x1122_3344,
            0x0102_0304_0506_0708,
            Action::Alloc { address: 0x7f00_0000_1010, size_bytes: 100, stack: StackId(0xabcd) },
        )
    };
    assert_eq!(decode(&record), Ok(expected));
}

#[test]
fn the_half_words_of_a_mapping_are_prot_and_then_flags() {
    let mut record = vec![4, 10, 0, 0, 1, 0, 0, 0];
    for word in [1_u64, 0x7000, 4096, 0x22_0000_0003, 9] {
        record.extend(word.to_le_bytes());
    }
    let action = decode(&record).map(|event| event.action);
    let expected = Action::Map {
        address: 0x7000,
        length_bytes: 4096,
        prot: 3,
        map_flags: 0x22,
        stack: StackId(9),
    };
    assert_eq!(action, Ok(expected));
}

#[test]
fn an_empty_record_is_short() {
    assert_eq!(decode(&[]), Err(DecodeError::Short { needed_bytes: 16, actual_bytes: 0 }));
}

#[test]
fn every_truncation_is_short() {
    for record in [free(), stack(3)] {
        for length in 0..record.len() {
            let result = decode(&record[..length]);
            assert!(matches!(result, Err(DecodeError::Short { .. })), "{length}: {result:?}");
        }
    }
}

#[test]
fn alignment_may_add_seven_bytes_and_no_more() {
    for record in [free(), stack(3)] {
        let mut padded = record.clone();
        padded.extend([0xff; 7]);
        assert_eq!(decode(&padded), decode(&record));
        padded.push(0);
        assert_eq!(decode(&padded), Err(DecodeError::Trailing { extra_bytes: 8 }));
    }
}

#[test]
fn what_this_version_does_not_define_is_refused() {
    let (kind, function) = (RecordKind::COUNT as u8, AllocFn::COUNT as u8);
    assert_eq!(decode(&patched(free(), 0, &[kind])), Err(DecodeError::UnknownKind(kind)));
    assert_eq!(
        decode(&patched(free(), 1, &[function])),
        Err(DecodeError::UnknownFunction(function))
    );
    assert_eq!(decode(&patched(free(), 2, &[0x40])), Err(DecodeError::UnknownFlags(0x40)));
    assert_eq!(decode(&patched(stack(1), 28, &[9])), Err(DecodeError::UnknownStackEnd(9)));
    let unmapped = encoded(Action::UnmapEnd { address: 0, length_bytes: 0, failed: true });
    assert_eq!(decode(&patched(unmapped, 32, &[2])), Err(DecodeError::NotBoolean(2)));
}

#[test]
fn addresses_of_blocks_are_never_zero() {
    let stack = StackId::NONE;
    for action in [
        Action::Alloc { address: 0, size_bytes: 1, stack },
        Action::Free { address: 0 },
        Action::ReallocBegin { old_address: 0 },
        Action::Stack { id: stack, stack: RawStack::native(vec![], StackEnd::Root) },
    ] {
        assert!(matches!(decode(&encoded(action)), Err(DecodeError::Zero(_))));
    }
}

#[test]
fn the_number_of_frames_is_not_trusted() {
    let more = patched(stack(3), 24, &4_u32.to_le_bytes());
    assert_eq!(decode(&more), Err(DecodeError::Short { needed_bytes: 104, actual_bytes: 96 }));
    let fewer = patched(stack(3), 24, &2_u32.to_le_bytes());
    assert_eq!(decode(&fewer), Err(DecodeError::Trailing { extra_bytes: 8 }));
    let huge = patched(stack(3), 24, &u32::MAX.to_le_bytes());
    assert_eq!(decode(&huge), Err(DecodeError::TooManyFrames(u32::MAX)));
    assert!(decode(&stack(MAX_FRAMES)).is_ok());
    let one_more = decode(&stack(MAX_FRAMES + 1));
    assert_eq!(one_more, Err(DecodeError::TooManyFrames(MAX_FRAMES as u32 + 1)));
}

fn any_heap_action() -> impl Strategy<Value = Action> {
    let id = any::<u64>().prop_map(StackId);
    prop_oneof![
        (1..=u64::MAX, any::<u64>(), id.clone()).prop_map(|(address, size_bytes, stack)| {
            Action::Alloc { address, size_bytes, stack }
        }),
        (1..=u64::MAX).prop_map(|address| Action::Free { address }),
        (1..=u64::MAX).prop_map(|old_address| Action::ReallocBegin { old_address }),
        (any::<[u64; 3]>(), id).prop_map(|([old_address, new_address, size_bytes], stack)| {
            Action::ReallocEnd { old_address, new_address, size_bytes, stack }
        }),
    ]
}

fn any_mapping_action() -> impl Strategy<Value = Action> {
    let id = any::<u64>().prop_map(StackId);
    prop_oneof![
        (any::<[u64; 2]>(), any::<[u32; 2]>(), id.clone()).prop_map(
            |([address, length_bytes], [prot, map_flags], stack)| {
                Action::Map { address, length_bytes, prot, map_flags, stack }
            }
        ),
        any::<[u64; 2]>()
            .prop_map(|[address, length_bytes]| Action::UnmapBegin { address, length_bytes }),
        (any::<[u64; 2]>(), any::<bool>()).prop_map(|([address, length_bytes], failed)| {
            Action::UnmapEnd { address, length_bytes, failed }
        }),
        any::<[u64; 2]>().prop_map(|[old_address, old_length_bytes]| Action::RemapBegin {
            old_address,
            old_length_bytes
        }),
        (any::<[u64; 4]>(), id.clone()).prop_map(|(words, stack)| {
            let [old_address, old_length_bytes, new_address, new_length_bytes] = words;
            Action::RemapEnd { old_address, old_length_bytes, new_address, new_length_bytes, stack }
        }),
        (any::<[u64; 2]>(), id).prop_map(|([old_break, new_break], stack)| Action::Break {
            old_break,
            new_break,
            stack
        }),
    ]
}

fn any_other_action() -> impl Strategy<Value = Action> {
    let end = (0..StackEnd::ALL.len()).prop_map(|index| StackEnd::ALL[index]);
    let python_frame =
        any::<[u64; 2]>().prop_map(|[code, position]| PythonFrame { code, position });
    let python = vec(python_frame, 0..=MAX_PYTHON_FRAMES);
    let python_end = (0..PythonEnd::ALL.len()).prop_map(|index| PythonEnd::ALL[index]);
    let stack = (vec(any::<u64>(), 0..=MAX_FRAMES), end, any::<bool>(), python, python_end)
        .prop_map(|(frames, end, guessed, python, python_end)| RawStack {
            frames,
            end,
            guessed,
            python,
            python_end,
        });
    prop_oneof![
        (1..=u64::MAX, stack).prop_map(|(id, stack)| Action::Stack { id: StackId(id), stack }),
        Just(Action::Fork),
        Just(Action::Exec),
        Just(Action::ThreadExit),
        Just(Action::CodeChange),
        (any::<u32>(), any::<bool>())
            .prop_map(|(pid, shares_memory)| Action::Child { pid, shares_memory }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let action = prop_oneof![any_heap_action(), any_mapping_action(), any_other_action()];
    let function = (0..AllocFn::COUNT).prop_map(|index| AllocFn::ALL[index]);
    let interval = (0..=Interval::MAX.exponent()).prop_map(Interval::from_exponent);
    (function, any::<u32>(), any::<u64>(), any::<bool>(), interval, action).prop_map(
        |(function, tid, time_ns, internal, interval, action)| Event {
            internal,
            interval,
            object: ObjectNumber::of(tid as usize % 32),
            ..Event::of(function, tid, time_ns, action)
        },
    )
}

proptest! {
    #[test]
    fn every_event_comes_back_from_its_record(event in any_event(), padding in 0..=7_usize) {
        let mut record = Vec::new();
        encode(&event, &mut record);
        record.resize(record.len() + padding, 0);
        prop_assert_eq!(decode(&record), Ok(event));
    }

    #[test]
    fn whatever_decodes_is_what_its_encoding_says(
        event in any_event(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut record = Vec::new();
        encode(&event, &mut record);
        for (at, value) in flips {
            let at = at.index(record.len());
            record[at] = value;
        }
        if let Ok(decoded) = decode(&record) {
            let mut again = Vec::new();
            encode(&decoded, &mut again);
            prop_assert_eq!(&record[..again.len()], &again[..]);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..2048), kind in 0..16_u8) {
        let mut record = bytes;
        if let Some(first) = record.first_mut() {
            *first = kind;
        }
        if let Err(error) = decode(&record) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
