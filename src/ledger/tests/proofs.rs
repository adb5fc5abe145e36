//! Tests of halts, and of the evidence in responses, the feed, the list of trades and the balance.

use std::time::Duration;

use super::*;
use crate::{
    domain::outcome::RejectReason,
    domain::trade::TradeStatus,
    ledger::{
        account::SETTLE,
        event::StorageFault,
        state::{PAUSE, REJECTIONS_IN_A_ROW_MAX, UNKNOWNS_IN_A_ROW_MAX},
    },
    threads::ThreadName,
};

pub(super) fn own_trade(n: u32, status: TradeStatus) -> OwnTrade {
    OwnTrade::bare(id(n), status)
}

pub(super) fn reading(trades: &[OwnTrade], seconds: u64) -> AccountReading<'_> {
    AccountReading { trades, complete: true, started: after(seconds) }
}

#[test]
fn a_live_ledger_approves_no_order_before_the_first_reconciliation() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], true);
    assert_rejected(&mut ledger, order_request(1, 1), T0, RiskRejection::NotReconciled);
    let _effects = ledger.set_balance(coins(100), T0, T0);
    assert_rejected(&mut ledger, order_request(1, 1), T0, RiskRejection::NotReconciled);
    let partial = AccountReading { complete: false, ..reading(&[], 1) };
    assert_eq!(ledger.reconcile(&partial, None, after(1)).halts, []);
    assert_rejected(&mut ledger, order_request(1, 1), after(1), RiskRejection::NotReconciled);
    assert_eq!(ledger.reconcile(&reading(&[], 1), None, after(1)).halts, []);
    let _approved = ledger.reserve(order_request(1, 1), after(1)).unwrap();
}

#[test]
fn purchases_from_before_the_first_start_do_not_halt() {
    let mut ledger = ledger(budget());
    let held = [own_trade(7, TradeStatus::Completed), own_trade(8, TradeStatus::Joined)];
    assert_eq!(ledger.reconcile(&reading(&held, 0), None, T0).halts, []);
    assert_eq!(ledger.reconcile(&reading(&held, 1), None, after(1)).halts, []);
}

#[test]
fn an_unexpected_purchase_halts_until_a_resume() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), None, T0);
    let strange = [own_trade(7, TradeStatus::Joined)];
    let effects = ledger.reconcile(&reading(&strange, 1), None, after(1));
    assert_eq!(effects.halts[0].reason, HaltReason::UnexpectedPurchase { id: id(7), price: None });
    assert_rejected(&mut ledger, order_request(1, 1), after(2), RiskRejection::Halted);
    assert_eq!(ledger.reconcile(&reading(&strange, 3), None, after(3)).halts, []);
    ledger.resume(operator(), after(4));
    assert_eq!(ledger.reconcile(&reading(&strange, 5), None, after(5)).halts, []);
    let _approved = ledger.reserve(order_request(1, 1), after(6)).unwrap();
}

#[test]
fn many_unexpected_purchases_are_one_halt_and_a_resume_accepts_them_all() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), None, T0);
    let strange: Vec<OwnTrade> = (7..47).map(|n| own_trade(n, TradeStatus::Joined)).collect();
    let effects = ledger.reconcile(&reading(&strange[..8], 1), None, after(1));
    assert_eq!(effects.halts.len(), 8, "each is logged");
    let [halt] = ledger.snapshot(after(1)).halts[..] else { panic!("not one halt") };
    let text = halt.with_item(None);
    assert!(text.ends_with(" and 7 more, which are in the log"), "{text}");
    let effects = ledger.reconcile(&reading(&strange, 2), None, after(2));
    assert_eq!((effects.halts.len(), ledger.snapshot(after(2)).halts.len()), (32, 1));
    assert_eq!(ledger.reconcile(&reading(&strange, 3), None, after(3)), Effects::default());
    ledger.resume(operator(), after(4));
    assert_eq!(ledger.reconcile(&reading(&strange, 5), None, after(5)), Effects::default());
    let _approved = ledger.reserve(order_request(1, 1), after(6)).unwrap();
}

#[test]
fn a_rejection_that_only_the_user_can_fix_halts_at_once() {
    let halting = [
        RejectReason::Captcha,
        RejectReason::Challenge,
        RejectReason::Unauthenticated,
        RejectReason::DailyLimit,
        RejectReason::Forbidden { status: 403 },
        RejectReason::KeyRejected { status: 403 },
        RejectReason::InsufficientFunds,
        RejectReason::AccountRestricted,
        RejectReason::InvalidOrder,
        RejectReason::StaleQuery,
    ];
    for reason in halting {
        let mut ledger = ledger(budget());
        let effects = place_order(&mut ledger, order_request(1, 1), &Outcome::Rejected(reason), T0);
        assert_eq!(effects.halts[0].reason, HaltReason::Rejected(reason));
        assert_rejected(&mut ledger, order_request(2, 1), after(86_400), RiskRejection::Halted);
        ledger.resume(operator(), after(86_400));
        let _approved = ledger.reserve(order_request(2, 1), after(86_400)).unwrap();
    }
}

#[test]
fn lost_races_never_halt() {
    let mut ledger = ledger(budget());
    for n in 0..100 {
        let reason = match n % 5 {
            0 => RejectReason::Taken,
            1 => RejectReason::NotJoinable,
            2 => RejectReason::PriceChanged,
            3 => RejectReason::Busy,
            _ => RejectReason::AbovePriceLimit,
        };
        let effects = place_order(&mut ledger, order_request(n, 1), &Outcome::Rejected(reason), T0);
        assert_eq!(effects.halts, []);
    }
}

#[test]
fn too_many_consecutive_unknown_orders_halt_and_a_response_resets_the_count() {
    let mut ledger = ledger(budget());
    let mut n = 0;
    let mut place = |outcome: &Outcome, times: u32| {
        (0..times).fold(0, |halts, _| {
            n += 1;
            halts + place_order(&mut ledger, order_request(n, 1), outcome, T0).halts.len()
        })
    };
    assert_eq!(place(&UNKNOWN, UNKNOWNS_IN_A_ROW_MAX - 1), 0);
    assert_eq!(place(&TAKEN, 1), 0);
    assert_eq!(place(&UNKNOWN, UNKNOWNS_IN_A_ROW_MAX - 1), 0);
    assert_eq!(place(&UNKNOWN, 1), 1);
}

#[test]
fn attributed_answers_neither_extend_nor_end_a_row_of_unknown_orders() {
    for unknown in [Unknown::Failed, Unknown::AlreadyOrdered] {
        let (mut ledger, mut n) = (ledger(budget()), 0);
        let mut place = |outcome: &Outcome, times: u32| {
            (0..times).fold(0, |halts, _| {
                n += 1;
                halts + place_order(&mut ledger, order_request(n, 1), outcome, T0).halts.len()
            })
        };
        assert_eq!(place(&UNKNOWN, UNKNOWNS_IN_A_ROW_MAX - 1), 0);
        assert_eq!(place(&Outcome::Unknown(unknown), UNKNOWNS_IN_A_ROW_MAX), 0, "{unknown}");
        assert_eq!(place(&UNKNOWN, 1), 1, "{unknown}");
    }
}

#[test]
fn rate_limiting_pauses_for_retry_after_and_halts_when_repeated() {
    let limited = |retry_after| Outcome::Rejected(RejectReason::RateLimited { retry_after });
    let mut ledger = ledger(budget());
    let effects =
        place_order(&mut ledger, order_request(1, 1), &limited(Some(Duration::from_secs(7))), T0);
    assert_eq!(effects.paused_until, Some(after(7)));
    assert_rejected(
        &mut ledger,
        order_request(2, 1),
        after(6),
        RiskRejection::Paused { until: after(7) },
    );
    let mut now = after(7);
    for n in 2..REJECTIONS_IN_A_ROW_MAX {
        assert_eq!(place_order(&mut ledger, order_request(n, 1), &limited(None), now).halts, []);
        now = now.plus(PAUSE);
    }
    let last = place_order(&mut ledger, order_request(99, 1), &limited(None), now);
    assert_eq!(last.halts[0].reason, HaltReason::Rejections { count: REJECTIONS_IN_A_ROW_MAX });
}

#[test]
fn a_price_above_the_one_approved_halts_and_counts_at_once() {
    let mut ledger = ledger(budget());
    let dearer = Outcome::Bought { price: Some(coins(12)), server_time: None };
    let effects = place_order(&mut ledger, order_request(1, 10), &dearer, T0);
    let reason = HaltReason::Price { id: id(1), approved: coins(10), paid: coins(12) };
    assert_eq!(effects.halts[0].reason, reason);
    assert_eq!(ledger.snapshot(T0).spent, coins(12));
}

#[test]
fn a_lower_price_in_a_response_changes_nothing() {
    for reported in [9, 5, 1] {
        let mut ledger = ledger(budget());
        let cheaper = Outcome::Bought { price: Some(coins(reported)), server_time: None };
        assert_eq!(
            place_order(&mut ledger, order_request(1, 10), &cheaper, T0),
            Effects::default()
        );
        assert_eq!(ledger.snapshot(T0).spent, coins(10), "reported {reported}");
    }
}

#[test]
fn an_absurd_price_halts_and_never_lowers_the_counted_price() {
    for reported in [0, -3, 101] {
        let mut ledger = ledger(budget());
        let paid = coins(reported);
        let absurd = Outcome::Bought { price: Some(paid), server_time: None };
        let effects = place_order(&mut ledger, order_request(1, 10), &absurd, T0);
        let reason = HaltReason::ImplausiblePrice { id: id(1), approved: coins(10), paid };
        assert_eq!(effects.halts[0].reason, reason);
        assert!(coins(10) <= ledger.snapshot(T0).spent, "reported {reported}");
    }
}

#[test]
fn a_price_in_the_list_counts_at_once_where_it_is_higher() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let dearer = [OwnTrade { price: Some(coins(13)), ..own_trade(1, TradeStatus::Joined) }];
    let effects = ledger.reconcile(&reading(&dearer, 5), None, after(5));
    let reason = HaltReason::Price { id: id(1), approved: coins(10), paid: coins(13) };
    assert_eq!(effects.halts[0].reason, reason);
    assert_eq!(ledger.snapshot(after(5)).spent, coins(13));
    // The same list again has no effect.
    let again = ledger.reconcile(&reading(&dearer, 6), None, after(6));
    assert_eq!(again, Effects::default());
}

#[test]
fn a_lower_price_in_the_list_counts_once_a_later_balance_confirms_it() {
    let lists_8 = [OwnTrade { price: Some(coins(8)), ..own_trade(1, TradeStatus::Joined) }];
    for (balance, spent) in [(92, 8), (90, 10), (91, 10)] {
        let mut ledger = ledger(budget());
        let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
        let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
        let _effects = ledger.reconcile(&reading(&lists_8, 100), Some(coins(balance)), after(100));
        assert_eq!(ledger.snapshot(after(100)).spent, coins(10), "not on the list alone");
        // Coins that are missing once stay missing, also after the order was delivered.
        let delivered = [OwnTrade { status: TradeStatus::Completed, ..lists_8[0] }];
        for (second, trades) in
            [(160, &lists_8), (220, &lists_8), (280, &delivered), (340, &delivered)]
        {
            let read = reading(trades, second);
            let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
            assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "balance {balance}");
        }
        ledger.state().check().unwrap();
    }
}

#[test]
fn the_list_corrects_an_overstated_price_of_a_response() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let dearer = Outcome::Bought { price: Some(coins(50)), server_time: None };
    let _halted = place_order(&mut ledger, order_request(1, 10), &dearer, after(1));
    assert_eq!(ledger.snapshot(after(1)).spent, coins(50));
    let lists_10 = [OwnTrade { price: Some(coins(10)), ..own_trade(1, TradeStatus::Joined) }];
    for second in [100, 160] {
        let read = reading(&lists_10, second);
        let _effects = ledger.reconcile(&read, Some(coins(90)), after(second));
    }
    assert_eq!(ledger.snapshot(after(160)).spent, coins(10));
}

#[test]
fn the_list_corrects_a_response_that_names_a_lower_price_than_an_earlier_list() {
    for paid in [0, 4] {
        let mut ledger = ledger(budget());
        let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
        let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
        let _effects = place_order(&mut ledger, order_request(2, 7), &UNKNOWN, after(1));
        let listed = |status| [OwnTrade { price: Some(coins(10)), ..own_trade(1, status) }];
        let read = listed(TradeStatus::Other);
        let _effects = ledger.reconcile(&reading(&read, 2), Some(coins(90)), after(2));
        let late = Outcome::Bought { price: Some(coins(paid)), server_time: None };
        let _effects = ledger.settle(&order_request(1, 10).key(), &late, after(3)).unwrap();
        let read = listed(TradeStatus::Joined);
        for second in [100, 200, 300] {
            let at = after(second);
            let _effects = ledger.reconcile(&reading(&read, second), Some(coins(90)), at);
        }
        // Its coins are not taken for those of the other order.
        let state = ledger.state().intent(&id(2)).unwrap().state;
        assert_eq!((state, ledger.snapshot(after(300)).spent), (OrderState::NotBought, coins(10)));
    }
}

#[test]
fn the_feed_advances_an_order_and_frees_no_exposure() {
    for status in [
        TradeStatus::Processing,
        TradeStatus::Completed,
        TradeStatus::CompletedProtected,
        TradeStatus::Cancelled,
        TradeStatus::Expired,
        TradeStatus::Cooldown,
        TradeStatus::Other,
    ] {
        let mut ledger = ledger(budget());
        let _effects = ledger.set_balance(coins(100), T0, T0);
        let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, T0);
        let (_effects, needs_read) = ledger.observe(&id(1), status, after(1));
        let is_cancelled =
            matches!(status, TradeStatus::Cancelled | TradeStatus::Expired | TradeStatus::Cooldown);
        assert_eq!(needs_read, is_cancelled, "{status}");
        let snapshot = ledger.snapshot(T0);
        assert_eq!(snapshot.spent, coins(10), "{status}");
        assert_eq!(snapshot.available_min, Some(coins(90)), "{status}");
        let delivered = matches!(status, TradeStatus::Completed | TradeStatus::CompletedProtected);
        let state = if delivered { OrderState::Completed } else { OrderState::Bought };
        assert_eq!(ledger.state().intent(&id(1)).unwrap().state, state, "{status}");
    }
}

#[test]
fn the_feed_proves_nothing_about_an_order_that_was_not_bought() {
    for (n, outcome) in (1..).zip([TAKEN, UNKNOWN]) {
        let mut ledger = ledger(budget());
        let _effects = place_order(&mut ledger, order_request(n, 10), &outcome, T0);
        let before = ledger.state().intents().to_vec();
        for status in [TradeStatus::Joined, TradeStatus::Completed, TradeStatus::Cancelled] {
            assert!(!ledger.observe(&id(n), status, after(1)).1);
        }
        assert_eq!(ledger.state().intents(), before);
    }
}

/// Returns a ledger with a balance of 100 coins and two orders of 10, bought one second after T0.
pub(super) fn two_bought() -> Ledger {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    for n in [1, 2] {
        let _effects = place_order(&mut ledger, order_request(n, 10), &BOUGHT, after(1));
    }
    ledger
}

#[test]
fn a_cancelled_order_counts_until_a_later_balance_shows_its_coins() {
    let mut ledger = two_bought();
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Joined)];
    for (second, balance, spent) in [(70, 80, 20), (130, 80, 20), (190, 89, 20), (250, 90, 10)] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        let snapshot = ledger.snapshot(after(second));
        assert_eq!(snapshot.spent, coins(spent), "at {second} s with {balance}");
        assert_eq!(snapshot.returning, u32::from(spent == 20));
        ledger.state().check().unwrap();
    }
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Returned);
}

#[test]
fn coins_returned_before_the_list_was_read_are_found_by_the_next_balance() {
    let mut ledger = two_bought();
    let joined = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&joined, 70), Some(coins(80)), after(70));
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Joined)];
    for (second, spent) in [(130, 20), (190, 10)] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(90)), after(second));
        assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "at {second} s");
    }
}

#[test]
fn returning_orders_are_released_oldest_first_as_far_as_the_coins_cover_them_in_full() {
    let mut ledger = two_bought();
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Cancelled)];
    for (second, balance, spent) in [(70, 80, 20), (130, 95, 10), (190, 100, 0)] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
        assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "at {second} s");
    }
    let states = [1, 2].map(|n| ledger.state().intent(&id(n)).unwrap().state);
    assert_eq!(states, [OrderState::Returned; 2]);
}

#[test]
fn a_returning_order_is_not_in_flight_and_counts_for_its_entry() {
    let mut limited = entry(Some("limited"));
    limited.max_quantity = 1;
    let limits = Budget { max_in_flight: 1, ..budget() };
    let mut ledger = Ledger::in_memory(limits, &[limited, entry(Some("free"))], false);
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    let cancelled = [own_trade(1, TradeStatus::Cancelled)];
    let _effects = ledger.reconcile(&reading(&cancelled, 70), Some(coins(90)), after(70));
    assert_rejected(
        &mut ledger,
        order_request(2, 1),
        after(71),
        RiskRejection::EntryQuantity { bought: 1, max: 1 },
    );
    let _approved =
        ledger.reserve(OrderRequest { entry: 1, ..order_request(2, 1) }, after(71)).unwrap();
}

#[test]
fn the_operator_can_declare_the_coins_of_a_cancelled_order_returned() {
    let mut ledger = two_bought();
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Joined)];
    assert!(
        ledger.resolve(&id(1), Evidence::Returned, operator(), after(2)).is_err(),
        "not returning yet"
    );
    let _effects = ledger.reconcile(&reading(&cancelled, 70), Some(coins(80)), after(70));
    assert_eq!(ledger.state().returning_since(after(70)).count(), 1);
    let _effects = ledger.resolve(&id(1), Evidence::Returned, operator(), after(71)).unwrap();
    assert_eq!(ledger.snapshot(after(71)).spent, coins(10));
    ledger.state().check().unwrap();
}

#[test]
fn an_old_list_does_not_bring_back_a_returned_order_and_a_later_one_halts() {
    let mut ledger = two_bought();
    let joined = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Joined)];
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Joined)];
    for (second, balance) in [(70, 80), (130, 90)] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(balance)), after(second));
    }
    assert_eq!(ledger.snapshot(after(130)).spent, coins(10));
    let stale = ledger.reconcile(&reading(&joined, 140), None, after(140));
    assert_eq!(stale, Effects::default());
    let effects = ledger.reconcile(&reading(&joined, 200), None, after(200));
    assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
    assert_eq!(ledger.snapshot(after(200)).spent, coins(20));
}

#[test]
fn a_listed_order_of_unknown_status_is_present_and_stays_unknown() {
    for charged in [false, true] {
        let mut ledger = ledger(budget());
        let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
        let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
        let balance = if charged { coins(90) } else { coins(100) };
        for second in [70, 130, 300] {
            let listed = [own_trade(1, TradeStatus::Other)];
            let effects = ledger.reconcile(&reading(&listed, second), Some(balance), after(second));
            assert_eq!(effects.halts, [], "charged {charged}");
        }
        assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Unknown);
    }
}

#[test]
fn a_listed_purchase_of_unknown_status_that_did_not_count_is_counted_and_halts() {
    for outcome in [TAKEN, Outcome::NotSent(NotSent::Closed)] {
        let mut ledger = ledger(budget());
        let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
        let _effects = place_order(&mut ledger, order_request(1, 10), &outcome, after(1));
        assert_eq!(ledger.snapshot(after(1)).spent, Amount::ZERO);
        let listed = [own_trade(1, TradeStatus::Other)];
        let effects = ledger.reconcile(&reading(&listed, 70), None, after(70));
        assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
        assert_eq!(ledger.snapshot(after(70)).spent, coins(10));
    }
}

/// The balance without the true price counts as a loss until the list contains that price. The
/// correction must not count as a refund.
#[test]
fn an_understated_price_that_is_corrected_later_is_not_a_refund() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let understated = Outcome::Bought { price: Some(Amount::ZERO), server_time: None };
    let _effects = place_order(&mut ledger, order_request(1, 10), &understated, after(1));
    let _effects = ledger.set_balance(coins(90), after(70), after(70));
    let cancelled = [OwnTrade { price: Some(coins(10)), ..own_trade(1, TradeStatus::Cancelled) }];
    let _effects = ledger.reconcile(&reading(&cancelled, 71), None, after(71));
    for second in [80, 150] {
        let _effects =
            ledger.reconcile(&reading(&cancelled, second), Some(coins(90)), after(second));
        assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Returning);
        assert_eq!(ledger.snapshot(after(second)).spent, coins(10));
    }
    let _effects = ledger.reconcile(&reading(&cancelled, 220), Some(coins(100)), after(220));
    assert_eq!(ledger.snapshot(after(220)).spent, Amount::ZERO);
}

#[test]
fn a_halt_over_missing_coins_names_an_order_that_is_listed_with_an_unknown_status() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = place_order(&mut ledger, order_request(2, 5), &UNKNOWN, after(1));
    let listed = [own_trade(2, TradeStatus::Other)];
    let effects = ledger.reconcile(&reading(&listed, 100), Some(coins(85)), after(100));
    let reason = HaltReason::Disagreement { missing: coins(10), listed: Some(id(2)) };
    assert_eq!(effects.halts[0].reason, reason);
    assert!(reason.to_string().contains("listing-2 is listed"), "{reason}");
}

#[test]
fn coins_of_a_cancelled_order_do_not_hide_the_charge_of_an_unknown_one() {
    let mut ledger = two_bought();
    let joined = [own_trade(1, TradeStatus::Joined), own_trade(2, TradeStatus::Joined)];
    let _effects = ledger.reconcile(&reading(&joined, 70), Some(coins(80)), after(70));
    let _effects = place_order(&mut ledger, order_request(3, 10), &UNKNOWN, after(71));
    // The order was charged and the first order was refunded, so the balance is unchanged. The list
    // is a minute old.
    for second in [140, 150] {
        let read = reading(&joined, second);
        let _effects = ledger.reconcile(&read, Some(coins(80)), after(second));
        assert_eq!(ledger.state().intent(&id(3)).unwrap().state, OrderState::Unknown, "{second}");
    }
    let cancelled = [own_trade(1, TradeStatus::Cancelled), own_trade(2, TradeStatus::Joined)];
    for second in [201, 261, 321] {
        let read = reading(&cancelled, second);
        let _effects = ledger.reconcile(&read, Some(coins(80)), after(second));
        assert_eq!(ledger.snapshot(after(second)).spent, coins(30), "{second}");
    }
}

#[test]
fn a_late_response_to_an_order_that_counted_as_not_bought_counts_it_again_and_halts() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = ledger.reconcile(&reading(&[], 100), Some(coins(100)), after(100));
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::NotBought);
    let effects = ledger.settle(&key(1), &BOUGHT, after(101)).unwrap();
    assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
    assert_eq!(ledger.snapshot(after(101)).spent, coins(10));
}

#[test]
fn an_unknown_order_found_in_the_list_is_bought() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let trades = [own_trade(1, TradeStatus::Joined)];
    let effects = ledger.reconcile(&reading(&trades, 2), Some(coins(90)), after(2));
    assert_eq!(effects.halts, []);
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Bought);
    assert_eq!(ledger.snapshot(T0).available_min, Some(coins(90)));
}

#[test]
fn an_absent_unknown_order_is_not_bought_once_the_window_has_passed_and_no_coins_are_missing() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let window = SETTLE.as_secs();
    for (second, state) in [(window, OrderState::Unknown), (window + 1, OrderState::NotBought)] {
        let read = reading(&[], second);
        let effects = ledger.reconcile(&read, Some(coins(100)), after(second));
        assert_eq!(effects.halts, []);
        assert_eq!(ledger.state().intent(&id(1)).unwrap().state, state);
    }
}

#[test]
fn absence_from_an_incomplete_list_or_without_a_balance_proves_nothing() {
    let mut ledger = ledger(budget());
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, T0);
    let _effects = ledger.reconcile(&reading(&[], 1_000), None, after(1_000));
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Unknown);
    let partial = AccountReading { complete: false, ..reading(&[], 2_000) };
    let _effects = ledger.reconcile(&partial, Some(coins(100)), after(2_000));
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Unknown);
}

#[test]
fn a_balance_from_before_the_window_has_passed_proves_nothing() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let _effects = ledger.set_balance(coins(100), after(60), after(60));
    let _effects = ledger.reconcile(&reading(&[], 100), None, after(100));
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Unknown);
    let _effects = ledger.set_balance(coins(100), after(61), after(101));
    let _effects = ledger.reconcile(&reading(&[], 102), None, after(102));
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::NotBought);
}

#[test]
fn an_absent_order_whose_coins_are_missing_halts_and_stays_unknown() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let effects = ledger.reconcile(&reading(&[], 100), Some(coins(90)), after(100));
    assert_eq!(
        effects.halts[0].reason,
        HaltReason::Disagreement { missing: coins(10), listed: None }
    );
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Unknown);
}

#[test]
fn a_rejected_order_found_in_the_list_counts_and_halts() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), None, T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &TAKEN, after(1));
    let trades = [own_trade(1, TradeStatus::Joined)];
    let effects = ledger.reconcile(&reading(&trades, 2), None, after(2));
    assert_eq!(effects.halts[0].reason, HaltReason::Contradiction { id: id(1) });
    assert_eq!(ledger.snapshot(T0).spent, coins(10));
}

#[test]
fn missing_coins_halt() {
    let mut ledger = ledger(budget());
    let _effects = ledger.set_balance(coins(100), T0, T0);
    let effects = ledger.set_balance(coins(99), after(60), after(60));
    let reason = HaltReason::BalanceDrop { expected: coins(100), actual: coins(99) };
    assert_eq!(effects.halts[0].reason, reason);
}

#[test]
fn a_manual_purchase_is_one_halt_that_names_it_also_after_the_balance_has_shown_it() {
    let found = |drop: i64, price: Option<i64>| {
        let mut ledger = ledger(budget());
        let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
        let dropped = ledger.set_balance(coins(100 - drop), after(61), after(61));
        assert_eq!(dropped.halts.len(), 1);
        let manual = OwnTrade { price: price.map(coins), ..own_trade(7, TradeStatus::Joined) };
        let effects = ledger.reconcile(&reading(&[manual], 62), None, after(62));
        assert_eq!(
            effects.halts.iter().map(|halt| halt.reason.listing()).collect::<Vec<_>>(),
            [Some(id(7))]
        );
        assert_rejected(&mut ledger, order_request(1, 1), after(63), RiskRejection::Halted);
        let again = ledger.set_balance(coins(90 - drop), after(64), after(64)).halts.len();
        let halts = ledger.snapshot(after(64)).halts;
        assert_eq!((again, halts.len()), (usize::from(price == Some(10)), 2), "a second drop");
        halts.iter().map(|halt| halt.reason).collect::<Vec<_>>()
    };
    let purchase =
        |price: Option<i64>| HaltReason::UnexpectedPurchase { id: id(7), price: price.map(coins) };
    let next = HaltReason::BalanceDrop { expected: coins(90), actual: coins(80) };
    assert_eq!(found(10, Some(10)), [purchase(None), next], "the purchase explains one drop");
    for price in [None, Some(9), Some(11)] {
        assert_eq!(found(10, price), [next, purchase(price)], "other coins are missing");
    }
}

#[test]
fn a_manual_purchase_that_the_list_shows_first_is_one_halt_also_when_the_balance_falls() {
    for (price, drop, expected) in [(Some(10), 10, 1), (Some(10), 9, 2), (None, 10, 2)] {
        let mut ledger = ledger(budget());
        let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
        let manual = OwnTrade { price: price.map(coins), ..own_trade(7, TradeStatus::Joined) };
        let listed = ledger.reconcile(&reading(&[manual], 61), None, after(61));
        assert_eq!(listed.halts.len(), 1);
        let dropped = ledger.set_balance(coins(100 - drop), after(62), after(62));
        let halts = ledger.snapshot(after(62)).halts.len();
        assert_eq!((1 + dropped.halts.len(), halts), (expected, expected), "{price:?} {drop}");
        // The purchase explains one drop.
        let _effects = ledger.set_balance(coins(100 - 2 * drop), after(63), after(63));
        assert_eq!(ledger.snapshot(after(63)).halts.len(), 2, "{price:?} {drop}");
    }
}

#[test]
fn a_restart_makes_orders_in_flight_unknown() {
    let mut ledger = ledger(Budget { max_in_flight: 1, ..budget() });
    let _in_flight = ledger.reserve(order_request(1, 10), T0).unwrap();
    restart(&mut ledger, after(1));
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Unknown);
    assert_eq!(ledger.snapshot(after(1)).spent, coins(10));
    let _approved = ledger.reserve(order_request(2, 1), after(1)).unwrap();
}

#[test]
fn possible_crash_losses_count_against_every_limit_and_old_listings_are_never_ordered() {
    let limits = Budget { total: coins(100), max_buys_per_minute: 2, ..budget() };
    let mut ledger = ledger(limits);
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    lose(&mut ledger, 1, 60, after(10), after(10));

    let old = OrderRequest { created_at: Some(after(10)), ..order_request(1, 1) };
    assert_rejected(
        &mut ledger,
        old,
        after(11),
        RiskRejection::BeforePowerLoss { barrier: after(10) },
    );
    let dateless = OrderRequest { created_at: None, ..old };
    assert_rejected(
        &mut ledger,
        dateless,
        after(11),
        RiskRejection::BeforePowerLoss { barrier: after(10) },
    );
    let fresh = |n, price| OrderRequest { created_at: Some(after(11)), ..order_request(n, price) };
    let total = RiskRejection::Total { spent: coins(60), price: coins(41), max: coins(100) };
    assert_rejected(&mut ledger, fresh(1, 41), after(11), total);
    let _effects = place_order(&mut ledger, fresh(1, 10), &BOUGHT, after(11));
    assert_rejected(
        &mut ledger,
        fresh(2, 1),
        after(11),
        RiskRejection::PerMinute { sent: 2, max: 2 },
    );

    // A hidden order appears and explains the missing coins; the rest of the reserve is released.
    let forgotten = OwnTrade { price: Some(coins(30)), ..own_trade(77, TradeStatus::Joined) };
    let mine = OwnTrade { price: Some(coins(10)), ..own_trade(1, TradeStatus::Joined) };
    let found = ledger.reconcile(&reading(&[forgotten, mine], 20), Some(coins(60)), after(20));
    assert_eq!(found.halts, []);
    assert_eq!(ledger.snapshot(after(20)).spent, coins(70));
    let trades = [forgotten, mine];
    for second in [100, 161, 222] {
        let read = reading(&trades, second);
        let found = ledger.reconcile(&read, Some(coins(60)), after(second));
        assert_eq!(found.halts, []);
    }
    assert_eq!(ledger.snapshot(after(222)).spent, coins(40));
    ledger.state().check().unwrap();
}

#[test]
fn a_purchase_hidden_by_power_loss_explains_the_coins_missing_for_an_absent_order() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    lose(&mut ledger, 2, 60, after(90), after(90));
    let hidden = [OwnTrade { price: Some(coins(30)), ..own_trade(77, TradeStatus::Joined) }];
    for second in [100, 200, 261, 322] {
        let read = reading(&hidden, second);
        let effects = ledger.reconcile(&read, Some(coins(70)), after(second));
        assert_eq!(effects.halts, [], "after {second} s");
    }
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::NotBought);
    assert_eq!(ledger.snapshot(after(322)).spent, coins(30));
}

#[test]
fn one_cause_is_one_halt_that_is_updated() {
    let mut ledger = ledger(budget());
    for n in 0..UNKNOWNS_IN_A_ROW_MAX + 3 {
        let Ok(approved) = ledger.reserve(order_request(n, 1), T0) else {
            // The halt rejects the remaining requests.
            break;
        };
        let _effects = ledger.settle(approved.key(), &UNKNOWN, T0).unwrap();
    }
    let _effects = ledger.set_balance(coins(100), T0, T0);
    let first = ledger.set_balance(coins(60), after(60), after(60));
    assert_eq!(first.halts.len(), 1);
    let second = ledger.set_balance(coins(50), after(61), after(61));
    assert_eq!(second.halts, [], "a halt is reported once");
    let halts = ledger.snapshot(after(61)).halts;
    let counts: Vec<u32> = halts.iter().map(|halt| halt.count).collect();
    assert_eq!(counts, [1, 2], "{halts:?}");
    let is_latest = |halt: &Halt| matches!(halt.reason, HaltReason::BalanceDrop { actual, .. } if actual == coins(50));
    assert!(halts.iter().any(is_latest), "{halts:?}");
}

/// Each has its own remedy or thread, which the status must show.
#[test]
fn lost_threads_and_faults_of_the_disk_are_halts_of_their_own() {
    let mut ledger = ledger(budget());
    let reasons = [
        HaltReason::Thread(ThreadName::Dashboard),
        HaltReason::Thread(ThreadName::Sharing),
        HaltReason::Storage(StorageFault::Changed),
        HaltReason::Storage(StorageFault::Unwritable),
    ];
    for reason in reasons {
        assert_eq!(ledger.halt(reason, T0).halts.len(), 1, "{reason}");
        assert_eq!(ledger.halt(reason, after(1)).halts, [], "a halt is reported once");
    }
    let halts = ledger.snapshot(after(1)).halts;
    assert_eq!(halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), reasons);
}

#[test]
fn each_purchase_that_halts_is_reported() {
    let mut ledger = ledger(budget());
    let price = |n| HaltReason::Price { id: id(n), approved: coins(1), paid: coins(2) };
    let contradiction = |n| HaltReason::Contradiction { id: id(n) };
    for reason in [price(1), price(2), contradiction(3), contradiction(4)] {
        let reported = ledger.halt(reason, after(1)).halts;
        assert_eq!(reported.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [reason]);
        assert_eq!(ledger.halt(reason, after(9)).halts, []);
    }
    assert_eq!(ledger.snapshot(after(9)).halts.len(), 2);
}

#[test]
fn a_state_change_that_is_not_the_response_of_the_order_is_reported() {
    let mut ledger = two_bought();
    let _effects = place_order(&mut ledger, order_request(3, 10), &UNKNOWN, after(1));
    let lists = [
        own_trade(1, TradeStatus::Cancelled),
        own_trade(2, TradeStatus::Completed),
        own_trade(3, TradeStatus::Joined),
    ];
    let effects = ledger.reconcile(&reading(&lists, 70), Some(coins(70)), after(70));
    let change = |n, from, to| StateChange { id: id(n), from, to, price: coins(10) };
    assert_eq!(
        effects.changes,
        [
            change(1, OrderState::Bought, OrderState::Returning),
            change(2, OrderState::Bought, OrderState::Completed),
            change(3, OrderState::Unknown, OrderState::Bought),
        ]
    );
    // A balance includes the third order one minute after its confirmation.
    let _effects = ledger.set_balance(coins(80), after(135), after(135));
    let effects = ledger.set_balance(coins(80), after(140), after(140));
    assert_eq!(effects.changes, []);
    let totals = ledger.totals_since(Sequence(1));
    assert_eq!((totals.bought, totals.delivered, totals.returned), (2, 1, 1));
}
