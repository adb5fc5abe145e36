//! Stores the item and the reference price of each order in the ledger, after the order.
//!
//! The order path only copies the values. They are formatted at the next report about an order or
//! at the next tick, so that this does not delay the orders that follow.

use super::{OrderSender, engine::Engine, trade_log::MatchedEntry};
use crate::{
    domain::item_name::Wear,
    domain::money::Percent,
    domain::trade::{PaintWear, Trade},
    ledger::{OrderedItem, OrderedReference},
    prices::ComparedReference,
    whitelist::WhitelistEntry,
};

/// Values of a listing and of its entry at the time of the order.
#[derive(Clone, Copy, Debug)]
pub(super) struct ItemValues {
    /// Index of the whitelist entry.
    entry: usize,
    wear: Option<Wear>,
    float: Option<PaintWear>,
    float_range: Option<(PaintWear, PaintWear)>,
    reference: Option<ComparedReference>,
    margin: Option<Percent>,
}

impl ItemValues {
    pub(super) const fn of(trade: &Trade<'_>, entry: usize, matched: &MatchedEntry<'_>) -> Self {
        let Trade { wear, float, float_range, .. } = *trade;
        Self {
            entry,
            wear,
            float,
            float_range,
            reference: matched.reference,
            margin: matched.margin,
        }
    }

    /// Updates the index for another whitelist. `moved` has the position there of each entry of the
    /// whitelist before.
    pub(super) fn move_entry(&mut self, moved: &[Option<usize>]) {
        // An entry that was removed has no label.
        self.entry = moved.get(self.entry).copied().flatten().unwrap_or(usize::MAX);
    }
}

impl<B: OrderSender> Engine<B> {
    /// Stores the items of the orders that were sent since the last call.
    pub(super) fn record_items(&mut self) {
        while let Some(key) = self.unrecorded.pop() {
            let Some(order) = self.pending.get(&key) else { continue };
            let item = self.ordered_item(&order.market_name, &order.item);
            // If the queue is full, the order has no item.
            let _is_queued = self.ledger.record_item(&key, item);
        }
    }

    pub(super) fn ordered_item(&self, name: &str, values: &ItemValues) -> OrderedItem {
        let ItemValues { wear, margin, .. } = *values;
        let entry = self.whitelist.entries().get(values.entry);
        let float = match (values.float, values.float_range) {
            (Some(float), _) => Some(float.to_string()),
            (None, Some((min, max))) => Some(format!("{min} to {max}")),
            (None, None) => None,
        };
        OrderedItem {
            name: name.to_owned(),
            wear,
            float,
            entry: entry.map_or_else(String::new, |entry| entry.label().to_owned()),
            reference: values.reference.and_then(|decided| ordered_reference(entry?, decided)),
            margin,
        }
    }
}

fn ordered_reference(
    entry: &WhitelistEntry,
    decided: ComparedReference,
) -> Option<OrderedReference> {
    let ComparedReference { share, side, currency } = decided;
    let position = share.reference.position();
    let source = &entry.percent.as_ref()?.references.get(position)?.source;
    let (price, coin) = share.reference.parts();
    Some(OrderedReference {
        name: format!("{source}.{}", side.as_str()),
        price,
        currency,
        coin,
        percent: share.reference.percent(share.price),
    })
}
