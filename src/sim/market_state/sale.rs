//! Sales to the account and to rivals, and the later states of a purchase. Pure.

use std::{sync::Arc, time::Duration};

use super::{MarketEvent, MarketState, PURCHASES_MAX, ScheduledChange};
use crate::{
    domain::money::Amount,
    domain::trade::TradeStatus,
    sim::{
        history::{CloseReason, OrderDecision, PurchaseRecord},
        listing::{Listing, ListingBuyer, global_id, number_of},
        offer::ListedItem,
        random::{self, RngExt as _},
    },
};

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

impl MarketState {
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

    pub(super) fn was_listed(&self, number: u64) -> bool {
        (self.first_number..self.next_number).contains(&number)
    }

    /// Returns the rejection for a closed listing, which depends on the time since it was closed.
    fn closed_rejection(&self, number: u64, now: Duration) -> SaleRejection {
        let id = global_id("Trade", number);
        let closed = self.history.listing(&id).and_then(|entry| entry.closed);
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
        self.snapshots.record_purchase(now, number, None);
        self.daily_remaining = self.daily_remaining.map(|left| left.saturating_sub(price));
        let mut rng = random::stream(self.seed, number);
        let (least, most) = self.delivery.confirm;
        self.schedule(
            now.saturating_add(rng.duration(least, most)),
            number,
            ScheduledChange::Confirmed,
        );
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
        self.snapshots.record_purchase(now, sold.number, self.bought.get(&sold.number));
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
        self.snapshots.record_balance(now, self.balance);
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

    /// Changes the balance without a purchase, for tests of the bot's reconciliation.
    pub fn adjust_balance(&mut self, now: Duration, change: Amount, events: &mut Vec<MarketEvent>) {
        let change = change.max(Amount::ZERO.saturating_sub(self.balance));
        self.change_balance(now, change, String::new(), events);
    }
}

impl MarketState {
    /// Applies one scheduled change.
    pub(super) fn apply_scheduled(
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
            let (least, most) = self.delivery.refund;
            return self.schedule(
                at.saturating_add(rng.duration(least, most)),
                number,
                ScheduledChange::Refunded,
            );
        }
        self.set_status(number, TradeStatus::Processing, at, events);
        let (least, most) = self.delivery.deliver;
        self.schedule(
            at.saturating_add(rng.duration(least, most)),
            number,
            ScheduledChange::Delivered,
        );
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
        self.snapshots.record_purchase(at, number, Some(listing));
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

impl From<&Result<Arc<Listing>, SaleRejection>> for OrderDecision {
    fn from(result: &Result<Arc<Listing>, SaleRejection>) -> Self {
        match result {
            Ok(_) => Self::Sold,
            Err(rejection) => Self::Rejected(rejection.message()),
        }
    }
}
