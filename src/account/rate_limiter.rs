//! When the next cold read may leave, decided without a clock.
//!
//! Pure. Reads keep a distance from one another, and a failure is followed by a growing wait, so
//! that whatever asks for reads, the site sees a trickle.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

/// The least distance between two reads.
const DISTANCE: Duration = Duration::from_millis(1_000);

/// The wait after one failure. It doubles with each further one.
const WAIT_FIRST: Duration = Duration::from_secs(5);

/// The longest wait after failures.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// The longest that the site's own wish is heeded.
const WISH_MAX: Duration = Duration::from_secs(3_600);

/// The pace of reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimiter {
    distance: Duration,
    next: Option<Instant>,
    failures: u32,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self { distance: DISTANCE, next: None, failures: 0 }
    }
}

impl RateLimiter {
    /// Keeps another distance, as a market of one's own allows.
    pub(super) fn with_distance(distance: Duration) -> Self {
        Self { distance, ..Self::default() }
    }

    /// How long to wait before a read may leave. Taking the turn is what [`leaves`](Self::leaves)
    /// says.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }

    /// A read leaves now.
    pub(super) fn leaves(&mut self, now: Instant) {
        self.next = now.checked_add(self.distance);
    }

    /// It was answered.
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// It failed, and the site may have asked to wait.
    pub(super) fn failed(&mut self, now: Instant, retry_after: Option<Duration>) {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let own = WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX);
        let wait = retry_after.unwrap_or_default().min(WISH_MAX).max(own);
        self.next = self.next.max(now.checked_add(wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_keep_their_distance() {
        let now = Instant::now();
        let mut pace = RateLimiter::default();
        assert_eq!(pace.wait(now), Duration::ZERO);
        pace.leaves(now);
        assert_eq!(pace.wait(now), DISTANCE);
        assert_eq!(pace.wait(now + DISTANCE), Duration::ZERO);
    }

    #[test]
    fn failures_are_followed_by_growing_waits_and_a_success_forgives_them() {
        let now = Instant::now();
        let mut pace = RateLimiter::default();
        let mut waits = Vec::new();
        for _ in 0..8 {
            pace.failed(now, None);
            waits.push(pace.wait(now).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        pace.succeeded();
        let later = now + WAIT_MAX;
        pace.failed(later, None);
        assert_eq!(pace.wait(later).as_secs(), 5);
    }

    #[test]
    fn the_sites_wish_is_heeded_within_reason() {
        let now = Instant::now();
        let mut pace = RateLimiter::default();
        pace.failed(now, Some(Duration::from_secs(90)));
        assert_eq!(pace.wait(now).as_secs(), 90);
        pace.failed(now, Some(Duration::from_secs(1)));
        assert_eq!(pace.wait(now).as_secs(), 90, "an earlier wish is not shortened");
        pace.failed(now, Some(Duration::MAX));
        assert_eq!(pace.wait(now), WISH_MAX);
    }
}
