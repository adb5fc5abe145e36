//! A simulated market on a real socket: the state that all of its connections share, and its
//! control by tests and commands.
//!
//! One lock guards the whole state and is never held across an await. Events reach the feeds under
//! the lock of the change that caused them, in order. A feed whose queue is full is closed.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    task::yield_now,
    time::sleep_until,
};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::{
    catalogue::ListedItem,
    faults::{Fault, FaultInjector, FaultKind},
    history::MarketHistory,
    model::{FeedOutput, FeedSession, MarketModel},
    random::{self, Rng},
    server::{
        ClientConnection, RequestHead, ServerReply, ServerStats, ServerThread, SimServerError,
    },
    settings::SimSettings,
};
use crate::{
    clock,
    domain::{money::Amount, time::UnixMs},
};

/// Capacity of a feed's command queue.
const FEED_QUEUE_MAX: usize = 8_192;

/// An event of a market's feed.
pub type EventOf<M> = <<M as SimulatedMarket>::Model as MarketModel>::Event;

/// A new feed with its first messages, or the close code and reason of one that is not acceptable.
pub type OpenResult<F> = Result<(F, Vec<FeedOutput>), (u16, &'static str)>;

/// A simulated market: its wire formats and the state that belongs to them.
pub trait SimulatedMarket: Sized + Send + 'static {
    /// The faults that the market can inject.
    const FAULTS: &'static [&'static [FaultKind]];
    /// Path and query of the feed.
    const FEED_PATH: &'static str;
    /// Path under which the HTTP endpoints are.
    const HTTP_PATH: &'static str;
    /// Random stream of faults that replace those of the settings.
    const NEW_FAULTS_STREAM: u64;

    type Model: MarketModel;
    type Feed: FeedSession<Event = EventOf<Self>>;
    /// Parts of an upgrade request that the feed needs.
    type Upgrade: Send;

    /// Creates the state of a market that opens at this time of its own clock.
    fn open(settings: &SimSettings, opened_at: UnixMs) -> (Self, Self::Model);

    /// Answers a request with this head and body.
    fn answer(
        state: &mut SimState<Self>,
        request: (&RequestHead, &[u8]),
        connection: ClientConnection,
        now: Duration,
        events: &mut Vec<EventOf<Self>>,
    ) -> ServerReply;

    /// Checks an upgrade request, and completes its response.
    ///
    /// # Errors
    ///
    /// Returns the body of the response with status 404 to a request for another path.
    fn upgrade(
        state: &SimState<Self>,
        request: &Request,
        response: &mut Response,
    ) -> Result<Self::Upgrade, &'static str>;

    /// Opens a feed after its upgrade, with its first messages.
    ///
    /// # Errors
    ///
    /// Returns the close code and reason if the request is not acceptable.
    fn open_feed(
        state: &SimState<Self>,
        upgrade: Self::Upgrade,
        settings: &SimSettings,
        now: Duration,
        rng: &mut Rng,
    ) -> OpenResult<Self::Feed>;
}

/// A running simulator. It stops when it is dropped.
pub struct Sim<M: SimulatedMarket> {
    pub(super) shared: Arc<SharedState<M>>,
    thread: ServerThread,
}

impl<M: SimulatedMarket> Sim<M> {
    /// Starts the simulator on its own thread.
    ///
    /// # Errors
    ///
    /// Returns a [`SimServerError`] if the address cannot be bound, no thread can be started, or
    /// the market does not have one of the faults of the settings.
    pub fn start(settings: SimSettings) -> Result<Self, SimServerError> {
        let shared = Arc::new(SharedState::new(settings));
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
        self.url("ws", M::FEED_PATH)
    }

    /// Returns the URL under which the HTTP endpoints are.
    pub fn http_url(&self) -> String {
        self.url("http", M::HTTP_PATH)
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

    /// Lists these items now, in addition to the generated listings. Returns the ids.
    pub fn list_items(&self, items: Vec<ListedItem>) -> Vec<<M::Model as MarketModel>::Id> {
        self.shared.with(|state, now, events| state.market.list_items(now, items, events))
    }

    /// Injects a fault into all feeds now.
    pub fn inject_feed_fault(&self, kind: FaultKind) {
        self.broadcast(&FeedCommand::Inject(kind));
    }

    /// Replaces the enabled faults, also of the open feeds; none disables them. Effects of earlier
    /// faults stay, except that silent feeds send again.
    pub fn set_faults(&self, faults: &[Fault]) {
        let rng = random::stream(self.shared.settings.seed, M::NEW_FAULTS_STREAM);
        self.shared.with(|state, _, _| {
            state.faults = Arc::from(faults);
            state.injector = FaultInjector::new(faults, rng);
            state.broadcast(&FeedCommand::SetFaults(Arc::clone(&state.faults)));
        });
    }

    /// Changes the account's balance without a purchase.
    pub fn adjust_balance(&self, change: Amount) {
        self.shared.with(|state, now, events| state.market.adjust_balance(now, change, events));
    }

    pub(super) fn broadcast(&self, command: &FeedCommand<EventOf<M>>) {
        self.shared.with(|state, _, _| state.broadcast(command));
    }
}

/// A command to a feed connection.
#[derive(Clone, Debug)]
pub(super) enum FeedCommand<E> {
    SendEvent(Arc<E>),
    /// Sends a text message unchanged.
    SendRaw(Arc<str>),
    Inject(FaultKind),
    /// Closes the connection with this code and reason.
    Close(u16, Arc<str>),
    /// Replaces the enabled faults.
    SetFaults(Arc<[Fault]>),
}

/// State shared by all connections.
pub(super) struct SharedState<M: SimulatedMarket> {
    state: Mutex<SimState<M>>,
    pub(super) opened_at: Instant,
    /// Notified when the next scheduled change may have become earlier.
    wake: Notify,
    pub(super) settings: SimSettings,
}

/// The part of the state behind the lock.
pub struct SimState<M: SimulatedMarket> {
    pub market: M::Model,
    pub site: M,
    pub(super) stats: ServerStats,
    /// Enabled faults, which new feeds take over.
    faults: Arc<[Fault]>,
    /// Injects the faults of orders and reads.
    pub(super) injector: FaultInjector,
    /// Chooses the values of answers that vary.
    pub(super) rng: Rng,
    feeds: BTreeMap<u64, mpsc::Sender<FeedCommand<EventOf<M>>>>,
}

/// A registered feed.
pub(super) struct OpenedFeed<M: SimulatedMarket> {
    pub(super) number: u64,
    pub(super) session: M::Feed,
    pub(super) greeting: Vec<FeedOutput>,
    pub(super) injector: FaultInjector,
    pub(super) rng: Rng,
    pub(super) commands: mpsc::Receiver<FeedCommand<EventOf<M>>>,
}

impl<M: SimulatedMarket> SharedState<M> {
    /// Creates the state of a market that opens now.
    fn new(settings: SimSettings) -> Self {
        let opened_at = UnixMs(clock::now().0.saturating_add(settings.clock_ahead_ms));
        let (site, market) = M::open(&settings, opened_at);
        let state = SimState {
            market,
            site,
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
        act: impl FnOnce(&mut SimState<M>, Duration, &mut Vec<EventOf<M>>) -> R,
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
    fn tick(&self) -> Option<Instant> {
        self.with(|state, now, events| {
            state.market.advance(now, events);
            state.market.next_due().and_then(|due| self.opened_at.checked_add(due))
        })
    }

    /// Applies scheduled changes as they become due. Never returns.
    pub(super) async fn run_schedule(&self) {
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

    /// Returns the time of the market's clock.
    pub(super) fn clock(&self) -> UnixMs {
        self.with(|state, now, _| state.market.clock(now))
    }

    /// Registers an accepted connection.
    pub(super) fn open_connection(&self) -> ClientConnection {
        self.with(|state, now, _| {
            state.stats.connections = state.stats.connections.saturating_add(1);
            ClientConnection { number: state.stats.connections, opened_at: now }
        })
    }
}

impl<M: SimulatedMarket> SimState<M> {
    /// Registers a feed.
    ///
    /// # Errors
    ///
    /// Returns the close code and reason if the request is not acceptable.
    pub(super) fn open_feed(
        &mut self,
        upgrade: M::Upgrade,
        settings: &SimSettings,
        now: Duration,
    ) -> Result<OpenedFeed<M>, (u16, &'static str)> {
        let number = self.stats.feeds.saturating_add(1);
        let mut rng = random::stream(settings.seed, number.saturating_add(1_000));
        let (session, greeting) = M::open_feed(self, upgrade, settings, now, &mut rng)?;
        let (sender, commands) = mpsc::channel(FEED_QUEUE_MAX);
        self.stats.feeds = number;
        self.feeds.insert(number, sender);
        self.stats.feeds_open = self.stats.feeds_open.saturating_add(1);
        let injector = FaultInjector::new(&self.faults, rng.clone());
        Ok(OpenedFeed { number, session, greeting, injector, rng, commands })
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
    fn broadcast(&mut self, command: &FeedCommand<EventOf<M>>) {
        let before = self.feeds.len();
        self.feeds.retain(|_, feed| feed.try_send(command.clone()).is_ok());
        let dropped = before.saturating_sub(self.feeds.len()).try_into().unwrap_or(0);
        self.stats.feeds_dropped = self.stats.feeds_dropped.saturating_add(dropped);
    }
}
