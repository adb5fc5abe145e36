//! Listings that cannot be ordered at the moment, greatest margin first. Pure.
//!
//! # Invariants
//!
//! 1. At most `max` listings wait. A full queue drops the one that would be ordered last.
//! 2. The listing with the greatest margin below its entry's limit comes first; of equal ones, the
//!    one that arrived first.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use super::held::HeldListing;
use crate::{
    domain::{
        money::Amount,
        outcome::NotSent,
        trade::{Trade, TradeId},
    },
    ledger::RiskRejection,
};

/// Reason for which a listing could not be ordered when it was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The ledger rejected it.
    Rejected(RiskRejection),
    /// The ledger approved it, but no byte of its request was sent.
    NotSent(NotSent),
}

impl WaitReason {
    /// Returns `true` if the listing may be ordered a moment later without any intervention.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Rejected(rejection) => rejection.is_transient(),
            Self::NotSent(NotSent::NoConnection | NotSent::Closed) => true,
            Self::NotSent(NotSent::Stopping) => false,
        }
    }

    /// Returns `true` if the reason prevents every order. A slice may have room for another entry,
    /// or for a lower price, and an earlier order for a listing prevents no other.
    pub const fn is_general(&self) -> bool {
        use RiskRejection::{OrderPending, SharedAmount, SharedQuantity};
        !matches!(self, Self::Rejected(OrderPending | SharedAmount { .. } | SharedQuantity { .. }))
    }
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::NotSent(reason) => reason.fmt(f),
        }
    }
}

/// Listing that waits to be ordered.
#[derive(Debug)]
pub struct QueuedListing {
    pub held: HeldListing,
    /// Time of the match, or of the opening of a held listing, from which its wait counts.
    pub since: Instant,
    /// Reason why the last attempt failed.
    pub reason: WaitReason,
}

/// Position in the queue. The smallest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueRank {
    margin: Reverse<Amount>,
    arrival: u64,
}

/// Listings that wait to be ordered.
#[derive(Debug)]
pub struct OrderQueue {
    by_rank: BTreeMap<QueueRank, QueuedListing>,
    /// Number of listings that ever arrived.
    arrivals: u64,
    max: usize,
}

impl OrderQueue {
    /// Creates an empty queue for at most `max` listings.
    pub const fn new(max: usize) -> Self {
        Self { by_rank: BTreeMap::new(), arrivals: 0, max }
    }

    pub fn len(&self) -> usize {
        self.by_rank.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_rank.is_empty()
    }

    /// Adds a listing. Returns the last one, which may be the new one, if the queue was full.
    pub fn push(&mut self, margin: Amount, listing: QueuedListing) -> Option<QueuedListing> {
        let rank = QueueRank { margin: Reverse(margin), arrival: self.arrivals };
        self.arrivals = self.arrivals.saturating_add(1);
        self.by_rank.insert(rank, listing);
        if self.by_rank.len() <= self.max {
            return None;
        }
        self.by_rank.pop_last().map(|(_rank, last)| last)
    }

    /// Removes and returns the first listing; without `all`, the first one that waits for a reason
    /// that prevents every order.
    pub fn pop(&mut self, all: bool) -> Option<(QueueRank, QueuedListing)> {
        let is_tried = |queued: &QueuedListing| all || queued.reason.is_general();
        let rank = *self.by_rank.iter().find(|(_rank, queued)| is_tried(queued))?.0;
        self.by_rank.remove_entry(&rank)
    }

    /// Puts a listing back to its place.
    pub fn restore(&mut self, rank: QueueRank, listing: QueuedListing) {
        self.by_rank.insert(rank, listing);
    }

    /// Returns the first listing that comes before a new one with this margin and waits for a
    /// reason that prevents every order.
    pub fn first_before(&self, margin: Amount) -> Option<&QueuedListing> {
        let earlier = self.by_rank.iter().take_while(|(rank, _)| margin <= rank.margin.0);
        earlier.map(|(_rank, queued)| queued).find(|queued| queued.reason.is_general())
    }

    /// Iterates over the waiting listings with this id.
    pub fn with_id(&self, id: TradeId) -> impl Iterator<Item = &QueuedListing> {
        self.by_rank.values().filter(move |queued| queued.held.trade.id == id)
    }

    /// Removes and returns the listings with this id.
    pub fn remove(&mut self, id: &TradeId) -> Vec<QueuedListing> {
        self.extract(|queued| queued.held.trade.id == *id)
    }

    /// Removes and returns the listings that have waited for `max_wait`.
    pub fn take_expired(&mut self, now: Instant, max_wait: Duration) -> Vec<QueuedListing> {
        self.extract(|queued| max_wait <= now.saturating_duration_since(queued.since))
    }

    /// Returns the time at which the first listing has waited for `max_wait`.
    pub fn next_expiry(&self, max_wait: Duration) -> Option<Instant> {
        self.by_rank.values().map(|queued| queued.since).min()?.checked_add(max_wait)
    }

    /// Assigns each listing to the entry that `entry_of` returns, and drops those without one.
    /// Returns the number of dropped listings.
    pub fn reassign(&mut self, entry_of: impl Fn(&Trade<'_>) -> Option<usize>) -> usize {
        let before = self.by_rank.len();
        self.by_rank.retain(|_, queued| queued.held.reassign(&entry_of));
        before.saturating_sub(self.by_rank.len())
    }

    /// Removes every listing. Returns their number.
    pub fn clear(&mut self) -> usize {
        std::mem::take(&mut self.by_rank).len()
    }

    fn extract(&mut self, is_taken: impl Fn(&QueuedListing) -> bool) -> Vec<QueuedListing> {
        let taken = self.by_rank.iter().filter(|(_rank, queued)| is_taken(queued));
        let ranks: Vec<QueueRank> = taken.map(|(rank, _queued)| *rank).collect();
        ranks.iter().filter_map(|rank| self.by_rank.remove(rank)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::whitelist::tests::{REDLINE, trade};

    const IN_FLIGHT: WaitReason =
        WaitReason::Rejected(RiskRejection::InFlight { in_flight: 8, max: 8 });

    fn listing(id: &str, since: Instant) -> QueuedListing {
        let held = HeldListing { trade: trade(id, REDLINE), entry: 0 };
        QueuedListing { held, since, reason: IN_FLIGHT }
    }

    fn ids(listings: Vec<QueuedListing>) -> Vec<String> {
        listings.iter().map(|queued| queued.held.trade.id.to_string()).collect()
    }

    fn drain(queue: &mut OrderQueue) -> Vec<String> {
        ids(std::iter::from_fn(|| queue.pop(true)).map(|(_rank, one)| one).collect())
    }

    fn margin(cents: i64) -> Amount {
        Amount::from_cents(cents)
    }

    #[test]
    fn a_full_queue_drops_the_listing_with_the_smallest_margin() {
        let (mut queue, now) = (OrderQueue::new(2), Instant::now());
        assert!(queue.push(margin(5), listing("a", now)).is_none());
        assert!(queue.push(margin(7), listing("b", now)).is_none());
        for (id, cents, dropped) in [("c", 5, "c"), ("d", 6, "a"), ("e", 9, "d")] {
            let last = queue.push(margin(cents), listing(id, now)).unwrap();
            assert_eq!(last.held.trade.id.as_str(), dropped);
        }
        assert_eq!(drain(&mut queue), ["e", "b"]);
    }

    #[test]
    fn a_listing_that_is_put_back_keeps_its_place() {
        let (mut queue, now) = (OrderQueue::new(8), Instant::now());
        for id in ["a", "b"] {
            assert!(queue.push(margin(5), listing(id, now)).is_none());
        }
        let (rank, first) = queue.pop(true).unwrap();
        queue.restore(rank, first);
        assert!(queue.first_before(margin(5)).is_some() && queue.first_before(margin(6)).is_none());
        assert_eq!(drain(&mut queue), ["a", "b"]);
        assert!(queue.first_before(Amount::ZERO).is_none());
    }

    #[test]
    fn listings_expire_by_their_own_time_and_leave_by_their_id() {
        let (mut queue, now) = (OrderQueue::new(8), Instant::now());
        let second = Duration::from_secs(1);
        assert_eq!(queue.next_expiry(second), None);
        for (id, cents, after) in [("a", 9, 2), ("b", 1, 1), ("c", 5, 3), ("d", 5, 3)] {
            assert!(queue.push(margin(cents), listing(id, now + second * after)).is_none());
        }
        assert_eq!(queue.next_expiry(second), Some(now + second * 2));
        assert_eq!(ids(queue.take_expired(now + second * 2, second)), ["b"]);
        assert_eq!(ids(queue.take_expired(now + second * 3, second)), ["a"]);
        let id = TradeId::new("c").unwrap();
        assert_eq!(queue.with_id(id).count(), 1);
        assert_eq!(ids(queue.remove(&id)), ["c"]);
        assert_eq!((queue.with_id(id).count(), queue.clear(), queue.len()), (0, 1, 0));
    }

    #[test]
    fn an_order_that_was_not_sent_is_transient_unless_the_bot_stops() {
        let is_transient = |reason| WaitReason::NotSent(reason).is_transient();
        assert!(is_transient(NotSent::NoConnection) && is_transient(NotSent::Closed));
        assert!(!is_transient(NotSent::Stopping));
    }

    proptest! {
        /// Compares with a sort of all listings.
        #[test]
        fn the_listings_with_the_greatest_margins_come_first(
            margins in prop::collection::vec(0_i64..20, 0..60),
            max in 1_usize..40,
        ) {
            let (mut queue, now) = (OrderQueue::new(max), Instant::now());
            let mut dropped = 0;
            for (place, cents) in margins.iter().enumerate() {
                let last = queue.push(margin(*cents), listing(&format!("t{place}"), now));
                dropped += usize::from(last.is_some());
                prop_assert!(queue.len() <= max);
            }
            prop_assert_eq!(queue.len() + dropped, margins.len());
            let mut expected: Vec<usize> = (0..margins.len()).collect();
            expected.sort_by_key(|place| (Reverse(margins[*place]), *place));
            expected.truncate(max);
            let expected: Vec<String> = expected.iter().map(|place| format!("t{place}")).collect();
            prop_assert_eq!(drain(&mut queue), expected);
        }
    }
}
