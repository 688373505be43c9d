use std::io::Cursor;

use proptest::prelude::*;

use super::{testing::any_capture, *};

/// Reads all events.
fn replayed(events: &impl Events<Error = EventsError>) -> Vec<KeptEvent> {
    let mut all = Vec::new();
    events.replay(&mut |event| all.push(event.clone())).expect("they are whole");
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
