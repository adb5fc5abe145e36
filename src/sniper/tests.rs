//! Tests of the engine with an order sender that only records its orders.

mod held;
mod items;
mod paused;
mod purchases;
mod shared;
mod waiting;

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    EngineInputs, OrderSender, Sniper,
    engine::{Engine, Executor, HELD_MAX, Now, QUEUED_MAX},
    notified::Notified,
    pauses::PreparedPauses,
    rules::Rules,
};
use crate::{
    account::{AccountUpdate, IncompleteReason, PurchasesReading, UserReading},
    config::Budget,
    domain::account::User,
    domain::money::{Amount, Percent},
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::server_clock::{ClockExchange, ServerClock},
    domain::time::UnixMs,
    domain::trade::{KeyedBy, Trade, TradeEvent, TradeId, TradeKey, TradeNotice, TradeStatus},
    execution::response::{ExchangeResult, OrderReport, ResponseError, SentRequest},
    ledger::{
        AccountReading, ApprovedOrder, HaltReason, Ledger, LedgerLocation, OwnTrade,
        event::OrderState, tests::disk,
    },
    prices::PriceSnapshot,
    whitelist::{
        ItemPattern, Whitelist, WhitelistEntry,
        tests::{REDLINE, entry, trade},
    },
    ws::FeedMetrics,
};

/// Order sender that records its orders, and fails while it is down.
#[derive(Debug, Default)]
struct FakeOrderSender {
    sent: RefCell<Vec<String>>,
    is_down: Cell<bool>,
    /// Number of connections that seem ready but are closed when the next orders use them.
    closed: Cell<u32>,
    /// Number of runs of cache warming.
    warmed: Cell<u32>,
}

impl OrderSender for FakeOrderSender {
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        if self.is_down.get() {
            return Err(NotSent::NoConnection);
        }
        if let Some(left) = self.closed.get().checked_sub(1) {
            self.closed.set(left);
            return Err(NotSent::Closed);
        }
        self.sent.borrow_mut().push(approved.id().to_string());
        let now = Instant::now();
        Ok(SentRequest { ready: now, begun: now, written: now })
    }

    fn is_ready(&self) -> bool {
        !self.is_down.get()
    }

    fn warm_caches(&self) {
        self.warmed.set(self.warmed.get() + 1);
    }
}

/// Engine with a simulated time.
struct TestSession {
    engine: Engine<FakeOrderSender>,
    start: Instant,
    after: Duration,
}

fn ample_budget() -> Budget {
    Budget {
        max_price: Amount::from_cents(100_000),
        total: Amount::from_cents(1_000_000),
        min_balance: Amount::ZERO,
        max_buys_per_minute: 1_000,
        max_in_flight: 100,
        ..Budget::default()
    }
}

impl TestSession {
    fn new(
        executor: Executor<FakeOrderSender>,
        budget: Budget,
        entries: Vec<WhitelistEntry>,
    ) -> Self {
        let ledger = Ledger::in_memory(budget, &entries, false);
        let start = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(start)));
        let engine =
            Engine::new(Arc::new(Whitelist::new(entries)), ledger, executor, KeyedBy::Id, clock);
        Self { engine, start, after: Duration::ZERO }
    }

    fn live(budget: Budget) -> Self {
        let entry = WhitelistEntry { max_quantity: 1_000, ..entry() };
        Self::new(Executor::Live(FakeOrderSender::default()), budget, vec![entry])
    }

    /// The server's clock equals the local one, and starts at 2,000,000 ms.
    fn now(&self) -> Now {
        let wall = UnixMs(2_000_000).plus(self.after);
        Now { instant: self.start + self.after, wall }
    }

    fn sync_clock(&mut self) {
        let at = self.now();
        let exchange = ClockExchange { sent: at.instant, received: at.instant };
        self.engine.clock().observe_stamp(exchange, at.wall);
    }

    fn consider(&mut self, trade: Trade<'_>) {
        let now = self.now();
        self.engine.consider(trade, now);
        self.engine.finish_sent_orders();
    }

    fn run_timers(&mut self) -> Option<Instant> {
        let now = self.now();
        let next = self.engine.run_timers(now);
        self.engine.finish_sent_orders();
        next
    }

    fn sent(&self) -> Vec<String> {
        match &self.engine.executor {
            Executor::Live(orders) => orders.sent.borrow().clone(),
            Executor::Dry => Vec::new(),
        }
    }

    fn skipped(&self, reason: &str) -> u64 {
        self.engine.stats().skipped.get(reason).copied().unwrap_or_default()
    }

    /// Settles order "a".
    fn settle(&mut self, outcome: Outcome, is_final: bool) {
        let now = self.now();
        self.engine.on_order_report(&report("a", outcome, is_final), now);
    }

    /// Returns the state of order "a".
    fn state(&mut self) -> Option<OrderState> {
        let id = TradeId::new("a").unwrap();
        self.engine.ledger().state().intent(&id).map(|intent| intent.state)
    }

    /// Returns the numbers of rejected, unknown and bought orders.
    fn counts(&self) -> (u64, u64, u64) {
        let stats = self.engine.stats();
        (stats.rejected, stats.unknown, stats.bought)
    }
}

const BOUGHT: Outcome = Outcome::Bought { price: None, server_time: None };

#[test]
fn a_matched_listing_is_ordered_once() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", "Fracture Case"));
    assert_eq!(session.sent(), ["a"]);
    let stats = session.engine.stats();
    assert_eq!((stats.listings, stats.matched, stats.repeated), (3, 1, 1));
}

#[test]
fn a_dry_run_sends_nothing_and_meets_the_limits_of_a_live_one() {
    let budget = Budget { total: Amount::from_cents(2_500), ..ample_budget() };
    let entry = WhitelistEntry { max_quantity: 10, ..entry() };
    let mut session = TestSession::new(Executor::Dry, budget, vec![entry]);
    for id in ["a", "b", "c"] {
        session.consider(trade(id, REDLINE));
    }
    let stats = session.engine.stats();
    assert_eq!((stats.would_buy, stats.bought), (2, 0));
    assert_eq!(stats.would_spend, Amount::from_cents(2_030));
    assert_eq!(session.skipped("total"), 1);
}

#[test]
fn skips_are_counted_by_reason_name() {
    let mut session = TestSession::live(ample_budget());
    session.consider(Trade { status: TradeStatus::Joined, ..trade("a", REDLINE) });
    session.consider(Trade { is_own: true, ..trade("b", REDLINE) });
    session.consider(Trade { base_value: Some(Amount::from_cents(900)), ..trade("c", REDLINE) });
    assert!(session.sent().is_empty());
    assert_eq!(session.skipped("not listed any more"), 1);
    assert_eq!(session.skipped("own listing"), 1);
    assert_eq!(session.skipped("markup does not agree"), 1);
}

#[test]
fn new_rules_apply_to_held_and_later_listings() {
    let name = Some("redline".to_owned());
    let old = [WhitelistEntry { name, max_quantity: 1_000, ..entry() }];
    let executor = Executor::Live(FakeOrderSender::default());
    let mut session = TestSession::new(executor, ample_budget(), old.to_vec());
    session.sync_clock();
    let held = |id, price| {
        let total_value = Some(Amount::from_cents(price));
        Trade {
            can_join_after: Some(UnixMs(2_003_000)),
            total_value,
            base_value: total_value,
            markup_percent: Some(Percent::from_hundredths(0)),
            ..trade(id, REDLINE)
        }
    };
    session.consider(held("a", 1_015));
    session.consider(held("b", 900));
    session.consider(trade("sent", REDLINE));
    assert_eq!(session.engine.unmatched_entries().count(), 0);
    let other = WhitelistEntry { item: ItemPattern::Named("Fracture Case".to_owned()), ..entry() };
    let cheaper = WhitelistEntry { max_price: Amount::from_cents(950), ..old[0].clone() };
    let new = vec![other, cheaper];
    let mut plan = session.engine.ledger().entry_plan();
    assert_eq!(plan.set(&old, &new, false), []);
    let recorder = session.engine.ledger().rules_recorder();
    let rules = Rules {
        whitelist: Arc::new(Whitelist::new(new)),
        pauses: PreparedPauses::default(),
        ledger: recorder.record(plan, ample_budget(), UnixMs(0)).unwrap(),
        prices: PriceSnapshot::default(),
        other_sources: None,
        max_wait: Duration::from_secs(1),
    };
    let now = session.now();
    let replaced = session.engine.replace_rules(rules, now, None);
    assert_eq!(replaced.dropped, 1);
    assert_eq!(session.skipped("no longer on the whitelist"), 1);
    let unmatched: Vec<_> = session.engine.unmatched_entries().map(WhitelistEntry::label).collect();
    assert_eq!(unmatched, ["Fracture Case"], "the other entry has matched before");
    // The order in flight keeps its entry, which is the second one now.
    let pending = session.engine.pending.values().next().unwrap();
    assert_eq!(pending.item.entry, old[0].label());
    session.consider(trade("c", REDLINE));
    session.consider(trade("d", "Fracture Case"));
    session.after = Duration::from_secs(60);
    session.run_timers();
    assert_eq!(session.sent(), ["sent", "d", "b"]);
}

/// Returns listing "a" at a price that is its base price.
fn at_price(cents: i64) -> Trade<'static> {
    let price = Some(Amount::from_cents(cents));
    let markup_percent = Some(Percent::from_hundredths(0));
    Trade { total_value: price, base_value: price, markup_percent, ..trade("a", REDLINE) }
}

#[test]
fn a_listing_is_ordered_again_at_another_price_only_if_it_was_certainly_not_bought() {
    let rejected = Outcome::Rejected(RejectReason::Taken);
    let cases = [
        (KeyedBy::Id, Some(rejected.clone()), 1, 0),
        (KeyedBy::IdAndPrice, Some(rejected), 2, 1),
        // The second price is queued; when the outcome arrives, the first price counts as ordered.
        (KeyedBy::IdAndPrice, Some(Outcome::Unknown(Unknown::Cut)), 1, 1),
        (KeyedBy::IdAndPrice, None, 1, 1),
        (KeyedBy::IdAndPrice, Some(BOUGHT), 1, 2),
    ];
    for (keyed_by, outcome, orders, skipped) in cases {
        let name = format!("{keyed_by:?} {outcome:?}");
        let mut session = TestSession::live(ample_budget());
        session.engine.keyed_by = keyed_by;
        session.consider(at_price(1_000));
        if let Some(outcome) = outcome {
            let key = keyed_by.key(TradeId::new("a").unwrap(), Some(Amount::from_cents(1_000)));
            let (report, now) = (OrderReport { key, ..report("a", outcome, true) }, session.now());
            session.engine.on_order_report(&report, now);
            assert!(session.engine.pending.is_empty(), "{name}");
        }
        session.consider(at_price(990));
        for cents in [990, 1_000] {
            session.consider(at_price(cents));
        }
        assert_eq!(session.sent().len(), orders, "{name}");
        // Each price change is checked against the ledger.
        assert_eq!(session.skipped("already_requested"), skipped, "{name}");
    }
}

/// The event does not contain the buyer. Treating the purchase of another buyer as our own would
/// settle an unknown order as bought, and report a rejected one as an unexpected purchase.
#[test]
fn a_joined_event_does_not_change_a_rejected_or_unknown_order() {
    for outcome in [Outcome::Rejected(RejectReason::NotJoinable), Outcome::Unknown(Unknown::Cut)] {
        let mut session = TestSession::live(ample_budget());
        session.consider(trade("a", REDLINE));
        let id = TradeId::new("a").unwrap();
        let now = session.now().wall;
        session.engine.update_ledger(|ledger| ledger.settle(&key("a"), &outcome, now));
        let before = session.engine.ledger().state().intent(&id).copied();
        let event = TradeEvent::Updated;
        session.consider(Trade { event, status: TradeStatus::Joined, ..trade("a", REDLINE) });
        assert_eq!(session.engine.ledger().state().intent(&id).copied(), before);
        session.consider(trade("b", REDLINE));
        assert_eq!(session.sent(), ["a", "b"], "after {outcome:?}");
    }
}

#[test]
fn a_completed_event_delivers_an_order_and_a_cancelled_event_only_requests_a_refresh() {
    for (status, state) in [
        (TradeStatus::Cancelled, OrderState::Bought),
        (TradeStatus::Completed, OrderState::Completed),
    ] {
        let mut session = TestSession::live(ample_budget());
        session.consider(trade("a", REDLINE));
        let id = TradeId::new("a").unwrap();
        let now = session.now().wall;
        session.engine.update_ledger(|ledger| ledger.settle(&key("a"), &BOUGHT, now));
        let _earlier = session.engine.take_refresh_request();
        session.consider(Trade { event: TradeEvent::Updated, status, ..trade("a", REDLINE) });
        let found = session.engine.ledger().state().intent(&id).map(|intent| intent.state);
        assert_eq!(found, Some(state), "{status}");
        assert_eq!(
            session.engine.take_refresh_request(),
            status == TradeStatus::Cancelled,
            "{status}"
        );
    }
}

#[test]
fn after_a_jump_the_wall_clock_is_unreliable_until_the_account_is_read() {
    let mut session = TestSession::live(ample_budget());
    let now = session.now();
    session.engine.watch_clock(now.wall, now);
    session.engine.watch_clock(now.wall.plus(Duration::from_secs(2)), now);
    assert!(!session.engine.ledger().state().is_clock_unreliable());
    let ahead = |ms| now.wall.plus(Duration::from_millis(ms));
    for set in [ahead(2_001), now.wall, ahead(3_600_000), now.wall.minus(Duration::from_secs(3))] {
        session.engine.watch_clock(set, now);
        assert!(session.engine.ledger().state().is_clock_unreliable());
        session.after += Duration::from_secs(1);
        let reading = PurchasesReading::complete(Vec::new(), session.now().wall);
        let now = session.now();
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
        assert!(!session.engine.ledger().state().is_clock_unreliable());
    }
}

#[test]
fn after_a_jump_forward_nothing_is_ordered_until_the_account_is_read() {
    let mut session = TestSession::live(ample_budget());
    session.engine.ledger = Ledger::in_memory(ample_budget(), &[entry()], true);
    for (drift_ms, is_ready) in [(-3_000, true), (0, false), (3_000, false)] {
        session.after += Duration::from_secs(1);
        let now = session.now();
        let _effects = session.engine.ledger.set_balance(Amount::from_cents(1), now.wall, now.wall);
        let reading = PurchasesReading::complete(Vec::new(), now.wall);
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
        assert!(session.engine.ledger.snapshot(now.wall).reconciled);
        session.after += Duration::from_secs(1);
        let now = session.now();
        session.engine.watch_clock(UnixMs(now.wall.0 + drift_ms), now);
        assert_eq!(session.engine.ledger.snapshot(now.wall).reconciled, is_ready, "{drift_ms}");
    }
}

/// The clock was set back before, and the account has not been read since.
#[test]
fn after_a_second_jump_that_goes_forward_nothing_is_ordered_until_the_account_is_read() {
    let mut session = TestSession::live(ample_budget());
    session.engine.ledger = Ledger::in_memory(ample_budget(), &[entry()], true);
    let now = session.now();
    let _effects = session.engine.ledger.set_balance(Amount::from_cents(1), now.wall, now.wall);
    let reading = PurchasesReading::complete(Vec::new(), now.wall);
    session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
    for (drift_ms, is_ready) in [(-3_000, true), (-1_000, true), (-999, false)] {
        session.engine.watch_clock(UnixMs(now.wall.0 + drift_ms), now);
        assert_eq!(session.engine.ledger.snapshot(now.wall).reconciled, is_ready, "{drift_ms}");
    }
}

/// The ledger was opened while the local clock was a month ahead.
#[test]
fn the_first_date_of_the_server_bounds_the_listings_of_a_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = TestSession::live(ample_budget());
    let Now { instant, wall } = session.now();
    let first = disk::open(folder.path(), "boot", wall);
    disk::wait_until(|| first.is_limit_durable());
    let image = disk::crash_image(folder.path());
    let (location, limits) = (disk::location(image.path(), "other"), disk::limits());
    let ahead = wall.plus(Duration::from_secs(30 * 86_400));
    session.engine.ledger = Ledger::open(&location, limits, &disk::entries(), ahead).unwrap();
    let mut read = |date| {
        let user = User { id: "account-1".to_owned(), ..User::default() };
        let exchange = ClockExchange { sent: instant, received: instant };
        let reading = UserReading { user, as_of: ahead, exchange, date };
        session
            .engine
            .on_account_update(AccountUpdate::User(reading), Now { instant, wall: ahead });
        session.engine.ledger.snapshot(ahead).barrier.unwrap()
    };
    assert!(ahead < read(None), "a market without dates");
    let barrier = read(Some(wall));
    assert!(wall <= barrier && barrier <= wall.plus(Duration::from_secs(2)), "{barrier}");
}

#[test]
fn an_incomplete_list_does_not_end_a_clock_drift() {
    let mut session = TestSession::live(ample_budget());
    let now = session.now();
    session.engine.watch_clock(now.wall.plus(Duration::from_millis(1_500)), now);
    let complete = PurchasesReading::complete(Vec::new(), now.wall);
    let incomplete = Some(IncompleteReason::TooManyPages { pages: 1 });
    let partial = PurchasesReading { incomplete, ..complete };
    session.engine.on_account_update(AccountUpdate::Purchases(partial), now);
    session.engine.watch_clock(now.wall.plus(Duration::from_millis(2_500)), now);
    assert!(session.engine.ledger().state().is_clock_unreliable());
}

/// The first response was a confirmed rejection; a later one reports a purchase.
#[test]
fn the_account_is_read_after_a_late_response_to_a_rejected_order() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(Outcome::Rejected(RejectReason::Taken), true);
    (session.engine.needs_refresh, session.engine.has_unknown_changed) = (false, false);
    session.settle(BOUGHT, true);
    assert_eq!(session.state(), Some(OrderState::Bought));
    assert!(session.engine.needs_refresh && session.engine.has_unknown_changed);
}

fn key(id: &str) -> TradeKey {
    KeyedBy::Id.key(TradeId::new(id).unwrap(), None)
}

fn report(id: &str, outcome: Outcome, is_final: bool) -> OrderReport {
    let now = Instant::now();
    OrderReport {
        key: key(id),
        outcome,
        is_final,
        response: ExchangeResult::Broken { error: ResponseError::Cut, head: None },
        market_error: None,
        sent: SentRequest { ready: now, begun: now, written: now },
        received: now,
    }
}

const fn unconfirmed(reason: RejectReason) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(reason))
}

#[test]
fn an_order_with_two_reports_is_counted_once_by_its_last() {
    let cases = [
        (Outcome::Rejected(RejectReason::Taken), OrderState::Rejected, (1, 0, 0)),
        (Outcome::Unknown(Unknown::Foreign), OrderState::Unknown, (0, 1, 0)),
        (unconfirmed(RejectReason::Taken), OrderState::Unknown, (0, 1, 0)),
        (BOUGHT, OrderState::Bought, (0, 0, 1)),
    ];
    for (last, state, counts) in cases {
        let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
        session.consider(trade("a", REDLINE));
        session.settle(unconfirmed(RejectReason::Taken), false);
        assert_eq!((session.state(), session.counts()), (Some(OrderState::Unknown), (0, 0, 0)));
        assert!(!session.engine.take_refresh_request(), "a rejection requests no refresh");
        // The order does not delay others.
        session.consider(trade("b", REDLINE));
        assert_eq!(session.sent(), ["a", "b"]);
        session.settle(last, true);
        assert_eq!((session.state(), session.counts()), (Some(state), counts));
        assert_eq!(session.engine.stats().internal_errors, 0);
    }
}

#[test]
fn an_unconfirmed_captcha_rejection_halts_ordering_at_once() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(unconfirmed(RejectReason::Captcha), false);
    session.consider(trade("b", REDLINE));
    assert_eq!((session.sent(), session.skipped("halted")), (vec!["a".to_owned()], 1));
    session.settle(Outcome::Rejected(RejectReason::Captcha), true);
    let now = session.now().wall;
    assert_eq!(session.engine.ledger().snapshot(now).halts.len(), 1, "one cause is one halt");
}

#[test]
fn a_rejection_confirmed_after_the_account_listed_the_purchase_halts_and_frees_nothing() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(unconfirmed(RejectReason::Taken), false);
    session.after = Duration::from_millis(1);
    let now = session.now().wall;
    let trades = &[own_trade("a", TradeStatus::Joined)];
    let reading = AccountReading { trades, complete: false, started: now };
    let _effects = session.engine.ledger().reconcile(&reading, None, now);
    session.settle(Outcome::Rejected(RejectReason::Taken), true);
    assert_eq!(session.state(), Some(OrderState::Bought));
    let halts = session.engine.ledger().snapshot(now).halts;
    assert_eq!(halts[0].reason, HaltReason::Contradiction { id: TradeId::new("a").unwrap() });
    // An unknown outcome is no contradiction.
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(unconfirmed(RejectReason::Taken), false);
    session.after = Duration::from_millis(1);
    let _effects = session.engine.ledger().reconcile(&reading, None, now);
    session.settle(Outcome::Unknown(Unknown::Foreign), true);
    assert_eq!(session.state(), Some(OrderState::Bought));
    assert_eq!(session.engine.stats().internal_errors, 0);
}

#[test]
fn a_purchase_reported_after_the_rejection_of_its_order_counts_and_halts() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(Outcome::Rejected(RejectReason::Taken), true);
    assert_eq!(session.state(), Some(OrderState::Rejected));
    session.settle(BOUGHT, true);
    assert_eq!(session.state(), Some(OrderState::Bought));
    let now = session.now().wall;
    let halts = session.engine.ledger().snapshot(now).halts;
    assert_eq!(halts[0].reason, HaltReason::Contradiction { id: TradeId::new("a").unwrap() });
}

fn own_trade(id: &str, status: TradeStatus) -> OwnTrade {
    OwnTrade::bare(TradeId::new(id).unwrap(), status)
}

#[test]
fn a_refund_is_overdue_a_day_after_the_cancellation() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(BOUGHT, true);
    let own = own_trade("a", TradeStatus::Cancelled);
    for (hours, is_overdue) in [(1, false), (24, false), (25, true)] {
        session.after = Duration::from_secs(hours * 3_600);
        let now = session.now();
        let reading = PurchasesReading::complete(vec![own], now.wall);
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
        assert_eq!(session.state(), Some(OrderState::Returning));
        assert_eq!(session.engine.notified.overdue.contains(&own.id), is_overdue, "{hours} h");
    }
}

#[test]
fn another_price_of_a_cancelled_purchase_does_not_delay_the_warning_of_its_refund() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(BOUGHT, true);
    for (hours, price) in [(1, 600), (20, 500), (26, 500)] {
        session.after = Duration::from_secs(hours * 3_600);
        let now = session.now();
        let price = Some(Amount::from_cents(price));
        let own = OwnTrade { price, ..own_trade("a", TradeStatus::Cancelled) };
        let reading = PurchasesReading::complete(vec![own], now.wall);
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
        assert_eq!(session.engine.notified.overdue.contains(&own.id), hours == 26, "{hours} h");
    }
}

#[test]
fn overdue_refunds_beyond_the_logged_ones_are_counted() {
    let mut session = TestSession::live(ample_budget());
    let mut cancelled = Vec::new();
    for number in 0..102 {
        let (id, now) = (format!("order-{number}"), session.now());
        session.consider(trade(&id, REDLINE));
        session.engine.on_order_report(&report(&id, BOUGHT, true), now);
        cancelled.push(own_trade(&id, TradeStatus::Cancelled));
    }
    for (hours, count, expected) in [(1, 101, (0, 0)), (3, 102, (0, 0)), (26, 102, (100, 1))] {
        session.after = Duration::from_secs(hours * 3_600);
        let now = session.now();
        let reading = PurchasesReading::complete(cancelled[..count].to_vec(), now.wall);
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
        let Notified { overdue, overdue_unnamed, .. } = &session.engine.notified;
        assert_eq!((overdue.len(), *overdue_unnamed), expected, "{hours} h");
    }
}

#[test]
fn an_older_purchase_is_evidence_only_for_an_order_of_the_ledger() {
    let mut session = TestSession::live(ample_budget());
    session.consider(trade("a", REDLINE));
    session.settle(BOUGHT, true);
    session.after = Duration::from_secs(1);
    let now = session.now();
    let reading = PurchasesReading::complete(Vec::new(), now.wall);
    session.engine.on_account_update(AccountUpdate::Purchases(reading.clone()), now);
    let older =
        vec![own_trade("a", TradeStatus::Completed), own_trade("other", TradeStatus::Joined)];
    let reading = PurchasesReading { older, ..reading };
    session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
    assert_eq!(session.state(), Some(OrderState::Completed));
    assert_eq!(session.engine.ledger().snapshot(now.wall).halts, []);
}

#[test]
fn a_pushed_balance_requests_a_read_and_is_no_reading() {
    let mut session = TestSession::live(ample_budget());
    let wall = session.now().wall;
    let [read, less, more] = [1_000, 400, 5_000].map(Amount::from_cents);
    let _effects = session.engine.ledger().set_balance(read, wall, wall);
    for (pushed, available, requests_read) in
        [(more, read, true), (read, read, false), (less, less, true)]
    {
        session.engine.on_balance_push(pushed);
        let snapshot = session.engine.ledger().snapshot(wall);
        assert_eq!((snapshot.balance, snapshot.available_min), (Some(read), Some(available)));
        assert_eq!(snapshot.halts, []);
        assert_eq!(session.engine.take_refresh_request(), requests_read, "{pushed}");
    }
}

#[test]
fn a_stopping_session_sends_no_orders() {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    session.engine.stop();
    session.consider(trade("b", REDLINE));
    session.after = Duration::from_secs(10);
    session.run_timers();
    assert!(session.sent().is_empty());
    assert_eq!(session.skipped("stopping"), 2);
}

#[test]
fn an_unreadable_listing_is_counted_and_never_ordered() {
    let mut session = TestSession::live(ample_budget());
    let mut listing = trade("a", REDLINE);
    listing.defects.add(crate::domain::trade::Defect::TotalValue);
    session.consider(listing);
    assert_eq!(session.engine.stats().unreadable, 1);
    assert!(session.sent().is_empty());
}

proptest! {
    /// For any sequence of listings, no listing is ordered twice, no order exceeds the budget, and
    /// every match has exactly one outcome.
    #[test]
    fn every_match_has_exactly_one_outcome(
        listings in prop::collection::vec((0_u8..20, 1_i64..3_000, any::<bool>(), 0_u64..10_000), 0..60),
        total in 0_i64..20_000,
    ) {
        let budget = Budget { total: Amount::from_cents(total), max_in_flight: 3, ..ample_budget() };
        let mut session = TestSession::live(budget);
        session.sync_clock();
        for (number, cents, is_gone, wait) in listings {
            let price = Some(Amount::from_cents(cents));
            session.consider(Trade {
                status: if is_gone { TradeStatus::Joined } else { TradeStatus::Listed },
                total_value: price,
                base_value: price,
                markup_percent: Some(Percent::default()),
                can_join_after: (wait < 5_000).then(|| UnixMs(2_000_000 + i64::try_from(wait).unwrap())),
                ..trade(&format!("t{number}"), REDLINE)
            });
            session.after += Duration::from_millis(wait / 10);
            session.run_timers();
        }
        session.engine.stop();
        let mut sent = session.sent();
        let ordered = u64::try_from(sent.len()).unwrap();
        let stats = session.engine.stats();
        prop_assert_eq!(stats.matched, ordered + stats.skipped_total());
        sent.sort();
        sent.dedup();
        prop_assert_eq!(u64::try_from(sent.len()).unwrap(), ordered);
        let now = session.now().wall;
        prop_assert!(session.engine.ledger.snapshot(now).spent <= Amount::from_cents(total));
    }
}

#[test]
fn cache_warming_changes_nothing_and_pauses_at_its_interval() {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    session.consider(trade("wanted", REDLINE));
    let now = session.now();
    let counted = session.engine.ledger().snapshot(now.wall);
    for after_us in [0, 50, 100] {
        let at = Now { instant: now.instant + Duration::from_micros(after_us), ..now };
        session.engine.warm_caches(Duration::from_micros(100), at);
    }
    let Executor::Live(sender) = &session.engine.executor else { panic!("a dry run") };
    assert_eq!(sender.warmed.get(), 2);
    assert_eq!(session.engine.ledger().snapshot(now.wall), counted);
    assert_eq!(session.sent(), ["wanted"]);
}

#[tokio::test(start_paused = true)]
async fn the_orders_of_a_read_are_sent_before_the_work_that_follows_each() {
    const MOMENT: Duration = Duration::from_millis(1);
    let sniper = Sniper::new(TestSession::live(ample_budget()).engine);
    let (mut inputs, metrics) = (EngineInputs::default(), FeedMetrics::default());
    let mut running = pin!(sniper.run(&mut inputs, &metrics));
    assert!(tokio::time::timeout(MOMENT, &mut running).await.is_err());
    for id in ["a", "b"] {
        sniper.consider(Trade { expires_at: None, created_at: None, ..trade(id, REDLINE) });
    }
    {
        let engine = sniper.lock();
        let Executor::Live(sender) = &engine.executor else { panic!("a dry run") };
        assert_eq!(*sender.sent.borrow(), ["a", "b"]);
        assert_eq!((engine.sent_orders.len(), engine.pending.len()), (2, 0));
    }
    assert!(tokio::time::timeout(MOMENT, &mut running).await.is_err());
    let engine = sniper.lock();
    let counts = (engine.sent_orders.len(), engine.pending.len());
    assert_eq!(counts, (0, 2), "the session was not woken");
}

#[tokio::test(start_paused = true)]
async fn caches_are_kept_warm_without_listings() {
    let sniper = Sniper::new(TestSession::live(ample_budget()).engine);
    let warming = sniper.clone().keep_caches_warm();
    assert!(tokio::time::timeout(Duration::from_millis(10), warming).await.is_err());
    let engine = sniper.engine();
    let Executor::Live(sender) = &engine.executor else { panic!("a dry run") };
    // A slow run would make a pause.
    assert!(0 < sender.warmed.get());
}

#[test]
fn a_read_of_another_account_halts_and_does_not_reach_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let location = LedgerLocation {
        folder: folder.path().to_owned(),
        host: "market.example".to_owned(),
        boot: None,
        uptime_ms: None,
    };
    let mut session = TestSession::live(ample_budget());
    let entries = [WhitelistEntry { max_quantity: 1_000, ..entry() }];
    session.engine.ledger =
        Ledger::open(&location, ample_budget(), &entries, session.now().wall).unwrap();
    let read = |session: &mut TestSession, id: &str, balance| {
        let Now { instant, wall } = session.now();
        let user = User {
            id: id.to_owned(),
            recipient: Some("4711".to_owned()),
            balance: Some(Amount::from_cents(balance)),
            ..User::default()
        };
        let exchange = ClockExchange { sent: instant, received: instant };
        let reading = UserReading { user, as_of: wall, exchange, date: None };
        session.engine.on_account_update(AccountUpdate::User(reading), session.now());
        let foreign = (id == "account-2").then(|| own_trade("foreign", TradeStatus::Joined));
        let purchases = PurchasesReading::complete(foreign.into_iter().collect(), wall);
        session.engine.on_account_update(AccountUpdate::Purchases(purchases), session.now());
    };
    read(&mut session, "account-1", 100_000);
    let halts = |session: &mut TestSession| -> Vec<HaltReason> {
        let halts = session.engine.ledger.snapshot(session.now().wall).halts;
        halts.into_iter().map(|halt| halt.reason).collect()
    };
    // A response without an id identifies the account by its recipient.
    read(&mut session, "4711", 100_000);
    assert!(halts(&mut session).is_empty());
    // The writer thread makes the limit durable.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !session.engine.ledger.is_limit_durable() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    session.consider(trade("one", REDLINE));
    assert_eq!(session.sent(), ["one"]);

    session.after += Duration::from_secs(120);
    read(&mut session, "account-2", 700);
    assert_eq!(halts(&mut session), [HaltReason::OtherAccount]);
    let (balance, _as_of) = session.engine.ledger.state().last_reading().unwrap();
    assert_eq!(balance, Amount::from_cents(100_000));
    let order = session.engine.ledger.state().intent(&TradeId::new("one").unwrap()).unwrap();
    assert_eq!(order.state, OrderState::Sent);
    session.consider(trade("two", REDLINE));
    assert_eq!(session.sent(), ["one"]);
    // A second read of the other account extends the same halt.
    read(&mut session, "account-2", 700);
    assert_eq!(halts(&mut session), [HaltReason::OtherAccount]);
}
