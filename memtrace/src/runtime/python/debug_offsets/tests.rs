//! On descriptions as processes have them, and on damaged ones.

use proptest::prelude::*;

use super::*;

/// Writes `offsets` the way a process of that version states them.
fn described(version: Version, offsets: &Offsets) -> [u8; READ_BYTES] {
    let places = if version.minor == 13 { &PLACES_3_13 } else { &PLACES_3_14 };
    let mut bytes = [0; READ_BYTES];
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(8, 0x0300_01f0 | u64::from(version.minor) << 16);
    let (thread, frame, code) = (&offsets.thread, &offsets.frame, &offsets.code);
    let objects = &offsets.objects;
    let structs: [(usize, &[usize], u64, &[u32]); 8] = [
        (places.runtime.size, &places.runtime.members, 4000, &[offsets.runtime.interpreters_head]),
        (
            places.interpreter.size,
            &places.interpreter.members,
            9000,
            &[offsets.interpreter.next, offsets.interpreter.threads_head],
        ),
        (
            places.thread.size,
            &places.thread.members,
            400,
            &[thread.next, thread.thread_id, thread.frame],
        ),
        (
            places.frame.size,
            &places.frame.members,
            88,
            &[frame.code, frame.previous, frame.position, frame.owner],
        ),
        (
            places.code.size,
            &places.code.members,
            216,
            &[
                code.first_line,
                code.filename,
                code.name,
                code.qualname.unwrap(),
                code.line_table,
                code.instructions.unwrap(),
            ],
        ),
        (places.ob_type.size, &places.ob_type.members, 16, &[OB_TYPE]),
        (places.bytes.size, &places.bytes.members, 40, &[OB_SIZE, objects.bytes_data]),
        (
            places.unicode.size,
            &places.unicode.members,
            64,
            &[UNICODE_STATE, OB_SIZE, objects.ascii_data],
        ),
    ];
    for (size_at, members, size, values) in structs {
        put(size_at, size);
        members.iter().zip(values).for_each(|(at, value)| put(*at, u64::from(*value)));
    }
    bytes[..8].copy_from_slice(COOKIE);
    bytes
}

fn versions() -> [(Version, &'static Offsets); 2] {
    [13, 14].map(|minor| (Version::v3(minor), Offsets::of(Version::v3(minor)).unwrap()))
}

#[test]
fn what_a_process_states_is_taken() {
    for (version, known) in versions() {
        assert_eq!(parse(&described(version, known), version), Ok(*known));
        let mut moved = *known;
        moved.thread.frame += 8;
        moved.interpreter.threads_head += 16;
        moved.code.name += 8;
        assert_eq!(parse(&described(version, &moved), version), Ok(moved));
    }
}

#[test]
fn a_process_without_a_description_is_refused() {
    assert_eq!(parse(&[0; READ_BYTES], Version::v3(13)), Err(Refusal::NotDescribed));
}

#[test]
fn another_version_than_expected_is_refused() {
    let (version, known) = versions()[0];
    let refusal = parse(&described(version, known), Version::v3(14)).unwrap_err();
    assert_eq!(refusal.to_string(), "it says that it is Python 3.13.1, but looks like 3.14");
}

#[test]
fn a_free_threaded_build_is_refused_by_name() {
    let (version, known) = versions()[0];
    let mut bytes = described(version, known);
    bytes[16] = 1;
    assert_eq!(parse(&bytes, version), Err(Refusal::FreeThreaded { version }));
}

#[test]
fn members_outside_of_their_struct_are_refused() {
    for (version, known) in versions() {
        let changes: [fn(&mut Offsets); 6] = [
            |it| it.thread.frame = 396,
            |it| it.thread.next = 9,
            |it| it.interpreter.next = 9000,
            |it| it.frame.previous = u32::MAX,
            |it| it.code.line_table = it.code.instructions.unwrap() + 8,
            |it| it.objects.bytes_data = 41,
        ];
        for change in changes {
            let mut wrong = *known;
            change(&mut wrong);
            let refusal = parse(&described(version, &wrong), version);
            assert_eq!(refusal, Err(Refusal::ImplausibleOffsets { version }));
        }
    }
}

proptest! {
    #[test]
    fn hostile_descriptions_give_offsets_that_are_safe_to_use_or_none(
        words in prop::collection::vec((3usize..READ_BYTES / 8, any::<u64>()), 1..40),
        small in any::<bool>(),
    ) {
        for (version, known) in versions() {
            let mut bytes = described(version, known);
            for (word, value) in &words {
                let value = if small { value % 512 } else { *value };
                if word * 8 + 8 <= READ_BYTES {
                    bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
                }
            }
            if let Ok(offsets) = parse(&bytes, version) {
                prop_assert!(offsets.frame.size <= 128);
                prop_assert!(offsets.code.basic_size <= 1024);
                prop_assert!(offsets.interpreter.threads_head < 1 << 24);
            }
        }
    }
}
