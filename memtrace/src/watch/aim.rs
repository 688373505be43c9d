//! Which of several processes to look at.

/// A process of what is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its pid.
    pub pid: u32,
    /// Its RSS.
    pub rss_bytes: u64,
    /// How much that has grown, in a second.
    pub bytes_per_second: i64,
}

/// The one that grows, if there is one that makes up most of the growth of all; else the largest.
pub fn aim(candidates: &[Candidate]) -> Option<Candidate> {
    let growth = |it: &Candidate| it.bytes_per_second.max(0).unsigned_abs();
    let all: u64 = candidates.iter().map(growth).fold(0, u64::saturating_add);
    let fastest = candidates.iter().max_by_key(|it| growth(it))?;
    if growth(fastest) > all / 2 && growth(fastest) > NOISE {
        return Some(*fastest);
    }
    candidates.iter().max_by_key(|it| it.rss_bytes).copied()
}

/// Growth below this is none: 64 KiB in a second.
const NOISE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(pid: u32, rss_bytes: u64, bytes_per_second: i64) -> Candidate {
        Candidate { pid, rss_bytes, bytes_per_second }
    }

    #[test]
    fn who_grows_is_looked_at_even_when_another_is_larger() {
        let all = [candidate(1, 1 << 30, 1000), candidate(2, 1 << 20, 1 << 20)];
        assert_eq!(aim(&all).unwrap().pid, 2);
    }

    #[test]
    fn where_nobody_or_everybody_grows_it_is_the_largest() {
        let still = [candidate(1, 5, 0), candidate(2, 9, -100), candidate(3, 1, 100)];
        assert_eq!(aim(&still).unwrap().pid, 2);
        let all = [candidate(1, 5, 1 << 20), candidate(2, 9, 1 << 20), candidate(3, 1, 1 << 20)];
        assert_eq!(aim(&all).unwrap().pid, 2);
        assert_eq!(aim(&[]), None);
    }
}
