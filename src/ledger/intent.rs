//! Contents of a ledger state: intents, halts and crash losses, and the errors of applying an
//! event. Pure.

use super::{
    entries::EntryUsage,
    event::{EntrySlot, HaltReason, OrderState, Sequence},
};
use crate::{
    domain::money::Amount,
    domain::own_order_id::OwnOrderId,
    domain::time::UnixMs,
    domain::trade::{KeyedBy, TradeId, TradeKey},
};

/// One order, from its approval on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    pub sequence: Sequence,
    pub id: TradeId,
    pub keyed_by: KeyedBy,
    /// Number of the previous intent for the same id.
    pub previous: Option<Sequence>,
    pub approved: Amount,
    /// Upper bound of the charged price; counts against the limits.
    pub price: Amount,
    /// Lower bound of the charged price.
    pub charged: Amount,
    /// Price in the account's own list, if reported.
    pub listed: Option<Amount>,
    /// Commission that the market kept when it returned the rest. It stays spent.
    pub kept: Amount,
    /// Whitelist entry that matched.
    pub entry: EntrySlot,
    /// Number of the limits in force at approval.
    pub limits: u32,
    /// Own id; `None` if the market accepts none, or if an earlier version derived it.
    pub own_id: Option<OwnOrderId>,
    pub state: OrderState,
    pub reserved_at: UnixMs,
    /// Time of the last change of the state, or of the price that the market reports.
    pub changed_at: UnixMs,
    /// Time of the last change of the state alone.
    pub state_since: UnixMs,
    /// Earliest time of a refund: no earlier list showed the order as cancelled.
    pub refund_since: UnixMs,
}

impl Intent {
    /// Creates an order that is approved at this time for at most this price.
    pub(super) const fn reserved(
        sequence: Sequence,
        id: TradeId,
        keyed_by: KeyedBy,
        price: Amount,
        at: UnixMs,
    ) -> Self {
        Self {
            sequence,
            id,
            keyed_by,
            previous: None,
            approved: price,
            price,
            charged: price,
            listed: None,
            kept: Amount::ZERO,
            entry: EntrySlot::ANY,
            limits: 0,
            own_id: None,
            state: OrderState::Reserved,
            reserved_at: at,
            changed_at: at,
            state_since: at,
            refund_since: at,
        }
    }

    /// Returns the key of the listing.
    pub const fn key(&self) -> TradeKey {
        self.keyed_by.key(self.id, Some(self.approved))
    }

    /// Returns `true` if this price in the account's list adds information: it was not listed
    /// before, or a response after that has named a lower one.
    pub(super) fn is_corrected_by(&self, listed: Amount) -> bool {
        self.listed != Some(listed) || Amount::ZERO < listed && self.charged != listed
    }

    /// Returns the price in the account's list if it is lower than the counted price.
    pub fn lower_price(&self) -> Option<Amount> {
        let listed = self.listed.filter(|_listed| self.state.is_charged());
        listed.filter(|listed| Amount::ZERO < *listed && *listed < self.price)
    }

    pub(super) fn expect_no_refund_before(&mut self, moment: UnixMs) {
        self.refund_since = self.refund_since.max(moment);
    }

    /// Returns the amount that counts as spent.
    pub const fn counted(&self) -> Amount {
        if self.state.counts() { self.price } else { self.kept }
    }

    /// Returns the usage of its whitelist entry. A commission counts, but not as an item.
    pub(super) fn usage(&self) -> EntryUsage {
        EntryUsage { quantity: u32::from(self.state.counts()), total: self.counted() }
    }

    /// Placeholder for preallocated capacity.
    pub(super) const FILLER: Self =
        Self::reserved(Sequence(u64::MAX), TradeId::FILLER, KeyedBy::Id, Amount::ZERO, UnixMs(0));
}

/// Halt of ordering, which lasts until the operator resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Time of its first cause.
    pub at: UnixMs,
    /// The latest reason, if several share one cause.
    pub reason: HaltReason,
    /// Number of occurrences of its cause.
    pub count: u32,
}

impl Halt {
    /// Describes the halt with the untrusted name of its item, if it is known.
    pub fn with_item(&self, name: Option<&str>) -> String {
        let text = self.reason.with_item(name);
        match self.reason {
            HaltReason::UnexpectedPurchase { .. } if 1 < self.count => {
                format!("{text} and {} more, which are in the log", self.count.saturating_sub(1))
            }
            _ => text,
        }
    }
}

/// State change that did not come from the order's own response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub id: TradeId,
    pub from: OrderState,
    pub to: OrderState,
    /// Counted price of the order.
    pub price: Amount,
}

/// Upper bound of the orders that a crash may have removed from the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashLoss {
    /// Coins that may have been spent unrecorded.
    pub coins: Amount,
    /// Number of orders that may have been sent unrecorded.
    pub count: u32,
    /// Time at which the loss was found.
    pub since: UnixMs,
    /// Earliest time at which a lost order can have been approved.
    pub not_before: UnixMs,
}

/// Totals of all approvals, including possibly lost ones. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApprovedTotals {
    pub coins: Amount,
    pub count: u64,
}

impl ApprovedTotals {
    /// Adds coins and orders.
    #[must_use]
    pub const fn plus(self, coins: Amount, count: u32) -> Self {
        #[expect(clippy::as_conversions, reason = "a wider type; `from` is not const")]
        let count = count as u64;
        Self { coins: self.coins.saturating_add(coins), count: self.count.saturating_add(count) }
    }

    /// Returns the higher coins and the higher count.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { coins: self.coins.max(other.coins), count: self.count.max(other.count) }
    }

    /// Returns the lower coins and the lower count.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { coins: self.coins.min(other.coins), count: self.count.min(other.count) }
    }

    /// Returns `true` if neither coins nor count exceed the bound.
    pub fn is_within(self, bound: Self) -> bool {
        self.coins <= bound.coins && self.count <= bound.count
    }
}

/// Limit on all approvals to make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRequest {
    pub wanted: ApprovedTotals,
    /// A durable limit above this one is lowered; `None` without sharing.
    pub max: Option<ApprovedTotals>,
}

/// Rejection of an event that contradicts the ledger state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransition {
    /// The event refers to an unknown intent.
    #[error("an event refers to order {0}, which does not exist")]
    NoSuchIntent(Sequence),
    /// The intent's number is not the next one.
    #[error("found order {found}, expected {expected}")]
    OutOfOrder { expected: Sequence, found: Sequence },
    /// The listing was requested before.
    #[error("order {0} is a second one for the same listing")]
    RequestedTwice(Sequence),
    /// The state does not allow this transition.
    #[error("order {sequence} is {from} and cannot become {to}")]
    NoSuchStep { sequence: Sequence, from: OrderState, to: OrderState },
    /// The state does not allow this release.
    #[error("order {sequence} is {from} and cannot be released this way")]
    NotReleased { sequence: Sequence, from: OrderState },
    /// A running sum differs from the recomputed one.
    #[error("the recorded and the computed sum differ: {0}")]
    Sum(&'static str),
}

/// Numbers and prices of the orders that reconciliation may still change, kept with each change of
/// an order because snapshots are made often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenTotals {
    pub(super) unknown: u32,
    pub(super) unknown_coins: Amount,
    pub(super) returning: u32,
    pub(super) returning_coins: Amount,
    /// Orders that are bought and not delivered.
    pub(super) undelivered: u32,
    /// Part of the counted prices of charged orders, delivered ones included, that was not surely
    /// charged, because a response may have named a price that is too low.
    pub(super) uncertain: Amount,
}

impl OpenTotals {
    pub(super) fn add(&mut self, order: &Intent) {
        self.change(order, |count| count.saturating_add(1), Amount::saturating_add);
    }

    pub(super) fn subtract(&mut self, order: &Intent) {
        self.change(order, |count| count.saturating_sub(1), Amount::saturating_sub);
    }

    fn change(
        &mut self,
        order: &Intent,
        count: impl Fn(u32) -> u32,
        coins: impl Fn(Amount, Amount) -> Amount,
    ) {
        if order.state.is_charged() {
            self.uncertain = coins(self.uncertain, order.price.saturating_sub(order.charged));
        }
        match order.state {
            OrderState::Unknown => {
                self.unknown = count(self.unknown);
                self.unknown_coins = coins(self.unknown_coins, order.price);
            }
            OrderState::Returning => {
                self.returning = count(self.returning);
                self.returning_coins = coins(self.returning_coins, order.price);
            }
            OrderState::Bought => self.undelivered = count(self.undelivered),
            OrderState::Reserved
            | OrderState::Sent
            | OrderState::Rejected
            | OrderState::NotSent
            | OrderState::Completed
            | OrderState::Returned
            | OrderState::NotBought => {}
        }
    }
}
