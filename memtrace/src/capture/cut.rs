//! What of a file could not be read.

use super::EventsKept;
use crate::model::size;

/// A file that is not whole, or not sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Bytes up to the end of the last block that was found.
    pub read_bytes: u64,
    /// Bytes of the file when it was opened.
    pub file_bytes: u64,
    /// Blocks that were found and are not what was written.
    pub damaged_blocks: u64,
    /// Its last record is there.
    pub has_end: bool,
    /// What was known at the end of the window is there.
    pub has_ending: bool,
}

impl Cut {
    /// For the notes of a report.
    pub fn sentence(&self, events: EventsKept) -> String {
        let [read, all] = [self.read_bytes, self.file_bytes].map(size::bytes);
        let damaged = match self.damaged_blocks {
            0 => String::new(),
            count => {
                format!("{} of its blocks are damaged and were left out; ", size::count(count))
            }
        };
        let end = match (self.has_end, self.has_ending) {
            (true, _) => "the rest of it is whole".to_owned(),
            (false, true) => format!("it ends too early, after {read} of {all}"),
            (false, false) => format!(
                "it ends before the window did, after {read} of {all} (memtrace still writes it, or \
                 was killed, or the file was cut): what is live and the sums are computed from its \
                 {} events, and names from symbols are missing",
                size::count(events.kept)
            ),
        };
        format!("the capture is incomplete: {damaged}{end}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: EventsKept = EventsKept { kept: 1234, left_out: 0 };

    #[test]
    fn a_file_that_ends_early_says_what_its_numbers_come_from() {
        let cut = Cut { read_bytes: 2048, file_bytes: 3072, ..Cut::default() };
        let sentence = cut.sentence(EVENTS);
        assert!(sentence.contains("after 2.0 KiB of 3.0 KiB"), "{sentence}");
        assert!(sentence.contains("its 1,234 events"), "{sentence}");
    }

    #[test]
    fn a_damaged_block_is_said_of_a_file_that_is_whole_otherwise() {
        let cut = Cut { damaged_blocks: 1, has_end: true, has_ending: true, ..Cut::default() };
        let expected = "the capture is incomplete: 1 of its blocks are damaged and were left out; \
                        the rest of it is whole";
        assert_eq!(cut.sentence(EVENTS), expected);
    }
}
