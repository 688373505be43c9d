//! How many of a site's blocks are alive, of which only some were seen to end.
//!
//! Where probes come in short bursts, a block that outlived the burst it was obtained in may be freed
//! while nobody looks, and its address handed out again. What is seen later at its address, in other
//! bursts, is either nothing, as of a block that is kept, or the frees and allocations that go on at
//! any address of short-lived blocks. So a site's blocks are taken for a mixture (a "cure model"): a
//! part is kept, at the addresses of the rest something happens at a constant rate. Both are fitted by
//! expectation and maximization to how long each address was watched until something was seen there.
//!
//! Addresses at which nothing is seen any more need not be those of kept blocks of the site: a block that
//! is kept, of whichever site, may have been put where another was freed unseen. How often that was
//! follows from how many of all blocks of that size are kept: see [`Pool`]. docs/sampling.md has the
//! formulas.

/// Steps of the fit at most; each is a pass over the groups of [`Left`].
const STEPS: usize = 200;
/// A fit that moves less than this has arrived.
const STILL: f64 = 1e-7;
/// Halvings that find a part of all blocks.
const HALVINGS: usize = 50;

/// Blocks of a site that outlived their burst, and are not live any more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ended {
    /// Seen to be freed in a later burst, they or what followed them at their address.
    pub freed: u64,
    /// Their address was seen to be handed out again.
    pub reused: u64,
    /// Found to be free, by the heap.
    pub gone: u64,
    /// For how long the addresses of all of them were watched until then.
    pub watched_ns: f64,
}

/// Such blocks that may be live: nothing was seen at their addresses, which are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Left {
    /// How many.
    pub count: u64,
    /// For how long each address was watched since the burst.
    pub watched_ns: f64,
    /// For how long it was not.
    pub unwatched_ns: f64,
}

/// A mixture that was fitted to what was seen of a site.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mixture {
    /// The part that is kept.
    kept: f64,
    /// How often something is seen at the address of another, each nanosecond.
    events: f64,
    /// How often that is a free.
    frees: f64,
    /// How likely the address of another is in use at the end, where nothing was seen at it.
    in_use: f64,
}

impl Mixture {
    /// All that is left is kept.
    const KEPT: Self = Self { kept: 1.0, events: 0.0, frees: 0.0, in_use: 0.0 };

    /// The most likely one; of several that are as likely, one of which more is kept. Where nothing was
    /// seen to happen, all that is left is.
    pub fn fit(ended: &Ended, left: &[Left]) -> Self {
        let seen = (ended.freed + ended.reused) as f64;
        if seen == 0.0 {
            return Self::KEPT;
        }
        let in_use: u64 = left.iter().map(|group| group.count).sum();
        let all = seen + (ended.gone + in_use) as f64;
        let mut mixture = Self { kept: in_use as f64 / all, in_use: 0.5, ..Self::KEPT };
        mixture.set_rates(ended, left);
        for _ in 0..STEPS {
            let others = mixture.others(left);
            let kept = (in_use as f64 - others).max(0.0) / all;
            let moved = (kept - mixture.kept).abs();
            let in_use = others / (others + ended.gone as f64).max(f64::MIN_POSITIVE);
            mixture.set_rates(ended, left);
            (mixture.kept, mixture.in_use) = (kept, in_use);
            if moved < STILL {
                break;
            }
        }
        mixture
    }

    fn set_rates(&mut self, ended: &Ended, left: &[Left]) {
        let of_left =
            |group: &Left| group.count as f64 * self.chance_of_other(group) * group.watched_ns;
        let watched_ns = ended.watched_ns + left.iter().map(of_left).sum::<f64>();
        let rate = |count: u64| count as f64 / watched_ns.max(1.0);
        (self.events, self.frees) = (rate(ended.freed + ended.reused), rate(ended.freed));
    }

    /// How many of what is left are not kept.
    fn others(&self, left: &[Left]) -> f64 {
        left.iter().map(|group| group.count as f64 * self.chance_of_other(group)).sum()
    }

    /// How likely a block that is left is none of those that are kept.
    fn chance_of_other(&self, group: &Left) -> f64 {
        let other = (1.0 - self.kept) * (-self.events * group.watched_ns).exp() * self.in_use;
        if other <= 0.0 { 0.0 } else { other / (other + self.kept) }
    }

    /// How likely a block that is left is at an address at which nothing happens any more.
    pub fn chance_of_rest(&self, group: &Left) -> f64 {
        1.0 - self.chance_of_other(group)
    }

    /// How likely a block that is left is alive: it is kept, or has not been freed yet. `pool` is that
    /// of its size.
    pub fn chance_of_life(&self, group: &Left, pool: &Pool) -> f64 {
        let other = self.chance_of_other(group);
        let not_yet = (-self.frees * group.unwatched_ns).exp() / self.in_use.max(f64::MIN_POSITIVE);
        (1.0 - other) * pool.chance_of_own(self.kept) + other * not_yet.min(1.0)
    }
}

/// Addresses of blocks of about the same size, of all sites: what is freed by one may be handed out to
/// another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pool {
    /// How likely the address of a block that is freed is taken by one that is kept before anything is
    /// seen of it.
    taken: f64,
}

impl Pool {
    /// `at_rest` is the part of all blocks at whose addresses nothing happens any more, `watched` the
    /// part of the time that somebody looked.
    pub fn new(at_rest: f64, watched: f64) -> Self {
        let missed = (1.0 - watched.clamp(0.0, 1.0)).powi(2);
        // Each free and each allocation at the address is seen or not; each allocation is kept or not.
        let taken = |kept: f64| {
            let goes_on = missed * (1.0 - kept);
            missed * kept / (1.0 - goes_on).max(f64::MIN_POSITIVE)
        };
        // What is at rest is kept, or was taken by what is kept: it grows with what is kept.
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..HALVINGS {
            let kept = (low + high) / 2.0;
            let bound =
                if kept + (1.0 - kept) * taken(kept) < at_rest { &mut low } else { &mut high };
            *bound = kept;
        }
        Self { taken: taken(low) }
    }

    /// Of a site's blocks the part `at_rest` is where nothing happens any more: how likely one of these
    /// is a block of the site.
    fn chance_of_own(&self, at_rest: f64) -> f64 {
        if at_rest >= 1.0 {
            return 1.0;
        }
        if at_rest <= self.taken {
            return 0.0;
        }
        (at_rest - self.taken) / (1.0 - self.taken) / at_rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn left(count: u64, watched_ns: f64) -> Left {
        Left { count, watched_ns, unwatched_ns: 20.0 * watched_ns }
    }

    /// Nothing is taken by others.
    const APART: Pool = Pool { taken: 0.0 };

    #[test]
    fn where_nothing_was_seen_to_end_all_are_alive() {
        let left = [left(100, 1e9), left(3, 5e8)];
        let mixture = Mixture::fit(&Ended::default(), &left);
        assert!(
            left.iter().all(|group| mixture.chance_of_life(group, &APART) > 0.999_999),
            "{mixture:?}"
        );
        let gone = Ended { gone: 50, watched_ns: 50e9, ..Ended::default() };
        let mixture = Mixture::fit(&gone, &left);
        assert!(
            left.iter().all(|group| mixture.chance_of_life(group, &APART) > 0.999_999),
            "{mixture:?}"
        );
    }

    #[test]
    fn addresses_at_which_much_happens_tell_of_blocks_that_are_not_alive() {
        // Something happens each 100 ms; those watched for a second that saw nothing are kept.
        let ended = Ended { freed: 500, reused: 480, gone: 0, watched_ns: 980.0 * 1e8 };
        let groups = [left(20, 1e9), left(40, 1e7)];
        let mixture = Mixture::fit(&ended, &groups);
        assert!(mixture.chance_of_life(&groups[0], &APART) > 0.9, "{mixture:?}");
        assert!(mixture.chance_of_life(&groups[1], &APART) < 0.7, "{mixture:?}");
    }

    #[test]
    fn what_is_kept_takes_the_addresses_of_what_was_freed_unseen() {
        // Of 10,000 blocks 10 are kept. One in twenty events is seen: of the others' addresses, 92 are
        // taken by kept ones before anything is seen of them.
        let pool = Pool::new(0.0102, 0.05);
        assert!((0.009..0.0095).contains(&pool.taken), "{pool:?}");
        assert_eq!(pool.chance_of_own(1.0), 1.0, "of this site nothing was seen to be freed");
        assert_eq!(pool.chance_of_own(pool.taken), 0.0, "of this one everything is freed");
        assert_eq!(Pool::new(0.5, 1.0).taken, 0.0, "all is seen");
        assert_eq!(Pool::new(0.0, 0.0).taken, 0.0);
    }

    proptest! {
        #[test]
        fn chances_are_chances_whatever_was_seen(
            freed in 0_u64..1 << 40, reused in 0_u64..1 << 40, gone in 0_u64..1 << 40,
            watched_ns in 0.0..1e20_f64, at_rest in 0.0..=1.0_f64, watched in 0.0..=1.0_f64,
            groups in prop::collection::vec((0_u64..1 << 30, 0.0..1e18_f64, 0.0..1e18_f64), 0..9),
        ) {
            let ended = Ended { freed, reused, gone, watched_ns };
            let of = |&(count, watched_ns, unwatched_ns): &(u64, f64, f64)| {
                Left { count, watched_ns, unwatched_ns }
            };
            let groups: Vec<Left> = groups.iter().map(of).collect();
            let (mixture, pool) = (Mixture::fit(&ended, &groups), Pool::new(at_rest, watched));
            for group in &groups {
                let chance = mixture.chance_of_life(group, &pool);
                prop_assert!((0.0..=1.0).contains(&chance), "{chance} {mixture:?}");
            }
        }
    }
}
