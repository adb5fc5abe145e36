//! The feed over in-memory connections, for tests with paused time.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sniper::{
    config::{Config, FeedConfig},
    domain::trade::Trade,
    markets::Marketplace,
    net::dial::AddressOrder,
    ws::{
        self, Feed, FeedError,
        connect::{ConnectProgress, Dial},
        policy::{ReconnectionLimits, Thousandths},
    },
};
use tokio::{io::DuplexStream, time::sleep};

use super::{harness::config, peer::Peer};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// Capacity of a connection in each direction, in bytes.
const BUFFER: usize = 256 * 1024;

/// Returns the address of the connection with this number.
pub(crate) fn address_of(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, u8::try_from(number).unwrap_or(u8::MAX)))
}

thread_local! {
    /// Number of the last connection of this thread. A feed asks for the address of a connection
    /// as soon as it is dialed.
    static LAST_DIALED: Cell<usize> = const { Cell::new(0) };
}

type Script = Arc<
    dyn Fn(usize, Peer<DuplexStream>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
        + Send
        + Sync,
>;

/// Dials in-memory connections and runs a script at the other end of each.
#[derive(Clone)]
pub(crate) struct MemoryDialer {
    script: Script,
    dials: Arc<AtomicUsize>,
    orders: Arc<Mutex<Vec<AddressOrder>>>,
}

impl MemoryDialer {
    pub(crate) fn play<F, Fut>(script: F) -> Self
    where
        F: Fn(usize, Peer<DuplexStream>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Arc::new(move |number, peer| Box::pin(script(number, peer)));
        Self { script, dials: Arc::default(), orders: Arc::default() }
    }

    pub(crate) fn dials(&self) -> usize {
        self.dials.load(Relaxed)
    }

    /// Returns the order of the addresses of each dial.
    pub(crate) fn orders(&self) -> Vec<AddressOrder> {
        self.orders.lock().unwrap().clone()
    }
}

impl Dial for MemoryDialer {
    type Stream = DuplexStream;

    async fn dial(&self, _progress: &ConnectProgress) -> Result<DuplexStream, FeedError> {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let number = self.dials.fetch_add(1, Relaxed);
        LAST_DIALED.set(number);
        tokio::spawn((self.script)(number, Peer::new(theirs)));
        Ok(ours)
    }

    async fn dial_in_order(
        &self,
        progress: &ConnectProgress,
        order: AddressOrder,
    ) -> Result<DuplexStream, FeedError> {
        self.orders.lock().unwrap().push(order);
        self.dial(progress).await
    }

    fn peer(_stream: &DuplexStream) -> Option<IpAddr> {
        Some(address_of(LAST_DIALED.get()))
    }

    fn host(&self) -> String {
        "in-memory".to_owned()
    }
}

pub(crate) fn default_config() -> Config {
    let limits = ReconnectionLimits { jitter: Thousandths(0), ..ReconnectionLimits::DEFAULT };
    config("ws://127.0.0.1:9/ws", limits)
}

/// Runs the feed for `duration` and returns the delivered listing ids.
pub(crate) async fn run<M: Marketplace>(
    feed: &Feed<M>,
    dialer: &MemoryDialer,
    duration: Duration,
) -> Vec<String> {
    let ids = RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| ids.borrow_mut().push(trade.id.to_string());
    tokio::select! {
        gave_up = ws::run_with_dial(feed, dialer.clone(), on_trade) => panic!("gave up: {gave_up}"),
        () = sleep(duration) => {}
    }
    ids.into_inner()
}

/// Returns settings under which connections are never replaced because of their age.
pub(crate) fn without_rotation() -> FeedConfig {
    FeedConfig { max_age: 1_000 * HOUR, ..FeedConfig::default() }
}
