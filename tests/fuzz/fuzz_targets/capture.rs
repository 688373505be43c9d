//! Arbitrary bytes as a capture: never a panic, never more memory than the file deserves, and what
//! can be opened can be written and opened again. Half of the inputs get the checksums that they
//! would need, so that what is behind them is reached, too.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use memtrace::capture::{
    Events as _, Reader,
    block::Packer,
    events::EventDecoder,
    format::{BlockKind, preamble},
};

/// The input as payloads: kind, flags and a length of two bytes before each.
fn file(mut rest: &[u8]) -> Vec<u8> {
    let mut packer = Packer::new().expect("there is memory");
    let mut file = preamble().to_vec();
    let mut add = |kind, flags, payload: &[u8]| {
        let (header, stored) = packer.pack(kind, flags, payload).expect("it is small");
        file.extend_from_slice(&header);
        file.extend_from_slice(stored);
    };
    add(BlockKind::Header as u16, 0, b"{}");
    while let [kind, flags, low, high, tail @ ..] = rest {
        let length = tail.len().min(usize::from(u16::from_le_bytes([*low, *high])));
        let (payload, next) = tail.split_at(length);
        add(u16::from(*kind % 18), u16::from(flags & 3), payload);
        rest = next;
    }
    file
}

fn look(bytes: &[u8]) {
    let Ok(opened) = Reader::open(Cursor::new(bytes)) else { return };
    if opened.events.replay(&mut |_| {}).is_err() {
        return;
    }
    let again = opened.rewrite(Vec::new()).expect("a Vec takes all");
    let reopened = Reader::open(Cursor::new(again)).expect("it was just written");
    assert_eq!(reopened.capture.sites, opened.capture.sites);
    assert_eq!(reopened.capture.live, opened.capture.live);
    assert_eq!(reopened.capture.stacks, opened.capture.stacks);
    assert_eq!(reopened.capture.layouts, opened.capture.layouts);
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 3 {
        0 => look(rest),
        1 => look(&file(rest)),
        _ => {
            let _ = EventDecoder::default().block(rest, 0, &mut |_| {});
        }
    }
});
