//! The files: what survives, what is refused, and what happens when the disk does not play along.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    domain::trade::TradeStatus,
    ledger::{
        lock::LedgerLock,
        open::{DATABASE, INTENT_FILE, OpenSettings},
        reader::LedgerReader,
        record::{RECORD_BYTES, Record},
        storage::Storage,
        write_ahead_log::{self, OpenedLog, WriteAheadLog},
    },
};

pub(crate) fn place(folder: &Path, boot: &str) -> LedgerLocation {
    LedgerLocation {
        folder: folder.to_owned(),
        host: "market.example".to_owned(),
        boot: Some(boot.to_owned()),
        uptime_ms: None,
    }
}

pub(super) fn entries() -> [WhitelistEntry; 2] {
    [entry(Some("first")), entry(Some("second"))]
}

pub(super) fn limits() -> Budget {
    Budget { max_price: coins(50), total: coins(200), max_in_flight: 4, ..budget() }
}

pub(super) fn open(folder: &Path, boot: &str, now: UnixMs) -> Ledger {
    let mut ledger = Ledger::open(&place(folder, boot), limits(), &entries(), now).unwrap();
    ready(&mut ledger, now);
    ledger
}

pub(super) fn ready(ledger: &mut Ledger, now: UnixMs) {
    ledger.bind("account-1").unwrap();
    let reading = AccountReading { trades: &[], complete: true, started: now };
    assert_eq!(ledger.reconcile(&reading, Some(coins(1_000)), now).halts, []);
}

#[track_caller]
pub(crate) fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came to pass");
        thread::park_timeout(Duration::from_micros(200));
    }
}

/// Reserves, and waits while the lease is only catching up.
#[track_caller]
pub(crate) fn reserve(ledger: &mut Ledger, want: OrderRequest, now: UnixMs) -> ApprovedOrder {
    let mut approved = None;
    wait_until(|| match ledger.reserve(want, now) {
        Ok(found) => {
            approved = Some(found);
            true
        }
        Err(denied) => {
            assert_eq!(denied, RiskRejection::Behind);
            false
        }
    });
    approved.unwrap()
}

/// What would be on the disk if the process died now: a copy of all files.
pub(super) fn image(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for name in [DATABASE, "ledger.db-wal", INTENT_FILE] {
        if from.join(name).exists() {
            fs::copy(from.join(name), to.path().join(name)).unwrap();
        }
    }
    to
}

/// Makes an image what it would be if the machine had lost power: of the records that the
/// database does not have, only those stay that `survives` keeps.
pub(super) fn lose_power(image: &Path, mut survives: impl FnMut() -> bool) {
    let database = rusqlite::Connection::open(image.join(DATABASE)).unwrap();
    let sql = "SELECT value FROM meta WHERE key = 'applied'";
    let applied: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(database);
    let path = image.join(INTENT_FILE);
    let mut bytes = fs::read(&path).unwrap();
    for slot in bytes.as_chunks_mut::<RECORD_BYTES>().0 {
        let position = Record::decode(slot).map(|record| record.position);
        if position.is_some_and(|position| i64::try_from(position).unwrap() > applied)
            && !survives()
        {
            slot.fill(0);
        }
    }
    fs::write(&path, bytes).unwrap();
}

pub(super) fn state(ledger: &Ledger, n: u32) -> OrderState {
    ledger.book().intent(&id(n)).unwrap().state
}

#[test]
fn everything_survives_a_stop_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    let _nothing = buy_kept(&mut ledger, 2, &TAKEN);
    let _nothing = buy_kept(&mut ledger, 3, &LOST);
    let _nothing = ledger.halt(HaltReason::Person(me()), after(1));
    let before = ledger.snapshot(after(2));
    drop(ledger);

    let mut ledger =
        Ledger::open(&place(folder.path(), "boot"), limits(), &entries(), after(2)).unwrap();
    let now = ledger.snapshot(after(2));
    assert_eq!(now, Snapshot { reconciled: false, ..before });
    assert_eq!(
        [1, 2, 3].map(|n| state(&ledger, n)),
        [OrderState::Bought, OrderState::Refused, OrderState::Unknown]
    );
    assert_eq!(now.halts[0].reason, HaltReason::Person(me()));
    ledger.resume(me(), after(3));
    ready(&mut ledger, after(3));
    assert_eq!(ledger.reserve(want(1, 1), after(3)).unwrap_err(), RiskRejection::AlreadyRequested);
}

#[test]
fn a_rehearsal_changes_nothing_here_or_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    let before = ledger.snapshot(after(1));
    for n in 1..100 {
        ledger.rehearse(&want(n, 10), after(1));
    }
    assert_eq!(ledger.snapshot(after(1)), before);
    drop(ledger);

    let mut ledger =
        Ledger::open(&place(folder.path(), "boot"), limits(), &entries(), after(1)).unwrap();
    assert_eq!(ledger.snapshot(after(1)), Snapshot { reconciled: false, ..before });
    assert_eq!(ledger.book().intents().len(), 1);
}

pub(super) fn buy_kept(ledger: &mut Ledger, n: u32, outcome: &Outcome) -> Effects {
    let approved = reserve(ledger, want(n, 10), T0);
    ledger.sent(approved.id(), T0).unwrap();
    ledger.settle(approved.id(), outcome, T0).unwrap()
}

#[test]
fn a_process_that_dies_forgets_nothing_and_what_was_in_flight_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    let _in_flight = reserve(&mut ledger, want(2, 10), T0);
    // At once, whether the database has heard of it or not.
    let image = image(folder.path());
    let mut again = open(image.path(), "boot", after(1));
    assert_eq!([1, 2].map(|n| state(&again, n)), [OrderState::Bought, OrderState::Unknown]);
    let snapshot = again.snapshot(after(1));
    assert_eq!((snapshot.spent, snapshot.loss.count), (coins(20), 0));
}

#[test]
fn power_loss_counts_all_that_was_leased_and_old_listings_are_never_bought() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _in_flight = reserve(&mut ledger, want(1, 10), T0);
    let image = image(folder.path());
    lose_power(image.path(), || false);
    let mut again =
        Ledger::open(&place(image.path(), "another"), limits(), &entries(), after(1)).unwrap();
    again.bind("account-1").unwrap();
    let snapshot = again.snapshot(after(1));
    let known = again.book().intents().len();
    assert!(known == 1 || snapshot.loss.coins >= coins(10), "{snapshot:?}");
    assert!(coins(10) <= snapshot.spent && snapshot.spent <= coins(200));
    let reading = AccountReading { trades: &[], complete: true, started: after(1) };
    let _nothing = again.reconcile(&reading, Some(coins(1_000)), after(1));
    let denied = again.reserve(want(9, 1), after(1)).unwrap_err();
    assert!(matches!(denied, RiskRejection::BeforePowerLoss { .. }), "{denied}");

    // Once the window has passed and the account agrees, only the barrier stays, for good.
    let reading = AccountReading { started: after(100), ..reading };
    assert_eq!(again.reconcile(&reading, Some(coins(1_000)), after(100)).halts, []);
    assert_eq!(again.snapshot(after(100)).spent, Amount::ZERO);
    drop(again);
    let mut later = open(image.path(), "another", after(200));
    let denied = later.reserve(want(9, 1), after(200)).unwrap_err();
    assert!(matches!(denied, RiskRejection::BeforePowerLoss { .. }), "{denied}");
    let young = OrderRequest { created_at: Some(after(200)), ..want(9, 1) };
    let _approved = reserve(&mut later, young, after(200));
}

#[test]
fn a_stop_in_order_gives_the_lease_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    let mut again = open(folder.path(), "another", after(1));
    let snapshot = again.snapshot(after(1));
    assert_eq!((snapshot.spent, snapshot.loss.count), (coins(10), 0));
    let _approved = reserve(&mut again, want(2, 1), after(1));
}

#[test]
fn a_second_process_is_told_who_has_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let _ledger = open(folder.path(), "boot", T0);
    let place = place(folder.path(), "boot");
    let error = Ledger::open(&place, limits(), &entries(), T0).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(error, LedgerError::Locked { pid: Some(found), .. } if found == pid));
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
}

#[test]
fn a_ledger_refuses_another_marketplace_and_another_account() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), "boot", T0);
    drop(ledger);
    let other = LedgerLocation { host: "other.example".to_owned(), ..place(folder.path(), "boot") };
    let error = Ledger::open(&other, limits(), &entries(), T0).unwrap_err();
    assert!(matches!(error, LedgerError::OtherHost { .. }), "{error}");
    let place = place(folder.path(), "boot");
    let mut ledger = Ledger::open(&place, limits(), &entries(), T0).unwrap();
    let error = ledger.bind("account-2").unwrap_err();
    assert!(matches!(error, LedgerError::OtherAccount { .. }), "{error}");
    let reading = AccountReading { trades: &[], complete: true, started: T0 };
    let _nothing = ledger.reconcile(&reading, Some(coins(1_000)), T0);
    assert_eq!(ledger.reserve(want(1, 1), T0).unwrap_err(), RiskRejection::NotReconciled);
}

#[test]
fn a_damaged_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "boot", T0));
    let path = folder.path().join(DATABASE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let place = place(folder.path(), "boot");
    let error = Ledger::open(&place, limits(), &entries(), T0).unwrap_err();
    assert!(matches!(error, LedgerError::Database { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "boot", T0));
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let place = place(folder.path(), "boot");
    let error = Ledger::open(&place, limits(), &entries(), T0).unwrap_err();
    assert!(matches!(error, LedgerError::TooNew { found: 99, .. }), "{error}");
}

#[test]
fn a_hole_in_the_intent_file_is_damage_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    wait_until(|| ledger.is_durable());
    let before = image(folder.path());
    for n in 1..=3 {
        let _nothing = buy_kept(&mut ledger, n, &BOUGHT);
    }
    // The database as it was, the intent file as it is, but for one record in the middle.
    let mut bytes = fs::read(folder.path().join(INTENT_FILE)).unwrap();
    let records = || bytes.as_chunks::<RECORD_BYTES>().0.iter().enumerate();
    let newest = records().filter_map(|(slot, bytes)| Some((Record::decode(bytes)?, slot)));
    let mut newest: Vec<_> = newest.map(|(record, slot)| (record.position, slot)).collect();
    newest.sort_unstable();
    let (position, slot) = newest[newest.len() - 3];
    bytes[slot * RECORD_BYTES..][..RECORD_BYTES].fill(0);
    fs::write(before.path().join(INTENT_FILE), bytes).unwrap();
    let place = place(before.path(), "boot");
    let error = Ledger::open(&place, limits(), &entries(), after(1)).unwrap_err();
    assert!(error.to_string().contains(&format!("record {position} is missing")), "{error}");
}

#[test]
fn a_database_that_cannot_be_written_stops_buying_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let approved = reserve(&mut ledger, want(1, 10), T0);
    wait_until(|| ledger.is_durable());
    let mut foreign = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let _nothing = ledger.settle(approved.id(), &BOUGHT, T0).unwrap();
    wait_until(|| ledger.failure().is_some());
    assert_eq!(ledger.reserve(want(2, 10), T0).unwrap_err(), RiskRejection::Unwritable);
    hold.rollback().unwrap();
    wait_until(|| ledger.failure().is_none());
    let _approved = reserve(&mut ledger, want(2, 10), T0);
    drop(ledger);
    let again = open(folder.path(), "boot", after(1));
    assert_eq!(state(&again, 1), OrderState::Bought, "nothing was lost meanwhile");
}

/// A disk in memory that can be made to fail.
#[derive(Debug)]
struct FaultyDisk {
    bytes: Mutex<Vec<u8>>,
    fault: AtomicU8,
    synced_by: Mutex<Vec<ThreadId>>,
}

const WORKS: u8 = 0;
const FULL: u8 = 1;
const TORN: u8 = 2;
const SHORT: u8 = 3;

impl FaultyDisk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::default(),
            fault: AtomicU8::new(WORKS),
            synced_by: Mutex::default(),
        })
    }

    fn set(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
    }
}

impl Storage for FaultyDisk {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        bytes.copy_from_slice(&self.bytes.lock().unwrap()[offset..][..bytes.len()]);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let fault = self.fault.load(Ordering::SeqCst);
        if fault == FULL {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = match fault {
            TORN => bytes.len() / 2,
            SHORT => bytes.len().min(7),
            _ => bytes.len(),
        };
        let (offset, mut held) = (usize::try_from(offset).unwrap(), self.bytes.lock().unwrap());
        let end = held.len().max(offset + len);
        held.resize(end, 0);
        held[offset..][..len].copy_from_slice(&bytes[..len]);
        if fault == TORN { Err(io::ErrorKind::Other.into()) } else { Ok(len) }
    }

    fn sync(&self) -> io::Result<()> {
        self.synced_by.lock().unwrap().push(thread::current().id());
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.bytes.lock().unwrap().len()).unwrap())
    }
}

fn open_faulty(folder: &Path, disk: &Arc<FaultyDisk>, now: UnixMs) -> Result<Ledger, LedgerError> {
    let storage: Arc<dyn Storage> = Arc::<FaultyDisk>::clone(disk);
    let wish = OpenSettings { budget: limits(), entries: &entries(), now, live: None };
    let mut taken = Err(LedgerError::Stopped);
    wait_until(|| {
        taken = LedgerLock::take(folder);
        !matches!(taken, Err(LedgerError::Locked { .. }))
    });
    Ledger::open_on(&place(folder, "boot"), storage, taken?, wish)
}

#[test]
fn an_intent_file_that_cannot_be_written_stops_buying_and_loses_no_answer() {
    for fault in [FULL, TORN] {
        let folder = tempfile::tempdir().unwrap();
        let disk = FaultyDisk::new();
        let mut ledger = open_faulty(folder.path(), &disk, T0).unwrap();
        ready(&mut ledger, T0);
        let first = reserve(&mut ledger, want(1, 10), T0);
        disk.set(fault);
        assert_eq!(ledger.reserve(want(2, 10), T0).unwrap_err(), RiskRejection::Unwritable);
        assert!(ledger.failure().is_some());
        assert_eq!(ledger.book().intent(&id(2)), None, "what is not kept is not counted");
        let _nothing = ledger.settle(first.id(), &BOUGHT, T0).unwrap();
        disk.set(WORKS);
        let _approved = reserve(&mut ledger, want(2, 10), T0);
        assert_eq!(ledger.failure(), None);
        drop(ledger);
        let again = open_faulty(folder.path(), &disk, after(1)).unwrap();
        assert_eq!([1, 2].map(|n| state(&again, n)), [OrderState::Bought, OrderState::Unknown]);
    }
}

#[test]
fn whoever_approves_syncs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let mut ledger = open_faulty(folder.path(), &disk, T0).unwrap();
    ready(&mut ledger, T0);
    let here = thread::current().id();
    let synced_here = || disk.synced_by.lock().unwrap().iter().filter(|id| **id == here).count();
    // The file was laid out from here; that is the only time.
    assert_eq!(synced_here(), 1);
    for n in 0..100 {
        let approved = reserve(&mut ledger, want(n, 1), T0);
        ledger.sent(approved.id(), T0).unwrap();
        let _nothing = ledger.settle(approved.id(), &TAKEN, T0).unwrap();
    }
    assert_eq!(synced_here(), 1);
}

#[test]
fn short_writes_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let mut ledger = open_faulty(folder.path(), &disk, T0).unwrap();
    disk.set(SHORT);
    ready(&mut ledger, T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    let again = open_faulty(folder.path(), &disk, after(1)).unwrap();
    assert_eq!(state(&again, 1), OrderState::Bought);
}

#[test]
fn a_disk_too_full_for_the_intent_file_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.set(FULL);
    let error = open_faulty(folder.path(), &disk, T0).unwrap_err();
    assert!(matches!(error, LedgerError::File { what: "allocate", .. }), "{error}");
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_record() {
    let disk = FaultyDisk::new();
    let storage: Arc<dyn Storage> = Arc::<FaultyDisk>::clone(&disk);
    let OpenedLog { ring, is_new } = WriteAheadLog::open(storage).unwrap();
    assert!(is_new);
    let record = |position| Record {
        position,
        at: T0,
        uptime_ms: None,
        event: LedgerEvent::Accepted { id: id(1) },
    };
    for position in 1..=3 {
        ring.write(&record(position)).unwrap();
    }
    disk.set(TORN);
    ring.write(&record(4)).unwrap_err();
    let found = ring.survivors(1).unwrap();
    assert_eq!((found.records, found.hole), (vec![record(2), record(3)], None));
}

#[test]
fn records_of_an_earlier_round_are_not_taken_for_new_ones() {
    let disk = FaultyDisk::new();
    let storage: Arc<dyn Storage> = Arc::<FaultyDisk>::clone(&disk);
    let ring = WriteAheadLog::open(storage).unwrap().ring;
    let last = write_ahead_log::SLOTS + 2;
    let record =
        |position| Record { position, at: T0, uptime_ms: None, event: LedgerEvent::Baselined };
    for position in [1, 2, 3, last - 1, last] {
        ring.write(&record(position)).unwrap();
    }
    let found = ring.survivors(last - 2).unwrap();
    assert_eq!(found.records, [record(last - 1), record(last)]);
    assert_eq!(ring.read(1).unwrap(), None, "overwritten");
    assert_eq!(ring.read(3).unwrap(), Some(record(3)));
}

#[test]
fn an_unknown_buy_is_settled_after_a_restart_by_what_the_account_shows() {
    for (listed, balance, expected) in
        [(true, 990, OrderState::Bought), (false, 1_000, OrderState::NotBought)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "boot", T0);
        let _in_flight = reserve(&mut ledger, want(1, 10), after(1));
        let image = image(folder.path());
        let place = place(image.path(), "boot");
        let mut again = Ledger::open(&place, limits(), &entries(), after(2)).unwrap();
        again.bind("account-1").unwrap();
        let (status, price) = (TradeStatus::Joined, Some(coins(10)));
        let trade = OwnTrade { id: id(1), status, price, joined_at: None };
        let trades = if listed { vec![trade] } else { Vec::new() };
        let reading = AccountReading { trades: &trades, complete: true, started: after(70) };
        let aftermath = again.reconcile(&reading, Some(coins(balance)), after(70));
        assert_eq!(aftermath.halts, []);
        assert_eq!(state(&again, 1), expected);
    }
}

#[test]
fn a_ledger_can_be_read_and_verified_beside_its_writer_and_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(LedgerReader::open(folder.path()), Err(LedgerError::Missing { .. })));
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &TAKEN);
    let _in_flight = reserve(&mut ledger, want(2, 10), T0);
    let image = image(folder.path());
    for folder in [folder.path(), image.path()] {
        let archive = LedgerReader::open(folder).unwrap();
        assert_eq!(archive.book().intents(), ledger.book().intents());
        assert_eq!(archive.owner().0, Some("market.example"));
        archive.verify().unwrap();
    }
    wait_until(|| ledger.is_durable());
    let archive = LedgerReader::open(folder.path()).unwrap();
    let intent = archive.book().intents()[0];
    assert_eq!(archive.label(&intent), "first");
    let details = archive.details(intent.sequence).unwrap();
    assert_eq!((details.sent_at, details.answered_at), (Some(T0), Some(T0)));
    assert_eq!(details.answer.as_deref(), Some("no longer available: taken"));
}

#[test]
fn a_balance_that_stays_the_same_fills_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    for second in 1..100 {
        let _nothing = ledger.set_balance(coins(1_000), after(second), after(second));
    }
    let _nothing = ledger.set_balance(coins(1_001), after(100), after(100));
    drop(ledger);
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let sql = "SELECT count(*) FROM events WHERE kind = 'balance'";
    let count: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
}

#[test]
fn a_row_that_somebody_changed_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    LedgerReader::open(folder.path()).unwrap().verify().unwrap();
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    database.execute("UPDATE intents SET price = 1", []).unwrap();
    let error = LedgerReader::open(folder.path()).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("intent 1 is not what its events say"), "{error}");
}

#[test]
fn an_intent_file_that_is_gone_is_treated_as_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _in_flight = reserve(&mut ledger, want(1, 10), T0);
    let image = image(folder.path());
    fs::remove_file(image.path().join(INTENT_FILE)).unwrap();
    let place = place(image.path(), "boot");
    let mut again = Ledger::open(&place, limits(), &entries(), after(1)).unwrap();
    assert!(again.snapshot(after(1)).loss.count > 0);
}

#[test]
fn the_words_of_the_marketplace_are_kept_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &TAKEN);
    assert!(ledger.keep_words(&id(1), &"trade is not joinable ä".repeat(100)));
    drop(ledger);
    let path: PathBuf = folder.path().join(DATABASE);
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT words FROM intents WHERE number = 1";
    let words: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(words.starts_with("trade is not joinable") && words.len() <= 500, "{words}");
}

/// The files that version 0.1.0 left of a session against the simulated market.
fn left_by_0_1_0(how: &str) -> tempfile::TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledger-0.1.0").join(how);
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

#[test]
fn a_ledger_of_0_1_0_opens_verifies_and_goes_on() {
    // A stop in order holds under any boot; what was killed is whole under the same one.
    for (how, boot) in [("clean", "another"), ("killed", BOOT_OF_0_1_0)] {
        let folder = left_by_0_1_0(how);
        let archive = LedgerReader::open(folder.path()).unwrap();
        archive.verify().unwrap();
        let (before, spent) = (archive.book().intents().len(), counted(archive.book()));
        drop(archive);
        assert!(before > 20, "{how}: {before} orders");

        let place =
            LedgerLocation { host: "127.0.0.1:18199".to_owned(), ..place(folder.path(), boot) };
        let now = UnixMs(1_795_000_000_000);
        let limits = Budget { total: coins(1_000), ..limits() };
        let mut ledger = Ledger::open(&place, limits, &entries(), now).unwrap();
        ledger.bind("VXNlcjo0MjQyNDI").unwrap();
        assert_eq!(ledger.book().loss().count, 0, "{how}");
        ledger.book().check().unwrap();
        assert_eq!(counted(ledger.book()), spent, "{how}");
        let is_unknown = |intent: &&Intent| intent.state == OrderState::Unknown;
        let unknown = ledger.book().intents().iter().filter(is_unknown).count();
        assert!(unknown > 0, "{how}");
        let reading = AccountReading { trades: &[], complete: true, started: now };
        let _maybe_halts = ledger.reconcile(&reading, Some(coins(500)), now);
        ledger.resume(me(), now);
        let fresh = OrderRequest { created_at: Some(now), ..want(1, 10) };
        let _approved = reserve(&mut ledger, fresh, now);
        wait_until(|| ledger.is_durable());
        drop(ledger);
        let archive = LedgerReader::open(folder.path()).unwrap();
        archive.verify().unwrap();
        assert_eq!(archive.book().intents().len(), before + 1, "{how}");
    }
}

const BOOT_OF_0_1_0: &str = "574327c4-0244-45b4-b994-6378a7c9b802";

fn counted(book: &LedgerState) -> Amount {
    let counting = book.intents().iter().filter(|intent| intent.state.counts());
    counting.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.price))
}

/// The wall clock was set forward by two hours between two runs on one boot.
#[test]
fn after_a_restart_on_the_same_boot_windows_go_on_by_the_uptime() {
    let folder = tempfile::tempdir().unwrap();
    let place =
        |uptime_ms| LedgerLocation { uptime_ms: Some(uptime_ms), ..place(folder.path(), "boot") };
    let limits = Budget { per_hour: Some(coins(10)), ..limits() };
    let mut ledger = Ledger::open(&place(1_000_000), limits.clone(), &entries(), T0).unwrap();
    ready(&mut ledger, T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    drop(ledger);

    let hour = RiskRejection::PerHour { spent: coins(10), price: coins(1), max: coins(10) };
    // Ten minutes later by the uptime, and then 59 and 61.
    for (minutes, expected) in [(10, Some(hour)), (59, Some(hour)), (61, None)] {
        let now = after(7_200 + minutes * 60);
        let uptime_ms = 1_000_000 + minutes * 60_000;
        let mut ledger = Ledger::open(&place(uptime_ms), limits.clone(), &entries(), now).unwrap();
        ready(&mut ledger, now);
        wait_until(|| ledger.is_leased());
        let fresh = OrderRequest { created_at: Some(now), ..want(2, 1) };
        assert_eq!(ledger.reserve(fresh, now).err(), expected, "after {minutes} minutes");
    }
}
