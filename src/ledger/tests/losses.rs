//! What happens when the files of a ledger are deleted, replaced, rolled back or kept from it, while
//! a bot runs and between two runs; and what the account's mark knows of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    disk::{
        buy_kept, entries, image, limits, open, place, ready, reserve, state as state_of,
        wait_until,
    },
    *,
};
use crate::{
    domain::trade::TradeStatus,
    ledger::{
        fault::StorageFault,
        mark::copy_path,
        open::{COUNTED_BACK, DATABASE, INTENT_FILE},
        reader::LedgerReader,
        watch,
    },
};

/// A machine with a state directory and a place for the data directory.
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
        LiveOpen { state: Some(self.state()), new_ledger, ..LiveOpen::default() }
    }

    fn open(&self, data: &Path, new_ledger: Option<NewLedger>) -> Result<Ledger, LedgerError> {
        let live = self.live(new_ledger);
        Ledger::open_live(&place(data, "boot"), &live, limits(), &entries(), after(10))
    }

    /// Opens the ledger and binds it to the account.
    fn bound(&self, data: &Path, new_ledger: Option<NewLedger>) -> Result<Ledger, LedgerError> {
        let mut ledger = self.open(data, new_ledger)?;
        ledger.bind("account-1").map(|()| ledger)
    }

    /// A ledger that is ready to order.
    fn ready(&self) -> Ledger {
        let mut ledger = self.bound(&self.data(), None).unwrap();
        ready(&mut ledger, after(10));
        ledger
    }

    /// A ledger with orders on record, closed in order.
    fn with_orders(orders: u32) -> Self {
        let machine = Self::new();
        let mut ledger = machine.ready();
        for n in 1..=orders {
            let _nothing = buy_kept(&mut ledger, n, &BOUGHT);
        }
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

fn halts(ledger: &mut Ledger) -> Vec<HaltReason> {
    let aftermath = ledger.check_losses(after(20));
    aftermath.halts.iter().map(|halt| halt.reason).collect()
}

/// Waits for a halt with this reason, and checks that nothing is approved.
#[track_caller]
fn stops(ledger: &mut Ledger, fault: StorageFault) {
    stops_with_one_of(ledger, &[fault]);
}

#[track_caller]
fn stops_with_one_of(ledger: &mut Ledger, faults: &[StorageFault]) {
    let names = |failure: &str| faults.iter().any(|fault| failure.contains(&fault.to_string()));
    wait_until(|| ledger.failure().is_some_and(|failure| names(&failure)));
    assert_eq!(
        ledger.reserve(want(90, 1), after(20)).unwrap_err(),
        RiskRejection::Unwritable,
        "at once"
    );
    let [HaltReason::Storage(found)] = halts(ledger)[..] else { panic!("not one halt") };
    assert!(faults.contains(&found), "{found}");
    assert_eq!(halts(ledger), [], "it is reported once");
    assert_eq!(ledger.reserve(want(90, 1), after(20)).unwrap_err(), RiskRejection::Halted);
}

#[test]
fn the_files_are_looked_at_often_enough_to_stop_within_a_second() {
    // And the session asks for losses every half a second.
    assert!(watch::EVERY * watch::LOOKS_PER_PROBE <= Duration::from_millis(500));
}

#[test]
fn a_directory_that_is_deleted_stops_orders_and_a_resume_does_not_help() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    fs::remove_dir_all(machine.data()).unwrap();
    stops(&mut ledger, StorageFault::Gone);
    ledger.resume(me(), after(21));
    assert_eq!(ledger.reserve(want(2, 1), after(21)).unwrap_err(), RiskRejection::Unwritable);
    assert_eq!(halts(&mut ledger), [HaltReason::Storage(StorageFault::Gone)]);
}

#[test]
fn what_a_deleted_ledger_knew_is_in_a_copy_that_can_be_put_back() {
    let machine = SimulatedMachine::new();
    let (data, state) = (machine.data(), machine.state());
    let mut ledger = machine.ready();
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    let in_flight = reserve(&mut ledger, want(2, 10), after(10));
    fs::remove_dir_all(&data).unwrap();
    let copy = copy_path(&state, &data);
    wait_until(|| copy.exists());
    // What happens afterwards gets there, too.
    let _nothing = ledger.settle(in_flight.id(), &BOUGHT, after(11)).unwrap();
    drop(ledger);
    let archive = LedgerReader::open_or_copy(&data, Some(&state)).unwrap();
    archive.verify().unwrap();
    let states: Vec<OrderState> =
        archive.book().intents().iter().map(|intent| intent.state).collect();
    assert_eq!(states, [OrderState::Bought, OrderState::Bought]);
    drop(archive);

    let refused = machine.bound(&data, None).unwrap_err().to_string();
    assert!(refused.contains(&format!("move its copy {copy:?}")), "{refused}");
    fs::rename(&copy, data.join(DATABASE)).unwrap();
    let mut again = machine.ready();
    assert_eq!(
        (state_of(&again, 1), state_of(&again, 2)),
        (OrderState::Bought, OrderState::Bought)
    );
    assert_eq!(again.snapshot(after(20)).loss.count, 0, "it was closed in order");
    assert_eq!(again.reserve(want(1, 1), after(20)).unwrap_err(), RiskRejection::AlreadyRequested);
}

#[test]
fn a_directory_that_was_moved_and_comes_back_is_used_again_once_a_person_resumes() {
    let machine = SimulatedMachine::new();
    let (data, elsewhere) = (machine.data(), machine.top.path().join("elsewhere"));
    let mut ledger = machine.ready();
    fs::rename(&data, &elsewhere).unwrap();
    stops(&mut ledger, StorageFault::Gone);
    let copy = copy_path(&machine.state(), &data);
    wait_until(|| copy.exists());
    // What is written meanwhile goes to the files that are held.
    let _nothing = ledger.set_balance(coins(999), after(20), after(20));
    wait_until(|| ledger.is_durable());
    fs::rename(&elsewhere, &data).unwrap();
    wait_until(|| ledger.failure().is_none());
    assert_eq!(ledger.reserve(want(1, 1), after(21)).unwrap_err(), RiskRejection::Halted);
    wait_until(|| !copy.exists());
    ledger.resume(me(), after(22));
    let _approved = reserve(&mut ledger, want(1, 1), after(22));
    drop(ledger);
    let again = open(&data, "boot", after(30));
    assert_eq!(state_of(&again, 1), OrderState::Unknown, "nothing was lost meanwhile");
}

#[test]
fn a_directory_that_was_replaced_stops_orders_and_is_left_as_it_is() {
    let machine = SimulatedMachine::new();
    let (data, elsewhere) = (machine.data(), machine.top.path().join("elsewhere"));
    let mut ledger = machine.ready();
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    wait_until(|| ledger.is_durable());
    fs::rename(&data, &elsewhere).unwrap();
    copy_folder(&elsewhere, &data);
    let log = data.join("ledger.db-wal");
    let before = (fs::read(data.join(DATABASE)).unwrap(), fs::read(&log).unwrap());
    // For a moment there was no directory.
    stops_with_one_of(&mut ledger, &[StorageFault::Gone, StorageFault::Replaced]);
    let failed = ledger.failure();
    let began = Instant::now();
    wait_until(|| began.elapsed() > watch::EVERY * 3);
    assert_eq!((halts(&mut ledger), ledger.failure()), (vec![], failed), "one cause is one halt");
    drop(ledger);
    // Closing a database removes its log by its path, and that is another one's now.
    assert_eq!((fs::read(data.join(DATABASE)).unwrap(), fs::read(&log).unwrap()), before);
}

#[test]
fn an_older_copy_that_is_restored_in_place_stops_orders_and_is_not_written_to() {
    for name in [DATABASE, "ledger.db-wal"] {
        let machine = SimulatedMachine::new();
        let path = machine.data().join(name);
        let mut ledger = machine.ready();
        wait_until(|| ledger.is_durable());
        let older = fs::read(&path).unwrap();
        let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
        wait_until(|| ledger.is_durable());
        fs::write(&path, &older).unwrap();
        stops(&mut ledger, StorageFault::Changed);
        let _nothing = ledger.set_balance(coins(7), after(21), after(21));
        drop(ledger);
        assert_eq!(fs::read(&path).unwrap(), older, "{name}");
    }
}

#[test]
fn an_intents_file_that_is_zeroed_or_rolled_back_in_place_stops_orders() {
    for is_zeroed in [true, false] {
        let machine = SimulatedMachine::new();
        let path = machine.data().join(INTENT_FILE);
        let mut ledger = machine.ready();
        let older = fs::read(&path).unwrap();
        for n in 1..=3 {
            let _nothing = buy_kept(&mut ledger, n, &BOUGHT);
        }
        wait_until(|| ledger.is_durable());
        // A rehearsal writes the last record again, which must not hide what happened.
        fs::write(&path, if is_zeroed { vec![0; older.len()] } else { older }).unwrap();
        ledger.rehearse(&want(50, 1), after(11));
        stops(&mut ledger, StorageFault::Changed);
    }
}

#[test]
fn a_program_that_writes_to_the_database_stops_orders_and_one_that_reads_does_not() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    let foreign = Connection::open(machine.data().join(DATABASE)).unwrap();
    let began = Instant::now();
    wait_until(|| {
        let count: i64 =
            foreign.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap();
        LedgerReader::open(&machine.data()).unwrap().verify().unwrap();
        count > 0 && began.elapsed() > watch::EVERY * 4
    });
    assert_eq!(ledger.failure(), None);
    foreign.execute("UPDATE meta SET value = 0 WHERE key = 'applied'", []).unwrap();
    stops(&mut ledger, StorageFault::Changed);
}

#[test]
fn a_directory_that_accepts_no_write_stops_orders_until_it_does() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    // Also root cannot create a file where a directory is.
    let obstacle = machine.data().join("ledger.probe");
    wait_until(|| fs::create_dir(&obstacle).is_ok());
    stops(&mut ledger, StorageFault::Unwritable);
    fs::remove_dir(&obstacle).unwrap();
    wait_until(|| ledger.failure().is_none());
    ledger.resume(me(), after(21));
    let _approved = reserve(&mut ledger, want(1, 1), after(21));
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
            let _nothing = ledger.set_balance(coins(balance), after(11), after(11));
        }
        wait_until(|| ledger.is_durable() || ledger.failure().is_some());
        ledger.failure().is_some()
    });
    stops(&mut ledger, StorageFault::LogFull);
    let log = machine.data().join("ledger.db-wal");
    let len = || fs::metadata(&log).unwrap().len();
    assert!(len() < 13 * 1024 * 1024, "{}", len());
    hold.rollback().unwrap();
    wait_until(|| ledger.failure().is_none());
    assert!(len() <= 6 * 1024 * 1024, "{}", len());
    ledger.resume(me(), after(21));
    let _approved = reserve(&mut ledger, want(1, 1), after(21));
}

#[test]
fn a_lost_thread_stops_orders_and_is_named() {
    use crate::threads::ThreadName;

    let machine = SimulatedMachine::new();
    let live = machine.live(None);
    let place = place(&machine.data(), "boot");
    let mut ledger = Ledger::open_live(&place, &live, limits(), &entries(), after(10)).unwrap();
    ready(&mut ledger, after(10));
    live.alarm.lose(ThreadName::Account);
    assert_eq!(ledger.reserve(want(1, 1), after(11)).unwrap_err(), RiskRejection::Unwritable);
    assert_eq!(halts(&mut ledger), [HaltReason::Thread(ThreadName::Account)]);
    let failure = ledger.failure().unwrap();
    assert!(failure.contains("the thread `account` panicked or ended"), "{failure}");
    ledger.resume(me(), after(12));
    assert_eq!(halts(&mut ledger), [HaltReason::Thread(ThreadName::Account)], "it is still lost");
}

/// Opens what a kill left, on the same boot, after the intents file was changed.
fn after_a_kill(image: &TempDir) -> Ledger {
    let place = place(image.path(), "boot");
    Ledger::open(&place, limits(), &entries(), after(1)).unwrap()
}

#[test]
fn an_intents_file_that_was_changed_between_two_runs_counts_as_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let older = fs::read(folder.path().join(INTENT_FILE)).unwrap();
    for n in 1..=3 {
        let _nothing = buy_kept(&mut ledger, n, &BOUGHT);
    }
    wait_until(|| ledger.is_durable());
    let other = tempfile::tempdir().unwrap();
    let mut another = open(other.path(), "boot", T0);
    for n in 11..=16 {
        let _nothing = buy_kept(&mut another, n, &TAKEN);
    }
    let foreign = fs::read(other.path().join(INTENT_FILE)).unwrap();
    for changed in [vec![0; older.len()], older, foreign] {
        let image = image(folder.path());
        fs::write(image.path().join(INTENT_FILE), changed).unwrap();
        let mut again = after_a_kill(&image);
        let snapshot = again.snapshot(after(1));
        assert!(snapshot.loss.count > 0, "{snapshot:?}");
        assert!(snapshot.spent <= coins(200), "within the limits");
        assert_eq!(again.book().intents().len(), 3, "nothing foreign is taken over");
        drop(again);
        // Nor by the start after.
        assert_eq!(after_a_kill(&image).book().intents().len(), 3);
    }
    // As it is, nothing is lost.
    assert_eq!(after_a_kill(&image(folder.path())).book().loss().count, 0);
}

#[test]
fn after_a_stop_in_order_the_intents_file_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let _nothing = buy_kept(&mut ledger, 1, &BOUGHT);
    drop(ledger);
    let path = folder.path().join(INTENT_FILE);
    fs::write(&path, vec![0; fs::read(&path).unwrap().len()]).unwrap();
    let again = open(folder.path(), "boot", after(1));
    assert_eq!((again.book().loss().count, state_of(&again, 1)), (0, OrderState::Bought));
}

#[cfg(unix)]
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
    fn every_file_and_the_directory_are_for_their_owner_alone() {
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
    fn a_directory_that_others_may_write_is_refused_with_what_to_run() {
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
fn a_second_bot_for_the_account_is_refused_whatever_its_directory() {
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
    // The first never ordered, and yet it was this account's ledger.
    assert!(matches!(error, Err(LedgerError::Forgotten { .. })));
    machine.bound(&machine.data(), None).unwrap();
}

#[test]
fn a_ledger_that_is_lost_or_an_older_copy_is_refused_and_so_is_a_new_one_that_is_not_needed() {
    let machine = SimulatedMachine::with_orders(1);
    let data = machine.data();
    let older = machine.top.path().join("older");
    copy_folder(&data, &older);
    let mut ledger = machine.ready();
    let _nothing = buy_kept(&mut ledger, 2, &BOUGHT);
    drop(ledger);
    let error = machine.open(&data, Some(NewLedger::Counted)).unwrap_err();
    assert!(matches!(error, LedgerError::NotNeeded { .. }), "{error}");
    machine.bound(&data, None).unwrap();

    fs::remove_dir_all(&data).unwrap();
    copy_folder(&older, &data);
    let error = machine.bound(&data, None).unwrap_err();
    assert!(matches!(error, LedgerError::Older { found: 1, last: 2, .. }), "{error}");
    fs::remove_dir_all(&data).unwrap();
    let error = machine.bound(&data, None).unwrap_err();
    assert!(matches!(error, LedgerError::Forgotten { last: 2, .. }), "{error}");
    assert!(error.to_string().contains("--new-ledger"), "{error}");
    // The empty ledger that was begun then belongs to nobody and is still refused.
    assert!(matches!(machine.bound(&data, None), Err(LedgerError::Forgotten { .. })));
    machine.bound(&data, Some(NewLedger::Counted)).unwrap();
    machine.bound(&data, None).unwrap();
}

#[test]
fn a_new_ledger_keeps_the_older_copy_that_it_replaces() {
    let machine = SimulatedMachine::with_orders(1);
    let data = machine.data();
    let older = machine.top.path().join("older");
    copy_folder(&data, &older);
    let mut ledger = machine.ready();
    let _nothing = buy_kept(&mut ledger, 2, &BOUGHT);
    drop(ledger);
    fs::remove_dir_all(&data).unwrap();
    copy_folder(&older, &data);
    let new = machine.bound(&data, Some(NewLedger::NotCounted)).unwrap();
    assert_eq!(new.book().intents(), []);
    let kept = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.filter(|path| path.is_dir()).collect::<Vec<_>>();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(LedgerReader::open(&kept[0]).unwrap().book().intents().len(), 1);
}

#[test]
fn a_new_ledger_counts_what_was_bought_within_a_day_also_after_a_restart() {
    let own =
        |n, joined_at, status| OwnTrade { id: id(n), status, price: Some(coins(10)), joined_at };
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
        let aftermath = ledger.reconcile(&reading, Some(coins(1_000)), after(12));
        assert_eq!(aftermath.halts, []);
        let found: Vec<TradeId> = ledger.book().intents().iter().map(|one| one.id).collect();
        assert_eq!(found, counted.iter().map(|n| id(*n)).collect::<Vec<_>>(), "{new:?}");
        let spent = coins(10 * i64::try_from(counted.len()).unwrap());
        assert_eq!(ledger.snapshot(after(12)).spent, spent);
        assert_eq!(ledger.oldest_open().is_some(), !counted.is_empty(), "only what is open");
        // A purchase that turns up later was made by somebody else.
        let late = [own(9, Some(after(13)), TradeStatus::Joined)];
        let reading = AccountReading { trades: &late, complete: true, started: after(14) };
        let aftermath = ledger.reconcile(&reading, None, after(14));
        assert_eq!(aftermath.halts[0].reason, HaltReason::Unintended { id: id(9) });
    }
}

#[test]
fn a_kill_never_leaves_a_mark_that_is_ahead_of_its_ledger() {
    let machine = SimulatedMachine::new();
    let mut ledger = machine.ready();
    for n in 1..=20 {
        let _nothing = buy_kept(&mut ledger, n, &TAKEN);
        if n % 5 == 0 {
            let image = image(&machine.data());
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
