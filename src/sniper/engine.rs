//! The decision about each listing: whitelist, eligibility, limits, order.
//!
//! All of it is synchronous and takes the time as an argument. [`Engine::consider`] is the hot path
//! from listing to order and runs on the caller's stack. It logs an order only after its request.
//!
//! # Invariants
//!
//! 1. A listing is ordered at most once, even if it arrives repeatedly or over several connections.
//!    Its [key](KeyedBy) is the id, or the id and the price.
//! 2. Only orders that the ledger has approved are sent. A dry run has no order client.
//! 3. A held or queued listing passes every check again when its time has come, because limits,
//!    halts and its own expiry may have changed.
//! 4. A listing is skipped only for a reason that is final. For any other it waits (`deferred`),
//!    and after too long a wait it is considered again when it is repeated.
//!
//! # Cache warming
//!
//! Minutes may pass between two orders, after which the CPU caches no longer contain the path of an
//! order: the ledger's write alone then takes ten times as long. So a live bot runs the path
//! without side effects every millisecond, and continuously where a CPU core is reserved.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    OrderSender,
    activity::Activity,
    alerting::EngineAlerts,
    eligibility::{Eligibility, ServerTime, eligibility},
    held::{HeldListing, HeldListings},
    near_misses::{NearMissLog, NearMisses},
    notified::{Notified, UNREADABLE},
    queue::{OrderQueue, WaitReason},
    sent_orders::SentOrder,
    sharing::EngineSharing,
    stats::{BoughtItem, CountedReason, SessionStats},
    trade_log::{self, MatchedEntry},
    view::EntryScan,
};
use crate::{
    cache::SetAssocCache,
    config::OrdersConfig,
    domain::latency::{LatencyBreakdown, RxTimestamps},
    domain::money::Amount,
    domain::outcome::{Outcome, Unknown},
    domain::server_clock::{ClockExchange, ServerClock},
    domain::time::UnixMs,
    domain::trade::{KeyedBy, Trade, TradeEvent, TradeId, TradeKey, TradeStatus},
    execution::response::{ExchangeResult, OrderReport, SentRequest},
    ledger::{
        Effects, EntrySlot, HaltReason, InvalidTransition, Ledger, LedgerError, OrderRequest,
        OrderState, OrderedItem,
        pauses::{PauseRecorder, PausedNames},
        price_status::PriceStatus,
        status,
    },
    prices::PriceBook,
    recording::PriceRecorder,
    secret,
    text::truncated,
    whitelist::{Decision, PriceView, Whitelist, WhitelistEntry, percent_mismatch},
};

/// Maximum number of matched listings that are remembered to detect repetitions.
pub const SEEN_MAX: usize = 65_536;
/// Maximum number of listings held until they open.
pub const HELD_MAX: usize = 4_096;
/// Maximum number of orders of unknown outcome whose items are kept for the summary.
pub const UNRESOLVED_MAX: usize = 4_096;
/// Maximum number of item names kept for look-ups and later log lines.
pub const NAMES_MAX: usize = 16_384;
/// Maximum number of listings that wait until they can be ordered.
pub const QUEUED_MAX: usize = 256;
/// Maximum length of a response body that the ledger keeps for the operator, in bytes.
const RESPONSE_BYTES_MAX: usize = 512;
/// Interval of cache warming if a CPU core is reserved for the feed. The first write to a file in
/// each tick of the system clock (1 to 10 ms) takes three times as long as later ones. The interval
/// is shorter than a tick, so that the write of an order is not the first one.
pub(super) const SPINNING_INTERVAL: Duration = Duration::from_micros(100);
/// Duration of cache warming above which it indicates a busy disk.
const SLOW_RUN: Duration = Duration::from_micros(500);
/// Pause after a slow run.
const SLOW_DISK_PAUSE: Duration = Duration::from_secs(5);

/// The local time on the monotonic and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub instant: Instant,
    pub wall: UnixMs,
}

/// Executes approved orders.
#[derive(Debug)]
pub enum Executor<B> {
    /// Dry run: nothing is sent.
    Dry,
    Live(B),
}

impl<B> Executor<B> {
    pub(super) const fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Returns the mode in the status.
    pub(super) const fn mode(&self) -> &'static str {
        if self.is_live() { status::LIVE } else { status::DRY }
    }
}

/// Order without a response so far.
#[derive(Debug)]
pub(super) struct PendingOrder {
    pub(super) item: OrderedItem,
    pub(super) price: Amount,
    pub(super) steps: LatencyBreakdown,
}

/// Listing that matches an entry.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'t, 'a> {
    pub(super) trade: &'t Trade<'a>,
    /// Index of the whitelist entry.
    pub(super) entry: usize,
    /// Time of the match, or of the opening of a held listing, from which its wait counts.
    pub(super) since: Instant,
    /// `true` if it comes from the queue.
    pub(super) is_queued: bool,
}

impl Candidate<'_, '_> {
    pub(super) fn to_held(self) -> HeldListing {
        HeldListing { trade: self.trade.clone().into_owned(), entry: self.entry }
    }
}

/// State of one trading session.
#[derive(Debug)]
pub struct Engine<B> {
    pub(super) whitelist: Arc<Whitelist>,
    pub(super) ledger: Ledger,
    pub(super) executor: Executor<B>,
    pub(super) keyed_by: KeyedBy,
    clock: Arc<Mutex<ServerClock>>,
    pub(super) stats: SessionStats,
    /// Reference prices. Replaced as a whole.
    pub(super) prices: Arc<PriceBook>,
    /// `wall_drift_ms` when they were replaced.
    pub(super) prices_drift_ms: i64,
    /// Number of listings that matched an entry. Its slot stays the same when the rules are
    /// replaced.
    pub(super) match_counts: HashMap<EntrySlot, u64>,
    pub(super) entry_scan: EntryScan,
    pub(super) activity: Activity,
    pub(super) price_recorder: Option<PriceRecorder>,
    pub(super) alerting: EngineAlerts,
    /// Stores the paused entries and groups for the next run.
    pub(super) pauses: PauseRecorder,
    /// Names of paused entries and groups that the whitelist does not have.
    pub(super) absent_pauses: PausedNames,
    /// Number of changes of the paused entries and groups.
    pub(super) pause_version: u64,
    /// `None` unless the budget is shared.
    pub(super) sharing: Option<Box<EngineSharing>>,
    pub(super) near_misses: NearMissLog,
    pub(super) notified: Notified,
    pub(super) pending: HashMap<TradeKey, PendingOrder>,
    /// Orders whose request was written, and whose record, log line and item follow. At most
    /// `max_in_flight`.
    pub(super) sent_orders: VecDeque<SentOrder>,
    /// Item names of this session's orders and of recent ones before it, for look-ups and later log
    /// lines.
    pub(super) names: HashMap<TradeId, String>,
    /// Items of this session's orders that had a response but are of unknown outcome, for the
    /// summary once they turn out to be bought.
    pub(super) unresolved: HashMap<TradeId, BoughtItem>,
    /// Ids of the listings that matched, each with its price if that belongs to the
    /// [key](KeyedBy), and `true` if it was skipped for a transient reason.
    pub(super) seen: SetAssocCache<(Option<Amount>, bool)>,
    /// Earliest time of the next cache warming; `None` means at once.
    pub(super) next_cache_warming: Option<Instant>,
    pub(super) held: HeldListings,
    pub(super) queue: OrderQueue,
    /// Maximum time that a listing stays in `queue`.
    pub(super) max_wait: Duration,
    /// `true` if the market has flagged the account as a suspected trader.
    pub(super) is_flagged: bool,
    /// Set after an event that the account should reflect.
    pub(super) needs_refresh: bool,
    /// Set if the orders of unknown outcome may have changed since they were last published.
    pub(super) has_unknown_changed: bool,
    /// `false` on a market without a list of the account's purchases.
    pub(super) has_purchases: bool,
    /// `true` once a listing had a time of creation.
    pub(super) has_creation_times: bool,
    /// `true` once the account was read and the ledger belongs to it.
    pub(super) is_bound: bool,
    /// `true` if the account of the last reading is not the ledger's.
    pub(super) is_other_account: bool,
    /// Set if the ledger cannot be used for the account, which ends the session.
    pub(super) ledger_error: Option<LedgerError>,
    pub(super) is_stopping: bool,
    /// `true` if the settings on disk are not the ones in force, for `status`.
    pub is_settings_changed: bool,
    /// Settings that the last reload could not apply.
    pub(super) needs_restart: Vec<&'static str>,
    /// Wall clock minus the clock that cannot be set: now, and at the last reading of the account
    /// or the last jump after it.
    pub(super) wall_drift_ms: i64,
    pub(super) wall_drift_noted_ms: i64,
    /// Set if also a queued listing may be ordered that waits for a slice or an earlier order.
    pub(super) retries_all: bool,
    /// Set if [`run_timers`](Self::run_timers) must be called before the time that it returned.
    pub(super) has_earlier_deadline: bool,
}

impl<B: OrderSender> Engine<B> {
    pub fn new(
        whitelist: Arc<Whitelist>,
        mut ledger: Ledger,
        executor: Executor<B>,
        keyed_by: KeyedBy,
        clock: Arc<Mutex<ServerClock>>,
    ) -> Self {
        let names = ledger.take_names();
        let match_counts = HashMap::with_capacity(whitelist.entries().len());
        Self {
            whitelist,
            ledger,
            executor,
            keyed_by,
            clock,
            stats: SessionStats::default(),
            prices: Arc::default(),
            prices_drift_ms: 0,
            match_counts,
            entry_scan: EntryScan::default(),
            activity: Activity::default(),
            price_recorder: None,
            alerting: EngineAlerts::default(),
            pauses: PauseRecorder::default(),
            absent_pauses: PausedNames::default(),
            pause_version: 0,
            sharing: None,
            near_misses: NearMissLog::default(),
            notified: Notified::default(),
            pending: HashMap::with_capacity(64),
            sent_orders: VecDeque::with_capacity(64),
            names,
            unresolved: HashMap::new(),
            seen: SetAssocCache::new(SEEN_MAX, (None, false)),
            next_cache_warming: None,
            held: HeldListings::new(HELD_MAX),
            queue: OrderQueue::new(QUEUED_MAX),
            max_wait: OrdersConfig::default().max_wait,
            is_flagged: false,
            needs_refresh: false,
            has_unknown_changed: true,
            has_purchases: true,
            has_creation_times: false,
            is_bound: false,
            is_other_account: false,
            ledger_error: None,
            is_stopping: false,
            is_settings_changed: false,
            needs_restart: Vec::new(),
            wall_drift_ms: 0,
            wall_drift_noted_ms: 0,
            retries_all: false,
            has_earlier_deadline: false,
        }
    }

    /// Sets the maximum time that a listing stays in the queue.
    pub const fn set_max_wait(&mut self, max_wait: Duration) {
        self.max_wait = max_wait;
    }

    pub fn entries_count(&self) -> usize {
        self.whitelist.entries().len()
    }

    /// Sets whether the settings on disk are not the ones in force, and which of them a reload
    /// could not apply, for `status`.
    pub fn set_settings_changed(&mut self, is_changed: bool, needs_restart: Vec<&'static str>) {
        (self.is_settings_changed, self.needs_restart) = (is_changed, needs_restart);
    }

    /// Sets which listings without a match are logged at info.
    pub const fn set_near_misses(&mut self, mode: NearMisses) {
        self.near_misses.mode = mode;
    }

    pub const fn stats(&self) -> &SessionStats {
        &self.stats
    }

    /// Iterates over the whitelist entries that matched no listing so far.
    pub fn unmatched_entries(&self) -> impl Iterator<Item = &WhitelistEntry> + Clone {
        let entries = self.whitelist.entries().iter().enumerate();
        entries.filter(|(index, _entry)| self.match_count(*index) == 0).map(|(_index, entry)| entry)
    }

    /// Returns the number of listings that matched the entry at this position of the whitelist.
    pub(super) fn match_count(&self, index: usize) -> u64 {
        let slot = self.ledger.state().entry_slot(index);
        slot.and_then(|slot| self.match_counts.get(&slot)).copied().unwrap_or_default()
    }

    /// Replaces the reference prices. The caller keeps a handle of the old ones, so that they are
    /// not freed on this thread.
    pub fn set_prices(&mut self, prices: Arc<PriceBook>) {
        self.finish_sent_orders();
        if let Some(recorder) = &self.price_recorder {
            recorder.record(&prices);
        }
        self.prices = prices;
        self.prices_drift_ms = self.wall_drift_ms;
    }

    /// Records the current reference prices, and those that replace them.
    pub fn record_prices(&mut self, recorder: PriceRecorder) {
        recorder.record(&self.prices);
        self.price_recorder = Some(recorder);
    }

    /// Returns the time with which the times of prices are compared: that of the wall clock. After
    /// a correction backward, the time before it applies until the prices are replaced, so that
    /// none becomes younger without a reading of a source.
    pub(super) fn price_time(&self, now: UnixMs) -> UnixMs {
        UnixMs(now.0.saturating_add(self.wall_drift_ms.max(self.prices_drift_ms)))
    }

    /// Returns the reference prices as of this time.
    pub fn price_view(&self, now: Now) -> PriceView<'_> {
        PriceView::new(&self.prices, self.price_time(now.wall))
    }

    /// Returns the age of each price source.
    pub(super) fn price_status(&self, now: UnixMs) -> Vec<PriceStatus> {
        PriceStatus::all(&self.prices, self.whitelist.entries(), self.price_time(now))
    }

    pub const fn ledger(&mut self) -> &mut Ledger {
        &mut self.ledger
    }

    /// Decides about one listing and orders it if it matches and the limits allow it. After the
    /// last listing of a read, the caller calls [`finish_sent_orders`](Self::finish_sent_orders).
    #[inline]
    pub fn consider(&mut self, trade: Trade<'_>, now: Now) {
        // A listing of an item that no entry names may be read later than it arrived, so it does
        // not affect a held copy. The same may happen to one above its maximum price; a held copy
        // that is newer is then dropped, which never leads to an order.
        let is_relevant = |whitelist: &Whitelist| {
            trade.event == TradeEvent::Updated || whitelist.has_entry_for(&trade.item)
        };
        let is_renewed =
            self.has_deferred() && is_relevant(&self.whitelist) && self.is_outdated_by(&trade);
        if is_renewed {
            self.drop_outdated(&trade);
        }
        if trade.event == TradeEvent::Updated
            && !(is_renewed && trade.status == TradeStatus::Listed)
        {
            return self.on_update(&trade, now);
        }
        self.stats.listings = self.stats.listings.saturating_add(1);
        let decision = self.whitelist.decide_with(&trade, self.price_view(now));
        if let Decision::Matched(entry) = decision {
            self.on_match(&trade, entry, now);
        } else if self.keyed_by == KeyedBy::IdAndPrice && is_relevant(&self.whitelist) {
            // It may return to the price at which it matched.
            self.seen.remove(&trade.id);
        }
        if let (TradeEvent::Listed, Some(arrival), Some(created)) =
            (trade.event, trade.arrival, trade.created_at)
        {
            self.has_creation_times = true;
            self.clock().observe_listing(arrival.framed, created);
            self.has_earlier_deadline |= self.has_due(now);
        }
        if !trade.defects.is_empty() {
            self.stats.unreadable = self.stats.unreadable.saturating_add(1);
            let repeats = self.notified.count_repeat(UNREADABLE, now.instant);
            trade_log::unreadable(&trade, repeats);
        }
        if !matches!(decision, Decision::Matched(_)) {
            self.remember_on_standby(&trade);
        }
        if self.activity.is_observed()
            && let Decision::Mismatched { entry, mismatch } = &decision
            && self.whitelist.is_near_miss(*entry, mismatch, &trade, self.price_view(now))
        {
            self.activity.add_near_miss(&trade, *entry, *mismatch, now.wall);
        }
        trade_log::listing(&trade, self.whitelist.is_empty());
        if let Decision::Mismatched { entry, mismatch } = &decision {
            self.log_mismatch(&trade, *entry, mismatch, now);
        }
    }

    /// Counts listings that no entry names, which the feed has not parsed.
    pub fn count_unnamed(&mut self, count: u64) {
        if count != 0 {
            self.stats.listings = self.stats.listings.saturating_add(count);
            self.alerting.add_unnamed(count);
        }
    }

    #[inline]
    fn on_match(&mut self, trade: &Trade<'_>, entry: usize, now: Now) {
        let (price, repeated) = (self.keyed_by.key_of(trade).price, self.stats.repeated);
        let seen = self.seen.insert(&trade.id, (price, false));
        if seen == Some((price, false)) {
            self.stats.repeated = repeated.saturating_add(1);
            return;
        }
        let was_skipped = seen == Some((price, true));
        if seen.is_some() && !was_skipped {
            self.seen.replace(&trade.id, (price, false));
        }
        self.stats.last_skip = None;
        self.order_or_queue(Candidate { trade, entry, since: now.instant, is_queued: false }, now);
        if was_skipped {
            if repeated < self.stats.repeated {
                // Skipped again at once: the match and its skip were counted before.
                return;
            }
            self.seen.replace(&trade.id, (price, false));
        }
        self.stats.matched = self.stats.matched.saturating_add(1);
        if let Some(slot) = self.ledger.state().entry_slot(entry) {
            let matched = self.match_counts.entry(slot).or_default();
            *matched = matched.saturating_add(1);
        }
        self.remember_match(trade, entry, now);
    }

    /// Orders a matched listing, holds it, or skips it. Returns the reason if it is none of these
    /// and may be ordered later.
    pub(super) fn try_order(
        &mut self,
        candidate: Candidate<'_, '_>,
        now: Now,
    ) -> Option<WaitReason> {
        let trade = candidate.trade;
        if self.is_stopping {
            self.stats.skip(CountedReason::STOPPING);
            return None;
        }
        // The ledger would store the id.
        if secret::appears_in(trade.id.as_str()) {
            self.stats.skip(CountedReason::CREDENTIAL);
            trade_log::skipped(trade, &CountedReason::CREDENTIAL.text, Some(0));
            return None;
        }
        if self.sharing.is_some() && self.is_for_another_bot(trade) {
            return None;
        }
        match eligibility(trade, self.server_time(now), self.is_flagged) {
            Eligibility::Now => {
                let earlier = self.reason_to_queue(candidate, now);
                return earlier.or_else(|| self.order(candidate, now));
            }
            Eligibility::From(available_at) => self.hold(candidate, available_at, now),
            Eligibility::Never(reason) => {
                self.stats.skip(reason);
                let matched = self.matched(trade, candidate.entry, now);
                trade_log::skipped_match(trade, &matched, &reason, Some(0));
            }
        }
        None
    }

    fn order(&mut self, candidate: Candidate<'_, '_>, now: Now) -> Option<WaitReason> {
        let Candidate { trade, entry, since, .. } = candidate;
        let Some(price) = trade.total_value else {
            self.stats.skip("no price");
            return None;
        };
        let decided = Instant::now();
        let (keyed_by, created_at) = (self.keyed_by, trade.created_at);
        let request = OrderRequest { id: trade.id, keyed_by, price, entry, created_at };
        let approved = match self.ledger.reserve(request, now.wall) {
            Ok(approved) => approved,
            Err(rejection) => {
                return self.wait_or_skip(candidate, WaitReason::Rejected(rejection), now);
            }
        };
        let (reserved, sent) = match &self.executor {
            Executor::Dry => {
                self.record_dry_run(candidate, price, now);
                return None;
            }
            Executor::Live(client) => (Instant::now(), client.send(approved)),
        };
        match sent {
            Ok(sent) => {
                let arrival = trade.arrival.unwrap_or(RxTimestamps::at(since));
                let SentRequest { begun: serialized, written, .. } = sent;
                let parsed = now.instant;
                let steps =
                    LatencyBreakdown { arrival, parsed, decided, reserved, serialized, written };
                self.forget_limits(entry);
                let (listing, was_queued) = (candidate.to_held(), candidate.is_queued);
                self.sent_orders.push_back(SentOrder {
                    listing,
                    price,
                    steps,
                    was_queued,
                    sent: now,
                });
                None
            }
            Err(reason) => {
                let outcome = Outcome::NotSent(reason);
                self.update_ledger(|ledger| ledger.settle(&request.key(), &outcome, now.wall));
                self.wait_or_skip(candidate, WaitReason::NotSent(reason), now)
            }
        }
    }

    fn record_dry_run(&mut self, candidate: Candidate<'_, '_>, price: Amount, now: Now) {
        let Candidate { trade, entry, .. } = candidate;
        let key = self.keyed_by.key(trade.id, Some(price));
        // The order counts as bought, so that a dry run reaches its limits when a live run would.
        let bought = Outcome::Bought { price: None, server_time: None };
        self.update_ledger(|ledger| {
            ledger.sent(&key, now.wall)?;
            ledger.settle(&key, &bought, now.wall)
        });
        self.stats.would_buy = self.stats.would_buy.saturating_add(1);
        self.stats.would_spend = self.stats.would_spend.saturating_add(price);
        trade_log::would_buy(trade, &self.matched(trade, entry, now));
        self.forget_limits(entry);
        self.remember_order(candidate, price, None, now);
        self.alert_would_buy(trade, price);
    }

    /// Handles a changed listing: drops it if it was held or queued and is no longer available, and
    /// passes the status of our own orders to the ledger.
    fn on_update(&mut self, trade: &Trade<'_>, now: Now) {
        if trade.status != TradeStatus::Listed && trade.status != TradeStatus::Other {
            self.drop_unavailable(trade);
        }
        // The event does not name the buyer. After a confirmed purchase only this account can be
        // the buyer. For any other order, only the account's own list is evidence.
        self.observe_order(&trade.id, trade.status, now);
    }

    /// Checks the conditions that may have changed while a listing waited: the entry may be paused,
    /// and its reference price may differ. Skips the listing if it is not wanted any more; it may
    /// match again later.
    pub(super) fn is_unwanted_now(&mut self, trade: &Trade<'_>, entry: usize, now: Now) -> bool {
        let Some((kind, reason)) = self.unwanted_reason(trade, entry, now) else { return false };
        self.seen.remove(&trade.id);
        self.stats.skip(kind);
        trade_log::skipped(trade, &reason, Some(0));
        true
    }

    pub(super) fn unwanted_reason(
        &self,
        trade: &Trade<'_>,
        entry: usize,
        now: Now,
    ) -> Option<(&'static str, String)> {
        if self.whitelist.is_paused(entry) {
            return Some(("entry paused", "its entry is paused".to_owned()));
        }
        let found = self.whitelist.entries().get(entry)?;
        let mismatch = percent_mismatch(found, trade, self.price_view(now))?;
        Some(("reference changed while held", self.whitelist.reason(entry, &mismatch)))
    }

    /// Returns an entry with its reference and the margin, for log lines and records.
    pub(super) fn matched(&self, trade: &Trade<'_>, entry: usize, now: Now) -> MatchedEntry<'_> {
        let prices = self.price_view(now);
        let entry = self.whitelist.entries().get(entry);
        MatchedEntry {
            entry,
            reference: entry.and_then(|entry| prices.compared_reference(entry, trade)),
            margin: prices.margin(trade),
        }
    }

    /// Returns `true` if the account should be read soon, and clears the request.
    pub const fn take_refresh_request(&mut self) -> bool {
        std::mem::replace(&mut self.needs_refresh, false)
    }

    pub(crate) fn server_time(&self, now: Now) -> ServerTime {
        let clock = self.clock();
        let earliest = clock.earliest(now.instant);
        let latest = clock.latest(now.instant).unwrap_or(now.wall);
        ServerTime { earliest, latest }
    }

    /// Locks the server clock. Each user holds the lock for only a few operations.
    pub(super) fn clock(&self) -> MutexGuard<'_, ServerClock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn update_ledger(
        &mut self,
        update: impl FnOnce(&mut Ledger) -> Result<Effects, InvalidTransition>,
    ) {
        match update(&mut self.ledger) {
            Ok(effects) => {
                trade_log::effects(&effects, |reason| self.describe_halt(reason));
                self.has_unknown_changed |= !effects.changes.is_empty();
                for change in &effects.changes {
                    if change.from == OrderState::Unknown
                        && let Some(item) = self.unresolved.remove(&change.id)
                        && change.to.is_charged()
                    {
                        self.stats.add_purchase(BoughtItem { price: change.price, ..item });
                    }
                    self.stats.record_change(change);
                    self.activity.record_change(change);
                    trade_log::change(change, self.names.get(&change.id).map(String::as_str));
                    self.alert_change(change);
                }
            }
            Err(error) => {
                self.stats.internal_errors = self.stats.internal_errors.saturating_add(1);
                trade_log::invalid_transition(&error);
            }
        }
    }

    /// Handles the report about one order. If an order has two reports, the first one only updates
    /// the ledger; the last one is also counted and logged.
    pub fn on_order_report(&mut self, report: &OrderReport, now: Now) {
        self.finish_sent_orders();
        self.retries_all = true;
        self.observe_clock(report);
        self.apply_outcome(report, now);
        // The response is kept while the outcome is unknown, which includes unconfirmed rejections.
        if let ExchangeResult::Complete(response) = &report.response
            && matches!(report.outcome, Outcome::Unknown(_))
        {
            // The body is masked before it is cut, because the mask might not find a cut
            // credential.
            let body = String::from_utf8_lossy(&response.body);
            let body = secret::mask(&body);
            self.ledger.record_response(&report.key, truncated(&body, RESPONSE_BYTES_MAX));
        }
        if !report.is_final {
            return trade_log::unconfirmed(&report.key.id, &report.outcome);
        }
        self.has_unknown_changed |=
            matches!(report.outcome, Outcome::Unknown(_) | Outcome::Bought { .. });
        // If coins were or may have been spent, the account is read soon; otherwise at the usual
        // interval.
        self.needs_refresh |= match report.outcome {
            Outcome::Unknown(Unknown::Unconfirmed(_))
            | Outcome::Rejected(_)
            | Outcome::NotSent(_) => false,
            Outcome::Bought { .. } | Outcome::Unknown(_) => true,
        };
        let Some(pending) = self.pending.remove(&report.key) else { return };
        self.stats.record_outcome(&report.outcome);
        if report.outcome == Outcome::Unknown(Unknown::Unreadable) {
            self.stats.unreadable_responses = self.stats.unreadable_responses.saturating_add(1);
        }
        let response_time = report.received.saturating_duration_since(pending.steps.written);
        let snapshot = matches!(report.outcome, Outcome::Bought { .. })
            .then(|| self.ledger.snapshot(now.wall));
        let order = trade_log::OrderResult {
            id: report.key.id,
            item: &pending.item,
            price: pending.price,
            response_time,
            market_error: report.market_error.clone(),
        };
        trade_log::outcome(&report.outcome, &order, snapshot.as_ref());
        self.activity.set_outcome(&report.key, &report.outcome, response_time);
        self.alert_outcome(&report.outcome, &pending, snapshot.as_ref());
        let bought = BoughtItem {
            id: report.key.id,
            at: now.wall,
            entry: pending.item.entry,
            market_name: pending.item.name,
            price: pending.price,
            reference: pending.item.reference,
            margin: pending.item.margin,
            steps: pending.steps,
            response_time,
            is_cancelled: false,
        };
        self.keep_ordered(bought, report);
    }

    /// Keeps the item of an order for later changes, and for the summary if it is bought: by this
    /// response, or by a list of purchases that was read before it.
    fn keep_ordered(&mut self, item: BoughtItem, report: &OrderReport) {
        let order = self.ledger.state().order(&report.key);
        let charged = order.filter(|order| order.state.is_charged()).map(|order| order.price);
        let price = match report.outcome {
            Outcome::Bought { price, .. } => price.or(charged).or(Some(item.price)),
            Outcome::Rejected(_) | Outcome::NotSent(_) | Outcome::Unknown(_) => charged,
        };
        if self.names.len() < NAMES_MAX {
            self.names.insert(item.id, item.market_name.clone());
        }
        if let Some(price) = price {
            self.stats.add_purchase(BoughtItem { price, ..item });
        } else if matches!(report.outcome, Outcome::Unknown(_))
            && self.unresolved.len() < UNRESOLVED_MAX
        {
            self.unresolved.insert(item.id, item);
        }
    }

    /// Passes a report to the ledger. Between the two reports of an order, the account's own list
    /// or an operator may have settled it. The last report then changes nothing unless it
    /// contradicts that: a purchase counts again, and a rejection of a bought order halts ordering.
    fn apply_outcome(&mut self, report: &OrderReport, now: Now) {
        let state = self.ledger.state().order(&report.key).map(|intent| intent.state);
        let is_settled =
            state.is_some_and(|state| !state.is_in_flight() && state != OrderState::Unknown);
        let counts = state.is_some_and(OrderState::counts);
        match &report.outcome {
            Outcome::Rejected(_) if is_settled && counts => {
                let reason = HaltReason::Contradiction { id: report.key.id };
                self.update_ledger(|ledger| Ok(ledger.halt(reason, now.wall)));
            }
            Outcome::Bought { .. } if is_settled && !counts => {
                self.update_ledger(|ledger| ledger.settle(&report.key, &report.outcome, now.wall));
            }
            _ if is_settled => {}
            outcome => self.update_ledger(|ledger| ledger.settle(&report.key, outcome, now.wall)),
        }
    }

    /// Observes the server's time in a response: to the second in its `Date` header, to the
    /// millisecond in the stamp of a purchase. Unknown outcomes are ignored, because their response
    /// may belong to an earlier request.
    fn observe_clock(&self, report: &OrderReport) {
        if !matches!(report.outcome, Outcome::Bought { .. } | Outcome::Rejected(_)) {
            return;
        }
        let exchange = ClockExchange { sent: report.sent.begun, received: report.received };
        if let ExchangeResult::Complete(response) = &report.response
            && let Some(date) = response.head.date
        {
            self.clock().observe_date(exchange, date);
        }
        if let Outcome::Bought { server_time: Some(stamp), .. } = &report.outcome {
            self.clock().observe_stamp(exchange, *stamp);
        }
    }

    /// Observes the `Date` of responses that were not an order's.
    pub(super) fn observe_server_date(&self) {
        if let Executor::Live(client) = &self.executor
            && let Some((exchange, date)) = client.take_date()
        {
            self.clock().observe_date(exchange, date);
        }
    }

    /// Runs the path of an order without side effects, to keep it in the CPU caches, if the last
    /// run was long enough ago.
    #[inline]
    pub(super) fn warm_caches(&mut self, interval: Duration, now: Now) {
        if self.next_cache_warming.is_none_or(|from| from <= now.instant) {
            let began = Instant::now();
            self.run_order_path(now);
            let wait = if began.elapsed() < SLOW_RUN { interval } else { SLOW_DISK_PAUSE };
            self.next_cache_warming = now.instant.checked_add(wait);
        }
    }

    fn run_order_path(&mut self, now: Now) {
        if let Some(id) = TradeId::new("cache-warming") {
            let (price, created_at) = (Amount::from_cents(1), Some(now.wall));
            let request = OrderRequest { id, keyed_by: KeyedBy::Id, price, entry: 0, created_at };
            self.ledger.warm_caches(&request, now.wall);
        }
        if let Executor::Live(client) = &self.executor {
            client.warm_caches();
        }
    }
}
