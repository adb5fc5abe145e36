//! Tests of ages and windows after the wall clock was set.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{
    proofs::{own_trade, reading},
    *,
};
use crate::ledger::{
    open::{DATABASE, DATABASE_LOG},
    reader::LedgerReader,
    record::Record,
};

#[test]
fn a_clock_change_frees_nothing_by_age_until_the_account_is_read_again() {
    let limits = Budget { per_hour: Some(coins(10)), ..budget() };
    let mut ledger = ledger(limits);
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    ledger.mark_clock_unreliable(after(2));
    let hour = RiskRejection::PerHour { spent: coins(10), price: coins(1), max: coins(10) };
    assert_rejected(&mut ledger, order_request(2, 1), after(7_200), hour);
    let listed = [own_trade(1, TradeStatus::Other)];
    let _effects = ledger.reconcile(&reading(&listed, 7_201), Some(coins(100)), after(7_201));
    let _approved = ledger.reserve(order_request(2, 1), after(7_202)).unwrap();
}

#[test]
fn after_a_clock_change_a_list_without_a_new_balance_frees_nothing_by_age() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], true);
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    ledger.mark_clock_unreliable(after(2));
    let _effects = ledger.reconcile(&reading(&[], 3), None, after(3));
    assert!(ledger.state().is_clock_unreliable());
    let _effects = ledger.reconcile(&reading(&[], 4), Some(coins(90)), after(4));
    assert!(!ledger.state().is_clock_unreliable());
}

#[test]
fn a_clock_change_keeps_every_window_until_a_later_complete_list() {
    let far = 30 * 86_400;
    for limits in [
        Budget { max_buys_per_minute: 1, ..budget() },
        Budget { per_hour: Some(coins(10)), ..budget() },
        Budget { per_day: Some(coins(10)), ..budget() },
    ] {
        let mut ledger = ledger(limits);
        let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
        ledger.mark_clock_unreliable(after(10));
        let listed = [own_trade(1, TradeStatus::Joined)];
        let partial = AccountReading { complete: false, ..reading(&listed, far) };
        for (reading, is_kept) in
            [(reading(&listed, 10), true), (partial, true), (reading(&listed, far), false)]
        {
            let _effects = ledger.reconcile(&reading, None, after(far));
            let approved = ledger.reserve(order_request(2, 1), after(far));
            assert_eq!(approved.is_err(), is_kept, "{reading:?}");
        }
    }
}

#[test]
fn an_order_approved_while_the_clock_was_behind_hides_no_earlier_one_from_look_ups() {
    let mut ledger = ledger(budget());
    for (number, second) in [(1, 1_000), (2, 10), (3, 1_001)] {
        let _effects = place_order(&mut ledger, order_request(number, 1), &BOUGHT, after(second));
    }
    let looked_up = ledger.state().followed_up_since(after(500));
    let ids: Vec<_> = looked_up.map(|(order, _is_completed)| order.id).collect();
    assert_eq!(ids, [id(3), id(1)]);
}

#[test]
fn the_first_list_after_a_clock_change_proves_no_absence() {
    let mut ledger = ledger(budget());
    let _effects = ledger.reconcile(&reading(&[], 0), Some(coins(100)), T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(1));
    ledger.mark_clock_unreliable(after(2));
    for (second, state) in [(100, OrderState::Unknown), (101, OrderState::NotBought)] {
        let _effects = ledger.reconcile(&reading(&[], second), Some(coins(100)), after(second));
        assert_eq!(ledger.state().intent(&id(1)).unwrap().state, state, "at {second} s");
    }
}

#[test]
fn an_order_approved_after_a_clock_change_frees_nothing_by_age_either() {
    let limits = Budget { per_hour: Some(coins(10)), max_buys_per_minute: 3, ..budget() };
    let mut ledger = ledger(limits);
    for n in [1, 2] {
        let _effects = place_order(&mut ledger, order_request(n, 4), &BOUGHT, T0);
    }
    ledger.mark_clock_unreliable(after(1));
    let _effects = place_order(&mut ledger, order_request(3, 1), &BOUGHT, after(7_200));
    let hour = RiskRejection::PerHour { spent: coins(9), price: coins(2), max: coins(10) };
    assert_rejected(&mut ledger, order_request(4, 2), after(7_200), hour);
    let minute = RiskRejection::PerMinute { sent: 3, max: 3 };
    assert_rejected(&mut ledger, order_request(4, 1), after(7_200), minute);
    let _effects = ledger.reconcile(&reading(&[], 7_201), None, after(7_201));
    let _approved = ledger.reserve(order_request(4, 9), after(7_201)).unwrap();
}

#[test]
fn records_of_a_clock_that_was_ahead_count_from_the_start() {
    let mut ledger = ledger(Budget { per_hour: Some(coins(10)), ..budget() });
    let _effects = ledger.reconcile(&reading(&[], 9_000), Some(coins(100)), after(9_000));
    let _effects = place_order(&mut ledger, order_request(1, 10), &UNKNOWN, after(10_000));
    restart(&mut ledger, after(100));
    let hour = RiskRejection::PerHour { spent: coins(10), price: coins(1), max: coins(10) };
    assert_rejected(&mut ledger, order_request(2, 1), after(150), hour);
    for (second, state) in [(159, OrderState::Unknown), (160, OrderState::NotBought)] {
        let _effects = ledger.reconcile(&reading(&[], second), Some(coins(100)), after(second));
        assert_eq!(ledger.state().intent(&id(1)).unwrap().state, state, "at {second} s");
    }
}

#[test]
fn an_order_of_a_clock_that_was_ahead_leaves_the_windows_one_width_after_the_start() {
    let mut ledger = ledger(Budget { per_hour: Some(coins(10)), ..budget() });
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(10_000));
    restart(&mut ledger, after(100));
    let hour = RiskRejection::PerHour { spent: coins(10), price: coins(1), max: coins(10) };
    assert_rejected(&mut ledger, order_request(2, 1), after(3_699), hour);
    let _approved = ledger.reserve(order_request(2, 1), after(3_700)).unwrap();
}

#[test]
fn a_delivered_order_of_a_clock_that_was_ahead_is_released_by_its_refund() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], true);
    let _effects = ledger.reconcile(&reading(&[], 9_900), Some(coins(100)), after(9_900));
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(10_000));
    let _delivered = ledger.observe(&id(1), TradeStatus::Completed, after(10_030));
    let _effects = ledger.set_balance(coins(90), after(10_061), after(10_061));
    restart(&mut ledger, after(100));
    let cancelled = [own_trade(1, TradeStatus::Cancelled)];
    for second in [161, 222] {
        let reading = reading(&cancelled, second);
        let _effects = ledger.reconcile(&reading, Some(coins(100)), after(second));
    }
    assert_eq!(ledger.state().intent(&id(1)).unwrap().state, OrderState::Returned);
}

/// A refund of the first order could hide the charge of the second one.
#[test]
fn a_purchase_of_a_clock_that_was_ahead_must_be_listed_before_an_absence_counts() {
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], true);
    ledger.state.has_list = true;
    let _effects = ledger.reconcile(&reading(&[], 9_900), Some(coins(100)), after(9_900));
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(10_000));
    let _effects = ledger.reconcile(&reading(&[], 10_061), Some(coins(90)), after(10_061));
    restart(&mut ledger, after(100));
    let _effects = ledger.reconcile(&reading(&[], 101), Some(coins(90)), after(101));
    let _effects = place_order(&mut ledger, order_request(2, 10), &UNKNOWN, after(102));
    let listed = own_trade(1, TradeStatus::Joined);
    for (second, trades, state) in [
        (163, vec![], OrderState::Unknown),
        (224, vec![], OrderState::Unknown),
        (285, vec![listed], OrderState::NotBought),
    ] {
        let _effects = ledger.reconcile(&reading(&trades, second), Some(coins(90)), after(second));
        assert_eq!(ledger.state().intent(&id(2)).unwrap().state, state, "at {second} s");
    }
}

#[test]
fn a_second_clock_change_frees_nothing_before_a_read_that_began_after_it() {
    let mut ledger = ledger(Budget { per_hour: Some(coins(10)), ..budget() });
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, after(1));
    ledger.mark_clock_unreliable(after(2));
    ledger.mark_clock_unreliable(after(7_200));
    let listed = [own_trade(1, TradeStatus::Joined)];
    for (second, is_kept) in [(7_200, true), (7_201, false)] {
        let approved = ledger.reserve(order_request(2, 1), after(7_300));
        assert!(approved.is_err(), "before the read at {second} s");
        let _effects = ledger.reconcile(&reading(&listed, second), None, after(7_300));
        let approved = ledger.reserve(order_request(2, 1), after(7_300));
        assert_eq!(approved.is_err(), is_kept, "after the read at {second} s");
    }
}

/// Opens a ledger that permits 10 coins per hour.
fn open_at(folder: &Path, boot: &str, uptime_s: u64, now: UnixMs) -> Ledger {
    let limits = Budget { per_hour: Some(coins(10)), ..disk::limits() };
    let uptime_ms = Some(uptime_s * 1_000);
    let location = LedgerLocation { uptime_ms, ..disk::location(folder, boot) };
    let mut ledger = Ledger::open(&location, limits, &disk::entries(), now).unwrap();
    disk::ready(&mut ledger, now);
    disk::wait_until(|| ledger.is_limit_durable());
    ledger
}

/// Places an order for 10 coins at the uptime of 9,000 s of the first boot.
fn with_order_of_first_boot() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open_at(folder.path(), "boot-1", 9_000, T0);
    let _effects = place_order(&mut ledger, order_request(1, 10), &BOUGHT, T0);
    folder
}

/// Returns `true` if the order still counts in the hour that ends now.
fn counts(ledger: &mut Ledger, now: UnixMs) -> bool {
    let fresh = OrderRequest { created_at: Some(now), ..order_request(2, 1) };
    let rejected = ledger.reserve(fresh, now).err();
    let hour = RiskRejection::PerHour { spent: coins(10), price: coins(1), max: coins(10) };
    assert!(rejected.is_none() || rejected == Some(hour), "{rejected:?}");
    rejected.is_some()
}

/// The clock was right at the first start on this boot, and set forward by two hours after it.
#[test]
fn a_clock_that_was_set_forward_does_not_age_orders_of_the_boot_before() {
    let folder = with_order_of_first_boot();
    drop(open_at(folder.path(), "boot-2", 60, after(600)));
    for (minutes, is_counted) in [(49, true), (51, false)] {
        let now = after(600 + 7_200 + minutes * 60);
        let mut ledger = open_at(folder.path(), "boot-2", 60 + minutes * 60, now);
        assert_eq!(counts(&mut ledger, now), is_counted, "after {minutes} minutes");
    }
}

/// The clock was set forward by two hours between the order and the next start, 60 s after it.
#[test]
fn a_clock_that_was_set_forward_between_two_starts_does_not_age_orders_after_a_reboot() {
    let folder = with_order_of_first_boot();
    drop(open_at(folder.path(), "boot-1", 9_060, after(7_200 + 60)));
    for (boot, minutes, is_counted) in
        [("boot-2", 20, true), ("boot-2", 59, true), ("boot-3", 61, false)]
    {
        let now = after(7_200 + minutes * 60);
        let mut ledger = open_at(folder.path(), boot, minutes * 60, now);
        assert_eq!(counts(&mut ledger, now), is_counted, "after {minutes} minutes");
    }
}

/// The clock of the second start on the first boot was ten days ahead.
#[test]
fn an_order_before_a_clock_that_was_ahead_counts_for_at_most_one_width_after_the_next_boot() {
    let folder = with_order_of_first_boot();
    drop(open_at(folder.path(), "boot-1", 9_060, after(10 * 86_400 + 60)));
    drop(open_at(folder.path(), "boot-2", 60, after(7_000)));
    drop(open_at(folder.path(), "boot-2", 2_060, after(9_000)));
    let now = after(7_000 + 3_601);
    assert!(!counts(&mut open_at(folder.path(), "boot-2", 3_661, now), now));
}

/// The clock was two hours behind at the first start on each boot, and right at the last one.
#[test]
fn an_order_counts_through_two_boots_that_begin_with_a_clock_that_is_behind() {
    let folder = with_order_of_first_boot();
    drop(open_at(folder.path(), "boot-1", 9_060, after(7_200 + 60)));
    drop(open_at(folder.path(), "boot-2", 60, after(600)));
    for (minutes, is_counted) in [(20, true), (59, true), (75, false)] {
        let now = after(7_200 + minutes * 60);
        let mut ledger = open_at(folder.path(), "boot-2", 60 + (minutes - 10) * 60, now);
        assert_eq!(counts(&mut ledger, now), is_counted, "after {minutes} minutes");
    }
}

/// The clock was set forward by two hours before the second start on the first boot, which only the
/// intent file contains.
#[test]
fn a_start_that_only_the_intent_file_contains_moves_the_orders_before_it() {
    let folder = with_order_of_first_boot();
    let database = fs::read(folder.path().join(DATABASE)).unwrap();
    let second = open_at(folder.path(), "boot-1", 9_060, after(7_260));
    let image = disk::crash_image(folder.path());
    drop(second);
    fs::write(image.path().join(DATABASE), database).unwrap();
    fs::remove_file(image.path().join(DATABASE_LOG)).unwrap();
    let now = after(7_200 + 20 * 60);
    assert!(counts(&mut open_at(image.path(), "boot-2", 20 * 60, now), now));
}

#[test]
fn a_record_that_survives_a_power_loss_keeps_its_uptime() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open_at(folder.path(), "boot-1", 9_000, T0);
    let mut foreign = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
    let hold = foreign.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    let _approved = ledger.reserve(order_request(1, 10), T0).unwrap();
    let image = disk::crash_image(folder.path());
    hold.rollback().unwrap();
    drop(open_at(image.path(), "boot-2", 60, after(600)));
    let database = rusqlite::Connection::open(image.path().join(DATABASE)).unwrap();
    let sql = "SELECT record FROM events WHERE kind = 'reserved'";
    let record = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(Record::decode(&record).unwrap().uptime_ms, Some(9_000_000));
}

#[test]
fn an_index_without_all_starts_is_damage() {
    let folder = with_order_of_first_boot();
    for (kind, then) in [("nothing", "REINDEX starts;"), ("started", "")] {
        let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
        let sql = format!("CREATE INDEX starts ON events (number) WHERE kind = '{kind}'");
        database.pragma_update(None, "writable_schema", true).unwrap();
        let change = "UPDATE sqlite_schema SET sql = ?1 WHERE name = 'starts'";
        assert_eq!(database.execute(change, [sql]).unwrap(), 1);
        drop(database);
        let database = rusqlite::Connection::open(folder.path().join(DATABASE)).unwrap();
        database.execute_batch(then).unwrap();
    }
    let error = LedgerReader::open(folder.path()).and_then(|reader| reader.verify()).unwrap_err();
    assert!(error.to_string().contains("the index finds 0 of 1 starts"), "{error}");
}
