//! Events that the feed reports although they did not happen. Pure.

use std::sync::Arc;

use super::{Event, Exchange};
use crate::{
    money::Coins,
    sim::{
        dice::Dice,
        faults::Kind,
        listing::{Buyer, Listing},
    },
    time::UnixMs,
    trade::Status,
};

/// How many of the newest purchases, and of the newest open listings, are lied about.
const NEWEST: usize = 16;

impl Exchange {
    /// What the feed reports when this goes wrong with it; `None`: there is nothing to lie about, or
    /// it goes wrong in another way. Nothing on the market changes.
    pub fn lie(&self, kind: Kind, clock: UnixMs, dice: &mut Dice) -> Option<Event> {
        match kind {
            Kind::FeedLie => {
                let bought = self.bought.values().rev().take(NEWEST);
                let listing = *dice.pick(&bought.collect::<Vec<_>>())?;
                let statuses = [
                    Status::Cancelled,
                    Status::Expired,
                    Status::Cooldown,
                    Status::Completed,
                    Status::Joined,
                    Status::Listed,
                ];
                let false_ones = statuses.iter().filter(|status| **status != listing.status);
                let status = **dice.pick(&false_ones.collect::<Vec<_>>())?;
                Some(updated(Listing { status, updated_at: clock, ..listing.clone() }))
            }
            Kind::PushLie => {
                let twice = self.balance.cents().saturating_mul(2);
                let balance = Coins::from_cents(dice.cents(0, twice));
                let change = balance.saturating_sub(self.balance);
                Some(Event::Wallet { balance, change, cause: String::new() })
            }
            Kind::FeedRelist => {
                let bought = self.bought.values().rev().take(NEWEST);
                let known = bought.chain(self.open.values().rev().take(NEWEST));
                let listing = *dice.pick(&known.collect::<Vec<_>>())?;
                let (status, buyer, joined_at) = (Status::Listed, None, None);
                let again = Listing { status, buyer, joined_at, ..listing.clone() };
                Some(Event::Created(vec![Arc::new(again)]))
            }
            Kind::FeedUnlist => {
                let open = self.open.values().rev().take(NEWEST);
                let listing = *dice.pick(&open.collect::<Vec<_>>())?;
                let statuses = [Status::Cancelled, Status::Expired, Status::Joined];
                let status = *dice.pick(&statuses)?;
                let is_joined = status == Status::Joined;
                let buyer = is_joined.then_some(Buyer::Rival);
                let joined_at = is_joined.then_some(clock);
                let gone =
                    Listing { status, buyer, joined_at, updated_at: clock, ..listing.clone() };
                Some(updated(gone))
            }
            _ => None,
        }
    }
}

fn updated(listing: Listing) -> Event {
    Event::Updated(Arc::new(listing))
}
