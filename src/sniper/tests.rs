//! Tests of the decision with a hand that only notes what it was given.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{
    OrderSender,
    engine::{Engine, Executor, HELD_MAX, Now},
};
use crate::{
    account::{AccountUpdate, PurchasesReading},
    config::Budget,
    domain::money::{Amount, Percent},
    domain::outcome::{NotSent, Outcome, RejectReason, Unknown},
    domain::server_clock::{ClockExchange, ServerClock},
    domain::time::UnixMs,
    domain::trade::{Trade, TradeEvent, TradeId, TradeStatus},
    execution::answer::{ExchangeResult, OrderReport, ResponseError, SentRequest},
    ledger::{AccountReading, ApprovedOrder, HaltReason, Ledger, OwnTrade, event::OrderState},
    whitelist::{
        Whitelist, WhitelistEntry,
        tests::{REDLINE, entry, trade},
    },
};

/// Notes what it should send, and refuses when it has no connection.
#[derive(Debug, Default)]
struct FakeOrderSender {
    sent: RefCell<Vec<String>>,
    is_down: bool,
}

impl OrderSender for FakeOrderSender {
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        if self.is_down {
            return Err(NotSent::NoConnection);
        }
        self.sent.borrow_mut().push(approved.id().to_string());
        let now = Instant::now();
        Ok(SentRequest { ready: now, begun: now, written: now })
    }
}

/// A session with lots of room, and the time it is in it.
struct TestSession {
    core: Engine<FakeOrderSender>,
    start: Instant,
    after: Duration,
}

fn plenty() -> Budget {
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
    fn new(hand: Executor<FakeOrderSender>, budget: Budget, entries: Vec<WhitelistEntry>) -> Self {
        let ledger = Ledger::in_memory(budget, &entries, false);
        let start = Instant::now();
        let clock = Arc::new(Mutex::new(ServerClock::new(start)));
        let core = Engine::new(Arc::new(Whitelist::new(entries)), ledger, hand, clock);
        Self { core, start, after: Duration::ZERO }
    }

    fn live(budget: Budget) -> Self {
        let entry = WhitelistEntry { max_quantity: 1_000, ..entry() };
        Self::new(Executor::Live(FakeOrderSender::default()), budget, vec![entry])
    }

    /// The server's clock is ours, and starts at 2,000,000 ms.
    fn now(&self) -> Now {
        let wall = UnixMs(2_000_000).plus(self.after);
        Now { instant: self.start + self.after, wall }
    }

    fn know_the_clock(&mut self) {
        let at = self.now();
        let exchange = ClockExchange { sent: at.instant, received: at.instant };
        self.core.clock().observe_stamp(exchange, at.wall);
    }

    fn consider(&mut self, trade: Trade<'_>) {
        let now = self.now();
        self.core.consider(trade, now);
    }

    fn due(&mut self) -> Option<Instant> {
        let now = self.now();
        self.core.due(now)
    }

    fn sent(&self) -> Vec<String> {
        match &self.core.hand {
            Executor::Live(notebook) => notebook.sent.borrow().clone(),
            Executor::Dry => Vec::new(),
        }
    }

    fn skipped(&self, why: &str) -> u64 {
        self.core.tally().skipped.get(why).copied().unwrap_or_default()
    }
}

#[test]
fn a_wanted_listing_is_bought_at_once_and_once() {
    let mut session = TestSession::live(plenty());
    session.consider(trade("a", REDLINE));
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", "Fracture Case"));
    assert_eq!(session.sent(), ["a"]);
    let tally = session.core.tally();
    assert_eq!((tally.listings, tally.matched, tally.repeated), (3, 1, 1));
}

#[test]
fn a_dry_run_sends_nothing_and_meets_the_limits_of_a_live_one() {
    let budget = Budget { total: Amount::from_cents(2_500), ..plenty() };
    let entry = WhitelistEntry { max_quantity: 10, ..entry() };
    let mut session = TestSession::new(Executor::Dry, budget, vec![entry]);
    for id in ["a", "b", "c"] {
        session.consider(trade(id, REDLINE));
    }
    let tally = session.core.tally();
    assert_eq!((tally.would_buy, tally.bought), (2, 0));
    assert_eq!(tally.would_spend, Amount::from_cents(2_030));
    assert_eq!(session.skipped("total"), 1);
}

#[test]
fn an_obstacle_is_counted_by_its_name() {
    let mut session = TestSession::live(plenty());
    session.consider(Trade { status: TradeStatus::Joined, ..trade("a", REDLINE) });
    session.consider(Trade { is_own: true, ..trade("b", REDLINE) });
    session.consider(Trade { base_value: Some(Amount::from_cents(900)), ..trade("c", REDLINE) });
    assert!(session.sent().is_empty());
    assert_eq!(session.skipped("not listed any more"), 1);
    assert_eq!(session.skipped("own listing"), 1);
    assert_eq!(session.skipped("markup does not agree"), 1);
}

#[test]
fn a_listing_is_held_until_its_moment_and_then_bought() {
    let mut session = TestSession::live(plenty());
    session.know_the_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    assert!(session.sent().is_empty());
    session.after = Duration::from_millis(2_998);
    let due = session.due().unwrap();
    assert!(session.sent().is_empty());
    assert!(session.start + Duration::from_millis(2_999) <= due);
    session.after = due - session.start;
    assert_eq!(session.due(), None);
    assert_eq!(session.sent(), ["a"]);
}

#[test]
fn a_held_listing_that_somebody_takes_is_let_go() {
    let mut session = TestSession::live(plenty());
    session.know_the_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    session.consider(Trade {
        event: TradeEvent::Updated,
        status: TradeStatus::Joined,
        ..trade("a", REDLINE)
    });
    session.after = Duration::from_secs(60);
    assert_eq!(session.due(), None);
    assert!(session.sent().is_empty());
    assert_eq!(session.skipped("taken while held"), 1);
}

#[test]
fn a_held_listing_whose_price_changes_is_considered_at_its_new_price() {
    let held = || Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) };
    let at = |cents| {
        let price = Some(Amount::from_cents(cents));
        let markup_percent = Some(Percent::from_hundredths(if cents == 1_015 { 150 } else { 0 }));
        Trade { total_value: price, base_value: price, markup_percent, ..held() }
    };
    let updated = |cents| Trade { event: TradeEvent::Updated, ..at(cents) };
    let old = held().total_value.unwrap().cents();
    let (base_only, dear) = (old - 1, 90_000);
    let cases = [
        (at(dear), None),
        (updated(dear), None),
        (updated(old), Some(old)),
        (at(base_only), Some(base_only)),
        (updated(base_only), Some(base_only)),
    ];
    for (change, expected) in cases {
        let mut session = TestSession::live(plenty());
        session.know_the_clock();
        session.consider(held());
        let cents = change.total_value.unwrap().cents();
        let name = format!("{:?} at {cents}", change.event);
        session.consider(change);
        session.after = Duration::from_secs(60);
        assert_eq!(session.due(), None, "{name}");
        let id = TradeId::new("a").unwrap();
        let ordered = session.core.ledger().book().intent(&id).map(|intent| intent.price.cents());
        assert_eq!(ordered, expected, "{name}");
        let replaced = u64::from(cents != old);
        assert_eq!(session.skipped("changed while held"), replaced, "{name}");
    }
}

/// Whoever reads a rival's purchase as one's own settles an unknown buy as bought, and takes a lost
/// race for a purchase that nobody intended.
#[test]
fn a_rivals_purchase_proves_nothing_about_ours() {
    for outcome in [Outcome::Refused(RejectReason::NotJoinable), Outcome::Unknown(Unknown::Cut)] {
        let mut session = TestSession::live(plenty());
        session.consider(trade("a", REDLINE));
        let id = TradeId::new("a").unwrap();
        let now = session.now().wall;
        session.core.note(|ledger| ledger.settle(&id, &outcome, now));
        let before = session.core.ledger().book().intent(&id).copied();
        let event = TradeEvent::Updated;
        session.consider(Trade { event, status: TradeStatus::Joined, ..trade("a", REDLINE) });
        assert_eq!(session.core.ledger().book().intent(&id).copied(), before);
        session.consider(trade("b", REDLINE));
        assert_eq!(session.sent(), ["a", "b"], "after {outcome:?}");
    }
}

#[test]
fn the_feed_delivers_a_bought_order_and_a_cancellation_only_asks_for_a_read() {
    for (status, state) in [
        (TradeStatus::Cancelled, OrderState::Bought),
        (TradeStatus::Completed, OrderState::Completed),
    ] {
        let mut session = TestSession::live(plenty());
        session.consider(trade("a", REDLINE));
        let id = TradeId::new("a").unwrap();
        let now = session.now().wall;
        let bought = Outcome::Bought { price: None, server_time: None };
        session.core.note(|ledger| ledger.settle(&id, &bought, now));
        let _earlier = session.core.take_wish_to_know();
        session.consider(Trade { event: TradeEvent::Updated, status, ..trade("a", REDLINE) });
        let found = session.core.ledger().book().intent(&id).map(|intent| intent.state);
        assert_eq!(found, Some(state), "{status}");
        assert_eq!(session.core.take_wish_to_know(), status == TradeStatus::Cancelled, "{status}");
    }
}

#[test]
fn a_wall_clock_that_was_set_is_distrusted_until_the_account_is_read() {
    let mut session = TestSession::live(plenty());
    let now = session.now();
    session.core.watch_clock(now.wall, now);
    session.core.watch_clock(now.wall.plus(Duration::from_secs(2)), now);
    assert!(!session.core.ledger().book().is_clock_distrusted());
    for set in [now.wall.plus(Duration::from_secs(3_600)), now.wall.minus(Duration::from_secs(3))] {
        session.core.watch_clock(set, now);
        assert!(session.core.ledger().book().is_clock_distrusted());
        session.after += Duration::from_secs(1);
        let reading = PurchasesReading::complete(Vec::new(), session.now().wall);
        let now = session.now();
        session.core.hear(AccountUpdate::Purchases(reading), now);
        assert!(!session.core.ledger().book().is_clock_distrusted());
    }
}

#[test]
fn only_so_many_are_held() {
    let mut session = TestSession::live(plenty());
    for number in 0..=HELD_MAX {
        let mark = Some(UnixMs(2_003_000));
        session.consider(Trade { can_join_after: mark, ..trade(&format!("t{number}"), REDLINE) });
    }
    assert_eq!(session.skipped("too many held"), 1);
}

#[test]
fn a_flagged_account_waits_for_its_own_mark() {
    let mut session = TestSession::live(plenty());
    session.know_the_clock();
    let mark = Some(UnixMs(2_003_000));
    let listing = |id| Trade { suspected_trader_can_join_after: mark, ..trade(id, REDLINE) };
    session.consider(listing("a"));
    session.core.is_flagged = true;
    session.consider(listing("b"));
    assert_eq!(session.sent(), ["a"]);
    session.after = Duration::from_secs(4);
    session.due();
    assert_eq!(session.sent(), ["a", "b"]);
}

#[test]
fn a_match_beyond_those_in_flight_waits_for_its_turn() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..plenty() });
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", REDLINE));
    assert_eq!(session.sent(), ["a"]);
    let id = TradeId::new("a").unwrap();
    let now = session.now().wall;
    let refused = Outcome::Refused(RejectReason::Taken);
    session.core.note(|ledger| ledger.settle(&id, &refused, now));
    session.due();
    assert_eq!(session.sent(), ["a", "b"]);
}

fn report(id: &str, outcome: Outcome, is_final: bool) -> OrderReport {
    let now = Instant::now();
    OrderReport {
        id: TradeId::new(id).unwrap(),
        outcome,
        is_final,
        answer: ExchangeResult::Broken { why: ResponseError::Cut, head: None },
        written: SentRequest { ready: now, begun: now, written: now },
        answered: now,
    }
}

impl TestSession {
    fn settle(&mut self, outcome: Outcome, is_final: bool) {
        let now = self.now();
        self.core.settle(&report("a", outcome, is_final), now);
    }

    fn state(&mut self) -> Option<OrderState> {
        let id = TradeId::new("a").unwrap();
        self.core.ledger().book().intent(&id).map(|intent| intent.state)
    }

    /// Orders refused, unknown and bought.
    fn counts(&self) -> (u64, u64, u64) {
        let tally = self.core.tally();
        (tally.refused, tally.unknown, tally.bought)
    }
}

const fn unconfirmed(refusal: RejectReason) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(refusal))
}

#[test]
fn an_order_with_two_reports_is_counted_once_by_its_last() {
    let bought = Outcome::Bought { price: None, server_time: None };
    let cases = [
        (Outcome::Refused(RejectReason::Taken), OrderState::Refused, (1, 0, 0)),
        (Outcome::Unknown(Unknown::Foreign), OrderState::Unknown, (0, 1, 0)),
        (unconfirmed(RejectReason::Taken), OrderState::Unknown, (0, 1, 0)),
        (bought, OrderState::Bought, (0, 0, 1)),
    ];
    for (last, state, counts) in cases {
        let mut session = TestSession::live(Budget { max_in_flight: 1, ..plenty() });
        session.consider(trade("a", REDLINE));
        session.settle(unconfirmed(RejectReason::Taken), false);
        assert_eq!((session.state(), session.counts()), (Some(OrderState::Unknown), (0, 0, 0)));
        assert!(!session.core.take_wish_to_know(), "a lost race is no reason to read the account");
        // It holds no other order up meanwhile.
        session.consider(trade("b", REDLINE));
        assert_eq!(session.sent(), ["a", "b"]);
        session.settle(last, true);
        assert_eq!((session.state(), session.counts()), (Some(state), counts));
        assert_eq!(session.core.tally().internal_errors, 0);
    }
}

#[test]
fn an_unconfirmed_demand_for_a_captcha_stops_buying_at_once() {
    let mut session = TestSession::live(plenty());
    session.consider(trade("a", REDLINE));
    session.settle(unconfirmed(RejectReason::Captcha), false);
    session.consider(trade("b", REDLINE));
    assert_eq!((session.sent(), session.skipped("halted")), (vec!["a".to_owned()], 1));
    session.settle(Outcome::Refused(RejectReason::Captcha), true);
    let now = session.now().wall;
    assert_eq!(session.core.ledger().snapshot(now).halts.len(), 1, "one cause is one halt");
}

#[test]
fn a_refusal_that_is_confirmed_after_the_account_showed_the_purchase_frees_nothing_and_halts() {
    let mut session = TestSession::live(plenty());
    session.consider(trade("a", REDLINE));
    session.settle(unconfirmed(RejectReason::Taken), false);
    session.after = Duration::from_millis(1);
    let now = session.now().wall;
    let id = TradeId::new("a").unwrap();
    let own = OwnTrade { id, status: TradeStatus::Joined, price: None, joined_at: None };
    let trades = &[own];
    let reading = AccountReading { trades, complete: false, started: now };
    let _nothing = session.core.ledger().reconcile(&reading, None, now);
    session.settle(Outcome::Refused(RejectReason::Taken), true);
    assert_eq!(session.state(), Some(OrderState::Bought));
    let halts = session.core.ledger().snapshot(now).halts;
    assert_eq!(halts[0].reason, HaltReason::Contradiction { id });
    // What stays unknown is no contradiction.
    let mut session = TestSession::live(plenty());
    session.consider(trade("a", REDLINE));
    session.settle(unconfirmed(RejectReason::Taken), false);
    session.after = Duration::from_millis(1);
    let _nothing = session.core.ledger().reconcile(&reading, None, now);
    session.settle(Outcome::Unknown(Unknown::Foreign), true);
    assert_eq!(session.state(), Some(OrderState::Bought));
    assert_eq!(session.core.tally().internal_errors, 0);
}

#[test]
fn a_match_waits_no_longer_than_it_may() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..plenty() });
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", REDLINE));
    session.after = super::engine::WAITING_FOR_MAX;
    session.due();
    assert_eq!(session.skipped("too many in flight"), 1);
    assert!(!session.core.is_waiting());
}

#[test]
fn without_a_connection_nothing_is_spent() {
    let notebook = FakeOrderSender { is_down: true, ..FakeOrderSender::default() };
    let budget = Budget { total: Amount::from_cents(1_015), ..plenty() };
    let mut session = TestSession::new(Executor::Live(notebook), budget, vec![entry()]);
    session.consider(trade("a", REDLINE));
    assert_eq!(session.core.tally().not_sent, 1);
    let now = session.now().wall;
    assert_eq!(session.core.ledger.snapshot(now).spent, Amount::ZERO);
}

#[test]
fn a_stopping_session_buys_nothing_more() {
    let mut session = TestSession::live(plenty());
    session.know_the_clock();
    session.consider(Trade { can_join_after: Some(UnixMs(2_003_000)), ..trade("a", REDLINE) });
    session.core.stop();
    session.consider(trade("b", REDLINE));
    session.after = Duration::from_secs(10);
    session.due();
    assert!(session.sent().is_empty());
    assert_eq!(session.skipped("stopping"), 2);
}

#[test]
fn what_could_not_be_read_is_counted_and_never_bought() {
    let mut session = TestSession::live(plenty());
    let mut listing = trade("a", REDLINE);
    listing.defects.add(crate::domain::trade::Defect::TotalValue);
    session.consider(listing);
    assert_eq!(session.core.tally().unreadable, 1);
    assert!(session.sent().is_empty());
}

proptest! {
    /// Whatever comes in whatever order: nothing is asked for twice, nothing beyond the budget,
    /// and every match is accounted for.
    #[test]
    fn every_match_ends_in_exactly_one_way(
        listings in prop::collection::vec((0_u8..20, 1_i64..3_000, any::<bool>(), 0_u64..10_000), 0..60),
        total in 0_i64..20_000,
    ) {
        let budget = Budget { total: Amount::from_cents(total), max_in_flight: 3, ..plenty() };
        let mut session = TestSession::live(budget);
        session.know_the_clock();
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
            session.due();
        }
        session.core.stop();
        let mut sent = session.sent();
        let asked = u64::try_from(sent.len()).unwrap();
        let tally = session.core.tally();
        prop_assert_eq!(tally.matched, asked + tally.skipped_total());
        sent.sort();
        sent.dedup();
        prop_assert_eq!(u64::try_from(sent.len()).unwrap(), asked);
        let now = session.now().wall;
        prop_assert!(session.core.ledger.snapshot(now).spent <= Amount::from_cents(total));
    }
}

#[test]
fn a_rehearsal_is_wished_for_behind_what_nobody_wants_and_not_too_often() {
    let mut session = TestSession::live(plenty());
    session.know_the_clock();
    session.consider(trade("wanted", REDLINE));
    assert!(!session.core.wishes_to_rehearse, "a buy is no rehearsal");
    session.consider(trade("other", "Glove Case"));
    assert!(session.core.wishes_to_rehearse);
    let now = session.now();
    let counted = session.core.ledger().snapshot(now.wall);
    session.core.rehearse(Duration::from_millis(1), now);
    session.consider(trade("another", "Glove Case"));
    assert!(!session.core.wishes_to_rehearse, "it was just now");
    session.after += Duration::from_secs(6);
    session.consider(trade("third", "Glove Case"));
    assert!(session.core.wishes_to_rehearse);
    assert_eq!(session.core.ledger().snapshot(now.wall), counted, "a rehearsal counts nowhere");
    assert_eq!(session.sent(), ["wanted"]);
}
