//! Metrics in the text format of Prometheus, version 0.0.4. Pure.
//!
//! They are read from the counters of the session. The values of labels are constants or names of
//! the group's members, so the number of series is bounded.

use std::{
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{
    domain::money::Amount,
    domain::time::UnixMs,
    ledger::{shared_status::SharedMember, status::SharedStatus},
    sniper::view::{SessionCounts, SessionView},
    ws::FeedMetrics,
};

/// `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Reasons of `sniper_skipped_total`.
const SKIP_REASONS: [&str; 6] = ["limit", "not_ordering", "ledger", "listing", "held", "other"];

/// Value of a sample.
#[derive(Clone, Copy)]
enum Value {
    Whole(u64),
    Coins(Amount),
    /// Nanoseconds, written as seconds.
    Nanos(u64),
    /// Milliseconds, written as seconds.
    Millis(u64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Whole(value) => value.fmt(f),
            Self::Coins(amount) => {
                let (sign, value) = (amount.thousandths() < 0, amount.thousandths().unsigned_abs());
                let sign = if sign { "-" } else { "" };
                write!(f, "{sign}{}.{:03}", value / 1_000, value % 1_000)
            }
            Self::Nanos(ns) => write!(f, "{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000),
            Self::Millis(ms) => write!(f, "{}.{:03}", ms / 1_000, ms % 1_000),
        }
    }
}

const fn flag(value: bool) -> Value {
    Value::Whole(if value { 1 } else { 0 })
}

fn whole(count: impl TryInto<u64>) -> Value {
    Value::Whole(count.try_into().unwrap_or(u64::MAX))
}

/// Text of the metrics that are written so far.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// Writes one metric. Each sample has its labels, such as `{outcome="bought"}`, and its value.
    fn metric(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, Value)]) {
        let text = &mut self.0;
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _infallible = writeln!(text, "{name}{labels} {value}");
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: Value) {
        self.metric(name, "gauge", help, &[(String::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: Value) {
        self.metric(name, "counter", help, &[(String::new(), value)]);
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{{{name}=\"{value}\"}}")
}

/// Writes every metric. Without a snapshot, those that are read from it are left out.
pub(super) fn exposition(view: Option<&SessionView>, feed: &FeedMetrics, start: UnixMs) -> String {
    let mut text = Exposition::default();
    let version = [(label("version", env!("CARGO_PKG_VERSION")), Value::Whole(1))];
    text.metric("sniper_build_info", "gauge", "Version of the program.", &version);
    let start = Value::Millis(u64::try_from(start.0).unwrap_or(0));
    text.gauge("sniper_start_timestamp_seconds", "Start of the session, Unix time.", start);
    let answers = flag(view.is_some());
    text.gauge("sniper_responding", "1 if the trading thread answers.", answers);
    feed_counters(&mut text, feed);
    if let Some(view) = view {
        feed_state(&mut text, view);
        orders(&mut text, view);
        latency(&mut text, view);
        money(&mut text, view);
        if let Some(status) = &view.status.shared {
            shared(&mut text, status);
        }
    }
    text.0
}

fn feed_counters(text: &mut Exposition, feed: &FeedMetrics) {
    let read = |counter: &AtomicU64| Value::Whole(counter.load(Ordering::Relaxed));
    for (name, help, counter) in [
        ("sniper_feed_events_total", "Listings and changes of listings received.", &feed.listings),
        ("sniper_feed_messages_total", "Messages received.", &feed.frames),
        ("sniper_feed_received_bytes_total", "Size of the messages received.", &feed.bytes),
        ("sniper_feed_duplicates_total", "Listings that arrived again.", &feed.duplicates),
        ("sniper_feed_dials_total", "Attempts to connect.", &feed.dials),
        ("sniper_feed_reconnects_total", "Connections after an outage.", &feed.reconnects),
        ("sniper_feed_rotations_total", "Connections replaced by age.", &feed.rotations),
        ("sniper_feed_gaps_total", "Times without listings.", &feed.gaps),
        ("sniper_feed_backfilled_total", "Missed listings found later.", &feed.backfilled),
    ] {
        text.counter(name, help, read(counter));
    }
    let errors = Value::Whole(feed.errors());
    text.counter("sniper_feed_errors_total", "Messages and listings that were unreadable.", errors);
}

fn feed_state(text: &mut Exposition, view: &SessionView) {
    let Some(feed) = &view.status.feed else { return };
    let is_connected = flag(matches!(feed.state.as_str(), "connected" | "silent"));
    text.gauge("sniper_feed_connected", "1 while listings can arrive.", is_connected);
    let is_silent = flag(feed.state == "silent");
    let help = "1 while the feed is connected and no listing arrives.";
    text.gauge("sniper_feed_silent", help, is_silent);
    let gaps = Value::Millis(feed.gap_ms);
    text.counter("sniper_feed_gap_seconds_total", "Total time without listings.", gaps);
    let now = u64::try_from(view.at.0).unwrap_or(0);
    let last = feed.last_listing_ms.map_or(0, |age| now.saturating_sub(age));
    let help = "Arrival of the last listing, Unix time; 0 before the first.";
    text.gauge("sniper_feed_last_listing_timestamp_seconds", help, Value::Millis(last));
}

fn orders(text: &mut Exposition, view: &SessionView) {
    let SessionCounts { listings, matched, bought, rejected, unknown, not_sent, would_buy, .. } =
        view.counts;
    text.counter("sniper_listings_total", "Listings that were decided.", whole(listings));
    text.counter("sniper_matches_total", "Listings that matched an entry.", whole(matched));
    let outcomes = [
        ("bought", bought),
        ("rejected", rejected),
        ("unknown", unknown),
        ("not_sent", not_sent),
        ("would_buy", would_buy),
    ];
    let samples = outcomes.map(|(name, count)| (label("outcome", name), whole(count)));
    text.metric("sniper_orders_total", "counter", "Orders by their outcome.", &samples);
    let help = "Responses to orders with a message that this version does not know.";
    text.counter("sniper_unknown_messages_total", help, whole(view.counts.unknown_messages));
    let samples = SKIP_REASONS.map(|reason| {
        let skipped = view.counts.skipped.iter();
        let counts = skipped.filter(|(name, _)| skip_reason(name) == reason);
        let count = counts.fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        (label("reason", reason), whole(count))
    });
    let help = "Matched listings that were not ordered.";
    text.metric("sniper_skipped_total", "counter", help, &samples);
    let ledger = &view.ledger;
    text.gauge("sniper_orders_in_flight", "Orders without a response.", whole(ledger.in_flight));
    let help = "Orders whose outcome is not known; they count as spent.";
    text.gauge("sniper_orders_unknown", help, whole(ledger.unknown));
    let help = "Cancelled purchases that were not refunded.";
    text.gauge("sniper_orders_returning", help, whole(ledger.returning));
    let connections = whole(view.counts.connections);
    text.gauge("sniper_order_connections", "Open connections for orders.", connections);
    let help = "Listings that wait to be ordered.";
    text.gauge("sniper_listings_waiting", help, whole(view.counts.waiting));
}

/// Returns the value of the label `reason` for the name of a reason to skip a match. A slice of a
/// shared budget is a limit like the own one.
fn skip_reason(reason: &str) -> &'static str {
    match reason.strip_prefix("shared_").unwrap_or(reason) {
        "total"
        | "max_price"
        | "per_hour"
        | "per_day"
        | "min_balance"
        | "max_buys_per_minute"
        | "max_in_flight"
        | "max_quantity"
        | "max_total"
        | "group_max_quantity"
        | "group_max_total"
        | "balance_unknown" => "limit",
        "halted" | "paused" | "not_reconciled" | "stopping" | "entry paused" | "standby"
        | "starting" | "no_contact" | "refused" => "not_ordering",
        "ledger_unwritable" | "ledger_behind" | "ledger_full" | "before_power_loss" => "ledger",
        "not listed any more"
        | "cannot be joined"
        | "own listing"
        | "not exactly one item"
        | "expired"
        | "markup does not agree"
        | "no price" => "listing",
        held if held.ends_with("held") => "held",
        _ => "other",
    }
}

fn latency(text: &mut Exposition, view: &SessionView) {
    const NAME: &str = "sniper_order_latency_seconds";
    let counts = view.latency.read();
    text.metric(NAME, "histogram", "Time from a message to its order.", &[]);
    let mut below = 0_u64;
    for (bound, count) in counts.octaves() {
        below = below.saturating_add(count);
        let bound = Value::Nanos(bound).to_string();
        let bound = bound.trim_end_matches('0').trim_end_matches('.');
        let _infallible = writeln!(text.0, "{NAME}_bucket{{le=\"{bound}\"}} {below}");
    }
    let (count, sum) = (counts.count(), Value::Nanos(counts.sum_ns));
    let _infallible = writeln!(
        text.0,
        "{NAME}_bucket{{le=\"+Inf\"}} {count}\n{NAME}_sum {sum}\n{NAME}_count {count}"
    );
}

fn shared(text: &mut Exposition, shared: &SharedStatus) {
    let is_active = flag(shared.is_active());
    text.gauge("sniper_shared_active", "1 while the shared budget permits orders.", is_active);
    let since = shared.active_since.as_deref().and_then(UnixMs::parse);
    if let Some((name, since)) = shared.active.as_deref().zip(since) {
        let since = Value::Millis(u64::try_from(since.0).unwrap_or(0));
        let help = "Time since which the active bot of this standby name is active, Unix time.";
        let name_of = "sniper_shared_active_since_timestamp_seconds";
        text.metric(name_of, "gauge", help, &[(label("member", name), since)]);
    }
    if let Some(age) = shared.contact_ms {
        let help = "Time since the last contact with the database; absent before the first.";
        text.gauge("sniper_shared_contact_age_seconds", help, Value::Millis(age));
    }
    let help = "Transactions with the database of the shared budget.";
    text.counter("sniper_shared_exchanges_total", help, whole(shared.exchanges));
    let help = "Transactions that failed or were not answered in time.";
    text.counter("sniper_shared_exchange_failures_total", help, whole(shared.failures));
    let help = "Live members of the group, with this one.";
    let live = shared.live_others().saturating_add(1);
    text.gauge("sniper_shared_members", help, whole(live));
    let coins = |units: i64| Value::Coins(Amount::from_thousandths(units));
    let help = "Slice of the shared total, in the unit of the group.";
    text.gauge("sniper_shared_slice", help, coins(shared.slice));
    let help = "Part of the slice that counts as spent.";
    text.gauge("sniper_shared_used", help, coins(shared.used));
    let help = "Part of the shared total that no member has.";
    text.gauge("sniper_shared_free", help, coins(shared.free));
    let mut of_members = |name: &str, help: &str, value: &dyn Fn(&SharedMember) -> Value| {
        let members = shared.members.iter();
        let samples: Vec<_> = members.map(|it| (label("member", &it.name), value(it))).collect();
        text.metric(name, "gauge", help, &samples);
    };
    let help = "Slice of the shared total of another member.";
    of_members("sniper_shared_member_slice", help, &|member| coins(member.slice));
    let help = "Part of its slice that it has reported as used.";
    of_members("sniper_shared_member_used", help, &|member| coins(member.used));
    let help = "Time since the last contact of another member with the database.";
    let age = |member: &SharedMember| Value::Millis(member.silent_ms);
    of_members("sniper_shared_member_contact_age_seconds", help, &age);
}

fn money(text: &mut Exposition, view: &SessionView) {
    let (ledger, status) = (&view.ledger, &view.status);
    text.gauge("sniper_live", "1 if orders are sent, 0 in a dry run.", flag(view.is_live));
    let is_halted = flag(!ledger.halts.is_empty());
    text.gauge("sniper_halted", "1 while ordering is halted.", is_halted);
    let is_paused = flag(ledger.paused_until.is_some());
    text.gauge("sniper_paused", "1 while the market asks to slow down.", is_paused);
    text.gauge("sniper_reconciled", "1 once the account was checked.", flag(ledger.reconciled));
    let is_writable = flag(status.failure.is_none());
    text.gauge("sniper_ledger_writable", "1 while the ledger can be written.", is_writable);
    let failing = whole(status.account_failures.len());
    text.gauge("sniper_account_reads_failing", "Reads of the account that fail.", failing);
    let undelivered = whole(status.alerts_undelivered);
    text.counter(
        "sniper_alerts_undelivered_total",
        "Alerts that will never be delivered.",
        undelivered,
    );
    if let Some(free) = status.disk_free_mb {
        let bytes = whole(free.saturating_mul(1_000_000));
        text.gauge("sniper_disk_free_bytes", "Free space below the data directory.", bytes);
    }
    let help = "1 after the wall clock was set, until the account has been read again.";
    text.gauge("sniper_clock_moved", help, flag(status.clock_moved));
    let (total, spent) = (ledger.budget.total, ledger.spent);
    text.gauge(
        "sniper_budget_limit",
        "Limit of all spending, in the unit of the market.",
        Value::Coins(total),
    );
    text.gauge("sniper_budget_spent", "Amount that counts against it.", Value::Coins(spent));
    let left = total.saturating_sub(spent).max(Amount::ZERO);
    text.gauge("sniper_budget_left", "Amount that may still be spent.", Value::Coins(left));
    let unknown = Value::Coins(ledger.unknown_coins);
    text.gauge("sniper_unknown_coins", "Amount of the orders of unknown outcome.", unknown);
    if let Some(balance) = ledger.balance {
        let help = "Last balance of the account, in the unit of the market; absent while unknown.";
        text.gauge("sniper_balance", help, Value::Coins(balance));
    }
    let min = Value::Coins(ledger.budget.min_balance);
    text.gauge("sniper_balance_min", "Balance that no order may undercut.", min);
    let entries = view.whitelist.entries().len();
    text.gauge("sniper_entries", "Entries of the whitelist.", whole(entries));
    let paused = view.whitelist.paused().count();
    text.gauge("sniper_entries_paused", "Paused entries.", whole(paused));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decimal_numbers_in_base_units() {
        for (value, text) in [
            (Value::Coins(Amount::from_thousandths(-1_205)), "-1.205"),
            (Value::Nanos(8_192_000), "0.008192000"),
            (Value::Millis(1_700_000_000_123), "1700000000.123"),
            (flag(true), "1"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn the_metrics_of_a_shared_budget_are_documented_and_their_labels_escaped() {
        let member = SharedMember { name: "a\"b\\".to_owned(), ..SharedMember::default() };
        let status = SharedStatus {
            active: Some(member.name.clone()),
            active_since: Some("2026-03-01T10:00:00.120Z".to_owned()),
            contact_ms: Some(1),
            members: vec![member],
            more_members: 4,
            more_live: 2,
            ..SharedStatus::default()
        };
        let mut text = Exposition::default();
        shared(&mut text, &status);
        let types = text.0.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let documented = include_str!("../../docs/metrics.md").lines().filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `sniper_shared_")?.split_once("` | ")?;
            Some(format!("sniper_shared_{name} {}", rest.split(' ').next()?))
        });
        assert_eq!(types.collect::<Vec<_>>(), documented.collect::<Vec<_>>());
        for sample in [
            r#"sniper_shared_active_since_timestamp_seconds{member="a\"b\\"} 1772359200.120"#,
            r#"sniper_shared_member_slice{member="a\"b\\"} 0.000"#,
            "sniper_shared_members 3",
        ] {
            assert!(text.0.lines().any(|line| line == sample), "{sample}: {}", text.0);
        }
    }

    #[test]
    fn each_reason_belongs_to_a_known_group() {
        for reason in [
            "total",
            "shared_total",
            "shared_refused",
            "halted",
            "ledger_full",
            "expired",
            "taken while held",
            "a new one",
        ] {
            assert!(SKIP_REASONS.contains(&skip_reason(reason)), "{reason}");
        }
        assert_eq!(skip_reason("too many held"), "held");
        assert_eq!(skip_reason("already_requested"), "other");
    }
}
