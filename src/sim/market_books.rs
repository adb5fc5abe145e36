//! Complete record of what happened on a simulated market, for tests and summaries. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::faults;
use crate::{domain::money::Amount, domain::trade::TradeStatus};

/// Maximum number of stored listings without an order; older ones are only counted.
pub const UNREQUESTED_MAX: usize = 100_000;
/// Maximum number of stored orders for unknown ids.
const UNMATCHED_MAX: usize = 10_000;

/// The books of a market. All times are relative to its opening.
#[derive(Clone, Debug, Default)]
pub struct MarketBooks {
    entries: BTreeMap<u64, BookEntry>,
    requested: BTreeMap<u64, BookEntry>,
    unmatched: Vec<(String, BookedRequest)>,
    /// Total number of listings.
    pub listed: u64,
    /// Number of listings generated for an entry of the demo's whitelist.
    pub wanted: u64,
    /// Current balance of the account.
    pub balance: Amount,
}

/// History of one listing.
#[derive(Clone, Debug)]
pub struct BookEntry {
    pub id: String,
    pub market_name: String,
    pub price: Amount,
    /// Name of the demo whitelist entry for which it was generated.
    pub wanted: Option<&'static str>,
    pub listed_at: Duration,
    /// Earliest time at which it could be joined.
    pub can_join_at: Duration,
    /// Time and kind of its closing.
    pub closed: Option<(Duration, Closed)>,
    /// The account's purchase of it.
    pub purchase: Option<BookedPurchase>,
    /// All orders for it.
    pub requests: Vec<BookedRequest>,
}

/// The way in which a listing was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Bought by the account.
    Bought,
    /// Bought by a rival.
    BoughtByRival,
    /// Expired, or cancelled by the seller.
    Expired,
}

/// A purchase of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookedPurchase {
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
pub struct BookedRequest {
    /// Time at which its last byte had been read.
    pub at: Duration,
    /// Number of its connection.
    pub connection: u64,
    /// Time at which that connection was accepted.
    pub connected_at: Duration,
    /// Fault that was injected into it.
    pub fault: Option<faults::FaultKind>,
    pub decision: JoinDecision,
    /// Time of the response, or of its abandonment; `None` while a response is possible.
    pub answered_at: Option<Duration>,
}

/// The market's decision about an order, independent of the response that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinDecision {
    /// Sold to the account.
    Sold,
    /// Rejected with this message.
    Rejected(&'static str),
    /// Not evaluated because of a fault.
    Ignored,
}

impl BookedPurchase {
    pub(super) const fn new(at: Duration, price: Amount) -> Self {
        Self { at, price, status: TradeStatus::Joined, cancelled_at: None, refunded_at: None }
    }

    /// Returns `true` if the coins were credited again.
    pub const fn is_returned(&self) -> bool {
        self.refunded_at.is_some()
    }
}

impl MarketBooks {
    pub(super) fn new(balance: Amount) -> Self {
        Self { balance, ..Self::default() }
    }

    pub(super) fn record_listing(&mut self, number: u64, entry: BookEntry) {
        self.listed = self.listed.saturating_add(1);
        self.wanted = self.wanted.saturating_add(u64::from(entry.wanted.is_some()));
        self.entries.insert(number, entry);
        if self.entries.len() > UNREQUESTED_MAX {
            self.entries.pop_first();
        }
    }

    pub(super) fn record_close(&mut self, number: u64, at: Duration, how: Closed) {
        if let Some(entry) = self.entry_mut(number) {
            entry.closed = Some((at, how));
        }
    }

    pub(super) fn update_purchase(
        &mut self,
        number: u64,
        change: impl FnOnce(&mut BookedPurchase),
    ) {
        if let Some(purchase) = self.entry_mut(number).and_then(|entry| entry.purchase.as_mut()) {
            change(purchase);
        }
    }

    /// Records the response to the last order for a listing over a connection.
    pub(super) fn record_response(&mut self, number: u64, connection: u64, at: Duration) {
        let Some(entry) = self.entry_mut(number) else { return };
        let is_on_connection = |request: &&mut BookedRequest| request.connection == connection;
        if let Some(request) = entry.requests.iter_mut().rev().find(is_on_connection) {
            request.answered_at = request.answered_at.or(Some(at));
        }
    }

    pub(super) fn record_purchase(&mut self, number: u64, purchase: BookedPurchase) {
        self.retain(number);
        if let Some(entry) = self.entry_mut(number) {
            entry.purchase = Some(purchase);
        }
    }

    /// Records an order; `number` is `None` if no such listing exists.
    pub(super) fn record_request(&mut self, number: Option<u64>, id: &str, request: BookedRequest) {
        if let Some(number) = number {
            self.retain(number);
        }
        if let Some(number) = number
            && let Some(entry) = self.entry_mut(number)
        {
            entry.requests.push(request);
        } else if self.unmatched.len() < UNMATCHED_MAX {
            self.unmatched.push((id.to_owned(), request));
        }
    }

    /// Moves a listing to those that are never evicted.
    fn retain(&mut self, number: u64) {
        if let Some(entry) = self.entries.remove(&number) {
            self.requested.insert(number, entry);
        }
    }

    fn entry_mut(&mut self, number: u64) -> Option<&mut BookEntry> {
        match self.requested.get_mut(&number) {
            Some(entry) => Some(entry),
            None => self.entries.get_mut(&number),
        }
    }

    /// Returns the stored listings, those with an order first.
    pub fn entries(&self) -> impl Iterator<Item = &BookEntry> {
        self.requested.values().chain(self.entries.values())
    }

    /// Returns the listing with this id.
    pub fn entry(&self, id: &str) -> Option<&BookEntry> {
        let number = super::listing::number_of("Trade", id)?;
        self.requested.get(&number).or_else(|| self.entries.get(&number))
    }

    /// Returns all orders for known listings.
    pub fn requests(&self) -> impl Iterator<Item = (&BookEntry, &BookedRequest)> {
        self.requested.values().flat_map(|entry| entry.requests.iter().map(move |one| (entry, one)))
    }

    /// Returns the orders for unknown listings, with the requested ids.
    pub fn unmatched_requests(&self) -> &[(String, BookedRequest)] {
        &self.unmatched
    }

    /// Returns all purchases of the account, including cancelled ones.
    pub fn purchases(&self) -> impl Iterator<Item = (&BookEntry, &BookedPurchase)> {
        self.requested.values().filter_map(|entry| Some((entry, entry.purchase.as_ref()?)))
    }

    /// Returns the sum of all purchases except those that were refunded.
    pub fn spent(&self) -> Amount {
        self.purchases()
            .filter(|(_, purchase)| !purchase.is_returned())
            .fold(Amount::ZERO, |sum, (_, purchase)| sum.saturating_add(purchase.price))
    }

    /// Returns the listings with more than one order. A correct bot causes none.
    pub fn ordered_twice(&self) -> impl Iterator<Item = &BookEntry> {
        self.requested.values().filter(|entry| entry.requests.len() > 1)
    }

    /// Returns the listings that match the demo's whitelist and have no order.
    pub fn missed(&self) -> impl Iterator<Item = &BookEntry> {
        self.entries.values().filter(|entry| entry.wanted.is_some() && entry.requests.is_empty())
    }

    /// Returns the orders for listings that do not match the demo's whitelist.
    pub fn unwanted(&self) -> impl Iterator<Item = (&BookEntry, &BookedRequest)> {
        self.requests().filter(|(entry, _)| entry.wanted.is_none())
    }

    /// Returns the orders over a connection that was accepted after the listing had been sent.
    pub fn cold_requests(&self) -> impl Iterator<Item = (&BookEntry, &BookedRequest)> {
        self.requests().filter(|(entry, request)| entry.listed_at < request.connected_at)
    }
}
