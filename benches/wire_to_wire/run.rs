//! One run of one client on one market, with a schedule of listings.

use std::{
    collections::HashMap,
    fs, hint,
    net::SocketAddr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustls::pki_types::CertificateDer;
use sniper::{config::Market as MarketName, sniper::stats::BoughtItem};

use crate::{
    certificate::self_signed,
    frames::{Content, Frame, Frames},
    market::{Feed, Market, Setup},
    waterfall::StepTimes,
};

/// Maximum time until the first order of a client.
const WARM_UP_MAX: Duration = Duration::from_secs(40);
/// Maximum time from the last listing to the last order.
const LATE_MAX: Duration = Duration::from_secs(2);
/// Number of listings at a slow pace before the measured ones.
const WARM_UP_LISTINGS: usize = 400;

/// Parts of a burst for which results are reported.
pub(crate) const PLACES: usize = 4;

/// Addresses and files of a run.
pub(crate) struct Environment {
    pub(crate) ws: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) market: MarketName,
    /// Root certificate to trust, with TLS.
    pub(crate) root: Option<CertificateDer<'static>>,
    /// Temporary folder of the run.
    pub(crate) directory: PathBuf,
}

/// A client under measurement.
pub(crate) trait Client {
    fn name(&self) -> &'static str;

    fn is_tls(&self) -> bool {
        false
    }

    /// Returns the time from the last listing of the warm-up to the first one that is measured.
    fn settling_time(&self) -> Duration {
        Duration::from_millis(300)
    }

    fn start(&self, env: &Environment) -> Running;
}

/// A running client. Stopping it returns its purchases, if it records them.
pub(crate) struct Running(Option<Box<dyn FnOnce() -> Vec<BoughtItem>>>);

impl Running {
    pub(crate) fn new(stop: impl FnOnce() -> Vec<BoughtItem> + 'static) -> Self {
        Self(Some(Box::new(stop)))
    }

    fn stop(mut self) -> Vec<BoughtItem> {
        self.0.take().map(|stop| stop()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.0.take() {
            stop();
        }
    }
}

/// Schedule of the listings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) market: MarketName,
    pub(crate) content: Content,
    /// Messages per burst; 1 without bursts.
    pub(crate) burst: usize,
    /// Interval between the messages of a burst.
    pub(crate) step: Duration,
    /// Pause between bursts.
    pub(crate) pause: Duration,
    /// Idle time after which the market closes an HTTP connection.
    pub(crate) http_idle: Option<Duration>,
    /// All threads of the client run on one core, and those of the market on the others.
    pub(crate) one_core: bool,
}

/// Results of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Sorted latencies from listing to order, in ns.
    pub(crate) latencies: Vec<u64>,
    /// Latencies by the quarter of the burst in which the listing was, each sorted.
    pub(crate) by_place: [Vec<u64>; PLACES],
    pub(crate) missed: usize,
    pub(crate) doubled: usize,
    /// Orders over a connection that was opened after the listing had been sent.
    pub(crate) cold: usize,
    /// Step times of each order, if the client records them.
    pub(crate) step_times: Vec<StepTimes>,
    pub(crate) cpu: CpuTime,
    /// Listings of the run, and the time in which they were written.
    pub(crate) listings: usize,
    pub(crate) elapsed: Duration,
}

/// CPU time of this process without the calling thread, which writes the listings. Zero on systems
/// without `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuTime {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl CpuTime {
    fn now() -> Self {
        let [process, writer] = ["/proc/self/stat", "/proc/thread-self/stat"].map(cpu_times);
        let [user, system] = [0, 1].map(|at| process[at].saturating_sub(writer[at]));
        Self { user, system }
    }

    fn since(self, start: Self) -> Self {
        let [user, system] = [(self.user, start.user), (self.system, start.system)]
            .map(|(end, start)| end.saturating_sub(start));
        Self { user, system }
    }
}

/// Reads user and system time from a `stat` file of Linux, which counts in ticks.
fn cpu_times(path: &str) -> [Duration; 2] {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(path).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    [11, 12].map(|at| TICK * fields.get(at).and_then(|ticks| ticks.parse().ok()).unwrap_or(0))
}

/// Runs a client once against a new market.
pub(crate) fn run(client: &dyn Client, frames: &mut Frames, schedule: Schedule) -> Outcome {
    let (tls, root) = client.is_tls().then(self_signed).unzip();
    let setup = Setup { market: schedule.market, tls, http_idle: schedule.http_idle };
    let cores = schedule.one_core.then(Cores::divide);
    let market = Market::open(setup);
    let directory = tempfile::tempdir().unwrap();
    let (ws, http) = (market.ws, market.http);
    let directory_path = directory.path().to_owned();
    let env = Environment { ws, http, market: schedule.market, root, directory: directory_path };
    let running = match &cores {
        Some(cores) => cores.start(|| client.start(&env)),
        None => client.start(&env),
    };
    let mut feed = market.feeds.recv_timeout(WARM_UP_MAX).expect("the client subscribes");
    warm_up(&market, &mut feed, frames);
    thread::sleep(client.settling_time());
    let listings = frames.make(&feed.id, schedule.content);
    let (start, cpu) = (Instant::now(), CpuTime::now());
    let written = write(&mut feed, &listings, schedule);
    let elapsed = start.elapsed();
    wait_for_last_order(&market, &written);
    let cpu = CpuTime::now().since(cpu);
    let mut outcome = evaluate(&market, &written);
    (outcome.cpu, outcome.elapsed, outcome.listings) = (cpu, elapsed, listings.len());
    outcome.step_times = step_times(&market, &written, &running.stop());
    outcome
}

/// The first core for the client, and the others for the market, which is another machine in
/// reality: on the client's core, it would be measured which of the two the scheduler prefers.
struct Cores {
    all: CpuSet,
    market: CpuSet,
    client: CpuSet,
}

impl Cores {
    /// Moves this thread, and the threads that it starts, to the cores of the market.
    fn divide() -> Self {
        let all = sched_getaffinity(None).unwrap();
        let (mut market, mut client) = (all, CpuSet::new());
        let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap();
        market.unset(first);
        client.set(first);
        assert!(market.count() > 0, "the market needs a core of its own");
        sched_setaffinity(None, &market).unwrap();
        Self { all, market, client }
    }

    /// Starts a client whose threads, which inherit the setting, run on its core.
    fn start(&self, start: impl FnOnce() -> Running) -> Running {
        sched_setaffinity(None, &self.client).unwrap();
        let running = start();
        sched_setaffinity(None, &self.market).unwrap();
        running
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        sched_setaffinity(None, &self.all).unwrap();
    }
}

const fn warm_up_content(listings: usize, wanted_every: usize) -> Content {
    Content { listings, wanted_every, is_random: false, per_message: 1 }
}

/// Sends matching listings until the first order, then some more at a slow pace.
fn warm_up(market: &Market, feed: &mut Feed, frames: &mut Frames) {
    let start = Instant::now();
    while market.order_count() == 0 {
        assert!(start.elapsed() < WARM_UP_MAX, "the client has not sent an order");
        for frame in frames.make(&feed.id, warm_up_content(2, 2)) {
            feed.wire.write_all(&frame.bytes).unwrap();
        }
        feed.wire.flush().unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    for frame in frames.make(&feed.id, warm_up_content(WARM_UP_LISTINGS, 4)) {
        feed.wire.write_all(&frame.bytes).unwrap();
        feed.wire.flush().unwrap();
        thread::sleep(Duration::from_millis(3));
    }
}

/// Write of a matching listing.
#[derive(Clone, Copy, Debug)]
struct Written {
    at: Instant,
    /// Quarter of the burst.
    place: usize,
}

/// Writes the listings by the schedule. Returns the write of each that matches.
fn write(feed: &mut Feed, listings: &[Frame], schedule: Schedule) -> HashMap<String, Written> {
    let mut written = HashMap::with_capacity(listings.len());
    for burst in listings.chunks(schedule.burst) {
        let mut next = Instant::now();
        for (number, frame) in burst.iter().enumerate() {
            while Instant::now() < next {
                hint::spin_loop();
            }
            let at = Instant::now();
            feed.wire.write_all(&frame.bytes).unwrap();
            feed.wire.flush().unwrap();
            let place = number * PLACES / burst.len();
            for id in &frame.wanted {
                written.insert(id.clone(), Written { at, place });
            }
            next = at + schedule.step;
        }
        thread::sleep(schedule.pause);
    }
    written
}

fn wait_for_last_order(market: &Market, written: &HashMap<String, Written>) {
    let start = Instant::now();
    let all_received = || {
        let orders = market.orders();
        orders.iter().filter(|order| written.contains_key(&order.id)).count() >= written.len()
    };
    while start.elapsed() < LATE_MAX && !all_received() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn evaluate(market: &Market, written: &HashMap<String, Written>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut times: HashMap<&str, usize> = HashMap::new();
    let orders = market.orders();
    for order in &orders {
        let Some(listed) = written.get(&order.id) else { continue };
        let seen = times.entry(&order.id).or_default();
        *seen += 1;
        if *seen > 1 {
            outcome.doubled += 1;
            continue;
        }
        let latency = order.at.saturating_duration_since(listed.at);
        let ns = u64::try_from(latency.as_nanos()).unwrap();
        outcome.latencies.push(ns);
        outcome.by_place[listed.place].push(ns);
        outcome.cold += usize::from(listed.at < order.connected);
    }
    outcome.missed = written.len() - times.len();
    outcome.latencies.sort_unstable();
    outcome.by_place.iter_mut().for_each(|latencies| latencies.sort_unstable());
    outcome
}

/// Combines the client's step times with the market's timestamps of each order.
fn step_times(
    market: &Market,
    written: &HashMap<String, Written>,
    bought: &[BoughtItem],
) -> Vec<StepTimes> {
    let arrived: HashMap<String, Instant> =
        market.orders().into_iter().map(|order| (order.id, order.at)).collect();
    let times = |bought: &BoughtItem| {
        let id = bought.id.as_str();
        Some(StepTimes::new(written.get(id)?.at, &bought.steps, *arrived.get(id)?))
    };
    bought.iter().filter_map(times).collect()
}
