//! Alerts of the engine: outcomes of orders as they happen, and changes of its state at each tick.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    OrderSender,
    engine::{Engine, Now, PendingOrder},
};
use crate::{
    account::ReadKind,
    alerts::{AlertEvent, AlertOrder, AlertSender, BudgetLeft, SessionFigures},
    clock::local,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeId},
    ledger::{
        Halt, HaltReason, OrderState, RiskRejection, Snapshot, StateChange,
        price_status::is_needed, status::LedgerStatus,
    },
};

/// Minimum interval of alerts about the same limit.
const LIMIT_INTERVAL: Duration = Duration::from_secs(3_600);

/// Interval at which the age of the prices and the state of the ledger's files are checked.
const SLOW_INTERVAL: Duration = Duration::from_secs(5);

/// Time for which the account may be unreadable after the start before that is reported.
const ACCOUNT_GRACE: Duration = Duration::from_secs(120);

/// Time after a start or reload within which stale prices are not reported: a download may take
/// some minutes.
const PRICES_GRACE: Duration = Duration::from_secs(120);

/// State at the last tick, and the reported conditions.
#[derive(Debug, Default)]
pub(super) struct EngineAlerts {
    pub(super) sender: AlertSender,
    /// Price sources, in the order of the settings.
    sources: Vec<WatchedSource>,
    /// Time of the first tick with these sources.
    sources_since: Option<Instant>,
    halts: Vec<HaltReason>,
    /// The balance at which it is no longer low; `None` while it is not low.
    low_until: Option<Amount>,
    has_ledger_failed: bool,
    /// `true` if each entry is paused, or a limit of its own or its group is used up.
    is_every_entry_closed: bool,
    is_account_unread: bool,
    /// Time of the last check at [`SLOW_INTERVAL`].
    checked_at: Option<Instant>,
    /// Time of the last alert about each limit, by its name.
    limits: HashMap<&'static str, Instant>,
}

#[derive(Clone, Debug)]
struct WatchedSource {
    name: String,
    /// Identifies the source in alerts, also at another position of the settings.
    number: usize,
    /// `true` if its prices were stale at the last check, and an entry needed them.
    is_stale: bool,
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
        let mut free = old.iter().map(|it| it.number.saturating_add(1)).max().unwrap_or(0)..;
        sources.extend(names.into_iter().filter_map(|name| {
            let kept = old.iter().position(|it| it.name == name).map(|at| old.swap_remove(at));
            let new = |number| WatchedSource { name, number, is_stale: false };
            kept.or_else(|| free.next().map(new))
        }));
        for WatchedSource { name, number: source, .. } in old.into_iter().filter(|it| it.is_stale) {
            sender.emit(crate::clock::wall(), || AlertEvent::PricesRemoved { source, name });
        }
        *sources_since = None;
    }

    /// Emits the final outcome of an order. `snapshot` is the ledger after a purchase.
    pub(super) fn alert_outcome(
        &self,
        outcome: &Outcome,
        order: &PendingOrder,
        snapshot: Option<&Snapshot>,
        now: UnixMs,
    ) {
        let (name, price) = (&order.market_name, order.price);
        let order = |price| AlertOrder { item: Some(name.clone()), price };
        match outcome {
            Outcome::Bought { price: paid, .. } => self.alerting.sender.emit(now, || {
                let left = snapshot.map(BudgetLeft::of);
                AlertEvent::Bought { order: order(paid.unwrap_or(price)), left }
            }),
            Outcome::Rejected(reason) => self
                .alerting
                .sender
                .emit(now, || AlertEvent::Rejected { order: order(price), reason: *reason }),
            // Nothing was spent, so there is nothing to report.
            Outcome::NotSent(_) => {}
            Outcome::Unknown(reason) => self.alerting.sender.emit(now, || AlertEvent::Unknown {
                order: order(price),
                reason: reason.to_string(),
            }),
        }
    }

    pub(super) fn alert_would_buy(&self, trade: &Trade<'_>, price: Amount, now: UnixMs) {
        self.alerting.sender.emit(now, || {
            let item = Some(trade.full_name().into_owned());
            AlertEvent::WouldBuy { order: AlertOrder { item, price } }
        });
    }

    /// Emits a state change of an order that did not come from its own response.
    pub(super) fn alert_change(&self, change: &StateChange) {
        let StateChange { id, from, to, price } = change;
        let order = || AlertOrder { item: self.names.get(id).cloned(), price: *price };
        let emit = |event: fn(AlertOrder) -> AlertEvent| {
            self.alerting.sender.emit(crate::clock::wall(), || event(order()));
        };
        match (from, to) {
            (OrderState::Unknown, OrderState::NotBought) => {
                emit(|order| AlertEvent::NotBought { order });
            }
            (OrderState::Unknown, OrderState::Bought | OrderState::Completed) => {
                emit(|order| AlertEvent::Bought { order, left: None });
            }
            (_, OrderState::Returning) => emit(|order| AlertEvent::Cancelled { order }),
            (_, OrderState::Returned) => emit(|order| AlertEvent::Refunded { order }),
            _ => {}
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

    /// Emits a limit that prevented an order, once per [`LIMIT_INTERVAL`]. Entries and groups share
    /// the interval of a limit, so that many of them cause one alert.
    pub(super) fn alert_limit(&mut self, rejection: &RiskRejection, trade: &Trade<'_>, now: Now) {
        if let RiskRejection::MinBalance { balance, price, min } = rejection {
            let enough = min.saturating_add(*price);
            return self.alert_low_balance(*balance, *min, enough, now.wall);
        }
        let is_limit = matches!(
            rejection,
            RiskRejection::EntryQuantity { .. }
                | RiskRejection::EntryTotal { .. }
                | RiskRejection::GroupQuantity { .. }
                | RiskRejection::GroupTotal { .. }
                | RiskRejection::Total { .. }
                | RiskRejection::PerHour { .. }
                | RiskRejection::PerDay { .. }
                | RiskRejection::PerMinute { .. }
                | RiskRejection::SharedAmount { .. }
                | RiskRejection::SharedQuantity { .. }
                | RiskRejection::Full { .. }
        );
        let limit = rejection.name();
        let last = self.alerting.limits.get(limit);
        let is_recent =
            last.is_some_and(|last| now.instant.saturating_duration_since(*last) < LIMIT_INTERVAL);
        if !is_limit || is_recent {
            return;
        }
        self.alerting.limits.insert(limit, now.instant);
        let is_slice = matches!(
            rejection,
            RiskRejection::SharedAmount { .. } | RiskRejection::SharedQuantity { .. }
        );
        let away =
            self.sharing.as_ref().filter(|_| is_slice).and_then(|it| it.status.error.as_ref());
        self.alerting.sender.emit(now.wall, || AlertEvent::LimitReached {
            limit,
            text: match away {
                Some(error) => format!("{rejection}; it cannot grow without the database: {error}"),
                None => rejection.to_string(),
            },
            item: trade.full_name().into_owned(),
        });
    }

    /// Emits a low balance once, until the balance is `enough` again.
    fn alert_low_balance(&mut self, balance: Amount, min: Amount, enough: Amount, now: UnixMs) {
        if self.alerting.low_until.is_none() {
            self.alerting.low_until = Some(enough);
            self.alerting.sender.emit(now, || AlertEvent::BalanceLow { balance, min });
        }
    }

    /// Compares halts, balance, prices and ledger with the last tick, and publishes the figures.
    pub(super) fn watch_for_alerts(&mut self, snapshot: &Snapshot, now: Now) {
        let since = *self.alerting.sources_since.get_or_insert(now.instant);
        let alerting = &mut self.alerting;
        if alerting.checked_at.is_none() && (snapshot.unknown > 0 || snapshot.loss.count > 0) {
            let (orders, coins, lost) = (snapshot.unknown, snapshot.unknown_coins, snapshot.loss);
            let event = || AlertEvent::Unresolved { orders, coins, lost };
            alerting.sender.emit(now.wall, event);
        }
        // What lasts is emitted again; what has ended meanwhile still has an end.
        let repeats = alerting.sender.take_new_channel();
        self.watch_halts(&snapshot.halts, repeats, now.wall);
        self.watch_balance(snapshot, repeats, now.wall);
        let is_due = |last: Instant| SLOW_INTERVAL <= now.instant.saturating_duration_since(last);
        if repeats || self.alerting.checked_at.is_none_or(is_due) {
            self.alerting.checked_at = Some(now.instant);
            self.alerting.is_every_entry_closed = self.scan_entries();
            self.watch_ledger(repeats, now.wall);
            self.watch_account(snapshot, repeats, now.wall);
            if PRICES_GRACE <= now.instant.saturating_duration_since(since) {
                self.watch_prices(repeats, now.wall);
            }
        }
        self.alerting.sender.turn(|| self.figures(snapshot));
    }

    fn figures(&self, snapshot: &Snapshot) -> SessionFigures {
        let stats = &self.stats;
        let mut left = BudgetLeft::of(snapshot);
        let is_live = self.executor.is_live();
        if !is_live {
            // A dry run spends nothing.
            left.balance = snapshot.balance;
        }
        SessionFigures {
            is_live,
            obstacle: self.obstacle(snapshot),
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
    fn obstacle(&self, snapshot: &Snapshot) -> Option<&'static str> {
        let shared = self.sharing.as_ref().map(|sharing| &sharing.status);
        let is_live = self.executor.is_live();
        if !snapshot.halts.is_empty() {
            Some("ordering halted")
        } else if self.alerting.has_ledger_failed {
            Some("ledger not writable")
        } else if is_live && !snapshot.reconciled {
            Some("account not compared yet")
        } else if is_live && snapshot.paused_until.is_some() {
            Some("paused by the market")
        } else if is_live && let Some(status) = shared.filter(|status| !status.is_active()) {
            Some(if status.is_standby() { "on standby" } else { "no permit of the shared budget" })
        } else {
            let is_slice_used = shared.is_some_and(|shared| shared.slice <= shared.used);
            let slice = is_slice_used.then_some("its slice of the shared budget is used up");
            let is_closed = self.alerting.is_every_entry_closed;
            let entries = is_closed.then_some("every entry is paused or has used up a limit");
            snapshot.used_up().or(slice).or(entries)
        }
    }

    /// Emits new halts, which are compared by reason, because one may have replaced another since
    /// the last tick. What finds no room in the queue is emitted at the next tick.
    fn watch_halts(&mut self, halts: &[Halt], repeats: bool, now: UnixMs) {
        let alerting = &self.alerting;
        if halts.is_empty()
            && !alerting.halts.is_empty()
            && !alerting.sender.try_emit(now, || AlertEvent::Resumed)
        {
            return;
        }
        let is_told = |halt: &&Halt| {
            let Halt { at: since, reason, .. } = **halt;
            let text = || halt.with_item(self.halted_item(&reason));
            let event = || AlertEvent::Halted { since: local(since), reason, text: text() };
            let is_known = alerting.halts.contains(&reason);
            // A known halt has an end to emit also if it cannot be repeated now.
            let is_sent = (!is_known || repeats) && alerting.sender.try_emit(now, event);
            is_known || is_sent
        };
        self.alerting.halts = halts.iter().filter(is_told).map(|halt| halt.reason).collect();
    }

    /// Emits that no order is sent because a live bot could not read its account since the start.
    fn watch_account(&mut self, snapshot: &Snapshot, repeats: bool, now: UnixMs) {
        let is_required = |read| matches!(read, ReadKind::Balance | ReadKind::Purchases);
        let is_long = |since: UnixMs| ACCOUNT_GRACE <= now.since(since);
        let mut failing = self.notified.health.failing();
        let failing = failing.find(|(read, it)| is_required(*read) && is_long(it.since));
        let failing = failing.filter(|_| self.executor.is_live() && !snapshot.reconciled);
        let alerting = &mut self.alerting;
        match failing {
            // A halt has its own alert.
            Some((read, it))
                if snapshot.halts.is_empty()
                    && (!std::mem::replace(&mut alerting.is_account_unread, true) || repeats) =>
            {
                let cause = format!("{}: {}", read.name(), it.cause.text());
                let (since, remedy) = (local(it.since), it.cause.remedy().to_owned());
                let event = || AlertEvent::AccountUnread { since, cause, remedy };
                alerting.sender.emit(now, event);
            }
            None if snapshot.reconciled && std::mem::take(&mut alerting.is_account_unread) => {
                alerting.sender.emit(now, || AlertEvent::AccountRead);
            }
            _ => {}
        }
    }

    fn watch_balance(&mut self, snapshot: &Snapshot, repeats: bool, now: UnixMs) {
        let min = snapshot.budget.min_balance;
        if let Some(balance) = snapshot.balance.filter(|_low| snapshot.is_below_min_balance()) {
            if repeats {
                self.alerting.low_until = None;
            }
            return self.alert_low_balance(balance, min, min, now);
        }
        if let (Some(enough), Some(balance)) = (self.alerting.low_until, snapshot.available_min) {
            if enough <= balance {
                self.alerting.low_until = None;
                self.alerting.sender.emit(now, || AlertEvent::BalanceRestored { balance });
            } else if repeats {
                self.alerting.sender.emit(now, || AlertEvent::BalanceLow { balance, min });
            }
        }
    }

    fn watch_ledger(&mut self, repeats: bool, now: UnixMs) {
        let failure = self.ledger.failure();
        let had_failed = self.alerting.has_ledger_failed;
        self.alerting.has_ledger_failed = failure.is_some();
        match failure {
            Some(cause) if repeats || !had_failed => {
                self.alerting.sender.emit(now, || AlertEvent::LedgerFailed { cause });
            }
            None if had_failed => self.alerting.sender.emit(now, || AlertEvent::LedgerRestored),
            _ => {}
        }
    }

    fn watch_prices(&mut self, repeats: bool, now: UnixMs) {
        let EngineAlerts { sender, sources, .. } = &mut self.alerting;
        let entries = self.whitelist.entries();
        for (index, (watched, table)) in sources.iter_mut().zip(self.prices.sources()).enumerate() {
            // A reported one ends with fresh prices, also if no entry needs it any more.
            let is_stale = table.is_stale(now)
                && (watched.is_stale || is_needed(index, &self.prices, entries, now));
            let is_same = std::mem::replace(&mut watched.is_stale, is_stale) == is_stale;
            if is_same && !(repeats && is_stale) {
                continue;
            }
            let (source, name) = (watched.number, watched.name.clone());
            let age = table.has_table().then(|| now.since(table.newest));
            sender.emit(now, || {
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
    use std::sync::{Arc, Mutex, mpsc::Receiver};

    use super::{super::engine::Executor, *};
    use crate::{
        account::FailureCause,
        alerts::Alert,
        config::Budget,
        domain::{
            outcome::{NotSent, RejectReason},
            percent_rule::CoinUsd,
            server_clock::ServerClock,
            trade::KeyedBy,
        },
        execution::response::SentRequest,
        ledger::{ApprovedOrder, Ledger, Operator, OrderRequest},
        prices::{BookTable, PriceBook, PriceTable},
        whitelist::{
            Whitelist,
            tests::{REDLINE, entry, percent_entry, trade},
        },
    };

    /// Order sender that accepts every order.
    #[derive(Debug)]
    struct Accepts;

    impl OrderSender for Accepts {
        fn send(&self, _approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
            let now = Instant::now();
            Ok(SentRequest { ready: now, begun: now, written: now })
        }
    }

    struct Watched {
        engine: Engine<Accepts>,
        events: Receiver<Alert>,
        start: Instant,
        seconds: u64,
    }

    impl Watched {
        fn new(budget: Budget) -> Self {
            let entry = entry();
            let ledger = Ledger::in_memory(budget, std::slice::from_ref(&entry), false);
            let start = Instant::now();
            let clock = Arc::new(Mutex::new(ServerClock::new(start)));
            let whitelist = Arc::new(Whitelist::new(vec![entry]));
            let mut engine =
                Engine::new(whitelist, ledger, Executor::Live(Accepts), KeyedBy::Id, clock);
            let (sender, events) = AlertSender::with_queue();
            engine.set_alerts(sender, vec!["buff".to_owned()]);
            Self { engine, events, start, seconds: 0 }
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
        let mut watched = Watched::new(Budget::default());
        assert_eq!(watched.tick(1), [""; 0]);
        let now = watched.now().wall;
        let halt = |reason, watched: &mut Watched| {
            let effects = watched.engine.ledger().halt(reason, now);
            assert_eq!(effects.halts.len(), 1);
        };
        halt(HaltReason::OtherAccount, &mut watched);
        assert_eq!(watched.tick(1), ["halted"]);
        assert_eq!(watched.tick(1), [""; 0]);
        halt(HaltReason::Rejected(RejectReason::Unauthenticated), &mut watched);
        halt(HaltReason::Rejected(RejectReason::Challenge), &mut watched);
        assert_eq!(watched.tick(1), ["credential_refused", "challenge"]);
        watched.engine.ledger().resume(Operator::new("test"), now);
        assert_eq!(watched.tick(1), ["resumed"]);
        assert_eq!(watched.tick(1), [""; 0]);
    }

    #[test]
    fn a_halt_that_replaces_another_between_two_ticks_is_reported_once() {
        let mut watched = Watched::new(Budget::default());
        let now = watched.now().wall;
        let halt = |reason, watched: &mut Watched| {
            assert_eq!(watched.engine.ledger().halt(reason, now).halts.len(), 1);
        };
        halt(HaltReason::OtherAccount, &mut watched);
        assert_eq!(watched.tick(1), ["halted"]);
        watched.engine.ledger().resume(Operator::new("test"), now);
        halt(HaltReason::Rejected(RejectReason::Challenge), &mut watched);
        assert_eq!(watched.tick(1), ["challenge"]);
        assert_eq!(watched.tick(1), [""; 0]);
    }

    #[test]
    fn a_limit_is_reported_once_an_hour_and_a_skip_for_another_reason_never() {
        let mut watched = Watched::new(Budget::default());
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
            watched.seconds += after;
            let now = watched.now();
            watched.engine.alert_limit(rejection, &listing, now);
            assert_eq!(watched.kinds(), vec!["limit_reached"; expected], "{rejection}");
        }
    }

    #[test]
    fn a_halt_that_finds_no_room_in_the_queue_is_reported_at_the_next_tick() {
        let mut watched = Watched::new(Budget::default());
        let now = watched.now().wall;
        let fill = |watched: &Watched| {
            for _ in 0..crate::alerts::QUEUED_MAX {
                watched.engine.alerting.sender.emit(now, || AlertEvent::LedgerRestored);
            }
        };
        fill(&watched);
        assert_eq!(watched.engine.ledger().halt(HaltReason::OtherAccount, now).halts.len(), 1);
        assert!(!watched.tick(1).contains(&"halted"), "the queue is full");
        assert_eq!(watched.tick(1), ["halted"]);
        fill(&watched);
        watched.engine.ledger().resume(Operator::new("test"), now);
        assert!(!watched.tick(1).contains(&"resumed"), "the queue is full");
        assert_eq!(watched.tick(1), ["resumed"]);
    }

    #[test]
    fn an_account_that_cannot_be_read_since_the_start_is_reported_with_its_end() {
        let mut watched = Watched::new(Budget::default());
        let max_price = Amount::from_cents(100);
        watched.engine.ledger =
            Ledger::in_memory(Budget { max_price, ..Budget::default() }, &[entry()], true);
        let fail = |watched: &mut Watched| {
            let cause = FailureCause::new("502".to_owned(), "HTTP 502", "wait");
            let now = watched.now();
            watched.engine.report_failed(ReadKind::Purchases, cause, now);
        };
        fail(&mut watched);
        assert_eq!(watched.tick(ACCOUNT_GRACE.as_secs() - 1), [""; 0]);
        assert_eq!(watched.tick(6), ["halted"]);
        assert_eq!(watched.tick(6), [""; 0]);
        let now = watched.now().wall;
        let _effects = watched.engine.ledger().set_balance(Amount::from_cents(100_000), now, now);
        watched.engine.ledger().reconcile_without_list(now, now);
        assert_eq!(watched.tick(6), ["resumed"]);
    }

    #[test]
    fn a_low_balance_is_reported_once_until_it_is_restored() {
        let budget = Budget { min_balance: Amount::from_cents(500), ..Budget::default() };
        let mut watched = Watched::new(budget);
        let balance = |cents, watched: &mut Watched| {
            watched.seconds += 60;
            let now = watched.now().wall;
            let effects = watched.engine.ledger().set_balance(Amount::from_cents(cents), now, now);
            assert!(effects.halts.is_empty());
        };
        assert_eq!(watched.tick(1), [""; 0], "it is not known");
        balance(499, &mut watched);
        assert_eq!(watched.tick(1), ["balance_low"]);
        assert_eq!(watched.tick(1), [""; 0]);
        balance(500, &mut watched);
        assert_eq!(watched.tick(1), ["balance_low"], "restored");
        let (price, min) = (Amount::from_cents(400), Amount::from_cents(500));
        let rejection = RiskRejection::MinBalance { balance: price, price, min };
        let now = watched.now();
        for expected in [1, 0] {
            watched.engine.alert_limit(&rejection, &trade("a", REDLINE), now);
            assert_eq!(watched.kinds().len(), expected);
        }
        balance(800, &mut watched);
        assert_eq!(watched.tick(1), [""; 0], "not enough for that order");
        balance(900, &mut watched);
        assert_eq!(watched.tick(1), ["balance_low"]);
    }

    #[test]
    fn the_figures_name_a_limit_that_is_used_up_and_entries_that_are_all_paused() {
        let coins = Amount::from_cents(10_000);
        let budget = Budget { max_price: coins, total: coins, ..Budget::default() };
        let mut watched = Watched::new(budget);
        let now = watched.now().wall;
        let ledger = watched.engine.ledger();
        ledger.reconcile_without_list(now, now);
        let obstacle = |watched: &mut Watched| {
            watched.tick(5);
            let now = watched.now().wall;
            let snapshot = watched.engine.ledger().snapshot(now);
            watched.engine.figures(&snapshot).obstacle
        };
        assert_eq!(obstacle(&mut watched), None);
        watched.engine.whitelist.set_paused_where(true, |_entry| true);
        let paused = Some("every entry is paused or has used up a limit");
        assert_eq!(obstacle(&mut watched), paused);
        watched.engine.whitelist.set_paused_where(false, |_entry| true);
        assert_eq!(obstacle(&mut watched), None);
        let mut snapshot = watched.engine.ledger().snapshot(now);
        for (spent, hour, expected) in [
            (coins, coins, "limit total is used up"),
            (Amount::ZERO, coins, "limit per_hour is used up"),
        ] {
            (snapshot.spent, snapshot.spent_in_hour) = (spent, hour);
            snapshot.budget.per_hour = Some(coins);
            assert_eq!(watched.engine.figures(&snapshot).obstacle, Some(expected));
        }
    }

    #[test]
    fn prices_that_no_entry_needs_are_not_reported() {
        let mut watched = Watched::new(Budget::default());
        let (max_age, coin) = (Duration::from_secs(600), Some(CoinUsd::ONE));
        let table = BookTable { table: None, at: UnixMs(0), max_age, coin };
        watched.engine.set_prices(Arc::new(PriceBook::new(&[table])));
        assert_eq!(watched.tick(1), [""; 0]);
        assert_eq!(watched.tick(130), [""; 0]);
        watched.need_prices(&[0]);
        assert_eq!(watched.tick(10), ["prices_stale"]);
        watched.need_prices(&[]);
        assert_eq!(watched.tick(10), [""; 0], "it has an end when they are fresh");
    }

    #[test]
    fn prices_that_become_too_old_are_reported_and_fresh_ones_again() {
        let mut watched = Watched::new(Budget::default());
        let book = |at| {
            let max_age = Duration::from_secs(600);
            let table = PriceTable::default();
            let table = (at != UnixMs(0)).then_some(&table);
            Arc::new(PriceBook::new(&[BookTable { table, at, max_age, coin: Some(CoinUsd::ONE) }]))
        };
        watched.need_prices(&[0, 1]);
        watched.engine.set_prices(book(UnixMs(0)));
        assert_eq!(watched.tick(1), [""; 0], "at the start they may still be downloaded");
        assert_eq!(watched.tick(130), ["prices_stale"]);
        watched.engine.set_prices(book(watched.now().wall));
        assert_eq!(watched.tick(10), ["prices_stale"], "fresh");
        assert_eq!(watched.tick(580), [""; 0]);
        assert_eq!(watched.tick(20), ["prices_stale"]);
        watched.engine.alerting.sender.add_channel();
        assert_eq!(watched.tick(1), ["prices_stale"], "for the new channel");
        watched.engine.set_alert_sources(vec!["other".to_owned(), "buff".to_owned()]);
        assert_eq!(watched.kinds(), [""; 0], "the source remains");
        watched.engine.set_alert_sources(vec!["other".to_owned()]);
        let ends: Vec<_> = watched.events.try_iter().map(|alert| alert.event).collect();
        let name = "buff".to_owned();
        assert_eq!(ends, [AlertEvent::PricesRemoved { source: 0, name }], "its end");
        watched.engine.set_prices(book(UnixMs(0)));
        assert_eq!(watched.tick(10), [""; 0], "after a reload they may still be downloaded");
        assert_eq!(watched.tick(130), ["prices_stale"]);
    }

    #[test]
    fn the_prices_of_a_source_that_moves_end_their_own_alert() {
        let mut watched = Watched::new(Budget::default());
        let book = |ages: [UnixMs; 2]| {
            let (max_age, table) = (Duration::from_secs(600), PriceTable::default());
            let coin = Some(CoinUsd::ONE);
            let table = |at| BookTable { table: Some(&table), at, max_age, coin };
            Arc::new(PriceBook::new(&ages.map(table)))
        };
        let fresh = watched.now().wall.plus(Duration::from_secs(130));
        watched.engine.set_alert_sources(vec!["buff".to_owned(), "other".to_owned()]);
        watched.need_prices(&[0, 1]);
        watched.engine.set_prices(book([UnixMs(1), fresh]));
        assert_eq!(watched.tick(1), [""; 0]);
        assert_eq!(watched.tick(130), ["prices_stale"]);
        watched.engine.set_alert_sources(vec!["other".to_owned(), "buff".to_owned()]);
        watched.engine.set_prices(book([fresh, fresh]));
        assert_eq!(watched.tick(1), [""; 0]);
        watched.seconds += 130;
        let now = watched.now();
        let snapshot = watched.engine.ledger().snapshot(now.wall);
        watched.engine.watch_for_alerts(&snapshot, now);
        let ends: Vec<_> = watched.events.try_iter().map(|alert| alert.event).collect();
        assert_eq!(ends, [AlertEvent::PricesFresh { source: 0, name: "buff".to_owned() }]);
    }

    #[test]
    fn the_end_of_a_halt_is_reported_also_if_the_queue_was_full_for_a_new_channel() {
        let mut watched = Watched::new(Budget::default());
        let now = watched.now().wall;
        let _effects = watched.engine.ledger().halt(HaltReason::OtherAccount, now);
        assert_eq!(watched.tick(1), ["halted"]);
        for _ in 0..crate::alerts::QUEUED_MAX {
            watched.engine.alerting.sender.emit(now, || AlertEvent::LedgerRestored);
        }
        watched.engine.alerting.sender.add_channel();
        assert!(!watched.tick(1).contains(&"halted"), "the queue is full");
        watched.engine.ledger().resume(Operator::new("test"), now);
        assert_eq!(watched.tick(1), ["resumed"]);
    }

    #[test]
    fn purchases_that_are_returned_and_unknown_orders_that_are_resolved_are_reported() {
        let watched = Watched::new(Budget::default());
        let change = |from, to| {
            let (id, price) = (TradeId::new("a").unwrap(), Amount::from_cents(500));
            watched.engine.alert_change(&StateChange { id, from, to, price });
            watched.kinds()
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
        let mut watched = Watched::new(Budget {
            max_price: coins,
            total: coins,
            max_buys_per_minute: 9,
            max_in_flight: 9,
            ..Budget::default()
        });
        let now = watched.now().wall;
        let (id, price, keyed_by) =
            (TradeId::new("a").unwrap(), Amount::from_cents(500), KeyedBy::Id);
        let request = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
        let ledger = watched.engine.ledger();
        let _approved = ledger.reserve(request, now).unwrap();
        let unknown = Outcome::Unknown(crate::domain::outcome::Unknown::Cut);
        let _effects = ledger.settle(&request.key(), &unknown, now).unwrap();
        let snapshot = watched.engine.ledger().snapshot(now);
        let moment = watched.now();
        watched.engine.watch_for_alerts(&snapshot, moment);
        let events: Vec<AlertEvent> = watched.events.try_iter().map(|it| it.event).collect();
        let lost = snapshot.loss;
        assert_eq!(events, [AlertEvent::Unresolved { orders: 1, coins: price, lost }]);
        watched.engine.alerting.sender.add_channel();
        assert_eq!(watched.tick(10), [""; 0]);
    }

    #[test]
    fn a_new_channel_is_told_of_halts_and_a_low_balance() {
        let mut watched =
            Watched::new(Budget { min_balance: Amount::from_cents(500), ..Budget::default() });
        let now = watched.now().wall;
        let _effects = watched.engine.ledger().set_balance(Amount::from_cents(499), now, now);
        let _effects = watched.engine.ledger().halt(HaltReason::OtherAccount, now);
        assert_eq!(watched.tick(1), ["halted", "balance_low"]);
        assert_eq!(watched.tick(1), [""; 0]);
        watched.engine.alerting.sender.add_channel();
        assert_eq!(watched.tick(1), ["halted", "balance_low"]);
        assert_eq!(watched.tick(1), [""; 0]);
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
        let mut watched = Watched::new(Budget::default());
        let now = watched.now().wall;
        watched.engine.ledger =
            Ledger::open(&location, Budget::default(), &[entry()], now).unwrap();
        assert_eq!(watched.tick(5), [""; 0]);
        let mut until_reported = |from, to| {
            std::fs::rename(from, to).unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let kinds = watched.tick(5);
                if !kinds.is_empty() || deadline < Instant::now() {
                    return kinds;
                }
                std::thread::yield_now();
            }
        };
        assert_eq!(until_reported(&data, &elsewhere), ["disk"]);
        assert_eq!(until_reported(&elsewhere, &data), ["disk"], "it is over");
    }

    #[test]
    fn a_halt_is_reported_and_shown_with_the_item_that_it_is_about() {
        let mut watched = Watched::new(Budget::default());
        let (id, now) = (TradeId::new("VHJhZGU6OQ").unwrap(), watched.now());
        watched.engine.names.insert(id, "Glove Case".to_owned());
        let _effects = watched.engine.ledger().halt(HaltReason::Contradiction { id }, now.wall);
        let snapshot = watched.engine.ledger().snapshot(now.wall);
        watched.engine.watch_for_alerts(&snapshot, now);
        let alert = watched.events.try_recv().unwrap();
        let feed = crate::ledger::status::FeedStatus::default();
        let view = watched.engine.view(feed, Duration::ZERO, now);
        for text in [alert.event.text(), view.status.halts[0].reason.clone()] {
            assert!(text.contains("\"Glove Case\"") && !text.contains(id.as_str()), "{text}");
        }
    }
}
