//! Summary of the ledger at one moment, for status output and reports. Pure.

use super::{
    Ledger,
    entries::{EntryKey, EntryUsage},
    event::{OrderState, Sequence},
    intent::{CrashLoss, Halt, Intent},
    state::LedgerState,
};
use crate::{config::Budget, domain::money::Amount, domain::time::UnixMs};

/// State of the ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub budget: Budget,
    /// Coins reserved, spent and unknown since the last new budget, including possible crash
    /// losses.
    pub spent: Amount,
    pub spent_in_hour: Amount,
    pub spent_in_day: Amount,
    pub sent_in_minute: u32,
    pub balance: Option<Amount>,
    /// Lower bound of the available coins.
    pub available_min: Option<Amount>,
    /// Available coins if the last reading included every earlier order. For display only.
    pub available_estimate: Option<Amount>,
    /// Orders that wait for a response.
    pub in_flight: u32,
    /// Orders of unknown outcome that are not resolved.
    pub unknown: u32,
    /// Total price of the unknown orders.
    pub unknown_coins: Amount,
    /// Orders that are bought and not delivered.
    pub undelivered: u32,
    /// Cancelled orders without a refund so far.
    pub returning: u32,
    pub returning_coins: Amount,
    /// `true` after the first comparison with the market since the start.
    pub reconciled: bool,
    /// End of the current pause.
    pub paused_until: Option<UnixMs>,
    pub halts: Vec<Halt>,
    /// Orders that a crash may have removed from the record.
    pub loss: CrashLoss,
    /// Total number of intents.
    pub intents: usize,
}

impl Snapshot {
    /// Returns `true` if the last balance is below `min_balance`.
    pub fn is_below_min_balance(&self) -> bool {
        self.balance.is_some_and(|balance| balance < self.budget.min_balance)
    }
}

/// Results of some orders, at the current state of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderTotals {
    /// Orders that are bought, delivered or not, including cancelled ones without a refund.
    pub bought: u64,
    pub spent: Amount,
    pub delivered: u64,
    /// Cancelled orders without a refund so far.
    pub returning: u64,
    pub returning_coins: Amount,
    /// Cancelled and refunded orders.
    pub returned: u64,
    pub returned_coins: Amount,
    /// Orders that were unknown at first and turned out not to be bought.
    pub not_bought: u64,
    /// Orders that were rejected or not sent.
    pub rejected: u64,
    pub unknown: u64,
    pub unknown_coins: Amount,
    pub in_flight: u64,
}

impl OrderTotals {
    pub fn of<'i>(intents: impl Iterator<Item = &'i Intent>) -> Self {
        let mut totals = Self::default();
        let increment = |count: &mut u64| *count = count.saturating_add(1);
        for intent in intents {
            let add = |coins: &mut Amount| *coins = coins.saturating_add(intent.price);
            match intent.state {
                OrderState::Bought | OrderState::Completed | OrderState::Returning => {
                    increment(&mut totals.bought);
                    add(&mut totals.spent);
                }
                OrderState::Returned => {
                    increment(&mut totals.returned);
                    add(&mut totals.returned_coins);
                }
                OrderState::Unknown => {
                    increment(&mut totals.unknown);
                    add(&mut totals.unknown_coins);
                }
                OrderState::NotBought => increment(&mut totals.not_bought),
                OrderState::Rejected | OrderState::NotSent => increment(&mut totals.rejected),
                OrderState::Reserved | OrderState::Sent => increment(&mut totals.in_flight),
            }
            if intent.state == OrderState::Completed {
                increment(&mut totals.delivered);
            } else if intent.state == OrderState::Returning {
                increment(&mut totals.returning);
                add(&mut totals.returning_coins);
            }
        }
        totals
    }
}

impl Ledger {
    /// Returns the totals of the orders from this number on.
    pub fn totals_since(&self, first: Sequence) -> OrderTotals {
        let newest_first = self.state.intents().iter().rev();
        OrderTotals::of(newest_first.take_while(|intent| first <= intent.sequence))
    }

    pub fn next_sequence(&self) -> Sequence {
        self.state.next_sequence()
    }
}

impl LedgerState {
    /// Returns the last balance and the earliest moment at which it can have been true.
    pub fn last_reading(&self) -> Option<(Amount, UnixMs)> {
        self.account.last_reading().map(|reading| (reading.coins, reading.as_of))
    }

    /// Estimates the available coins, assuming that the last balance included every order reserved
    /// before it.
    fn available_estimate(&self) -> Option<Amount> {
        let reading = self.account.last_reading()?;
        let since = self.intents.iter().rev();
        let since = since.take_while(|intent| reading.as_of <= intent.reserved_at);
        let spent = since.filter(|intent| intent.state.counts());
        Some(spent.fold(reading.coins, |left, intent| left.saturating_sub(intent.price)))
    }

    /// Summarizes the ledger at `now`.
    pub fn snapshot(&mut self, now: UnixMs) -> Snapshot {
        let age_now = self.age_now(now);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.advance(age_now);
        }
        let reserve = self.loss.coins;
        let open = || self.open.iter().filter_map(|sequence| self.at(*sequence));
        let unknown = || open().filter(|intent| intent.state == OrderState::Unknown);
        let returning = || open().filter(|intent| intent.state == OrderState::Returning);
        let sum = |sum: Amount, intent: &Intent| sum.saturating_add(intent.price);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Snapshot {
            budget: self.budget.clone(),
            spent: self.spent.saturating_add(reserve),
            spent_in_hour: self.hour.sum().saturating_add(reserve),
            spent_in_day: self.day.sum().saturating_add(reserve),
            sent_in_minute: self.minute.count(),
            balance: self.account.balance(),
            available_min: self.account.available_min(),
            available_estimate: self.available_estimate(),
            in_flight: self.in_flight,
            unknown: count(unknown().count()),
            unknown_coins: unknown().fold(Amount::ZERO, sum),
            returning: count(returning().count()),
            returning_coins: returning().fold(Amount::ZERO, sum),
            undelivered: count(open().filter(|intent| intent.state == OrderState::Bought).count()),
            reconciled: self.reconciled,
            paused_until: Some(self.paused_until).filter(|until| now < *until),
            halts: self.halts.clone(),
            loss: self.loss,
            intents: self.intents.len(),
        }
    }

    /// Iterates over every known whitelist entry with its usage.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryKey, EntryUsage)> {
        self.entries.iter().map(|(key, _slot, used)| (key, used))
    }
}
