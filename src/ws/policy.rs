//! Reconnection policy. Pure: time and randomness are arguments.
//!
//! [`ReconnectionLimits`] are the settings, validated into a [`ReconnectPolicy`]. [`RetryDecision`]
//! classifies close codes and HTTP statuses; its source is the WebSocket registry, the
//! graphql-transport-ws document, and the observed behavior of public clients of the market.
//! [`Backoff`] computes the delay before the next attempt. [`CircuitBreaker`] stops dialing a host
//! after repeated failures: open, it permits no dial until the cooldown has passed; half-open, it
//! permits one probe; a healthy session closes it, a failure opens it again.
//! The callers sleep, log and dial.
//!
//! # Invariants
//!
//! 1. No delay is shorter than [`DELAY_MIN`].
//! 2. Only a suspension or a `Retry-After` leads to a delay longer than `max_delay`. After a
//!    healthy session neither applies: the next attempt follows after ordinary backoff.
//! 3. Jitter only shortens a delay.
//! 4. A handshake resets nothing. The backoff is reset and the circuit is closed by a session that
//!    delivered a listing or lasted for `stable_after`; after [`FLAPS_MAX`] short productive
//!    sessions in a row, only by one that lasted.
//! 5. The circuit cannot get stuck: a probe that reports no result, because its task was dropped,
//!    expires, and another one is permitted.
//! 6. An open circuit permits no dial before the cooldown has passed.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![warn(clippy::wildcard_enum_match_arm)]

use std::time::{Duration, Instant};

use crate::backoff::{ExponentialBackoff, with_jitter};
pub use crate::config::reconnection::{
    DELAY_MIN, DURATION_MAX, PolicyError, ReconnectPolicy, ReconnectionLimits, Thousandths,
};

/// Maximum `Retry-After` that is respected: three days, the longest ban that a public exchange
/// documents. Longer ones are cut to this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3 * 24 * 60 * 60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    Retry,
    /// Retry after `max_delay`: the server is overloaded.
    RetryLater,
    /// Retry with backoff, but no sooner than the server requests.
    RetryAfter(Duration),
    /// Retry with backoff and a reloaded credential.
    RenewCredential,
    /// A bug, a setting or a block that retries cannot fix. Wait for the cooldown, log it once at
    /// `error`, and reload the credential before the next attempt.
    Suspend,
    /// Like [`Suspend`](Self::Suspend), but no sooner than the server requests.
    SuspendAtLeast(Duration),
}

/// Classifies a close code; `None` if there was no close frame.
pub const fn of_close(code: Option<u16>) -> RetryDecision {
    match code {
        Some(4403) => RetryDecision::RenewCredential,
        Some(1013) => RetryDecision::RetryLater,
        Some(
            1002
            | 1003
            | 1007..=1010
            | 1015
            | 4004
            | 4005
            | 4400
            | 4401
            | 4406
            | 4409
            | 4429
            | 4500,
        ) => RetryDecision::Suspend,
        Some(_) | None => RetryDecision::Retry,
    }
}

/// Classifies an HTTP status other than 101.
///
/// A `Retry-After` is respected with every status, up to [`RETRY_AFTER_MAX`]: it can only delay the
/// next attempt, also a suspended one.
pub fn of_status(status: u16, retry_after: Option<Duration>) -> RetryDecision {
    let requested = retry_after.map(|wait| wait.min(RETRY_AFTER_MAX));
    match (status, requested) {
        // Binance bans an address with 418 and a `Retry-After`.
        (408 | 418 | 425 | 429 | 500..=599, Some(wait)) => RetryDecision::RetryAfter(wait),
        (429, None) => RetryDecision::RetryLater,
        (408 | 425 | 500..=599, None) => RetryDecision::Retry,
        (_, Some(wait)) => RetryDecision::SuspendAtLeast(wait),
        (_, None) => RetryDecision::Suspend,
    }
}

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
    /// The server requests that no connection dials it for this time.
    RetryAfter(Duration),
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
            RetryDecision::RetryAfter(requested) => {
                (backoff.max(requested), DelayReason::RetryAfter(requested))
            }
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

/// Whether a host may be dialed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialDecision {
    Dial,
    /// Dial as the single probe of a half-open circuit.
    Probe,
    /// Ask again after this time.
    WaitFor(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { probe_until: Instant },
}

#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    failures_max: u32,
    cooldown: Duration,
    probe_timeout: Duration,
    state: State,
}

impl CircuitBreaker {
    pub fn new(policy: &ReconnectPolicy) -> Self {
        let limits = policy.limits();
        Self {
            failures_max: limits.max_consecutive_failures,
            cooldown: limits.circuit_breaker_cooldown,
            probe_timeout: limits.connect_timeout.saturating_add(limits.stable_after),
            state: State::Closed { failures: 0 },
        }
    }

    /// Returns whether a dial may start now.
    pub fn try_acquire(&mut self, now: Instant) -> DialDecision {
        let until = match self.state {
            State::Closed { .. } => return DialDecision::Dial,
            State::Open { until } => until,
            State::HalfOpen { probe_until } => probe_until,
        };
        match until.checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => DialDecision::WaitFor(wait),
            _ => {
                let probe_until = now.checked_add(self.probe_timeout).unwrap_or(now);
                self.state = State::HalfOpen { probe_until };
                DialDecision::Probe
            }
        }
    }

    /// Closes the circuit: a session delivered a listing or lasted long enough. Returns `true` if
    /// it was open.
    pub fn mark_healthy(&mut self) -> bool {
        let before = std::mem::replace(&mut self.state, State::Closed { failures: 0 });
        !matches!(before, State::Closed { .. })
    }

    /// Counts a dial that led to no healthy session. Returns the cooldown if that opened the
    /// circuit.
    pub fn record_failure(&mut self, now: Instant) -> Option<Duration> {
        let open = match &mut self.state {
            State::Closed { failures } => {
                *failures = failures.saturating_add(1);
                self.failures_max != 0 && *failures >= self.failures_max
            }
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if !open {
            return None;
        }
        self.state = State::Open { until: now.checked_add(self.cooldown).unwrap_or(now) };
        Some(self.cooldown)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn permanent_close_codes_suspend_retries() {
        for code in [
            4400, 4401, 4406, 4409, 4429, 4004, 4005, 4500, 1002, 1003, 1007, 1008, 1009, 1010,
            1015,
        ] {
            assert_eq!(of_close(Some(code)), RetryDecision::Suspend, "{code}");
        }
    }

    #[test]
    fn transient_close_codes_are_retried() {
        for code in [1000, 1001, 1005, 1006, 1011, 1012, 1014, 4408, 4504, 4410, 4999, 3000] {
            assert_eq!(of_close(Some(code)), RetryDecision::Retry, "{code}");
        }
        assert_eq!(of_close(None), RetryDecision::Retry);
        assert_eq!(of_close(Some(1013)), RetryDecision::RetryLater);
        assert_eq!(of_close(Some(4403)), RetryDecision::RenewCredential);
    }

    #[test]
    fn every_close_code_has_a_decision() {
        for code in 0..=u16::MAX {
            let decision = of_close(Some(code));
            assert!(!matches!(decision, RetryDecision::RetryAfter(_)), "{code}");
        }
    }

    #[test]
    fn statuses_are_classified() {
        let wait = Duration::from_secs(7);
        for status in [401, 403, 404, 426, 302, 200, 400, 418, 451] {
            assert_eq!(of_status(status, None), RetryDecision::Suspend, "{status}");
        }
        for status in [401, 403, 404, 426, 302, 200, 400, 451] {
            assert_eq!(
                of_status(status, Some(wait)),
                RetryDecision::SuspendAtLeast(wait),
                "{status}"
            );
        }
        for status in [408, 418, 425, 429, 500, 502, 503, 504] {
            assert_eq!(of_status(status, Some(wait)), RetryDecision::RetryAfter(wait), "{status}");
        }
        assert_eq!(of_status(429, None), RetryDecision::RetryLater);
        for status in [500, 502, 503, 504, 520, 408, 425] {
            assert_eq!(of_status(status, None), RetryDecision::Retry, "{status}");
        }
    }

    #[test]
    fn a_server_cannot_ask_for_more_than_three_days() {
        let requested = Duration::from_secs(u64::MAX);
        assert_eq!(of_status(503, Some(requested)), RetryDecision::RetryAfter(RETRY_AFTER_MAX));
        assert_eq!(of_status(403, Some(requested)), RetryDecision::SuspendAtLeast(RETRY_AFTER_MAX));
        let ban = Duration::from_secs(7_200);
        assert_eq!(of_status(418, Some(ban)), RetryDecision::RetryAfter(ban));
    }

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
                    (DelayReason::RetryAfter(blocked), RetryDecision::RetryAfter(requested)) => {
                        prop_assert_eq!(blocked, requested);
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

    const COOLDOWN: Duration = Duration::from_secs(300);

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
        for _ in 0..9 {
            assert_eq!(breaker.record_failure(now), None);
        }
        assert_eq!(breaker.record_failure(now), Some(COOLDOWN));
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_the_circuit_and_one_probe_follows_the_cooldown() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start), DialDecision::WaitFor(COOLDOWN));
        assert_eq!(breaker.try_acquire(start + COOLDOWN), DialDecision::Probe);
        assert!(matches!(breaker.try_acquire(start + COOLDOWN), DialDecision::WaitFor(_)));
    }

    #[test]
    fn a_healthy_probe_closes_the_circuit() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start + COOLDOWN), DialDecision::Probe);
        assert!(breaker.mark_healthy());
        assert_eq!(breaker.try_acquire(start + COOLDOWN), DialDecision::Dial);
    }

    #[test]
    fn a_failed_probe_reopens_the_circuit() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start + COOLDOWN), DialDecision::Probe);
        assert_eq!(breaker.record_failure(start + COOLDOWN), Some(COOLDOWN));
        assert_eq!(breaker.try_acquire(start + COOLDOWN), DialDecision::WaitFor(COOLDOWN));
    }

    #[test]
    fn a_dial_alone_does_not_reset_the_failures() {
        let start = Instant::now();
        let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
        for _ in 0..9 {
            assert_eq!(breaker.try_acquire(start), DialDecision::Dial);
            assert_eq!(breaker.record_failure(start), None);
        }
        assert_eq!(breaker.try_acquire(start), DialDecision::Dial);
        assert!(breaker.record_failure(start).is_some());
    }

    #[test]
    fn a_lost_probe_expires_and_another_is_permitted() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start + COOLDOWN), DialDecision::Probe);
        let DialDecision::WaitFor(probe_timeout) = breaker.try_acquire(start + COOLDOWN) else {
            panic!("admitted")
        };
        assert_eq!(breaker.try_acquire(start + COOLDOWN + probe_timeout), DialDecision::Probe);
    }

    #[test]
    fn zero_failures_disable_the_breaker() {
        let policy = ReconnectPolicy::new(ReconnectionLimits {
            max_consecutive_failures: 0,
            ..ReconnectionLimits::DEFAULT
        })
        .unwrap();
        let mut breaker = CircuitBreaker::new(&policy);
        let now = Instant::now();
        assert!((0..100_000).all(|_| breaker.record_failure(now).is_none()));
        assert_eq!(breaker.try_acquire(now), DialDecision::Dial);
    }

    #[derive(Clone, Copy, Debug)]
    enum Move {
        Admit,
        Fail,
        MarkHealthy,
        Pass(u64),
    }

    proptest! {
        /// For any sequence of events, no dial is permitted early, and one is always permitted in
        /// the end.
        #[test]
        fn a_dial_is_never_permitted_early_and_always_permitted_in_the_end(moves in prop::collection::vec(prop_oneof![
            Just(Move::Admit),
            Just(Move::Fail),
            Just(Move::MarkHealthy),
            (0_u64..400_000).prop_map(Move::Pass),
        ], 0..200)) {
            let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
            let mut now = Instant::now();
            let mut opened_at = None;
            for step in moves {
                match step {
                    Move::Admit => match breaker.try_acquire(now) {
                        DialDecision::Dial => prop_assert!(opened_at.is_none()),
                        DialDecision::Probe => {
                            let at: Instant = opened_at.unwrap();
                            prop_assert!(now.duration_since(at) >= COOLDOWN);
                        }
                        DialDecision::WaitFor(wait) => prop_assert!(wait <= COOLDOWN),
                    },
                    Move::Fail => if breaker.record_failure(now).is_some() { opened_at = Some(now); },
                    Move::MarkHealthy => { breaker.mark_healthy(); opened_at = None; }
                    Move::Pass(ms) => now += Duration::from_millis(ms),
                }
            }
            now += COOLDOWN;
            prop_assert!(!matches!(breaker.try_acquire(now), DialDecision::WaitFor(_)));
        }
    }
}
