//! The decision: a listing comes in, and leaves as a buy, a reason, or nothing.
//!
//! - [`engine`]: one listing after the other, synchronous, with time as an argument.
//! - [`eligibility`], [`held`], [`stats`]: its pure parts.
//! - `trade_log`: the lines that a person watches.
//!
//! [`Sniper`] is the handle: the feed calls [`Sniper::consider`] for each listing, and
//! [`Sniper::run`] does what must happen at other times, in the same thread: settle answers, buy
//! held listings when their moment comes, take in balances.

mod account_updates;
pub mod eligibility;
pub mod engine;
pub mod held;
mod notified;
mod settle;
pub mod stats;
#[cfg(test)]
mod tests;
mod trade_log;
pub mod unknown_orders;
mod warm_caches;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

pub use self::engine::{Engine, Executor, Now};
use self::{
    account_updates::feed_status,
    warm_caches::{ALL_THE_TIME, BEHIND_LISTINGS},
};
use crate::{
    account::{AccountUpdate, RefreshRequests},
    clock,
    domain::outcome::NotSent,
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    domain::trade::Trade,
    execution::{
        OrderClient,
        answer::{OrderReport, SentRequest},
    },
    ledger::{ApprovedOrder, LedgerError, control::PendingRequest},
    ws::FeedMetrics,
};

/// How often what has no moment of its own is looked after.
const TICK: Duration = Duration::from_millis(500);
/// How often whoever must not wait tries to look.
const TRY_EVERY: Duration = Duration::from_millis(5);
/// What sends a buy: neither waits nor blocks.
pub trait OrderSender {
    /// Writes the request of an approved buy, and says when.
    ///
    /// # Errors
    ///
    /// A [`NotSent`] if not one byte left.
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent>;

    /// The newest `Date` of the server that came without a buy, once.
    fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        None
    }
}

/// One session of deciding and buying. Clones are handles to the same session.
#[derive(Debug)]
pub struct Sniper<B = Arc<OrderClient>> {
    core: Arc<Mutex<Engine<B>>>,
    /// A listing was held, or an answer made room.
    changed: Arc<Notify>,
    /// The balance was read and is below its floor.
    below_floor: Arc<Notify>,
}

impl<B> Clone for Sniper<B> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            changed: Arc::clone(&self.changed),
            below_floor: Arc::clone(&self.below_floor),
        }
    }
}

impl Now {
    /// The time on both clocks.
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: clock::now() }
    }
}

impl<B: OrderSender> Sniper<B> {
    /// A session around its state.
    pub fn new(core: Engine<B>) -> Self {
        Self {
            core: Arc::new(Mutex::new(core)),
            changed: Arc::new(Notify::new()),
            below_floor: Arc::new(Notify::new()),
        }
    }

    /// A handle that does not keep the session, and with it the ledger, open; `None` once they are
    /// closed.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + use<B> {
        let core = Arc::downgrade(&self.core);
        let (changed, below_floor) = (Arc::clone(&self.changed), Arc::clone(&self.below_floor));
        move || {
            let (changed, below_floor) = (Arc::clone(&changed), Arc::clone(&below_floor));
            Some(Self { core: core.upgrade()?, changed, below_floor })
        }
    }

    /// Decides about one listing, and buys it if it should be. Neither waits nor blocks.
    #[inline]
    pub fn consider(&self, trade: Trade<'_>) {
        let mut core = self.core();
        core.consider(trade, Now::read());
        if core.has_earlier_mark || core.wishes_to_rehearse {
            drop(core);
            self.changed.notify_one();
        }
    }

    /// Does what must happen between listings, for as long as it is polled. Returns only if the
    /// ledger may not be used for this account.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is left half done at a wait.
    pub async fn run(&self, inbox: &mut EngineInputs, taps: &FeedMetrics) -> LedgerError {
        let mut pushes_seen = 0;
        loop {
            if let Some(refusal) = self.core().refusal.take() {
                return refusal;
            }
            let due = self.look_around(&inbox.requests);
            let tick = Instant::now().checked_add(TICK);
            let wake = due.into_iter().chain(tick).min().unwrap_or_else(Instant::now);
            tokio::select! {
                report = next(&mut inbox.reports) => match report {
                    Some(report) => self.core().settle(&report, Now::read()),
                    None => inbox.reports = None,
                },
                news = next(&mut inbox.news) => match news {
                    Some(news) => self.core().hear(news, Now::read()),
                    None => inbox.news = None,
                },
                ask = next(&mut inbox.asks) => match ask {
                    Some(ask) => {
                        let now = Now::read();
                        let feed = feed_status(taps, now);
                        let running = inbox.started.map(|at| now.instant.saturating_duration_since(at));
                        self.core().answer(&ask, feed, running, now.wall);
                    }
                    None => inbox.asks = None,
                },
                () = self.changed.notified() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if let Some((balance, version)) = taps.balance()
                && version != pushes_seen
            {
                pushes_seen = version;
                self.core().hear_push(balance);
            }
        }
    }

    /// Keeps a core awake: a thread that never sleeps need not be woken, and while it has nothing to
    /// do it goes the way of an approval now and then, so that a buy finds it warm. Costs a core,
    /// and never ends.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is under way at a wait.
    pub async fn spin(self) {
        loop {
            self.core().rehearse(ALL_THE_TIME, Now::read());
            tokio::task::yield_now().await;
        }
    }

    /// Buys what has become due, asks for what should be known soon, and says when to look again.
    fn look_around(&self, requests: &RefreshRequests) -> Option<Instant> {
        let mut core = self.core();
        core.learn_the_time();
        let now = Now::read();
        core.watch_clock(clock::wall(), now);
        core.note(|ledger| Ok(ledger.check_losses(now.wall)));
        let due = core.due(now);
        if core.wishes_to_rehearse {
            core.rehearse(BEHIND_LISTINGS, now);
        }
        if core.take_wish_to_know() {
            requests.oldest_open(core.ledger().oldest_open());
            requests.soon();
        }
        if core.ledger().snapshot(now.wall).is_below_floor() {
            self.below_floor.notify_one();
        }
        due
    }

    /// Waits until the balance has been read and is below its floor.
    ///
    /// # Cancel safety
    ///
    /// Safe: a balance that was reported before is not forgotten.
    pub async fn below_floor(&self) {
        self.below_floor.notified().await;
    }

    /// No new buys from now on.
    pub fn stop(&self) {
        self.core().stop();
    }

    /// Looks at the state, for a report.
    pub fn look<T>(&self, at: impl FnOnce(&mut Engine<B>) -> T) -> T {
        at(&mut self.core())
    }

    /// The same for whoever must not wait longer than this for a thread that may be stuck.
    pub fn look_within<T>(
        &self,
        within: Duration,
        at: impl FnOnce(&mut Engine<B>) -> T,
    ) -> Option<T> {
        let begun = Instant::now();
        loop {
            match self.core.try_lock() {
                Ok(mut core) => return Some(at(&mut core)),
                Err(TryLockError::Poisoned(error)) => return Some(at(&mut error.into_inner())),
                Err(TryLockError::WouldBlock) if within <= begun.elapsed() => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(TRY_EVERY),
            }
        }
    }

    fn core(&self) -> MutexGuard<'_, Engine<B>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes in from elsewhere, and what may be asked for.
#[derive(Debug, Default)]
pub struct EngineInputs {
    /// How buys went on the wire; `None`: none are sent.
    pub reports: Option<mpsc::Receiver<OrderReport>>,
    /// What was learned of the account; `None`: nobody looks.
    pub news: Option<mpsc::Receiver<AccountUpdate>>,
    /// What a person asks over the control channel; `None`: nobody can.
    pub asks: Option<mpsc::Receiver<PendingRequest>>,
    /// When the session began, for whoever asks how long it has run.
    pub started: Option<Instant>,
    /// Asks for a look at the account.
    pub requests: Arc<RefreshRequests>,
}

/// The next of a queue; never, where there is none.
async fn next<T>(queue: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match queue {
        Some(queue) => queue.recv().await,
        None => std::future::pending().await,
    }
}

impl<B: OrderSender> OrderSender for Arc<B> {
    #[inline]
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        B::send(self, approved)
    }

    fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        B::take_date(self)
    }
}

impl OrderSender for OrderClient {
    #[inline]
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        match Self::send(self, approved) {
            Ok(written) => Ok(written),
            Err((_never_left, reason)) => Err(reason),
        }
    }

    fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        Self::take_date(self)
    }
}
