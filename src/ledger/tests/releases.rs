//! Tests of the preconditions of each release, one rule at a time.

use std::time::Duration;

use super::{
    proofs::{own_trade, reading, two_bought},
    *,
};
use crate::{
    domain::trade::TradeStatus,
    ledger::control::{self, ControlRequest, Resolution},
    ledger::event::{RecordedAnswer, Release},
};

/// Returns a ledger with a balance of 100 coins.
pub(super) fn with_balance() -> Ledger {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    ledger
}

pub(super) fn state_of(ledger: &Ledger, n: u32) -> OrderState {
    ledger.state().intent(&id(n)).unwrap().state
}

/// Returns a ledger whose only order, of 10 coins, is in this state.
pub(super) fn with_order(state: OrderState) -> Ledger {
    let mut ledger = with_balance();
    let approved = ledger.reserve(order_request(1, 10), after(1)).unwrap();
    if state != OrderState::Reserved {
        ledger.sent(approved.key(), after(1)).unwrap();
    }
    let answer = match state {
        OrderState::Reserved | OrderState::Sent => return ledger,
        OrderState::Unknown => UNKNOWN,
        _ => BOUGHT,
    };
    let _effects = ledger.settle(approved.key(), &answer, after(1)).unwrap();
    let listed = match state {
        OrderState::Completed => TradeStatus::Completed,
        OrderState::Returning => TradeStatus::Cancelled,
        _ => return ledger,
    };
    let trades = [own_trade(1, listed)];
    let _effects = ledger.reconcile(&reading(&trades, 70), None, after(70));
    ledger
}

#[test]
fn a_release_applies_only_in_the_states_that_its_rule_names() {
    use OrderState::{Bought, Completed, Reserved, Returning, Sent, Unknown};
    let releases = [Release::NotSent, Release::Rejected, Release::NotBought, Release::Returned];
    for state in [Reserved, Sent, Bought, Completed, Unknown, Returning] {
        for release in releases {
            let mut ledger = with_order(state);
            assert_eq!(state_of(&ledger, 1), state);
            let now = after(100);
            let applied = match release {
                Release::NotSent => ledger.settle(&key(1), &Outcome::NotSent(NotSent::Closed), now),
                Release::Rejected => ledger.settle(&key(1), &TAKEN, now),
                Release::NotBought => ledger.resolve(&id(1), Evidence::NotBought, operator(), now),
                Release::Returned => ledger.resolve(&id(1), Evidence::Returned, operator(), now),
            };
            let is_named = matches!(
                (release, state),
                (Release::NotSent, Reserved | Sent)
                    | (Release::Rejected, Reserved | Sent | Unknown)
                    | (Release::NotBought, Unknown)
                    | (Release::Returned, Returning)
            );
            assert_eq!(applied.is_ok(), is_named, "{release:?} of {state}");
            let spent = if is_named { Amount::ZERO } else { coins(10) };
            assert_eq!(ledger.snapshot(now).spent, spent, "{release:?} of {state}");
            ledger.state().check().unwrap();
        }
    }
}

/// The list and the balance may be a minute old, so they prove nothing about a younger order, and
/// its coins are not missing either.
#[test]
fn an_absence_counts_only_if_list_and_balance_were_requested_a_minute_after_the_order() {
    for (balance_at, list_at, counts) in
        [(10, 10, false), (61, 60, false), (60, 61, false), (61, 61, true)]
    {
        for (balance, state) in [(100, OrderState::NotBought), (90, OrderState::Unknown)] {
            let mut ledger = with_balance();
            let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
            let _effects = ledger.set_balance(coins(balance), after(balance_at), after(balance_at));
            let effects = ledger.reconcile(&reading(&[], list_at), None, after(62));
            let expected = if counts { state } else { OrderState::Unknown };
            let context = format!("balance of {balance} at {balance_at} s, list at {list_at} s");
            assert_eq!(state_of(&ledger, 1), expected, "{context}");
            assert_eq!(effects.halts.len(), usize::from(counts && balance == 90), "{context}");
        }
    }
}

#[test]
fn an_absent_order_stays_unknown_if_coins_are_missing_from_the_last_balance() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    for (second, balance) in [(61, 100), (70, 90)] {
        let _effects = ledger.set_balance(coins(balance), after(second), after(second));
    }
    let effects = ledger.reconcile(&reading(&[], 75), None, after(75));
    let reason = HaltReason::Disagreement { missing: coins(10), listed: None };
    assert_eq!(effects.halts[0].reason, reason);
    assert_eq!(state_of(&ledger, 1), OrderState::Unknown);
}

/// The balance of 90 coins agrees with an order of 10. If that order cost 8, another one of 2 was
/// charged.
#[test]
fn a_balance_proves_no_absence_after_the_list_lowered_the_price_of_another_order() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let _effects = place_order(&mut ledger, order_request(2, 2), &UNKNOWN, after(1));
    let _effects = ledger.set_balance(coins(90), after(100), after(100));
    let listed = [OwnTrade { price: Some(coins(8)), ..own_trade(1, TradeStatus::Joined) }];
    let partial = AccountReading { complete: false, ..reading(&listed, 101) };
    let _effects = ledger.reconcile(&partial, None, after(101));
    let _effects = ledger.reconcile(&reading(&listed, 165), None, after(165));
    assert_eq!(state_of(&ledger, 2), OrderState::Unknown);
    assert_eq!(ledger.snapshot(after(165)).spent, coins(12));
}

/// A reading that may be older than the charge agrees, and the next one hides the charge behind the
/// refund of another order, which the list does not show yet.
#[test]
fn a_balance_from_before_a_charge_does_not_prove_that_a_refund_hides_none() {
    let mut ledger = two_bought();
    let joined = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&joined, 70), Some(coins(80)), after(70));
    let _effects = place_order(&mut ledger, order_request(3, 10), &UNKNOWN, after(71));
    for second in [72, 135] {
        let _effects = ledger.set_balance(coins(80), after(second), after(second));
    }
    let _effects = ledger.reconcile(&reading(&joined, 140), None, after(140));
    assert_eq!(state_of(&ledger, 3), OrderState::Unknown);
}

/// The refund of the first order leaves the balance as it would be without the unknown one.
#[test]
fn an_absence_proves_nothing_while_the_list_does_not_show_every_purchase_as_it_was() {
    let delivered = own_trade(1, TradeStatus::Completed);
    for (listed, is_free) in [
        (vec![delivered], true),
        (vec![], false),
        (vec![own_trade(1, TradeStatus::Other)], false),
        (vec![own_trade(1, TradeStatus::Cancelled)], false),
    ] {
        for is_delivered in [false, true] {
            let mut ledger = with_balance();
            ledger.state.set_list(Some(account::SETTLE));
            let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
            let _effects = place_order(&mut ledger, order_request(2, 10), &UNKNOWN, after(1));
            let _effects = ledger.set_balance(coins(90), after(70), after(70));
            if is_delivered {
                // It arrives while the list is read, whose state of the order is older then.
                let status = TradeStatus::Completed;
                let _needs_read = ledger.observe(&id(1), status, after(136));
            }
            let _effects = ledger.reconcile(&reading(&listed, 135), None, after(137));
            let expected = if is_free { OrderState::NotBought } else { OrderState::Unknown };
            assert_eq!(state_of(&ledger, 2), expected, "{listed:?} {is_delivered}");
        }
    }
}

#[test]
fn an_absence_needs_no_purchase_that_is_too_old_or_too_new_for_a_refund_before_the_balance() {
    for (approved, delivered, is_free) in [(0, 1, true), (0, 3, false), (10, 10, true)] {
        let day = |days: u64, second: u64| after(days * 86_400 + second);
        let mut ledger = with_balance();
        ledger.state.set_list(Some(account::SETTLE));
        let buy = |ledger: &mut Ledger| {
            // The last purchase is confirmed just before the list is requested.
            let second = if approved == 10 { 134 } else { 0 };
            let _effects = place_order(ledger, order_request(1, 1), &BOUGHT, day(approved, second));
            let _effects = ledger.observe(&id(1), TradeStatus::Completed, day(delivered, second));
        };
        if approved < 10 {
            buy(&mut ledger);
        }
        let spent = if approved < 10 { 1 } else { 0 };
        let _effects = ledger.set_balance(coins(100 - spent), day(9, 0), day(9, 0));
        let _effects = place_order(&mut ledger, order_request(2, 1), &UNKNOWN, day(10, 0));
        let _effects = ledger.set_balance(coins(100 - spent), day(10, 70), day(10, 70));
        if approved == 10 {
            buy(&mut ledger);
        }
        let read = AccountReading { trades: &[], complete: true, started: day(10, 135) };
        let _effects = ledger.reconcile(&read, None, day(10, 135));
        let expected = if is_free { OrderState::NotBought } else { OrderState::Unknown };
        assert_eq!(state_of(&ledger, 2), expected, "{approved} {delivered}");
    }
}

#[test]
fn a_balance_that_was_requested_before_the_list_arrived_releases_no_returning_order() {
    let mut ledger = two_bought();
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&cancelled, 70), Some(coins(80)), after(71));
    for (requested, spent) in [(71, 20), (72, 10)] {
        let _effects = ledger.set_balance(coins(90), after(requested), after(73));
        assert_eq!(ledger.snapshot(after(73)).spent, coins(spent), "requested at {requested} s");
    }
}

#[test]
fn coins_that_do_not_cover_the_oldest_returning_order_release_no_younger_one() {
    let mut ledger = with_balance();
    for (n, price) in [(1, 20), (2, 10)] {
        let _effects = place_order(&mut ledger, order_request(n, price), &BOUGHT, after(1));
    }
    let cancelled = [1, 2].map(|n| own_trade(n, TradeStatus::Cancelled));
    for (second, balance, states) in [
        (70, 70, [OrderState::Returning, OrderState::Returning]),
        (130, 85, [OrderState::Returning, OrderState::Returning]),
        (190, 95, [OrderState::Returned, OrderState::Returning]),
        (250, 100, [OrderState::Returned, OrderState::Returned]),
    ] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!([1, 2].map(|n| state_of(&ledger, n)), states, "balance {balance}");
    }
}

/// At the price of its answer, the first order would claim the refund of the second one too.
#[test]
fn a_returning_order_whose_price_is_in_doubt_claims_no_coins() {
    let mut ledger = with_balance();
    let dearer = Outcome::Bought { price: Some(coins(20)), server_time: None };
    let _halted = place_order(&mut ledger, order_request(1, 10), &dearer, after(1));
    ledger.resume(operator(), after(1));
    let _effects = place_order(&mut ledger, order_request(2, 10), &BOUGHT, after(1));
    let cancelled =
        [1, 2].map(|n| OwnTrade { price: Some(coins(10)), ..own_trade(n, TradeStatus::Cancelled) });
    let _effects = ledger.reconcile(&reading(&cancelled, 40), None, after(40));
    // The charges may not be included yet, so the balance confirms no price.
    let _effects = ledger.set_balance(coins(120), after(50), after(50));
    assert_eq!([1, 2].map(|n| state_of(&ledger, n)), [OrderState::Returning; 2]);
    let _effects = ledger.set_balance(coins(120), after(101), after(101));
    assert_eq!([1, 2].map(|n| state_of(&ledger, n)), [OrderState::Returned; 2]);
}

#[test]
fn the_refund_of_an_order_that_the_operator_declared_returned_releases_no_other() {
    let mut ledger = two_bought();
    let cancelled = [1, 2].map(|n| own_trade(n, TradeStatus::Cancelled));
    let _effects = ledger.reconcile(&reading(&cancelled, 70), Some(coins(80)), after(70));
    let _effects = ledger.resolve(&id(1), Evidence::Returned, operator(), after(71)).unwrap();
    for (second, balance, spent) in [(130, 90, 10), (190, 100, 0)] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "balance {balance}");
    }
}

#[test]
fn a_list_that_was_requested_before_the_order_changed_proves_nothing() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(5));
    let listed = [own_trade(1, TradeStatus::Joined)];
    for (requested, state) in [(5, OrderState::Unknown), (6, OrderState::Bought)] {
        let _effects = ledger.reconcile(&reading(&listed, requested), None, after(7));
        assert_eq!(state_of(&ledger, 1), state, "requested at {requested} s");
    }
}

#[test]
fn a_lower_price_is_confirmed_only_by_a_balance_that_was_requested_after_the_list_arrived() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let lists_8 = [OwnTrade { price: Some(coins(8)), ..own_trade(1, TradeStatus::Joined) }];
    let _effects = ledger.reconcile(&reading(&lists_8, 100), Some(coins(92)), after(101));
    for (requested, spent) in [(101, 10), (102, 8)] {
        let _effects = ledger.set_balance(coins(92), after(requested), after(103));
        assert_eq!(ledger.snapshot(after(103)).spent, coins(spent), "requested at {requested} s");
    }
}

#[test]
fn a_lower_price_is_confirmed_only_by_a_balance_that_certainly_includes_the_charge() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(50));
    let lists_8 = [OwnTrade { price: Some(coins(8)), ..own_trade(1, TradeStatus::Joined) }];
    let _effects = ledger.reconcile(&reading(&lists_8, 55), None, after(55));
    // These balances may be older than the charge; the last one shows that the list is wrong.
    for (second, balance) in [(60, 100), (109, 100), (110, 90), (170, 90), (230, 90)] {
        let _effects = ledger.set_balance(coins(balance), after(second), after(second));
        assert_eq!(ledger.snapshot(after(second)).spent, coins(10), "at {second} s");
    }
}

/// Without evidence of a charge, the first order may have cost nothing, so that the balance shows
/// no refund of the second one.
#[test]
fn a_price_of_zero_in_an_answer_is_no_evidence_of_a_charge() {
    let mut ledger = with_balance();
    let free = Outcome::Bought { price: Some(Amount::ZERO), server_time: None };
    let _halted = place_order(&mut ledger, order_request(1, 10), &free, after(1));
    ledger.resume(operator(), after(1));
    let _effects = place_order(&mut ledger, order_request(2, 10), &BOUGHT, after(1));
    let listed = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Cancelled)];
    for second in [70, 130, 190] {
        let _effects = ledger.reconcile(&reading(&listed, second), Some(coins(90)), after(second));
        assert_eq!(state_of(&ledger, 2), OrderState::Returning, "at {second} s");
    }
}

#[test]
fn a_price_of_zero_in_the_list_halts_and_leaves_the_charge_as_it_was() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let listed = [OwnTrade { price: Some(Amount::ZERO), ..own_trade(1, TradeStatus::Joined) }];
    let effects = ledger.reconcile(&reading(&listed, 70), Some(coins(90)), after(70));
    let (id, approved, paid) = (id(1), coins(10), Amount::ZERO);
    let reason = HaltReason::ImplausiblePrice { id, approved, paid };
    assert_eq!(effects.halts[0].reason, reason);
    ledger.resume(operator(), after(71));
    let _effects = place_order(&mut ledger, order_request(2, 5), &UNKNOWN, after(72));
    for second in [140, 210] {
        let _effects = ledger.reconcile(&reading(&listed, second), Some(coins(90)), after(second));
    }
    assert_eq!(state_of(&ledger, 2), OrderState::NotBought);
    assert_eq!(ledger.snapshot(after(210)).spent, coins(10));
}

/// The first balance already includes the purchase.
#[test]
fn a_purchase_from_before_the_ledger_leaves_no_coins_for_a_returning_order() {
    let mut ledger = ledger(budget());
    ledger.state.count_since = Some(T0.minus(Duration::from_secs(3_600)));
    let found = OwnTrade { price: Some(coins(10)), ..own_trade(7, TradeStatus::Joined) };
    let _effects = ledger.reconcile(&reading(&[found], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let listed = [found, own_trade(1, TradeStatus::Cancelled)];
    for (second, balance, spent) in [(70, 90, 20), (130, 90, 20), (190, 100, 10)] {
        let read = reading(&listed, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "at {second} s");
    }
}

#[test]
fn the_record_of_a_rejected_order_as_bought_counts_it_and_halts() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &TAKEN, after(1));
    let record = own_trade(1, TradeStatus::Joined);
    let effects = ledger.reconcile_order(&key(1), &record, after(2), after(3));
    assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
    assert_eq!(ledger.snapshot(after(3)).spent, coins(10));
}

#[test]
fn an_absence_counts_later_on_a_market_that_lists_orders_later() {
    for (listed_within, list_at, expected) in [
        (600, 600, OrderState::Unknown),
        (600, 601, OrderState::NotBought),
        (0, 60, OrderState::Unknown),
        (0, 61, OrderState::NotBought),
    ] {
        let mut ledger = with_balance();
        ledger.set_listed_within(Duration::from_secs(listed_within));
        let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
        let _effects = ledger.set_balance(coins(100), after(61), after(61));
        let _effects = ledger.reconcile(&reading(&[], list_at), None, after(list_at + 1));
        assert_eq!(state_of(&ledger, 1), expected, "list at {list_at} s of {listed_within} s");
    }
}

/// The response to the second order named a quarter of its price.
#[test]
fn coins_that_a_response_may_have_understated_are_not_missing() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let bought = Outcome::Bought { price: Some(coins(5)), server_time: None };
    let _effects = place_order(&mut ledger, order_request(2, 20), &bought, after(1));
    let effects = ledger.reconcile(&reading(&[], 70), Some(coins(80)), after(70));
    assert_eq!(effects.halts, []);
    let record = OwnTrade { price: Some(coins(20)), ..own_trade(2, TradeStatus::Joined) };
    let _effects = ledger.reconcile_order(&key(2), &record, after(71), after(72));
    let effects = ledger.reconcile(&reading(&[record], 73), None, after(73));
    assert_eq!(effects.halts, []);
}

#[test]
fn a_balance_of_an_earlier_run_permits_no_order() {
    let folder = tempfile::tempdir().unwrap();
    drop(disk::open(folder.path(), "boot", T0));
    let location = disk::location(folder.path(), "boot");
    let mut ledger = Ledger::open(&location, disk::limits(), &disk::entries(), after(1)).unwrap();
    ledger.bind("account-1").unwrap();
    let _effects = ledger.reconcile(&reading(&[], 2), None, after(2));
    let early = ledger.reserve(order_request(1, 10), after(2));
    assert_eq!(early.unwrap_err(), RiskRejection::NotReconciled);
    let _effects = ledger.reconcile(&reading(&[], 3), Some(coins(1_000)), after(3));
    let _approved = disk::reserve(&mut ledger, order_request(1, 10), after(3));
}

/// The account was charged, and the refund has not arrived.
#[test]
fn a_cancelled_purchase_of_an_order_that_did_not_count_counts_and_halts_until_its_refund() {
    use OrderState::{NotBought, Rejected, Returned, Returning};
    use TradeStatus::{Cancelled, Cooldown, Expired};
    for state in [Rejected, OrderState::NotSent, NotBought] {
        for status in [Cancelled, Expired, Cooldown] {
            let mut ledger = with_balance();
            let answer = match state {
                Rejected => TAKEN,
                OrderState::NotSent => Outcome::NotSent(NotSent::Closed),
                _ => UNKNOWN,
            };
            let _effects = place_order(&mut ledger, order_request(1, 10), &answer, after(1));
            if state == NotBought {
                let read = reading(&[], 70);
                let _effects = ledger.reconcile(&read, Some(coins(100)), after(70));
            }
            assert_eq!(state_of(&ledger, 1), state);
            // The charge is noticed before the list explains it.
            let _halted = ledger.reconcile(&reading(&[], 80), Some(coins(90)), after(80));
            ledger.resume(operator(), after(81));
            let listed = [own_trade(1, status)];
            let effects = ledger.reconcile(&reading(&listed, 90), None, after(90));
            assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
            assert_eq!(state_of(&ledger, 1), Returning, "{state} as {status}");
            for (second, balance, found) in
                [(160, 90, Returning), (230, 90, Returning), (300, 100, Returned)]
            {
                let read = reading(&listed, second);
                let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
                assert_eq!(state_of(&ledger, 1), found, "{state} as {status} at {second} s");
                let spent = if found == Returned { Amount::ZERO } else { coins(10) };
                assert_eq!(ledger.snapshot(after(second)).spent, spent);
            }
            ledger.state().check().unwrap();
        }
    }
}

#[test]
fn a_late_success_of_a_returned_order_is_nothing_new() {
    let mut ledger = with_order(OrderState::Returning);
    let _effects = ledger.set_balance(coins(100), after(71), after(71));
    assert_eq!(state_of(&ledger, 1), OrderState::Returned);
    assert_eq!(ledger.settle(&key(1), &BOUGHT, after(72)), Ok(Effects::default()));
    assert_eq!(ledger.snapshot(after(72)).halts, []);
    // Earlier versions recorded such an event, so it must be replayed.
    let answer = RecordedAnswer::Bought(None);
    let recorded = LedgerEvent::Answered { sequence: Sequence(1), answer };
    ledger.state.apply(after(72), &recorded).unwrap();
    assert_eq!(state_of(&ledger, 1), OrderState::Bought);
}

/// The market lists a purchase from before the ledger, whose listing was offered again.
#[test]
fn a_cancelled_purchase_from_before_the_ledger_contradicts_no_later_order() {
    let mut ledger = ledger(budget());
    let listed = [own_trade(1, TradeStatus::Cancelled)];
    let _effects = ledger.reconcile(&reading(&listed, 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &TAKEN, after(1));
    let effects = ledger.reconcile(&reading(&listed, 70), Some(coins(100)), after(70));
    assert_eq!(effects, Effects::default());
    assert_eq!(state_of(&ledger, 1), OrderState::Rejected);
}

#[test]
fn a_deposit_before_a_cancellation_does_not_release_the_order() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let [joined, cancelled] =
        [TradeStatus::Joined, TradeStatus::Cancelled].map(|status| [own_trade(1, status)]);
    for (second, balance, trades, state) in [
        (100, 140, &joined, OrderState::Bought),
        (200, 140, &joined, OrderState::Bought),
        (300, 140, &cancelled, OrderState::Returning),
        (400, 140, &cancelled, OrderState::Returning),
        (500, 149, &cancelled, OrderState::Returning),
        (600, 150, &cancelled, OrderState::Returned),
    ] {
        let read = reading(trades, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!(state_of(&ledger, 1), state, "at {second} s");
    }
}

#[test]
fn a_refund_that_a_balance_shows_before_the_list_does_releases_the_order() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let joined = [own_trade(1, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&joined, 100), Some(coins(90)), after(100));
    // The refund came 59 seconds before the list was read, and the list was as old.
    let _effects = ledger.set_balance(coins(100), after(141), after(141));
    let _effects = ledger.reconcile(&reading(&joined, 200), None, after(200));
    let cancelled = [own_trade(1, TradeStatus::Cancelled)];
    let _effects = ledger.reconcile(&reading(&cancelled, 210), None, after(210));
    let _effects = ledger.set_balance(coins(100), after(211), after(211));
    assert_eq!(state_of(&ledger, 1), OrderState::Returned);
}

#[test]
fn a_price_under_an_unknown_status_counts_where_it_is_higher_and_changes_no_state() {
    for (answer, state) in [(UNKNOWN, OrderState::Unknown), (BOUGHT, OrderState::Bought)] {
        for (cents, spent, halts) in [
            (900, 1_000, 0),
            (1_000, 1_000, 0),
            (1_300, 1_300, 1),
            (0, 1_000, 1),
            (20_000, 20_000, 1),
        ] {
            let mut ledger = with_balance();
            let _effects = place_order(&mut ledger, order_request(1, 10), &answer, after(1));
            let paid = Amount::from_cents(cents);
            let listed = [OwnTrade { price: Some(paid), ..own_trade(1, TradeStatus::Other) }];
            for second in [70, 130] {
                let effects = ledger.reconcile(&reading(&listed, second), None, after(second));
                let expected = if second == 70 { halts } else { 0 };
                assert_eq!(effects.halts.len(), expected, "{state}: {paid} at {second} s");
                ledger.resume(operator(), after(second));
            }
            assert_eq!(state_of(&ledger, 1), state, "{paid}");
            assert_eq!(ledger.snapshot(after(130)).spent, Amount::from_cents(spent), "{paid}");
            ledger.state().check().unwrap();
        }
    }
}

#[test]
fn the_feed_delivers_no_cancelled_order() {
    let mut ledger = with_order(OrderState::Returning);
    assert!(!ledger.observe(&id(1), TradeStatus::Completed, after(80)).1);
    assert_eq!(state_of(&ledger, 1), OrderState::Returning);
}

#[test]
fn only_a_balance_that_was_read_is_below_the_minimum() {
    let mut ledger = ledger(Budget { min_balance: coins(50), ..budget() });
    let _effects = ledger.set_balance(coins(100), T0, T0);
    ledger.push_balance(coins(10));
    let pushed = ledger.snapshot(T0);
    assert_eq!(pushed.available_min, Some(coins(10)));
    assert!(!pushed.is_below_min_balance(), "no push ends the process");
    let _effects = ledger.set_balance(coins(40), after(1), after(1));
    assert!(ledger.snapshot(after(1)).is_below_min_balance());
}

/// The market charged the 8 coins of its answer, so the balance shows no refund of the other order.
#[test]
fn a_lower_price_in_an_answer_leaves_no_coins_for_a_returning_order() {
    let mut ledger = with_balance();
    let cheaper = Outcome::Bought { price: Some(coins(8)), server_time: None };
    let _effects = place_order(&mut ledger, order_request(1, 10), &cheaper, after(1));
    let _effects = place_order(&mut ledger, order_request(2, 2), &BOUGHT, after(1));
    let list = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Cancelled)];
    for (second, balance, state) in [
        (70, 90, OrderState::Returning),
        (130, 90, OrderState::Returning),
        (190, 92, OrderState::Returned),
    ] {
        let read = reading(&list, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!(state_of(&ledger, 2), state, "at {second} s");
    }
}

/// The second order was charged and the first one refunded, which no list shows yet.
#[test]
fn a_balance_of_a_run_whose_clock_was_ahead_proves_no_absence() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let _effects = ledger.set_balance(coins(90), after(1_000), after(1_000));
    restart(&mut ledger, after(100));
    let _effects = place_order(&mut ledger, order_request(2, 10), &UNKNOWN, after(101));
    let _effects = ledger.set_balance(coins(90), after(1_065), after(1_065));
    let joined = [own_trade(1, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&joined, 1_070), None, after(1_070));
    assert_eq!(state_of(&ledger, 2), OrderState::Unknown);
}

#[test]
fn a_required_reading_needs_a_balance_that_was_requested_after_it() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], true);
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    ledger.require_reading(after(10));
    let rejected = RiskRejection::NotReconciled;
    assert_rejected(&mut ledger, order_request(1, 1), after(10), rejected);
    let _effects = ledger.reconcile(&reading(&[], 11), None, after(11));
    assert_rejected(&mut ledger, order_request(1, 1), after(11), rejected);
    let _effects = ledger.reconcile(&reading(&[], 12), Some(coins(100)), after(12));
    let _approved = ledger.reserve(order_request(1, 1), after(12)).unwrap();
}

/// The age of an earlier list is not known then.
#[test]
fn after_a_clock_change_a_refund_may_have_come_before_the_last_list() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let _effects = ledger.set_balance(coins(100), after(100), after(100));
    let joined = [own_trade(1, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&joined, 200), None, after(200));
    ledger.mark_clock_unreliable(after(201));
    let cancelled = [own_trade(1, TradeStatus::Cancelled)];
    let _effects = ledger.reconcile(&reading(&cancelled, 210), None, after(210));
    let _effects = ledger.set_balance(coins(100), after(211), after(211));
    assert_eq!(state_of(&ledger, 1), OrderState::Returned);
}

#[test]
fn a_purchase_that_a_list_has_shown_cannot_be_revoked() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let listed = [own_trade(1, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&listed, 80), Some(coins(90)), after(80));
    let (id, by) = (id(1).as_str().to_owned(), "me".to_owned());
    let request = ControlRequest::Resolve { id, verdict: Resolution::NotBought, by };
    let rejected = control::apply_request(&mut ledger, &request, after(81)).1.unwrap_err();
    assert!(rejected.contains("is bought, nothing was changed"), "{rejected}");
    assert_eq!(ledger.snapshot(after(81)).spent, coins(10));
}

#[test]
fn a_purchase_that_was_only_reported_is_free_by_the_operators_word_until_a_list_shows_it() {
    for state in [OrderState::Bought, OrderState::Completed] {
        let mut ledger = with_balance();
        let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
        if state == OrderState::Completed {
            let _is_read = ledger.observe(&id(1), TradeStatus::Completed, after(2));
        }
        // Neither the list nor the balance shows the purchase.
        for second in [80, 160] {
            let read = reading(&[], second);
            let _effects = ledger.reconcile(&read, Some(coins(100)), after(second));
        }
        assert_eq!((state_of(&ledger, 1), ledger.snapshot(after(160)).spent), (state, coins(10)));
        let (id_text, by) = (id(1).as_str().to_owned(), "me".to_owned());
        let verdict = Resolution::NotBought;
        let request = ControlRequest::Resolve { id: id_text, verdict, by };
        control::apply_request(&mut ledger, &request, after(161)).1.unwrap();
        assert_eq!(ledger.snapshot(after(161)).spent, Amount::ZERO);
        let again = control::apply_request(&mut ledger, &request, after(162)).1.unwrap_err();
        assert!(again.contains("is returned, nothing was changed"), "{again}");
        let effects = ledger.reconcile(&reading(&[], 240), Some(coins(100)), after(240));
        assert_eq!(effects.halts, []);
        assert_eq!(ledger.snapshot(after(240)).available_min, Some(coins(100)));
        // The coins of this order cover no other cancelled one.
        let _effects = place_order(&mut ledger, order_request(2, 10), &BOUGHT, after(241));
        let cancelled = [own_trade(2, TradeStatus::Cancelled)];
        for second in [320, 390, 460] {
            let read = reading(&cancelled, second);
            let _effects = ledger.reconcile(&read, Some(coins(90)), after(second));
            assert_eq!(state_of(&ledger, 2), OrderState::Returning, "at {second} s");
        }
        let listed = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Cancelled)];
        let effects = ledger.reconcile(&reading(&listed, 530), Some(coins(90)), after(530));
        assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
        assert_eq!(ledger.snapshot(after(530)).spent, coins(20));
        ledger.state().check().unwrap();
    }
}
