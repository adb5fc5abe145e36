//! Tests of look-ups of orders by their own ids, beside a list of purchases and without one.

use std::time::Duration;

use super::{
    proofs::{own_trade, reading},
    releases::{state_of, with_balance, with_order},
    *,
};
use crate::domain::trade::TradeStatus;

#[test]
fn the_record_of_an_unknown_order_is_evidence_and_its_absence_from_a_list_is_none() {
    for (status, expected) in [
        (TradeStatus::Joined, OrderState::Bought),
        (TradeStatus::Completed, OrderState::Completed),
        (TradeStatus::Cancelled, OrderState::Returning),
        (TradeStatus::Other, OrderState::Unknown),
        (TradeStatus::Listed, OrderState::Unknown),
    ] {
        let mut ledger = with_order(OrderState::Unknown);
        let record = OwnTrade { price: Some(coins(9)), ..own_trade(1, status) };
        let other = OwnTrade { id: id(2), ..record };
        for (record, started) in [(record, after(1)), (other, after(2))] {
            let effects = ledger.reconcile_order(&key(1), &record, started, after(3));
            assert_eq!(effects, Effects::default(), "of before the order, or of another listing");
        }
        let effects = ledger.reconcile_order(&key(1), &record, after(2), after(3));
        assert_eq!(effects.halts, []);
        assert_eq!(state_of(&ledger, 1), expected);
        let listed = ledger.state().intent(&id(1)).unwrap().listed;
        assert_eq!(listed, (status != TradeStatus::Listed).then_some(coins(9)));
        // The order counts at the approved price until a balance confirms the lower one.
        assert_eq!(ledger.snapshot(after(3)).spent, coins(10));
        ledger.state().check().unwrap();
    }
}

#[test]
fn an_absence_needs_enough_look_ups_by_own_id() {
    for (look_ups, expected) in [(2, OrderState::Unknown), (3, OrderState::NotBought)] {
        let mut ledger = with_balance();
        ledger.set_look_ups_min(3);
        let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
        let _effects = ledger.set_balance(coins(100), after(61), after(61));
        // A look-up that began before the order became unknown does not count.
        ledger.order_absent(&key(1), after(0));
        (0..look_ups).for_each(|second| ledger.order_absent(&key(1), after(62 + second)));
        let _effects = ledger.reconcile(&reading(&[], 70), None, after(71));
        assert_eq!(state_of(&ledger, 1), expected, "{look_ups} look-ups");
    }
}

#[test]
fn without_a_list_the_look_ups_of_an_order_decide_about_it_alone() {
    let mut ledger = with_balance();
    ledger.set_look_ups_min(3);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = place_order(&mut ledger, order_request(2, 20), &UNKNOWN, after(1));
    let _effects = ledger.set_balance(coins(100), after(61), after(61));
    let mut look_up = |number: u32, at: u64| {
        ledger.order_absent(&key(number), after(at));
        let _effects = ledger.absent_without_list(&key(number), after(at), after(at));
        (state_of(&ledger, 1), state_of(&ledger, 2))
    };
    let (unknown, not_bought) = (OrderState::Unknown, OrderState::NotBought);
    assert_eq!(look_up(1, 2), (unknown, unknown));
    assert_eq!(look_up(1, 30), (unknown, unknown));
    assert_eq!(look_up(1, 60), (unknown, unknown), "three, but too early");
    assert_eq!(look_up(2, 130), (unknown, unknown), "the first of the other");
    assert_eq!(look_up(1, 131), (not_bought, unknown));
    assert_eq!(ledger.snapshot(after(131)).spent, coins(20));
}

#[test]
fn an_absent_order_whose_price_is_missing_from_the_balance_halts() {
    let mut ledger = with_balance();
    ledger.set_look_ups_min(1);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = ledger.set_balance(coins(90), after(61), after(61));
    ledger.order_absent(&key(1), after(120));
    let effects = ledger.absent_without_list(&key(1), after(120), after(121));
    assert!(matches!(effects.halts[0].reason, HaltReason::Disagreement { .. }), "{effects:?}");
    assert_eq!(state_of(&ledger, 1), OrderState::Unknown);
}

/// Both are certainly absent, so neither explains coins that the other one may have cost.
#[test]
fn two_absent_orders_do_not_explain_the_missing_price_of_each_other() {
    let mut ledger = with_balance();
    ledger.set_look_ups_min(1);
    for number in [1, 2] {
        let request = order_request(number, 10);
        let _effects = place_order(&mut ledger, request, &UNKNOWN, after(number.into()));
    }
    let _effects = ledger.set_balance(coins(90), after(62), after(62));
    ledger.order_absent(&key(1), after(120));
    let effects = ledger.absent_without_list(&key(1), after(120), after(121));
    assert!(effects.halts.is_empty(), "the other order may have been bought: {effects:?}");
    ledger.order_absent(&key(2), after(122));
    let effects = ledger.absent_without_list(&key(2), after(122), after(123));
    assert!(matches!(effects.halts[0].reason, HaltReason::Disagreement { .. }), "{effects:?}");
    assert_eq!(state_of(&ledger, 1), OrderState::Unknown);
    assert_eq!(state_of(&ledger, 2), OrderState::Unknown);
}

/// The market may show an executed order only after this time.
#[test]
fn a_look_up_before_an_order_is_certainly_shown_is_no_evidence() {
    let mut ledger = with_balance();
    ledger.set_listed_within(Duration::from_secs(600));
    ledger.set_look_ups_min(1);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = ledger.set_balance(coins(100), after(700), after(700));
    for (looked_up_at, expected) in [(2, OrderState::Unknown), (601, OrderState::NotBought)] {
        ledger.order_absent(&key(1), after(looked_up_at));
        let reading = AccountReading { trades: &[], complete: true, started: after(702) };
        let _effects = ledger.reconcile(&reading, None, after(703));
        assert_eq!(state_of(&ledger, 1), expected, "looked up at {looked_up_at} s");
    }
}

#[test]
fn the_record_of_an_order_at_a_higher_price_counts_and_halts_and_proves_nothing() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let record = OwnTrade { price: Some(coins(11)), ..own_trade(1, TradeStatus::Joined) };
    let effects = ledger.reconcile_order(&key(1), &record, after(2), after(3));
    let reason = HaltReason::Price { id: id(1), approved: coins(10), paid: coins(11) };
    assert_eq!(effects.halts[0].reason, reason);
    assert_eq!(state_of(&ledger, 1), OrderState::Unknown);
    assert_eq!(ledger.snapshot(after(3)).spent, coins(11));
    assert_eq!(ledger.reconcile_order(&key(1), &record, after(3), after(4)).halts, []);
    // The order was bought at a lower price than listed.
    let record = OwnTrade { price: Some(coins(9)), ..record };
    let _effects = ledger.reconcile_order(&key(1), &record, after(4), after(5));
    assert_eq!(state_of(&ledger, 1), OrderState::Bought);
}

#[test]
fn without_a_list_the_balance_alone_permits_orders() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(Some("first"))], true);
    let _effects = ledger.set_balance(coins(100), after(1), after(1));
    let early = ledger.reserve(order_request(1, 10), after(2));
    assert_eq!(early.unwrap_err(), RiskRejection::NotReconciled);
    ledger.reconcile_without_list(after(1), after(2));
    assert!(ledger.reserve(order_request(1, 10), after(3)).is_ok());
}

/// A release may have been wrong, so the market is asked again about the order.
#[test]
fn an_order_stays_under_look_up_after_its_release() {
    for (state, is_rare) in
        [(OrderState::Bought, false), (OrderState::Returning, false), (OrderState::Completed, true)]
    {
        let ledger = with_order(state);
        let looked_up: Vec<_> = ledger
            .state()
            .followed_up_since(T0)
            .map(|(order, is_rare)| (order.state, is_rare))
            .collect();
        assert_eq!(looked_up, [(state, is_rare)]);
    }
    let mut ledger = with_balance();
    ledger.set_look_ups_min(1);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    assert_eq!(
        ledger.state().followed_up_since(T0).count(),
        0,
        "it is looked up as an unknown one"
    );
    let _effects = ledger.set_balance(coins(100), after(61), after(61));
    ledger.order_absent(&key(1), after(130));
    let _effects = ledger.absent_without_list(&key(1), after(130), after(130));
    assert_eq!(state_of(&ledger, 1), OrderState::NotBought);
    assert_eq!(ledger.state().followed_up_since(T0).count(), 1);
    let record = own_trade(1, TradeStatus::Joined);
    let effects = ledger.reconcile_order(&key(1), &record, after(200), after(201));
    assert_eq!(state_of(&ledger, 1), OrderState::Bought);
    assert_eq!((ledger.snapshot(after(201)).spent, effects.halts.len()), (coins(10), 1));
}

#[test]
fn a_record_of_an_order_begins_the_count_of_its_absences_again() {
    let mut ledger = with_balance();
    ledger.set_look_ups_min(2);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = ledger.set_balance(coins(100), after(61), after(61));
    let absent = |ledger: &mut Ledger, at: u64| {
        ledger.order_absent(&key(1), after(at));
        let _effects = ledger.absent_without_list(&key(1), after(at), after(at));
        state_of(ledger, 1)
    };
    assert_eq!(absent(&mut ledger, 10), OrderState::Unknown);
    ledger.order_found(&key(1));
    assert_eq!(absent(&mut ledger, 130), OrderState::Unknown);
    assert_eq!(absent(&mut ledger, 140), OrderState::NotBought);
}

#[test]
fn a_deposit_before_a_look_up_of_the_order_does_not_release_it() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let _effects = ledger.set_balance(coins(100), after(100), after(100));
    for (status, second) in [(TradeStatus::Joined, 200), (TradeStatus::Cancelled, 210)] {
        let record = own_trade(1, status);
        let _effects = ledger.reconcile_order(&key(1), &record, after(second), after(second));
    }
    for (second, balance, state) in
        [(211, 100, OrderState::Returning), (300, 110, OrderState::Returned)]
    {
        let _effects = ledger.set_balance(coins(balance), after(second), after(second));
        assert_eq!(state_of(&ledger, 1), state, "at {second} s");
    }
}
