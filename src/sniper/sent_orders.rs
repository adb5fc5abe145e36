//! Work that follows the request of an order: its state and item in the ledger, its log line, and
//! the statistics.
//!
//! The order path only copies the listing. The rest is done at the next access to the engine that
//! is not a listing, so that it does not delay the orders that follow in the same read. Until then
//! the ledger has it as reserved, which counts against every limit as sent does.

use super::{
    OrderSender,
    engine::{Candidate, Engine, Now, PendingOrder},
    held::HeldListing,
    trade_log::{self, MatchedEntry},
};
use crate::{
    domain::latency::LatencyBreakdown,
    domain::money::Amount,
    domain::trade::Trade,
    ledger::{Effects, OrderedItem, OrderedReference},
    prices::ComparedReference,
    whitelist::WhitelistEntry,
};

/// Order whose request was written, with its listing.
#[derive(Debug)]
pub(super) struct SentOrder {
    pub(super) listing: HeldListing,
    pub(super) price: Amount,
    pub(super) steps: LatencyBreakdown,
    /// `true` if the listing comes from the queue.
    pub(super) was_queued: bool,
    pub(super) sent: Now,
}

impl<B: OrderSender> Engine<B> {
    /// Returns `true` if [`finish_sent_orders`](Self::finish_sent_orders) has work.
    pub(super) fn has_sent_orders(&self) -> bool {
        !self.sent_orders.is_empty()
    }

    /// Records and logs the orders that were sent since the last call.
    pub fn finish_sent_orders(&mut self) {
        while let Some(order) = self.sent_orders.pop_front() {
            self.finish_sent_order(&order);
        }
    }

    fn finish_sent_order(&mut self, order: &SentOrder) {
        let SentOrder { listing: HeldListing { trade, entry }, price, steps, .. } = order;
        let (entry, price, steps, now) = (*entry, *price, *steps, order.sent);
        let key = self.keyed_by.key(trade.id, Some(price));
        self.update_ledger(|ledger| ledger.sent(&key, now.wall).map(|()| Effects::default()));
        self.stats.latency.record(steps.total());
        let matched = self.matched(trade, entry, now);
        trade_log::order_sent(trade, &matched, &steps, order.was_queued);
        let item = ordered_item(trade, &matched);
        // If the queue is full, the order has no item.
        let _is_queued = self.ledger.record_item(&key, item.clone());
        self.pending.insert(key, PendingOrder { item, price, steps });
        let candidate = Candidate { trade, entry, since: now.instant, is_queued: order.was_queued };
        self.remember_order(candidate, price, Some(steps.total()), now);
    }
}

fn ordered_item(trade: &Trade<'_>, matched: &MatchedEntry<'_>) -> OrderedItem {
    let MatchedEntry { entry, reference, margin } = *matched;
    let float = match (trade.float, trade.float_range) {
        (Some(float), _) => Some(float.to_string()),
        (None, Some((min, max))) => Some(format!("{min} to {max}")),
        (None, None) => None,
    };
    OrderedItem {
        name: trade.full_name().into_owned(),
        wear: trade.wear,
        float,
        entry: entry.map_or_else(String::new, |entry| entry.label().to_owned()),
        reference: reference.and_then(|decided| ordered_reference(entry?, decided)),
        margin,
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
