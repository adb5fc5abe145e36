//! The practice market itself, as a state machine: what is listed, who takes it, what the account
//! holds. Pure: time is an argument (since the market opened), chance comes from the seed.
//!
//! # Invariants
//!
//! 1. A listing is sold at most once, to the account or to a rival.
//! 2. The balance is what the account began with, less its purchases, plus those that were refunded,
//!    and is never negative.
//! 3. The same settings list the same things with the same numbers.

mod lies;
mod past;
mod sale;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    iter::Peekable,
    sync::Arc,
    time::Duration,
};

use self::past::Past;
pub use self::sale::SaleRejection;
use super::{
    catalogue::Catalogue,
    dice::Dice,
    listing::{Listing, ListingBuyer, before, number_of},
    market_books::{BookEntry, BookedRequest, Closed, MarketBooks},
    offer::{ListedItem, ListingDefect, OPEN_FOR},
    settings::{Delivery, SimSettings},
};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::trade::TradeStatus};

/// How many listings are open at once; beyond it the oldest are taken back.
pub const OPEN_MAX: usize = 50_000;
/// How many purchases the account can make.
pub const PURCHASES_MAX: usize = 100_000;
/// How much happens in one step of time at most. A market whose rate is more than its machine can
/// make falls behind, and still answers, and still ends when it is told to.
pub const STEPS_MAX: usize = 4_096;
/// How many listings one event of the feed carries at most.
pub const BATCH_MAX: usize = 25;

/// Something that the feed tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarketEvent {
    /// Listings appeared, together.
    Created(Vec<Arc<Listing>>),
    /// A listing changed.
    Updated(Arc<Listing>),
    /// The balance changed.
    Wallet {
        /// What the account holds now.
        balance: Amount,
        /// What was added, or taken.
        change: Amount,
        /// The id of the listing that caused it.
        cause: String,
    },
}

/// The state of a market.
#[derive(Debug)]
pub struct MarketState {
    opened_at: UnixMs,
    seed: u64,
    catalogue: Peekable<Catalogue>,
    next_number: u64,
    first_number: u64,
    open: BTreeMap<u64, Listing>,
    bought: BTreeMap<u64, Listing>,
    agenda: BinaryHeap<Reverse<(Duration, (u64, ScheduledChange))>>,
    delivery: Delivery,
    balance: Amount,
    daily_left: Option<Amount>,
    suspected_trader: bool,
    user_id: Arc<str>,
    books: MarketBooks,
    past: Past,
}

/// What is to happen to a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ScheduledChange {
    Taken,
    Expired,
    Confirmed,
    Delivered,
    Refunded,
}

impl MarketState {
    /// Opens a market whose clock shows this when it opens.
    pub fn new(settings: &SimSettings, opened_at: UnixMs) -> Self {
        // Another seed has other numbers, so that a ledger never takes one market for another.
        let room = Dice::aside(settings.seed, 3).below(800);
        let first_number = room.saturating_mul(1_000_000).saturating_add(100_000_000);
        let balance = settings.balance;
        Self {
            opened_at,
            seed: settings.seed,
            catalogue: Catalogue::new(settings).peekable(),
            next_number: first_number,
            first_number,
            open: BTreeMap::new(),
            bought: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            delivery: settings.delivery,
            balance,
            daily_left: settings.daily_limit,
            suspected_trader: settings.suspected_trader,
            user_id: Arc::from(&*settings.user_id),
            books: MarketBooks::new(balance),
            past: Past::default(),
        }
    }

    /// What the market's clock shows.
    pub fn clock(&self, now: Duration) -> UnixMs {
        self.opened_at.plus(now)
    }

    /// When something happens next.
    pub fn next_due(&mut self) -> Option<Duration> {
        let listed = self.catalogue.peek().map(|offer| offer.arrival.at);
        let due = self.agenda.peek().map(|Reverse((at, ..))| *at);
        match (listed, due) {
            (Some(listed), Some(due)) => Some(listed.min(due)),
            (one, other) => one.or(other),
        }
    }

    /// Lets everything happen that is due by now, up to [`STEPS_MAX`] steps.
    pub fn advance(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        for _ in 0..STEPS_MAX {
            let Some(at) = self.next_due().filter(|at| *at <= now) else { return };
            let is_agenda = self.agenda.peek().is_some_and(|Reverse((due, ..))| *due == at);
            if is_agenda {
                if let Some(Reverse((_, due))) = self.agenda.pop() {
                    self.happens(due, at, events);
                }
            } else {
                self.list_group(now, events);
            }
        }
    }

    /// Lists what arrives together.
    fn list_group(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        let mut listed = Vec::new();
        let group = self.catalogue.peek().map(|offer| offer.arrival.group);
        while listed.len() < BATCH_MAX
            && let Some(offer) = self.catalogue.next_if(|offer| Some(offer.arrival.group) == group)
        {
            listed.push(self.list(now, offer));
        }
        events.push(MarketEvent::Created(listed));
        self.take_back_old(now, events);
    }

    /// Takes the oldest listings back: those that ran out, and those that are too many.
    fn take_back_old(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        let clock = self.clock(now);
        while let Some((number, oldest)) = self.open.first_key_value()
            && (self.open.len() > OPEN_MAX || oldest.expires_at() <= clock)
        {
            let number = *number;
            self.close(number, TradeStatus::Expired, now, events);
        }
    }

    /// Lists something that the seed does not know of.
    pub fn offer(
        &mut self,
        now: Duration,
        offers: Vec<ListedItem>,
        events: &mut Vec<MarketEvent>,
    ) -> Vec<String> {
        let listed: Vec<_> = offers.into_iter().map(|offer| self.list(now, offer)).collect();
        let ids = listed.iter().map(|listing| listing.id()).collect();
        events.push(MarketEvent::Created(listed));
        ids
    }

    /// Takes an open listing back, as its seller may; `false` if there is none of this id.
    pub fn take_back(&mut self, now: Duration, id: &str, events: &mut Vec<MarketEvent>) -> bool {
        let open = number_of("Trade", id).filter(|number| self.open.contains_key(number));
        if let Some(number) = open {
            self.close(number, TradeStatus::Cancelled, now, events);
        }
        open.is_some()
    }

    fn list(&mut self, now: Duration, offer: ListedItem) -> Arc<Listing> {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let offer = Arc::new(offer);
        let status = match offer.oddity {
            Some(ListingDefect::NotListed) => TradeStatus::Processing,
            _ => TradeStatus::Listed,
        };
        let created_at = before(self.clock(now), offer.created_before);
        let listing = Listing {
            number,
            offer: Arc::clone(&offer),
            status,
            created_at,
            updated_at: created_at,
            joined_at: None,
            buyer: None,
            user_id: Arc::clone(&self.user_id),
        };
        if let Some(after) = offer.rival_after {
            let first = offer.can_join_after.unwrap_or_default();
            self.appoint(
                now.saturating_add(first).saturating_add(after),
                number,
                ScheduledChange::Taken,
            );
        }
        if offer.open_for < OPEN_FOR {
            self.appoint(now.saturating_add(offer.open_for), number, ScheduledChange::Expired);
        }
        let can_join_at = now.saturating_add(offer.can_join_after.unwrap_or_default());
        let entry = BookEntry {
            id: listing.id(),
            market_name: offer.market_name.clone(),
            price: offer.total,
            wanted: offer.wanted,
            listed_at: now,
            can_join_at,
            closed: None,
            purchase: None,
            requests: Vec::new(),
        };
        self.books.list(number, entry);
        self.open.insert(number, listing.clone());
        Arc::new(listing)
    }

    fn appoint(&mut self, at: Duration, number: u64, what: ScheduledChange) {
        self.agenda.push(Reverse((at, (number, what))));
    }

    fn close(
        &mut self,
        number: u64,
        status: TradeStatus,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) {
        let Some(mut listing) = self.open.remove(&number) else { return };
        listing.status = status;
        listing.updated_at = self.clock(now);
        let how = if status == TradeStatus::Joined {
            listing.buyer = Some(ListingBuyer::Rival);
            listing.joined_at = Some(listing.updated_at);
            Closed::Taken
        } else {
            Closed::Expired
        };
        self.books.close(number, now, how);
        events.push(MarketEvent::Updated(Arc::new(listing)));
    }
}

/// What can be read off it.
impl MarketState {
    /// What the account holds.
    pub const fn balance(&self) -> Amount {
        self.balance
    }

    /// What the account may still withdraw today.
    pub const fn daily_left(&self) -> Option<Amount> {
        self.daily_left
    }

    /// Whether the site has flagged the account.
    pub const fn suspected_trader(&self) -> bool {
        self.suspected_trader
    }

    /// Who the account is.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The listings that are open, oldest first.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &Listing> {
        self.open.values()
    }

    /// The account's purchases, oldest first.
    pub fn bought(&self) -> impl DoubleEndedIterator<Item = &Listing> {
        self.bought.values()
    }

    /// What truly happened.
    pub const fn books(&self) -> &MarketBooks {
        &self.books
    }

    /// What the account held this long ago; beyond [`STALE_MAX`](super::faults::STALE_MAX), at the
    /// earliest moment that is remembered.
    pub fn balance_before(&self, now: Duration, age: Duration) -> Amount {
        self.past.balance(now.saturating_sub(age), self.balance)
    }

    /// The account's purchases as they were this long ago, oldest first.
    pub fn bought_before(&self, now: Duration, age: Duration) -> Vec<Listing> {
        self.past.purchases(now.saturating_sub(age), &self.bought)
    }

    /// Writes a request to buy into the books.
    pub fn note(&mut self, id: &str, request: BookedRequest) {
        let number = number_of("Trade", id).filter(|number| self.was_listed(*number));
        self.books.request(number, id, request);
    }

    /// Notes in the books that a request to buy was answered.
    pub fn answered(&mut self, id: &str, connection: u64, at: Duration) {
        if let Some(number) = number_of("Trade", id) {
            self.books.answered(number, connection, at);
        }
    }
}

#[cfg(test)]
mod tests;
