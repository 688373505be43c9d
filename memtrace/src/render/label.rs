//! Words that renderers share. Names come from the target, which may be hostile: what reaches a
//! terminal or a document holds no control characters.

use crate::{model::stack::Frame, report::EndReason};

/// Stands for a character that must not be printed.
const REPLACEMENT: char = '?';

/// The text without control characters (terminals obey them, XML forbids them) and without those
/// that reverse the direction of writing.
pub(super) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}'..='\u{ffff}')
    };
    text.chars().map(|c| if harmful(c) { REPLACEMENT } else { c }).collect()
}

/// `model.cc:42`, or the module where the source is not known; empty where that is in the name.
pub(super) fn short_place(frame: &Frame) -> String {
    match source(frame) {
        Some(source) => source.rsplit('/').next().unwrap_or_default().to_owned(),
        None if frame.function.starts_with(&frame.module) => String::new(),
        None => clean(&frame.module),
    }
}

/// The same with the whole path.
pub(super) fn long_place(frame: &Frame) -> String {
    source(frame).unwrap_or_else(|| short_place(frame))
}

fn source(frame: &Frame) -> Option<String> {
    let file = clean(frame.file.as_ref()?);
    Some(frame.line.map_or(file.clone(), |line| format!("{file}:{line}")))
}

/// `s` unless the count is one.
pub(super) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Follows the length of the window.
pub(super) fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Duration => "until the time was over",
        EndReason::Interrupted => "until Ctrl-C",
        EndReason::Terminated => "until a signal to terminate",
        EndReason::TargetExited => "until the target ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_reader() {
        assert_eq!(clean("a\x1b[31mb\nc\u{202e}d"), "a?[31mb?c?d");
        assert_eq!(clean("größe<int>"), "größe<int>");
    }

    #[test]
    fn a_place_is_the_source_line_or_the_module() {
        let mut frame =
            Frame { function: "load".to_owned(), module: "app".to_owned(), ..Frame::default() };
        assert_eq!((short_place(&frame), long_place(&frame)), ("app".into(), "app".into()));
        frame.file = Some("/src/a.c".to_owned());
        frame.line = Some(7);
        assert_eq!(short_place(&frame), "a.c:7");
        assert_eq!(long_place(&frame), "/src/a.c:7");
        frame.line = None;
        assert_eq!(long_place(&frame), "/src/a.c");
        let nameless = Frame { function: "app+0x1".to_owned(), ..Frame { file: None, ..frame } };
        assert_eq!(short_place(&nameless), "");
    }
}
