//! Tests of the items of orders, which are stored after the order, and which no order needs.

use rusqlite::Connection;

use super::{
    disk::{crash_image, lose_power, open, place_order_when_ready, reserve, state, wait_until},
    *,
};
use crate::ledger::{
    item::{TEXT_BYTES_MAX, tests::item},
    open::DATABASE,
    reader::LedgerReader,
};

/// Places a bought order for listing `n`, and stores its item.
fn bought_with_item(ledger: &mut Ledger, n: u32) {
    let _effects = place_order_when_ready(ledger, n, &BOUGHT);
    assert!(ledger.record_item(&key(n), item(&format!("item {n}"))));
}

fn stored_item(folder: &std::path::Path, number: u64) -> Option<OrderedItem> {
    LedgerReader::open(folder).unwrap().item(Sequence(number)).unwrap()
}

#[test]
fn an_item_is_stored_with_its_reference_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    bought_with_item(&mut ledger, 1);
    let _effects = place_order_when_ready(&mut ledger, 2, &TAKEN);
    let plain = OrderedItem { name: "Glove Case".to_owned(), ..OrderedItem::default() };
    assert!(ledger.record_item(&key(2), plain.clone()));
    wait_until(|| stored_item(folder.path(), 2).is_some());
    let check = || {
        let reader = LedgerReader::open(folder.path()).unwrap();
        reader.verify().unwrap();
        assert_eq!(reader.item(Sequence(1)).unwrap(), Some(item("item 1")));
        let items = reader.items().unwrap();
        assert_eq!((items.len(), items.get(&Sequence(2))), (2, Some(&plain)));
    };
    // The items can be read beside a running bot, and after it.
    check();
    drop(ledger);
    check();
}

#[test]
fn an_item_of_an_unknown_order_or_of_a_ledger_in_memory_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), "boot", T0);
    assert!(!ledger.record_item(&key(1), item("a")));
    assert!(!super::ledger(budget()).record_item(&key(1), item("a")));
}

#[test]
fn the_last_items_are_stored_when_the_ledger_closes() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    for n in 1..=20 {
        bought_with_item(&mut ledger, n);
    }
    drop(ledger);
    for n in 1..=20 {
        assert_eq!(stored_item(folder.path(), n).unwrap().name, format!("item {n}"));
    }
}

#[test]
fn hostile_text_is_stored_as_text_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let name = format!("'); DROP TABLE intents; --\u{1b}[2J\u{202e}{}", "ä".repeat(10_000));
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    assert!(ledger.record_item(&key(1), item(&name)));
    drop(ledger);
    let stored = stored_item(folder.path(), 1).unwrap().name;
    assert!(name.starts_with(&stored), "{stored}");
    assert!((TEXT_BYTES_MAX - 1..=TEXT_BYTES_MAX).contains(&stored.len()));
    LedgerReader::open(folder.path()).unwrap().verify().unwrap();
}

#[test]
fn a_failed_write_of_items_neither_halts_nor_loses_an_event() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "boot", T0));
    let database = Connection::open(folder.path().join(DATABASE)).unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON items \
                  BEGIN SELECT RAISE(ABORT, 'broken'); END";
    database.execute_batch(broken).unwrap();
    drop(database);
    let mut ledger = open(folder.path(), "boot", after(1));
    for n in 1..=5 {
        bought_with_item(&mut ledger, n);
        assert_eq!(ledger.failure(), None);
    }
    wait_until(|| ledger.is_durable());
    // This batch contains only an item.
    assert!(ledger.record_item(&key(5), item("again")));
    let _approved = reserve(&mut ledger, order_request(6, 10), after(2));
    wait_until(|| ledger.is_durable());
    assert_eq!(ledger.failure(), None);
    assert_eq!(ledger.check_losses(after(3)).halts, []);
    drop(ledger);
    let reader = LedgerReader::open(folder.path()).unwrap();
    reader.verify().unwrap();
    assert_eq!((reader.state().intents().len(), reader.items().unwrap().len()), (6, 0));
}

#[test]
fn no_order_has_the_item_of_another_after_a_kill_or_a_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    for n in 1..=10 {
        bought_with_item(&mut ledger, n);
        let image = crash_image(folder.path());
        if n % 2 == 0 {
            lose_power(image.path(), || false);
        }
        let next_boot = if n % 2 == 0 { "another" } else { "boot" };
        let mut next = Ledger::open(
            &disk::location(image.path(), next_boot),
            disk::limits(),
            &disk::entries(),
            after(100),
        )
        .unwrap();
        next.bind("account-1").unwrap();
        next.state().check().unwrap();
        drop(next);
        let reader = LedgerReader::open(image.path()).unwrap();
        reader.verify().unwrap();
        for (sequence, item) in reader.items().unwrap() {
            let order = reader.state().intents().iter().find(|it| it.sequence == sequence);
            let listing = order.unwrap().id.to_string();
            assert_eq!(item.name.replace("item ", "listing-"), listing);
        }
    }
    assert_eq!(state(&ledger, 10), OrderState::Bought);
}
