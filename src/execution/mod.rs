//! Sends one request per approved order over a connection that is already open.
//!
//! [`OrderClient::send`] writes the request in the caller's task: it takes an idle connection,
//! copies the values of the order into a prepared request and passes the bytes to the system,
//! without waiting, allocating, logging or switching tasks. The connection's driver reads the
//! response and puts an [`OrderReport`] into a queue. The market's own parser turns a response into
//! an outcome. Only orders that the ledger has approved are accepted.
//!
//! # Invariants
//!
//! 1. A request that was passed to the system in part or whole is never written again: no retry, no
//!    redirect, no replay on another connection, no early data.
//! 2. An order is written to another connection only if no byte was written to the previous one.
//! 3. Every order of which a byte was sent has exactly one final [`OrderReport`]. A rejection that
//!    is still to be confirmed has a provisional report before it.
//! 4. A connection carries one request at a time, and an order is written only after all received
//!    data was read and matched to a request. A response that does not name the order rejects it
//!    only if the connection is shown to be in sync afterwards: the keep-warm request is written
//!    next, its response arrives next, and nothing else arrives. After any other data, the
//!    connection carries no further order.
//! 5. Connections, dials per second, bytes per response and waits are bounded.
//!
//! Modules: [`request`] (bytes to send, pure), [`request_size`] (their number, pure),
//! [`response_reader`] (response parser, pure) with `chunked_body`, [`response`] (results, plain
//! data), `attribution` (matches responses to orders, pure), `pool` (state shared by sender and
//! drivers), `connection` (one socket), `driver` (task of one connection), `redial` (dial rate and
//! backoff, pure), `address_watch` (task that keeps the connections on a fast address),
//! `address_choice` (its decision, pure).

mod address_choice;
mod address_watch;
mod attribution;
mod chunked_body;
mod connection;
mod driver;
mod pool;
mod redial;
pub mod request;
pub mod request_size;
pub mod response;
pub mod response_reader;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::info;

pub use self::address_watch::AddressWatch;
use self::{
    driver::{ConnectionDriver, DriverContext},
    pool::{PoolState, StopPhase},
    request::{PreparedOrder, RequestError, WarmRequest},
    response::{OrderReport, SentRequest},
};
use crate::{
    clock,
    config::endpoint::Endpoint,
    domain::outcome::NotSent,
    domain::server_clock::ClockExchange,
    domain::time::{SuspendDetector, UnixMs},
    ledger::ApprovedOrder,
    markets::{
        MarketApi,
        order_template::{OrderFields, OrderTemplate},
    },
    net::{deadline, http_message::HttpRequest, tls::Tls},
    threads::{ThreadName, failpoint},
};

/// Maximum number of connections of a pool.
pub const CONNECTIONS_MAX: u32 = 66;

/// Connections beyond those that carry an order or confirm a rejection. A connection that is being
/// replaced or kept warm cannot take an order.
const CONNECTIONS_SPARE: u32 = 2;

/// Queue capacity for the reports of one connection: two for each order, and those of the previous
/// order may not have been received yet.
const REPORTS_PER_CONNECTION: usize = 4;

/// Maximum time to open a connection: DNS, TCP and TLS together.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Interval between checks for a system suspend.
const SUSPEND_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time for the drivers to end after [`StopPhase::Aborted`].
const DRIVER_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Timing of the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// Idle time after which a request without side effects keeps a connection open.
    pub keep_warm: Duration,
    /// Maximum time from an order to its response. After it the order is unknown and the connection
    /// is closed.
    pub order_timeout: Duration,
    /// Maximum time from a keep-warm or confirming request to its response, after which the
    /// connection is closed.
    pub response_timeout: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        // Servers and proxies close idle connections after a minute or more.
        let keep_warm = Duration::from_secs(50);
        let timeout = Duration::from_secs(10);
        Self { keep_warm, order_timeout: timeout, response_timeout: timeout }
    }
}

/// Settings of an [`OrderClient`].
#[derive(Debug)]
pub struct OrderClientConfig<'a> {
    pub endpoint: &'a Endpoint,
    /// Request of an order, with the credential.
    pub order: &'a OrderTemplate,
    /// Keep-warm request, which must have no side effects.
    pub keep_warm: &'a HttpRequest,
    pub tls: Tls,
    /// Number of connections, from 1 to [`CONNECTIONS_MAX`]; see [`connections_for`].
    pub connections: u32,
    pub connection_config: ConnectionConfig,
}

/// Sends orders over a pool of open connections.
#[derive(Debug)]
pub struct OrderClient {
    shared: Arc<PoolState>,
    endpoint: Endpoint,
    tls: Tls,
    warm: Arc<WarmRequest>,
    drivers: Mutex<JoinSet<()>>,
    suspend_watch: AbortHandle,
}

impl OrderClient {
    /// Starts to open connections. Returns the client and its report queue, which has capacity for
    /// all orders that can be in flight.
    ///
    /// Must be called in a tokio runtime, which then runs the drivers.
    ///
    /// # Errors
    ///
    /// Returns a [`RequestError`] if the requests cannot be prepared.
    pub fn start<M: MarketApi>(
        market: &M,
        config: OrderClientConfig<'_>,
    ) -> Result<(Self, mpsc::Receiver<OrderReport>), RequestError> {
        let OrderClientConfig { endpoint, tls, connections, connection_config, .. } = config;
        let connections = connections.clamp(1, CONNECTIONS_MAX);
        let slots = usize::try_from(connections).unwrap_or(1);
        let (reports, receiver) = mpsc::channel(slots.saturating_mul(REPORTS_PER_CONNECTION));
        let authority = endpoint.authority();
        let request = PreparedOrder::new(config.order, &authority)?;
        let shared = Arc::new(PoolState::new(request, connections));
        let warm = Arc::new(WarmRequest::new(config.keep_warm, &authority)?);
        let context = Arc::new(DriverContext {
            market: market.clone(),
            shared: Arc::clone(&shared),
            endpoint: endpoint.clone(),
            tls: tls.clone(),
            warm: Arc::clone(&warm),
            connection_config,
            reports,
            started: Instant::now(),
        });
        let mut drivers = JoinSet::new();
        for index in 0..slots {
            drivers.spawn(ConnectionDriver::new(Arc::clone(&context), index).run());
        }
        let suspend_watch = drivers.spawn(watch_for_suspend(Arc::clone(&shared)));
        let (endpoint, drivers) = (endpoint.clone(), Mutex::new(drivers));
        Ok((Self { shared, endpoint, tls, warm, drivers, suspend_watch }, receiver))
    }

    /// Returns the task that keeps the connections on a fast address, to run on another thread.
    pub fn address_watch(&self) -> AddressWatch {
        AddressWatch {
            shared: Arc::clone(&self.shared),
            endpoint: self.endpoint.clone(),
            tls: self.tls.clone(),
            request: Arc::clone(&self.warm),
        }
    }

    /// Writes the request for this order to an open connection without waiting. Its
    /// [`OrderReport`]s follow.
    ///
    /// # Errors
    ///
    /// Returns the reason if no byte of it was sent.
    pub fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        let order = OrderFields {
            id: *approved.id(),
            price_limit: approved.price(),
            own_id: approved.own_id(),
        };
        self.shared.send(*approved.key(), order)
    }

    /// Runs the path to the write of a request without writing, to keep it in the CPU caches.
    pub fn warm_caches(&self) {
        self.shared.warm_caches();
    }

    /// Returns the number of orders that could be sent at this moment.
    pub fn ready_count(&self) -> usize {
        self.shared.pool().ready_count()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.shared.pool().connection_count()
    }

    /// Takes the newest `Date` header of a keep-warm response.
    pub fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        self.shared.pool().date.take()
    }

    /// Returns the number of orders without a final report.
    pub fn in_flight_count(&self) -> usize {
        self.shared.pool().in_flight_count()
    }

    /// Waits until this many connections are ready. Returns `false` after `deadline`.
    ///
    /// # Cancel safety
    ///
    /// Safe: it has no side effects.
    pub async fn warm(&self, connections: usize, deadline: Duration) -> bool {
        timeout(deadline, wait_for_ready(&self.shared, connections)).await.is_ok()
    }

    /// Returns a future that completes once an order could be sent.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        async move { wait_for_ready(&shared, 1).await }
    }

    /// Replaces every idle connection, for example after a network change, after which connections
    /// may be dead without an error.
    pub fn renew(&self) {
        renew(&self.shared);
    }

    /// Rejects further orders, and waits at most `grace` for outstanding responses and for the
    /// confirmation of rejections. Orders without one by then are reported as stopped or
    /// unconfirmed.
    ///
    /// # Cancel safety
    ///
    /// Not safe: if dropped early, the orders in flight have no report.
    pub async fn stop(&self, grace: Duration) {
        let mut drivers = {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *drivers)
        };
        self.suspend_watch.abort();
        for (phase, wait) in
            [(StopPhase::Draining, grace), (StopPhase::Aborted, DRIVER_STOP_TIMEOUT)]
        {
            self.shared.pool().stop_phase = phase;
            self.shared.wake_all();
            let all = async { while drivers.join_next().await.is_some() {} };
            if deadline::timeout(wait, all).await.is_ok() {
                return;
            }
        }
    }
}

/// Returns the number of connections for `max_in_flight` orders while as many rejections are
/// confirmed: an order is no longer in flight while its rejection is confirmed, but its connection
/// is busy. The number is at most [`CONNECTIONS_MAX`], which it reaches for 32 orders.
pub const fn connections_for(max_in_flight: u32) -> u32 {
    let count = max_in_flight.saturating_mul(2).saturating_add(CONNECTIONS_SPARE);
    if count < CONNECTIONS_MAX { count } else { CONNECTIONS_MAX }
}

/// Waits until this many connections are ready.
async fn wait_for_ready(shared: &PoolState, connections: usize) {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // After this call no notification is missed.
        changed.as_mut().enable();
        if shared.pool().ready_count() >= connections {
            return;
        }
        changed.await;
    }
}

fn renew(shared: &PoolState) {
    shared.pool().discard_idle();
    shared.wake_all();
}

/// Replaces the connections after a system suspend.
async fn watch_for_suspend(shared: Arc<PoolState>) {
    let mut suspend = SuspendDetector::new(Instant::now(), clock::now());
    loop {
        sleep(SUSPEND_CHECK_INTERVAL).await;
        failpoint(ThreadName::Other);
        if suspend.check(Instant::now(), clock::now()) {
            info!("System resumed from suspend: replacing the order connections");
            renew(&shared);
        }
    }
}
