//! How often the ledger lost something, by kind.

use crate::model::loss::Loss;

/// Counts of the losses that arise on the user side.
#[derive(Debug, Default)]
pub struct LossCounts {
    undecodable: u64,
    live_blocks_full: u64,
    live_ranges_full: u64,
    sites_full: u64,
    stacks_full: u64,
    unpaired: u64,
    implied_free: u64,
    freed_unseen: u64,
}

impl LossCounts {
    /// Counts one. A loss of the kernel side has its own counters there and is not counted here.
    pub fn count(&mut self, loss: Loss) {
        if let Some(counter) = self.counter(loss) {
            *counter += 1;
        }
    }

    /// Calls of which one half is missing, see [`Loss::Unpaired`].
    pub fn unpaired(&self) -> u64 {
        self.unpaired
    }

    /// Nothing is missing of those since they were so many.
    pub fn settle_unpaired(&mut self, since: u64) {
        self.unpaired = self.unpaired.min(since);
    }

    /// The losses that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> {
        [
            (Loss::Undecodable, self.undecodable),
            (Loss::LiveBlocksFull, self.live_blocks_full),
            (Loss::LiveRangesFull, self.live_ranges_full),
            (Loss::SitesFull, self.sites_full),
            (Loss::StacksFull, self.stacks_full),
            (Loss::Unpaired, self.unpaired),
            (Loss::ImpliedFree, self.implied_free),
            (Loss::FreedUnseen, self.freed_unseen),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }

    fn counter(&mut self, loss: Loss) -> Option<&mut u64> {
        match loss {
            Loss::Undecodable => Some(&mut self.undecodable),
            Loss::LiveBlocksFull => Some(&mut self.live_blocks_full),
            Loss::LiveRangesFull => Some(&mut self.live_ranges_full),
            Loss::SitesFull => Some(&mut self.sites_full),
            Loss::StacksFull => Some(&mut self.stacks_full),
            Loss::Unpaired => Some(&mut self.unpaired),
            Loss::ImpliedFree => Some(&mut self.implied_free),
            Loss::FreedUnseen => Some(&mut self.freed_unseen),
            Loss::RingFull | Loss::Kernel(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_unpaired_before_is_not_settled() {
        let mut losses = LossCounts::default();
        losses.count(Loss::Unpaired);
        let before = losses.unpaired();
        (0..3).for_each(|_| losses.count(Loss::Unpaired));
        losses.settle_unpaired(before);
        assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::Unpaired, 1)]);
    }

    #[test]
    fn only_what_happened_is_listed_and_every_user_side_loss_can_be() {
        let mut losses = LossCounts::default();
        assert_eq!(losses.iter().count(), 0);
        Loss::all().for_each(|loss| losses.count(loss));
        let expected: Vec<_> = Loss::all()
            .filter(|loss| !matches!(loss, Loss::RingFull | Loss::Kernel(_)))
            .map(|loss| (loss, 1))
            .collect();
        let mut counted: Vec<_> = losses.iter().collect();
        counted.sort_by_key(|(loss, _)| expected.iter().position(|(other, _)| other == loss));
        assert_eq!(counted, expected);
    }
}
