//! Files that were cut or went bad.

use super::*;
use crate::{
    capture::format::{MAX_BLOCK_BYTES, PREAMBLE_BYTES},
    model::trace::EndReason,
};

fn open(bytes: &[u8]) -> Result<Opened<Cursor<&[u8]>>, ReadError> {
    Reader::open(Cursor::new(bytes))
}

/// Everything that a report does with it.
fn look_at_all(opened: &Opened<Cursor<&[u8]>>) {
    let sites = opened.capture.sites.len();
    assert!(opened.capture.live.iter().all(|record| (record.site as usize) < sites));
    let _ = opened.events.replay(&mut |_| {});
}

#[test]
fn a_capture_that_is_cut_at_any_byte_opens_or_says_why_not() {
    let (bytes, closed) = Small::with_layouts().written();
    let mut opened_from = None;
    for length in 0..bytes.len() {
        match open(&bytes[..length]) {
            Ok(opened) => {
                opened_from.get_or_insert(length);
                assert!(opened.cut.is_some_and(|cut| !cut.has_end), "cut at {length}");
                assert!(!opened.capture.ending.completeness.notes.is_empty());
                look_at_all(&opened);
            }
            Err(ReadError::NotACapture) => assert!(length < PREAMBLE_BYTES, "cut at {length}"),
            Err(ReadError::NoHeader) => assert_eq!(opened_from, None, "cut at {length}"),
            Err(error) => panic!("cut at {length}: {error}"),
        }
    }
    assert!(opened_from.is_some_and(|length| length < closed));
}

#[test]
fn no_flipped_bit_makes_the_reader_panic_or_goes_unnoticed() {
    let (mut bytes, _) = Small::tiny().written();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(opened) = open(&bytes) {
            look_at_all(&opened);
            // The minor version and the name of the oldest reader change nothing.
            assert!(opened.cut.is_some() || bit / 8 < PREAMBLE_BYTES, "bit {bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn what_a_cut_capture_lacks_is_computed_from_its_events() {
    let small = Small::new();
    let (bytes, closed) = small.written();
    let opened = open(&bytes[..closed]).expect("it has a header");
    let (whole, cut) = (&small.capture, &opened.capture);
    assert_eq!(cut.sites, whole.sites);
    assert_eq!(cut.live, whole.live);
    assert_eq!(cut.ending.totals, whole.ending.totals);
    assert_eq!(cut.ending.sizes, whole.ending.sizes);
    assert_eq!(cut.ending.window.ended_by, EndReason::Unknown);
    assert_eq!(cut.ending.target, whole.header.target);
    let last_ns = small.events.last().map(|it| it.event.time_ns - whole.header.opened_ns);
    assert_eq!(Some(cut.ending.window.duration_ns), last_ns);
    assert_eq!(cut.ending.rss.end_bytes, 3 << 20);
    assert_eq!(cut.events.kept, small.events.len() as u64);
    let leaves: Vec<_> = cut.stacks.iter().map(|(_, it)| it.frames[0].function.as_str()).collect();
    assert_eq!(leaves, ["model+0x2234", "libc.so.6+0x1100", "libc.so.6+0x1200"]);
    assert_eq!(cut.stacks[1].1.frames[1].function, "load_model");
}

/// Where blocks of a kind have their payloads.
fn payloads(bytes: &[u8], kind: BlockKind) -> Vec<usize> {
    let (mut scanner, _) = scan::Scanner::new(Cursor::new(bytes)).expect("a slice can be read");
    let mut found = Vec::new();
    while let scan::Next::Block(block) = scanner.next(&mut Vec::new()).expect("the same") {
        if block.header.kind == kind as u16 {
            found.push(block.offset as usize);
        }
    }
    found
}

fn with_damage(kind: BlockKind) -> Vec<u8> {
    let (mut bytes, _) = Small::new().written();
    for at in payloads(&bytes, kind) {
        bytes[at + 8] ^= 0xff;
    }
    bytes
}

#[test]
fn damaged_books_are_computed_again_and_the_ending_holds() {
    let small = Small::new();
    for kind in [BlockKind::Sites, BlockKind::Live] {
        let bytes = with_damage(kind);
        let opened = open(&bytes).expect("the header is whole");
        assert_eq!(opened.capture.sites, small.capture.sites);
        assert_eq!(opened.capture.live, small.capture.live);
        assert_eq!(opened.capture.ending.window, small.capture.ending.window);
        assert_eq!(opened.cut.map(|cut| cut.damaged_blocks), Some(1));
        let notes = &opened.capture.ending.completeness.notes;
        assert!(notes[0].contains("1 of its blocks are damaged"), "{notes:?}");
    }
}

#[test]
fn events_of_a_damaged_block_are_counted_as_left_out() {
    let small = Small::new();
    let (mut bytes, _) = small.written();
    let at = payloads(&bytes, BlockKind::Events)[0];
    bytes[at + 8] ^= 0xff;
    let opened = open(&bytes).expect("the header is whole");
    let rest = replayed(&opened.events);
    assert_eq!(rest.len(), 5);
    assert_eq!(opened.capture.events, EventsKept { kept: 5, left_out: 7 });
    assert_eq!(opened.capture.sites, small.capture.sites);
    // Their numbers are right; stacks of the lost block are not known.
    let times = |events: &[KeptEvent]| events.iter().map(|it| it.event.time_ns).collect::<Vec<_>>();
    assert_eq!(times(&rest), times(&small.events[7..]));
}

#[test]
fn a_damaged_layout_is_none_and_everything_else_holds() {
    let small = Small::with_layouts();
    let (mut bytes, _) = small.written();
    let at = payloads(&bytes, BlockKind::Layout)[1];
    bytes[at + 8] ^= 0xff;
    let opened = open(&bytes).expect("the header is whole");
    assert_eq!(opened.cut.map(|cut| cut.damaged_blocks), Some(1));
    assert_eq!(opened.capture.layouts.before, small.capture.layouts.before);
    assert_eq!(opened.capture.layouts.after, None);
    assert_eq!(opened.capture.sites, small.capture.sites);
}

#[test]
fn stacks_without_their_frames_are_named_by_addresses() {
    let bytes = with_damage(BlockKind::Frames);
    let opened = open(&bytes).expect("the header is whole");
    let leaf = &opened.capture.stacks[0].1.frames[0];
    assert_eq!(leaf.function, "model+0x2234");
    assert_eq!(opened.capture.ending.window, Small::new().capture.ending.window);
}

#[test]
fn a_second_header_stands_in_for_the_first() {
    let (mut bytes, _) = Small::new().written();
    let at = payloads(&bytes, BlockKind::Header)[0];
    bytes[at + 8] ^= 0xff;
    let opened = open(&bytes).expect("it has another header");
    assert_eq!(
        opened.capture,
        Capture { ending: opened.capture.ending.clone(), ..Small::new().capture }
    );
}

#[test]
fn something_else_is_not_a_capture() {
    for bytes in [&b""[..], b"{}", b"#!/bin/sh\n echo a script of some length", &[0; 100]] {
        assert!(matches!(open(bytes), Err(ReadError::NotACapture)));
    }
}

#[test]
fn a_claim_of_much_is_refused_before_room_is_made_for_it() {
    let (bytes, _) = Small::new().written();
    let claim = block::BlockHeader {
        stored_bytes: 4,
        plain_bytes: MAX_BLOCK_BYTES as u32,
        kind: BlockKind::Live as u16,
        flags: 0,
        payload_crc: crc32fast::hash(b"zero"),
    };
    let mut hostile = bytes[..PREAMBLE_BYTES].to_vec();
    hostile.extend_from_slice(&claim.to_bytes());
    hostile.extend_from_slice(b"zero");
    hostile.extend_from_slice(&bytes[PREAMBLE_BYTES..]);
    let opened = open(&hostile).expect("the rest is whole");
    assert_eq!(opened.cut.map(|cut| cut.damaged_blocks), Some(1));
    // Longer than the file: it ends there.
    let longer = block::BlockHeader { stored_bytes: 4 << 20, ..claim };
    hostile.truncate(PREAMBLE_BYTES);
    hostile.extend_from_slice(&longer.to_bytes());
    assert!(matches!(open(&hostile), Err(ReadError::NoHeader)));
}

/// The blocks of a file: kind, flags, decompressed payload.
fn unpacked(bytes: &[u8]) -> Vec<(u16, u16, Vec<u8>)> {
    let (mut scanner, _) = scan::Scanner::new(Cursor::new(bytes)).expect("a slice can be read");
    let mut zstd = zstd::bulk::Decompressor::new().expect("there is memory");
    let (mut stored, mut blocks) = (Vec::new(), Vec::new());
    while let scan::Next::Block(block) = scanner.next(&mut stored).expect("a slice can be read") {
        let mut plain = Vec::new();
        assert!(block::unpack(&mut zstd, &block.header, &stored, &mut plain));
        blocks.push((block.header.kind, block.header.flags, plain));
    }
    blocks
}

fn packed(blocks: &[(u16, u16, Vec<u8>)]) -> Vec<u8> {
    let mut packer = block::Packer::new().expect("there is memory");
    let mut bytes = format::preamble().to_vec();
    for (kind, flags, payload) in blocks {
        let (header, stored) = packer.pack(*kind, *flags, payload).expect("it is small");
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(stored);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Checksums keep accidents out, not malice.
    #[test]
    fn wrong_payloads_with_right_checksums_do_no_harm(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut blocks = unpacked(&Small::with_layouts().written().0);
        for (block, at, byte) in changes {
            let payload = &mut block.get_mut(&mut blocks).2;
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Ok(opened) = open(&packed(&blocks)) {
            look_at_all(&opened);
        }
    }
}
