//! What a person or a report wants to know of a book, at one moment. Pure.

use super::{
    Ledger,
    entries::{EntryKey, EntryUsage},
    event::{OrderState, Sequence},
    intent::{CrashLoss, Halt, Intent},
    state::LedgerState,
};
use crate::{config::Budget, domain::money::Amount, domain::time::UnixMs};

/// The state of the ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The limits.
    pub budget: Budget,
    /// Reserved, spent and unknown since the last new budget, with what power loss may hide.
    pub spent: Amount,
    /// The same within an hour.
    pub spent_in_hour: Amount,
    /// The same within a day.
    pub spent_in_day: Amount,
    /// How many buys were sent within a minute.
    pub sent_in_minute: u32,
    /// The last balance read.
    pub balance: Option<Amount>,
    /// What is surely left of it.
    pub balance_least: Option<Amount>,
    /// What is left of it if it showed all that had happened: for people to look at.
    pub balance_likely: Option<Amount>,
    /// How many buys wait for their answers.
    pub in_flight: u32,
    /// How many ended unknown and are not yet proven either way.
    pub unknown: u32,
    /// What they cost, all of them.
    pub unknown_coins: Amount,
    /// How many are bought and not yet delivered.
    pub undelivered: u32,
    /// How many were cancelled and have not shown their coins yet.
    pub returning: u32,
    /// What they cost, all of them.
    pub returning_coins: Amount,
    /// Whether the ledger was compared with the marketplace since the start.
    pub reconciled: bool,
    /// Until when buying pauses, if it does.
    pub paused_until: Option<UnixMs>,
    /// Why buying is halted, if it is.
    pub halts: Vec<Halt>,
    /// What power loss may have made the ledger forget.
    pub loss: CrashLoss,
    /// How many intents there are in all.
    pub intents: usize,
}

impl Snapshot {
    /// Whether the balance was read and is below its floor.
    pub fn is_below_floor(&self) -> bool {
        self.balance.is_some_and(|balance| balance < self.budget.min_balance)
    }
}

/// What became of the orders of a session, as the ledger has it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderTotals {
    /// Bought, delivered or not, those included that were cancelled and whose coins are not back.
    pub bought: u64,
    /// What they cost.
    pub spent: Amount,
    /// How many of them were delivered.
    pub delivered: u64,
    /// How many of them were cancelled and have not shown their coins yet.
    pub returning: u64,
    /// What these cost.
    pub returning_coins: Amount,
    /// Cancelled, and their coins are back.
    pub returned: u64,
    /// What they cost.
    pub returned_coins: Amount,
    /// Unknown at first, and not bought by the account.
    pub not_bought: u64,
    /// Still unknown.
    pub unknown: u64,
    /// What they cost.
    pub unknown_coins: Amount,
}

impl Ledger {
    /// What became of the orders from this one on.
    pub fn totals_since(&self, first: Sequence) -> OrderTotals {
        let mut totals = OrderTotals::default();
        let one_more = |count: &mut u64, coins: &mut Amount, price: Amount| {
            *count = count.saturating_add(1);
            *coins = coins.saturating_add(price);
        };
        let newest_first = self.book.intents().iter().rev();
        for intent in newest_first.take_while(|intent| first <= intent.sequence) {
            let price = intent.price;
            let mut unpriced = Amount::ZERO;
            match intent.state {
                OrderState::Bought => one_more(&mut totals.bought, &mut totals.spent, price),
                OrderState::Completed => {
                    one_more(&mut totals.bought, &mut totals.spent, price);
                    one_more(&mut totals.delivered, &mut unpriced, price);
                }
                OrderState::Returning => {
                    one_more(&mut totals.bought, &mut totals.spent, price);
                    one_more(&mut totals.returning, &mut totals.returning_coins, price);
                }
                OrderState::Returned => {
                    one_more(&mut totals.returned, &mut totals.returned_coins, price);
                }
                OrderState::Unknown => {
                    one_more(&mut totals.unknown, &mut totals.unknown_coins, price)
                }
                OrderState::NotBought => one_more(&mut totals.not_bought, &mut unpriced, price),
                OrderState::Reserved
                | OrderState::Sent
                | OrderState::Refused
                | OrderState::NotSent => {}
            }
        }
        totals
    }

    /// The number that the next order gets.
    pub fn next_sequence(&self) -> Sequence {
        self.book.next_sequence()
    }
}

impl LedgerState {
    /// The last balance that was read, and the earliest moment at which it can have been true.
    pub fn last_reading(&self) -> Option<(Amount, UnixMs)> {
        self.account.last_reading().map(|reading| (reading.coins, reading.as_of))
    }

    /// What is left if the last balance included every order reserved before it.
    fn balance_likely(&self) -> Option<Amount> {
        let reading = self.account.last_reading()?;
        let since = self.intents.iter().rev();
        let since = since.take_while(|intent| reading.as_of <= intent.reserved_at);
        let spent = since.filter(|intent| intent.state.counts());
        Some(spent.fold(reading.coins, |left, intent| left.saturating_sub(intent.price)))
    }

    /// Where everything stands at `now`.
    pub fn snapshot(&mut self, now: UnixMs) -> Snapshot {
        let age_now = self.age_now(now);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.advance(age_now);
        }
        let lost = self.loss.coins;
        let open = || self.open.iter().filter_map(|sequence| self.at(*sequence));
        let unknown = || open().filter(|intent| intent.state == OrderState::Unknown);
        let returning = || open().filter(|intent| intent.state == OrderState::Returning);
        let sum = |sum: Amount, intent: &Intent| sum.saturating_add(intent.price);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Snapshot {
            budget: self.budget.clone(),
            spent: self.spent.saturating_add(lost),
            spent_in_hour: self.hour.sum().saturating_add(lost),
            spent_in_day: self.day.sum().saturating_add(lost),
            sent_in_minute: self.minute.count(),
            balance: self.account.balance(),
            balance_least: self.account.available_min(),
            balance_likely: self.balance_likely(),
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

    /// Every whitelist entry that the ledger knows, and what it has used.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryKey, EntryUsage)> {
        self.entries.iter().map(|(key, _slot, used)| (key, used))
    }
}
