//! Validated settings of `[reconnection]`.

use std::{fmt, time::Duration};

/// Lower bound of every delay, independent of the settings.
pub const DELAY_MIN: Duration = Duration::from_millis(250);

/// Maximum of each duration: one week.
pub const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Maximum of `backoff_multiplier`.
const MULTIPLIER_MAX: Thousandths = Thousandths(100_000);

/// A number in thousandths: `Thousandths(2_000)` is 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thousandths(pub u32);

impl Thousandths {
    pub const ONE: Self = Self(1_000);
}

impl fmt::Display for Thousandths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// The section `[reconnection]`, one field per key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconnectionLimits {
    /// Delay after the first failure.
    pub initial_delay: Duration,
    /// Maximum of the ordinary delay.
    pub max_delay: Duration,
    /// Factor between two delays.
    pub backoff_multiplier: Thousandths,
    /// Maximum share that jitter subtracts from a delay.
    pub jitter: Thousandths,
    /// Failures in a row that open the circuit; 0 disables the breaker.
    pub max_consecutive_failures: u32,
    /// Time without dials after the circuit opened or retries were suspended.
    pub circuit_breaker_cooldown: Duration,
    /// Minimum lifetime of a healthy session without listings.
    pub stable_after: Duration,
    /// Deadline from the DNS query to the last written subscription.
    pub connect_timeout: Duration,
    /// Time without a frame before a ping is sent.
    pub ping_interval: Duration,
    /// Maximum time for the answer to a ping.
    pub pong_timeout: Duration,
    /// Time without data before a subscription is renewed; zero disables the check.
    pub idle_timeout: Duration,
    /// Failed attempts in a row before giving up; `None` never gives up.
    pub max_retries: Option<u32>,
}

impl ReconnectionLimits {
    pub const DEFAULT: Self = Self {
        initial_delay: Duration::from_millis(1_000),
        max_delay: Duration::from_millis(60_000),
        backoff_multiplier: Thousandths(2_000),
        jitter: Thousandths(200),
        max_consecutive_failures: 10,
        circuit_breaker_cooldown: Duration::from_millis(300_000),
        stable_after: Duration::from_millis(30_000),
        connect_timeout: Duration::from_millis(10_000),
        ping_interval: Duration::from_millis(5_000),
        pong_timeout: Duration::from_millis(4_000),
        idle_timeout: Duration::from_millis(60_000),
        max_retries: None,
    };
}

impl Default for ReconnectionLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Validated [`ReconnectionLimits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconnectPolicy(ReconnectionLimits);

/// An invalid key of `[reconnection]`. The message contains the valid range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{key} must be at least {at_least:?}")]
    TooShort { key: &'static str, at_least: Duration },
    #[error("{key} must be at most {DURATION_MAX:?}")]
    TooLong { key: &'static str },
    /// `max_delay_ms` is below `initial_delay_ms`.
    #[error("max_delay_ms must not be below initial_delay_ms")]
    CapBelowInitial,
    #[error("backoff_multiplier must be between 1.0 and 100.0")]
    Multiplier,
    #[error("jitter must be between 0.0 and 1.0")]
    Jitter,
}

impl PolicyError {
    /// Returns the key in `sniper.toml`.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::TooShort { key, .. } | Self::TooLong { key } => key,
            Self::CapBelowInitial => "max_delay_ms",
            Self::Multiplier => "backoff_multiplier",
            Self::Jitter => "jitter",
        }
    }
}

impl ReconnectPolicy {
    /// Validates limits and wraps them.
    ///
    /// # Errors
    ///
    /// Returns the first [`PolicyError`] of [`ReconnectPolicy::problems`].
    pub fn new(limits: ReconnectionLimits) -> Result<Self, PolicyError> {
        Self::problems(&limits).into_iter().next().map_or(Ok(Self(limits)), Err)
    }

    /// Returns all errors of the limits.
    pub fn problems(limits: &ReconnectionLimits) -> Vec<PolicyError> {
        const MS: Duration = Duration::from_millis(1);
        let durations = [
            ("initial_delay_ms", limits.initial_delay, MS),
            ("max_delay_ms", limits.max_delay, DELAY_MIN),
            ("circuit_breaker_cooldown_ms", limits.circuit_breaker_cooldown, DELAY_MIN),
            ("stable_after_ms", limits.stable_after, MS),
            ("connect_timeout_ms", limits.connect_timeout, MS),
            ("ping_interval_ms", limits.ping_interval, MS),
            ("pong_timeout_ms", limits.pong_timeout, MS),
            ("idle_timeout_ms", limits.idle_timeout, Duration::ZERO),
        ];
        let mut problems = Vec::new();
        for (key, value, at_least) in durations {
            if value < at_least {
                problems.push(PolicyError::TooShort { key, at_least });
            } else if value > DURATION_MAX {
                problems.push(PolicyError::TooLong { key });
            }
        }
        if limits.max_delay < limits.initial_delay {
            problems.push(PolicyError::CapBelowInitial);
        }
        if !(Thousandths::ONE..=MULTIPLIER_MAX).contains(&limits.backoff_multiplier) {
            problems.push(PolicyError::Multiplier);
        }
        if limits.jitter > Thousandths::ONE {
            problems.push(PolicyError::Jitter);
        }
        problems
    }

    pub const fn limits(&self) -> &ReconnectionLimits {
        &self.0
    }
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self(ReconnectionLimits::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut ReconnectionLimits), expected: Option<PolicyError>) {
        let mut limits = ReconnectionLimits::DEFAULT;
        change(&mut limits);
        assert_eq!(ReconnectPolicy::new(limits).err(), expected);
    }

    #[test]
    fn the_defaults_are_valid() {
        check(|_| {}, None);
        assert_eq!(
            ReconnectPolicy::default(),
            ReconnectPolicy::new(ReconnectionLimits::default()).unwrap()
        );
    }

    #[test]
    fn invalid_settings_are_reported_by_key() {
        let short = |key, at_least| Some(PolicyError::TooShort { key, at_least });
        let ms = Duration::from_millis;
        check(|l| l.initial_delay = ms(0), short("initial_delay_ms", ms(1)));
        check(|l| l.ping_interval = ms(0), short("ping_interval_ms", ms(1)));
        check(|l| l.pong_timeout = ms(0), short("pong_timeout_ms", ms(1)));
        check(|l| l.connect_timeout = ms(0), short("connect_timeout_ms", ms(1)));
        check(
            |l| l.circuit_breaker_cooldown = ms(249),
            short("circuit_breaker_cooldown_ms", ms(250)),
        );
        check(
            |l| l.stable_after = DURATION_MAX + ms(1),
            Some(PolicyError::TooLong { key: "stable_after_ms" }),
        );
        check(|l| l.max_delay = ms(999), Some(PolicyError::CapBelowInitial));
        check(|l| l.backoff_multiplier = Thousandths(999), Some(PolicyError::Multiplier));
        check(|l| l.jitter = Thousandths(1_001), Some(PolicyError::Jitter));
    }

    #[test]
    fn zero_disables_optional_checks() {
        check(|l| l.idle_timeout = Duration::ZERO, None);
        check(|l| l.max_consecutive_failures = 0, None);
        check(|l| l.jitter = Thousandths(0), None);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let limits = ReconnectionLimits {
            initial_delay: Duration::from_secs(61),
            jitter: Thousandths(2_000),
            backoff_multiplier: Thousandths(0),
            ..ReconnectionLimits::DEFAULT
        };
        let keys: Vec<_> =
            ReconnectPolicy::problems(&limits).iter().map(PolicyError::key).collect();
        assert_eq!(keys, ["max_delay_ms", "backoff_multiplier", "jitter"]);
    }
}
