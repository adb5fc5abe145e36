//! Dial rate and backoff of the order connections. Pure.
//!
//! A [`RedialBackoff`] belongs to one slot of the pool: a short-lived connection is followed by a
//! growing wait, so that a server that accepts and closes is not dialed in a loop. A
//! [`DialLimiter`] bounds the dial rate of the whole pool.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::Duration;

use crate::{
    backoff::{ExponentialBackoff, with_jitter},
    config::reconnection::Thousandths,
};

/// Minimum lifetime of a connection that is replaced without a wait.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Waits before a dial, from which jitter is subtracted.
const BACKOFF: ExponentialBackoff =
    ExponentialBackoff::doubling(Duration::from_millis(250), Duration::from_secs(30));

/// Maximum share that jitter subtracts, so that the connections of a pool do not dial together.
const JITTER: Thousandths = Thousandths(500);

/// Minimum mean interval between dials of the pool.
const DIAL_INTERVAL: Duration = Duration::from_millis(500);

/// Backoff of one slot of the pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RedialBackoff {
    failures: u32,
}

impl RedialBackoff {
    /// Returns the wait after a connection with this lifetime, which is zero for a failed dial.
    /// `entropy` is a random number.
    pub(super) fn next_wait(&mut self, lived: Duration, entropy: u64) -> Duration {
        if lived >= STABLE_AFTER {
            self.failures = 0;
            return Duration::ZERO;
        }
        let wait = with_jitter(BACKOFF.wait(self.failures), JITTER, entropy);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Returns the number of consecutive failures.
    pub(super) const fn failures(self) -> u32 {
        self.failures
    }
}

/// Token bucket for the dials of the pool. `now` is the time since any fixed moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct DialLimiter {
    /// Maximum number of dials without a wait.
    burst: u32,
    /// Time at which the bucket is full again.
    full_at: Duration,
}

impl DialLimiter {
    /// Creates a full bucket, with enough dials to open every connection twice.
    pub(super) const fn new(connections: u32) -> Self {
        Self { burst: connections.saturating_mul(2), full_at: Duration::ZERO }
    }

    /// Consumes one dial from the bucket.
    ///
    /// # Errors
    ///
    /// Returns the time until the next dial is allowed.
    pub(super) fn try_acquire(&mut self, now: Duration) -> Result<(), Duration> {
        let full_at = self.full_at.max(now).saturating_add(DIAL_INTERVAL);
        let capacity = DIAL_INTERVAL.saturating_mul(self.burst);
        let wait = full_at.saturating_sub(now).saturating_sub(capacity);
        if wait.is_zero() {
            self.full_at = full_at;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

/// Action for an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdleAction {
    /// Send a keep-warm request after this time.
    KeepWarm(Duration),
    /// Replace the connection after this time: the server closes it too soon for a keep-warm
    /// request.
    Replace(Duration),
}

/// Minimum interval between keep-warm requests, to spare the server.
const WARM_AFTER_MIN: Duration = Duration::from_secs(10);

/// Time by which the bot acts before the server's timeout.
const SERVER_TIMEOUT_MARGIN: Duration = Duration::from_secs(2);

impl IdleAction {
    /// Decides from the configured interval and the idle timeout that the server announced.
    pub(super) fn decide(keep_warm: Duration, server_timeout: Option<Duration>) -> Self {
        let Some(server_timeout) = server_timeout else { return Self::KeepWarm(keep_warm) };
        let early = server_timeout.saturating_sub(SERVER_TIMEOUT_MARGIN);
        if early >= WARM_AFTER_MIN || early >= keep_warm {
            Self::KeepWarm(early.min(keep_warm))
        } else {
            Self::Replace(early.max(server_timeout.checked_div(2).unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum() {
        let mut redial = RedialBackoff::default();
        let waits: Vec<u128> =
            (0..9).map(|_| redial.next_wait(Duration::ZERO, 0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn only_a_stable_connection_resets_the_backoff() {
        let mut redial = RedialBackoff::default();
        assert_eq!(redial.next_wait(Duration::from_millis(999), 0).as_millis(), 250);
        assert_eq!(redial.next_wait(Duration::from_millis(999), 0).as_millis(), 500);
        assert_eq!(redial.next_wait(STABLE_AFTER, 0), Duration::ZERO);
        assert_eq!(redial.next_wait(Duration::ZERO, 0).as_millis(), 250);
    }

    #[test]
    fn the_server_timeout_decides_between_keep_warm_and_replacing() {
        let decide = |server_timeout: Option<u64>| {
            IdleAction::decide(Duration::from_secs(50), server_timeout.map(Duration::from_secs))
        };
        assert_eq!(decide(None), IdleAction::KeepWarm(Duration::from_secs(50)));
        assert_eq!(decide(Some(75)), IdleAction::KeepWarm(Duration::from_secs(50)));
        assert_eq!(decide(Some(15)), IdleAction::KeepWarm(Duration::from_secs(13)));
        assert_eq!(decide(Some(5)), IdleAction::Replace(Duration::from_secs(3)));
        assert_eq!(decide(Some(1)), IdleAction::Replace(Duration::from_millis(500)));
    }

    proptest! {
        #[test]
        fn an_unstable_wait_is_positive_and_bounded(failures: u32, entropy: u64, lived in 0_u64..1_000) {
            let wait = RedialBackoff { failures }.next_wait(Duration::from_millis(lived), entropy);
            prop_assert!(Duration::from_millis(120) <= wait && wait <= BACKOFF.max);
        }

        #[test]
        fn dials_are_bounded_in_any_window(pauses in prop::collection::vec(0_u64..300, 1..400)) {
            let mut limiter = DialLimiter::new(4);
            let mut now = Duration::ZERO;
            let mut dials = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                match limiter.try_acquire(now) {
                    Ok(()) => dials.push(now),
                    Err(wait) => {
                        prop_assert!(limiter.try_acquire(now + wait - Duration::from_nanos(1)).is_err());
                        let mut later = limiter;
                        prop_assert!(later.try_acquire(now + wait).is_ok());
                    }
                }
            }
            for window in dials.windows(9) {
                prop_assert!(window[8] - window[0] >= DIAL_INTERVAL);
            }
        }
    }
}
