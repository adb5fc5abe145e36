//! Which listings have arrived already, in bounded memory.
//!
//! Several connections deliver the same listings, and so do an old one and its successor. The first
//! copy wins; who won and by how much the others were late is counted.

use std::time::{Duration, Instant};

use crate::{
    recent::Recent,
    trade::{Event, Trade},
};

/// How many listings are remembered. At one a second that is nine hours.
pub const SEEN_MAX: usize = 32_768;

/// What is known about a listing that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// It is the first.
    First,
    /// Another connection was faster, by this much.
    Late(Duration),
    /// The same connection, or a predecessor of it, delivered it before.
    Repeated,
}

/// Over which connection a listing came first, and when.
#[derive(Clone, Copy, Debug)]
struct First {
    connection: usize,
    at: Instant,
}

/// The listings that arrived last.
#[derive(Debug)]
pub(crate) struct Seen(Recent<First>);

impl Default for Seen {
    fn default() -> Self {
        Self(Recent::new(SEEN_MAX, First { connection: 0, at: Instant::now() }))
    }
}

impl Seen {
    /// Records that a connection delivered a listing, or a change of one. Allocates nothing.
    #[inline]
    pub(crate) fn record(&mut self, trade: &Trade<'_>, connection: usize, at: Instant) -> Copy {
        let kind = match trade.event {
            Event::Listed | Event::BackFilled { .. } => None,
            Event::Updated => Some(trade.status),
        };
        match self.0.insert(&(trade.id, kind), First { connection, at }) {
            None => Copy::First,
            Some(first) if first.connection == connection => Copy::Repeated,
            Some(first) => Copy::Late(at.saturating_duration_since(first.at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{csgoroll::feed::Payload, json};

    fn record(seen: &mut Seen, text: &str, connection: usize, at: Instant) -> Copy {
        let payload: Payload<'_> = json::read(text).unwrap();
        let trade = payload.into_trades().next().unwrap();
        seen.record(&trade, connection, at)
    }

    fn listed(id: usize) -> String {
        format!(r#"{{"data":{{"createTrade":{{"trade":{{"id":"t{id}"}}}}}}}}"#)
    }

    #[test]
    fn the_first_copy_wins_and_lateness_is_measured() {
        let mut seen = Seen::default();
        let now = Instant::now();
        let later = Duration::from_millis(7);
        assert_eq!(record(&mut seen, &listed(1), 1, now), Copy::First);
        assert_eq!(record(&mut seen, &listed(1), 0, now + later), Copy::Late(later));
        assert_eq!(record(&mut seen, &listed(1), 1, now + later), Copy::Repeated);
    }

    #[test]
    fn a_change_of_a_listing_is_no_copy_of_it() {
        let mut seen = Seen::default();
        let now = Instant::now();
        let update = |status| {
            format!(r#"{{"data":{{"updateTrade":{{"trade":{{"id":"t1","status":"{status}"}}}}}}}}"#)
        };
        assert_eq!(record(&mut seen, &listed(1), 0, now), Copy::First);
        assert_eq!(record(&mut seen, &update("JOINED"), 0, now), Copy::First);
        assert_eq!(record(&mut seen, &update("JOINED"), 0, now), Copy::Repeated);
        assert_eq!(record(&mut seen, &update("CANCELLED"), 0, now), Copy::First);
    }

    #[test]
    fn the_last_thousands_are_remembered_and_what_is_old_is_forgotten() {
        let mut seen = Seen::default();
        let now = Instant::now();
        for id in 0..SEEN_MAX * 6 {
            assert_eq!(record(&mut seen, &listed(id), 0, now), Copy::First);
        }
        for id in SEEN_MAX * 6 - 1_000..SEEN_MAX * 6 {
            assert_eq!(record(&mut seen, &listed(id), 0, now), Copy::Repeated, "{id}");
        }
        assert_eq!(record(&mut seen, &listed(0), 0, now), Copy::First);
    }
}
