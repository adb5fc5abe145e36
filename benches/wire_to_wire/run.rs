//! One run: one client, one market, one rhythm of listings, and what came of it.

use std::{
    collections::HashMap,
    hint,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use sniper::sniper::stats::BoughtItem;

use crate::{
    frames::{Frame, Frames},
    market::{Feed, Market, Setup},
    waterfall::Way,
};

/// How long a client may take until it buys for the first time.
const WARM_UP_MAX: Duration = Duration::from_secs(40);
/// How long after the last listing a buy may still arrive.
const LATE_MAX: Duration = Duration::from_secs(2);
/// How many listings a client sees, at its ease, before the first that counts.
const WARM_UP_LISTINGS: usize = 100;

/// Where a client finds what it needs.
pub(crate) struct Place {
    pub(crate) ws: SocketAddr,
    pub(crate) http: SocketAddr,
    /// Whom to trust, where TLS is spoken.
    pub(crate) root: Option<CertificateDer<'static>>,
    /// A folder of its own.
    pub(crate) directory: PathBuf,
}

/// Something that buys.
pub(crate) trait Client {
    fn name(&self) -> &'static str;

    fn is_tls(&self) -> bool {
        false
    }

    fn start(&self, place: &Place) -> Running;
}

/// A client that runs until it is stopped, and then may tell what it has bought.
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

/// When listings are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    /// How many in all.
    pub(crate) listings: usize,
    /// Each so-manieth is wanted.
    pub(crate) wanted_every: usize,
    /// How many come one upon the other; 1: none.
    pub(crate) burst: usize,
    /// From one listing of a burst to the next.
    pub(crate) step: Duration,
    /// From the end of one burst to the next.
    pub(crate) pause: Duration,
    /// How long a connection for requests may be idle before the market closes it.
    pub(crate) http_idle: Option<Duration>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// From listing to buy, in ns, sorted.
    pub(crate) latencies: Vec<u64>,
    pub(crate) missed: usize,
    pub(crate) doubled: usize,
    /// Buys over a connection that was opened after the listing had been sent.
    pub(crate) cold: usize,
    /// The way of each buy, where the client keeps account of it.
    pub(crate) ways: Vec<Way>,
}

/// Runs one client once.
pub(crate) fn run(client: &dyn Client, frames: &mut Frames, rhythm: Rhythm) -> Outcome {
    let (tls, root) = if client.is_tls() { certificate() } else { (None, None) };
    let market = Market::open(Setup { tls, http_idle: rhythm.http_idle });
    let directory = tempfile::tempdir().unwrap();
    let (ws, http) = (market.ws, market.http);
    let place = Place { ws, http, root, directory: directory.path().to_owned() };
    let running = client.start(&place);
    let mut feed = market.feeds.recv_timeout(WARM_UP_MAX).expect("the client subscribes");
    warm_up(&market, &mut feed, frames);
    let listings = frames.make(&feed.id, rhythm.listings, rhythm.wanted_every);
    let written = write(&mut feed, &listings, rhythm);
    wait_for_the_last(&market, &written);
    let mut outcome = judge(&market, &written);
    outcome.ways = ways(&market, &written, &running.stop());
    outcome
}

/// Lists what is wanted until the client buys it, then some more at a gentle pace.
fn warm_up(market: &Market, feed: &mut Feed, frames: &mut Frames) {
    let start = Instant::now();
    while market.buy_count() == 0 {
        assert!(start.elapsed() < WARM_UP_MAX, "the client has not bought anything");
        for frame in frames.make(&feed.id, 2, 2) {
            feed.wire.write_all(&frame.bytes).unwrap();
        }
        feed.wire.flush().unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    for frame in frames.make(&feed.id, WARM_UP_LISTINGS, 4) {
        feed.wire.write_all(&frame.bytes).unwrap();
        feed.wire.flush().unwrap();
        thread::sleep(Duration::from_millis(3));
    }
    thread::sleep(Duration::from_millis(300));
}

/// Writes the listings in their rhythm: when each that is wanted was written.
fn write(feed: &mut Feed, listings: &[Frame], rhythm: Rhythm) -> HashMap<String, Instant> {
    let mut written = HashMap::with_capacity(listings.len());
    for burst in listings.chunks(rhythm.burst) {
        let mut next = Instant::now();
        for frame in burst {
            while Instant::now() < next {
                hint::spin_loop();
            }
            let at = Instant::now();
            feed.wire.write_all(&frame.bytes).unwrap();
            feed.wire.flush().unwrap();
            if let Some(id) = &frame.wanted {
                written.insert(id.clone(), at);
            }
            next = at + rhythm.step;
        }
        thread::sleep(rhythm.pause);
    }
    written
}

fn wait_for_the_last(market: &Market, written: &HashMap<String, Instant>) {
    let start = Instant::now();
    let all_are_there = || {
        let buys = market.buys();
        buys.iter().filter(|buy| written.contains_key(&buy.id)).count() >= written.len()
    };
    while start.elapsed() < LATE_MAX && !all_are_there() {
        thread::sleep(Duration::from_millis(20));
    }
}

fn judge(market: &Market, written: &HashMap<String, Instant>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut times: HashMap<&str, usize> = HashMap::new();
    let buys = market.buys();
    for buy in &buys {
        let Some(listed) = written.get(&buy.id) else { continue };
        let seen = times.entry(&buy.id).or_default();
        *seen += 1;
        if *seen > 1 {
            outcome.doubled += 1;
            continue;
        }
        let latency = buy.at.saturating_duration_since(*listed);
        outcome.latencies.push(u64::try_from(latency.as_nanos()).unwrap());
        outcome.cold += usize::from(*listed < buy.connected);
    }
    outcome.missed = written.len() - times.len();
    outcome.latencies.sort_unstable();
    outcome
}

/// What the client says of its buys, between what the market knows of them.
fn ways(market: &Market, written: &HashMap<String, Instant>, bought: &[BoughtItem]) -> Vec<Way> {
    let arrived: HashMap<String, Instant> =
        market.buys().into_iter().map(|buy| (buy.id, buy.at)).collect();
    let way = |bought: &BoughtItem| {
        let id = bought.id.as_str();
        Some(Way::new(*written.get(id)?, &bought.steps, *arrived.get(id)?))
    };
    bought.iter().filter_map(way).collect()
}

fn certificate() -> (Option<Arc<ServerConfig>>, Option<CertificateDer<'static>>) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let root = made.cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![root.clone()], key)
        .unwrap();
    (Some(Arc::new(config)), Some(root))
}
