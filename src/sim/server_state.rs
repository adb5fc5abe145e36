//! What all connections of a practice market share: its state, its clock, and who listens to it.
//!
//! One lock holds everything and is never held across an await. Whatever changes the state tells
//! the feeds in the same step, in order; a feed that does not keep up is cut, never waited for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

use super::{
    dice::Dice,
    faults::{Fault, FaultInjector, FaultKind},
    market_state::{MarketEvent, MarketState},
    settings::SimSettings,
};
use crate::{clock, domain::time::UnixMs};

/// How many messages a feed may be behind.
const BEHIND_MAX: usize = 4_096;

/// What a feed is told to do.
#[derive(Clone, Debug)]
pub(super) enum FeedOrder {
    /// Tell the client about an event.
    Tell(Arc<MarketEvent>),
    /// Send a text as it is.
    Say(Arc<str>),
    /// Fail in this way.
    Fail(FaultKind),
    /// Close properly, with this code and reason.
    Close(u16, Arc<str>),
    /// Fail in these ways from now on, and in no other.
    Faults(Arc<[Fault]>),
}

/// How often the market was visited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerStats {
    /// Connections that were accepted, of whatever kind.
    pub connections: u64,
    /// Feeds that were opened.
    pub feeds: u64,
    /// Feeds that are open now.
    pub feeds_open: u64,
    /// Feeds that are open now and subscribed to something.
    pub feeds_subscribed: u64,
    /// Feeds that were given up because they did not read.
    pub feeds_given_up: u64,
    /// HTTP requests that were read.
    pub requests: u64,
}

/// What all connections share.
pub(super) struct ServerState {
    state: Mutex<State>,
    /// When the market opened.
    pub(super) opened: Instant,
    /// Says that something may be due earlier than was thought.
    pub(super) wake: Notify,
    /// What was set.
    pub(super) settings: SimSettings,
}

/// What is behind the lock.
pub(super) struct State {
    /// The market.
    pub(super) exchange: MarketState,
    /// The value of the `session` cookie that is signed in.
    pub(super) session: String,
    /// How often the market was visited.
    pub(super) visits: ServerStats,
    /// What goes wrong.
    pub(super) faults: Arc<[Fault]>,
    /// What goes wrong with orders and reads.
    pub(super) fate: FaultInjector,
    /// What decides what a false answer says.
    pub(super) dice: Dice,
    feeds: BTreeMap<u64, mpsc::Sender<FeedOrder>>,
}

impl ServerState {
    /// Opens the market now.
    pub(super) fn new(settings: SimSettings) -> Self {
        let ahead = settings.clock_ahead_ms;
        let opened_at = UnixMs(clock::now().0.saturating_add(ahead));
        let state = State {
            exchange: MarketState::new(&settings, opened_at),
            session: session(settings.seed),
            visits: ServerStats::default(),
            faults: Arc::from(&*settings.faults),
            fate: FaultInjector::new(&settings.faults, Dice::aside(settings.seed, 4)),
            dice: Dice::aside(settings.seed, 6),
            feeds: BTreeMap::new(),
        };
        Self { state: Mutex::new(state), opened: Instant::now(), wake: Notify::new(), settings }
    }

    /// Looks at the state, or changes it; whoever listens is told what happened.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&mut State, Duration, &mut Vec<MarketEvent>) -> R,
    ) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut events = Vec::new();
        let result = act(&mut state, self.opened.elapsed(), &mut events);
        if !events.is_empty() {
            for event in events {
                state.order(&FeedOrder::Tell(Arc::new(event)));
            }
            self.wake.notify_one();
        }
        result
    }

    /// Lets everything happen that is due; says when to come back.
    pub(super) fn tick(&self) -> Option<Instant> {
        self.with(|state, now, events| {
            state.exchange.advance(now, events);
            state.exchange.next_due().and_then(|due| self.opened.checked_add(due))
        })
    }
}

impl State {
    /// Goes wrong in these ways from now on, and in no other.
    pub(super) fn set_faults(&mut self, faults: &[Fault], dice: Dice) {
        self.faults = Arc::from(faults);
        self.fate = FaultInjector::new(faults, dice);
        self.order(&FeedOrder::Faults(Arc::clone(&self.faults)));
    }

    /// Opens a feed: its number, and what it will be told.
    pub(super) fn open_feed(&mut self) -> (u64, mpsc::Receiver<FeedOrder>) {
        let (sender, receiver) = mpsc::channel(BEHIND_MAX);
        self.visits.feeds = self.visits.feeds.saturating_add(1);
        let number = self.visits.feeds;
        self.feeds.insert(number, sender);
        self.visits.feeds_open = self.visits.feeds_open.saturating_add(1);
        (number, receiver)
    }

    /// Forgets a feed.
    pub(super) fn close_feed(&mut self, number: u64, subscribed: bool) {
        self.feeds.remove(&number);
        self.visits.feeds_open = self.visits.feeds_open.saturating_sub(1);
        self.subscribed(subscribed, false);
    }

    /// Notes that a feed has begun to be subscribed to something, or has ceased to be.
    pub(super) fn subscribed(&mut self, before: bool, now: bool) {
        let count = &mut self.visits.feeds_subscribed;
        *count = count.saturating_add(u64::from(now)).saturating_sub(u64::from(before));
    }

    /// Tells all feeds to do something. Those that cannot take it any more are cut.
    pub(super) fn order(&mut self, order: &FeedOrder) {
        let before = self.feeds.len();
        self.feeds.retain(|_, feed| feed.try_send(order.clone()).is_ok());
        let given_up = before.saturating_sub(self.feeds.len()).try_into().unwrap_or(0);
        self.visits.feeds_given_up = self.visits.feeds_given_up.saturating_add(given_up);
    }

    /// Whether a `Cookie` header holds the session that is signed in.
    pub(super) fn is_signed_in(&self, cookie: Option<&str>) -> bool {
        let mut pairs = cookie.unwrap_or_default().split(';');
        pairs.any(|pair| pair.trim().strip_prefix("session=") == Some(&*self.session))
    }
}

/// The credential of a practice account: it opens nothing else.
fn session(seed: u64) -> String {
    let mut dice = Dice::aside(seed, 5);
    format!("s%3Apractice-{seed}.{:016x}{:016x}", dice.next(), dice.next())
}
