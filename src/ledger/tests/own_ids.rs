//! Tests of the own ids of orders: random bits of the start, and the number of the order.

use std::{fs, path::Path};

use rusqlite::Connection;

use super::{
    disk::{
        crash_image, entries, limits, location, lose_power, place_order_when_ready, ready, reserve,
        wait_until,
    },
    *,
};
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
