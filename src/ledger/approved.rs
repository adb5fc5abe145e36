//! Order that the ledger has approved, the only input of the order client. Pure.

use super::event::Sequence;
use crate::{
    domain::money::Amount,
    domain::trade::{TradeId, TradeKey},
};

/// Order that the ledger has counted against the limits. Only these can be sent, and each only
/// once.
#[derive(Debug)]
#[must_use = "an approved order counts as spent until it is settled"]
pub struct ApprovedOrder {
    sequence: Sequence,
    key: TradeKey,
    price: Amount,
}

impl ApprovedOrder {
    /// Creates the order. Reserved for [`Ledger::reserve`](super::Ledger::reserve), which counts
    /// it.
    pub(super) const fn new(sequence: Sequence, key: TradeKey, price: Amount) -> Self {
        Self { sequence, key, price }
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
