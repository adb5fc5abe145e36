//! Order that the ledger has approved, the only input of the order client. Pure.

use super::event::Sequence;
use crate::{domain::money::Amount, domain::trade::TradeId};

/// Order that the ledger has counted against the limits. Only these can be sent, and each only
/// once.
#[derive(Debug)]
#[must_use = "an approved order counts as spent until it is settled"]
pub struct ApprovedOrder {
    sequence: Sequence,
    id: TradeId,
    price: Amount,
}

impl ApprovedOrder {
    /// Creates the order. Reserved for [`Ledger::reserve`](super::Ledger::reserve), which counts
    /// it.
    pub(super) const fn new(sequence: Sequence, id: TradeId, price: Amount) -> Self {
        Self { sequence, id, price }
    }

    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    pub const fn id(&self) -> &TradeId {
        &self.id
    }

    /// Returns the approved price, the most that the order may cost.
    pub const fn price(&self) -> Amount {
        self.price
    }
}
