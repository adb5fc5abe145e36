//! Orders as text, CSV or JSON: one order, and the totals of `sniper ledger`.

use std::fmt;

use serde_json::{Value, json};

use super::list::{ITEM_COLUMNS, add_item, item_columns};
use crate::{
    clock,
    domain::{
        money::Amount,
        own_order_id::OwnOrderId,
        time::{OffsetTime, UnixMs},
    },
    ledger::{
        OrderTotals, OrderedItem,
        error::LedgerError,
        event::Sequence,
        intent::Intent,
        reader::{LedgerReader, OrderDetails},
        state::LedgerState,
        status::{HaltStatus, LedgerStatus, LimitTable},
    },
    text::{Escaped, counted},
};

const DAY_MS: i64 = 86_400_000;

/// Returns the start of a day in the zone that has these offsets from UTC.
fn begin_of_day(day: i64, offset_s: fn(UnixMs) -> i32) -> UnixMs {
    let utc = UnixMs(day.saturating_mul(DAY_MS));
    UnixMs(utc.0.saturating_sub(i64::from(offset_s(utc)).saturating_mul(1_000)))
}

/// First columns of the CSV. Those of the item follow.
const COLUMNS: &str = "number,listing,entry,approved,price,state,reserved_at,sent_at,\
answered_at,settled_at,limits,answer,words";

/// Returns the first line of the CSV.
pub(super) fn header() -> String {
    format!("{COLUMNS},{}", ITEM_COLUMNS.join(","))
}

/// An intent with its details.
#[derive(Debug)]
pub(super) struct ExportRow {
    intent: Intent,
    entry: String,
    details: OrderDetails,
    item: Option<OrderedItem>,
}

impl ExportRow {
    pub(super) fn of(reader: &LedgerReader, intent: &Intent) -> Result<Self, LedgerError> {
        let details = reader.details(intent.sequence)?;
        let (entry, item) = (reader.label(intent).to_owned(), reader.item(intent.sequence)?);
        Ok(Self { intent: *intent, entry, details, item })
    }

    pub(super) fn is(&self, sequence: Sequence) -> bool {
        self.intent.sequence == sequence
    }

    pub(super) fn to_json(&self) -> Value {
        let timestamp = |at: Option<UnixMs>| at.map(|at| at.to_string());
        let mut order = json!({
            "number": self.intent.sequence.0,
            "listing": self.intent.id.as_str(),
            "own_id": self.intent.own_id.as_ref().map(OwnOrderId::as_str),
            "entry": self.entry,
            "approved": self.intent.approved.to_string(),
            "price": self.intent.price.to_string(),
            "state": self.intent.state.as_str(),
            "reserved_at": self.intent.reserved_at.to_string(),
            "sent_at": timestamp(self.details.sent_at),
            "answered_at": timestamp(self.details.answered_at),
            "settled_at": timestamp(self.details.settled_at),
            "limits": self.intent.limits,
            "answer": self.details.answer,
            "words": self.details.response,
        });
        if let Some(order) = order.as_object_mut() {
            add_item(order, self.item.as_ref());
        }
        order
    }

    pub(super) fn to_csv(&self) -> String {
        let timestamp = |at: Option<UnixMs>| at.map(|at| at.to_string()).unwrap_or_default();
        let columns = [
            self.intent.sequence.to_string(),
            self.intent.id.to_string(),
            self.entry.clone(),
            self.intent.approved.to_string(),
            self.intent.price.to_string(),
            self.intent.state.as_str().to_owned(),
            self.intent.reserved_at.to_string(),
            timestamp(self.details.sent_at),
            timestamp(self.details.answered_at),
            timestamp(self.details.settled_at),
            self.intent.limits.to_string(),
            self.details.answer.clone().unwrap_or_default(),
            self.details.response.clone().unwrap_or_default(),
        ];
        let item = item_columns(self.item.as_ref()).map(Option::unwrap_or_default);
        let columns: Vec<String> = columns.iter().chain(&item).map(|it| cell(it)).collect();
        columns.join(",")
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            text.push_str(&format!("{name:<15} {}\n", Escaped(value)));
        };
        line("listing", self.intent.id.as_str());
        line("state", &self.intent.state.to_string());
        self.intent.own_id.iter().for_each(|id| line("own order id", id.as_str()));
        if let Some(item) = &self.item {
            line("item", &item.name);
            item.float.iter().for_each(|float| line("float", float));
        }
        line("entry", &self.entry);
        line("approved price", &self.intent.approved.to_string());
        line("price", &self.intent.price.to_string());
        if let Some(reference) = self.item.as_ref().and_then(|item| item.reference.as_ref()) {
            let (price, currency) = (reference.price, reference.currency.as_str());
            line("reference", &format!("{reference} ({price} {currency})"));
        }
        if let Some(margin) = self.item.as_ref().and_then(|item| item.margin) {
            line("margin", &format!("{margin} %"));
        }
        line("approved at", &clock::format_local(self.intent.reserved_at));
        let times = [
            ("sent at", self.details.sent_at),
            ("response at", self.details.answered_at),
            ("settled at", self.details.settled_at),
        ];
        for (name, at) in times {
            if let Some(at) = at {
                line(name, &clock::format_local(at));
            }
        }
        for (name, value) in
            [("response", &self.details.answer), ("market message", &self.details.response)]
        {
            if let Some(value) = value {
                line(name, value);
            }
        }
        text
    }
}

/// Quotes a CSV cell. Neutralizes text that a spreadsheet would evaluate as a formula, and
/// replaces characters that a terminal would interpret.
pub(super) fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text: String = text
        .chars()
        .map(|char| if crate::text::is_safe_to_print(char) { char } else { '\u{fffd}' })
        .collect();
    let text = if is_formula { format!("'{text}") } else { text };
    if text.contains([',', '"']) || is_formula {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

/// Returns the totals of the orders that were reserved from this time on.
fn totals_since(state: &LedgerState, begin: UnixMs) -> OrderTotals {
    OrderTotals::of(state.intents().iter().filter(|intent| begin <= intent.reserved_at))
}

fn not_bought(totals: &OrderTotals) -> u64 {
    totals.not_bought.saturating_add(totals.rejected)
}

fn totals_json(totals: &OrderTotals) -> Value {
    json!({
        "bought": totals.bought,
        "spent": totals.spent.to_string(),
        "not_bought": not_bought(totals),
        "returning": totals.returning,
        "returned": totals.returned,
        "unknown": totals.unknown,
        "unknown_coins": totals.unknown_coins.to_string(),
        "in_flight": totals.in_flight,
    })
}

/// Table of `sniper ledger`: orders of today, this week and all time, and the limits.
#[derive(Clone, Debug)]
pub(super) struct LedgerTable {
    today: OrderTotals,
    week: OrderTotals,
    all_time: OrderTotals,
    status: LedgerStatus,
    /// Offset of the zone of the days from UTC.
    zone: String,
    /// Label, quantity and spent coins of each whitelist entry with orders that count.
    entries: Vec<(String, u32, Amount)>,
}

impl LedgerTable {
    /// Sums the orders up. `offset_s` returns the offset from UTC of the zone of the days, in
    /// seconds.
    pub(super) fn of(reader: &mut LedgerReader, now: UnixMs, offset_s: fn(UnixMs) -> i32) -> Self {
        let here = OffsetTime { at: now, offset_s: offset_s(now) };
        let day = here.day();
        // The first of January 1970 was a Thursday.
        let monday = day.saturating_sub(day.saturating_add(3).rem_euclid(7));
        let begin = |day: i64| begin_of_day(day, offset_s);
        let state = reader.state();
        let mut entries: Vec<_> = state
            .entries()
            .filter(|(_key, used)| used.quantity > 0)
            .map(|(key, used)| (key.label().to_owned(), used.quantity, used.total))
            .collect();
        entries.sort();
        let (today, week) = (totals_since(state, begin(day)), totals_since(state, begin(monday)));
        let all_time = OrderTotals::of(state.intents().iter());
        let status = LedgerStatus::from_snapshot(&reader.state_mut().snapshot(now), "", None, now);
        Self { today, week, all_time, status, zone: here.zone(), entries }
    }

    pub(super) fn to_json(&self) -> Value {
        let entries = self.entries.iter().map(|(entry, quantity, total)| {
            json!({ "entry": entry, "quantity": quantity, "total": total.to_string() })
        });
        json!({
            "today": totals_json(&self.today),
            "week": totals_json(&self.week),
            "everything": totals_json(&self.all_time),
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
        writeln!(
            f,
            "(UTC{:<16} {:>14} {:>14} {:>14}",
            format!("{})", self.zone),
            "today",
            "this week",
            "all time"
        )?;
        let columns = [self.today, self.week, self.all_time];
        let mut row = |name: &str, value: fn(&OrderTotals) -> String| {
            let [today, week, all_time] = columns.each_ref().map(value);
            writeln!(f, "{name:<20} {today:>14} {week:>14} {all_time:>14}")
        };
        row("bought", |totals| totals.bought.to_string())?;
        row("spent", |totals| totals.spent.to_string())?;
        row("  returning", |totals| totals.returning.to_string())?;
        row("not bought", |totals| not_bought(totals).to_string())?;
        row("returned", |totals| totals.returned.to_string())?;
        row("unknown", |totals| totals.unknown.to_string())?;
        row("  counted as spent", |totals| totals.unknown_coins.to_string())?;
        row("in flight", |totals| totals.in_flight.to_string())?;
        write!(f, "\n{}", LimitTable(&self.status.limits))?;
        if self.status.lost_buys > 0 {
            let (count, coins) = (self.status.lost_buys, &self.status.lost_coins);
            writeln!(
                f,
                "\nA power loss may have hidden up to {} for {coins}: counted as \
                 spent. If the market shows none, run `sniper ledger resolve lost --not-bought`.",
                counted(count, "order", "orders")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_of_its_zone() {
        assert_eq!(begin_of_day(1, |_at| 0), UnixMs(DAY_MS));
        assert_eq!(begin_of_day(1, |_at| 3_600), UnixMs(DAY_MS - 3_600_000));
        assert_eq!(begin_of_day(1, |_at| -3_600), UnixMs(DAY_MS + 3_600_000));
    }

    #[test]
    fn a_csv_cell_is_neither_a_formula_nor_a_terminal_escape() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"no\""), "\"say \"\"no\"\"\"");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("a\u{1b}[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
    }
}
