//! When to stop dialling a host at all.
//!
//! Closed: dials go through and failures are counted. Open: after so many in a row nobody dials
//! until the cooldown has passed. Half-open: then one probe goes; if its session proves itself the
//! circuit closes, if it fails the circuit opens again.
//!
//! # Invariants
//!
//! 1. A dial alone closes nothing; a session that delivered a listing, or lived long enough, does.
//! 2. It cannot wedge: a probe whose fate is never reported (its task was dropped) loses its turn
//!    after the lease, and another may probe.
//! 3. While it is open nobody is admitted before the cooldown has passed.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use super::ReconnectPolicy;

/// Whether a dial may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// It may.
    Go,
    /// It may, as the one probe of a half-open circuit.
    Probe,
    /// Not before this much time has passed; then ask again.
    Wait(Duration),
}

/// A change of state that a person is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerChange {
    /// It opened, for this long.
    Opened(Duration),
    /// A proven session closed it.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { lease_until: Instant },
}

/// The circuit breaker of one host.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    failures_max: u32,
    cooldown: Duration,
    lease: Duration,
    state: State,
}

impl CircuitBreaker {
    /// A closed circuit.
    pub fn new(policy: &ReconnectPolicy) -> Self {
        let limits = policy.limits();
        Self {
            failures_max: limits.max_consecutive_failures,
            cooldown: limits.circuit_breaker_cooldown,
            lease: limits.connect_timeout.saturating_add(limits.stable_after),
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether a dial may go now.
    pub fn admit(&mut self, now: Instant) -> Permit {
        let until = match self.state {
            State::Closed { .. } => return Permit::Go,
            State::Open { until } => until,
            State::HalfOpen { lease_until } => lease_until,
        };
        match until.checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => Permit::Wait(wait),
            _ => {
                let lease_until = now.checked_add(self.lease).unwrap_or(now);
                self.state = State::HalfOpen { lease_until };
                Permit::Probe
            }
        }
    }

    /// A session delivered a listing, or lived long enough.
    pub fn proved(&mut self) -> Option<BreakerChange> {
        let before = self.state;
        self.state = State::Closed { failures: 0 };
        match before {
            State::Closed { .. } => None,
            State::Open { .. } | State::HalfOpen { .. } => Some(BreakerChange::Closed),
        }
    }

    /// A dial led to no healthy session.
    pub fn failed(&mut self, now: Instant) -> Option<BreakerChange> {
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

    /// Whether dials are held back.
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
            assert_eq!(breaker.failed(now), None);
        }
        assert_eq!(breaker.failed(now), Some(BreakerChange::Opened(COOLDOWN)));
        breaker
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_the_cooldown_admits_one_probe() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.admit(start), Permit::Wait(COOLDOWN));
        assert_eq!(breaker.admit(start + COOLDOWN), Permit::Probe);
        assert!(matches!(breaker.admit(start + COOLDOWN), Permit::Wait(_)));
    }

    #[test]
    fn a_proven_probe_closes_it() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.admit(start + COOLDOWN), Permit::Probe);
        assert_eq!(breaker.proved(), Some(BreakerChange::Closed));
        assert_eq!(breaker.admit(start + COOLDOWN), Permit::Go);
    }

    #[test]
    fn a_failed_probe_opens_it_again() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.admit(start + COOLDOWN), Permit::Probe);
        assert_eq!(breaker.failed(start + COOLDOWN), Some(BreakerChange::Opened(COOLDOWN)));
        assert_eq!(breaker.admit(start + COOLDOWN), Permit::Wait(COOLDOWN));
    }

    #[test]
    fn a_dial_alone_forgives_nothing() {
        let start = Instant::now();
        let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
        for _ in 0..9 {
            assert_eq!(breaker.admit(start), Permit::Go);
            assert_eq!(breaker.failed(start), None);
        }
        assert_eq!(breaker.admit(start), Permit::Go);
        assert!(breaker.failed(start).is_some());
    }

    #[test]
    fn a_lost_probe_cannot_wedge_it() {
        let start = Instant::now();
        let mut breaker = opened(start);
        assert_eq!(breaker.admit(start + COOLDOWN), Permit::Probe);
        let Permit::Wait(lease) = breaker.admit(start + COOLDOWN) else { panic!("admitted") };
        assert_eq!(breaker.admit(start + COOLDOWN + lease), Permit::Probe);
    }

    #[test]
    fn zero_means_no_breaker() {
        let policy = ReconnectPolicy::new(ReconnectionLimits {
            max_consecutive_failures: 0,
            ..ReconnectionLimits::DEFAULT
        })
        .unwrap();
        let mut breaker = CircuitBreaker::new(&policy);
        let now = Instant::now();
        assert!((0..100_000).all(|_| breaker.failed(now).is_none()));
        assert_eq!(breaker.admit(now), Permit::Go);
    }

    #[derive(Clone, Copy, Debug)]
    enum Move {
        Admit,
        Fail,
        Prove,
        Pass(u64),
    }

    proptest! {
        /// Under any sequence of events: never admitted early, and always admitted in the end.
        #[test]
        fn it_holds_back_and_never_for_ever(moves in prop::collection::vec(prop_oneof![
            Just(Move::Admit),
            Just(Move::Fail),
            Just(Move::Prove),
            (0_u64..400_000).prop_map(Move::Pass),
        ], 0..200)) {
            let mut breaker = CircuitBreaker::new(&ReconnectPolicy::default());
            let mut now = Instant::now();
            let mut opened_at = None;
            for step in moves {
                match step {
                    Move::Admit => match breaker.admit(now) {
                        Permit::Go => prop_assert!(opened_at.is_none()),
                        Permit::Probe => {
                            let at: Instant = opened_at.unwrap();
                            prop_assert!(now.duration_since(at) >= COOLDOWN);
                        }
                        Permit::Wait(wait) => prop_assert!(wait <= COOLDOWN),
                    },
                    Move::Fail => if breaker.failed(now).is_some() { opened_at = Some(now); },
                    Move::Prove => { breaker.proved(); opened_at = None; }
                    Move::Pass(ms) => now += Duration::from_millis(ms),
                }
            }
            now += COOLDOWN;
            prop_assert!(!matches!(breaker.admit(now), Permit::Wait(_)));
        }
    }
}
