//! What the account looked like up to a minute ago, for reads that lag. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    domain::money::Amount,
    sim::{faults::STALE_MAX, listing::Listing},
};

/// What stood there before each change within the last [`STALE_MAX`].
#[derive(Debug, Default)]
pub(super) struct Past {
    balances: VecDeque<(Duration, Amount)>,
    purchases: VecDeque<(Duration, u64, Option<Listing>)>,
}

impl Past {
    /// Notes that the balance changes now; this is what it was.
    pub(super) fn paid(&mut self, now: Duration, before: Amount) {
        while self.balances.front().is_some_and(|(at, _)| at.saturating_add(STALE_MAX) < now) {
            self.balances.pop_front();
        }
        self.balances.push_back((now, before));
    }

    /// Notes that a purchase changes now; this is what it was, if it was one.
    pub(super) fn purchase(&mut self, now: Duration, number: u64, before: Option<&Listing>) {
        while self.purchases.front().is_some_and(|(at, ..)| at.saturating_add(STALE_MAX) < now) {
            self.purchases.pop_front();
        }
        self.purchases.push_back((now, number, before.cloned()));
    }

    /// The balance at a moment; `current` is what it is now.
    pub(super) fn balance(&self, moment: Duration, current: Amount) -> Amount {
        let later = self.balances.iter().find(|(at, _)| moment < *at);
        later.map_or(current, |(_, before)| *before)
    }

    /// The purchases at a moment, oldest first; `current` is what they are now.
    pub(super) fn purchases(
        &self,
        moment: Duration,
        current: &BTreeMap<u64, Listing>,
    ) -> Vec<Listing> {
        let mut then = current.clone();
        for (_, number, before) in self.purchases.iter().rev().take_while(|(at, ..)| moment < *at) {
            match before {
                Some(before) => then.insert(*number, before.clone()),
                None => then.remove(number),
            };
        }
        then.into_values().collect()
    }
}
