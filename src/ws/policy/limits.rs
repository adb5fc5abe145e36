//! What may be set about reconnecting, checked once.

use std::{fmt, time::Duration};

/// No wait is shorter than this, whatever is set.
pub const DELAY_MIN: Duration = Duration::from_millis(250);

/// No duration may be set longer than this: a week.
pub const DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The largest multiplier that can be set, in thousandths.
const MULTIPLIER_MAX: Thousandths = Thousandths(100_000);

/// A number in thousandths: `Thousandths(2_000)` is 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thousandths(pub u32);

impl Thousandths {
    /// One.
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
    /// The wait after the first ending.
    pub initial_delay: Duration,
    /// The longest wait of the ordinary kind.
    pub max_delay: Duration,
    /// What each wait is multiplied with to give the next.
    pub backoff_multiplier: Thousandths,
    /// The largest share that chance takes off a wait.
    pub jitter: Thousandths,
    /// After how many failures in a row the circuit opens; 0: never.
    pub max_consecutive_failures: u32,
    /// How long an open circuit, and a parked feed, stays away.
    pub circuit_breaker_cooldown: Duration,
    /// How long a session must live to be healthy without a single listing.
    pub stable_after: Duration,
    /// From the question to the name server to the last subscription written.
    pub connect_timeout: Duration,
    /// How long a socket may be silent before it is asked whether it lives.
    pub ping_interval: Duration,
    /// How long it may take to answer that.
    pub pong_timeout: Duration,
    /// How long a brisk feed may deliver nothing before it is suspected; zero: for ever.
    pub idle_timeout: Duration,
    /// How many failed attempts in a row make it give up; `None`: it never does.
    pub max_retries: Option<u32>,
}

impl ReconnectionLimits {
    /// The values that hold where nothing is set.
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

/// [`ReconnectionLimits`] that have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconnectPolicy(ReconnectionLimits);

/// A key of `[reconnection]` that cannot be what it was set to. The message says what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A duration of zero where that makes no sense.
    #[error("{key} must be at least {at_least:?}")]
    TooShort {
        /// The key in `sniper.toml`.
        key: &'static str,
        /// The least that it can be.
        at_least: Duration,
    },
    /// A duration beyond [`DURATION_MAX`].
    #[error("{key} must be at most {DURATION_MAX:?}")]
    TooLong {
        /// The key in `sniper.toml`.
        key: &'static str,
    },
    /// The cap leaves no room for the first wait.
    #[error("max_delay_ms must not be below initial_delay_ms")]
    CapBelowInitial,
    /// A multiplier that makes the waits shrink, or explode.
    #[error("backoff_multiplier must be between 1.0 and 100.0")]
    Multiplier,
    /// A share above one.
    #[error("jitter must be between 0.0 and 1.0")]
    Jitter,
}

impl PolicyError {
    /// The key in `sniper.toml` that it is about.
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
    /// Checks the limits once, so that nobody else has to.
    ///
    /// # Errors
    ///
    /// The first [`PolicyError`] of [`ReconnectPolicy::problems`].
    pub fn new(limits: ReconnectionLimits) -> Result<Self, PolicyError> {
        Self::problems(&limits).into_iter().next().map_or(Ok(Self(limits)), Err)
    }

    /// Everything that is wrong with the limits.
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

    /// What was checked.
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
    fn impossible_settings_are_named_by_their_key() {
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
    fn zero_turns_off_what_may_be_off() {
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
