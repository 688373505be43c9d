mod damage;
mod golden;
mod sampled;
mod unknown;

use std::io::Cursor;

use proptest::prelude::*;

use super::{
    format::BlockKind,
    testing::{Small, any_capture},
    *,
};

/// Reads all events.
fn replayed(events: &impl Events<Error = EventsError>) -> Vec<KeptEvent> {
    let mut all = Vec::new();
    events.replay(&mut |event| all.push(event.clone())).expect("they are whole");
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_capture_comes_back_as_it_was((capture, events) in any_capture()) {
        let bytes = write(&capture, events.as_slice(), Vec::new()).expect("a Vec takes all");
        let opened = Reader::open(Cursor::new(&bytes)).expect("it was just written");
        prop_assert_eq!(&opened.capture, &capture);
        prop_assert_eq!(replayed(&opened.events), events);
        prop_assert_eq!(opened.cut, None);
        prop_assert_eq!(opened.rewrite(Vec::new()).expect("again"), bytes);
    }
}

#[test]
fn what_was_written_while_it_happened_is_what_is_written_at_once() {
    let small = Small::new();
    let (bytes, _) = small.written();
    let opened = Reader::open(Cursor::new(&bytes)).expect("it is whole");
    assert_eq!(opened.capture, small.capture);
    assert_eq!(replayed(&opened.events), small.events);
}

#[test]
fn many_stacks_samples_and_rows_take_several_blocks_and_come_back() {
    let mut capture = Small::new().capture;
    let site = capture.sites[0];
    capture.sites.resize(70_000, site);
    let record = capture.live[0];
    capture.live.resize(70_000, record);
    let sample = capture.timeline.samples[0];
    capture.timeline.samples.resize(10_000, sample);
    // More than one block of JSON.
    let module = Module { path: "m".repeat(500), ..capture.modules[0].clone() };
    capture.modules.resize(10_000, module);
    let frames = |name: u64| vec![testing::frame(&format!("{name:0200}")), testing::frame("main")];
    let stack = |id| (StackId(id), NamedStack { frames: frames(id), missing_root: None });
    capture.stacks.extend((15 << 60..(15 << 60) + 10_000).map(stack));
    capture.events.kept = 0;
    let no_events: &[KeptEvent] = &[];
    let bytes = write(&capture, no_events, Vec::new()).expect("a Vec takes all");
    let opened = Reader::open(Cursor::new(&bytes)).expect("it was just written");
    assert!(opened.capture == capture);
}
