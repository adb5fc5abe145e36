//! When a connection may be dialled again, decided without a clock.
//!
//! Two bounds, both pure. A [`RedialBackoff`] belongs to one place in the pool: whatever does not live
//! long is followed by a growing wait, so a server that accepts and closes is not hammered. A
//! [`DialLimiter`] belongs to the whole pool and bounds the rate whatever the endings.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

/// A connection that lived this long is followed by the next one at once.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(1);

/// The longest wait after one failure. It doubles with each further one.
const WAIT_FIRST: Duration = Duration::from_millis(250);

/// The longest wait of all.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often the pool may dial in the long run.
const DIAL_EVERY: Duration = Duration::from_millis(500);

/// How long one place in the pool waits before it dials again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RedialBackoff {
    failures: u32,
}

impl RedialBackoff {
    /// How long to wait after a connection that lived so long; zero for one that never was.
    /// `entropy` is any number; it spreads the wait over the upper half of its range.
    pub(super) fn after(&mut self, lived: Duration, entropy: u64) -> Duration {
        if lived >= STABLE_AFTER {
            self.failures = 0;
            return Duration::ZERO;
        }
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let ceiling = WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX);
        let ceiling_ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
        let floor_ms = ceiling_ms.div_ceil(2);
        let room = ceiling_ms.saturating_sub(floor_ms).saturating_add(1);
        let extra = entropy.checked_rem(room).unwrap_or(0);
        Duration::from_millis(floor_ms.saturating_add(extra))
    }

    /// How many failures there were in a row.
    pub(super) const fn failures(self) -> u32 {
        self.failures
    }
}

/// How many dials the pool may make. `now` is the time since any fixed moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialLimiter {
    /// Dials that may be made at once.
    burst: u32,
    /// When the budget would be full again.
    full_at: Duration,
}

impl DialLimiter {
    /// Full, with room to open every connection twice.
    pub(super) const fn new(connections: u32) -> Self {
        Self { burst: connections.saturating_mul(2), full_at: Duration::ZERO }
    }

    /// Takes one dial.
    ///
    /// # Errors
    ///
    /// How long to wait before asking again.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let full_at = self.full_at.max(now).saturating_add(DIAL_EVERY);
        let room = DIAL_EVERY.saturating_mul(self.burst);
        let missing = full_at.saturating_sub(now).saturating_sub(room);
        if missing.is_zero() {
            self.full_at = full_at;
            Ok(())
        } else {
            Err(missing)
        }
    }
}

/// How much more may pass on the wall clock than on the monotonic one before it is taken for a
/// sleep of the whole machine, from which no connection wakes up.
const SLEEP_MIN: Duration = Duration::from_secs(5);

/// Whether the machine slept while so much passed on its two clocks.
pub(super) fn slept(wall: Duration, monotonic: Duration) -> bool {
    SLEEP_MIN <= wall.saturating_sub(monotonic)
}

/// What to do with a connection that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// Send a harmless request after so long.
    Warm(Duration),
    /// Replace it after so long: the server will close it, and too soon to be kept from it.
    Replace(Duration),
}

/// The shortest time after which a harmless request is worth its trouble to the server.
const WARM_AFTER_MIN: Duration = Duration::from_secs(10);

/// How long before the server's own deadline we act.
const MARGIN: Duration = Duration::from_secs(2);

impl IdleAction {
    /// Decides from our own habit and from what the server says about its patience.
    pub(super) fn plan(keep_warm: Duration, server_closes_after: Option<Duration>) -> Self {
        let Some(patience) = server_closes_after else { return Self::Warm(keep_warm) };
        let early = patience.saturating_sub(MARGIN);
        if early >= WARM_AFTER_MIN || early >= keep_warm {
            Self::Warm(early.min(keep_warm))
        } else {
            Self::Replace(early.max(patience.checked_div(2).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut redial = RedialBackoff::default();
        let waits: Vec<u128> =
            (0..9).map(|_| redial.after(Duration::ZERO, 0).as_millis()).collect();
        assert_eq!(waits, [125, 250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
    }

    #[test]
    fn only_a_connection_that_lasted_forgives() {
        let mut redial = RedialBackoff::default();
        assert_eq!(redial.after(Duration::from_millis(999), 0).as_millis(), 125);
        assert_eq!(redial.after(Duration::from_millis(999), 0).as_millis(), 250);
        assert_eq!(redial.after(STABLE_AFTER, 0), Duration::ZERO);
        assert_eq!(redial.after(Duration::ZERO, 0).as_millis(), 125);
    }

    #[test]
    fn only_a_gap_between_the_clocks_means_that_the_machine_slept() {
        let seconds = Duration::from_secs;
        assert!(slept(seconds(3_600), seconds(1)));
        assert!(!slept(seconds(3_600), seconds(3_600)));
        assert!(!slept(seconds(5), seconds(1)));
        assert!(!slept(seconds(0), seconds(60)), "a clock set back");
    }

    #[test]
    fn the_servers_patience_decides_between_warming_and_replacing() {
        let plan = |patience: Option<u64>| {
            IdleAction::plan(Duration::from_secs(50), patience.map(Duration::from_secs))
        };
        assert_eq!(plan(None), IdleAction::Warm(Duration::from_secs(50)));
        assert_eq!(plan(Some(75)), IdleAction::Warm(Duration::from_secs(50)));
        assert_eq!(plan(Some(15)), IdleAction::Warm(Duration::from_secs(13)));
        assert_eq!(plan(Some(5)), IdleAction::Replace(Duration::from_secs(3)));
        assert_eq!(plan(Some(1)), IdleAction::Replace(Duration::from_millis(500)));
    }

    proptest! {
        #[test]
        fn an_unstable_wait_is_positive_and_bounded(failures: u32, entropy: u64, lived in 0_u64..1_000) {
            let wait = RedialBackoff { failures }.after(Duration::from_millis(lived), entropy);
            prop_assert!(WAIT_FIRST / 2 <= wait && wait <= WAIT_MAX);
        }

        #[test]
        fn dials_are_bounded_in_any_window(pauses in prop::collection::vec(0_u64..300, 1..400)) {
            let mut budget = DialLimiter::new(4);
            let mut now = Duration::ZERO;
            let mut dials = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                match budget.take(now) {
                    Ok(()) => dials.push(now),
                    Err(wait) => {
                        prop_assert!(budget.take(now + wait - Duration::from_nanos(1)).is_err());
                        let mut later = budget;
                        prop_assert!(later.take(now + wait).is_ok());
                    }
                }
            }
            for window in dials.windows(9) {
                prop_assert!(window[8] - window[0] >= DIAL_EVERY);
            }
        }
    }
}
