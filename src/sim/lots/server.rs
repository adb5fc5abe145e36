//! A market of lots on a real socket: its shared state, its control by tests and commands, and its
//! answers to HTTP requests. The wire formats are those of a [`LotWire`].
//!
//! One lock guards the whole state and is never held across an await. Events reach the feeds under
//! the lock of the change that caused them, in order. A feed whose queue is full is closed.

use std::{
    collections::BTreeMap,
    io,
    marker::PhantomData,
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
    books::SalesBooks,
    feed_connection::{self, LotFeed},
    lot::LotEvent,
    market::LotMarket,
    purchase::{BuyRejection, LotOrder, Purchase, ReturnReason},
    query::{Query, RequestLimit, split_target},
};
use crate::{
    clock,
    domain::{
        money::{Amount, Decimals},
        time::UnixMs,
    },
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
const FEED_QUEUE_MAX: usize = 8_192;
/// Partner number of the account's trade URL, which is valid nowhere else.
pub const TRADE_PARTNER: &str = "123456789";
/// Token of the account's trade URL.
pub const TRADE_TOKEN: &str = "AbCdEf12";

/// Wire formats of a market of lots.
pub trait LotWire: Send + Sync + Sized + 'static {
    /// The faults that the market can inject.
    const FAULTS: &'static [&'static [FaultKind]];
    const DECIMALS: Decimals;
    /// Lowest id of a lot.
    const FIRST_ID: u64;
    const READS_PER_MINUTE: usize;
    /// Limit of orders; `None` for no limit.
    const ORDERS_PER_MINUTE: Option<usize>;
    /// Path and query of the feed.
    const FEED_PATH: &'static str;
    /// Path under which the HTTP endpoints are.
    const HTTP_PATH: &'static str;

    type Feed: LotFeed;

    /// Returns the environment variables that connect a bot, given the URLs of the feed and of the
    /// HTTP endpoints.
    fn environment(account: &AccountKeys, ws: String, http: String) -> Vec<(&'static str, String)>;

    /// Returns `true` if a request contains the valid key.
    fn is_authorized(account: &AccountKeys, request: &LotRequest<'_>) -> bool;

    /// Returns the answer to a request without the valid key.
    fn unauthorized() -> ServerAnswer;

    /// Returns the kind of a request; `None` for an unknown path or method.
    fn route(request: &LotRequest<'_>) -> Option<LotRoute>;

    /// Parses an order.
    ///
    /// # Errors
    ///
    /// Returns the answer to an invalid order.
    fn parse_order(request: &LotRequest<'_>) -> Result<LotOrder, ServerAnswer>;

    /// Returns the answer to an order that bought something; `price` is the reported one. Under
    /// [`FaultKind::Empty`], the purchase is not in it.
    fn sold(purchase: &Purchase, price: Amount, kind: Option<FaultKind>) -> ServerAnswer;

    fn rejected(order: &LotOrder, rejection: BuyRejection, rng: &mut Rng) -> ServerAnswer;

    /// Returns the answer of a fault under which the order is not executed.
    fn not_executed(kind: FaultKind, rng: &mut Rng) -> ServerAnswer;

    /// Answers a read.
    fn read(state: &mut LotState<Self>, request: &LotRequest<'_>, read: LotRead) -> ServerAnswer;

    fn too_many_requests() -> ServerAnswer;
}

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LotRoute {
    Order,
    /// A read that these channels of faults can affect.
    Read(&'static [FaultChannel]),
}

/// Circumstances of a read.
#[derive(Clone, Debug)]
pub struct LotRead {
    pub now: Duration,
    /// Fault of the answer, with the generator that chooses its values.
    pub fault: Option<(FaultKind, Rng)>,
}

/// Credentials of the simulated account, which are valid nowhere else.
#[derive(Clone, Debug)]
pub struct AccountKeys {
    pub key: String,
    pub user_id: String,
    /// Determines the signatures of tokens.
    pub seed: u64,
}

impl AccountKeys {
    fn new(seed: u64) -> Self {
        let mut rng = random::stream(seed, 5);
        let key = format!("practice-{seed}-{:016x}{:016x}", rng.u64(..), rng.u64(..));
        Self { key, user_id: rng.u64(1_000..1_000_000).to_string(), seed }
    }

    /// Returns the trade URL of the account.
    pub fn trade_url() -> String {
        format!(
            "https://steamcommunity.com/tradeoffer/new/?partner={TRADE_PARTNER}&token={TRADE_TOKEN}"
        )
    }
}

/// A request as a market reads it.
#[derive(Clone, Debug)]
pub struct LotRequest<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: Query,
    pub authorization: Option<&'a str>,
    pub body: &'a [u8],
}

/// Status, headers and body of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAnswer {
    pub status: u16,
    pub headers: &'static [(&'static str, &'static str)],
    pub body: String,
}

impl ServerAnswer {
    pub fn new(status: u16, body: impl ToString) -> Self {
        Self { status, headers: &[], body: body.to_string() }
    }

    fn reply(self) -> ServerReply {
        ServerReply { headers: self.headers, ..ServerReply::json(self.status, self.body) }
    }
}

/// A running simulator. It stops when it is dropped.
pub struct LotServer<W: LotWire> {
    shared: Arc<LotServerState<W>>,
    thread: ServerThread,
}

impl<W: LotWire> LotServer<W> {
    /// Starts the simulator on its own thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SimServerError`] if the address cannot be bound, no thread can be started, or
    /// the market does not have one of the faults of the settings.
    pub fn start(settings: SimSettings) -> Result<Self, SimServerError> {
        let shared = Arc::new(LotServerState::new(settings));
        let thread = ServerThread::start(Arc::clone(&shared))?;
        Ok(Self { shared, thread })
    }

    /// Returns the address it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.thread.address
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        let secure = if self.shared.settings.tls.is_some() { "s" } else { "" };
        format!("{scheme}{secure}://{}{path}", self.address())
    }

    /// Returns the URL of the feed.
    pub fn ws_url(&self) -> String {
        self.url("ws", W::FEED_PATH)
    }

    /// Returns the URL under which the HTTP endpoints are.
    pub fn http_url(&self) -> String {
        self.url("http", W::HTTP_PATH)
    }

    /// Returns the credentials of the account.
    pub fn account(&self) -> &AccountKeys {
        &self.shared.account
    }

    /// Returns the environment variables that connect a bot to this simulator.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        W::environment(&self.shared.account, self.ws_url(), self.http_url())
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

    /// Returns a copy of the sales to the account.
    pub fn books(&self) -> SalesBooks {
        self.shared.with(|state, now, events| {
            state.market.advance(now, events);
            state.market.books().clone()
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

    /// Lists these items now, in addition to the generated lots. Returns the ids.
    pub fn list_items(&self, items: Vec<ListedItem>) -> Vec<u64> {
        self.shared.with(|state, now, events| state.market.list_items(now, items, events))
    }

    /// Lists an item that is locked for this time. Returns its id.
    pub fn list_locked(&self, item: ListedItem, lock: Duration) -> u64 {
        self.shared.with(|state, now, events| state.market.list_locked(now, item, lock, events))
    }

    /// Changes the price of an open lot. Returns `false` if no such lot is open.
    pub fn reprice(&self, id: u64, price: Amount) -> bool {
        self.shared.with(|state, now, events| state.market.reprice(id, price, now, events))
    }

    /// Removes an open lot, as its seller may. Returns `false` if no such lot is open.
    pub fn delist(&self, id: u64) -> bool {
        self.shared.with(|state, now, events| state.market.delist(id, now, events))
    }

    /// Lists a removed lot again under the same id. Returns `false` if it is not known.
    pub fn relist(&self, id: u64) -> bool {
        self.shared.with(|state, now, events| state.market.relist(id, now, events))
    }

    /// Returns a purchase, as a failed trade or a roll-back does.
    pub fn return_purchase(&self, number: u64, reason: ReturnReason) {
        self.shared.with(|state, now, events| {
            state.market.return_purchase(number, reason, now, events);
        });
    }

    /// Changes the account's balance without a purchase.
    pub fn adjust_balance(&self, change: Amount) {
        self.shared.with(|state, now, events| state.market.adjust_balance(now, change, events));
    }

    /// Replaces the enabled faults, also of the open feeds.
    pub fn set_faults(&self, faults: &[Fault]) {
        let rng = random::stream(self.shared.settings.seed, 4);
        self.shared.with(|state, _, _| {
            state.faults = Arc::from(faults);
            state.injector = FaultInjector::new(faults, rng);
            state.broadcast(&LotFeedCommand::SetFaults(Arc::clone(&state.faults)));
        });
    }

    /// Injects a fault of the feed into all feeds now.
    pub fn inject(&self, kind: FaultKind) {
        self.shared.with(|state, _, _| state.broadcast(&LotFeedCommand::Inject(kind)));
    }

    /// Stops the simulator: cuts all connections and frees the port.
    pub fn stop(self) {
        drop(self);
    }
}

/// A command to a feed connection.
#[derive(Clone, Debug)]
pub(super) enum LotFeedCommand {
    SendEvent(Arc<LotEvent>),
    Inject(FaultKind),
    /// Replaces the enabled faults.
    SetFaults(Arc<[Fault]>),
}

/// State shared by all connections.
pub(super) struct LotServerState<W> {
    state: Mutex<LotState<W>>,
    pub(super) opened_at: Instant,
    /// Notified when the next scheduled change may have become earlier.
    wake: Notify,
    pub(super) settings: SimSettings,
    pub(super) account: AccountKeys,
}

/// The part of the state behind the lock.
pub struct LotState<W> {
    pub market: LotMarket,
    pub account: AccountKeys,
    pub settings: SimSettings,
    stats: ServerStats,
    /// Enabled faults, which new feeds take over.
    pub(super) faults: Arc<[Fault]>,
    /// Injects the faults of orders and reads.
    injector: FaultInjector,
    /// Chooses the values of answers that vary.
    rng: Rng,
    reads: RequestLimit,
    orders: Option<RequestLimit>,
    feeds: BTreeMap<u64, mpsc::Sender<LotFeedCommand>>,
    wire: PhantomData<W>,
}

impl<W: LotWire> LotServerState<W> {
    /// Creates the state of a market that opens now.
    fn new(settings: SimSettings) -> Self {
        let opened_at = UnixMs(clock::now().0.saturating_add(settings.clock_ahead_ms));
        let account = AccountKeys::new(settings.seed);
        let state = LotState {
            market: LotMarket::new(&settings, W::DECIMALS, W::FIRST_ID, opened_at),
            account: account.clone(),
            settings: settings.clone(),
            stats: ServerStats::default(),
            faults: Arc::from(&*settings.faults),
            injector: FaultInjector::new(&settings.faults, random::stream(settings.seed, 4)),
            rng: random::stream(settings.seed, 6),
            reads: RequestLimit::new(W::READS_PER_MINUTE),
            orders: W::ORDERS_PER_MINUTE.map(RequestLimit::new),
            feeds: BTreeMap::new(),
            wire: PhantomData,
        };
        let (state, wake) = (Mutex::new(state), Notify::new());
        Self { state, opened_at: Instant::now(), wake, settings, account }
    }

    /// Reads or changes the state under the lock, and sends the resulting events to all feeds.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&mut LotState<W>, Duration, &mut Vec<LotEvent>) -> R,
    ) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        let result = act(&mut state, self.opened_at.elapsed(), &mut events);
        if !events.is_empty() {
            for event in events {
                state.broadcast(&LotFeedCommand::SendEvent(Arc::new(event)));
            }
            self.wake.notify_one();
        }
        result
    }

    /// Applies the changes that are due. Returns the time of the next one.
    fn tick(&self) -> Option<Instant> {
        self.with(|state, now, events| {
            state.market.advance(now, events);
            state.market.next_due().and_then(|due| self.opened_at.checked_add(due))
        })
    }
}

impl<W: LotWire> SimulatedMarket for LotServerState<W> {
    const FAULTS: &'static [&'static [FaultKind]] = W::FAULTS;

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
        let (path, query) = split_target(&head.path);
        let (method, authorization) = (&*head.method, head.authorization.as_deref());
        let request = LotRequest { method, path, query, authorization, body };
        self.with(|state, now, events| state.answer(&request, connection, now, events))
    }

    fn record_response(&self, order_id: &str, connection: ClientConnection) {
        self.with(|state, now, _| {
            if let Ok(id) = order_id.parse() {
                state.market.record_response(id, connection.number, now);
            }
        });
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

impl<W: LotWire> LotState<W> {
    fn answer(
        &mut self,
        request: &LotRequest<'_>,
        connection: ClientConnection,
        now: Duration,
        events: &mut Vec<LotEvent>,
    ) -> ServerReply {
        self.stats.requests = self.stats.requests.saturating_add(1);
        let Some(route) = W::route(request) else {
            return ServerAnswer::new(404, r#"{"error":"not_found"}"#).reply();
        };
        if !W::is_authorized(&self.account, request) {
            return W::unauthorized().reply();
        }
        let limit = match route {
            LotRoute::Order => self.orders.as_mut(),
            LotRoute::Read(_) => Some(&mut self.reads),
        };
        let limit = limit.filter(|_limit| self.settings.lots.limits_requests);
        if limit.is_some_and(|limit| !limit.allows(now)) {
            return W::too_many_requests().reply();
        }
        self.market.advance(now, events);
        match route {
            LotRoute::Order => match W::parse_order(request) {
                Ok(order) => self.execute(&order, connection, now, events),
                Err(answer) => answer.reply(),
            },
            LotRoute::Read(channels) => {
                let kind = self.injector.next_fault(channels);
                let fault = kind.map(|kind| (kind, self.rng.fork()));
                let answer = W::read(self, request, LotRead { now, fault });
                ServerReply { fault: kind, ..answer.reply() }
            }
        }
    }

    /// Executes an order under the next fault, and records it in the history.
    fn execute(
        &mut self,
        order: &LotOrder,
        connection: ClientConnection,
        now: Duration,
        events: &mut Vec<LotEvent>,
    ) -> ServerReply {
        let fault = self.injector.next_fault(&[FaultChannel::Orders]);
        if let (Some(FaultKind::PriceMoves), Some(id)) = (fault, order.id) {
            self.market.raise_price(id, now, events);
        }
        let not_executed = fault.filter(|kind| !kind.commits() && *kind != FaultKind::PriceMoves);
        let (decision, answer) = match not_executed {
            Some(kind) => (OrderDecision::Ignored, not_executed_answer::<W>(kind, &mut self.rng)),
            None => {
                let result = self.market.buy(now, order, events);
                let decision = OrderDecision::from(&result);
                let answer = match result {
                    Ok(purchase) => self.sold_answer(purchase, fault, now, events),
                    Err(rejection) => W::rejected(order, rejection, &mut self.rng),
                };
                (decision, answer)
            }
        };
        let record = OrderRecord {
            at: now,
            connection: connection.number,
            connected_at: connection.opened_at,
            fault,
            decision,
            answered_at: None,
        };
        self.market.record_order(order, record);
        let rejection = W::rejected(order, BuyRejection::Unavailable, &mut self.rng);
        let delay = self.rng.duration(faults::LATE_REJECTION_AFTER);
        ServerReply {
            fault,
            order_id: Some(order.id.map_or_else(String::new, |id| id.to_string())),
            late: (delay, rejection.status, rejection.body),
            ..answer.reply()
        }
    }

    fn sold_answer(
        &mut self,
        purchase: Purchase,
        fault: Option<FaultKind>,
        now: Duration,
        events: &mut Vec<LotEvent>,
    ) -> ServerAnswer {
        let (number, cents) = (purchase.number, purchase.price.cents());
        let mut sold = purchase;
        match fault {
            Some(FaultKind::WrongPrice) => {
                if let Some(repriced) = self.market.surcharge(number, SURCHARGE, now, events) {
                    sold = repriced;
                }
            }
            Some(FaultKind::ReturnedAtOnce) => {
                self.market.return_purchase(number, ReturnReason::CreateError, now, events);
            }
            Some(FaultKind::Foreign) => sold.number = number.saturating_add(1),
            _ => {}
        }
        let price = match fault {
            Some(FaultKind::PriceLow) => {
                Amount::from_cents(self.rng.i64(1..=cents.saturating_sub(1).max(1)))
            }
            Some(FaultKind::PriceZero) => Amount::ZERO,
            Some(FaultKind::PriceHigh) => {
                let least = cents.saturating_add(1);
                Amount::from_cents(self.rng.i64(least..=cents.saturating_mul(3).max(least)))
            }
            _ => sold.price,
        };
        W::sold(&sold, price, fault)
    }

    /// Registers a feed. Returns its number and its command queue.
    pub(super) fn open_feed(&mut self) -> (u64, mpsc::Receiver<LotFeedCommand>) {
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
    fn broadcast(&mut self, command: &LotFeedCommand) {
        let before = self.feeds.len();
        self.feeds.retain(|_, feed| feed.try_send(command.clone()).is_ok());
        let dropped = before.saturating_sub(self.feeds.len()).try_into().unwrap_or(0);
        self.stats.feeds_dropped = self.stats.feeds_dropped.saturating_add(dropped);
    }
}

/// Returns the answer of a fault under which the order is not executed. The faults of a connection
/// or a proxy have the same answer on all markets.
fn not_executed_answer<W: LotWire>(kind: FaultKind, rng: &mut Rng) -> ServerAnswer {
    match kind {
        FaultKind::CutBeforeCommit | FaultKind::HangBeforeCommit => ServerAnswer::new(200, ""),
        FaultKind::ServerErrorBeforeCommit => {
            ServerAnswer::new(503, "<html><body>Service Unavailable</body></html>")
        }
        FaultKind::Challenge => ServerAnswer {
            headers: &[("cf-mitigated", "challenge")],
            ..ServerAnswer::new(403, CHALLENGE_PAGE)
        },
        kind => W::not_executed(kind, rng),
    }
}
