//! Tests of listings that cannot be ordered at the moment.

use super::*;
use tokio::sync::mpsc;

use crate::{
    clock,
    config::OrdersConfig,
    domain::{percent_rule::PriceCurrency, wanted_items::WantedItems},
    ledger::{
        OrderRequest, RiskRejection,
        allowance::SharedLimit,
        control::{ControlRequest, Resolution},
    },
    prices::{PriceSnapshot, book::SourceLabel},
    sniper::{EngineInputs, Sniper},
    whitelist::tests::{book_at, percent_entry},
    ws::{FeedMetrics, WantedSender},
};

fn sender(session: &TestSession) -> &FakeOrderSender {
    match &session.engine.executor {
        Executor::Live(sender) => sender,
        Executor::Dry => panic!("a dry run sends nothing"),
    }
}

impl TestSession {
    fn settle_order(&mut self, id: &str, outcome: Outcome) {
        let now = self.now();
        self.engine.on_order_report(&report(id, outcome, true), now);
    }

    fn ledger_state(&mut self, id: &str) -> Vec<OrderState> {
        let id = TradeId::new(id).unwrap();
        self.engine.ledger().state().orders_of(&id).map(|order| order.state).collect()
    }

    /// Processes the account's balance and purchases, as at the start.
    fn reconcile(&mut self) {
        let now = self.now();
        let _effects =
            self.engine.ledger().set_balance(Amount::from_cents(500_000), now.wall, now.wall);
        let reading = PurchasesReading::complete(Vec::new(), now.wall);
        self.engine.on_account_update(AccountUpdate::Purchases(reading), now);
    }
}

/// Returns a listing with this price, and so with a margin below the limit of the entry.
fn priced(id: &str, cents: i64) -> Trade<'static> {
    let price = Some(Amount::from_cents(cents));
    let markup_percent = Some(Percent::default());
    Trade { total_value: price, base_value: price, markup_percent, ..trade(id, REDLINE) }
}

fn many() -> WhitelistEntry {
    WhitelistEntry { max_quantity: 1_000, ..entry() }
}

fn taken() -> Outcome {
    Outcome::Rejected(RejectReason::Taken)
}

#[test]
fn a_match_above_max_in_flight_is_ordered_after_a_response() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", REDLINE));
    assert!(session.engine.has_earlier_deadline, "`run` must be woken");
    session.run_timers();
    assert_eq!(session.sent(), ["a"]);
    session.settle_order("a", taken());
    session.run_timers();
    assert_eq!(session.sent(), ["a", "b"]);
}

#[test]
fn of_forty_wanted_at_once_with_eight_in_flight_all_are_ordered_once_by_their_margin() {
    let mut session = TestSession::live(Budget { max_in_flight: 8, ..ample_budget() });
    let price = |number: i64| 900 - (number * 7) % 40;
    for number in 0..40 {
        session.consider(priced(&format!("t{number}"), price(number)));
    }
    assert_eq!(session.sent().len(), 8);
    let mut answered = 0;
    while answered < session.sent().len() {
        let id = session.sent()[answered].clone();
        session.settle_order(&id, taken());
        session.run_timers();
        answered += 1;
    }
    let mut queued: Vec<i64> = (8..40).collect();
    queued.sort_by_key(|number| (price(*number), *number));
    let expected: Vec<String> = (0..8).chain(queued).map(|number| format!("t{number}")).collect();
    assert_eq!(session.sent(), expected);
    assert_eq!((session.engine.stats().skipped_total(), session.engine.stats().not_sent), (0, 0));
}

#[test]
fn a_new_match_goes_before_queued_ones_only_with_a_greater_margin() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
    for (id, cents) in [("a", 900), ("b", 800)] {
        session.consider(priced(id, cents));
    }
    session.settle_order("a", taken());
    // An order could be sent in place of "a", but "b" comes first.
    session.consider(priced("c", 801));
    session.consider(priced("d", 800));
    assert_eq!(session.sent(), ["a"]);
    session.consider(priced("e", 799));
    assert_eq!(session.sent(), ["a", "e"]);
    for id in ["e", "b", "d"] {
        session.settle_order(id, taken());
        session.run_timers();
    }
    assert_eq!(session.sent(), ["a", "e", "b", "d", "c"]);
}

/// The reference allows 16 coins, with any `max_price` of the entry.
#[test]
fn the_margin_of_a_percent_rule_is_that_below_the_share_of_the_reference() {
    let case = WhitelistEntry {
        item: ItemPattern::Named("Fracture Case".to_owned()),
        max_price: Amount::from_cents(2_000),
        ..many()
    };
    let percent = WhitelistEntry { max_quantity: 1_000, ..percent_entry() };
    let executor = Executor::Live(FakeOrderSender::default());
    let budget = Budget { max_in_flight: 1, ..ample_budget() };
    let mut session = TestSession::new(executor, budget, vec![case, percent]);
    session.engine.set_prices(Arc::new(book_at(session.now().wall)));
    session.consider(priced("a", 1_500));
    session.consider(priced("b", 1_550));
    let (item, market_name) = ("Fracture Case".into(), "Fracture Case".into());
    session.consider(Trade { item, market_name, wear: None, ..priced("c", 1_900) });
    for id in ["a", "c"] {
        session.settle_order(id, taken());
        session.run_timers();
    }
    assert_eq!(session.sent(), ["a", "c", "b"]);
}

#[test]
fn a_match_that_is_not_open_yet_is_held_also_while_others_wait() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
    session.sync_clock();
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", REDLINE));
    session.consider(Trade { can_join_after: Some(UnixMs(2_060_000)), ..trade("c", REDLINE) });
    session.after = OrdersConfig::default().max_wait;
    session.run_timers();
    assert_eq!(session.skipped("max_in_flight"), 1);
    session.settle_order("a", taken());
    session.after = Duration::from_secs(61);
    session.run_timers();
    assert_eq!(session.sent(), ["a", "c"]);
}

#[test]
fn a_queued_match_is_skipped_after_the_maximum_wait() {
    for max_wait in [OrdersConfig::default().max_wait, Duration::from_millis(200)] {
        let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
        session.engine.set_max_wait(max_wait);
        session.consider(trade("a", REDLINE));
        session.consider(trade("b", REDLINE));
        assert_eq!(session.run_timers(), Some(session.start + max_wait));
        session.after = max_wait - Duration::from_millis(1);
        session.run_timers();
        assert_eq!((session.skipped("max_in_flight"), session.engine.has_deferred()), (0, true));
        session.after = max_wait;
        assert_eq!(session.run_timers(), None);
        assert_eq!((session.skipped("max_in_flight"), session.engine.has_deferred()), (1, false));
    }
}

#[test]
fn without_a_wait_a_match_above_max_in_flight_is_skipped() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
    session.engine.set_max_wait(Duration::ZERO);
    session.consider(trade("a", REDLINE));
    session.consider(trade("b", REDLINE));
    assert_eq!((session.skipped("max_in_flight"), session.engine.has_deferred()), (1, false));
}

#[test]
fn the_queue_is_bounded_and_what_falls_out_is_counted() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
    for number in 0..=i64::try_from(QUEUED_MAX).unwrap() + 1 {
        session.consider(priced(&format!("t{number}"), 900 - number));
    }
    assert_eq!(session.engine.queue.len(), QUEUED_MAX);
    assert_eq!(session.skipped("max_in_flight"), 1);
    session.engine.stop();
    assert_eq!(session.skipped("stopping"), u64::try_from(QUEUED_MAX).unwrap());
}

#[test]
fn without_a_connection_a_match_waits_and_nothing_is_spent() {
    let budget = Budget { total: Amount::from_cents(1_015), ..ample_budget() };
    for is_restored in [true, false] {
        let mut session = TestSession::live(budget.clone());
        sender(&session).is_down.set(true);
        session.consider(trade("a", REDLINE));
        session.run_timers();
        assert_eq!(session.ledger_state("a"), [OrderState::NotSent], "one attempt");
        let now = session.now().wall;
        assert_eq!(session.engine.ledger.snapshot(now).spent, Amount::ZERO);
        assert!(session.engine.awaited_connection().is_some());
        if is_restored {
            sender(&session).is_down.set(false);
            assert!(session.engine.awaited_connection().is_none());
        } else {
            session.after = OrdersConfig::default().max_wait;
        }
        session.run_timers();
        let not_sent = session.engine.stats().not_sent;
        if is_restored {
            assert_eq!(session.ledger_state("a"), [OrderState::Sent, OrderState::NotSent]);
            assert_eq!((session.sent(), not_sent), (vec!["a".to_owned()], 0));
        } else {
            assert_eq!((session.sent(), not_sent), (vec![], 1));
        }
    }
}

#[test]
fn an_order_of_which_no_byte_was_sent_is_tried_again_on_another_connection() {
    for keyed_by in [KeyedBy::Id, KeyedBy::IdAndPrice] {
        let mut session = TestSession::live(ample_budget());
        session.engine.keyed_by = keyed_by;
        sender(&session).closed.set(2);
        session.consider(trade("a", REDLINE));
        session.run_timers();
        assert!(session.sent().is_empty());
        session.run_timers();
        assert_eq!(session.sent(), ["a"]);
        assert_eq!(
            session.ledger_state("a"),
            [OrderState::Sent, OrderState::NotSent, OrderState::NotSent]
        );
        assert_eq!(session.engine.stats().internal_errors, 0);
        session.run_timers();
        assert_eq!(session.sent(), ["a"]);
    }
}

#[test]
fn a_match_during_the_check_at_the_start_is_ordered_after_it() {
    let mut session = TestSession::live(ample_budget());
    session.engine.ledger = Ledger::in_memory(ample_budget(), &[many()], true);
    session.consider(trade("a", REDLINE));
    session.run_timers();
    assert_eq!((session.sent(), session.engine.stats().skipped_total()), (vec![], 0));
    session.reconcile();
    session.run_timers();
    assert_eq!(session.sent(), ["a"]);
}

#[test]
fn a_queued_match_passes_every_check_again() {
    type Change = fn(&mut TestSession);
    let cases: [(&str, Change); 6] = [
        ("expired", |session| session.after = Duration::from_secs(3)),
        ("halted", |session| {
            let now = session.now().wall;
            session.engine.update_ledger(|ledger| Ok(ledger.halt(HaltReason::OtherAccount, now)));
        }),
        ("total", |session| {
            let now = session.now().wall;
            let budget = Budget { total: Amount::from_cents(1_015), ..ample_budget() };
            session.engine.ledger = Ledger::in_memory(budget, &[many()], false);
            let other = OrderRequest {
                id: TradeId::new("other").unwrap(),
                keyed_by: KeyedBy::Id,
                price: Amount::from_cents(1),
                entry: 0,
                created_at: None,
            };
            let _approved = session.engine.ledger.reserve(other, now).unwrap();
        }),
        ("taken while held", |session| {
            let event = TradeEvent::Updated;
            session.consider(Trade { event, status: TradeStatus::Joined, ..trade("b", REDLINE) });
        }),
        ("removed while held", |session| {
            let now = session.now();
            let id = TradeId::new("b").unwrap();
            session.engine.on_notice(TradeNotice::Removed { id }, now);
        }),
        ("changed while held", |session| session.consider(priced("b", 90_000))),
    ];
    for (reason, change) in cases {
        let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
        session.sync_clock();
        let expires_at = Some(UnixMs(2_002_000));
        session.consider(trade("a", REDLINE));
        session.consider(Trade { expires_at, ..trade("b", REDLINE) });
        change(&mut session);
        if reason != "total" {
            session.settle_order("a", taken());
        }
        session.run_timers();
        assert_eq!(
            (session.sent(), session.skipped(reason)),
            (vec!["a".to_owned()], 1),
            "{reason}"
        );
        assert!(!session.engine.has_deferred(), "{reason}");
    }
}

#[test]
fn limits_halts_and_pauses_are_final_and_every_other_reason_is_transient() {
    let (coins, at) = (Amount::from_cents(1), UnixMs(0));
    let (spent, price, max, balance, min) = (coins, coins, coins, coins, coins);
    let passing = [
        RiskRejection::NotReconciled,
        RiskRejection::BalanceUnknown,
        RiskRejection::Unwritable,
        RiskRejection::Behind,
        RiskRejection::OrderPending,
        RiskRejection::InFlight { in_flight: 8, max: 8 },
        RiskRejection::NoSlice,
        RiskRejection::SharedAmount { limit: SharedLimit::Total, spent, price, slice: max },
        RiskRejection::SharedQuantity { limit: SharedLimit::EntryQuantity, bought: 1, slice: 1 },
    ];
    let last = [
        RiskRejection::Halted,
        RiskRejection::Paused { until: at },
        RiskRejection::Full { max: 1 },
        RiskRejection::AlreadyRequested,
        RiskRejection::OrderedTooOften { max: 1 },
        RiskRejection::BeforePowerLoss { barrier: at },
        RiskRejection::NoPrice { price },
        RiskRejection::MaxPrice { price, max },
        RiskRejection::NoEntry,
        RiskRejection::EntryQuantity { bought: 1, max: 1 },
        RiskRejection::EntryTotal { spent, price, max },
        RiskRejection::GroupQuantity { bought: 1, max: 1 },
        RiskRejection::GroupTotal { spent, price, max },
        RiskRejection::Total { spent, price, max },
        RiskRejection::PerHour { spent, price, max },
        RiskRejection::PerDay { spent, price, max },
        RiskRejection::MinBalance { balance, price, min },
        RiskRejection::PerMinute { sent: 1, max: 1 },
        RiskRejection::NoContact { until: at },
        RiskRejection::Standby,
        RiskRejection::SharedRejected("why"),
    ];
    for (rejections, expected) in [(&passing[..], true), (&last[..], false)] {
        for rejection in rejections {
            assert_eq!(rejection.is_transient(), expected, "{rejection:?}");
        }
    }
}

proptest! {
    /// For any delay of the orders, each match is ordered once or counted with a reason, no more
    /// orders are in flight than allowed, and nothing waits longer than the maximum.
    #[test]
    fn every_match_is_ordered_once_or_counted(
        steps in prop::collection::vec((0_u8..6, 1_i64..1_300, 0_u64..1_500), 0..120),
        max_in_flight in 1_u32..4,
    ) {
        let mut session = TestSession::live(Budget { max_in_flight, ..ample_budget() });
        session.sync_clock();
        let mut answered = 0;
        for (number, (step, cents, wait)) in steps.into_iter().enumerate() {
            match step {
                0 => {
                    if let Some(id) = session.sent().get(answered) {
                        session.settle_order(id, taken());
                        answered += 1;
                    }
                }
                1 => sender(&session).is_down.set(!sender(&session).is_down.get()),
                2 => sender(&session).closed.set(2),
                3 => session.after += Duration::from_millis(wait),
                _ => session.consider(priced(&format!("t{number}"), cents)),
            }
            if wait % 2 == 0 {
                session.run_timers();
            }
            prop_assert!(session.sent().len() - answered <= usize::try_from(max_in_flight).unwrap());
        }
        session.after += OrdersConfig::default().max_wait;
        session.run_timers();
        prop_assert!(!session.engine.has_deferred());
        let mut sent = session.sent();
        let ordered = sent.len();
        let stats = session.engine.stats();
        prop_assert_eq!(
            stats.matched,
            u64::try_from(ordered).unwrap() + stats.not_sent + stats.skipped_total()
        );
        prop_assert_eq!(stats.internal_errors, 0);
        sent.sort();
        sent.dedup();
        prop_assert_eq!(sent.len(), ordered);
    }
}

fn removed(session: &mut TestSession, id: &str) {
    let (notice, now) = (TradeNotice::Removed { id: TradeId::new(id).unwrap() }, session.now());
    session.engine.on_notice(notice, now);
}

#[test]
fn a_skipped_listing_that_returns_or_has_its_price_again_is_ordered_when_the_limit_permits_it() {
    let per_hour = Some(Amount::from_cents(1_500));
    let repriced = |cents| Trade { event: TradeEvent::Repriced, ..at_price(cents) };
    for is_removed in [false, true] {
        let mut session = TestSession::live(Budget { per_hour, ..ample_budget() });
        session.engine.keyed_by = KeyedBy::IdAndPrice;
        session.consider(priced("other", 1_000));
        for _ in 0..2 {
            session.consider(at_price(1_000));
        }
        let repeated = session.engine.stats().repeated;
        assert_eq!((session.skipped("per_hour"), repeated), (1, 1));
        match is_removed {
            true => removed(&mut session, "a"),
            false => session.consider(repriced(90_000)),
        }
        session.after = Duration::from_secs(3_601);
        for _ in 0..2 {
            session.consider(if is_removed { at_price(1_000) } else { repriced(1_000) });
        }
        assert_eq!(session.sent(), ["other", "a"], "removed: {is_removed}");
    }
}

/// The response to an order often arrives after the listing has another price.
#[test]
fn a_new_price_during_an_order_is_ordered_once_the_order_was_certainly_not_bought() {
    let repriced = |cents| Trade { event: TradeEvent::Repriced, ..at_price(cents) };
    let settle = |session: &mut TestSession, outcome, is_final| {
        let key =
            KeyedBy::IdAndPrice.key(TradeId::new("a").unwrap(), Some(Amount::from_cents(1_000)));
        let report = OrderReport { key, ..report("a", outcome, is_final) };
        session.engine.on_order_report(&report, session.now());
        session.run_timers();
    };
    let bought = Outcome::Bought { price: None, server_time: None };
    for (outcome, orders) in [(taken(), 2), (bought, 1)] {
        for new_price in [900, 1_010] {
            let mut session = TestSession::live(ample_budget());
            session.engine.keyed_by = KeyedBy::IdAndPrice;
            session.consider(at_price(1_000));
            session.consider(repriced(new_price));
            session.run_timers();
            assert_eq!((session.sent().len(), session.engine.queue.len()), (1, 1));
            settle(&mut session, unconfirmed(RejectReason::Taken), false);
            assert_eq!(session.sent().len(), 1, "the rejection is not confirmed");
            // Other listings do not wait for it.
            session.consider(priced("other", 1_000));
            assert_eq!(session.sent().len(), 2);
            settle(&mut session, outcome.clone(), true);
            assert_eq!((session.sent().len(), session.engine.queue.len()), (1 + orders, 0));
        }
    }
}

#[test]
fn a_new_price_is_ordered_once_the_user_has_settled_the_order_before() {
    let mut session = TestSession::live(ample_budget());
    session.engine.keyed_by = KeyedBy::IdAndPrice;
    session.consider(at_price(1_000));
    let id = TradeId::new("a").unwrap();
    let key = KeyedBy::IdAndPrice.key(id, Some(Amount::from_cents(1_000)));
    let unknown = OrderReport { key, ..report("a", Outcome::Unknown(Unknown::Cut), true) };
    let now = session.now();
    session.engine.on_order_report(&unknown, now);
    session.consider(Trade { event: TradeEvent::Repriced, ..at_price(900) });
    session.run_timers();
    let resolve = ControlRequest::Resolve {
        id: id.to_string(),
        verdict: Resolution::NotBought,
        by: "me".to_owned(),
    };
    session.request(ControlRequest::Status);
    session.run_timers();
    assert_eq!(session.sent().len(), 1);
    session.request(resolve);
    session.run_timers();
    assert_eq!(session.sent().len(), 2);
}

#[test]
fn a_new_price_during_an_order_of_unknown_outcome_is_skipped_in_the_end() {
    let mut session = TestSession::live(ample_budget());
    session.engine.keyed_by = KeyedBy::IdAndPrice;
    session.consider(at_price(1_000));
    session.consider(Trade { event: TradeEvent::Repriced, ..at_price(900) });
    session.after = session.engine.max_wait;
    session.run_timers();
    assert_eq!((session.sent().len(), session.skipped("order_pending")), (1, 1));
}

/// Nothing was sent for it.
#[test]
fn a_listing_that_waited_too_long_is_ordered_when_it_is_repeated() {
    for (keyed_by, waiting, max_wait, is_down) in [
        (KeyedBy::Id, priced("b", 900), 2, false),
        (KeyedBy::Id, priced("b", 900), 0, false),
        (KeyedBy::Id, priced("b", 900), 2, true),
        (KeyedBy::IdAndPrice, priced("b", 900), 2, false),
        // During an order at another price.
        (KeyedBy::IdAndPrice, at_price(900), 2, false),
    ] {
        let max_in_flight = 1 + u32::from(is_down);
        let mut session = TestSession::live(Budget { max_in_flight, ..ample_budget() });
        session.engine.keyed_by = keyed_by;
        session.engine.set_max_wait(Duration::from_secs(max_wait));
        session.consider(at_price(1_000));
        sender(&session).is_down.set(is_down);
        session.consider(waiting.clone());
        session.after = Duration::from_secs(max_wait);
        session.run_timers();
        assert_eq!((session.sent().len(), session.engine.has_deferred()), (1, false));
        let key = keyed_by.key(TradeId::new("a").unwrap(), Some(Amount::from_cents(1_000)));
        let (report, now) = (OrderReport { key, ..report("a", taken(), true) }, session.now());
        session.engine.on_order_report(&report, now);
        sender(&session).is_down.set(false);
        for _ in 0..2 {
            session.consider(waiting.clone());
        }
        assert_eq!((session.sent().len(), session.engine.stats().repeated), (2, 1));
    }
}

/// A second connection may deliver a listing again that left and returned.
#[test]
fn a_listing_that_is_skipped_again_at_once_for_a_transient_reason_is_counted_once() {
    for (case, waiting) in [("no wait", 0), ("full queue", QUEUED_MAX), ("full hold", HELD_MAX)] {
        let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
        session.engine.keyed_by = KeyedBy::IdAndPrice;
        session.sync_clock();
        let can_join_after = (case == "full hold").then_some(UnixMs(2_060_000));
        if case == "no wait" {
            session.engine.set_max_wait(Duration::ZERO);
        }
        session.consider(priced("other", 900));
        for number in 0..waiting {
            session.consider(Trade { can_join_after, ..priced(&format!("t{number}"), 900) });
        }
        for _copy in 0..3 {
            session.consider(Trade { can_join_after, ..at_price(1_000) });
        }
        let (stats, waiting) = (session.engine.stats(), u64::try_from(waiting).unwrap());
        let counted = (stats.matched, stats.skipped_total(), stats.repeated);
        assert_eq!(counted, (1 + waiting + 1, 1, 2), "{case}");
        // At another price it is another chance.
        session.consider(Trade { event: TradeEvent::Repriced, can_join_after, ..at_price(990) });
        assert_eq!(session.engine.stats().skipped_total(), 2, "{case}");
        assert_eq!(session.sent(), ["other"], "{case}");
    }
}

#[test]
fn a_listing_that_is_removed_while_queued_and_returns_is_ordered_once() {
    let mut session = TestSession::live(Budget { max_in_flight: 1, ..ample_budget() });
    session.engine.keyed_by = KeyedBy::IdAndPrice;
    session.consider(priced("other", 1_000));
    session.consider(at_price(1_000));
    removed(&mut session, "a");
    assert!(!session.engine.has_deferred());
    session.consider(at_price(1_000));
    let id = TradeId::new("other").unwrap();
    let key = KeyedBy::IdAndPrice.key(id, Some(Amount::from_cents(1_000)));
    let (report, now) = (OrderReport { key, ..report("other", taken(), true) }, session.now());
    session.engine.on_order_report(&report, now);
    session.run_timers();
    assert_eq!(session.sent(), ["other", "a"]);
    // After its order was sent, the ledger orders the key no second time.
    removed(&mut session, "a");
    session.consider(at_price(1_000));
    assert_eq!((session.sent().len(), session.skipped("already_requested")), (2, 1));
}

/// A listing waits, and the price of its reference is gone when it could be ordered.
#[test]
fn a_percent_rule_is_checked_again_for_a_queued_and_for_a_held_listing() {
    for is_held in [false, true] {
        for keeps_reference in [true, false] {
            let entry = WhitelistEntry { max_quantity: 1_000, ..percent_entry() };
            let budget = Budget { max_in_flight: 1, ..ample_budget() };
            let executor = Executor::Live(FakeOrderSender::default());
            let mut session = TestSession::new(executor, budget, vec![entry]);
            session.sync_clock();
            session.engine.set_prices(Arc::new(book_at(session.now().wall)));
            session.consider(priced("a", 1_500));
            let can_join_after = is_held.then_some(UnixMs(2_001_000));
            session.consider(Trade { can_join_after, ..priced("b", 1_500) });
            assert_eq!(session.sent(), ["a"]);
            if !keeps_reference {
                session.engine.set_prices(Arc::default());
                let reason = session.engine.unwanted_reason(&priced("b", 1_500), 0, session.now());
                assert_eq!(reason.unwrap().1, "buff.ask has no prices yet");
            }
            session.settle_order("a", taken());
            session.after = Duration::from_secs(2);
            session.run_timers();
            let skipped = session.skipped("reference changed while held");
            match keeps_reference {
                true => assert_eq!((session.sent(), skipped), (vec!["a".into(), "b".into()], 0)),
                false => assert_eq!((session.sent(), skipped), (vec!["a".into()], 1)),
            }
        }
    }
}

/// A machine starts with a clock that is hours off and is then corrected.
#[test]
fn the_age_of_a_price_follows_a_correction_of_the_clock_backward_with_the_next_prices() {
    let executor = Executor::Live(FakeOrderSender::default());
    let mut session = TestSession::new(executor, ample_budget(), vec![percent_entry()]);
    let (now, hours) = (session.now(), Duration::from_secs(5 * 3_600));
    let label = SourceLabel { name: "buff".into(), currency: PriceCurrency::Usd };
    let (start, ahead, behind) = (now.wall, now.wall.plus(hours), now.wall.minus(hours));
    let mut is_fresh = |wall: UnixMs, prices_at: Option<UnixMs>| {
        let engine = &mut session.engine;
        engine.watch_clock(wall, now);
        if let Some(at) = prices_at {
            engine.set_prices(Arc::new(book_at(at).with_labels([label.clone()].into_iter())));
        }
        let is_usable = engine.unwanted_reason(&priced("a", 1_500), 0, now).is_none();
        assert_eq!(engine.price_status(now.wall)[0].stale, !is_usable, "{wall} {prices_at:?}");
        is_usable
    };
    assert!(is_fresh(start, Some(start)) && !is_fresh(start, Some(ahead)));
    // Forward at once, also for prices that are in use.
    assert!(is_fresh(ahead, None) && !is_fresh(ahead, Some(start)));
    // Backward: prices in use become no younger.
    assert!(is_fresh(ahead, Some(ahead)) && is_fresh(start, None) && !is_fresh(ahead, Some(start)));
    assert!(!is_fresh(start, None) && is_fresh(start, Some(start)));
    assert!(!is_fresh(start, Some(behind)) && !is_fresh(behind, None));
    assert!(is_fresh(behind, Some(behind)) && is_fresh(behind, None));
    assert!(!is_fresh(start, None), "forward again");
}

#[tokio::test]
async fn prices_and_their_maximum_prices_are_replaced_together() {
    let executor = Executor::Live(FakeOrderSender::default());
    let session = TestSession::new(executor, ample_budget(), vec![percent_entry()]);
    let entries = [percent_entry()];
    let feed = WantedSender::new(Arc::new(WantedItems::of(&entries)));
    let mut wanted = feed.subscribe();
    let (sender, receiver) = mpsc::channel(1);
    let mut inputs = EngineInputs {
        prices: Some(receiver),
        wanted: Some(feed.clone()),
        ..EngineInputs::default()
    };
    let (now, metrics) = (clock::wall(), FeedMetrics::default());
    let listing = priced("a", 1_500);
    assert!(!feed.borrow().wants(&listing));
    sender.send(PriceSnapshot::new(book_at(now), &entries, now)).await.unwrap();
    let sniper = Sniper::new(session.engine);
    tokio::select! {
        biased;
        error = sniper.run(&mut inputs, &metrics) => panic!("{error}"),
        changed = wanted.changed() => changed.unwrap(),
    }
    assert!(feed.borrow().wants(&listing) && !feed.borrow().wants(&priced("b", 1_601)));
    let now = Now { instant: Instant::now(), wall: now };
    let share = sniper
        .with_engine(|engine| engine.price_view(now).compared_reference(&entries[0], &listing));
    assert_eq!(
        share.map(|decided| decided.share.to_string()).as_deref(),
        Some("15.00 = 75.0 % of reference 20.00")
    );
}
