//! Tests of commissions that the market keeps of returned orders.

use std::slice;

use super::{
    disk,
    proofs::{own_trade, reading, two_bought},
    releases::{state_of, with_balance},
    *,
};
use crate::{
    domain::trade::TradeStatus, ledger::entries::EntryUsage, ledger::reader::LedgerReader,
};

#[test]
fn the_commission_of_a_returned_order_stays_spent() {
    let mut ledger = two_bought();
    ledger.state.sharing.from = Sequence(0);
    ledger.state.sharing.spent = ledger.state.shared_spent();
    let shares = |ledger: &Ledger| ledger.state().shared_spent();
    let commission = Some(coins(1));
    let returned = OwnTrade { commission, ..own_trade(1, TradeStatus::Cancelled) };
    let list = [returned, own_trade(2, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&list, 70), Some(coins(80)), after(70));
    for (second, balance, state, spent) in [
        (130, 88, OrderState::Returning, 20),
        (190, 89, OrderState::Returned, 11),
        (250, 89, OrderState::Returned, 11),
    ] {
        let _effects =
            ledger.reconcile(&reading(&list, second), Some(coins(balance)), after(second));
        assert_eq!(state_of(&ledger, 1), state, "balance {balance}");
        let snapshot = ledger.snapshot(after(second));
        assert_eq!((snapshot.spent, snapshot.spent_in_hour), (coins(spent), coins(spent)));
        assert_eq!(shares(&ledger), coins(spent));
        ledger.state().check().unwrap();
    }
    // The other order returns in full.
    let list = [returned, own_trade(2, TradeStatus::Cancelled)];
    for (second, balance) in [(310, 89), (370, 99)] {
        let _effects =
            ledger.reconcile(&reading(&list, second), Some(coins(balance)), after(second));
    }
    assert_eq!(state_of(&ledger, 2), OrderState::Returned);
    let snapshot = ledger.snapshot(after(400));
    assert_eq!((snapshot.spent, snapshot.halts.len()), (coins(1), 0));
    let totals = ledger.totals_since(Sequence(1));
    assert_eq!((totals.spent, totals.returned_coins), (coins(1), coins(19)));
}

#[test]
fn the_commission_of_an_order_that_the_operator_declared_returned_stays_spent() {
    let mut ledger = two_bought();
    let returned = OwnTrade { commission: Some(coins(1)), ..own_trade(1, TradeStatus::Cancelled) };
    let _effects = ledger.reconcile(&reading(&[returned], 70), Some(coins(80)), after(70));
    let _effects = ledger.resolve(&id(1), Evidence::Returned, operator(), after(71)).unwrap();
    assert_eq!(ledger.snapshot(after(71)).spent, coins(11));
}

#[test]
fn the_commission_of_a_returned_order_counts_against_the_total_of_its_entry() {
    let mut ledger = two_bought();
    let returned = OwnTrade { commission: Some(coins(1)), ..own_trade(1, TradeStatus::Cancelled) };
    for (second, balance) in [(70, 80), (130, 89)] {
        let list = [returned];
        let _effects =
            ledger.reconcile(&reading(&list, second), Some(coins(balance)), after(second));
    }
    assert_eq!(state_of(&ledger, 1), OrderState::Returned);
    let usage = |ledger: &Ledger| ledger.state().entry_usage(0);
    assert_eq!(usage(&ledger), Some(EntryUsage { quantity: 1, total: coins(11) }));
    ledger.state().check().unwrap();
    let delivered = [own_trade(1, TradeStatus::Completed)];
    let _halted = ledger.reconcile(&reading(&delivered, 190), None, after(190));
    assert_eq!(usage(&ledger), Some(EntryUsage { quantity: 2, total: coins(20) }));
    ledger.state().check().unwrap();
}

/// A deposit covers the commission, which the list does not have yet.
#[test]
fn a_commission_that_is_reported_after_the_release_counts() {
    let mut ledger = two_bought();
    let cancelled = own_trade(1, TradeStatus::Cancelled);
    for (second, balance) in [(70, 80), (130, 90)] {
        let read = reading(slice::from_ref(&cancelled), second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
    }
    assert_eq!(state_of(&ledger, 1), OrderState::Returned);
    let with = |commission| OwnTrade { commission: Some(coins(commission)), ..cancelled };
    let listed = ledger.reconcile(&reading(&[with(1)], 190), None, after(190));
    assert_eq!((listed, ledger.snapshot(after(190)).spent), (Effects::default(), coins(11)));
    for commission in [2, 1] {
        let _effects = ledger.reconcile_order(&key(1), &with(commission), after(250), after(250));
        assert_eq!(ledger.snapshot(after(250)).spent, coins(12));
        ledger.state().check().unwrap();
    }
}

#[test]
fn a_commission_that_was_reported_after_the_release_counts_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = disk::open(folder.path(), "boot", T0);
    let _effects = disk::place_order_when_ready(&mut ledger, 1, &BOUGHT);
    let cancelled = own_trade(1, TradeStatus::Cancelled);
    let list = [OwnTrade { commission: Some(coins(1)), ..cancelled }];
    for (list, second, balance) in
        [(&[cancelled], 70, 990), (&[cancelled], 130, 1_000), (&list, 190, 1_000)]
    {
        let _effects =
            ledger.reconcile(&reading(list, second), Some(coins(balance)), after(second));
    }
    let counted = |ledger: &mut Ledger| {
        assert_eq!(state_of(ledger, 1), OrderState::Returned);
        let snapshot = ledger.snapshot(after(200));
        (snapshot.spent, snapshot.spent_in_hour, ledger.state().entry_usage(0))
    };
    let usage = EntryUsage { quantity: 0, total: coins(1) };
    assert_eq!(counted(&mut ledger), (coins(1), coins(1), Some(usage)));
    drop(ledger);
    LedgerReader::open(folder.path()).unwrap().verify().unwrap();
    let mut again = disk::open(folder.path(), "boot", after(200));
    assert_eq!(counted(&mut again), (coins(1), coins(1), Some(usage)));
    again.state().check().unwrap();
}

/// A start reads the balance before the list, which has the commission.
#[test]
fn no_refund_counts_before_the_first_complete_reading_of_a_start() {
    let mut ledger = two_bought();
    let commission = Some(coins(1));
    let returned = |n| OwnTrade { commission, ..own_trade(n, TradeStatus::Cancelled) };
    let list = [returned(1), returned(2)];
    let _effects = ledger.reconcile(&reading(&list, 70), Some(coins(80)), after(70));
    ledger.state.reconciled = false;
    ledger.state.commissions.clear();
    let _effects = ledger.set_balance(coins(98), after(130), after(130));
    assert_eq!([1, 2].map(|n| state_of(&ledger, n)), [OrderState::Returning; 2]);
    for second in [131, 190] {
        let _effects = ledger.reconcile(&reading(&list, second), Some(coins(98)), after(second));
    }
    assert_eq!([1, 2].map(|n| state_of(&ledger, n)), [OrderState::Returned; 2]);
    assert_eq!(ledger.snapshot(after(190)).spent, coins(2));
}

#[test]
fn no_refund_counts_after_a_start_before_a_list_shows_the_cancelled_order() {
    let mut ledger = two_bought();
    (ledger.state.has_own_ids, ledger.state.has_list) = (true, true);
    let returned = OwnTrade { commission: Some(coins(1)), ..own_trade(1, TradeStatus::Cancelled) };
    let bought = own_trade(2, TradeStatus::Joined);
    let list = [returned, bought];
    let _effects = ledger.reconcile(&reading(&list, 70), Some(coins(80)), after(70));
    ledger.state.commissions.clear();
    // Another source covers the commission.
    let _effects = ledger.reconcile(&reading(&[bought], 130), Some(coins(90)), after(130));
    let _effects = ledger.reconcile(&reading(&[bought], 190), Some(coins(90)), after(190));
    assert_eq!(state_of(&ledger, 1), OrderState::Returning);
    for second in [250, 310] {
        let _effects = ledger.reconcile(&reading(&list, second), Some(coins(90)), after(second));
    }
    assert_eq!(state_of(&ledger, 1), OrderState::Returned);
    assert_eq!(ledger.snapshot(after(310)).spent, coins(11));
}

#[test]
fn the_commission_of_a_lost_order_that_was_cancelled_before_a_list_showed_it_stays_spent() {
    let cancelled = OwnTrade {
        price: Some(coins(30)),
        joined_at: Some(T0),
        commission: Some(coins(1)),
        ..own_trade(77, TradeStatus::Cancelled)
    };
    let with_loss = || {
        let mut ledger = with_balance();
        (ledger.state.has_own_ids, ledger.state.has_list) = (true, true);
        lose(&mut ledger, 2, 60, after(10), after(10));
        ledger
    };
    let mut ledger = with_loss();
    for (second, balance, spent) in [(20, 99, 60), (90, 99, 60), (160, 99, 1)] {
        let read = reading(slice::from_ref(&cancelled), second);
        let effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!(effects.halts, [], "at {second} s");
        assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "at {second} s");
        ledger.state().check().unwrap();
    }
    assert_eq!(state_of(&ledger, 77), OrderState::Returned);
    // The purchase was cancelled before the lost orders were approved.
    let mut ledger = with_loss();
    ledger.state.loss.not_before = after(1);
    let read = reading(slice::from_ref(&cancelled), 20);
    let _effects = ledger.reconcile(&read, Some(coins(100)), after(20));
    assert_eq!((ledger.state().intents().len(), ledger.state().loss().coins), (0, coins(60)));
}

#[test]
fn a_cancelled_purchase_from_after_the_loss_does_not_take_the_place_of_a_lost_order() {
    let mut ledger = with_balance();
    (ledger.state.has_own_ids, ledger.state.has_list) = (true, true);
    lose(&mut ledger, 1, 30, after(10), after(10));
    let by_hand = OwnTrade {
        price: Some(coins(30)),
        joined_at: Some(after(80)),
        ..own_trade(77, TradeStatus::Cancelled)
    };
    let (price, joined_at) = (Some(coins(30)), Some(T0));
    let lost = OwnTrade { price, joined_at, ..own_trade(78, TradeStatus::Joined) };
    let effects = ledger.reconcile(&reading(&[by_hand, lost], 90), Some(coins(70)), after(90));
    assert_eq!(effects.halts, []);
    assert_eq!(ledger.state().intents().len(), 1);
    assert_eq!(state_of(&ledger, 78), OrderState::Bought);
}

/// A clock that was set forward after the loss moves the records before it in a replay.
#[test]
fn a_lost_order_may_be_as_old_as_by_the_clock_of_the_start_that_found_the_loss() {
    let mut ledger = with_balance();
    ledger.state.last_at = after(7_210);
    lose(&mut ledger, 1, 30, after(70), after(7_210));
    assert!(ledger.state.loss.not_before <= after(10).minus(Duration::from_secs(3_600)));
}
