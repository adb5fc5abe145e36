//! State of the ledger: every intent, and the remaining budget.
//!
//! Pure. The state is determined by its events ([`LedgerState::apply`]). A decision
//! ([`LedgerState::approve`]) is an event that the caller records first and applies then. A
//! decision takes constant time, independent of the size of the ledger.
//!
//! # Invariants
//!
//! 1. An approval keeps reserved, spent and unknown coins within every limit: `max_price`, `total`,
//!    `per_hour`, `per_day`, `max_buys_per_minute`, `min_balance`, `max_in_flight`, and the
//!    `max_quantity` and `max_total` of its entry and of the entry's group.
//! 2. No listing is approved twice, unless no byte of the first request was sent. Where the market
//!    changes prices, a listing is approved at another price only if no earlier order for its id
//!    was bought or may have been.
//! 3. Unknown counts as spent. An order stops counting only by a
//!    [`Release`](super::event::Release).
//! 4. A rejected or returned order frees every limit except the one per minute.
//! 5. A halt lasts until [`LedgerEvent::Resumed`], and nothing is approved meanwhile.
//! 6. The running sums equal those of the intents: [`LedgerState::check`] recomputes most of them.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    iter,
    time::Duration,
};

use super::{
    account::{AccountBalance, BalanceDrop, BalanceReading, SETTLE},
    allowance::Sharing,
    entries::{EntryKey, EntryTable, EntryUsage},
    event::{EntrySlot, HaltReason, LedgerEvent, OrderState, Sequence},
    intent::{
        ApprovedTotals, CrashLoss, Halt, Intent, InvalidTransition, LimitRequest, OpenTotals,
    },
    prealloc,
    rate::{OrderRate, orders_ahead},
    reconcile::AbsentLookUps,
    window::Window,
};
use crate::{
    config::Budget,
    domain::money::Amount,
    domain::outcome::RejectReason,
    domain::own_order_id::{ORDER_NUMBERS, StartId},
    domain::time::UnixMs,
    domain::trade::{TradeId, TradeKey},
    domain::whitelist_entry::{EntryGroup, WhitelistEntry},
};

/// Maximum number of intents of a ledger.
pub const INTENTS_MAX: u32 = 1_000_000;
const _: () = assert!(INTENTS_MAX < ORDER_NUMBERS, "an own id contains each number");
/// Maximum number of sent orders for one id, at different prices, on a market that changes prices.
/// Bounds the time of a decision, because the feed could change a price forever.
pub const ORDERS_PER_ID_MAX: u32 = 64;
/// Maximum number of orders for one id of which no byte was sent, on such a market.
pub const UNSENT_PER_ID_MAX: u32 = 256;
/// Number of consecutive unknown outcomes that halts ordering.
pub const UNKNOWNS_IN_A_ROW_MAX: u32 = 5;
/// Number of consecutive rejections with a pause that halts ordering. One that concerns only
/// its listing ends the row.
pub const REJECTIONS_IN_A_ROW_MAX: u32 = 5;
/// Maximum number of simultaneous halts.
pub const HALTS_MAX: usize = 48;
/// Pause after a rate limit that does not specify a duration.
pub const PAUSE: Duration = Duration::from_secs(60);
/// Maximum duration of a pause. A longer one is cut to it.
pub const PAUSE_MAX: Duration = Duration::from_secs(86_400);

pub(super) const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Minimum free capacity of the collections that an approval grows, after
/// [`LedgerState::reserve_capacity`]. More than the orders that are ever in flight.
const HEADROOM: usize = 2_048;

/// State that a sequence of [`LedgerEvent`]s determines.
#[derive(Clone, Debug)]
pub struct LedgerState {
    pub(super) budget: Budget,
    /// Number of the limits in the database.
    pub(super) limits: u32,
    pub(super) balance_required: bool,
    pub(super) entries: EntryTable,
    pub(super) intents: Vec<Intent>,
    /// Random bits of the last start.
    pub(super) start: Option<StartId>,
    /// The last intent for each id. Each intent refers to the previous one.
    pub(super) by_id: HashMap<TradeId, Sequence>,
    /// Purchases outside of this ledger that halt nothing.
    pub(super) accepted: HashSet<TradeId>,
    /// Purchases that halted ordering; a resume accepts them.
    pub(super) unexpected: HashSet<TradeId>,
    /// `true` after the first complete list: later purchases outside of this ledger halt.
    pub(super) baselined: bool,
    /// Last time at which the orders of a power loss were taken for not sent.
    pub(super) loss_cleared_at: Option<UnixMs>,
    /// Time from which purchases outside of this ledger count against `total`, until the ledger is
    /// baselined.
    pub(super) count_since: Option<UnixMs>,
    /// `true` once the account was read completely since the start, or if no balance is required.
    pub(super) reconciled: bool,
    /// Time of the earliest reading that reconciles. Not recorded.
    pub(super) read_from: UnixMs,
    /// First order that counts against `total`.
    pub(super) budget_from: Sequence,
    /// Coins of these orders, without those of `loss`.
    pub(super) spent: Amount,
    pub(super) minute: Window,
    pub(super) hour: Window,
    pub(super) day: Window,
    /// Not recorded, because it follows from the orders.
    pub(super) rate: OrderRate,
    pub(super) account: AccountBalance,
    pub(super) in_flight: u32,
    pub(super) open: BTreeSet<Sequence>,
    pub(super) open_totals: OpenTotals,
    /// Orders that the market may still change, by the time of their approval: the clock may have
    /// been set between two approvals.
    pub(super) followed_up: BTreeSet<(UnixMs, Sequence)>,
    /// Orders whose price in the account's list is lower than the counted one.
    pub(super) repriced: BTreeSet<Sequence>,
    pub(super) halts: Vec<Halt>,
    pub(super) paused_until: UnixMs,
    pub(super) unknowns_in_a_row: u32,
    pub(super) rejections_in_a_row: u32,
    /// Order that caused the last pause, and its rejection.
    pub(super) last_pause: Option<(Sequence, RejectReason)>,
    pub(super) loss: CrashLoss,
    /// Listings created up to this time may have been ordered before a power loss.
    pub(super) barrier: Option<UnixMs>,
    /// `true` if the barrier is by the server's clock, and not by the local wall clock.
    pub(super) is_barrier_confirmed: bool,
    pub(super) approved_totals: ApprovedTotals,
    pub(super) first_at: UnixMs,
    pub(super) last_at: UnixMs,
    /// Shared budget of a group.
    pub(super) sharing: Sharing,
    /// Time from which nothing is released by age, because the wall clock was set and the account
    /// has not been read since. Not recorded, because a start reads the account before it orders.
    pub(super) frozen_at: Option<UnixMs>,
    /// Last time at which the wall clock was set. Not recorded either.
    pub(super) clock_set_at: UnixMs,
    /// Longest time until the account's list contains an order. Not recorded: a property of the
    /// market.
    pub(super) listed_within: Duration,
    /// `true` if the account's purchases can be listed.
    pub(super) has_list: bool,
    /// Number of look-ups by own id that must have shown no order before its absence is evidence.
    /// Not recorded: a property of the market.
    pub(super) look_ups_min: u32,
    /// `true` if orders contain own ids.
    pub(super) has_own_ids: bool,
    /// Look-ups in a row that did not show the order, for each unknown order. Not recorded: they
    /// are counted from zero after a start.
    pub(super) absent_look_ups: HashMap<Sequence, AbsentLookUps>,
    /// Start of the last read that showed an order as bought and not cancelled. Not recorded.
    pub(super) shown_at: HashMap<Sequence, UnixMs>,
    /// Commissions that the market reports for cancelled orders. Not recorded before the refund:
    /// the next reading repeats them.
    pub(super) commissions: HashMap<Sequence, Amount>,
}

impl LedgerState {
    /// Creates an empty state. `balance_required` forbids orders while the balance is unknown; it
    /// must be set whenever orders cost money.
    pub fn new(budget: Budget, balance_required: bool) -> Self {
        Self {
            budget,
            limits: 0,
            balance_required,
            entries: EntryTable::default(),
            intents: Vec::new(),
            start: None,
            by_id: HashMap::new(),
            accepted: HashSet::new(),
            unexpected: HashSet::new(),
            baselined: false,
            loss_cleared_at: None,
            count_since: None,
            reconciled: !balance_required,
            read_from: UnixMs(i64::MIN),
            budget_from: Sequence(1),
            spent: Amount::ZERO,
            minute: Window::new(MINUTE),
            hour: Window::new(HOUR),
            day: Window::new(DAY),
            rate: OrderRate::new(),
            account: AccountBalance::default(),
            in_flight: 0,
            open: BTreeSet::new(),
            open_totals: OpenTotals::default(),
            followed_up: BTreeSet::new(),
            repriced: BTreeSet::new(),
            halts: Vec::with_capacity(HALTS_MAX),
            paused_until: UnixMs(i64::MIN),
            unknowns_in_a_row: 0,
            rejections_in_a_row: 0,
            last_pause: None,
            loss: CrashLoss::default(),
            barrier: None,
            is_barrier_confirmed: false,
            approved_totals: ApprovedTotals::default(),
            first_at: UnixMs(0),
            last_at: UnixMs(0),
            sharing: Sharing::new(),
            frozen_at: None,
            clock_set_at: UnixMs(i64::MIN),
            listed_within: SETTLE,
            has_list: false,
            look_ups_min: 0,
            has_own_ids: false,
            absent_look_ups: HashMap::new(),
            shown_at: HashMap::new(),
            commissions: HashMap::new(),
        }
    }

    /// Replaces the limits. `number` identifies them in the database.
    pub fn set_budget(&mut self, budget: Budget, number: u32) {
        self.budget = budget;
        self.limits = number;
    }

    /// Sets the longest time until the account's list of purchases contains an order; `None`
    /// without such a list.
    pub(super) fn set_list(&mut self, listed_within: Option<Duration>) {
        self.has_list = listed_within.is_some();
        self.listed_within = listed_within.unwrap_or_default().max(SETTLE);
    }

    /// Replaces the whitelist and returns the entries that are new to this ledger.
    pub fn set_entries(&mut self, entries: &[WhitelistEntry]) -> Vec<(EntrySlot, EntryKey)> {
        self.entries.set(entries)
    }

    /// Registers a whitelist entry under its recorded slot.
    pub fn restore_entry(&mut self, slot: EntrySlot, key: EntryKey) {
        self.entries.restore(slot, key);
    }

    /// Registers the recorded group of a whitelist entry.
    pub fn restore_group(&mut self, slot: EntrySlot, name: &str) {
        self.entries.restore_group(slot, name);
    }

    /// Returns the last intent for this id, if it was ever requested.
    pub fn intent(&self, id: &TradeId) -> Option<&Intent> {
        self.by_id.get(id).and_then(|sequence| self.at(*sequence))
    }

    /// Iterates over the intents for this id, the last one first.
    pub fn orders_of(&self, id: &TradeId) -> impl Iterator<Item = &Intent> {
        iter::successors(self.intent(id), |intent| self.at(intent.previous?))
    }

    /// Returns the last intent for the listing with this key.
    pub fn order(&self, key: &TradeKey) -> Option<&Intent> {
        self.orders_of(&key.id).find(|intent| intent.key().price == key.price)
    }

    /// Returns the display name of the entry that matched the intent.
    pub fn label(&self, intent: &Intent) -> &str {
        let entry = self.entries.iter().find(|(_key, slot, _used)| *slot == intent.entry);
        entry.map_or("?", |(key, ..)| key.label())
    }

    /// Returns the coins that count against `total`.
    pub fn spent(&self) -> Amount {
        self.spent.saturating_add(self.loss.coins)
    }

    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Returns the orders that a crash may have removed from the record.
    pub const fn loss(&self) -> CrashLoss {
        self.loss
    }

    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Returns the earliest time from which a list of the account's purchases can show that the
    /// lost orders were not sent.
    pub(super) fn loss_until(&self) -> Option<UnixMs> {
        let has_end = self.loss.count > 0 && self.has_list;
        has_end.then(|| self.loss.since.plus(self.listed_within))
    }

    /// Returns `true` if ordering is halted because of this purchase.
    pub fn is_unexpected(&self, id: &TradeId) -> bool {
        self.unexpected.contains(id)
    }

    /// Returns every intent, ordered by number.
    pub fn intents(&self) -> &[Intent] {
        &self.intents
    }

    /// Returns the approval time of the oldest unresolved intent.
    pub fn oldest_open(&self) -> Option<UnixMs> {
        let open = self.open_intents().next();
        let lost = (self.loss.count > 0).then_some(self.loss.not_before);
        open.map(|intent| intent.reserved_at).into_iter().chain(lost).min()
    }

    /// Iterates over the orders of unknown outcome, the newest first.
    pub fn unknown_orders(&self) -> impl Iterator<Item = &Intent> {
        let open = self.open.iter().rev().filter_map(|sequence| self.at(*sequence));
        open.filter(|intent| intent.state == OrderState::Unknown)
    }

    /// Returns the orders approved since `moment` that the market may still change, the newest
    /// first, with `true` for those that change rarely. They include orders that count as not
    /// bought, because one may turn out to be bought later.
    pub fn followed_up_since(&self, moment: UnixMs) -> impl Iterator<Item = (&Intent, bool)> {
        let recent = self.followed_up.range((moment, Sequence(0))..).rev();
        let recent = recent.filter_map(|(_at, sequence)| self.at(*sequence));
        let is_rare = |state| matches!(state, OrderState::Completed | OrderState::Returned);
        recent.map(move |intent| (intent, is_rare(intent.state)))
    }

    /// Returns `true` if a balance of this amount would change nothing and prove nothing.
    pub(super) fn is_unchanged_by(&self, coins: Amount) -> bool {
        self.account.is_unchanged(coins)
            && self.repriced.is_empty()
            && !self.open_intents().any(|intent| intent.state == OrderState::Returning)
    }

    /// Returns `true` if the wall clock was set since the account was read. Nothing is released by
    /// age then.
    pub const fn is_clock_unreliable(&self) -> bool {
        self.frozen_at.is_some()
    }

    /// Returns the time for the computation of ages: `now`, or the time at which the wall clock
    /// became unreliable.
    pub(super) fn age_now(&self, now: UnixMs) -> UnixMs {
        self.frozen_at.map_or(now, |frozen| frozen.min(now))
    }

    /// Grows the collections in advance. Call it outside of the order path.
    pub fn reserve_capacity(&mut self) {
        let key = |number: usize| TradeId::new(&number.to_string());
        prealloc::table(&mut self.by_id, HEADROOM, key, &Sequence(0));
        prealloc::list(&mut self.intents, HEADROOM, Intent::FILLER);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.reserve_capacity(HEADROOM);
        }
    }

    /// Returns the number of the next intent.
    pub(super) fn next_sequence(&self) -> Sequence {
        Sequence(u64::try_from(self.intents.len()).unwrap_or(u64::MAX)).next()
    }

    /// Iterates over the intents whose state reconciliation may still change, the oldest first.
    pub(super) fn open_intents(&self) -> impl Iterator<Item = &Intent> {
        self.open.iter().filter_map(|sequence| self.at(*sequence))
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

    /// Applies an event that happened at `at`.
    ///
    /// # Errors
    ///
    /// Returns an [`InvalidTransition`] if the event does not apply; the state is unchanged then.
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
            LedgerEvent::Reserved { sequence, id, keyed_by, price, entry, limits, own_number } => {
                let start = self.start.filter(|_start| 0 < own_number);
                let own_id = start.map(|start| start.order_id(own_number));
                let reserved = Intent::reserved(sequence, id, keyed_by, price, at);
                self.add(Intent { entry, limits, own_id, ..reserved })?;
                self.approved_totals = self.approved_totals.plus(price, 1);
            }
            LedgerEvent::Sent { sequence } => self.on_sent(sequence, at)?,
            LedgerEvent::Answered { sequence, answer } => self.on_answered(sequence, answer, at)?,
            LedgerEvent::Proved { sequence, evidence, paid, by: _, since } => {
                self.on_proved(sequence, evidence, paid, at)?;
                self.at_mut(sequence)?.expect_no_refund_before(since);
            }
            LedgerEvent::Adopted { sequence, id, price, keeps_loss } => {
                self.on_adopted(sequence, id, price, at)?;
                if keeps_loss {
                    self.halt(HaltReason::UnexpectedPurchase { id, price: None }, at);
                } else {
                    self.lower_loss(price);
                }
            }
            LedgerEvent::Accepted { id } => {
                self.accepted.insert(id);
            }
            LedgerEvent::Baselined => self.baselined = true,
            LedgerEvent::Halted(reason) => self.halt(reason, at),
            LedgerEvent::Resumed { by: _ } => self.on_resumed(),
            LedgerEvent::Paused { until } => self.paused_until = self.paused_until.max(until),
            LedgerEvent::NewBudget { by: _ } => self.start_budget(),
            LedgerEvent::Balance { coins, as_of } => {
                let drop = self.account.read(BalanceReading { coins, as_of, at });
                let missing = self.account.missing_beyond(Amount::ZERO);
                self.sharing.missing = self.sharing.missing.min(missing);
                if self.sharing.is_account_shared {
                    self.account.forget_drop();
                } else if let Some(BalanceDrop { expected, actual }) = drop
                    && !self.is_price_of_unexpected(expected.saturating_sub(actual))
                {
                    self.halt(HaltReason::BalanceDrop { expected, actual }, at);
                }
            }
            LedgerEvent::Started { boot: _, start } => self.on_started(at, start)?,
            LedgerEvent::PriceConfirmed { sequence, price } => {
                self.confirm_price(sequence, price, at)?;
            }
            LedgerEvent::Lost { coins, count, barrier } => {
                self.on_lost(coins, count, barrier, at);
            }
            LedgerEvent::LossCleared { by: _ } => {
                self.loss_cleared_at = Some(at);
                self.loss = CrashLoss::default();
                self.account.set_crash_reserve(Amount::ZERO);
            }
            LedgerEvent::Joined { group } => self.on_joined(group),
            LedgerEvent::AccountShared { is_shared } => {
                self.sharing.is_account_shared = is_shared;
                let missing = self.account.missing_beyond(Amount::ZERO);
                self.sharing.missing = if is_shared { Amount::ZERO } else { missing };
            }
        }
        Ok(())
    }

    fn start_budget(&mut self) {
        self.budget_from = self.next_sequence();
        self.spent = Amount::ZERO;
    }

    pub(super) fn add(&mut self, intent: Intent) -> Result<(), InvalidTransition> {
        let Intent { sequence, id, price, entry, reserved_at, .. } = intent;
        let usage = intent.usage();
        let expected = self.next_sequence();
        if sequence != expected {
            return Err(InvalidTransition::OutOfOrder { expected, found: sequence });
        }
        // Compares the spelling: version 0.1.0 could order a listing under two spellings of its id,
        // and its ledgers must still open. `check_listing` rejects every spelling.
        let is_same = |earlier: &Intent| earlier.id.as_str() == id.as_str();
        let earlier = self.order(&intent.key());
        let earlier = earlier.filter(|earlier| earlier.state != OrderState::NotSent);
        if earlier.is_some_and(is_same) {
            return Err(InvalidTransition::RequestedTwice(sequence));
        }
        let previous = self.by_id.insert(id, sequence);
        self.intents.push(Intent { previous, ..intent });
        let age_now = self.age_now(reserved_at);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.advance(age_now);
            window.add(sequence, price, reserved_at);
        }
        self.entries.add(entry, usage);
        self.spent = self.spent.saturating_add(price);
        self.sharing.add(sequence, price);
        self.sharing.on_changed(sequence);
        self.account.reserve(price);
        self.in_flight = self.in_flight.saturating_add(1);
        Ok(())
    }
}

impl LedgerState {
    /// Recomputes from the intents what counts against `total` and the shared total, the usage of
    /// entries and groups, the orders in flight and the open ones, and compares the results.
    ///
    /// # Errors
    ///
    /// Returns the first [`InvalidTransition`] found.
    pub fn check(&self) -> Result<(), InvalidTransition> {
        let sum = |sum: Amount, price: Amount| sum.saturating_add(price);

        let in_budget = self.intents.iter().filter(|intent| self.budget_from <= intent.sequence);
        let spent = in_budget.map(Intent::counted).fold(Amount::ZERO, sum);
        agree(spent == self.spent, "total")?;
        agree(self.shared_spent() == self.sharing.spent, "shared total")?;

        let mut used: HashMap<EntrySlot, EntryUsage> = HashMap::new();
        for intent in &self.intents {
            let used = used.entry(intent.entry).or_default();
            *used = used.plus(intent.usage());
        }
        let any = used.get(&EntrySlot::ANY).copied().unwrap_or_default();
        for (_key, slot, found) in self.entries.iter() {
            let mut expected = used.get(&slot).copied().unwrap_or_default();
            expected.quantity = expected.quantity.saturating_add(any.quantity);
            expected.total = expected.total.saturating_add(any.total);
            agree(found == expected, "a whitelist entry")?;
        }
        for (position, (_group, found)) in self.entries.groups().enumerate() {
            let own =
                used.iter().filter(|(slot, _)| self.entries.group_of(**slot) == Some(position));
            let expected = own.fold(any, |sum, (_slot, used)| sum.plus(*used));
            agree(found == expected, "a group of whitelist entries")?;
        }

        let in_flight = self.intents.iter().filter(|intent| intent.state.is_in_flight()).count();
        agree(usize::try_from(self.in_flight) == Ok(in_flight), "in flight")?;
        let open = self.intents.iter().filter(|intent| intent.state.is_open());
        agree(open.map(|intent| &intent.sequence).eq(self.open.iter()), "open intents")?;
        let mut totals = OpenTotals::default();
        self.intents.iter().for_each(|intent| totals.add(intent));
        agree(totals == self.open_totals, "totals of open intents")?;
        let followed_up = self.intents.iter().filter(|intent| intent.state.is_followed_up());
        let followed_up = followed_up.map(|intent| (intent.reserved_at, intent.sequence));
        agree(followed_up.collect::<BTreeSet<_>>() == self.followed_up, "followed up intents")?;
        self.check_listings()
    }

    /// Checks that no key was requested twice under one spelling of its id. Version 0.1.0 treated
    /// two spellings of one id as two listings.
    fn check_listings(&self) -> Result<(), InvalidTransition> {
        let mut requested: HashMap<(&str, Option<Amount>), Sequence> = HashMap::new();
        for intent in self.intents.iter().filter(|intent| intent.state != OrderState::NotSent) {
            let key = (intent.id.as_str(), intent.key().price);
            if requested.insert(key, intent.sequence).is_some() {
                return Err(InvalidTransition::RequestedTwice(intent.sequence));
            }
        }
        Ok(())
    }
}

const fn agree(agree: bool, what: &'static str) -> Result<(), InvalidTransition> {
    if agree { Ok(()) } else { Err(InvalidTransition::Sum(what)) }
}

impl LedgerState {
    /// Returns the limit on all approvals to make durable: enough for the orders that may be
    /// approved while the disk syncs, and never more than the limits and slices allow. `sync_time`:
    /// duration of a sync.
    ///
    /// No approval waits for a disk sync, so the ledger may lose its last records in a power loss.
    /// Therefore nothing is approved beyond a limit that is durable. After a power loss, the
    /// difference between that limit and the recorded approvals may have been spent unrecorded, and
    /// counts as spent ([`LedgerEvent::Lost`]).
    pub fn limit_to_request(&self, sync_time: Duration) -> LimitRequest {
        let needed = orders_ahead(sync_time, self.rate.max_over_last_minute(self.minute.latest()));
        let orders = needed.min(self.budget.max_buys_per_minute);
        // The price of an order that is not settled yet may become available again.
        let open = self.account.open_coins();
        let left = |coins: Amount| coins.max(Amount::ZERO).saturating_add(open);
        let total = left(self.budget.total.saturating_sub(self.spent()));
        let available = self.account.available_min();
        let balance = available.map(|coins| left(coins.saturating_sub(self.budget.min_balance)));
        // The windows count with their whole limits. Their remainders grow with time alone, and no
        // event would then renew the request.
        let windows = [self.budget.per_hour, self.budget.per_day].into_iter().flatten();
        let allowed = windows.chain(balance).fold(total, Amount::min);
        let needed = self.budget.max_price.saturating_mul(i64::from(orders));
        let wanted = self.approved_totals.plus(allowed.min(needed), orders);
        // Other members count on it that a loss fits into the slices. So open orders are not added,
        // and the limit is lowered with the slices.
        let max = self.slice_left().map(|left| {
            self.approved_totals.plus(left, if left == Amount::ZERO { 0 } else { u32::MAX })
        });
        LimitRequest { wanted: max.map_or(wanted, |max| wanted.min(max)), max }
    }

    /// Returns the totals of all approvals so far.
    pub const fn approved_totals(&self) -> ApprovedTotals {
        self.approved_totals
    }
}

/// State of the ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub budget: Budget,
    /// Coins reserved, spent and unknown since the last new budget, including possible crash
    /// losses.
    pub spent: Amount,
    pub spent_in_hour: Amount,
    pub spent_in_day: Amount,
    pub sent_in_minute: u32,
    pub balance: Option<Amount>,
    /// Lower bound of the available coins.
    pub available_min: Option<Amount>,
    /// Available coins if the last reading included every earlier order. For display only.
    pub available_estimate: Option<Amount>,
    /// Orders that wait for a response.
    pub in_flight: u32,
    /// Orders of unknown outcome that are not resolved.
    pub unknown: u32,
    /// Total price of the unknown orders.
    pub unknown_coins: Amount,
    /// Orders that are bought and not delivered.
    pub undelivered: u32,
    /// Cancelled orders without a refund so far.
    pub returning: u32,
    pub returning_coins: Amount,
    /// `true` after the first comparison with the market since the start.
    pub reconciled: bool,
    /// End of the current pause.
    pub paused_until: Option<UnixMs>,
    pub halts: Vec<Halt>,
    /// Orders that a crash may have removed from the record.
    pub loss: CrashLoss,
    /// Earliest time from which a read of the account can show that these orders were not sent;
    /// `None` without a loss.
    pub loss_until: Option<UnixMs>,
    /// With a loss: only listings created after this time are ordered.
    pub barrier: Option<UnixMs>,
    /// Total number of intents.
    pub intents: usize,
}

impl Snapshot {
    /// Returns `true` if the last balance is below `min_balance`.
    pub fn is_below_min_balance(&self) -> bool {
        self.balance.is_some_and(|balance| balance < self.budget.min_balance)
    }
}

/// Results of some orders, at the current state of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderTotals {
    /// Orders that are bought, delivered or not, including cancelled ones without a refund.
    pub bought: u64,
    pub spent: Amount,
    pub delivered: u64,
    /// Cancelled orders without a refund so far.
    pub returning: u64,
    pub returning_coins: Amount,
    /// Cancelled and refunded orders.
    pub returned: u64,
    pub returned_coins: Amount,
    /// Orders that were unknown at first and turned out not to be bought.
    pub not_bought: u64,
    pub unknown: u64,
    pub unknown_coins: Amount,
    /// Orders that the market rejected, or that were not sent.
    pub rejected: u64,
    pub in_flight: u64,
}

impl OrderTotals {
    pub fn of<'a>(orders: impl Iterator<Item = &'a Intent>) -> Self {
        let mut totals = Self::default();
        orders.for_each(|order| totals.add(order));
        totals
    }

    /// Returns the deliveries and refunds since `start`, earlier totals of the same orders.
    pub fn settled_since(&self, start: &Self) -> Self {
        Self {
            delivered: self.delivered.saturating_sub(start.delivered),
            returned: self.returned.saturating_sub(start.returned),
            returned_coins: self.returned_coins.saturating_sub(start.returned_coins),
            ..Self::default()
        }
    }

    fn add(&mut self, order: &Intent) {
        let add = |count: &mut u64, coins: &mut Amount| {
            *count = count.saturating_add(1);
            *coins = coins.saturating_add(order.price);
        };
        if order.state.is_charged() {
            add(&mut self.bought, &mut self.spent);
        }
        let mut unpriced = Amount::ZERO;
        match order.state {
            OrderState::Bought => {}
            OrderState::Completed => add(&mut self.delivered, &mut unpriced),
            OrderState::Returning => add(&mut self.returning, &mut self.returning_coins),
            OrderState::Returned => {
                add(&mut self.returned, &mut self.returned_coins);
                self.returned_coins = self.returned_coins.saturating_sub(order.kept);
                self.spent = self.spent.saturating_add(order.kept);
            }
            OrderState::Unknown => add(&mut self.unknown, &mut self.unknown_coins),
            OrderState::NotBought => add(&mut self.not_bought, &mut unpriced),
            OrderState::Rejected | OrderState::NotSent => add(&mut self.rejected, &mut unpriced),
            OrderState::Reserved | OrderState::Sent => add(&mut self.in_flight, &mut unpriced),
        }
    }
}

impl LedgerState {
    /// Returns the last balance and the time at which it was requested.
    pub fn last_reading(&self) -> Option<(Amount, UnixMs)> {
        self.account.last_reading().map(|reading| (reading.coins, reading.as_of))
    }

    /// Returns an estimate of the available coins, which assumes that the last balance included
    /// every order reserved before it.
    fn available_estimate(&self) -> Option<Amount> {
        let reading = self.account.last_reading()?;
        let since = self.intents.iter().rev();
        let since = since.take_while(|intent| reading.as_of <= intent.reserved_at);
        let spent = since.filter(|intent| intent.state.counts());
        Some(spent.fold(reading.coins, |left, intent| left.saturating_sub(intent.price)))
    }

    /// Returns the reasons for which ordering is halted, oldest first.
    pub fn halts(&self) -> &[Halt] {
        &self.halts
    }

    /// Summarizes the ledger at `now`.
    pub fn snapshot(&mut self, now: UnixMs) -> Snapshot {
        let age_now = self.age_now(now);
        for window in [&mut self.minute, &mut self.hour, &mut self.day] {
            window.advance(age_now);
        }
        let reserve = self.loss.coins;
        let OpenTotals { unknown, unknown_coins, returning, returning_coins, undelivered, .. } =
            self.open_totals;
        Snapshot {
            budget: self.budget.clone(),
            spent: self.spent(),
            spent_in_hour: self.hour.sum().saturating_add(reserve),
            spent_in_day: self.day.sum().saturating_add(reserve),
            sent_in_minute: self.minute.count(),
            balance: self.account.balance(),
            available_min: self.account.available_min(),
            available_estimate: self.available_estimate(),
            in_flight: self.in_flight,
            unknown,
            unknown_coins,
            returning,
            returning_coins,
            undelivered,
            reconciled: self.reconciled,
            paused_until: Some(self.paused_until).filter(|until| now < *until),
            halts: self.halts.clone(),
            loss: self.loss,
            loss_until: self.loss_until(),
            barrier: self.barrier.filter(|_barrier| self.loss.count > 0),
            intents: self.intents.len(),
        }
    }

    /// Iterates over every known whitelist entry with its usage.
    pub fn entries(&self) -> impl Iterator<Item = (&EntryKey, EntryUsage)> {
        self.entries.iter().map(|(key, _slot, used)| (key, used))
    }

    /// Iterates over the groups of the current whitelist with their usage.
    pub fn groups(&self) -> impl Iterator<Item = (&EntryGroup, EntryUsage)> {
        self.entries.groups()
    }

    /// Returns the slot of the entry at this position of the whitelist.
    pub fn entry_slot(&self, index: usize) -> Option<EntrySlot> {
        self.entries.limits(index).map(|limits| limits.slot)
    }

    /// Returns the usage of the entry at this position of the whitelist.
    pub fn entry_usage(&self, index: usize) -> Option<EntryUsage> {
        self.entries.limits(index).map(|limits| self.entries.used(limits.slot))
    }
}
