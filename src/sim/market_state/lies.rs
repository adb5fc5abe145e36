//! Events that the feed reports although they did not happen. Pure.

use std::sync::Arc;

use super::{MarketEvent, MarketState};
use crate::{
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::TradeStatus,
    sim::{
        dice::Dice,
        faults::FaultKind,
        listing::{Listing, ListingBuyer},
    },
};

/// How many of the newest purchases, and of the newest open listings, are lied about.
const NEWEST: usize = 16;

impl MarketState {
    /// What the feed reports when this goes wrong with it; `None`: there is nothing to lie about, or
    /// it goes wrong in another way. Nothing on the market changes.
    pub fn lie(&self, kind: FaultKind, clock: UnixMs, dice: &mut Dice) -> Option<MarketEvent> {
        match kind {
            FaultKind::FeedLie => {
                let bought = self.bought.values().rev().take(NEWEST);
                let listing = *dice.pick(&bought.collect::<Vec<_>>())?;
                let statuses = [
                    TradeStatus::Cancelled,
                    TradeStatus::Expired,
                    TradeStatus::Cooldown,
                    TradeStatus::Completed,
                    TradeStatus::Joined,
                    TradeStatus::Listed,
                ];
                let false_ones = statuses.iter().filter(|status| **status != listing.status);
                let status = **dice.pick(&false_ones.collect::<Vec<_>>())?;
                Some(updated(Listing { status, updated_at: clock, ..listing.clone() }))
            }
            FaultKind::PushLie => {
                let twice = self.balance.cents().saturating_mul(2);
                let balance = Amount::from_cents(dice.cents(0, twice));
                let change = balance.saturating_sub(self.balance);
                Some(MarketEvent::Wallet { balance, change, cause: String::new() })
            }
            FaultKind::FeedRelist => {
                let bought = self.bought.values().rev().take(NEWEST);
                let known = bought.chain(self.open.values().rev().take(NEWEST));
                let listing = *dice.pick(&known.collect::<Vec<_>>())?;
                let (status, buyer, joined_at) = (TradeStatus::Listed, None, None);
                let again = Listing { status, buyer, joined_at, ..listing.clone() };
                Some(MarketEvent::Created(vec![Arc::new(again)]))
            }
            FaultKind::FeedUnlist => {
                let open = self.open.values().rev().take(NEWEST);
                let listing = *dice.pick(&open.collect::<Vec<_>>())?;
                let statuses = [TradeStatus::Cancelled, TradeStatus::Expired, TradeStatus::Joined];
                let status = *dice.pick(&statuses)?;
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
