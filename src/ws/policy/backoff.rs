//! Delay between two connection attempts.
//!
//! # Invariants
//!
//! 1. No delay is shorter than [`DELAY_MIN`].
//! 2. Only a suspension or a `Retry-After` leads to a delay longer than `max_delay`. After a
//!    healthy session neither applies: the next attempt follows after ordinary backoff.
//! 3. Jitter only shortens a delay.
//! 4. A handshake resets nothing. The backoff is reset by a session that delivered a listing or
//!    lasted for `stable_after`; after [`FLAPS_MAX`] short productive sessions in a row, only by
//!    one that lasted.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::{DELAY_MIN, ReconnectPolicy, RetryDecision};
use crate::backoff::{ExponentialBackoff, with_jitter};

/// Maximum number of short productive sessions in a row that count as healthy.
pub const FLAPS_MAX: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// Lifetime of the session after its subscriptions were written; `None` if there was no
    /// session.
    pub uptime: Option<Duration>,
    pub listings: u64,
    pub decision: RetryDecision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayReason {
    Backoff,
    RetryAfter,
    /// Retries are suspended until the cooldown has passed.
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextAttempt {
    pub wait: Duration,
    pub reason: DelayReason,
    /// `true` if the session was healthy and the backoff was reset.
    pub is_healthy: bool,
    /// Number of the next attempt, counted from the last healthy session.
    pub attempt: u32,
    /// `true` if `max_retries` is used up: there is no next attempt.
    pub exhausted: bool,
}

/// Backoff state of one connection.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: ReconnectPolicy,
    attempts: u32,
    flaps: u32,
}

impl Backoff {
    pub const fn new(policy: ReconnectPolicy) -> Self {
        Self { policy, attempts: 0, flaps: 0 }
    }

    /// Records the result of an attempt and returns the delay before the next one.
    ///
    /// `entropy` is a random number that determines the jitter.
    #[must_use = "the caller must sleep for the returned delay"]
    pub fn after(&mut self, result: &AttemptResult, entropy: u64) -> NextAttempt {
        let limits = *self.policy.limits();
        let is_healthy = self.is_healthy(result);
        if is_healthy {
            self.attempts = 0;
        }
        let delays = ExponentialBackoff {
            first: limits.initial_delay,
            max: limits.max_delay,
            factor: limits.backoff_multiplier,
        };
        let backoff = self.with_jitter(delays.wait(self.attempts), entropy);
        self.attempts = self.attempts.saturating_add(1);
        // A server that closes a good session is not rejecting the client, for any code. The
        // code decides only if every session is closed at once.
        let decision = if is_healthy { RetryDecision::Retry } else { result.decision };
        let (wait, reason) = match decision {
            RetryDecision::Retry | RetryDecision::RenewCredential => {
                (backoff, DelayReason::Backoff)
            }
            RetryDecision::RetryLater => {
                (self.with_jitter(limits.max_delay, entropy), DelayReason::Backoff)
            }
            RetryDecision::RetryAfter(requested) if requested > backoff => {
                (requested, DelayReason::RetryAfter)
            }
            RetryDecision::RetryAfter(_) => (backoff, DelayReason::Backoff),
            RetryDecision::Suspend => (limits.circuit_breaker_cooldown, DelayReason::Suspended),
            RetryDecision::SuspendAtLeast(requested) => {
                (limits.circuit_breaker_cooldown.max(requested), DelayReason::Suspended)
            }
        };
        let exhausted = limits.max_retries.is_some_and(|max| !is_healthy && self.attempts > max);
        NextAttempt {
            wait: wait.max(DELAY_MIN),
            reason,
            is_healthy,
            attempt: self.attempts,
            exhausted,
        }
    }

    /// Returns `true` while listings alone do not make a session healthy.
    pub const fn is_flapping(&self) -> bool {
        self.flaps >= FLAPS_MAX
    }

    /// Returns `true` if the session was healthy, and counts short productive sessions.
    fn is_healthy(&mut self, result: &AttemptResult) -> bool {
        let Some(uptime) = result.uptime else { return false };
        if uptime >= self.policy.limits().stable_after {
            self.flaps = 0;
            return true;
        }
        if result.listings == 0 {
            return false;
        }
        self.flaps = self.flaps.saturating_add(1);
        self.flaps <= FLAPS_MAX
    }

    /// Subtracts the configured jitter. No delay is below [`DELAY_MIN`].
    fn with_jitter(&self, delay: Duration, entropy: u64) -> Duration {
        with_jitter(delay, self.policy.limits().jitter, entropy).max(DELAY_MIN)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{ReconnectionLimits, Thousandths},
        *,
    };

    const FAILED: AttemptResult =
        AttemptResult { uptime: None, listings: 0, decision: RetryDecision::Retry };
    const FLAPPED: AttemptResult = AttemptResult {
        uptime: Some(Duration::from_millis(3)),
        listings: 0,
        decision: RetryDecision::Retry,
    };
    const PRODUCTIVE: AttemptResult = AttemptResult {
        uptime: Some(Duration::from_secs(3)),
        listings: 12,
        decision: RetryDecision::Retry,
    };
    const QUIET: AttemptResult = AttemptResult {
        uptime: Some(Duration::from_secs(36_000)),
        listings: 0,
        decision: RetryDecision::Retry,
    };

    fn steady() -> ReconnectionLimits {
        ReconnectionLimits { jitter: Thousandths(0), ..ReconnectionLimits::DEFAULT }
    }

    #[track_caller]
    fn check(limits: ReconnectionLimits, script: &[AttemptResult], expected_ms: &[u128]) {
        let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
        let waits: Vec<u128> =
            script.iter().map(|result| backoff.after(result, 7).wait.as_millis()).collect();
        assert_eq!(waits, expected_ms, "script: {script:?}");
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000];
        check(steady(), &[FAILED; 8], &expected);
    }

    #[test]
    fn dials_to_a_server_that_accepts_and_closes_are_limited() {
        check(steady(), &[FLAPPED; 4], &[1_000, 2_000, 4_000, 8_000]);
    }

    #[test]
    fn one_listing_resets_the_wait() {
        let script = [FAILED, FAILED, PRODUCTIVE, FAILED];
        check(steady(), &script, &[1_000, 2_000, 1_000, 2_000]);
    }

    #[test]
    fn a_long_session_without_listings_resets_the_wait() {
        check(steady(), &[FAILED, FAILED, FAILED, QUIET], &[1_000, 2_000, 4_000, 1_000]);
    }

    #[test]
    fn the_sixth_short_productive_session_in_a_row_is_a_failure() {
        let mut script = vec![PRODUCTIVE; 8];
        script.push(QUIET);
        script.push(PRODUCTIVE);
        let expected = [1_000, 1_000, 1_000, 1_000, 1_000, 2_000, 4_000, 8_000, 1_000, 1_000];
        check(steady(), &script, &expected);
    }

    #[test]
    fn a_failed_dial_between_flaps_does_not_hide_them() {
        let mut backoff = Backoff::new(ReconnectPolicy::new(steady()).unwrap());
        for _ in 0..FLAPS_MAX {
            assert!(backoff.after(&PRODUCTIVE, 0).is_healthy);
            assert!(!backoff.after(&FAILED, 0).is_healthy);
        }
        assert!(!backoff.after(&PRODUCTIVE, 0).is_healthy);
    }

    #[test]
    fn no_wait_is_below_a_quarter_of_a_second() {
        let limits = ReconnectionLimits { initial_delay: Duration::from_millis(1), ..steady() };
        check(limits, &[FAILED; 3], &[250, 250, 250]);
    }

    #[test]
    fn retry_after_delays_the_next_attempt() {
        let requested = |secs| AttemptResult {
            decision: RetryDecision::RetryAfter(Duration::from_secs(secs)),
            ..FAILED
        };
        check(steady(), &[requested(120), requested(0), FAILED], &[120_000, 2_000, 4_000]);
        check(
            steady(),
            &[AttemptResult { decision: RetryDecision::RetryLater, ..FAILED }],
            &[60_000],
        );
    }

    #[test]
    fn a_suspension_lasts_for_the_cooldown_or_a_longer_retry_after() {
        let suspended = AttemptResult { decision: RetryDecision::Suspend, ..FAILED };
        check(steady(), &[suspended, FAILED], &[300_000, 2_000]);
        let requested = |secs| RetryDecision::SuspendAtLeast(Duration::from_secs(secs));
        let (sooner, later) = (requested(1), requested(7_200));
        check(steady(), &[AttemptResult { decision: sooner, ..FAILED }], &[300_000]);
        check(steady(), &[AttemptResult { decision: later, ..FAILED }], &[7_200_000]);
    }

    #[test]
    fn a_close_suspends_retries_only_without_a_healthy_session() {
        let decisions =
            [RetryDecision::Suspend, RetryDecision::RetryLater, RetryDecision::RenewCredential];
        for healthy in [PRODUCTIVE, QUIET] {
            for decision in decisions {
                check(steady(), &[FAILED, AttemptResult { decision, ..healthy }], &[1_000, 1_000]);
            }
        }
        check(
            steady(),
            &[AttemptResult { decision: RetryDecision::Suspend, ..FLAPPED }],
            &[300_000],
        );
        // One listing and a rejection per session do not stay healthy for ever.
        let rejected = AttemptResult { decision: RetryDecision::Suspend, ..PRODUCTIVE };
        let expected = [1_000, 1_000, 1_000, 1_000, 1_000, 300_000];
        check(steady(), &[rejected; 6], &expected);
    }

    #[test]
    fn attempts_are_counted_from_the_last_healthy_session() {
        let mut backoff = Backoff::new(ReconnectPolicy::new(steady()).unwrap());
        let attempts: Vec<u32> = [FAILED, FAILED, PRODUCTIVE, FAILED]
            .iter()
            .map(|result| backoff.after(result, 0).attempt)
            .collect();
        assert_eq!(attempts, [1, 2, 1, 2]);
    }

    #[test]
    fn max_retries_exhausts_the_attempts() {
        let limits = ReconnectionLimits { max_retries: Some(2), ..steady() };
        let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
        let exhausted: Vec<bool> = [FAILED, FAILED, PRODUCTIVE, FAILED, FAILED]
            .iter()
            .map(|result| backoff.after(result, 0).exhausted)
            .collect();
        assert_eq!(exhausted, [false, false, false, false, true]);
    }

    #[test]
    fn jitter_subtracts_at_most_its_share() {
        let mut backoff = Backoff::new(ReconnectPolicy::default());
        // The share is always below the maximum; the delay is rounded down.
        assert_eq!(backoff.after(&FAILED, u64::MAX).wait, Duration::from_millis(800));
        assert_eq!(backoff.after(&FAILED, 0).wait, Duration::from_millis(2_000));
    }

    fn limits() -> impl Strategy<Value = ReconnectionLimits> {
        let delays = (1_u64..100_000, 250_u64..200_000);
        (delays, 1_000_u32..20_000, 0_u32..=1_000, 250_u64..1_000_000).prop_map(
            |((initial, max), multiplier, jitter, cooldown)| ReconnectionLimits {
                initial_delay: Duration::from_millis(initial.min(max)),
                max_delay: Duration::from_millis(max),
                backoff_multiplier: Thousandths(multiplier),
                jitter: Thousandths(jitter),
                circuit_breaker_cooldown: Duration::from_millis(cooldown),
                ..ReconnectionLimits::DEFAULT
            },
        )
    }

    fn result() -> impl Strategy<Value = AttemptResult> {
        let decision = prop_oneof![
            Just(RetryDecision::Retry),
            Just(RetryDecision::RetryLater),
            Just(RetryDecision::RenewCredential),
            Just(RetryDecision::Suspend),
            (0_u64..3_600).prop_map(|secs| RetryDecision::RetryAfter(Duration::from_secs(secs))),
            (0_u64..3_600)
                .prop_map(|secs| RetryDecision::SuspendAtLeast(Duration::from_secs(secs))),
        ];
        let uptime = prop::option::of((0_u64..90_000).prop_map(Duration::from_millis));
        (uptime, 0_u64..3, decision).prop_map(|(uptime, listings, decision)| AttemptResult {
            uptime,
            listings,
            decision,
        })
    }

    proptest! {
        /// Invariants 1 to 3 hold for any policy and history.
        #[test]
        fn a_wait_is_within_its_bounds(
            limits in limits(),
            script in prop::collection::vec((result(), any::<u64>()), 1..60),
        ) {
            let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
            for (result, entropy) in script {
                let next = backoff.after(&result, entropy);
                prop_assert!(next.wait >= DELAY_MIN);
                prop_assert!(!next.is_healthy || next.reason == DelayReason::Backoff);
                match (next.reason, result.decision) {
                    (DelayReason::Backoff, _) => prop_assert!(next.wait <= limits.max_delay),
                    (DelayReason::RetryAfter, RetryDecision::RetryAfter(requested)) => {
                        prop_assert!(next.wait >= requested);
                    }
                    (DelayReason::Suspended, RetryDecision::Suspend) => {
                        prop_assert_eq!(next.wait, limits.circuit_breaker_cooldown);
                    }
                    (DelayReason::Suspended, RetryDecision::SuspendAtLeast(requested)) => {
                        prop_assert_eq!(next.wait, limits.circuit_breaker_cooldown.max(requested));
                    }
                    odd => prop_assert!(false, "{odd:?}"),
                }
            }
        }

        /// Without a healthy session and without jitter, delays never shrink.
        #[test]
        fn failures_in_a_row_never_shorten_the_wait(limits in limits(), count in 1_usize..40) {
            let limits = ReconnectionLimits { jitter: Thousandths(0), ..limits };
            let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
            let waits: Vec<_> = (0..count).map(|_| backoff.after(&FAILED, 0).wait).collect();
            prop_assert!(waits.is_sorted());
        }

        /// The number of dials per hour is bounded for any sequence of results: at most five short
        /// productive sessions follow each one that lasts.
        #[test]
        fn dials_per_hour_are_bounded_for_any_results(
            script in prop::collection::vec((result(), any::<u64>()), 1..50),
        ) {
            let mut backoff = Backoff::new(ReconnectPolicy::default());
            let (mut elapsed, mut dials) = (Duration::ZERO, 0_u32);
            for (result, entropy) in script.iter().cycle() {
                if elapsed >= Duration::from_secs(3_600) {
                    break;
                }
                let uptime = result.uptime.unwrap_or_default();
                elapsed += uptime + backoff.after(result, *entropy).wait;
                dials += 1;
            }
            prop_assert!(dials <= 700, "{dials}");
        }

        /// The number of dials per hour is bounded for any server: with the defaults, a session
        /// shorter than `stable_after` is a flap, and flaps back off.
        #[test]
        fn flapping_leads_to_few_dials_per_hour(
            uptime in 0_u64..30_000,
            listings in 0_u64..2,
            entropy: u64,
        ) {
            let result = AttemptResult {
                uptime: Some(Duration::from_millis(uptime)),
                listings,
                decision: RetryDecision::Retry,
            };
            let mut backoff = Backoff::new(ReconnectPolicy::default());
            let (mut elapsed, mut dials) = (Duration::ZERO, 0_u32);
            while elapsed < Duration::from_secs(3_600) {
                elapsed += Duration::from_millis(uptime) + backoff.after(&result, entropy).wait;
                dials += 1;
            }
            prop_assert!(dials <= 90, "{dials}");
        }
    }
}
