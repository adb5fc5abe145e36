//! Tests of a budget that several bots share: standby, takeover, and listings of other bots.

use tokio::sync::oneshot;

use super::*;
use crate::{
    alerts::{AlertEvent, AlertSender},
    ledger::{
        Allowance, OrderState,
        allowance::{EntrySlice, OrderPermit, SharedLimit},
        open::DATABASE,
        status::SharedStatus,
        tests::disk,
    },
    sniper::sharing::{OwnsListing, SPENDING_SETTLES, SharedReport, SharedUpdate, Takeover},
};

/// Returns a session with standbys and a known server clock, before the first update.
fn with_standbys() -> TestSession {
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    let now = session.now();
    session.engine.share("main", true, now);
    session
}

/// Returns slices that limit nothing.
fn unlimited() -> Allowance {
    let slice = EntrySlice { quantity: 1_000, total: Amount::MAX };
    Allowance {
        permit: OrderPermit::Until(UnixMs(i64::MAX)),
        total: Amount::MAX,
        entries: vec![slice; 8],
        ..Allowance::default()
    }
}

/// Returns a session that shares its budget without standbys, with these slices.
fn with_slices(entries: Vec<WhitelistEntry>, allowance: Allowance) -> TestSession {
    let executor = Executor::Live(FakeOrderSender::default());
    let mut session = TestSession::new(executor, ample_budget(), entries);
    let now = session.now();
    session.engine.share("main", false, now);
    session.update_slices(allowance, None, None);
    session
}

#[test]
fn two_bots_of_one_account_name_it_alike_whatever_their_ledgers_are_bound_to() {
    for bound in ["4711", "account-1"] {
        let folder = tempfile::tempdir().unwrap();
        let location = LedgerLocation {
            folder: folder.path().to_owned(),
            host: "market.example".to_owned(),
            boot: None,
            uptime_ms: None,
        };
        let mut session = with_slices(vec![many()], unlimited());
        let wall = session.now().wall;
        session.engine.ledger = Ledger::open(&location, ample_budget(), &[many()], wall).unwrap();
        let recipient = Some("4711".to_owned());
        let user = User { id: bound.to_owned(), recipient, ..User::default() };
        session.engine.ledger.bind(user.ids()).unwrap();
        session.read_user("account-1", "4711");
        let report = session.update_slices(unlimited(), None, None);
        assert_eq!(report.account.as_deref(), Some("account-1"), "{bound}");
        assert_eq!(session.engine.ledger.user(), Some("account-1"));
        session.read_user("4711", "4711");
        assert!(!session.engine.is_other_account, "{bound}: no id is no evidence");
        session.read_user("account-2", "4711");
        assert!(session.engine.is_other_account, "{bound}: another credential");
        session.read_user("account-1", "4711");
        assert!(!session.engine.is_other_account, "{bound}: the first one again");
    }
}

fn many() -> WhitelistEntry {
    WhitelistEntry { max_quantity: 1_000, ..entry() }
}

impl TestSession {
    fn read_user(&mut self, id: &str, recipient: &str) {
        let Now { instant, wall } = self.now();
        let recipient = Some(recipient.to_owned());
        let user = User { id: id.to_owned(), recipient, ..User::default() };
        let exchange = ClockExchange { sent: instant, received: instant };
        let reading = UserReading { user, as_of: wall, exchange, date: None };
        self.engine.on_account_update(AccountUpdate::User(reading), self.now());
    }

    fn update(
        &mut self,
        permit: OrderPermit,
        takeover: Option<Takeover>,
        owns: Option<OwnsListing>,
    ) -> SharedReport {
        self.update_slices(Allowance { permit, ..unlimited() }, takeover, owns)
    }

    fn update_slices(
        &mut self,
        allowance: Allowance,
        takeover: Option<Takeover>,
        owns: Option<OwnsListing>,
    ) -> SharedReport {
        let (reply, mut report) = oneshot::channel();
        let status = SharedStatus::default();
        let allowance = Box::new(allowance);
        let now = self.now();
        let update = SharedUpdate { allowance, owns, takeover, status, reply };
        self.engine.on_shared_update(update, now);
        report.try_recv().unwrap()
    }

    fn activate(&mut self, ordered: &[&str]) {
        let of = |id: &&str| (TradeId::new(id).unwrap(), OrderState::Sent);
        let ordered = ordered.iter().map(of).collect();
        let takeover = Some(Takeover { epoch: 1, ordered });
        self.update(OrderPermit::Until(UnixMs(i64::MAX)), takeover, None);
    }

    fn wait(&mut self, seconds: u64) {
        self.after += Duration::from_secs(seconds);
    }

    /// Returns a listing that is created at this moment.
    fn new_listing(&self, id: &str) -> Trade<'static> {
        Trade { created_at: Some(self.now().wall), ..trade(id, REDLINE) }
    }
}

#[test]
fn nothing_is_ordered_before_the_first_update_nor_after_a_permission_ended() {
    let mut session = with_standbys();
    session.consider(trade("a", REDLINE));
    assert_eq!((session.sent().len(), session.engine.queue.len()), (0, 1), "it waits");
    session.wait(6);
    session.run_timers();
    assert_eq!(session.skipped("shared_starting"), 1);
    session.activate(&[]);
    let until = session.now().wall.plus(Duration::from_secs(1));
    session.update(OrderPermit::Until(until), Some(Takeover { epoch: 1, ordered: vec![] }), None);
    session.wait(1);
    session.consider(session.new_listing("b"));
    assert_eq!((session.sent().len(), session.skipped("shared_no_contact")), (0, 1));
}

#[test]
fn a_match_before_the_first_update_is_ordered_after_it() {
    let mut session = TestSession::live(ample_budget());
    let now = session.now();
    session.engine.share("main", false, now);
    session.consider(trade("a", REDLINE));
    session.wait(1);
    session.update(OrderPermit::Until(UnixMs(i64::MAX)), None, None);
    session.run_timers();
    assert_eq!((session.sent(), session.engine.stats().skipped_total()), (vec!["a".into()], 0));
}

#[test]
fn matches_beyond_a_slice_are_ordered_after_the_slice_was_raised() {
    let orders = |count: i64| Allowance { total: Amount::from_cents(1_015 * count), ..unlimited() };
    let mut session = with_slices(vec![many()], orders(8));
    for number in 0..40 {
        session.consider(trade(&format!("t{number}"), REDLINE));
    }
    session.run_timers();
    assert_eq!(session.sent().len(), 8);
    session.wait(1);
    session.update_slices(orders(100), None, None);
    session.run_timers();
    assert_eq!((session.sent().len(), session.engine.stats().skipped_total()), (40, 0));
}

#[test]
fn the_report_names_the_limits_of_which_the_slice_was_too_small_for_an_order() {
    let one = EntrySlice { quantity: 1, total: Amount::MAX };
    let named = WhitelistEntry { name: Some("redline".to_owned()), ..many() };
    let slices = |total| Allowance { total, entries: vec![one; 8], ..unlimited() };
    let mut session = with_slices(vec![named], slices(Amount::MAX));
    let denied =
        |session: &mut TestSession, total| session.update_slices(slices(total), None, None).denied;
    session.consider(trade("a", REDLINE));
    assert_eq!(denied(&mut session, Amount::MAX), [], "within the slices");
    session.consider(trade("b", REDLINE));
    session.consider(trade("c", REDLINE));
    let name = Some("redline".to_owned());
    let expected = [(SharedLimit::EntryQuantity, name.clone(), None)];
    assert_eq!(denied(&mut session, Amount::from_cents(1_015)), expected);
    session.run_timers();
    assert_eq!(denied(&mut session, Amount::ZERO), [(SharedLimit::Total, name, None)], "waiting");
    assert_eq!(denied(&mut session, Amount::ZERO), [], "not tried again");
}

#[test]
fn a_match_beyond_a_slice_is_tried_again_only_after_an_update_or_a_settled_order() {
    let total = Amount::from_cents(1_015);
    let mut session = with_slices(vec![many()], Allowance { total, ..unlimited() });
    for id in ["a", "b", "c"] {
        session.consider(trade(id, REDLINE));
    }
    session.run_timers();
    let _old = session.engine.ledger.set_allowance(Box::new(unlimited()));
    session.run_timers();
    assert_eq!(session.sent(), ["a"], "nothing has shown the change");
    let _old = session.engine.ledger.set_allowance(Box::new(Allowance { total, ..unlimited() }));
    session.settle(Outcome::Rejected(RejectReason::Taken), true);
    session.run_timers();
    assert_eq!(session.sent(), ["a", "b"]);
    session.update_slices(unlimited(), None, None);
    session.run_timers();
    assert_eq!(session.sent(), ["a", "b", "c"]);
}

#[test]
fn a_match_is_skipped_if_its_slice_is_not_raised_in_time() {
    let mut session = with_slices(vec![many()], Allowance { total: Amount::ZERO, ..unlimited() });
    session.consider(trade("a", REDLINE));
    session.wait(5);
    session.run_timers();
    assert_eq!((session.skipped("shared_total"), session.engine.has_deferred()), (1, false));
}

#[test]
fn the_alert_about_a_used_up_slice_tells_that_it_cannot_grow_while_the_database_is_away() {
    for error in [None, Some("connection refused")] {
        let mut session =
            with_slices(vec![many()], Allowance { total: Amount::ZERO, ..unlimited() });
        let (sender, alerts) = AlertSender::with_queue();
        session.engine.set_alerts(sender, Vec::new());
        session.engine.sharing.as_mut().unwrap().status.error = error.map(str::to_owned);
        session.consider(trade("a", REDLINE));
        session.wait(5);
        session.run_timers();
        let limits = alerts.try_iter().filter_map(|alert| match alert.event {
            AlertEvent::LimitReached { limit, text, .. } => Some((limit, text)),
            _ => None,
        });
        let [(limit, text)] = &limits.collect::<Vec<_>>()[..] else { panic!("not one alert") };
        let cause = "; it cannot grow without the database: connection refused";
        assert_eq!((*limit, text.ends_with(cause)), ("shared_total", error.is_some()), "{text}");
    }
}

#[test]
fn a_match_that_waits_for_a_slice_holds_up_no_order_for_which_there_is_room() {
    let redline = WhitelistEntry { name: Some("redline".to_owned()), ..many() };
    let case = WhitelistEntry { item: ItemPattern::Named("Fracture Case".to_owned()), ..many() };
    let mut entries = unlimited().entries;
    for slice in &mut entries {
        slice.quantity = 1;
    }
    let mut session = with_slices(vec![redline, case], Allowance { entries, ..unlimited() });
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", REDLINE));
    session.consider(trade("c", "Fracture Case"));
    assert_eq!(session.sent(), ["a", "c"], "a new match");
    if let Executor::Live(sender) = &session.engine.executor {
        sender.closed.set(1);
    }
    session.consider(trade("d", "Fracture Case"));
    session.run_timers();
    assert_eq!(session.sent(), ["a", "c", "d"], "a queued one behind it");
    assert_eq!(session.engine.queue.len(), 1);
}

#[test]
fn a_standby_orders_nothing_and_after_a_takeover_only_later_listings() {
    let mut session = with_standbys();
    session.update(OrderPermit::Standby, None, None);
    session.consider(session.new_listing("a"));
    let undated = Trade { created_at: None, ..trade("b", REDLINE) };
    session.consider(undated.clone());
    let unwanted = Trade { total_value: Some(Amount::from_cents(9_999)), ..undated.clone() };
    let unwanted = Trade { id: TradeId::new("c").unwrap(), markup_percent: None, ..unwanted };
    session.consider(unwanted.clone());
    assert_eq!((session.sent().len(), session.skipped("standby")), (0, 2));
    session.wait(5);
    let missed = session.new_listing("missed");
    session.activate(&["reported"]);
    session.consider(missed);
    session.consider(undated);
    session.consider(unwanted);
    session.wait(1);
    session.consider(session.new_listing("reported"));
    session.consider(session.new_listing("new"));
    let undated = Trade { created_at: None, ..trade("undated", REDLINE) };
    session.consider(undated);
    assert_eq!(session.sent(), ["new", "undated"]);
    assert_eq!(session.skipped("before takeover"), 1);
    assert_eq!(session.skipped("ordered before takeover"), 1);
}

/// The local clock is behind that of the market, of which only listings have shown a lower bound.
#[test]
fn a_takeover_adds_a_margin_if_the_clock_of_the_market_has_no_upper_bound() {
    for behind in [Duration::ZERO, Duration::from_secs(30), Duration::from_secs(300)] {
        let mut session = TestSession::live(ample_budget());
        let now = session.now();
        session.engine.share("main", true, now);
        session.update(OrderPermit::Standby, None, None);
        let created = now.wall.plus(behind);
        session.engine.clock().observe_listing(now.instant, created);
        session.activate(&[]);
        let listing = |id, at| Trade { created_at: Some(at), ..trade(id, REDLINE) };
        session.consider(listing("before", created.plus(Duration::from_secs(60))));
        session.consider(listing("after", created.plus(Duration::from_secs(61))));
        assert_eq!(session.sent(), ["after"], "{behind:?} behind");
    }
}

#[test]
fn a_listing_that_arrived_on_standby_is_not_ordered_at_another_price() {
    let mut session = with_standbys();
    session.engine.keyed_by = KeyedBy::IdAndPrice;
    let at = |id: &str, cents, event| {
        let id = TradeId::new(id).unwrap();
        Trade { id, event, created_at: None, ..at_price(cents) }
    };
    session.update(OrderPermit::Standby, None, None);
    session.consider(at("wanted", 1_000, TradeEvent::Listed));
    session.consider(at("unwanted", 99_999, TradeEvent::Repriced));
    session.activate(&["reported"]);
    for id in ["wanted", "unwanted", "reported", "new"] {
        session.consider(at(id, 900, TradeEvent::Repriced));
    }
    assert_eq!(session.sent(), ["new"]);
    assert_eq!(session.skipped("before takeover"), 2);
}

#[test]
fn an_own_rejected_order_does_not_hide_the_order_of_the_bot_before() {
    let mut session = with_standbys();
    session.engine.keyed_by = KeyedBy::IdAndPrice;
    session.activate(&[]);
    session.consider(Trade { created_at: None, ..at_price(1_000) });
    let key = KeyedBy::IdAndPrice.key(TradeId::new("a").unwrap(), Some(Amount::from_cents(1_000)));
    let rejected = Outcome::Rejected(RejectReason::Taken);
    let (report, now) = (OrderReport { key, ..report("a", rejected, true) }, session.now());
    session.engine.on_order_report(&report, now);
    session.update(OrderPermit::Standby, None, None);
    session.activate(&["a"]);
    session.consider(Trade { created_at: None, ..at_price(900) });
    assert_eq!(session.sent(), ["a"]);
    assert_eq!(session.skipped("ordered before takeover"), 1);
}

#[test]
fn nothing_is_ordered_after_a_takeover_until_the_account_was_read_again() {
    let mut session = with_standbys();
    let entry = WhitelistEntry { max_quantity: 1_000, ..entry() };
    session.engine.ledger = Ledger::in_memory(ample_budget(), &[entry], true);
    let now = session.now();
    session.engine.share("main", true, now);
    let read = |session: &mut TestSession, balance_at: UnixMs| {
        let now = session.now();
        let balance = Amount::from_cents(1_000_000);
        let _effects = session.engine.ledger.set_balance(balance, balance_at, now.wall);
        let reading = PurchasesReading::complete(Vec::new(), now.wall);
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
    };
    read(&mut session, now.wall);
    session.update(OrderPermit::Standby, None, None);
    session.wait(5);
    session.activate(&[]);
    assert!(session.engine.take_refresh_request());
    session.wait(1);
    session.consider(session.new_listing("a"));
    // The balance of this reading is older than the takeover.
    read(&mut session, now.wall);
    session.run_timers();
    assert_eq!((session.sent().len(), session.engine.queue.len()), (0, 1), "it waits");
    let read_at = session.now().wall;
    read(&mut session, read_at);
    session.run_timers();
    assert_eq!(session.sent(), ["a"]);
}

#[test]
fn a_takeover_from_a_bot_with_many_orders_does_not_end_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    let now = session.now();
    session.engine.ledger = disk::open(folder.path(), "boot", now.wall);
    session.engine.share("main", true, now);
    let mut foreign = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let state = |number| if number < 9_000 { OrderState::Rejected } else { OrderState::Completed };
    let ordered = (0..50_000).map(|number| (TradeId::from_number(number), state(number))).collect();
    let takeover = Some(Takeover { epoch: 1, ordered });
    session.update(OrderPermit::Until(UnixMs(i64::MAX)), takeover, None);
    hold.rollback().unwrap();
    disk::wait_until(|| session.engine.ledger.failure().is_none());
    session.consider(session.new_listing("8999"));
    assert_eq!(session.skipped("ordered before takeover"), 1);
}

#[test]
fn listings_that_wait_are_dropped_by_a_takeover() {
    let mut session = with_standbys();
    session.update(OrderPermit::Standby, None, None);
    let opens = Some(session.now().wall.plus(Duration::from_secs(30)));
    session.consider(Trade { can_join_after: opens, ..session.new_listing("held") });
    assert!(session.engine.has_deferred());
    session.wait(5);
    session.activate(&[]);
    assert!(!session.engine.has_deferred());
    session.wait(60);
    session.run_timers();
    assert_eq!((session.sent().len(), session.skipped("before takeover")), (0, 1));
}

#[test]
fn a_listing_of_another_bot_is_skipped_without_being_counted_as_an_error() {
    let mut session = TestSession::live(ample_budget());
    let now = session.now();
    session.engine.share("main", false, now);
    let owns: OwnsListing = Box::new(|id| id.as_str() == "mine");
    session.update(OrderPermit::Until(UnixMs(i64::MAX)), None, Some(owns));
    session.consider(trade("theirs", REDLINE));
    session.consider(trade("mine", REDLINE));
    assert_eq!(session.sent(), ["mine"]);
    assert_eq!((session.skipped("other bot"), session.engine.stats().internal_errors), (1, 0));
}

#[test]
fn an_update_is_obeyed_before_its_report_is_read() {
    let mut session = TestSession::live(ample_budget());
    let now = session.now();
    session.engine.share("main", false, now);
    session.update(OrderPermit::Until(UnixMs(i64::MAX)), None, None);
    session.consider(trade("a", REDLINE));
    let report = session.update(OrderPermit::Rejected("why"), None, None);
    assert_eq!(report.usage.total.used, Amount::from_cents(1_015));
    assert_eq!(report.usage.changed.len(), 1);
    session.consider(trade("b", REDLINE));
    assert_eq!((session.sent().len(), session.skipped("shared_refused")), (1, 1));
    let report = session.update(OrderPermit::Rejected("why"), None, None);
    assert_eq!(report.usage.total.used, Amount::from_cents(1_015), "as reported");
}

#[test]
fn purchases_of_the_bot_before_are_accepted_until_its_orders_are_settled() {
    let mut session = with_standbys();
    let bought = |id: &str| OwnTrade {
        price: Some(Amount::from_cents(500)),
        ..OwnTrade::bare(TradeId::new(id).unwrap(), TradeStatus::Completed)
    };
    let mut trades = Vec::new();
    let mut read = |session: &mut TestSession, id: &str| {
        trades.push(bought(id));
        let (trades, now) = (trades.clone(), session.now());
        let reading = PurchasesReading::complete(trades, now.wall);
        session.engine.on_account_update(AccountUpdate::Purchases(reading), now);
        session.engine.ledger().snapshot(now.wall).halts.len()
    };
    session.update(OrderPermit::Standby, None, None);
    assert_eq!(read(&mut session, "first"), 0, "the first read");
    assert_eq!(read(&mut session, "on-standby"), 0);
    session.activate(&[]);
    session.after += SPENDING_SETTLES;
    assert_eq!(read(&mut session, "in-flight-at-the-takeover"), 0);
    session.wait(1);
    assert_eq!(read(&mut session, "of-nobody"), 1);
}

#[test]
fn a_bot_reports_that_it_cannot_order_while_it_is_halted_or_paused_as_a_whole() {
    let mut session = with_standbys();
    let report = |session: &mut TestSession| session.update(OrderPermit::Standby, None, None);
    let can_order = |session: &mut TestSession| {
        let report = report(session);
        assert!(report.needs_slice || !report.can_order);
        report.can_order
    };
    assert!(can_order(&mut session));
    let label = session.engine.whitelist.entries()[0].label().to_owned();
    assert_eq!(session.engine.whitelist.set_paused(&label, true), 1);
    assert!(!can_order(&mut session), "every entry is paused");
    assert!(!report(&mut session).needs_slice);
    assert_eq!(session.engine.whitelist.set_paused(&label, false), 1);
    assert!(can_order(&mut session));
    session.engine.note_feed(false);
    assert!(!can_order(&mut session), "no feed");
    assert!(report(&mut session).needs_slice, "the feed comes back");
    session.engine.note_feed(true);
    let is_down = |session: &TestSession, is_down| match &session.engine.executor {
        Executor::Live(sender) => sender.is_down.set(is_down),
        Executor::Dry => panic!("a dry run"),
    };
    is_down(&session, true);
    assert!(!can_order(&mut session), "no connection for orders");
    assert!(report(&mut session).needs_slice, "a connection comes back");
    is_down(&session, false);
    let now = session.now().wall;
    let _effects = session.engine.ledger().set_balance(Amount::ZERO, now, now);
    assert!(!can_order(&mut session), "no coins");
    let later = now.plus(Duration::from_millis(1));
    let _effects = session.engine.ledger().set_balance(Amount::from_cents(1), later, later);
    assert!(can_order(&mut session));
    let _effects = session.engine.ledger().halt(HaltReason::OtherAccount, now);
    assert!(!can_order(&mut session), "halted");
}

#[test]
fn a_bot_whose_ledger_cannot_be_written_reports_that_it_cannot_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = TestSession::live(ample_budget());
    session.sync_clock();
    let now = session.now();
    session.engine.ledger = disk::open(folder.path(), "boot", now.wall);
    session.engine.share("main", true, now);
    let can_order =
        |session: &mut TestSession| session.update(OrderPermit::Standby, None, None).can_order;
    assert!(can_order(&mut session));
    let mut foreign = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let _effects = session.engine.ledger.pause(now.wall, now.wall);
    disk::wait_until(|| session.engine.ledger.failure().is_some());
    assert!(!can_order(&mut session));
    hold.rollback().unwrap();
    disk::wait_until(|| session.engine.ledger.failure().is_none());
    assert!(can_order(&mut session));
}
