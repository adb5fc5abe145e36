//! Previous balances and purchases of the account, to simulate stale reads. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::faults::STALE_MAX;
use crate::domain::money::Amount;

/// Values before each change within the last [`STALE_MAX`].
#[derive(Debug)]
pub(super) struct AccountUndoLog<T> {
    balances: VecDeque<(Duration, Amount)>,
    purchases: VecDeque<(Duration, u64, Option<T>)>,
}

impl<T: Clone> AccountUndoLog<T> {
    /// Records a change of the balance with its previous value.
    pub(super) fn record_balance(&mut self, now: Duration, before: Amount) {
        while self.balances.front().is_some_and(|(at, _)| at.saturating_add(STALE_MAX) < now) {
            self.balances.pop_front();
        }
        self.balances.push_back((now, before));
    }

    /// Records a change of a purchase with its previous value, or `None` for a new purchase.
    pub(super) fn record_purchase(&mut self, now: Duration, number: u64, before: Option<&T>) {
        while self.purchases.front().is_some_and(|(at, ..)| at.saturating_add(STALE_MAX) < now) {
            self.purchases.pop_front();
        }
        self.purchases.push_back((now, number, before.cloned()));
    }

    /// Returns the balance at a time, given the current one.
    pub(super) fn balance_at(&self, time: Duration, current: Amount) -> Amount {
        let later = self.balances.iter().find(|(at, _)| time < *at);
        later.map_or(current, |(_, before)| *before)
    }

    /// Returns the purchases at a time, oldest first, given the current ones.
    pub(super) fn purchases_at(&self, time: Duration, current: &BTreeMap<u64, T>) -> Vec<T> {
        let mut purchases = current.clone();
        for (_, number, before) in self.purchases.iter().rev().take_while(|(at, ..)| time < *at) {
            match before {
                Some(before) => purchases.insert(*number, before.clone()),
                None => purchases.remove(number),
            };
        }
        purchases.into_values().collect()
    }
}

impl<T> Default for AccountUndoLog<T> {
    fn default() -> Self {
        Self { balances: VecDeque::new(), purchases: VecDeque::new() }
    }
}
