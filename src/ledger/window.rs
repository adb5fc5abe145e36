//! Sum and count over a rolling time window.
//!
//! Pure. The operations of an approval take constant or logarithmic time, apart from the removal of
//! the items that have expired.
//!
//! # Invariants
//!
//! 1. An item counts from its time until `width` later, exclusive, unless it was freed.
//! 2. No item expires early when the clock is set: the time goes back only in [`Window::clamp`],
//!    and an item gets at least the latest time seen.
//! 3. Sum and count are those of the items that are not freed.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{collections::VecDeque, time::Duration};

use super::{event::Sequence, prealloc};
use crate::{domain::money::Amount, domain::time::UnixMs};

/// Amount of one order, and the time from which it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WindowItem {
    at: UnixMs,
    sequence: Sequence,
    amount: Amount,
    counts: bool,
}

/// Items of the last `width`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    width: Duration,
    /// Latest time seen.
    latest: UnixMs,
    /// Ordered by time and by sequence number.
    items: VecDeque<WindowItem>,
    sum: Amount,
    count: u32,
}

impl Window {
    /// Creates an empty window.
    pub(super) const fn new(width: Duration) -> Self {
        let latest = UnixMs(i64::MIN);
        Self { width, latest, items: VecDeque::new(), sum: Amount::ZERO, count: 0 }
    }

    /// Reserves capacity for `more` items.
    pub(super) fn reserve_capacity(&mut self, more: usize) {
        let at = UnixMs(0);
        let filler = WindowItem { at, sequence: Sequence(0), amount: Amount::ZERO, counts: false };
        prealloc::queue(&mut self.items, more, filler);
    }

    /// Drops the items that have expired by `now`.
    pub(super) fn advance(&mut self, now: UnixMs) {
        self.latest = self.latest.max(now);
        while self.items.front().is_some_and(|item| item.at.plus(self.width) <= self.latest) {
            if let Some(expired) = self.items.pop_front() {
                self.subtract(expired);
            }
        }
    }

    /// Adds an item at `now`. Its sequence number must exceed all earlier ones. Drops no expired
    /// item, because `now` may be unreliable.
    pub(super) fn add(&mut self, sequence: Sequence, amount: Amount, now: UnixMs) {
        let newest = self.items.back().map_or(self.latest, |newest| newest.at.max(self.latest));
        self.items.push_back(WindowItem { at: newest.max(now), sequence, amount, counts: true });
        self.add_amount(amount);
    }

    /// Resets the time to `now` and moves later items to it, at a start after a run whose clock was
    /// ahead.
    pub(super) fn clamp(&mut self, now: UnixMs) {
        for item in self.items.iter_mut().rev().take_while(|item| item.at > now) {
            item.at = now;
        }
        self.latest = now;
    }

    /// Returns the time of the newest item, and the number of items within `width` before it,
    /// including freed ones. Takes logarithmic time.
    pub(super) fn newest_within(&self, width: Duration) -> Option<(UnixMs, u32)> {
        let newest = self.items.back()?.at;
        let earlier = self.items.partition_point(|item| item.at.plus(width) <= newest);
        let count = self.items.len().saturating_sub(earlier);
        Some((newest, u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Returns the latest time seen.
    pub(super) const fn latest(&self) -> UnixMs {
        self.latest
    }

    /// Stops counting an item, if it is still in the window.
    pub(super) fn free(&mut self, sequence: Sequence) {
        self.set(sequence, |item| item.counts = false);
    }

    /// Counts an item with this amount, if it is still in the window.
    pub(super) fn restore(&mut self, sequence: Sequence, amount: Amount) {
        self.set(sequence, |item| {
            item.counts = true;
            item.amount = amount;
        });
    }

    pub(super) const fn sum(&self) -> Amount {
        self.sum
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    fn set(&mut self, sequence: Sequence, change: impl FnOnce(&mut WindowItem)) {
        let Ok(index) = self.items.binary_search_by_key(&sequence, |item| item.sequence) else {
            return;
        };
        let Some(item) = self.items.get_mut(index) else { return };
        let before = *item;
        change(item);
        let after = *item;
        self.subtract(before);
        if after.counts {
            self.add_amount(after.amount);
        }
    }

    fn add_amount(&mut self, amount: Amount) {
        self.sum = self.sum.saturating_add(amount);
        self.count = self.count.saturating_add(1);
    }

    fn subtract(&mut self, item: WindowItem) {
        if item.counts {
            self.sum = self.sum.saturating_sub(item.amount);
            self.count = self.count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: Duration = Duration::from_secs(60);

    fn coins(cents: i64) -> Amount {
        Amount::from_cents(cents)
    }

    #[test]
    fn an_item_expires_after_exactly_the_width() {
        let mut window = Window::new(WIDTH);
        window.add(Sequence(1), coins(5), UnixMs(1_000));
        window.advance(UnixMs(60_999));
        assert_eq!((window.sum(), window.count()), (coins(5), 1));
        window.advance(UnixMs(61_000));
        assert_eq!((window.sum(), window.count()), (coins(0), 0));
    }

    #[test]
    fn a_freed_item_stops_counting_and_a_restored_one_counts_again() {
        let mut window = Window::new(WIDTH);
        window.add(Sequence(1), coins(5), UnixMs(0));
        window.add(Sequence(2), coins(7), UnixMs(0));
        window.free(Sequence(1));
        window.free(Sequence(1));
        window.free(Sequence(9));
        assert_eq!((window.sum(), window.count()), (coins(7), 1));
        window.restore(Sequence(1), coins(6));
        assert_eq!((window.sum(), window.count()), (coins(13), 2));
    }

    #[test]
    fn setting_the_clock_expires_no_item_early() {
        let mut window = Window::new(WIDTH);
        window.add(Sequence(1), coins(5), UnixMs(1_000_000));
        window.advance(UnixMs(0));
        window.add(Sequence(2), coins(7), UnixMs(10));
        window.advance(UnixMs(1_059_999));
        assert_eq!(window.count(), 2);
        window.advance(UnixMs(1_060_000));
        assert_eq!(window.count(), 0);
    }

    #[test]
    fn an_added_item_expires_no_other() {
        let mut window = Window::new(WIDTH);
        window.add(Sequence(1), coins(5), UnixMs(0));
        window.add(Sequence(2), coins(7), UnixMs(100_000));
        window.advance(UnixMs(59_999));
        window.add(Sequence(3), coins(9), UnixMs(1));
        assert_eq!((window.sum(), window.count()), (coins(21), 3));
        window.advance(UnixMs(159_999));
        assert_eq!((window.sum(), window.count()), (coins(16), 2));
        window.advance(UnixMs(160_000));
        assert_eq!(window.count(), 0);
    }

    /// The clock was set back to a time before the latest one.
    #[test]
    fn an_item_added_after_the_clock_went_back_counts_for_the_whole_width() {
        let mut window = Window::new(WIDTH);
        window.advance(UnixMs(1_000_000));
        window.advance(UnixMs(5));
        window.add(Sequence(1), coins(5), UnixMs(10));
        window.advance(UnixMs(20));
        assert_eq!((window.sum(), window.count()), (coins(5), 1));
        window.advance(UnixMs(1_059_999));
        assert_eq!(window.count(), 1);
        window.advance(UnixMs(1_060_000));
        assert_eq!(window.count(), 0);
    }

    #[test]
    fn the_newest_items_are_counted_also_if_they_were_freed() {
        let mut window = Window::new(WIDTH);
        let second = Duration::from_secs(1);
        assert_eq!(window.newest_within(second), None);
        for (number, at) in (1..).zip([0, 500, 501, 1_500]) {
            window.add(Sequence(number), coins(1), UnixMs(at));
        }
        window.free(Sequence(4));
        assert_eq!(window.newest_within(second), Some((UnixMs(1_500), 2)));
        assert_eq!(window.newest_within(WIDTH), Some((UnixMs(1_500), 4)));
    }

    #[test]
    fn a_future_item_expires_one_width_after_clamping() {
        let mut window = Window::new(WIDTH);
        window.add(Sequence(1), coins(5), UnixMs(1_000_000));
        window.clamp(UnixMs(500));
        window.advance(UnixMs(60_499));
        assert_eq!(window.count(), 1);
        window.advance(UnixMs(60_500));
        assert_eq!(window.count(), 0);
    }

    proptest! {
        /// Checks invariant 3 against a naive implementation.
        #[test]
        fn sum_and_count_match_a_naive_implementation(
            steps in prop::collection::vec((0_i64..30_000, 1_i64..1_000, any::<bool>()), 0..50),
        ) {
            let mut window = Window::new(WIDTH);
            let (mut now, mut all) = (0, Vec::new());
            for (index, (wait, cents, freed)) in steps.into_iter().enumerate() {
                now += wait;
                let sequence = Sequence(u64::try_from(index).unwrap());
                window.advance(UnixMs(now));
                window.add(sequence, coins(cents), UnixMs(now));
                if freed {
                    window.free(sequence);
                } else {
                    all.push((now, cents));
                }
                let live = || all.iter().filter(|(at, _)| at + 60_000 > now);
                prop_assert_eq!(window.sum(), coins(live().map(|(_, cents)| cents).sum()));
                prop_assert_eq!(usize::try_from(window.count()).unwrap(), live().count());
            }
        }
    }
}
