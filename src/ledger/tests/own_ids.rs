//! Tests of the own ids of orders: random bits of the start, and the number of the order.

use std::{fs, path::Path};

use rusqlite::Connection;

use super::{
    disk::{
        crash_image, entries, limits, location, lose_power, place_order_when_ready, ready, reserve,
        wait_until,
    },
    proofs::{own_trade, reading},
    releases::{state_of, with_balance},
    *,
};
use crate::domain::own_order_id::StartId;
use crate::domain::trade::{KeyedBy, TradeStatus};
use crate::ledger::{
    open::{DATABASE, INTENT_FILE},
    reader::LedgerReader,
};

/// Returns the own id with which an order is looked up.
fn own_id(ledger: &Ledger, n: u32) -> OwnOrderId {
    ledger.own_order_id(ledger.state().intent(&id(n)).unwrap()).unwrap()
}

fn open(folder: &Path, boot: &str, now: UnixMs) -> Ledger {
    let mut ledger = disk::open(folder, boot, now);
    ledger.state.has_own_ids = true;
    ledger
}

fn reopen(folder: &Path, boot: &str) -> Ledger {
    let mut ledger = Ledger::open(&location(folder, boot), limits(), &entries(), after(1)).unwrap();
    ledger.state.has_own_ids = true;
    ledger
}

/// Returns the bits in an own id.
fn bits(own_id: OwnOrderId) -> String {
    own_id.as_str()[..32].to_owned()
}

#[test]
fn an_order_is_looked_up_by_the_id_of_its_own_start_after_every_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut sent = Vec::new();
    for n in 1..=3 {
        let mut ledger = open(folder.path(), "boot", T0);
        let approved = reserve(&mut ledger, order_request(n, 10), T0);
        sent.push(approved.own_id().unwrap());
        // No wait for the database: the record may be in the intent file only.
        let killed = crash_image(folder.path());
        drop(ledger);
        for folder in [folder.path(), killed.path()] {
            let ledger = reopen(folder, "boot");
            assert_eq!((1..=n).map(|n| own_id(&ledger, n)).collect::<Vec<_>>(), sent);
        }
    }
    assert_eq!(sent[2].as_str()[32..], *"0003");
    let starts: std::collections::HashSet<String> = sent.into_iter().map(bits).collect();
    assert_eq!(starts.len(), 3, "each start draws its own bits");
}

#[test]
fn two_copies_of_a_ledger_never_use_one_id() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let first = reserve(&mut ledger, order_request(1, 10), T0);
    wait_until(|| ledger.is_durable());
    // Also a copy that was taken while a bot ran, and that continues elsewhere at the same time.
    let copy = crash_image(folder.path());
    drop(ledger);
    let ids = [folder.path(), copy.path()].map(|folder| {
        let mut ledger = reopen(folder, "boot");
        assert_eq!(own_id(&ledger, 1), first.own_id().unwrap());
        ready(&mut ledger, after(1));
        reserve(&mut ledger, order_request(2, 10), after(1)).own_id().unwrap()
    });
    assert_ne!(bits(ids[0]), bits(ids[1]));
    assert_eq!(ids.map(|own_id| own_id.as_str()[32..].to_owned()), ["0002", "0002"]);
}

/// The record of the first order is lost, so the second one gets another number in the ledger.
#[test]
fn an_order_keeps_its_own_id_if_a_power_loss_changes_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    wait_until(|| ledger.is_durable());
    let image = crash_image(folder.path());
    let _lost = reserve(&mut ledger, order_request(1, 10), T0);
    let kept = reserve(&mut ledger, order_request(2, 10), T0);
    fs::copy(folder.path().join(INTENT_FILE), image.path().join(INTENT_FILE)).unwrap();
    let mut fate = [false, true].into_iter();
    lose_power(image.path(), || fate.next().unwrap());
    for _start in 0..2 {
        let ledger = reopen(image.path(), "another");
        assert_eq!(ledger.state().intent(&id(2)).unwrap().sequence, Sequence(1));
        assert_eq!(own_id(&ledger, 2), kept.own_id().unwrap());
        drop(ledger);
        LedgerReader::open(image.path()).unwrap().verify().unwrap();
    }
}

/// The power is lost right after the start, and nothing of the intent file was on the disk.
#[test]
fn the_bits_of_a_start_are_in_the_database_before_its_first_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let image = crash_image(folder.path());
    fs::remove_file(image.path().join(INTENT_FILE)).unwrap();
    let stored = LedgerReader::open(image.path()).unwrap();
    let start = stored.state().start.unwrap();
    let approved = reserve(&mut ledger, order_request(1, 10), T0);
    assert_eq!(approved.own_id(), Some(start.order_id(1)));
}

#[test]
fn a_start_that_cannot_be_made_durable_approves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "boot", T0));
    let database = Connection::open(folder.path().join(DATABASE)).unwrap();
    let trigger = "CREATE TRIGGER fault BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, ''); END";
    database.execute_batch(trigger).unwrap();
    let location = location(folder.path(), "boot");
    let error = Ledger::open(&location, limits(), &entries(), after(1)).unwrap_err();
    assert!(matches!(error, LedgerError::Database { action: "write", .. }), "{error}");
    database.execute_batch("DROP TRIGGER fault").unwrap();
    drop(open(folder.path(), "boot", after(2)));
}

#[test]
fn the_own_id_is_in_the_row_of_its_order_and_verify_compares_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    let sent = own_id(&ledger, 1).to_string();
    drop(ledger);
    let database = Connection::open(folder.path().join(DATABASE)).unwrap();
    let stored = || -> String {
        database.query_row("SELECT own_id FROM intents", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(stored(), sent);
    LedgerReader::open(folder.path()).unwrap().verify().unwrap();
    database.execute("UPDATE intents SET own_id = 'another'", []).unwrap();
    let error = LedgerReader::open(folder.path()).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("the row of intent 1 differs from its events"), "{error}");
}

#[test]
fn on_a_market_without_own_ids_an_order_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = disk::open(folder.path(), "boot", T0);
    assert_eq!(reserve(&mut ledger, order_request(1, 10), T0).own_id(), None);
}

/// Returns a ledger with an unknown order of 10 coins for the first listing, and its own id.
fn with_own_id(keyed_by: KeyedBy) -> (Ledger, OwnOrderId) {
    let mut ledger = with_balance();
    ledger.set_look_ups_min(1);
    ledger.state.start = Some(StartId::from_bits([7; 16]));
    let request = OrderRequest { keyed_by, ..order_request(1, 10) };
    let approved = ledger.reserve(request, after(1)).unwrap();
    ledger.sent(approved.key(), after(1)).unwrap();
    let _effects = ledger.settle(approved.key(), &UNKNOWN, after(1)).unwrap();
    (ledger, approved.own_id().unwrap())
}

#[test]
fn a_purchase_with_another_own_id_is_not_the_order_for_its_listing() {
    let listed = |own_id| [OwnTrade { own_id, ..own_trade(1, TradeStatus::Joined) }];
    let of_other_bot = OwnOrderId::of_record(&"f".repeat(36));
    for other in [OwnOrderId::of_record("4711"), of_other_bot] {
        let (mut ledger, own) = with_own_id(KeyedBy::Id);
        let read = listed(Some(other));
        let effects = ledger.reconcile(&reading(&read, 2), None, after(2));
        assert_eq!(
            effects.halts[0].reason,
            HaltReason::UnexpectedPurchase { id: id(1), price: None }
        );
        assert_eq!(state_of(&ledger, 1), OrderState::Unknown);
        assert_eq!(ledger.snapshot(after(2)).spent, coins(10));
        // Its own record still settles it.
        let effects = ledger.reconcile(&reading(&listed(Some(own)), 3), None, after(3));
        assert_eq!((effects.halts.len(), state_of(&ledger, 1)), (0, OrderState::Bought));
    }
    let (mut ledger, _own) = with_own_id(KeyedBy::IdAndPrice);
    let effects = ledger.reconcile(&reading(&listed(None), 2), None, after(2));
    assert_eq!((effects.halts.len(), state_of(&ledger, 1)), (0, OrderState::Bought));
    // An order of an earlier version has no recorded own id.
    let mut ledger = with_balance();
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    let read = listed(Some(of_other_bot));
    let effects = ledger.reconcile(&reading(&read, 2), None, after(2));
    assert_eq!((effects.halts.len(), state_of(&ledger, 1)), (0, OrderState::Bought));
}

#[test]
fn after_a_power_loss_a_purchase_with_an_unknown_own_id_may_be_of_a_lost_order() {
    for (is_lost, spent) in [(true, 10 + 30), (false, 20 + 30)] {
        let (mut ledger, own) = with_own_id(KeyedBy::IdAndPrice);
        lose(&mut ledger, 1, 30, after(2), after(2));
        let lost = StartId::from_bits([7; 16]).order_id(9);
        let own_id = Some(if is_lost { lost } else { own });
        let price = Some(coins(20));
        let read = [OwnTrade { own_id, price, ..own_trade(1, TradeStatus::Joined) }];
        let effects = ledger.reconcile(&reading(&read, 70), None, after(70));
        assert_eq!(effects.halts.len(), usize::from(!is_lost), "{effects:?}");
        assert_eq!(ledger.snapshot(after(70)).spent, coins(spent));
        let states: Vec<OrderState> =
            ledger.state().orders_of(&id(1)).map(|order| order.state).collect();
        let adopted = [OrderState::Bought, OrderState::Unknown];
        assert_eq!(states, if is_lost { &adopted[..] } else { &adopted[..1] });
        let before = ledger.snapshot(after(71)).spent;
        let _effects = ledger.reconcile(&reading(&read, 71), None, after(71));
        assert_eq!(ledger.snapshot(after(71)).spent, before, "it is adopted once");
    }
    // Only one order can have the id of a listing alone as its key.
    let (mut ledger, _own) = with_own_id(KeyedBy::Id);
    lose(&mut ledger, 1, 30, after(2), after(2));
    let own_id = Some(OwnOrderId::of_record("4711"));
    let read = [OwnTrade { own_id, ..own_trade(1, TradeStatus::Joined) }];
    let effects = ledger.reconcile(&reading(&read, 70), None, after(70));
    assert_eq!(effects.halts[0].reason, HaltReason::UnexpectedPurchase { id: id(1), price: None });
    assert_eq!(ledger.snapshot(after(70)).spent, coins(10 + 30));
}
