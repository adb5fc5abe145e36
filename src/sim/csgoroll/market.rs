//! The simulated market as a state machine: listings, purchases and the account. Pure: time is an
//! argument (relative to the opening), randomness comes from the seed.
//!
//! # Invariants
//!
//! 1. A listing is sold at most once, to the account or to a rival.
//! 2. The balance is the initial balance minus the purchases plus the refunds and adjustments, and
//!    never negative.
//! 3. The same settings produce the same listings with the same numbers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    iter::Peekable,
    sync::Arc,
    time::Duration,
};

use super::{
    listing::{Listing, ListingBuyer, before},
    number_of,
};
use crate::{
    domain::{money::Amount, time::UnixMs, trade::TradeStatus},
    sim::{
        catalogue::{Catalogue, ListedItem, ListingDefect, OPEN_FOR},
        faults::FaultKind,
        history::{
            CloseReason, ListingRecord, MarketHistory, OrderDecision, OrderRecord, PurchaseRecord,
        },
        model::MarketModel,
        random::{self, Rng, RngExt as _},
        settings::{Delivery, SimSettings},
        undo_log::AccountUndoLog,
    },
};

/// Maximum number of open listings; beyond it the oldest expire.
pub const OPEN_MAX: usize = 50_000;
/// Maximum number of purchases of the account.
pub const PURCHASES_MAX: usize = 100_000;
/// Maximum number of scheduled changes per [`advance`](MarketState::advance). Under overload the
/// market falls behind its schedule, but still responds to requests and to a shutdown.
pub const STEPS_MAX: usize = 4_096;
/// Maximum number of listings in one event of the feed.
pub const BATCH_MAX: usize = 25;
/// Number of the newest purchases and open listings from which a false event chooses.
const NEWEST: usize = 16;

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
    undo_log: AccountUndoLog<Listing>,
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
            undo_log: AccountUndoLog::default(),
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
        let can_join_at = now.saturating_add(item.can_join_after.unwrap_or_default());
        if let Some(after) = item.rival_after {
            self.schedule(can_join_at.saturating_add(after), number, ScheduledChange::RivalBuys);
        }
        if item.open_for < OPEN_FOR {
            self.schedule(now.saturating_add(item.open_for), number, ScheduledChange::Expired);
        }
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

    pub const fn balance(&self) -> Amount {
        self.balance
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

    /// Returns the balance as of this age, at most as old as the stored changes
    /// ([`STALE_MAX`](crate::sim::faults::STALE_MAX)).
    pub fn balance_before(&self, now: Duration, age: Duration) -> Amount {
        self.undo_log.balance_at(now.saturating_sub(age), self.balance)
    }

    /// Returns the account's purchases as of this age, oldest first.
    pub fn bought_before(&self, now: Duration, age: Duration) -> Vec<Listing> {
        self.undo_log.purchases_at(now.saturating_sub(age), &self.bought)
    }

    /// Records an order in the history.
    pub fn record_order(&mut self, id: &str, order: OrderRecord) {
        let number = number_of("Trade", id).filter(|number| self.was_listed(*number));
        self.history.record_order(number, id, order);
    }

    /// Sells a listing to the account.
    ///
    /// # Errors
    ///
    /// Returns a [`SaleRejection`] if the listing cannot be bought.
    pub fn join(
        &mut self,
        now: Duration,
        id: &str,
        events: &mut Vec<MarketEvent>,
    ) -> Result<Arc<Listing>, SaleRejection> {
        self.advance(now, events);
        let number = number_of("Trade", id).filter(|number| self.was_listed(*number));
        let number = number.ok_or(SaleRejection::NotFound)?;
        let listing = self.open.get(&number).ok_or(self.closed_rejection(number, now))?;
        let clock = self.clock(now);
        let is_early = listing.can_join_after().is_some_and(|after| clock < after)
            || (self.suspected_trader && clock < listing.suspected_can_join_after());
        if is_early || listing.status != TradeStatus::Listed || listing.item.defect.is_some() {
            return Err(SaleRejection::NotJoinable);
        }
        let price = listing.item.total;
        if self.daily_remaining.is_some_and(|left| left < price)
            || self.bought.len() >= PURCHASES_MAX
        {
            return Err(SaleRejection::DailyLimit);
        }
        if self.balance < price {
            return Err(SaleRejection::Balance);
        }
        self.sell(number, now, events).ok_or(SaleRejection::NoLongerAvailable)
    }

    fn was_listed(&self, number: u64) -> bool {
        (self.first_number..self.next_number).contains(&number)
    }

    /// Returns the rejection for a closed listing, which depends on the time since it was closed.
    fn closed_rejection(&self, number: u64, now: Duration) -> SaleRejection {
        let closed = self.history.get(number).and_then(|listing| listing.closed);
        match closed {
            Some((at, _)) if now.saturating_sub(at) < Duration::from_millis(500) => {
                SaleRejection::NotJoinable
            }
            _ => SaleRejection::NoLongerAvailable,
        }
    }

    fn sell(
        &mut self,
        number: u64,
        now: Duration,
        events: &mut Vec<MarketEvent>,
    ) -> Option<Arc<Listing>> {
        let mut listing = self.open.remove(&number)?;
        let clock = self.clock(now);
        listing.status = TradeStatus::Joined;
        listing.buyer = Some(ListingBuyer::User);
        listing.joined_at = Some(clock);
        listing.updated_at = clock;
        let price = listing.item.total;
        self.history.record_close(number, now, CloseReason::Bought);
        self.history.record_purchase(number, PurchaseRecord::new(now, price));
        self.undo_log.record_purchase(now, number, None);
        self.daily_remaining = self.daily_remaining.map(|left| left.saturating_sub(price));
        let confirmed = random::stream(self.seed, number).duration(self.delivery.confirm);
        self.schedule(now.saturating_add(confirmed), number, ScheduledChange::Confirmed);
        self.bought.insert(number, listing.clone());
        let listing = Arc::new(listing);
        events.push(MarketEvent::Updated(Arc::clone(&listing)));
        self.change_balance(now, Amount::ZERO.saturating_sub(price), listing.id(), events);
        Some(listing)
    }

    /// Raises the price of a purchase, at most by the remaining balance.
    pub fn surcharge(
        &mut self,
        now: Duration,
        sold: &Listing,
        extra: Amount,
        events: &mut Vec<MarketEvent>,
    ) -> Arc<Listing> {
        let extra = extra.min(self.balance);
        let price = sold.item.total.saturating_add(extra);
        let repriced = Arc::new(sold.with_price(price));
        self.undo_log.record_purchase(now, sold.number, self.bought.get(&sold.number));
        self.bought.insert(sold.number, Listing::clone(&repriced));
        self.history.update_purchase(sold.number, |purchase| purchase.price = price);
        self.change_balance(now, Amount::ZERO.saturating_sub(extra), repriced.id(), events);
        repriced
    }

    fn change_balance(
        &mut self,
        now: Duration,
        change: Amount,
        cause: String,
        events: &mut Vec<MarketEvent>,
    ) {
        self.undo_log.record_balance(now, self.balance);
        self.balance = self.balance.saturating_add(change);
        self.history.balance = self.balance;
        events.push(MarketEvent::Wallet { balance: self.balance, change, cause });
    }

    /// Makes a purchase without an order, for tests of the bot's reconciliation. Returns its id.
    pub fn inject_purchase(
        &mut self,
        now: Duration,
        item: ListedItem,
        events: &mut Vec<MarketEvent>,
    ) -> Option<String> {
        let number = self.list(now, item).number;
        self.sell(number, now, events).map(|listing| listing.id())
    }

    /// Applies one scheduled change.
    fn apply_scheduled(
        &mut self,
        (number, change): (u64, ScheduledChange),
        at: Duration,
        events: &mut Vec<MarketEvent>,
    ) {
        match change {
            ScheduledChange::RivalBuys => self.close(number, TradeStatus::Joined, at, events),
            ScheduledChange::Expired => self.close(number, TradeStatus::Expired, at, events),
            ScheduledChange::Confirmed => self.confirm_or_cancel(number, at, events),
            ScheduledChange::Delivered => {
                self.set_status(number, TradeStatus::Completed, at, events);
            }
            ScheduledChange::Refunded => self.refund(number, at, events),
        }
    }

    /// Confirms a purchase or cancels it, by chance.
    fn confirm_or_cancel(&mut self, number: u64, at: Duration, events: &mut Vec<MarketEvent>) {
        let mut rng = random::stream(self.seed, number.wrapping_add(1 << 40));
        let cancelled = if rng.chance_permille(self.delivery.fail_permille) {
            rng.choice(&[
                TradeStatus::Cancelled,
                TradeStatus::Cancelled,
                TradeStatus::Expired,
                TradeStatus::Cooldown,
            ])
        } else {
            None
        };
        if let Some(status) = cancelled {
            self.set_status(number, *status, at, events);
            self.history.update_purchase(number, |purchase| purchase.cancelled_at = Some(at));
            let refunded = at.saturating_add(rng.duration(self.delivery.refund));
            return self.schedule(refunded, number, ScheduledChange::Refunded);
        }
        self.set_status(number, TradeStatus::Processing, at, events);
        let delivered = at.saturating_add(rng.duration(self.delivery.deliver));
        self.schedule(delivered, number, ScheduledChange::Delivered);
    }

    /// Changes the status of a purchase.
    fn set_status(
        &mut self,
        number: u64,
        status: TradeStatus,
        at: Duration,
        events: &mut Vec<MarketEvent>,
    ) {
        let clock = self.clock(at);
        let Some(listing) = self.bought.get_mut(&number) else { return };
        self.undo_log.record_purchase(at, number, Some(listing));
        listing.status = status;
        listing.updated_at = clock;
        events.push(MarketEvent::Updated(Arc::new(listing.clone())));
        self.history.update_purchase(number, |purchase| purchase.status = status);
    }

    /// Credits the coins of a cancelled purchase.
    fn refund(&mut self, number: u64, at: Duration, events: &mut Vec<MarketEvent>) {
        let Some(listing) = self.bought.get(&number) else { return };
        let (price, id) = (listing.item.total, listing.id());
        self.history.update_purchase(number, |purchase| purchase.refunded_at = Some(at));
        self.change_balance(at, price, id, events);
    }
}

impl MarketModel for MarketState {
    type Event = MarketEvent;
    type Id = String;

    fn clock(&self, now: Duration) -> UnixMs {
        self.opened_at.plus(now)
    }

    fn next_due(&mut self) -> Option<Duration> {
        let listed = self.catalogue.peek().map(|item| item.arrival.at);
        let due = self.scheduled.peek().map(|Reverse((at, ..))| *at);
        listed.into_iter().chain(due).min()
    }

    fn advance(&mut self, now: Duration, events: &mut Vec<MarketEvent>) {
        for _ in 0..STEPS_MAX {
            let Some(at) = self.next_due().filter(|at| *at <= now) else { return };
            if self.scheduled.peek().is_some_and(|Reverse((due, ..))| *due == at)
                && let Some(Reverse((_, due))) = self.scheduled.pop()
            {
                self.apply_scheduled(due, at, events);
            } else {
                self.list_group(now, events);
            }
        }
    }

    fn list_items(
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

    fn history(&self) -> &MarketHistory {
        &self.history
    }

    fn record_response(&mut self, id: &str, connection: u64, at: Duration) {
        if let Some(number) = number_of("Trade", id) {
            self.history.record_response(number, connection, at);
        }
    }

    fn adjust_balance(&mut self, now: Duration, change: Amount, events: &mut Vec<MarketEvent>) {
        let change = change.max(Amount::ZERO.saturating_sub(self.balance));
        self.change_balance(now, change, String::new(), events);
    }

    fn false_event(&self, kind: FaultKind, now: Duration, rng: &mut Rng) -> Option<MarketEvent> {
        let clock = self.clock(now);
        match kind {
            FaultKind::FeedLie => {
                let bought = self.bought.values().rev().take(NEWEST);
                let listing = *rng.choice(&bought.collect::<Vec<_>>())?;
                let statuses = [
                    TradeStatus::Cancelled,
                    TradeStatus::Expired,
                    TradeStatus::Cooldown,
                    TradeStatus::Completed,
                    TradeStatus::Joined,
                    TradeStatus::Listed,
                ];
                let wrong = statuses.iter().filter(|status| **status != listing.status);
                let status = **rng.choice(&wrong.collect::<Vec<_>>())?;
                Some(updated(Listing { status, updated_at: clock, ..listing.clone() }))
            }
            FaultKind::PushLie => {
                let twice = self.balance.cents().saturating_mul(2);
                let balance = Amount::from_cents(rng.i64(0..=twice));
                let change = balance.saturating_sub(self.balance);
                Some(MarketEvent::Wallet { balance, change, cause: String::new() })
            }
            FaultKind::FeedRelist => {
                let bought = self.bought.values().rev().take(NEWEST);
                let known = bought.chain(self.open.values().rev().take(NEWEST));
                let listing = *rng.choice(&known.collect::<Vec<_>>())?;
                let (status, buyer, joined_at) = (TradeStatus::Listed, None, None);
                let again = Listing { status, buyer, joined_at, ..listing.clone() };
                Some(MarketEvent::Created(vec![Arc::new(again)]))
            }
            FaultKind::FeedUnlist => {
                let open = self.open.values().rev().take(NEWEST);
                let listing = *rng.choice(&open.collect::<Vec<_>>())?;
                let statuses = [TradeStatus::Cancelled, TradeStatus::Expired, TradeStatus::Joined];
                let status = *rng.choice(&statuses)?;
                let is_joined = status == TradeStatus::Joined;
                let buyer = is_joined.then_some(ListingBuyer::Rival);
                let joined_at = is_joined.then_some(clock);
                let gone =
                    Listing { status, buyer, joined_at, updated_at: clock, ..listing.clone() };
                Some(updated(gone))
            }
            _ => None,
        }
    }
}

fn updated(listing: Listing) -> MarketEvent {
    MarketEvent::Updated(Arc::new(listing))
}

/// Cause of a rejected order. The messages are the marketplace's own where they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaleRejection {
    /// Closed less than 500 ms ago, or not joinable yet.
    NotJoinable,
    /// Closed 500 ms ago or earlier.
    NoLongerAvailable,
    DailyLimit,
    Unauthenticated,
    /// The balance is below the price.
    Balance,
    /// No listing with this id ever existed.
    NotFound,
    /// `hasCompliedToAntiRWT` is not true.
    NotCompliant,
    /// The order does not contain exactly one id.
    NotOne,
}

impl SaleRejection {
    pub const fn message(self) -> &'static str {
        match self {
            Self::NotJoinable => "Trade is not joinable",
            Self::NoLongerAvailable => "This trade is no longer available",
            Self::DailyLimit => "This trade exceeds your daily withdrawal limit",
            Self::Unauthenticated => "unauthenticated",
            Self::Balance => "Insufficient balance",
            Self::NotFound => "Trade not found",
            Self::NotCompliant => "You must agree to the terms of trading",
            Self::NotOne => "Exactly one trade must be joined at a time",
        }
    }
}

impl From<&Result<Arc<Listing>, SaleRejection>> for OrderDecision {
    fn from(result: &Result<Arc<Listing>, SaleRejection>) -> Self {
        match result {
            Ok(_) => Self::Sold,
            Err(rejection) => Self::Rejected(rejection.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::sim::{
        faults::FaultKind,
        random::Rng,
        settings::{Rate, Rivals},
    };

    const NOON: UnixMs = UnixMs(1_772_366_400_000);

    fn quiet() -> SimSettings {
        SimSettings { rate: Rate::NONE, rivals: None, ..SimSettings::default() }
    }

    fn open(settings: &SimSettings) -> MarketState {
        MarketState::new(settings, NOON)
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn redline(cents: i64) -> ListedItem {
        let price = Amount::from_cents(cents);
        ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price)
    }

    /// Lists one item and checks the result of an order for it `after` seconds later.
    #[track_caller]
    fn check(
        settings: &SimSettings,
        item: ListedItem,
        after: u64,
        expected: Result<(), SaleRejection>,
    ) {
        let mut market = open(settings);
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![item], &mut events);
        let joined = market.join(seconds(1 + after), &ids[0], &mut events);
        assert_eq!(joined.map(|_| ()), expected);
    }

    #[test]
    fn a_listing_is_sold_and_paid_once() {
        let mut market = open(&quiet());
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
        let sold = market.join(seconds(2), &ids[0], &mut events).unwrap();
        assert_eq!((sold.status, sold.buyer), (TradeStatus::Joined, Some(ListingBuyer::User)));
        assert_eq!(market.balance().cents(), 49_000);
        assert_eq!(market.join(seconds(2), &ids[0], &mut events), Err(SaleRejection::NotJoinable));
        assert_eq!(
            market.join(seconds(3), &ids[0], &mut events),
            Err(SaleRejection::NoLongerAvailable)
        );
        assert_eq!(market.balance().cents(), 49_000);
        assert!(matches!(
            &events[..],
            [MarketEvent::Created(_), MarketEvent::Updated(_), MarketEvent::Wallet { .. }]
        ));
    }

    #[test]
    fn an_order_that_cannot_be_executed_is_rejected_with_its_cause() {
        check(&quiet(), redline(1_000), 1, Ok(()));
        check(&quiet(), redline(50_000), 1, Ok(()));
        check(&quiet(), redline(50_001), 1, Err(SaleRejection::Balance));
        let limited = SimSettings { daily_limit: Some(Amount::from_cents(999)), ..quiet() };
        check(&limited, redline(1_000), 1, Err(SaleRejection::DailyLimit));
        for defect in [ListingDefect::Own, ListingDefect::CannotJoin, ListingDefect::NotListed] {
            let odd = ListedItem { defect: Some(defect), ..redline(1_000) };
            check(&quiet(), odd, 1, Err(SaleRejection::NotJoinable));
        }
        let short = ListedItem { open_for: seconds(5), ..redline(1_000) };
        check(&quiet(), short.clone(), 4, Ok(()));
        check(&quiet(), short, 8, Err(SaleRejection::NoLongerAvailable));
    }

    #[test]
    fn a_held_listing_can_be_joined_once_its_time_is_reached() {
        let held = ListedItem { can_join_after: Some(seconds(3)), ..redline(1_000) };
        check(&quiet(), held.clone(), 2, Err(SaleRejection::NotJoinable));
        check(&quiet(), held, 3, Ok(()));
    }

    #[test]
    fn a_flagged_account_waits_longer_than_others() {
        let item = ListedItem { suspected_can_join_after: seconds(2), ..redline(1_000) };
        let flagged = SimSettings { suspected_trader: true, ..quiet() };
        check(&quiet(), item.clone(), 0, Ok(()));
        check(&flagged, item.clone(), 1, Err(SaleRejection::NotJoinable));
        check(&flagged, item, 2, Ok(()));
    }

    #[test]
    fn a_rival_buys_a_listing_at_its_time_and_not_before() {
        let contested =
            ListedItem { rival_after: Some(Duration::from_millis(2_600)), ..redline(1_000) };
        check(&quiet(), contested.clone(), 2, Ok(()));
        check(&quiet(), contested.clone(), 3, Err(SaleRejection::NotJoinable));
        check(&quiet(), contested, 4, Err(SaleRejection::NoLongerAvailable));
    }

    #[test]
    fn an_order_for_an_unknown_id_is_rejected_as_not_found() {
        let mut market = open(&quiet());
        for id in ["", "nonsense", "VHJhZGU6MQ"] {
            assert_eq!(
                market.join(seconds(1), id, &mut Vec::new()),
                Err(SaleRejection::NotFound),
                "{id}"
            );
        }
    }

    #[test]
    fn each_purchase_is_delivered_or_refunded() {
        let settings = SimSettings {
            delivery: Delivery { fail_permille: 300, ..Delivery::default() },
            balance: Amount::from_cents(1_000_000),
            ..quiet()
        };
        let mut market = open(&settings);
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![redline(1_000); 100], &mut events);
        for id in &ids {
            market.join(seconds(2), id, &mut events).unwrap();
        }
        assert_eq!(market.balance().cents(), 900_000);
        market.advance(seconds(60), &mut events);
        let returned = market.history().purchases().filter(|(_, one)| one.is_refunded()).count();
        assert!((15..50).contains(&returned), "{returned}");
        let back = i64::try_from(returned).unwrap() * 1_000;
        assert_eq!(market.balance().cents(), 900_000 + back);
        assert_eq!(market.history().spent().cents(), 100_000 - back);
        assert!(
            market
                .bought()
                .all(|one| !matches!(one.status, TradeStatus::Joined | TradeStatus::Processing))
        );
    }

    /// A market on which every purchase is cancelled after 5 s and refunded after 10 s more.
    fn cancelling_market() -> MarketState {
        open(&SimSettings {
            delivery: Delivery {
                confirm: (seconds(5), seconds(5)),
                refund: (seconds(10), seconds(10)),
                fail_permille: 1_000,
                ..Delivery::default()
            },
            ..quiet()
        })
    }

    #[test]
    fn a_purchase_is_cancelled_before_it_is_refunded() {
        let mut market = cancelling_market();
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
        market.join(seconds(2), &ids[0], &mut events).unwrap();
        market.advance(Duration::from_millis(16_999), &mut events);
        let is_cancelled = |status| {
            matches!(status, TradeStatus::Cancelled | TradeStatus::Expired | TradeStatus::Cooldown)
        };
        assert!(market.bought().all(|one| is_cancelled(one.status)));
        assert_eq!((market.balance().cents(), market.history().spent().cents()), (49_000, 1_000));
        market.advance(seconds(17), &mut events);
        let purchase = market.history().listing(&ids[0]).unwrap().purchase.unwrap();
        assert_eq!(
            (purchase.cancelled_at, purchase.refunded_at),
            (Some(seconds(7)), Some(seconds(17)))
        );
        assert_eq!((market.balance().cents(), market.history().spent().cents()), (50_000, 0));
    }

    #[test]
    fn past_states_of_the_account_can_be_read_for_a_minute() {
        let mut market = cancelling_market();
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
        market.join(seconds(2), &ids[0], &mut events).unwrap();
        let now = seconds(40);
        market.advance(now, &mut events);
        let state_at = |at: u64| {
            let age = now.saturating_sub(seconds(at));
            let bought = market.bought_before(now, age);
            let status = bought.first().map(|one| one.status == TradeStatus::Joined);
            (market.balance_before(now, age).cents(), status)
        };
        assert_eq!(state_at(1), (50_000, None));
        assert_eq!([state_at(2), state_at(6)], [(49_000, Some(true)); 2]);
        assert_eq!([state_at(7), state_at(16)], [(49_000, Some(false)); 2]);
        assert_eq!([state_at(17), state_at(40)], [(50_000, Some(false)); 2]);
    }

    #[test]
    fn the_history_has_the_price_paid_if_it_is_above_the_listed_one() {
        let mut market = cancelling_market();
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![redline(1_000)], &mut events);
        let sold = market.join(seconds(2), &ids[0], &mut events).unwrap();
        let repriced = market.surcharge(seconds(2), &sold, Amount::from_cents(100), &mut events);
        assert_eq!((repriced.item.total.cents(), market.balance().cents()), (1_100, 48_900));
        assert_eq!(market.history().spent().cents(), 1_100);
        assert!(market.bought().all(|one| one.item.total.cents() == 1_100));
        market.advance(seconds(60), &mut events);
        assert_eq!(market.balance().cents(), 50_000);
    }

    #[test]
    fn false_events_are_about_existing_listings_and_change_nothing() {
        let mut market = open(&quiet());
        let mut rng = Rng::with_seed(7);
        for kind in
            [FaultKind::FeedLie, FaultKind::FeedRelist, FaultKind::FeedUnlist, FaultKind::FeedCut]
        {
            assert_eq!(market.false_event(kind, Duration::ZERO, &mut rng), None, "{kind}");
        }
        let mut events = Vec::new();
        let ids = market.list_items(seconds(1), vec![redline(1_000); 2], &mut events);
        market.join(seconds(2), &ids[0], &mut events).unwrap();
        for _ in 0..100 {
            let mut false_event =
                |kind| market.false_event(kind, Duration::ZERO, &mut rng).unwrap();
            let MarketEvent::Updated(purchase) = false_event(FaultKind::FeedLie) else {
                panic!("no update")
            };
            assert_eq!(
                (purchase.id(), purchase.status == TradeStatus::Joined),
                (ids[0].clone(), false)
            );
            let MarketEvent::Wallet { balance, .. } = false_event(FaultKind::PushLie) else {
                panic!("no balance")
            };
            assert!(balance.cents() <= 98_000);
            let MarketEvent::Created(again) = false_event(FaultKind::FeedRelist) else {
                panic!("no listing")
            };
            assert!(ids.contains(&again[0].id()) && again[0].status == TradeStatus::Listed);
            let MarketEvent::Updated(gone) = false_event(FaultKind::FeedUnlist) else {
                panic!("no update")
            };
            assert_eq!((gone.id(), gone.status == TradeStatus::Listed), (ids[1].clone(), false));
        }
        assert_eq!((market.open().count(), market.balance().cents()), (1, 49_000));
    }

    #[test]
    fn the_same_seed_gives_the_same_market() {
        let events = |seed| {
            let mut market = open(&SimSettings { seed, ..SimSettings::default() });
            let mut events = Vec::new();
            while let Some(due) = market.next_due().filter(|due| *due < seconds(20)) {
                market.advance(due, &mut events);
            }
            events
        };
        assert_eq!(events(7), events(7));
        assert_ne!(events(7), events(8));
        let is_rival = |event: &&MarketEvent| matches!(event, MarketEvent::Updated(one) if one.buyer == Some(ListingBuyer::Rival));
        assert!(events(7).iter().filter(is_rival).count() > 50);
    }

    #[test]
    fn rivals_are_optional() {
        let settings = SimSettings { rivals: None, ..SimSettings::default() };
        let mut market = open(&settings);
        let mut events = Vec::new();
        market.advance(seconds(20), &mut events);
        assert!(events.iter().all(|event| matches!(event, MarketEvent::Created(_))));
        let eager = Rivals { share_permille: 1_000, ..Rivals::default() };
        let mut market = open(&SimSettings { rivals: Some(eager), ..SimSettings::default() });
        market.advance(seconds(20), &mut Vec::new());
        market.advance(seconds(20) + eager.delay_max + seconds(40), &mut events);
        assert!(market.open().count() < market.history().listings().count());
    }

    #[test]
    fn the_oldest_listings_are_closed_beyond_the_limit() {
        let mut market = open(&SimSettings { rivals: None, ..SimSettings::default() });
        let mut events = Vec::new();
        let ids = market.list_items(seconds(0), vec![redline(1_000); OPEN_MAX], &mut events);
        let due = market.next_due().unwrap();
        market.advance(due, &mut events);
        let above = usize::try_from(market.history().listed).unwrap() - OPEN_MAX;
        assert!(above > 0);
        assert_eq!(market.open().count(), OPEN_MAX);
        let closed = market.history().listings().filter(|listing| listing.closed.is_some());
        let closed: HashSet<&str> = closed.map(|listing| &*listing.id).collect();
        assert_eq!(ids.iter().filter(|id| closed.contains(id.as_str())).count(), above);
        assert!(ids.iter().take(above).all(|id| closed.contains(id.as_str())));
    }

    proptest! {
        /// Invariants 1 and 2.
        #[test]
        fn no_listing_is_sold_twice_and_the_balance_is_exact(
            steps in prop::collection::vec((0_usize..12, 0_u64..900), 1..60),
            fail_permille in 0_u32..1_000,
            balance in 0_i64..20_000,
        ) {
            let delivery = Delivery { fail_permille, ..Delivery::default() };
            let balance = Amount::from_cents(balance);
            let mut market = open(&SimSettings { balance, delivery, ..quiet() });
            let mut events = Vec::new();
            let rival = |after: u64| Some(Duration::from_millis(after)).filter(|_| after.is_multiple_of(2));
            let items = (0..12_u64).map(|n| ListedItem { rival_after: rival(n * 700), ..redline(1_000) });
            let ids = market.list_items(Duration::ZERO, items.collect(), &mut events);
            let mut now = Duration::ZERO;
            for (which, wait) in steps {
                now += Duration::from_millis(wait);
                let result = market.join(now, &ids[which], &mut events);
                prop_assert!(result.is_err() || market.bought().any(|one| one.id() == ids[which]));
                prop_assert!(Amount::ZERO <= market.balance());
                let spent = market.history().spent();
                prop_assert_eq!(market.balance().saturating_add(spent), balance);
            }
            let mut owners = BTreeMap::new();
            for event in &events {
                if let MarketEvent::Updated(listing) = event {
                    let before = owners.insert(listing.number, listing.buyer);
                    prop_assert!(before.is_none_or(|before| before == listing.buyer));
                }
            }
        }
    }
}
