//! Durable limit on approvals that are not yet on disk.
//!
//! Pure. No approval waits for a disk sync, so the ledger may lose its last records in a power
//! loss. Therefore a limit on all approvals ([`ApprovedTotals`]) is made durable in advance, and
//! nothing is approved beyond it. After a power loss the difference between that limit and the
//! recorded approvals may have been spent unrecorded, and counts as spent
//! ([`LedgerEvent::Lost`](super::event::LedgerEvent::Lost)).
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{intent::ApprovedTotals, state::LedgerState};
use crate::domain::money::Amount;

/// Headroom of the limit, as a multiple of the orders that may be in flight at once.
const HEADROOM_FACTOR: u32 = 2;

impl LedgerState {
    /// Returns the limit to request so that approvals never wait: everything in flight may be
    /// followed by as much again, bounded by the remaining budget.
    pub fn limit_to_request(&self) -> ApprovedTotals {
        let orders = self.budget.max_in_flight.saturating_mul(HEADROOM_FACTOR);
        let coins_max = self.budget.max_price.saturating_mul(i64::from(orders));
        let spent = self.spent.saturating_add(self.loss.coins);
        let remaining = self.budget.total.saturating_sub(spent).max(Amount::ZERO);
        // Orders that are not settled yet may free their price.
        let allowed = remaining.saturating_add(self.account.open_coins());
        self.approved_totals.plus(allowed.min(coins_max), orders)
    }

    /// Returns the totals of all approvals so far.
    pub const fn approved_totals(&self) -> ApprovedTotals {
        self.approved_totals
    }
}

/// Returns the coins and the number of orders that may have been approved without being recorded.
pub(super) fn unrecorded(limit: ApprovedTotals, recorded: ApprovedTotals) -> (Amount, u32) {
    let coins = limit.coins.saturating_sub(recorded.coins).max(Amount::ZERO);
    let count = limit.count.saturating_sub(recorded.count);
    (coins, u32::try_from(count).unwrap_or(u32::MAX))
}
