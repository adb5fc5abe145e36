//! Reconnect loop of the market's feed.
//!
//! Each connection runs its own loop: acquire a permit, connect, run the session, classify its end,
//! wait. [`policy`](super::policy) takes the decisions; this module sleeps and connects.
//!
//! A connection is replaced before it reaches `max_age`, because servers close old ones. The
//! replacement is connected first, and both deliver for a while before the old one is closed, so no
//! listing is missed. One of several connections that always delivers last is replaced in the same
//! way, by one to another address where there is one.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::{
    connect::{ConnectProgress, Dial, TcpDial},
    error::{FeedError, SettingNames},
    feed::{Feed, FeedSession, FeedState, ListingHandler},
    gaps::Seconds,
    lateness::{LOOK_INTERVAL, LatenessPolicy},
    metrics::{ConnectionMetrics, add},
    policy::{DialDecision, RetryDecision},
    reconnector::{ConnectionLifetime, Host, Reconnector, fresh_credential},
    session::now,
    watchdog::ArrivalStats,
};
use crate::{
    config::{CONNECTIONS_MAX, Config, Credential},
    domain::trade::Trade,
    markets::Marketplace,
    net::dial::AddressOrder,
    threads::lock,
};

/// Reports that `max_retries` is used up. Without `max_retries` it never occurs.
#[derive(Debug, thiserror::Error)]
#[error("gave up on the feed after {attempts} failed attempts")]
pub struct RetriesExhausted {
    /// Failed attempts in a row.
    pub attempts: u32,
    /// The last error; `None` if no attempt was made.
    #[source]
    pub last: Option<FeedError>,
}

/// Delivers listings and reconnects after each end of a connection.
///
/// Returns only when `max_retries` is set and used up. `on_trade` runs in this task as soon as a
/// frame is read; it must not block.
///
/// # Cancel safety
///
/// Cancel safe: `on_trade` is never interrupted. Dropping the future closes the sockets.
pub async fn run_with_reconnect<M: Marketplace>(
    feed: &Feed<M>,
    on_trade: impl FnMut(Trade<'_>),
) -> RetriesExhausted {
    match TcpDial::from_config(&feed.config) {
        Ok(dial) => run_with_dial(feed, dial, on_trade).await,
        Err(error) => RetriesExhausted { attempts: 0, last: Some(error) },
    }
}

/// Does the same as [`run_with_reconnect`] over a custom [`Dial`].
///
/// # Cancel safety
///
/// Cancel safe, like [`run_with_reconnect`].
pub async fn run_with_dial<M: Marketplace, D: Dial>(
    feed: &Feed<M>,
    dial: D,
    on_trade: impl FnMut(Trade<'_>),
) -> RetriesExhausted {
    let supervisor = Supervisor {
        host: feed.hosts.host(&dial.host(), &feed.config.reconnection),
        dial,
        credential: RefCell::new(feed.config.credential.clone()),
        lateness: RefCell::default(),
        replace: Default::default(),
        orders: Default::default(),
        feed_state: FeedState::new(feed, on_trade),
    };
    let backfilling = async {
        if let Some(receiver) = feed.backfill.as_ref().and_then(|backfill| backfill.take_receiver())
        {
            supervisor.feed_state.run_backfill(receiver).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        gave_up = supervisor.run_all() => gave_up,
        gave_up = backfilling => gave_up,
    }
}

/// Owns the connections of one feed.
struct Supervisor<'c, M, D, F> {
    feed_state: FeedState<'c, M, F>,
    dial: D,
    host: Arc<Host>,
    credential: RefCell<Option<Credential>>,
    lateness: RefCell<LatenessPolicy>,
    /// One per connection: notified when it is to be replaced because it is always last.
    replace: [Notify; CONNECTIONS_MAX],
    /// One per connection: the order in which it dials the addresses. A slow address stays avoided
    /// also after a loss, because the system's order may begin with it.
    orders: [Cell<AddressOrder>; CONNECTIONS_MAX],
}

/// Dials the addresses of a host in this order, and keeps the address of the connection.
struct OrderedDial<'d, D> {
    dial: &'d D,
    order: AddressOrder,
    peer: Mutex<Option<IpAddr>>,
}

impl<D: Dial> Dial for OrderedDial<'_, D> {
    type Stream = D::Stream;

    async fn dial(&self, progress: &ConnectProgress) -> Result<D::Stream, FeedError> {
        let stream = self.dial.dial_in_order(progress, self.order).await?;
        *lock(&self.peer) = D::peer(&stream);
        Ok(stream)
    }

    fn host(&self) -> String {
        self.dial.host()
    }

    fn spin_budget(&self) -> Option<Duration> {
        self.dial.spin_budget()
    }
}

impl<M: Marketplace, D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, M, D, F> {
    /// Runs all connections; returns when each of them has given up.
    async fn run_all(&self) -> RetriesExhausted {
        let connections = self.feed_state.feed.config.feed.connections.clamp(1, CONNECTIONS_MAX);
        self.feed_state.feed.metrics.set_connection_count(connections);
        if connections == 1 {
            return self.run_connection(0).await;
        }
        let mut all: FuturesUnordered<_> =
            (0..connections).map(|connection| self.run_connection(connection)).collect();
        let mut gave_up = RetriesExhausted { attempts: 0, last: None };
        let run = async {
            while let Some(next) = all.next().await {
                gave_up = next;
            }
        };
        tokio::select! {
            biased;
            () = run => {}
            () = self.watch_lateness() => {}
        }
        gave_up
    }

    /// Requests the replacement of a connection that is always last. Never returns.
    async fn watch_lateness(&self) {
        let connections = &self.feed_state.feed.metrics.connections;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let deliveries = std::array::from_fn(|index| {
                connections.get(index).map(ConnectionMetrics::deliveries).unwrap_or_default()
            });
            let last = self.lateness.borrow_mut().look(&deliveries);
            if let Some(replace) = last.and_then(|last| self.replace.get(last)) {
                // A connection that does not wait for this is being replaced already.
                replace.notify_waiters();
            }
        }
    }

    /// Runs one connection and reconnects it.
    async fn run_connection(&self, connection: usize) -> RetriesExhausted {
        let Feed { config, metrics, .. } = self.feed_state.feed;
        let Config { feed, reconnection, credential_source, .. } = config;
        let tag = match feed.connections {
            0 | 1 => String::new(),
            _ => format!(" [connection {}]", connection.saturating_add(1)),
        };
        let (host, metrics) = (Arc::clone(&self.host), Arc::clone(metrics));
        let mut reconnector = Reconnector::new(*reconnection, host, metrics, "trades", tag)
            .with_setting_names(SettingNames::of::<M>());
        let mut arrival_stats = ArrivalStats::default();
        loop {
            reconnector.acquire_permit().await;
            let lifetime =
                self.run_with_rotation(connection, &reconnector, &mut arrival_stats).await;
            let delay = reconnector.on_connection_ended(&lifetime);
            if delay.is_last {
                return RetriesExhausted { attempts: delay.attempt, last: Some(lifetime.error) };
            }
            tokio::time::sleep(delay.wait).await;
            if delay.needs_credential
                && let Some(fresh) = fresh_credential(credential_source.as_ref()).await
            {
                self.credential.replace(Some(fresh));
            }
        }
    }
}

/// Next replacement of a connection by a new one.
struct Rotation {
    at: Instant,
    /// `true` if the connection is replaced because it is always last.
    is_late: bool,
    /// `true` if the connection is replaced because its subscriptions are old.
    is_renewal: bool,
}

/// Time during which the old and the new connection both deliver.
const OVERLAP: Duration = Duration::from_secs(5);

/// Minimum of the age at which a server may say that it ends the connection.
const SERVER_AGE_MIN: Duration = Duration::from_secs(30);

/// Minimum wait after a failed rotation.
const ROTATION_RETRY: Duration = Duration::from_secs(15);

impl<M: Marketplace, D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, M, D, F> {
    /// Connects and runs the session, including its replacements, until the end.
    async fn run_with_rotation(
        &self,
        connection: usize,
        reconnector: &Reconnector,
        arrival_stats: &mut ArrivalStats,
    ) -> ConnectionLifetime {
        self.feed_state.gap_tracker.on_dial();
        let mut session = match self.open(connection).await {
            Ok(session) => session,
            Err(error) => {
                self.feed_state.gap_tracker.on_dial_failed(&error.chain());
                return ConnectionLifetime::failed(error);
            }
        };
        let tag = reconnector.tag();
        info!("Connected{tag}");
        self.feed_state.gap_tracker.on_connected();
        arrival_stats.interrupt();
        let since = now();
        let mut handler = self.feed_state.handler(
            connection,
            reconnector.healthy_on_delivery(),
            reconnector.healthy_callback(),
        );
        let mut rotation = self.next_rotation(since, session.max_age());
        let metrics = self.feed_state.feed.metrics.connections.get(connection);
        let ended = loop {
            let address = metrics.and_then(ConnectionMetrics::address);
            let successor = tokio::select! {
                biased;
                ended = session.run(&mut handler, arrival_stats) => break ended,
                successor = self.connect_successor(connection, &mut rotation) => successor,
            };
            let error = match successor {
                Err(error) => error,
                Ok(successor) => {
                    let old = std::mem::replace(&mut session, successor);
                    let done = rotation;
                    rotation = self.next_rotation(now(), session.max_age());
                    let was_silent = handler.on_subscribed();
                    match self.overlap(old, &mut session, &mut handler, arrival_stats).await {
                        Some((ended, Some(old))) if !was_silent => {
                            // The old connection still delivers, also if the new one was silent.
                            handler.on_subscribed();
                            self.host.record_failure(now());
                            (session, rotation) = (old, done);
                            if let Some(metrics) = metrics {
                                metrics.set_address(address);
                            }
                            ended
                        }
                        ended => {
                            self.on_rotated(connection, &done, tag);
                            match ended {
                                None => continue,
                                Some((ended, _old)) => break ended,
                            }
                        }
                    }
                }
            };
            let wait = self.rotation_retry_delay(&error);
            rotation.at = later(now(), wait);
            let (wait, error) = (Seconds(wait), error.chain());
            warn!("Could not renew the connection, retrying in {wait}{tag}: {error}");
        };
        handler.on_disconnected(session.alive_until(&ended), &ended);
        ConnectionLifetime::ended(now().saturating_duration_since(since), handler.listings(), ended)
    }

    /// Runs the new and the old connection until the old one is closed. If the new one ends before,
    /// returns its end, and the old one unless its close has begun.
    async fn overlap<P: FnMut()>(
        &self,
        mut old: FeedSession<M, D::Stream>,
        session: &mut FeedSession<M, D::Stream>,
        handler: &mut ListingHandler<'_, M, F, P>,
        arrival_stats: &mut ArrivalStats,
    ) -> Option<(FeedError, Option<FeedSession<M, D::Stream>>)> {
        let is_closing = Cell::new(false);
        let mut old_arrival_stats = ArrivalStats::default();
        let mut old_handler =
            self.feed_state.handler(handler.connection, false, || {}).superseded();
        std::mem::swap(&mut old_handler.number, &mut handler.number);
        let hand_over = async {
            let run = old.run(&mut old_handler, &mut old_arrival_stats);
            if tokio::time::timeout(OVERLAP, run).await.is_err() {
                is_closing.set(true);
                old.close(1_000).await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = session.run(handler, arrival_stats) => ended,
            () = hand_over => return None,
        };
        std::mem::swap(&mut old_handler.number, &mut handler.number);
        Some((ended, (!is_closing.get()).then_some(old)))
    }

    /// Counts and logs a rotation.
    fn on_rotated(&self, connection: usize, done: &Rotation, tag: &str) {
        let metrics = &self.feed_state.feed.metrics;
        if done.is_renewal {
            add(&metrics.rotations, 1);
            info!("Connection renewed with the filters of the new whitelist{tag}");
        } else if !done.is_late {
            add(&metrics.rotations, 1);
            info!("Connection renewed before its maximum age{tag}");
        } else if let Some(of_connection) = metrics.connections.get(connection) {
            add(&of_connection.replaced, 1);
            let address = of_connection.address().map(|address| format!(", now to {address}"));
            let address = address.unwrap_or_default();
            info!("Connection replaced because it was always the last one{tag}{address}");
        }
    }

    /// Makes the new connection at the given time, or earlier if this one is always last.
    async fn connect_successor(
        &self,
        connection: usize,
        rotation: &mut Rotation,
    ) -> Result<FeedSession<M, D::Stream>, FeedError> {
        let replace = async {
            match self.replace.get(connection) {
                Some(replace) => replace.notified().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(rotation.at.into()) => {}
            () = self.feed_state.feed.subscriptions.changed(connection) => {
                rotation.is_renewal = true;
            }
            () = replace => {
                rotation.is_late = true;
                let of_connection = self.feed_state.feed.metrics.connections.get(connection);
                let address = of_connection.and_then(ConnectionMetrics::address);
                if let Some(order) = self.orders.get(connection) {
                    order.set(address.map_or(AddressOrder::System, AddressOrder::Avoid));
                }
            }
        }
        while let DialDecision::WaitFor(wait) = self.host.try_acquire(now()) {
            tokio::time::sleep(wait).await;
        }
        add(&self.feed_state.feed.metrics.dials, 1);
        self.open(connection).await.inspect_err(|_error| {
            self.host.record_failure(now());
        })
    }

    /// Returns the wait after a failed rotation: at least a requested `Retry-After`, and after an
    /// error that suspends retries at least the cooldown.
    fn rotation_retry_delay(&self, error: &FeedError) -> Duration {
        let cooldown = self.feed_state.feed.config.reconnection.limits().circuit_breaker_cooldown;
        let wait_min = match error.retry_decision() {
            RetryDecision::RetryAfter(requested) => requested,
            RetryDecision::Suspend => cooldown,
            RetryDecision::SuspendAtLeast(requested) => cooldown.max(requested),
            RetryDecision::Retry | RetryDecision::RetryLater | RetryDecision::RenewCredential => {
                Duration::ZERO
            }
        };
        if !wait_min.is_zero() {
            let now = now();
            self.host.block_until(now, later(now, wait_min));
        }
        wait_min.max(ROTATION_RETRY)
    }

    async fn open(&self, connection: usize) -> Result<FeedSession<M, D::Stream>, FeedError> {
        self.feed_state.feed.subscriptions.on_opening(connection);
        let credential = self.credential.borrow().clone();
        let order = self.orders.get(connection).map_or(AddressOrder::System, Cell::get);
        let dial = OrderedDial { dial: &self.dial, order, peer: Mutex::default() };
        let session = self.feed_state.open(&dial, credential.as_ref()).await?;
        self.lateness.borrow_mut().reset(connection);
        if let Some(metrics) = self.feed_state.feed.metrics.connections.get(connection) {
            metrics.set_address(*lock(&dial.peer));
        }
        Ok(session)
    }

    /// Returns the rotation of a connection that is up since `since`: 80 to 95 % of `max_age`,
    /// or of the server's limit if that is shorter, at random, so that connections do not rotate
    /// together.
    fn next_rotation(&self, since: Instant, limit: Option<Duration>) -> Rotation {
        let thousandths = fastrand::u32(800..950);
        let max_age = self.feed_state.feed.config.feed.max_age;
        let max_age = limit.map_or(max_age, |limit| max_age.min(limit.max(SERVER_AGE_MIN)));
        let age = max_age.saturating_mul(thousandths);
        let at = later(since, age.checked_div(1_000).unwrap_or(age));
        Rotation { at, is_late: false, is_renewal: false }
    }
}

fn later(instant: Instant, wait: Duration) -> Instant {
    instant.checked_add(wait).unwrap_or(instant)
}
