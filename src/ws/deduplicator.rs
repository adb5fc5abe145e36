//! Deduplication of listings in bounded memory.
//!
//! Several connections deliver the same listings, as do an old connection and its replacement. The
//! first arrival is delivered; the lateness of the others is measured.

use std::time::{Duration, Instant};

use crate::{
    cache::SetAssocCache,
    domain::trade::{Trade, TradeEvent},
};

/// Number of remembered listings: nine hours at one listing per second.
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
struct FirstArrival {
    connection: usize,
    at: Instant,
}

/// The most recent listings.
#[derive(Debug)]
pub(crate) struct Deduplicator(SetAssocCache<FirstArrival>);

impl Default for Deduplicator {
    fn default() -> Self {
        Self(SetAssocCache::new(SEEN_MAX, FirstArrival { connection: 0, at: Instant::now() }))
    }
}

impl Deduplicator {
    /// Records the arrival of a listing or of an update. Does not allocate. With `reprices`, another
    /// price under the same id is another listing.
    #[inline]
    pub(crate) fn record(
        &mut self,
        trade: &Trade<'_>,
        reprices: bool,
        connection: usize,
        at: Instant,
    ) -> Duplicate {
        let kind = match trade.event {
            TradeEvent::Listed | TradeEvent::Repriced | TradeEvent::BackFilled { .. } => None,
            TradeEvent::Updated => Some(trade.status),
        };
        let price = trade.total_value.filter(|_price| reprices);
        match self.0.insert(&(trade.id, kind, price), FirstArrival { connection, at }) {
            None => Duplicate::First,
            Some(first) if first.connection == connection => Duplicate::Repeated,
            Some(first) => Duplicate::Late(at.saturating_duration_since(first.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json, markets::csgoroll::feed::NextPayload};

    fn record(seen: &mut Deduplicator, text: &str, connection: usize, at: Instant) -> Duplicate {
        let payload: NextPayload<'_> = json::read(text).unwrap();
        let trade = payload.into_trades().next().unwrap();
        seen.record(&trade, false, connection, at)
    }

    fn listed(id: usize) -> String {
        format!(r#"{{"data":{{"createTrade":{{"trade":{{"id":"t{id}"}}}}}}}}"#)
    }

    #[test]
    fn the_first_arrival_wins_and_lateness_is_measured() {
        let mut seen = Deduplicator::default();
        let now = Instant::now();
        let later = Duration::from_millis(7);
        assert_eq!(record(&mut seen, &listed(1), 1, now), Duplicate::First);
        assert_eq!(record(&mut seen, &listed(1), 0, now + later), Duplicate::Late(later));
        assert_eq!(record(&mut seen, &listed(1), 1, now + later), Duplicate::Repeated);
    }

    #[test]
    fn an_update_of_a_listing_is_not_a_duplicate() {
        let mut seen = Deduplicator::default();
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
    fn another_price_is_another_listing_only_where_a_market_changes_prices() {
        let listed = |price: u32| {
            format!(r#"{{"data":{{"createTrade":{{"trade":{{"id":"t","totalValue":{price}}}}}}}}}"#)
        };
        for (reprices, second) in [(false, Duplicate::Repeated), (true, Duplicate::First)] {
            let mut seen = Deduplicator::default();
            let mut record = |price| {
                let text = listed(price);
                let payload: NextPayload<'_> = json::read(&text).unwrap();
                let trade = payload.into_trades().next().unwrap();
                seen.record(&trade, reprices, 0, Instant::now())
            };
            assert_eq!(record(12), Duplicate::First);
            assert_eq!(record(11), second);
            assert_eq!(record(11), Duplicate::Repeated);
        }
    }

    #[test]
    fn recent_keys_are_kept_and_old_ones_evicted() {
        let mut seen = Deduplicator::default();
        let now = Instant::now();
        for id in 0..SEEN_MAX * 6 {
            assert_eq!(record(&mut seen, &listed(id), 0, now), Duplicate::First);
        }
        for id in SEEN_MAX * 6 - 1_000..SEEN_MAX * 6 {
            assert_eq!(record(&mut seen, &listed(id), 0, now), Duplicate::Repeated, "{id}");
        }
        assert_eq!(record(&mut seen, &listed(0), 0, now), Duplicate::First);
    }
}
