//! The table of `sniper ledger`: orders of today, this week and all time, and the limits.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    domain::money::Amount,
    domain::time::UnixMs,
    ledger::{
        event::OrderState,
        reader::LedgerReader,
        state::LedgerState,
        status::{HaltStatus, LedgerStatus, LimitTable},
    },
    text::Escaped,
};

const DAY_MS: i64 = 86_400_000;

/// Totals of the orders that were reserved in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PeriodTotals {
    bought: u32,
    spent: Amount,
    not_bought: u32,
    returning: u32,
    returned: u32,
    unknown: u32,
    unknown_coins: Amount,
    in_flight: u32,
}

impl PeriodTotals {
    fn since(state: &LedgerState, begin: UnixMs) -> Self {
        let mut totals = Self::default();
        for intent in state.intents().iter().filter(|intent| begin <= intent.reserved_at) {
            let increment = |count: &mut u32| *count = count.saturating_add(1);
            match intent.state {
                OrderState::Bought | OrderState::Completed | OrderState::Returning => {
                    increment(&mut totals.bought);
                    if intent.state == OrderState::Returning {
                        increment(&mut totals.returning);
                    }
                    totals.spent = totals.spent.saturating_add(intent.price);
                }
                OrderState::Unknown => {
                    increment(&mut totals.unknown);
                    totals.unknown_coins = totals.unknown_coins.saturating_add(intent.price);
                }
                OrderState::Reserved | OrderState::Sent => increment(&mut totals.in_flight),
                OrderState::Rejected | OrderState::NotSent | OrderState::NotBought => {
                    increment(&mut totals.not_bought);
                }
                OrderState::Returned => increment(&mut totals.returned),
            }
        }
        totals
    }

    fn to_json(self) -> Value {
        json!({
            "bought": self.bought,
            "spent": self.spent.to_string(),
            "not_bought": self.not_bought,
            "returning": self.returning,
            "returned": self.returned,
            "unknown": self.unknown,
            "unknown_coins": self.unknown_coins.to_string(),
            "in_flight": self.in_flight,
        })
    }
}

#[derive(Clone, Debug)]
pub(super) struct LedgerTable {
    today: PeriodTotals,
    week: PeriodTotals,
    all_time: PeriodTotals,
    status: LedgerStatus,
    /// Label, quantity and spent coins of each whitelist entry with orders that count.
    entries: Vec<(String, u32, Amount)>,
}

impl LedgerTable {
    pub(super) fn of(reader: &mut LedgerReader, now: UnixMs) -> Self {
        let day = now.0.div_euclid(DAY_MS);
        // The first of January 1970 was a Thursday.
        let monday = day.saturating_sub(day.saturating_add(3).rem_euclid(7));
        let begin = |day: i64| UnixMs(day.saturating_mul(DAY_MS));
        let state = reader.state();
        let mut entries: Vec<_> = state
            .entries()
            .filter(|(_key, used)| used.quantity > 0)
            .map(|(key, used)| (key.label().to_owned(), used.quantity, used.total))
            .collect();
        entries.sort();
        let (today, week) =
            (PeriodTotals::since(state, begin(day)), PeriodTotals::since(state, begin(monday)));
        let all_time = PeriodTotals::since(state, UnixMs(i64::MIN));
        let status = LedgerStatus::from_snapshot(&reader.state_mut().snapshot(now), "", None, now);
        Self { today, week, all_time, status, entries }
    }

    pub(super) fn to_json(&self) -> Value {
        let entries = self.entries.iter().map(|(entry, quantity, total)| {
            json!({ "entry": entry, "quantity": quantity, "total": total.to_string() })
        });
        json!({
            "today": self.today.to_json(),
            "week": self.week.to_json(),
            "everything": self.all_time.to_json(),
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
        writeln!(f, "{:<20} {:>14} {:>14} {:>14}", "(UTC)", "today", "this week", "all time")?;
        let columns = [self.today, self.week, self.all_time];
        let mut row = |name: &str, value: fn(&PeriodTotals) -> String| {
            let [today, week, all_time] = columns.each_ref().map(value);
            writeln!(f, "{name:<20} {today:>14} {week:>14} {all_time:>14}")
        };
        row("bought", |totals| totals.bought.to_string())?;
        row("spent", |totals| totals.spent.to_string())?;
        row("  returning", |totals| totals.returning.to_string())?;
        row("not bought", |totals| totals.not_bought.to_string())?;
        row("returned", |totals| totals.returned.to_string())?;
        row("unknown", |totals| totals.unknown.to_string())?;
        row("  counted as spent", |totals| totals.unknown_coins.to_string())?;
        row("in flight", |totals| totals.in_flight.to_string())?;
        write!(f, "\n{}", LimitTable(&self.status.limits))?;
        if self.status.lost_buys > 0 {
            let (count, coins) = (self.status.lost_buys, &self.status.lost_coins);
            writeln!(
                f,
                "\nA power loss may have hidden up to {count} orders for {coins}: they count as \
                 spent. If the market shows none, run `sniper ledger resolve lost --not-bought`."
            )?;
        }
        if !self.entries.is_empty() {
            writeln!(f, "\n{:<42} {:>7} {:>14}", "whitelist entry", "bought", "spent")?;
        }
        for (entry, quantity, total) in &self.entries {
            let entry: String = Escaped(entry).to_string().chars().take(42).collect();
            writeln!(f, "{entry:<42} {quantity:>7} {total:>14}")?;
        }
        for halt in &self.status.halts {
            let HaltStatus { reason, remedy, .. } = halt;
            let started = halt.started();
            writeln!(f, "\nOrdering halted {started}: {reason}. What to do: {remedy}.")?;
        }
        Ok(())
    }
}
