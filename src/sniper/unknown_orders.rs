//! Orders of unknown outcome, for the message at an early exit.

use std::fmt;

use super::{OrderSender, engine::Engine};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::unit, text::Escaped};

/// Maximum number of orders in the message.
pub const NAMED_MAX: usize = 20;

/// Orders of unknown outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnknownOrders {
    /// Id, item and price of the first [`NAMED_MAX`] orders without a response.
    pub pending: Vec<(String, String, Amount)>,
    /// Total number of orders without a response.
    pub pending_count: usize,
    /// Total price of the orders without a response.
    pub pending_coins: Amount,
    /// Number and total price of the orders of this or an earlier session whose final response left
    /// the outcome unknown.
    pub unknown: (u32, Amount),
}

impl<B: OrderSender> Engine<B> {
    /// Returns the orders of unknown outcome.
    pub fn unresolved(&mut self, now: UnixMs) -> UnknownOrders {
        let snapshot = self.ledger.snapshot(now);
        let mut pending: Vec<_> = self
            .pending
            .iter()
            .map(|(key, order)| (key.id.to_string(), order.item.name.clone(), order.price))
            .collect();
        pending.sort();
        let coins = pending.iter().map(|(_, _, price)| *price);
        let pending_coins = coins.fold(Amount::ZERO, Amount::saturating_add);
        let pending_count = pending.len();
        pending.truncate(NAMED_MAX);
        UnknownOrders {
            pending,
            pending_count,
            pending_coins,
            unknown: (snapshot.unknown, snapshot.unknown_coins),
        }
    }
}

impl UnknownOrders {
    /// Returns `true` if every outcome is known.
    pub const fn is_empty(&self) -> bool {
        self.pending_count == 0 && self.unknown.0 == 0
    }
}

impl fmt::Display for UnknownOrders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("Every order has a response.");
        }
        match self.pending_count {
            0 => f.write_str("No order is in flight.")?,
            1 => f.write_str("1 order has no response: ")?,
            count => write!(f, "{count} orders have no response: ")?,
        }
        for (place, (id, name, price)) in self.pending.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{price} \"{}\" (id {})", Escaped(name), Escaped(id))?;
        }
        match self.pending_count.saturating_sub(self.pending.len()) {
            0 => {}
            more => write!(f, " and {more} more")?,
        }
        if self.pending_count > 0 {
            write!(f, "; {} {} in total.", self.pending_coins, unit::name())?;
        }
        let (count, coins) = self.unknown;
        if count > 0 {
            write!(f, " {count} ended unknown, {coins} {} in total.", unit::name())?;
        }
        f.write_str(" They count as spent until your account shows the result.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_named_with_its_price_up_to_a_bound() {
        let order =
            |number: usize| (format!("id{number}"), "A\nB".to_owned(), Amount::from_cents(5));
        let mut unresolved = UnknownOrders::default();
        assert_eq!(unresolved.to_string(), "Every order has a response.");
        unresolved.pending = vec![order(1)];
        unresolved.pending_count = 1;
        unresolved.pending_coins = Amount::from_cents(5);
        assert_eq!(
            unresolved.to_string(),
            "1 order has no response: 0.05 \"A\\u{a}B\" (id id1); 0.05 coins in total. They count as \
             spent until your account shows the result."
        );
        unresolved.pending = (0..NAMED_MAX).map(order).collect();
        unresolved.pending_count = NAMED_MAX + 2;
        unresolved.unknown = (1, Amount::from_cents(100));
        let text = unresolved.to_string();
        assert!(text.starts_with("22 orders have no response: "), "{text}");
        assert!(text.contains(" and 2 more; "), "{text}");
        assert!(text.contains(" 1 ended unknown, 1.00 coins in total."), "{text}");
    }
}
