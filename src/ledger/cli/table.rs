//! The table of `sniper ledger`: today, this week, everything; and every limit.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    domain::money::Amount,
    domain::time::UnixMs,
    ledger::{
        event::OrderState,
        reader::LedgerReader,
        state::LedgerState,
        status::{LedgerStatus, LimitTable},
    },
    text::Escaped,
};

const DAY_MS: i64 = 86_400_000;

/// What happened in some stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PeriodTotals {
    bought: u32,
    spent: Amount,
    refused: u32,
    returning: u32,
    returned: u32,
    unknown: u32,
    unknown_coins: Amount,
    in_flight: u32,
}

impl PeriodTotals {
    fn since(book: &LedgerState, begin: UnixMs) -> Self {
        let mut sums = Self::default();
        for intent in book.intents().iter().filter(|intent| begin <= intent.reserved_at) {
            let one_more = |count: &mut u32| *count = count.saturating_add(1);
            match intent.state {
                OrderState::Bought | OrderState::Completed | OrderState::Returning => {
                    one_more(&mut sums.bought);
                    if intent.state == OrderState::Returning {
                        one_more(&mut sums.returning);
                    }
                    sums.spent = sums.spent.saturating_add(intent.price);
                }
                OrderState::Unknown => {
                    one_more(&mut sums.unknown);
                    sums.unknown_coins = sums.unknown_coins.saturating_add(intent.price);
                }
                OrderState::Reserved | OrderState::Sent => one_more(&mut sums.in_flight),
                OrderState::Refused | OrderState::NotSent | OrderState::NotBought => {
                    one_more(&mut sums.refused)
                }
                OrderState::Returned => one_more(&mut sums.returned),
            }
        }
        sums
    }

    fn to_json(self) -> Value {
        json!({
            "bought": self.bought,
            "spent": self.spent.to_string(),
            "not_bought": self.refused,
            "returning": self.returning,
            "returned": self.returned,
            "unknown": self.unknown,
            "unknown_coins": self.unknown_coins.to_string(),
            "in_flight": self.in_flight,
        })
    }
}

/// The whole table.
#[derive(Clone, Debug)]
pub(super) struct LedgerTable {
    today: PeriodTotals,
    week: PeriodTotals,
    everything: PeriodTotals,
    status: LedgerStatus,
    /// Each whitelist entry that ever bought something: how many, and for how much.
    entries: Vec<(String, u32, Amount)>,
}

impl LedgerTable {
    pub(super) fn of(archive: &mut LedgerReader, now: UnixMs) -> Self {
        let day = now.0.div_euclid(DAY_MS);
        // The first of January 1970 was a Thursday.
        let monday = day.saturating_sub(day.saturating_add(3).rem_euclid(7));
        let begin = |day: i64| UnixMs(day.saturating_mul(DAY_MS));
        let book = archive.book();
        let mut entries: Vec<_> = book
            .entries()
            .filter(|(_key, used)| used.quantity > 0)
            .map(|(key, used)| (key.label().to_owned(), used.quantity, used.total))
            .collect();
        entries.sort();
        let (today, week) =
            (PeriodTotals::since(book, begin(day)), PeriodTotals::since(book, begin(monday)));
        let everything = PeriodTotals::since(book, UnixMs(i64::MIN));
        let status = LedgerStatus::of(&archive.book_mut().snapshot(now), "", None);
        Self { today, week, everything, status, entries }
    }

    pub(super) fn to_json(&self) -> Value {
        let entries = self.entries.iter().map(|(entry, quantity, total)| {
            json!({ "entry": entry, "quantity": quantity, "total": total.to_string() })
        });
        json!({
            "today": self.today.to_json(),
            "week": self.week.to_json(),
            "everything": self.everything.to_json(),
            "limits": self.status.limits,
            "halts": self.status.halts,
            "lost_coins": self.status.lost_coins,
            "lost_buys": self.status.lost_buys,
            "entries": entries.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for LedgerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>14} {:>14} {:>14}", "(UTC)", "today", "this week", "everything")?;
        let columns = [self.today, self.week, self.everything];
        let mut row = |name: &str, value: fn(&PeriodTotals) -> String| {
            let [today, week, everything] = columns.each_ref().map(value);
            writeln!(f, "{name:<20} {today:>14} {week:>14} {everything:>14}")
        };
        row("bought", |sums| sums.bought.to_string())?;
        row("spent", |sums| sums.spent.to_string())?;
        row("not bought", |sums| sums.refused.to_string())?;
        row("  returning", |sums| sums.returning.to_string())?;
        row("returned", |sums| sums.returned.to_string())?;
        row("unknown", |sums| sums.unknown.to_string())?;
        row("  counted as spent", |sums| sums.unknown_coins.to_string())?;
        row("in flight", |sums| sums.in_flight.to_string())?;
        write!(f, "\n{}", LimitTable(&self.status.limits))?;
        if self.status.lost_buys > 0 {
            let (count, coins) = (self.status.lost_buys, &self.status.lost_coins);
            writeln!(f, "\nPower loss may hide up to {count} buys for {coins}; they are counted.")?;
        }
        if !self.entries.is_empty() {
            writeln!(f, "\n{:<42} {:>7} {:>14}", "whitelist entry", "bought", "for")?;
        }
        for (entry, quantity, total) in &self.entries {
            let entry: String = Escaped(entry).to_string().chars().take(42).collect();
            writeln!(f, "{entry:<42} {quantity:>7} {total:>14}")?;
        }
        for halt in &self.status.halts {
            writeln!(f, "\nHalted since {}: {}; {}", halt.since, halt.reason, halt.remedy)?;
        }
        Ok(())
    }
}
