//! The simulated market as a state machine: listings, purchases and the account. Pure: time is an
//! argument (relative to the opening), randomness comes from the seed.
//!
//! # Invariants
//!
//! 1. A listing is sold at most once, to the account or to a rival.
//! 2. The balance is the initial balance minus the purchases plus the refunds, and never negative.
//! 3. The same settings produce the same listings with the same numbers.

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

use self::past::AccountSnapshots;
pub use self::sale::SaleRejection;
use super::{
    catalogue::Catalogue,
    history::{CloseReason, ListingRecord, MarketHistory, OrderRecord},
    listing::{Listing, ListingBuyer, before, number_of},
    offer::{ListedItem, ListingDefect, OPEN_FOR},
    random,
    settings::{Delivery, SimSettings},
};
use crate::{domain::money::Amount, domain::time::UnixMs, domain::trade::TradeStatus};

/// Maximum number of open listings; beyond it the oldest expire.
pub const OPEN_MAX: usize = 50_000;
/// Maximum number of purchases of the account.
pub const PURCHASES_MAX: usize = 100_000;
/// Maximum number of scheduled changes per [`advance`](MarketState::advance). Under overload the
/// market falls behind its schedule, but still responds to requests and to a shutdown.
pub const STEPS_MAX: usize = 4_096;
/// Maximum number of listings in one event of the feed.
pub const BATCH_MAX: usize = 25;

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarketEvent {
    /// A group of new listings.
    Created(Vec<Arc<Listing>>),
    Updated(Arc<Listing>),
    Wallet {
        balance: Amount,
        change: Amount,
        /// Id of the listing that caused the change; empty without one.
        cause: String,
    },
}

/// State of a simulated market.
#[derive(Debug)]
pub struct MarketState {
    opened_at: UnixMs,
    seed: u64,
    catalogue: Peekable<Catalogue>,
    next_number: u64,
    first_number: u64,
    open: BTreeMap<u64, Listing>,
    bought: BTreeMap<u64, Listing>,
    scheduled: BinaryHeap<Reverse<(Duration, (u64, ScheduledChange))>>,
    delivery: Delivery,
    balance: Amount,
    daily_remaining: Option<Amount>,
    suspected_trader: bool,
    user_id: Arc<str>,
    history: MarketHistory,
    snapshots: AccountSnapshots,
}

/// A scheduled change of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ScheduledChange {
    RivalBuys,
    Expired,
    Confirmed,
    Delivered,
    Refunded,
}

impl MarketState {
    /// Creates a market. `opened_at` is the time of its own clock at the opening.
    pub fn new(settings: &SimSettings, opened_at: UnixMs) -> Self {
        // Each seed has its own range of ids, so that a ledger cannot confuse two markets.
        let range = random::stream(settings.seed, 3).u64(..800);
        let first_number = range.saturating_mul(1_000_000).saturating_add(100_000_000);
        let balance = settings.balance;
        Self {
            opened_at,
            seed: settings.seed,
            catalogue: Catalogue::new(settings).peekable(),
            next_number: first_number,
            first_number,
            open: BTreeMap::new(),
            bought: BTreeMap::new(),
            scheduled: BinaryHeap::new(),
            delivery: settings.delivery,
            balance,
            daily_remaining: settings.daily_limit,
            suspected_trader: settings.suspected_trader,
            user_id: Arc::from(&*settings.user_id),
            history: MarketHistory::new(balance),
            snapshots: AccountSnapshots::default(),
        }
    }

    /// Returns the time of the market's clock.
    pub fn clock(&self, now: Duration) -> UnixMs {
        self.opened_at.plus(now)
    }

    /// Returns the time of the next arrival or scheduled change.
    pub fn next_due(&mut self) -> Option<Duration> {
        let listed = self.catalogue.peek().map(|item| item.arrival.at);
        let due = self.scheduled.peek().map(|Reverse((at, ..))| *at);
        match (listed, due) {
            (Some(listed), Some(due)) => Some(listed.min(due)),
            (one, other) => one.or(other),
        }
    }

    /// Applies the arrivals and changes that are due, at most [`STEPS_MAX`].
    pub fn advance(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        for _ in 0..STEPS_MAX {
            let Some(at) = self.next_due().filter(|at| *at <= now) else { return };
            let is_scheduled = self.scheduled.peek().is_some_and(|Reverse((due, ..))| *due == at);
            if is_scheduled {
                if let Some(Reverse((_, due))) = self.scheduled.pop() {
                    self.apply_scheduled(due, at, events);
                }
            } else {
                self.list_group(now, events);
            }
        }
    }

    /// Lists the next group of arrivals, at most [`BATCH_MAX`] items.
    fn list_group(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        let mut listed = Vec::new();
        let group = self.catalogue.peek().map(|item| item.arrival.group);
        while listed.len() < BATCH_MAX
            && let Some(item) = self.catalogue.next_if(|item| Some(item.arrival.group) == group)
        {
            listed.push(self.list(now, item));
        }
        events.push(MarketEvent::Created(listed));
        self.close_old(now, events);
    }

    /// Closes the oldest listings: expired ones and those beyond [`OPEN_MAX`].
    fn close_old(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        let clock = self.clock(now);
        while let Some((number, oldest)) = self.open.first_key_value()
            && (self.open.len() > OPEN_MAX || oldest.expires_at() <= clock)
        {
            let number = *number;
            self.close(number, TradeStatus::Expired, now, events);
        }
    }

    /// Lists items in addition to the generated ones, as one group. Returns the ids.
    pub fn list_items(
        &mut self,
        now: Duration,
        items: Vec<ListedItem>,
        events: &mut Vec<MarketEvent>,
    ) -> Vec<String> {
        let listed: Vec<_> = items.into_iter().map(|item| self.list(now, item)).collect();
        let ids = listed.iter().map(|listing| listing.id()).collect();
        events.push(MarketEvent::Created(listed));
        ids
    }

    /// Cancels an open listing, as its seller may. Returns `false` if no such listing is open.
    pub fn delist(&mut self, now: Duration, id: &str, events: &mut Vec<MarketEvent>) -> bool {
        let number = number_of("Trade", id).filter(|number| self.open.contains_key(number));
        if let Some(number) = number {
            self.close(number, TradeStatus::Cancelled, now, events);
        }
        number.is_some()
    }

    fn list(&mut self, now: Duration, item: ListedItem) -> Arc<Listing> {
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let item = Arc::new(item);
        let status = match item.defect {
            Some(ListingDefect::NotListed) => TradeStatus::Processing,
            _ => TradeStatus::Listed,
        };
        let created_at = before(self.clock(now), item.created_before);
        let listing = Listing {
            number,
            item: Arc::clone(&item),
            status,
            created_at,
            updated_at: created_at,
            joined_at: None,
            buyer: None,
            user_id: Arc::clone(&self.user_id),
        };
        if let Some(after) = item.rival_after {
            let can_join_after = item.can_join_after.unwrap_or_default();
            self.schedule(
                now.saturating_add(can_join_after).saturating_add(after),
                number,
                ScheduledChange::RivalBuys,
            );
        }
        if item.open_for < OPEN_FOR {
            self.schedule(now.saturating_add(item.open_for), number, ScheduledChange::Expired);
        }
        let can_join_at = now.saturating_add(item.can_join_after.unwrap_or_default());
        let entry = ListingRecord {
            id: listing.id(),
            market_name: item.market_name.clone(),
            price: item.total,
            wanted: item.wanted,
            listed_at: now,
            can_join_at,
            closed: None,
            purchase: None,
            orders: Vec::new(),
        };
        self.history.record_listing(number, entry);
        self.open.insert(number, listing.clone());
        Arc::new(listing)
    }

    fn schedule(&mut self, at: Duration, number: u64, change: ScheduledChange) {
        self.scheduled.push(Reverse((at, (number, change))));
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
        let reason = if status == TradeStatus::Joined {
            listing.buyer = Some(ListingBuyer::Rival);
            listing.joined_at = Some(listing.updated_at);
            CloseReason::BoughtByRival
        } else {
            CloseReason::Expired
        };
        self.history.record_close(number, now, reason);
        events.push(MarketEvent::Updated(Arc::new(listing)));
    }
}

impl MarketState {
    pub const fn balance(&self) -> Amount {
        self.balance
    }

    /// Returns the remaining withdrawal limit of the account.
    pub const fn daily_remaining(&self) -> Option<Amount> {
        self.daily_remaining
    }

    /// Returns `true` if the account is flagged as a suspected trader.
    pub const fn suspected_trader(&self) -> bool {
        self.suspected_trader
    }

    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Returns the open listings, oldest first.
    pub fn open(&self) -> impl DoubleEndedIterator<Item = &Listing> {
        self.open.values()
    }

    /// Returns the account's purchases, oldest first.
    pub fn bought(&self) -> impl DoubleEndedIterator<Item = &Listing> {
        self.bought.values()
    }

    pub const fn history(&self) -> &MarketHistory {
        &self.history
    }

    /// Returns the balance of this age, limited to the oldest stored change
    /// ([`STALE_MAX`](super::faults::STALE_MAX)).
    pub fn balance_before(&self, now: Duration, age: Duration) -> Amount {
        self.snapshots.balance_at(now.saturating_sub(age), self.balance)
    }

    /// Returns the account's purchases as of this age, oldest first.
    pub fn bought_before(&self, now: Duration, age: Duration) -> Vec<Listing> {
        self.snapshots.purchases_at(now.saturating_sub(age), &self.bought)
    }

    /// Records an order in the history.
    pub fn record_order(&mut self, id: &str, order: OrderRecord) {
        let number = number_of("Trade", id).filter(|number| self.was_listed(*number));
        self.history.record_order(number, id, order);
    }

    /// Records the response to an order in the history.
    pub fn record_response(&mut self, id: &str, connection: u64, at: Duration) {
        if let Some(number) = number_of("Trade", id) {
            self.history.record_response(number, connection, at);
        }
    }
}

#[cfg(test)]
mod tests;
