//! Slices of limits that several ledgers share, and this ledger's usage of them.
//!
//! Pure. A ledger that shares a budget approves nothing without an [`Allowance`], which another
//! thread prepares: it contains the slices that the database has confirmed, in this ledger's unit.
//! The check compares a few numbers and takes no lock, no wait and no allocation. A ledger that
//! shares nothing has no allowance, and its check is one branch.
//!
//! # Invariants
//!
//! 1. While the budget is shared, an approval keeps the usage within the slice of every limit,
//!    besides the ledger's own limits.
//! 2. Nothing is approved after the allowance has ended, as a standby, or before the first one.
//! 3. A limit without a slice allows nothing.
//! 4. After a power loss, the orders that may be missing cost no more than the rest of the slices
//!    of `total`, the hour and the day, and there are none without a permit
//!    ([`Ledger::is_allowance_durable`]).
//! 5. The shared `total` counts every order since the ledger joined its group, also after
//!    `sniper ledger new-budget` and after the ledger left the group and came back. The other
//!    limits count as they do without sharing.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{fmt, sync::Arc};

use super::{
    Ledger,
    entries::{EntryLimits, EntryUsage},
    event::{LedgerEvent, OrderState, Sequence},
    intent::Intent,
    order_request::{OrderRequest, RiskRejection, exceeds},
    state::LedgerState,
};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::trade::TradeId};

/// Maximum number of named entries, and of groups, of a whitelist whose limits are shared.
pub const SHARED_ENTRIES_MAX: usize = 200;
/// Maximum number of order changes that wait to be reported.
const CHANGES_MAX: usize = 4_096;

/// Shared limit, without the name of its entry or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SharedLimit {
    Total,
    PerHour,
    PerDay,
    EntryQuantity,
    EntryTotal,
    GroupQuantity,
    GroupTotal,
}

impl SharedLimit {
    /// Returns the name for counters and log lines, and the description for summaries.
    pub(super) const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Total => ("shared_total", "would exceed this bot's slice of total"),
            Self::PerHour => ("shared_per_hour", "would exceed this bot's slice of per_hour"),
            Self::PerDay => ("shared_per_day", "would exceed this bot's slice of per_day"),
            Self::EntryQuantity => ("shared_max_quantity", "over this bot's slice of max_quantity"),
            Self::EntryTotal => ("shared_max_total", "over this bot's slice of max_total"),
            Self::GroupQuantity => {
                ("shared_group_max_quantity", "over the slice of max_quantity of its group")
            }
            Self::GroupTotal => {
                ("shared_group_max_total", "over the slice of max_total of its group")
            }
        }
    }
}

impl fmt::Display for SharedLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Total => "total",
            Self::PerHour => "per_hour",
            Self::PerDay => "per_day",
            Self::EntryQuantity => "its entry's max_quantity",
            Self::EntryTotal => "its entry's max_total",
            Self::GroupQuantity => "its group's max_quantity",
            Self::GroupTotal => "its group's max_total",
        })
    }
}

/// Permission of this ledger to approve orders of the shared budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderPermit {
    /// No slice has been confirmed since the start.
    #[default]
    Starting,
    /// Orders are approved before this moment of [`clock::now`](crate::clock::now).
    Until(UnixMs),
    /// Another member of the group is active.
    Standby,
    /// The database rejects this member until the user acts; contains the reason.
    Rejected(&'static str),
}

/// Slices of the limits of one entry or group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntrySlice {
    pub quantity: u32,
    pub total: Amount,
}

/// Upper bounds on the usage of the shared limits by one ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    pub permit: OrderPermit,
    pub total: Amount,
    pub per_hour: Amount,
    pub per_day: Amount,
    /// Slices of named entries, indexed by slot.
    pub entries: Vec<EntrySlice>,
    pub groups: Vec<(Arc<str>, EntrySlice)>,
}

impl Allowance {
    /// Sets the slices of the entry with this slot.
    pub fn set_entry(&mut self, slot: u32, slice: EntrySlice) {
        let Ok(index) = usize::try_from(slot) else { return };
        if self.entries.len() <= index {
            self.entries.resize(index.saturating_add(1), EntrySlice::default());
        }
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = slice;
        }
    }
}

/// Use of one shared amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountUse {
    pub used: Amount,
    pub max: Amount,
}

/// Use of the limits of a named entry or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryUse {
    /// Slot of an entry; zero for a group.
    pub slot: u32,
    pub name: Arc<str>,
    pub used: EntryUsage,
    pub max_quantity: Option<u32>,
    pub max_total: Option<Amount>,
}

/// Usage of each shared limit by this ledger, including the orders that a crash may have removed
/// from the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedUsage {
    pub total: AmountUse,
    pub per_hour: Option<AmountUse>,
    pub per_day: Option<AmountUse>,
    pub entries: Vec<EntryUse>,
    pub groups: Vec<EntryUse>,
    /// Highest price of one order.
    pub max_price: Amount,
    /// Highest number of orders within one second, of the last minute.
    pub orders_per_second: u32,
    /// Number of approved orders, with those that a power loss may have destroyed.
    pub approved: u64,
    /// Orders that were added or changed since the last report.
    pub changed: Vec<Intent>,
}

/// Part of the state that concerns sharing.
#[derive(Clone, Debug)]
pub(super) struct Sharing {
    /// Each group that the ledger has joined, and its first order that counts there. The last one
    /// is the current group.
    joined: Vec<(u64, Sequence)>,
    /// First order that counts against the shared `total`.
    pub(super) from: Sequence,
    /// Coins that count against the shared `total`.
    pub(super) spent: Amount,
    /// `true` if another bot may spend from the account, as the active one may while this one is a
    /// standby.
    pub(super) is_account_shared: bool,
    /// Coins that were missing when sharing ended, and still are: another bot may have spent them,
    /// so they are no evidence about the orders of this ledger.
    pub(super) missing: Amount,
    /// `None` without sharing.
    pub(super) allowance: Option<Box<Allowance>>,
    /// Orders that changed since the last report. May contain an order more than once.
    changed: Vec<Sequence>,
}

impl Sharing {
    pub(super) const fn new() -> Self {
        Self {
            joined: Vec::new(),
            from: Sequence(u64::MAX),
            spent: Amount::ZERO,
            is_account_shared: false,
            missing: Amount::ZERO,
            allowance: None,
            changed: Vec::new(),
        }
    }

    /// Remembers that an order changed. Does nothing without sharing.
    #[inline]
    pub(super) fn on_changed(&mut self, sequence: Sequence) {
        if self.allowance.is_some() && self.changed.len() < CHANGES_MAX {
            self.changed.push(sequence);
        }
    }

    /// Returns `true` if the ledger was ever a member of a group.
    pub(super) const fn has_joined(&self) -> bool {
        !self.joined.is_empty()
    }

    #[inline]
    pub(super) fn subtract(&mut self, sequence: Sequence, price: Amount) {
        if self.from <= sequence {
            self.spent = self.spent.saturating_sub(price);
        }
    }

    #[inline]
    pub(super) fn add(&mut self, sequence: Sequence, price: Amount) {
        if self.from <= sequence {
            self.spent = self.spent.saturating_add(price);
        }
    }
}

/// Hashes a text, the same on every machine and in every version: 64-bit FNV-1a.
pub fn stable_hash(text: &str) -> u64 {
    super::mark::fnv(text.bytes())
}

impl LedgerState {
    /// Counts against the budget of this group from now on, or from the time at which the ledger
    /// joined it before.
    pub(super) fn on_joined(&mut self, group: u64) {
        let known = self.sharing.joined.iter().position(|(joined, _from)| *joined == group);
        let entry = match known {
            Some(index) => self.sharing.joined.remove(index),
            None => (group, self.next_sequence()),
        };
        self.sharing.joined.push(entry);
        self.sharing.from = entry.1;
        self.sharing.spent = self.shared_spent();
    }

    /// Computes the coins that count against the shared `total`, from the orders.
    pub(super) fn shared_spent(&self) -> Amount {
        let newest_first = self.intents.iter().rev();
        let since = newest_first.take_while(|intent| self.sharing.from <= intent.sequence);
        since.fold(Amount::ZERO, |sum, intent| sum.saturating_add(intent.counted()))
    }

    /// Checks an order against the slices of a shared budget.
    #[inline]
    pub(super) fn check_allowance(
        &self,
        request: &OrderRequest,
        entry: EntryLimits,
        now: UnixMs,
    ) -> Result<(), RiskRejection> {
        match &self.sharing.allowance {
            None => Ok(()),
            Some(allowance) => self.check_slices(allowance, request, entry, now),
        }
    }

    #[inline(never)]
    fn check_slices(
        &self,
        allowance: &Allowance,
        request: &OrderRequest,
        entry: EntryLimits,
        now: UnixMs,
    ) -> Result<(), RiskRejection> {
        match allowance.permit {
            OrderPermit::Until(until) if now < until => {}
            OrderPermit::Until(until) => return Err(RiskRejection::NoContact { until }),
            OrderPermit::Starting => return Err(RiskRejection::NoSlice),
            OrderPermit::Standby => return Err(RiskRejection::Standby),
            OrderPermit::Rejected(reason) => return Err(RiskRejection::SharedRejected(reason)),
        }
        let (price, reserve) = (request.price, self.loss.coins);
        let total = self.sharing.spent.saturating_add(reserve);
        check_amount(SharedLimit::Total, total, price, allowance.total)?;
        if self.budget.per_hour.is_some() {
            let spent = self.hour.sum().saturating_add(reserve);
            check_amount(SharedLimit::PerHour, spent, price, allowance.per_hour)?;
        }
        if self.budget.per_day.is_some() {
            let spent = self.day.sum().saturating_add(reserve);
            check_amount(SharedLimit::PerDay, spent, price, allowance.per_day)?;
        }
        if entry.is_named {
            let slot = usize::try_from(entry.slot.0).unwrap_or(usize::MAX);
            let slice = allowance.entries.get(slot).copied().unwrap_or_default();
            let used = self.with_loss(self.entries.used(entry.slot));
            check_quantity(SharedLimit::EntryQuantity, used, slice)?;
            if entry.max_total.is_some() {
                check_amount(SharedLimit::EntryTotal, used.total, price, slice.total)?;
            }
        }
        let Some(position) = entry.group else { return Ok(()) };
        let (group, used) = self.entries.group(position).ok_or(RiskRejection::NoEntry)?;
        let used = self.with_loss(used);
        let slice = allowance.groups.iter().find(|(name, _slice)| *name == group.name);
        let slice = slice.map(|(_name, slice)| *slice).unwrap_or_default();
        if group.max_quantity.is_some() {
            check_quantity(SharedLimit::GroupQuantity, used, slice)?;
        }
        match group.max_total {
            Some(_max) => check_amount(SharedLimit::GroupTotal, used.total, price, slice.total),
            None => Ok(()),
        }
    }

    /// Returns the coins that the slices leave, zero without a permit; `None` without sharing.
    pub(super) fn slice_left(&self) -> Option<Amount> {
        let allowance = self.sharing.allowance.as_ref()?;
        if !matches!(allowance.permit, OrderPermit::Until(_)) {
            return Some(Amount::ZERO);
        }
        let left = |slice: Amount, used| slice.saturating_sub(self.loss.coins).saturating_sub(used);
        let windows = [
            self.budget.per_hour.map(|_max| left(allowance.per_hour, self.hour.sum())),
            self.budget.per_day.map(|_max| left(allowance.per_day, self.day.sum())),
        ];
        let total = left(allowance.total, self.sharing.spent);
        Some(windows.into_iter().flatten().fold(total, Amount::min).max(Amount::ZERO))
    }

    /// Adds the orders that a crash may have removed from the record.
    const fn with_loss(&self, used: EntryUsage) -> EntryUsage {
        EntryUsage {
            quantity: used.quantity.saturating_add(self.loss.count),
            total: used.total.saturating_add(self.loss.coins),
        }
    }
}

fn check_amount(
    limit: SharedLimit,
    spent: Amount,
    price: Amount,
    slice: Amount,
) -> Result<(), RiskRejection> {
    if exceeds(spent, price, slice) {
        return Err(RiskRejection::SharedAmount { limit, spent, price, slice });
    }
    Ok(())
}

const fn check_quantity(
    limit: SharedLimit,
    used: EntryUsage,
    slice: EntrySlice,
) -> Result<(), RiskRejection> {
    let (bought, slice) = (used.quantity, slice.quantity);
    if slice <= bought {
        return Err(RiskRejection::SharedQuantity { limit, bought, slice });
    }
    Ok(())
}

impl Ledger {
    /// Shares the budget with the other members of a group. Nothing is approved until
    /// [`set_allowance`](Self::set_allowance).
    pub fn share(&mut self, group: &str, now: UnixMs) {
        let group = stable_hash(group);
        if self.state.sharing.joined.last().is_none_or(|(last, _from)| *last != group) {
            let _effects = self.record_infallible(now, LedgerEvent::Joined { group });
            if let Some(journal) = &mut self.journal {
                journal.require_durable();
            }
        }
        let open = self.state.open.iter().copied();
        let newest = self.state.intents.iter().rev().map(|intent| intent.sequence);
        // The database may lack the newest ones.
        let mut changed: Vec<Sequence> = open.chain(newest).take(CHANGES_MAX).collect();
        changed.reserve_exact(CHANGES_MAX.saturating_sub(changed.len()));
        self.state.sharing.changed = changed;
        self.state.sharing.allowance = Some(Box::default());
    }

    /// Returns the permit of the last allowance; `None` without sharing.
    pub fn permit(&self) -> Option<OrderPermit> {
        self.state.sharing.allowance.as_ref().map(|allowance| allowance.permit)
    }

    /// Replaces the slices of a shared budget. Returns the old ones, so that another thread can
    /// free them. Has no effect unless the budget is shared.
    pub fn set_allowance(&mut self, allowance: Box<Allowance>) -> Option<Box<Allowance>> {
        let current = self.state.sharing.allowance.as_mut()?;
        let replaced = std::mem::replace(current, allowance);
        self.request_limit();
        Some(replaced)
    }

    /// Returns `true` once the durable limit on approvals is within the slices, so that a power
    /// loss counts no more than them.
    pub fn is_allowance_durable(&self) -> bool {
        self.journal.as_ref().is_none_or(|journal| !journal.is_lowering())
    }

    /// Sets whether another bot may spend from the account. While one may, a purchase that this
    /// ledger did not request is accepted, and a lower balance is no reason to halt.
    pub fn set_account_shared(&mut self, is_shared: bool, now: UnixMs) {
        if self.state.sharing.is_account_shared != is_shared {
            let event = LedgerEvent::AccountShared { is_shared };
            let _effects = self.record_infallible(now, event);
            let mut open = self.state.open_intents();
            if Amount::ZERO < self.state.sharing.missing
                && open.any(|intent| intent.state == OrderState::Unknown)
            {
                tracing::warn!(
                    "The account lacks {} that another bot may have spent, so its balance settles no \
                     unknown order: look them up on the market, then run `sniper ledger resolve`",
                    self.state.sharing.missing
                );
            }
        }
    }

    /// Returns `true` while another bot may spend from the account.
    pub const fn is_account_shared(&self) -> bool {
        self.state.sharing.is_account_shared
    }

    /// Accepts a purchase that another bot of the account requested.
    pub fn accept(&mut self, id: TradeId, now: UnixMs) {
        if !self.state.accepted.contains(&id) {
            let _effects = self.record_infallible(now, LedgerEvent::Accepted { id });
        }
    }

    /// Returns the usage of each shared limit, and the orders that changed since the last call.
    pub fn shared_usage(&mut self, now: UnixMs) -> SharedUsage {
        let state = &mut self.state;
        let age_now = state.age_now(now);
        for window in [&mut state.minute, &mut state.hour, &mut state.day] {
            window.advance(age_now);
        }
        let mut changed =
            std::mem::replace(&mut state.sharing.changed, Vec::with_capacity(CHANGES_MAX));
        changed.sort_unstable();
        changed.dedup();
        let state = &self.state;
        let (reserve, budget) = (state.loss.coins, &state.budget);
        let amount = |used: Amount, max| AmountUse { used: used.saturating_add(reserve), max };
        let with_loss = |used: EntryUse| EntryUse { used: state.with_loss(used.used), ..used };
        SharedUsage {
            total: amount(state.sharing.spent, budget.total),
            per_hour: budget.per_hour.map(|max| amount(state.hour.sum(), max)),
            per_day: budget.per_day.map(|max| amount(state.day.sum(), max)),
            entries: state.entries.named().map(with_loss).collect(),
            groups: state.entries.group_uses().map(with_loss).collect(),
            max_price: budget.max_price,
            orders_per_second: state.rate.max_over_last_minute(state.minute.latest()),
            approved: state.approved_totals().count,
            changed: changed.iter().filter_map(|sequence| state.at(*sequence).copied()).collect(),
        }
    }
}
