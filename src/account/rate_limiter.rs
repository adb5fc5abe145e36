//! Rate limit of reads: a minimum interval, and exponential backoff after failures. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use crate::backoff::ExponentialBackoff;

/// Minimum interval between two reads.
const INTERVAL_MIN: Duration = Duration::from_millis(1_000);

/// Waits after failures.
const WAITS: ExponentialBackoff =
    ExponentialBackoff::doubling(Duration::from_secs(5), Duration::from_secs(300));

/// Maximum `Retry-After` that is honored.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// State of the rate limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimiter {
    interval_min: Duration,
    next: Option<Instant>,
    failures: u32,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self { interval_min: INTERVAL_MIN, next: None, failures: 0 }
    }
}

impl RateLimiter {
    /// Uses another minimum interval, for a simulated market.
    pub(super) fn with_min_interval(interval_min: Duration) -> Self {
        Self { interval_min, ..Self::default() }
    }

    /// Returns the time until a read may be sent. [`on_request`](Self::on_request) records it.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// Records that a read is sent now.
    pub(super) fn on_request(&mut self, now: Instant) {
        self.next = now.checked_add(self.interval_min);
    }

    pub(super) const fn on_success(&mut self) {
        self.failures = 0;
    }

    /// Records a failed read. `retry_after`: the wait that the market requested.
    pub(super) fn on_failure(&mut self, now: Instant, retry_after: Option<Duration>) {
        let own = WAITS.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        let wait = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).max(own);
        self.next = self.next.max(now.checked_add(wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keep_a_minimum_interval() {
        let now = Instant::now();
        let mut rate_limiter = RateLimiter::default();
        assert_eq!(rate_limiter.delay(now), Duration::ZERO);
        rate_limiter.on_request(now);
        assert_eq!(rate_limiter.delay(now), INTERVAL_MIN);
        assert_eq!(rate_limiter.delay(now + INTERVAL_MIN), Duration::ZERO);
    }

    #[test]
    fn failures_double_the_wait_and_a_success_resets_it() {
        let now = Instant::now();
        let mut rate_limiter = RateLimiter::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            rate_limiter.on_failure(now, None);
            waits.push(rate_limiter.delay(now).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        rate_limiter.on_success();
        let later = now + WAITS.max;
        rate_limiter.on_failure(later, None);
        assert_eq!(rate_limiter.delay(later).as_secs(), 5);
    }

    #[test]
    fn retry_after_is_honored_up_to_a_bound() {
        let now = Instant::now();
        let mut rate_limiter = RateLimiter::default();
        rate_limiter.on_failure(now, Some(Duration::from_secs(90)));
        assert_eq!(rate_limiter.delay(now).as_secs(), 90);
        rate_limiter.on_failure(now, Some(Duration::from_secs(1)));
        assert_eq!(rate_limiter.delay(now).as_secs(), 90, "an earlier wait is not shortened");
        rate_limiter.on_failure(now, Some(Duration::MAX));
        assert_eq!(rate_limiter.delay(now), RETRY_AFTER_MAX);
    }
}
