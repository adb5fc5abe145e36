//! The market's feed over one connection: its subscriptions and the handling of their events.
//!
//! Hot path: [`ListingHandler::on_data`] runs for each event. It does not allocate, lock or log
//! before the closure has returned.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, info, warn};

use super::{
    backfill::{Backfill, BackfillMessage, BackfillReceiver, BackfillSender, backfill},
    connect::{Dial, TcpDial, open},
    deduplicator::{Deduplicator, Duplicate},
    error::{FeedError, ProtocolViolation},
    gap_tracker::{GapTracker, Seconds},
    host_cooldown::Hosts,
    metrics::{ConnectionMetrics, FeedMetrics, add},
    protocol::{GraphqlTransportWs, OperationId, Subscription, SubscriptionState},
    session::{Session, SessionHandler, SessionNotice, now},
    upgrade::UpgradeRequest,
    watchdog::ArrivalStats,
};
use crate::{
    clock,
    config::{Config, Credential, Generation},
    domain::latency::RxTimestamps,
    domain::trade::{Trade, TradeEvent},
    json::Cursor,
    markets::csgoroll::{
        feed::NextPayload,
        operations::{self, GraphqlOperation, SubscriptionFilters},
    },
    net::http_message::Auth,
    text::Escaped,
};

/// The subscription to the listings, always the first. The feed is useless without it.
const LISTINGS: OperationId = OperationId(1);

/// The private subscription, see [`operations::subscriptions`].
const WALLET: OperationId = OperationId(3);

/// Name of a subscription in log lines, by its position in [`operations::subscriptions`].
const fn subscription_name(operation: OperationId) -> &'static str {
    match operation {
        LISTINGS => "listings",
        WALLET => "balance updates",
        _ => "listing updates",
    }
}

/// Returns the message of the first GraphQL error, or the raw JSON if there is none.
fn error_message(errors: &str) -> Cow<'_, str> {
    let mut message = None;
    let read = Cursor::new(errors).array(|cursor| {
        cursor.object(|key, cursor| match key.decode().as_ref() {
            "message" if message.is_none() => {
                cursor.string().map(|text| message = Some(text.decode()))
            }
            _ => cursor.skip().map(drop),
        })
    });
    read.ok().and(message).unwrap_or(Cow::Borrowed(errors))
}

/// Connection index of listings that a back-fill found.
const BACKFILL: usize = usize::MAX;

pub(super) type FeedSession<S> = Session<S, GraphqlTransportWs>;

/// Feed of one market: its configuration, and the state that its connections share and that the rest
/// of the program reads. Clones share that state.
#[derive(Clone, Debug)]
pub struct Feed {
    pub config: Config,
    pub metrics: Arc<FeedMetrics>,
    /// Channel for back-filling gaps; `None` disables back-filling.
    pub backfill: Option<Arc<Backfill>>,
    /// Hosts that this process has connected to, with their cooldowns.
    pub hosts: Hosts,
}

impl Feed {
    pub fn new(config: Config) -> Self {
        Self { config, metrics: Arc::default(), backfill: None, hosts: Hosts::default() }
    }

    /// Enables back-filling of gaps. Returns the handle of the task that reads the missed listings.
    pub fn fill_gaps(&mut self) -> BackfillSender {
        let (backfill, sender) = backfill();
        self.backfill = Some(Arc::new(backfill));
        sender
    }
}

/// State shared by the connections of one feed.
pub(super) struct FeedState<'c, F> {
    pub(super) feed: &'c Feed,
    pub(super) gap_tracker: GapTracker,
    on_trade: RefCell<F>,
    seen: RefCell<Deduplicator>,
    sessions: Cell<u64>,
    sockets: Cell<u32>,
}

impl<'c, F: FnMut(Trade<'_>)> FeedState<'c, F> {
    pub(super) fn new(feed: &'c Feed, on_trade: F) -> Self {
        let Feed { config, metrics, backfill, .. } = feed;
        let stable_after = config.reconnection.limits().stable_after;
        let gap_tracker = GapTracker::new(Arc::clone(metrics), String::new(), stable_after)
            .with_backfill(backfill.clone(), config.feed.sweep_at_start);
        Self {
            feed,
            gap_tracker,
            on_trade: RefCell::new(on_trade),
            seen: RefCell::default(),
            sessions: Cell::new(0),
            sockets: Cell::new(0),
        }
    }

    /// Returns the number of the next socket, counted from 1.
    fn next_socket_number(&self) -> u32 {
        let number = self.sockets.get().saturating_add(1);
        self.sockets.set(number);
        number
    }

    /// Connects and writes the subscriptions.
    pub(super) async fn open<D: Dial>(
        &self,
        dial: &D,
        credential: Option<&Credential>,
    ) -> Result<FeedSession<D::Stream>, FeedError> {
        let Config { endpoints, reconnection, .. } = &self.feed.config;
        let limits = reconnection.limits();
        let sessions = self.sessions.get();
        self.sessions.set(sessions.saturating_add(1));
        let mut subscriptions =
            SubscriptionState::new(GraphqlTransportWs, limits.initial_delay, limits.max_delay)
                .with_sessions_before(sessions);
        for operation in subscribed_operations(&self.feed.config) {
            let is_optional = !operation.is_essential;
            subscriptions
                .subscribe(Subscription { topic: operation.to_json(), is_optional }, now());
        }
        let authority = endpoints.ws.authority();
        let request = UpgradeRequest {
            authority: &authority,
            path: endpoints.ws.path(),
            origin: Some(&endpoints.origin),
            user_agent: Some(&endpoints.user_agent),
            auth: Auth::Cookie,
            credential,
            subprotocol: subscriptions.subprotocol(),
        };
        open(dial, &request, subscriptions, limits).await
    }

    /// Delivers the listings that a back-fill finds, until the sender is dropped.
    pub(super) async fn run_backfill(&self, mut receiver: BackfillReceiver) {
        while let Some(found) = receiver.next().await {
            match found {
                BackfillMessage::Listing(mut trade) => {
                    let at = now();
                    let duplicate = self.seen.borrow_mut().record(&trade, BACKFILL, at);
                    if duplicate == Duplicate::First {
                        trade.arrival = Some(RxTimestamps::at(at));
                        self.gap_tracker.on_backfilled();
                        (self.on_trade.borrow_mut())(*trade);
                    }
                }
                BackfillMessage::All(number) => self.gap_tracker.on_backfill_done(number),
            }
        }
    }

    /// Returns the handler for one session of one connection. `mark_healthy` is called once, when
    /// the session counts as healthy.
    pub(super) fn handler<P: FnMut()>(
        &self,
        connection: usize,
        healthy_on_listing: bool,
        mark_healthy: P,
    ) -> ListingHandler<'_, F, P> {
        let Self { feed, gap_tracker, on_trade, seen, .. } = self;
        let Feed { config, metrics, .. } = feed;
        ListingHandler {
            metrics,
            gap_tracker,
            connection,
            connection_metrics: metrics.connections.get(connection),
            on_trade,
            seen,
            number: self.next_socket_number(),
            listings: 0,
            healthy_on_listing,
            mark_healthy: Some(mark_healthy),
            is_silent: false,
            has_credential: config.credential.is_some(),
            is_superseded: false,
        }
    }
}

/// The subscriptions of the feed, the listings first.
fn subscribed_operations(config: &Config) -> Vec<GraphqlOperation> {
    let Config { feed, whitelist, .. } = config;
    let mut operations = operations::subscriptions(feed.generation);
    let filters = SubscriptionFilters::of(whitelist)
        .filter(|_bounds| feed.server_filters && feed.generation == Generation::B);
    if let (Some(listings), Some(filters)) = (operations.first_mut(), filters) {
        *listings = operations::filtered_listings(filters);
    }
    operations
}

/// Handles the events of one session with the market.
pub(super) struct ListingHandler<'h, F, P> {
    metrics: &'h FeedMetrics,
    gap_tracker: &'h GapTracker,
    connection: usize,
    connection_metrics: Option<&'h ConnectionMetrics>,
    on_trade: &'h RefCell<F>,
    seen: &'h RefCell<Deduplicator>,
    /// Number of the socket, counted from 1.
    pub(super) number: u32,
    listings: u64,
    healthy_on_listing: bool,
    mark_healthy: Option<P>,
    /// `true` from the end of the listings subscription until it is subscribed to again.
    is_silent: bool,
    has_credential: bool,
    /// `true` once another session has replaced this one; ended subscriptions are then ignored.
    is_superseded: bool,
}

impl<F, P: FnMut()> ListingHandler<'_, F, P> {
    /// Number of listings that this session delivered, duplicates included.
    pub(super) const fn listings(&self) -> u64 {
        self.listings
    }

    /// Marks the session as replaced by another one.
    pub(super) fn superseded(self) -> Self {
        Self { is_superseded: true, ..self }
    }

    /// Handles the end of the listings subscription on a live connection.
    fn on_silent(&mut self, cause: &str) {
        if !self.is_superseded && !std::mem::replace(&mut self.is_silent, true) {
            self.gap_tracker.on_silent(now(), cause);
        }
    }

    /// Handles a new listings subscription, on this or on a new connection.
    pub(super) fn on_subscribed(&mut self) {
        if std::mem::take(&mut self.is_silent) {
            self.gap_tracker.on_resubscribed();
        }
    }

    /// Handles the end of the connection. `alive` is the last time at which it was known to work.
    pub(super) fn on_disconnected(&self, alive: Instant, ended: &FeedError) {
        if let FeedError::Violation { violation: ProtocolViolation::TooBig, .. } = ended
            && let Some(recorder) = self.metrics.recorder()
        {
            recorder.on_oversized();
        }
        if self.is_silent {
            self.gap_tracker.on_disconnected_while_silent();
        } else {
            self.gap_tracker.on_disconnected(alive, &ended.chain());
        }
    }

    fn mark_healthy(&mut self) {
        if let Some(mut mark_healthy) = self.mark_healthy.take() {
            mark_healthy();
        }
    }

    /// Logs the end of a subscription. Without a credential the market rejects the private one; this
    /// is logged at `debug`, because the missing credential is reported at start.
    fn log_ended(&self, operation: OperationId, cause: &str, retry_in: Option<Duration>) {
        let (name, cause) = (subscription_name(operation), Escaped(cause));
        let outcome = match retry_in {
            Some(wait) => format!("retrying in {}", Seconds(wait)),
            None => "not retried on this connection".to_owned(),
        };
        if operation == WALLET && !self.has_credential {
            debug!("Subscription ended: {name} ({cause}); {outcome}");
        } else {
            warn!("Subscription ended: {name} ({cause}); {outcome}");
        }
    }

    /// Returns `true` for the first arrival of a listing, and updates the metrics of the
    /// connection.
    #[inline]
    fn is_first(&self, trade: &Trade<'_>, at: Instant) -> bool {
        let duplicate = self.seen.borrow_mut().record(trade, self.connection, at);
        match (duplicate, self.connection_metrics) {
            (Duplicate::First, connection_metrics) => {
                if let Some(connection_metrics) = connection_metrics {
                    add(&connection_metrics.wins, 1);
                }
                return true;
            }
            (Duplicate::Late(by), Some(connection_metrics)) => {
                let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
                add(&connection_metrics.late, 1);
                add(&connection_metrics.late_us, by_us);
                connection_metrics
                    .late_us_max
                    .fetch_max(by_us, std::sync::atomic::Ordering::Relaxed);
            }
            (Duplicate::Late(_) | Duplicate::Repeated, _) => {}
        }
        add(&self.metrics.duplicates, 1);
        false
    }
}

impl<F: FnMut(Trade<'_>), P: FnMut()> SessionHandler for ListingHandler<'_, F, P> {
    type Payload<'a> = NextPayload<'a>;

    #[inline]
    fn on_message(&mut self, text: &str) {
        add(&self.metrics.frames, 1);
        add(&self.metrics.bytes, u64::try_from(text.len()).unwrap_or(u64::MAX));
    }

    #[inline]
    fn on_data(
        &mut self,
        operation: Option<OperationId>,
        payload: NextPayload<'_>,
        arrival: RxTimestamps,
    ) -> bool {
        let (unreadable, wallet) = (payload.unreadable(), payload.wallet());
        let (is_known, errors) = (payload.is_known(), payload.errors());
        let before = self.listings;
        for mut trade in payload.into_trades() {
            self.listings =
                self.listings.saturating_add(u64::from(trade.event == TradeEvent::Listed));
            if self.is_first(&trade, arrival.framed) {
                add(&self.metrics.listings, 1);
                trade.arrival = Some(arrival);
                (self.on_trade.borrow_mut())(trade);
            }
        }
        if self.listings != before {
            self.metrics.set_last_listing(clock::now());
        }
        if unreadable != 0 {
            add(&self.metrics.unreadable, u64::from(unreadable));
            debug!(count = unreadable, "Listings without a usable id dropped");
        }
        if !is_known && errors.is_none() {
            add(&self.metrics.unknown, 1);
            debug!("Event of an unknown type dropped");
        }
        if let Some(balance) = wallet {
            self.metrics.push_balance(balance);
        }
        if let Some(errors) = errors {
            add(&self.metrics.graphql_errors, 1);
            warn!("Error reported by the feed: {}", Escaped(&error_message(errors)));
        }
        if self.listings != 0 && self.healthy_on_listing {
            self.mark_healthy();
        }
        if operation == Some(LISTINGS) && is_known {
            self.gap_tracker.on_data();
            return true;
        }
        false
    }

    #[inline]
    fn on_handled(&mut self, text: &str, at: Instant, is_data: bool) {
        if let Some(recorder) = self.metrics.recorder() {
            recorder.on_message(self.number, text, at, is_data);
        }
    }

    fn on_notice(&mut self, notice: SessionNotice<'_>) {
        match notice {
            SessionNotice::Malformed { text, error } => {
                add(&self.metrics.malformed, 1);
                warn!("Malformed message dropped ({error}): {}", Escaped(text));
            }
            SessionNotice::Binary(bytes) => {
                add(&self.metrics.malformed, 1);
                if let Some(recorder) = self.metrics.recorder() {
                    recorder.on_binary();
                }
                warn!("Binary message dropped: {bytes} bytes");
            }
            SessionNotice::Unknown(text) => {
                add(&self.metrics.unknown, 1);
                debug!("Message of an unknown type dropped: {}", Escaped(text));
            }
            SessionNotice::Ended { operation, error, retry_in } => {
                add(&self.metrics.ended, 1);
                let cause = error.map_or(Cow::Borrowed("completed by the server"), |error| {
                    error_message(error.0)
                });
                self.log_ended(operation, &cause, retry_in);
                if operation == LISTINGS {
                    let cause = Escaped(&cause);
                    self.on_silent(&format!("the subscription to the listings ended: {cause}"));
                }
            }
            SessionNotice::Resubscribed { operation } => {
                if operation == LISTINGS {
                    self.on_subscribed();
                }
            }
            SessionNotice::Resubscribing { silent } => {
                info!("No listings for {}, resubscribing", Seconds(silent));
            }
            SessionNotice::Stable => self.mark_healthy(),
        }
    }
}

/// Connects once and delivers listings until the connection ends.
///
/// Returns `Ok` on a clean close. [`run_with_reconnect`](super::run_with_reconnect) reconnects
/// after the end.
///
/// # Errors
///
/// Returns the [`FeedError`] that prevented or ended the connection. [`FeedError::retry_decision`]
/// classifies it for the next attempt.
///
/// # Cancel safety
///
/// Cancel safe: `on_trade` is never interrupted. Dropping the future closes the socket.
pub async fn connect_once(feed: &Feed, on_trade: impl FnMut(Trade<'_>)) -> Result<(), FeedError> {
    let dial = TcpDial::from_config(&feed.config)?;
    let feed_state = FeedState::new(feed, on_trade);
    let mut session = feed_state.open(&dial, feed.config.credential.as_ref()).await?;
    info!("Connected");
    let mut handler = feed_state.handler(0, true, || {});
    session.run(&mut handler, &mut ArrivalStats::default()).await.unless_clean()
}
