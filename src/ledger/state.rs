//! The book: every intent, and what may still be spent.
//!
//! Pure. A book is the sum of its events ([`LedgerState::apply`]); what it decides ([`LedgerState::approve`])
//! is an event that the caller makes durable first and applies then. Deciding takes constant
//! time, whatever the book holds.
//!
//! # Invariants
//!
//! 1. An approval keeps what is reserved, spent and unknown within every limit: `max_price`,
//!    `total`, `per_hour`, `per_day`, `max_buys_per_minute`, `min_balance`, `max_in_flight`, and
//!    its entry's `max_quantity` and `max_total`.
//! 2. No listing is approved twice, except after not one byte of the first request had left.
//! 3. Unknown counts as spent. An order stops counting only by a
//!    [`Release`](super::event::Release).
//! 4. A refused or returned buy frees every limit but the one per minute.
//! 5. A halt stays until [`LedgerEvent::Resumed`], and nothing is approved while there is one.
//! 6. The running sums are those of the intents: [`LedgerState::check`] counts again.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use super::{
    account::{AccountBalance, BalanceReading},
    entries::{EntryKey, EntryTable},
    event::{EntrySlot, HaltReason, LedgerEvent, OrderState, Sequence},
    intent::{ApprovedTotals, CrashLoss, Halt, Intent, InvalidTransition},
    prealloc,
    window::Window,
};
use crate::{
    config::Budget, domain::money::Amount, domain::time::UnixMs, domain::trade::TradeId,
    whitelist::WhitelistEntry,
};

/// How many intents a ledger can hold.
pub const INTENTS_MAX: u32 = 1_000_000;
/// How many unknown outcomes in a row stop buying.
pub const UNKNOWNS_IN_A_ROW_MAX: u32 = 5;
/// How many unexpected refusals in a row stop buying. *Taken* and *too early* never count.
pub const REFUSALS_IN_A_ROW_MAX: u32 = 5;
/// How many reasons to halt are kept at once.
pub const HALTS_MAX: usize = 16;
/// How long buying pauses when the marketplace asks for it and does not say how long.
pub const PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that is honoured.
pub const PAUSE_MAX: Duration = Duration::from_secs(86_400);

/// How long before the last event that power loss has left a lost one may have happened. The
/// writer lags by milliseconds; when it cannot write at all, nothing is approved.
const LOSS_MARGIN: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// How many intents fit into every table at least, whenever one comes. More are under way at no
/// time; tables grow off the way from frame to order.
const HEADROOM: usize = 2_048;

/// Every intent, and what may still be spent.
#[derive(Clone, Debug)]
pub struct LedgerState {
    pub(super) budget: Budget,
    pub(super) limits: u32,
    pub(super) balance_required: bool,
    pub(super) entries: EntryTable,
    pub(super) intents: Vec<Intent>,
    pub(super) by_id: HashMap<TradeId, Sequence>,
    pub(super) accepted: HashSet<TradeId>,
    pub(super) baselined: bool,
    /// Purchases since then count against `total` although this ledger did not make them, until it
    /// is baselined; `None`: they do not.
    pub(super) count_since: Option<UnixMs>,
    pub(super) reconciled: bool,
    pub(super) budget_from: Sequence,
    pub(super) spent: Amount,
    pub(super) minute: Window,
    pub(super) hour: Window,
    pub(super) day: Window,
    pub(super) account: AccountBalance,
    pub(super) in_flight: u32,
    pub(super) open: BTreeSet<Sequence>,
    /// Orders of which the account's own list names a lower price than what counts.
    pub(super) repriced: BTreeSet<Sequence>,
    pub(super) halts: Vec<Halt>,
    pub(super) paused_until: UnixMs,
    pub(super) unknowns_in_a_row: u32,
    pub(super) refusals_in_a_row: u32,
    pub(super) loss: CrashLoss,
    pub(super) barrier: Option<UnixMs>,
    pub(super) exposure: ApprovedTotals,
    pub(super) first_at: UnixMs,
    pub(super) last_at: UnixMs,
    /// Since when nothing is freed by age, because the wall clock was set and the account has not
    /// been read since. Not on record: a start reads the account before it orders.
    pub(super) frozen_at: Option<UnixMs>,
}

impl LedgerState {
    /// An empty book. `balance_required` says whether an unknown balance forbids buying, as it
    /// must wherever buys cost money.
    pub fn new(budget: Budget, balance_required: bool) -> Self {
        Self {
            budget,
            limits: 0,
            balance_required,
            entries: EntryTable::default(),
            intents: Vec::new(),
            by_id: HashMap::new(),
            accepted: HashSet::new(),
            baselined: false,
            count_since: None,
            reconciled: !balance_required,
            budget_from: Sequence(1),
            spent: Amount::ZERO,
            minute: Window::new(MINUTE),
            hour: Window::new(HOUR),
            day: Window::new(DAY),
            account: AccountBalance::default(),
            in_flight: 0,
            open: BTreeSet::new(),
            repriced: BTreeSet::new(),
            halts: Vec::with_capacity(HALTS_MAX),
            paused_until: UnixMs(i64::MIN),
            unknowns_in_a_row: 0,
            refusals_in_a_row: 0,
            loss: CrashLoss::default(),
            barrier: None,
            exposure: ApprovedTotals::default(),
            first_at: UnixMs(0),
            last_at: UnixMs(0),
            frozen_at: None,
        }
    }

    /// Takes over other limits; `number` is what the journal calls them.
    pub fn set_budget(&mut self, budget: Budget, number: u32) {
        self.budget = budget;
        self.limits = number;
    }

    /// Takes over the entries of a whitelist, by their place in it, and returns those that this
    /// ledger has never seen before.
    pub fn set_entries(&mut self, entries: &[WhitelistEntry]) -> Vec<(EntrySlot, EntryKey)> {
        self.entries.set(entries)
    }

    /// Remembers a whitelist entry under the number that it has had before.
    pub fn restore_entry(&mut self, slot: EntrySlot, key: EntryKey) {
        self.entries.restore(slot, key);
    }

    /// The intent for this listing, if it was ever requested.
    pub fn intent(&self, id: &TradeId) -> Option<&Intent> {
        self.by_id.get(id).and_then(|sequence| self.at(*sequence))
    }

    /// The limits.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What power loss may have made the ledger forget.
    pub const fn loss(&self) -> CrashLoss {
        self.loss
    }

    /// Every intent, in the order of their numbers.
    pub fn intents(&self) -> &[Intent] {
        &self.intents
    }

    /// When the oldest intent was approved of which the end is not known yet.
    pub fn oldest_open(&self) -> Option<UnixMs> {
        let open = self.open.first().and_then(|sequence| self.at(*sequence));
        let lost = (self.loss.count > 0).then_some(self.loss.not_before);
        open.map(|intent| intent.reserved_at).into_iter().chain(lost).min()
    }

    /// Whether a balance of this amount would change nothing and prove nothing.
    pub(super) fn is_unchanged_by(&self, coins: Amount) -> bool {
        let has_open = self.open.iter().filter_map(|sequence| self.at(*sequence));
        self.account.is_unchanged(coins)
            && self.repriced.is_empty()
            && !has_open.into_iter().any(|intent| intent.state == OrderState::Returning)
    }

    /// Whether nothing is freed by age, because the wall clock was set since the account was read.
    pub const fn is_clock_distrusted(&self) -> bool {
        self.frozen_at.is_some()
    }

    /// The moment by which ages are judged: while the wall clock cannot be trusted, the one at which
    /// that was noticed.
    pub(super) fn age_now(&self, now: UnixMs) -> UnixMs {
        self.frozen_at.map_or(now, |frozen| frozen.min(now))
    }

    /// Whether one more buy may be under way.
    pub const fn has_room_in_flight(&self) -> bool {
        self.in_flight < self.budget.max_in_flight
    }

    /// Grows the tables ahead of need. To be called where time does not matter.
    pub fn make_room(&mut self) {
        let key = |number: usize| TradeId::new(&number.to_string());
        prealloc::table(&mut self.by_id, HEADROOM, key, &Sequence(0));
        prealloc::list(&mut self.intents, HEADROOM, Intent::FILLER);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.make_room(HEADROOM);
        }
    }

    /// The number that the next intent gets.
    pub(super) fn next_sequence(&self) -> Sequence {
        Sequence(u64::try_from(self.intents.len()).unwrap_or(u64::MAX)).next()
    }

    pub(super) fn at(&self, sequence: Sequence) -> Option<&Intent> {
        self.intents.get(usize::try_from(sequence.0.checked_sub(1)?).ok()?)
    }

    pub(super) fn at_mut(&mut self, sequence: Sequence) -> Result<&mut Intent, InvalidTransition> {
        sequence
            .0
            .checked_sub(1)
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.intents.get_mut(index))
            .ok_or(InvalidTransition::NoSuchIntent(sequence))
    }

    /// Adds an event that happened at `at`.
    ///
    /// # Errors
    ///
    /// A [`InvalidTransition`] when the event does not fit; the book is then unchanged.
    pub fn apply(&mut self, at: UnixMs, event: &LedgerEvent) -> Result<(), InvalidTransition> {
        self.dispatch(at, event)?;
        if self.last_at == UnixMs(0) {
            self.first_at = at;
        }
        self.last_at = self.last_at.max(at);
        Ok(())
    }

    fn dispatch(&mut self, at: UnixMs, event: &LedgerEvent) -> Result<(), InvalidTransition> {
        match *event {
            LedgerEvent::Reserved { sequence, id, price, entry, limits } => {
                let state = OrderState::Reserved;
                self.add(Intent {
                    sequence,
                    id,
                    approved: price,
                    price,
                    charged: price,
                    listed: None,
                    entry,
                    limits,
                    state,
                    reserved_at: at,
                    changed_at: at,
                })?;
                self.exposure = self.exposure.plus(price, 1);
            }
            LedgerEvent::Sent { sequence } => self.sent(sequence, at)?,
            LedgerEvent::Answered { sequence, answer } => self.answered(sequence, answer, at)?,
            LedgerEvent::Proved { sequence, proof, paid, by: _ } => {
                self.proved(sequence, proof, paid, at)?;
            }
            LedgerEvent::Adopted { sequence, id, price } => {
                self.adopted(sequence, id, price, at)?
            }
            LedgerEvent::Accepted { id } => {
                self.accepted.insert(id);
            }
            LedgerEvent::Baselined => self.baselined = true,
            LedgerEvent::Halted(reason) => self.halt(reason, at),
            LedgerEvent::Resumed { by: _ } => self.resumed(),
            LedgerEvent::Paused { until } => self.paused_until = self.paused_until.max(until),
            LedgerEvent::NewBudget { by: _ } => {
                self.budget_from = self.next_sequence();
                self.spent = Amount::ZERO;
            }
            LedgerEvent::Balance { coins, as_of } => {
                if let Some(drop) = self.account.read(BalanceReading { coins, as_of, at }) {
                    let (expected, actual) = (drop.expected, drop.actual);
                    self.halt(HaltReason::BalanceDrop { expected, actual }, at);
                }
            }
            LedgerEvent::Started { boot: _ } => self.started(at)?,
            LedgerEvent::PriceConfirmed { sequence, price } => {
                self.confirm_price(sequence, price)?
            }
            LedgerEvent::Lost { coins, count, barrier } => {
                self.loss = CrashLoss {
                    coins: self.loss.coins.saturating_add(coins),
                    count: self.loss.count.saturating_add(count),
                    since: at,
                    not_before: self.last_at.minus(LOSS_MARGIN).max(self.first_at),
                };
                self.account.set_lost(self.loss.coins);
                self.exposure = self.exposure.plus(coins, count);
                self.barrier = self.barrier.max(Some(barrier));
            }
            LedgerEvent::LossSettled { by: _ } => {
                self.loss = CrashLoss::default();
                self.account.set_lost(Amount::ZERO);
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, intent: Intent) -> Result<(), InvalidTransition> {
        let Intent { sequence, id, price, entry, reserved_at, .. } = intent;
        let expected = self.next_sequence();
        if sequence != expected {
            return Err(InvalidTransition::OutOfOrder { expected, found: sequence });
        }
        // By spelling: version 0.1.0 could order a listing under two spellings of its id, and its
        // ledgers still open. `may_request` denies every spelling.
        let is_same = |earlier: &Intent| earlier.id.as_str() == id.as_str();
        let earlier = self.intent(&id).filter(|earlier| earlier.state != OrderState::NotSent);
        if earlier.is_some_and(is_same) {
            return Err(InvalidTransition::RequestedTwice(sequence));
        }
        self.intents.push(intent);
        self.by_id.insert(id, sequence);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.add(sequence, price, reserved_at);
        }
        self.entries.used_mut(entry).add(price);
        self.spent = self.spent.saturating_add(price);
        self.account.reserve(price);
        self.in_flight = self.in_flight.saturating_add(1);
        Ok(())
    }
}
