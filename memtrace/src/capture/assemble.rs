//! From what was found in a file to a capture, with what is missing made up for where it can be.

use std::io::{Read, Seek};

use super::{
    Capture, CapturedProcess, CapturedSite, Events as _, EventsKept, OfProcess,
    cut::Cut,
    format::{BlockKind, MAX_STACKS},
    found::Found,
    frames::FrameReader,
    merge::merge,
    parts::Parts,
    raw_stacks::{RecordedStack, read_raw_stacks},
    read::{Opened, ReadError},
    recover::{name_stacks, nameless, recover_books, recover_ending},
    scan::{BlockRef, Scanner},
    stored::{BlockSource, EventsError, StoredEvents},
};

/// Blocks that sites and live records are in.
const BOOKS: [BlockKind; 2] = [BlockKind::Sites, BlockKind::Live];

/// What is said where they are damaged and cannot be made up for.
const BOOKS_LOST: &str =
    "sites or live memory of the capture are damaged, and its events do not make up for them";

/// Makes a capture of what was found.
pub(super) fn assemble<R: Read + Seek>(
    mut found: Found,
    scanner: Scanner<R>,
) -> Result<Opened<R>, ReadError> {
    let mut cut = Cut {
        read_bytes: scanner.offset(),
        file_bytes: scanner.length(),
        damaged_blocks: found.damaged.len() as u64,
        has_end: found.parts.end.is_some(),
        has_ending: found.parts.ending.is_some(),
    };
    let mut capture = capture(std::mem::take(&mut found.parts))?;
    let source = BlockSource::new(scanner.into_source(), std::mem::take(&mut found.upgrades));
    let events = StoredEvents::new(source, std::mem::take(&mut found.events));
    recover(&mut capture, &events, &found, cut.has_ending);
    cut.damaged_blocks += drop_lost_sites(&mut capture);
    name_the_nameless(&mut capture, events.source(), &found.raw_stacks);
    let cut = (!cut.has_end || cut.damaged_blocks > 0).then_some(cut);
    if let Some(cut) = &cut {
        let sentence = cut.sentence(capture.events);
        note(&mut capture, sentence);
    }
    Ok(Opened { capture, events, cut, unknown: found.unknown })
}

fn capture(parts: Parts) -> Result<Capture, ReadError> {
    let Parts { header, modules, mut stacks, mut sites, live, mut processes, .. } = parts;
    let Parts { threads, timeline, walks, layouts, kept, ending, .. } = parts;
    if !stacks.is_sorted_by_key(|(id, _)| *id) {
        stacks.sort_by_key(|(id, _)| *id);
    }
    let (ending, events) = (ending.unwrap_or_default(), kept.unwrap_or_default());
    let header = header.ok_or(ReadError::NoHeader)?;
    let (selected, extras) = Default::default();
    tell_whose(&mut sites, &processes);
    let layouts = layouts.finish(&mut processes);
    Ok(Capture {
        header,
        modules,
        stacks,
        selected,
        sites,
        extras,
        live,
        threads,
        timeline,
        walks,
        layouts,
        ending,
        events,
        processes,
    })
}

fn recover<R: Read + Seek>(
    capture: &mut Capture,
    events: &StoredEvents<R>,
    found: &Found,
    has_ending: bool,
) {
    let damaged_events = found.count_damaged(BlockKind::Events);
    if !has_ending && !capture.processes.is_empty() {
        return recover_processes(capture, events, damaged_events);
    }
    if !has_ending {
        let (kept, result) = recover_books(capture, events, events.at_most());
        recover_ending(capture);
        capture.events = EventsKept { kept, left_out: damaged_events };
        note_error(capture, result);
        return;
    }
    if damaged_events > 0 {
        count_lost_events(capture, events, damaged_events);
    }
    if BOOKS.iter().any(|kind| found.count_damaged(*kind) > 0) {
        recover_lost_books(capture, events);
    }
}

/// What the ending says holds, but what belonged to it is lost.
fn recover_lost_books<R: Read + Seek>(capture: &mut Capture, events: &StoredEvents<R>) {
    if !capture.events.is_complete() {
        capture.live.clear();
        return note(capture, BOOKS_LOST.to_owned());
    }
    let (ending, processes) =
        (std::mem::take(&mut capture.ending), std::mem::take(&mut capture.processes));
    let result = if processes.is_empty() {
        recover_books(capture, events, events.at_most()).1
    } else {
        let whole = Capture { processes: processes.clone(), ..capture.clone() };
        let (recovered, result) = recovered_parts(&whole, events);
        let Capture { sites, live, .. } = merge(recovered);
        (capture.sites, capture.live) = (sites, live);
        result
    };
    (capture.ending, capture.processes) = (ending, processes);
    note_error(capture, result);
}

/// Each process by its own events.
fn recover_processes<R: Read + Seek>(
    capture: &mut Capture,
    events: &StoredEvents<R>,
    damaged_events: u64,
) {
    let (mut parts, result) = recovered_parts(capture, events);
    parts.iter_mut().for_each(recover_ending);
    let stacks = std::mem::take(&mut capture.stacks);
    *capture = merge(parts);
    capture.stacks = stacks;
    capture.events.left_out += damaged_events;
    note_error(capture, result);
}

fn recovered_parts<R: Read + Seek>(
    capture: &Capture,
    events: &StoredEvents<R>,
) -> (Vec<Capture>, Result<(), EventsError>) {
    let (mut parts, mut result) = (capture.parts(), Ok(()));
    for (part, process) in parts.iter_mut().zip(&capture.processes) {
        let own = OfProcess { events, number: process.number };
        let (kept, read) = recover_books(part, &own, events.at_most());
        part.events = EventsKept { kept, left_out: 0 };
        result = result.and(read);
    }
    (parts, result)
}

/// Says of sites of a file whose they are.
fn tell_whose(sites: &mut [CapturedSite], processes: &[CapturedProcess]) {
    for process in processes {
        let (first, count) = (process.first_site as usize, process.sites as usize);
        let own = sites.iter_mut().skip(first).take(count);
        own.for_each(|site| site.process = process.number);
    }
}

/// A damaged block does not tell how many events it had, but the others do.
fn count_lost_events<R: Read + Seek>(
    capture: &mut Capture,
    events: &StoredEvents<R>,
    damaged_blocks: u64,
) {
    let mut readable = 0;
    let result = events.replay(&mut |_| readable += 1);
    let EventsKept { kept, left_out } = capture.events;
    let lost = kept.saturating_sub(readable).max(damaged_blocks);
    capture.events = EventsKept { kept: readable, left_out: left_out.saturating_add(lost) };
    note_error(capture, result);
}

/// Live records whose site is not there say nothing. 1 when there were some: a block of sites is
/// not what it should be.
fn drop_lost_sites(capture: &mut Capture) -> u64 {
    let (sites, count) = (capture.sites.len(), capture.live.len());
    capture.live.retain(|record| (record.site as usize) < sites);
    u64::from(capture.live.len() < count)
}

/// Names the stacks of sites that have none by addresses.
fn name_the_nameless<R: Read + Seek>(
    capture: &mut Capture,
    source: &BlockSource<R>,
    raw_stacks: &[BlockRef],
) {
    let nameless = nameless(capture);
    if nameless.is_empty() {
        return;
    }
    let (recorded, result) = recorded(source, raw_stacks);
    name_stacks(capture, &nameless, &recorded);
    note_error(capture, result);
}

fn recorded<R: Read + Seek>(
    source: &BlockSource<R>,
    blocks: &[BlockRef],
) -> (Vec<RecordedStack>, Result<(), EventsError>) {
    let (mut recorded, mut names) = (Vec::new(), FrameReader::default());
    let result = source.each(blocks, |_, payload| {
        let result = read_raw_stacks(payload, &mut names, &mut recorded);
        recorded.truncate(MAX_STACKS);
        result
    });
    (recorded, result)
}

fn note_error(capture: &mut Capture, result: Result<(), EventsError>) {
    if let Err(error) = result {
        note(capture, error.to_string());
    }
}

fn note(capture: &mut Capture, sentence: String) {
    capture.ending.completeness.complete = false;
    capture.ending.completeness.notes.push(sentence);
}
