//! Pre-trade check of an order against every limit, in constant time.
//!
//! Pure. The order of the checks decides only which limit is reported if several are violated:
//! first what forbids every order, then the limits of the listing, of its entry and group, of the
//! budget, and last those of a shared budget.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{
    allowance::SharedLimit,
    entries::EntryLimits,
    event::{LedgerEvent, OrderState, Sequence},
    state::{INTENTS_MAX, LedgerState, ORDERS_PER_ID_MAX, UNSENT_PER_ID_MAX},
};
use crate::{
    domain::money::Amount,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId, TradeKey},
};

/// Order that is submitted for approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRequest {
    pub id: TradeId,
    /// Fields that identify the listing on its market.
    pub keyed_by: KeyedBy,
    pub price: Amount,
    /// Position of the matching entry in the whitelist.
    pub entry: usize,
    /// Creation time of the listing by the server's clock, if known.
    pub created_at: Option<UnixMs>,
}

impl OrderRequest {
    /// Returns the key of the listing.
    pub const fn key(&self) -> TradeKey {
        self.keyed_by.key(self.id, Some(self.price))
    }
}

impl LedgerState {
    /// Checks an order. Nothing is reserved until the returned event is applied.
    ///
    /// # Errors
    ///
    /// Returns the first violated limit.
    pub fn approve(
        &mut self,
        request: &OrderRequest,
        now: UnixMs,
    ) -> Result<LedgerEvent, RiskRejection> {
        self.check_trading_state(now)?;
        self.check_listing(request)?;
        let entry = self.entries.limits(request.entry).ok_or(RiskRejection::NoEntry)?;
        self.check_entry(request.price, entry)?;
        self.check_budget(request.price, now)?;
        self.check_balance(request.price)?;
        self.check_rate(now)?;
        self.check_allowance(request, entry, now)?;
        let sequence = self.next_sequence();
        Ok(LedgerEvent::Reserved {
            sequence,
            id: request.id,
            keyed_by: request.keyed_by,
            price: request.price,
            entry: entry.slot,
            limits: self.limits,
            own_number: if self.has_own_ids {
                sequence.0.try_into().unwrap_or_default()
            } else {
                0
            },
        })
    }

    /// Checks what forbids every order.
    pub(crate) fn check_trading_state(&self, now: UnixMs) -> Result<(), RiskRejection> {
        if !self.halts.is_empty() {
            return Err(RiskRejection::Halted);
        }
        if !self.reconciled {
            return Err(RiskRejection::NotReconciled);
        }
        if now < self.paused_until {
            return Err(RiskRejection::Paused { until: self.paused_until });
        }
        let held = u32::try_from(self.intents.len()).unwrap_or(u32::MAX);
        if held >= INTENTS_MAX { Err(RiskRejection::Full { max: INTENTS_MAX }) } else { Ok(()) }
    }

    /// Returns `true` if an order may be possible without a balance below `min_balance`.
    pub(crate) fn has_spendable_coins(&self) -> bool {
        self.account.available_min().is_none_or(|left| self.budget.min_balance < left)
    }

    /// Returns `true` if a lost order may have been for this listing. For a listing without a time
    /// of creation this ends when the loss is resolved, because otherwise no such listing could be
    /// ordered again.
    fn may_be_lost(&self, request: &OrderRequest, barrier: UnixMs) -> bool {
        match request.created_at {
            Some(created) => created <= barrier,
            None => self.loss.count > 0 || Amount::ZERO < self.loss.coins,
        }
    }

    fn check_listing(&self, request: &OrderRequest) -> Result<(), RiskRejection> {
        self.check_earlier_orders(request)?;
        match self.barrier {
            Some(barrier) if self.may_be_lost(request, barrier) => {
                return Err(RiskRejection::BeforePowerLoss { barrier });
            }
            _ => {}
        }
        if request.price <= Amount::ZERO {
            return Err(RiskRejection::NoPrice { price: request.price });
        }
        let max = self.budget.max_price;
        if max < request.price {
            Err(RiskRejection::MaxPrice { price: request.price, max })
        } else {
            Ok(())
        }
    }

    /// Checks that no order has the same key, and that every earlier order for the id permits
    /// another. Orders of which no byte was sent have a bound of their own.
    fn check_earlier_orders(&self, request: &OrderRequest) -> Result<(), RiskRejection> {
        if request.keyed_by == KeyedBy::Id {
            // A listing was ordered again only if the order before it was not sent.
            return match self.intent(&request.id) {
                None => Ok(()),
                Some(last) if last.state == OrderState::NotSent && last.keyed_by == KeyedBy::Id => {
                    Ok(())
                }
                Some(_) => Err(RiskRejection::AlreadyRequested),
            };
        }
        let (mut sent, mut unsent, mut is_pending) = (0_u32, 0_u32, false);
        for earlier in self.orders_of(&request.id) {
            let state = earlier.state;
            let (count, max) = if state == OrderState::NotSent {
                (&mut unsent, UNSENT_PER_ID_MAX)
            } else if (state.permits_reorder() || state.is_pending())
                && earlier.keyed_by == KeyedBy::IdAndPrice
                && earlier.approved != request.price
            {
                (&mut sent, ORDERS_PER_ID_MAX)
            } else {
                return Err(RiskRejection::AlreadyRequested);
            };
            is_pending |= state.is_pending();
            *count = count.saturating_add(1);
            if max <= *count {
                return Err(RiskRejection::OrderedTooOften { max });
            }
        }
        if is_pending { Err(RiskRejection::OrderPending) } else { Ok(()) }
    }

    fn check_entry(&self, price: Amount, entry: EntryLimits) -> Result<(), RiskRejection> {
        let used = self.entries.used(entry.slot);
        let (bought, max) = (used.quantity.saturating_add(self.loss.count), entry.max_quantity);
        if max <= bought {
            return Err(RiskRejection::EntryQuantity { bought, max });
        }
        let spent = used.total.saturating_add(self.loss.coins);
        match entry.max_total {
            Some(max) if exceeds(spent, price, max) => {
                Err(RiskRejection::EntryTotal { spent, price, max })
            }
            _ => self.check_group(price, entry),
        }
    }

    /// Returns `true` if the limits of the entry at this position of the whitelist and of its group
    /// permit an order at `min_price` or above.
    pub fn can_order(&self, index: usize, min_price: Amount) -> bool {
        let price = min_price.max(Amount::from_thousandths(1));
        self.entries.limits(index).is_some_and(|entry| self.check_entry(price, entry).is_ok())
    }

    fn check_group(&self, price: Amount, entry: EntryLimits) -> Result<(), RiskRejection> {
        let Some(position) = entry.group else { return Ok(()) };
        let (group, used) = self.entries.group(position).ok_or(RiskRejection::NoEntry)?;
        let bought = used.quantity.saturating_add(self.loss.count);
        if let Some(max) = group.max_quantity.filter(|max| *max <= bought) {
            return Err(RiskRejection::GroupQuantity { bought, max });
        }
        let spent = used.total.saturating_add(self.loss.coins);
        match group.max_total {
            Some(max) if exceeds(spent, price, max) => {
                Err(RiskRejection::GroupTotal { spent, price, max })
            }
            _ => Ok(()),
        }
    }

    fn check_budget(&mut self, price: Amount, now: UnixMs) -> Result<(), RiskRejection> {
        let reserve = self.loss.coins;
        let (spent, max) = (self.spent.saturating_add(reserve), self.budget.total);
        if exceeds(spent, price, max) {
            return Err(RiskRejection::Total { spent, price, max });
        }
        self.hour.advance(self.age_now(now));
        let spent = self.hour.sum().saturating_add(reserve);
        if let Some(max) = self.budget.per_hour.filter(|max| exceeds(spent, price, *max)) {
            return Err(RiskRejection::PerHour { spent, price, max });
        }
        self.day.advance(self.age_now(now));
        let spent = self.day.sum().saturating_add(reserve);
        match self.budget.per_day {
            Some(max) if exceeds(spent, price, max) => {
                Err(RiskRejection::PerDay { spent, price, max })
            }
            _ => Ok(()),
        }
    }

    fn check_balance(&self, price: Amount) -> Result<(), RiskRejection> {
        let Some(balance) = self.account.available_min() else {
            return if self.balance_required { Err(RiskRejection::BalanceUnknown) } else { Ok(()) };
        };
        let min = self.budget.min_balance;
        if balance.saturating_sub(price) < min {
            return Err(RiskRejection::MinBalance { balance, price, min });
        }
        Ok(())
    }

    fn check_rate(&mut self, now: UnixMs) -> Result<(), RiskRejection> {
        self.minute.advance(self.age_now(now));
        let sent = self.minute.count().saturating_add(self.loss.count);
        let max = self.budget.max_buys_per_minute;
        if max <= sent {
            return Err(RiskRejection::PerMinute { sent, max });
        }
        let (in_flight, max) = (self.in_flight, self.budget.max_in_flight);
        if max <= in_flight { Err(RiskRejection::InFlight { in_flight, max }) } else { Ok(()) }
    }
}

/// Returns `true` if `spent` plus `price` exceeds `max` or overflows.
pub(super) fn exceeds(spent: Amount, price: Amount, max: Amount) -> bool {
    spent.checked_add(price).is_none_or(|sum| max < sum)
}

/// Order that the ledger has counted against the limits. Only these can be sent, and each only
/// once.
#[derive(Debug)]
#[must_use = "an approved order counts as spent until it is settled"]
pub struct ApprovedOrder {
    sequence: Sequence,
    key: TradeKey,
    price: Amount,
    own_id: Option<OwnOrderId>,
}

impl ApprovedOrder {
    /// Creates the order. Reserved for [`Ledger::reserve`](super::Ledger::reserve), which counts
    /// it.
    pub(super) const fn new(
        sequence: Sequence,
        key: TradeKey,
        price: Amount,
        own_id: Option<OwnOrderId>,
    ) -> Self {
        Self { sequence, key, price, own_id }
    }

    /// Returns the own id of the order; `None` if the market accepts none, or if the ledger is only
    /// in memory.
    pub const fn own_id(&self) -> Option<OwnOrderId> {
        self.own_id
    }

    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    pub const fn id(&self) -> &TradeId {
        &self.key.id
    }

    /// Returns the key of the listing, by which the outcome is reported.
    pub const fn key(&self) -> &TradeKey {
        &self.key
    }

    /// Returns the approved price, the most that the order may cost.
    pub const fn price(&self) -> Amount {
        self.price
    }
}

/// Limit that an order would violate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RiskRejection {
    /// Ordering is halted until the operator resumes it.
    #[error("ordering halted; to continue, run `sniper resume`")]
    Halted,
    /// The account has not been compared with the ledger since the start.
    #[error("the account is still being checked (about 1 s after each start)")]
    NotReconciled,
    /// The market requested a pause.
    #[error("ordering is paused until {until}")]
    Paused { until: UnixMs },
    /// The ledger cannot be written.
    #[error("the ledger is not writable; `sniper status` shows the cause")]
    Unwritable,
    /// The durable limit on approvals, or the intent file, has no capacity left for the moment.
    #[error("the ledger waits for the disk")]
    Behind,
    /// The ledger has reached its maximum number of intents.
    #[error("the ledger is full: {max} orders; start with `sniper run --live --new-ledger`")]
    Full { max: u32 },
    /// The listing was requested before. No listing is requested twice, nor at another price unless
    /// it was certainly not bought before.
    #[error("this listing was ordered before")]
    AlreadyRequested,
    /// The listing was requested at another price, and that order may still be bought.
    #[error("this listing was ordered at another price, and the outcome is not known yet")]
    OrderPending,
    /// The listing was requested at too many prices, or could not be sent too often.
    #[error("this listing was ordered {max} times before")]
    OrderedTooOften { max: u32 },
    /// The listing may have been requested before a power loss.
    #[error("created before {barrier}, so it may have been ordered before the power loss")]
    BeforePowerLoss {
        /// Only listings created after this moment are ordered.
        barrier: UnixMs,
    },
    /// The price is zero or negative.
    #[error("the price {price} is not positive")]
    NoPrice { price: Amount },
    #[error("price {price} is above max_price {max}")]
    MaxPrice { price: Amount, max: Amount },
    #[error("the whitelist entry is unknown to the ledger")]
    NoEntry,
    /// The entry's `max_quantity` is reached.
    #[error("its entry has reached max_quantity: {bought} of {max} bought or in flight")]
    EntryQuantity { bought: u32, max: u32 },
    /// The order would exceed the entry's `max_total`.
    #[error("{spent} spent and {price} more would exceed its entry's max_total {max}")]
    EntryTotal { spent: Amount, price: Amount, max: Amount },
    /// The `max_quantity` of the entry's group is reached.
    #[error("its group has reached max_quantity: {bought} of {max} bought or in flight")]
    GroupQuantity { bought: u32, max: u32 },
    /// The order would exceed the `max_total` of the entry's group.
    #[error("{spent} spent and {price} more would exceed its group's max_total {max}")]
    GroupTotal { spent: Amount, price: Amount, max: Amount },
    /// The order would exceed `total`.
    #[error("{spent} spent and {price} more would exceed total {max}")]
    Total { spent: Amount, price: Amount, max: Amount },
    /// The order would exceed `per_hour`.
    #[error("{spent} spent within an hour and {price} more would exceed per_hour {max}")]
    PerHour { spent: Amount, price: Amount, max: Amount },
    /// The order would exceed `per_day`.
    #[error("{spent} spent within a day and {price} more would exceed per_day {max}")]
    PerDay { spent: Amount, price: Amount, max: Amount },
    #[error("the balance is unknown")]
    BalanceUnknown,
    /// The order would lower the balance below `min_balance`.
    #[error("balance {balance} less {price} would fall below min_balance {min}")]
    MinBalance { balance: Amount, price: Amount, min: Amount },
    /// `max_buys_per_minute` is reached.
    #[error("{sent} orders within a minute, max_buys_per_minute is {max}")]
    PerMinute { sent: u32, max: u32 },
    /// `max_in_flight` is reached. The order may be retried while the listing is available.
    #[error("{in_flight} orders in flight, max_in_flight is {max}")]
    InFlight { in_flight: u32, max: u32 },
    /// The budget is shared, and the database has confirmed no slice since the start.
    #[error("the shared budget has not been confirmed yet (a few seconds after each start)")]
    NoSlice,
    /// The budget is shared, and the database has not answered for too long.
    #[error("no contact with the database of the shared budget; orders ended at {until}")]
    NoContact { until: UnixMs },
    /// Another member of the group is active.
    #[error("this bot is on standby")]
    Standby,
    /// The database rejects this member.
    #[error("the shared budget rejects this bot: {0}")]
    SharedRejected(&'static str),
    /// The order would exceed this member's slice of a shared amount.
    #[error("{price} does not fit into this bot's slice of {limit}: {spent} of {slice} spent")]
    SharedAmount { limit: SharedLimit, spent: Amount, price: Amount, slice: Amount },
    /// This member's slice of a shared quantity is used up.
    #[error("this bot's slice of {limit} is used up: {bought} of {slice} bought or in flight")]
    SharedQuantity { limit: SharedLimit, bought: u32, slice: u32 },
}

impl RiskRejection {
    /// Returns the limit's name, for counters and log lines.
    pub const fn name(&self) -> &'static str {
        self.words().0
    }

    /// Returns the text with its time in this format.
    pub fn with_time(&self, format: fn(UnixMs) -> String) -> String {
        let text = self.to_string();
        match *self {
            Self::Paused { until: at }
            | Self::NoContact { until: at }
            | Self::BeforePowerLoss { barrier: at } => text.replace(&at.to_string(), &format(at)),
            _ => text,
        }
    }

    /// Returns a description of listings that were skipped for this reason, for summaries.
    pub const fn summary(&self) -> &'static str {
        self.words().1
    }

    const fn words(&self) -> (&'static str, &'static str) {
        const LOST: &str = "may have been ordered before a power loss";
        const RATE: &str = "would exceed [budget] max_buys_per_minute";
        match self {
            Self::Halted => ("halted", "ordering was halted"),
            Self::NotReconciled => ("not_reconciled", "during the startup check of the account"),
            Self::Paused { .. } => ("paused", "ordering was paused by the market"),
            Self::Unwritable => ("ledger_unwritable", "the ledger was not writable"),
            Self::Behind => ("ledger_behind", "the ledger was waiting for the disk"),
            Self::Full { .. } => ("ledger_full", "the ledger was full"),
            Self::AlreadyRequested => ("already_requested", "ordered before"),
            Self::OrderPending => ("order_pending", "during an order at another price"),
            Self::OrderedTooOften { .. } => ("repriced_too_often", "ordered too often"),
            Self::BeforePowerLoss { .. } => ("before_power_loss", LOST),
            Self::NoPrice { .. } => ("no_price", "no price"),
            Self::MaxPrice { .. } => ("max_price", "would exceed [budget] max_price"),
            Self::NoEntry => ("no_entry", "the entry is not in the ledger"),
            Self::EntryQuantity { .. } => {
                ("max_quantity", "would exceed max_quantity of the entry")
            }
            Self::EntryTotal { .. } => ("max_total", "would exceed max_total of the entry"),
            Self::GroupQuantity { .. } => {
                ("group_max_quantity", "would exceed its group's max_quantity")
            }
            Self::GroupTotal { .. } => ("group_max_total", "would exceed max_total of the group"),
            Self::Total { .. } => ("total", "would exceed [budget] total"),
            Self::PerHour { .. } => ("per_hour", "would exceed [budget] per_hour"),
            Self::PerDay { .. } => ("per_day", "would exceed [budget] per_day"),
            Self::BalanceUnknown => ("balance_unknown", "the balance was unknown"),
            Self::MinBalance { .. } => ("min_balance", "would go below [budget] min_balance"),
            Self::PerMinute { .. } => ("max_buys_per_minute", RATE),
            Self::InFlight { .. } => ("max_in_flight", "would exceed [budget] max_in_flight"),
            Self::NoSlice => ("shared_starting", "the shared budget was not confirmed yet"),
            Self::NoContact { .. } => ("shared_no_contact", "no contact with the shared budget"),
            Self::Standby => ("standby", "this bot was on standby"),
            Self::SharedRejected(_) => ("shared_refused", "the shared budget rejected this bot"),
            Self::SharedAmount { limit, .. } | Self::SharedQuantity { limit, .. } => limit.words(),
        }
    }

    /// Returns `true` if the same order may be approved a moment later without any intervention.
    /// Halts and all limits but `max_in_flight` and the slices of a shared budget, which an
    /// exchange raises, are final, even if time or another order's outcome would lift them. A pause
    /// is final too, because the listings that waited for its end would exceed the market's rate
    /// limit at once.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::NotReconciled
            | Self::BalanceUnknown
            | Self::Unwritable
            | Self::Behind
            | Self::NoSlice
            | Self::SharedAmount { .. }
            | Self::SharedQuantity { .. }
            | Self::OrderPending
            | Self::InFlight { .. } => true,
            Self::Halted
            | Self::Paused { .. }
            | Self::Full { .. }
            | Self::AlreadyRequested
            | Self::OrderedTooOften { .. }
            | Self::BeforePowerLoss { .. }
            | Self::NoPrice { .. }
            | Self::MaxPrice { .. }
            | Self::NoEntry
            | Self::EntryQuantity { .. }
            | Self::EntryTotal { .. }
            | Self::GroupQuantity { .. }
            | Self::GroupTotal { .. }
            | Self::Total { .. }
            | Self::PerHour { .. }
            | Self::PerDay { .. }
            | Self::MinBalance { .. }
            | Self::PerMinute { .. }
            | Self::NoContact { .. }
            | Self::Standby
            | Self::SharedRejected(_) => false,
        }
    }
}
