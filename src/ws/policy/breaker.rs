//! Circuit breaker of a host.
//!
//! Closed: dials are permitted and failures are counted. Open: after too many failures in a row no
//! dial is permitted until the cooldown has passed. Half-open: one probe is permitted; a healthy
//! session closes the circuit, a failure opens it again.
//!
//! # Invariants
//!
//! 1. A dial alone never closes the circuit; a session that delivered a listing or lasted long
//!    enough does.
//! 2. The circuit cannot get stuck: a probe that reports no result, because its task was dropped,
//!    expires, and another one is permitted.
//! 3. An open circuit permits no dial before the cooldown has passed.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use super::ReconnectPolicy;

/// Answer to a request for a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    Go,
    /// Permitted as the single probe of a half-open circuit.
    Probe,
    /// Not permitted now; ask again after this time.
    Wait(Duration),
}

/// A change of state that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// Opened for this long.
    Opened(Duration),
    /// A healthy session closed it.
    Closed,
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
    pub fn try_acquire(&mut self, now: Instant) -> Permit {
        let until = match self.state {
            State::Closed { .. } => return Permit::Go,
            State::Open { until } => until,
            State::HalfOpen { probe_until } => probe_until,
        };
        match until.checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => Permit::Wait(wait),
            _ => {
                let probe_until = now.checked_add(self.probe_timeout).unwrap_or(now);
                self.state = State::HalfOpen { probe_until };
                Permit::Probe
            }
        }
    }

    /// Closes the circuit: a session delivered a listing or lasted long enough.
    pub fn mark_healthy(&mut self) -> Option<BreakerChange> {
        let before = self.state;
        self.state = State::Closed { failures: 0 };
        match before {
            State::Closed { .. } => None,
            State::Open { .. } | State::HalfOpen { .. } => Some(BreakerChange::Closed),
        }
    }

    /// Counts a dial that led to no healthy session.
    pub fn record_failure(&mut self, now: Instant) -> Option<BreakerChange> {
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
        Some(BreakerChange::Opened(self.cooldown))
    }

    /// Returns `true` while dials are restricted.
    pub const fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::ReconnectionLimits, *};

    const COOLDOWN: Duration = Duration::from_secs(300);

    fn opened(now: Instant) -> CircuitBreaker {
        let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
        for _ in 0..9 {
            assert_eq!(breaker.record_failure(now), None);
        }
        assert_eq!(breaker.record_failure(now), Some(BreakerChange::Opened(COOLDOWN)));
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_the_circuit_and_one_probe_follows_the_cooldown() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start), Permit::Wait(COOLDOWN));
        assert_eq!(breaker.try_acquire(start + COOLDOWN), Permit::Probe);
        assert!(matches!(breaker.try_acquire(start + COOLDOWN), Permit::Wait(_)));
    }

    #[test]
    fn a_healthy_probe_closes_the_circuit() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start + COOLDOWN), Permit::Probe);
        assert_eq!(breaker.mark_healthy(), Some(BreakerChange::Closed));
        assert_eq!(breaker.try_acquire(start + COOLDOWN), Permit::Go);
    }

    #[test]
    fn a_failed_probe_reopens_the_circuit() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start + COOLDOWN), Permit::Probe);
        assert_eq!(breaker.record_failure(start + COOLDOWN), Some(BreakerChange::Opened(COOLDOWN)));
        assert_eq!(breaker.try_acquire(start + COOLDOWN), Permit::Wait(COOLDOWN));
    }

    #[test]
    fn a_dial_alone_does_not_reset_the_failures() {
        let start = Instant::now();
        let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
        for _ in 0..9 {
            assert_eq!(breaker.try_acquire(start), Permit::Go);
            assert_eq!(breaker.record_failure(start), None);
        }
        assert_eq!(breaker.try_acquire(start), Permit::Go);
        assert!(breaker.record_failure(start).is_some());
    }

    #[test]
    fn a_lost_probe_expires_and_another_is_permitted() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.try_acquire(start + COOLDOWN), Permit::Probe);
        let Permit::Wait(probe_timeout) = breaker.try_acquire(start + COOLDOWN) else {
            panic!("admitted")
        };
        assert_eq!(breaker.try_acquire(start + COOLDOWN + probe_timeout), Permit::Probe);
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
        assert_eq!(breaker.try_acquire(now), Permit::Go);
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
                        Permit::Go => prop_assert!(opened_at.is_none()),
                        Permit::Probe => {
                            let at: Instant = opened_at.unwrap();
                            prop_assert!(now.duration_since(at) >= COOLDOWN);
                        }
                        Permit::Wait(wait) => prop_assert!(wait <= COOLDOWN),
                    },
                    Move::Fail => if breaker.record_failure(now).is_some() { opened_at = Some(now); },
                    Move::MarkHealthy => { breaker.mark_healthy(); opened_at = None; }
                    Move::Pass(ms) => now += Duration::from_millis(ms),
                }
            }
            now += COOLDOWN;
            prop_assert!(!matches!(breaker.try_acquire(now), Permit::Wait(_)));
        }
    }
}
