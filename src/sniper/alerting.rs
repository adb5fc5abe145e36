//! Alerts of the engine: outcomes of orders as they happen, and changes of its state at each tick.

use std::{
    collections::{HashMap, VecDeque},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    OrderSender,
    engine::{Engine, Executor, Now, PendingOrder},
    stats::SessionStats,
};
use crate::{
    account::{FailingRead, ReadKind},
    alerts::{AlertEvent, AlertOrder, AlertSender, BudgetLeft, SessionFigures},
    clock::local,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeId},
    ledger::{
        ClosedEntries, Halt, HaltReason, Obstacle, OrderState, OrderingFacts, RiskRejection,
        Snapshot, StateChange,
        obstacle::{COIN_LIMITS, GRACE, OUTAGE_MIN, PRICES_GRACE},
        price_status::is_needed,
        status::LedgerStatus,
    },
    whitelist::WhitelistEntry,
    ws::{FeedCondition, FeedMetrics},
};

/// Minimum interval of alerts about the same limit.
const LIMIT_INTERVAL: Duration = Duration::from_secs(3_600);

/// Interval at which the age of the prices and the state of the ledger's files are checked.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);

/// Time for which the account may be unreadable after the start before that is reported.
const ACCOUNT_GRACE: Duration = Duration::from_secs(120);

/// Time for which the account may be unreadable later: orders go on with the last balance.
pub(super) const ACCOUNT_FAILING_MAX: Duration = Duration::from_secs(900);

/// Maximum number of entries and groups whose limits were reported. With more, some are reported
/// more often.
const LIMITS_MAX: usize = 256;

/// Name of the alert about a complete entry among those about limits.
const COMPLETE: &str = "complete";

/// Interval and number of the samples by which unreadable listings are detected: ten minutes.
const READING_INTERVAL: Duration = Duration::from_secs(60);
const READING_SAMPLES: usize = 10;
/// Minimum number of listings for a conclusion about the market.
const READ_MIN: u64 = 20;

/// State at the last tick, and the reported conditions.
#[derive(Debug, Default)]
pub(super) struct EngineAlerts {
    pub(super) sender: AlertSender,
    /// Price sources, in the order of the settings.
    sources: Vec<WatchedSource>,
    /// Time of the first tick with these sources.
    sources_since: Option<Instant>,
    halts: Vec<HaltReason>,
    is_balance_low: bool,
    has_ledger_failed: bool,
    /// Why no entry permits an order; `None` if one does.
    pub(super) blocked_entries: Option<ClosedEntries>,
    /// Time of the first tick.
    started: Option<Instant>,
    feed: FeedCondition,
    feed_down_since: Option<Instant>,
    pub(super) connections: usize,
    disconnected_since: Option<Instant>,
    reading: ReadingWatch,
    /// For each of [`COIN_LIMITS`], the lowest price of a listing that the limit blocked, and when.
    blocked_prices: [Option<(Amount, Instant)>; COIN_LIMITS.len()],
    /// Reported obstacles that still hold.
    obstacles: Vec<Obstacle>,
    is_account_unread: bool,
    /// Time of the last check at [`SLOW_INTERVAL`].
    checked_at: Option<Instant>,
    /// Time of the last alert about each limit, by its name and that of its entry or group.
    limits: HashMap<(&'static str, Option<String>), Instant>,
}

/// Numbers of listings of a session so far.
#[derive(Clone, Copy, Debug)]
struct ReadingCounts {
    read: u64,
    /// Those of `read` with an unreadable field.
    unreadable: u64,
    arrived: u64,
    /// Those of `arrived` without a usable id.
    without_id: u64,
}

/// Detects a market whose listings have become unreadable.
#[derive(Debug, Default)]
struct ReadingWatch {
    /// At most [`READING_SAMPLES`], one a minute, oldest first.
    samples: VecDeque<(Instant, ReadingCounts)>,
    /// Listings without a usable id, which only the feed counts.
    without_id: u64,
    /// Listings of items that no entry names, which were not read.
    unnamed: u64,
    is_unreadable: bool,
}

impl ReadingWatch {
    fn observe(&mut self, stats: &SessionStats, now: Instant) {
        let counts = ReadingCounts {
            read: stats.listings.saturating_sub(self.unnamed),
            unreadable: stats.unreadable,
            arrived: stats.listings.saturating_add(self.without_id),
            without_id: self.without_id,
        };
        let is_due =
            |(at, _): &(Instant, _)| READING_INTERVAL <= now.saturating_duration_since(*at);
        if self.samples.back().is_none_or(is_due) {
            if READING_SAMPLES <= self.samples.len() {
                self.samples.pop_front();
            }
            self.samples.push_back((now, counts));
        }
        let old = self.samples.front().map_or(counts, |(_at, old)| *old);
        let new = |count: fn(&ReadingCounts) -> u64| count(&counts).saturating_sub(count(&old));
        let is_most = |part: u64, of| READ_MIN <= of && of < part.saturating_mul(2);
        self.is_unreadable = is_most(new(|it| it.unreadable), new(|it| it.read))
            || is_most(new(|it| it.without_id), new(|it| it.arrived));
    }
}

/// Returns `true` if a time is less than [`LIMIT_INTERVAL`] ago.
fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < LIMIT_INTERVAL
}

fn elapsed_since(since: Option<Instant>, now: Instant) -> Duration {
    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}

/// Sets the start of a condition when it begins, clears it when it ends.
fn set_since(since: &mut Option<Instant>, is_on: bool, now: Instant) {
    *since = is_on.then(|| since.unwrap_or(now));
}

#[derive(Clone, Debug)]
struct WatchedSource {
    name: String,
    /// Identifies the source in alerts, also at another position of the settings.
    number: usize,
    /// `true` if its prices were stale at the last check, and an entry needed them.
    is_stale: bool,
}

impl EngineAlerts {
    /// Counts listings of items that no entry names, which were not read.
    pub(super) const fn add_unnamed(&mut self, count: u64) {
        self.reading.unnamed = self.reading.unnamed.saturating_add(count);
    }
}

impl BudgetLeft {
    const fn of(snapshot: &Snapshot) -> Self {
        Self {
            spent: snapshot.spent,
            total: snapshot.budget.total,
            balance: snapshot.available_estimate,
        }
    }
}

impl<B: OrderSender> Engine<B> {
    /// Sets the receiver of events, and the names of the price sources.
    pub fn set_alerts(&mut self, sender: AlertSender, sources: Vec<String>) {
        self.alerting = EngineAlerts { sender, ..EngineAlerts::default() };
        self.set_alert_sources(sources);
    }

    /// Sets the names of the price sources after a reload. New ones may not have been downloaded
    /// yet. A source that remains is stale until its next check.
    pub(super) fn set_alert_sources(&mut self, names: Vec<String>) {
        let EngineAlerts { sender, sources, sources_since, .. } = &mut self.alerting;
        let mut old = std::mem::take(sources);
        let mut next_number = old.iter().map(|it| it.number.saturating_add(1)).max().unwrap_or(0)..;
        sources.extend(names.into_iter().filter_map(|name| {
            let kept = old.iter().position(|it| it.name == name).map(|at| old.swap_remove(at));
            let new = |number| WatchedSource { name, number, is_stale: false };
            kept.or_else(|| next_number.next().map(new))
        }));
        for WatchedSource { name, number: source, .. } in old.into_iter().filter(|it| it.is_stale) {
            sender.emit(|| AlertEvent::PricesRemoved { source, name });
        }
        *sources_since = None;
    }

    /// Emits the final outcome of an order. `snapshot` is the ledger after a purchase.
    pub(super) fn alert_outcome(
        &self,
        outcome: &Outcome,
        order: &PendingOrder,
        snapshot: Option<&Snapshot>,
    ) {
        let (name, price) = (&order.item.name, order.price);
        let order = |price| AlertOrder { item: Some(name.clone()), price };
        match outcome {
            Outcome::Bought { price: paid, .. } => self.alerting.sender.emit(|| {
                let left = snapshot.map(BudgetLeft::of);
                AlertEvent::Bought { order: order(paid.unwrap_or(price)), left }
            }),
            Outcome::Rejected(reason) => self
                .alerting
                .sender
                .emit(|| AlertEvent::Rejected { order: order(price), reason: *reason }),
            // Nothing was spent, so there is nothing to report.
            Outcome::NotSent(_) => {}
            Outcome::Unknown(reason) => self
                .alerting
                .sender
                .emit(|| AlertEvent::Unknown { order: order(price), reason: reason.to_string() }),
        }
    }

    pub(super) fn alert_would_buy(&self, trade: &Trade<'_>, price: Amount) {
        self.alerting.sender.emit(|| {
            let item = Some(trade.full_name().into_owned());
            AlertEvent::WouldBuy { order: AlertOrder { item, price } }
        });
    }

    /// Emits a state change of an order that did not come from its own response.
    pub(super) fn alert_change(&self, change: &StateChange) {
        let StateChange { id, from, to, price } = change;
        let order = || AlertOrder { item: self.names.get(id).cloned(), price: *price };
        let emit = |event: fn(AlertOrder) -> AlertEvent| {
            self.alerting.sender.emit(|| event(order()));
        };
        let was_unknown = *from == OrderState::Unknown;
        match to {
            OrderState::NotBought if was_unknown => emit(|order| AlertEvent::NotBought { order }),
            OrderState::Bought | OrderState::Completed if was_unknown => {
                emit(|order| AlertEvent::Bought { order, left: None });
            }
            OrderState::Returning => emit(|order| AlertEvent::Cancelled { order }),
            OrderState::Returned => emit(|order| AlertEvent::Refunded { order }),
            OrderState::Reserved
            | OrderState::Sent
            | OrderState::Bought
            | OrderState::Rejected
            | OrderState::Unknown
            | OrderState::NotSent
            | OrderState::Completed
            | OrderState::NotBought => {}
        }
    }

    /// Returns the name of the item of an order, if it is known. It is untrusted.
    pub(super) fn item_name(&self, id: &TradeId) -> Option<&str> {
        self.names.get(id).map(String::as_str)
    }

    /// Describes the reason of a halt with its item.
    pub fn describe_halt(&self, reason: &HaltReason) -> String {
        reason.with_item(self.halted_item(reason))
    }

    /// Adds to each halt its description, which names its item.
    pub fn describe_halts(&self, halts: Vec<Halt>) -> Vec<(Halt, String)> {
        let text = |halt: Halt| halt.with_item(self.halted_item(&halt.reason));
        halts.into_iter().map(|halt| (halt, text(halt))).collect()
    }

    fn halted_item(&self, reason: &HaltReason) -> Option<&str> {
        reason.listing().and_then(|id| self.item_name(&id))
    }

    /// Names the items of the halts in a status.
    pub(super) fn name_halts(&self, status: &mut LedgerStatus) {
        let halts = self.ledger.state().halts();
        for (shown, halt) in status.halts.iter_mut().zip(halts) {
            shown.reason = halt.with_item(self.halted_item(&halt.reason));
        }
    }

    /// After an order: clears the blocked prices, and lets the entry be reported as complete again.
    pub(super) fn forget_limits(&mut self, entry: usize) {
        let EngineAlerts { blocked_prices, limits, .. } = &mut self.alerting;
        *blocked_prices = [None; COIN_LIMITS.len()];
        let label = self.whitelist.entries().get(entry).map(WhitelistEntry::label);
        limits.retain(|(limit, of), _| *limit != COMPLETE || of.as_deref() != label);
    }

    /// Keeps the lowest price of a listing that a limit in coins blocked within [`LIMIT_INTERVAL`].
    fn remember_blocked_price(&mut self, rejection: &RiskRejection, now: Instant) {
        let (limit, price) = match *rejection {
            RiskRejection::Total { price, .. } => (0, price),
            RiskRejection::PerHour { price, .. } => (1, price),
            RiskRejection::PerDay { price, .. } => (2, price),
            RiskRejection::MinBalance { price, .. } => (3, price),
            _ => return,
        };
        if let Some(lowest) = self.alerting.blocked_prices.get_mut(limit) {
            let kept = lowest.filter(|(kept, at)| *kept < price && is_recent(*at, now));
            *lowest = Some(kept.unwrap_or((price, now)));
        }
    }

    /// Sends an alert when a limit prevents an order, at most once per [`LIMIT_INTERVAL`]. A
    /// complete entry is reported once, until it orders again.
    pub(super) fn alert_limit(
        &mut self,
        rejection: &RiskRejection,
        trade: &Trade<'_>,
        entry: usize,
        now: Now,
    ) {
        self.remember_blocked_price(rejection, now.instant);
        let is_limit = matches!(
            rejection,
            RiskRejection::EntryQuantity { .. }
                | RiskRejection::EntryTotal { .. }
                | RiskRejection::GroupQuantity { .. }
                | RiskRejection::GroupTotal { .. }
                | RiskRejection::Total { .. }
                | RiskRejection::PerHour { .. }
                | RiskRejection::PerDay { .. }
                | RiskRejection::MinBalance { .. }
                | RiskRejection::PerMinute { .. }
                | RiskRejection::SharedAmount { .. }
                | RiskRejection::SharedQuantity { .. }
                | RiskRejection::Full { .. }
        );
        if !is_limit {
            return;
        }
        let limit = rejection.name();
        let entry = self.whitelist.entries().get(entry);
        let label = entry.map(|entry| entry.label().to_owned());
        let of = match rejection {
            RiskRejection::EntryQuantity { .. } | RiskRejection::EntryTotal { .. } => label,
            RiskRejection::GroupQuantity { .. } | RiskRejection::GroupTotal { .. } => {
                entry.and_then(|entry| entry.group.as_ref()).map(|group| group.name.to_string())
            }
            _ => None,
        };
        let state = self.ledger.state();
        let complete = match rejection {
            // Orders in flight or lost count here, although they may not have been executed.
            RiskRejection::EntryQuantity { bought, max }
                if max <= bought && state.in_flight() == 0 && state.loss().count == 0 =>
            {
                Some(*max)
            }
            _ => None,
        };
        let key = (complete.map_or(limit, |_max| COMPLETE), of.clone());
        let last = self.alerting.limits.get(&key);
        if last.is_some_and(|last| complete.is_some() || is_recent(*last, now.instant)) {
            return;
        }
        if LIMITS_MAX <= self.alerting.limits.len() {
            self.alerting.limits.clear();
        }
        self.alerting.limits.insert(key, now.instant);
        if let (Some(max), Some(entry)) = (complete, of.clone()) {
            let event = || AlertEvent::EntryComplete { entry, max };
            return self.alerting.sender.emit(event);
        }
        let is_slice = matches!(
            rejection,
            RiskRejection::SharedAmount { .. } | RiskRejection::SharedQuantity { .. }
        );
        let database_error =
            self.sharing.as_ref().filter(|_| is_slice).and_then(|it| it.status.error.as_ref());
        self.alerting.sender.emit(|| AlertEvent::LimitReached {
            limit,
            text: match database_error {
                Some(error) => format!("{rejection}; it cannot grow without the database: {error}"),
                None => {
                    of.map_or_else(String::new, |of| format!("{of}: ")) + &rejection.to_string()
                }
            },
            item: trade.full_name().into_owned(),
        });
    }

    /// Observes the feed.
    pub(super) fn watch_feed(&mut self, metrics: &FeedMetrics, now: Now) {
        let alerting = &mut self.alerting;
        alerting.feed = metrics.state(now.wall);
        let is_down = alerting.feed != FeedCondition::Connected;
        set_since(&mut alerting.feed_down_since, is_down, now.instant);
        alerting.reading.without_id = metrics.unreadable.load(Ordering::Relaxed);
    }

    /// Observes the order connections and whether listings can be read. Sends an alert when no
    /// order can be sent because of them, and when that ends.
    fn watch_obstacles(&mut self, for_new_channel: bool, now: Now) {
        if let Executor::Live(sender) = &self.executor {
            let alerting = &mut self.alerting;
            alerting.connections = sender.connections();
            let is_disconnected = alerting.connections == 0;
            set_since(&mut alerting.disconnected_since, is_disconnected, now.instant);
        }
        self.alerting.reading.observe(&self.stats, now.instant);
        let alerting = &mut self.alerting;
        let without = elapsed_since(alerting.disconnected_since, now.instant);
        for (obstacle, is_on) in [
            (Obstacle::NoOrderConnection, OUTAGE_MIN <= without),
            (Obstacle::MarketUnreadable, alerting.reading.is_unreadable),
        ] {
            let was_on = alerting.obstacles.contains(&obstacle);
            if is_on && (!was_on || for_new_channel) {
                alerting.sender.emit(|| AlertEvent::NoOrders { obstacle });
            } else if was_on && !is_on {
                alerting.sender.emit(|| AlertEvent::OrdersAgain { obstacle });
            }
            alerting.obstacles.retain(|it| *it != obstacle);
            alerting.obstacles.extend(is_on.then_some(obstacle));
        }
    }

    /// Compares halts, balance, prices and ledger with the last tick, and publishes the figures.
    pub(super) fn watch_for_alerts(&mut self, snapshot: &Snapshot, now: Now) {
        let since = *self.alerting.sources_since.get_or_insert(now.instant);
        self.alerting.started.get_or_insert(now.instant);
        let alerting = &mut self.alerting;
        if alerting.checked_at.is_none() && (snapshot.unknown > 0 || snapshot.loss.count > 0) {
            let (orders, coins, lost) = (snapshot.unknown, snapshot.unknown_coins, snapshot.loss);
            let event = || AlertEvent::Unresolved { orders, coins, lost };
            alerting.sender.emit(event);
        }
        // A new channel receives every condition that still holds; one that ended meanwhile still
        // sends its end.
        let for_new_channel = alerting.sender.take_new_channel();
        self.watch_halts(&snapshot.halts, for_new_channel);
        self.watch_balance(snapshot, for_new_channel);
        let is_due = |last: Instant| SLOW_INTERVAL <= now.instant.saturating_duration_since(last);
        if for_new_channel || self.alerting.checked_at.is_none_or(is_due) {
            self.alerting.checked_at = Some(now.instant);
            self.scan_entries(now.wall);
            self.watch_obstacles(for_new_channel, now);
            self.watch_ledger(for_new_channel);
            self.watch_account(snapshot, for_new_channel, now.wall);
            if PRICES_GRACE <= now.instant.saturating_duration_since(since) {
                self.watch_prices(for_new_channel, now.wall);
            }
        }
        self.alerting.sender.publish_figures(|| self.figures(snapshot, now));
    }

    fn figures(&self, snapshot: &Snapshot, now: Now) -> SessionFigures {
        let stats = &self.stats;
        let mut left = BudgetLeft::of(snapshot);
        let is_live = self.executor.is_live();
        if !is_live {
            // A dry run spends nothing.
            left.balance = snapshot.balance;
        }
        SessionFigures {
            is_live,
            obstacle: self.obstacle(snapshot, now),
            would_buy: stats.would_buy,
            listings: stats.listings,
            bought: stats.bought_in_all(),
            rejected: stats.rejected,
            unknown: stats.unknown,
            skipped: stats.skipped_total(),
            spent_in_day: snapshot.spent_in_day,
            left,
        }
    }

    /// Returns why no order is sent.
    pub(super) fn obstacle(&self, snapshot: &Snapshot, now: Now) -> Option<Obstacle> {
        let alerting = &self.alerting;
        let prevented = alerting.blocked_prices.map(|lowest| {
            lowest.filter(|(_price, at)| is_recent(*at, now.instant)).map(|(price, _at)| price)
        });
        let facts = OrderingFacts {
            running: elapsed_since(alerting.started, now.instant),
            priced: elapsed_since(alerting.sources_since, now.instant),
            feed: (alerting.feed, elapsed_since(alerting.feed_down_since, now.instant)),
            is_account_unread: self.unread_for(GRACE, now.wall).is_some(),
            disconnected: elapsed_since(alerting.disconnected_since, now.instant),
            shared: self.sharing.as_ref().map(|sharing| &sharing.status),
            has_creation_times: self.has_creation_times,
            is_market_unreadable: alerting.reading.is_unreadable,
            prevented,
            entries: alerting.blocked_entries,
            ..OrderingFacts::of_ledger(snapshot, self.executor.mode(), self.ledger.is_writable())
        };
        facts.obstacle()
    }

    /// Returns a read of the account that orders need and that has failed for this long.
    pub(super) fn unread_for(
        &self,
        min: Duration,
        now: UnixMs,
    ) -> Option<(ReadKind, &FailingRead)> {
        let mut failing = self.notified.health.failing();
        failing.find(|(read, it)| read.is_required() && min <= now.since(it.since))
    }

    /// Sends an alert when a halt is new or the last one ends. Halts are compared by reason,
    /// because one may have replaced another since the last tick. A halt that does not fit into
    /// the queue is sent at the next tick.
    fn watch_halts(&mut self, halts: &[Halt], for_new_channel: bool) {
        let alerting = &self.alerting;
        if halts.is_empty()
            && !alerting.halts.is_empty()
            && !alerting.sender.try_emit(|| AlertEvent::Resumed)
        {
            return;
        }
        let is_reported = |halt: &&Halt| {
            let Halt { at: since, reason, .. } = **halt;
            let text = || halt.with_item(self.halted_item(&reason));
            let event = || AlertEvent::Halted { since: local(since), reason, text: text() };
            let is_known = alerting.halts.contains(&reason);
            // A reported halt stays listed even if repeating it fails, so that its end is reported.
            let is_sent = (!is_known || for_new_channel) && alerting.sender.try_emit(event);
            is_known || is_sent
        };
        self.alerting.halts = halts.iter().filter(is_reported).map(|halt| halt.reason).collect();
    }

    /// Sends an alert when a live bot cannot read its account: after [`ACCOUNT_GRACE`] if no order
    /// is sent without it, and after [`ACCOUNT_FAILING_MAX`] otherwise.
    fn watch_account(&mut self, snapshot: &Snapshot, for_new_channel: bool, now: UnixMs) {
        let is_needed = !snapshot.reconciled;
        let min = if is_needed { ACCOUNT_GRACE } else { ACCOUNT_FAILING_MAX };
        let was_unread = self.alerting.is_account_unread;
        match self.unread_for(min, now).filter(|_| self.executor.is_live()) {
            // A halt has its own alert.
            Some((read, it)) if snapshot.halts.is_empty() && (!was_unread || for_new_channel) => {
                let cause = format!("{}: {}", read.name(), it.cause.text());
                let (since, remedy) = (local(it.since), it.cause.remedy().to_owned());
                let event = || AlertEvent::AccountUnread { since, cause, remedy, is_needed };
                self.alerting.sender.emit(event);
                self.alerting.is_account_unread = true;
            }
            None if was_unread && snapshot.reconciled => {
                self.alerting.sender.emit(|| AlertEvent::AccountRead);
                self.alerting.is_account_unread = false;
            }
            _ => {}
        }
    }

    fn watch_balance(&mut self, snapshot: &Snapshot, for_new_channel: bool) {
        let Some(balance) = snapshot.balance else { return };
        let (alerting, min) = (&mut self.alerting, snapshot.budget.min_balance);
        let is_low = snapshot.is_below_min_balance();
        let was_low = std::mem::replace(&mut alerting.is_balance_low, is_low);
        if is_low && (!was_low || for_new_channel) {
            alerting.sender.emit(|| AlertEvent::BalanceLow { balance, min });
        } else if was_low && !is_low {
            alerting.sender.emit(|| AlertEvent::BalanceRestored { balance });
        }
    }

    fn watch_ledger(&mut self, for_new_channel: bool) {
        let failure = self.ledger.failure();
        let had_failed = self.alerting.has_ledger_failed;
        self.alerting.has_ledger_failed = failure.is_some();
        match failure {
            Some(cause) if for_new_channel || !had_failed => {
                self.alerting.sender.emit(|| AlertEvent::LedgerFailed { cause });
            }
            None if had_failed => self.alerting.sender.emit(|| AlertEvent::LedgerRestored),
            _ => {}
        }
    }

    fn watch_prices(&mut self, for_new_channel: bool, now: UnixMs) {
        let now = self.price_time(now);
        let EngineAlerts { sender, sources, .. } = &mut self.alerting;
        let entries = self.whitelist.entries();
        for (index, (watched, table)) in sources.iter_mut().zip(self.prices.sources()).enumerate() {
            // A source reported as stale stays reported until its prices are fresh.
            let is_stale = table.is_stale(now)
                && (watched.is_stale || is_needed(index, &self.prices, entries, now));
            let is_same = std::mem::replace(&mut watched.is_stale, is_stale) == is_stale;
            if is_same && !(for_new_channel && is_stale) {
                continue;
            }
            let (source, name) = (watched.number, watched.name.clone());
            let age = table.has_table().then(|| now.since(table.newest));
            sender.emit(|| {
                if is_stale {
                    AlertEvent::PricesStale { source, name, age, max_age: table.max_age }
                } else {
                    AlertEvent::PricesFresh { source, name }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, atomic::AtomicUsize, mpsc::Receiver};

    use super::*;
    use crate::{
        account::FailureCause,
        alerts::Alert,
        config::Budget,
        domain::{
            outcome::{NotSent, Outcome, RejectReason},
            percent_rule::CoinUsd,
            server_clock::ServerClock,
            trade::KeyedBy,
        },
        execution::response::SentRequest,
        ledger::{ApprovedOrder, Ledger, Operator, OrderRequest},
        prices::{BookTable, PriceBook, PriceTable},
        sniper::eligibility::SkipReason,
        whitelist::{
            Whitelist, WhitelistEntry,
            tests::{REDLINE, entry, percent_entry, trade},
        },
    };

    /// Order sender that accepts every order, with this number of connections.
    #[derive(Debug)]
    struct AcceptingOrderSender(Arc<AtomicUsize>);

    impl OrderSender for AcceptingOrderSender {
        fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
            let now = Instant::now();
            Ok(SentRequest { ready: now, begun: now, written: now })
        }

        fn connections(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    struct AlertTest {
        connections: Arc<AtomicUsize>,
        engine: Engine<AcceptingOrderSender>,
        events: Receiver<Alert>,
        start: Instant,
        seconds: u64,
    }

    impl AlertTest {
        fn new(budget: Budget) -> Self {
            let entry = entry();
            let ledger = Ledger::in_memory(budget, std::slice::from_ref(&entry), false);
            let start = Instant::now();
            let connections = Arc::new(AtomicUsize::new(1));
            let sender = AcceptingOrderSender(Arc::clone(&connections));
            let clock = Arc::new(Mutex::new(ServerClock::new(start)));
            let whitelist = Arc::new(Whitelist::new(vec![entry]));
            let mut engine =
                Engine::new(whitelist, ledger, Executor::Live(sender), KeyedBy::Id, clock);
            let (sender, events) = AlertSender::with_queue();
            engine.set_alerts(sender, vec!["buff".to_owned()]);
            Self { connections, engine, events, start, seconds: 0 }
        }

        fn now(&self) -> Now {
            let after = Duration::from_secs(self.seconds);
            Now { instant: self.start + after, wall: UnixMs(1_000_000_000).plus(after) }
        }

        /// Uses one entry for each of these price sources.
        fn need_prices(&mut self, sources: &[usize]) {
            let needs = |index: &usize| {
                let mut entry = percent_entry();
                entry.percent.as_mut().unwrap().references[0].index = *index;
                entry
            };
            let entries = sources.iter().map(needs).collect();
            self.engine.whitelist = Arc::new(Whitelist::new(entries));
        }

        /// Compares the state after some seconds, and returns the kinds of the events.
        fn tick(&mut self, seconds: u64) -> Vec<&'static str> {
            self.seconds += seconds;
            let now = self.now();
            let snapshot = self.engine.ledger().snapshot(now.wall);
            self.engine.watch_for_alerts(&snapshot, now);
            self.kinds()
        }

        fn kinds(&self) -> Vec<&'static str> {
            self.events.try_iter().map(|alert| alert.event.kind().name()).collect()
        }
    }

    #[test]
    fn halts_are_reported_once_and_their_end_too() {
        let mut test = AlertTest::new(Budget::default());
        assert_eq!(test.tick(1), [""; 0]);
        let now = test.now().wall;
        let halt = |reason, test: &mut AlertTest| {
            let effects = test.engine.ledger().halt(reason, now);
            assert_eq!(effects.halts.len(), 1);
        };
        halt(HaltReason::OtherAccount, &mut test);
        assert_eq!(test.tick(1), ["halted"]);
        assert_eq!(test.tick(1), [""; 0]);
        halt(HaltReason::Rejected(RejectReason::Unauthenticated), &mut test);
        halt(HaltReason::Rejected(RejectReason::Challenge), &mut test);
        assert_eq!(test.tick(1), ["credential_refused", "challenge"]);
        test.engine.ledger().resume(Operator::new("test"), now);
        assert_eq!(test.tick(1), ["resumed"]);
        assert_eq!(test.tick(1), [""; 0]);
    }

    #[test]
    fn a_halt_that_replaces_another_between_two_ticks_is_reported_once() {
        let mut test = AlertTest::new(Budget::default());
        let now = test.now().wall;
        let halt = |reason, test: &mut AlertTest| {
            assert_eq!(test.engine.ledger().halt(reason, now).halts.len(), 1);
        };
        halt(HaltReason::OtherAccount, &mut test);
        assert_eq!(test.tick(1), ["halted"]);
        test.engine.ledger().resume(Operator::new("test"), now);
        halt(HaltReason::Rejected(RejectReason::Challenge), &mut test);
        assert_eq!(test.tick(1), ["challenge"]);
        assert_eq!(test.tick(1), [""; 0]);
    }

    #[test]
    fn a_limit_is_reported_once_an_hour_and_a_skip_for_another_reason_never() {
        let mut test = AlertTest::new(Budget::default());
        let (price, max) = (Amount::from_cents(500), Amount::from_cents(900));
        let total = RiskRejection::Total { spent: price, price, max };
        let listing = trade("a", REDLINE);
        for (rejection, after, expected) in [
            (&total, 0, 1),
            (&total, 60, 0),
            (&RiskRejection::PerMinute { sent: 10, max: 10 }, 0, 1),
            (&RiskRejection::Halted, 0, 0),
            (&RiskRejection::MaxPrice { price, max }, 0, 0),
            (&total, 3_600, 1),
        ] {
            test.seconds += after;
            let now = test.now();
            test.engine.alert_limit(rejection, &listing, 0, now);
            assert_eq!(test.kinds(), vec!["limit_reached"; expected], "{rejection}");
        }
    }

    #[test]
    fn a_halt_that_does_not_fit_into_the_queue_is_reported_at_the_next_tick() {
        let mut test = AlertTest::new(Budget::default());
        let now = test.now().wall;
        let fill = |test: &AlertTest| {
            for _ in 0..crate::alerts::QUEUED_MAX {
                test.engine.alerting.sender.emit(|| AlertEvent::LedgerRestored);
            }
        };
        fill(&test);
        assert_eq!(test.engine.ledger().halt(HaltReason::OtherAccount, now).halts.len(), 1);
        assert!(!test.tick(1).contains(&"halted"), "the queue is full");
        assert_eq!(test.tick(1), ["halted"]);
        fill(&test);
        test.engine.ledger().resume(Operator::new("test"), now);
        assert!(!test.tick(1).contains(&"resumed"), "the queue is full");
        assert_eq!(test.tick(1), ["resumed"]);
    }

    #[test]
    fn an_account_that_cannot_be_read_since_the_start_is_reported_with_its_end() {
        let mut test = AlertTest::new(Budget::default());
        let max_price = Amount::from_cents(100);
        test.engine.ledger =
            Ledger::in_memory(Budget { max_price, ..Budget::default() }, &[entry()], true);
        let fail = |test: &mut AlertTest| {
            let cause = FailureCause::new("502".to_owned(), "HTTP 502", "wait");
            let now = test.now();
            test.engine.report_failed(ReadKind::Purchases, cause, now);
        };
        fail(&mut test);
        assert_eq!(test.tick(ACCOUNT_GRACE.as_secs() - 1), [""; 0]);
        assert_eq!(test.tick(6), ["halted"]);
        assert_eq!(test.tick(6), [""; 0]);
        let now = test.now().wall;
        let _effects = test.engine.ledger().set_balance(Amount::from_cents(100_000), now, now);
        test.engine.ledger().reconcile_without_list(now, now);
        assert_eq!(test.tick(6), ["resumed"]);
        // Later, orders go on with the last balance, so it may take longer.
        let _was = test.engine.notified.health.on_success(ReadKind::Purchases, now);
        fail(&mut test);
        assert_eq!(test.tick(ACCOUNT_FAILING_MAX.as_secs() - 1), [""; 0]);
        assert_eq!(test.tick(6), ["halted"]);
    }

    #[test]
    fn a_low_balance_is_reported_once_until_it_is_restored() {
        let budget = Budget { min_balance: Amount::from_cents(500), ..Budget::default() };
        let mut test = AlertTest::new(budget);
        let balance = |cents, test: &mut AlertTest| {
            test.seconds += 60;
            let now = test.now().wall;
            let effects = test.engine.ledger().set_balance(Amount::from_cents(cents), now, now);
            assert!(effects.halts.is_empty());
        };
        assert_eq!(test.tick(1), [""; 0], "it is not known");
        balance(499, &mut test);
        assert_eq!(test.tick(1), ["balance_low"]);
        assert_eq!(test.tick(1), [""; 0]);
        balance(500, &mut test);
        assert_eq!(test.tick(1), ["balance_low"], "restored");
    }

    #[test]
    fn an_order_that_the_balance_does_not_cover_suppresses_no_later_low_balance() {
        let budget = Budget { min_balance: Amount::from_cents(2_000), ..Budget::default() };
        let mut test = AlertTest::new(budget);
        let skip = |test: &mut AlertTest| {
            let (balance, price) = (Amount::from_cents(10_000), Amount::from_cents(9_000));
            let min = Amount::from_cents(2_000);
            let rejection = RiskRejection::MinBalance { balance, price, min };
            let now = test.now();
            test.engine.alert_limit(&rejection, &trade("a", REDLINE), 0, now);
            test.kinds()
        };
        assert_eq!(skip(&mut test), ["limit_reached"], "the balance is not low");
        assert_eq!(skip(&mut test), [""; 0]);
        test.seconds += 2 * 86_400;
        assert_eq!(skip(&mut test), ["limit_reached"]);
        let now = test.now().wall;
        let low = Amount::from_cents(1_999);
        assert!(test.engine.ledger().set_balance(low, now, now).halts.is_empty());
        assert_eq!(test.tick(1), ["balance_low"]);
    }

    #[test]
    fn a_busy_entry_hides_no_other_and_a_complete_one_is_reported_once() {
        let mut test = AlertTest::new(Budget::default());
        let named = |name: &str| WhitelistEntry { name: Some(name.to_owned()), ..entry() };
        test.engine.whitelist = Arc::new(Whitelist::new(vec![named("a"), named("b")]));
        let (spent, price, max) = (Amount::ZERO, Amount::from_cents(1), Amount::ZERO);
        let full = Some(RiskRejection::EntryTotal { spent, price, max });
        let complete = Some(RiskRejection::EntryQuantity { bought: 3, max: 3 });
        let order = None;
        for (rejection, index, after, expected) in [
            (full, 0, 0, "a: "),
            (full, 0, 60, ""),
            (full, 1, 0, "b: "),
            (full, 0, 3_600, "a: "),
            (complete, 0, 0, "a: 3 of 3 bought"),
            (complete, 0, 7_200, ""),
            (complete, 1, 0, "b: 3 of 3 bought"),
            (order, 0, 0, ""),
            (complete, 1, 7_200, ""),
            (complete, 0, 0, "a: 3 of 3 bought"),
            (complete, 0, 7_200, ""),
        ] {
            test.seconds += after;
            let (now, listing) = (test.now(), trade("x", REDLINE));
            match rejection {
                Some(it) => test.engine.alert_limit(&it, &listing, index, now),
                None => test.engine.forget_limits(index),
            }
            let texts = test.events.try_iter().map(|alert| alert.event.text());
            let text = texts.collect::<String>();
            assert_eq!(text.is_empty(), expected.is_empty(), "{text}");
            assert!(text.starts_with(expected), "{text}");
        }
    }

    /// An order in flight, or one that a power loss removed, may not have bought.
    #[test]
    fn an_entry_is_complete_only_once_no_order_may_still_fail() {
        let coins = Amount::from_cents(10_000);
        let budget = Budget { max_price: coins, total: coins, ..Budget::default() };
        let mut test = AlertTest::new(budget);
        let skip = |test: &mut AlertTest| {
            let now = test.now();
            let full = RiskRejection::EntryQuantity { bought: 3, max: 3 };
            test.engine.alert_limit(&full, &trade("x", REDLINE), 0, now);
            test.kinds()
        };
        let now = test.now().wall;
        let request = OrderRequest {
            id: trade("a", REDLINE).id,
            keyed_by: KeyedBy::Id,
            price: Amount::from_cents(100),
            entry: 0,
            created_at: None,
        };
        let ledger = test.engine.ledger();
        let approved = ledger.reserve(request, now).unwrap();
        assert_eq!(skip(&mut test), ["limit_reached"]);
        let ledger = test.engine.ledger();
        let bought = Outcome::Bought { price: None, server_time: None };
        let _effects = ledger.settle(approved.key(), &bought, now).unwrap();
        assert_eq!(skip(&mut test), ["bought"]);
    }

    #[test]
    fn an_order_clears_the_used_up_obstacle() {
        let coins = Amount::from_cents(10_000);
        let budget = Budget { max_price: coins, total: coins, ..Budget::default() };
        let mut test = AlertTest::new(budget);
        let now = test.now();
        test.engine.ledger().reconcile_without_list(now.wall, now.wall);
        let obstacle = |test: &mut AlertTest| {
            let now = test.now();
            let snapshot = test.engine.ledger().snapshot(now.wall);
            test.engine.obstacle(&snapshot, now)
        };
        let price = Amount::from_cents(10_001);
        let total = RiskRejection::Total { spent: Amount::ZERO, price, max: coins };
        let listing = trade("a", REDLINE);
        test.engine.alert_limit(&total, &listing, 0, now);
        assert_eq!(obstacle(&mut test), Some(Obstacle::UsedUp { limit: "total", left: coins }));
        test.engine.forget_limits(0);
        assert_eq!(obstacle(&mut test), None);
    }

    #[test]
    fn listings_without_an_id_are_reported_with_their_end() {
        let mut test = AlertTest::new(Budget::default());
        let read = |listings, without_id, test: &mut AlertTest| {
            test.engine.stats.listings += listings;
            test.engine.alerting.reading.without_id += without_id;
            test.tick(60)
        };
        assert_eq!(read(1_000, 10, &mut test), [""; 0]);
        assert_eq!(read(0, 1_100, &mut test), ["halted"]);
        assert_eq!(read(10_000, 0, &mut test), ["resumed"]);
    }

    #[test]
    fn orders_without_a_connection_are_reported_after_a_minute_with_their_end() {
        let mut test = AlertTest::new(Budget::default());
        let now = test.now().wall;
        test.engine.ledger().reconcile_without_list(now, now);
        test.connections.store(0, Ordering::Relaxed);
        for _ in 0..10 {
            assert_eq!(test.tick(6), [""; 0]);
        }
        assert_eq!(test.tick(6), ["halted"]);
        assert_eq!(test.tick(6), [""; 0]);
        let now = test.now();
        let snapshot = test.engine.ledger().snapshot(now.wall);
        let obstacle = test.engine.obstacle(&snapshot, now);
        assert_eq!(obstacle, Some(Obstacle::NoOrderConnection));
        test.connections.store(1, Ordering::Relaxed);
        assert_eq!(test.tick(6), ["resumed"]);
    }

    #[test]
    fn listings_that_have_become_unreadable_are_reported_with_their_end() {
        let mut test = AlertTest::new(Budget::default());
        let read = |listings, unreadable, test: &mut AlertTest| {
            test.engine.stats.listings += listings;
            test.engine.stats.unreadable += unreadable;
            test.tick(60)
        };
        assert_eq!(read(1_000, 10, &mut test), [""; 0]);
        assert_eq!(read(100, 40, &mut test), [""; 0]);
        assert_eq!(read(100, 100, &mut test), ["halted"]);
        assert_eq!(read(100, 100, &mut test), [""; 0]);
        assert_eq!(read(1_000, 0, &mut test), ["resumed"]);
        // Locked listings of wanted items are ordinary.
        test.engine.stats.matched += 5;
        for _ in 0..5 {
            test.engine.stats.skip(SkipReason::CannotJoin);
        }
        assert_eq!(test.tick(60), [""; 0]);
    }

    #[test]
    fn the_figures_name_a_limit_that_is_used_up_and_entries_that_are_all_paused() {
        let coins = Amount::from_cents(10_000);
        let budget = Budget { max_price: coins, total: coins, ..Budget::default() };
        let mut test = AlertTest::new(budget);
        let now = test.now().wall;
        let ledger = test.engine.ledger();
        ledger.reconcile_without_list(now, now);
        let obstacle = |test: &mut AlertTest| {
            test.tick(5);
            let now = test.now().wall;
            let snapshot = test.engine.ledger().snapshot(now);
            let now = test.now();
            test.engine.figures(&snapshot, now).obstacle
        };
        assert_eq!(obstacle(&mut test), None);
        test.engine.whitelist.set_paused_where(true, |_entry| true);
        let paused = Obstacle::Entries { entries: ClosedEntries::Paused, is_late: false };
        assert_eq!(obstacle(&mut test), Some(paused));
        test.engine.whitelist.set_paused_where(false, |_entry| true);
        assert_eq!(obstacle(&mut test), None);
        let mut snapshot = test.engine.ledger().snapshot(now);
        snapshot.budget.per_hour = Some(coins);
        snapshot.spent_in_hour = coins;
        let used_up = Obstacle::UsedUp { limit: "per_hour", left: Amount::ZERO };
        assert_eq!(test.engine.figures(&snapshot, test.now()).obstacle, Some(used_up));
    }

    #[test]
    fn prices_that_no_entry_needs_are_not_reported() {
        let mut test = AlertTest::new(Budget::default());
        let (max_age, coin) = (Duration::from_secs(600), Some(CoinUsd::ONE));
        let table = BookTable { table: None, at: UnixMs(0), max_age, coin };
        test.engine.set_prices(Arc::new(PriceBook::new(&[table])));
        assert_eq!(test.tick(1), [""; 0]);
        assert_eq!(test.tick(130), [""; 0]);
        test.need_prices(&[0]);
        assert_eq!(test.tick(10), ["prices_stale"]);
        test.need_prices(&[]);
        assert_eq!(test.tick(10), [""; 0], "it has an end when they are fresh");
    }

    #[test]
    fn prices_that_become_too_old_are_reported_and_fresh_ones_again() {
        let mut test = AlertTest::new(Budget::default());
        let book = |at| {
            let max_age = Duration::from_secs(600);
            let table = PriceTable::default();
            let table = (at != UnixMs(0)).then_some(&table);
            Arc::new(PriceBook::new(&[BookTable { table, at, max_age, coin: Some(CoinUsd::ONE) }]))
        };
        test.need_prices(&[0, 1]);
        test.engine.set_prices(book(UnixMs(0)));
        assert_eq!(test.tick(1), [""; 0], "at the start they may still be downloaded");
        assert_eq!(test.tick(130), ["prices_stale"]);
        test.engine.set_prices(book(test.now().wall));
        assert_eq!(test.tick(10), ["prices_stale"], "fresh");
        assert_eq!(test.tick(580), [""; 0]);
        assert_eq!(test.tick(20), ["prices_stale"]);
        test.engine.alerting.sender.add_channel();
        assert_eq!(test.tick(1), ["prices_stale"], "for the new channel");
        test.engine.set_alert_sources(vec!["other".to_owned(), "buff".to_owned()]);
        assert_eq!(test.kinds(), [""; 0], "the source remains");
        test.engine.set_alert_sources(vec!["other".to_owned()]);
        let ends: Vec<_> = test.events.try_iter().map(|alert| alert.event).collect();
        let name = "buff".to_owned();
        assert_eq!(ends, [AlertEvent::PricesRemoved { source: 0, name }], "its end");
        test.engine.set_prices(book(UnixMs(0)));
        assert_eq!(test.tick(10), [""; 0], "after a reload they may still be downloaded");
        assert_eq!(test.tick(130), ["prices_stale"]);
    }

    #[test]
    fn alerts_of_too_old_prices_follow_a_correction_of_the_clock() {
        let mut test = AlertTest::new(Budget::default());
        test.need_prices(&[0]);
        let book = |at| {
            let (table, max_age) = (PriceTable::default(), Duration::from_secs(600));
            let (table, coin) = (Some(&table), Some(CoinUsd::ONE));
            Arc::new(PriceBook::new(&[BookTable { table, at, max_age, coin }]))
        };
        let (start, hours) = (test.now().wall, Duration::from_secs(5 * 3_600));
        test.engine.watch_clock(start.plus(hours), test.now());
        test.kinds();
        test.engine.set_prices(book(start.plus(hours)));
        let is_stale = |kinds: Vec<&str>| kinds.contains(&"prices_stale");
        assert!(!is_stale(test.tick(1)) && !is_stale(test.tick(130)));
        test.engine.set_prices(book(start));
        assert!(is_stale(test.tick(10)));
    }

    #[test]
    fn the_prices_of_a_source_that_moves_end_their_own_alert() {
        let mut test = AlertTest::new(Budget::default());
        let book = |ages: [UnixMs; 2]| {
            let (max_age, table) = (Duration::from_secs(600), PriceTable::default());
            let coin = Some(CoinUsd::ONE);
            let table = |at| BookTable { table: Some(&table), at, max_age, coin };
            Arc::new(PriceBook::new(&ages.map(table)))
        };
        let fresh = test.now().wall.plus(Duration::from_secs(130));
        test.engine.set_alert_sources(vec!["buff".to_owned(), "other".to_owned()]);
        test.need_prices(&[0, 1]);
        test.engine.set_prices(book([UnixMs(1), fresh]));
        assert_eq!(test.tick(1), [""; 0]);
        assert_eq!(test.tick(130), ["prices_stale"]);
        test.engine.set_alert_sources(vec!["other".to_owned(), "buff".to_owned()]);
        test.engine.set_prices(book([fresh, fresh]));
        assert_eq!(test.tick(1), [""; 0]);
        test.seconds += 130;
        let now = test.now();
        let snapshot = test.engine.ledger().snapshot(now.wall);
        test.engine.watch_for_alerts(&snapshot, now);
        let ends: Vec<_> = test.events.try_iter().map(|alert| alert.event).collect();
        assert_eq!(ends, [AlertEvent::PricesFresh { source: 0, name: "buff".to_owned() }]);
    }

    #[test]
    fn the_end_of_a_halt_is_reported_also_if_the_queue_was_full_for_a_new_channel() {
        let mut test = AlertTest::new(Budget::default());
        let now = test.now().wall;
        let _effects = test.engine.ledger().halt(HaltReason::OtherAccount, now);
        assert_eq!(test.tick(1), ["halted"]);
        for _ in 0..crate::alerts::QUEUED_MAX {
            test.engine.alerting.sender.emit(|| AlertEvent::LedgerRestored);
        }
        test.engine.alerting.sender.add_channel();
        assert!(!test.tick(1).contains(&"halted"), "the queue is full");
        test.engine.ledger().resume(Operator::new("test"), now);
        assert_eq!(test.tick(1), ["resumed"]);
    }

    #[test]
    fn purchases_that_are_returned_and_unknown_orders_that_are_resolved_are_reported() {
        let test = AlertTest::new(Budget::default());
        let change = |from, to| {
            let (id, price) = (TradeId::new("a").unwrap(), Amount::from_cents(500));
            test.engine.alert_change(&StateChange { id, from, to, price });
            test.kinds()
        };
        use OrderState::{Bought, Completed, NotBought, Returned, Returning, Unknown};
        assert_eq!(change(Bought, Returning), ["returned"]);
        assert_eq!(change(Returning, Returned), ["returned"]);
        assert_eq!(change(Unknown, Bought), ["bought"]);
        assert_eq!(change(Unknown, NotBought), ["unknown"]);
        assert_eq!(change(Bought, Completed), [""; 0]);
    }

    #[test]
    fn what_an_earlier_run_left_unresolved_is_reported_once_at_the_start() {
        let coins = Amount::from_cents(10_000);
        let mut test = AlertTest::new(Budget {
            max_price: coins,
            total: coins,
            max_buys_per_minute: 9,
            max_in_flight: 9,
            ..Budget::default()
        });
        let now = test.now().wall;
        let (id, price, keyed_by) =
            (TradeId::new("a").unwrap(), Amount::from_cents(500), KeyedBy::Id);
        let request = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
        let ledger = test.engine.ledger();
        let _approved = ledger.reserve(request, now).unwrap();
        let unknown = Outcome::Unknown(crate::domain::outcome::Unknown::Cut);
        let _effects = ledger.settle(&request.key(), &unknown, now).unwrap();
        let snapshot = test.engine.ledger().snapshot(now);
        let moment = test.now();
        test.engine.watch_for_alerts(&snapshot, moment);
        let events: Vec<AlertEvent> = test.events.try_iter().map(|it| it.event).collect();
        let lost = snapshot.loss;
        assert_eq!(events, [AlertEvent::Unresolved { orders: 1, coins: price, lost }]);
        test.engine.alerting.sender.add_channel();
        assert_eq!(test.tick(10), [""; 0]);
    }

    #[test]
    fn a_new_channel_receives_halts_and_a_low_balance() {
        let mut test =
            AlertTest::new(Budget { min_balance: Amount::from_cents(500), ..Budget::default() });
        let now = test.now().wall;
        let _effects = test.engine.ledger().set_balance(Amount::from_cents(499), now, now);
        let _effects = test.engine.ledger().halt(HaltReason::OtherAccount, now);
        assert_eq!(test.tick(1), ["halted", "balance_low"]);
        assert_eq!(test.tick(1), [""; 0]);
        test.engine.alerting.sender.add_channel();
        assert_eq!(test.tick(1), ["halted", "balance_low"]);
        assert_eq!(test.tick(1), [""; 0]);
    }

    #[test]
    fn a_ledger_that_cannot_be_written_is_reported_and_its_end_too() {
        let directory = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (directory.path().join("data"), directory.path().join("elsewhere"));
        let location = crate::ledger::LedgerLocation {
            folder: data.clone(),
            host: "market.example".to_owned(),
            boot: None,
            uptime_ms: None,
        };
        let mut test = AlertTest::new(Budget::default());
        let now = test.now().wall;
        test.engine.ledger = Ledger::open(&location, Budget::default(), &[entry()], now).unwrap();
        assert_eq!(test.tick(5), [""; 0]);
        let mut until_reported = |from, to| {
            std::fs::rename(from, to).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let kinds = test.tick(5);
                if !kinds.is_empty() || deadline < Instant::now() {
                    return kinds;
                }
                std::thread::yield_now();
            }
        };
        assert_eq!(until_reported(&data, &elsewhere), ["disk"]);
        assert_eq!(until_reported(&elsewhere, &data), ["disk"], "restored");
    }

    #[test]
    fn a_halt_is_reported_and_shown_with_the_item_that_it_is_about() {
        let mut test = AlertTest::new(Budget::default());
        let (id, now) = (TradeId::new("VHJhZGU6OQ").unwrap(), test.now());
        test.engine.names.insert(id, "Glove Case".to_owned());
        let _effects = test.engine.ledger().halt(HaltReason::Contradiction { id }, now.wall);
        let snapshot = test.engine.ledger().snapshot(now.wall);
        test.engine.watch_for_alerts(&snapshot, now);
        let alert = test.events.try_recv().unwrap();
        let feed = crate::ledger::status::FeedStatus::default();
        let view = test.engine.view(feed, Duration::ZERO, now);
        for text in [alert.event.text(), view.status.halts[0].reason.clone()] {
            assert!(text.contains("\"Glove Case\"") && !text.contains(id.as_str()), "{text}");
        }
    }
}
