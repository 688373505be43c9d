//! What was selected, in words.

use super::{NamedThread, Selection, events, part::Part, replay::Replayed};
use crate::{
    capture::Capture,
    model::size::{bytes, count, duration_ns},
};

/// What it is of the window, in words that go on from "only what was".
pub fn what(capture: &Capture, selection: &Selection, part: Part) -> Vec<String> {
    let time = (!selection.is_of_all_time()).then(|| {
        let (since, until) = (duration_ns(part.since_ns), duration_ns(part.until_ns));
        format!("obtained from {since} to {until} of the window")
    });
    [time, by_threads(capture, &selection.threads)].into_iter().flatten().collect()
}

fn by_threads(capture: &Capture, threads: &[u32]) -> Option<String> {
    let named = |tid: &u32| named(*tid, capture.thread_name(*tid).as_deref());
    let names: Vec<String> = threads.iter().map(named).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    (!names.is_empty()).then(|| format!("obtained by thread{plural} {}", names.join(", ")))
}

/// Sentences for the reader of a report.
pub fn notes(
    capture: &Capture,
    selection: &Selection,
    part: Part,
    replayed: &Replayed,
) -> Vec<String> {
    let notes = [
        time(selection),
        threads(selection),
        peak(part, replayed),
        left_out(capture),
        lost(capture, selection),
    ];
    notes.into_iter().flatten().collect()
}

fn time(selection: &Selection) -> Option<String> {
    (!selection.is_of_all_time()).then(|| {
        "Of a part of the window: live is what was obtained in it and not freed by its end; RSS is \
         that of the samples next to its ends."
            .to_owned()
    })
}

fn threads(selection: &Selection) -> Option<String> {
    (!selection.threads.is_empty()).then(|| {
        "Of some threads: what they obtained, whoever freed it; RSS and what it is made of are the \
         whole process's."
            .to_owned()
    })
}

fn peak(part: Part, replayed: &Replayed) -> Option<String> {
    let (peak_bytes, _) = replayed.ledger.summit()?;
    let at_ns = replayed.peak_at_ns.saturating_sub(part.begin_ns());
    Some(format!(
        "The most that was live at once is {}, {} after the start.",
        bytes(peak_bytes),
        duration_ns(at_ns)
    ))
}

fn left_out(capture: &Capture) -> Option<String> {
    let left_out = capture.events.left_out;
    (left_out > 0).then(|| {
        format!(
            "{} of {} are not in the capture: what is told from the events is wrong by what they \
             would have told, and a block whose free is among them looks never freed.",
            count(left_out),
            events(left_out.saturating_add(capture.events.kept)),
        )
    })
}

fn lost(capture: &Capture, selection: &Selection) -> Option<String> {
    let is_lossy = capture.ending.losses.iter().any(|loss| loss.count > 0);
    (is_lossy && !selection.is_whole()).then(|| {
        "Losses are those of the whole window: when they happened is not known.".to_owned()
    })
}

/// What to say where none of the wanted threads obtained anything.
pub fn no_such_thread(wanted: &[u32], others: &[NamedThread], more: u64) -> String {
    let wanted: Vec<String> = wanted.iter().map(u32::to_string).collect();
    let others: Vec<String> =
        others.iter().map(|(tid, name)| named(*tid, name.as_deref())).collect();
    let nothing = format!("no memory was obtained by thread {}", wanted.join(" or "));
    match (others.is_empty(), more) {
        (true, _) => format!("{nothing}, nor by any other in that time"),
        (false, 0) => format!("{nothing}; it was by {}", others.join(", ")),
        (false, more) => format!("{nothing}; it was by {} and {more} more", others.join(", ")),
    }
}

fn named(tid: u32, name: Option<&str>) -> String {
    name.map_or_else(|| tid.to_string(), |name| format!("{tid} ({name})"))
}
