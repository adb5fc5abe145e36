//! The steps between two connections: a permit before a dial; classification, log line and delay
//! after an end.
//!
//! Shared by the feed and by the managed handle, so that both follow the same policy with the same
//! log lines. Each connection has its own [`Reconnector`]; connections to one host share a [`Host`]
//! with a circuit breaker and a cooldown, which is accessed on dials and on ends of connections
//! only, never while listings are delivered.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    error::{FeedError, SettingNames},
    gaps::Seconds,
    metrics::{FeedMetrics, add},
    policy::{
        AttemptResult, Backoff, CircuitBreaker, DelayReason, DialDecision, RETRY_AFTER_MAX,
        ReconnectPolicy, RetryDecision,
    },
    session::now,
};
use crate::{
    clock,
    config::{Credential, CredentialSource},
    domain::time::UnixMs,
    secret,
    threads::lock,
};

/// One connection attempt from its dial to its end.
#[derive(Debug)]
pub(super) struct ConnectionLifetime {
    pub(super) result: AttemptResult,
    pub(super) error: FeedError,
}

impl ConnectionLifetime {
    /// Returns an attempt that ended before there was a session.
    pub(super) fn failed(error: FeedError) -> Self {
        let result = AttemptResult { uptime: None, listings: 0, decision: error.retry_decision() };
        Self { result, error }
    }

    /// Returns a session that was established and has ended.
    pub(super) fn ended(uptime: Duration, listings: u64, error: FeedError) -> Self {
        let decision = error.retry_decision();
        Self { result: AttemptResult { uptime: Some(uptime), listings, decision }, error }
    }
}

/// Delay before the next attempt.
#[derive(Clone, Debug)]
pub(super) struct RetryDelay {
    pub(super) wait: Duration,
    pub(super) attempt: u32,
    pub(super) cause: String,
    /// `true` if the retries are used up: there is no next attempt.
    pub(super) is_last: bool,
    /// `true` if the credential must be reloaded after the wait.
    pub(super) needs_credential: bool,
}

/// Reconnection state of one connection.
#[derive(Debug)]
pub(super) struct Reconnector {
    policy: ReconnectPolicy,
    backoff: Backoff,
    host: Arc<Host>,
    metrics: Arc<FeedMetrics>,
    /// Unit of the deliveries in log lines: trades or messages.
    unit: &'static str,
    /// Suffix of log lines that identifies the connection: empty, or with a leading space.
    tag: String,
    setting_names: SettingNames,
}

impl Reconnector {
    pub(super) fn new(
        policy: ReconnectPolicy,
        host: Arc<Host>,
        metrics: Arc<FeedMetrics>,
        unit: &'static str,
        tag: String,
    ) -> Self {
        let setting_names = SettingNames::CALLER;
        Self { policy, backoff: Backoff::new(policy), host, metrics, unit, tag, setting_names }
    }

    /// Sets the setting names that advice refers to.
    pub(super) fn with_setting_names(self, setting_names: SettingNames) -> Self {
        Self { setting_names, ..self }
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns `true` while a single delivery is enough to mark a session as healthy.
    pub(super) const fn healthy_on_delivery(&self) -> bool {
        !self.backoff.is_flapping()
    }

    /// Returns the callback that a session calls once it is healthy. It closes the circuit.
    pub(super) fn healthy_callback(&self) -> impl FnMut() + Send + use<> {
        let host = Arc::clone(&self.host);
        move || {
            if host.mark_healthy() {
                info!("Connection healthy again: normal retries resumed");
            }
        }
    }

    /// Waits until the host may be dialed.
    pub(super) async fn acquire_permit(&self) {
        loop {
            match self.host.try_acquire(now()) {
                DialDecision::Dial => return,
                DialDecision::Probe => {
                    info!("Pause over: trying one connection{}", self.tag);
                    return;
                }
                DialDecision::WaitFor(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Records and logs the end of an attempt. Returns the delay before the next one.
    #[must_use = "the caller must sleep for the returned delay"]
    pub(super) fn on_connection_ended(&mut self, lifetime: &ConnectionLifetime) -> RetryDelay {
        let next = self.backoff.after(&lifetime.result, fastrand::u64(..));
        let (now, mut wait, attempt) = (now(), next.wait, next.attempt);
        let cooldown = if next.is_healthy { None } else { self.host.record_failure(now) };
        if let Some(cooldown) = cooldown {
            wait = wait.max(cooldown);
        }
        // The other connections to the host wait for what the server requests, not for the backoff
        // of this one.
        let blocked = match next.reason {
            DelayReason::Backoff => None,
            DelayReason::RetryAfter(requested) => Some(requested),
            DelayReason::Suspended => Some(wait),
        };
        let until = blocked.and_then(|blocked| now.checked_add(blocked));
        let is_suspended = until.is_some_and(|until| self.host.block_until(now, until))
            && next.reason == DelayReason::Suspended;
        self.log_end(lifetime, is_suspended.then_some(wait), next.is_healthy);
        let (tag, cause) = (&self.tag, lifetime.error.chain());
        if next.is_healthy {
            self.healthy_callback()();
            let reset = Seconds(self.policy.limits().initial_delay);
            match (lifetime.result.listings, self.unit) {
                (0, _) => info!("Stable session. Backoff reset to {reset}.{tag}"),
                (count, unit) => {
                    info!("Productive session ({count} {unit}). Backoff reset to {reset}.{tag}");
                }
            }
        }
        if let Some(cooldown) = cooldown {
            warn!("Too many failures: no connection attempt for {}{tag}", Seconds(cooldown));
        }
        if let (Some(requested), Some(blocked)) = (lifetime.error.retry_after(), blocked) {
            warn!("{}{tag}", retry_after_line(requested, blocked, clock::now()));
        }
        if next.exhausted {
            error!("Giving up after {attempt} attempts without success (max_retries){tag}");
        } else {
            info!("Reconnecting in {} (attempt {attempt}){tag}", Seconds(wait));
        }
        let needs_credential = matches!(
            lifetime.result.decision,
            RetryDecision::Suspend
                | RetryDecision::SuspendAtLeast(_)
                | RetryDecision::RenewCredential
        );
        RetryDelay { wait, attempt, cause, is_last: next.exhausted, needs_credential }
    }

    /// Logs the end of an attempt on one line. `suspended` is the wait of a new suspension.
    fn log_end(
        &self,
        lifetime: &ConnectionLifetime,
        suspended: Option<Duration>,
        is_healthy: bool,
    ) {
        let (tag, error) = (&self.tag, &lifetime.error);
        // A server that closes a good session rejects nothing.
        let is_rejected = !(is_healthy && matches!(error, FeedError::Closed { .. }));
        let advice = error.advice(self.setting_names).filter(|_advice| is_rejected);
        if matches!(error, FeedError::Violation { .. }) {
            add(&self.metrics.violations, 1);
        }
        match (suspended, lifetime.result.uptime) {
            (Some(wait), _) => {
                let (wait, error) = (Seconds(wait), describe(error, advice.as_deref()));
                error!("Connection rejected, next attempt in {wait}{tag}: {error}");
            }
            (None, Some(_)) if error.is_clean_close() => {
                let (code, reason) = error.code_and_reason();
                info!("Feed closed by the server ({code}, {reason}){tag}");
            }
            (None, Some(_)) => warn!("Feed lost: {}{tag}", describe(error, advice.as_deref())),
            (None, None) => warn!("Could not connect: {}{tag}", describe(error, advice.as_deref())),
        }
        let cause = secret::mask(&error.chain()).into_owned();
        self.metrics.set_last_failure(cause, advice);
        self.metrics.is_challenged.store(error.is_challenge(), Ordering::Release);
        self.metrics.is_web_page.store(error.is_web_page(), Ordering::Release);
        self.metrics.is_blocked.store(is_rejected && error.is_blocked(), Ordering::Release);
    }
}

/// Formats the error with the advice for the user.
fn describe(error: &FeedError, advice: Option<&str>) -> String {
    let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
    match error {
        FeedError::Closed { .. } => {
            let (code, reason) = error.code_and_reason();
            format!("closed by the server ({code}, {reason}){advice}")
        }
        _ => format!("{}{advice}", error.chain()),
    }
}

/// Returns the suffix of log lines for a connection with this name.
pub(super) fn tag_of(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" [{name}]") }
}

/// Formats the log line for a `Retry-After`.
fn retry_after_line(requested: Duration, wait: Duration, now: UnixMs) -> String {
    let (until, shown) = (clock::format_local(now.plus(wait)), Seconds(requested));
    if requested > RETRY_AFTER_MAX {
        let max = Seconds(RETRY_AFTER_MAX);
        format!("Retry-After of {shown} cut to {max}: no attempt before {until}")
    } else {
        format!("Retry-After of {shown} obeyed: no attempt before {until}")
    }
}

/// Reloads the credential, which the user may have replaced. Returns `None` if there is none.
pub(super) async fn fresh_credential(source: Option<&CredentialSource>) -> Option<Credential> {
    let source = source?.clone();
    // Reading a file can block; the other connections must not wait for it.
    let read = tokio::task::spawn_blocking(move || source.read()).await;
    let fresh = read.ok().flatten();
    if fresh.is_some() {
        info!("Credential reloaded");
    }
    fresh
}

/// Number of hosts from which unused ones are evicted.
const HOSTS_MAX: usize = 256;

/// The hosts that this process has dialed. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<HashMap<String, Arc<Host>>>>);

impl Hosts {
    /// Returns the host with this name. The policy of the first call applies.
    pub fn host(&self, name: &str, policy: &ReconnectPolicy) -> Arc<Host> {
        let mut hosts = lock(&self.0);
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, host| Arc::strong_count(host) > 1);
        }
        let host = hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(Host::new(policy)));
        Arc::clone(host)
    }
}

/// The circuit breaker and the cooldown that the connections to one host share.
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
    pub fn try_acquire(&self, now: Instant) -> DialDecision {
        let mut state = lock(&self.0);
        match state.remaining(now) {
            Some(wait) => DialDecision::WaitFor(wait),
            None => state.breaker.try_acquire(now),
        }
    }

    /// Closes the circuit after a healthy session. Returns `true` if it was open.
    pub fn mark_healthy(&self) -> bool {
        lock(&self.0).breaker.mark_healthy()
    }

    /// Counts a dial that led to no healthy session. Returns the cooldown if that opened the
    /// circuit.
    pub fn record_failure(&self, now: Instant) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::GraphqlTransportWs;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_end_of_a_requested_wait_is_in_the_time_zone_of_the_log() {
        let (now, wait) = (UnixMs(1_772_359_200_120), Duration::from_secs(90));
        let line = retry_after_line(wait, wait, now);
        let until = clock::format_local(now.plus(wait));
        assert_eq!(line, format!("Retry-After of 90s obeyed: no attempt before {until}"));
    }

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
        assert!(matches!(one.try_acquire(now), DialDecision::WaitFor(_)));
        assert!(matches!(two.try_acquire(now), DialDecision::WaitFor(_)));
        assert_eq!(other.try_acquire(now), DialDecision::Dial);
    }

    #[test]
    fn the_close_of_a_healthy_session_rejects_no_credential() {
        let policy = ReconnectPolicy::default();
        let names = SettingNames { address: "SNIPER_WS_URL", has_cookie: true, key: None };
        for (uptime, listings, is_rejected) in [(1, 0, true), (6 * 3_600, 100, false)] {
            let metrics = Arc::new(FeedMetrics::default());
            let host = Arc::new(Host::new(&policy));
            let reconnector =
                Reconnector::new(policy, host, Arc::clone(&metrics), "trades", String::new());
            let error = FeedError::from_close_of::<GraphqlTransportWs>(Some(4403), "Forbidden");
            let ended = ConnectionLifetime::ended(Duration::from_secs(uptime), listings, error);
            let _delay = reconnector.with_setting_names(names).on_connection_ended(&ended);
            assert_eq!(metrics.is_blocked.load(Ordering::Acquire), is_rejected);
            assert_eq!(metrics.last_failure().unwrap().1.is_some(), is_rejected);
        }
    }

    #[test]
    fn a_shorter_block_does_not_shorten_a_longer_one() {
        let host = Host::new(&ReconnectPolicy::default());
        let now = Instant::now();
        assert!(host.block_until(now, now + 5 * MINUTE));
        assert!(!host.block_until(now, now + MINUTE));
        assert_eq!(host.try_acquire(now + MINUTE), DialDecision::WaitFor(4 * MINUTE));
        assert_eq!(host.try_acquire(now + 5 * MINUTE), DialDecision::Dial);
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
                let is_admitted = !matches!(host.try_acquire(now), DialDecision::WaitFor(_));
                prop_assert!(!is_admitted || now >= suspended_until);
            }
        }
    }
}
