//! State of the simulator that all connections share.
//!
//! One lock guards everything and is never held across an await. Events reach the feeds under the
//! lock of the change that caused them, in order. A feed whose queue is full is cut.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

use super::{
    faults::{Fault, FaultInjector, FaultKind},
    market_state::{MarketEvent, MarketState},
    random::{self, Rng},
    settings::SimSettings,
};
use crate::{clock, domain::time::UnixMs};

/// Capacity of a feed's command queue.
const FEED_QUEUE_MAX: usize = 4_096;

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

/// Counts of connections and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Accepted connections, HTTP and WebSocket.
    pub connections: u64,
    /// Feeds opened since the start.
    pub feeds: u64,
    pub feeds_open: u64,
    /// Open feeds with at least one subscription.
    pub feeds_subscribed: u64,
    /// Feeds that were cut because their queue was full.
    pub feeds_dropped: u64,
    /// HTTP requests with a complete body, valid or not.
    pub requests: u64,
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

impl State {
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

    /// Sends a command to all feeds. A feed whose queue is full is cut.
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

/// Returns the session of the simulated account, which is valid nowhere else.
fn session(seed: u64) -> String {
    let mut rng = random::stream(seed, 5);
    format!("s%3Apractice-{seed}.{:016x}{:016x}", rng.u64(..), rng.u64(..))
}
