//! One request for one approved buy, over a connection that is already open and warm.
//!
//! [`OrderClient::send`] writes the request from where the caller stands: it takes an idle connection,
//! puts the listing's id into its place in a prepared request and hands the bytes to the system,
//! without waiting, allocating, logging or asking another task. The answer is read by the
//! connection's driver and comes out of a queue as a [`OrderReport`]. What the answer means is for
//! `csgoroll::answer` to say; whether to buy at all was for the ledger.
//!
//! # Invariants
//!
//! 1. Nothing that was handed to the system in part or whole is ever written again, by anybody: no
//!    retry, no redirect, no replay on another connection, no early data.
//! 2. A buy moves on to another connection only if not one byte was written to the one before.
//! 3. Every order of which a byte has left ends in exactly one final [`OrderReport`]. A refusal that is
//!    still to be confirmed has a provisional report before that one.
//! 4. One connection carries one request at a time, and an order is written only after everything
//!    that the server had sent on it was read and accounted for. An answer that names no order
//!    refuses one only if the connection is shown to be in step afterwards: the keep-warm request is
//!    written next, its answer arrives next, and nothing else arrives. A connection on which
//!    anything else arrives carries no further order.
//! 5. Connections, dials per second, bytes per answer and waits are bounded.
//!
//! Parts: [`request`] (the bytes out, pure), [`answer_reader`] (the bytes in, pure), [`answer`]
//! (what came back, plain data); inside, `attribution` (which order an answer belongs to, pure), the
//! pool that sender and drivers share, the link that is one socket, the driver that looks after it,
//! and the pace at which it dials (pure).

pub mod answer;
pub mod answer_reader;
mod attribution;
mod chunked_body;
mod connection;
mod driver;
mod pool;
mod redial;
pub mod request;

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

use self::{
    answer::{OrderReport, SentRequest},
    driver::{ConnectionDriver, DriverContext},
    pool::{PoolState, StopPhase},
    request::{BodyTemplate, BuyRequest, RequestError, RequestIdentity, WarmRequest},
};
use crate::{
    clock,
    domain::outcome::NotSent,
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    ledger::ApprovedOrder,
    net::{deadline, tls::Tls},
    threads::{ThreadName, failpoint},
};

/// The most connections that are held open.
pub const CONNECTIONS_MAX: u32 = 66;

/// How many connections beyond those that carry an order or confirm a refusal are worth holding:
/// while one is being replaced or kept warm, it cannot take an order.
pub const CONNECTIONS_SPARE: u32 = 2;

/// How many reports of one connection the queue has room for: two for each order, and those of the
/// order before may not have been taken yet.
const REPORTS_PER_CONNECTION: usize = 4;

/// How long opening a connection may take: DNS, TCP and TLS together.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(10);

/// How often it is looked whether the machine has slept.
const SLEEP_LOOKED_FOR_EVERY: Duration = Duration::from_secs(1);

/// How long drivers get to end once nothing is waited for any more.
const END_DEADLINE: Duration = Duration::from_secs(1);

/// How connections are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionConfig {
    /// How long a connection may be idle before a harmless request keeps it warm.
    pub keep_warm: Duration,
    /// How long an answer may take. After it the buy is unknown and the connection is given up.
    pub answer_deadline: Duration,
}

/// Servers and what lies before them give up idle connections after a minute or more.
impl Default for ConnectionConfig {
    fn default() -> Self {
        Self { keep_warm: Duration::from_secs(50), answer_deadline: Duration::from_secs(10) }
    }
}

/// All that a buyer needs.
#[derive(Debug)]
pub struct OrderClientConfig<'a> {
    /// Whom to ask, and as whom.
    pub identity: RequestIdentity<'a>,
    /// The body of a buy.
    pub body: BodyTemplate<'a>,
    /// The body of a harmless request.
    pub warm_body: &'a str,
    /// How to speak TLS.
    pub tls: Tls,
    /// How many connections are held: at least one and at most [`CONNECTIONS_MAX`]; see
    /// [`connections_for`].
    pub connections: u32,
    /// How connections are looked after.
    pub habits: ConnectionConfig,
}

/// Sends buys.
#[derive(Debug)]
pub struct OrderClient {
    shared: Arc<PoolState>,
    drivers: Mutex<JoinSet<()>>,
    watch: AbortHandle,
}

impl OrderClient {
    /// Begins to open connections. Reports come out of the queue, which has room for all orders
    /// that can be in flight.
    ///
    /// Must be called in a tokio runtime, which then runs the drivers.
    ///
    /// # Errors
    ///
    /// A [`RequestError`] if the requests cannot be prepared.
    pub fn start(
        setup: OrderClientConfig<'_>,
    ) -> Result<(Self, mpsc::Receiver<OrderReport>), RequestError> {
        let OrderClientConfig { identity, body, warm_body, tls, connections, habits } = setup;
        let connections = connections.clamp(1, CONNECTIONS_MAX);
        let places = usize::try_from(connections).unwrap_or(1);
        let (reports, receiver) = mpsc::channel(places.saturating_mul(REPORTS_PER_CONNECTION));
        let shared = Arc::new(PoolState::new(BuyRequest::new(identity, body)?, connections));
        let common = Arc::new(DriverContext {
            shared: Arc::clone(&shared),
            endpoint: identity.endpoints.http.clone(),
            tls,
            warm: WarmRequest::new(identity, warm_body)?,
            habits,
            reports,
            started: Instant::now(),
        });
        let mut drivers = JoinSet::new();
        for index in 0..places {
            drivers.spawn(ConnectionDriver::new(Arc::clone(&common), index).run());
        }
        let watch = drivers.spawn(watch_for_sleep(Arc::clone(&shared)));
        Ok((Self { shared, drivers: Mutex::new(drivers), watch }, receiver))
    }

    /// Writes the request for this buy to a warm connection, now. Its [`OrderReport`]s follow.
    ///
    /// # Errors
    ///
    /// Gives the buy back, with why it was not sent. Not one byte of it has left.
    pub fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, (ApprovedOrder, NotSent)> {
        self.shared.send(approved.id()).map_err(|reason| (approved, reason))
    }

    /// How many buys could be sent at this moment.
    pub fn ready_count(&self) -> usize {
        self.shared.pool().ready_count()
    }

    /// The newest `Date` that came with the answer to a harmless request, once.
    pub fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        self.shared.pool().date.take()
    }

    /// How many orders wait for their final report.
    pub fn in_flight_count(&self) -> usize {
        self.shared.pool().in_flight_count()
    }

    /// Waits until so many connections are ready. Returns whether they are; `false` after
    /// `deadline`.
    ///
    /// # Cancel safety
    ///
    /// Safe: it only looks.
    pub async fn warm(&self, connections: usize, deadline: Duration) -> bool {
        let enough = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if self.ready_count() >= connections {
                    return;
                }
                changed.await;
            }
        };
        timeout(deadline, enough).await.is_ok()
    }

    /// Replaces every idle connection, as after a change of the network: those that were are likely
    /// to be dead, and nothing would tell.
    pub fn renew(&self) {
        renew(&self.shared);
    }

    /// Sends no further order, and waits at most for `grace` for the answers that are due and for
    /// the confirmation of refusals. What has none by then is reported as stopped or unconfirmed.
    ///
    /// # Cancel safety
    ///
    /// Not safe: if dropped before it is done, the buys in flight get no report.
    pub async fn stop(&self, grace: Duration) {
        let mut drivers = {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *drivers)
        };
        self.watch.abort();
        for (stage, wait) in [(StopPhase::Waiting, grace), (StopPhase::Over, END_DEADLINE)] {
            self.shared.pool().stopping = stage;
            self.shared.wake_all();
            let all = async { while drivers.join_next().await.is_some() {} };
            if deadline::timeout(wait, all).await.is_ok() {
                return;
            }
        }
    }
}

/// How many connections let `max_in_flight` orders be sent while as many refusals are confirmed: an
/// order is not in flight any more while its refusal is confirmed, but its connection is busy. From
/// 33 on [`CONNECTIONS_MAX`] binds.
pub const fn connections_for(max_in_flight: u32) -> u32 {
    let wanted = max_in_flight.saturating_mul(2).saturating_add(CONNECTIONS_SPARE);
    if wanted < CONNECTIONS_MAX { wanted } else { CONNECTIONS_MAX }
}

fn renew(shared: &PoolState) {
    shared.pool().give_up_idle();
    shared.wake_all();
}

/// Replaces the connections when the machine has slept.
async fn watch_for_sleep(shared: Arc<PoolState>) {
    loop {
        let (wall, monotonic) = (clock::now(), Instant::now());
        sleep(SLEEP_LOOKED_FOR_EVERY).await;
        failpoint(ThreadName::Other);
        if redial::slept(clock::now().since(wall), monotonic.elapsed()) {
            info!("The machine has slept: opening new connections for buying");
            renew(&shared);
        }
    }
}
