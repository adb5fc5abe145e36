//! Deduplication of listings in bounded memory.
//!
//! Several connections deliver the same listings, as do an old connection and its replacement. The
//! first arrival is delivered; the lateness of the others is measured.
//!
//! A listing may return after it was removed, or have an earlier price again. On the connection
//! that has delivered the change, it is then new. On others it is a late copy until they have
//! delivered the change, too. A list of open listings may be older than the feed, so a listing that
//! has ended or has changed its price on any connection is not taken from it.

use std::time::{Duration, Instant};

use crate::{
    cache::SetAssocCache,
    config::CONNECTIONS_MAX,
    domain::money::Amount,
    domain::trade::{KeyedBy, Trade, TradeEvent, TradeId, TradeKey, TradeStatus},
};

/// Number of remembered listings: about nine hours at one listing per second.
pub const SEEN_MAX: usize = 32_768;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicate {
    First,
    /// Another connection delivered it earlier, by this duration.
    Late(Duration),
    /// The same connection, or its predecessor, delivered it before.
    Repeated,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    connection: usize,
    at: Instant,
    /// Number of the event.
    number: u64,
}

/// The most recent listings.
///
/// Wanted listings are remembered apart from the others. The others may be read later than they
/// arrived, and must not change which of the wanted ones counts as the first.
#[derive(Debug)]
pub(crate) struct Deduplicator {
    wanted: SetAssocCache<Arrival>,
    others: SetAssocCache<Arrival>,
    ended: EndedListings,
    keyed_by: KeyedBy,
    /// Number of recorded events. Events of one message have one time, but different numbers.
    events: u64,
}

impl Deduplicator {
    pub(crate) fn new(keyed_by: KeyedBy) -> Self {
        let empty = Arrival { connection: 0, at: Instant::now(), number: 0 };
        let cache = || SetAssocCache::new(SEEN_MAX, empty);
        let ended = EndedListings(SetAssocCache::new(SEEN_MAX, 0));
        Self { wanted: cache(), others: cache(), ended, keyed_by, events: 0 }
    }

    /// Records that a connection has delivered the removal of a listing. Does not allocate.
    pub(crate) fn on_removed(&mut self, id: TradeId, connection: usize) {
        self.events = self.events.saturating_add(1);
        self.ended.record(id, connection, self.events);
    }

    /// Records the arrival of a listing or of an update. Does not allocate.
    #[inline]
    pub(crate) fn record(
        &mut self,
        trade: &Trade<'_>,
        is_wanted: bool,
        connection: usize,
        at: Instant,
    ) -> Duplicate {
        let kind = match trade.event {
            TradeEvent::Listed | TradeEvent::Repriced | TradeEvent::BackFilled { .. } => None,
            TradeEvent::Updated => Some(trade.status),
        };
        let key = (self.keyed_by.key_of(trade), kind);
        let arrival = self.next_arrival(connection, at);
        self.record_key(&key, trade.event, is_wanted, arrival)
    }

    /// Records the arrival of a listing that was not read. Does not allocate.
    #[inline]
    pub(crate) fn record_unnamed(
        &mut self,
        (id, price): (TradeId, Amount),
        event: TradeEvent,
        connection: usize,
        at: Instant,
    ) -> Duplicate {
        let key = (self.keyed_by.key(id, Some(price)), None);
        let arrival = self.next_arrival(connection, at);
        self.record_key(&key, event, false, arrival)
    }

    #[inline]
    fn next_arrival(&mut self, connection: usize, at: Instant) -> Arrival {
        self.events = self.events.saturating_add(1);
        Arrival { connection, at, number: self.events }
    }

    #[inline]
    fn record_key(
        &mut self,
        key: &(TradeKey, Option<TradeStatus>),
        event: TradeEvent,
        is_wanted: bool,
        arrival: Arrival,
    ) -> Duplicate {
        let (TradeKey { id, .. }, kind) = *key;
        let Arrival { connection, at, .. } = arrival;
        if matches!(event, TradeEvent::BackFilled { .. }) && self.ended.contains(id) {
            return Duplicate::Repeated;
        }
        let seen = if is_wanted || kind.is_some() { &mut self.wanted } else { &mut self.others };
        let duplicate = match seen.insert(key, arrival) {
            None => Duplicate::First,
            Some(first) if is_open(event) && self.ended.is_after(first.number, id, connection) => {
                seen.replace(key, arrival);
                Duplicate::First
            }
            Some(first) if first.connection == connection => Duplicate::Repeated,
            Some(first) => Duplicate::Late(at.saturating_duration_since(first.at)),
        };
        // A new listing ends one at another price, whose removal may be missing.
        let is_new = event == TradeEvent::Listed
            && duplicate == Duplicate::First
            && self.keyed_by == KeyedBy::IdAndPrice;
        if event == TradeEvent::Repriced || is_new {
            self.ended.record(id, connection, arrival.number);
        }
        duplicate
    }
}

/// Returns `true` for an event that shows that a listing is for sale now.
const fn is_open(event: TradeEvent) -> bool {
    matches!(event, TradeEvent::Listed | TradeEvent::Repriced)
}

/// Number of the event with which a connection has delivered the end of a listing, or of its price.
#[derive(Debug)]
struct EndedListings(SetAssocCache<u64>);

impl EndedListings {
    fn record(&mut self, id: TradeId, connection: usize, number: u64) {
        self.0.replace(&(id, connection), number);
    }

    /// Returns `true` if any connection has delivered an end.
    fn contains(&self, id: TradeId) -> bool {
        (0..CONNECTIONS_MAX).any(|connection| self.0.get(&(id, connection)).is_some())
    }

    fn is_after(&self, number: u64, id: TradeId, connection: usize) -> bool {
        self.0.get(&(id, connection)).is_some_and(|ended| number < ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{money::Amount, trade::TradeId},
        json,
        markets::csgoroll::feed::NextPayload,
    };

    fn record(seen: &mut Deduplicator, text: &str, connection: usize, at: Instant) -> Duplicate {
        let payload: NextPayload<'_> = json::read(text).unwrap();
        let trade = payload.into_trades().next().unwrap();
        seen.record(&trade, true, connection, at)
    }

    fn listed(id: usize) -> String {
        format!(r#"{{"data":{{"createTrade":{{"trade":{{"id":"t{id}"}}}}}}}}"#)
    }

    #[test]
    fn the_first_arrival_wins_and_lateness_is_measured() {
        let mut seen = Deduplicator::new(KeyedBy::Id);
        let now = Instant::now();
        let later = Duration::from_millis(7);
        assert_eq!(record(&mut seen, &listed(1), 1, now), Duplicate::First);
        assert_eq!(record(&mut seen, &listed(1), 0, now + later), Duplicate::Late(later));
        assert_eq!(record(&mut seen, &listed(1), 1, now + later), Duplicate::Repeated);
    }

    #[test]
    fn a_listing_at_another_price_is_new_only_where_the_price_belongs_to_the_key() {
        let (id, now) = (TradeId::new("t1").unwrap(), Instant::now());
        for (keyed_by, expected) in
            [(KeyedBy::Id, Duplicate::Repeated), (KeyedBy::IdAndPrice, Duplicate::First)]
        {
            let (mut seen, listed) = (Deduplicator::new(keyed_by), listed(1));
            let mut record = |cents| {
                let payload: NextPayload<'_> = json::read(&listed).unwrap();
                let trade = payload.into_trades().next().unwrap();
                let trade = Trade { id, total_value: Some(Amount::from_cents(cents)), ..trade };
                seen.record(&trade, true, 0, now)
            };
            assert_eq!(record(100), Duplicate::First);
            assert_eq!(record(101), expected);
            assert_eq!(record(100), expected, "the listing at 101 has ended that at 100");
            assert_eq!(record(100), Duplicate::Repeated);
        }
    }

    #[test]
    fn a_listing_that_returns_or_has_an_earlier_price_again_is_new() {
        let (mut seen, start) = (Deduplicator::new(KeyedBy::IdAndPrice), Instant::now());
        let trade = crate::whitelist::tests::trade("a", "Fracture Case");
        let mut second = 0;
        let mut next = || {
            second += 1;
            start + Duration::from_secs(second)
        };
        let mut record = |seen: &mut Deduplicator, event, cents, connection| {
            let total_value = Some(Amount::from_cents(cents));
            let trade = Trade { event, total_value, ..trade.clone() };
            seen.record(&trade, true, connection, next())
        };
        let (listed, repriced) = (TradeEvent::Listed, TradeEvent::Repriced);
        let late = Duplicate::Late;
        assert_eq!(record(&mut seen, listed, 100, 0), Duplicate::First);
        assert_eq!(record(&mut seen, repriced, 120, 0), Duplicate::First);
        // The other connection has not delivered the change yet.
        assert_eq!(record(&mut seen, listed, 100, 1), late(Duration::from_secs(2)));
        assert_eq!(record(&mut seen, repriced, 120, 1), late(Duration::from_secs(2)));
        assert_eq!(record(&mut seen, repriced, 100, 0), Duplicate::First);
        assert_eq!(record(&mut seen, listed, 100, 0), Duplicate::Repeated);
        seen.on_removed(trade.id, 0);
        let page = TradeEvent::BackFilled { age: Duration::ZERO };
        assert!(record(&mut seen, page, 100, 0) != Duplicate::First, "an old page");
        assert_eq!(record(&mut seen, listed, 100, 0), Duplicate::First);
        assert_eq!(record(&mut seen, listed, 100, 0), Duplicate::Repeated);
    }

    #[test]
    fn a_list_that_is_behind_the_feed_brings_back_no_ended_listing_and_no_earlier_price() {
        let (now, trade) = (Instant::now(), crate::whitelist::tests::trade("a", "Fracture Case"));
        let at = |event, cents| Trade {
            event,
            total_value: Some(Amount::from_cents(cents)),
            ..trade.clone()
        };
        let page = |cents| at(TradeEvent::BackFilled { age: Duration::ZERO }, cents);
        for connection in [0, CONNECTIONS_MAX - 1] {
            for change in [None, Some(TradeEvent::Repriced), Some(TradeEvent::Listed)] {
                let mut seen = Deduplicator::new(KeyedBy::IdAndPrice);
                match change {
                    None => seen.on_removed(trade.id, connection),
                    Some(event) => {
                        let live = seen.record(&at(event, 1_200), false, connection, now);
                        assert_eq!(live, Duplicate::First);
                    }
                }
                let found = seen.record(&page(1_000), true, usize::MAX, now);
                assert_ne!(found, Duplicate::First, "{change:?}");
                let live = seen.record(&at(TradeEvent::Listed, 1_000), true, connection, now);
                assert_eq!(live, Duplicate::First, "{change:?}");
                let other = Trade { id: TradeId::new("b").unwrap(), ..page(1_000) };
                assert_eq!(seen.record(&other, true, usize::MAX, now), Duplicate::First);
            }
        }
    }

    #[test]
    fn an_update_of_a_listing_is_not_a_duplicate() {
        let mut seen = Deduplicator::new(KeyedBy::Id);
        let now = Instant::now();
        let update = |status| {
            format!(r#"{{"data":{{"updateTrade":{{"trade":{{"id":"t1","status":"{status}"}}}}}}}}"#)
        };
        assert_eq!(record(&mut seen, &listed(1), 0, now), Duplicate::First);
        assert_eq!(record(&mut seen, &update("JOINED"), 0, now), Duplicate::First);
        assert_eq!(record(&mut seen, &update("JOINED"), 0, now), Duplicate::Repeated);
        assert_eq!(record(&mut seen, &update("CANCELLED"), 0, now), Duplicate::First);
    }

    #[test]
    fn recent_keys_are_kept_and_old_ones_evicted() {
        let mut seen = Deduplicator::new(KeyedBy::Id);
        let now = Instant::now();
        let text = listed(0);
        let payload: NextPayload<'_> = json::read(&text).unwrap();
        let trade = payload.into_trades().next().unwrap();
        let mut record = |id: usize| {
            let id = TradeId::new(&format!("t{id}")).unwrap();
            seen.record(&Trade { id, ..trade.clone() }, true, 0, now)
        };
        for id in 0..SEEN_MAX * 6 {
            assert_eq!(record(id), Duplicate::First);
        }
        for id in SEEN_MAX * 6 - 1_000..SEEN_MAX * 6 {
            assert_eq!(record(id), Duplicate::Repeated, "{id}");
        }
        assert_eq!(record(0), Duplicate::First);
    }

    #[test]
    fn a_listing_of_an_unwanted_item_does_not_precede_a_wanted_one() {
        let mut seen = Deduplicator::new(KeyedBy::Id);
        let (trade, now) = (crate::whitelist::tests::trade("a", "Fracture Case"), Instant::now());
        assert_eq!(seen.record(&trade, false, 0, now), Duplicate::First);
        assert_eq!(seen.record(&trade, true, 0, now), Duplicate::First);
        assert_eq!(seen.record(&trade, true, 0, now), Duplicate::Repeated);
    }
}
