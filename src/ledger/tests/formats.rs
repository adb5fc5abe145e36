//! Tests of ledgers that earlier and later versions wrote.

use std::{fs, path::Path, sync::Arc};

use crc32c::crc32c;
use rusqlite::Connection;

use super::{
    disk::{crash_image, entries, limits, location, open, ready, reserve, wait_until},
    *,
};
use crate::ledger::{
    database::Database,
    event::{BootId, EntrySlot},
    item::tests::item,
    open::{DATABASE, INTENT_FILE},
    reader::LedgerReader,
    record::{LAYOUT, RECORD_BYTES, Record},
    schema::{MIGRATIONS, VERSION},
    write_ahead_log::WriteAheadLog,
};

/// Boot id of the machine on which 0.1.0 was killed.
const BOOT_OF_0_1_0: &str = "574327c4-0244-45b4-b994-6378a7c9b802";
/// Market of the fixtures.
const HOST_OF_0_1_0: &str = "127.0.0.1:18199";
/// Later than every event of the fixtures.
const NOW: UnixMs = UnixMs(1_795_700_000_000);

/// Sessions of version 0.1.0: folder, boot id of the next start, number of orders, and the coins
/// that 0.1.0 counted as spent. A clean shutdown is complete after any boot, a kill only after the
/// same boot.
const SESSIONS: [(&str, &str, usize, &str); 2] =
    [("clean", "another", 38, "332.99"), ("killed", BOOT_OF_0_1_0, 21, "134.41")];

/// Unpacks the files of a session of version 0.1.0 with the simulated market.
fn files_of_0_1_0(how: &str) -> tempfile::TempDir {
    files_of(&Path::new("ledger-0.1.0").join(how))
}

/// Unpacks the files of a ledger from a folder of the fixtures.
fn files_of(fixture: &Path) -> tempfile::TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(fixture);
    let to = tempfile::tempdir().unwrap();
    for name in [DATABASE, "ledger.db-wal", INTENT_FILE] {
        let packed = from.join(format!("{name}.zst"));
        if packed.exists() {
            let bytes = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
            fs::write(to.path().join(name), bytes).unwrap();
        }
    }
    to
}

fn open_session(folder: &Path, boot: &str) -> Ledger {
    let location = LedgerLocation { host: HOST_OF_0_1_0.to_owned(), ..location(folder, boot) };
    let limits = Budget { total: coins(1_000), ..limits() };
    let mut ledger = Ledger::open(&location, limits, &entries(), NOW).unwrap();
    ledger.bind("VXNlcjo0MjQyNDI").unwrap();
    ledger
}

fn counted(state: &LedgerState) -> Amount {
    let counting = state.intents().iter().filter(|intent| intent.state.counts());
    counting.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.price))
}

/// Verifies the ledger in a folder and checks its coins.
#[track_caller]
fn verify(folder: &Path, orders: usize, spent: &str) {
    let reader = LedgerReader::open(folder).unwrap();
    reader.verify().unwrap();
    let state = reader.state();
    assert_eq!((state.intents().len(), counted(state).to_string().as_str()), (orders, spent));
}

/// Returns every amount in the rows of a database, by its table and row.
fn stored_amounts(folder: &Path) -> Vec<(String, i64)> {
    let database = Connection::open(folder.join(DATABASE)).unwrap();
    let sql = "SELECT 'price ' || number, price FROM intents \
         UNION ALL SELECT 'approved ' || number, approved FROM intents \
         UNION ALL SELECT 'max_price ' || number, max_price FROM limits \
         UNION ALL SELECT 'total ' || number, total FROM limits \
         UNION ALL SELECT 'min_balance ' || number, min_balance FROM limits \
         UNION ALL SELECT 'per_hour ' || number, ifnull(per_hour, 0) FROM limits \
         UNION ALL SELECT 'per_day ' || number, ifnull(per_day, 0) FROM limits \
         UNION ALL SELECT key, value FROM meta WHERE key = 'ceiling_coins' ORDER BY 1";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

fn format_of(folder: &Path) -> u32 {
    let database = Connection::open(folder.join(DATABASE)).unwrap();
    database.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// Migrates the database without writing anything else, as a start that is killed right after it.
fn migrate(folder: &Path) {
    drop(Database::open(&folder.join(DATABASE), HOST_OF_0_1_0).unwrap());
}

/// Returns the layouts of the records in the intent file, each once.
fn layouts(folder: &Path) -> Vec<u8> {
    let bytes = fs::read(folder.join(INTENT_FILE)).unwrap();
    let slots = bytes.as_chunks::<RECORD_BYTES>().0;
    let mut layouts: Vec<u8> = slots.iter().filter_map(Record::layout_of).collect();
    layouts.sort_unstable();
    layouts.dedup();
    layouts
}

/// Sets the layout of a record.
fn relabel(bytes: &mut [u8], layout: u8) {
    bytes[4] = layout;
    let crc = crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

/// Appends events to the intent file that the database does not have.
fn append(folder: &Path, events: &[LedgerEvent]) -> u64 {
    let file = fs::OpenOptions::new().read(true).write(true).open(folder.join(INTENT_FILE));
    let log = WriteAheadLog::open_to_read(Arc::new(file.unwrap()));
    let mut position = log.recover(0).unwrap().records.last().unwrap().position;
    for event in events {
        position += 1;
        let record = Record { position, at: NOW, uptime_ms: None, event: *event };
        log.write(&record).unwrap();
    }
    position
}

#[test]
fn a_ledger_of_0_1_0_opens_verifies_and_accepts_orders() {
    for (how, boot, orders, spent) in SESSIONS {
        let folder = files_of_0_1_0(how);
        // Reading does not migrate.
        verify(folder.path(), orders, spent);
        assert_eq!(format_of(folder.path()), 1, "{how}");
        let reader = LedgerReader::open(folder.path()).unwrap();
        let budget = reader.state().budget().clone();
        assert_eq!((budget.max_price, budget.total), (coins(120), coins(400)), "{how}");
        drop(reader);

        let mut ledger = open_session(folder.path(), boot);
        assert_eq!(ledger.state().loss().count, 0, "{how}");
        ledger.state().check().unwrap();
        assert_eq!(counted(ledger.state()).to_string(), spent, "{how}");
        let is_unknown = |intent: &&Intent| intent.state == OrderState::Unknown;
        let unknown = ledger.state().intents().iter().filter(is_unknown).count();
        assert!(unknown > 0, "{how}");
        let reading = AccountReading { trades: &[], complete: true, started: NOW };
        let _effects = ledger.reconcile(&reading, Some(coins(500)), NOW);
        ledger.resume(operator(), NOW);
        let fresh = OrderRequest { created_at: Some(NOW), ..order_request(1, 10) };
        let _approved = reserve(&mut ledger, fresh, NOW);
        wait_until(|| ledger.is_durable());
        let killed = crash_image(folder.path());
        drop(ledger);
        for folder in [folder.path(), killed.path()] {
            let reader = LedgerReader::open(folder).unwrap();
            reader.verify().unwrap();
            assert_eq!(reader.state().intents().len(), orders + 1, "{how}");
            assert_eq!(layouts(folder), [1, LAYOUT], "{how}");
        }
    }
}

#[test]
fn a_database_is_migrated_once() {
    for (how, boot, orders, spent) in SESSIONS {
        let folder = files_of_0_1_0(how);
        let expected = stored_amounts(folder.path()).into_iter();
        let expected: Vec<_> = expected.map(|(name, value)| (name, value * 10)).collect();
        assert!(expected.len() > 2 * orders, "{how}");
        for _start in 0..3 {
            migrate(folder.path());
            assert_eq!(stored_amounts(folder.path()), expected, "{how}");
            assert_eq!(format_of(folder.path()), VERSION, "{how}");
            verify(folder.path(), orders, spent);
        }
        for _start in 0..3 {
            let ledger = open_session(folder.path(), boot);
            assert_eq!(counted(ledger.state()).to_string(), spent, "{how}");
            assert_eq!(ledger.state().loss().count, 0, "{how}");
            drop(ledger);
            verify(folder.path(), orders, spent);
        }
    }
}

#[test]
fn a_ledger_of_another_market_is_not_migrated() {
    for (how, boot, orders, spent) in SESSIONS {
        let folder = files_of_0_1_0(how);
        let before = stored_amounts(folder.path());
        let location = location(folder.path(), boot);
        let error = Ledger::open(&location, limits(), &entries(), NOW).unwrap_err();
        assert!(matches!(error, LedgerError::OtherHost { .. }), "{error}");
        assert_eq!(format_of(folder.path()), 1, "{how}");
        assert_eq!(stored_amounts(folder.path()), before, "{how}");
        drop(open_session(folder.path(), boot));
        verify(folder.path(), orders, spent);
    }
}

#[test]
fn a_kill_during_the_migration_leaves_the_old_database() {
    for (how, boot, orders, spent) in SESSIONS {
        let folder = files_of_0_1_0(how);
        let mut database = Connection::open(folder.path().join(DATABASE)).unwrap();
        // Without a cache, SQLite writes to the files before the commit.
        database.pragma_update(None, "cache_size", 0).unwrap();
        database.pragma_update(None, "cache_spill", 1).unwrap();
        let transaction = database.transaction().unwrap();
        transaction.execute_batch(MIGRATIONS[1]).unwrap();
        transaction.pragma_update(None, "user_version", "2").unwrap();
        let killed = crash_image(folder.path());
        drop(transaction);
        drop(database);
        assert_eq!(format_of(killed.path()), 1, "{how}");
        verify(killed.path(), orders, spent);
        drop(open_session(killed.path(), boot));
        assert_eq!(format_of(killed.path()), VERSION, "{how}");
        verify(killed.path(), orders, spent);
    }
}

#[test]
fn a_ledger_without_items_is_read_and_a_migration_killed_before_them_continues() {
    for (how, boot, orders, spent) in SESSIONS {
        let folder = files_of_0_1_0(how);
        for format in [1, 2] {
            // Reading does not migrate.
            assert_eq!(format_of(folder.path()), format, "{how}");
            verify(folder.path(), orders, spent);
            let reader = LedgerReader::open(folder.path()).unwrap();
            assert_eq!(reader.items().unwrap().len(), 0, "{how}");
            assert_eq!(reader.item(Sequence(1)).unwrap(), None, "{how}");
            drop(reader);
            if format == 1 {
                let database = Connection::open(folder.path().join(DATABASE)).unwrap();
                database.execute_batch(MIGRATIONS[1]).unwrap();
                database.pragma_update(None, "user_version", 2).unwrap();
            }
        }
        let mut ledger = open_session(folder.path(), boot);
        assert_eq!(format_of(folder.path()), VERSION, "{how}");
        let reading = AccountReading { trades: &[], complete: true, started: NOW };
        let _effects = ledger.reconcile(&reading, Some(coins(500)), NOW);
        ledger.resume(operator(), NOW);
        let fresh = OrderRequest { created_at: Some(NOW), ..order_request(1, 10) };
        let _approved = reserve(&mut ledger, fresh, NOW);
        assert!(ledger.record_item(&key(1), item("AK-47 | Redline (Field-Tested)")));
        drop(ledger);
        let reader = LedgerReader::open(folder.path()).unwrap();
        reader.verify().unwrap();
        let items = reader.items().unwrap();
        let last = Sequence(u64::try_from(orders).unwrap() + 1);
        assert_eq!(items.into_keys().collect::<Vec<_>>(), [last]);
    }
}

/// A start was killed after it had migrated the database and written to the intent file, before it
/// wrote to the database.
#[test]
fn an_intent_file_with_old_and_new_records_is_recovered() {
    let (folder, boot) = (files_of_0_1_0("killed"), BootId::new(Some(BOOT_OF_0_1_0)));
    let price = Amount::from_thousandths(7_505);
    let reserved = |number, text, price| LedgerEvent::Reserved {
        sequence: Sequence(number),
        id: TradeId::new(text).unwrap(),
        keyed_by: KeyedBy::Id,
        price,
        entry: EntrySlot(1),
        limits: 1,
        own_number: 0,
    };
    // The old program had approved one more order, for 2.50, that is not in its database.
    let position = append(folder.path(), &[reserved(22, "VHJhZGU6MQ", Amount::from_cents(25))]);
    let mut bytes = fs::read(folder.path().join(INTENT_FILE)).unwrap();
    let slot = usize::try_from(position).unwrap() * RECORD_BYTES;
    relabel(&mut bytes[slot..slot + RECORD_BYTES], 2);
    fs::write(folder.path().join(INTENT_FILE), bytes).unwrap();
    verify(folder.path(), 22, "136.91");
    migrate(folder.path());
    verify(folder.path(), 22, "136.91");

    let started = LedgerEvent::Started { boot, start: None };
    append(folder.path(), &[started, reserved(23, "VHJhZGU6Mg", price)]);
    assert_eq!(layouts(folder.path()), [1, 2, LAYOUT]);
    verify(folder.path(), 23, "144.415");
    for _start in 0..2 {
        let ledger = open_session(folder.path(), BOOT_OF_0_1_0);
        assert_eq!(ledger.state().loss().count, 0);
        assert_eq!(ledger.state().intents()[21].price, Amount::from_cents(250));
        assert_eq!(ledger.state().intents()[22].price, price);
        drop(ledger);
        verify(folder.path(), 23, "144.415");
    }
}

/// A program with format 4 was killed: one order was bought, one is unknown, and one is only in the
/// intent file. It printed the own ids that it had sent.
#[test]
fn orders_of_format_4_keep_their_own_ids_and_later_orders_get_ids_of_their_start() {
    let folder = files_of(Path::new("ledger-format-4"));
    verify(folder.path(), 3, "33.00");
    assert_eq!(format_of(folder.path()), 4);
    let location = LedgerLocation {
        host: HOST_OF_0_1_0.to_owned(),
        ..location(folder.path(), "boot-of-format-4")
    };
    let own_ids = |ledger: &Ledger| -> Vec<String> {
        let orders = ledger.state().intents().iter();
        orders.map(|order| ledger.own_order_id(order).unwrap().to_string()).collect()
    };
    let sent = [
        "58aa8691692304db-b7911f62ffdf46fe",
        "58aa8691692304db-f23d8a64b162d209",
        "58aa8691692304db-da7377749acc3528",
    ];
    let mut later = Vec::new();
    for n in 10..12 {
        let mut ledger = Ledger::open(&location, limits(), &entries(), T0).unwrap();
        assert_eq!(format_of(folder.path()), VERSION);
        assert_eq!(own_ids(&ledger), [&sent.map(String::from)[..], &later].concat());
        ready(&mut ledger, T0);
        ledger.state.has_own_ids = true;
        let approved = reserve(&mut ledger, order_request(n, 10), T0);
        later.push(approved.own_id().unwrap().to_string());
        drop(ledger);
        LedgerReader::open(folder.path()).unwrap().verify().unwrap();
    }
    assert_eq!(later.iter().map(|id| &id[32..]).collect::<Vec<_>>(), ["0004", "0005"]);
    assert_ne!(later[0][..32], later[1][..32], "each start has its own bits");
}

#[test]
fn records_of_a_later_layout_are_rejected() {
    let rejected = |folder: &Path, file: &str| {
        let location = location(folder, "boot");
        let opened = Ledger::open(&location, limits(), &entries(), T0).unwrap_err();
        let read = LedgerReader::open(folder).unwrap_err();
        for error in [opened, read] {
            let LedgerError::TooNew { path, found, supported } = &error else {
                panic!("{error}");
            };
            assert_eq!((path.as_path(), *found), (folder.join(file).as_path(), 9));
            assert_eq!(*supported, u32::from(LAYOUT));
            assert!(error.to_string().ends_with("only up to 3; update sniper"), "{error}");
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), "boot", T0);
    wait_until(|| ledger.is_durable());
    let killed = crash_image(folder.path());
    drop(ledger);
    // A newer layout in the intent file, after the last record of the database, is rejected.
    let position = append(killed.path(), &[LedgerEvent::Baselined]);
    let path = killed.path().join(INTENT_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let slot = usize::try_from(position).unwrap() * RECORD_BYTES;
    relabel(&mut bytes[slot..slot + RECORD_BYTES], 9);
    fs::write(&path, bytes).unwrap();
    rejected(killed.path(), INTENT_FILE);
    // A newer layout in the database is rejected.
    let database = Connection::open(folder.path().join(DATABASE)).unwrap();
    let sql = "SELECT record FROM events WHERE number = 1";
    let mut record: [u8; RECORD_BYTES] = database.query_row(sql, [], |row| row.get(0)).unwrap();
    relabel(&mut record, 9);
    database.execute("UPDATE events SET record = ?1 WHERE number = 1", [record]).unwrap();
    drop(database);
    rejected(folder.path(), DATABASE);
}
