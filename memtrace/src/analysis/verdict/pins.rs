//! Who pins what is trapped, where that is known: in the words of a verdict.

use crate::model::{
    size::{bytes, count},
    verdict::{Evidence, Remedy},
};

use super::{
    attribution::signed,
    decide::share_of,
    facts::Facts,
    headline::percent,
    input::{Pin, Pins},
};

/// Sites that are named.
const SITES: usize = 3;

/// Who holds less than this share of what is trapped is not named.
const WORTH_A_NAME: f64 = 0.1;

fn known<'a>(facts: &Facts<'a>) -> Option<&'a Pins> {
    facts.input.pins.as_ref().filter(|pins| pins.trapped_bytes > 0)
}

/// Those that hold much of it.
fn worth(pins: &Pins) -> impl Iterator<Item = &Pin> {
    let is_worth = |pin: &&Pin| share_of(pin.trapped_bytes, pins.trapped_bytes) >= WORTH_A_NAME;
    pins.sites.iter().filter(is_worth).take(SITES)
}

/// What goes behind the headline: the one who pins most.
pub(super) fn clause(facts: &Facts) -> String {
    let first = known(facts).and_then(|pins| worth(pins).next().map(|pin| (pins, pin)));
    first.map_or(String::new(), |(pins, pin)| {
        let share = percent(share_of(pin.trapped_bytes, pins.trapped_bytes));
        format!("; {} pins {share} of it", pin.name)
    })
}

/// Each of them.
pub(super) fn evidence(facts: &Facts) -> Vec<Evidence> {
    let Some(pins) = known(facts) else { return Vec::new() };
    worth(pins).map(|pin| of_pin(pin, pins)).chain(unknown(pins)).collect()
}

fn of_pin(pin: &Pin, pins: &Pins) -> Evidence {
    let text = format!(
        "{} blocks of {} ({}) pin {} of the {} that are trapped.",
        count(pin.chunks),
        pin.name,
        bytes(pin.chunk_bytes),
        bytes(pin.trapped_bytes),
        bytes(pins.trapped_bytes),
    );
    let numbers = [
        ("pinned_bytes", signed(pin.trapped_bytes)),
        ("drop_bytes", signed(pin.drop_bytes)),
        ("pinning_bytes", signed(pin.chunk_bytes)),
        ("pinning_count", signed(pin.chunks)),
    ];
    Evidence { text, numbers: numbers.into() }
}

/// What is pinned by blocks of which nobody knows the site.
fn unknown(pins: &Pins) -> Option<Evidence> {
    let unknown = pins.unknown_bytes;
    (share_of(unknown, pins.trapped_bytes) >= WORTH_A_NAME).then(|| Evidence {
        text: format!(
            "{} of it are pinned by blocks whose site is not known: they were there before, or not \
             looked at.",
            bytes(unknown)
        ),
        numbers: [("pinned_by_unknown_bytes", signed(unknown))].into(),
    })
}

/// To take each of them from among the others.
pub(super) fn remedies(facts: &Facts) -> Vec<Remedy> {
    let Some(pins) = known(facts) else { return Vec::new() };
    worth(pins).map(remedy).collect()
}

fn remedy(pin: &Pin) -> Remedy {
    Remedy {
        action: format!(
            "keep what {} allocates away from short-lived blocks: in a pool of its own, or freed \
             before them",
            pin.name
        ),
        why: format!(
            "its blocks ({} in use) lie between freed ones; without them malloc_trim(0) gives back \
             {} more",
            bytes(pin.chunk_bytes),
            bytes(pin.drop_bytes),
        ),
        expected_bytes: Some(pin.drop_bytes),
    }
}
