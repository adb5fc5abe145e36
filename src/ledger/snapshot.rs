//! What a person or a report wants to know of a book, at one moment. Pure.

use super::{
    Ledger,
    book::Book,
    entries::{EntryKey, Used},
    event::State,
    intent::{Halt, Intent, Loss},
};
use crate::{config::Budget, money::Coins, time::UnixMs};

/// The state of the ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The limits.
    pub budget: Budget,
    /// Reserved, spent and unknown since the last new budget, with what power loss may hide.
    pub spent: Coins,
    /// The same within an hour.
    pub spent_in_hour: Coins,
    /// The same within a day.
    pub spent_in_day: Coins,
    /// How many buys were sent within a minute.
    pub sent_in_minute: u32,
    /// The last balance read.
    pub balance: Option<Coins>,
    /// What is surely left of it.
    pub balance_least: Option<Coins>,
    /// What is left of it if it showed all that had happened: for people to look at.
    pub balance_likely: Option<Coins>,
    /// How many buys wait for their answers.
    pub in_flight: u32,
    /// How many ended unknown and are not yet proven either way.
    pub unknown: u32,
    /// What they cost, all of them.
    pub unknown_coins: Coins,
    /// How many are bought and not yet delivered.
    pub undelivered: u32,
    /// How many were cancelled and have not shown their coins yet.
    pub returning: u32,
    /// What they cost, all of them.
    pub returning_coins: Coins,
    /// Whether the ledger was compared with the marketplace since the start.
    pub reconciled: bool,
    /// Until when buying pauses, if it does.
    pub paused_until: Option<UnixMs>,
    /// Why buying is halted, if it is.
    pub halts: Vec<Halt>,
    /// What power loss may have made the ledger forget.
    pub loss: Loss,
    /// How many intents there are in all.
    pub intents: usize,
}

impl Snapshot {
    /// Whether the balance was read and is below its floor.
    pub fn is_below_floor(&self) -> bool {
        self.balance.is_some_and(|balance| balance < self.budget.min_balance)
    }
}

impl Ledger {
    /// How many buys since a moment fell through after all, and what came back for them.
    pub fn returned_since(&self, moment: UnixMs) -> (u64, Coins) {
        let newest_first = self.book.intents().iter().rev();
        newest_first
            .take_while(|intent| moment <= intent.reserved_at)
            .filter(|intent| intent.state == State::Returned)
            .fold((0, Coins::ZERO), |(count, coins), intent| {
                (count.saturating_add(1), coins.saturating_add(intent.price))
            })
    }
}

impl Book {
    /// The last balance that was read, and the earliest moment at which it can have been true.
    pub fn last_reading(&self) -> Option<(Coins, UnixMs)> {
        self.account.last_reading().map(|reading| (reading.coins, reading.as_of))
    }

    /// What is left if the last balance included every order reserved before it.
    fn balance_likely(&self) -> Option<Coins> {
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
        let unknown = || open().filter(|intent| intent.state == State::Unknown);
        let returning = || open().filter(|intent| intent.state == State::Returning);
        let sum = |sum: Coins, intent: &Intent| sum.saturating_add(intent.price);
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
            unknown_coins: unknown().fold(Coins::ZERO, sum),
            returning: count(returning().count()),
            returning_coins: returning().fold(Coins::ZERO, sum),
            undelivered: count(open().filter(|intent| intent.state == State::Bought).count()),
            reconciled: self.reconciled,
            paused_until: Some(self.paused_until).filter(|until| now < *until),
            halts: self.halts.clone(),
            loss: self.loss,
            intents: self.intents.len(),
        }
    }

    /// Every whitelist entry that the ledger knows, and what it has used.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryKey, Used)> {
        self.entries.iter().map(|(key, _slot, used)| (key, used))
    }
}
