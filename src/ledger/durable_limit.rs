//! How much may be approved before the disk has heard of it.
//!
//! Pure. No approval waits for a disk sync, so power loss may make the ledger forget the last few.
//! Therefore a slice of the budget is leased ahead: a ceiling on all that was ever approved
//! ([`ApprovedTotals`]) is made durable first, and nothing is approved beyond it. After power loss the
//! difference between the ceiling and what is on record is what may have been spent unrecorded,
//! and counts as spent ([`Event::Lost`](super::event::Event::Lost)).
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{intent::ApprovedTotals, state::LedgerState};
use crate::domain::money::Amount;

/// How many times what may be in flight at once is leased ahead.
const AHEAD: u32 = 2;

impl LedgerState {
    /// The ceiling that lets buying go on without waiting: all that is in flight may be followed
    /// by as much again, but never by more than the limits would still allow.
    pub fn ceiling(&self) -> ApprovedTotals {
        let buys = self.budget.max_in_flight.saturating_mul(AHEAD);
        let dearest = self.budget.max_price.cents().saturating_mul(i64::from(buys));
        let spent = self.spent.saturating_add(self.loss.coins);
        let left = self.budget.total.saturating_sub(spent).max(Amount::ZERO);
        // What is not yet settled may come back.
        let allowed = left.saturating_add(self.account.open_coins());
        self.exposure.plus(allowed.min(Amount::from_cents(dearest)), buys)
    }

    /// All that was ever approved.
    pub const fn exposure(&self) -> ApprovedTotals {
        self.exposure
    }
}

/// What may have been approved beyond what is on record.
pub(super) fn unrecorded(ceiling: ApprovedTotals, recorded: ApprovedTotals) -> (Amount, u32) {
    let coins = ceiling.coins.saturating_sub(recorded.coins).max(Amount::ZERO);
    let count = ceiling.count.saturating_sub(recorded.count);
    (coins, u32::try_from(count).unwrap_or(u32::MAX))
}
