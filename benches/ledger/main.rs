//! Cost of the ledger between a frame and its order, and duration of its other operations.
//!
//! ```text
//! cargo bench --bench ledger             # measurements
//! cargo bench --bench ledger -- --quick  # functional run, for CI
//! ```
//!
//! `reserve` is everything before a request is written: all limits and, for a durable ledger, the
//! record in the intent file. `sent` and `settle` follow it. Meanwhile the writer thread transfers
//! the records to the database, as in a session.
#![expect(clippy::unwrap_used, reason = "a measurement that cannot be taken ends with the reason")]

use std::{
    env,
    fs::File,
    io::{self, Write as _},
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use sniper::{
    config::Budget,
    domain::money::{Amount, Percent},
    domain::outcome::Outcome,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId, TradeStatus},
    ledger::{
        AccountReading, Ledger, LedgerLocation, OrderRequest, OwnTrade, RiskRejection,
        reader::LedgerReader,
    },
    whitelist::WhitelistEntry,
};

/// Number of measured orders.
const ORDERS: u32 = 10_000;
const ORDERS_QUICK: u32 = 200;
/// Pause between two orders, in which the writer thread works.
const PAUSE: Duration = Duration::from_micros(200);
const START: UnixMs = UnixMs(1_772_359_200_000);

fn main() {
    let is_quick = env::args().any(|argument| argument == "--quick");
    let orders = if is_quick { ORDERS_QUICK } else { ORDERS };
    let folder = env::temp_dir().join(format!("sniper-bench-ledger-{}", std::process::id()));
    let mut out = io::stdout().lock();
    writeln!(out, "{orders} orders each; nanoseconds").unwrap();
    writeln!(out, "{:<24} {:>9} {:>9} {:>9} {:>9}", "", "p50", "p90", "p99", "max").unwrap();

    let mut memory = Ledger::in_memory(budget(), &[entry()], false);
    for (name, times) in measure(&mut memory, 0..orders) {
        writeln!(out, "{}", row(&format!("{name}, in memory"), times)).unwrap();
    }
    let location = LedgerLocation::new(&folder, "market.example");
    let mut durable = Ledger::open(&location, budget(), &[entry()], START).unwrap();
    durable.bind("account").unwrap();
    let nothing = AccountReading { trades: &[], complete: true, started: START };
    drop(durable.reconcile(&nothing, Some(Amount::MAX), START));
    for (name, times) in measure(&mut durable, 0..orders) {
        writeln!(out, "{}", row(&format!("{name}, durable"), times)).unwrap();
    }
    let busy = BusyDisk::start(&folder);
    for (name, times) in measure(&mut durable, orders..orders * 2) {
        writeln!(out, "{}", row(&format!("{name}, disk busy"), times)).unwrap();
    }
    let orders = orders * 2;
    let synced = busy.stop();
    writeln!(out, "\n(disk busy: {synced} syncs of 1 MiB each beside it)\n").unwrap();
    for (name, time) in other_operations(durable, &location, orders) {
        writeln!(out, "{name:<58} {:>9} us", time.as_micros()).unwrap();
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A thread that continuously writes and syncs on the same disk.
struct BusyDisk {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl BusyDisk {
    fn start(folder: &Path) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (seen, path) = (Arc::clone(&is_over), folder.join("busy"));
        let thread = std::thread::spawn(move || {
            let block = vec![7; 1 << 20];
            let mut syncs = 0;
            while !seen.load(Ordering::Acquire) {
                let mut file = File::create(&path).unwrap();
                file.write_all(&block).unwrap();
                file.sync_all().unwrap();
                syncs += 1;
            }
            syncs
        });
        Self { is_over, thread }
    }

    fn stop(self) -> u32 {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// Duration of each call, in nanoseconds.
type Times = Vec<u64>;

fn measure(ledger: &mut Ledger, orders: Range<u32>) -> [(&'static str, Times); 3] {
    let mut times = [("reserve", Times::new()), ("sent", Times::new()), ("settle", Times::new())];
    let bought = Outcome::Bought { price: None, server_time: None };
    for n in orders {
        let (id, keyed_by, price) = (id(n), KeyedBy::Id, Amount::from_cents(500));
        let request = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
        let now = UnixMs(START.0 + i64::from(n));
        let (approved, reserve) = loop {
            let start = Instant::now();
            match ledger.reserve(request, now) {
                Ok(approved) => break (approved, start.elapsed()),
                Err(rejection) => assert_eq!(rejection, RiskRejection::Behind),
            }
            wait(PAUSE);
        };
        let start = Instant::now();
        ledger.sent(approved.key(), now).unwrap();
        let sent = start.elapsed();
        let start = Instant::now();
        drop(ledger.settle(approved.key(), &bought, now).unwrap());
        let settle = start.elapsed();
        for ((_, times), time) in times.iter_mut().zip([reserve, sent, settle]) {
            times.push(u64::try_from(time.as_nanos()).unwrap());
        }
        wait(PAUSE);
    }
    times
}

/// Measures the operations that do not delay an order.
fn other_operations(
    ledger: Ledger,
    location: &LedgerLocation,
    orders: u32,
) -> Vec<(String, Duration)> {
    let mut ledger = ledger;
    let mut done = Vec::new();
    let mut take = |name: String, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        done.push((name, start.elapsed()));
    };
    let trades: Vec<OwnTrade> = (0..orders)
        .map(|n| OwnTrade {
            id: id(n),
            status: TradeStatus::Completed,
            price: None,
            joined_at: None,
            commission: None,
            own_id: None,
        })
        .collect();
    let later = UnixMs(START.0 + 10_000_000);
    let reading = AccountReading { trades: &trades, complete: true, started: later };
    take(format!("reconciling {orders} open purchases, all now delivered"), &mut || {
        drop(ledger.reconcile(&reading, None, later));
    });
    take(format!("comparing {orders} purchases again, unchanged"), &mut || {
        drop(ledger.reconcile(&reading, None, later));
    });
    let mut ledger = Some(ledger);
    take("closing in order, everything durable".to_owned(), &mut || drop(ledger.take()));
    take(format!("opening, with {orders} intents on file"), &mut || {
        ledger = Some(Ledger::open(location, budget(), &[entry()], later).unwrap());
    });
    drop(ledger.take());
    take(format!("verifying {orders} intents"), &mut || {
        LedgerReader::open(&location.folder).unwrap().verify().unwrap();
    });
    done
}

fn row(name: &str, times: Times) -> String {
    let mut times = times;
    times.sort_unstable();
    let at = |permille: usize| {
        let index = (times.len() * permille / 1_000).min(times.len() - 1);
        times.get(index).copied().unwrap_or_default()
    };
    let [p50, p90, p99, max] = [500, 900, 990, 1_000].map(at);
    format!("{name:<24} {p50:>9} {p90:>9} {p99:>9} {max:>9}")
}

fn wait(pause: Duration) {
    let start = Instant::now();
    while start.elapsed() < pause {
        std::thread::yield_now();
    }
}

fn id(n: u32) -> TradeId {
    TradeId::new(&format!("VHJhZGU6OTAwMD{n:010}")).unwrap()
}

fn budget() -> Budget {
    Budget {
        max_price: Amount::from_cents(5_000),
        total: Amount::from_cents(100_000_000_000),
        min_balance: Amount::ZERO,
        max_buys_per_minute: u32::MAX,
        per_hour: Some(Amount::from_cents(100_000_000_000)),
        per_day: Some(Amount::from_cents(100_000_000_000)),
        max_in_flight: 8,
    }
}

fn entry() -> WhitelistEntry {
    WhitelistEntry {
        name: Some("anything".to_owned()),
        max_price: Amount::MAX,
        max_markup: Some(Percent::from_hundredths(0)),
        max_quantity: u32::MAX,
        max_total: Some(Amount::MAX),
        ..WhitelistEntry::default()
    }
}
