//! How far back own purchases are read, and when. Pure.
//!
//! Most reads go back to the oldest open order. The first one, and one an hour, goes back over the
//! purchases of the last days, so that the list corrects what answers said of their prices.

use std::time::{Duration, Instant};

use super::purchases::{LookBack, PURCHASE_PAGES_MAX, PurchasesReading};
use crate::domain::time::UnixMs;

/// How far back the list corrects prices.
pub(super) const HISTORY: Duration = Duration::from_secs(8 * 86_400);

/// How often it is read that far back.
pub(super) const HISTORY_EVERY: Duration = Duration::from_secs(3_600);

/// How long the list is left alone after a walk that went to the bound of pages for nothing.
const ENDLESS_WAIT: Duration = Duration::from_secs(300);

/// What was read when.
#[derive(Debug, Default)]
pub(super) struct LookBackTimes {
    /// When purchases of the last days are due again; `None`: at once.
    history_from: Option<Instant>,
    /// When the list may be read again; `None`: at any time.
    list_from: Option<Instant>,
}

impl LookBackTimes {
    /// How far back to read now; `None`: not at all. `needed`: the moment of the oldest open order,
    /// by our wall clock, which shows `wall`.
    pub(super) fn span(&self, now: Instant, wall: UnixMs, needed: UnixMs) -> Option<LookBack> {
        let is_due = |from: Option<Instant>| from.is_none_or(|from| from <= now);
        if !is_due(self.list_from) {
            return None;
        }
        let wanted =
            if is_due(self.history_from) { needed.min(wall.minus(HISTORY)) } else { needed };
        Some(LookBack { needed, wanted, pages_max: PURCHASE_PAGES_MAX })
    }

    /// The list was read that far, as of now.
    pub(super) fn read(&mut self, now: Instant, span: LookBack, reading: &PurchasesReading) {
        let is_deep = span.wanted < span.needed;
        // Where the needed part failed, the whole is tried again at the next turn.
        if is_deep && reading.complete {
            self.history_from = now.checked_add(HISTORY_EVERY);
        }
        let is_endless = !reading.complete && span.pages_max <= reading.pages;
        self.list_from = if is_endless { now.checked_add(ENDLESS_WAIT) } else { None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::purchases::{IncompleteReason, PageWalk};

    const MINUTE: Duration = Duration::from_secs(60);
    const WALL: UnixMs = UnixMs(1_000 * 86_400_000);

    fn reading(incomplete: Option<IncompleteReason>) -> PurchasesReading {
        let empty = PageWalk::new(LookBack::back_to(WALL)).finish(WALL);
        PurchasesReading { complete: incomplete.is_none(), incomplete, ..empty }
    }

    /// Whether a read at that moment goes back over the last days.
    fn is_deep(depth: &LookBackTimes, now: Instant) -> bool {
        let span = depth.span(now, WALL, WALL).unwrap();
        assert_eq!(span.needed, WALL);
        assert!(span.wanted == WALL || span.wanted == WALL.minus(HISTORY));
        span.wanted < span.needed
    }

    #[test]
    fn the_first_read_and_one_an_hour_go_back_eight_days() {
        let start = Instant::now();
        let mut depth = LookBackTimes::default();
        let deep: Vec<u32> = (0..150)
            .filter(|minute| {
                let now = start + MINUTE * *minute;
                let span = depth.span(now, WALL, WALL).unwrap();
                depth.read(now, span, &reading(None));
                span.wanted < span.needed
            })
            .collect();
        assert_eq!(deep, [0, 60, 120]);
    }

    #[test]
    fn an_incomplete_first_read_is_deep_again() {
        let start = Instant::now();
        let mut depth = LookBackTimes::default();
        let span = depth.span(start, WALL, WALL).unwrap();
        depth.read(start, span, &reading(Some(IncompleteReason::Unclear { page: 1 })));
        assert!(is_deep(&depth, start + MINUTE));
    }

    #[test]
    fn a_shallow_read_does_not_put_the_deep_one_off() {
        let start = Instant::now();
        let mut depth = LookBackTimes::default();
        let span = depth.span(start, WALL, WALL).unwrap();
        depth.read(start, span, &reading(None));
        let late = start + 59 * MINUTE;
        let span = depth.span(late, WALL, WALL).unwrap();
        depth.read(late, span, &reading(None));
        assert!(is_deep(&depth, start + 60 * MINUTE));
    }

    #[test]
    fn an_open_order_that_is_older_than_the_history_is_reached_by_every_read() {
        let start = Instant::now();
        let mut depth = LookBackTimes::default();
        let needed = WALL.minus(2 * HISTORY);
        let span = depth.span(start, WALL, needed).unwrap();
        assert_eq!(span, LookBack::back_to(needed));
        depth.read(start, span, &reading(None));
        assert_eq!(depth.span(start + MINUTE, WALL, needed), Some(LookBack::back_to(needed)));
    }

    #[test]
    fn an_endless_list_is_not_walked_every_minute() {
        let start = Instant::now();
        let mut depth = LookBackTimes::default();
        let span = depth.span(start, WALL, WALL).unwrap();
        // Whatever else was wrong with it.
        let endless = reading(Some(IncompleteReason::Unreadable { count: 1, words: None }));
        let endless = PurchasesReading { pages: PURCHASE_PAGES_MAX, ..endless };
        depth.read(start, span, &endless);
        assert_eq!(depth.span(start + MINUTE, WALL, WALL), None);
        assert!(depth.span(start + ENDLESS_WAIT, WALL, WALL).is_some());
    }
}
