//! Which captures to remove, so that they stay within a number and a size.

use std::path::PathBuf;

/// A capture on disk, with all of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Their sizes together.
    pub bytes: u64,
}

/// What captures may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The most captures.
    pub captures: usize,
    /// The most bytes of all together.
    pub bytes: u64,
}

/// How many of these, ordered by age, are to go: the oldest first, and the newest never.
pub fn surplus(kept: &[Kept], allowance: Allowance) -> usize {
    let mut bytes = kept.iter().map(|it| it.bytes).fold(0, u64::saturating_add);
    let mut surplus = kept.len().saturating_sub(allowance.captures.max(1));
    bytes -= kept[..surplus].iter().map(|it| it.bytes).sum::<u64>().min(bytes);
    while bytes > allowance.bytes && surplus + 1 < kept.len() {
        bytes -= kept[surplus].bytes.min(bytes);
        surplus += 1;
    }
    surplus
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(bytes: &[u64]) -> Vec<Kept> {
        bytes.iter().map(|bytes| Kept { files: Vec::new(), bytes: *bytes }).collect()
    }

    #[test]
    fn the_oldest_go_first_and_the_newest_stays() {
        let allowance = Allowance { captures: 3, bytes: 100 };
        assert_eq!(surplus(&kept(&[10, 10, 10]), allowance), 0);
        assert_eq!(surplus(&kept(&[10, 10, 10, 10]), allowance), 1);
        assert_eq!(surplus(&kept(&[60, 30, 30]), allowance), 1);
        assert_eq!(surplus(&kept(&[10, 10, 500]), allowance), 2);
        assert_eq!(surplus(&kept(&[]), allowance), 0);
    }

    proptest! {
        #[test]
        fn what_stays_is_within_the_allowance_or_alone(
            sizes in prop::collection::vec(0_u64..1000, 0..20), captures in 0_usize..10, bytes in 0_u64..3000
        ) {
            let all = kept(&sizes);
            let stays = &all[surplus(&all, Allowance { captures, bytes })..];
            let sum: u64 = stays.iter().map(|it| it.bytes).sum();
            prop_assert!(stays.len() <= captures.max(1));
            prop_assert!(sum <= bytes || stays.len() == 1);
        }
    }
}
