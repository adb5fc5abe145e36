//! Tests of rejections that are not confirmed yet.

use std::time::Duration;

use super::{proofs::reading, *};
use crate::{
    domain::outcome::RejectReason,
    ledger::state::{REJECTIONS_IN_A_ROW_MAX, UNKNOWNS_IN_A_ROW_MAX},
};

const fn unconfirmed(reason: RejectReason) -> Outcome {
    Outcome::Unknown(Unknown::Unconfirmed(reason))
}

#[test]
fn an_unconfirmed_rejection_counts_as_spent_and_is_not_in_flight() {
    let mut ledger = ledger(Budget { total: coins(10), max_in_flight: 1, ..budget() });
    let _effects =
        place_order(&mut ledger, order_request(1, 10), &unconfirmed(RejectReason::Taken), T0);
    let rejection = RiskRejection::Total { spent: coins(10), price: coins(1), max: coins(10) };
    assert_rejected(&mut ledger, order_request(2, 1), after(86_400), rejection);
    let _effects = ledger.settle(&key(1), &TAKEN, after(1)).unwrap();
    let _approved = ledger.reserve(order_request(2, 10), after(1)).unwrap();
    ledger.state().check().unwrap();
}

#[test]
fn an_unconfirmed_rejection_becomes_bought_if_the_next_response_is_bought() {
    let mut ledger = ledger(budget());
    let _effects =
        place_order(&mut ledger, order_request(1, 10), &unconfirmed(RejectReason::Taken), T0);
    let _effects = ledger.settle(&key(1), &BOUGHT, T0).unwrap();
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Bought);
}

#[test]
fn an_unconfirmed_rejection_counts_as_consecutive_unknown_only_after_contrary_evidence() {
    let mut ledger = ledger(budget());
    for n in 0..100 {
        let effects =
            place_order(&mut ledger, order_request(n, 1), &unconfirmed(RejectReason::Taken), T0);
        assert_eq!(effects, Effects::default());
    }
    for n in 0..UNKNOWNS_IN_A_ROW_MAX {
        let foreign = Outcome::Unknown(Unknown::Foreign);
        let effects = ledger.settle(&key(n), &foreign, after(1)).unwrap();
        assert_eq!(effects.halts.len(), usize::from(n + 1 == UNKNOWNS_IN_A_ROW_MAX));
    }
}

/// A proxy may close the connection after each rejection.
#[test]
fn rejections_that_stay_unconfirmed_do_not_halt_and_count_until_the_list_shows_otherwise() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(1_000)), T0);
    let rejected = unconfirmed(RejectReason::Taken);
    for n in 1..=UNKNOWNS_IN_A_ROW_MAX {
        let _provisional = place_order(&mut ledger, order_request(n, 10), &rejected, after(1));
        let after_close = ledger.settle(&key(n), &rejected, after(1)).unwrap();
        assert_eq!(after_close, Effects::default());
    }
    assert_eq!(ledger.snapshot(after(1)).spent, coins(50));
    for (second, spent) in [(60, 50), (200, 0)] {
        let read = reading(&[], second);
        let effects = ledger.reconcile(&read, Some(coins(1_000)), after(second));
        assert_eq!(effects.halts, []);
        assert_eq!(ledger.snapshot(after(second)).spent, coins(spent), "after {second} s");
    }
}

#[test]
fn an_unconfirmed_rejection_does_not_reset_the_count_of_unknown_orders() {
    let mut ledger = ledger(budget());
    for n in 1..UNKNOWNS_IN_A_ROW_MAX {
        let _effects = place_order(&mut ledger, order_request(n, 1), &UNKNOWN, T0);
    }
    let _effects =
        place_order(&mut ledger, order_request(90, 1), &unconfirmed(RejectReason::Taken), T0);
    assert_eq!(place_order(&mut ledger, order_request(91, 1), &UNKNOWN, T0).halts.len(), 1);
}

#[test]
fn an_unconfirmed_rejection_halts_or_pauses_at_once_and_only_once() {
    let mut halted = ledger(budget());
    let effects =
        place_order(&mut halted, order_request(1, 1), &unconfirmed(RejectReason::Captcha), T0);
    assert_eq!(effects.halts[0].reason, HaltReason::Rejected(RejectReason::Captcha));
    let confirmed = Outcome::Rejected(RejectReason::Captcha);
    assert_eq!(halted.settle(&key(1), &confirmed, after(1)).unwrap(), Effects::default());

    let mut paused = ledger(budget());
    let limited = RejectReason::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    let mut now = T0;
    for n in 1..REJECTIONS_IN_A_ROW_MAX {
        let effects = place_order(&mut paused, order_request(n, 1), &unconfirmed(limited), now);
        now = now.plus(Duration::from_secs(7));
        assert_eq!((effects.halts.len(), effects.paused_until), (0, Some(now)));
    }
    let last = place_order(&mut paused, order_request(99, 1), &unconfirmed(limited), now);
    assert_eq!(last.halts[0].reason, HaltReason::Rejections { count: REJECTIONS_IN_A_ROW_MAX });
}

#[test]
fn another_rejection_in_the_last_report_pauses_although_the_order_was_unknown() {
    let mut ledger = ledger(budget());
    let taken = unconfirmed(RejectReason::Taken);
    let _effects = place_order(&mut ledger, order_request(1, 1), &taken, T0);
    let limited = RejectReason::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    let effects = ledger.settle(&key(1), &unconfirmed(limited), after(1)).unwrap();
    assert_eq!(effects.paused_until, Some(after(8)));
}

/// The last report repeats an unconfirmed rejection or confirms it.
#[test]
fn the_last_report_of_a_rejection_neither_prolongs_its_pause_nor_counts_again() {
    let limited = RejectReason::RateLimited { retry_after: Some(Duration::from_secs(7)) };
    for last in [unconfirmed(limited), Outcome::Rejected(limited)] {
        let mut ledger = ledger(budget());
        let mut now = T0;
        for n in 1..REJECTIONS_IN_A_ROW_MAX {
            let _first = place_order(&mut ledger, order_request(n, 1), &unconfirmed(limited), now);
            now = now.plus(Duration::from_secs(8));
            assert_eq!(ledger.settle(&key(n), &last, now).unwrap(), Effects::default());
        }
    }
}
