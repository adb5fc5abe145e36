//! Listings and price changes per second, for the last two minutes. Pure.

use std::collections::VecDeque;

/// Number of the last seconds whose mean is the current rate.
const MEAN_SECONDS: usize = 10;

/// Listings of each second of the last two minutes, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct RateHistory {
    values: VecDeque<u64>,
    /// Total at the end of the last second; `None` before the first.
    total: Option<u64>,
}

impl RateHistory {
    /// Number of seconds kept.
    pub(super) const CAPACITY: usize = 120;

    /// Adds the total number of listings after one more second.
    pub(super) fn add_total(&mut self, total: u64) {
        if let Some(before) = self.total.replace(total) {
            if Self::CAPACITY <= self.values.len() {
                self.values.pop_front();
            }
            self.values.push_back(total.saturating_sub(before));
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = u64> {
        self.values.iter().copied()
    }

    /// Returns the mean of the last seconds, in tenths.
    pub(super) fn per_second_tenths(&self) -> u64 {
        let last = self.values.iter().rev().take(MEAN_SECONDS);
        let (count, sum) = last.fold((0_u64, 0_u64), |(count, sum), value| {
            (count.saturating_add(1), sum.saturating_add(*value))
        });
        sum.saturating_mul(10).checked_div(count).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_has_the_listings_of_each_second_and_is_bounded() {
        let mut rates = RateHistory::default();
        assert_eq!(rates.per_second_tenths(), 0);
        for second in 0..500 {
            rates.add_total(100 + second * 3);
        }
        assert_eq!(rates.values().count(), 120);
        rates.add_total(1_600);
        assert_eq!(rates.values().last(), Some(3));
        rates.add_total(1_610);
        assert_eq!((rates.values().last(), rates.per_second_tenths()), (Some(10), 37));
    }
}
