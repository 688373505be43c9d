//! The budget as an account: the target's CPU time earns, probes spend.

/// The part of the budget that is planned with: costs are estimates, and arming has some that are not
/// counted.
const PLANNED: f64 = 0.6;

/// The share of the target's CPU time that may go into tracing when it may become slower by
/// `max_overhead` (0.1: a tenth): of a target that takes 1.1 times as long, 0.1 of 1.1.
pub fn allowance(max_overhead: f64) -> f64 {
    max_overhead / (1.0 + max_overhead)
}

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Account {
    /// What a nanosecond of the target's CPU time earns.
    rate: f64,
    /// Nanoseconds of the target's CPU time; negative: spent ahead.
    balance_ns: f64,
    /// As much as can be saved up: a target that was idle for long is not stopped for long.
    most_ns: f64,
}

impl Account {
    /// One with so much in it.
    pub(super) fn new(max_overhead: f64, balance_ns: f64, most_ns: f64) -> Self {
        Self { rate: allowance(max_overhead) * PLANNED, balance_ns, most_ns }
    }

    /// The target used CPU time, and lost some of it.
    pub(super) fn book(&mut self, cpu_ns: f64, lost_ns: f64) {
        self.balance_ns = (self.balance_ns + cpu_ns * self.rate - lost_ns).min(self.most_ns);
    }

    /// Whether so much can be spent.
    pub(super) fn can_pay(&self, price_ns: f64) -> bool {
        self.balance_ns >= price_ns.min(self.most_ns)
    }

    /// How much CPU time of the target earns this.
    pub(super) fn earning_time_ns(&self, price_ns: f64) -> f64 {
        price_ns / self.rate
    }

    /// The price that a setting may have all the time.
    pub(super) fn steady_price(max_overhead: f64) -> f64 {
        max_overhead * PLANNED
    }

    /// The price from which on a setting is given up.
    pub(super) fn unbearable_price(max_overhead: f64) -> f64 {
        max_overhead * (1.0 + PLANNED) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_may_take_a_tenth_longer_loses_a_eleventh_of_its_time() {
        assert!((allowance(0.1) - 1.0 / 11.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_earned_can_be_spent_and_savings_have_an_end() {
        let mut account = Account::new(1.0, 0.0, 100.0);
        account.book(200.0, 0.0);
        assert!(account.can_pay(60.0) && !account.can_pay(61.0));
        account.book(1e9, 0.0);
        assert!(account.can_pay(1e9), "what costs more than can be saved up is paid afterwards");
        account.book(0.0, 150.0);
        assert!(!account.can_pay(1.0));
        assert!((account.earning_time_ns(60.0) - 200.0).abs() < 1e-9);
    }
}
