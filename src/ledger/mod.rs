//! Ledger: intended orders, their results, and the remaining budget.
//!
//! The order client only accepts an [`ApprovedOrder`], and only [`Ledger::reserve`] creates one. An
//! approved order counts against every limit until it is proven not to have happened: **unknown
//! counts as spent**.
//!
//! Pure modules, in reading order:
//!
//! - [`event`]: events as plain values; [`record`]: their encoding.
//! - [`state`]: the state that the events determine, and the limit on approvals that are not on
//!   disk yet; `rate`: how many orders that limit must cover; `steps`: the transitions of an order.
//! - [`order_request`]: an order, its approval in constant time, and the reasons for a rejection.
//! - [`obstacle`]: the reason why no order is sent, for every place that shows it.
//! - [`allowance`]: slices of limits that several ledgers share.
//! - [`item`]: the item of an order, informational. [`account`]: the expected balance.
//!   [`reconcile`]: comparison of the market's data with the ledger's.
//!
//! Storage:
//!
//! - [`write_ahead_log`]: the intent file. `journal`: the part on the order path, one write into
//!   the page cache. `writer`: the thread that moves events into the `database`.
//! - [`open`]: recovery of the last run's files. [`reader`]: read access from other processes.
//! - `watch`: the thread that compares the files with their paths. `mark`: the record of an
//!   account's ledger, kept outside of the ledger's folder.
//!
//! See `docs/ledger.md` for the design.
//!
//! # Invariants
//!
//! 1. Reserved, spent and unknown coins together never exceed any limit, including after the death
//!    of the process and after power loss.
//! 2. A listing is requested at most once in the life of a ledger. Its key is the id, or the id and
//!    the price ([`KeyedBy`](crate::domain::trade::KeyedBy)).
//! 3. A halt lasts until the operator resumes; nothing is approved meanwhile.
//! 4. An approval waits for no disk, database or lock.
//! 5. An order that cannot be recorded is not approved.

pub mod account;
pub mod allowance;
pub mod control;
mod database;
pub mod entries;
pub mod error;
pub mod event;
pub mod intent;
pub mod item;
mod item_rows;
mod journal;
mod mark;
pub mod obstacle;
pub mod open;
pub mod order_request;
pub mod pauses;
mod prealloc;
pub mod price_status;
mod private;
mod rate;
pub mod reader;
pub mod reconcile;
pub mod record;
pub mod rules;
mod schema;
pub mod shared_status;
pub mod state;
pub mod status;
mod steps;
mod watch;
mod window;
pub mod write_ahead_log;
mod writer;

pub use self::{
    allowance::{Allowance, SharedUsage},
    error::LedgerError,
    event::{EntrySlot, Evidence, HaltReason, Operator, OrderState, Sequence},
    intent::{Halt, Intent, InvalidTransition, StateChange},
    item::{OrderedItem, OrderedReference},
    obstacle::{ClosedEntries, Obstacle, OrderingFacts},
    open::{LedgerLocation, LiveOpen, NewLedger},
    order_request::{ApprovedOrder, OrderRequest, RiskRejection},
    reconcile::{AccountReading, OwnTrade},
    state::{LedgerState, OrderTotals, Snapshot},
};

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::sync::Notify;

use self::{
    event::{EvidenceSource, LedgerEvent},
    journal::Journal,
};
use crate::{
    clock,
    config::Budget,
    domain::account::AccountIds,
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::own_order_id::{DerivedOrderIds, OwnOrderId},
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeKey, TradeStatus},
    domain::whitelist_entry::WhitelistEntry,
    threads::abort_point,
};

/// Effects of an event that its caller must report: new halts and pauses, and changed orders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a new halt must be reported"]
pub struct Effects {
    pub halts: Vec<Halt>,
    /// End of the pause, if the event extended it.
    pub paused_until: Option<UnixMs>,
    /// State changes that did not come from an order's own response.
    pub changes: Vec<StateChange>,
}

/// A ledger: its current state and its storage.
#[derive(Debug)]
pub struct Ledger {
    state: LedgerState,
    /// `None` if the ledger is only in memory.
    journal: Option<Journal>,
    /// `None` if the ledger is only in memory.
    id: Option<String>,
    /// Item names of recent orders of earlier runs.
    names: HashMap<TradeId, String>,
    #[cfg(test)]
    events_for_tests: Vec<(UnixMs, LedgerEvent)>,
}

impl Ledger {
    /// Creates an empty ledger without storage, for dry runs and the simulator. `balance_required`
    /// forbids orders while the balance is unknown.
    pub fn in_memory(budget: Budget, entries: &[WhitelistEntry], balance_required: bool) -> Self {
        let mut state = LedgerState::new(budget, balance_required);
        state.set_entries(entries);
        Self::new(state, None)
    }

    fn new(state: LedgerState, journal: Option<Journal>) -> Self {
        Self {
            state,
            journal,
            id: None,
            names: HashMap::new(),
            #[cfg(test)]
            events_for_tests: Vec::new(),
        }
    }

    /// Binds the ledger to an account. A stored ledger belongs to the first account that it was
    /// bound to.
    ///
    /// # Errors
    ///
    /// Returns [`LedgerError::OtherAccount`] if it belongs to another account, and another
    /// [`LedgerError`] if the account's mark forbids it. Nothing is ordered then.
    pub fn bind<'a>(&mut self, ids: impl Into<AccountIds<'a>>) -> Result<(), LedgerError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.bind(ids.into(), self.state.limit_to_request(journal.sync_time()))
    }

    /// Returns the id of the account to which the ledger is bound.
    pub fn user(&self) -> Option<&str> {
        self.journal.as_ref()?.user()
    }

    /// Returns the own id of an order of this ledger; `None` for a ledger in memory.
    pub fn own_order_id(&self, order: &Intent) -> Option<OwnOrderId> {
        let derived = || Some(DerivedOrderIds::new(self.id.as_deref()?).id(&order.key()));
        order.own_id.or_else(derived)
    }

    /// Sets the longest time until the market shows an order, if it is longer than
    /// [`SETTLE`](account::SETTLE). Until then the absence of an order is no evidence.
    pub fn set_listed_within(&mut self, listed_within: Duration) {
        self.state.listed_within = listed_within.max(account::SETTLE);
    }

    /// Gives orders own ids from now on, and sets the number of look-ups by own id that must have
    /// shown no order before its absence is evidence.
    pub const fn set_look_ups_min(&mut self, look_ups_min: u32) {
        self.state.look_ups_min = look_ups_min;
        self.state.has_own_ids = true;
    }

    /// Returns the id of a stored ledger.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Takes the item names of the unknown and of the newest orders of earlier runs, at most
    /// [`NAMES_MAX`](open::NAMES_MAX), as far as they are stored.
    pub fn take_names(&mut self) -> HashMap<TradeId, String> {
        std::mem::take(&mut self.names)
    }

    /// Returns the reason if the ledger cannot be written. Nothing is ordered then.
    pub fn failure(&self) -> Option<String> {
        self.journal.as_ref().and_then(Journal::failure)
    }

    /// Returns `true` if every event survives the end of this process.
    pub fn is_recorded(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_recorded)
    }

    pub fn is_writable(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| journal.failure().is_none())
    }

    /// Returns `true` if every event is durable.
    pub fn is_durable(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_durable)
    }

    /// Returns `true` if the durable limit on approvals is as high as the budget allows, and what
    /// must precede an order is durable.
    pub fn is_limit_durable(&self) -> bool {
        self.journal.as_ref().is_none_or(Journal::is_limit_durable)
    }

    /// Sets the waker that is notified when an order that was rejected with
    /// [`RiskRejection::Behind`] or [`RiskRejection::Unwritable`] may be approved. Only the first
    /// call has an effect.
    pub fn wake_on_progress(&self, waker: Arc<Notify>) {
        if let Some(journal) = &self.journal {
            journal.wake_on_progress(waker);
        }
    }

    /// Stores the market's response to an order for inspection. Never waits; returns `false`
    /// if the queue is full.
    pub fn record_response(&self, key: &TradeKey, response: &str) -> bool {
        match (&self.journal, self.state.order(key)) {
            (Some(journal), Some(intent)) => journal.record_response(intent.sequence, response),
            _ => false,
        }
    }

    /// Stores the item of an order for inspection. Never waits. If the queue is full, the order has
    /// no item, and this returns `false`.
    pub fn record_item(&self, key: &TradeKey, item: OrderedItem) -> bool {
        match (&self.journal, self.state.order(key)) {
            (Some(journal), Some(intent)) => journal.record_item(intent.sequence, item),
            _ => false,
        }
    }

    /// Counts an order against every limit, before it is sent.
    ///
    /// # Errors
    ///
    /// Returns the violated limit; nothing was counted then.
    pub fn reserve(
        &mut self,
        request: OrderRequest,
        now: UnixMs,
    ) -> Result<ApprovedOrder, RiskRejection> {
        let event = self.state.approve(&request, now)?;
        let LedgerEvent::Reserved { sequence, price, .. } = event else {
            return Err(RiskRejection::Unwritable);
        };
        if let Some(journal) = &mut self.journal {
            if let Err(rejection) = journal.check_limit(self.state.approved_totals().plus(price, 1))
            {
                journal.request_limit(self.state.limit_to_request(journal.sync_time()));
                return Err(rejection);
            }
            abort_point("decided");
            if let Err(error) = journal.write(now, event) {
                journal.on_write_error(&error);
                return Err(RiskRejection::Unwritable);
            }
            abort_point("recorded");
        }
        // An approval neither halts nor pauses, so it has no effects to collect.
        let applied = self.state.apply(now, &event);
        applied.map_err(|_invalid| RiskRejection::AlreadyRequested)?;
        #[cfg(test)]
        self.events_for_tests.push((now, event));
        let own_id = self.state.at(sequence).and_then(|order| order.own_id);
        Ok(ApprovedOrder::new(sequence, request.key(), price, own_id))
    }

    /// Runs the approval path without approving, to keep it in the CPU caches.
    pub fn warm_caches(&mut self, request: &OrderRequest, now: UnixMs) {
        let _unused = std::hint::black_box(self.state.approve(request, now));
        if let Some(journal) = &self.journal {
            journal.warm_caches();
        }
    }

    /// Records that the transmission of the request for this listing has begun.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidTransition`] if no such order is in flight.
    pub fn sent(&mut self, key: &TradeKey, now: UnixMs) -> Result<(), InvalidTransition> {
        abort_point("left");
        let sequence = sequence_of(self.state.order(key))?;
        let _effects = self.record(now, LedgerEvent::Sent { sequence })?;
        abort_point("left-recorded");
        Ok(())
    }

    /// Records the outcome of the order for this listing.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidTransition`] if there is no such order, or its state does not allow this
    /// outcome.
    pub fn settle(
        &mut self,
        key: &TradeKey,
        outcome: &Outcome,
        now: UnixMs,
    ) -> Result<Effects, InvalidTransition> {
        abort_point("answered");
        let order = self.state.order(key);
        let sequence = sequence_of(order)?;
        // A late success of a returned order changes nothing. Earlier versions recorded it, so a
        // replay accepts it.
        let is_returned = order.is_some_and(|order| order.state == OrderState::Returned);
        if is_returned && matches!(outcome, Outcome::Bought { .. }) {
            return Ok(Effects::default());
        }
        let effects = self.record(now, LedgerEvent::Answered { sequence, answer: outcome.into() });
        abort_point("answered-recorded");
        self.state.reserve_capacity();
        effects
    }

    /// Processes a listing's status from the feed. Also returns `true` if the account should be
    /// read.
    ///
    /// The feed does not identify the buyer and is not trusted. It can move a bought order to
    /// delivered; a cancellation only triggers a read of the account, and no price is taken from
    /// it.
    pub fn observe(&mut self, id: &TradeId, status: TradeStatus, now: UnixMs) -> (Effects, bool) {
        let Some(intent) = self.state.orders_of(id).find(|intent| intent.state.is_charged()) else {
            return (Effects::default(), false);
        };
        let (sequence, from) = (intent.sequence, intent.state);
        match Evidence::from_status(status) {
            Some(Evidence::Completed) if from == OrderState::Bought => {
                let (evidence, paid, by) = (Evidence::Completed, None, EvidenceSource::Feed);
                let since = UnixMs(0);
                let event = LedgerEvent::Proved { sequence, evidence, paid, by, since };
                (self.record_infallible(now, event), false)
            }
            Some(Evidence::Returning) => (Effects::default(), from != OrderState::Returning),
            _ => (Effects::default(), false),
        }
    }

    /// Compares the ledger with the account's trades, and with the balance read at the same time.
    pub fn reconcile(
        &mut self,
        reading: &AccountReading<'_>,
        balance: Option<Amount>,
        now: UnixMs,
    ) -> Effects {
        let mut effects = Effects::default();
        for trade in reading.trades {
            let event = self.state.note_commission(trade);
            effects
                .merge(event.map(|event| self.record_infallible(now, event)).unwrap_or_default());
        }
        if let Some(coins) = balance {
            effects.merge(self.set_balance(coins, reading.started, now));
        }
        for event in self.state.reconcile_trades(reading) {
            effects.merge(self.record_infallible(now, event));
        }
        if reading.complete {
            self.on_complete_reading(reading.started);
        }
        effects
    }

    /// Compares an order with the market's own record of it, which was looked up at `started`.
    pub fn reconcile_order(
        &mut self,
        key: &TradeKey,
        trade: &OwnTrade,
        started: UnixMs,
        now: UnixMs,
    ) -> Effects {
        self.order_found(key);
        let commission = self.state.note_commission(trade);
        let mut effects = Effects::default();
        for event in commission.into_iter().chain(self.state.reconcile_order(key, trade, started)) {
            effects.merge(self.record_infallible(now, event));
        }
        effects
    }

    /// Resets the count of look-ups without this order, because the market has shown it.
    pub fn order_found(&mut self, key: &TradeKey) {
        if let Some(sequence) = self.state.order(key).map(|intent| intent.sequence) {
            self.state.absent_look_ups.remove(&sequence);
        }
    }

    /// Counts a look-up at `started` that found no order. It is no proof by itself: a list of the
    /// account's trades decides, or [`absent_without_list`](Self::absent_without_list).
    pub fn order_absent(&mut self, key: &TradeKey, started: UnixMs) {
        let unknown = self.state.order(key).filter(|intent| intent.state == OrderState::Unknown);
        let unknown = unknown.filter(|intent| intent.changed_at < started);
        if let Some(sequence) = unknown.map(|intent| intent.sequence) {
            let absent = self.state.absent_look_ups.entry(sequence).or_default();
            absent.count = absent.count.saturating_add(1);
            absent.last = absent.last.max(started);
        }
    }

    /// Decides about an order that a look-up at `started` did not find, on a market without a list
    /// of the account's trades.
    pub fn absent_without_list(&mut self, key: &TradeKey, started: UnixMs, now: UnixMs) -> Effects {
        let mut effects = Effects::default();
        for event in self.state.reconcile_absent(key, started) {
            effects.merge(self.record_infallible(now, event));
        }
        effects
    }

    /// Allows orders on a market without a list of the account's trades, after a read of the
    /// balance at `started`. Purchases outside of this ledger cannot be noticed there.
    pub fn reconcile_without_list(&mut self, started: UnixMs, now: UnixMs) {
        if !self.state.baselined {
            let _effects = self.record_infallible(now, LedgerEvent::Baselined);
        }
        self.on_complete_reading(started);
    }

    /// Approves nothing until the account was read completely, balance and purchases, after `now`.
    pub fn require_reading(&mut self, now: UnixMs) {
        self.state.reconciled = !self.state.balance_required;
        self.state.read_from = now;
    }

    /// Replaces the time of a power loss before which no listing may have been created. The local
    /// wall clock gave it, which may have been wrong. Every lost order precedes `latest`, the upper
    /// bound of the server's present time.
    pub fn confirm_barrier(&mut self, latest: UnixMs, now: UnixMs) {
        if self.state.barrier.is_some() && !self.state.is_barrier_confirmed {
            let (coins, count, barrier) = (Amount::ZERO, 0, latest);
            let _effects = self.record_infallible(now, LedgerEvent::Lost { coins, count, barrier });
            tracing::info!(
                "By the market's clock, listings created before {} are not ordered after the \
                 power loss",
                clock::format_local(latest)
            );
        }
    }

    /// Allows orders after a complete reading of the account.
    fn on_complete_reading(&mut self, started: UnixMs) {
        let is_bound = self.journal.as_ref().is_none_or(Journal::is_bound);
        let state = &mut self.state;
        let balance = state.account.last_reading();
        let is_read_since = |moment: UnixMs| balance.is_some_and(|read| moment <= read.as_of);
        if !state.reconciled && is_bound && is_read_since(state.read_from) {
            state.reconciled = true;
            if let Some(journal) = &mut self.journal {
                journal.require_first_reading();
            }
        }
        let set_at = state.clock_set_at;
        if set_at < started && (!state.balance_required || is_read_since(set_at)) {
            state.frozen_at = None;
        }
    }

    /// Applies a balance that was requested at `as_of`.
    pub fn set_balance(&mut self, coins: Amount, as_of: UnixMs, now: UnixMs) -> Effects {
        let event = LedgerEvent::Balance { coins, as_of };
        if self.state.is_unchanged_by(coins) {
            // It is not recorded, because an unchanged balance arrives a thousand times a day.
            return self.apply(now, event).unwrap_or_default();
        }
        let mut effects = self.record_infallible(now, event);
        for event in self.state.confirmed_prices() {
            effects.merge(self.record_infallible(now, event));
        }
        for event in self.state.refund_events() {
            effects.merge(self.record_infallible(now, event));
        }
        effects
    }

    /// Applies a balance that the feed pushed. It only lowers the available amount, until the
    /// account is read.
    pub fn push_balance(&mut self, coins: Amount) {
        self.state.account.push(coins);
    }

    /// Reports that the wall clock was set since the last read of the account. Until the next read,
    /// no order is released by age.
    pub fn mark_clock_unreliable(&mut self, now: UnixMs) {
        self.state.frozen_at = self.state.frozen_at.or(Some(now));
        self.state.clock_set_at = now;
        self.state.shown_at.clear();
    }

    /// Pauses ordering until this time.
    pub fn pause(&mut self, until: UnixMs, now: UnixMs) -> Effects {
        self.record_infallible(now, LedgerEvent::Paused { until })
    }

    pub fn halt(&mut self, reason: HaltReason, now: UnixMs) -> Effects {
        self.record_infallible(now, LedgerEvent::Halted(reason))
    }

    /// Ends every halt and pause on behalf of the operator.
    pub fn resume(&mut self, by: Operator, now: UnixMs) {
        let _effects = self.record_infallible(now, LedgerEvent::Resumed { by });
        if let Some(journal) = &mut self.journal {
            journal.reset_reported_losses();
        }
    }

    /// Halts ordering if files of the ledger or a thread of the bot were lost since the last call.
    pub fn check_losses(&mut self, now: UnixMs) -> Effects {
        let losses = self.journal.as_mut().map(Journal::take_new_losses).unwrap_or_default();
        let mut effects = Effects::default();
        for reason in losses {
            effects.merge(self.halt(reason, now));
        }
        effects
    }

    /// Starts a new budget: `total` counts from now.
    pub fn new_budget(&mut self, by: Operator, now: UnixMs) {
        let _effects = self.record_infallible(now, LedgerEvent::NewBudget { by });
    }

    /// Resolves the order for this id that is unknown or returning, on behalf of the operator.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidTransition`] if there is no such order, or its state does not allow this
    /// evidence.
    pub fn resolve(
        &mut self,
        id: &TradeId,
        evidence: Evidence,
        by: Operator,
        now: UnixMs,
    ) -> Result<Effects, InvalidTransition> {
        let required = match evidence {
            Evidence::Returned | Evidence::ReturnedByStatus => OrderState::Returning,
            _ => OrderState::Unknown,
        };
        let resolved = self.state.orders_of(id).find(|intent| intent.state == required);
        let sequence = sequence_of(resolved.or_else(|| self.state.intent(id)))?;
        let kept = self.state.commissions.get(&sequence).copied();
        let paid = kept.filter(|_kept| evidence == Evidence::Returned);
        let (by, since) = (EvidenceSource::Operator(by), UnixMs(0));
        self.record(now, LedgerEvent::Proved { sequence, evidence, paid, by, since })
    }

    /// Revokes a purchase that was only reported, on behalf of the operator. The order becomes
    /// returned, because a charge that never happened looks like a refund in the balance.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidTransition`] if the order does not count as bought.
    pub fn revoke_purchase(
        &mut self,
        sequence: Sequence,
        by: Operator,
        now: UnixMs,
    ) -> Result<Effects, InvalidTransition> {
        let (paid, by, since) = (None, EvidenceSource::Operator(by), UnixMs(0));
        let proved = |evidence| LedgerEvent::Proved { sequence, evidence, paid, by, since };
        // It is returning for this moment only, which is no cancellation by the market.
        let _returning = self.record(now, proved(Evidence::Returning))?;
        self.record(now, proved(Evidence::Returned))
    }

    /// Releases the coins reserved for lost orders, because it is proven that they were not sent.
    pub fn clear_crash_reserve(&mut self, by: EvidenceSource, now: UnixMs) {
        let _effects = self.record_infallible(now, LedgerEvent::LossCleared { by });
    }

    /// Summarizes the ledger at `now`.
    pub fn snapshot(&mut self, now: UnixMs) -> Snapshot {
        self.state.snapshot(now)
    }

    /// Returns the totals of the orders from this number on.
    pub fn totals_since(&self, first: Sequence) -> OrderTotals {
        let newest_first = self.state.intents().iter().rev();
        OrderTotals::of(newest_first.take_while(|intent| first <= intent.sequence))
    }

    /// Returns the totals of the orders before this number.
    pub fn totals_before(&self, first: Sequence) -> OrderTotals {
        let oldest_first = self.state.intents().iter();
        OrderTotals::of(oldest_first.take_while(|intent| intent.sequence < first))
    }

    pub fn next_sequence(&self) -> Sequence {
        self.state.next_sequence()
    }

    /// Returns the time back to which a list of purchases must reach: the approval of the oldest
    /// unresolved order, or the time from which earlier purchases count, until they are counted.
    pub fn oldest_open(&self) -> Option<UnixMs> {
        let counted = self.state.count_since.filter(|_since| !self.state.baselined);
        self.state.oldest_open().into_iter().chain(counted).min()
    }

    pub const fn state(&self) -> &LedgerState {
        &self.state
    }

    fn change_of(&self, before: &Intent) -> Option<StateChange> {
        let after = self.state.at(before.sequence)?;
        let (id, from, to, price) = (after.id, before.state, after.state, after.price);
        (from != to).then_some(StateChange { id, from, to, price })
    }

    /// Records an event that applies in every state.
    fn record_infallible(&mut self, now: UnixMs, event: LedgerEvent) -> Effects {
        self.record(now, event).unwrap_or_default()
    }

    fn record(&mut self, now: UnixMs, event: LedgerEvent) -> Result<Effects, InvalidTransition> {
        let effects = self.apply(now, event)?;
        if let Some(journal) = &mut self.journal {
            journal.append(now, event);
        }
        self.request_limit();
        Ok(effects)
    }

    /// Requests the durable limit on approvals that the state needs.
    fn request_limit(&self) {
        if let Some(journal) = &self.journal {
            journal.request_limit(self.state.limit_to_request(journal.sync_time()));
        }
    }

    fn apply(&mut self, now: UnixMs, event: LedgerEvent) -> Result<Effects, InvalidTransition> {
        // Empty, and so without an allocation, whenever an order can be approved.
        let earlier = self.state.halts.clone();
        let (paused, unexpected) = (self.state.paused_until, self.state.unexpected.len());
        let before = match event {
            LedgerEvent::Proved { sequence, .. } => self.state.at(sequence).copied(),
            _ => None,
        };
        self.state.apply(now, &event)?;
        #[cfg(test)]
        self.events_for_tests.push((now, event));
        let has_new_purchase = unexpected < self.state.unexpected.len();
        let halts = self.state.halts.iter().filter_map(|halt| {
            let Halt { reason, .. } = *halt;
            let earlier = earlier.iter().find(|earlier| earlier.reason.has_same_cause(&reason));
            let Some(earlier) = earlier else { return Some(*halt) };
            // Several purchases with the same mistake are one halt, but each is logged.
            let is_of_another = match reason {
                HaltReason::UnexpectedPurchase { .. } => has_new_purchase,
                HaltReason::Price { .. }
                | HaltReason::ImplausiblePrice { .. }
                | HaltReason::Contradiction { .. } => earlier.reason.listing() != reason.listing(),
                _ => false,
            };
            is_of_another.then_some(Halt { at: now, reason, count: 1 })
        });
        let halts = halts.collect();
        let until = self.state.paused_until;
        let paused_until = Some(until).filter(|until| paused < *until);
        let changes = before.and_then(|before| self.change_of(&before)).into_iter().collect();
        Ok(Effects { halts, paused_until, changes })
    }
}

fn sequence_of(intent: Option<&Intent>) -> Result<Sequence, InvalidTransition> {
    intent.map(|intent| intent.sequence).ok_or(InvalidTransition::NoSuchIntent(Sequence(0)))
}

impl Effects {
    fn merge(&mut self, other: Self) {
        self.halts.extend(other.halts);
        self.paused_until = self.paused_until.max(other.paused_until);
        self.changes.extend(other.changes);
    }
}

#[cfg(test)]
pub(crate) mod tests;
