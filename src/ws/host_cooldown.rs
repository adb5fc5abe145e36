//! State shared by the connections to one host: the circuit breaker and a cooldown.
//!
//! Accessed on dials and on ends of connections only, never while listings are delivered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::policy::{BreakerChange, CircuitBreaker, Permit, ReconnectPolicy};

/// Number of hosts beyond which unused ones are evicted.
const HOSTS_MAX: usize = 256;

/// The hosts that this process has dialed. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<HashMap<String, Arc<Host>>>>);

impl Hosts {
    /// Returns the host with this name. The policy of the first call applies.
    pub fn host(&self, name: &str, policy: &ReconnectPolicy) -> Arc<Host> {
        let mut hosts = lock(&self.0);
        if hosts.len() >= HOSTS_MAX {
            // Evicts hosts without active users.
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let host = hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(Host::new(policy)));
        Arc::clone(host)
    }
}

#[derive(Debug)]
pub struct Host(Mutex<State>);

#[derive(Debug)]
struct State {
    breaker: CircuitBreaker,
    not_before: Option<Instant>,
}

impl Host {
    pub fn new(policy: &ReconnectPolicy) -> Self {
        Self(Mutex::new(State { breaker: CircuitBreaker::new(policy), not_before: None }))
    }

    /// Returns whether a dial may start now. A half-open circuit permits one probe at a time.
    pub fn try_acquire(&self, now: Instant) -> Permit {
        let mut state = lock(&self.0);
        match state.remaining(now) {
            Some(wait) => Permit::Wait(wait),
            None => state.breaker.try_acquire(now),
        }
    }

    /// Closes the circuit after a healthy session.
    pub fn mark_healthy(&self) -> Option<BreakerChange> {
        lock(&self.0).breaker.mark_healthy()
    }

    /// Counts a dial that led to no healthy session.
    pub fn record_failure(&self, now: Instant) -> Option<BreakerChange> {
        lock(&self.0).breaker.record_failure(now)
    }

    /// Blocks all dials until `until`, for a `Retry-After` or a suspension. Returns `true` if dials
    /// were not blocked before.
    pub fn block_until(&self, now: Instant, until: Instant) -> bool {
        let mut state = lock(&self.0);
        let is_new = state.remaining(now).is_none();
        state.not_before = Some(state.not_before.map_or(until, |held| held.max(until)));
        is_new
    }
}

impl State {
    fn remaining(&self, now: Instant) -> Option<Duration> {
        let wait = self.not_before?.checked_duration_since(now)?;
        (!wait.is_zero()).then_some(wait)
    }
}

/// A panic elsewhere cannot leave the guarded state inconsistent.
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
            one.record_failure(now);
            two.record_failure(now);
        }
        assert!(matches!(one.try_acquire(now), Permit::Wait(_)));
        assert!(matches!(two.try_acquire(now), Permit::Wait(_)));
        assert_eq!(other.try_acquire(now), Permit::Go);
    }

    #[test]
    fn a_shorter_block_does_not_shorten_a_longer_one() {
        let host = Host::new(&ReconnectPolicy::default());
        let now = Instant::now();
        assert!(host.block_until(now, now + 5 * MINUTE));
        assert!(!host.block_until(now, now + MINUTE));
        assert_eq!(host.try_acquire(now + MINUTE), Permit::Wait(4 * MINUTE));
        assert_eq!(host.try_acquire(now + 5 * MINUTE), Permit::Go);
    }

    proptest! {
        /// A suspended host is never dialed early.
        #[test]
        fn a_suspended_host_is_never_dialed_early(
            moves in prop::collection::vec((0_u8..4, 0_u64..400), 0..100),
        ) {
            let host = Host::new(&ReconnectPolicy::default());
            let mut now = Instant::now();
            let mut suspended_until = now;
            for (step, secs) in moves {
                let span = Duration::from_secs(secs);
                match step {
                    0 => now += span,
                    1 => { host.block_until(now, now + span); suspended_until = suspended_until.max(now + span); }
                    2 => { host.record_failure(now); }
                    _ => { host.mark_healthy(); }
                }
                let is_admitted = !matches!(host.try_acquire(now), Permit::Wait(_));
                prop_assert!(!is_admitted || now >= suspended_until);
            }
        }
    }
}
