//! Listings and the events of their feed. Pure.

use std::sync::Arc;

use super::purchase::Purchase;
use crate::{
    domain::{money::Amount, time::UnixMs},
    sim::{catalogue::ListedItem, random::Rng},
};

/// Names of items of other games, with the number of the game.
const FOREIGN: [(&str, u32); 8] = [
    ("Inscribed Golden Blade of the Fallen", 2),
    ("Genuine Axe of the Machine", 2),
    ("Exalted Arcana of the Void", 2),
    ("Tempered Mask", 3),
    ("Blackout Hoodie", 3),
    ("Red Shipping Container Garage Door", 3),
    ("Tempered AK47", 3),
    ("Taunt: The Example", 2),
];

/// A listing at its current price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimListing {
    pub id: u64,
    /// Number of this price in the history.
    pub number: u64,
    pub item: Arc<ListedItem>,
    pub price: Amount,
    pub created_at: UnixMs,
    /// Time until which the listing is locked.
    pub unlock_at: Option<UnixMs>,
    /// Price up to which the listing matches the demo's whitelist.
    pub(super) wanted_up_to: Option<Amount>,
    /// Number of times that the listing was listed under this id.
    pub(super) listed_times: u32,
}

/// A listing of another game, which cannot be bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignLot {
    pub id: u64,
    pub name: &'static str,
    pub game: u32,
    pub price: Amount,
    pub created_at: UnixMs,
}

/// An event of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimEvent {
    Added(Arc<SimListing>),
    Foreign(ForeignLot),
    Repriced(Arc<SimListing>),
    Removed(Arc<SimListing>),
    Purchase(Arc<Purchase>),
    Balance(Amount),
}

/// A scheduled change of a listing or, from `Sent` on, of a purchase. The number is
/// [`SimListing::listed_times`] at the time of scheduling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SimChange {
    RivalBuys(u32),
    Expired(u32),
    Relisted,
    Sent,
    Delivered,
    RolledBack,
    Refunded,
}

impl ForeignLot {
    pub(super) fn random(id: u64, created_at: UnixMs, rng: &mut Rng) -> Self {
        let (name, game) = rng.choice(FOREIGN).unwrap_or(("Example", 2));
        Self { id, name, game, price: Amount::from_cents(rng.i64(3..=4_000)), created_at }
    }
}
