//! The marketplace's feed over one connection: what is subscribed to, and what becomes of an event.
//!
//! This is the way from frame to order: [`ListingHandler::data`] runs for each event, allocates nothing,
//! takes no lock and writes no log line before the closure has returned.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Instant,
};

use tracing::{debug, info, warn};

use super::{
    backfill::{BackfillMessage, BackfillReceiver},
    connect::{Dial, TcpDial, open},
    deduplicator::{Deduplicator, Duplicate},
    error::{FeedError, ProtocolViolation},
    gap_tracker::GapTracker,
    metrics::{ConnectionMetrics, FeedMetrics, add},
    protocol::{GraphqlTransportWs, OperationId, Subscription, SubscriptionState},
    session::{Session, SessionHandler, SessionNotice, now},
    upgrade::UpgradeRequest,
    watchdog::ArrivalStats,
};
use crate::{
    clock,
    config::{Config, Credential, Generation},
    domain::trade::{Trade, TradeEvent},
    latency::RxTimestamps,
    markets::csgoroll::{
        feed::NextPayload,
        operations::{self, GraphqlOperation, SubscriptionFilters},
    },
    text::Escaped,
};

/// The subscription without which the feed is worth nothing: the first.
const LISTINGS: OperationId = OperationId(1);

/// What stands for a connection where a listing was found after a gap.
const BACKFILL: usize = usize::MAX;

/// A session with the marketplace.
pub(super) type FeedSession<S> = Session<S, GraphqlTransportWs>;

/// What the connections of one feed share.
pub(super) struct FeedState<'c, F> {
    /// Everything that is set.
    pub(super) config: &'c Config,
    /// Whether anything can arrive.
    pub(super) link: GapTracker,
    on_trade: RefCell<F>,
    seen: RefCell<Deduplicator>,
    conversations: Cell<u64>,
    sockets: Cell<u32>,
}

impl<'c, F: FnMut(Trade<'_>)> FeedState<'c, F> {
    pub(super) fn new(config: &'c Config, on_trade: F) -> Self {
        let stable_after = config.reconnection.limits().stable_after;
        let link = GapTracker::new(Arc::clone(&config.taps), String::new(), stable_after)
            .filled_by(config.backfill.clone(), config.feed.sweep_at_start);
        Self {
            config,
            link,
            on_trade: RefCell::new(on_trade),
            seen: RefCell::default(),
            conversations: Cell::new(0),
            sockets: Cell::new(0),
        }
    }

    /// A number for one more socket, counted from 1.
    fn next_number(&self) -> u32 {
        let number = self.sockets.get().saturating_add(1);
        self.sockets.set(number);
        number
    }

    /// Connects and subscribes.
    pub(super) async fn open<D: Dial>(
        &self,
        dial: &D,
        credential: Option<&Credential>,
    ) -> Result<FeedSession<D::Stream>, FeedError> {
        let Config { endpoints, reconnection, .. } = self.config;
        let limits = reconnection.limits();
        let conversations = self.conversations.get();
        self.conversations.set(conversations.saturating_add(1));
        let mut machine =
            SubscriptionState::new(GraphqlTransportWs, limits.initial_delay, limits.max_delay)
                .after(conversations);
        for operation in subscriptions(self.config) {
            let is_optional = !operation.is_essential;
            machine.want(Subscription { topic: operation.to_json(), is_optional }, now());
        }
        let authority = endpoints.ws.authority();
        let request = UpgradeRequest {
            authority: &authority,
            path: endpoints.ws.path(),
            origin: Some(&endpoints.origin),
            user_agent: Some(&endpoints.user_agent),
            credential,
            subprotocol: machine.subprotocol(),
        };
        open(dial, &request, machine, limits).await
    }

    /// Passes on what was found after a gap, for as long as somebody looks.
    pub(super) async fn fill(&self, mut inlet: BackfillReceiver) {
        while let Some(found) = inlet.next().await {
            match found {
                BackfillMessage::Listing(mut trade) => {
                    let at = now();
                    let copy = self.seen.borrow_mut().record(&trade, BACKFILL, at);
                    if copy == Duplicate::First {
                        trade.arrival = Some(RxTimestamps::at(at));
                        self.link.found();
                        (self.on_trade.borrow_mut())(*trade);
                    }
                }
                BackfillMessage::All(number) => self.link.filled(number),
            }
        }
    }

    /// A listener for one session of one connection. `proved` is called once, when the session has
    /// shown that it is worth something.
    pub(super) fn listener<P: FnMut()>(
        &self,
        connection: usize,
        proves_by_listing: bool,
        proved: P,
    ) -> ListingHandler<'_, F, P> {
        let Self { config, link, on_trade, seen, .. } = self;
        ListingHandler {
            taps: &config.taps,
            link,
            connection,
            tap: config.taps.connections.get(connection),
            on_trade,
            seen,
            number: self.next_number(),
            listings: 0,
            proves_by_listing,
            proved: Some(proved),
            is_silenced: false,
            is_superseded: false,
        }
    }
}

/// What is subscribed to: the listings first.
fn subscriptions(config: &Config) -> Vec<GraphqlOperation> {
    let Config { feed, whitelist, .. } = config;
    let mut operations = operations::subscriptions(feed.generation);
    let filters = SubscriptionFilters::of(whitelist)
        .filter(|_bounds| feed.server_filters && feed.generation == Generation::B);
    if let (Some(listings), Some(filters)) = (operations.first_mut(), filters) {
        *listings = operations::filtered_listings(filters);
    }
    operations
}

/// Hears one session.
pub(super) struct ListingHandler<'h, F, P> {
    taps: &'h FeedMetrics,
    link: &'h GapTracker,
    connection: usize,
    tap: Option<&'h ConnectionMetrics>,
    on_trade: &'h RefCell<F>,
    seen: &'h RefCell<Deduplicator>,
    /// Which socket it hears, counted from 1.
    pub(super) number: u32,
    listings: u64,
    proves_by_listing: bool,
    proved: Option<P>,
    /// Whether the subscription to the listings has ended and was not asked for again yet.
    is_silenced: bool,
    /// Whether another session has taken over; what becomes of this one's subscriptions is of no
    /// account.
    is_superseded: bool,
}

impl<F, P: FnMut()> ListingHandler<'_, F, P> {
    /// How many listings this session delivered, whether or not another was faster.
    pub(super) const fn listings(&self) -> u64 {
        self.listings
    }

    /// The same for a session that another has taken over from.
    pub(super) fn superseded(self) -> Self {
        Self { is_superseded: true, ..self }
    }

    /// The subscription to the listings has ended on the live link.
    fn silenced(&mut self, cause: &str) {
        if !self.is_superseded && !std::mem::replace(&mut self.is_silenced, true) {
            self.link.silenced(now(), cause);
        }
    }

    /// The listings were subscribed to, again or over a fresh connection.
    pub(super) fn subscribed(&mut self) {
        if std::mem::take(&mut self.is_silenced) {
            self.link.renewed();
        }
    }

    /// The connection is gone; `alive` was its last proof of life.
    pub(super) fn disconnected(&self, alive: Instant, ended: &FeedError) {
        if let FeedError::Violation { violation: ProtocolViolation::TooBig, .. } = ended
            && let Some(witness) = self.taps.witness()
        {
            witness.too_long();
        }
        if self.is_silenced {
            self.link.down_after_silence();
        } else {
            self.link.down(alive, &ended.chain());
        }
    }

    fn prove(&mut self) {
        if let Some(mut proved) = self.proved.take() {
            proved();
        }
    }

    /// Whether a listing is news. Keeps the connection's account.
    #[inline]
    fn is_first(&self, trade: &Trade<'_>, at: Instant) -> bool {
        let copy = self.seen.borrow_mut().record(trade, self.connection, at);
        match (copy, self.tap) {
            (Duplicate::First, tap) => {
                if let Some(tap) = tap {
                    add(&tap.wins, 1);
                }
                return true;
            }
            (Duplicate::Late(by), Some(tap)) => {
                let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
                add(&tap.late, 1);
                add(&tap.late_us, by_us);
                tap.late_us_max.fetch_max(by_us, std::sync::atomic::Ordering::Relaxed);
            }
            (Duplicate::Late(_) | Duplicate::Repeated, _) => {}
        }
        add(&self.taps.duplicates, 1);
        false
    }
}

impl<F: FnMut(Trade<'_>), P: FnMut()> SessionHandler for ListingHandler<'_, F, P> {
    type Payload<'a> = NextPayload<'a>;

    #[inline]
    fn arrived(&mut self, text: &str) {
        add(&self.taps.frames, 1);
        add(&self.taps.bytes, u64::try_from(text.len()).unwrap_or(u64::MAX));
    }

    #[inline]
    fn data(
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
                add(&self.taps.listings, 1);
                trade.arrival = Some(arrival);
                (self.on_trade.borrow_mut())(trade);
            }
        }
        if self.listings != before {
            self.taps.listing_came(clock::now());
        }
        if unreadable != 0 {
            add(&self.taps.unreadable, u64::from(unreadable));
            debug!(count = unreadable, "Listings without a usable id dropped");
        }
        if !is_known && errors.is_none() {
            add(&self.taps.unknown, 1);
            debug!("An event of an unknown kind was dropped");
        }
        if let Some(balance) = wallet {
            self.taps.push_balance(balance);
        }
        if let Some(errors) = errors {
            add(&self.taps.graphql_errors, 1);
            warn!("The feed reports an error: {}", Escaped(errors));
        }
        if self.listings != 0 && self.proves_by_listing {
            self.prove();
        }
        if operation == Some(LISTINGS) && is_known {
            self.link.data();
            return true;
        }
        false
    }

    #[inline]
    fn served(&mut self, text: &str, at: Instant, is_data: bool) {
        if let Some(witness) = self.taps.witness() {
            witness.message(self.number, text, at, is_data);
        }
    }

    fn notice(&mut self, notice: SessionNotice<'_>) {
        match notice {
            SessionNotice::Malformed { text, error } => {
                add(&self.taps.malformed, 1);
                warn!("A message that cannot be read was dropped ({error}): {}", Escaped(text));
            }
            SessionNotice::Binary(bytes) => {
                add(&self.taps.malformed, 1);
                if let Some(witness) = self.taps.witness() {
                    witness.binary();
                }
                warn!("A binary message of {bytes} bytes was dropped");
            }
            SessionNotice::Unknown(text) => {
                add(&self.taps.unknown, 1);
                debug!("A message of an unknown kind was dropped: {}", Escaped(text));
            }
            SessionNotice::Ended { operation, error, again_in } => {
                add(&self.taps.ended, 1);
                let what = if operation == LISTINGS { "Listings" } else { "An optional" };
                let why = error.map_or("it was completed", |error| error.0);
                let why = Escaped(why);
                match again_in {
                    Some(wait) => warn!("{what} subscription ended; again in {wait:?}: {why}"),
                    None => warn!("{what} subscription ended and is given up: {why}"),
                }
                if operation == LISTINGS {
                    self.silenced(&format!("the subscription to the listings ended: {why}"));
                }
            }
            SessionNotice::Asked { operation } => {
                if operation == LISTINGS {
                    self.subscribed();
                }
            }
            SessionNotice::Renewed => info!("No listings for a while; subscribing again"),
            SessionNotice::Stable => self.prove(),
        }
    }
}

/// Connects once and hands out listings until the connection ends.
///
/// Returns `Ok` on a clean close. Usable alone; [`run_with_reconnect`](super::run_with_reconnect)
/// loops over it.
///
/// # Errors
///
/// A [`FeedError`] that says why the connection was not made or broke, and, by
/// [`FeedError::verdict`], what that means for the next attempt.
///
/// # Cancel safety
///
/// Safe: `on_trade` never runs in part. Drop the future to stop; the server sees the socket close.
pub async fn connect_once(
    config: &Config,
    on_trade: impl FnMut(Trade<'_>),
) -> Result<(), FeedError> {
    let dial = TcpDial::of(config)?;
    let hub = FeedState::new(config, on_trade);
    let mut session = hub.open(&dial, config.credential.as_ref()).await?;
    info!("Connected");
    let mut listener = hub.listener(0, true, || {});
    session.run(&mut listener, &mut ArrivalStats::default()).await.unless_clean()
}
