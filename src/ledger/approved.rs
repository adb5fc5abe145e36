//! The one thing that the buyer takes: a buy that the ledger has counted. Pure.

use super::event::Sequence;
use crate::{domain::money::Amount, domain::trade::TradeId};

/// A buy that the ledger has counted. Nothing else can be sent, and it can be sent once.
#[derive(Debug)]
#[must_use = "an approved buy counts as spent until it is settled"]
pub struct ApprovedOrder {
    sequence: Sequence,
    id: TradeId,
    price: Amount,
}

impl ApprovedOrder {
    /// Says that the ledger has counted it. Only [`Ledger::reserve`](super::Ledger::reserve) may.
    pub(super) const fn new(sequence: Sequence, id: TradeId, price: Amount) -> Self {
        Self { sequence, id, price }
    }

    /// Its number in the ledger.
    pub const fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The listing.
    pub const fn id(&self) -> &TradeId {
        &self.id
    }

    /// What it may cost.
    pub const fn price(&self) -> Amount {
        self.price
    }
}
