//! Computes from the rate of orders and the time of a disk sync how many approvals are made durable
//! in advance.
//!
//! Pure, and without allocation.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use crate::domain::time::UnixMs;

/// Minimum number of orders that are made durable in advance.
pub(super) const ORDERS_AHEAD_MIN: u32 = 64;
/// Number of syncs whose orders are made durable in advance.
const AHEAD_FACTOR: u128 = 4;
/// Number of seconds that are remembered.
const SECONDS: usize = 60;
/// One second, in milliseconds.
const SECOND_MS: i64 = 1_000;

/// Returns how many orders to make durable in advance: those of four syncs at this rate, at least
/// [`ORDERS_AHEAD_MIN`].
pub(super) fn orders_ahead(sync: Duration, per_second: u32) -> u32 {
    let micros = sync.as_micros().saturating_mul(u128::from(per_second));
    let orders = micros.saturating_mul(AHEAD_FACTOR).div_ceil(1_000_000);
    u32::try_from(orders).unwrap_or(u32::MAX).max(ORDERS_AHEAD_MIN)
}

/// Most orders in a one-second window that ended in this second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Peak {
    second: i64,
    orders: u32,
}

/// Highest number of orders within one second, over the last minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrderRate {
    peaks: [Peak; SECONDS],
}

impl OrderRate {
    pub(super) const fn new() -> Self {
        Self { peaks: [Peak { second: i64::MIN, orders: 0 }; SECONDS] }
    }

    /// Records the number of orders within the second that ended at `at`.
    pub(super) fn record(&mut self, at: UnixMs, orders: u32) {
        let second = at.0.div_euclid(SECOND_MS);
        let Some(peak) = Self::slot(second).and_then(|slot| self.peaks.get_mut(slot)) else {
            return;
        };
        let earlier = if peak.second == second { peak.orders } else { 0 };
        *peak = Peak { second, orders: orders.max(earlier) };
    }

    /// Returns the highest number within any second of the minute that ended at `now`.
    pub(super) fn max_over_last_minute(&self, now: UnixMs) -> u32 {
        let last = now.0.div_euclid(SECOND_MS);
        let first = last.saturating_sub(i64::try_from(SECONDS).unwrap_or(i64::MAX));
        let recent = self.peaks.iter().filter(|peak| first < peak.second && peak.second <= last);
        recent.map(|peak| peak.orders).max().unwrap_or_default()
    }

    fn slot(second: i64) -> Option<usize> {
        let seconds = i64::try_from(SECONDS).ok()?;
        usize::try_from(second.checked_rem_euclid(seconds)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn orders_ahead_last_for_four_syncs_and_are_never_few() {
        let ahead = |ms, per_second| orders_ahead(Duration::from_millis(ms), per_second);
        assert_eq!((ahead(0, 1_000), ahead(5, 40), ahead(300, 40)), (64, 64, 64));
        assert_eq!((ahead(2_000, 40), ahead(300, 100)), (320, 120));
        assert_eq!(ahead(1, 64_001), 257, "rounded up");
        assert_eq!(orders_ahead(Duration::MAX, u32::MAX), u32::MAX);
    }

    #[test]
    fn a_rate_counts_for_one_minute() {
        let mut rate = OrderRate::new();
        assert_eq!(rate.max_over_last_minute(UnixMs(0)), 0);
        rate.record(UnixMs(1_500), 7);
        rate.record(UnixMs(1_900), 3);
        rate.record(UnixMs(2_000), 5);
        assert_eq!(
            (rate.max_over_last_minute(UnixMs(1_999)), rate.max_over_last_minute(UnixMs(60_999))),
            (7, 7)
        );
        assert_eq!(
            (rate.max_over_last_minute(UnixMs(61_000)), rate.max_over_last_minute(UnixMs(62_000))),
            (5, 0)
        );
        assert_eq!(rate.max_over_last_minute(UnixMs(500)), 0, "the clock was set back");
        rate.record(UnixMs(-500), 9);
        assert_eq!(rate.max_over_last_minute(UnixMs(-1)), 9);
    }

    proptest! {
        /// Compares with a count of the orders in every second that ends with an order.
        #[test]
        fn the_highest_rate_is_that_of_the_last_minute(
            waits in prop::collection::vec(0_i64..4_000, 1..80),
        ) {
            let (mut rate, mut now, mut orders) = (OrderRate::new(), 0, Vec::new());
            for wait in waits {
                now += wait;
                orders.push(now);
                let within = |end: i64| orders.iter().filter(|at| end - 1_000 < **at && **at <= end).count();
                rate.record(UnixMs(now), u32::try_from(within(now)).unwrap());
                let since = now.div_euclid(1_000) * 1_000 - 59_000;
                let expected = orders.iter().filter(|at| since <= **at).map(|at| within(*at)).max();
                prop_assert_eq!(usize::try_from(rate.max_over_last_minute(UnixMs(now))).unwrap(), expected.unwrap());
            }
        }
    }
}
