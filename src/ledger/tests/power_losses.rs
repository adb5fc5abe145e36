//! Tests of orders that a power loss removed from the record.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{
    disk::{
        crash_image, entries, limits, location, lose_power, lose_records, open, reserve, wait_until,
    },
    proofs::{own_trade, reading},
    releases::{state_of, with_balance},
    *,
};
use crate::{
    ledger::{
        open::{DATABASE, INTENT_FILE},
        reader::LedgerReader,
        status::LedgerStatus,
    },
    markets::{MarketApi as _, csgoroll::Csgoroll, lis_skins::LisSkins, waxpeer::Waxpeer},
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
fn a_purchase_at_a_price_that_a_known_order_excludes_is_of_a_lost_order() {
    let rejected = (&TAKEN, OrderState::Rejected);
    let not_bought = (&UNKNOWN, OrderState::NotBought);
    let cases = [
        (rejected, KeyedBy::IdAndPrice, 30, true),
        (rejected, KeyedBy::IdAndPrice, 5, true),
        (rejected, KeyedBy::IdAndPrice, 10, false),
        (rejected, KeyedBy::Id, 30, false),
        (not_bought, KeyedBy::IdAndPrice, 30, true),
        (not_bought, KeyedBy::IdAndPrice, 5, false),
    ];
    for (known, keyed_by, price, is_of_lost) in cases {
        let case = format!("{known:?} {keyed_by:?} {price}");
        let (outcome, state) = known;
        let mut ledger = with_balance();
        let request = OrderRequest { keyed_by, ..order_request(1, 10) };
        let _effects = place_order(&mut ledger, request, outcome, after(1));
        let _effects = ledger.reconcile(&reading(&[], 90), Some(coins(100)), after(90));
        assert_eq!(state_of(&ledger, 1), state, "{case}");
        lose(&mut ledger, 1, 30, after(91), after(91));
        let found = [OwnTrade { price: Some(coins(price)), ..own_trade(1, TradeStatus::Joined) }];
        let effects = ledger.reconcile(&reading(&found, 95), None, after(95));
        assert_eq!(effects.halts.is_empty(), is_of_lost, "{case}: {:?}", effects.halts);
        let spent = ledger.snapshot(after(95)).spent;
        let in_full = if is_of_lost { coins(30) } else { coins(30 + price.max(10)) };
        assert_eq!(spent, in_full, "{case}");
    }
}

#[test]
fn a_purchase_at_a_price_that_one_of_several_known_orders_permits_contradicts_it() {
    let mut ledger = with_balance();
    let at = |price| OrderRequest { keyed_by: KeyedBy::IdAndPrice, ..order_request(1, price) };
    let _effects = place_order(&mut ledger, at(10), &UNKNOWN, after(1));
    let _effects = ledger.reconcile(&reading(&[], 90), Some(coins(100)), after(90));
    let _effects = place_order(&mut ledger, at(5), &TAKEN, after(91));
    lose(&mut ledger, 1, 30, after(92), after(92));
    let found = [OwnTrade { price: Some(coins(7)), ..own_trade(1, TradeStatus::Joined) }];
    let effects = ledger.reconcile(&reading(&found, 160), None, after(160));
    assert!(matches!(effects.halts[0].reason, HaltReason::Contradiction { .. }), "{effects:?}");
    assert!(coins(37) <= ledger.snapshot(after(160)).spent, "the purchase and the loss");
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
    assert_eq!(effects.halts[0].reason, HaltReason::UnexpectedPurchase { id: id(8), price: None });
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

/// A purchase that was adopted before the loss was cleared would count nowhere.
#[test]
fn a_loss_counts_again_if_only_the_record_that_cleared_it_survives_the_next_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _lost = reserve(&mut ledger, order_request(1, 10), T0);
    let image = crash_image(folder.path());
    drop(ledger);
    lose_power(image.path(), || false);
    let mut ledger = open(image.path(), "another", after(1));
    wait_until(|| ledger.is_durable());
    let bought = [OwnTrade { price: Some(coins(10)), ..own_trade(1, TradeStatus::Joined) }];
    let next = without_commits(image.path(), || {
        for second in [2, 70, 140] {
            let read = reading(&bought, second);
            let _effects = ledger.reconcile(&read, Some(coins(990)), after(second));
        }
    });
    assert_eq!(ledger.state().loss().count, 0);
    drop(ledger);
    lose_records(next.path(), |record| matches!(record.event, LedgerEvent::LossCleared { .. }));

    let location = location(next.path(), "third");
    let mut ledger = Ledger::open(&location, limits(), &entries(), after(141)).unwrap();
    ledger.bind("account-1").unwrap();
    assert!(ledger.state().loss().count > 0);
    let effects = ledger.reconcile(&reading(&bought, 142), Some(coins(990)), after(142));
    assert_eq!(effects.halts, []);
    assert_eq!(state_of(&ledger, 1), OrderState::Bought);
}

/// A power loss after the first order would remove the reading that explains the balance, and the
/// record that older purchases do not count.
#[test]
fn nothing_is_ordered_before_the_first_complete_reading_is_durable() {
    let folder = tempfile::tempdir().unwrap();
    let location = location(folder.path(), "boot");
    let mut ledger = Ledger::open(&location, limits(), &entries(), T0).unwrap();
    ledger.bind("account-1").unwrap();
    wait_until(|| ledger.is_durable() && ledger.is_limit_durable());
    let mut foreign = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(1_000)), T0);
    // A commit that waits too long for the lock fails.
    let early = ledger.reserve(order_request(1, 10), T0).unwrap_err();
    assert!(matches!(early, RiskRejection::Behind | RiskRejection::Unwritable), "{early:?}");
    hold.rollback().unwrap();
    wait_until(|| ledger.is_durable() && ledger.failure().is_none());
    let _approved = reserve(&mut ledger, order_request(1, 10), T0);
}

#[test]
fn a_purchase_before_the_ledger_stays_one_if_only_the_record_of_the_first_list_survives() {
    let folder = tempfile::tempdir().unwrap();
    let first = location(folder.path(), "boot");
    let mut ledger = Ledger::open(&first, limits(), &entries(), T0).unwrap();
    ledger.bind("account-1").unwrap();
    wait_until(|| ledger.is_durable() && ledger.is_limit_durable());
    let older = [own_trade(7, TradeStatus::Joined)];
    let image = without_commits(folder.path(), || {
        let _effects = ledger.reconcile(&reading(&older, 0), Some(coins(1_000)), T0);
    });
    drop(ledger);
    lose_records(image.path(), |record| matches!(record.event, LedgerEvent::Baselined));

    let mut ledger = reopened(image.path());
    let effects = ledger.reconcile(&reading(&older, 2), Some(coins(1_000)), after(2));
    assert_eq!(effects.halts, []);
    assert!(ledger.state().intent(&id(7)).is_none());
}

#[test]
fn a_balance_that_outlived_its_order_neither_halts_nor_looks_like_coins_received() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    wait_until(|| ledger.is_durable() && ledger.is_limit_durable());
    let image = without_commits(folder.path(), || {
        let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, T0);
        let _effects = ledger.set_balance(coins(990), T0, T0);
    });
    drop(ledger);
    lose_records(image.path(), |record| matches!(record.event, LedgerEvent::Balance { .. }));

    let mut ledger = reopened(image.path());
    assert_eq!(ledger.state().halts(), []);
    let bought = [OwnTrade { price: Some(coins(10)), ..own_trade(1, TradeStatus::Joined) }];
    for second in [2, 70, 140] {
        let read = reading(&bought, second);
        let effects = ledger.reconcile(&read, Some(coins(990)), after(second));
        assert_eq!(effects.halts, [], "at {second} s");
    }
    assert_eq!(ledger.snapshot(after(140)).spent, coins(10));
    assert!(!ledger.state.account.inflows_cover(coins(1), UnixMs(0)));
}

/// Opens a ledger after a power loss.
fn reopened(folder: &Path) -> Ledger {
    let location = location(folder, "another");
    let mut ledger = Ledger::open(&location, limits(), &entries(), after(1)).unwrap();
    ledger.bind("account-1").unwrap();
    ledger
}

/// Returns the files as they would be if no event of `record` were committed to the database.
fn without_commits(folder: &Path, record: impl FnOnce()) -> TempDir {
    let image = crash_image(folder);
    record();
    fs::copy(folder.join(INTENT_FILE), image.path().join(INTENT_FILE)).unwrap();
    image
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

#[test]
fn the_log_and_the_status_name_the_end_of_a_loss_on_each_market() {
    const COMMAND: &str = "sniper ledger resolve lost --not-bought";
    let markets = [Csgoroll::CAPABILITIES, LisSkins::CAPABILITIES, Waxpeer::CAPABILITIES];
    let expected = markets.into_iter().zip([Some(60), Some(600), None]);
    // Another test that logs the same line for the first time, without a subscriber, may disable it
    // for the subscriber of this moment, but not for later ones.
    for (round, (market, ends_after)) in expected.clone().take(1).chain(expected).enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "boot", T0);
        let _in_flight = reserve(&mut ledger, order_request(1, 10), T0);
        let image = crash_image(folder.path());
        drop(ledger);
        lose_power(image.path(), || false);

        let log = folder.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let subscriber = tracing_subscriber::fmt().with_writer(file).finish();
        let live = LiveOpen { listed_within: market.listed_within(), ..LiveOpen::default() };
        let location = location(image.path(), "another");
        let mut ledger = tracing::subscriber::with_default(subscriber, || {
            Ledger::open_live(&location, &live, limits(), &entries(), after(1)).unwrap()
        });
        if round == 0 {
            continue;
        }
        ledger.bind("account-1").unwrap();
        let log = fs::read_to_string(&log).unwrap();
        let end = ends_after.map_or_else(|| COMMAND.to_owned(), |end| after(1 + end).to_string());
        let logged = ends_after.map(|end| clock::format_local(after(1 + end)));
        assert!(log.contains(logged.as_ref().unwrap_or(&end)), "{}: {log}", market.name);
        assert_eq!(log.contains(COMMAND), ends_after.is_none(), "{}: {log}", market.name);
        let shown = |snapshot: Snapshot| {
            LedgerStatus::from_snapshot(&snapshot, "live", None, after(2)).to_string()
        };
        let mut stored = LedgerReader::open(image.path()).unwrap();
        for text in [ledger.snapshot(after(2)), stored.state_mut().snapshot(after(2))].map(shown) {
            assert!(text.contains(&end), "{}: {text}", market.name);
        }
        drop(stored);

        let mut is_held_at = |second: u64| {
            let now = after(second);
            if market.has_purchases {
                let reading = AccountReading { trades: &[], complete: true, started: now };
                let _effects = ledger.reconcile(&reading, Some(coins(1_000)), now);
            } else {
                let _effects = ledger.set_balance(coins(1_000), now, now);
                ledger.reconcile_without_list(now, now);
            }
            ledger.snapshot(now).loss.count > 0
        };
        let seconds = [1, 60, 61, 600, 601, 10_000];
        let expected = seconds.map(|second| ends_after.is_none_or(|end| second < 1 + end));
        assert_eq!(seconds.map(&mut is_held_at), expected, "{}", market.name);
        if ends_after.is_none() {
            ledger.clear_crash_reserve(EvidenceSource::Operator(operator()), after(10_001));
            assert_eq!(ledger.snapshot(after(10_001)).loss.count, 0);
        }
    }
}
