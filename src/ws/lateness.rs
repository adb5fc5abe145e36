//! Decides which of several connections to replace because it always delivers last. Pure.
//!
//! The feed of a market may reach one connection later than another for as long as it lasts,
//! because of the server or the route. A window ends with the first look after one of the
//! connections has delivered [`LISTINGS_MIN`] listings, so that a few listings decide nothing. The
//! connection that was last in [`WINDOWS_MAX`] windows in a row is replaced.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use crate::config::CONNECTIONS_MAX;

/// Interval between two looks at the counters, and the minimum length of a window.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Minimum number of listings that one of the connections delivers in a window.
const LISTINGS_MIN: u64 = 20;

/// Percentage of late listings from which a connection counts as last.
const LATE_PERCENT_MIN: u64 = 90;

/// Minimum mean lateness of a connection that counts as last; less is noise.
const LATE_MEAN_MIN: Duration = Duration::from_millis(1);

/// Number of windows in a row after which a connection that was last in each is replaced.
const WINDOWS_MAX: u32 = 10;

/// Deliveries of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deliveries {
    /// Number of listings that this connection delivered first.
    pub(super) first: u64,
    /// Number of listings that another one had delivered before.
    pub(super) late: u64,
    /// Sum of the lateness, in microseconds.
    pub(super) late_us: u64,
}

impl Deliveries {
    const fn listings(self) -> u64 {
        self.first.saturating_add(self.late)
    }

    fn since(self, before: Self) -> Self {
        Self {
            first: self.first.saturating_sub(before.first),
            late: self.late.saturating_sub(before.late),
            late_us: self.late_us.saturating_sub(before.late_us),
        }
    }

    /// Returns the mean lateness in microseconds if the connection counts as last.
    fn mean_if_last(self) -> Option<u64> {
        let is_late = self.late.saturating_mul(100)
            >= self.listings().saturating_mul(LATE_PERCENT_MIN)
            && self.late >= LISTINGS_MIN / 2;
        let mean = self.late_us.checked_div(self.late)?;
        (is_late && u128::from(mean) >= LATE_MEAN_MIN.as_micros()).then_some(mean)
    }
}

/// Counts the windows in which each connection was last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LatenessPolicy {
    /// Totals at the start of the window.
    start: [Deliveries; CONNECTIONS_MAX],
    last_in_a_row: [u32; CONNECTIONS_MAX],
}

impl LatenessPolicy {
    /// Evaluates the totals of all connections. Returns the index of the connection to replace.
    pub(super) fn look(&mut self, totals: &[Deliveries; CONNECTIONS_MAX]) -> Option<usize> {
        let window: Vec<Deliveries> =
            totals.iter().zip(self.start).map(|(total, start)| total.since(start)).collect();
        if window.iter().all(|deliveries| deliveries.listings() < LISTINGS_MIN) {
            return None;
        }
        self.start = *totals;
        let means = window.iter().enumerate();
        let last =
            means.filter_map(|(index, deliveries)| Some((deliveries.mean_if_last()?, index)));
        let last = last.max().map(|(_mean, index)| index);
        for (index, windows) in self.last_in_a_row.iter_mut().enumerate() {
            *windows = if last == Some(index) { windows.saturating_add(1) } else { 0 };
        }
        let last = last?;
        let windows = self.last_in_a_row.get_mut(last)?;
        (*windows >= WINDOWS_MAX).then(|| {
            *windows = 0;
            last
        })
    }

    /// Forgets the windows of a connection that was replaced or lost.
    pub(super) fn reset(&mut self, connection: usize) {
        if let Some(windows) = self.last_in_a_row.get_mut(connection) {
            *windows = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    /// Adds a window in which connection 0 is first for `listings`, and 1 is late by `late_us`.
    fn add(totals: &mut [Deliveries; CONNECTIONS_MAX], listings: u64, late_us: u64) {
        totals[0].first += listings;
        totals[1].late += listings;
        totals[1].late_us += listings * late_us;
    }

    /// Returns the looks at which connection 1 is replaced.
    fn replaced(windows: u32, listings: u64, late_us: u64) -> Vec<u32> {
        let (mut policy, mut totals) = (LatenessPolicy::default(), Default::default());
        let look = |_window: &u32| {
            add(&mut totals, listings, late_us);
            let replaced = policy.look(&totals);
            assert!(replaced.is_none() || replaced == Some(1), "{replaced:?}");
            replaced.is_some()
        };
        (1..=windows).filter(look).collect()
    }

    #[test]
    fn a_connection_that_is_last_in_ten_windows_in_a_row_is_replaced() {
        assert_eq!(replaced(25, LISTINGS_MIN, MS), [10, 20]);
    }

    #[test]
    fn lateness_within_the_noise_replaces_nothing() {
        assert_eq!(replaced(100, 1_000, MS - 1), [0; 0]);
    }

    #[test]
    fn a_quiet_feed_is_judged_after_enough_listings() {
        assert_eq!(replaced(100, LISTINGS_MIN / 4, 5 * MS), [40, 80]);
    }

    #[test]
    fn a_window_with_a_tenth_of_first_deliveries_or_a_reset_starts_again() {
        let (mut policy, mut totals) = (LatenessPolicy::default(), Default::default());
        let mut look = |shared: bool| {
            add(&mut totals, 100, 5 * MS);
            totals[1].first += if shared { 12 } else { 0 };
            policy.look(&totals)
        };
        assert!((0..9).all(|_| look(false).is_none()));
        assert_eq!(look(true), None);
        assert!((0..9).all(|_| look(false).is_none()));
        assert_eq!(look(false), Some(1));
        let mut look = |reset: bool| {
            if reset {
                policy.reset(1);
            }
            add(&mut totals, 100, 5 * MS);
            policy.look(&totals)
        };
        assert!((0..9).all(|_| look(false).is_none()));
        assert_eq!(look(true), None);
        assert!((0..8).all(|_| look(false).is_none()));
        assert_eq!(look(false), Some(1));
    }

    #[test]
    fn of_several_late_connections_the_latest_is_replaced() {
        let (mut policy, mut totals) =
            (LatenessPolicy::default(), <[Deliveries; CONNECTIONS_MAX]>::default());
        let mut replaced = Vec::new();
        for _window in 0..10 {
            totals[3].first += 50;
            for (index, late_us) in [(0, 2 * MS), (1, 9 * MS), (2, 4 * MS)] {
                totals[index].late += 50;
                totals[index].late_us += 50 * late_us;
            }
            replaced.extend(policy.look(&totals));
        }
        assert_eq!(replaced, [1]);
    }
}
