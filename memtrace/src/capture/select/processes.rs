//! A part of each process of a window.

use super::{SelectError, Selection, select_one};
use crate::capture::{Capture, Events, OfProcess, merge};

/// Selects in each process, whose events are its own; times are since the start of the whole window.
/// Processes that were not there in that time, or had none of the threads, are left out, as long as
/// there is any that is not.
pub fn select_each<E: Events + ?Sized>(
    capture: &Capture,
    events: &E,
    selection: &Selection,
) -> Result<Capture, SelectError<E::Error>> {
    let (mut selected, mut refused) = (Vec::new(), None);
    for process in &capture.processes {
        let late_ns = process.header.opened_ns.saturating_sub(capture.header.opened_ns);
        let Some(own) = moved(selection, late_ns) else { continue };
        let part = capture.of_process(process);
        let events = OfProcess { events, number: process.number };
        match select_one(&part, &events, &own) {
            Ok(part) => selected.push(part),
            Err(error) if is_of_one(&error) => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(refused) if selected.is_empty() => Err(refused),
        _ => Ok(finish(capture, selected)),
    }
}

/// The same since the start of a process whose window was opened so much later; `None` when all of
/// it was before.
fn moved(selection: &Selection, late_ns: u64) -> Option<Selection> {
    let earlier = |at_ns: u64| at_ns.saturating_sub(late_ns);
    let until_ns = selection.until_ns.map(earlier);
    let since_ns = selection.since_ns.map(earlier).filter(|since| *since > 0);
    (until_ns != Some(0)).then(|| Selection { since_ns, until_ns, ..selection.clone() })
}

/// Others may have what this one has not.
fn is_of_one<E>(error: &SelectError<E>) -> bool {
    matches!(
        error,
        SelectError::AfterTheEnd { .. } | SelectError::NoSuchThread { .. } | SelectError::NoEvents
    )
}

fn finish(capture: &Capture, selected: Vec<Capture>) -> Capture {
    let what = selected.first().map(|part| part.selected.what.clone());
    let mut merged = merge(selected);
    merged.selected.what = what.unwrap_or_else(|| capture.selected.what.clone());
    merged
}
