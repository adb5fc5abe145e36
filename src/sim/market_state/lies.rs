//! False events, which the feed sends under a fault. Pure.

use std::sync::Arc;

use super::{MarketEvent, MarketState};
use crate::{
    domain::money::Amount,
    domain::time::UnixMs,
    domain::trade::TradeStatus,
    sim::{
        faults::FaultKind,
        listing::{Listing, ListingBuyer},
        random::Rng,
    },
};

/// Number of the newest purchases and open listings from which a false event chooses.
const NEWEST: usize = 16;

impl MarketState {
    /// Returns the false event of a fault, without changing the market. Returns `None` if the fault
    /// has none, or if no listing or purchase is suitable.
    pub fn false_event(
        &self,
        kind: FaultKind,
        clock: UnixMs,
        rng: &mut Rng,
    ) -> Option<MarketEvent> {
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
