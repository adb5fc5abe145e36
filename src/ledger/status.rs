//! Status of the ledger and the bot, for `sniper status` and its JSON. Pure.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use super::shared_status::SharedStatus;
use super::{
    obstacle::{Obstacle, OrderingFacts},
    price_status::PriceStatus,
    state::Snapshot,
};
use crate::{
    domain::latency::format_latency,
    domain::money::Amount,
    domain::time::{UnixMs, format_duration},
    text::{Escaped, counted},
    ws::ConnectionCounts,
};

/// Free space below which the disk counts as almost full, in MB.
pub const FREE_MB_MIN: u64 = 200;

/// Mode of a bot that sends orders.
pub const LIVE: &str = "live";
/// Mode of a dry run, which sends no orders.
pub const DRY: &str = "dry";
/// Mode without a running bot.
pub const NOT_RUNNING: &str = "not running";

/// Usage of one limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    /// Name of the setting in `sniper.toml`.
    pub name: String,
    pub used: String,
    pub bound: String,
    pub left: String,
}

/// A halt of ordering.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltStatus {
    pub since: String,
    /// Age of the halt.
    #[serde(default)]
    pub age_ms: u64,
    pub reason: String,
    /// Instruction for the user, without a full stop.
    pub remedy: String,
}

impl HaltStatus {
    /// Formats the start of the halt: `12 min 3 s ago (2026-03-01T10:00:00.000Z)`.
    pub fn started(&self) -> String {
        format!("{} ago ({})", format_duration(Duration::from_millis(self.age_ms)), self.since)
    }
}

/// End of the last run of a stopped bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// `false` if the process was killed or the machine lost power.
    pub is_clean: bool,
    /// Time of the last record in the ledger.
    pub last_record: Option<String>,
    /// Age of the last record.
    pub last_record_ms: Option<u64>,
}

/// Deliveries of one of several feed connections, compared with the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedConnectionStatus {
    /// The server's address.
    pub address: Option<String>,
    /// Listings that this connection delivered first.
    pub first: u64,
    /// Listings that another connection had delivered before.
    pub late: u64,
    /// Mean lateness of these, in microseconds.
    pub late_us: u64,
    pub late_us_max: u64,
    /// Number of connections that were replaced because they were always the last.
    pub replaced: u64,
}

impl From<ConnectionCounts> for FeedConnectionStatus {
    fn from(counts: ConnectionCounts) -> Self {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self {
            address: counts.address.map(|address| address.to_string()),
            first: counts.first,
            late: counts.late,
            late_us: us(counts.late_mean),
            late_us_max: us(counts.late_max),
            replaced: counts.replaced,
        }
    }
}

/// State of the feed of a running bot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedStatus {
    /// A word of [`FeedCondition`](crate::ws::FeedCondition).
    pub state: String,
    /// Start of the current uninterrupted connection.
    pub connected_since: Option<String>,
    pub connected_ms: Option<u64>,
    /// Arrival time of the last listing.
    pub last_listing: Option<String>,
    /// Age of the last listing.
    pub last_listing_ms: Option<u64>,
    /// Number of listings received, without duplicates.
    pub listings: u64,
    pub reconnects: u64,
    /// Number of gaps (times without listings), including a gap that has not ended.
    pub gaps: u64,
    /// Total duration of the gaps; a gap that has not ended counts until now.
    pub gap_ms: u64,
    pub longest_gap_ms: u64,
    pub gap_is_open: bool,
    /// Reason why it is not connected; `remedy` is the instruction for the user.
    #[serde(default)]
    pub cause: Option<String>,
    #[serde(default)]
    pub remedy: Option<String>,
    /// Messages without a wanted listing that were handled after wanted ones of the same read.
    #[serde(default)]
    pub handled_later: u64,
    /// Each of several connections; empty for a single one.
    #[serde(default)]
    pub connections: Vec<FeedConnectionStatus>,
}

/// A repeatedly failing read of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFailure {
    /// Kind of the read, such as `balance` or `own purchases`.
    pub read: String,
    pub since: String,
    /// Cause of the most recent failure.
    pub cause: String,
    /// Instruction for the user, without a full stop.
    pub remedy: String,
    /// `true` if orders need it and it has failed for long.
    #[serde(default)]
    pub needs_user: bool,
}

/// Maximum number of paused entries in a status.
pub const PAUSED_SHOWN_MAX: usize = 20;

/// Status of one bot, or of a ledger without a running bot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// `dry`, `live`, or `not running`.
    pub mode: String,
    /// `on`, or the [name](Obstacle::name) of the reason why no orders are sent.
    pub buying: String,
    /// This reason, for the user.
    #[serde(default)]
    pub not_ordering_because: Option<String>,
    /// What the user can do about it, without a full stop.
    #[serde(default)]
    pub not_ordering_remedy: Option<String>,
    /// `true` if it lasts until the user acts.
    #[serde(default)]
    pub needs_user: bool,
    /// Limits that orders use up; not `min_balance`, `max_price` and those of entries and groups.
    pub limits: Vec<LimitStatus>,
    /// Balance as last read from the account.
    pub balance: Option<String>,
    /// Lower bound of the coins that are available for orders.
    pub balance_least: Option<String>,
    /// Orders without a response yet.
    pub in_flight: u32,
    /// Orders with an unknown outcome.
    pub unknown: u32,
    /// Total price of the unknown orders; counts as spent.
    pub unknown_coins: String,
    /// Orders that are bought, but not delivered yet.
    pub undelivered: u32,
    pub halts: Vec<HaltStatus>,
    /// End of the current pause in ordering.
    pub paused_until: Option<String>,
    /// Upper bound of the coins in orders that a power loss may have hidden; counts as spent.
    pub lost_coins: String,
    /// Upper bound of the number of these orders.
    pub lost_buys: u32,
    /// Earliest time at which the account can show that these orders were not sent; `None` on a
    /// market without a list of purchases.
    #[serde(default)]
    pub lost_until: Option<String>,
    /// Listings created before this time are not ordered. Stated only while coins are held back.
    #[serde(default)]
    pub lost_barrier: Option<String>,
    /// Reason why the ledger cannot be written.
    pub failure: Option<String>,
    /// `true` once the ledger was reconciled with the account after the start.
    #[serde(default)]
    pub reconciled: bool,
    /// Uptime of the bot; `None` without a running bot.
    #[serde(default)]
    pub running_ms: Option<u64>,
    /// `None` while a bot is running.
    #[serde(default)]
    pub last_run: Option<LastRun>,
    /// `None` without a running bot.
    #[serde(default)]
    pub feed: Option<FeedStatus>,
    /// Failing account reads. Filled in by the session; the ledger does not track them.
    #[serde(default)]
    pub account_failures: Vec<AccountFailure>,
    /// Price sources. Filled in by the session or from the stored tables.
    #[serde(default)]
    pub prices: Vec<PriceStatus>,
    /// Threads that may wait and whose priority the system did not lower, by name.
    #[serde(default)]
    pub priority_refused: Vec<String>,
    /// Labels of paused whitelist entries, at most [`PAUSED_SHOWN_MAX`].
    #[serde(default)]
    pub paused_entries: Vec<String>,
    /// Number of other paused entries.
    #[serde(default)]
    pub paused_more: usize,
    /// `true` if the settings on disk were changed and are not in force.
    #[serde(default)]
    pub settings_changed: bool,
    /// Settings that the last reload could not apply.
    #[serde(default)]
    pub needs_restart: Vec<String>,
    /// Alert channels that deliver nothing until the next reload.
    #[serde(default)]
    pub alerts_disabled: Vec<String>,
    /// Alert channels whose alerts wait after a failed try.
    #[serde(default)]
    pub alerts_failing: Vec<String>,
    /// Alerts that will never be delivered.
    #[serde(default)]
    pub alerts_undelivered: u64,
    /// Free space below `SNIPER_DATA` in MB, if it is known.
    #[serde(default)]
    pub disk_free_mb: Option<u64>,
    /// `true` after the wall clock was set, until the account has been read again.
    #[serde(default)]
    pub clock_moved: bool,
    /// Budget that is shared with other bots; `None` without one.
    #[serde(default)]
    pub shared: Option<SharedStatus>,
}

impl LedgerStatus {
    /// Returns the problems that need the user and make `sniper status` exit with 1. A dry run has
    /// none, because it sends no orders.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_live = self.mode == LIVE;
        if is_live || self.mode == NOT_RUNNING {
            let what = if is_live {
                "ordering halted"
            } else {
                "the next live run starts with ordering halted"
            };
            let halts = self.halts.iter().map(|halt| format!("{what}: {}", halt.reason));
            problems.extend(halts);
        }
        if let Some(failure) = self.failure.as_ref().filter(|_| is_live) {
            problems.push(format!("the ledger cannot be written: {failure}"));
        }
        let shared = self.shared.as_ref().and_then(SharedStatus::problem);
        // These are listed above with more detail.
        let is_listed = matches!(self.buying.as_str(), "halted" | "unwritable")
            || shared.is_some() && self.buying == "no permit";
        problems.extend(shared);
        if let Some(reason) = &self.not_ordering_because
            && is_live
            && self.needs_user
            && !is_listed
        {
            let shared = self.shared.iter().filter(|_| self.buying == "no permit");
            let error = shared.filter_map(|shared| shared.error.as_ref());
            let more = error.chain(&self.not_ordering_remedy).map(|text| format!("; {text}"));
            problems.push(format!("no orders: {reason}{}", more.collect::<String>()));
        }
        let reads = self.account_failures.iter().filter(|failure| is_live && failure.needs_user);
        problems.extend(reads.map(|AccountFailure { read, cause, remedy, .. }| {
            format!("the account cannot be read: {read}, {cause}; {remedy}")
        }));
        if is_live && !self.alerts_disabled.is_empty() {
            problems.push(format!("alerts are not delivered: {}", self.alerts_disabled.join(", ")));
        }
        problems.extend(self.disk_low().filter(|_| is_live));
        problems
    }

    /// Returns the warning that the disk is almost full, if it is.
    fn disk_low(&self) -> Option<String> {
        let free = self.disk_free_mb.filter(|free| *free < FREE_MB_MIN)?;
        Some(format!(
            "{free} MB free below SNIPER_DATA; without space no order is sent, so free some"
        ))
    }

    /// Returns the warnings about the machine and the settings, for the text and the page.
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let mut notes = Vec::new();
        if self.settings_changed {
            let text = "changed on disk, not applied; apply them with: sniper reload";
            notes.push(("settings", text.to_owned()));
        }
        if !self.needs_restart.is_empty() {
            let names = self.needs_restart.join(", ");
            notes.push(("settings", format!("changed, but need a restart of the bot: {names}")));
        }
        for channel in &self.alerts_disabled {
            let text =
                "does not accept alerts; fix it there or in its settings, then: sniper reload";
            notes.push(("alerts", format!("{channel} {text}")));
        }
        for channel in &self.alerts_failing {
            notes.push(("alerts", format!("{channel} fails; what waits is tried again")));
        }
        if self.alerts_undelivered > 0 {
            notes.push(("alerts", format!("{} not delivered", self.alerts_undelivered)));
        }
        notes.extend(self.disk_low().map(|text| ("disk", text)));
        if self.clock_moved {
            let text = "was set; limits of hours and days keep their counts until the account is \
                        read again; check the time of this machine (NTP)";
            notes.push(("clock", text.to_owned()));
        }
        notes
    }

    /// Sets the reason why no order is sent.
    pub fn set_obstacle(&mut self, obstacle: Option<Obstacle>) {
        self.buying = obstacle.map_or("on", Obstacle::name).to_owned();
        self.not_ordering_because = obstacle.map(|reason| reason.to_string());
        self.not_ordering_remedy = obstacle.and_then(Obstacle::remedy).map(str::to_owned);
        self.needs_user = obstacle.is_some_and(Obstacle::needs_user);
    }

    pub fn from_snapshot(
        snapshot: &Snapshot,
        mode: &str,
        failure: Option<String>,
        now: UnixMs,
    ) -> Self {
        let amount = |coins: Amount| coins.to_string();
        let halts = snapshot.halts.iter().map(|halt| HaltStatus {
            since: halt.at.to_string(),
            age_ms: u64::try_from(now.since(halt.at).as_millis()).unwrap_or(u64::MAX),
            reason: halt.with_item(None),
            remedy: halt.reason.remedy().to_owned(),
        });
        let obstacle = OrderingFacts::of_ledger(snapshot, mode, failure.is_none()).obstacle();
        let mut status = Self {
            mode: mode.to_owned(),
            limits: limit_statuses(snapshot),
            balance: snapshot.balance.map(amount),
            balance_least: snapshot.available_min.map(amount),
            in_flight: snapshot.in_flight,
            unknown: snapshot.unknown,
            unknown_coins: amount(snapshot.unknown_coins),
            undelivered: snapshot.undelivered,
            halts: halts.collect(),
            paused_until: snapshot.paused_until.as_ref().map(UnixMs::to_string),
            lost_coins: amount(snapshot.loss.coins),
            lost_buys: snapshot.loss.count,
            lost_until: snapshot.loss_until.as_ref().map(UnixMs::to_string),
            lost_barrier: snapshot.barrier.as_ref().map(UnixMs::to_string),
            failure,
            reconciled: snapshot.reconciled,
            ..Self::default()
        };
        status.set_obstacle(obstacle);
        status
    }

    /// Replaces each time by the text that `format` returns, for display.
    pub fn format_times(&mut self, format: fn(UnixMs) -> String) {
        let halts = self.halts.iter_mut().map(|halt| &mut halt.since);
        let reads = self.account_failures.iter_mut().map(|failure| &mut failure.since);
        let feed = self.feed.iter_mut();
        let feed = feed.flat_map(|feed| [&mut feed.connected_since, &mut feed.last_listing]);
        let last_run = self.last_run.iter_mut().map(|run| &mut run.last_record);
        let shared = self.shared.iter_mut().map(|shared| &mut shared.active_since);
        let own = [&mut self.paused_until, &mut self.lost_until, &mut self.lost_barrier];
        let optional = own.into_iter().chain(feed).chain(last_run).chain(shared).flatten();
        for text in halts.chain(reads).chain(optional) {
            *text = UnixMs::parse(text).map_or_else(|| text.clone(), format);
        }
    }
}

/// Describes what ends the loss of orders: a list of the purchases, from this time on, or without
/// one the operator.
pub fn loss_end(until: Option<impl fmt::Display>) -> String {
    match until {
        Some(until) => {
            format!("until the account shows that they were not sent, from {until} at the earliest")
        }
        None => "until you find none of them on the market and run `sniper ledger resolve lost \
                 --not-bought`"
            .to_owned(),
    }
}

fn limit_statuses(snapshot: &Snapshot) -> Vec<LimitStatus> {
    let budget = &snapshot.budget;
    let limit = |name: &str, [used, bound, left]: [String; 3]| LimitStatus {
        name: name.to_owned(),
        used,
        bound,
        left,
    };
    let coins = |name: &str, used: Amount, bound: Option<Amount>| {
        let left = |bound: Amount| bound.saturating_sub(used).max(Amount::ZERO);
        bound.map(|bound| limit(name, [used, bound, left(bound)].map(|coins| coins.to_string())))
    };
    let count = |name: &str, used: u32, bound: u32| {
        let left = bound.saturating_sub(used);
        Some(limit(name, [used, bound, left].map(|count| count.to_string())))
    };
    // An approval counts lost orders too.
    let sent = snapshot.sent_in_minute.saturating_add(snapshot.loss.count);
    [
        coins("total", snapshot.spent, Some(budget.total)),
        coins("per_hour", snapshot.spent_in_hour, budget.per_hour),
        coins("per_day", snapshot.spent_in_day, budget.per_day),
        count("max_buys_per_minute", sent, budget.max_buys_per_minute),
        count("max_in_flight", snapshot.in_flight, budget.max_in_flight),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl LedgerStatus {
    /// Writes the differences between the rules in force and the settings on disk: paused entries,
    /// and changes that were not applied.
    fn write_settings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.paused_entries.is_empty() {
            let shown = self.paused_entries.iter().map(|it| Escaped(it).to_string());
            let more = (self.paused_more > 0).then(|| format!("and {} more", self.paused_more));
            let entries: Vec<_> = shown.chain(more).collect();
            writeln!(
                f,
                "paused          {}; continue with: sniper whitelist enable NAME",
                entries.join(", ")
            )?;
        }
        self.notes()
            .into_iter()
            .try_for_each(|(name, text)| writeln!(f, "{name:<15} {}", Escaped(&text)))
    }
}

impl LedgerStatus {
    /// Writes whether orders are sent, why not, and what to do.
    fn write_ordering(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.not_ordering_because {
            Some(reason) if !matches!(self.buying.as_str(), "halted" | "off") => {
                writeln!(f, "ordering        none: {reason}")?;
            }
            _ => writeln!(f, "ordering        {}", self.buying)?,
        }
        // A halt has a line of its own.
        if let Some(remedy) = self.not_ordering_remedy.as_ref().filter(|_| self.halts.is_empty()) {
            writeln!(f, "                what to do: {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LedgerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mode            {}", self.mode)?;
        self.write_ordering(f)?;
        if let Some(running) = self.running_ms {
            writeln!(f, "running         {}", format_duration(Duration::from_millis(running)))?;
        }
        if let Some(last_run) = &self.last_run {
            write!(f, "{last_run}")?;
        }
        if let Some(feed) = &self.feed {
            write!(f, "{feed}")?;
        }
        if let Some(failure) = &self.failure {
            writeln!(f, "ledger          cannot be written: {failure}")?;
        }
        for AccountFailure { read, since, cause, remedy, .. } in &self.account_failures {
            writeln!(f, "account read    {read} failing since {since}: {cause}")?;
            writeln!(f, "                what to do: {remedy}")?;
        }
        if let Some(shared) = &self.shared {
            write!(f, "{shared}")?;
        }
        self.write_settings(f)?;
        for (index, source) in self.prices.iter().enumerate() {
            writeln!(f, "{:<15} {source}", if index == 0 { "prices" } else { "" })?;
        }
        if !self.priority_refused.is_empty() {
            let threads = self.priority_refused.join(", ");
            writeln!(f, "priority        not lowered ({threads}), so they may delay orders")?;
        }
        for halt in &self.halts {
            writeln!(f, "halted          {}: {}", halt.started(), halt.reason)?;
            writeln!(f, "                what to do: {}", halt.remedy)?;
        }
        if let Some(until) = &self.paused_until {
            writeln!(f, "paused          until {until}")?;
        }
        let balance = self.balance.as_deref().unwrap_or("not read yet");
        write!(f, "balance         {balance}")?;
        match &self.balance_least {
            Some(least) if *least != balance => writeln!(f, " (at least {least} available)")?,
            _ => f.write_char('\n')?,
        }
        writeln!(f, "in flight       {}", self.in_flight)?;
        write!(f, "unknown         {}", self.unknown)?;
        if self.unknown > 0 {
            write!(f, " ({} counted as spent)", self.unknown_coins)?;
        }
        writeln!(f, "\nin delivery     {}", self.undelivered)?;
        if self.lost_buys > 0 {
            let (count, coins) = (self.lost_buys, &self.lost_coins);
            let orders = counted(count, "order", "orders");
            writeln!(
                f,
                "power loss      may have hidden up to {orders} for {coins}, counted as spent"
            )?;
            writeln!(f, "                {}", loss_end(self.lost_until.as_ref()))?;
            if let Some(barrier) = &self.lost_barrier {
                let what = format!("before {barrier}, or at an unknown time, are not ordered");
                writeln!(f, "                listings created {what}")?;
            }
        }
        write!(f, "\n{}", LimitTable(&self.limits))
    }
}

impl fmt::Display for LastRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.is_clean { "stopped normally" } else { "killed, or power was lost" };
        match (&self.last_record, self.last_record_ms) {
            (Some(at), Some(ms)) => {
                let age = format_duration(Duration::from_millis(ms));
                writeln!(f, "last run        {end}; last record {age} ago ({at})")
            }
            _ => writeln!(f, "last run        {end}"),
        }
    }
}

impl fmt::Display for FeedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { state, reconnects, gaps, .. } = self;
        let for_ms = |ms: u64| format_duration(Duration::from_millis(ms));
        write!(f, "feed            {state}")?;
        if let Some(cause) = &self.cause {
            write!(f, ": {}", Escaped(cause))?;
        }
        match (&self.connected_since, self.connected_ms) {
            (Some(since), Some(ms)) => writeln!(f, ", connection since {since} ({})", for_ms(ms))?,
            _ => f.write_char('\n')?,
        }
        if let Some(remedy) = &self.remedy {
            writeln!(f, "                what to do: {remedy}")?;
        }
        match (&self.last_listing, self.last_listing_ms) {
            (Some(at), Some(ms)) => writeln!(f, "last listing    {} ago, at {at}", for_ms(ms))?,
            _ => writeln!(f, "last listing    none yet")?,
        }
        write!(f, "gaps            {gaps}")?;
        if *gaps > 0 {
            let (all, longest) = (for_ms(self.gap_ms), for_ms(self.longest_gap_ms));
            write!(f, " ({all} without listings, {longest} the longest")?;
            f.write_str(if self.gap_is_open { ", one not ended yet)" } else { ")" })?;
        }
        writeln!(f, ", {reconnects} reconnects")?;
        for (index, connection) in self.connections.iter().enumerate() {
            writeln!(f, "connection {:<4} {connection}", index.saturating_add(1))?;
        }
        Ok(())
    }
}

impl fmt::Display for FeedConnectionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, first, late, late_us, late_us_max, replaced } = self;
        if let Some(address) = address {
            write!(f, "{address}, ")?;
        }
        write!(f, "delivered {first} first, {late} late")?;
        if *late > 0 {
            let [mean, max] =
                [late_us, late_us_max].map(|us| format_latency(Duration::from_micros(*us)));
            write!(f, " by {mean} on average (at most {max})")?;
        }
        match replaced {
            0 => Ok(()),
            count => {
                let times = counted(*count, "time", "times");
                write!(f, ", replaced {times} because it was the last")
            }
        }
    }
}

/// Displays limits as a table.
#[derive(Clone, Copy, Debug)]
pub struct LimitTable<'a>(pub &'a [LimitStatus]);

impl fmt::Display for LimitTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>14} {:>14} {:>14}", "limit", "used", "of", "left")?;
        for limit in self.0 {
            let LimitStatus { name, used, bound, left } = limit;
            let name = limit_label(name);
            writeln!(f, "{name:<20} {used:>14} {bound:>14} {left:>14}")?;
        }
        Ok(())
    }
}

/// Returns the row name of a limit for the text output; the JSON has the name of the setting.
fn limit_label(name: &str) -> &str {
    match name {
        "per_hour" => "per hour",
        "per_day" => "per day",
        "max_buys_per_minute" => "orders per minute",
        "max_in_flight" => "orders in flight",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Budget,
        ledger::{
            event::{EvidenceSource, LedgerEvent},
            state::LedgerState,
        },
    };

    fn status(mode: &str, halts: usize, reconciled: bool, running: Option<u64>) -> LedgerStatus {
        let budget = Budget { total: Amount::from_cents(1_000), ..Budget::default() };
        let snapshot = LedgerState::new(budget, true).snapshot(UnixMs(0));
        let halt = HaltStatus {
            since: "2026-03-01T10:00:00.000Z".to_owned(),
            age_ms: 0,
            reason: "eve stopped it".to_owned(),
            remedy: "look".to_owned(),
        };
        LedgerStatus {
            halts: vec![halt; halts],
            reconciled,
            running_ms: running.map(|seconds| seconds * 1_000),
            ..LedgerStatus::from_snapshot(&snapshot, mode, None, UnixMs(0))
        }
    }

    #[test]
    fn every_halt_of_a_live_bot_or_for_its_next_start_is_a_problem() {
        let count = |mode, halts| status(mode, halts, true, None).problems().len();
        assert_eq!((count(LIVE, 0), count(LIVE, 2)), (0, 2));
        assert_eq!((count(NOT_RUNNING, 0), count(NOT_RUNNING, 1)), (0, 1));
        assert_eq!(count(DRY, 1), 0, "a dry run sends no orders");
        let unwritable =
            LedgerStatus { failure: Some("full".to_owned()), ..status(LIVE, 0, true, Some(1)) };
        assert_eq!(unwritable.problems(), ["the ledger cannot be written: full"]);
    }

    #[test]
    fn a_power_loss_is_shown_with_what_it_holds_back_and_until_when() {
        let mut state = LedgerState::new(Budget::default(), true);
        state.set_list(Some(Duration::ZERO));
        let (coins, barrier) = (Amount::from_cents(32_000), UnixMs(160_000));
        let lost = LedgerEvent::Lost { coins, count: 64, barrier };
        state.apply(UnixMs(100_000), &lost).unwrap();
        let snapshot = state.snapshot(UnixMs(100_000));
        let text = LedgerStatus::from_snapshot(&snapshot, LIVE, None, UnixMs(0)).to_string();
        assert!(
            text.contains(
                "power loss      may have hidden up to 64 orders for 320.00, counted as spent\n\
                 \x20               until the account shows that they were not sent, from \
                 1970-01-01T00:02:40.000Z at the earliest\n\
                 \x20               listings created before 1970-01-01T00:02:40.000Z, or at an \
                 unknown time, are not ordered\n"
            ),
            "{text}"
        );
        let by = EvidenceSource::Marketplace;
        state.apply(UnixMs(200_000), &LedgerEvent::LossCleared { by }).unwrap();
        let snapshot = state.snapshot(UnixMs(200_000));
        let text = LedgerStatus::from_snapshot(&snapshot, LIVE, None, UnixMs(0)).to_string();
        assert!(!text.contains("power loss") && !text.contains("not ordered"), "{text}");
    }

    #[test]
    fn every_time_of_the_text_can_be_shown_in_another_zone() {
        let at = || "1970-01-01T00:00:01.000Z".to_owned();
        let feed = FeedStatus {
            connected_since: Some(at()),
            connected_ms: Some(0),
            last_listing: Some(at()),
            last_listing_ms: Some(0),
            ..FeedStatus::default()
        };
        let failure = AccountFailure {
            read: "balance".to_owned(),
            since: at(),
            cause: "no answer".to_owned(),
            remedy: "wait".to_owned(),
            needs_user: false,
        };
        let last_run = LastRun { is_clean: true, last_record: Some(at()), last_record_ms: Some(0) };
        let mut status = LedgerStatus {
            feed: Some(feed),
            account_failures: vec![failure],
            last_run: Some(last_run),
            paused_until: Some(at()),
            lost_buys: 1,
            lost_until: Some(at()),
            lost_barrier: Some(at()),
            shared: Some(SharedStatus { active_since: Some(at()), ..SharedStatus::default() }),
            ..status(LIVE, 1, true, Some(1))
        };
        status.halts[0].since = at();
        assert_eq!(status.to_string().matches(&at()).count(), 9, "{status}");
        status.format_times(|at| format!("{} ms", at.0));
        let text = status.to_string();
        assert_eq!((text.matches("1000 ms").count(), text.contains("Z)")), (9, false), "{text}");
    }

    #[test]
    fn the_feed_is_shown_with_its_connection_its_last_listing_and_its_gaps() {
        let feed = FeedStatus {
            state: "connected".to_owned(),
            connected_since: Some("2026-03-01T10:00:00.000Z".to_owned()),
            connected_ms: Some(200_000),
            last_listing: Some("2026-03-01T10:03:18.800Z".to_owned()),
            last_listing_ms: Some(1_200),
            reconnects: 2,
            gaps: 3,
            gap_ms: 62_340,
            longest_gap_ms: 61_000,
            connections: vec![
                FeedConnectionStatus {
                    address: Some("192.0.2.1".to_owned()),
                    first: 590,
                    late: 10,
                    late_us: 410,
                    late_us_max: 2_300,
                    replaced: 0,
                },
                FeedConnectionStatus { first: 0, replaced: 2, ..FeedConnectionStatus::default() },
            ],
            ..FeedStatus::default()
        };
        assert_eq!(
            feed.to_string(),
            "feed            connected, connection since 2026-03-01T10:00:00.000Z (3 min 20 s)\n\
             last listing    1.2 s ago, at 2026-03-01T10:03:18.800Z\n\
             gaps            3 (1 min 2 s without listings, 1 min 1 s the longest), 2 reconnects\n\
             connection 1    192.0.2.1, delivered 590 first, 10 late by 410 µs on average (at most 2.3 ms)\n\
             connection 2    delivered 0 first, 0 late, replaced 2 times because it was the last\n"
        );
        let down = FeedStatus { state: "connecting".to_owned(), ..FeedStatus::default() };
        assert_eq!(
            down.to_string(),
            "feed            connecting\nlast listing    none yet\ngaps            0, 0 reconnects\n"
        );
    }

    #[test]
    fn paused_entries_that_are_not_shown_are_counted() {
        let paused_entries = vec!["redline".to_owned()];
        let status =
            LedgerStatus { paused_entries, paused_more: 3, ..status(LIVE, 0, true, Some(1)) };
        let line = "paused          redline, and 3 more; continue with: ";
        assert!(status.to_string().contains(line), "{status}");
    }

    #[test]
    fn what_is_wrong_with_machine_settings_and_alerts_is_shown() {
        let status = LedgerStatus {
            needs_restart: vec!["[feed]".to_owned(), "[speed]".to_owned()],
            alerts_disabled: vec!["webhook (host)".to_owned()],
            alerts_failing: vec!["ntfy (host)".to_owned()],
            alerts_undelivered: 3,
            disk_free_mb: Some(199),
            clock_moved: true,
            ..status(LIVE, 0, true, Some(1))
        };
        let text = status.to_string();
        for line in [
            "\nsettings        changed, but need a restart of the bot: [feed], [speed]\n",
            "\nalerts          webhook (host) does not accept alerts; ",
            "\nalerts          ntfy (host) fails; what waits is tried again\n",
            "\nalerts          3 not delivered\n",
            "\ndisk            199 MB free below SNIPER_DATA; ",
            "\nclock           was set; ",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let problems = status.problems();
        assert!(problems[0].contains("webhook (host)") && problems[1].contains("199 MB"));
        let fine = LedgerStatus { disk_free_mb: Some(200), ..LedgerStatus::default() };
        assert!(fine.notes().is_empty());
    }

    #[test]
    fn threads_whose_priority_was_rejected_are_shown() {
        let rejected = vec!["ledger".to_owned(), "log".to_owned()];
        let status = LedgerStatus { priority_refused: rejected, ..status(LIVE, 0, true, Some(1)) };
        let line = "priority        not lowered (ledger, log), so they may delay orders\n";
        assert!(status.to_string().contains(line), "{status}");
        let status = LedgerStatus { priority_refused: Vec::new(), ..status };
        assert!(!status.to_string().contains("priority"), "{status}");
    }

    #[test]
    fn each_price_source_has_a_line() {
        let source = |name: &str, age_ms, stale| PriceStatus {
            name: name.to_owned(),
            age_ms,
            max_age_ms: 21_600_000,
            stale,
            entries: 3,
            ..PriceStatus::default()
        };
        let prices = vec![
            source("buff", Some(725_000), false),
            source("skinport", Some(32_400_000), true),
            source("own", None, true),
        ];
        let status = LedgerStatus { prices, ..status(LIVE, 0, true, Some(1)) };
        let lines = "prices          buff 12 min 5 s old\n\
             \x20               skinport too old (9 h 0 min, limit 6 h 0 min): 3 entries that \
             need it send no orders\n\
             \x20               own has no prices yet: 3 entries that need it send no orders\n";
        assert!(status.to_string().contains(lines), "{status}");
        assert_eq!(status.problems(), <[String; 0]>::default());
    }

    #[test]
    fn a_reply_from_an_older_bot_parses_without_the_newer_fields() {
        let mut value = serde_json::to_value(status(LIVE, 1, true, Some(1))).unwrap();
        let object = value.as_object_mut().unwrap();
        for key in ["feed", "running_ms", "reconciled", "prices", "priority_refused"] {
            assert!(object.remove(key).is_some(), "{key}");
        }
        let read: LedgerStatus = serde_json::from_value(value).unwrap();
        assert_eq!((read.feed, read.running_ms, read.halts.len()), (None, None, 1));
    }
}
