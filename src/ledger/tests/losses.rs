//! Tests of ledger files that are deleted, replaced, rolled back or made unwritable, while a bot
//! runs and between two runs, and of the account's mark that detects it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    disk::{
        crash_image, entries, limits, location, open, place_order_when_ready, ready, reserve,
        state as state_of, wait_until,
    },
    *,
};
use crate::{
    domain::account::AccountIds,
    domain::trade::TradeStatus,
    ledger::event::StorageFault,
    ledger::mark::copy_path,
    ledger::open::{COUNTED_BACK, DATABASE, INTENT_FILE},
    ledger::reader::LedgerReader,
    ledger::state::INTENTS_MAX,
    ledger::watch,
};

/// A temporary directory tree with a state directory and the path of a data directory.
struct SimulatedMachine {
    top: TempDir,
}

impl SimulatedMachine {
    fn new() -> Self {
        Self { top: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.top.path().join("data")
    }

    fn state(&self) -> PathBuf {
        self.top.path().join("state/sniper")
    }

    fn live(&self, new_ledger: Option<NewLedger>) -> LiveOpen {
        let listed_within = Some(Duration::ZERO);
        LiveOpen { state_dir: Some(self.state()), new_ledger, listed_within, ..LiveOpen::default() }
    }

    fn open(&self, data: &Path, new_ledger: Option<NewLedger>) -> Result<Ledger, LedgerError> {
        let live = self.live(new_ledger);
        Ledger::open_live(&location(data, "boot"), &live, limits(), &entries(), after(10))
    }

    /// Opens the ledger and binds it to the account.
    fn bound(&self, data: &Path, new_ledger: Option<NewLedger>) -> Result<Ledger, LedgerError> {
        let mut ledger = self.open(data, new_ledger)?;
        ledger.bind("account-1").map(|()| ledger)
    }

    /// Opens a ledger that approves orders.
    fn ready(&self) -> Ledger {
        let mut ledger = self.bound(&self.data(), None).unwrap();
        ready(&mut ledger, after(10));
        ledger
    }

    /// Creates a ledger with orders and shuts it down cleanly.
    fn with_orders(orders: u32) -> Self {
        let machine = Self::new();
        let mut ledger = machine.ready();
        for n in 1..=orders {
            let _effects = place_order_when_ready(&mut ledger, n, &BOUGHT);
        }
        machine
    }

    /// Creates a machine whose data directory was restored from a copy that lacks the last order.
    fn with_older_copy() -> Self {
        let machine = Self::with_orders(1);
        let (data, older) = (machine.data(), machine.top.path().join("older"));
        copy_folder(&data, &older);
        let mut ledger = machine.ready();
        let _effects = place_order_when_ready(&mut ledger, 2, &BOUGHT);
        drop(ledger);
        fs::remove_dir_all(&data).unwrap();
        copy_folder(&older, &data);
        machine
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_fault_that_ends_before_the_next_check_halts_once() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let alarm = ledger.journal.as_ref().unwrap().shared_for_tests().alarm().clone();
    for fault in [StorageFault::Gone, StorageFault::LogFull] {
        alarm.raise(fault.bit());
        alarm.clear(fault.bit());
        assert_eq!(halts(&mut ledger), [HaltReason::Storage(fault)]);
        assert_eq!(halts(&mut ledger), []);
    }
}

fn halts(ledger: &mut Ledger) -> Vec<HaltReason> {
    let effects = ledger.check_losses(after(20));
    effects.halts.iter().map(|halt| halt.reason).collect()
}

/// Waits for a halt for this reason and asserts that no order is approved.
#[track_caller]
fn assert_stops(ledger: &mut Ledger, fault: StorageFault) {
    assert_stops_with_one_of(ledger, &[fault]);
}

#[track_caller]
fn assert_stops_with_one_of(ledger: &mut Ledger, faults: &[StorageFault]) {
    let names = |failure: &str| faults.iter().any(|fault| failure.contains(&fault.to_string()));
    wait_until(|| ledger.failure().is_some_and(|failure| names(&failure)));
    assert_eq!(
        ledger.reserve(order_request(90, 1), after(20)).unwrap_err(),
        RiskRejection::Unwritable,
        "at once"
    );
    let [HaltReason::Storage(found)] = halts(ledger)[..] else { panic!("not one halt") };
    assert!(faults.contains(&found), "{found}");
    assert_eq!(halts(ledger), [], "a halt is reported once");
    assert_eq!(ledger.reserve(order_request(90, 1), after(20)).unwrap_err(), RiskRejection::Halted);
}

#[test]
fn the_files_are_checked_often_enough_to_stop_within_a_second() {
    // The session checks for losses every 500 ms.
    assert!(watch::CHECK_INTERVAL * watch::CHECKS_PER_PROBE <= Duration::from_millis(500));
}

#[test]
fn a_deleted_directory_stops_orders_even_after_a_resume() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    fs::remove_dir_all(machine.data()).unwrap();
    assert_stops(&mut ledger, StorageFault::Gone);
    ledger.resume(operator(), after(21));
    assert_eq!(
        ledger.reserve(order_request(2, 1), after(21)).unwrap_err(),
        RiskRejection::Unwritable
    );
    assert_eq!(halts(&mut ledger), [HaltReason::Storage(StorageFault::Gone)]);
}

#[test]
fn a_deleted_ledger_is_saved_to_a_copy_that_can_be_restored() {
    let machine = SimulatedMachine::new();
    let (data, state) = (machine.data(), machine.state());
    let mut ledger = machine.ready();
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    let in_flight = reserve(&mut ledger, order_request(2, 10), after(10));
    fs::remove_dir_all(&data).unwrap();
    let copy = copy_path(&state, &data);
    wait_until(|| copy.exists());
    // Later records are copied too.
    let _effects = ledger.settle(in_flight.key(), &BOUGHT, after(11)).unwrap();
    drop(ledger);
    let reader = LedgerReader::open_or_copy(&data, Some(&state)).unwrap();
    reader.verify().unwrap();
    let states: Vec<OrderState> =
        reader.state().intents().iter().map(|intent| intent.state).collect();
    assert_eq!(states, [OrderState::Bought, OrderState::Bought]);
    drop(reader);

    let error = machine.bound(&data, None).unwrap_err().to_string();
    assert!(error.contains(&format!("move its copy {copy:?}")), "{error}");
    fs::rename(&copy, data.join(DATABASE)).unwrap();
    let mut again = machine.ready();
    assert_eq!(
        (state_of(&again, 1), state_of(&again, 2)),
        (OrderState::Bought, OrderState::Bought)
    );
    assert_eq!(again.snapshot(after(20)).loss.count, 0, "the shutdown was clean");
    assert_eq!(
        again.reserve(order_request(1, 1), after(20)).unwrap_err(),
        RiskRejection::AlreadyRequested
    );
}

#[test]
fn a_ledger_that_is_deleted_while_it_is_unwritable_is_saved_to_a_copy_too() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    wait_until(|| fs::create_dir(machine.data().join("ledger.probe")).is_ok());
    assert_stops(&mut ledger, StorageFault::Unwritable);
    fs::remove_dir_all(machine.data()).unwrap();
    let copy = copy_path(&machine.state(), &machine.data());
    wait_until(|| copy.exists());
    assert_eq!(halts(&mut ledger), [HaltReason::Storage(StorageFault::Gone)]);
    drop(ledger);
    let reader = LedgerReader::open_or_copy(&machine.data(), Some(&machine.state())).unwrap();
    assert_eq!(reader.state().intents().len(), 1);
}

#[test]
fn a_directory_moved_away_and_back_is_used_again_after_a_resume() {
    let machine = SimulatedMachine::new();
    let (data, elsewhere) = (machine.data(), machine.top.path().join("elsewhere"));
    let mut ledger = machine.ready();
    fs::rename(&data, &elsewhere).unwrap();
    assert_stops(&mut ledger, StorageFault::Gone);
    let copy = copy_path(&machine.state(), &data);
    wait_until(|| copy.exists());
    // Meanwhile, records go to the open files.
    let _effects = ledger.set_balance(coins(999), after(20), after(20));
    wait_until(|| ledger.is_durable());
    fs::rename(&elsewhere, &data).unwrap();
    wait_until(|| ledger.failure().is_none());
    assert_eq!(ledger.reserve(order_request(1, 1), after(21)).unwrap_err(), RiskRejection::Halted);
    wait_until(|| !copy.exists());
    ledger.resume(operator(), after(22));
    let _approved = reserve(&mut ledger, order_request(1, 1), after(22));
    drop(ledger);
    let again = open(&data, "boot", after(30));
    assert_eq!(state_of(&again, 1), OrderState::Unknown, "no record is lost");
}

#[test]
fn a_replaced_directory_stops_orders_and_is_not_modified() {
    let machine = SimulatedMachine::new();
    let (data, elsewhere) = (machine.data(), machine.top.path().join("elsewhere"));
    let mut ledger = machine.ready();
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    wait_until(|| ledger.is_durable());
    fs::rename(&data, &elsewhere).unwrap();
    copy_folder(&elsewhere, &data);
    let log = data.join("ledger.db-wal");
    let before = (fs::read(data.join(DATABASE)).unwrap(), fs::read(&log).unwrap());
    // The directory was missing for a moment, so both faults are possible.
    assert_stops_with_one_of(&mut ledger, &[StorageFault::Gone, StorageFault::Replaced]);
    let failed = ledger.failure();
    let start = Instant::now();
    wait_until(|| start.elapsed() > watch::CHECK_INTERVAL * 3);
    assert_eq!((halts(&mut ledger), ledger.failure()), (vec![], failed), "one cause is one halt");
    drop(ledger);
    // SQLite removes the log by its path on close; that path now belongs to other files.
    assert_eq!((fs::read(data.join(DATABASE)).unwrap(), fs::read(&log).unwrap()), before);
}

#[test]
fn an_older_copy_restored_in_place_stops_orders_and_is_not_modified() {
    for name in [DATABASE, "ledger.db-wal"] {
        let machine = SimulatedMachine::new();
        let path = machine.data().join(name);
        let mut ledger = machine.ready();
        wait_until(|| ledger.is_durable());
        let older = fs::read(&path).unwrap();
        let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
        wait_until(|| ledger.is_durable());
        fs::write(&path, &older).unwrap();
        assert_stops(&mut ledger, StorageFault::Changed);
        let _effects = ledger.set_balance(coins(7), after(21), after(21));
        drop(ledger);
        assert_eq!(fs::read(&path).unwrap(), older, "{name}");
    }
}

#[test]
fn a_deleted_or_replaced_log_of_the_database_stops_orders() {
    for name in ["ledger.db-wal", "ledger.db-shm"] {
        for is_replaced in [false, true] {
            let machine = SimulatedMachine::new();
            let path = machine.data().join(name);
            let mut ledger = machine.ready();
            let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
            wait_until(|| ledger.is_durable());
            let fault = if is_replaced {
                let copy = machine.top.path().join("copy");
                fs::copy(&path, &copy).unwrap();
                fs::rename(&copy, &path).unwrap();
                StorageFault::Replaced
            } else {
                fs::remove_file(&path).unwrap();
                StorageFault::Gone
            };
            assert_stops(&mut ledger, fault);
        }
    }
}

#[test]
fn an_intent_file_zeroed_or_rolled_back_in_place_stops_orders() {
    for is_zeroed in [true, false] {
        let machine = SimulatedMachine::new();
        let path = machine.data().join(INTENT_FILE);
        let mut ledger = machine.ready();
        let older = fs::read(&path).unwrap();
        for n in 1..=3 {
            let _effects = place_order_when_ready(&mut ledger, n, &BOUGHT);
        }
        wait_until(|| ledger.is_durable());
        // Warming the caches rewrites the last record, which must not hide the change.
        fs::write(&path, if is_zeroed { vec![0; older.len()] } else { older }).unwrap();
        ledger.warm_caches(&order_request(50, 1), after(11));
        assert_stops(&mut ledger, StorageFault::Changed);
    }
}

/// Records behind the ones that are lost do not hide the loss.
#[test]
fn an_intent_file_rolled_back_between_two_orders_stops_orders() {
    let machine = SimulatedMachine::new();
    let path = machine.data().join(INTENT_FILE);
    let mut ledger = machine.ready();
    let older = fs::read(&path).unwrap();
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    wait_until(|| ledger.is_durable());
    let start = Instant::now();
    // The loss comes after a check, and the next order before the following one.
    wait_until(|| start.elapsed() > watch::CHECK_INTERVAL * 2);
    fs::write(&path, older).unwrap();
    if let Ok(approved) = ledger.reserve(order_request(2, 10), T0) {
        ledger.sent(approved.key(), T0).unwrap();
        let _effects = ledger.settle(approved.key(), &BOUGHT, T0).unwrap();
    }
    assert_stops(&mut ledger, StorageFault::Changed);
}

#[test]
fn a_foreign_writer_of_the_database_stops_orders_and_a_reader_does_not() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let foreign = Connection::open(machine.data().join(DATABASE)).unwrap();
    let start = Instant::now();
    wait_until(|| {
        let count: i64 =
            foreign.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        LedgerReader::open(&machine.data()).unwrap().verify().unwrap();
        count > 0 && start.elapsed() > watch::CHECK_INTERVAL * 4
    });
    assert_eq!(ledger.failure(), None);
    foreign.execute("UPDATE meta SET value = 0 WHERE key = 'applied'", []).unwrap();
    assert_stops(&mut ledger, StorageFault::Changed);
}

#[test]
fn an_unwritable_directory_stops_orders_until_it_is_writable() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    // No user, not even root, can create a file in place of a directory.
    let obstacle = machine.data().join("ledger.probe");
    wait_until(|| fs::create_dir(&obstacle).is_ok());
    assert_stops(&mut ledger, StorageFault::Unwritable);
    fs::remove_dir(&obstacle).unwrap();
    wait_until(|| ledger.failure().is_none());
    ledger.resume(operator(), after(21));
    let _approved = reserve(&mut ledger, order_request(1, 1), after(21));
}

#[test]
fn a_foreign_reader_cannot_make_the_databases_log_grow_without_bound() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let mut foreign = Connection::open(machine.data().join(DATABASE)).unwrap();
    let hold = foreign.transaction().unwrap();
    let _held: i64 = hold.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
    let mut balance = 1_000;
    wait_until(|| {
        for _ in 0..20 {
            balance += 1;
            let _effects = ledger.set_balance(coins(balance), after(11), after(11));
        }
        wait_until(|| ledger.is_durable() || ledger.failure().is_some());
        ledger.failure().is_some()
    });
    assert_stops(&mut ledger, StorageFault::LogFull);
    let log = machine.data().join("ledger.db-wal");
    let len = || fs::metadata(&log).unwrap().len();
    assert!(len() < 13 * 1024 * 1024, "{}", len());
    hold.rollback().unwrap();
    wait_until(|| ledger.failure().is_none());
    assert!(len() <= 6 * 1024 * 1024, "{}", len());
    ledger.resume(operator(), after(21));
    let _approved = reserve(&mut ledger, order_request(1, 1), after(21));
}

#[test]
fn a_lost_thread_stops_orders_and_is_named() {
    use crate::threads::ThreadName;

    let machine = SimulatedMachine::new();
    let live = machine.live(None);
    let location = location(&machine.data(), "boot");
    let mut ledger = Ledger::open_live(&location, &live, limits(), &entries(), after(10)).unwrap();
    ready(&mut ledger, after(10));
    live.alarm.mark_lost(ThreadName::Account);
    assert_eq!(
        ledger.reserve(order_request(1, 1), after(11)).unwrap_err(),
        RiskRejection::Unwritable
    );
    assert_eq!(halts(&mut ledger), [HaltReason::Thread(ThreadName::Account)]);
    let failure = ledger.failure().unwrap();
    assert!(
        failure.contains("a part of the bot failed: it reads the account (thread `account`)"),
        "{failure}"
    );
    ledger.resume(operator(), after(12));
    assert_eq!(
        halts(&mut ledger),
        [HaltReason::Thread(ThreadName::Account)],
        "the thread is still lost"
    );
}

/// Opens a crash image on the same boot.
fn open_after_kill(image: &TempDir) -> Ledger {
    let location = location(image.path(), "boot");
    Ledger::open(&location, limits(), &entries(), after(1)).unwrap()
}

#[test]
fn an_intent_file_changed_between_two_runs_counts_as_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let older = fs::read(folder.path().join(INTENT_FILE)).unwrap();
    for n in 1..=3 {
        let _effects = place_order_when_ready(&mut ledger, n, &BOUGHT);
    }
    wait_until(|| ledger.is_durable());
    let other = tempfile::tempdir().unwrap();
    let mut another = open(other.path(), "boot", T0);
    for n in 11..=16 {
        let _effects = place_order_when_ready(&mut another, n, &TAKEN);
    }
    let foreign = fs::read(other.path().join(INTENT_FILE)).unwrap();
    for changed in [vec![0; older.len()], older, foreign] {
        let image = crash_image(folder.path());
        fs::write(image.path().join(INTENT_FILE), changed).unwrap();
        let mut again = open_after_kill(&image);
        let snapshot = again.snapshot(after(1));
        assert!(snapshot.loss.count > 0, "{snapshot:?}");
        assert!(snapshot.spent <= coins(200), "within the limits");
        assert_eq!(again.state().intents().len(), 3, "no foreign record is taken over");
        drop(again);
        // The next start does not read foreign records either.
        assert_eq!(open_after_kill(&image).state().intents().len(), 3);
    }
    // The unchanged file loses nothing.
    assert_eq!(open_after_kill(&crash_image(folder.path())).state().loss().count, 0);
}

#[test]
fn after_a_clean_shutdown_the_intent_file_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _effects = place_order_when_ready(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    let path = folder.path().join(INTENT_FILE);
    fs::write(&path, vec![0; fs::read(&path).unwrap().len()]).unwrap();
    let again = open(folder.path(), "boot", after(1));
    assert_eq!((again.state().loss().count, state_of(&again, 1)), (0, OrderState::Bought));
}

mod modes {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn the_directory_and_every_file_are_private_to_the_owner() {
        let machine = SimulatedMachine::with_orders(1);
        let data = machine.data();
        set(&data.join(DATABASE), 0o644);
        let ledger = machine.ready();
        assert_eq!(mode(&data), 0o700);
        let mut files = 0;
        for folder in [&data, &machine.state()] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(mode(&path), 0o600, "{path:?}");
                files += 1;
            }
        }
        assert!(files >= 6, "database, its two files, intents, lock, mark: {files}");
        assert_eq!(mode(&machine.state()), 0o700);
        drop(ledger);
    }

    #[test]
    fn a_directory_writable_by_others_is_rejected_with_the_fix() {
        let machine = SimulatedMachine::with_orders(1);
        for open in [0o770, 0o707] {
            set(&machine.data(), open);
            let error = machine.open(&machine.data(), None).unwrap_err();
            assert!(error.to_string().contains("chmod go-w"), "{error}");
        }
        set(&machine.data(), 0o755);
        machine.open(&machine.data(), None).unwrap();
    }

    #[test]
    fn symbolic_links_are_not_followed() {
        for name in ["ledger.lock", INTENT_FILE, DATABASE] {
            let machine = SimulatedMachine::with_orders(1);
            let (path, target) = (machine.data().join(name), machine.top.path().join("target"));
            fs::rename(&path, &target).unwrap();
            symlink(&target, &path).unwrap();
            let error = machine.open(&machine.data(), None).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains("symbolic link"), "{name}: {error}: {source}");
        }
    }
}

#[test]
fn a_second_bot_for_the_account_is_rejected_in_any_directory() {
    let machine = SimulatedMachine::new();
    let first = machine.ready();
    let other = machine.top.path().join("other");
    let error = machine.bound(&other, None).unwrap_err();
    assert!(matches!(error, LedgerError::AccountInUse { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("/data\"") && text.contains(&std::process::id().to_string()), "{text}");
    assert!(!text.contains("another folder") && !text.contains("SNIPER_DATA to"), "{text}");
    let error = machine.open(&machine.data(), None).unwrap_err().to_string();
    assert!(error.contains("in use") && !error.contains("SNIPER_DATA"), "{error}");
    drop(first);
    let error = machine.bound(&other, None);
    // The first ledger has no order, but it is this account's ledger.
    assert!(matches!(error, Err(LedgerError::OtherLedger { .. })));
    machine.bound(&machine.data(), None).unwrap();
}

#[test]
fn a_lost_ledger_an_older_copy_and_an_unneeded_new_ledger_are_rejected() {
    let machine = SimulatedMachine::with_orders(1);
    let data = machine.data();
    let older = machine.top.path().join("older");
    copy_folder(&data, &older);
    let mut ledger = machine.ready();
    let _effects = place_order_when_ready(&mut ledger, 2, &BOUGHT);
    drop(ledger);
    let error = machine.open(&data, Some(NewLedger::Counted)).unwrap_err();
    assert!(matches!(error, LedgerError::LedgerComplete { .. }), "{error}");
    machine.bound(&data, None).unwrap();

    fs::remove_dir_all(&data).unwrap();
    copy_folder(&older, &data);
    let error = machine.bound(&data, None).unwrap_err();
    assert!(matches!(error, LedgerError::OlderCopy { found: 1, last: 2, .. }), "{error}");
    fs::remove_dir_all(&data).unwrap();
    let error = machine.bound(&data, None).unwrap_err();
    assert!(matches!(error, LedgerError::OtherLedger { last: 2, .. }), "{error}");
    assert!(error.to_string().contains("--new-ledger"), "{error}");
    // The empty ledger created by that attempt is bound to no account and still rejected.
    assert!(matches!(machine.bound(&data, None), Err(LedgerError::OtherLedger { .. })));
    machine.bound(&data, Some(NewLedger::Counted)).unwrap();
    machine.bound(&data, None).unwrap();
}

/// Ids of a reading on a market that states the number of the account, if any, beside a recipient.
fn ids<'a>(stated: Option<&'a str>, recipient: &'a str) -> AccountIds<'a> {
    AccountIds { stated, recipient: Some(recipient) }
}

#[test]
fn an_account_is_the_stated_id_whatever_its_recipient() {
    let machine = SimulatedMachine::new();
    let folders = ["first", "second", "third"].map(|name| machine.top.path().join(name));
    let start = |folder: &Path, stated, recipient| {
        let mut ledger = machine.open(folder, None)?;
        ledger.bind(ids(stated, recipient)).map(|()| ledger)
    };
    let first = start(&folders[0], Some("900"), "1001").unwrap();
    let second = start(&folders[1], Some("900"), "1002");
    assert!(matches!(second, Err(LedgerError::AccountInUse { .. })), "{second:?}");
    // A bot that does not know its account may be of any account with this recipient.
    let unknown = start(&folders[1], None, "1001");
    assert!(matches!(unknown, Err(LedgerError::AccountInUse { .. })), "{unknown:?}");
    // Another account may have the same recipient.
    let other = start(&folders[2], Some("901"), "1001").unwrap();
    drop((first, other));
    let other = start(&folders[0], Some("901"), "1001");
    assert!(matches!(other, Err(LedgerError::OtherAccount { .. })), "{other:?}");
    let second = start(&folders[1], Some("900"), "1002");
    assert!(matches!(second, Err(LedgerError::OtherLedger { .. })), "{second:?}");
    // No id is no evidence, and the account may have changed its recipient.
    for (stated, recipient) in [(None, "1001"), (None, "1002"), (Some("900"), "1002")] {
        start(&folders[0], stated, recipient).unwrap();
    }
}

#[test]
fn a_ledger_that_is_bound_to_the_recipient_learns_the_stated_id() {
    for is_earlier_version in [false, true] {
        let machine = SimulatedMachine::new();
        let (data, other) = (machine.data(), machine.top.path().join("other"));
        let start = |folder: &Path, ids: &[AccountIds<'_>]| {
            let mut ledger = machine.open(folder, None)?;
            ids.iter().try_for_each(|ids| ledger.bind(*ids)).map(|()| ledger)
        };
        if is_earlier_version {
            drop(start(&data, &[ids(None, "1001")]).unwrap());
            let database = Connection::open(data.join(DATABASE)).unwrap();
            let sql = "DELETE FROM meta WHERE key = 'user_stated'";
            assert_eq!(database.execute(sql, []).unwrap(), 1);
        }
        let changed = start(&data, &[ids(None, "1001"), ids(None, "1002")]);
        assert!(matches!(changed, Err(LedgerError::OtherAccount { .. })), "{changed:?}");
        let moved = start(&other, &[ids(Some("900"), "1001")]);
        assert!(matches!(moved, Err(LedgerError::OtherLedger { .. })), "{moved:?}");
        let running = match is_earlier_version {
            true => start(&data, &[ids(Some("900"), "1001")]).unwrap(),
            false => start(&data, &[ids(None, "1001"), ids(Some("900"), "1001")]).unwrap(),
        };
        assert_eq!(running.user(), Some("900"));
        let second = start(&other, &[ids(Some("900"), "1002")]);
        assert!(matches!(second, Err(LedgerError::AccountInUse { .. })), "{second:?}");
        drop(running);
        let changed = start(&data, &[ids(Some("901"), "1001")]);
        assert!(matches!(changed, Err(LedgerError::OtherAccount { .. })), "{changed:?}");
        start(&data, &[ids(None, "1001"), ids(Some("900"), "1001")]).unwrap();
        let second = start(&other, &[ids(Some("900"), "1002")]);
        assert!(matches!(second, Err(LedgerError::OtherLedger { .. })), "{second:?}");
        start(&other, &[ids(Some("901"), "1001")]).unwrap();
    }
}

#[test]
fn a_new_ledger_keeps_the_older_copy_that_it_replaces() {
    let machine = SimulatedMachine::with_older_copy();
    let data = machine.data();
    let new = machine.bound(&data, Some(NewLedger::NotCounted)).unwrap();
    assert_eq!(new.state().intents(), []);
    let kept = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.filter(|path| path.is_dir()).collect::<Vec<_>>();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(LedgerReader::open(&kept[0]).unwrap().state().intents().len(), 1);
}

#[test]
fn a_new_ledger_replaces_a_full_one() {
    for (last, is_full) in [(INTENTS_MAX - 1, false), (INTENTS_MAX, true)] {
        let machine = SimulatedMachine::with_orders(1);
        let database = Connection::open(machine.data().join(DATABASE)).unwrap();
        database.execute("UPDATE intents SET number = ?1", [last]).unwrap();
        drop(database);
        let new = machine.bound(&machine.data(), Some(NewLedger::Counted));
        assert_eq!(new.is_ok(), is_full, "{last}: {new:?}");
    }
    let rejection = RiskRejection::Full { max: INTENTS_MAX };
    assert!(rejection.to_string().contains("--new-ledger"), "{rejection}");
}

#[test]
fn a_new_ledger_that_cannot_count_purchases_is_created_only_without_counting() {
    let machine = SimulatedMachine::with_orders(1);
    let data = machine.data();
    fs::remove_dir_all(&data).unwrap();
    let open = |new_ledger| {
        let live = LiveOpen { listed_within: None, ..machine.live(new_ledger) };
        Ledger::open_live(&location(&data, "boot"), &live, limits(), &entries(), after(10))
    };
    for _ in 0..2 {
        let error = open(Some(NewLedger::Counted)).unwrap_err();
        assert!(matches!(error, LedgerError::NotCountable), "{error}");
        // An empty ledger, as a start without the flag leaves it.
        open(None).unwrap();
    }
    let mut new = open(Some(NewLedger::NotCounted)).unwrap();
    new.bind("account-1").unwrap();
    drop(new);
    // The existing ledger does not need a new one.
    let error = open(Some(NewLedger::Counted)).unwrap_err();
    assert!(matches!(error, LedgerError::LedgerComplete { .. }), "{error}");
}

#[test]
fn a_new_ledger_whose_start_ends_halfway_never_takes_over_records_of_the_old_one() {
    let machine = SimulatedMachine::with_older_copy();
    let data = machine.data();
    let stamp: String = after(10).to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    // A folder in the place of the file lets its move fail.
    let obstacle = data.join(format!("ledger-{stamp}")).join(INTENT_FILE);
    fs::create_dir_all(&obstacle).unwrap();
    let error = machine.open(&data, Some(NewLedger::Counted)).unwrap_err();
    assert!(matches!(error, LedgerError::File { action: "move", .. }), "{error}");
    assert!(data.join(DATABASE).exists() || !data.join(INTENT_FILE).exists());
    let error = machine.bound(&data, None).unwrap_err();
    assert!(matches!(error, LedgerError::OlderCopy { .. }), "{error}");
    fs::remove_dir(&obstacle).unwrap();
    let new = machine.bound(&data, Some(NewLedger::Counted)).unwrap();
    assert_eq!(new.state().intents(), []);
}

#[test]
fn a_new_ledger_counts_purchases_of_the_last_day_also_after_a_restart() {
    let own = |n, joined_at, status| OwnTrade {
        price: Some(coins(10)),
        joined_at,
        ..OwnTrade::bare(id(n), status)
    };
    let now = after(10);
    let day_ago = now.minus(COUNTED_BACK);
    let trades = [
        own(1, Some(now), TradeStatus::Completed),
        own(2, None, TradeStatus::Joined),
        own(3, Some(day_ago), TradeStatus::Joined),
        own(4, Some(day_ago.minus(Duration::from_millis(1))), TradeStatus::Joined),
        own(5, Some(now), TradeStatus::Cancelled),
    ];
    let reading = AccountReading { trades: &trades, complete: true, started: after(11) };
    for (new, counted) in [(NewLedger::Counted, [1, 2, 3].as_slice()), (NewLedger::NotCounted, &[])]
    {
        let machine = SimulatedMachine::with_orders(1);
        fs::remove_dir_all(machine.data()).unwrap();
        let ledger = machine.bound(&machine.data(), Some(new)).unwrap();
        assert_eq!(ledger.oldest_open(), Some(day_ago).filter(|_| new == NewLedger::Counted));
        drop(ledger);
        let mut ledger = machine.bound(&machine.data(), None).unwrap();
        let effects = ledger.reconcile(&reading, Some(coins(1_000)), after(12));
        assert_eq!(effects.halts, []);
        let found: Vec<TradeId> = ledger.state().intents().iter().map(|one| one.id).collect();
        assert_eq!(found, counted.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{new:?}");
        let spent = coins(10 * i64::try_from(counted.len()).unwrap());
        assert_eq!(ledger.snapshot(after(12)).spent, spent);
        assert_eq!(ledger.oldest_open().is_some(), !counted.is_empty(), "only what is open");
        // A purchase that appears later was not made by this bot.
        let late = [own(9, Some(after(13)), TradeStatus::Joined)];
        let reading = AccountReading { trades: &late, complete: true, started: after(14) };
        let effects = ledger.reconcile(&reading, None, after(14));
        assert_eq!(
            effects.halts[0].reason,
            HaltReason::UnexpectedPurchase { id: id(9), price: Some(coins(10)) }
        );
    }
}

#[test]
fn a_kill_never_leaves_a_mark_that_is_ahead_of_its_ledger() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    for n in 1..=20 {
        let _effects = place_order_when_ready(&mut ledger, n, &TAKEN);
        if n % 5 == 0 {
            let image = crash_image(&machine.data());
            let mark = fs::read(mark_file(&machine)).unwrap();
            let copied = SimulatedMachine::new();
            fs::create_dir_all(copied.state()).unwrap();
            let name = mark_file(&machine).file_name().unwrap().to_owned();
            fs::write(copied.state().join(name), mark).unwrap();
            copied.bound(image.path(), None).unwrap();
        }
    }
    let last = || -> serde_json::Value {
        serde_json::from_slice(&fs::read(mark_file(&machine)).unwrap()).unwrap()
    };
    wait_until(|| last()["last"] == 20);
}

fn mark_file(machine: &SimulatedMachine) -> PathBuf {
    let paths = fs::read_dir(machine.state()).unwrap().map(|entry| entry.unwrap().path());
    paths.into_iter().find(|path| path.extension().is_some_and(|name| name == "mark")).unwrap()
}

#[test]
fn a_ledger_of_an_older_version_gets_an_id_and_a_mark() {
    let machine = SimulatedMachine::with_orders(1);
    fs::remove_dir_all(machine.state()).unwrap();
    let database = Connection::open(machine.data().join(DATABASE)).unwrap();
    database.execute("DELETE FROM meta WHERE key = 'ledger'", []).unwrap();
    drop(database);
    machine.bound(&machine.data(), None).unwrap();
    assert!(mark_file(&machine).exists());
    machine.bound(&machine.data(), None).unwrap();
}
