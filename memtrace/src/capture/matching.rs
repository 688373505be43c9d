//! The sites of a capture that a pattern matches.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use regex::Regex;

use super::Capture;
use crate::model::{
    AllocFn,
    stack::{Frame, NamedStack, StackId},
};

/// The capture with only those sites of which any frame matches: by its function, its module, or its
/// `file:line`; or which call a matching function of the allocator. A note says so. `None` when none
/// does.
pub fn matching(capture: &Capture, pattern: &Regex) -> Option<Capture> {
    let stacks = matching_stacks(&capture.stacks, pattern);
    let is_match = |stack: Option<StackId>, function: Option<AllocFn>| {
        stack.is_some_and(|stack| stacks.contains(&stack))
            || function.is_some_and(|function| pattern.is_match(function.name()))
    };
    let kept: Vec<bool> =
        capture.sites.iter().map(|site| is_match(site.stack, site.function)).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    if count == 0 {
        return None;
    }
    let mut selected = retain_sites(capture, &kept);
    selected.selected.what.push(format!("allocated on stacks that match /{pattern}/"));
    selected.selected.is_slice = true;
    selected.ending.completeness.notes.push(note(pattern, count, kept.len()));
    Some(selected)
}

/// The capture with only those sites of which it is said.
pub(super) fn retain_sites(capture: &Capture, kept: &[bool]) -> Capture {
    let mut selected = capture.clone();
    let live = &mut selected.live;
    let places = places(kept);
    live.retain(|item| kept.get(item.site as usize) == Some(&true));
    live.iter_mut().for_each(|item| item.site = places[item.site as usize]);
    retain(&mut selected.sites, kept);
    retain(&mut selected.extras, kept);
    selected
}

fn note(pattern: &Regex, count: usize, all: usize) -> String {
    format!(
        "Only the {count} of {all} stacks that match /{pattern}/ are listed; sums, sizes and \
         lifetimes are of all."
    )
}

/// Where each that is kept will be.
fn places(kept: &[bool]) -> Vec<u32> {
    let mut next = 0;
    let place = |kept: &bool| {
        let place = next;
        next += u32::from(*kept);
        place
    };
    kept.iter().map(place).collect()
}

fn retain<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    items.retain(|_| kept.next() == Some(&true));
}

/// Frames are shared by many stacks; each is looked at once.
fn matching_stacks(stacks: &[(StackId, NamedStack)], pattern: &Regex) -> HashSet<StackId> {
    let mut known: HashMap<*const Frame, bool> = HashMap::new();
    let mut is_match = |frame: &Arc<Frame>| {
        *known.entry(Arc::as_ptr(frame)).or_insert_with(|| frame_matches(frame, pattern))
    };
    let any = |(_, stack): &&(StackId, NamedStack)| stack.frames.iter().any(&mut is_match);
    stacks.iter().filter(any).map(|(id, _)| *id).collect()
}

fn frame_matches(frame: &Frame, pattern: &Regex) -> bool {
    let place = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{file}:{line}"),
        (Some(file), None) => file.clone(),
        (None, _) => String::new(),
    };
    [&frame.function, &frame.module, &place].into_iter().any(|text| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::{CapturedExtras, CapturedSite},
        model::site::{Amount, LiveItem, SiteStats},
    };

    fn frame(function: &str, module: &str, source: Option<(&str, u32)>) -> Arc<Frame> {
        Arc::new(Frame {
            function: function.to_owned(),
            module: module.to_owned(),
            file: source.map(|(file, _)| file.to_owned()),
            line: source.map(|(_, line)| line),
            ..Frame::default()
        })
    }

    /// Three sites that share a frame: of a library, of a cache, and of no known stack.
    fn capture() -> Capture {
        let main = frame("main", "app", Some(("/srv/main.c", 7)));
        let stack =
            |leaf: Arc<Frame>| NamedStack { frames: vec![leaf, main.clone()], missing_root: None };
        let site = |stack: Option<u64>, function| CapturedSite {
            stack: stack.map(StackId),
            function,
            object: Default::default(),
            stats: SiteStats { live: Amount::one(1), ..SiteStats::default() },
            process: 0,
        };
        let live = |(site, bytes)| LiveItem { site, bytes, ..LiveItem::default() };
        Capture {
            stacks: vec![
                (StackId(1), stack(frame("inflate", "libz.so.1", None))),
                (StackId(2), stack(frame("Cache::get", "app", Some(("/srv/cache.cc", 108))))),
            ],
            sites: vec![
                site(Some(1), Some(AllocFn::Malloc)),
                site(None, None),
                site(Some(2), Some(AllocFn::Mmap)),
            ],
            extras: (1..4)
                .map(|bytes| CapturedExtras {
                    at_peak: Some(Amount::one(bytes)),
                    ..Default::default()
                })
                .collect(),
            live: [(0, 10), (2, 30), (1, 20), (2, 31)].map(live).into(),
            ..Capture::default()
        }
    }

    /// The bytes of the live blocks that are left.
    fn left_by(pattern: &str) -> Vec<u64> {
        let pattern = Regex::new(pattern).unwrap();
        let capture = matching(&capture(), &pattern);
        capture.map_or(Vec::new(), |it| it.live.iter().map(|item| item.bytes).collect())
    }

    #[test]
    fn a_site_matches_by_any_frame() {
        assert_eq!(left_by("^Cache::"), [30, 31], "by function");
        assert_eq!(left_by(r"^libz\.so"), [10], "by module");
        assert_eq!(left_by(r"cache\.cc:108$"), [30, 31], "by line");
        assert_eq!(left_by("main.c:7"), [10, 30, 31], "by a frame near the root");
        assert_eq!(left_by("^mmap$"), [30, 31], "by what is called");
        assert_eq!(left_by("nothing of the kind"), [] as [u64; 0]);
    }

    #[test]
    fn what_is_left_belongs_together_and_a_note_says_that_something_is_missing() {
        let selected = matching(&capture(), &Regex::new("Cache").unwrap()).unwrap();
        assert_eq!(selected.sites[0].stack, Some(StackId(2)));
        assert_eq!(selected.extras[0].at_peak, Some(Amount::one(3)));
        assert!(selected.live.iter().all(|item| item.site == 0));
        let note = &selected.ending.completeness.notes[0];
        assert!(note.contains("1 of 3 stacks that match /Cache/"), "{note}");
    }
}
