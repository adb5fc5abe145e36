//! Listings that may be bought later: held until their moment, unless they are taken first. Pure.

use std::collections::{BTreeMap, HashMap};

use crate::{
    domain::time::UnixMs,
    domain::trade::{Trade, TradeId},
};

/// A listing that is waited for.
#[derive(Debug)]
pub struct HeldListing {
    /// The listing.
    pub trade: Trade<'static>,
    /// The index of the entry that wants it.
    pub entry: usize,
}

/// Listings by the moment of the server's clock from which they may be bought.
#[derive(Debug)]
pub struct HeldListings {
    by_mark: BTreeMap<(UnixMs, TradeId), HeldListing>,
    marks: HashMap<TradeId, UnixMs>,
    max: usize,
}

impl HeldListings {
    /// Holds at most this many.
    pub fn new(max: usize) -> Self {
        Self { by_mark: BTreeMap::new(), marks: HashMap::new(), max }
    }

    /// Holds a listing until a moment. `false`, and nothing happens, if there is no room.
    pub fn hold(&mut self, mark: UnixMs, held: HeldListing) -> bool {
        if self.by_mark.len() >= self.max {
            return false;
        }
        let id = held.trade.id;
        self.release(&id);
        self.marks.insert(id, mark);
        self.by_mark.insert((mark, id), held);
        true
    }

    /// The listing of this id, if it is held.
    pub fn get(&self, id: &TradeId) -> Option<&HeldListing> {
        let mark = self.marks.get(id)?;
        self.by_mark.get(&(*mark, *id))
    }

    /// Lets go of a listing, if it is held.
    pub fn release(&mut self, id: &TradeId) -> Option<HeldListing> {
        let mark = self.marks.remove(id)?;
        self.by_mark.remove(&(mark, *id))
    }

    /// The earliest mark of all.
    pub fn next_mark(&self) -> Option<UnixMs> {
        self.by_mark.first_key_value().map(|((mark, _), _)| *mark)
    }

    /// Takes the earliest listing, if its mark is not after this moment.
    pub fn take_due(&mut self, earliest: UnixMs) -> Option<HeldListing> {
        let ((mark, id), _) = self.by_mark.first_key_value()?;
        if earliest < *mark {
            return None;
        }
        let id = *id;
        self.release(&id)
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.by_mark.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_mark.is_empty()
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
    fn the_earliest_comes_first_and_none_before_its_mark() {
        let mut listings = HeldListings::new(8);
        assert!(listings.hold(UnixMs(30), held("c")));
        assert!(listings.hold(UnixMs(10), held("a")));
        assert!(listings.hold(UnixMs(20), held("b")));
        assert_eq!(listings.next_mark(), Some(UnixMs(10)));
        assert!(listings.take_due(UnixMs(9)).is_none());
        assert_eq!(listings.take_due(UnixMs(25)).unwrap().trade.id, id("a"));
        assert_eq!(listings.take_due(UnixMs(25)).unwrap().trade.id, id("b"));
        assert!(listings.take_due(UnixMs(25)).is_none());
        assert_eq!(listings.len(), 1);
    }

    #[test]
    fn what_was_taken_by_somebody_else_is_let_go() {
        let mut listings = HeldListings::new(8);
        assert!(listings.hold(UnixMs(10), held("a")));
        assert!(listings.release(&id("a")).is_some());
        assert!(listings.release(&id("a")).is_none());
        assert!(listings.is_empty() && listings.next_mark().is_none());
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut listings = HeldListings::new(2);
        assert!(listings.hold(UnixMs(1), held("a")));
        assert!(listings.hold(UnixMs(2), held("b")));
        assert!(!listings.hold(UnixMs(3), held("c")));
        assert_eq!((listings.len(), listings.marks.len()), (2, 2));
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
