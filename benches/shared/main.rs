//! Exchanges of many members with one PostgreSQL: how many a second, how long they take, and how
//! much of the processor the database needs.
//!
//! ```sh
//! cargo bench --bench shared -- --members 100 --rate 10 --seconds 60
//! ```
//!
//! Each member places its orders at a constant rate within its slice and reports all of them. The
//! server is started from what this machine has, with its durable defaults, or it is the one that
//! `SNIPER_TEST_DATABASE_URL` names.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a measurement prints its results, and fails if it cannot be made"
)]

#[path = "../../tests/shared/database.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod database;

use std::{
    collections::BTreeMap,
    fs,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use sniper::{
    domain::{
        money::Amount,
        trade::{TradeId, TradeKey},
    },
    ledger::OrderState,
    shared::{
        exchange::{Limit, MemberName, ReportedOrder},
        member::{Member, MemberSettings, MemberState, Report, Usage},
        store::Store,
    },
};

use self::database::{Server, config};

/// Price of every order, in thousandths.
const PRICE: i64 = 1_000;

/// Time for which a member reserves its orders ahead.
const RESERVE_S: i64 = 8;

/// Time before the measurement in which the members join.
const WARM_UP: Duration = Duration::from_secs(8);

/// Time for which the members go on after the measurement.
const AFTER: Duration = Duration::from_secs(2);

/// Number of clock ticks of `/proc` in a second on Linux.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Copy)]
struct Load {
    members: usize,
    rate: i64,
    seconds: u64,
}

/// Results of all members.
struct Results {
    micros: Histogram<u64>,
    failures: u64,
    rejected: u64,
    orders: u64,
    /// Orders that had to wait for a larger slice.
    exhausted: u64,
}

impl Results {
    fn new() -> Self {
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        Self { micros, failures: 0, rejected: 0, orders: 0, exhausted: 0 }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = words.iter().position(|word| word == name);
        at.map_or(default, |at| words[at + 1].parse().unwrap())
    };
    let load = Load {
        members: usize::try_from(number("--members", 100)).unwrap(),
        rate: i64::try_from(number("--rate", 10)).unwrap(),
        seconds: number("--seconds", 30),
    };
    let (server, url) = match std::env::var("SNIPER_TEST_DATABASE_URL") {
        Ok(url) => (None, url),
        Err(_unset) => match Server::start(&[]) {
            Ok(server) => {
                let url = server.url("postgres");
                (Some(server), url)
            }
            Err(reason) => {
                println!("SKIPPED: {reason}");
                return ExitCode::SUCCESS;
            }
        },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(load, &url, server.as_ref()));
    ExitCode::SUCCESS
}

async fn measure(load: Load, url: &str, server: Option<&Server>) {
    let mut shared = config(url, "a");
    shared.group = format!("bench-{}", std::process::id());
    let mut store = Store::new(&shared, "waxpeer").unwrap();
    store.initialize(i64::MAX / 4, 5_000).await.unwrap();
    let results = Arc::new(Mutex::new(Results::new()));
    let started = Instant::now();
    let end = started + WARM_UP + Duration::from_secs(load.seconds);
    let member = |number| {
        let store = Store::new(&shared, "waxpeer").unwrap();
        tokio::spawn(run_member(number, (load, started, end), store, Arc::clone(&results)))
    };
    let members: Vec<_> = (0..load.members).map(member).collect();
    tokio::time::sleep_until((started + WARM_UP).into()).await;
    let before = CpuTicks::read(server);
    tokio::time::sleep_until(end.into()).await;
    let after = CpuTicks::read(server);
    for member in members {
        member.await.unwrap();
    }
    report(load, &results.lock().unwrap(), &before, &after);
    let status = store.status().await.unwrap();
    assert_eq!(status.members.len(), load.members);
    let slices: i64 = status.members.iter().map(|it| it.limits[&Limit::Total].slice).sum();
    assert_eq!(status.total - slices, status.free());
}

fn report(load: Load, results: &Results, before: &CpuTicks, after: &CpuTicks) {
    let seconds = Duration::from_secs(load.seconds).as_secs_f64();
    let at = |quantile| Duration::from_micros(results.micros.value_at_quantile(quantile));
    let count = results.micros.len();
    let per_second = Duration::from_secs(count).as_secs_f64() / seconds;
    println!("{} members at {} orders/s, {} s", load.members, load.rate, load.seconds);
    println!("exchanges     {count}, {per_second:.1} per second");
    println!(
        "orders        {}, {} had to wait for a larger slice",
        results.orders, results.exhausted
    );
    println!("failures      {}, rejected {}", results.failures, results.rejected);
    println!(
        "latency       p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, max {:.1?}",
        at(0.5),
        at(0.9),
        at(0.99),
        Duration::from_micros(results.micros.max()),
    );
    let cores = |before: f64, after: f64| (after - before) / TICKS_PER_SECOND / seconds;
    println!(
        "processor     database {:.2} cores, members {:.2} cores",
        cores(before.server, after.server),
        cores(before.members, after.members)
    );
}

/// One member that orders at a constant rate.
async fn run_member(
    number: usize,
    (load, started, end): (Load, Instant, Instant),
    mut store: Store,
    results: Arc<Mutex<Results>>,
) {
    let name = format!("m{number:03}");
    let mut member = Member::new(MemberSettings {
        name: MemberName(name.clone()),
        ledger: name.clone(),
        market: "waxpeer".to_owned(),
        account: name,
        standby: None,
        seen: 0,
    });
    let now_ms = || i64::try_from(started.elapsed().as_millis()).unwrap();
    let every = Duration::from_secs(1) / u32::try_from(load.rate).unwrap();
    let mut next_order = started + every.mul_f64(fastrand::f64());
    // The members of a fleet do not start in the same moment.
    tokio::time::sleep(Duration::from_secs(1).mul_f64(fastrand::f64())).await;
    let (mut placed, mut reported) = (0_i64, Vec::new());
    let mut permission = member.usable(now_ms());
    // The server forgets the processor time of a connection that has ended.
    while Instant::now() < end + AFTER {
        let is_measured = (started + WARM_UP..end).contains(&Instant::now());
        while next_order <= Instant::now() {
            let is_permitted = permission.state == MemberState::Active
                && (placed + 1) * PRICE
                    <= permission.slices.get(&Limit::Total).copied().unwrap_or(0);
            if is_permitted {
                placed += 1;
                reported.push(order(placed));
            }
            if is_measured {
                let mut results = results.lock().unwrap();
                results.orders += u64::from(is_permitted);
                results.exhausted += u64::from(!is_permitted);
            }
            next_order += every;
        }
        let report = Report {
            usage: usage(placed, load.rate),
            orders: reported.clone(),
            in_force: permission.revision,
            can_order: true,
            is_idle: false,
            whitelist: 0,
            approved: 0,
        };
        let Some(exchange) = member.next(&report, now_ms()) else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let sent = Instant::now();
        let done = store.exchange(&exchange).await;
        let micros = u64::try_from(sent.elapsed().as_micros()).unwrap();
        let is_done = match &done {
            Ok(reply) => member.on_reply(&exchange, reply, now_ms()),
            Err(_failed) => {
                member.on_failure(&exchange);
                false
            }
        };
        if is_done {
            reported.drain(..exchange.orders.len());
        }
        permission = member.usable(now_ms());
        if is_measured {
            let mut results = results.lock().unwrap();
            results.micros.saturating_record(micros);
            results.failures += u64::from(done.is_err());
            results.rejected += u64::from(matches!(permission.state, MemberState::Rejected(_)));
        }
    }
}

fn usage(placed: i64, rate: i64) -> BTreeMap<Limit, Usage> {
    let reserve = rate * RESERVE_S;
    let of = |unit: i64| {
        let (used, reserve) = (placed * unit, reserve * unit);
        Usage { used, max: i64::MAX / 4, reserve, is_denied: false }
    };
    [
        (Limit::Total, of(PRICE)),
        (Limit::PerHour, of(PRICE)),
        (Limit::EntryQuantity("AK-47 | Redline".to_owned()), of(1)),
    ]
    .into()
}

fn order(number: i64) -> ReportedOrder {
    ReportedOrder {
        sequence: u32::try_from(number).unwrap(),
        key: TradeKey { id: TradeId::from_number(number.unsigned_abs()), price: None },
        state: OrderState::Bought,
        price: Amount::from_thousandths(PRICE),
    }
}

/// Clock ticks that the processes of the server, and this process with the members, have used.
struct CpuTicks {
    server: f64,
    members: f64,
}

impl CpuTicks {
    fn read(server: Option<&Server>) -> Self {
        Self { server: server_ticks(server), members: own_ticks() }
    }
}

fn server_ticks(server: Option<&Server>) -> f64 {
    let Some(main) = server.and_then(Server::pid) else { return 0.0 };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let stats = processes.filter_map(|it| fs::read_to_string(it.path().join("stat")).ok());
    let of_server = stats.filter_map(|stat| {
        let (id, rest) = stat.split_once(" (")?;
        let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
        let parent: i32 = fields[1].parse().ok()?;
        (parent == main || id.parse() == Ok(main)).then(|| ticks(&fields))
    });
    of_server.sum()
}

fn own_ticks() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    ticks(&stat.rsplit_once(") ").unwrap().1.split(' ').collect::<Vec<_>>())
}

/// Sum of the fields `utime` and `stime` of `/proc/PID/stat`, given from the third field on.
fn ticks(fields: &[&str]) -> f64 {
    fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum()
}
