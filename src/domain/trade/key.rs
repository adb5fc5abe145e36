//! Key of a listing, for which at most one order is ever sent. Pure.

use std::hash::{Hash, Hasher};

use super::{Trade, TradeId};
use crate::domain::money::Amount;

/// Fields that identify a listing on a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyedBy {
    /// The price of a listing never changes: a new price comes with a new id.
    Id,
    /// The market changes the price of a listing under the same id.
    IdAndPrice,
}

/// Key of a listing: its id, and its price where the market [changes it](KeyedBy::IdAndPrice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TradeKey {
    pub id: TradeId,
    /// `None` if the id alone is the key, or if the price is unknown.
    pub price: Option<Amount>,
}

impl KeyedBy {
    #[inline]
    pub const fn key(self, id: TradeId, price: Option<Amount>) -> TradeKey {
        match self {
            Self::Id => TradeKey { id, price: None },
            Self::IdAndPrice => TradeKey { id, price },
        }
    }

    #[inline]
    pub const fn key_of(self, trade: &Trade<'_>) -> TradeKey {
        self.key(trade.id, trade.total_value)
    }
}

/// Hashes a key without a price like its id.
impl Hash for TradeKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
        if let Some(price) = self.price {
            state.write_u8(1);
            price.hash(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn distinct(keyed_by: KeyedBy, listings: &[(&str, Option<i64>)]) -> usize {
        let key = |(id, price): &(&str, Option<i64>)| {
            keyed_by.key(TradeId::new(id).unwrap(), price.map(Amount::from_cents))
        };
        listings.iter().map(key).collect::<HashSet<_>>().len()
    }

    #[test]
    fn a_price_belongs_to_the_key_only_where_a_market_changes_it() {
        let listings =
            [("a", Some(1)), ("a", Some(1)), ("a", Some(2)), ("a", None), ("b", Some(1))];
        assert_eq!(distinct(KeyedBy::Id, &listings), 2);
        assert_eq!(distinct(KeyedBy::IdAndPrice, &listings), 4);
    }

    #[test]
    fn spellings_of_an_id_have_one_key() {
        let listings =
            [("VHJhZGU6MQ", Some(1)), ("VHJhZGU6MQ==", Some(1)), ("VHJhZGU6MR", Some(1))];
        assert_eq!(distinct(KeyedBy::Id, &listings), 1);
        assert_eq!(distinct(KeyedBy::IdAndPrice, &listings), 1);
    }
}
