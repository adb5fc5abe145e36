//! What a session came to: for a person, and as one JSON object.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::{
    domain::money::Amount,
    latency::Percentiles,
    ledger::{Halt, OrderTotals},
    sniper::stats::{BoughtItem, SessionStats},
    text::Escaped,
};

pub use crate::domain::time::lasting;

/// How many purchases the summary shows.
const PURCHASES_SHOWN_MAX: usize = 20;

/// What the feed counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Connections made after the first one was lost.
    pub reconnects: u64,
    /// Times without listings.
    pub gaps: u64,
    /// How long they lasted together.
    pub without_listings: Duration,
    /// How long the longest of them lasted.
    pub longest_gap: Duration,
    /// Messages and listings that could not be read.
    pub unreadable: u64,
}

/// What the practice market says of the same session. It keeps its own books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedMarketCounts {
    /// How many listings it offered.
    pub offered: u64,
    /// How many of them were made to fit the whitelist.
    pub wanted: u64,
    /// How many it sold to the bot.
    pub sold_to_us: u64,
    /// What they cost, without those that were cancelled.
    pub spent: Amount,
    /// What the account holds.
    pub balance: Amount,
    /// How many listings were asked for more than once.
    pub asked_twice: u64,
    /// How many requests came over a connection opened after their listing.
    pub cold: u64,
}

/// What a session came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `dry`, `live` or `demo`.
    pub mode: &'static str,
    /// How long it lasted.
    pub lasted: Duration,
    /// What the feed counted.
    pub feed: FeedCounts,
    /// What was decided and bought.
    pub tally: SessionStats,
    /// What became of its orders, by the ledger.
    pub orders: OrderTotals,
    /// Why ordering is halted at its end.
    pub halts: Vec<Halt>,
    /// What the account holds, where that is known.
    pub balance: Option<Amount>,
    /// Log lines that were dropped rather than waited for.
    pub log_lines_dropped: u64,
    /// Why it ended, in words.
    pub ended: String,
    /// Whether it ended because the feed was given up, which nobody asked for.
    pub is_given_up: bool,
    /// What the practice market says, in a demo.
    pub market: Option<SimulatedMarketCounts>,
}

impl Summary {
    /// Frames and answers that could not be read, and internal failures.
    pub fn errors(&self) -> u64 {
        self.feed
            .unreadable
            .saturating_add(self.tally.unreadable_answers)
            .saturating_add(self.tally.internal_errors)
    }

    /// The summary as one JSON object.
    pub fn to_json(&self) -> Value {
        let tally = &self.tally;
        let latency = tally.latency.percentiles();
        json!({
            "mode": self.mode,
            "seconds": decimal(self.lasted.as_millis(), 3),
            "listings": tally.listings,
            "matched": tally.matched,
            "bought": self.orders.bought,
            "refused": tally.refused,
            "unknown": self.orders.unknown,
            "unknown_at_first": tally.unknown,
            "not_bought": self.orders.not_bought,
            "not_sent": tally.not_sent,
            "would_buy": tally.would_buy,
            "skipped": tally.skipped_total(),
            "skipped_because": tally.skipped,
            "refused_because": tally.refusals,
            "repeated": tally.repeated,
            "unbuyable": tally.unreadable,
            "spent": self.orders.spent.to_string(),
            "delivered": self.orders.delivered,
            "returning": self.orders.returning,
            "returning_coins": self.orders.returning_coins.to_string(),
            "returned": self.orders.returned,
            "returned_coins": self.orders.returned_coins.to_string(),
            "in_doubt": self.orders.unknown_coins.to_string(),
            "resolved_bought": tally.resolved_bought,
            "resolved_not_bought": tally.resolved_not_bought,
            "halts": self.halts.iter().map(halt_json).collect::<Vec<_>>(),
            "would_spend": tally.would_spend.to_string(),
            "balance": self.balance.map(|balance| balance.to_string()),
            "reconnects": self.feed.reconnects,
            "gaps": self.feed.gaps,
            "gap_seconds": decimal(self.feed.without_listings.as_millis(), 3),
            "longest_gap_seconds": decimal(self.feed.longest_gap.as_millis(), 3),
            "errors": self.errors(),
            "log_lines_dropped": self.log_lines_dropped,
            "latency_us": {
                "count": latency.count,
                "p50": us(latency.p50),
                "p90": us(latency.p90),
                "p99": us(latency.p99),
                "max": us(latency.max),
            },
            "purchases": tally.purchases.iter().map(purchase_json).collect::<Vec<_>>(),
            "ended": self.ended,
            "market": self.market.map(market_json),
        })
    }
}

fn halt_json(halt: &Halt) -> Value {
    json!({
        "since": halt.at.to_string(),
        "reason": halt.reason.to_string(),
        "remedy": halt.reason.remedy(),
        "count": halt.count,
    })
}

fn market_json(market: SimulatedMarketCounts) -> Value {
    json!({
        "offered": market.offered,
        "wanted": market.wanted,
        "sold": market.sold_to_us,
        "spent": market.spent.to_string(),
        "balance": market.balance.to_string(),
        "asked_twice": market.asked_twice,
        "cold": market.cold,
    })
}

fn purchase_json(purchase: &BoughtItem) -> Value {
    json!({
        "id": purchase.id.as_str(),
        "item": purchase.market_name,
        "price": purchase.price.to_string(),
        "latency_us": duration_us(purchase.steps.total()),
        "steps_us": purchase.steps.each().map(|(name, took)| (name.to_owned(), duration_us(took)))
            .into_iter().collect::<serde_json::Map<_, _>>(),
        "answered_us": duration_us(purchase.answered),
    })
}

fn duration_us(duration: Duration) -> Value {
    us(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Nanoseconds as a JSON number of microseconds with one decimal.
fn us(ns: u64) -> Value {
    decimal(u128::from(ns / 100), 1)
}

/// `value / 10^places` as a JSON number.
pub fn decimal(value: u128, places: u32) -> Value {
    let unit = 10_u128.pow(places);
    let width = usize::try_from(places).unwrap_or(0);
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        let counted = |count: u64, what: &str| format!("{count:>8}  {what}");
        for halt in &self.halts {
            let (reason, remedy) = (halt.reason, halt.reason.remedy());
            writeln!(f, "\nORDERING IS HALTED: {reason}. What to do: {remedy}.")?;
        }
        writeln!(f)?;
        writeln!(f, "The session lasted {} and ended: {}.", lasting(self.lasted), self.ended)?;
        writeln!(f)?;
        writeln!(f, "{}", counted(tally.listings, "listings seen"))?;
        writeln!(f, "{}", counted(tally.matched, "wanted by your whitelist"))?;
        if self.mode == "dry" {
            let what = format!("would have been bought, for {} coins", tally.would_spend);
            writeln!(f, "{}", counted(tally.would_buy, &what))?;
        } else {
            self.orders(f)?;
            let why = reasons(tally.refusals.iter());
            writeln!(f, "{}", counted(tally.refused, &format!("refused by the market{why}")))?;
            writeln!(f, "{}", counted(tally.unknown, &unanswered(tally, &self.orders)))?;
            if tally.not_sent > 0 {
                writeln!(f, "{}", counted(tally.not_sent, "never left, for want of a connection"))?;
            }
        }
        let skipped: Vec<_> =
            tally.skipped.iter().map(|(why, count)| (in_words(why), count)).collect();
        let why = reasons(skipped.iter().map(|(why, count)| (why, *count)));
        writeln!(f, "{}", counted(tally.skipped_total(), &format!("wanted but left alone{why}")))?;
        if tally.unreadable > 0 {
            writeln!(f, "{}", counted(tally.unreadable, "unbuyable: a field could not be read"))?;
        }
        self.purchases(f)?;
        self.state(f)
    }
}

impl fmt::Display for SimulatedMarketCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offered, sold_to_us, spent, balance, asked_twice, .. } = self;
        writeln!(
            f,
            "\nThe practice market's own books say: {offered} listings offered, {sold_to_us} sold to you, {spent} coins"
        )?;
        writeln!(
            f,
            "kept for them, {balance} left in your account, {asked_twice} listings asked for twice."
        )
    }
}

impl Summary {
    /// What became of the orders, by the ledger.
    fn orders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OrderTotals { bought, spent, delivered, .. } = self.orders;
        let OrderTotals { returning, returning_coins, returned, returned_coins, .. } = self.orders;
        writeln!(f, "{bought:>8}  bought, for {spent} coins")?;
        let lines = [
            (delivered, "of them delivered".to_owned()),
            (returning, format!("of them cancelled; {returning_coins} coins are not back yet")),
            (returned, format!("cancelled, and {returned_coins} coins came back")),
            (self.tally.resolved_bought, "unknown orders resolved as bought".to_owned()),
            (self.tally.resolved_not_bought, "unknown orders resolved as not bought".to_owned()),
        ];
        for (count, what) in lines.iter().filter(|(count, _what)| *count > 0) {
            writeln!(f, "{count:>8}  {what}")?;
        }
        Ok(())
    }

    fn purchases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purchases = &self.tally.purchases;
        if purchases.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nBought:")?;
        for purchase in purchases.iter().take(PURCHASES_SHOWN_MAX) {
            let (price, name) = (purchase.price, Escaped(&purchase.market_name));
            writeln!(f, "{price:>12}  {name}  (asked for in {})", short(purchase.steps.total()))?;
        }
        let more = purchases.len().saturating_sub(PURCHASES_SHOWN_MAX);
        if more > 0 {
            writeln!(f, "              … and {more} more")?;
        }
        Ok(())
    }

    fn state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        let Percentiles { count, p50, p99, max, .. } = self.tally.latency.percentiles();
        if count > 0 {
            let [p50, p99, max] = [p50, p99, max].map(|ns| short(Duration::from_nanos(ns)));
            writeln!(
                f,
                "Speed:   from listing received to buy sent {p50} typically, {p99} at the 99th percentile, {max} at most ({count} measured)."
            )?;
        }
        match self.balance {
            Some(balance) => writeln!(f, "Balance: {balance} coins.")?,
            None => writeln!(f, "Balance: not known.")?,
        }
        let FeedCounts { reconnects, gaps, without_listings, longest_gap, .. } = self.feed;
        let lasted = match gaps {
            0 => String::new(),
            _ => format!(
                " ({} without listings, {} the longest)",
                lasting(without_listings),
                lasting(longest_gap)
            ),
        };
        let errors = self.errors();
        writeln!(f, "Feed:    {reconnects} reconnects, {gaps} gaps{lasted}, {errors} errors.")?;
        if self.log_lines_dropped > 0 {
            writeln!(
                f,
                "Log:     {} lines were dropped rather than waited for.",
                self.log_lines_dropped
            )?;
        }
        self.market.map_or(Ok(()), |market| write!(f, "{market}"))
    }
}

fn unanswered(tally: &SessionStats, orders: &OrderTotals) -> String {
    match (tally.unknown, orders.unknown) {
        (0, _) => "without an answer".to_owned(),
        (_, 0) => "without an answer at first; the account has resolved them".to_owned(),
        (_, unknown) => format!(
            "without an answer at first; {unknown} are still unknown, and their {} coins count as spent",
            orders.unknown_coins
        ),
    }
}

/// A reason to leave something alone, so that the name of a limit is not read as a sum.
fn in_words(why: &'static str) -> &'static str {
    match why {
        "total" => "by the limit total",
        "max_price" => "by the limit max_price",
        "max_quantity" => "by the limit max_quantity",
        "max_total" => "by the limit max_total",
        "per_hour" => "by the limit per_hour",
        "per_day" => "by the limit per_day",
        "min_balance" => "by the limit min_balance",
        "max_buys_per_minute" => "by the limit max_buys_per_minute",
        "max_in_flight" => "by the limit max_in_flight",
        "not_reconciled" => "before the account was compared with the ledger",
        "already_requested" => "asked for before",
        other => other,
    }
}

fn reasons<'a>(counts: impl Iterator<Item = (&'a &'static str, &'a u64)>) -> String {
    let reasons: Vec<String> = counts.map(|(why, count)| format!("{count} {why}")).collect();
    if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) }
}

/// A short duration: `41 µs`, `1.2 ms`, `3.4 s`.
pub fn short(duration: Duration) -> String {
    match duration.as_micros() {
        us @ 0..1_000 => format!("{us} µs"),
        us @ 1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        us => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::outcome::Outcome, domain::time::UnixMs, ledger::HaltReason};

    fn summary() -> Summary {
        let mut tally = SessionStats {
            listings: 600,
            matched: 3,
            unreadable_answers: 1,
            ..SessionStats::default()
        };
        let price = Amount::from_cents(1_015);
        tally.settle(&Outcome::Bought { price: Some(price), server_time: None });
        tally.skip("expired");
        tally.skip("total");
        tally.latency.record(Duration::from_nanos(41_250));
        Summary {
            mode: "demo",
            lasted: Duration::from_millis(30_040),
            feed: FeedCounts {
                reconnects: 1,
                gaps: 2,
                without_listings: Duration::from_millis(62_340),
                longest_gap: Duration::from_millis(61_000),
                unreadable: 2,
            },
            tally,
            orders: OrderTotals { bought: 1, spent: price, ..OrderTotals::default() },
            halts: Vec::new(),
            balance: Some(Amount::from_cents(48_985)),
            log_lines_dropped: 0,
            ended: "the time was up".to_owned(),
            is_given_up: false,
            market: None,
        }
    }

    #[test]
    fn a_halt_is_the_first_line_and_the_ledger_says_what_was_bought() {
        let reason = HaltReason::Unknowns { count: 5 };
        let orders = OrderTotals {
            bought: 3,
            spent: Amount::from_cents(3_000),
            delivered: 1,
            returning: 1,
            returning_coins: Amount::from_cents(1_000),
            returned: 2,
            returned_coins: Amount::from_cents(2_000),
            ..OrderTotals::default()
        };
        let halts = vec![Halt { at: UnixMs(0), reason, count: 1 }];
        let mut summary = Summary { orders, halts, ..summary() };
        summary.tally.resolved_not_bought = 4;
        let text = summary.to_string();
        let first = text.lines().find(|line| !line.is_empty()).unwrap();
        assert!(first.starts_with("ORDERING IS HALTED: 5 buys in a row ended unknown."), "{text}");
        for line in [
            "       3  bought, for 30.00 coins",
            "       1  of them delivered",
            "       1  of them cancelled; 10.00 coins are not back yet",
            "       2  cancelled, and 20.00 coins came back",
            "       4  unknown orders resolved as not bought",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let json = summary.to_json();
        assert_eq!((&json["bought"], &json["spent"]), (&3.into(), &"30.00".into()));
        assert_eq!(json["halts"][0]["count"], 1);
    }

    #[test]
    fn the_json_has_every_promised_field() {
        let json = summary().to_json();
        for key in [
            "mode",
            "seconds",
            "listings",
            "matched",
            "bought",
            "refused",
            "unknown",
            "skipped",
            "spent",
            "balance",
            "reconnects",
            "gaps",
            "errors",
            "latency_us",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
        for key in ["count", "p50", "p90", "p99", "max"] {
            assert!(json["latency_us"][key].is_number(), "{key}");
        }
        assert_eq!(json["spent"], "10.15");
        assert_eq!(json["balance"], "489.85");
        assert_eq!(json["errors"], 3);
        assert_eq!(json["seconds"].to_string(), "30.04");
        assert_eq!(json["gap_seconds"].to_string(), "62.34");
        assert_eq!(json["longest_gap_seconds"].to_string(), "61.0");
        assert_eq!(json["latency_us"]["max"].to_string(), "41.2");
    }

    #[test]
    fn an_unknown_balance_is_null() {
        let summary = Summary { balance: None, ..summary() };
        assert!(summary.to_json()["balance"].is_null());
    }

    #[test]
    fn a_person_reads_what_was_bought_and_why_not() {
        let text = summary().to_string();
        for part in [
            "lasted 30.0 s",
            "600  listings seen",
            "1  bought, for 10.15 coins",
            "(1 expired, 1 by the limit total)",
            "41 µs",
            "489.85",
            "1 reconnects, 2 gaps (1 min 2 s without listings, 1 min 1 s the longest), 3 errors.",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(lasting(Duration::from_millis(4_250)), "4.2 s");
        assert_eq!(lasting(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(lasting(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(short(Duration::from_micros(41)), "41 µs");
        assert_eq!(short(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(short(Duration::from_millis(3_400)), "3.4 s");
    }
}
