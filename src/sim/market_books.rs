//! What truly happened on a practice market: the truth that tests hold a bot against. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::faults;
use crate::{domain::money::Amount, domain::trade::TradeStatus};

/// How many listings without a request are remembered; older ones are only counted.
pub const UNREQUESTED_MAX: usize = 100_000;
/// How many requests for things that were never listed are remembered.
const STRAY_MAX: usize = 10_000;

/// The books of a market. Times are since it opened.
#[derive(Clone, Debug, Default)]
pub struct MarketBooks {
    entries: BTreeMap<u64, BookEntry>,
    requested: BTreeMap<u64, BookEntry>,
    stray: Vec<(String, BookedRequest)>,
    /// How many listings were offered in all.
    pub offered: u64,
    /// How many of them were made for an entry of the demo's whitelist.
    pub wanted: u64,
    /// What the account holds.
    pub balance: Amount,
}

/// What is known of one listing.
#[derive(Clone, Debug)]
pub struct BookEntry {
    /// Its id.
    pub id: String,
    /// The item's full market name.
    pub market_name: String,
    /// What it cost.
    pub price: Amount,
    /// Which entry of the demo's whitelist it was made for.
    pub wanted: Option<&'static str>,
    /// When it was offered.
    pub listed_at: Duration,
    /// When it could be joined first.
    pub can_join_at: Duration,
    /// When it was closed, and how.
    pub closed: Option<(Duration, Closed)>,
    /// What became of the account's purchase of it.
    pub purchase: Option<BookedPurchase>,
    /// Every request to buy it.
    pub requests: Vec<BookedRequest>,
}

/// How a listing was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The account bought it.
    Bought,
    /// A rival bought it.
    Taken,
    /// It ran out, or was taken back.
    Expired,
}

/// A purchase of the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookedPurchase {
    /// When.
    pub at: Duration,
    /// What the account paid for it.
    pub price: Amount,
    /// Where it stands.
    pub status: TradeStatus,
    /// When it was cancelled, if it was.
    pub cancelled_at: Option<Duration>,
    /// When the account got its coins back, if it did.
    pub refunded_at: Option<Duration>,
}

/// A request to buy, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookedRequest {
    /// When its last byte had been read.
    pub at: Duration,
    /// The number of the connection that it came over.
    pub connection: u64,
    /// When that connection was opened.
    pub connected_at: Duration,
    /// What went wrong with it, on purpose.
    pub fault: Option<faults::FaultKind>,
    /// What the market decided.
    pub decision: JoinDecision,
    /// When the market answered it, or ceased to; `None`: it still may.
    pub answered_at: Option<Duration>,
}

/// What the market decided about a request to buy, whatever it then answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinDecision {
    /// Sold to the account.
    Sold,
    /// Refused with these words.
    Refused(&'static str),
    /// Never looked at.
    Ignored,
}

impl BookedPurchase {
    /// A purchase that was just made.
    pub(super) const fn new(at: Duration, price: Amount) -> Self {
        Self { at, price, status: TradeStatus::Joined, cancelled_at: None, refunded_at: None }
    }

    /// Whether the account has its coins back.
    pub const fn is_returned(&self) -> bool {
        self.refunded_at.is_some()
    }
}

impl MarketBooks {
    /// Empty books of an account that holds so much.
    pub(super) fn new(balance: Amount) -> Self {
        Self { balance, ..Self::default() }
    }

    /// Writes a new listing down.
    pub(super) fn list(&mut self, number: u64, entry: BookEntry) {
        self.offered = self.offered.saturating_add(1);
        self.wanted = self.wanted.saturating_add(u64::from(entry.wanted.is_some()));
        self.entries.insert(number, entry);
        if self.entries.len() > UNREQUESTED_MAX {
            self.entries.pop_first();
        }
    }

    /// Writes down how a listing was closed.
    pub(super) fn close(&mut self, number: u64, at: Duration, how: Closed) {
        if let Some(entry) = self.entry_mut(number) {
            entry.closed = Some((at, how));
        }
    }

    /// Changes what is known of a purchase.
    pub(super) fn settle(&mut self, number: u64, change: impl FnOnce(&mut BookedPurchase)) {
        if let Some(purchase) = self.entry_mut(number).and_then(|entry| entry.purchase.as_mut()) {
            change(purchase);
        }
    }

    /// Writes down that the last request for this listing over a connection was answered.
    pub(super) fn answered(&mut self, number: u64, connection: u64, at: Duration) {
        let Some(entry) = self.entry_mut(number) else { return };
        let over = |request: &&mut BookedRequest| request.connection == connection;
        if let Some(request) = entry.requests.iter_mut().rev().find(over) {
            request.answered_at = request.answered_at.or(Some(at));
        }
    }

    /// Writes a purchase down.
    pub(super) fn purchase(&mut self, number: u64, purchase: BookedPurchase) {
        self.keep(number);
        if let Some(entry) = self.entry_mut(number) {
            entry.purchase = Some(purchase);
        }
    }

    /// Writes a request down.
    pub(super) fn request(&mut self, number: Option<u64>, id: &str, request: BookedRequest) {
        if let Some(number) = number {
            self.keep(number);
        }
        if let Some(number) = number
            && let Some(entry) = self.entry_mut(number)
        {
            entry.requests.push(request);
        } else if self.stray.len() < STRAY_MAX {
            self.stray.push((id.to_owned(), request));
        }
    }

    fn keep(&mut self, number: u64) {
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

    /// Every listing that is remembered: those that somebody asked for first.
    pub fn entries(&self) -> impl Iterator<Item = &BookEntry> {
        self.requested.values().chain(self.entries.values())
    }

    /// The listing with this id.
    pub fn entry(&self, id: &str) -> Option<&BookEntry> {
        let number = super::listing::number_of("Trade", id)?;
        self.requested.get(&number).or_else(|| self.entries.get(&number))
    }

    /// Every request to buy something that was listed, with what it asked for.
    pub fn requests(&self) -> impl Iterator<Item = (&BookEntry, &BookedRequest)> {
        self.requested.values().flat_map(|entry| entry.requests.iter().map(move |one| (entry, one)))
    }

    /// Requests for what was never listed, with the id that they named.
    pub fn stray(&self) -> &[(String, BookedRequest)] {
        &self.stray
    }

    /// Everything that the account bought, also what was cancelled.
    pub fn purchases(&self) -> impl Iterator<Item = (&BookEntry, &BookedPurchase)> {
        self.requested.values().filter_map(|entry| Some((entry, entry.purchase.as_ref()?)))
    }

    /// What the account has spent: all purchases but those whose coins it got back.
    pub fn spent(&self) -> Amount {
        self.purchases()
            .filter(|(_, purchase)| !purchase.is_returned())
            .fold(Amount::ZERO, |sum, (_, purchase)| sum.saturating_add(purchase.price))
    }

    /// Listings that were asked for more than once. A good bot leaves none.
    pub fn doubled(&self) -> impl Iterator<Item = &BookEntry> {
        self.requested.values().filter(|entry| entry.requests.len() > 1)
    }

    /// Listings that fit the demo's whitelist and were never asked for.
    pub fn missed(&self) -> impl Iterator<Item = &BookEntry> {
        self.entries.values().filter(|entry| entry.wanted.is_some() && entry.requests.is_empty())
    }

    /// Requests for listings that do not fit the demo's whitelist.
    pub fn unwanted(&self) -> impl Iterator<Item = (&BookEntry, &BookedRequest)> {
        self.requests().filter(|(entry, _)| entry.wanted.is_none())
    }

    /// Requests over a connection that was opened only after the listing had been sent.
    pub fn cold(&self) -> impl Iterator<Item = (&BookEntry, &BookedRequest)> {
        self.requests().filter(|(entry, request)| entry.listed_at < request.connected_at)
    }
}
