//! Record of what happened on a simulated market, for tests and summaries. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::faults;
use crate::{domain::money::Amount, domain::trade::TradeStatus};

/// Maximum number of stored listings without an order; older ones are only counted.
const UNORDERED_MAX: usize = 100_000;
/// Maximum number of stored orders for unknown or evicted listings; further ones are dropped.
const UNMATCHED_MAX: usize = 10_000;

/// The history of a market. All times are relative to its opening.
#[derive(Clone, Debug, Default)]
pub struct MarketHistory {
    /// Listings without an order or a purchase, of which the oldest are evicted.
    evictable: BTreeMap<u64, ListingRecord>,
    /// Listings with an order or a purchase, which are never evicted.
    retained: BTreeMap<u64, ListingRecord>,
    unmatched: Vec<(String, OrderRecord)>,
    /// Total number of listings.
    pub listed: u64,
    /// Number of listings with [`ListingRecord::wanted`].
    pub wanted_count: u64,
    /// Current balance of the account.
    pub balance: Amount,
}

/// History of one listing.
#[derive(Clone, Debug)]
pub struct ListingRecord {
    pub id: String,
    pub market_name: String,
    pub price: Amount,
    /// Name of the demo whitelist entry for which it was generated; `practice` in a practice run.
    pub wanted: Option<&'static str>,
    pub listed_at: Duration,
    /// Earliest time at which it could be joined.
    pub can_join_at: Duration,
    /// Time and reason of its closing.
    pub closed: Option<(Duration, CloseReason)>,
    /// The account's purchase of it.
    pub purchase: Option<PurchaseRecord>,
    /// All orders for it.
    pub orders: Vec<OrderRecord>,
}

/// Reason for which a listing was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Bought by the account.
    Bought,
    /// Bought by a rival.
    BoughtByRival,
    /// Expired, or cancelled by the seller.
    Expired,
}

/// A purchase of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurchaseRecord {
    pub at: Duration,
    /// The price paid, which a fault can raise above the listed one.
    pub price: Amount,
    pub status: TradeStatus,
    pub cancelled_at: Option<Duration>,
    /// Time at which the coins were credited again after a cancellation.
    pub refunded_at: Option<Duration>,
}

/// An order as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderRecord {
    /// Time at which its last byte had been read.
    pub at: Duration,
    /// Number of its connection.
    pub connection: u64,
    /// Time at which that connection was accepted.
    pub connected_at: Duration,
    /// Fault that was injected into it.
    pub fault: Option<faults::FaultKind>,
    pub decision: OrderDecision,
    /// Time of the response, or of its abandonment; `None` while a response is possible.
    pub answered_at: Option<Duration>,
}

/// The market's decision about an order, independent of the response that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderDecision {
    /// Sold to the account.
    Sold,
    /// Rejected with this message.
    Rejected(&'static str),
    /// Not evaluated because of a fault.
    Ignored,
}

impl PurchaseRecord {
    pub(super) const fn new(at: Duration, price: Amount) -> Self {
        Self { at, price, status: TradeStatus::Joined, cancelled_at: None, refunded_at: None }
    }

    /// Returns `true` if the coins were credited again.
    pub const fn is_refunded(&self) -> bool {
        self.refunded_at.is_some()
    }
}

impl MarketHistory {
    pub(super) fn new(balance: Amount) -> Self {
        Self { balance, ..Self::default() }
    }

    pub(super) fn record_listing(&mut self, number: u64, listing: ListingRecord) {
        self.listed = self.listed.saturating_add(1);
        let is_wanted = u64::from(listing.wanted.is_some());
        self.wanted_count = self.wanted_count.saturating_add(is_wanted);
        self.evictable.insert(number, listing);
        if self.evictable.len() > UNORDERED_MAX {
            self.evictable.pop_first();
        }
    }

    pub(super) fn record_close(&mut self, number: u64, at: Duration, reason: CloseReason) {
        if let Some(listing) = self.get_mut(number) {
            listing.closed = Some((at, reason));
        }
    }

    pub(super) fn update_purchase(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut PurchaseRecord),
    ) {
        if let Some(purchase) = self.get_mut(number).and_then(|listing| listing.purchase.as_mut()) {
            change(purchase);
        }
    }

    /// Records the response to the last order for a listing over a connection.
    pub(super) fn record_response(&mut self, number: u64, connection: u64, at: Duration) {
        let Some(listing) = self.get_mut(number) else { return };
        let is_on_connection = |order: &&mut OrderRecord| order.connection == connection;
        if let Some(order) = listing.orders.iter_mut().rev().find(is_on_connection) {
            order.answered_at = order.answered_at.or(Some(at));
        }
    }

    pub(super) fn record_purchase(&mut self, number: u64, purchase: PurchaseRecord) {
        self.retain(number);
        if let Some(listing) = self.retained.get_mut(&number) {
            listing.purchase = Some(purchase);
        }
    }

    /// Records an order; `number` is `None` if the market knows no such listing.
    pub(super) fn record_order(&mut self, number: Option<u64>, id: &str, order: OrderRecord) {
        if let Some(number) = number {
            self.retain(number);
        }
        if let Some(listing) = number.and_then(|number| self.retained.get_mut(&number)) {
            listing.orders.push(order);
        } else if self.unmatched.len() < UNMATCHED_MAX {
            self.unmatched.push((id.to_owned(), order));
        }
    }

    /// Moves a listing to those that are never evicted.
    fn retain(&mut self, number: u64) {
        if let Some(listing) = self.evictable.remove(&number) {
            self.retained.insert(number, listing);
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut ListingRecord> {
        self.retained.get_mut(&number).or_else(|| self.evictable.get_mut(&number))
    }

    /// Returns the stored listings, those with an order or a purchase first.
    pub fn listings(&self) -> impl Iterator<Item = &ListingRecord> {
        self.retained.values().chain(self.evictable.values())
    }

    /// Returns the listing with this id.
    pub fn listing(&self, id: &str) -> Option<&ListingRecord> {
        self.listings().find(|listing| listing.id == id)
    }

    pub(super) fn get(&self, number: u64) -> Option<&ListingRecord> {
        self.retained.get(&number).or_else(|| self.evictable.get(&number))
    }

    /// Returns all orders for stored listings.
    pub fn orders(&self) -> impl Iterator<Item = (&ListingRecord, &OrderRecord)> {
        self.retained
            .values()
            .flat_map(|listing| listing.orders.iter().map(move |one| (listing, one)))
    }

    /// Returns the orders for unknown or evicted listings, with the requested ids.
    pub fn unmatched_orders(&self) -> &[(String, OrderRecord)] {
        &self.unmatched
    }

    /// Returns all purchases of the account, including cancelled ones.
    pub fn purchases(&self) -> impl Iterator<Item = (&ListingRecord, &PurchaseRecord)> {
        self.retained.values().filter_map(|listing| Some((listing, listing.purchase.as_ref()?)))
    }

    /// Returns the sum of all purchases except those that were refunded.
    pub fn spent(&self) -> Amount {
        self.purchases()
            .filter(|(_, purchase)| !purchase.is_refunded())
            .fold(Amount::ZERO, |sum, (_, purchase)| sum.saturating_add(purchase.price))
    }

    /// Returns the listings with more than one order. A correct bot causes none.
    pub fn ordered_twice(&self) -> impl Iterator<Item = &ListingRecord> {
        self.retained.values().filter(|listing| listing.orders.len() > 1)
    }

    /// Returns the stored listings that match the demo's whitelist and have no order.
    pub fn missed(&self) -> impl Iterator<Item = &ListingRecord> {
        self.evictable.values().filter(|listing| listing.wanted.is_some())
    }

    /// Returns the orders for listings that do not match the demo's whitelist.
    pub fn unwanted(&self) -> impl Iterator<Item = (&ListingRecord, &OrderRecord)> {
        self.orders().filter(|(listing, _)| listing.wanted.is_none())
    }

    /// Returns the orders over a connection that was accepted after the listing had been sent.
    pub fn cold_orders(&self) -> impl Iterator<Item = (&ListingRecord, &OrderRecord)> {
        self.orders().filter(|(listing, order)| listing.listed_at < order.connected_at)
    }
}
