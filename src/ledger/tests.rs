//! Tests of the limits, on ledgers in memory, and helpers for the other ledger tests.

use std::time::Duration;

use super::{entries::tests::entry, *};
use crate::domain::{
    outcome::{NotSent, RejectReason, Unknown},
    trade::KeyedBy,
};

mod adversary;
mod ahead;
mod clock_changes;
mod commissions;
pub(crate) mod disk;
mod formats;
mod groups;
mod items;
mod keys;
mod look_ups;
mod losses;
mod model;
mod own_ids;
mod power_losses;
mod proofs;
mod releases;
mod shared;
mod unconfirmed_rejections;

pub(crate) const T0: UnixMs = UnixMs(1_772_359_200_000);
const BOUGHT: Outcome = Outcome::Bought { price: None, server_time: None };
const TAKEN: Outcome = Outcome::Rejected(RejectReason::Taken);
pub(crate) const UNKNOWN: Outcome = Outcome::Unknown(Unknown::Timeout);

pub(crate) fn coins(whole: i64) -> Amount {
    Amount::from_cents(whole * 100)
}

pub(crate) fn id(n: u32) -> TradeId {
    TradeId::new(&format!("listing-{n}")).unwrap()
}

/// Returns the key of a listing on a market that does not change prices.
pub(super) fn key(n: u32) -> TradeKey {
    KeyedBy::Id.key(id(n), None)
}

fn operator() -> Operator {
    Operator::new("me")
}

pub(crate) fn after(seconds: u64) -> UnixMs {
    T0.plus(Duration::from_secs(seconds))
}

/// A budget whose limits no test reaches unless it lowers them.
pub(crate) fn budget() -> Budget {
    Budget {
        max_price: coins(1_000),
        total: coins(1_000_000),
        min_balance: Amount::ZERO,
        max_buys_per_minute: 1_000,
        per_hour: None,
        per_day: None,
        max_in_flight: 1_000,
    }
}

/// Returns the number of histories per property: `SNIPER_TEST_HISTORIES`, or few enough for a quick
/// run.
fn histories() -> u32 {
    number("SNIPER_TEST_HISTORIES").unwrap_or(60)
}

/// Returns the number of histories on real files: `SNIPER_TEST_DISK_HISTORIES`, or few.
fn histories_on_disk() -> u32 {
    number("SNIPER_TEST_DISK_HISTORIES").unwrap_or(2)
}

fn number(variable: &str) -> Option<u32> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn ledger(budget: Budget) -> Ledger {
    Ledger::in_memory(budget, &[entry(Some("first")), entry(Some("second"))], false)
}

pub(crate) fn order_request(n: u32, price: i64) -> OrderRequest {
    let (id, keyed_by, created_at) = (id(n), KeyedBy::Id, Some(T0));
    OrderRequest { id, keyed_by, price: coins(price), entry: 0, created_at }
}

/// Applies a start of the program.
#[track_caller]
fn restart(ledger: &mut Ledger, now: UnixMs) {
    let started = LedgerEvent::Started { boot: event::BootId::default(), start: None };
    ledger.state.apply(now, &started).unwrap();
}

/// Applies a power loss that may have removed this many orders, for this many coins in total.
#[track_caller]
fn lose(ledger: &mut Ledger, count: u32, whole: i64, barrier: UnixMs, now: UnixMs) {
    let lost = LedgerEvent::Lost { coins: coins(whole), count, barrier };
    ledger.state.apply(now, &lost).unwrap();
}

#[track_caller]
fn place_order(
    ledger: &mut Ledger,
    request: OrderRequest,
    outcome: &Outcome,
    now: UnixMs,
) -> Effects {
    let approved = ledger.reserve(request, now).unwrap();
    ledger.sent(approved.key(), now).unwrap();
    ledger.settle(approved.key(), outcome, now).unwrap()
}

#[track_caller]
fn assert_rejected(
    ledger: &mut Ledger,
    request: OrderRequest,
    now: UnixMs,
    expected: RiskRejection,
) {
    let before = ledger.snapshot(now);
    assert_eq!(ledger.reserve(request, now).unwrap_err(), expected);
    assert_eq!(ledger.snapshot(now), before, "a rejected request changes nothing");
}

#[test]
fn a_price_above_max_price_is_rejected_with_both_prices() {
    let mut ledger = ledger(Budget { max_price: coins(50), ..budget() });
    let rejection = RiskRejection::MaxPrice { price: coins(51), max: coins(50) };
    assert_rejected(&mut ledger, order_request(1, 51), T0, rejection);
    assert_eq!(rejection.to_string(), "price 51.00 is above max_price 50.00");
    let _approved = ledger.reserve(order_request(1, 50), T0).unwrap();
}

#[test]
fn another_spelling_of_an_ordered_id_is_rejected() {
    let spelled = |text| OrderRequest { id: TradeId::new(text).unwrap(), ..order_request(1, 1) };
    for outcome in [BOUGHT, TAKEN, UNKNOWN] {
        let mut ledger = ledger(budget());
        let _effects = place_order(&mut ledger, spelled("VHJhZGU6MQ"), &outcome, T0);
        for spelling in ["VHJhZGU6MQ", "VHJhZGU6MQ==", "VHJhZGU6MR", "VHJhZGU6MQ%3D%3D"] {
            assert_rejected(&mut ledger, spelled(spelling), T0, RiskRejection::AlreadyRequested);
        }
        let _approved = ledger.reserve(spelled("VHJhZGU6Mg"), T0).unwrap();
    }
}

/// Version 0.1.0 compared ids as text, so its ledgers may contain one listing twice.
#[test]
fn a_ledger_that_holds_two_spellings_of_one_id_still_replays() {
    let mut state = LedgerState::new(budget(), false);
    state.set_entries(&[entry(Some("first"))]);
    let reserved = |number, text| LedgerEvent::Reserved {
        sequence: Sequence(number),
        id: TradeId::new(text).unwrap(),
        keyed_by: KeyedBy::Id,
        price: coins(1),
        entry: EntrySlot(1),
        limits: 0,
        own_number: 0,
    };
    state.apply(T0, &reserved(1, "VHJhZGU6MQ")).unwrap();
    state.apply(T0, &reserved(2, "VHJhZGU6MQ==")).unwrap();
    state.check().unwrap();
    let again = state.apply(T0, &reserved(3, "VHJhZGU6MQ=="));
    assert_eq!(again, Err(InvalidTransition::RequestedTwice(Sequence(3))));
}

#[test]
fn an_approval_allocates_no_memory_after_10_000_orders() {
    let mut state = LedgerState::new(budget(), false);
    state.set_entries(&[entry(Some("first"))]);
    state.reserve_capacity();
    for n in 0..10_000 {
        let (now, request) = (after(u64::from(n)), order_request(n, 1));
        let mut approved = Err(RiskRejection::NoEntry);
        let counted = allocation_counter::measure(|| {
            approved = state.approve(&request, now);
            if let Ok(event) = &approved {
                state.apply(now, event).unwrap();
            }
        });
        assert_eq!(counted.count_total, 0, "the approval of {n}");
        let Ok(LedgerEvent::Reserved { sequence, .. }) = approved else { panic!("{approved:?}") };
        let answer = if n % 2 == 0 { BOUGHT } else { TAKEN };
        state.apply(now, &LedgerEvent::Answered { sequence, answer: (&answer).into() }).unwrap();
        state.reserve_capacity();
    }
}

#[test]
fn a_price_of_zero_or_less_is_rejected() {
    let mut ledger = ledger(budget());
    assert_rejected(
        &mut ledger,
        order_request(1, 0),
        T0,
        RiskRejection::NoPrice { price: Amount::ZERO },
    );
    assert_rejected(
        &mut ledger,
        order_request(1, -5),
        T0,
        RiskRejection::NoPrice { price: coins(-5) },
    );
}

#[test]
fn a_reserved_order_counts_against_total_until_it_is_rejected() {
    let mut ledger = ledger(Budget { total: coins(100), ..budget() });
    let first = ledger.reserve(order_request(1, 60), T0).unwrap();
    let rejection = RiskRejection::Total { spent: coins(60), price: coins(41), max: coins(100) };
    assert_rejected(&mut ledger, order_request(2, 41), T0, rejection);
    let _effects = ledger.settle(first.key(), &TAKEN, T0).unwrap();
    let _approved = ledger.reserve(order_request(2, 41), T0).unwrap();
}

#[test]
fn an_unknown_order_counts_as_spent_until_proven_otherwise() {
    let mut ledger = ledger(Budget { total: coins(100), ..budget() });
    let _effects = place_order(&mut ledger, order_request(1, 60), &UNKNOWN, T0);
    let rejection = RiskRejection::Total { spent: coins(60), price: coins(60), max: coins(100) };
    assert_rejected(&mut ledger, order_request(2, 60), after(86_400 * 30), rejection);
    let _effects = ledger.resolve(&id(1), Evidence::NotBought, operator(), after(1)).unwrap();
    let _approved = ledger.reserve(order_request(2, 60), after(2)).unwrap();
}

#[test]
fn per_hour_and_per_day_are_rolling_windows() {
    let limits = Budget { per_hour: Some(coins(100)), per_day: Some(coins(150)), ..budget() };
    let mut ledger = ledger(limits);
    let _effects = place_order(&mut ledger, order_request(1, 100), &BOUGHT, T0);
    let hour = RiskRejection::PerHour { spent: coins(100), price: coins(1), max: coins(100) };
    assert_rejected(&mut ledger, order_request(2, 1), after(3_599), hour);
    let _effects = place_order(&mut ledger, order_request(2, 50), &BOUGHT, after(3_600));
    let day = RiskRejection::PerDay { spent: coins(150), price: coins(1), max: coins(150) };
    assert_rejected(&mut ledger, order_request(3, 1), after(86_399), day);
    let _effects = place_order(&mut ledger, order_request(3, 1), &BOUGHT, after(86_400));
}

#[test]
fn a_rejected_order_frees_every_limit_except_the_one_per_minute() {
    let limits = Budget {
        total: coins(10),
        per_hour: Some(coins(10)),
        per_day: Some(coins(10)),
        max_buys_per_minute: 3,
        ..budget()
    };
    let mut ledger = ledger(limits);
    for n in 1..=3 {
        let _effects = place_order(&mut ledger, order_request(n, 10), &TAKEN, T0);
    }
    assert_rejected(
        &mut ledger,
        order_request(4, 10),
        after(59),
        RiskRejection::PerMinute { sent: 3, max: 3 },
    );
    let _effects = place_order(&mut ledger, order_request(4, 10), &TAKEN, after(60));
}

#[test]
fn an_order_that_was_not_sent_counts_nowhere_and_can_be_retried() {
    let mut ledger = ledger(Budget { total: coins(10), max_buys_per_minute: 1, ..budget() });
    for second in 0..3 {
        let approved = ledger.reserve(order_request(1, 10), after(second)).unwrap();
        let never = Outcome::NotSent(NotSent::NoConnection);
        let _effects = ledger.settle(approved.key(), &never, after(second)).unwrap();
    }
}

#[test]
fn a_listing_is_requested_once_regardless_of_the_outcome() {
    for (n, outcome) in (1..).zip([BOUGHT, TAKEN, UNKNOWN]) {
        let mut ledger = ledger(budget());
        let _effects = place_order(&mut ledger, order_request(n, 1), &outcome, T0);
        assert_rejected(
            &mut ledger,
            order_request(n, 1),
            after(1_000_000),
            RiskRejection::AlreadyRequested,
        );
    }
}

#[test]
fn orders_in_flight_are_bounded_and_unknown_ones_do_not_count() {
    let mut ledger = ledger(Budget { max_in_flight: 2, ..budget() });
    let first = ledger.reserve(order_request(1, 1), T0).unwrap();
    let _second = ledger.reserve(order_request(2, 1), T0).unwrap();
    let rejection = RiskRejection::InFlight { in_flight: 2, max: 2 };
    assert!(rejection.is_transient());
    assert_rejected(&mut ledger, order_request(3, 1), T0, rejection);
    let _effects = ledger.settle(first.key(), &UNKNOWN, T0).unwrap();
    let _approved = ledger.reserve(order_request(3, 1), T0).unwrap();
}

#[test]
fn each_entry_has_its_own_limits() {
    let mut limited = entry(Some("limited"));
    limited.max_quantity = 2;
    limited.max_total = Some(coins(10));
    let entries = [limited, entry(Some("free"))];
    let mut ledger = Ledger::in_memory(budget(), &entries, false);
    let _effects = place_order(&mut ledger, order_request(1, 6), &BOUGHT, T0);
    let total = RiskRejection::EntryTotal { spent: coins(6), price: coins(5), max: coins(10) };
    assert_rejected(&mut ledger, order_request(2, 5), T0, total);
    let _effects = place_order(&mut ledger, order_request(2, 4), &BOUGHT, T0);
    assert_rejected(
        &mut ledger,
        order_request(3, 1),
        T0,
        RiskRejection::EntryQuantity { bought: 2, max: 2 },
    );
    let _effects =
        place_order(&mut ledger, OrderRequest { entry: 1, ..order_request(3, 100) }, &BOUGHT, T0);
    assert_rejected(
        &mut ledger,
        OrderRequest { entry: 2, ..order_request(4, 1) },
        T0,
        RiskRejection::NoEntry,
    );
}

#[test]
fn no_order_takes_the_balance_below_min_balance() {
    let mut ledger = ledger(Budget { min_balance: coins(5), ..budget() });
    let _effects = ledger.set_balance(coins(20), T0, T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let rejection =
        RiskRejection::MinBalance { balance: coins(10), price: coins(6), min: coins(5) };
    assert_rejected(&mut ledger, order_request(2, 6), after(1), rejection);
    let _approved = ledger.reserve(order_request(2, 5), after(1)).unwrap();
}

#[test]
fn a_new_budget_resets_total_and_no_other_limit() {
    let limits = Budget { total: coins(10), per_day: Some(coins(15)), ..budget() };
    let mut ledger = ledger(limits);
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, T0);
    ledger.new_budget(operator(), after(1));
    let day = RiskRejection::PerDay { spent: coins(10), price: coins(10), max: coins(15) };
    assert_rejected(&mut ledger, order_request(2, 10), after(1), day);
    let _effects = place_order(&mut ledger, order_request(2, 5), &BOUGHT, after(1));
    assert_eq!(ledger.snapshot(after(1)).spent, coins(5));
    ledger.state().check().unwrap();
}
