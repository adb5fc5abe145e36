//! The simulator on a real socket: its shared state, its control by tests and commands, and its
//! answers to HTTP requests.
//!
//! One lock guards the whole state and is never held across an await. Events reach the feeds under
//! the lock of the change that caused them, in order. A feed whose queue is full is closed.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc},
    task::yield_now,
    time::sleep_until,
};

use super::{
    feed_connection,
    listing::Listing,
    market::{MarketEvent, MarketState, SaleRejection},
    operations::{self, GraphqlCall, GraphqlRequest, ParsedRequest, error_body},
};
use crate::{
    clock,
    domain::{money::Amount, time::UnixMs},
    sim::{
        catalogue::ListedItem,
        faults::{self, CHALLENGE_PAGE, Fault, FaultChannel, FaultInjector, FaultKind, SURCHARGE},
        history::{MarketHistory, OrderDecision, OrderRecord},
        random::{self, Rng, RngExt as _},
        server::{
            ClientConnection, RequestHead, ServerReply, ServerStats, ServerThread, SimServerError,
            SimulatedMarket,
        },
        settings::SimSettings,
    },
};

/// Capacity of a feed's command queue.
const FEED_QUEUE_MAX: usize = 4_096;

/// A running simulator. It stops when it is dropped.
pub struct SimServer {
    shared: Arc<ServerState>,
    thread: ServerThread,
}

impl SimServer {
    /// Starts the simulator on its own thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SimServerError`] if the address cannot be bound, no thread can be started, or
    /// the market does not have one of the faults of the settings.
    pub fn start(settings: SimSettings) -> Result<Self, SimServerError> {
        let shared = Arc::new(ServerState::new(settings));
        let thread = ServerThread::start(Arc::clone(&shared))?;
        Ok(Self { shared, thread })
    }

    /// Returns the address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.thread.address
    }

    /// Returns the URL of the feed.
    pub fn ws_url(&self) -> String {
        let scheme = if self.shared.settings.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}/ws", self.address())
    }

    /// Returns the URL for reads and orders.
    pub fn http_url(&self) -> String {
        let scheme = if self.shared.settings.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/graphql", self.address())
    }

    /// Returns the `session` cookie of the signed-in account. It is valid for this simulator only.
    pub fn session(&self) -> String {
        self.shared.with(|state, _, _| state.session.clone())
    }

    /// Returns the environment variables that connect a bot to this simulator.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("CSGOROLL_WS_URL", self.ws_url()),
            ("CSGOROLL_HTTP_URL", self.http_url()),
            ("CSGOROLL_SESSION", self.session()),
        ]
    }

    /// Returns a copy of the history up to now.
    pub fn history(&self) -> MarketHistory {
        self.with_history(MarketHistory::clone)
    }

    /// Reads the history without copying it. The market is locked meanwhile.
    pub fn with_history<T>(&self, read: impl FnOnce(&MarketHistory) -> T) -> T {
        self.shared.with(|state, now, events| {
            state.market.advance(now, events);
            read(state.market.history())
        })
    }

    /// Returns the counts of connections and requests.
    pub fn stats(&self) -> ServerStats {
        self.shared.with(|state, _, _| state.stats)
    }

    /// Returns the start time, which is the origin of the times in the history.
    pub fn opened_at(&self) -> Instant {
        self.shared.opened_at
    }

    /// Lists these items now, as one group, in addition to the generated listings. Returns the ids.
    pub fn list_items(&self, items: Vec<ListedItem>) -> Vec<String> {
        self.shared.with(|state, now, events| state.market.list_items(now, items, events))
    }

    /// Cancels an open listing, as its seller may. Returns `false` if no such listing is open.
    pub fn delist(&self, id: &str) -> bool {
        self.shared.with(|state, now, events| state.market.delist(now, id, events))
    }

    /// Sends a text message to all feeds, unchanged.
    pub fn send_raw(&self, text: &str) {
        self.shared.with(|state, _, _| state.broadcast(&FeedCommand::SendRaw(Arc::from(text))));
    }

    /// Injects a fault into all feeds now.
    pub fn inject_feed_fault(&self, kind: FaultKind) {
        self.shared.with(|state, _, _| state.broadcast(&FeedCommand::Inject(kind)));
    }

    /// Replaces the enabled faults; none disables them. Effects of earlier faults stay, except that
    /// silent feeds send again.
    pub fn set_faults(&self, faults: &[Fault]) {
        let rng = random::stream(self.shared.settings.seed, 7);
        self.shared.with(|state, _, _| state.set_faults(faults, rng));
    }

    /// Closes all feeds with a close frame.
    pub fn close_feeds(&self, code: u16, reason: &str) {
        self.shared
            .with(|state, _, _| state.broadcast(&FeedCommand::Close(code, Arc::from(reason))));
    }

    /// Replaces the valid session, which signs out clients with the previous one.
    pub fn replace_session(&self, session: &str) {
        self.shared.with(|state, _, _| session.clone_into(&mut state.session));
    }

    /// Changes the account's balance without a purchase.
    pub fn adjust_balance(&self, change: Amount) {
        self.shared.with(|state, now, events| state.market.adjust_balance(now, change, events));
    }

    /// Makes a purchase without an order. Returns its id.
    pub fn inject_purchase(&self, item: ListedItem) -> Option<String> {
        self.shared.with(|state, now, events| state.market.inject_purchase(now, item, events))
    }

    /// Stops the simulator: cuts all connections and frees the port.
    pub fn stop(self) {
        drop(self);
    }
}

/// A command to a feed connection.
#[derive(Clone, Debug)]
pub(super) enum FeedCommand {
    SendEvent(Arc<MarketEvent>),
    /// Sends a text message unchanged.
    SendRaw(Arc<str>),
    Inject(FaultKind),
    /// Closes the connection with this code and reason.
    Close(u16, Arc<str>),
    /// Replaces the enabled faults.
    SetFaults(Arc<[Fault]>),
}

/// State shared by all connections.
pub(super) struct ServerState {
    state: Mutex<State>,
    pub(super) opened_at: Instant,
    /// Notified when the next scheduled change may have become earlier.
    pub(super) wake: Notify,
    pub(super) settings: SimSettings,
}

/// The part of the state behind the lock.
pub(super) struct State {
    pub(super) market: MarketState,
    /// Valid value of the `session` cookie.
    pub(super) session: String,
    pub(super) stats: ServerStats,
    /// Enabled faults, which new feeds take over.
    pub(super) faults: Arc<[Fault]>,
    /// Injects the faults of orders and reads.
    pub(super) injector: FaultInjector,
    /// Chooses the values of false responses.
    pub(super) rng: Rng,
    feeds: BTreeMap<u64, mpsc::Sender<FeedCommand>>,
}

impl ServerState {
    /// Creates the state of a market that opens now.
    pub(super) fn new(settings: SimSettings) -> Self {
        let ahead = settings.clock_ahead_ms;
        let opened_at = UnixMs(clock::now().0.saturating_add(ahead));
        let state = State {
            market: MarketState::new(&settings, opened_at),
            session: session(settings.seed),
            stats: ServerStats::default(),
            faults: Arc::from(&*settings.faults),
            injector: FaultInjector::new(&settings.faults, random::stream(settings.seed, 4)),
            rng: random::stream(settings.seed, 6),
            feeds: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), opened_at: Instant::now(), wake: Notify::new(), settings }
    }

    /// Reads or changes the state under the lock, and sends the resulting events to all feeds.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&mut State, Duration, &mut Vec<MarketEvent>) -> R,
    ) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        let result = act(&mut state, self.opened_at.elapsed(), &mut events);
        if !events.is_empty() {
            for event in events {
                state.broadcast(&FeedCommand::SendEvent(Arc::new(event)));
            }
            self.wake.notify_one();
        }
        result
    }

    /// Applies the changes that are due. Returns the time of the next one.
    pub(super) fn tick(&self) -> Option<Instant> {
        self.with(|state, now, events| {
            state.market.advance(now, events);
            state.market.next_due().and_then(|due| self.opened_at.checked_add(due))
        })
    }
}

impl SimulatedMarket for ServerState {
    const FAULTS: &'static [&'static [FaultKind]] = super::FAULTS;

    fn settings(&self) -> &SimSettings {
        &self.settings
    }

    fn clock(&self) -> UnixMs {
        self.with(|state, now, _| state.market.clock(now))
    }

    fn open_connection(&self) -> ClientConnection {
        self.with(|state, now, _| {
            state.stats.connections = state.stats.connections.saturating_add(1);
            ClientConnection { number: state.stats.connections, opened_at: now }
        })
    }

    fn answer(&self, head: &RequestHead, body: &[u8], connection: ClientConnection) -> ServerReply {
        let path = head.path.split('?').next().unwrap_or_default();
        let rejection = match &*head.method {
            _ if path != "/graphql" => (404, "the paths are /graphql and /ws", "NOT_FOUND"),
            "OPTIONS" => return ServerReply::json(204, String::new()),
            "POST" => {
                return self.with(|state, now, events| {
                    state.answer(now, (head.cookie.as_deref(), body), connection, events)
                });
            }
            _ => (405, "the method must be POST", "METHOD_NOT_ALLOWED"),
        };
        let (status, message, code) = rejection;
        ServerReply::json(status, error_body(message, code))
    }

    fn record_response(&self, order_id: &str, connection: ClientConnection) {
        self.with(|state, now, _| state.market.record_response(order_id, connection.number, now));
    }

    async fn serve_feed<S: AsyncRead + AsyncWrite + Unpin + Send>(
        &self,
        stream: S,
    ) -> io::Result<()> {
        feed_connection::serve(stream, self).await.map_err(io::Error::other)
    }

    async fn run_schedule(&self) {
        loop {
            // Under overload, connections and the shutdown must still make progress.
            yield_now().await;
            let Some(due) = self.tick() else {
                self.wake.notified().await;
                continue;
            };
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

impl State {
    /// Answers a request with this `Cookie` header and body.
    fn answer(
        &mut self,
        now: Duration,
        (cookie, body): (Option<&str>, &[u8]),
        connection: ClientConnection,
        events: &mut Vec<MarketEvent>,
    ) -> ServerReply {
        self.stats.requests = self.stats.requests.saturating_add(1);
        let request = match operations::parse_request(body) {
            Ok(request) => request,
            Err(rejection) => return ServerReply::json(rejection.status, rejection.body),
        };
        let signed_in = self.is_signed_in(cookie);
        match request.order_id() {
            Some(id) => {
                let order = OrderAttempt { request: &request, id, signed_in, connection };
                order.execute(self, now, events)
            }
            None => {
                let fault = self.injector.next_fault(channels(&request, &self.market));
                let seeded = fault.map(|kind| (kind, self.rng.fork()));
                let parsed = ParsedRequest { request: &request, signed_in, fault: seeded };
                let body = operations::respond(&mut self.market, now, parsed, events);
                ServerReply { fault, ..ServerReply::json(200, body) }
            }
        }
    }

    /// Replaces the enabled faults, also of the open feeds.
    pub(super) fn set_faults(&mut self, faults: &[Fault], rng: Rng) {
        self.faults = Arc::from(faults);
        self.injector = FaultInjector::new(faults, rng);
        self.broadcast(&FeedCommand::SetFaults(Arc::clone(&self.faults)));
    }

    /// Registers a feed. Returns its number and its command queue.
    pub(super) fn open_feed(&mut self) -> (u64, mpsc::Receiver<FeedCommand>) {
        let (sender, receiver) = mpsc::channel(FEED_QUEUE_MAX);
        self.stats.feeds = self.stats.feeds.saturating_add(1);
        let number = self.stats.feeds;
        self.feeds.insert(number, sender);
        self.stats.feeds_open = self.stats.feeds_open.saturating_add(1);
        (number, receiver)
    }

    /// Removes a feed; `subscribed` if it had a subscription.
    pub(super) fn close_feed(&mut self, number: u64, subscribed: bool) {
        self.feeds.remove(&number);
        self.stats.feeds_open = self.stats.feeds_open.saturating_sub(1);
        self.count_subscribed(subscribed, false);
    }

    /// Updates the count of subscribed feeds for one whose state changed.
    pub(super) fn count_subscribed(&mut self, before: bool, now: bool) {
        let count = &mut self.stats.feeds_subscribed;
        *count = count.saturating_add(u64::from(now)).saturating_sub(u64::from(before));
    }

    /// Sends a command to all feeds. A feed whose queue is full is closed.
    pub(super) fn broadcast(&mut self, command: &FeedCommand) {
        let before = self.feeds.len();
        self.feeds.retain(|_, feed| feed.try_send(command.clone()).is_ok());
        let dropped = before.saturating_sub(self.feeds.len()).try_into().unwrap_or(0);
        self.stats.feeds_dropped = self.stats.feeds_dropped.saturating_add(dropped);
    }

    /// Returns `true` if a `Cookie` header contains the valid session.
    pub(super) fn is_signed_in(&self, cookie: Option<&str>) -> bool {
        let mut pairs = cookie.unwrap_or_default().split(';');
        pairs.any(|pair| pair.trim().strip_prefix("session=") == Some(&*self.session))
    }
}

/// Returns the channels whose faults can affect a read. `{ __typename }`, which only keeps a
/// connection warm, has none.
fn channels(request: &GraphqlRequest, market: &MarketState) -> &'static [FaultChannel] {
    match &request.call {
        GraphqlCall::CurrentUser => &[FaultChannel::Reads, FaultChannel::Account],
        GraphqlCall::Trades(query) if query.is_for_user(market.user_id()) => {
            &[FaultChannel::Reads, FaultChannel::Purchases]
        }
        GraphqlCall::Trades(_) => &[FaultChannel::Reads],
        GraphqlCall::Join { .. } | GraphqlCall::Typename => &[],
    }
}

/// An order with its authentication and connection.
struct OrderAttempt<'a> {
    request: &'a GraphqlRequest,
    id: &'a str,
    signed_in: bool,
    connection: ClientConnection,
}

impl OrderAttempt<'_> {
    /// Executes the order under the next fault, and records it in the history.
    fn execute(
        &self,
        state: &mut State,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) -> ServerReply {
        let fault = state.injector.next_fault(&[FaultChannel::Orders]);
        let (decision, reply) = match fault.and_then(reply_without_commit) {
            Some(reply) => (OrderDecision::Ignored, reply),
            None => {
                let market = &mut state.market;
                let result =
                    operations::execute_join(market, now, self.request, self.signed_in, events);
                let decision = OrderDecision::from(&result);
                let body = match (&result, fault) {
                    (Err(rejection), _) => self.request.rejected_response(*rejection),
                    (Ok(_), Some(FaultKind::Empty)) => self.request.join_response(&[]),
                    (Ok(sold), Some(FaultKind::Foreign)) => {
                        let number = sold.number.saturating_add(1);
                        self.request.join_response(&[&Listing { number, ..Listing::clone(sold) }])
                    }
                    (Ok(sold), Some(FaultKind::WrongPrice)) => {
                        let repriced = market.surcharge(now, sold, SURCHARGE, events);
                        self.request.join_response(&[&repriced])
                    }
                    (Ok(sold), Some(kind)) => {
                        let price = reported_price(kind, sold.item.total, &mut state.rng);
                        self.request.join_response(&[&sold.with_price(price)])
                    }
                    (Ok(sold), None) => self.request.join_response(&[sold]),
                };
                let rejection = error_body(SaleRejection::NotJoinable.message(), "BAD_USER_INPUT");
                let late = (state.rng.duration(faults::LATE_REJECTION_AFTER), 200, rejection);
                (decision, ServerReply { fault, late, ..ServerReply::json(200, body) })
            }
        };
        state.market.record_order(
            self.id,
            OrderRecord {
                at: now,
                connection: self.connection.number,
                connected_at: self.connection.opened_at,
                fault,
                decision,
                answered_at: None,
            },
        );
        ServerReply { order_id: Some(self.id.to_owned()), ..reply }
    }
}

/// Returns the price in the response to a purchase.
fn reported_price(kind: FaultKind, price: Amount, rng: &mut Rng) -> Amount {
    let cents = price.cents();
    Amount::from_cents(match kind {
        FaultKind::PriceLow => rng.i64(1..=cents.saturating_sub(1).max(1)),
        FaultKind::PriceZero => 0,
        FaultKind::PriceHigh => {
            let least = cents.saturating_add(1);
            rng.i64(least..=cents.saturating_mul(3).max(least))
        }
        _ => cents,
    })
}

/// Returns the response of a fault under which the order is not executed.
fn reply_without_commit(kind: FaultKind) -> Option<ServerReply> {
    if kind.commits() {
        return None;
    }
    let error = |message| {
        Some(ServerReply::json(
            200,
            format!(
                "{{\"errors\":[{{\"message\":\"{message}\",\"path\":[\"joinTrades\"]}}],\"data\":null}}"
            ),
        ))
    };
    let page = |status, headers, body: &str| {
        Some(ServerReply { headers, ..ServerReply::json(status, body.to_owned()) })
    };
    match kind {
        FaultKind::TooMany => {
            page(429, &[("Retry-After", "3")], r#"{"errors":[{"message":"Too many requests"}]}"#)
        }
        FaultKind::Challenge => page(403, &[("cf-mitigated", "challenge")], CHALLENGE_PAGE),
        FaultKind::ServerErrorBeforeCommit => {
            page(503, &[], "<html><body>Service Unavailable</body></html>")
        }
        FaultKind::Captcha => error("Please complete the captcha, or leave incognito mode"),
        FaultKind::Unauthenticated => error("unauthenticated"),
        FaultKind::DailyLimit => error("This trade exceeds your daily withdrawal limit"),
        FaultKind::UnknownError => error("Something went wrong, please try again"),
        _ => Some(ServerReply { fault: Some(kind), ..ServerReply::json(200, String::new()) }),
    }
}

/// Returns the session of the simulated account, which is valid nowhere else.
fn session(seed: u64) -> String {
    let mut rng = random::stream(seed, 5);
    format!("s%3Apractice-{seed}.{:016x}{:016x}", rng.u64(..), rng.u64(..))
}
