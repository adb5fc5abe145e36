//! The last orders, matches and near misses of a session, for the dashboard. Pure.
//!
//! # Invariants
//!
//! 1. Memory is bounded for any input.
//! 2. Recording does not allocate: it happens in the thread of the feed, between two listings.
//! 3. Before the first reader, nothing is recorded.

use std::{cmp::Reverse, collections::VecDeque, fmt, ops::Deref, time::Duration};

use crate::{
    domain::money::Amount,
    domain::outcome::Outcome,
    domain::time::UnixMs,
    domain::trade::{Trade, TradeKey},
    ledger::{OrderState, StateChange},
    prices::PercentOfReference,
    text::truncated,
    whitelist::{Mismatch, WhitelistEntry},
};

/// Maximum number of kept orders, and of kept purchases.
pub const ORDERS_KEPT_MAX: usize = 50;
/// Maximum number of kept matches.
const MATCHES_KEPT_MAX: usize = 30;
/// Maximum number of kept near misses.
const NEAR_MISSES_KEPT_MAX: usize = 30;
/// Maximum length of a kept text, in bytes. Market names are shorter.
pub const TEXT_BYTES_MAX: usize = 120;

/// Text that is stored inline, cut at [`TEXT_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InlineText {
    len: u8,
    bytes: [u8; TEXT_BYTES_MAX],
}

impl InlineText {
    pub fn new(text: &str) -> Self {
        let text = truncated(text, TEXT_BYTES_MAX).as_bytes();
        let (mut bytes, len) = ([0; TEXT_BYTES_MAX], u8::try_from(text.len()).unwrap_or(0));
        if let Some(place) = bytes.get_mut(..text.len()) {
            place.copy_from_slice(text);
        }
        Self { len, bytes }
    }
}

impl Deref for InlineText {
    type Target = str;

    fn deref(&self) -> &str {
        let text = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

impl fmt::Display for InlineText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Debug for InlineText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An order of this session, or of a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentOrder {
    pub key: TradeKey,
    pub at: UnixMs,
    /// Untrusted text of the market.
    pub item: InlineText,
    /// Label of the entry.
    pub entry: InlineText,
    pub price: Amount,
    /// Receive-to-order latency; `None` in a dry run.
    pub latency: Option<Duration>,
    /// Time from the request to its response.
    pub response_time: Option<Duration>,
    pub result: OrderProgress,
}

/// State of an order for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderProgress {
    /// A dry run would have sent it.
    WouldBuy,
    /// Sent, without a response so far.
    Sent,
    /// Final response.
    Answered(Outcome),
    /// State that the account has shown after the response.
    Resolved(OrderState),
}

/// A listing that matched an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentMatch {
    pub at: UnixMs,
    /// Untrusted text of the market.
    pub item: InlineText,
    pub entry: InlineText,
    pub price: Option<Amount>,
    /// Maximum price of the entry.
    pub limit: Amount,
    /// Share of the reference price, for an entry with a percent rule.
    pub share: Option<PercentOfReference>,
    pub result: MatchResult,
}

/// Immediate result of a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchResult {
    Ordered,
    WouldBuy,
    /// The listing waits until it opens, or until an order can be sent.
    Waiting,
    Skipped(&'static str),
}

/// A listing that would have matched with a slightly wider bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    pub at: UnixMs,
    /// Untrusted text of the market.
    pub item: InlineText,
    /// Position of the entry in the whitelist.
    pub entry: usize,
    pub mismatch: Mismatch,
}

/// The last events of each kind, oldest first.
#[derive(Debug, Default)]
pub(super) struct Activity {
    orders: VecDeque<RecentOrder>,
    /// Orders that were or may have been bought. They have a queue of their own, so that rejected
    /// orders do not displace them.
    purchases: VecDeque<RecentOrder>,
    matches: VecDeque<RecentMatch>,
    near_misses: VecDeque<NearMiss>,
    /// `true` once there was a reader.
    is_observed: bool,
}

/// Adds an item, and drops the oldest one of a full queue.
fn push<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}

pub(super) fn item_name(trade: &Trade<'_>) -> InlineText {
    InlineText::new(&trade.full_name())
}

pub(super) fn entry_label(entry: Option<&WhitelistEntry>) -> InlineText {
    InlineText::new(entry.map_or("", WhitelistEntry::label))
}

impl Activity {
    /// Starts to record.
    pub(super) fn observe(&mut self) {
        if !std::mem::replace(&mut self.is_observed, true) {
            self.orders.reserve_exact(ORDERS_KEPT_MAX);
            self.purchases.reserve_exact(ORDERS_KEPT_MAX);
            self.matches.reserve_exact(MATCHES_KEPT_MAX);
            self.near_misses.reserve_exact(NEAR_MISSES_KEPT_MAX);
        }
    }

    #[inline]
    pub(super) const fn is_observed(&self) -> bool {
        self.is_observed
    }

    pub(super) fn add_order(&mut self, order: RecentOrder) {
        push(&mut self.orders, order, ORDERS_KEPT_MAX);
    }

    pub(super) fn add_purchase(&mut self, order: RecentOrder) {
        push(&mut self.purchases, order, ORDERS_KEPT_MAX);
    }

    pub(super) fn add_match(&mut self, found: RecentMatch) {
        push(&mut self.matches, found, MATCHES_KEPT_MAX);
    }

    pub(super) fn add_near_miss(
        &mut self,
        trade: &Trade<'_>,
        entry: usize,
        mismatch: Mismatch,
        at: UnixMs,
    ) {
        // Without the phase beside it, whose addition allocates.
        let item = InlineText::new(&trade.market_name);
        let miss = NearMiss { at, item, entry, mismatch };
        push(&mut self.near_misses, miss, NEAR_MISSES_KEPT_MAX);
    }

    pub(super) fn clear_near_misses(&mut self) {
        self.near_misses.clear();
    }

    /// Records the final response to an order.
    pub(super) fn set_outcome(&mut self, key: &TradeKey, outcome: &Outcome, took: Duration) {
        let Some(at) = self.orders.iter().rposition(|order| order.key == *key) else { return };
        if let Some(order) = self.orders.get_mut(at) {
            if let Outcome::Bought { price: Some(price), .. } = outcome {
                order.price = *price;
            }
            order.response_time = Some(took);
            order.result = OrderProgress::Answered(outcome.clone());
        }
        if matches!(outcome, Outcome::Bought { .. } | Outcome::Unknown(_))
            && let Some(order) = self.orders.remove(at)
        {
            push(&mut self.purchases, order, ORDERS_KEPT_MAX);
        }
    }

    /// Records a change that the account has shown.
    pub(super) fn record_change(&mut self, change: &StateChange) {
        let is_result = matches!(
            change.to,
            OrderState::Completed
                | OrderState::Returning
                | OrderState::Returned
                | OrderState::NotBought
        ) || (change.from, change.to) == (OrderState::Unknown, OrderState::Bought);
        let mut orders = self.purchases.iter_mut().rev().chain(self.orders.iter_mut().rev());
        if is_result && let Some(order) = orders.find(|order| order.key.id == change.id) {
            order.result = OrderProgress::Resolved(change.to);
        }
    }

    /// Returns the orders, newest first.
    pub(super) fn orders(&self) -> Vec<RecentOrder> {
        let all = self.orders.iter().rev().chain(self.purchases.iter().rev());
        let mut all: Vec<RecentOrder> = all.cloned().collect();
        all.sort_by_key(|order| Reverse(order.at));
        all
    }

    pub(super) fn matches(&self) -> Vec<RecentMatch> {
        self.matches.iter().rev().cloned().collect()
    }

    pub(super) fn near_misses(&self) -> Vec<NearMiss> {
        self.near_misses.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::outcome::{RejectReason, Unknown},
        domain::trade::{KeyedBy, TradeId},
        whitelist::tests::{REDLINE, trade},
    };

    fn order(id: &str) -> RecentOrder {
        let price = Amount::from_cents(1_000);
        RecentOrder {
            key: KeyedBy::Id.key(TradeId::new(id).unwrap(), Some(price)),
            at: UnixMs(0),
            item: InlineText::new(REDLINE),
            entry: InlineText::new("redline"),
            price,
            latency: None,
            response_time: None,
            result: OrderProgress::Sent,
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_comes_first() {
        let mut activity = Activity::default();
        activity.observe();
        for number in 0..ORDERS_KEPT_MAX + 9 {
            activity.add_order(order(&format!("t{number}")));
            let (trade, at) = (trade("a", REDLINE), UnixMs(number.try_into().unwrap()));
            activity.add_near_miss(&trade, 0, Mismatch::FloatUnknown, at);
        }
        assert_eq!(activity.orders().len(), ORDERS_KEPT_MAX);
        assert_eq!(activity.orders()[0].key.id.as_str(), "t58");
        assert_eq!(activity.near_misses().len(), NEAR_MISSES_KEPT_MAX);
        assert_eq!(activity.near_misses()[0].at, UnixMs(58));
    }

    #[test]
    fn recording_does_not_allocate() {
        let mut activity = Activity::default();
        activity.observe();
        let long = trade("a", &"★".repeat(200));
        let found = RecentMatch {
            at: UnixMs(0),
            item: item_name(&long),
            entry: entry_label(None),
            price: None,
            limit: Amount::ZERO,
            share: None,
            result: MatchResult::Ordered,
        };
        assert_eq!(&*found.item, "★".repeat(40));
        let one = order("a");
        let allocated = allocation_counter::measure(|| {
            for _ in 0..100 {
                activity.add_near_miss(&long, 0, Mismatch::Paused, UnixMs(0));
                activity.add_match(found.clone());
                activity.add_order(one.clone());
            }
        });
        assert_eq!(allocated.count_total, 0);
    }

    #[test]
    fn an_order_shows_its_response_and_what_the_account_shows_later() {
        let mut activity = Activity::default();
        activity.add_order(order("a"));
        let paid = Amount::from_cents(990);
        let bought = Outcome::Bought { price: Some(paid), server_time: None };
        let key = order("a").key;
        activity.set_outcome(&key, &bought, Duration::from_millis(3));
        let shown = activity.orders().remove(0);
        assert_eq!((shown.price, &shown.result), (paid, &OrderProgress::Answered(bought)));
        let change = |from, to| StateChange { id: key.id, from, to, price: paid };
        activity.record_change(&change(OrderState::Sent, OrderState::Bought));
        assert!(matches!(activity.orders()[0].result, OrderProgress::Answered(_)));
        activity.record_change(&change(OrderState::Bought, OrderState::Returned));
        assert_eq!(activity.orders()[0].result, OrderProgress::Resolved(OrderState::Returned));
    }

    #[test]
    fn lost_races_push_no_purchase_out() {
        let mut activity = Activity::default();
        activity.observe();
        let bought = Outcome::Bought { price: None, server_time: None };
        for (number, outcome) in [(0, &bought), (1, &Outcome::Unknown(Unknown::Cut))] {
            let order = RecentOrder { at: UnixMs(number), ..order(&format!("ours{number}")) };
            let key = order.key;
            activity.add_order(order);
            activity.set_outcome(&key, outcome, Duration::ZERO);
        }
        let allocated = allocation_counter::measure(|| {
            for number in 2..99 {
                let order = RecentOrder { at: UnixMs(number), ..order("lost") };
                let (key, taken) = (order.key, Outcome::Rejected(RejectReason::Taken));
                activity.add_order(order);
                activity.set_outcome(&key, &taken, Duration::ZERO);
            }
        });
        assert_eq!(allocated.count_total, 0);
        let shown = activity.orders();
        assert_eq!(shown.len(), ORDERS_KEPT_MAX + 2);
        assert!(shown.is_sorted_by_key(|order| Reverse(order.at)));
        let ids: Vec<_> =
            shown.iter().rev().take(2).map(|order| order.key.id.to_string()).collect();
        assert_eq!(ids, ["ours0", "ours1"]);
        let (from, to, price) = (OrderState::Unknown, OrderState::Bought, Amount::ZERO);
        activity.record_change(&StateChange { id: order("ours1").key.id, from, to, price });
        let shown = activity.orders();
        assert_eq!(shown[shown.len() - 2].result, OrderProgress::Resolved(OrderState::Bought));
    }
}
