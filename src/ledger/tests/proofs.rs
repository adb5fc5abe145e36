//! What halts, what resumes, and what the marketplace's own word proves.

use std::time::Duration;

use super::*;
use crate::{
    ledger::{
        account::SETTLE,
        book::{PAUSE, REFUSALS_IN_A_ROW_MAX, UNKNOWNS_IN_A_ROW_MAX},
    },
    outcome::Refusal,
    trade::Status,
};

fn own(n: u32, status: Status) -> OwnTrade {
    OwnTrade { id: id(n), status, price: None, joined_at: None }
}

fn reading(trades: &[OwnTrade], seconds: u64) -> Reading<'_> {
    Reading { trades, complete: true, started: after(seconds) }
}

#[test]
fn where_buys_cost_money_nothing_is_bought_before_the_first_reconciliation() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], true);
    check_denied(&mut ledger, want(1, 1), T0, Denied::NotReconciled);
    let _nothing = ledger.set_balance(coins(100), T0, T0);
    check_denied(&mut ledger, want(1, 1), T0, Denied::NotReconciled);
    assert_eq!(ledger.reconcile(&reading(&[], 1), None, after(1)), Aftermath::default());
    let _approved = ledger.reserve(want(1, 1), after(1)).unwrap();
}

#[test]
fn what_the_account_held_at_the_first_start_is_no_reason_to_halt() {
    let mut ledger = ledger(budget());
    let held = [own(7, Status::Completed), own(8, Status::Joined)];
    assert_eq!(ledger.reconcile(&reading(&held, 0), None, T0), Aftermath::default());
    assert_eq!(ledger.reconcile(&reading(&held, 1), None, after(1)), Aftermath::default());
}

#[test]
fn a_purchase_that_nobody_intended_halts_until_a_person_has_looked() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), None, T0);
    let strange = [own(7, Status::Joined)];
    let aftermath = ledger.reconcile(&reading(&strange, 1), None, after(1));
    assert_eq!(aftermath.halts[0].reason, HaltReason::Unintended { id: id(7) });
    check_denied(&mut ledger, want(1, 1), after(2), Denied::Halted);
    assert_eq!(ledger.reconcile(&reading(&strange, 3), None, after(3)), Aftermath::default());
    ledger.resume(me(), after(4));
    assert_eq!(ledger.reconcile(&reading(&strange, 5), None, after(5)), Aftermath::default());
    let _approved = ledger.reserve(want(1, 1), after(6)).unwrap();
}

#[test]
fn a_refusal_that_only_a_person_can_lift_halts_at_once() {
    let halting = [
        Refusal::Captcha,
        Refusal::Challenge,
        Refusal::Unauthenticated,
        Refusal::DailyLimit,
        Refusal::Forbidden { status: 403 },
        Refusal::StaleQuery,
    ];
    for refusal in halting {
        let mut ledger = ledger(budget());
        let aftermath = buy(&mut ledger, want(1, 1), &Outcome::Refused(refusal), T0);
        assert_eq!(aftermath.halts[0].reason, HaltReason::Refused(refusal));
        check_denied(&mut ledger, want(2, 1), after(86_400), Denied::Halted);
        ledger.resume(me(), after(86_400));
        let _approved = ledger.reserve(want(2, 1), after(86_400)).unwrap();
    }
}

#[test]
fn lost_races_never_halt() {
    let mut ledger = ledger(budget());
    for n in 0..100 {
        let refusal = if n % 2 == 0 { Refusal::Taken } else { Refusal::NotJoinable };
        let aftermath = buy(&mut ledger, want(n, 1), &Outcome::Refused(refusal), T0);
        assert_eq!(aftermath, Aftermath::default());
    }
}

#[test]
fn too_many_unknowns_in_a_row_halt_and_an_answer_in_between_forgives() {
    let mut ledger = ledger(budget());
    let mut n = 0;
    let mut play = |outcome: &Outcome, times: u32| {
        (0..times).fold(0, |halts, _| {
            n += 1;
            halts + buy(&mut ledger, want(n, 1), outcome, T0).halts.len()
        })
    };
    assert_eq!(play(&LOST, UNKNOWNS_IN_A_ROW_MAX - 1), 0);
    assert_eq!(play(&TAKEN, 1), 0);
    assert_eq!(play(&LOST, UNKNOWNS_IN_A_ROW_MAX - 1), 0);
    assert_eq!(play(&LOST, 1), 1);
}

#[test]
fn too_many_requests_pause_as_told_and_halt_when_repeated() {
    let limited = |retry_after| Outcome::Refused(Refusal::RateLimited { retry_after });
    let mut ledger = ledger(budget());
    let told = buy(&mut ledger, want(1, 1), &limited(Some(Duration::from_secs(7))), T0);
    assert_eq!(told.paused_until, Some(after(7)));
    check_denied(&mut ledger, want(2, 1), after(6), Denied::Paused { until: after(7) });
    let mut now = after(7);
    for n in 2..REFUSALS_IN_A_ROW_MAX {
        assert_eq!(buy(&mut ledger, want(n, 1), &limited(None), now).halts, []);
        now = now.plus(PAUSE);
    }
    let last = buy(&mut ledger, want(99, 1), &limited(None), now);
    assert_eq!(last.halts[0].reason, HaltReason::Refusals { count: REFUSALS_IN_A_ROW_MAX });
}

#[test]
fn a_price_other_than_the_one_approved_halts_and_counts_as_paid() {
    let mut ledger = ledger(budget());
    let dearer = Outcome::Bought { price: Some(coins(12)), server_time: None };
    let aftermath = buy(&mut ledger, want(1, 10), &dearer, T0);
    let reason = HaltReason::Price { id: id(1), approved: coins(10), paid: coins(12) };
    assert_eq!(aftermath.halts[0].reason, reason);
    assert_eq!(ledger.snapshot(T0).spent, coins(12));
}

#[test]
fn delivered_stays_spent_and_returned_gives_the_coins_back() {
    for (status, spent) in [
        (Status::Processing, 10),
        (Status::Completed, 10),
        (Status::CompletedProtected, 10),
        (Status::Cancelled, 0),
        (Status::Expired, 0),
        (Status::Cooldown, 0),
    ] {
        let mut ledger = ledger(budget());
        let _nothing = buy(&mut ledger, want(1, 10), &BOUGHT, T0);
        assert_eq!(ledger.observe(own(1, status), after(1)), Aftermath::default());
        assert_eq!(ledger.snapshot(T0).spent, coins(spent), "{status}");
    }
}

#[test]
fn what_the_feed_says_of_a_listing_that_a_rival_got_proves_nothing() {
    for (n, outcome) in (1..).zip([TAKEN, LOST]) {
        let mut ledger = ledger(budget());
        let _nothing = buy(&mut ledger, want(n, 10), &outcome, T0);
        let before = ledger.book().intents().to_vec();
        for status in [Status::Joined, Status::Completed, Status::Cancelled] {
            assert_eq!(ledger.observe(own(n, status), after(1)), Aftermath::default());
        }
        assert_eq!(ledger.book().intents(), before);
    }
}

#[test]
fn an_unknown_buy_found_among_our_trades_is_bought() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _nothing = buy(&mut ledger, want(1, 10), &LOST, after(1));
    let trades = [own(1, Status::Joined)];
    let aftermath = ledger.reconcile(&reading(&trades, 2), Some(coins(90)), after(2));
    assert_eq!(aftermath, Aftermath::default());
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::Bought);
    assert_eq!(ledger.snapshot(T0).balance_least, Some(coins(90)));
}

#[test]
fn an_unknown_buy_that_is_absent_is_not_bought_once_the_window_has_passed_and_no_coins_miss() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _nothing = buy(&mut ledger, want(1, 10), &LOST, after(1));
    let window = SETTLE.as_secs();
    for (second, state) in [(window, State::Unknown), (window + 1, State::NotBought)] {
        let read = reading(&[], second);
        let aftermath = ledger.reconcile(&read, Some(coins(100)), after(second));
        assert_eq!(aftermath, Aftermath::default());
        assert_eq!(ledger.book().intent(&id(1)).unwrap().state, state);
    }
}

#[test]
fn absence_in_a_list_that_is_not_complete_or_without_a_balance_proves_nothing() {
    let mut ledger = ledger(budget());
    let _nothing = buy(&mut ledger, want(1, 10), &LOST, T0);
    let _nothing = ledger.reconcile(&reading(&[], 1_000), None, after(1_000));
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::Unknown);
    let partial = Reading { complete: false, ..reading(&[], 2_000) };
    let _nothing = ledger.reconcile(&partial, Some(coins(100)), after(2_000));
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::Unknown);
}

#[test]
fn a_balance_from_before_the_window_has_passed_proves_nothing() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _nothing = buy(&mut ledger, want(1, 10), &LOST, after(1));
    let _nothing = ledger.set_balance(coins(100), after(60), after(60));
    let _nothing = ledger.reconcile(&reading(&[], 100), None, after(100));
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::Unknown);
    let _nothing = ledger.set_balance(coins(100), after(61), after(101));
    let _nothing = ledger.reconcile(&reading(&[], 102), None, after(102));
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::NotBought);
}

#[test]
fn an_absent_buy_whose_coins_are_missing_halts_and_stays_unknown() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _nothing = buy(&mut ledger, want(1, 10), &LOST, after(1));
    let aftermath = ledger.reconcile(&reading(&[], 100), Some(coins(90)), after(100));
    assert_eq!(aftermath.halts[0].reason, HaltReason::Disagreement { missing: coins(10) });
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::Unknown);
}

#[test]
fn what_was_refused_and_is_ours_all_the_same_counts_and_halts() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), None, T0);
    let _nothing = buy(&mut ledger, want(1, 10), &TAKEN, after(1));
    let trades = [own(1, Status::Joined)];
    let aftermath = ledger.reconcile(&reading(&trades, 2), None, after(2));
    assert_eq!(aftermath.halts[0].reason, HaltReason::Contradiction { id: id(1) });
    assert_eq!(ledger.snapshot(T0).spent, coins(10));
}

#[test]
fn coins_that_vanish_halt() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.set_balance(coins(100), T0, T0);
    let aftermath = ledger.set_balance(coins(99), after(1), after(1));
    let reason = HaltReason::BalanceDrop { expected: coins(100), actual: coins(99) };
    assert_eq!(aftermath.halts[0].reason, reason);
}

#[test]
fn a_restart_makes_unknown_what_was_in_flight() {
    let mut ledger = ledger(Budget { max_in_flight: 1, ..budget() });
    let _in_flight = ledger.reserve(want(1, 10), T0).unwrap();
    ledger.book.apply(after(1), &Event::Started).unwrap();
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::Unknown);
    assert_eq!(ledger.snapshot(after(1)).spent, coins(10));
    let _approved = ledger.reserve(want(2, 1), after(1)).unwrap();
}

#[test]
fn what_power_loss_may_hide_counts_against_everything_and_old_listings_stay_unbought() {
    let limits = Budget { total: coins(100), max_buys_per_minute: 2, ..budget() };
    let mut ledger = ledger(limits);
    let _nothing = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let lost = Event::Lost { coins: coins(60), count: 1, barrier: after(10) };
    ledger.book.apply(after(10), &lost).unwrap();

    let old = Want { created_at: Some(after(10)), ..want(1, 1) };
    check_denied(&mut ledger, old, after(11), Denied::BeforePowerLoss { barrier: after(10) });
    let dateless = Want { created_at: None, ..old };
    check_denied(&mut ledger, dateless, after(11), Denied::BeforePowerLoss { barrier: after(10) });
    let fresh = |n, price| Want { created_at: Some(after(11)), ..want(n, price) };
    let total = Denied::Total { spent: coins(60), price: coins(41), max: coins(100) };
    check_denied(&mut ledger, fresh(1, 41), after(11), total);
    let _nothing = buy(&mut ledger, fresh(1, 10), &BOUGHT, after(11));
    check_denied(&mut ledger, fresh(2, 1), after(11), Denied::PerMinute { sent: 2, max: 2 });

    // One that was forgotten turns up, and explains the coins; the rest is then free again.
    let forgotten = OwnTrade { price: Some(coins(30)), ..own(77, Status::Joined) };
    let mine = OwnTrade { price: Some(coins(10)), ..own(1, Status::Joined) };
    let found = ledger.reconcile(&reading(&[forgotten, mine], 20), Some(coins(60)), after(20));
    assert_eq!(found, Aftermath::default());
    assert_eq!(ledger.snapshot(after(20)).spent, coins(70));
    let found = ledger.reconcile(&reading(&[forgotten, mine], 100), Some(coins(60)), after(100));
    assert_eq!(found, Aftermath::default());
    assert_eq!(ledger.snapshot(after(100)).spent, coins(40));
    ledger.book().check().unwrap();
}

#[test]
fn a_purchase_that_power_loss_hid_explains_coins_that_an_absent_buy_does_not() {
    let mut ledger = ledger(budget());
    let _nothing = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _nothing = buy(&mut ledger, want(1, 10), &LOST, after(1));
    let lost = Event::Lost { coins: coins(60), count: 2, barrier: after(90) };
    ledger.book.apply(after(90), &lost).unwrap();
    let hidden = [OwnTrade { price: Some(coins(30)), ..own(77, Status::Joined) }];
    for second in [100, 200, 201] {
        let read = reading(&hidden, second);
        let aftermath = ledger.reconcile(&read, Some(coins(70)), after(second));
        assert_eq!(aftermath, Aftermath::default(), "after {second} s");
    }
    assert_eq!(ledger.book().intent(&id(1)).unwrap().state, State::NotBought);
    assert_eq!(ledger.snapshot(after(201)).spent, coins(30));
}
