//! Time range of each read of the own purchases. Pure.
//!
//! Most reads go back to the oldest open order. The first one, and one per hour, covers the purchases
//! of the last days, so that the list corrects the prices that responses contained.

use std::time::{Duration, Instant};

use super::purchases::{LookBack, PURCHASE_PAGES_MAX, PurchasesReading};
use crate::domain::time::UnixMs;

/// Range over which the list corrects prices.
pub(super) const HISTORY: Duration = Duration::from_secs(8 * 86_400);

/// Interval of reads over [`HISTORY`].
pub(super) const HISTORY_EVERY: Duration = Duration::from_secs(3_600);

/// Wait after an incomplete walk that reached the maximum number of pages.
const ENDLESS_WAIT: Duration = Duration::from_secs(300);

/// Times at which the next reads are due.
#[derive(Debug, Default)]
pub(super) struct LookBackTimes {
    /// Time of the next read over [`HISTORY`]; `None` for at once.
    history_from: Option<Instant>,
    /// Earliest time of the next read; `None` for at once.
    list_from: Option<Instant>,
}

impl LookBackTimes {
    /// Returns the range to read now; `None` if no read is due. `needed`: the time of the oldest open
    /// order on the local wall clock. `wall`: the current time on that clock.
    pub(super) fn due(&self, now: Instant, wall: UnixMs, needed: UnixMs) -> Option<LookBack> {
        let is_due = |from: Option<Instant>| from.is_none_or(|from| from <= now);
        if !is_due(self.list_from) {
            return None;
        }
        let wanted =
            if is_due(self.history_from) { needed.min(wall.minus(HISTORY)) } else { needed };
        Some(LookBack { needed, wanted, pages_max: PURCHASE_PAGES_MAX })
    }

    /// Records a read over that range.
    pub(super) fn on_read(
        &mut self,
        now: Instant,
        look_back: LookBack,
        reading: &PurchasesReading,
    ) {
        let is_deep = look_back.wanted < look_back.needed;
        // If the needed part is incomplete, the next read covers the history again.
        if is_deep && reading.complete {
            self.history_from = now.checked_add(HISTORY_EVERY);
        }
        let is_endless = !reading.complete && look_back.pages_max <= reading.pages;
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

    /// Returns `true` if a read at that time covers the history.
    fn is_deep(times: &LookBackTimes, now: Instant) -> bool {
        let look_back = times.due(now, WALL, WALL).unwrap();
        assert_eq!(look_back.needed, WALL);
        assert!(look_back.wanted == WALL || look_back.wanted == WALL.minus(HISTORY));
        look_back.wanted < look_back.needed
    }

    #[test]
    fn the_first_read_and_one_an_hour_go_back_eight_days() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let deep: Vec<u32> = (0..150)
            .filter(|minute| {
                let now = start + MINUTE * *minute;
                let look_back = times.due(now, WALL, WALL).unwrap();
                times.on_read(now, look_back, &reading(None));
                look_back.wanted < look_back.needed
            })
            .collect();
        assert_eq!(deep, [0, 60, 120]);
    }

    #[test]
    fn an_incomplete_deep_read_is_repeated() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let look_back = times.due(start, WALL, WALL).unwrap();
        times.on_read(start, look_back, &reading(Some(IncompleteReason::Unclear { page: 1 })));
        assert!(is_deep(&times, start + MINUTE));
    }

    #[test]
    fn a_shallow_read_does_not_delay_the_deep_one() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let look_back = times.due(start, WALL, WALL).unwrap();
        times.on_read(start, look_back, &reading(None));
        let late = start + 59 * MINUTE;
        let look_back = times.due(late, WALL, WALL).unwrap();
        times.on_read(late, look_back, &reading(None));
        assert!(is_deep(&times, start + 60 * MINUTE));
    }

    #[test]
    fn an_open_order_that_is_older_than_the_history_is_reached_by_every_read() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let needed = WALL.minus(2 * HISTORY);
        let look_back = times.due(start, WALL, needed).unwrap();
        assert_eq!(look_back, LookBack::back_to(needed));
        times.on_read(start, look_back, &reading(None));
        assert_eq!(times.due(start + MINUTE, WALL, needed), Some(LookBack::back_to(needed)));
    }

    #[test]
    fn an_endless_list_is_not_walked_every_minute() {
        let start = Instant::now();
        let mut times = LookBackTimes::default();
        let look_back = times.due(start, WALL, WALL).unwrap();
        // The wait does not depend on the reason.
        let endless = reading(Some(IncompleteReason::Unreadable { count: 1, message: None }));
        let endless = PurchasesReading { pages: PURCHASE_PAGES_MAX, ..endless };
        times.on_read(start, look_back, &endless);
        assert_eq!(times.due(start + MINUTE, WALL, WALL), None);
        assert!(times.due(start + ENDLESS_WAIT, WALL, WALL).is_some());
    }
}
