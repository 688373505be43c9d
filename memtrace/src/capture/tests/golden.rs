//! A file of each version that was ever written: it must be read for ever.

use super::*;

/// Version 1.0, by the memtrace that had it first.
const V1: &[u8] = include_bytes!("../golden/v1.memtrace");

#[test]
fn a_capture_of_version_1_is_read_as_it_was() {
    let small = Small::new();
    let opened = Reader::open(Cursor::new(V1)).expect("it is whole");
    assert_eq!(opened.capture, small.capture);
    assert_eq!(replayed(&opened.events), small.events);
    assert_eq!(opened.cut, None);
}

/// Version 1.2, which added layouts of heaps.
const V1_2: &[u8] = include_bytes!("../golden/v1_2.memtrace");

#[test]
fn a_capture_of_version_1_2_is_read_as_it_was() {
    let small = Small::with_layouts();
    let opened = Reader::open(Cursor::new(V1_2)).expect("it is whole");
    assert_eq!(opened.capture, small.capture);
    assert_eq!(replayed(&opened.events), small.events);
    assert_eq!(opened.cut, None);
}
