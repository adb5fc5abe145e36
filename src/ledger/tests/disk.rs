//! Tests of the ledger files: recovery, rejected files, and disk faults.

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
    ledger::control::{self, ControlRequest, Resolution},
    ledger::journal::BACKLOG_MAX,
    ledger::open::{DATABASE, DATABASE_LOG, INTENT_FILE, OpenSettings},
    ledger::private::LedgerLock,
    ledger::reader::LedgerReader,
    ledger::record::{RECORD_BYTES, Record},
    ledger::write_ahead_log::{self, OpenedLog, Storage, WriteAheadLog},
};

pub(crate) fn location(folder: &Path, boot: &str) -> LedgerLocation {
    LedgerLocation {
        folder: folder.to_owned(),
        host: "market.example".to_owned(),
        boot: Some(boot.to_owned()),
        uptime_ms: None,
    }
}

pub(crate) fn entries() -> [WhitelistEntry; 2] {
    [entry(Some("first")), entry(Some("second"))]
}

pub(crate) fn limits() -> Budget {
    Budget { max_price: coins(50), total: coins(200), max_in_flight: 4, ..budget() }
}

pub(crate) fn open(folder: &Path, boot: &str, now: UnixMs) -> Ledger {
    let mut ledger = Ledger::open(&location(folder, boot), limits(), &entries(), now).unwrap();
    ready(&mut ledger, now);
    ledger
}

pub(crate) fn ready(ledger: &mut Ledger, now: UnixMs) {
    ledger.bind("account-1").unwrap();
    let reading = AccountReading { trades: &[], complete: true, started: now };
    assert_eq!(ledger.reconcile(&reading, Some(coins(1_000)), now).halts, []);
}

#[track_caller]
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out");
        thread::park_timeout(Duration::from_micros(200));
    }
}

/// Reserves an order; waits while the durable limit is being raised.
#[track_caller]
pub(crate) fn reserve(ledger: &mut Ledger, request: OrderRequest, now: UnixMs) -> ApprovedOrder {
    let mut approved = None;
    wait_until(|| match ledger.reserve(request, now) {
        Ok(found) => {
            approved = Some(found);
            true
        }
        Err(rejection) => {
            assert_eq!(rejection, RiskRejection::Behind);
            false
        }
    });
    approved.unwrap()
}

/// Copies all files, as a process that is killed now would leave them. SQLite may move pages from
/// its log to the database between the copies of the two, so files are copied until none changes.
pub(crate) fn crash_image(from: &Path) -> tempfile::TempDir {
    let names = [DATABASE, DATABASE_LOG, INTENT_FILE];
    let read = || names.map(|name| fs::read(from.join(name)).ok());
    let mut files = read();
    wait_until(|| {
        let earlier = std::mem::replace(&mut files, read());
        earlier == files
    });
    let to = tempfile::tempdir().unwrap();
    for (name, bytes) in names.iter().zip(files) {
        if let Some(bytes) = bytes {
            fs::write(to.path().join(name), bytes).unwrap();
        }
    }
    to
}

/// Turns a crash image into the image of a power loss: of the records that are not in the database,
/// only those remain for which `survives` returns `true`.
pub(super) fn lose_power(image: &Path, mut survives: impl FnMut() -> bool) {
    lose_records(image, |_record| survives());
}

/// Does the same, and decides by the record.
pub(super) fn lose_records(image: &Path, mut survives: impl FnMut(&Record) -> bool) {
    let database = rusqlite::Connection::open(image.join(DATABASE)).unwrap();
    let sql = "SELECT value FROM meta WHERE key = 'applied'";
    let applied: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(database);
    let path = image.join(INTENT_FILE);
    let mut bytes = fs::read(&path).unwrap();
    for slot in bytes.as_chunks_mut::<RECORD_BYTES>().0 {
        let record = Record::decode(slot);
        let record = record.filter(|record| i64::try_from(record.position).unwrap() > applied);
        if record.is_some_and(|record| !survives(&record)) {
            slot.fill(0);
        }
    }
    fs::write(&path, bytes).unwrap();
}

pub(super) fn state(ledger: &Ledger, n: u32) -> OrderState {
    ledger.state().intent(&id(n)).unwrap().state
}

#[test]
fn everything_survives_a_clean_shutdown() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    let _effects = place_order_when_ready(&mut ledger, 2, &TAKEN);
    let _effects = place_order_when_ready(&mut ledger, 3, &UNKNOWN);
    let _effects = ledger.halt(HaltReason::Operator(operator()), after(1));
    let before = ledger.snapshot(after(2));
    drop(ledger);

    let mut ledger =
        Ledger::open(&location(folder.path(), "boot"), limits(), &entries(), after(2)).unwrap();
    let now = ledger.snapshot(after(2));
    assert_eq!(now, Snapshot { reconciled: false, ..before });
    assert_eq!(
        [1, 2, 3].map(|n| state(&ledger, n)),
        [OrderState::Bought, OrderState::Rejected, OrderState::Unknown]
    );
    assert_eq!(now.halts[0].reason, HaltReason::Operator(operator()));
    ledger.resume(operator(), after(3));
    ready(&mut ledger, after(3));
    assert_eq!(
        ledger.reserve(order_request(1, 1), after(3)).unwrap_err(),
        RiskRejection::AlreadyRequested
    );
}

#[test]
fn warming_the_caches_changes_nothing_in_memory_or_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    let before = ledger.snapshot(after(1));
    for n in 1..100 {
        ledger.warm_caches(&order_request(n, 10), after(1));
    }
    assert_eq!(ledger.snapshot(after(1)), before);
    drop(ledger);

    let mut ledger =
        Ledger::open(&location(folder.path(), "boot"), limits(), &entries(), after(1)).unwrap();
    assert_eq!(ledger.snapshot(after(1)), Snapshot { reconciled: false, ..before });
    assert_eq!(ledger.state().intents().len(), 1);
}

pub(super) fn place_order_when_ready(ledger: &mut Ledger, n: u32, outcome: &Outcome) -> Effects {
    let approved = reserve(ledger, order_request(n, 10), T0);
    ledger.sent(approved.key(), T0).unwrap();
    ledger.settle(approved.key(), outcome, T0).unwrap()
}

#[test]
fn a_killed_process_loses_no_record_and_orders_in_flight_become_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    let _in_flight = reserve(&mut ledger, order_request(2, 10), T0);
    // The test does not wait for the database, so the record may be only in the intent file.
    let image = crash_image(folder.path());
    let mut again = open(image.path(), "boot", after(1));
    assert_eq!([1, 2].map(|n| state(&again, n)), [OrderState::Bought, OrderState::Unknown]);
    let snapshot = again.snapshot(after(1));
    assert_eq!((snapshot.spent, snapshot.loss.count), (coins(20), 0));
}

#[test]
fn power_loss_counts_the_whole_durable_limit_and_old_listings_are_never_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _in_flight = reserve(&mut ledger, order_request(1, 10), T0);
    let image = crash_image(folder.path());
    lose_power(image.path(), || false);
    let mut again =
        Ledger::open(&location(image.path(), "another"), limits(), &entries(), after(1)).unwrap();
    again.bind("account-1").unwrap();
    let snapshot = again.snapshot(after(1));
    let known = again.state().intents().len();
    assert!(known == 1 || snapshot.loss.coins >= coins(10), "{snapshot:?}");
    assert!(coins(10) <= snapshot.spent && snapshot.spent <= coins(200));
    let reading = AccountReading { trades: &[], complete: true, started: after(1) };
    let _effects = again.reconcile(&reading, Some(coins(1_000)), after(1));
    let rejection = again.reserve(order_request(9, 1), after(1)).unwrap_err();
    assert!(matches!(rejection, RiskRejection::BeforePowerLoss { .. }), "{rejection}");

    // Once the window has passed and the account agrees, only the barrier remains, permanently.
    let reading = AccountReading { started: after(100), ..reading };
    assert_eq!(again.reconcile(&reading, Some(coins(1_000)), after(100)).halts, []);
    assert_eq!(again.snapshot(after(100)).spent, Amount::ZERO);
    drop(again);
    let mut later = open(image.path(), "another", after(200));
    let rejection = later.reserve(order_request(9, 1), after(200)).unwrap_err();
    assert!(matches!(rejection, RiskRejection::BeforePowerLoss { .. }), "{rejection}");
    let young = OrderRequest { created_at: Some(after(200)), ..order_request(9, 1) };
    let _approved = reserve(&mut later, young, after(200));
    // A market may state no times; the resolved loss must not end its orders forever.
    let dateless = OrderRequest { created_at: None, ..order_request(8, 1) };
    let _approved = reserve(&mut later, dateless, after(200));
}

/// A clock a month ahead would otherwise block every listing for a month, and a clock that was
/// behind would permit a second order for the listing of a lost one.
#[test]
fn the_clock_of_the_server_replaces_the_barrier_of_a_power_loss_in_both_directions() {
    let created = |second| OrderRequest { created_at: Some(after(second)), ..order_request(9, 1) };
    for wrong in [T0.plus(Duration::from_secs(30 * 86_400)), UnixMs(1_000)] {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "boot", T0);
        // The limit is durable, so it exceeds what is recorded.
        let _approved = reserve(&mut ledger, order_request(1, 10), T0);
        let image = crash_image(folder.path());
        drop(Ledger::open(&location(image.path(), "other"), limits(), &entries(), wrong).unwrap());
        let mut again = open(image.path(), "other", after(100));
        assert!(again.state().barrier.is_some());
        again.confirm_barrier(after(101), after(100));
        // Only the first call has an effect, because orders of this run are not lost.
        again.confirm_barrier(after(200), after(199));
        let no_loss = AccountReading { trades: &[], complete: true, started: after(199) };
        let _effects = again.reconcile(&no_loss, Some(coins(1_000)), after(199));
        drop(again);
        let mut later = open(image.path(), "other", after(200));
        let barrier = after(101);
        let rejection = later.reserve(created(101), after(200)).unwrap_err();
        assert_eq!(rejection, RiskRejection::BeforePowerLoss { barrier });
        let _effects =
            later.resolve(&id(1), Evidence::NotBought, operator(), after(200)).unwrap_or_default();
        later.clear_crash_reserve(EvidenceSource::Operator(operator()), after(200));
        let _approved = reserve(&mut later, created(102), after(200));
    }
}

#[test]
fn a_clean_shutdown_releases_the_durable_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    let mut again = open(folder.path(), "another", after(1));
    let snapshot = again.snapshot(after(1));
    assert_eq!((snapshot.spent, snapshot.loss.count), (coins(10), 0));
    let _approved = reserve(&mut again, order_request(2, 1), after(1));
}

#[test]
fn a_second_process_gets_the_pid_of_the_lock_holder() {
    let folder = tempfile::tempdir().unwrap();
    let _ledger = open(folder.path(), "boot", T0);
    let location = location(folder.path(), "boot");
    let error = Ledger::open(&location, limits(), &entries(), T0).unwrap_err();
    let pid = std::process::id();
    assert!(matches!(error, LedgerError::Locked { pid: Some(found), .. } if found == pid));
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
}

#[test]
fn a_ledger_rejects_another_market_and_another_account() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), "boot", T0);
    drop(ledger);
    let other =
        LedgerLocation { host: "other.example".to_owned(), ..location(folder.path(), "boot") };
    let error = Ledger::open(&other, limits(), &entries(), T0).unwrap_err();
    assert!(matches!(error, LedgerError::OtherHost { .. }), "{error}");
    let location = location(folder.path(), "boot");
    let mut ledger = Ledger::open(&location, limits(), &entries(), T0).unwrap();
    let error = ledger.bind("account-2").unwrap_err();
    assert!(matches!(error, LedgerError::OtherAccount { .. }), "{error}");
    let reading = AccountReading { trades: &[], complete: true, started: T0 };
    let _effects = ledger.reconcile(&reading, Some(coins(1_000)), T0);
    assert_eq!(ledger.reserve(order_request(1, 1), T0).unwrap_err(), RiskRejection::NotReconciled);
}

#[test]
fn a_damaged_database_is_rejected_and_not_modified() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "boot", T0));
    let path = folder.path().join(DATABASE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..64].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let location = location(folder.path(), "boot");
    let error = Ledger::open(&location, limits(), &entries(), T0).unwrap_err();
    assert!(matches!(error, LedgerError::Database { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_database_of_a_later_version_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), "boot", T0));
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let location = location(folder.path(), "boot");
    let error = Ledger::open(&location, limits(), &entries(), T0).unwrap_err();
    assert!(matches!(error, LedgerError::TooNew { found: 99, .. }), "{error}");
}

#[test]
fn a_missing_record_in_the_intent_file_is_damage_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    wait_until(|| ledger.is_durable());
    let before = crash_image(folder.path());
    for n in 1..=3 {
        let _effects = place_order_when_ready(&mut ledger, n, &BOUGHT);
    }
    // The image has the old database and the new intent file, without one record in the middle.
    let mut bytes = fs::read(folder.path().join(INTENT_FILE)).unwrap();
    let records = || bytes.as_chunks::<RECORD_BYTES>().0.iter().enumerate();
    let newest = records().filter_map(|(slot, bytes)| Some((Record::decode(bytes)?, slot)));
    let mut newest: Vec<_> = newest.map(|(record, slot)| (record.position, slot)).collect();
    newest.sort_unstable();
    let (position, slot) = newest[newest.len() - 3];
    bytes[slot * RECORD_BYTES..][..RECORD_BYTES].fill(0);
    fs::write(before.path().join(INTENT_FILE), bytes).unwrap();
    let location = location(before.path(), "boot");
    let error = Ledger::open(&location, limits(), &entries(), after(1)).unwrap_err();
    assert!(error.to_string().contains(&format!("record {position} is missing")), "{error}");
}

#[test]
fn an_unwritable_database_stops_orders_until_it_is_writable() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let approved = reserve(&mut ledger, order_request(1, 10), T0);
    wait_until(|| ledger.is_durable());
    let mut foreign = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let _effects = ledger.settle(approved.key(), &BOUGHT, T0).unwrap();
    wait_until(|| ledger.failure().is_some());
    assert_eq!(ledger.reserve(order_request(2, 10), T0).unwrap_err(), RiskRejection::Unwritable);
    hold.rollback().unwrap();
    wait_until(|| ledger.failure().is_none());
    let _approved = reserve(&mut ledger, order_request(2, 10), T0);
    drop(ledger);
    let again = open(folder.path(), "boot", after(1));
    assert_eq!(state(&again, 1), OrderState::Bought, "no record is lost");
}

/// A disk in memory with injectable faults.
#[derive(Debug)]
struct FaultyDisk {
    bytes: Mutex<Vec<u8>>,
    fault: AtomicU8,
    synced_by: Mutex<Vec<ThreadId>>,
}

const NO_FAULT: u8 = 0;
const FULL: u8 = 1;
const TORN_WRITE: u8 = 2;
const SHORT_WRITE: u8 = 3;
/// Reads wait until the fault is over, and fail then.
const HELD_READ: u8 = 4;

impl FaultyDisk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            bytes: Mutex::default(),
            fault: AtomicU8::new(NO_FAULT),
            synced_by: Mutex::default(),
        })
    }

    fn set(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
    }
}

impl Storage for FaultyDisk {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        if self.fault.load(Ordering::SeqCst) == HELD_READ {
            wait_until(|| self.fault.load(Ordering::SeqCst) != HELD_READ);
            return Err(io::ErrorKind::Other.into());
        }
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
            TORN_WRITE => bytes.len() / 2,
            SHORT_WRITE => bytes.len().min(7),
            _ => bytes.len(),
        };
        let (offset, mut held) = (usize::try_from(offset).unwrap(), self.bytes.lock().unwrap());
        let end = held.len().max(offset + len);
        held.resize(end, 0);
        held[offset..][..len].copy_from_slice(&bytes[..len]);
        if fault == TORN_WRITE { Err(io::ErrorKind::Other.into()) } else { Ok(len) }
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
    let settings = OpenSettings { budget: limits(), entries: &entries(), now, live: None };
    let mut taken = Err(LedgerError::Stopped);
    wait_until(|| {
        taken = LedgerLock::take(folder);
        !matches!(taken, Err(LedgerError::Locked { .. }))
    });
    Ledger::open_on(&location(folder, "boot"), storage, taken?, settings)
}

fn ready_on_faulty() -> (tempfile::TempDir, Arc<FaultyDisk>, Ledger) {
    let (folder, disk) = (tempfile::tempdir().unwrap(), FaultyDisk::new());
    let mut ledger = open_faulty(folder.path(), &disk, T0).unwrap();
    ready(&mut ledger, T0);
    (folder, disk, ledger)
}

#[test]
fn an_unwritable_intent_file_stops_orders_and_loses_no_response() {
    for fault in [FULL, TORN_WRITE] {
        let (folder, disk, mut ledger) = ready_on_faulty();
        let first = reserve(&mut ledger, order_request(1, 10), T0);
        disk.set(fault);
        assert_eq!(
            ledger.reserve(order_request(2, 10), T0).unwrap_err(),
            RiskRejection::Unwritable
        );
        assert!(ledger.failure().is_some());
        assert_eq!(ledger.state().intent(&id(2)), None, "an order without a record does not count");
        let _effects = ledger.settle(first.key(), &BOUGHT, T0).unwrap();
        disk.set(NO_FAULT);
        let _approved = reserve(&mut ledger, order_request(2, 10), T0);
        assert_eq!(ledger.failure(), None);
        drop(ledger);
        let again = open_faulty(folder.path(), &disk, after(1)).unwrap();
        assert_eq!([1, 2].map(|n| state(&again, n)), [OrderState::Bought, OrderState::Unknown]);
    }
}

#[test]
fn an_operator_is_told_that_a_change_is_not_recorded() {
    let by = || "me".to_owned();
    let requests = [
        ControlRequest::Halt { by: by() },
        ControlRequest::Resume { by: by() },
        ControlRequest::NewBudget { by: by() },
        ControlRequest::Resolve { id: id(1).to_string(), verdict: Resolution::NotBought, by: by() },
    ];
    for request in requests {
        let (folder, disk, mut ledger) = ready_on_faulty();
        let first = reserve(&mut ledger, order_request(1, 10), T0);
        let _effects = ledger.settle(first.key(), &UNKNOWN, T0).unwrap();
        disk.set(FULL);
        let before = ledger.snapshot(T0);
        let why = control::apply_request(&mut ledger, &request, T0).1.unwrap_err();
        assert!(why.contains("not recorded"), "{why}");
        let is_resume = matches!(request, ControlRequest::Resume { .. });
        assert_eq!(ledger.snapshot(T0) == before, is_resume, "{request:?} applies at once");
        control::apply_request(&mut ledger, &ControlRequest::Status, T0).1.unwrap();
        drop(ledger);
        disk.set(NO_FAULT);
        let mut again = open_faulty(folder.path(), &disk, after(1)).unwrap();
        assert_eq!(again.state().halts(), []);
        control::apply_request(&mut again, &request, after(1)).1.unwrap();
    }
}

/// Creates a ledger with order 1 in flight, a full disk, and a full backlog of events.
fn with_full_backlog() -> (tempfile::TempDir, Arc<FaultyDisk>, Ledger) {
    let (folder, disk, mut ledger) = ready_on_faulty();
    let approved = reserve(&mut ledger, order_request(1, 10), T0);
    ledger.sent(approved.key(), T0).unwrap();
    disk.set(FULL);
    for _ in 0..BACKLOG_MAX {
        let _paused = ledger.pause(T0, T0);
    }
    (folder, disk, ledger)
}

#[test]
fn a_full_backlog_loses_no_event_once_the_disk_has_room() {
    let (folder, disk, mut ledger) = with_full_backlog();
    disk.set(NO_FAULT);
    let _effects = ledger.settle(&key(1), &BOUGHT, T0).unwrap();
    let failure = ledger.failure().unwrap_or_default();
    assert!(!failure.contains("restart"), "{failure}");
    // The writer may have to make room in the intent file for the last events.
    wait_until(|| ledger.reserve(order_request(2, 10), T0).is_ok());
    drop(ledger);
    let again = open_faulty(folder.path(), &disk, after(1)).unwrap();
    assert_eq!(state(&again, 1), OrderState::Bought);
}

/// The response is lost. The delivery that follows it contradicts an order that was only sent.
#[test]
fn nothing_is_recorded_or_ordered_after_an_event_was_lost() {
    let (folder, disk, mut ledger) = with_full_backlog();
    let _lost = ledger.settle(&key(1), &BOUGHT, T0).unwrap();
    disk.set(NO_FAULT);
    let _reads_account = ledger.observe(&id(1), TradeStatus::Completed, T0);
    assert_eq!(state(&ledger, 1), OrderState::Completed, "the delivery is an event");
    wait_until(|| {
        let is_durable = ledger.is_durable();
        let rejected = ledger.reserve(order_request(2, 10), T0).unwrap_err();
        assert_eq!(rejected, RiskRejection::Unwritable);
        is_durable
    });
    assert!(ledger.failure().unwrap().contains("restart"));
    drop(ledger);
    let again = open_faulty(folder.path(), &disk, after(1)).unwrap();
    assert_eq!(state(&again, 1), OrderState::Unknown);
}

#[test]
fn of_a_rejection_that_was_not_recorded_the_order_counts_and_the_next_rejection_halts_again() {
    let (folder, disk, mut ledger) = ready_on_faulty();
    let approved = reserve(&mut ledger, order_request(1, 10), T0);
    disk.set(FULL);
    let rejected = Outcome::Rejected(RejectReason::Challenge);
    let _effects = ledger.settle(approved.key(), &rejected, T0).unwrap();
    assert!(!ledger.state().halts().is_empty() && ledger.state().spent() == coins(0));
    drop(ledger);
    disk.set(NO_FAULT);
    let mut again = open_faulty(folder.path(), &disk, after(1)).unwrap();
    assert_eq!(again.state().halts(), []);
    assert_eq!((state(&again, 1), again.state().spent()), (OrderState::Unknown, coins(10)));
    ready(&mut again, after(2));
    let fresh = OrderRequest { created_at: Some(after(2)), ..order_request(2, 10) };
    let approved = reserve(&mut again, fresh, after(2));
    let effects = again.settle(approved.key(), &rejected, after(2)).unwrap();
    assert_eq!(effects.halts[0].reason, HaltReason::Rejected(RejectReason::Challenge));
}

#[test]
fn a_halt_because_of_a_price_that_was_not_recorded_is_found_again_by_a_read_of_the_account() {
    let (folder, disk, mut ledger) = ready_on_faulty();
    let approved = reserve(&mut ledger, order_request(1, 10), T0);
    disk.set(FULL);
    let bought = Outcome::Bought { price: Some(coins(11)), server_time: None };
    let halted = ledger.settle(approved.key(), &bought, T0).unwrap().halts;
    assert!(matches!(halted[0].reason, HaltReason::Price { .. }), "{halted:?}");
    drop(ledger);
    disk.set(NO_FAULT);
    let mut again = open_faulty(folder.path(), &disk, after(1)).unwrap();
    assert_eq!(again.state().halts(), []);
    let trades =
        [OwnTrade { price: Some(coins(11)), ..OwnTrade::bare(id(1), TradeStatus::Joined) }];
    let reading = AccountReading { trades: &trades, complete: true, started: after(2) };
    let effects = again.reconcile(&reading, Some(coins(989)), after(2));
    assert_eq!(
        effects.halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(),
        [halted[0].reason]
    );
}

#[test]
fn the_approving_thread_never_syncs() {
    let (_folder, disk, mut ledger) = ready_on_faulty();
    let here = thread::current().id();
    let synced_here = || disk.synced_by.lock().unwrap().iter().filter(|id| **id == here).count();
    // This thread syncs only the allocation of the file.
    assert_eq!(synced_here(), 1);
    for n in 0..100 {
        let approved = reserve(&mut ledger, order_request(n, 1), T0);
        ledger.sent(approved.key(), T0).unwrap();
        let _effects = ledger.settle(approved.key(), &TAKEN, T0).unwrap();
    }
    assert_eq!(synced_here(), 1);
}

#[test]
fn short_writes_are_completed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    let mut ledger = open_faulty(folder.path(), &disk, T0).unwrap();
    disk.set(SHORT_WRITE);
    ready(&mut ledger, T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    let again = open_faulty(folder.path(), &disk, after(1)).unwrap();
    assert_eq!(state(&again, 1), OrderState::Bought);
}

#[test]
fn a_disk_too_full_for_the_intent_file_fails_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.set(FULL);
    let error = open_faulty(folder.path(), &disk, T0).unwrap_err();
    assert!(matches!(error, LedgerError::File { action: "allocate", .. }), "{error}");
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_record() {
    let disk = FaultyDisk::new();
    let storage: Arc<dyn Storage> = Arc::<FaultyDisk>::clone(&disk);
    let OpenedLog { intent_log, is_new } = WriteAheadLog::open(storage).unwrap();
    assert!(is_new);
    let record = |position| Record {
        position,
        at: T0,
        uptime_ms: None,
        event: LedgerEvent::Accepted { id: id(1) },
    };
    for position in 1..=3 {
        intent_log.write(&record(position)).unwrap();
    }
    disk.set(TORN_WRITE);
    intent_log.write(&record(4)).unwrap_err();
    let found = intent_log.recover(1).unwrap();
    assert_eq!((found.records, found.missing_record), (vec![record(2), record(3)], None));
}

#[test]
fn records_of_an_earlier_round_are_not_taken_for_new_ones() {
    let disk = FaultyDisk::new();
    let storage: Arc<dyn Storage> = Arc::<FaultyDisk>::clone(&disk);
    let intent_log = WriteAheadLog::open(storage).unwrap().intent_log;
    let last = write_ahead_log::SLOTS + 2;
    let record =
        |position| Record { position, at: T0, uptime_ms: None, event: LedgerEvent::Baselined };
    for position in [1, 2, 3, last - 1, last] {
        intent_log.write(&record(position)).unwrap();
    }
    let found = intent_log.recover(last - 2).unwrap();
    assert_eq!(found.records, [record(last - 1), record(last)]);
    assert_eq!(intent_log.read(1).unwrap(), None, "overwritten");
    assert_eq!(intent_log.read(3).unwrap(), Some(record(3)));
}

#[test]
fn an_unknown_order_is_settled_after_a_restart_from_the_account() {
    for (listed, balance, expected) in
        [(true, 990, OrderState::Bought), (false, 1_000, OrderState::NotBought)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "boot", T0);
        let _in_flight = reserve(&mut ledger, order_request(1, 10), after(1));
        let image = crash_image(folder.path());
        let location = location(image.path(), "boot");
        let mut again = Ledger::open(&location, limits(), &entries(), after(2)).unwrap();
        again.bind("account-1").unwrap();
        let (status, price) = (TradeStatus::Joined, Some(coins(10)));
        let trade = OwnTrade { price, ..OwnTrade::bare(id(1), status) };
        let trades = if listed { vec![trade] } else { Vec::new() };
        let reading = AccountReading { trades: &trades, complete: true, started: after(70) };
        let effects = again.reconcile(&reading, Some(coins(balance)), after(70));
        assert_eq!(effects.halts, []);
        assert_eq!(state(&again, 1), expected);
    }
}

#[test]
fn a_ledger_can_be_read_and_verified_beside_its_writer_and_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(LedgerReader::open(folder.path()), Err(LedgerError::Missing { .. })));
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &TAKEN);
    let _in_flight = reserve(&mut ledger, order_request(2, 10), T0);
    let image = crash_image(folder.path());
    for folder in [folder.path(), image.path()] {
        let reader = LedgerReader::open(folder).unwrap();
        assert_eq!(reader.state().intents(), ledger.state().intents());
        assert_eq!(reader.owner().0, Some("market.example"));
        reader.verify().unwrap();
    }
    wait_until(|| ledger.is_durable());
    let reader = LedgerReader::open(folder.path()).unwrap();
    let intent = reader.state().intents()[0];
    assert_eq!(reader.label(&intent), "first");
    let details = reader.details(intent.sequence).unwrap();
    assert_eq!((details.sent_at, details.answered_at), (Some(T0), Some(T0)));
    assert_eq!(details.answer.as_deref(), Some("another buyer was faster"));
}

#[test]
fn an_unchanged_balance_writes_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    for second in 1..100 {
        let _effects = ledger.set_balance(coins(1_000), after(second), after(second));
    }
    let _effects = ledger.set_balance(coins(1_001), after(100), after(100));
    drop(ledger);
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let sql = "SELECT count(*) FROM events WHERE kind = 'balance'";
    let count: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
}

#[test]
fn each_halt_has_a_row_also_one_that_replaces_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = ledger.set_balance(coins(990), after(61), after(61));
    let bare = OwnTrade::bare(id(7), TradeStatus::Joined);
    let manual = OwnTrade { price: Some(coins(10)), ..bare };
    let read = AccountReading { trades: &[manual], complete: true, started: after(62) };
    let _effects = ledger.reconcile(&read, None, after(62));
    assert_eq!(ledger.snapshot(after(62)).halts.len(), 1);
    drop(ledger);
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let mut rows = database.prepare("SELECT reason FROM halts ORDER BY event").unwrap();
    let reasons = rows.query_map([], |row| row.get(0)).unwrap();
    let reasons: Vec<String> = reasons.map(Result::unwrap).collect();
    assert!(reasons[0].starts_with("the balance is 990.00"), "{reasons:?}");
    assert!(reasons[1].starts_with("the account has a purchase"), "{reasons:?}");
}

#[test]
fn verify_detects_a_modified_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    LedgerReader::open(folder.path()).unwrap().verify().unwrap();
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    database.execute("UPDATE intents SET price = 1", []).unwrap();
    let error = LedgerReader::open(folder.path()).unwrap().verify().unwrap_err();
    assert!(error.to_string().contains("the row of intent 1 differs from its events"), "{error}");
}

#[test]
fn an_intent_file_that_is_gone_is_treated_as_power_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _in_flight = reserve(&mut ledger, order_request(1, 10), T0);
    let image = crash_image(folder.path());
    fs::remove_file(image.path().join(INTENT_FILE)).unwrap();
    let location = location(image.path(), "boot");
    let mut again = Ledger::open(&location, limits(), &entries(), after(1)).unwrap();
    assert!(again.snapshot(after(1)).loss.count > 0);
}

#[test]
fn the_response_text_of_the_market_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &TAKEN);
    assert!(ledger.record_response(&key(1), &"trade is not joinable ä".repeat(100)));
    drop(ledger);
    let path: PathBuf = folder.path().join(DATABASE);
    let database = rusqlite::Connection::open(path).unwrap();
    let sql = "SELECT words FROM intents WHERE number = 1";
    let words: String = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(words.starts_with("trade is not joinable") && words.len() <= 500, "{words}");
}

/// The writer takes the response before it stores the events. It does so in batches, and the order
/// is not in the first one.
#[test]
fn a_response_waits_for_the_row_of_its_order() {
    let (folder, disk, mut ledger) = ready_on_faulty();
    wait_until(|| ledger.is_limit_durable());
    disk.set(HELD_READ);
    for _ in 0..2_000 {
        let _paused = ledger.pause(T0, T0);
    }
    let _effects = place_order_when_ready(&mut ledger, 1, &TAKEN);
    assert!(ledger.record_response(&key(1), "not joinable"));
    disk.set(NO_FAULT);
    drop(ledger);
    let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let sql = "SELECT words FROM intents WHERE number = 1";
    let words: Option<String> = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(words.as_deref(), Some("not joinable"));
}

/// The wall clock is set forward by two hours between two runs on the same boot.
#[test]
fn after_a_restart_on_the_same_boot_windows_continue_by_uptime() {
    let folder = tempfile::tempdir().unwrap();
    let location = |uptime_ms| LedgerLocation {
        uptime_ms: Some(uptime_ms),
        ..location(folder.path(), "boot")
    };
    let limits = Budget { per_hour: Some(coins(10)), ..limits() };
    let mut ledger = Ledger::open(&location(1_000_000), limits.clone(), &entries(), T0).unwrap();
    ready(&mut ledger, T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    drop(ledger);

    let hour = RiskRejection::PerHour { spent: coins(10), price: coins(1), max: coins(10) };
    // The restarts are 10, 59 and 61 minutes later by the uptime.
    for (minutes, expected) in [(10, Some(hour)), (59, Some(hour)), (61, None)] {
        let now = after(7_200 + minutes * 60);
        let uptime_ms = 1_000_000 + minutes * 60_000;
        let mut ledger =
            Ledger::open(&location(uptime_ms), limits.clone(), &entries(), now).unwrap();
        ready(&mut ledger, now);
        wait_until(|| ledger.is_limit_durable());
        let fresh = OrderRequest { created_at: Some(now), ..order_request(2, 1) };
        assert_eq!(ledger.reserve(fresh, now).err(), expected, "after {minutes} minutes");
    }
}

/// The wall clock was an hour ahead until the machine was restarted.
#[test]
fn a_balance_from_a_clock_that_was_ahead_does_not_hide_later_balances() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot-1", after(3_600));
    assert_eq!(ledger.snapshot(after(3_600)).balance, Some(coins(1_000)));
    drop(ledger);
    let location = location(folder.path(), "boot-2");
    let mut ledger = Ledger::open(&location, limits(), &entries(), T0).unwrap();
    ledger.bind("account-1").unwrap();
    let effects = ledger.set_balance(coins(900), after(60), after(60));
    assert_eq!(ledger.snapshot(after(60)).balance, Some(coins(900)));
    let expected = HaltReason::BalanceDrop { expected: coins(1_000), actual: coins(900) };
    assert_eq!(effects.halts.iter().map(|halt| halt.reason).collect::<Vec<_>>(), [expected]);
}
