//! Who gets a listing, what it costs them, and what becomes of it afterwards. Pure.

use std::{sync::Arc, time::Duration};

use super::{MarketEvent, MarketState, PURCHASES_MAX, ScheduledChange};
use crate::{
    domain::money::Amount,
    domain::trade::TradeStatus,
    sim::{
        dice::Dice,
        listing::{Listing, ListingBuyer, global_id, number_of},
        market_books::{BookedPurchase, Closed, JoinDecision},
        offer::ListedItem,
    },
};

/// Why somebody does not get what they ask for. The words are the marketplace's, as far as the
/// table of wire facts knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaleRejection {
    /// Taken a moment ago, or too early.
    NotJoinable,
    /// Taken.
    NoLongerAvailable,
    /// No more today.
    DailyLimit,
    /// Not signed in.
    Unauthenticated,
    /// The balance does not suffice.
    Balance,
    /// Never listed.
    NotFound,
    /// `hasCompliedToAntiRWT` is not true.
    NotCompliant,
    /// Not exactly one id.
    NotOne,
}

impl SaleRejection {
    /// The message.
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

impl MarketState {
    /// Sells a listing to the account, if it can be had.
    ///
    /// # Errors
    ///
    /// A [`SaleRejection`] where it cannot.
    pub fn join(
        &mut self,
        now: Duration,
        id: &str,
        events: &mut Vec<MarketEvent>,
    ) -> Result<Arc<Listing>, SaleRejection> {
        self.advance(now, events);
        let number = number_of("Trade", id).filter(|number| self.was_listed(*number));
        let number = number.ok_or(SaleRejection::NotFound)?;
        let listing = self.open.get(&number).ok_or(self.taken(number, now))?;
        let clock = self.clock(now);
        let early = listing.can_join_after().is_some_and(|after| clock < after)
            || (self.suspected_trader && clock < listing.suspected_can_join_after());
        if early || listing.status != TradeStatus::Listed || listing.offer.oddity.is_some() {
            return Err(SaleRejection::NotJoinable);
        }
        let price = listing.offer.total;
        if self.daily_left.is_some_and(|left| left < price) || self.bought.len() >= PURCHASES_MAX {
            return Err(SaleRejection::DailyLimit);
        }
        if self.balance < price {
            return Err(SaleRejection::Balance);
        }
        self.sell(number, now, events).ok_or(SaleRejection::NoLongerAvailable)
    }

    pub(super) fn was_listed(&self, number: u64) -> bool {
        (self.first_number..self.next_number).contains(&number)
    }

    /// What is said about a listing that is gone: at first that it cannot be joined.
    fn taken(&self, number: u64, now: Duration) -> SaleRejection {
        let id = global_id("Trade", number);
        let closed = self.books.entry(&id).and_then(|entry| entry.closed);
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
        let price = listing.offer.total;
        self.books.close(number, now, Closed::Bought);
        self.books.purchase(number, BookedPurchase::new(now, price));
        self.past.purchase(now, number, None);
        self.daily_left = self.daily_left.map(|left| left.saturating_sub(price));
        let mut dice = Dice::aside(self.seed, number);
        let (least, most) = self.delivery.confirm;
        self.appoint(
            now.saturating_add(dice.wait(least, most)),
            number,
            ScheduledChange::Confirmed,
        );
        self.bought.insert(number, listing.clone());
        let listing = Arc::new(listing);
        events.push(MarketEvent::Updated(Arc::clone(&listing)));
        self.pay(now, Amount::ZERO.saturating_sub(price), listing.id(), events);
        Some(listing)
    }

    /// Charges more for a purchase than it was listed for, as far as the balance suffices.
    pub fn surcharge(
        &mut self,
        now: Duration,
        sold: &Listing,
        more: Amount,
        events: &mut Vec<MarketEvent>,
    ) -> Arc<Listing> {
        let more = more.min(self.balance);
        let price = sold.offer.total.saturating_add(more);
        let dearer = Arc::new(sold.priced(price));
        self.past.purchase(now, sold.number, self.bought.get(&sold.number));
        self.bought.insert(sold.number, Listing::clone(&dearer));
        self.books.settle(sold.number, |purchase| purchase.price = price);
        self.pay(now, Amount::ZERO.saturating_sub(more), dearer.id(), events);
        dearer
    }

    fn pay(&mut self, now: Duration, change: Amount, cause: String, events: &mut Vec<MarketEvent>) {
        self.past.paid(now, self.balance);
        self.balance = self.balance.saturating_add(change);
        self.books.balance = self.balance;
        events.push(MarketEvent::Wallet { balance: self.balance, change, cause });
    }

    /// A purchase that nobody asked for; for tests of what a bot does about it.
    pub fn foist(
        &mut self,
        now: Duration,
        offer: ListedItem,
        events: &mut Vec<MarketEvent>,
    ) -> Option<String> {
        let number = self.list(now, offer).number;
        self.sell(number, now, events).map(|listing| listing.id())
    }

    /// Coins that come or go without a purchase; for tests of what a bot does about it.
    pub fn adjust(&mut self, now: Duration, change: Amount, events: &mut Vec<MarketEvent>) {
        let change = change.max(Amount::ZERO.saturating_sub(self.balance));
        self.pay(now, change, String::new(), events);
    }
}

/// What happens by itself.
impl MarketState {
    /// Lets one thing happen that is due.
    pub(super) fn happens(
        &mut self,
        (number, due): (u64, ScheduledChange),
        at: Duration,
        events: &mut Vec<MarketEvent>,
    ) {
        match due {
            ScheduledChange::Taken => self.close(number, TradeStatus::Joined, at, events),
            ScheduledChange::Expired => self.close(number, TradeStatus::Expired, at, events),
            ScheduledChange::Confirmed => self.confirmed(number, at, events),
            ScheduledChange::Delivered => self.settle(number, TradeStatus::Completed, at, events),
            ScheduledChange::Refunded => self.refund(number, at, events),
        }
    }

    /// The seller of a purchase confirms, or cancels.
    fn confirmed(&mut self, number: u64, at: Duration, events: &mut Vec<MarketEvent>) {
        let mut dice = Dice::aside(self.seed, number.wrapping_add(1 << 40));
        let ended = if dice.permille(self.delivery.fail_permille) {
            dice.pick(&[
                TradeStatus::Cancelled,
                TradeStatus::Cancelled,
                TradeStatus::Expired,
                TradeStatus::Cooldown,
            ])
        } else {
            None
        };
        if let Some(ended) = ended {
            self.settle(number, *ended, at, events);
            self.books.settle(number, |purchase| purchase.cancelled_at = Some(at));
            let (least, most) = self.delivery.refund;
            return self.appoint(
                at.saturating_add(dice.wait(least, most)),
                number,
                ScheduledChange::Refunded,
            );
        }
        self.settle(number, TradeStatus::Processing, at, events);
        let (least, most) = self.delivery.deliver;
        self.appoint(at.saturating_add(dice.wait(least, most)), number, ScheduledChange::Delivered);
    }

    /// Writes down where a purchase stands now.
    fn settle(
        &mut self,
        number: u64,
        status: TradeStatus,
        at: Duration,
        events: &mut Vec<MarketEvent>,
    ) {
        let clock = self.clock(at);
        let Some(listing) = self.bought.get_mut(&number) else { return };
        self.past.purchase(at, number, Some(listing));
        listing.status = status;
        listing.updated_at = clock;
        events.push(MarketEvent::Updated(Arc::new(listing.clone())));
        self.books.settle(number, |purchase| purchase.status = status);
    }

    /// Gives the coins of a cancelled purchase back.
    fn refund(&mut self, number: u64, at: Duration, events: &mut Vec<MarketEvent>) {
        let Some(listing) = self.bought.get(&number) else { return };
        let (price, id) = (listing.offer.total, listing.id());
        self.books.settle(number, |purchase| purchase.refunded_at = Some(at));
        self.pay(at, price, id, events);
    }
}

impl From<&Result<Arc<Listing>, SaleRejection>> for JoinDecision {
    fn from(result: &Result<Arc<Listing>, SaleRejection>) -> Self {
        match result {
            Ok(_) => Self::Sold,
            Err(refusal) => Self::Refused(refusal.message()),
        }
    }
}
