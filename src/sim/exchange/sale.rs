//! Who gets a listing, what it costs them, and what becomes of it afterwards. Pure.

use std::{sync::Arc, time::Duration};

use super::{Due, Event, Exchange, PURCHASES_MAX};
use crate::{
    money::Coins,
    sim::{
        books::{Closed, Decision, Purchase},
        dice::Dice,
        listing::{Buyer, Listing, global_id, number_of},
        offer::Offer,
    },
    trade::Status,
};

/// Why somebody does not get what they ask for. The words are the marketplace's, as far as the
/// table of wire facts knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
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

impl Refusal {
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

impl Exchange {
    /// Sells a listing to the account, if it can be had.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] where it cannot.
    pub fn join(
        &mut self,
        now: Duration,
        id: &str,
        events: &mut Vec<Event>,
    ) -> Result<Arc<Listing>, Refusal> {
        self.advance(now, events);
        let number = number_of("Trade", id).filter(|number| self.was_listed(*number));
        let number = number.ok_or(Refusal::NotFound)?;
        let listing = self.open.get(&number).ok_or(self.taken(number, now))?;
        let clock = self.clock(now);
        let early = listing.can_join_after().is_some_and(|after| clock < after)
            || (self.suspected_trader && clock < listing.suspected_can_join_after());
        if early || listing.status != Status::Listed || listing.offer.oddity.is_some() {
            return Err(Refusal::NotJoinable);
        }
        let price = listing.offer.total;
        if self.daily_left.is_some_and(|left| left < price) || self.bought.len() >= PURCHASES_MAX {
            return Err(Refusal::DailyLimit);
        }
        if self.balance < price {
            return Err(Refusal::Balance);
        }
        self.sell(number, now, events).ok_or(Refusal::NoLongerAvailable)
    }

    pub(super) fn was_listed(&self, number: u64) -> bool {
        (self.first_number..self.next_number).contains(&number)
    }

    /// What is said about a listing that is gone: at first that it cannot be joined.
    fn taken(&self, number: u64, now: Duration) -> Refusal {
        let id = global_id("Trade", number);
        let closed = self.books.entry(&id).and_then(|entry| entry.closed);
        match closed {
            Some((at, _)) if now.saturating_sub(at) < Duration::from_millis(500) => {
                Refusal::NotJoinable
            }
            _ => Refusal::NoLongerAvailable,
        }
    }

    fn sell(
        &mut self,
        number: u64,
        now: Duration,
        events: &mut Vec<Event>,
    ) -> Option<Arc<Listing>> {
        let mut listing = self.open.remove(&number)?;
        let clock = self.clock(now);
        listing.status = Status::Joined;
        listing.buyer = Some(Buyer::User);
        listing.joined_at = Some(clock);
        listing.updated_at = clock;
        let price = listing.offer.total;
        self.books.close(number, now, Closed::Bought);
        self.books.purchase(number, Purchase::new(now, price));
        self.past.purchase(now, number, None);
        self.daily_left = self.daily_left.map(|left| left.saturating_sub(price));
        let mut dice = Dice::aside(self.seed, number);
        let (least, most) = self.delivery.confirm;
        self.appoint(now.saturating_add(dice.wait(least, most)), number, Due::Confirmed);
        self.bought.insert(number, listing.clone());
        let listing = Arc::new(listing);
        events.push(Event::Updated(Arc::clone(&listing)));
        self.pay(now, Coins::ZERO.saturating_sub(price), listing.id(), events);
        Some(listing)
    }

    /// Charges more for a purchase than it was listed for, as far as the balance suffices.
    pub fn surcharge(
        &mut self,
        now: Duration,
        sold: &Listing,
        more: Coins,
        events: &mut Vec<Event>,
    ) -> Arc<Listing> {
        let more = more.min(self.balance);
        let price = sold.offer.total.saturating_add(more);
        let dearer = Arc::new(sold.priced(price));
        self.past.purchase(now, sold.number, self.bought.get(&sold.number));
        self.bought.insert(sold.number, Listing::clone(&dearer));
        self.books.settle(sold.number, |purchase| purchase.price = price);
        self.pay(now, Coins::ZERO.saturating_sub(more), dearer.id(), events);
        dearer
    }

    fn pay(&mut self, now: Duration, change: Coins, cause: String, events: &mut Vec<Event>) {
        self.past.paid(now, self.balance);
        self.balance = self.balance.saturating_add(change);
        self.books.balance = self.balance;
        events.push(Event::Wallet { balance: self.balance, change, cause });
    }

    /// A purchase that nobody asked for; for tests of what a bot does about it.
    pub fn foist(
        &mut self,
        now: Duration,
        offer: Offer,
        events: &mut Vec<Event>,
    ) -> Option<String> {
        let number = self.list(now, offer).number;
        self.sell(number, now, events).map(|listing| listing.id())
    }

    /// Coins that come or go without a purchase; for tests of what a bot does about it.
    pub fn adjust(&mut self, now: Duration, change: Coins, events: &mut Vec<Event>) {
        let change = change.max(Coins::ZERO.saturating_sub(self.balance));
        self.pay(now, change, String::new(), events);
    }
}

/// What happens by itself.
impl Exchange {
    /// Lets one thing happen that is due.
    pub(super) fn happens(
        &mut self,
        (number, due): (u64, Due),
        at: Duration,
        events: &mut Vec<Event>,
    ) {
        match due {
            Due::Taken => self.close(number, Status::Joined, at, events),
            Due::Expired => self.close(number, Status::Expired, at, events),
            Due::Confirmed => self.confirmed(number, at, events),
            Due::Delivered => self.settle(number, Status::Completed, at, events),
            Due::Refunded => self.refund(number, at, events),
        }
    }

    /// The seller of a purchase confirms, or cancels.
    fn confirmed(&mut self, number: u64, at: Duration, events: &mut Vec<Event>) {
        let mut dice = Dice::aside(self.seed, number.wrapping_add(1 << 40));
        let ended = if dice.permille(self.delivery.fail_permille) {
            dice.pick(&[Status::Cancelled, Status::Cancelled, Status::Expired, Status::Cooldown])
        } else {
            None
        };
        if let Some(ended) = ended {
            self.settle(number, *ended, at, events);
            self.books.settle(number, |purchase| purchase.cancelled_at = Some(at));
            let (least, most) = self.delivery.refund;
            return self.appoint(at.saturating_add(dice.wait(least, most)), number, Due::Refunded);
        }
        self.settle(number, Status::Processing, at, events);
        let (least, most) = self.delivery.deliver;
        self.appoint(at.saturating_add(dice.wait(least, most)), number, Due::Delivered);
    }

    /// Writes down where a purchase stands now.
    fn settle(&mut self, number: u64, status: Status, at: Duration, events: &mut Vec<Event>) {
        let clock = self.clock(at);
        let Some(listing) = self.bought.get_mut(&number) else { return };
        self.past.purchase(at, number, Some(listing));
        listing.status = status;
        listing.updated_at = clock;
        events.push(Event::Updated(Arc::new(listing.clone())));
        self.books.settle(number, |purchase| purchase.status = status);
    }

    /// Gives the coins of a cancelled purchase back.
    fn refund(&mut self, number: u64, at: Duration, events: &mut Vec<Event>) {
        let Some(listing) = self.bought.get(&number) else { return };
        let (price, id) = (listing.offer.total, listing.id());
        self.books.settle(number, |purchase| purchase.refunded_at = Some(at));
        self.pay(at, price, id, events);
    }
}

impl From<&Result<Arc<Listing>, Refusal>> for Decision {
    fn from(result: &Result<Arc<Listing>, Refusal>) -> Self {
        match result {
            Ok(_) => Self::Sold,
            Err(refusal) => Self::Refused(refusal.message()),
        }
    }
}
