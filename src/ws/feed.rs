//! The market's feed over one connection: its subscriptions and the handling of their events.
//!
//! Hot path: [`ListingHandler::on_trade`] runs for each listing. It does not allocate, lock or log
//! before the closure has returned.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    fmt,
    sync::{Arc, OnceLock, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{debug, info, level_filters::LevelFilter, warn};

use super::{
    connect::{Arrival, Dial, HandledBytes, TcpDial, fetch_token, open},
    deduplicator::{Deduplicator, Duplicate},
    error::FeedError,
    frames::WsMessage,
    gaps::{
        Backfill, BackfillMessage, BackfillReceiver, BackfillSender, GapTracker, Seconds, backfill,
    },
    metrics::{ConnectionMetrics, FeedMetrics, add},
    reconnector::Hosts,
    renewal::FeedSubscriptions,
    session::{Session, SessionHandler, SessionNotice, now},
    watchdog::ArrivalStats,
};
use crate::{
    clock,
    config::{Config, Credential},
    domain::latency::RxTimestamps,
    domain::trade::{Trade, TradeEvent, TradeNotice, TradeStatus},
    domain::wanted_items::WantedItems,
    domain::whitelist_entry::WhitelistEntry,
    markets::{
        Decoded, DialPlan, MarketEvent, MarketSubscription, Marketplace, Scan, UnnamedEvent,
    },
    protocol::{FeedMessage, FeedProtocol, OperationId, SubscriptionState},
    text::Escaped,
};

/// The subscription to the listings, always the first. The feed is useless without it.
const LISTINGS: OperationId = OperationId(1);

/// Minimum time between two token requests of a feed.
const TOKEN_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Connection index of listings that a back-fill found.
const BACKFILL: usize = usize::MAX;

pub(super) type FeedSession<M, S> = Session<S, <M as Marketplace>::Protocol>;

/// Feed of one market: its configuration, and the state that its connections share and that the
/// rest of the program reads. Clones share that state.
#[derive(Clone, Debug)]
pub struct Feed<M> {
    pub market: M,
    pub config: Config,
    /// Closure that receives the events that are not listings.
    pub notices: Notices,
    pub metrics: Arc<FeedMetrics>,
    /// Channels to the task that back-fills gaps; `None` disables back-filling.
    pub backfill: Option<Arc<Backfill>>,
    /// Hosts that this process has connected to, with their cooldowns.
    pub hosts: Hosts,
    /// Items that are handled first: those of the whitelist until new prices change their maximum
    /// prices.
    pub wanted: WantedSender,
    /// Subscriptions, which depend on the whitelist if the market filters the listings.
    pub subscriptions: FeedSubscriptions,
}

/// Sender of the current set of wanted items, which the connections use from the next message on.
pub type WantedSender = watch::Sender<Arc<WantedItems>>;

impl<M: Marketplace> Feed<M> {
    pub fn new(market: M, config: Config) -> Self {
        let (metrics, hosts) = (Arc::default(), Hosts::default());
        let notices = Notices::default();
        let wanted = WantedSender::new(Arc::new(WantedItems::of(&config.whitelist)));
        let subscriptions = FeedSubscriptions::default();
        Self { market, config, notices, metrics, backfill: None, hosts, wanted, subscriptions }
    }

    /// Returns a function that replaces the subscriptions by those for another whitelist, where the
    /// market filters the listings. It returns `true` if they are others.
    pub fn renewal(&self) -> impl Fn(&[WhitelistEntry]) -> bool + Send + 'static {
        let (market, subscriptions) = (self.market.clone(), self.subscriptions.clone());
        let is_filtered = self.config.feed.server_filters;
        move |whitelist| is_filtered && subscriptions.replace(market.subscriptions(Some(whitelist)))
    }

    /// Enables back-filling of gaps. Returns the handle of the task that reads the missed listings.
    pub fn fill_gaps(&mut self) -> BackfillSender {
        let (backfill, sender) = backfill(self.wanted.subscribe());
        self.backfill = Some(Arc::new(backfill));
        sender
    }
}

/// Closure that receives the events of a feed that are not listings. Clones share it.
#[derive(Clone, Default)]
pub struct Notices(Arc<OnceLock<NoticeFn>>);

type NoticeFn = Box<dyn Fn(TradeNotice) + Send + Sync>;

impl Notices {
    /// Sets the closure that the feed calls for each event, in its own task; it must not block.
    /// Returns `false` if there is one already.
    pub fn set(&self, on_notice: impl Fn(TradeNotice) + Send + Sync + 'static) -> bool {
        self.0.set(Box::new(on_notice)).is_ok()
    }

    fn deliver(&self, notice: TradeNotice) {
        if let Some(on_notice) = self.0.get() {
            on_notice(notice);
        }
    }
}

impl fmt::Debug for Notices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notices").field("is_set", &self.0.get().is_some()).finish()
    }
}

/// State shared by the connections of one feed.
pub(super) struct FeedState<'c, M, F> {
    pub(super) feed: &'c Feed<M>,
    pub(super) gap_tracker: GapTracker,
    wanted: RefCell<WantedView>,
    on_trade: RefCell<F>,
    seen: RefCell<Deduplicator>,
    sessions: Cell<u64>,
    sockets: Cell<u32>,
    /// Time before which no token may be requested.
    next_token_at: Cell<Option<Instant>>,
    /// `true` if each listing is logged, for which it must be read.
    logs_listings: bool,
}

/// Copy of the set of wanted items, so that a look-up takes no lock.
struct WantedView {
    receiver: watch::Receiver<Arc<WantedItems>>,
    current: Arc<WantedItems>,
}

impl<'c, M: Marketplace, F: FnMut(Trade<'_>)> FeedState<'c, M, F> {
    pub(super) fn new(feed: &'c Feed<M>, on_trade: F) -> Self {
        let Feed { config, metrics, backfill, .. } = feed;
        let stable_after = config.reconnection.limits().stable_after;
        let gap_tracker = GapTracker::new(Arc::clone(metrics), String::new(), stable_after)
            .with_backfill(backfill.clone(), config.feed.sweep_at_start);
        Self {
            feed,
            gap_tracker,
            wanted: RefCell::new(WantedView {
                receiver: feed.wanted.subscribe(),
                current: Arc::clone(&feed.wanted.borrow()),
            }),
            on_trade: RefCell::new(on_trade),
            seen: RefCell::new(Deduplicator::new(M::CAPABILITIES.keyed_by)),
            sessions: Cell::new(0),
            sockets: Cell::new(0),
            next_token_at: Cell::new(None),
            logs_listings: LevelFilter::DEBUG <= LevelFilter::current(),
        }
    }

    /// Returns the current subscriptions.
    fn subscriptions(&self) -> Arc<[MarketSubscription]> {
        let Feed { market, config, subscriptions, .. } = self.feed;
        subscriptions.current_or(|| {
            let wanted = config.feed.server_filters.then_some(&*config.whitelist);
            market.subscriptions(wanted)
        })
    }

    /// Takes over a new set of wanted items, if there is one.
    #[inline]
    fn update_wanted(&self) {
        // An error would mean that the sender, a part of the feed, is gone.
        if self.wanted.borrow().receiver.has_changed().unwrap_or(false) {
            let WantedView { receiver, current } = &mut *self.wanted.borrow_mut();
            current.clone_from(&receiver.borrow_and_update());
        }
    }

    /// Returns `false` if no entry can match a listing.
    #[inline]
    fn is_wanted(&self, trade: &Trade<'_>) -> bool {
        self.wanted.borrow().current.wants(trade)
    }

    /// Connects and writes the subscriptions.
    pub(super) async fn open<D: Dial>(
        &self,
        dial: &D,
        credential: Option<&Credential>,
    ) -> Result<FeedSession<M, D::Stream>, FeedError> {
        let Feed { market, config, .. } = self.feed;
        let limits = config.reconnection.limits();
        let sessions = self.sessions.get();
        self.sessions.set(sessions.saturating_add(1));
        let token = match market.token_request(credential) {
            Some(request) => {
                self.acquire_token_permit().await;
                Some(fetch_token(config, &request, M::CAPABILITIES.reads).await?)
            }
            None => None,
        };
        let plan = market.dial(credential, token.as_ref()).map_err(FeedError::Prepare)?;
        let DialPlan { upgrade, protocol } = plan;
        let mut subscriptions =
            SubscriptionState::new(protocol, limits.initial_delay, limits.max_delay)
                .with_sessions_before(sessions);
        for MarketSubscription { subscription, .. } in &*self.subscriptions() {
            subscriptions.subscribe(subscription.clone(), now());
        }
        let authority = config.endpoints.ws.authority();
        open(dial, &authority, &upgrade, subscriptions, limits).await
    }

    /// Waits until a token may be requested.
    async fn acquire_token_permit(&self) {
        let now = now();
        let at = self.next_token_at.get().map_or(now, |at| at.max(now));
        self.next_token_at.set(at.checked_add(TOKEN_INTERVAL_MIN));
        tokio::time::sleep_until(at.into()).await;
    }

    /// Delivers the listings that a back-fill finds, until the sender is dropped.
    pub(super) async fn run_backfill(&self, mut receiver: BackfillReceiver) {
        while let Some(found) = receiver.next().await {
            match found {
                BackfillMessage::Listing(mut trade) => {
                    let at = now();
                    self.update_wanted();
                    let is_wanted = self.is_wanted(&trade);
                    let duplicate = self.seen.borrow_mut().record(&trade, is_wanted, BACKFILL, at);
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
    ) -> ListingHandler<'_, M, F, P> {
        let Feed { market, metrics, .. } = self.feed;
        let number = self.sockets.get().saturating_add(1);
        self.sockets.set(number);
        ListingHandler {
            state: self,
            market,
            metrics,
            connection,
            connection_metrics: metrics.connections.get(connection),
            number,
            listings: 0,
            healthy_on_listing,
            mark_healthy: Some(mark_healthy),
            is_silent: false,
            is_superseded: false,
        }
    }
}

/// Handles the events of one session with the market.
pub(super) struct ListingHandler<'h, M, F, P> {
    state: &'h FeedState<'h, M, F>,
    market: &'h M,
    metrics: &'h FeedMetrics,
    pub(super) connection: usize,
    connection_metrics: Option<&'h ConnectionMetrics>,
    /// Number of the socket, counted from 1.
    pub(super) number: u32,
    listings: u64,
    healthy_on_listing: bool,
    mark_healthy: Option<P>,
    /// `true` from the end of the listings subscription until it is subscribed to again.
    is_silent: bool,
    /// `true` once another session has replaced this one; ended subscriptions are then ignored.
    is_superseded: bool,
}

impl<M: Marketplace, F: FnMut(Trade<'_>), P: FnMut()> ListingHandler<'_, M, F, P> {
    /// Returns the number of listings that this session delivered, duplicates included.
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
            self.state.gap_tracker.on_silent(now(), cause);
        }
    }

    /// Handles a new listings subscription, on this or on a new connection. Returns `true` if there
    /// was none before.
    pub(super) fn on_subscribed(&mut self) -> bool {
        let was_silent = std::mem::take(&mut self.is_silent);
        if was_silent {
            self.state.gap_tracker.on_resubscribed();
        }
        was_silent
    }

    /// Handles the end of the connection. `alive` is the last time at which it was known to work.
    pub(super) fn on_disconnected(&self, alive: Instant, ended: &FeedError) {
        self.metrics.record_end(ended);
        if self.is_silent {
            self.state.gap_tracker.on_disconnected_while_silent();
        } else {
            self.state.gap_tracker.on_disconnected(alive, &ended.chain());
        }
    }

    fn mark_healthy(&mut self) {
        if let Some(mut mark_healthy) = self.mark_healthy.take() {
            mark_healthy();
        }
    }

    /// Logs the end of a subscription. Without a credential the market rejects the private ones;
    /// this is logged at `debug`, because the missing credential is reported at start.
    fn log_ended(&self, operation: OperationId, cause: &str, retry_in: Option<Duration>) {
        // Operations are numbered from 1 in the order of the subscriptions.
        let at = operation.0.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let subscriptions = self.state.subscriptions();
        let subscription = at.and_then(|at| subscriptions.get(at));
        let name = subscription.map_or("unknown", |subscription| subscription.name);
        let is_private = subscription.is_some_and(|subscription| subscription.is_private);
        let cause = Escaped(cause);
        let outcome = match retry_in {
            Some(wait) => format!("retrying in {}", Seconds(wait)),
            None => "not retried on this connection".to_owned(),
        };
        if is_private && self.state.feed.config.credential.is_none() {
            debug!("Subscription ended: {name} ({cause}); {outcome}");
        } else {
            warn!("Subscription ended: {name} ({cause}); {outcome}");
        }
    }

    #[inline]
    fn on_trade(&mut self, mut trade: Trade<'_>, arrival: &Arrival<'_>) {
        let is_listing = matches!(trade.event, TradeEvent::Listed | TradeEvent::Repriced);
        self.listings = self.listings.saturating_add(u64::from(is_listing));
        let is_wanted = self.state.is_wanted(&trade);
        let mut seen = self.state.seen.borrow_mut();
        let duplicate = seen.record(&trade, is_wanted, self.connection, arrival.at.framed);
        drop(seen);
        if self.count_delivery(duplicate) {
            add(&self.metrics.listings, 1);
            if is_wanted && is_listing && trade.status == TradeStatus::Listed {
                let removed =
                    arrival.behind.clone().find_map(|text| self.market.removal(text, &trade.id));
                trade.status = removed.unwrap_or(trade.status);
            }
            trade.arrival = Some(arrival.at);
            (self.state.on_trade.borrow_mut())(trade);
        }
    }

    /// Handles an event other than a listing.
    fn on_other_event(&self, event: MarketEvent<'_>) {
        match event {
            MarketEvent::Trade(_) => {}
            MarketEvent::Notice(notice) => {
                if let TradeNotice::Removed { id } = notice {
                    self.state.seen.borrow_mut().on_removed(id, self.connection);
                }
                self.state.feed.notices.deliver(notice);
            }
            MarketEvent::Balance(balance) => self.metrics.push_balance(balance),
            MarketEvent::Unreadable(count) => {
                add(&self.metrics.unreadable, u64::from(count));
                debug!(count, "Listings without a usable id dropped");
            }
            MarketEvent::Unknown => {
                add(&self.metrics.unknown, 1);
                debug!("Event of an unknown type dropped");
            }
            MarketEvent::ServerError(message) => {
                add(&self.metrics.graphql_errors, 1);
                warn!("Error reported by the feed: {}", Escaped(&message));
            }
        }
    }

    /// Counts an arrival for its connection. Returns `true` for the first one.
    #[inline]
    fn count_delivery(&self, duplicate: Duplicate) -> bool {
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
                connection_metrics.late_us_max.fetch_max(by_us, Ordering::Relaxed);
            }
            (Duplicate::Late(_) | Duplicate::Repeated, _) => {}
        }
        add(&self.metrics.duplicates, 1);
        false
    }
}

impl<M: Marketplace, F: FnMut(Trade<'_>), P: FnMut()> SessionHandler<M::Protocol>
    for ListingHandler<'_, M, F, P>
{
    type Payload<'a> = Decoded<M::Events<'a>>;

    const COUNTS_UNNAMED: bool = M::COUNTS_UNNAMED;

    #[inline]
    fn decode<'a>(
        &self,
        input: &mut <M::Protocol as FeedProtocol>::Input<'a>,
    ) -> Result<Self::Payload<'a>, <M::Protocol as FeedProtocol>::DecodeError> {
        self.market.decode(input)
    }

    fn warms_caches(&self) -> bool {
        self.state.feed.config.warms_caches()
    }

    #[inline]
    fn on_message(&mut self, message: FeedMessage<'_>) {
        add(&self.metrics.frames, 1);
        add(&self.metrics.bytes, u64::try_from(message.len()).unwrap_or(u64::MAX));
    }

    #[inline]
    fn on_data(
        &mut self,
        operation: Option<OperationId>,
        payload: Decoded<M::Events<'_>>,
        arrival: &Arrival<'_>,
    ) -> bool {
        let Decoded { events, is_data } = payload;
        self.state.update_wanted();
        let before = self.listings;
        for event in events {
            match event {
                MarketEvent::Trade(trade) => self.on_trade(trade, arrival),
                other => self.on_other_event(other),
            }
        }
        if self.listings != before {
            self.metrics.set_last_listing(clock::now());
        }
        if self.listings != 0 && self.healthy_on_listing {
            self.mark_healthy();
        }
        // Without operations, every event is one of the listings.
        if is_data && operation.is_none_or(|operation| operation == LISTINGS) {
            self.state.gap_tracker.on_data();
            return true;
        }
        false
    }

    #[inline]
    fn scan(&mut self, payload: &[u8], arrival: &Arrival<'_>) -> Scan {
        let market = self.market;
        let state = self.state;
        state.update_wanted();
        let wanted = state.wanted.borrow();
        let scan =
            market.scan(payload, &wanted.current, &mut |trade| self.on_trade(trade, arrival));
        match scan {
            Scan::Unnamed(_) if state.logs_listings => Scan::CanWait,
            scan => scan,
        }
    }

    #[inline]
    fn on_unnamed(&mut self, event: UnnamedEvent, bytes: usize, framed: Instant) {
        add(&self.metrics.frames, 1);
        add(&self.metrics.counted, 1);
        add(&self.metrics.bytes, u64::try_from(bytes).unwrap_or(u64::MAX));
        match event {
            UnnamedEvent::Removed { id } => {
                self.state.seen.borrow_mut().on_removed(id, self.connection);
            }
            UnnamedEvent::Listing { id, price, event } => {
                self.listings = self.listings.saturating_add(1);
                let mut seen = self.state.seen.borrow_mut();
                let duplicate = seen.record_unnamed((id, price), event, self.connection, framed);
                drop(seen);
                if self.count_delivery(duplicate) {
                    add(&self.metrics.listings, 1);
                    self.metrics.add_unnamed();
                }
                self.metrics.set_last_listing(clock::now());
                if self.healthy_on_listing {
                    self.mark_healthy();
                }
            }
        }
        self.state.gap_tracker.on_data();
    }

    fn on_waited(&mut self) {
        add(&self.metrics.waited, 1);
    }

    #[inline]
    fn on_handled(&mut self, handled: HandledBytes<'_>) {
        let Some(recorder) = self.metrics.recorder() else { return };
        match handled.message() {
            WsMessage::Text(text) => recorder.on_message(self.number, text, handled.handled),
            WsMessage::Binary(bytes) if M::Protocol::KINDS.contains(FeedMessage::Binary(bytes)) => {
                recorder.on_binary();
            }
            WsMessage::Binary(_) | WsMessage::Ping(_) | WsMessage::Pong | WsMessage::Close(_) => {}
        }
    }

    fn on_notice(&mut self, notice: SessionNotice<'_>) {
        match notice {
            SessionNotice::Malformed { message, error } => {
                add(&self.metrics.malformed, 1);
                warn!("Malformed message dropped ({error}): {message}");
            }
            SessionNotice::UnusedKind(message) => {
                add(&self.metrics.malformed, 1);
                if let (FeedMessage::Binary(_), Some(recorder)) = (message, self.metrics.recorder())
                {
                    recorder.on_binary();
                }
                warn!("{} message dropped: {message}", message.kind());
            }
            SessionNotice::Unknown(message) => {
                add(&self.metrics.unknown, 1);
                debug!("Message of an unknown type dropped: {message}");
            }
            SessionNotice::Ended { operation, error, retry_in } => {
                add(&self.metrics.ended, 1);
                let cause = error
                    .map_or(Cow::Borrowed("completed by the server"), M::Protocol::error_message);
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
pub async fn connect_once<M: Marketplace>(
    feed: &Feed<M>,
    on_trade: impl FnMut(Trade<'_>),
) -> Result<(), FeedError> {
    let dial = TcpDial::from_config(&feed.config)?;
    let feed_state = FeedState::new(feed, on_trade);
    let mut session = feed_state.open(&dial, feed.config.credential.as_ref()).await?;
    info!("Connected");
    let mut handler = feed_state.handler(0, true, || {});
    session.run(&mut handler, &mut ArrivalStats::default()).await.unless_clean()
}
