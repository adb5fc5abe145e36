//! Decides about each listing and orders those that match.
//!
//! - [`engine`]: the synchronous decision, which takes the time as an argument.
//! - [`eligibility`], [`held`], [`queue`], [`stats`]: its pure parts.
//! - [`rules`]: replaces whitelist, limits and prices while the bot runs.
//! - [`sharing`]: obeys the permissions of a budget that several bots share.
//! - `deferred`: the listings that are ordered later. `sent_orders`: what is done about an order
//!   after its request.
//! - [`activity`], [`view`]: recent events and snapshots for other threads.
//! - [`near_misses`]: logs listings that an entry is about but does not match.
//! - `account_updates`: applies readings of the account. `alerting`: emits alerts. [`pauses`]:
//!   paused entries. `notified`: logs repeated events once. [`unknown_orders`]: the message at an
//!   early exit.
//! - `trade_log`: the log lines about listings, orders and halts.
//!
//! [`Sniper`] is the handle. The feed calls [`Sniper::consider`] for each listing. [`Sniper::run`]
//! does the rest in the same thread: it settles orders by their responses, orders held
//! listings when they open and applies readings of the account.

mod account_updates;
pub mod activity;
mod alerting;
mod deferred;
pub mod eligibility;
pub mod engine;
pub mod held;
pub mod near_misses;
mod notified;
pub mod pauses;
pub mod queue;
pub mod rules;
mod sent_orders;
pub mod sharing;
pub mod stats;
#[cfg(test)]
mod tests;
mod trade_log;
pub mod unknown_orders;
pub mod view;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc::TrySendError},
    thread,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, mpsc},
    time::MissedTickBehavior,
};

pub use self::engine::{Engine, Executor, Now};
use self::{
    account_updates::feed_status,
    engine::SPINNING_INTERVAL,
    rules::RulesChange,
    sharing::SharedUpdate,
    view::{SessionWatch, ViewCell},
};
use crate::{
    account::{AccountUpdate, RefreshRequests},
    clock,
    config::CACHE_WARMING_INTERVAL,
    domain::outcome::NotSent,
    domain::server_clock::ClockExchange,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeNotice},
    execution::{
        OrderClient,
        response::{OrderReport, SentRequest},
    },
    ledger::{
        ApprovedOrder, LedgerError,
        control::{ControlReply, PendingRequest},
    },
    prices::PriceSnapshot,
    ws::{FeedMetrics, WantedSender},
};

/// Interval of the periodic work.
const TICK: Duration = Duration::from_millis(500);
/// Interval of attempts to take the lock within a time limit.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Sends approved orders without waiting or blocking.
pub trait OrderSender {
    /// Writes the request of an approved order. Returns the times of the write.
    ///
    /// # Errors
    ///
    /// Returns [`NotSent`] if no byte was written.
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent>;

    /// Returns `true` if an order could be sent at this moment.
    fn is_ready(&self) -> bool {
        true
    }

    /// Returns the number of open connections.
    fn connections(&self) -> usize {
        1
    }

    /// Runs the path to the write of a request without writing, to keep it in the CPU caches.
    fn warm_caches(&self) {}

    /// Returns a future that completes once an order can be sent.
    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Takes the newest `Date` header of a response to another request than an order.
    fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        None
    }
}

/// One trading session. Clones are handles to the same session.
#[derive(Debug)]
pub struct Sniper<B = Arc<OrderClient>> {
    engine: Arc<Mutex<Engine<B>>>,
    /// Wakes [`run`](Self::run) if an order was sent, a held or queued listing must be looked at
    /// earlier than planned, a snapshot is requested, or the ledger has made progress for which a
    /// queued listing may wait.
    changed: Arc<Notify>,
    /// Notified when the account was read and its balance is below `min_balance`.
    below_min_balance: Arc<Notify>,
    view: Arc<ViewCell>,
}

impl<B> Clone for Sniper<B> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            changed: Arc::clone(&self.changed),
            below_min_balance: Arc::clone(&self.below_min_balance),
            view: Arc::clone(&self.view),
        }
    }
}

impl Now {
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: clock::now() }
    }
}

impl<B: OrderSender> Sniper<B> {
    pub fn new(mut engine: Engine<B>) -> Self {
        let changed = Arc::new(Notify::new());
        engine.ledger().wake_on_progress(Arc::clone(&changed));
        Self {
            engine: Arc::new(Mutex::new(engine)),
            changed,
            below_min_balance: Arc::new(Notify::new()),
            view: Arc::default(),
        }
    }

    /// Returns a handle that requests snapshots of this session, and starts to record recent
    /// events.
    pub fn watch(&self) -> SessionWatch {
        self.engine().observe();
        SessionWatch { cell: Arc::clone(&self.view), changed: Arc::clone(&self.changed) }
    }

    /// Returns a weak handle, which does not keep the session and its ledger open. It returns
    /// `None` once they are closed.
    pub fn downgrade(&self) -> impl Fn() -> Option<Self> + use<B> {
        let Self { engine, changed, below_min_balance, view } = self.clone();
        let engine = Arc::downgrade(&engine);
        move || {
            Some(Self {
                engine: engine.upgrade()?,
                changed: Arc::clone(&changed),
                below_min_balance: Arc::clone(&below_min_balance),
                view: Arc::clone(&view),
            })
        }
    }

    /// Decides about one listing and orders it if it matches. Does not wait for I/O.
    #[inline]
    pub fn consider(&self, trade: Trade<'_>) {
        let mut engine = self.lock();
        engine.consider(trade, Now::read());
        if engine.has_earlier_deadline || engine.has_sent_orders() {
            drop(engine);
            self.changed.notify_one();
        }
    }

    /// Handles an event of the feed that is not a listing.
    pub fn on_notice(&self, notice: TradeNotice) {
        self.engine().on_notice(notice, Now::read());
    }

    /// Does the work between listings for as long as it is polled. Returns only if the ledger
    /// cannot be used for the account.
    ///
    /// # Cancel safety
    ///
    /// Safe: each event is handled completely before the next wait.
    pub async fn run(&self, inputs: &mut EngineInputs, metrics: &FeedMetrics) -> LedgerError {
        let mut pushes_seen = 0;
        loop {
            if let Some(error) = self.engine().ledger_error.take() {
                return error;
            }
            self.view.on_turn();
            let due = self.tick(&inputs.refresh_requests, metrics);
            let connection = self.engine().awaited_connection();
            if self.view.is_requested() {
                let now = Now::read();
                let feed = feed_status(metrics, now);
                let running = inputs.started.map(|at| now.instant.saturating_duration_since(at));
                let view = self.engine().view(feed, running.unwrap_or_default(), now);
                self.view.publish(view);
            }
            let tick = Instant::now().checked_add(TICK);
            let wake = due.into_iter().chain(tick).min().unwrap_or_else(Instant::now);
            tokio::select! {
                report = next(&mut inputs.reports) => match report {
                    Some(report) => self.engine().on_order_report(&report, Now::read()),
                    None => inputs.reports = None,
                },
                update = next(&mut inputs.account_updates) => match update {
                    Some(update) => self.engine().on_account_update(update, Now::read()),
                    None => inputs.account_updates = None,
                },
                pending = next(&mut inputs.control_requests) => match pending {
                    Some(pending) if pending.request.is_reload() => inputs.forward_reload(pending),
                    Some(pending) => {
                        let now = Now::read();
                        let feed = feed_status(metrics, now);
                        let running = inputs.started.map(|at| now.instant.saturating_duration_since(at));
                        self.engine().handle_control_request(&pending, feed, running, now);
                    }
                    None => inputs.control_requests = None,
                },
                prices = next(&mut inputs.prices) => match prices {
                    Some(prices) => self.set_prices(prices, inputs.wanted.as_ref()),
                    None => inputs.prices = None,
                },
                change = next(&mut inputs.rules) => match change {
                    Some(RulesChange { rules, later, replaced }) => {
                        let old = self.engine().replace_rules(rules, Now::read(), inputs.wanted.as_ref());
                        inputs.prices = later;
                        // The thread of the reload waits for the old rules.
                        let _sent = replaced.try_send(old).is_ok();
                    }
                    None => inputs.rules = None,
                },
                update = next(&mut inputs.shared) => match update {
                    Some(update) => self
                        .engine()
                        .note_feed(metrics.connected_since().is_some())
                        .on_shared_update(update, Now::read()),
                    None => inputs.shared = None,
                },
                () = self.changed.notified() => {}
                () = metrics.has_unnamed() => {}
                () = ready(connection) => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            self.engine().count_unnamed(metrics.take_unnamed());
            if let Some((balance, version)) = metrics.balance()
                && version != pushes_seen
            {
                pushes_seen = version;
                self.engine().on_balance_push(balance);
            }
        }
    }

    /// Replaces the reference prices and the maximum prices that follow from them. There is no wait
    /// between the two, so that no listing is handled with only one of them.
    fn set_prices(&self, prices: PriceSnapshot, wanted: Option<&WantedSender>) {
        self.engine().set_prices(prices.book);
        if let Some(sender) = wanted {
            sender.send_replace(prices.wanted);
        }
    }

    /// Runs the path of an order without side effects at intervals, to keep it in the CPU caches.
    /// Never returns.
    ///
    /// # Cancel safety
    ///
    /// Safe: no work is in progress at a wait.
    pub async fn keep_caches_warm(self) {
        let mut interval = tokio::time::interval(CACHE_WARMING_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.engine().warm_caches(Duration::ZERO, Now::read());
        }
    }

    /// Keeps a CPU core busy, so that the thread need not be woken, and keeps the caches warm while
    /// idle. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Safe: no work is in progress at a wait.
    pub async fn spin(self) {
        loop {
            self.engine().warm_caches(SPINNING_INTERVAL, Now::read());
            tokio::task::yield_now().await;
        }
    }

    /// Orders listings that can be ordered now, and requests a read of the account if one is
    /// needed. Returns the time of the next call.
    fn tick(&self, requests: &RefreshRequests, metrics: &FeedMetrics) -> Option<Instant> {
        let mut engine = self.engine();
        engine.observe_server_date();
        let now = Now::read();
        engine.watch_clock(clock::wall(), now);
        engine.update_ledger(|ledger| Ok(ledger.check_losses(now.wall)));
        let due = engine.run_timers(now);
        let snapshot = engine.ledger().snapshot(now.wall);
        requests.set_needs_history(snapshot.unknown > 0 || snapshot.loss.count > 0);
        if engine.take_refresh_request() {
            requests.set_oldest_open(engine.ledger().oldest_open());
            if snapshot.reconciled {
                requests.request_refresh();
            } else {
                requests.request_refresh_now();
            }
        }
        engine.publish_looked_up_orders(requests, now);
        engine.watch_feed(metrics, now);
        engine.watch_for_alerts(&snapshot, now);
        if snapshot.is_below_min_balance() {
            self.below_min_balance.notify_one();
        }
        due
    }

    /// Waits until the balance has been read and is below `min_balance`.
    ///
    /// # Cancel safety
    ///
    /// Safe: a notification from before the call is kept.
    pub async fn below_min_balance(&self) {
        self.below_min_balance.notified().await;
    }

    /// Stops sending new orders.
    pub fn stop(&self) {
        self.engine().stop();
    }

    /// Calls `f` with the locked state.
    pub fn with_engine<T>(&self, f: impl FnOnce(&mut Engine<B>) -> T) -> T {
        f(&mut self.engine())
    }

    /// Calls `f` like [`with_engine`](Self::with_engine), but returns `None` if the lock is not
    /// free within `timeout`, as when another thread hangs.
    pub fn with_engine_timeout<T>(
        &self,
        timeout: Duration,
        f: impl FnOnce(&mut Engine<B>) -> T,
    ) -> Option<T> {
        let begun = Instant::now();
        loop {
            let mut engine = match self.engine.try_lock() {
                Ok(engine) => engine,
                Err(TryLockError::Poisoned(error)) => error.into_inner(),
                Err(TryLockError::WouldBlock) if timeout <= begun.elapsed() => return None,
                Err(TryLockError::WouldBlock) => {
                    thread::sleep(LOCK_RETRY_INTERVAL);
                    continue;
                }
            };
            engine.finish_sent_orders();
            return Some(f(&mut engine));
        }
    }

    /// Locks the engine for every use except a listing, and finishes the sent orders first.
    fn engine(&self) -> MutexGuard<'_, Engine<B>> {
        let mut engine = self.lock();
        engine.finish_sent_orders();
        engine
    }

    fn lock(&self) -> MutexGuard<'_, Engine<B>> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Event queues that [`Sniper::run`] reads, and the requests that it makes.
#[derive(Debug, Default)]
pub struct EngineInputs {
    /// Reports about sent orders; `None` in a dry run.
    pub reports: Option<mpsc::Receiver<OrderReport>>,
    /// Readings of the account; `None` if the account is not read.
    pub account_updates: Option<mpsc::Receiver<AccountUpdate>>,
    /// Requests over the control channel; `None` without one.
    pub control_requests: Option<mpsc::Receiver<PendingRequest>>,
    /// New snapshots of the reference prices; `None` without price sources. The sender keeps a
    /// handle of earlier ones, so that they are not freed on this thread.
    pub prices: Option<mpsc::Receiver<PriceSnapshot>>,
    /// Receives the maximum prices of each snapshot, and the items of a new whitelist.
    pub wanted: Option<WantedSender>,
    /// Rules that replace the present ones; `None` if they cannot be reloaded.
    pub rules: Option<mpsc::Receiver<RulesChange>>,
    /// Permissions of a shared budget; `None` without one.
    pub shared: Option<mpsc::Receiver<SharedUpdate>>,
    /// Receives the requests to reload the settings.
    pub reloads: Option<std::sync::mpsc::SyncSender<PendingRequest>>,
    /// Start of the session, from which `status` computes its running time.
    pub started: Option<Instant>,
    pub refresh_requests: Arc<RefreshRequests>,
}

impl EngineInputs {
    /// Passes a request to the thread that reloads the settings, and replies if it cannot.
    fn forward_reload(&self, pending: PendingRequest) {
        let rejected = match &self.reloads {
            None => Some((pending, "this bot cannot reload its settings; restart it")),
            Some(reloads) => match reloads.try_send(pending) {
                Ok(()) => None,
                Err(TrySendError::Full(pending)) => {
                    Some((pending, "another reload is in progress"))
                }
                Err(TrySendError::Disconnected(pending)) => Some((pending, "the bot is stopping")),
            },
        };
        if let Some((pending, reason)) = rejected {
            // The client may have disconnected.
            drop(pending.reply.try_send(ControlReply::Rejected(reason.to_owned())));
        }
    }
}

/// Receives the next item of a queue; never completes without a queue.
async fn next<T>(queue: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match queue {
        Some(queue) => queue.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits for a connection; never completes without a future.
async fn ready(connection: Option<BoxFuture<'static, ()>>) {
    match connection {
        Some(connection) => connection.await,
        None => std::future::pending().await,
    }
}

impl<B: OrderSender> OrderSender for Arc<B> {
    #[inline]
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        B::send(self, approved)
    }

    fn is_ready(&self) -> bool {
        B::is_ready(self)
    }

    fn connections(&self) -> usize {
        B::connections(self)
    }

    fn warm_caches(&self) {
        B::warm_caches(self);
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        B::ready(self)
    }

    fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        B::take_date(self)
    }
}

impl OrderSender for OrderClient {
    #[inline]
    fn send(&self, approved: ApprovedOrder) -> Result<SentRequest, NotSent> {
        Self::send(self, approved)
    }

    fn is_ready(&self) -> bool {
        0 < self.ready_count()
    }

    fn connections(&self) -> usize {
        Self::connections(self)
    }

    fn warm_caches(&self) {
        Self::warm_caches(self);
    }

    fn ready(&self) -> BoxFuture<'static, ()> {
        Box::pin(Self::ready(self))
    }

    fn take_date(&self) -> Option<(ClockExchange, UnixMs)> {
        Self::take_date(self)
    }
}
