//! Listings that are held until they open. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::{
    domain::time::UnixMs,
    domain::trade::{Trade, TradeId},
};

/// Listing that waits for its opening time.
#[derive(Debug)]
pub struct HeldListing {
    pub trade: Trade<'static>,
    /// Index of the matching whitelist entry.
    pub entry: usize,
}

impl HeldListing {
    /// Assigns the listing to the entry that `entry_of` returns. Returns `false` if there is none.
    pub(super) fn reassign(&mut self, entry_of: &impl Fn(&Trade<'_>) -> Option<usize>) -> bool {
        let entry = entry_of(&self.trade);
        self.entry = entry.unwrap_or(self.entry);
        entry.is_some()
    }
}

/// Held listings, ordered by the server time at which they open.
#[derive(Debug)]
pub struct HeldListings {
    by_time: BTreeMap<(UnixMs, TradeId), HeldListing>,
    times: HashMap<TradeId, UnixMs>,
    max: usize,
}

impl HeldListings {
    /// Creates an empty set that holds at most `max` listings.
    pub fn new(max: usize) -> Self {
        Self { by_time: BTreeMap::new(), times: HashMap::new(), max }
    }

    /// Holds a listing until it opens. Returns `false` and drops the listing if the set is full.
    pub fn hold(&mut self, available_at: UnixMs, held: HeldListing) -> bool {
        if self.by_time.len() >= self.max {
            return false;
        }
        let id = held.trade.id;
        self.release(&id);
        self.times.insert(id, available_at);
        self.by_time.insert((available_at, id), held);
        true
    }

    pub fn get(&self, id: &TradeId) -> Option<&HeldListing> {
        let available_at = self.times.get(id)?;
        self.by_time.get(&(*available_at, *id))
    }

    /// Removes and returns a listing.
    pub fn release(&mut self, id: &TradeId) -> Option<HeldListing> {
        let available_at = self.times.remove(id)?;
        self.by_time.remove(&(available_at, *id))
    }

    /// Assigns each listing to the entry that `entry_of` returns, and drops those without one.
    /// Returns the number of dropped listings.
    pub fn reassign(&mut self, entry_of: impl Fn(&Trade<'_>) -> Option<usize>) -> usize {
        let before = self.by_time.len();
        self.by_time.retain(|_, held| held.reassign(&entry_of));
        self.times.retain(|id, at| self.by_time.contains_key(&(*at, *id)));
        before.saturating_sub(self.by_time.len())
    }

    /// Returns the earliest opening time.
    pub fn next_available_at(&self) -> Option<UnixMs> {
        self.by_time.first_key_value().map(|((available_at, _), _)| *available_at)
    }

    /// Removes and returns the earliest listing if it opens at or before `earliest`, the earliest
    /// time that the server's clock can show.
    pub fn take_due(&mut self, earliest: UnixMs) -> Option<HeldListing> {
        let ((available_at, id), _) = self.by_time.first_key_value()?;
        if earliest < *available_at {
            return None;
        }
        let id = *id;
        self.release(&id)
    }

    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::tests::{REDLINE, trade};

    fn held(id: &str) -> HeldListing {
        HeldListing { trade: trade(id, REDLINE), entry: 0 }
    }

    fn id(text: &str) -> TradeId {
        TradeId::new(text).unwrap()
    }

    #[test]
    fn listings_come_out_in_order_and_none_early() {
        let mut listings = HeldListings::new(8);
        assert!(listings.hold(UnixMs(30), held("c")));
        assert!(listings.hold(UnixMs(10), held("a")));
        assert!(listings.hold(UnixMs(20), held("b")));
        assert_eq!(listings.next_available_at(), Some(UnixMs(10)));
        assert!(listings.take_due(UnixMs(9)).is_none());
        assert_eq!(listings.take_due(UnixMs(25)).unwrap().trade.id, id("a"));
        assert_eq!(listings.take_due(UnixMs(25)).unwrap().trade.id, id("b"));
        assert!(listings.take_due(UnixMs(25)).is_none());
        assert_eq!(listings.len(), 1);
    }

    #[test]
    fn a_released_listing_is_gone() {
        let mut listings = HeldListings::new(8);
        assert!(listings.hold(UnixMs(10), held("a")));
        assert!(listings.release(&id("a")).is_some());
        assert!(listings.release(&id("a")).is_none());
        assert!(listings.is_empty() && listings.next_available_at().is_none());
    }

    #[test]
    fn no_more_than_the_maximum_is_held() {
        let mut listings = HeldListings::new(2);
        assert!(listings.hold(UnixMs(1), held("a")));
        assert!(listings.hold(UnixMs(2), held("b")));
        assert!(!listings.hold(UnixMs(3), held("c")));
        assert_eq!((listings.len(), listings.times.len()), (2, 2));
    }

    #[test]
    fn a_listing_is_held_once() {
        let mut listings = HeldListings::new(8);
        assert!(listings.hold(UnixMs(10), held("a")));
        assert!(listings.hold(UnixMs(20), held("a")));
        assert_eq!(listings.len(), 1);
        assert!(listings.take_due(UnixMs(15)).is_none());
    }
}
