//! What of a budget is spent, and what a budget of time keeps room for.

use super::schedule::Budget;

/// Largest share of a time budget for one validation. Where each takes more, there would be three of them
/// at most: too few to choose an epoch by, at the cost of much of the training.
pub(super) const VALIDATION: f64 = 0.25;

/// Share of a time budget that is kept for what the first closing of an epoch does beside validating and saving,
/// such as drawing.
pub(super) const REST: f64 = 0.01;

/// Share of a time budget that may be spent on finding out how long a validation takes.
pub(super) const PROBE: f64 = 0.01;

/// The pace of the last updates of this session.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Vec<f64>,
}

impl Pace {
    /// How many updates are looked at.
    const UPDATES: usize = 3;

    /// Takes note of an update that took so many seconds.
    pub(super) fn add(&mut self, seconds: f64) {
        if self.last.len() == Self::UPDATES {
            self.last.remove(0);
        }
        self.last.push(seconds);
    }

    /// Seconds that the next update is expected to take: the median, the lower one of two, as a first update
    /// also compiles or warms up and a single slow one must not end a training.
    pub(super) fn next(&self) -> f64 {
        let mut sorted = self.last.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len().saturating_sub(1) / 2;
        sorted.get(middle).copied().unwrap_or(0.0)
    }
}

/// Share of the budget that is spent after so many updates and seconds; a time budget is spent when
/// `reserve_s` seconds are left of it. `total` is the number of updates of other budgets.
pub(super) fn spent(
    budget: Budget,
    total: Option<u64>,
    reserve_s: f64,
    update: u64,
    elapsed_s: f64,
) -> f64 {
    match (budget, total) {
        // However short the time: a training without an update would have nothing to show.
        (Budget::Time(_), _) if update == 0 => 0.0,
        (Budget::Time(time), _) => elapsed_s / (time.as_secs_f64() - reserve_s).max(1e-3),
        (_, Some(total)) => update as f64 / total.max(1) as f64,
        (_, None) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_updates_but_for_one_outlier() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(), 0.0);
        for (seconds, next) in [(9.0, 9.0), (2.0, 2.0), (3.0, 3.0), (2.5, 2.5), (40.0, 3.0)] {
            pace.add(seconds);
            assert_eq!(pace.next(), next, "after {seconds}");
        }
    }

    #[test]
    fn a_time_budget_keeps_its_reserve_and_takes_at_least_one_update() {
        let budget = Budget::Time(Duration::from_secs(60));
        assert_eq!(spent(budget, None, 0.0, 5, 30.0), 0.5);
        assert_eq!(spent(budget, None, 20.0, 5, 40.0), 1.0);
        assert!(spent(budget, None, 70.0, 5, 1.0) > 1.0);
        assert_eq!(spent(budget, None, 70.0, 0, 80.0), 0.0);
        assert_eq!(spent(Budget::Steps(8), Some(8), 70.0, 2, 1e9), 0.25);
    }
}
