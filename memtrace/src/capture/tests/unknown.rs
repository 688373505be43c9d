//! Files of later versions.

use super::*;
use crate::capture::{
    block::Packer,
    format::{FLAG_REQUIRED, PREAMBLE_BYTES},
};

/// A capture with a block of a later version before all others.
fn with_block(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let (bytes, _) = Small::new().written();
    let (preamble, rest) = bytes.split_at(PREAMBLE_BYTES);
    let mut packer = Packer::new().expect("there is memory");
    let (header, stored) = packer.pack(kind, flags, payload).expect("it is small");
    [preamble, &header, stored, rest].concat()
}

#[test]
fn a_part_of_a_later_version_is_kept_and_written_back() {
    let bytes = with_block(77, 0, b"what will be");
    let opened = Reader::open(Cursor::new(&bytes)).expect("it may be ignored");
    assert_eq!(opened.capture, Small::new().capture);
    assert_eq!(opened.cut, None);
    assert_eq!(opened.unknown[0].kind, 77);
    let again = opened.rewrite(Vec::new()).expect("a Vec takes all");
    let reopened = Reader::open(Cursor::new(&again)).expect("it was just written");
    assert_eq!(reopened.unknown, opened.unknown);
    assert_eq!(reopened.capture, opened.capture);
}

#[test]
fn a_part_that_must_not_be_ignored_says_which_memtrace_is_needed() {
    let bytes = with_block(78, FLAG_REQUIRED, b"what will be");
    let error = Reader::open(Cursor::new(&bytes)).expect_err("it must not be ignored");
    assert!(error.to_string().contains("memtrace 0.1.0 or later is needed"), "{error}");
}

#[test]
fn a_later_format_says_which_memtrace_is_needed_and_a_later_minor_version_is_read() {
    let (mut bytes, _) = Small::new().written();
    bytes[8] = 9;
    assert!(Reader::open(Cursor::new(&bytes)).is_ok());
    bytes[10] = 2;
    bytes[12..17].copy_from_slice(b"3.1.4");
    let error = Reader::open(Cursor::new(&bytes)).expect_err("it is newer");
    let expected = "the capture is of format 2.9, and this memtrace reads 1.2: \
                    memtrace 3.1.4 or later is needed";
    assert_eq!(error.to_string(), expected);
    bytes[10] = 0;
    let error = Reader::open(Cursor::new(&bytes)).expect_err("there never was one");
    assert!(matches!(error, ReadError::TooOld { .. }), "{error}");
}

#[test]
fn words_that_a_later_version_knows_do_not_make_a_record_unreadable() {
    let ending = r#"{"window": {"ended_by": "meteorite", "new": 1}, "later": [1, 2]}"#;
    let ending: Ending = serde_json::from_str(ending).expect("unknown words are taken");
    assert_eq!(ending.window.ended_by, crate::model::trace::EndReason::Unknown);
    let timeline = r#"{"rss_peak_source": "crystal_ball", "rss_peak_bytes": 5}"#;
    let timeline: Timeline = serde_json::from_str(timeline).expect("unknown words are taken");
    assert_eq!(timeline.rss_peak_source, Some(crate::model::timeline::PeakSource::Samples));
    let walks = r#"{"after": {"rss": {"rows": [{"kind": "dark_matter", "resident_bytes": 5}]}}}"#;
    let walks: Walks = serde_json::from_str(walks).expect("unknown words are taken");
    let rss = walks.after.expect("it has one").rss;
    assert_eq!(rss.bytes(crate::model::census::RssKind::Remainder), 5);
}
