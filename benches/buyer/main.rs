//! Cost of sending an approved order: from the call to the completed write.
//!
//! ```text
//! cargo bench --bench buyer             # plain and TLS, compared with a bare blocking socket
//! cargo bench --bench buyer -- --quick  # functional run and allocations, for CI
//! ```
//!
//! A market on another thread answers each request. `prepare` is the time of the order client
//! before the system call (lock, idle connection, liveness check, insertion of the id), `write` is
//! the time of the system call, and `send` is the whole call. The bare client writes the same bytes
//! with one blocking call.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement that cannot be taken ends with the reason"
)]

#[path = "../../tests/it/certificate.rs"]
mod certificate;
mod market;

use std::{
    env,
    hint::black_box,
    io::{self, Read as _, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use sniper::{
    config::{Budget, Credential, Generation},
    domain::money::{Amount, Percent},
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId},
    execution::{ConnectionConfig, OrderClient, OrderClientConfig, request::PreparedOrder},
    ledger::{ApprovedOrder, Ledger, OrderRequest},
    markets::{MarketApi as _, csgoroll::Csgoroll, order_template::OrderFields},
    whitelist::WhitelistEntry,
};

use self::market::Market;

/// Orders per round. The cases take turns, so that other load on the machine affects all alike.
const ORDERS: usize = 500;
const ROUNDS: usize = 10;
/// Timeout of each step.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two orders, in which all threads go to sleep as they do between two matches.
const PAUSE: Duration = Duration::from_micros(300);

/// Durations of one stage, in nanoseconds.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap());
    }

    fn at(&mut self, percent: usize) -> u64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).copied().unwrap_or(0)
    }

    fn print(&mut self, out: &mut impl Write, name: &str) -> io::Result<()> {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| self.at(percent));
        writeln!(out, "{name:<28} {p50:>9} {p90:>9} {p99:>9}")
    }
}

/// An order client with its market and its measurements.
struct Case {
    market: Market,
    client: OrderClient,
    reports: tokio::sync::mpsc::Receiver<sniper::execution::response::OrderReport>,
    prepare: Times,
    write: Times,
    send: Times,
    allocations: u64,
}

impl Case {
    fn new(is_tls: bool) -> Self {
        let market = Market::start(is_tls);
        let credential = credential();
        let site = Csgoroll::at(&market.endpoints, Generation::B);
        let setup = OrderClientConfig {
            endpoint: &market.endpoints.http,
            order: &Csgoroll::authenticated(Some(&credential), site.order_template()),
            keep_warm: &Csgoroll::authenticated(Some(&credential), site.keep_warm_request()),
            tls: market.tls.clone(),
            connections: 8,
            connection_config: ConnectionConfig::default(),
        };
        let (client, reports) = OrderClient::start(&site, setup).unwrap();
        let times = Times::default;
        let (prepare, write, send) = (times(), times(), times());
        Self { market, client, reports, prepare, write, send, allocations: 0 }
    }

    async fn round(&mut self, round: usize, orders: usize) {
        for number in 0..orders {
            let approved = approved(&format!("VHJhZGU6{:08}{number:04}", round));
            tokio::time::sleep(PAUSE).await;
            let mut sent = None;
            let begun = Instant::now();
            let counted = allocation_counter::measure(|| sent = Some(self.client.send(approved)));
            let ended = begun.elapsed();
            let Some(Ok(written)) = sent else { panic!("not sent: {sent:?}") };
            self.allocations += counted.count_total;
            self.prepare.add(written.begun - begun);
            self.write.add(written.written - written.begun);
            self.send.add(ended);
            let report = tokio::time::timeout(TIMEOUT, self.reports.recv()).await.unwrap();
            black_box(report.unwrap().outcome);
        }
    }
}

fn credential() -> Credential {
    Credential::from_session(&"s%3A0123456789abcdef".repeat(4)).unwrap()
}

fn approved(id: &str) -> ApprovedOrder {
    let price = Amount::from_cents(1_000);
    let budget = Budget { max_price: price, total: price, ..Budget::default() };
    let entry = WhitelistEntry {
        max_price: price,
        max_markup: Some(Percent::from_hundredths(0)),
        max_quantity: 1,
        ..WhitelistEntry::default()
    };
    let mut ledger = Ledger::in_memory(budget, &[entry], false);
    let (id, keyed_by) = (TradeId::new(id).unwrap(), KeyedBy::Id);
    let want = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
    ledger.reserve(want, UnixMs(0)).unwrap()
}

const fn order(id: TradeId) -> OrderFields {
    OrderFields { id, price_limit: Amount::from_cents(1_000), own_id: None }
}

/// Measures the same request over one blocking socket.
fn bare(market: &Market, times: &mut Times, orders: usize) {
    let credential = credential();
    let site = Csgoroll::at(&market.endpoints, Generation::B);
    let template = Csgoroll::authenticated(Some(&credential), site.order_template());
    let mut request = PreparedOrder::new(&template, &market.endpoints.http.authority()).unwrap();
    let mut stream = TcpStream::connect(market.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4_096];
    for number in 0..orders {
        let id = TradeId::new(&format!("VHJhZGU6{number:012}")).unwrap();
        std::thread::sleep(PAUSE);
        let begun = Instant::now();
        stream.write_all(request.bytes_for(&order(id), UnixMs(0))).unwrap();
        times.add(begun.elapsed());
        let count = stream.read(&mut answer).unwrap();
        black_box(answer.get(..count));
    }
}

/// Measures single parts of the preparation, in nanoseconds each.
fn parts(out: &mut impl Write) -> io::Result<()> {
    const TURNS: u32 = 1_000_000;
    let market = Market::start(false);
    let credential = credential();
    let site = Csgoroll::at(&market.endpoints, Generation::B);
    let template = Csgoroll::authenticated(Some(&credential), site.order_template());
    let mut request = PreparedOrder::new(&template, &market.endpoints.http.authority()).unwrap();
    let ids = ["VHJhZGU6OTAwMDAwMDE", "VHJhZGU6OTAwMDAwMDI"].map(|id| TradeId::new(id).unwrap());
    let mut measure = |name: &str, mut work: Box<dyn FnMut(usize) + '_>| {
        let begun = Instant::now();
        for turn in 0..TURNS {
            work(usize::try_from(turn).unwrap());
        }
        let ns = begun.elapsed().as_nanos() / u128::from(TURNS);
        writeln!(out, "{name:<28} {ns:>9}")
    };
    measure(
        "inserting the id",
        Box::new(|turn| {
            black_box(request.bytes_for(&order(*ids.get(turn % 2).unwrap()), UnixMs(0)));
        }),
    )?;
    measure(
        "reading the clock",
        Box::new(|_| {
            black_box(Instant::now());
        }),
    )?;
    let secure = Market::start(true);
    let mut connection = secure.connected();
    let bytes = request.bytes_for(&order(*ids.first().unwrap()), UnixMs(0)).to_vec();
    let mut sink = Vec::with_capacity(4_096);
    measure(
        "encrypting a request",
        Box::new(|_| {
            sink.clear();
            connection.writer().write_all(&bytes).unwrap();
            black_box(connection.write_tls(&mut sink).unwrap());
        }),
    )?;
    let stream = TcpStream::connect(market.address).unwrap();
    stream.set_nonblocking(true).unwrap();
    measure(
        "peeking at a socket",
        Box::new(|_| {
            black_box(stream.peek(&mut [0]).is_err());
        }),
    )
}

fn main() -> io::Result<()> {
    let is_quick = env::args().any(|argument| argument == "--quick");
    let (rounds, orders) = if is_quick { (1, 20) } else { (ROUNDS, ORDERS) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut plain, mut tls) = runtime.block_on(async { (Case::new(false), Case::new(true)) });
    runtime.block_on(async {
        assert!(plain.client.warm(8, TIMEOUT).await, "no connection");
        assert!(tls.client.warm(8, TIMEOUT).await, "no TLS connection");
    });
    let mut bare_times = Times::default();
    for round in 0..rounds {
        bare(&plain.market, &mut bare_times, orders);
        runtime.block_on(plain.round(round, orders));
        runtime.block_on(tls.round(round, orders));
    }
    let mut out = io::stdout().lock();
    assert_eq!(plain.allocations, 0, "sending an order allocates");
    if is_quick {
        return writeln!(out, "sent {} orders without an allocation", rounds * orders);
    }
    writeln!(out, "{:<28} {:>9} {:>9} {:>9}", "ns", "p50", "p90", "p99")?;
    bare_times.print(&mut out, "bare: blocking write")?;
    for (name, case) in [("plain", &mut plain), ("TLS", &mut tls)] {
        case.prepare.print(&mut out, &format!("{name}: prepare"))?;
        case.write.print(&mut out, &format!("{name}: write"))?;
        case.send.print(&mut out, &format!("{name}: send"))?;
    }
    parts(&mut out)
}
