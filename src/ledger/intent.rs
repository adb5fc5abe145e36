//! What a book holds: intents, halts, losses; and how an event can fail to fit them. Pure.

use super::event::{EntrySlot, HaltReason, OrderState, Sequence};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::trade::TradeId};

/// One intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Its number.
    pub sequence: Sequence,
    /// The listing.
    pub id: TradeId,
    /// What was approved.
    pub approved: Amount,
    /// What counts against the limits: the most that it can have cost.
    pub price: Amount,
    /// The least that it can have cost.
    pub charged: Amount,
    /// What the account's own list says that it cost, where it does.
    pub listed: Option<Amount>,
    /// For which whitelist entry.
    pub entry: EntrySlot,
    /// Under which limits.
    pub limits: u32,
    /// Where it stands.
    pub state: OrderState,
    /// When it was approved.
    pub reserved_at: UnixMs,
    /// When it came to stand there.
    pub changed_at: UnixMs,
}

impl Intent {
    /// What the account's own list says that it cost, where that is less than what counts.
    pub fn lower_price(&self) -> Option<Amount> {
        let listed = self.listed.filter(|_listed| self.state.is_charged());
        listed.filter(|listed| Amount::ZERO < *listed && *listed < self.price)
    }

    /// What stands where there is none yet.
    pub(super) const FILLER: Self = Self {
        sequence: Sequence(u64::MAX),
        id: TradeId::FILLER,
        approved: Amount::ZERO,
        price: Amount::ZERO,
        charged: Amount::ZERO,
        listed: None,
        entry: EntrySlot::ANY,
        limits: 0,
        state: OrderState::NotSent,
        reserved_at: UnixMs(0),
        changed_at: UnixMs(0),
    };
}

/// A halt that is latched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halt {
    /// Since when.
    pub at: UnixMs,
    /// Why; of several of one cause the latest.
    pub reason: HaltReason,
    /// How often its cause came up.
    pub count: u32,
}

/// An order that moved to another state other than by its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The listing.
    pub id: TradeId,
    /// Where it stood.
    pub from: OrderState,
    /// Where it stands.
    pub to: OrderState,
    /// What counts, or counted, against the limits.
    pub price: Amount,
}

/// What power loss may have made the ledger forget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashLoss {
    /// How many coins may have been spent unrecorded.
    pub coins: Amount,
    /// How many buys may have been sent unrecorded.
    pub count: u32,
    /// Since when it is known.
    pub since: UnixMs,
    /// What was lost was not approved before this.
    pub not_before: UnixMs,
}

/// All that was ever approved, or may have been: it only grows, whatever became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApprovedTotals {
    /// Coins.
    pub coins: Amount,
    /// Buys.
    pub count: u64,
}

impl ApprovedTotals {
    /// This much more.
    #[must_use]
    pub const fn plus(self, coins: Amount, count: u32) -> Self {
        #[expect(clippy::as_conversions, reason = "a wider type; `from` is not const")]
        let count = count as u64;
        Self { coins: self.coins.saturating_add(coins), count: self.count.saturating_add(count) }
    }

    /// Whether this is within a bound, in coins and in number.
    pub fn is_within(self, bound: Self) -> bool {
        self.coins <= bound.coins && self.count <= bound.count
    }
}

/// An event that does not fit the book that it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransition {
    /// It speaks of an intent that the book does not hold.
    #[error("an event about intent {0}, which does not exist")]
    NoSuchIntent(Sequence),
    /// The intent's number is not the next one.
    #[error("intent {found} where {expected} should be")]
    OutOfOrder {
        /// The number that should come.
        expected: Sequence,
        /// The number that came.
        found: Sequence,
    },
    /// A listing that was requested already.
    #[error("a second intent, {0}, for one listing")]
    RequestedTwice(Sequence),
    /// The intent is in a state from which there is no such step.
    #[error("intent {sequence} is {from} and cannot become {to}")]
    NoSuchStep {
        /// Which intent.
        sequence: Sequence,
        /// Where it stands.
        from: OrderState,
        /// Where it should go.
        to: OrderState,
    },
    /// The intent is in a state from which nothing may stop it from counting in this way.
    #[error("intent {sequence} is {from} and cannot be released so")]
    NotReleased {
        /// Which intent.
        sequence: Sequence,
        /// Where it stands.
        from: OrderState,
    },
    /// A running sum is not the sum of what it is about.
    #[error("the books do not add up: {0}")]
    Sum(&'static str),
}
