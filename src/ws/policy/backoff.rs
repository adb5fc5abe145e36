//! How long to wait after an ending.
//!
//! # Invariants
//!
//! 1. No wait is shorter than [`DELAY_MIN`].
//! 2. Only parking and a server's `Retry-After` make a wait longer than `max_delay`, and after a
//!    healthy session neither does: whatever ended it, the next attempt comes by ordinary backoff.
//! 3. Chance only takes off: the cap is the cap.
//! 4. A finished handshake forgives nothing. Only a session with a listing, or one that lived for
//!    `stable_after`, resets the wait; and after [`FLAPS_MAX`] short sessions with listings in a
//!    row, only one that lived does.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]
#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use super::{DELAY_MIN, ReconnectPolicy, RetryDecision};

/// So many productive but short sessions in a row are chronic flapping.
pub const FLAPS_MAX: u32 = 5;

/// Waits are whole multiples of this, so that a log line can show exactly what is slept.
const GRAIN_NS: u128 = 10_000_000;

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// How long the session lived after its subscriptions were written; `None`: there was none.
    pub lived: Option<Duration>,
    /// How many listings it delivered.
    pub listings: u64,
    /// What its error says about trying again.
    pub verdict: RetryDecision,
}

/// Why a wait is as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayReason {
    /// Ordinary backoff.
    Backoff,
    /// The server asked for it.
    Asked,
    /// Haste cannot heal what happened.
    Parked,
}

/// What follows from an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextAttempt {
    /// How long to wait.
    pub wait: Duration,
    /// Why.
    pub why: DelayReason,
    /// Whether the session was healthy, and the backoff began anew.
    pub healthy: bool,
    /// The number of the coming attempt, counted from the last healthy session.
    pub attempt: u32,
    /// Whether `max_retries` is used up: there is no coming attempt.
    pub exhausted: bool,
}

/// The waits of one connection.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: ReconnectPolicy,
    delay: Duration,
    attempts: u32,
    flaps: u32,
}

impl Backoff {
    /// Nothing has ended yet.
    pub const fn new(policy: ReconnectPolicy) -> Self {
        Self { delay: policy.limits().initial_delay, policy, attempts: 0, flaps: 0 }
    }

    /// Records how an attempt ended and says how long to wait before the next.
    ///
    /// `entropy` is any number; it decides how much of the jitter is taken off.
    #[must_use = "a wait that nobody sleeps is a flood"]
    pub fn after(&mut self, ending: &AttemptResult, entropy: u64) -> NextAttempt {
        let limits = *self.policy.limits();
        let healthy = self.judge(ending);
        if healthy {
            self.delay = limits.initial_delay;
            self.attempts = 0;
        }
        self.attempts = self.attempts.saturating_add(1);
        let ordinary = self.take_off(self.delay, entropy);
        // A server that has served a good session and then closes it, with whatever code, is no
        // server that refuses us. One that closes every session at once is judged by its code.
        let verdict = if healthy { RetryDecision::Retry } else { ending.verdict };
        let (wait, why) = match verdict {
            RetryDecision::Retry | RetryDecision::RenewCredential => {
                (ordinary, DelayReason::Backoff)
            }
            RetryDecision::RetryLater => {
                (self.take_off(limits.max_delay, entropy), DelayReason::Backoff)
            }
            RetryDecision::RetryAfter(asked) if asked > ordinary => (asked, DelayReason::Asked),
            RetryDecision::RetryAfter(_) => (ordinary, DelayReason::Backoff),
            RetryDecision::Park => (limits.circuit_breaker_cooldown, DelayReason::Parked),
            RetryDecision::ParkAtLeast(asked) => {
                (limits.circuit_breaker_cooldown.max(asked), DelayReason::Parked)
            }
        };
        self.delay = self.grown();
        let exhausted = limits.max_retries.is_some_and(|max| !healthy && self.attempts > max);
        NextAttempt { wait: wait.max(DELAY_MIN), why, healthy, attempt: self.attempts, exhausted }
    }

    /// Whether listings alone no longer make a session healthy.
    pub const fn is_flapping(&self) -> bool {
        self.flaps >= FLAPS_MAX
    }

    /// Whether the session was healthy. Keeps count of flapping.
    fn judge(&mut self, ending: &AttemptResult) -> bool {
        let Some(lived) = ending.lived else { return false };
        if lived >= self.policy.limits().stable_after {
            self.flaps = 0;
            return true;
        }
        if ending.listings == 0 {
            return false;
        }
        self.flaps = self.flaps.saturating_add(1);
        self.flaps <= FLAPS_MAX
    }

    fn grown(&self) -> Duration {
        let limits = self.policy.limits();
        let thousandths = self.delay.saturating_mul(limits.backoff_multiplier.0);
        let grown = thousandths.checked_div(1_000).unwrap_or(limits.max_delay);
        grown.min(limits.max_delay)
    }

    /// Takes a random share off, at most `jitter`, and rounds down to what a log line shows.
    fn take_off(&self, delay: Duration, entropy: u64) -> Duration {
        let nanos = delay.as_nanos();
        let most = nanos.saturating_mul(u128::from(self.policy.limits().jitter.0)) / 1_000;
        let share = u128::from(entropy).saturating_mul(most) >> 64_u32;
        let left = nanos.saturating_sub(share);
        let grains = left.saturating_sub(left % GRAIN_NS);
        Duration::from_nanos(u64::try_from(grains).unwrap_or(u64::MAX)).max(DELAY_MIN)
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
        AttemptResult { lived: None, listings: 0, verdict: RetryDecision::Retry };
    const FLAPPED: AttemptResult = AttemptResult {
        lived: Some(Duration::from_millis(3)),
        listings: 0,
        verdict: RetryDecision::Retry,
    };
    const PRODUCTIVE: AttemptResult = AttemptResult {
        lived: Some(Duration::from_secs(3)),
        listings: 12,
        verdict: RetryDecision::Retry,
    };
    const QUIET: AttemptResult = AttemptResult {
        lived: Some(Duration::from_secs(36_000)),
        listings: 0,
        verdict: RetryDecision::Retry,
    };

    fn steady() -> ReconnectionLimits {
        ReconnectionLimits { jitter: Thousandths(0), ..ReconnectionLimits::DEFAULT }
    }

    #[track_caller]
    fn check(limits: ReconnectionLimits, script: &[AttemptResult], expected_ms: &[u128]) {
        let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
        let waits: Vec<u128> =
            script.iter().map(|ending| backoff.after(ending, 7).wait.as_millis()).collect();
        assert_eq!(waits, expected_ms, "script: {script:?}");
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let expected = [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000];
        check(steady(), &[FAILED; 8], &expected);
    }

    #[test]
    fn a_server_that_accepts_and_closes_is_not_hammered() {
        check(steady(), &[FLAPPED; 4], &[1_000, 2_000, 4_000, 8_000]);
    }

    #[test]
    fn one_listing_resets_the_wait() {
        let script = [FAILED, FAILED, PRODUCTIVE, FAILED];
        check(steady(), &script, &[1_000, 2_000, 1_000, 2_000]);
    }

    #[test]
    fn a_quiet_night_resets_the_wait() {
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
            assert!(backoff.after(&PRODUCTIVE, 0).healthy);
            assert!(!backoff.after(&FAILED, 0).healthy);
        }
        assert!(!backoff.after(&PRODUCTIVE, 0).healthy);
    }

    #[test]
    fn no_wait_is_below_a_quarter_of_a_second() {
        let limits = ReconnectionLimits { initial_delay: Duration::from_millis(1), ..steady() };
        check(limits, &[FAILED; 3], &[250, 250, 250]);
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let asked = |secs| AttemptResult {
            verdict: RetryDecision::RetryAfter(Duration::from_secs(secs)),
            ..FAILED
        };
        check(steady(), &[asked(120), asked(0), FAILED], &[120_000, 2_000, 4_000]);
        check(
            steady(),
            &[AttemptResult { verdict: RetryDecision::RetryLater, ..FAILED }],
            &[60_000],
        );
    }

    #[test]
    fn what_haste_cannot_heal_is_parked() {
        let parked = AttemptResult { verdict: RetryDecision::Park, ..FAILED };
        check(steady(), &[parked, FAILED], &[300_000, 2_000]);
        let asked = |secs| RetryDecision::ParkAtLeast(Duration::from_secs(secs));
        let (sooner, later) = (asked(1), asked(7_200));
        check(steady(), &[AttemptResult { verdict: sooner, ..FAILED }], &[300_000]);
        check(steady(), &[AttemptResult { verdict: later, ..FAILED }], &[7_200_000]);
    }

    #[test]
    fn after_a_healthy_session_no_close_is_parked_and_before_one_it_is() {
        let verdicts =
            [RetryDecision::Park, RetryDecision::RetryLater, RetryDecision::RenewCredential];
        for healthy in [PRODUCTIVE, QUIET] {
            for verdict in verdicts {
                check(steady(), &[FAILED, AttemptResult { verdict, ..healthy }], &[1_000, 1_000]);
            }
        }
        check(steady(), &[AttemptResult { verdict: RetryDecision::Park, ..FLAPPED }], &[300_000]);
        // One listing and a refusal, again and again, is no good session for ever.
        let refused = AttemptResult { verdict: RetryDecision::Park, ..PRODUCTIVE };
        let expected = [1_000, 1_000, 1_000, 1_000, 1_000, 300_000];
        check(steady(), &[refused; 6], &expected);
    }

    #[test]
    fn attempts_are_counted_from_the_last_healthy_session() {
        let mut backoff = Backoff::new(ReconnectPolicy::new(steady()).unwrap());
        let attempts: Vec<u32> = [FAILED, FAILED, PRODUCTIVE, FAILED]
            .iter()
            .map(|ending| backoff.after(ending, 0).attempt)
            .collect();
        assert_eq!(attempts, [1, 2, 1, 2]);
    }

    #[test]
    fn retries_run_out_where_that_is_set() {
        let limits = ReconnectionLimits { max_retries: Some(2), ..steady() };
        let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
        let exhausted: Vec<bool> = [FAILED, FAILED, PRODUCTIVE, FAILED, FAILED]
            .iter()
            .map(|ending| backoff.after(ending, 0).exhausted)
            .collect();
        assert_eq!(exhausted, [false, false, false, false, true]);
    }

    #[test]
    fn all_of_the_jitter_is_taken_off_at_most() {
        let mut backoff = Backoff::new(ReconnectPolicy::default());
        // The share stays below the whole; what is shown is rounded down.
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

    fn ending() -> impl Strategy<Value = AttemptResult> {
        let verdict = prop_oneof![
            Just(RetryDecision::Retry),
            Just(RetryDecision::RetryLater),
            Just(RetryDecision::RenewCredential),
            Just(RetryDecision::Park),
            (0_u64..3_600).prop_map(|secs| RetryDecision::RetryAfter(Duration::from_secs(secs))),
            (0_u64..3_600).prop_map(|secs| RetryDecision::ParkAtLeast(Duration::from_secs(secs))),
        ];
        let lived = prop::option::of((0_u64..90_000).prop_map(Duration::from_millis));
        (lived, 0_u64..3, verdict).prop_map(|(lived, listings, verdict)| AttemptResult {
            lived,
            listings,
            verdict,
        })
    }

    proptest! {
        /// Invariants 1 to 3 under any policy and any history.
        #[test]
        fn a_wait_is_within_its_bounds(
            limits in limits(),
            script in prop::collection::vec((ending(), any::<u64>()), 1..60),
        ) {
            let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
            for (ending, entropy) in script {
                let next = backoff.after(&ending, entropy);
                prop_assert!(next.wait >= DELAY_MIN);
                prop_assert!(!next.healthy || next.why == DelayReason::Backoff);
                match (next.why, ending.verdict) {
                    (DelayReason::Backoff, _) => prop_assert!(next.wait <= limits.max_delay),
                    (DelayReason::Asked, RetryDecision::RetryAfter(asked)) => {
                        prop_assert!(next.wait >= asked);
                    }
                    (DelayReason::Parked, RetryDecision::Park) => {
                        prop_assert_eq!(next.wait, limits.circuit_breaker_cooldown);
                    }
                    (DelayReason::Parked, RetryDecision::ParkAtLeast(asked)) => {
                        prop_assert_eq!(next.wait, limits.circuit_breaker_cooldown.max(asked));
                    }
                    odd => prop_assert!(false, "{odd:?}"),
                }
            }
        }

        /// Without a healthy session the waits never shrink (chance apart).
        #[test]
        fn failures_in_a_row_never_shorten_the_wait(limits in limits(), count in 1_usize..40) {
            let limits = ReconnectionLimits { jitter: Thousandths(0), ..limits };
            let mut backoff = Backoff::new(ReconnectPolicy::new(limits).unwrap());
            let waits: Vec<_> = (0..count).map(|_| backoff.after(&FAILED, 0).wait).collect();
            prop_assert!(waits.is_sorted());
        }

        /// Under any sequence of endings an hour holds a bounded number of dials: five short
        /// productive sessions can follow each one that lasts, and no more.
        #[test]
        fn an_hour_of_anything_holds_a_bounded_number_of_dials(
            script in prop::collection::vec((ending(), any::<u64>()), 1..50),
        ) {
            let mut backoff = Backoff::new(ReconnectPolicy::default());
            let (mut elapsed, mut dials) = (Duration::ZERO, 0_u32);
            for (ending, entropy) in script.iter().cycle() {
                if elapsed >= Duration::from_secs(3_600) {
                    break;
                }
                let lived = ending.lived.unwrap_or_default();
                elapsed += lived + backoff.after(ending, *entropy).wait;
                dials += 1;
            }
            prop_assert!(dials <= 700, "{dials}");
        }

        /// Whatever a server does, an hour holds a bounded number of dials: with the defaults, a
        /// session that ends within `stable_after` is a flap, and flaps back off.
        #[test]
        fn an_hour_of_flapping_holds_few_dials(
            lived in 0_u64..30_000,
            listings in 0_u64..2,
            entropy: u64,
        ) {
            let ending = AttemptResult {
                lived: Some(Duration::from_millis(lived)),
                listings,
                verdict: RetryDecision::Retry,
            };
            let mut backoff = Backoff::new(ReconnectPolicy::default());
            let (mut elapsed, mut dials) = (Duration::ZERO, 0_u32);
            while elapsed < Duration::from_secs(3_600) {
                elapsed += Duration::from_millis(lived) + backoff.after(&ending, entropy).wait;
                dials += 1;
            }
            prop_assert!(dials <= 90, "{dials}");
        }
    }
}
