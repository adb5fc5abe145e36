//! Tests of trade keys: a market that changes the price of a listing under the same id.

use std::{fs, path::Path};

use rusqlite::Connection;

use super::{
    disk::{crash_image, entries, limits, location, lose_power, open, reserve, wait_until},
    *,
};
use crate::ledger::{
    entries::tests::entry,
    open::DATABASE,
    reader::LedgerReader,
    state::{ORDERS_PER_ID_MAX, UNSENT_PER_ID_MAX},
};

const NOT_SENT: Outcome = Outcome::NotSent(NotSent::Closed);

fn at_price(n: u32, price: i64) -> OrderRequest {
    OrderRequest { keyed_by: KeyedBy::IdAndPrice, ..order_request(n, price) }
}

fn bought_at(price: i64) -> Outcome {
    Outcome::Bought { price: Some(coins(price)), server_time: None }
}

/// Applies evidence about the last order for listing 1.
fn prove(ledger: &mut Ledger, evidence: Evidence) {
    let (sequence, by) = (ledger.state().intent(&id(1)).unwrap().sequence, operator());
    let by = EvidenceSource::Operator(by);
    let event = LedgerEvent::Proved { sequence, evidence, paid: None, by, since: UnixMs(0) };
    let _effects = ledger.record(T0, event).unwrap();
}

fn state(ledger: &Ledger, request: OrderRequest) -> OrderState {
    ledger.state().order(&request.key()).unwrap().state
}

#[test]
fn another_price_is_ordered_only_if_every_earlier_order_was_certainly_not_bought() {
    let [reserved, sent] = [OrderState::Reserved, OrderState::Sent];
    for (is_sent, outcome, evidence, expected, may_reorder) in [
        (false, None, None, reserved, false),
        (true, None, None, sent, false),
        (true, Some(&BOUGHT), None, OrderState::Bought, false),
        (true, Some(&UNKNOWN), None, OrderState::Unknown, false),
        (true, Some(&BOUGHT), Some(Evidence::Completed), OrderState::Completed, false),
        (true, Some(&BOUGHT), Some(Evidence::Returning), OrderState::Returning, false),
        (true, Some(&BOUGHT), Some(Evidence::ReturnedByStatus), OrderState::Returned, false),
        (true, Some(&TAKEN), None, OrderState::Rejected, true),
        (true, Some(&NOT_SENT), None, OrderState::NotSent, true),
        (true, Some(&UNKNOWN), Some(Evidence::NotBought), OrderState::NotBought, true),
    ] {
        let mut ledger = ledger(budget());
        // An earlier order that permits another one does not hide the second.
        let _effects = place_order(&mut ledger, at_price(1, 9), &TAKEN, T0);
        let second = at_price(1, 10);
        let approved = ledger.reserve(second, T0).unwrap();
        if is_sent {
            ledger.sent(approved.key(), T0).unwrap();
        }
        if let Some(outcome) = outcome {
            let _effects = ledger.settle(approved.key(), outcome, T0).unwrap();
        }
        if let Some(evidence) = evidence {
            prove(&mut ledger, evidence);
        }
        assert_eq!(state(&ledger, second), expected);
        for price in [8, 11] {
            let again = ledger.state.clone().approve(&at_price(1, price), T0);
            // An order that may turn out as not bought delays the next one.
            let rejected = Err(match expected {
                OrderState::Reserved | OrderState::Sent | OrderState::Unknown => {
                    RiskRejection::OrderPending
                }
                _ => RiskRejection::AlreadyRequested,
            });
            assert_eq!(again.map(drop), if may_reorder { Ok(()) } else { rejected }, "{expected}");
        }
        // A key is requested again only if no byte of its request was sent.
        let again = ledger.reserve(second, T0).map(drop);
        let rejected = Err(RiskRejection::AlreadyRequested);
        let is_unsent = expected == OrderState::NotSent;
        assert_eq!(again, if is_unsent { Ok(()) } else { rejected }, "{expected}");
        assert_rejected(&mut ledger, at_price(1, 9), T0, RiskRejection::AlreadyRequested);
        // If the id is the key, the listing is not ordered at another price either.
        assert_rejected(&mut ledger, order_request(1, 11), T0, RiskRejection::AlreadyRequested);
        let _other = ledger.reserve(at_price(2, 11), T0).unwrap();
        ledger.state().check().unwrap();
    }
}

#[test]
fn an_order_keyed_by_its_id_permits_no_other_price() {
    for (outcome, may_reorder) in [(TAKEN, false), (NOT_SENT, true)] {
        let mut ledger = ledger(budget());
        let _effects = place_order(&mut ledger, order_request(1, 10), &outcome, T0);
        let again = ledger.reserve(at_price(1, 11), T0).map(drop);
        let rejected = Err(RiskRejection::AlreadyRequested);
        assert_eq!(again, if may_reorder { Ok(()) } else { rejected }, "{outcome:?}");
    }
}

#[test]
fn the_number_of_orders_for_one_id_is_bounded() {
    let mut ledger = ledger(budget());
    let max = ORDERS_PER_ID_MAX;
    for price in 1..=i64::from(max) {
        let _effects = place_order(&mut ledger, at_price(1, price), &TAKEN, T0);
    }
    let rejection = RiskRejection::OrderedTooOften { max };
    assert_rejected(&mut ledger, at_price(1, 500), T0, rejection);
    let _other = ledger.reserve(at_price(2, 500), T0).unwrap();
}

#[test]
fn orders_that_were_not_sent_do_not_count_towards_the_prices_of_an_id() {
    let mut ledger = ledger(budget());
    for price in 1..i64::from(UNSENT_PER_ID_MAX) {
        let _effects = place_order(&mut ledger, at_price(1, 1 + price % 70), &NOT_SENT, T0);
    }
    let _sent = place_order(&mut ledger, at_price(1, 5), &TAKEN, T0);
    assert_rejected(&mut ledger, at_price(1, 5), T0, RiskRejection::AlreadyRequested);
    let _unsent = place_order(&mut ledger, at_price(1, 6), &NOT_SENT, T0);
    let rejection = RiskRejection::OrderedTooOften { max: UNSENT_PER_ID_MAX };
    assert_rejected(&mut ledger, at_price(1, 7), T0, rejection);
}

#[test]
fn an_outcome_settles_the_order_at_its_own_price() {
    let mut ledger = ledger(budget());
    let first = ledger.reserve(at_price(1, 10), T0).unwrap();
    let _effects = ledger.settle(first.key(), &TAKEN, T0).unwrap();
    let second = ledger.reserve(at_price(1, 12), T0).unwrap();
    // A late answer shows that the rejection belonged to another request.
    let effects = ledger.settle(first.key(), &bought_at(10), after(1)).unwrap();
    assert_eq!(effects.halts.len(), 1, "{effects:?}");
    assert_eq!(state(&ledger, at_price(1, 10)), OrderState::Bought);
    assert_eq!(state(&ledger, at_price(1, 12)), OrderState::Reserved);
    let _effects = ledger.settle(second.key(), &TAKEN, after(2)).unwrap();
    assert_eq!(state(&ledger, at_price(1, 12)), OrderState::Rejected);
    assert_eq!(ledger.snapshot(after(2)).spent, coins(10));
    // The status from the feed applies to the order that was bought.
    let _none = ledger.observe(&id(1), TradeStatus::Completed, after(3));
    assert_eq!(state(&ledger, at_price(1, 10)), OrderState::Completed);
}

#[test]
fn a_listed_purchase_belongs_to_the_order_that_may_have_been_bought() {
    let listed = |price| OwnTrade { price, ..OwnTrade::bare(id(1), TradeStatus::Joined) };
    for (price, is_halted) in
        [(Some(12), false), (None, false), (Some(10), false), (Some(13), true)]
    {
        let mut ledger = Ledger::in_memory(budget(), &[entry(None)], false);
        let _effects = place_order(&mut ledger, at_price(1, 10), &TAKEN, T0);
        let _effects = place_order(&mut ledger, at_price(1, 12), &UNKNOWN, T0);
        let trades = [listed(price.map(coins))];
        let reading = AccountReading { trades: &trades, complete: true, started: after(61) };
        let effects = ledger.reconcile(&reading, None, after(61));
        assert_eq!(!effects.halts.is_empty(), is_halted, "{effects:?}");
        assert_eq!(state(&ledger, at_price(1, 12)), OrderState::Bought);
        assert_eq!(state(&ledger, at_price(1, 10)), OrderState::Rejected);
        let expected = price.unwrap_or(12).max(12);
        assert_eq!(ledger.snapshot(after(61)).spent, coins(expected), "listed at {price:?}");
    }
    // If no order may have been bought, the one at the listed price was bought after all.
    let mut ledger = Ledger::in_memory(budget(), &[entry(None)], false);
    let _effects = place_order(&mut ledger, at_price(1, 10), &TAKEN, T0);
    let _effects = place_order(&mut ledger, at_price(1, 12), &TAKEN, T0);
    let trades = [listed(Some(coins(10)))];
    let reading = AccountReading { trades: &trades, complete: true, started: after(61) };
    assert_eq!(ledger.reconcile(&reading, None, after(61)).halts.len(), 1);
    assert_eq!(state(&ledger, at_price(1, 10)), OrderState::Bought);
    assert_eq!(state(&ledger, at_price(1, 12)), OrderState::Rejected);
}

#[test]
fn the_operator_resolves_the_order_that_is_unknown() {
    let mut ledger = ledger(budget());
    let _effects = place_order(&mut ledger, at_price(1, 10), &UNKNOWN, T0);
    prove(&mut ledger, Evidence::NotBought);
    let _effects = place_order(&mut ledger, at_price(1, 12), &UNKNOWN, T0);
    let resolved = ledger.resolve(&id(1), Evidence::NotBought, operator(), T0).unwrap();
    assert_eq!(resolved.changes.len(), 1);
    assert_eq!(state(&ledger, at_price(1, 12)), OrderState::NotBought);
    ledger.resolve(&id(1), Evidence::NotBought, operator(), T0).unwrap_err();
}

fn rows(folder: &Path) -> Vec<(String, i64, String)> {
    let database = Connection::open(folder.join(DATABASE)).unwrap();
    let sql = "SELECT listing, key_price, state FROM intents ORDER BY number";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

/// Opens the ledger after a restart, while the account still shows nothing.
fn reopen(folder: &Path, boot: &str) -> Ledger {
    let mut ledger = Ledger::open(&location(folder, boot), limits(), &entries(), after(2)).unwrap();
    ledger.bind("account-1").unwrap();
    let reading = AccountReading { trades: &[], complete: true, started: after(2) };
    assert_eq!(ledger.reconcile(&reading, Some(coins(1_000)), after(2)).halts, []);
    wait_until(|| ledger.is_limit_durable());
    ledger
}

/// The ledger is stopped, or killed with its last events only in the intent file.
#[test]
fn the_rule_holds_across_a_restart() {
    for is_killed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path(), "boot", T0);
        let first = reserve(&mut ledger, at_price(1, 10), T0);
        let _effects = ledger.settle(first.key(), &TAKEN, T0).unwrap();
        wait_until(|| ledger.is_durable());
        let database = fs::read(folder.path().join(DATABASE)).unwrap();
        let wal = fs::read(folder.path().join("ledger.db-wal")).unwrap();
        let second = reserve(&mut ledger, at_price(1, 11), T0);
        ledger.sent(second.key(), T0).unwrap();
        let image = crash_image(folder.path());
        if is_killed {
            fs::write(image.path().join(DATABASE), database).unwrap();
            fs::write(image.path().join("ledger.db-wal"), wal).unwrap();
        }
        drop(ledger);
        let folder = if is_killed { image } else { folder };

        let mut ledger = reopen(folder.path(), "boot");
        let states = [10, 11].map(|price| state(&ledger, at_price(1, price)));
        assert_eq!(states, [OrderState::Rejected, OrderState::Unknown], "killed: {is_killed}");
        for (price, rejection) in [
            (10, RiskRejection::AlreadyRequested),
            (11, RiskRejection::AlreadyRequested),
            (12, RiskRejection::OrderPending),
        ] {
            let again = ledger.reserve(at_price(1, price), after(2)).map(drop);
            assert_eq!(again, Err(rejection), "at {price}");
        }
        let _effects = ledger.resolve(&id(1), Evidence::NotBought, operator(), after(2)).unwrap();
        wait_until(|| ledger.is_durable());
        drop(ledger);

        let mut ledger = reopen(folder.path(), "boot");
        for price in [10, 11] {
            let again = ledger.reserve(at_price(1, price), after(2)).map(drop);
            assert_eq!(again, Err(RiskRejection::AlreadyRequested), "at {price}");
        }
        let third = reserve(&mut ledger, at_price(1, 12), after(2));
        let _effects = ledger.settle(third.key(), &BOUGHT, after(2)).unwrap();
        drop(ledger);
        let expected = [(10_000, "refused"), (11_000, "not_bought"), (12_000, "bought")];
        let expected =
            expected.map(|(price, state)| ("listing-1".to_owned(), price, state.to_owned()));
        assert_eq!(rows(folder.path()), expected);
        LedgerReader::open(folder.path()).unwrap().verify().unwrap();
        let mut ledger = reopen(folder.path(), "boot");
        let again = ledger.reserve(at_price(1, 13), after(2)).map(drop);
        assert_eq!(again, Err(RiskRejection::AlreadyRequested));
    }
}

/// The power loss removed the rejection of the first order from the record, and not the second
/// order.
#[test]
fn after_a_power_loss_an_order_without_its_outcome_counts_beside_a_later_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    wait_until(|| ledger.is_durable());
    let before = crash_image(folder.path());
    let first = reserve(&mut ledger, at_price(1, 10), T0);
    let _effects = ledger.settle(first.key(), &TAKEN, T0).unwrap();
    let _second = reserve(&mut ledger, at_price(1, 11), T0);
    let log = open::INTENT_FILE;
    fs::copy(folder.path().join(log), before.path().join(log)).unwrap();
    let mut fate = [true, false, true].into_iter();
    lose_power(before.path(), || fate.next().unwrap());
    assert_eq!(fate.next(), None, "three records were not in the database");
    let ledger = reopen(before.path(), "another");
    let states = [10, 11].map(|price| state(&ledger, at_price(1, price)));
    assert_eq!(states, [OrderState::Unknown; 2]);
    ledger.state().check().unwrap();
    drop(ledger);
    LedgerReader::open(before.path()).unwrap().verify().unwrap();
}

#[test]
fn the_database_rejects_a_second_request_for_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(folder.path(), "boot", T0);
    let first = reserve(&mut ledger, at_price(1, 10), T0);
    let _effects = ledger.settle(first.key(), &TAKEN, T0).unwrap();
    let _second = reserve(&mut ledger, at_price(1, 11), T0);
    let _other = reserve(&mut ledger, order_request(2, 11), T0);
    drop(ledger);
    let database = Connection::open(folder.path().join(DATABASE)).unwrap();
    let insert = |number: i64, listing: &str, key_price: i64| {
        let sql = "INSERT INTO intents (number, listing, key_price, entry, limits, approved, price, \
                   state, reserved_at) VALUES (?1, ?2, ?3, 1, 1, 1, 1, 'reserved', 0)";
        database.execute(sql, rusqlite::params![number, listing, key_price])
    };
    insert(10, "listing-1", 10_000).unwrap_err();
    insert(11, "listing-1", 11_000).unwrap_err();
    insert(12, "listing-1", 12_000).unwrap();
    insert(13, "listing-2", 0).unwrap_err();
    insert(14, "listing-3", 0).unwrap();
    insert(15, "listing-3", 0).unwrap_err();
}
