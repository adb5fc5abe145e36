//! Summary of a session, as text and as one JSON object. Pure.

use std::{fmt, time::Duration};

use serde_json::{Value, json};

use crate::{
    domain::latency::{Percentiles, format_latency},
    domain::money::Amount,
    domain::time::UnixMs,
    domain::unit,
    ledger::{Halt, OrderTotals, status::FeedConnectionStatus},
    sim::MarketHistory,
    sniper::stats::{BoughtItem, SessionStats},
    text::{Escaped, counted},
};

pub use crate::domain::time::format_duration;

/// Maximum number of purchases to show.
const PURCHASES_SHOWN_MAX: usize = 20;

/// Maximum number of unmatched whitelist entries to show.
const UNMATCHED_SHOWN_MAX: usize = 5;

/// Whitelist entries that matched no listing of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnmatchedEntries {
    /// Labels of the first [`UNMATCHED_SHOWN_MAX`].
    labels: Vec<String>,
    count: usize,
    /// Number of all entries, matched or not.
    total: usize,
}

impl UnmatchedEntries {
    pub fn new<'a>(labels: impl Iterator<Item = &'a str> + Clone, total: usize) -> Self {
        let shown = labels.clone().take(UNMATCHED_SHOWN_MAX).map(str::to_owned);
        Self { labels: shown.collect(), count: labels.count(), total }
    }
}

impl fmt::Display for UnmatchedEntries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { labels, count, total } = self;
        if *count == 0 {
            return Ok(());
        }
        let labels: Vec<String> =
            labels.iter().map(|label| format!("\"{}\"", Escaped(label))).collect();
        let more = if labels.len() < *count { ", …" } else { "" };
        let labels = labels.join(", ");
        writeln!(f, "{count:>8}  of {total} entries matched no listing: {labels}{more}")
    }
}

/// Counters of the feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    pub has_connected: bool,
    /// Connections established after the first one was lost.
    pub reconnects: u64,
    /// Number of gaps: intervals without listings.
    pub gaps: u64,
    /// Total duration of the gaps.
    pub without_listings: Duration,
    pub longest_gap: Duration,
    /// Messages and listings that could not be parsed.
    pub unreadable: u64,
    /// Messages without a wanted listing that were handled after wanted ones of the same read.
    pub handled_later: u64,
    /// Each of several connections; empty for a single one.
    pub connections: Vec<FeedConnectionStatus>,
}

/// Counters of the simulator for the same session, kept independently of the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedMarketCounts {
    pub listings: u64,
    /// Listings generated to match the whitelist.
    pub matching: u64,
    pub sold: u64,
    /// Coins paid, without cancelled purchases.
    pub spent: Amount,
    pub balance: Amount,
    /// Listings that were ordered more than once.
    pub ordered_twice: u64,
    /// Orders over a connection that was opened after the listing appeared.
    pub cold: u64,
}

impl SimulatedMarketCounts {
    pub fn new(history: &MarketHistory) -> Self {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Self {
            listings: history.listed,
            matching: history.wanted_count,
            sold: count(history.purchases().count()),
            spent: history.spent(),
            balance: history.balance,
            ordered_twice: count(history.ordered_twice().count()),
            cold: count(history.cold_orders().count()),
        }
    }
}

/// Results of a session.
#[derive(Clone, Debug)]
pub struct Summary {
    /// `dry`, `live`, `demo` or `practice`.
    pub mode: &'static str,
    pub duration: Duration,
    pub feed: FeedCounts,
    pub stats: SessionStats,
    /// Whitelist entries that matched no listing.
    pub unmatched: UnmatchedEntries,
    /// Results of its orders in the ledger.
    pub orders: OrderTotals,
    /// Orders of earlier sessions that were delivered or refunded in this one.
    pub earlier: OrderTotals,
    /// Halts at the end of the session, with their descriptions.
    pub halts: Vec<(Halt, String)>,
    /// Balance of the account, if known.
    pub balance: Option<Amount>,
    /// Log lines that were dropped because the output was too slow.
    pub log_lines_dropped: u64,
    /// Cause of the end, for display.
    pub ended: String,
    /// `true` if the session ended because the feed reached its retry limit.
    pub is_given_up: bool,
    /// Counters of the simulator, in a demo or a practice run.
    pub market: Option<SimulatedMarketCounts>,
    /// Formats a time for the user.
    pub format_time: fn(UnixMs) -> String,
}

impl Summary {
    /// Returns the number of unreadable messages and responses, and of internal errors.
    pub fn errors(&self) -> u64 {
        self.feed
            .unreadable
            .saturating_add(self.stats.unreadable_responses)
            .saturating_add(self.stats.internal_errors)
    }

    /// Returns the summary as one JSON object.
    pub fn to_json(&self) -> Value {
        let mut summary = self.results_json();
        if let Some(object) = summary.as_object_mut() {
            let OrderTotals { delivered, returned, returned_coins, .. } = self.earlier;
            for (key, value) in [
                ("handled_later", json!(self.feed.handled_later)),
                ("unknown_messages", json!(self.stats.unknown_messages)),
                ("earlier_delivered", json!(delivered)),
                ("earlier_returned", json!(returned)),
                ("earlier_returned_coins", json!(returned_coins.to_string())),
            ] {
                object.insert(key.to_owned(), value);
            }
        }
        summary
    }

    fn results_json(&self) -> Value {
        let stats = &self.stats;
        let latency = stats.latency.percentiles();
        json!({
            "mode": self.mode,
            "seconds": decimal(self.duration.as_millis(), 3),
            "listings": stats.listings,
            "matched": stats.matched,
            "bought": self.orders.bought,
            "refused": stats.rejected,
            "unknown": self.orders.unknown,
            "unknown_at_first": stats.unknown,
            "not_bought": self.orders.not_bought,
            "not_sent": stats.not_sent,
            "would_buy": stats.would_buy,
            "skipped": stats.skipped_total(),
            "skipped_because": stats.skipped,
            "refused_because": stats.rejections,
            "repeated": stats.repeated,
            "unbuyable": stats.unreadable,
            "spent": self.orders.spent.to_string(),
            "delivered": self.orders.delivered,
            "returning": self.orders.returning,
            "returning_coins": self.orders.returning_coins.to_string(),
            "returned": self.orders.returned,
            "returned_coins": self.orders.returned_coins.to_string(),
            "in_doubt": self.orders.unknown_coins.to_string(),
            "resolved_bought": stats.resolved_bought,
            "resolved_not_bought": stats.resolved_not_bought,
            "halts": self.halts.iter().map(halt_json).collect::<Vec<_>>(),
            "would_spend": stats.would_spend.to_string(),
            "balance": self.balance.map(|balance| balance.to_string()),
            "reconnects": self.feed.reconnects,
            "gaps": self.feed.gaps,
            "gap_seconds": decimal(self.feed.without_listings.as_millis(), 3),
            "longest_gap_seconds": decimal(self.feed.longest_gap.as_millis(), 3),
            "connections": self.feed.connections,
            "errors": self.errors(),
            "log_lines_dropped": self.log_lines_dropped,
            "latency_us": {
                "count": latency.count,
                "p50": us(latency.p50),
                "p90": us(latency.p90),
                "p99": us(latency.p99),
                "max": us(latency.max),
            },
            "purchases": stats.purchases.iter().map(purchase_json).collect::<Vec<_>>(),
            "ended": self.ended,
            "market": self.market.map(market_json),
        })
    }
}

fn halt_json((halt, text): &(Halt, String)) -> Value {
    json!({
        "since": halt.at.to_string(),
        "reason": text,
        "remedy": halt.reason.remedy(),
        "count": halt.count,
    })
}

fn market_json(market: SimulatedMarketCounts) -> Value {
    json!({
        "offered": market.listings,
        "wanted": market.matching,
        "sold": market.sold,
        "spent": market.spent.to_string(),
        "balance": market.balance.to_string(),
        "asked_twice": market.ordered_twice,
        "cold": market.cold,
    })
}

fn purchase_json(purchase: &BoughtItem) -> Value {
    let reference = purchase.reference.as_ref();
    json!({
        "id": purchase.id.as_str(),
        "time": purchase.at.to_string(),
        "entry": purchase.entry,
        "item": purchase.market_name,
        "price": purchase.price.to_string(),
        "reference": reference.map(|reference| &reference.name),
        "reference_price": reference.map(|reference| reference.price.to_string()),
        "reference_currency": reference.map(|reference| reference.currency.as_str()),
        "percent": reference.map(|reference| reference.percent.to_string()),
        "margin": purchase.margin.map(|margin| margin.to_string()),
        "latency_us": duration_us(purchase.steps.total()),
        "steps_us": purchase.steps.durations().map(|(name, took)| (name.to_owned(), duration_us(took)))
            .into_iter().collect::<serde_json::Map<_, _>>(),
        "answered_us": duration_us(purchase.response_time),
    })
}

fn duration_us(duration: Duration) -> Value {
    us(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// Converts nanoseconds to microseconds with one decimal, as a JSON number.
fn us(ns: u64) -> Value {
    decimal(u128::from(ns / 100), 1)
}

/// Returns `value / 10^places` as a JSON number.
pub fn decimal(value: u128, places: u32) -> Value {
    let unit = 10_u128.pow(places);
    let width = usize::try_from(places).unwrap_or(0);
    let text = format!("{}.{:0width$}", value / unit, value % unit);
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit::name();
        let stats = &self.stats;
        for (halt, reason) in &self.halts {
            let remedy = halt.reason.remedy();
            writeln!(f, "\nOrdering halted: {reason}. What to do: {remedy}.")?;
        }
        writeln!(f)?;
        writeln!(f, "Ran for {}. Stopped: {}.", format_duration(self.duration), self.ended)?;
        writeln!(f)?;
        writeln!(f, "{:>8}  listings seen", stats.listings)?;
        writeln!(f, "{:>8}  matched your whitelist", stats.matched)?;
        self.unmatched.fmt(f)?;
        if self.mode == "dry" {
            let (count, coins) = (stats.would_buy, stats.would_spend);
            writeln!(f, "{count:>8}  would have been bought for {coins} {unit}")?;
        } else {
            self.orders(f)?;
        }
        let skipped = stats.skipped.iter().map(|(reason, count)| (reason.text, *count));
        write_reasons(f, "skipped", skipped)?;
        write_count(f, stats.unreadable, "ignored: incomplete data from the market")?;
        self.purchases(f)?;
        self.state(f)
    }
}

impl fmt::Display for SimulatedMarketCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit::name();
        let Self { listings, sold, spent, balance, ordered_twice, .. } = self;
        writeln!(
            f,
            "\nSimulator: {listings} listings, {sold} sold to you for {spent} {unit}, balance \
             {balance}, {ordered_twice} ordered twice."
        )
    }
}

impl Summary {
    /// Writes the results of the orders, at the current state of the ledger.
    fn orders(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit::name();
        let OrderTotals { bought, spent, delivered, unknown, unknown_coins, .. } = self.orders;
        let OrderTotals { returning, returning_coins, returned, returned_coins, .. } = self.orders;
        let stats = &self.stats;
        writeln!(f, "{bought:>8}  bought for {spent} {unit}")?;
        write_count(f, delivered, "of them delivered")?;
        let text = format!(
            "of them cancelled; {returning_coins} {unit} count as spent until the balance shows the refund"
        );
        write_count(f, returning, &text)?;
        write_count(f, returned, &format!("cancelled and refunded ({returned_coins} {unit})"))?;
        let describe =
            |(reason, count): (&&'static str, &u64)| (describe_rejection(reason), *count);
        let rejections = stats.rejections.iter().map(describe);
        write_reasons(f, "rejected by the market", rejections)?;
        write_count(f, stats.unknown, "without a clear answer at first")?;
        let text = "of them with a message of the market that this version does not know";
        write_count(f, stats.unknown_messages, text)?;
        // Orders of earlier sessions are among them.
        let (bought, not) = (stats.resolved_bought, stats.resolved_not_bought);
        let text = format!("unknown orders resolved: {bought} bought, {not} not bought");
        write_count(f, bought.saturating_add(not), &text)?;
        let text = format!("still unknown ({unknown_coins} {unit} count as spent)");
        write_count(f, unknown, &text)?;
        write_count(f, stats.not_sent, "not sent, because no connection was available")?;
        let OrderTotals { delivered, returned, returned_coins, .. } = self.earlier;
        write_count(f, delivered, "purchases of earlier sessions delivered")?;
        let text = format!("purchases of earlier sessions refunded ({returned_coins} {unit})");
        write_count(f, returned, &text)
    }

    fn purchases(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purchases = &self.stats.purchases;
        if purchases.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nBought:")?;
        for purchase in purchases.iter().take(PURCHASES_SHOWN_MAX) {
            let (price, name) = (purchase.price, Escaped(&purchase.market_name));
            let reference = purchase.reference.iter().map(ToString::to_string);
            let margin = purchase.margin.iter().map(|margin| format!("margin {margin} %"));
            let notes: Vec<String> = reference.chain(margin).collect();
            let notes =
                if notes.is_empty() { String::new() } else { "  ".to_owned() + &notes.join(", ") };
            let (at, entry) = ((self.format_time)(purchase.at), Escaped(&purchase.entry));
            let cancelled = if purchase.is_cancelled { "  (cancelled)" } else { "" };
            writeln!(f, "{price:>12}  {name}{notes}  [{entry}]  {at}{cancelled}")?;
        }
        // The list is bounded, and the ledger counts all.
        let bought = self.orders.bought.saturating_add(self.orders.returned);
        let shown = usize::min(purchases.len(), PURCHASES_SHOWN_MAX);
        match (bought.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX)), self.mode) {
            (0, _) => Ok(()),
            (more, "live") => writeln!(f, "              … {more} more: sniper ledger list"),
            (more, _) => writeln!(f, "              … {more} more"),
        }
    }

    fn state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit::name();
        writeln!(f)?;
        let Percentiles { count, p50, p99, max, .. } = self.stats.latency.percentiles();
        if count > 0 {
            let [p50, p99, max] =
                [p50, p99, max].map(|ns| format_latency(Duration::from_nanos(ns)));
            writeln!(f, "Latency: receive-to-order p50 {p50}, p99 {p99}, max {max} (n={count})")?;
        }
        match self.balance {
            Some(balance) if self.mode == "dry" => writeln!(f, "Balance: {balance} {unit}")?,
            // The last reading less the orders sent since.
            Some(balance) => writeln!(f, "Balance: about {balance} {unit}")?,
            None => writeln!(f, "Balance: unknown")?,
        }
        writeln!(f, "Feed:    {}", self.feed_state())?;
        for (index, connection) in self.feed.connections.iter().enumerate() {
            writeln!(f, "         connection {}: {connection}", index.saturating_add(1))?;
        }
        if self.log_lines_dropped > 0 {
            let dropped = self.log_lines_dropped;
            writeln!(f, "Log:     {dropped} lines dropped, because the output was too slow")?;
        }
        self.market.map_or(Ok(()), |market| write!(f, "{market}"))
    }

    /// Formats the uptime, the gaps and the errors of the feed.
    fn feed_state(&self) -> String {
        let FeedCounts { reconnects, gaps, without_listings, longest_gap, .. } = self.feed;
        let total = self.duration.as_millis().max(1);
        let received = total.saturating_sub(without_listings.as_millis());
        let permille = received.saturating_mul(1_000) / total;
        let mut text = if self.feed.has_connected {
            let reconnects = counted(reconnects, "reconnect", "reconnects");
            format!("received {}.{} % of the time, {reconnects}", permille / 10, permille % 10)
        } else {
            "never connected".to_owned()
        };
        if gaps > 0 {
            let (all, longest) = (format_duration(without_listings), format_duration(longest_gap));
            let gaps = counted(gaps, "gap", "gaps");
            text.push_str(&format!(", {gaps} ({all}, longest {longest})"));
        }
        if 0 < self.errors() {
            text.push_str(&format!(", {}", counted(self.errors(), "error", "errors")));
        }
        text
    }
}

/// Writes a line of the summary unless the count is zero.
fn write_count(f: &mut fmt::Formatter<'_>, count: u64, text: &str) -> fmt::Result {
    if count == 0 { Ok(()) } else { writeln!(f, "{count:>8}  {text}") }
}

/// Writes a total and a line for each reason, sorted by count.
fn write_reasons<'a>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    reasons: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut reasons: Vec<(&str, u64)> = reasons.collect();
    reasons.sort_by_key(|(_reason, count)| std::cmp::Reverse(*count));
    let total = reasons.iter().fold(0_u64, |sum, (_reason, count)| sum.saturating_add(*count));
    write_count(f, total, title)?;
    reasons.iter().try_for_each(|(reason, count)| writeln!(f, "{count:>14}  {reason}"))
}

/// Describes the reason of a rejected order.
fn describe_rejection(reason: &'static str) -> &'static str {
    match reason {
        "not joinable" => "another buyer was faster, or it was not open yet",
        "taken" => "another buyer was faster",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            latency::{LatencyBreakdown, RxTimestamps},
            outcome::Outcome,
            trade::TradeId,
        },
        ledger::{HaltReason, OrderState, RiskRejection, StateChange},
    };

    fn summary() -> Summary {
        let mut stats = SessionStats {
            listings: 600,
            matched: 3,
            unreadable_responses: 1,
            ..SessionStats::default()
        };
        let price = Amount::from_cents(1_015);
        stats.record_outcome(&Outcome::Bought { price: Some(price), server_time: None });
        stats.skip("expired");
        let (spent, price_max) = (Amount::ZERO, Amount::ZERO);
        stats.skip(RiskRejection::Total { spent, price, max: price_max });
        stats.latency.record(Duration::from_nanos(41_250));
        Summary {
            mode: "demo",
            duration: Duration::from_millis(30_040),
            feed: FeedCounts {
                has_connected: true,
                reconnects: 1,
                gaps: 2,
                without_listings: Duration::from_millis(62_340),
                longest_gap: Duration::from_millis(61_000),
                unreadable: 2,
                handled_later: 3,
                connections: Vec::new(),
            },
            stats,
            unmatched: UnmatchedEntries::default(),
            orders: OrderTotals { bought: 1, spent: price, ..OrderTotals::default() },
            earlier: OrderTotals::default(),
            halts: Vec::new(),
            balance: Some(Amount::from_cents(48_985)),
            log_lines_dropped: 0,
            ended: "the time was up".to_owned(),
            is_given_up: false,
            market: None,
            format_time: |at| at.to_string(),
        }
    }

    #[test]
    fn halts_come_first_and_the_counts_come_from_the_ledger() {
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
        let halts = vec![(Halt { at: UnixMs(0), reason, count: 1 }, reason.to_string())];
        let mut summary = Summary { orders, halts, ..summary() };
        summary.stats.resolved_not_bought = 4;
        let text = summary.to_string();
        let first = text.lines().find(|line| !line.is_empty()).unwrap();
        assert!(first.starts_with("Ordering halted: "), "{text}");
        for line in [
            "       3  bought for 30.00 coins",
            "       1  of them delivered",
            "       1  of them cancelled; 10.00 coins count as spent until the balance shows the refund",
            "       2  cancelled and refunded (20.00 coins)",
            "       4  unknown orders resolved: 0 bought, 4 not bought",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        let json = summary.to_json();
        assert_eq!((&json["bought"], &json["spent"]), (&3.into(), &"30.00".into()));
        assert_eq!(json["halts"][0]["count"], 1);
    }

    #[test]
    fn the_json_object_has_every_documented_field() {
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
    fn unmatched_entries_and_cancelled_purchases_are_shown() {
        let names = ["a", "b", "c", "d", "e", "f"];
        let unmatched = |count: usize| UnmatchedEntries::new(names.into_iter().take(count), 9);
        assert_eq!(unmatched(0).to_string(), "");
        assert_eq!(
            unmatched(2).to_string(),
            "       2  of 9 entries matched no listing: \"a\", \"b\"\n"
        );
        assert!(unmatched(6).to_string().ends_with(": \"a\", \"b\", \"c\", \"d\", \"e\", …\n"));

        let item = crate::ledger::item::tests::item("Glove Case");
        let (mut summary, now) = (summary(), std::time::Instant::now());
        let id = TradeId::new("a").unwrap();
        let price = Amount::from_cents(552);
        summary.stats.add_purchase(BoughtItem {
            id,
            at: UnixMs(0),
            entry: "cases".to_owned(),
            market_name: "Glove Case".to_owned(),
            price,
            reference: item.reference,
            margin: item.margin,
            steps: LatencyBreakdown {
                arrival: RxTimestamps::at(now),
                parsed: now,
                decided: now,
                reserved: now,
                serialized: now,
                written: now,
            },
            response_time: Duration::ZERO,
            is_cancelled: false,
        });
        let line = format!(
            "        5.52  Glove Case  84.1 % of buff.bid 2.74, margin -2.50 %  [cases]  {}",
            UnixMs(0)
        );
        assert!(summary.to_string().contains(&format!("{line}\n")), "{summary}");
        let json = summary.to_json();
        let purchase = &json["purchases"][0];
        assert_eq!((&purchase["percent"], &purchase["margin"]), (&"84.10".into(), &"-2.50".into()));
        let reference = ["reference", "reference_price", "reference_currency"];
        assert_eq!(reference.map(|key| &purchase[key]), ["buff.bid", "1.7855", "USD"]);
        let (from, to) = (OrderState::Bought, OrderState::Returning);
        summary.stats.record_change(&StateChange { id, from, to, price });
        assert!(summary.to_string().contains(&format!("{line}  (cancelled)\n")));
        summary.orders = OrderTotals { bought: 1_500, returned: 1, ..summary.orders };
        let text = summary.to_string();
        assert!(text.contains("              … 1500 more\n"), "the ledger counts all: {text}");
    }

    #[test]
    fn changes_to_purchases_of_earlier_sessions_have_their_own_lines() {
        assert!(!summary().to_string().contains("earlier sessions"));
        let totals = |delivered: u64, returned: u64| OrderTotals {
            delivered,
            returned,
            returned_coins: Amount::from_cents(500 * i64::try_from(returned).unwrap()),
            ..OrderTotals::default()
        };
        let earlier = totals(5, 2).settled_since(&totals(3, 1));
        let summary = Summary { earlier, ..summary() };
        let text = summary.to_string();
        for line in [
            "       2  purchases of earlier sessions delivered\n",
            "       1  purchases of earlier sessions refunded (5.00 coins)\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let json = summary.to_json();
        assert_eq!(
            (&json["earlier_delivered"], &json["earlier_returned_coins"]),
            (&2.into(), &"5.00".into())
        );
    }

    #[test]
    fn an_unknown_balance_is_null() {
        let summary = Summary { balance: None, ..summary() };
        assert!(summary.to_json()["balance"].is_null());
    }

    #[test]
    fn a_feed_that_never_connected_received_nothing() {
        let mut summary = summary();
        summary.feed = FeedCounts::default();
        let text = summary.to_string();
        assert!(text.contains("Feed:    never connected") && !text.contains("100.0 %"), "{text}");
    }

    #[test]
    fn the_text_contains_the_counts_and_reasons() {
        let text = summary().to_string();
        for part in [
            "Ran for 30.0 s. Stopped: the time was up.",
            "600  listings seen",
            "1  bought for 10.15 coins",
            "       2  skipped\n",
            "       1  would exceed [budget] total\n",
            "41 µs",
            "489.85",
            "received 0.0 % of the time, 1 reconnect, 2 gaps (1 min 2 s, longest 1 min 1 s), 3 errors",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn each_of_several_connections_is_compared_with_the_others() {
        let mut summary = summary();
        assert!(!summary.to_string().contains("connection 1"), "{summary}");
        assert_eq!(summary.to_json()["connections"], json!([]));
        let first = FeedConnectionStatus { first: 600, ..FeedConnectionStatus::default() };
        let late = FeedConnectionStatus { late: 600, late_us: 1_250, late_us_max: 9_000, ..first };
        let late = FeedConnectionStatus { first: 0, ..late };
        let first = FeedConnectionStatus { first: 600, ..FeedConnectionStatus::default() };
        summary.feed.connections = vec![first, late];
        let text = summary.to_string();
        assert!(text.contains("\n         connection 1: delivered 600 first, 0 late\n"), "{text}");
        let line =
            "connection 2: delivered 0 first, 600 late by 1.2 ms on average (at most 9.0 ms)\n";
        assert!(text.contains(line), "{text}");
        let json = summary.to_json();
        assert_eq!(
            (&json["connections"][0]["first"], &json["connections"][1]["late_us"]),
            (&600.into(), &1_250.into())
        );
    }

    #[test]
    fn durations_are_formatted_with_a_suitable_unit() {
        assert_eq!(format_duration(Duration::from_millis(4_250)), "4.2 s");
        assert_eq!(format_duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(format_duration(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(format_latency(Duration::from_micros(41)), "41 µs");
        assert_eq!(format_latency(Duration::from_micros(1_250)), "1.2 ms");
        assert_eq!(format_latency(Duration::from_millis(3_400)), "3.4 s");
    }
}
