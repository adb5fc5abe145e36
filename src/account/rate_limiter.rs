//! Limits the rate of the reads of one host, with waits after failures. Pure.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use crate::{backoff::ExponentialBackoff, markets::ReadRate, net::http_client::PAUSE_DEFAULT};

/// Waits after failures.
const WAITS: ExponentialBackoff =
    ExponentialBackoff::doubling(PAUSE_DEFAULT, Duration::from_secs(300));

/// Maximum wait that a `Retry-After` can cause.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// State of the rate limit: after a rest, a burst of reads is sent without a wait, and then one per
/// interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimiter {
    interval: Duration,
    /// Maximum lead of the reads over a schedule of one read per interval.
    ahead_max: Duration,
    /// Time at which the reads so far would be done at one per interval.
    sent_until: Option<Instant>,
    /// End of the wait after a failure.
    blocked_until: Option<Instant>,
    failures: u32,
}

impl RateLimiter {
    pub(super) fn new(rate: ReadRate) -> Self {
        let ReadRate { burst, interval, .. } = rate;
        let ahead_max = interval.saturating_mul(burst.saturating_sub(1));
        Self { interval, ahead_max, sent_until: None, blocked_until: None, failures: 0 }
    }

    /// Creates a limit of one read per interval, without a burst.
    pub(super) fn with_min_interval(interval: Duration) -> Self {
        Self::new(ReadRate { interval, ..ReadRate::UNDOCUMENTED })
    }

    /// Returns the time until a read may be sent. [`on_request`](Self::on_request) records it.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        let until = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(now));
        let paced = until(self.sent_until).unwrap_or_default().saturating_sub(self.ahead_max);
        paced.max(until(self.blocked_until).unwrap_or_default())
    }

    /// Records that a read is sent now.
    pub(super) fn on_request(&mut self, now: Instant) {
        let sent_until = self.sent_until.map_or(now, |at| at.max(now));
        self.sent_until = sent_until.checked_add(self.interval);
    }

    pub(super) const fn on_success(&mut self) {
        self.failures = 0;
    }

    /// Records a failed read. `retry_after` is the wait that the market requested.
    pub(super) fn on_failure(&mut self, now: Instant, retry_after: Option<Duration>) {
        let own = WAITS.wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        let wait = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).max(own);
        self.blocked_until = self.blocked_until.max(now.checked_add(wait));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::markets::{
        MarketApi as _, csgoroll::Csgoroll, lis_skins::LisSkins, waxpeer::Waxpeer,
    };
    use crate::net::http_client::try_acquire_quota;

    const MINUTE: Duration = Duration::from_secs(60);
    const INTERVAL: Duration = Duration::from_secs(1);

    /// Returns the times of reads that are sent as early as allowed, each `rest` after the one
    /// before.
    fn sent(rate: ReadRate, rests: impl IntoIterator<Item = Duration>) -> Vec<Duration> {
        let start = Instant::now();
        let (mut limiter, mut now) = (RateLimiter::new(rate), start);
        let send = |rest| {
            now += rest;
            now += limiter.delay(now);
            limiter.on_request(now);
            now - start
        };
        rests.into_iter().map(send).collect()
    }

    fn most_in_a_minute(sent: &[Duration]) -> usize {
        let from = |at: Duration| sent.iter().filter(move |one| (at..at + MINUTE).contains(*one));
        sent.iter().map(|at| from(*at).count()).max().unwrap_or_default()
    }

    #[test]
    fn reads_without_a_documented_limit_keep_a_minimum_interval() {
        for rate in [Csgoroll::CAPABILITIES.reads, Waxpeer::CAPABILITIES.reads] {
            let sent = sent(rate, [Duration::ZERO; 4]);
            assert_eq!(sent, [0, 1, 2, 3].map(Duration::from_secs));
        }
        let now = Instant::now();
        let mut limiter = RateLimiter::with_min_interval(INTERVAL);
        limiter.on_request(now);
        assert_eq!(limiter.delay(now + INTERVAL / 4), INTERVAL * 3 / 4);
    }

    /// 170 purchases are four pages of 50, and the balance is one read.
    #[test]
    fn the_first_reads_on_lis_skins_are_sent_at_once_and_never_more_than_its_limit_in_a_minute() {
        let sent = sent(LisSkins::CAPABILITIES.reads, [Duration::ZERO; 400]);
        assert_eq!((sent[29], sent[30].as_millis()), (Duration::ZERO, 500));
        assert_eq!(most_in_a_minute(&sent), 149, "of 200, the others are left to other requests");
    }

    /// Sends everything as early as allowed: reads, the keep-warm requests of all connections, and
    /// the confirmations of as many orders as the market permits.
    #[tokio::test(start_paused = true)]
    async fn no_minute_contains_more_requests_of_all_kinds_than_the_documented_limit() {
        const STEP: Duration = Duration::from_millis(20);
        let reads = LisSkins::CAPABILITIES.reads;
        let (origin, mut limiter) = ("http://all-kinds.invalid", RateLimiter::new(reads));
        let start = tokio::time::Instant::now();
        let (mut all, mut confirmations) = (Vec::new(), 0_u32);
        while start.elapsed() < 5 * MINUTE {
            let at = start.elapsed();
            // 500 orders a minute are rejected, and 66 connections are idle for 50 s.
            confirmations += u32::from(at.as_millis().is_multiple_of(120));
            let keep_warm = if at.as_millis().is_multiple_of(50_000) { 66 } else { 0 };
            let others = (0..keep_warm + confirmations)
                .filter(|_| try_acquire_quota(origin, reads.other_quota()).is_ok());
            let others = u32::try_from(others.count()).unwrap();
            confirmations = confirmations.saturating_sub(others);
            all.extend((0..others).map(|_| at));
            let now = tokio::time::Instant::now().into_std();
            if limiter.delay(now).is_zero() && try_acquire_quota(origin, reads.read_quota()).is_ok()
            {
                limiter.on_request(now);
                all.push(at);
            }
            tokio::time::advance(STEP).await;
        }
        let most = most_in_a_minute(&all);
        assert!((170..=180).contains(&most), "{most} of 200");
        let undocumented = Csgoroll::CAPABILITIES.reads.other_quota();
        assert!((0..1_000).all(|_| try_acquire_quota(origin, undocumented).is_ok()));
    }

    proptest! {
        #[test]
        fn no_minute_contains_more_reads_than_the_limit(
            (max, burst) in (2_u32..40).prop_flat_map(|max| (Just(max), 1..max)),
            rests in prop::collection::vec(0_u64..20_000, 1..150),
        ) {
            let rests = rests.into_iter().map(Duration::from_millis);
            let sent = sent(ReadRate::per_minute(max, burst, 0), rests);
            prop_assert!(most_in_a_minute(&sent) <= usize::try_from(max).unwrap(), "{sent:?}");
        }
    }

    #[test]
    fn failures_double_the_wait_and_a_success_resets_it() {
        let now = Instant::now();
        let mut limiter = RateLimiter::new(LisSkins::CAPABILITIES.reads);
        let mut waits = Vec::new();
        for _ in 0..8 {
            limiter.on_failure(now, None);
            waits.push(limiter.delay(now).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300]);
        limiter.on_success();
        let later = now + WAITS.max;
        limiter.on_failure(later, None);
        assert_eq!(limiter.delay(later).as_secs(), 5);
    }

    #[test]
    fn retry_after_is_honored_up_to_a_bound() {
        let now = Instant::now();
        let mut limiter = RateLimiter::with_min_interval(INTERVAL);
        limiter.on_failure(now, Some(Duration::from_secs(90)));
        assert_eq!(limiter.delay(now).as_secs(), 90);
        limiter.on_failure(now, Some(Duration::from_secs(1)));
        assert_eq!(limiter.delay(now).as_secs(), 90, "an earlier wait is not shortened");
        limiter.on_failure(now, Some(Duration::MAX));
        assert_eq!(limiter.delay(now), RETRY_AFTER_MAX);
    }
}
