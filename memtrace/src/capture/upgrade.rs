//! From older versions of the format to the one that is read.
//!
//! There is one step for each older major version, which turns its records into those of the next.
//! Whoever raises the major version adds the step, and a golden file of the version before.

use super::format::VERSION;

/// A record: its kind and its decompressed payload.
pub type Record = (u16, Vec<u8>);

/// A step from a major version to the next.
pub struct Upgrade {
    /// The version that it understands.
    pub from_major: u16,
    /// Changes a record. One that the next version does not have any more becomes none.
    pub record: fn(u16, Vec<u8>) -> Option<Record>,
}

/// All steps: none yet.
pub const UPGRADES: &[Upgrade] = &[];

/// The steps that a file needs, in order; `None` when it is too old.
pub fn steps(major: u16, to_major: u16, all: &[Upgrade]) -> Option<Vec<&Upgrade>> {
    (major..to_major).map(|from| all.iter().find(|step| step.from_major == from)).collect()
}

/// [`steps()`] of a file to what is read today.
pub fn steps_of(major: u16) -> Option<Vec<&'static Upgrade>> {
    steps(major, VERSION.major, UPGRADES)
}

/// Takes a record through the steps.
pub fn upgrade(steps: &[&Upgrade], kind: u16, payload: Vec<u8>) -> Option<Record> {
    steps.iter().try_fold((kind, payload), |(kind, payload), step| (step.record)(kind, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kind 1 was numbered 7, and kind 9 is no more.
    fn renumber(kind: u16, payload: Vec<u8>) -> Option<Record> {
        match kind {
            7 => Some((1, payload)),
            9 => None,
            _ => Some((kind, payload)),
        }
    }

    /// Payloads have got a byte more.
    fn lengthen(kind: u16, mut payload: Vec<u8>) -> Option<Record> {
        payload.push(0);
        Some((kind, payload))
    }

    const STEPS: [Upgrade; 2] =
        [Upgrade { from_major: 2, record: lengthen }, Upgrade { from_major: 1, record: renumber }];

    #[test]
    fn an_old_record_goes_through_every_step_to_today() {
        let steps = steps(1, 3, &STEPS).expect("every step is there");
        assert_eq!(upgrade(&steps, 7, vec![5]), Some((1, vec![5, 0])));
        assert_eq!(upgrade(&steps, 9, vec![5]), None);
        let newer = super::steps(2, 3, &STEPS).expect("one step");
        assert_eq!(upgrade(&newer, 7, vec![5]), Some((7, vec![5, 0])));
    }

    #[test]
    fn a_file_of_today_needs_no_step_and_one_that_is_too_old_has_none() {
        assert_eq!(steps_of(VERSION.major).map(|steps| steps.len()), Some(0));
        assert!(steps(0, 3, &STEPS).is_none());
    }

    #[test]
    fn every_older_version_has_a_step() {
        assert!(steps_of(1).is_some(), "version 1 must stay readable");
    }
}
