//! Words that renderers share. Names come from the target, which may be hostile: what reaches a
//! terminal or a document holds no control characters.

use crate::{
    model::{
        growth::GrowthPattern,
        place::Place,
        size::{Units, bytes, count, duration_ns},
        stack::{Frame, Language, PROCESS},
    },
    report::{EndReason, Report, frame_name::without_parameters},
};

/// Stands for a character that must not be printed.
const REPLACEMENT: char = '?';

/// The text without control characters (terminals obey them, XML forbids them) and without those
/// that reverse the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}'..='\u{ffff}')
    };
    text.chars().map(|c| if harmful(c) { REPLACEMENT } else { c }).collect()
}

/// `gunicorn (pid 4242)`, and how many more.
pub(super) fn who(report: &Report) -> String {
    let first = format!("{} (pid {})", report.target.command, report.target.pid);
    match report.processes.len() {
        0 | 1 => first,
        2 => format!("{first} and 1 more process"),
        all => format!("{first} and {} more processes", count(all as u64 - 1)),
    }
}

/// `model.cc:42`, or the module where the source is not known; empty where that is in the name.
pub(super) fn short_place(frame: &Frame) -> String {
    match source(frame) {
        Some(source) => last_part(&source).to_owned(),
        None if frame.function.starts_with(&frame.module) || frame.module == PROCESS => {
            String::new()
        }
        None => clean(&frame.module),
    }
}

/// The end of a path that tells which file it is: every Python package has an `__init__.py`.
fn last_part(path: &str) -> &str {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    if !path[name..].starts_with("__") {
        return &path[name..];
    }
    let above = path[..name].trim_end_matches('/').rfind('/').map_or(0, |slash| slash + 1);
    &path[above..]
}

/// The function and where it is: `load (server.py:88)` for Python, as its tools have it, and
/// `load at server.c:88` or `load in server` for compiled code.
pub(super) fn described(frame: &Frame) -> String {
    joined(frame, &short_place(frame))
}

/// The same with the whole path: `load (server.py:88) in /srv/app`.
pub(super) fn described_long(frame: &Frame) -> String {
    let Some(source) = source(frame) else { return described(frame) };
    match (frame.language, source.rsplit_once('/')) {
        (Language::Python, Some((directory, _))) => {
            format!("{} in {directory}/", described(frame))
        }
        (Language::Python, None) => described(frame),
        (Language::Native, _) => joined(frame, &source),
    }
}

fn joined(frame: &Frame, place: &str) -> String {
    let function = clean(without_parameters(&frame.function));
    match (place.is_empty(), frame.language, frame.file.is_some()) {
        (true, ..) => function,
        (_, Language::Python, _) => format!("{function} ({place})"),
        (_, Language::Native, true) => format!("{function} at {place}"),
        (_, Language::Native, false) => format!("{function} in {place}"),
    }
}

fn source(frame: &Frame) -> Option<String> {
    let file = clean(frame.file.as_ref()?);
    Some(frame.line.map_or(file.clone(), |line| format!("{file}:{line}")))
}

/// `s` unless the count is one.
pub(super) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// How survivors came to be, in words; nothing where there is nothing to tell.
pub(super) fn pattern(pattern: GrowthPattern) -> Option<String> {
    match pattern {
        GrowthPattern::Once => Some("all at one time".to_owned()),
        GrowthPattern::Steps { count: steps, step_bytes, interval_ns } => Some(format!(
            "{} steps of {}, one every {}",
            count(steps),
            bytes(step_bytes),
            duration_ns(interval_ns)
        )),
        GrowthPattern::Steady { bytes_per_s } => {
            Some(format!("steadily, {} a second", bytes(bytes_per_s)))
        }
        GrowthPattern::Lately => Some("only lately".to_owned()),
        GrowthPattern::Uneven => Some("now and then".to_owned()),
        GrowthPattern::Few => None,
    }
}

/// Follows the length of the window.
pub(super) fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Duration => "until the time was over",
        EndReason::Interrupted => "until Ctrl-C",
        EndReason::Terminated => "until a signal to terminate",
        EndReason::TargetExited => "until the target ended",
        EndReason::Condition => "until a condition was met",
        EndReason::Unknown => "until memtrace was stopped",
    }
}

/// Its container and limit, where there is one; what tells people on a host nothing is not said.
pub(super) fn place(place: &Place, units: Units) -> Option<String> {
    let limit = place.limit_bytes.map(|limit| format!("memory limit {}", units.bytes(limit)));
    let container = place.container.as_ref().map(|container| {
        let runtime = container.runtime.as_deref().unwrap_or("id");
        let pod = container.pod_uid.as_ref().map(|uid| format!(" of pod {uid}"));
        format!("{runtime} {}{}", container.short_id(), pod.unwrap_or_default())
    });
    let parts: Vec<_> = container.into_iter().chain(limit).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
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
        assert_eq!(described_long(&frame), "load in app");
        frame.file = Some("/src/a.c".to_owned());
        frame.line = Some(7);
        assert_eq!(short_place(&frame), "a.c:7");
        assert_eq!(described_long(&frame), "load at /src/a.c:7");
        frame.line = None;
        assert_eq!(described_long(&frame), "load at /src/a.c");
        let nameless = Frame { function: "app+0x1".to_owned(), ..Frame { file: None, ..frame } };
        assert_eq!(described_long(&nameless), "app+0x1");
    }

    #[test]
    fn a_python_frame_is_written_as_pythons_tools_do() {
        let frame = |file: &str| Frame {
            function: "Cache.load".to_owned(),
            file: Some(file.to_owned()),
            line: Some(88),
            language: Language::Python,
            ..Frame::default()
        };
        let server = frame("/srv/app/server.py");
        assert_eq!(described(&server), "Cache.load (server.py:88)");
        assert_eq!(described_long(&server), "Cache.load (server.py:88) in /srv/app/");
        let package = frame("/srv/app/models/__init__.py");
        assert_eq!(described(&package), "Cache.load (models/__init__.py:88)");
        assert_eq!(described_long(&frame("<stdin>")), "Cache.load (<stdin>:88)");
    }
}
