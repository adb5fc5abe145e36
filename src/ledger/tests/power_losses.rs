//! Tests of orders that a power loss removed from the record.

use super::{
    proofs::{own_trade, reading},
    releases::{state_of, with_balance},
    *,
};

/// Returns a ledger that may have lost two orders for 60 coins in total, of which one for 30 was
/// sent.
fn with_loss() -> Ledger {
    let mut ledger = with_balance();
    lose(&mut ledger, 2, 60, after(10), after(10));
    ledger
}

#[test]
fn a_loss_counts_and_halts_while_its_coins_are_missing_but_not_within_the_first_minute() {
    let mut ledger = with_loss();
    for (second, halts) in [(20, 0), (69, 0), (70, 1)] {
        let read = reading(&[], second);
        let effects = ledger.reconcile(&read, Some(coins(70)), after(second));
        assert_eq!(effects.halts.len(), halts, "at {second} s");
        assert_eq!(ledger.snapshot(after(second)).spent, coins(60), "at {second} s");
    }
}

#[test]
fn a_lost_purchase_that_is_listed_late_explains_the_missing_coins() {
    let mut ledger = with_loss();
    let found = [OwnTrade { price: Some(coins(30)), ..own_trade(77, TradeStatus::Joined) }];
    let effects = ledger.reconcile(&reading(&found, 70), Some(coins(70)), after(70));
    assert_eq!(effects.halts, []);
    assert_eq!(state_of(&ledger, 77), OrderState::Bought);
}

#[test]
fn the_look_up_of_one_order_proves_nothing_about_lost_ones() {
    let mut ledger = with_balance();
    ledger.set_look_ups_min(1);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    lose(&mut ledger, 2, 60, after(10), after(10));
    let _effects = ledger.set_balance(coins(100), after(71), after(71));
    ledger.order_absent(&key(1), after(131));
    let _effects = ledger.absent_without_list(&key(1), after(131), after(131));
    assert_eq!(state_of(&ledger, 1), OrderState::NotBought);
    assert_eq!(ledger.snapshot(after(131)).spent, coins(60));
}

#[test]
fn lost_orders_explain_missing_coins_until_they_are_settled() {
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    lose(&mut ledger, 2, 60, after(10), after(10));
    for (second, halts) in [(65, 0), (70, 1)] {
        let read = reading(&[], second);
        let effects = ledger.reconcile(&read, Some(coins(70)), after(second));
        assert_eq!(effects.halts.len(), halts, "at {second} s");
        assert_eq!(state_of(&ledger, 1), OrderState::Unknown, "at {second} s");
    }
}

/// The first loss was cleared because the market did not show its order, which it shows now.
#[test]
fn a_purchase_of_a_cleared_loss_does_not_stand_for_an_order_of_the_next_one() {
    let cleared = || {
        let mut ledger = with_balance();
        lose(&mut ledger, 1, 10, T0, after(1));
        let by = EvidenceSource::Marketplace;
        ledger.state.apply(after(2), &LedgerEvent::LossCleared { by }).unwrap();
        lose(&mut ledger, 1, 60, T0, after(200));
        ledger
    };
    let mut ledger = cleared();
    let trades = [own_trade(8, TradeStatus::Other), own_trade(9, TradeStatus::Joined)];
    let trades = trades.map(|trade| OwnTrade { price: Some(coins(20)), ..trade });
    let effects = ledger.reconcile(&reading(&trades[..1], 201), None, after(201));
    assert_eq!(effects.halts[0].reason, HaltReason::UnexpectedPurchase { id: id(8) });
    assert_eq!(ledger.snapshot(after(201)).spent, coins(80), "the purchase and the loss");
    let _effects = ledger.reconcile(&reading(&trades, 202), None, after(202));
    assert_eq!(ledger.snapshot(after(202)).spent, coins(100), "both purchases and the loss");
    // The time of the purchase shows that it is an order of the second loss.
    let mut ledger = cleared();
    let recent = [OwnTrade { joined_at: Some(after(200)), ..trades[1] }];
    let effects = ledger.reconcile(&reading(&recent, 201), None, after(201));
    assert_eq!(effects.halts, []);
    assert_eq!(ledger.snapshot(after(201)).spent, coins(60), "a part of the loss was found");
}

#[test]
fn a_loss_that_a_clock_ahead_cleared_does_not_make_later_purchases_doubtful() {
    let mut ledger = with_balance();
    let by = EvidenceSource::Marketplace;
    ledger.state.apply(after(1_000_000), &LedgerEvent::LossCleared { by }).unwrap();
    restart(&mut ledger, after(100));
    lose(&mut ledger, 1, 60, T0, after(200));
    let trade = own_trade(9, TradeStatus::Joined);
    let recent = OwnTrade { joined_at: Some(after(150)), price: Some(coins(20)), ..trade };
    let effects = ledger.reconcile(&reading(&[recent], 201), None, after(201));
    assert_eq!(effects.halts, []);
    assert_eq!(ledger.snapshot(after(201)).spent, coins(60));
}
