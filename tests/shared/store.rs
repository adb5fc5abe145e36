//! Tables, concurrent members, failures of the server, and TLS.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use sniper::{
    config::shared::DatabaseUrl,
    domain::money::Amount,
    ledger::OrderState,
    shared::{
        exchange::{
            Demand, Exchange, Limit, MEMBERS_MAX, MemberName, MemberRejection, OtherMembers, Reply,
            RoleRequest,
        },
        exchanger::Exchanger,
        store::{
            Initialized, Store, StoreError,
            schema::{MIGRATIONS, VERSION},
        },
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_postgres::error::SqlState;

use crate::database::{
    PASSWORD, Server, TestDatabase, USE_LOG, config, connect, database, server,
    server_on_small_disk,
};

const TERM_MS: i64 = 5_000;

pub(crate) fn exchange(member: &str, version: u64, demand: Demand) -> Exchange {
    Exchange {
        member: MemberName(member.to_owned()),
        ledger: member.to_owned(),
        market: "waxpeer".to_owned(),
        account: member.to_owned(),
        standby: None,
        attempt: version,
        version,
        seen: 0,
        can_order: true,
        whitelist: 0,
        approved: 0,
        demands: BTreeMap::from([(Limit::Total, demand)]),
        orders: Vec::new(),
        role: RoleRequest::None,
    }
}

fn demand(used: i64, wanted: i64) -> Demand {
    Demand { used, wanted, ..Demand::default() }
}

#[track_caller]
fn slice(reply: &Reply) -> (u64, i64) {
    match reply {
        Reply::Done(confirmed) => (confirmed.version, confirmed.slices[&Limit::Total]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tables_of_every_version_are_brought_up_to_date_and_a_newer_one_is_rejected() {
    let test = "tables_of_every_version_are_brought_up_to_date_and_a_newer_one_is_rejected";
    for from in 0..=MIGRATIONS.len() {
        let Some(database) = database(test).await else { return };
        let client = database.client().await;
        if from > 0 {
            let create = "CREATE TABLE sniper_schema (version BIGINT NOT NULL PRIMARY KEY)";
            client.batch_execute(create).await.unwrap();
        }
        for number in 1..=from {
            apply_migration(&client, number).await;
        }
        let mut store = database.store();
        let rejected = store.exchange(&exchange("a", 0, demand(0, 10))).await;
        let is_older = 0 < from && from < MIGRATIONS.len();
        let why = if is_older { MemberRejection::OlderTables } else { MemberRejection::NoGroup };
        assert_eq!(rejected.unwrap(), Reply::Rejected(why), "from {from}");
        assert_eq!(store.initialize(500, TERM_MS).await.unwrap(), Initialized::Created);
        assert_eq!(store.initialize(700, TERM_MS).await.unwrap(), Initialized::Exists);
        let reply = store.exchange(&exchange("a", 0, demand(0, 600))).await.unwrap();
        assert_eq!(slice(&reply), (1, 500), "from {from}");
        let newer = format!("INSERT INTO sniper_schema VALUES ({})", VERSION + 1);
        client.batch_execute(&newer).await.unwrap();
        // The first attempt is on the connection from before.
        for _ in 0..2 {
            let failed = store.exchange(&exchange("a", 1, demand(0, 600))).await.unwrap_err();
            assert!(
                matches!(failed, StoreError::NewerSchema { version } if version == VERSION + 1)
            );
        }
        let failed = store.initialize(500, TERM_MS).await.unwrap_err();
        assert!(matches!(failed, StoreError::NewerSchema { .. }), "{failed}");
    }
}

async fn apply_migration(client: &tokio_postgres::Client, number: usize) {
    let migration = MIGRATIONS[number - 1];
    let insert = format!("{migration} INSERT INTO sniper_schema VALUES ({number});");
    client.batch_execute(&insert).await.unwrap();
}

/// Rows of tables of version 1. The program of that version can have written them.
const ROWS: &str = "
INSERT INTO sniper_groups VALUES ('main', 'USD', 500, 5000, 7, FALSE);
INSERT INTO sniper_members VALUES
    ('main', 'b', 'b', 'waxpeer', 'b', 'pair', 3, 12, FALSE, FALSE),
    ('main', 'c', 'c', 'waxpeer', 'c', NULL, 4, 13, TRUE, TRUE);
INSERT INTO sniper_slices VALUES
    ('main', 'b', 'total', 300, 20), ('main', 'b', 'entry_quantity redline', 2, 1),
    ('main', 'c', 'total', 50, 50);
INSERT INTO sniper_roles VALUES ('main', 'pair', 'b', 5, 6, 1000, 2000, FALSE);
INSERT INTO sniper_orders VALUES
    ('main', 'b', 1, 'first', NULL, 'completed', 15, 11),
    ('main', 'b', 2, 'second', 4, 'unknown', 5, 12);";

/// Values in columns of later versions, each with the version.
const LATER_VALUES: [(usize, &str); 4] = [
    (2, "UPDATE sniper_members SET can_order = name = 'c'"),
    (3, "UPDATE sniper_members SET approved = 8"),
    (4, "UPDATE sniper_members SET whitelist = 9"),
    (5, "UPDATE sniper_slices SET has_rest = TRUE, is_short = member = 'b'"),
];

/// Returns the rows of each table, sorted, without columns of which the value is in `defaults`.
async fn rows(client: &tokio_postgres::Client, defaults: &Value) -> Vec<(&'static str, Value)> {
    let mut rows = Vec::new();
    for table in ["groups", "members", "slices", "roles", "orders"] {
        let sql = format!("SELECT CAST(to_jsonb(t) AS TEXT) FROM sniper_{table} t ORDER BY t");
        for row in client.query(&sql, &[]).await.unwrap() {
            let mut row: Value = serde_json::from_str(row.get(0)).unwrap();
            row.as_object_mut().unwrap().retain(|name, value| defaults.get(name) != Some(value));
            rows.push((table, row));
        }
    }
    rows
}

#[tokio::test]
async fn every_row_of_every_earlier_version_keeps_its_values_and_its_members_go_on() {
    let test = "every_row_of_every_earlier_version_keeps_its_values_and_its_members_go_on";
    for from in 1..MIGRATIONS.len() {
        let Some(database) = database(test).await else { return };
        let client = database.client().await;
        let create = "CREATE TABLE sniper_schema (version BIGINT NOT NULL PRIMARY KEY)";
        client.batch_execute(create).await.unwrap();
        for number in 1..=from {
            apply_migration(&client, number).await;
        }
        client.batch_execute(ROWS).await.unwrap();
        for (_, sql) in LATER_VALUES.iter().filter(|(version, _)| *version <= from) {
            client.batch_execute(sql).await.unwrap();
        }
        let before = rows(&client, &Value::Null).await;
        assert_eq!(before.len(), 9, "{before:?}");
        let mut store = database.store();
        assert_eq!(store.initialize(700, TERM_MS).await.unwrap(), Initialized::Exists);
        // What a row of an earlier version stands for.
        let mut defaults = json!({
            "can_order": true, "approved": 0, "whitelist": 0, "has_rest": false, "is_short": false,
        });
        let known = |name: &str| before.iter().any(|(_, row)| row.get(name).is_some());
        defaults.as_object_mut().unwrap().retain(|name, _| !known(name));
        assert_eq!(rows(&client, &defaults).await, before, "from {from}");

        let reply = store.exchange(&exchange("a", 0, demand(0, 500))).await.unwrap();
        assert_eq!(slice(&reply), (1, 150), "from {from}");
        let Reply::Done(confirmed) = reply else { panic!("{reply:?}") };
        assert!(confirmed.others.is_empty(), "none is live");
        let [peer] = &confirmed.peers[..] else { panic!("{:?}", confirmed.peers) };
        assert_eq!((peer.version, peer.slice, peer.used), (3, 300, 20));
        assert_eq!((peer.can_order, peer.whitelist), (from < 2, if from < 4 { 0 } else { 9 }));
        let renewal = Exchange {
            standby: Some("pair".to_owned()),
            role: RoleRequest::Renew { epoch: 5 },
            approved: 8,
            ..exchange("b", 3, demand(20, 300))
        };
        let reply = store.exchange(&renewal).await.unwrap();
        assert_eq!(slice(&reply), (4, 300), "from {from}");
        let Reply::Done(confirmed) = reply else { panic!("{reply:?}") };
        let role = confirmed.role.unwrap();
        assert_eq!((role.epoch, role.renewals, role.since_ms), (5, 7, 1_000), "from {from}");
        let orders = store.orders("b", i64::MAX).await.unwrap();
        let orders: Vec<_> = orders
            .iter()
            .map(|(_, order)| (order.key.id.as_str(), order.key.price, order.state, order.price))
            .collect();
        let price = Amount::from_thousandths;
        let expected = [
            ("second", Some(price(4)), OrderState::Unknown, price(5)),
            ("first", None, OrderState::Completed, price(15)),
        ];
        assert_eq!(orders, expected, "from {from}");
    }
}

#[tokio::test]
async fn the_other_live_members_of_a_limit_are_counted_until_they_no_longer_have_it() {
    let test = "the_other_live_members_of_a_limit_are_counted_until_they_no_longer_have_it";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    let entry = Limit::EntryQuantity("redline".to_owned());
    let mut meet = async |name: &str, version, demands: &[(&Limit, Demand)]| {
        let demands = demands.iter().map(|(limit, demand)| ((*limit).clone(), *demand));
        let demands = demands.collect();
        let exchange = Exchange { demands, ..exchange(name, version, demand(0, 0)) };
        match store.exchange(&exchange).await.unwrap() {
            Reply::Done(confirmed) => confirmed.others,
            other => panic!("{other:?}"),
        }
    };
    let wanting = |used, wanted| Demand { max: 10, ..demand(used, wanted) };
    let total = (&Limit::Total, wanting(0, 400));
    let all = |quantity| [total, (&entry, quantity)];
    let others = |count, is_short| OtherMembers { count, is_short };
    assert_eq!(meet("a", 0, &all(wanting(0, 10))).await, BTreeMap::new());
    meet("b", 0, &all(Demand { is_denied: true, ..wanting(0, 1) })).await;
    meet("c", 0, &all(wanting(10, 10))).await;
    let found = meet("a", 1, &all(wanting(0, 10))).await;
    assert_eq!(found[&Limit::Total], others(2, false));
    assert_eq!(found[&entry], others(1, true), "one of the two has used it up");
    meet("b", 1, &[total]).await;
    assert_eq!(meet("a", 2, &all(wanting(0, 10))).await.get(&entry), None);
    let later = "UPDATE sniper_members SET seen_ms = seen_ms - 10000 WHERE name = 'c'";
    client.batch_execute(later).await.unwrap();
    assert_eq!(meet("a", 3, &[total]).await, BTreeMap::from([(Limit::Total, others(1, false))]));
}

#[tokio::test]
async fn programs_that_create_the_tables_at_once_agree() {
    let Some(database) = database("programs_that_create_the_tables_at_once_agree").await else {
        return;
    };
    let create = |_| {
        let mut store = database.store();
        tokio::spawn(async move { store.initialize(500, TERM_MS).await.unwrap() })
    };
    let all: Vec<_> = (0..6).map(create).collect();
    let mut created = 0;
    for done in all {
        created += usize::from(done.await.unwrap() == Initialized::Created);
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn members_that_exchange_at_once_never_get_more_than_the_total() {
    let test = "members_that_exchange_at_once_never_get_more_than_the_total";
    let Some(database) = database(test).await else { return };
    exchange_at_once(&database, 8, 40).await;
}

#[tokio::test]
async fn a_database_without_advisory_locks_gives_no_more_than_the_total_and_takes_commands() {
    let test = "a_database_without_advisory_locks_gives_no_more_than_the_total_and_takes_commands";
    let Some(database) = database(test).await else { return };
    let client = database.client().await;
    // These functions take the place of the server's own in every new session.
    let sql = "CREATE FUNCTION public.pg_advisory_lock(BIGINT) RETURNS VOID LANGUAGE plpgsql \
               AS $$ BEGIN RAISE feature_not_supported; END $$; \
               CREATE FUNCTION public.pg_advisory_unlock_all() RETURNS VOID LANGUAGE plpgsql \
               AS $$ BEGIN RAISE feature_not_supported; END $$; \
               DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', \
               current_database()); END $$";
    client.batch_execute(sql).await.unwrap();
    let missing = database.client().await.execute("SELECT pg_advisory_lock(1::BIGINT)", &[]).await;
    assert_eq!(missing.unwrap_err().code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
    exchange_at_once(&database, 3, 10).await;
    let mut store = database.store();
    store.set_total(2_000).await.unwrap();
    store.release("m0", &BTreeMap::new(), true).await.unwrap();
    let status = store.status().await.unwrap();
    assert_eq!((status.total, status.members[0].is_released), (2_000, true));
}

/// Members change their slices of one limit at the same time.
async fn exchange_at_once(database: &TestDatabase, members: i64, exchanges: u64) {
    let total = 1_000;
    database.store().initialize(total, TERM_MS).await.unwrap();
    let member = |number: i64| {
        let mut store = database.store();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(number.unsigned_abs());
            let name = format!("m{number}");
            let mut got = 0;
            for version in 0..exchanges {
                let wanted = demand(0, random.i64(0..400));
                let reply = store.exchange(&exchange(&name, version, wanted)).await.unwrap();
                let (new, slice) = slice(&reply);
                assert_eq!(new, version + 1);
                got = slice;
            }
            got
        })
    };
    let running: Vec<_> = (0..members).map(member).collect();
    let mut watcher = database.store();
    while running.iter().any(|task| !task.is_finished()) {
        let status = watcher.status().await.unwrap();
        assert!(status.free() >= 0, "{status:?}");
    }
    let mut sum = 0;
    for task in running {
        sum += task.await.unwrap();
    }
    let status = watcher.status().await.unwrap();
    assert_eq!((status.free(), status.total), (total - sum, total));
    assert_eq!(status.sequence, members * i64::try_from(exchanges).unwrap());
}

#[tokio::test]
async fn a_member_continues_with_its_slice_after_the_server_was_killed() {
    let test = "a_member_continues_with_its_slice_after_the_server_was_killed";
    let Some(mut server) = server(test) else { return };
    let mut store = Store::new(&config(&server.url("postgres"), "a"), "waxpeer").unwrap();
    store.initialize(500, TERM_MS).await.unwrap();
    let first = store.exchange(&exchange("a", 0, demand(0, 300))).await.unwrap();
    assert_eq!(slice(&first), (1, 300));
    server.kill();
    let failed = store.exchange(&exchange("a", 1, demand(10, 310))).await.unwrap_err();
    assert!(matches!(failed, StoreError::Dial(_) | StoreError::Database(_)), "{failed}");
    server.run();
    let reply = store.exchange(&exchange("a", 1, demand(10, 310))).await.unwrap();
    assert_eq!(slice(&reply), (2, 310));
    // A connection that the server closed while it was idle costs no exchange.
    server.kill();
    server.run();
    let reply = store.exchange(&exchange("a", 2, demand(20, 320))).await.unwrap();
    assert_eq!(slice(&reply), (3, 320));
}

#[tokio::test]
async fn a_member_continues_with_its_slice_after_the_disk_of_the_server_was_full() {
    let test = "a_member_continues_with_its_slice_after_the_disk_of_the_server_was_full";
    let Some(mut server) = server_on_small_disk(test) else { return };
    if server.disk.is_none() {
        return;
    }
    let url = server.url("postgres");
    let mut store = Store::new(&config(&url, "a"), "waxpeer").unwrap();
    store.initialize(500, TERM_MS).await.unwrap();
    let first = store.exchange(&exchange("a", 0, demand(0, 300))).await.unwrap();
    assert_eq!(slice(&first), (1, 300));
    let client = connect(&url).await;
    server.disk.as_ref().unwrap().fill();
    while client.batch_execute(USE_LOG).await.is_ok() {}
    let (mut version, mut failures) = (1, 0);
    for used in 1..=20 {
        match store.exchange(&exchange("a", version, demand(used, 300 + used))).await {
            Ok(Reply::Done(confirmed) | Reply::Stale(confirmed)) => version = confirmed.version,
            Ok(rejected) => panic!("{rejected:?}"),
            Err(_full) => failures += 1,
        }
    }
    assert!(failures > 0, "the disk was not full");
    server.disk.as_ref().unwrap().free();
    server.recover();
    let mut store = Store::new(&config(&server.url("postgres"), "a"), "waxpeer").unwrap();
    let status = store.status().await.unwrap();
    let known = status.members[0].limits[&Limit::Total].slice;
    assert!((300..=320).contains(&known), "{status:?}");
    let now = u64::try_from(status.members[0].version).unwrap();
    let reply = store.exchange(&exchange("a", now, demand(30, 330))).await.unwrap();
    assert_eq!(slice(&reply), (now + 1, 330));
}

/// Passes bytes on to the server at `target`. While `is_armed`, the reply to a COMMIT is dropped
/// with its connection, once. Returns the port.
async fn proxy(target: u16, is_armed: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            let is_armed = Arc::clone(&is_armed);
            tokio::spawn(async move {
                let (mut request, mut reply) = (vec![0; 65_536], vec![0; 65_536]);
                loop {
                    tokio::select! {
                        read = client.read(&mut request) => match read {
                            Ok(count @ 1..) => server.write_all(&request[..count]).await.unwrap(),
                            _ => return,
                        },
                        read = server.read(&mut reply) => match read {
                            Ok(count @ 1..) => {
                                let is_commit = |bytes: &[u8]| bytes == b"COMMIT\0";
                                if reply[..count].windows(7).any(is_commit)
                                    && is_armed.swap(false, Ordering::Relaxed)
                                {
                                    return;
                                }
                                client.write_all(&reply[..count]).await.unwrap();
                            }
                            _ => return,
                        },
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn an_exchange_that_may_have_been_committed_is_not_repeated() {
    let test = "an_exchange_that_may_have_been_committed_is_not_repeated";
    let Some(server) = server(test) else { return };
    let is_armed = Arc::new(AtomicBool::new(false));
    let port = proxy(server.port, Arc::clone(&is_armed)).await;
    let (direct, through) = (format!(":{}/", server.port), format!(":{port}/"));
    let url = server.url("postgres").replace(&direct, &through);
    let mut store = Store::new(&config(&url, "a"), "waxpeer").unwrap();
    store.initialize(500, TERM_MS).await.unwrap();
    assert_eq!(slice(&store.exchange(&exchange("a", 0, demand(0, 100))).await.unwrap()), (1, 100));
    is_armed.store(true, Ordering::Relaxed);
    let lost = store.exchange(&exchange("a", 1, demand(0, 200))).await.unwrap_err();
    assert!(matches!(lost, StoreError::ConnectionLost), "{lost}");
    let Reply::Stale(confirmed) = store.exchange(&exchange("a", 1, demand(0, 200))).await.unwrap()
    else {
        panic!("it was not committed");
    };
    assert_eq!((confirmed.version, confirmed.slices[&Limit::Total]), (2, 200));
}

#[tokio::test]
async fn the_windows_of_a_released_member_are_free_after_their_time() {
    let test = "the_windows_of_a_released_member_are_free_after_their_time";
    let Some(database) = database(test).await else { return };
    let mut store = database.store();
    store.initialize(500, TERM_MS).await.unwrap();
    let windows = |name: &str, version, wanted| {
        let demand = Demand { wanted, max: 100, ..Demand::default() };
        let demands = BTreeMap::from([(Limit::PerHour, demand), (Limit::PerDay, demand)]);
        Exchange { demands, ..exchange(name, version, demand) }
    };
    store.exchange(&windows("a", 0, 100)).await.unwrap();
    store.release("a", &BTreeMap::new(), true).await.unwrap();
    let client = database.client().await;
    for (minutes, given) in [(0, [0, 0]), (2 * 66 + 1, [100, 0]), (25 * 66 + 1, [100, 100])] {
        let sql = "UPDATE sniper_members SET seen_ms = seen_ms - $1 WHERE name = 'a'";
        client.execute(sql, &[&(minutes * 60_000_i64)]).await.unwrap();
        let name = format!("b{minutes}");
        let reply = store.exchange(&windows(&name, 0, 100)).await.unwrap();
        let Reply::Done(confirmed) = reply else { panic!("{reply:?}") };
        let slices = [Limit::PerHour, Limit::PerDay].map(|limit| confirmed.slices[&limit]);
        assert_eq!(slices, given, "after {minutes} min");
        store.exchange(&windows(&name, 1, 0)).await.unwrap();
        let sql = "UPDATE sniper_members SET seen_ms = seen_ms + $1 WHERE name = 'a'";
        client.execute(sql, &[&(minutes * 60_000_i64)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_standby_learns_of_every_lost_connection() {
    let test = "a_standby_learns_of_every_lost_connection";
    let Some(mut server) = server(test) else { return };
    let mut config = config(&server.url("postgres"), "a");
    config.standby = Some("both".to_owned());
    let mut store = Store::new(&config, "waxpeer").unwrap();
    store.initialize(500, TERM_MS).await.unwrap();
    let watch = |version| Exchange {
        standby: Some("both".to_owned()),
        role: RoleRequest::Watch,
        ..exchange("a", version, demand(0, 100))
    };
    assert_eq!(slice(&store.exchange(&watch(0)).await.unwrap()), (1, 100));
    server.kill();
    server.run();
    let lost = store.exchange(&watch(1)).await.unwrap_err();
    assert!(matches!(lost, StoreError::ConnectionLost | StoreError::Database(_)), "{lost}");
    assert_eq!(slice(&store.exchange(&watch(1)).await.unwrap()), (2, 100));
}

#[tokio::test]
async fn an_exchange_fails_in_time_while_another_program_holds_the_group() {
    let test = "an_exchange_fails_in_time_while_another_program_holds_the_group";
    let Some(database) = database(test).await else { return };
    let mut store = database.store();
    store.initialize(500, TERM_MS).await.unwrap();
    let client = database.client().await;
    client.batch_execute("BEGIN; UPDATE sniper_groups SET total = 1").await.unwrap();
    let started = Instant::now();
    let failed = store.exchange(&exchange("a", 0, demand(0, 300))).await.unwrap_err();
    assert!(matches!(failed, StoreError::Timeout(_)), "{failed}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    client.batch_execute("ROLLBACK").await.unwrap();
    let reply = store.exchange(&exchange("a", 0, demand(0, 300))).await.unwrap();
    assert_eq!(slice(&reply), (1, 300));
}

#[tokio::test]
async fn a_member_that_hangs_in_a_transaction_does_not_block_the_others() {
    let test = "a_member_that_hangs_in_a_transaction_does_not_block_the_others";
    let Some(database) = database(test).await else { return };
    let mut store = database.store();
    store.initialize(500, TERM_MS).await.unwrap();
    let client = database.client().await;
    // As the store sets it for its own connections.
    client.batch_execute("SET idle_in_transaction_session_timeout = 2000").await.unwrap();
    client.batch_execute("BEGIN; SELECT total FROM sniper_groups FOR UPDATE").await.unwrap();
    let reply = store.exchange(&exchange("a", 0, demand(0, 300))).await.unwrap();
    assert_eq!(slice(&reply), (1, 300));
}

#[tokio::test]
async fn a_certificate_is_verified_and_no_error_contains_the_password() {
    let test = "a_certificate_is_verified_and_no_error_contains_the_password";
    let Some(database) = database(test).await else { return };
    let Some(certificate) = database.certificate.clone() else { return };
    let open = |parameters: &str| {
        let url = database.url.replace("127.0.0.1", "localhost");
        let url = format!("{url}?sslmode=verify-full{parameters}");
        Store::new(&config(&url, "a"), "waxpeer").unwrap()
    };
    let trusted = format!("&sslrootcert={}", certificate.display());
    let mut store = open(&trusted);
    assert_eq!(store.initialize(500, TERM_MS).await.unwrap(), Initialized::Created);
    let reply = store.exchange(&exchange("a", 0, demand(0, 300))).await.unwrap();
    assert_eq!(slice(&reply), (1, 300));
    let encrypted = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE ssl AND application_name = 'sniper' AND datname = current_database()";
    let row = database.client().await.query_one(encrypted, &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) >= 1);
    let rejected = open("").exchange(&exchange("a", 1, demand(0, 300))).await.unwrap_err();
    let shown = sniper::text::error_chain(&rejected);
    assert!(shown.contains("certificate"), "{shown}");
    let missing = format!("{}?sslmode=require&sslrootcert=/nonexistent", database.url);
    assert!(matches!(Store::new(&config(&missing, "a"), "waxpeer"), Err(StoreError::Root(_))));
    let wrong = database.url.replace("w0rd", "w0rd-that-is-wrong");
    let mut store = Store::new(&config(&wrong, "a"), "waxpeer").unwrap();
    let rejected = store.exchange(&exchange("a", 1, demand(0, 300))).await.unwrap_err();
    let shown = format!("{} {rejected:?}", sniper::text::error_chain(&rejected));
    assert!(shown.contains("password authentication failed"), "{shown}");
    let url = DatabaseUrl::parse(&wrong).unwrap();
    for secret in [PASSWORD, url.reveal_password().unwrap()] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn the_hour_of_a_stopped_member_is_free_once_its_orders_have_left_it() {
    let test = "the_hour_of_a_stopped_member_is_free_once_its_orders_have_left_it";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    let hour = |name: &str, version, used, wanted| Exchange {
        demands: BTreeMap::from([(Limit::PerHour, Demand { max: 100, ..demand(used, wanted) })]),
        ..exchange(name, version, demand(0, 0))
    };
    let given = |reply: Reply| match reply {
        Reply::Done(confirmed) => confirmed.slices[&Limit::PerHour],
        Reply::Stale(confirmed) => -confirmed.slices[&Limit::PerHour],
        Reply::Rejected(rejection) => panic!("{rejection:?}"),
    };
    let mut meet = async |exchange: Exchange| given(store.exchange(&exchange).await.unwrap());
    assert_eq!(meet(hour("a", 0, 60, 60)).await, 60);
    assert_eq!(meet(hour("a", 1, 60, 0)).await, 60);
    assert_eq!(meet(hour("b", 0, 0, 100)).await, 40);
    let later = "UPDATE sniper_members SET seen_ms = seen_ms - 10000000 WHERE name = 'a'";
    client.batch_execute(later).await.unwrap();
    assert_eq!(meet(hour("b", 1, 0, 100)).await, 100);
    assert_eq!(meet(hour("a", 0, 0, 50)).await, 0, "stale");
    assert_eq!(meet(hour("a", 2, 0, 50)).await, 0);
    assert_eq!(meet(hour("b", 2, 0, 70)).await, 70);
    assert_eq!(meet(hour("a", 3, 0, 50)).await, 30);
}

#[tokio::test]
async fn a_ledger_under_another_name_ends_only_the_slices_whose_usage_it_reports() {
    let test = "a_ledger_under_another_name_ends_only_the_slices_whose_usage_it_reports";
    let Some(database) = database(test).await else { return };
    let mut store = database.store();
    store.initialize(500, TERM_MS).await.unwrap();
    let entry = Limit::EntryQuantity("redline".to_owned());
    let all = Demand { max: 5, ..demand(5, 5) };
    let of_ledger = |name: &str, version, limits: &[&Limit], demand: Demand| Exchange {
        ledger: "a".to_owned(),
        approved: 5,
        demands: limits.iter().map(|limit| ((*limit).clone(), demand)).collect(),
        ..exchange(name, version, demand)
    };
    store.exchange(&of_ledger("a", 0, &[&Limit::Total, &entry], all)).await.unwrap();
    store.release("a", &BTreeMap::new(), true).await.unwrap();
    for (version, reported) in [[&Limit::Total].as_slice(), &[&entry]].into_iter().enumerate() {
        let version = u64::try_from(version).unwrap();
        store.exchange(&of_ledger("a2", version, reported, all)).await.unwrap();
        let status = store.status().await.unwrap();
        let slices = [&Limit::Total, &entry].map(|limit| status.members[0].limits[limit].slice);
        assert_eq!(slices, if version == 0 { [0, 5] } else { [0, 0] }, "{status:?}");
    }
}

#[tokio::test]
async fn released_members_do_not_count_towards_the_maximum_number_of_members() {
    let test = "released_members_do_not_count_towards_the_maximum_number_of_members";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    store.exchange(&exchange("a", 0, demand(0, 0))).await.unwrap();
    let sql = "INSERT INTO sniper_members SELECT group_name, CAST(number AS TEXT), 'other', market, \
               account, standby, version, seen_ms, is_released, has_stopped, can_order, approved \
               FROM sniper_members, generate_series(2, $1) AS number";
    client.execute(sql, &[&i32::try_from(MEMBERS_MAX).unwrap()]).await.unwrap();
    let rejected = store.exchange(&exchange("b", 0, demand(0, 10))).await.unwrap();
    assert_eq!(rejected, Reply::Rejected(MemberRejection::Full));
    store.release("7", &BTreeMap::new(), true).await.unwrap();
    let reply = store.exchange(&exchange("b", 0, demand(0, 10))).await.unwrap();
    assert_eq!(slice(&reply), (1, 10));
}

/// Address of a server at another port of this machine, and of this one after it.
fn url_of_both(first: u16, second: &Server) -> String {
    let host = format!("127.0.0.1:{}/", second.port);
    second.url("postgres").replace(&host, &format!("127.0.0.1:{first},{host}"))
}

#[tokio::test]
async fn the_server_after_a_replica_is_used() {
    let test = "the_server_after_a_replica_is_used";
    let (Some(mut replica), Some(primary)) = (server(test), server(test)) else { return };
    replica.become_replica();
    let url = url_of_both(replica.port, &primary);
    let new = |url: &str| Store::new(&config(url, "a"), "waxpeer").unwrap();
    assert_eq!(new(&url).initialize(500, TERM_MS).await.unwrap(), Initialized::Created);
    let reply = new(&url).exchange(&exchange("a", 0, demand(0, 100))).await.unwrap();
    assert_eq!(slice(&reply), (1, 100));
    assert_eq!(new(&url).status().await.unwrap().total, 500);
    let failed = new(&replica.url("postgres")).status().await.unwrap_err();
    assert!(matches!(failed, StoreError::ReadOnly), "{failed}");
}

#[tokio::test]
async fn the_server_after_a_silent_one_is_used_by_a_caller_that_waits_for_less_than_a_connection() {
    let test =
        "the_server_after_a_silent_one_is_used_by_a_caller_that_waits_for_less_than_a_connection";
    let Some(server) = server(test) else { return };
    let mut direct = Store::new(&config(&server.url("postgres"), "a"), "waxpeer").unwrap();
    direct.initialize(500, TERM_MS).await.unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of_both(silent.local_addr().unwrap().port(), &server);
    let mut store = Store::new(&config(&url, "a"), "waxpeer").unwrap();
    let exchange = exchange("a", 0, demand(0, 100));
    for _ in 0..5 {
        let done = tokio::time::timeout(Duration::from_millis(1_200), store.exchange(&exchange));
        if let Ok(reply) = done.await {
            assert!(matches!(reply.unwrap(), Reply::Done(_) | Reply::Stale(_)));
            return;
        }
    }
    panic!("the second server is never tried");
}

#[tokio::test]
async fn old_orders_are_deleted_during_a_run_and_a_locked_one_delays_no_exchange() {
    let test = "old_orders_are_deleted_during_a_run_and_a_locked_one_delays_no_exchange";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    let sql = "INSERT INTO sniper_orders SELECT 'main', 'a', number, 'listing', NULL, \
               CASE WHEN number = 2 THEN 'unknown' ELSE 'completed' END, 1, 0 \
               FROM generate_series(1, 1501) AS number";
    client.batch_execute(sql).await.unwrap();
    client
        .batch_execute("BEGIN; SELECT 1 FROM sniper_orders WHERE number = 1 FOR UPDATE")
        .await
        .unwrap();
    let mut version = 0;
    for left in [1_501, 501, 1] {
        for _ in 0..100 {
            let next = exchange("a", version, demand(0, 100));
            let done = tokio::time::timeout(Duration::from_millis(1_500), store.exchange(&next));
            version = slice(&done.await.expect("it waits for the order").unwrap()).0;
        }
        // The deletion ends before the next exchange.
        let next = exchange("a", version, demand(0, 100));
        version = slice(&store.exchange(&next).await.unwrap()).0;
        client.batch_execute("COMMIT").await.unwrap();
        let row = client.query_one("SELECT COUNT(*) FROM sniper_orders", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), left);
    }
}

#[tokio::test]
async fn a_large_number_of_old_orders_delays_no_exchange() {
    let test = "a_large_number_of_old_orders_delays_no_exchange";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    let sql = "INSERT INTO sniper_orders SELECT 'main', 'a', number, 'listing', NULL, \
               CASE WHEN number <= 50000 THEN 'bought' ELSE 'completed' END, 1, 0 \
               FROM generate_series(1, 300000) AS number";
    client.batch_execute(sql).await.unwrap();
    // At first, the deletion waits for a lock until its own timeout.
    let lock = "BEGIN; LOCK TABLE sniper_orders IN SHARE MODE";
    let mut version = 0;
    let mut meet = async || {
        let next = exchange("a", version, demand(0, 100));
        let began = Instant::now();
        let reply = store.exchange(&next).await.unwrap();
        version = slice(&reply).0;
        (version, began.elapsed())
    };
    // The connection prepares its statements before the lock.
    meet().await;
    let mut left = 300_000;
    for round in 0..30 {
        let is_locked = round == 0;
        if is_locked {
            client.batch_execute(lock).await.unwrap();
        }
        while meet().await.0 % 100 != 99 {}
        let (_, took) = meet().await;
        assert!(took < Duration::from_millis(1_500), "{took:?}");
        // The deletion ends before the next exchange.
        meet().await;
        if is_locked {
            client.batch_execute("COMMIT").await.unwrap();
        }
        let row = client.query_one("SELECT COUNT(*) FROM sniper_orders", &[]).await.unwrap();
        let now: i64 = row.get(0);
        // A deletion that took too long on a busy machine is repeated in the next round.
        assert!(now == left || (now == left - 1_000 && !is_locked), "{now} of {left}");
        left = now;
        if left == 298_000 {
            return;
        }
    }
    panic!("{left} orders are left");
}

#[tokio::test]
async fn failed_orders_are_read_for_a_day_and_the_others_longer() {
    let test = "failed_orders_are_read_for_a_day_and_the_others_longer";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    store.exchange(&exchange("a", 0, demand(0, 100))).await.unwrap();
    let sql = "INSERT INTO sniper_orders SELECT 'main', 'a', number, 'listing', NULL, state, 1, \
               CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - hours * 3600000::BIGINT \
               FROM (VALUES (1, 'refused', 25), (2, 'refused', 23), (3, 'unknown', 900), \
               (4, 'bought', 25)) AS o (number, state, hours)";
    client.batch_execute(sql).await.unwrap();
    let orders = Exchanger::orders(&mut store, "a").await.unwrap();
    let mut numbers: Vec<u32> = orders.iter().map(|(_, order)| order.sequence).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3, 4]);
    assert_eq!(store.orders("a", i64::MAX).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_command_waits_for_its_turn_like_an_exchange() {
    let test = "a_command_waits_for_its_turn_like_an_exchange";
    let Some(database) = database(test).await else { return };
    let (mut store, client) = (database.store(), database.client().await);
    store.initialize(500, TERM_MS).await.unwrap();
    let holder = database.client().await;
    holder.batch_execute("BEGIN; UPDATE sniper_groups SET total = 1").await.unwrap();
    let held = "SELECT COUNT(*) FROM pg_locks JOIN pg_database ON oid = database \
                WHERE locktype = 'advisory' AND datname = current_database()";
    let count = async || client.query_one(held, &[]).await.unwrap().get::<_, i64>(0);
    let watch = async {
        while count().await == 0 {}
        holder.batch_execute("ROLLBACK").await.unwrap();
    };
    let set = async { store.set_total(700).await.unwrap() };
    let both = async { tokio::join!(set, watch) };
    tokio::time::timeout(Duration::from_secs(30), both).await.expect("it takes no lock");
    assert_eq!(database.store().status().await.unwrap().total, 700);
}
