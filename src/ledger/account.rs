//! What the account should hold: the last balance read, and every buy that it may not yet show.
//!
//! Pure. A balance is read now and then, and never says which buys it includes. So each reading
//! carries the earliest moment at which it can have been true: buys settled before that are in it,
//! all others may be or may not. From this follow the least that is surely left, which a buy may
//! not take below `min_balance`, and the least that a next reading can show without somebody else
//! having spent coins.
//!
//! # Invariants
//!
//! 1. [`Account::least`] is never above what the account holds, while nobody but this ledger
//!    spends from it.
//! 2. A drop is reported only when no buy that may be missing from the previous reading explains
//!    it. The marketplace may show a buy as late as [`SETTLE`] after it was answered.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{collections::VecDeque, time::Duration};

use crate::{money::Coins, time::UnixMs};

/// How long the marketplace is given to show a buy in its lists and balances.
pub const SETTLE: Duration = Duration::from_secs(60);

/// A buy that was settled as bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bought {
    at: UnixMs,
    price: Coins,
    /// Whether the last reading surely includes it.
    covered: bool,
}

/// A balance that fell further than anything explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drop {
    /// The least that can be explained.
    pub(super) expected: Coins,
    /// What was read.
    pub(super) actual: Coins,
}

/// The expected balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    reading: Option<(Coins, UnixMs)>,
    /// What the readings have fallen beyond the buys known to be in them: above zero, some buy
    /// that is not settled was charged already; below, some settled one is not charged yet.
    gap: Coins,
    /// The prices of what is in flight or unknown.
    open: Coins,
    /// The prices of what is bought and perhaps not in the last reading.
    uncovered: Coins,
    /// What may have been spent of which nothing is known.
    lost: Coins,
    bought: VecDeque<Bought>,
}

impl Account {
    /// The last balance read, if any, and the earliest moment at which it can have been true.
    pub(super) const fn last_reading(&self) -> Option<(Coins, UnixMs)> {
        self.reading
    }

    /// The last balance read, if any.
    pub(super) fn reading(&self) -> Option<Coins> {
        self.reading.map(|(coins, _as_of)| coins)
    }

    /// What surely is left, every buy that may not yet be charged taken off; `None`: not known.
    pub(super) fn least(&self) -> Option<Coins> {
        let uncharged = self.uncertain().saturating_sub(self.gap).max(Coins::ZERO);
        self.reading().map(|coins| coins.saturating_sub(uncharged))
    }

    /// What is left if the last reading showed all that had happened by then: for people to look at.
    /// A balance that rose did so for coins that came in or back, and not for a charge yet to come.
    pub(super) fn likely(&self) -> Option<Coins> {
        let charged = self.gap.max(Coins::ZERO);
        let uncharged = self.uncertain().saturating_sub(charged).max(Coins::ZERO);
        self.reading().map(|coins| coins.saturating_sub(uncharged))
    }

    /// The prices of what is in flight or unknown.
    pub(super) const fn open_coins(&self) -> Coins {
        self.open
    }

    /// Whether a reading would only say again what is known: the same coins, and nothing that it
    /// could tell anything about.
    pub(super) fn is_no_news(&self, coins: Coins) -> bool {
        self.reading() == Some(coins)
            && self.bought.is_empty()
            && self.gap == Coins::ZERO
            && self.uncertain() == Coins::ZERO
    }

    /// How many coins are missing that only a buy not settled as bought explains, leaving aside
    /// what other buys, worth `others`, explain.
    pub(super) fn missing_beyond(&self, others: Coins) -> Coins {
        let explained = others.saturating_add(self.uncovered);
        self.gap.saturating_sub(explained).max(Coins::ZERO)
    }

    /// Whether no coins are missing that a buy not settled as bought would explain.
    pub(super) fn agrees(&self) -> bool {
        self.reading.is_some() && self.gap <= Coins::ZERO
    }

    /// Whether a balance was read that shows what happened up to this moment.
    pub(super) fn shows(&self, moment: UnixMs) -> bool {
        self.reading.is_some_and(|(_coins, as_of)| moment.plus(SETTLE) <= as_of)
    }

    /// What may have been spent of which nothing is known is this much.
    pub(super) fn lose(&mut self, coins: Coins) {
        self.lost = coins;
    }

    /// A buy begins that may be charged from now on.
    pub(super) fn open(&mut self, price: Coins) {
        self.open = self.open.saturating_add(price);
    }

    /// A buy ended without being charged, or its coins came back.
    pub(super) fn close(&mut self, price: Coins) {
        self.open = self.open.saturating_sub(price);
    }

    /// A buy was surely charged, at some time before now.
    pub(super) fn charge(&mut self, price: Coins, now: UnixMs) {
        // The last reading fell by this much without a reason; here is the reason.
        let covered = Coins::ZERO < price && price <= self.gap;
        if covered {
            self.gap = self.gap.saturating_sub(price);
        } else {
            self.uncovered = self.uncovered.saturating_add(price);
        }
        self.bought.push_back(Bought { at: now, price, covered });
    }

    /// Takes a reading in. One that is older than the last is ignored.
    pub(super) fn read(&mut self, coins: Coins, as_of: UnixMs) -> Option<Drop> {
        let last = match self.reading {
            Some((_coins, last)) if as_of < last => return None,
            Some((last, _as_of)) => Some(last),
            None => None,
        };
        let settled = self.cover(as_of);
        self.reading = Some((coins, as_of));
        let Some(last) = last else {
            self.gap = Coins::ZERO;
            return None;
        };
        let fallen = last.saturating_sub(settled).saturating_sub(coins);
        let late = Coins::ZERO.saturating_sub(self.recent(as_of));
        self.gap = self.gap.saturating_add(fallen).max(late);
        let uncertain = self.uncertain();
        if self.gap <= uncertain {
            return None;
        }
        let expected = coins.saturating_add(self.gap.saturating_sub(uncertain));
        self.gap = uncertain;
        Some(Drop { expected, actual: coins })
    }

    fn uncertain(&self) -> Coins {
        self.open.saturating_add(self.uncovered).saturating_add(self.lost)
    }

    /// Marks what a reading of this moment surely includes, and returns its sum.
    fn cover(&mut self, as_of: UnixMs) -> Coins {
        let mut sum = Coins::ZERO;
        for bought in self.bought.iter_mut().filter(|bought| !bought.covered && bought.at < as_of) {
            bought.covered = true;
            sum = sum.saturating_add(bought.price);
        }
        self.uncovered = self.uncovered.saturating_sub(sum);
        while self.bought.front().is_some_and(|old| old.covered && old.at.plus(SETTLE) <= as_of) {
            self.bought.pop_front();
        }
        sum
    }

    /// The prices of what was bought lately and may show late.
    fn recent(&self, as_of: UnixMs) -> Coins {
        self.bought
            .iter()
            .filter(|bought| as_of < bought.at.plus(SETTLE))
            .fold(Coins::ZERO, |sum, bought| sum.saturating_add(bought.price))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coins(cents: i64) -> Coins {
        Coins::from_cents(cents)
    }

    fn account(cents: i64) -> Account {
        let mut account = Account::default();
        assert_eq!(account.read(coins(cents), UnixMs(0)), None);
        account
    }

    #[test]
    fn a_buy_lowers_what_is_surely_left_at_once() {
        let mut account = account(1_000);
        account.open(coins(300));
        assert_eq!(account.least(), Some(coins(700)));
        account.close(coins(300));
        assert_eq!(account.least(), Some(coins(1_000)));
    }

    #[test]
    fn a_reading_taken_while_a_buy_is_in_flight_neither_halts_nor_counts_it_twice() {
        let mut account = account(1_000);
        account.open(coins(300));
        assert_eq!(account.read(coins(700), UnixMs(10)), None);
        assert_eq!(account.least(), Some(coins(700)));
        account.close(coins(300));
        account.charge(coins(300), UnixMs(20));
        assert_eq!(account.least(), Some(coins(700)));
        assert_eq!(account.read(coins(700), UnixMs(30)), None);
        assert_eq!(account.least(), Some(coins(700)));
    }

    #[test]
    fn a_buy_that_shows_late_is_no_drop() {
        let mut account = account(1_000);
        account.open(coins(300));
        account.close(coins(300));
        account.charge(coins(300), UnixMs(10));
        assert_eq!(account.read(coins(1_000), UnixMs(20)), None);
        assert_eq!(account.least(), Some(coins(700)));
        assert_eq!(account.read(coins(700), UnixMs(30)), None);
        assert_eq!(account.least(), Some(coins(700)));
    }

    #[test]
    fn coins_that_came_back_are_shown_at_once_and_trusted_later() {
        let mut account = account(1_000);
        account.charge(coins(300), UnixMs(10));
        assert_eq!(account.likely(), Some(coins(700)));
        assert_eq!(account.read(coins(700), UnixMs(20)), None);
        assert_eq!(account.read(coins(1_000), UnixMs(30)), None);
        assert_eq!((account.likely(), account.least()), (Some(coins(1_000)), Some(coins(700))));
        assert_eq!(account.read(coins(1_000), UnixMs(100_000)), None);
        assert_eq!(account.least(), Some(coins(1_000)));
    }

    #[test]
    fn coins_that_vanish_without_a_buy_are_a_drop_of_exactly_that_much() {
        let mut account = account(1_000);
        account.open(coins(300));
        let drop = account.read(coins(650), UnixMs(10));
        assert_eq!(drop, Some(Drop { expected: coins(700), actual: coins(650) }));
        assert_eq!(account.read(coins(650), UnixMs(20)), None, "said once");
    }

    #[test]
    fn a_charge_for_a_buy_that_was_refused_is_a_drop_at_the_next_reading() {
        let mut account = account(1_000);
        account.open(coins(300));
        assert_eq!(account.read(coins(700), UnixMs(10)), None);
        account.close(coins(300));
        assert!(account.read(coins(700), UnixMs(20)).is_some());
    }

    #[test]
    fn coins_that_come_in_hide_no_later_drop() {
        let mut account = account(1_000);
        assert_eq!(account.read(coins(5_000), UnixMs(10)), None);
        assert!(account.read(coins(4_999), UnixMs(100_000)).is_some());
    }

    #[test]
    fn an_older_reading_changes_nothing() {
        let mut account = account(1_000);
        assert_eq!(account.read(coins(900), UnixMs(50)).map(|drop| drop.actual), Some(coins(900)));
        assert_eq!(account.read(coins(10), UnixMs(49)), None);
        assert_eq!(account.least(), Some(coins(900)));
    }
}
