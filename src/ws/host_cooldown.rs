//! What connections to the same host share: one circuit breaker, and how long to stay away.
//!
//! Touched only when something is dialled or has ended, never while listings flow.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::policy::{BreakerChange, CircuitBreaker, Permit, ReconnectPolicy};

/// Beyond so many hosts those are forgotten that nobody uses any more.
const HOSTS_MAX: usize = 256;

/// The hosts that this process has dialled. A clone shares them.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<HashMap<String, Arc<Host>>>>);

impl Hosts {
    /// The host of this name; the policy of whoever asks first holds.
    pub fn host(&self, name: &str, policy: &ReconnectPolicy) -> Arc<Host> {
        let mut hosts = lock(&self.0);
        if hosts.len() >= HOSTS_MAX {
            // Whom nobody uses any more nobody needs to spare.
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let host = hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(Host::new(policy)));
        Arc::clone(host)
    }
}

/// One host.
#[derive(Debug)]
pub struct Host(Mutex<State>);

#[derive(Debug)]
struct State {
    breaker: CircuitBreaker,
    not_before: Option<Instant>,
}

impl Host {
    /// A host of which nothing is known.
    pub fn new(policy: &ReconnectPolicy) -> Self {
        Self(Mutex::new(State { breaker: CircuitBreaker::new(policy), not_before: None }))
    }

    /// Whether a dial may go now. Admission of a probe is given to one at a time.
    pub fn admit(&self, now: Instant) -> Permit {
        let mut state = lock(&self.0);
        match state.held_back(now) {
            Some(wait) => Permit::Wait(wait),
            None => state.breaker.admit(now),
        }
    }

    /// A session proved itself.
    pub fn proved(&self) -> Option<BreakerChange> {
        lock(&self.0).breaker.proved()
    }

    /// A dial led to no healthy session.
    pub fn failed(&self, now: Instant) -> Option<BreakerChange> {
        lock(&self.0).breaker.failed(now)
    }

    /// Nobody dials for this long: the server asked for it, or haste cannot heal what happened.
    /// Says whether that is news.
    pub fn stay_away(&self, now: Instant, wait: Duration) -> bool {
        let mut state = lock(&self.0);
        let is_news = state.held_back(now).is_none();
        let until = now.checked_add(wait).unwrap_or(now);
        state.not_before = Some(state.not_before.map_or(until, |held| held.max(until)));
        is_news
    }
}

impl State {
    fn held_back(&self, now: Instant) -> Option<Duration> {
        let wait = self.not_before?.checked_duration_since(now)?;
        (!wait.is_zero()).then_some(wait)
    }
}

/// A poisoned lock only says that a panic happened elsewhere; what it guards is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn connections_to_one_host_share_its_circuit() {
        let hosts = Hosts::default();
        let policy = ReconnectPolicy::default();
        let (one, two) = (hosts.host("a:1", &policy), hosts.host("a:1", &policy));
        let other = hosts.host("a:2", &policy);
        let now = Instant::now();
        for _ in 0..5 {
            one.failed(now);
            two.failed(now);
        }
        assert!(matches!(one.admit(now), Permit::Wait(_)));
        assert!(matches!(two.admit(now), Permit::Wait(_)));
        assert_eq!(other.admit(now), Permit::Go);
    }

    #[test]
    fn a_longer_wait_is_not_cut_short_by_a_shorter_one() {
        let host = Host::new(&ReconnectPolicy::default());
        let now = Instant::now();
        assert!(host.stay_away(now, 5 * MINUTE));
        assert!(!host.stay_away(now, MINUTE));
        assert_eq!(host.admit(now + MINUTE), Permit::Wait(4 * MINUTE));
        assert_eq!(host.admit(now + 5 * MINUTE), Permit::Go);
    }

    proptest! {
        /// Whatever several connections report, a parked host is never dialled early.
        #[test]
        fn a_parked_host_is_never_dialled_early(
            moves in prop::collection::vec((0_u8..4, 0_u64..400), 0..100),
        ) {
            let host = Host::new(&ReconnectPolicy::default());
            let mut now = Instant::now();
            let mut parked_until = now;
            for (step, secs) in moves {
                let span = Duration::from_secs(secs);
                match step {
                    0 => now += span,
                    1 => { host.stay_away(now, span); parked_until = parked_until.max(now + span); }
                    2 => { host.failed(now); }
                    _ => { host.proved(); }
                }
                let is_admitted = !matches!(host.admit(now), Permit::Wait(_));
                prop_assert!(!is_admitted || now >= parked_until);
            }
        }
    }
}
