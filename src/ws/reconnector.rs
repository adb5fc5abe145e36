//! The wait between two connections: admission before a dial, judgement and a line after an ending.
//!
//! Shared by the feed and by the managed handle, so that both obey the same policy and say the same
//! words. Each connection has a cycle of its own; the host, with its circuit breaker, is shared.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tracing::{error, info, warn};

use super::{
    error::{FeedError, SettingNames},
    gap_tracker::Seconds,
    host_cooldown::Host,
    metrics::{FeedMetrics, add},
    policy::{
        AttemptResult, Backoff, BreakerChange, DelayReason, Permit, RETRY_AFTER_MAX,
        ReconnectPolicy, RetryDecision,
    },
    session::now,
};
use crate::{
    clock,
    config::{Credential, CredentialSource},
    domain::time::UnixMs,
};

/// How one attempt went, from its dial to its end.
#[derive(Debug)]
pub(super) struct ConnectionLifetime {
    pub(super) ending: AttemptResult,
    pub(super) ended: FeedError,
}

impl ConnectionLifetime {
    /// It never came to a session.
    pub(super) fn failed(error: FeedError) -> Self {
        let ending = AttemptResult { lived: None, listings: 0, verdict: error.verdict() };
        Self { ending, ended: error }
    }

    /// A session that was up and is over.
    pub(super) fn over(lived: Duration, listings: u64, ended: FeedError) -> Self {
        let verdict = ended.verdict();
        Self { ending: AttemptResult { lived: Some(lived), listings, verdict }, ended }
    }
}

/// What follows from an ending: the wait that must be slept, unless nothing follows.
#[derive(Clone, Debug)]
pub(super) struct RetryDelay {
    pub(super) wait: Duration,
    pub(super) attempt: u32,
    pub(super) cause: String,
    /// Whether the retries are used up: nothing follows.
    pub(super) is_last: bool,
    /// Whether the credential must be read again after the wait.
    pub(super) wants_credential: bool,
}

/// One connection's way through its policy.
#[derive(Debug)]
pub(super) struct Reconnector {
    policy: ReconnectPolicy,
    backoff: Backoff,
    host: Arc<Host>,
    taps: Arc<FeedMetrics>,
    /// What the things are called that make a session productive.
    what: &'static str,
    /// What tells the lines of several connections apart; empty, or with a leading space.
    tag: String,
    /// Which settings its advice names.
    origins: SettingNames,
}

impl Reconnector {
    pub(super) fn new(
        policy: ReconnectPolicy,
        host: Arc<Host>,
        taps: Arc<FeedMetrics>,
        what: &'static str,
        tag: String,
    ) -> Self {
        let origins = SettingNames::CALLER;
        Self { policy, backoff: Backoff::new(policy), host, taps, what, tag, origins }
    }

    /// The same with advice that names these settings.
    pub(super) fn advising(self, origins: SettingNames) -> Self {
        Self { origins, ..self }
    }

    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Whether a single delivery proves a session.
    pub(super) const fn proves_by_delivery(&self) -> bool {
        !self.backoff.is_flapping()
    }

    /// What a session calls when it has proved itself.
    pub(super) fn proof(&self) -> impl FnMut() + Send + use<> {
        let host = Arc::clone(&self.host);
        move || {
            if let Some(BreakerChange::Closed) = host.proved() {
                info!("Circuit closed");
            }
        }
    }

    /// Waits until the host may be dialled.
    pub(super) async fn admission(&self) {
        loop {
            match self.host.admit(now()) {
                Permit::Go => return,
                Permit::Probe => {
                    info!("Circuit half-open");
                    return;
                }
                Permit::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Judges how an attempt went, says so, and says how long to wait.
    #[must_use = "a wait that nobody sleeps is a flood"]
    pub(super) fn ended(&mut self, tenure: &ConnectionLifetime) -> RetryDelay {
        self.say_ending(tenure);
        let next = self.backoff.after(&tenure.ending, fastrand::u64(..));
        let (tag, cause) = (&self.tag, tenure.ended.chain());
        if next.healthy {
            self.proof()();
            let reset = Seconds(self.policy.limits().initial_delay);
            match (tenure.ending.listings, self.what) {
                (0, _) => info!("Stable session. Backoff reset to {reset}.{tag}"),
                (count, what) => {
                    info!("Productive session ({count} {what}). Backoff reset to {reset}.{tag}");
                }
            }
        }
        let (now, mut wait, attempt) = (now(), next.wait, next.attempt);
        if !next.healthy
            && let Some(BreakerChange::Opened(cooldown)) = self.host.failed(now)
        {
            warn!("Circuit open for {}: {cause}{tag}", Seconds(cooldown));
            wait = wait.max(cooldown);
        }
        if next.why != DelayReason::Backoff {
            let is_news = self.host.stay_away(now, wait);
            if next.why == DelayReason::Parked && is_news {
                error!("Parked for {}: {}{tag}", Seconds(wait), self.advised(&tenure.ended));
            }
        }
        if let Some(asked) = tenure.ended.retry_after()
            && wait >= asked.min(RETRY_AFTER_MAX)
        {
            warn!("{}{tag}", obeyed(asked, wait, clock::now()));
        }
        if next.exhausted {
            error!("Giving up after {attempt} attempts without success (max_retries){tag}");
        } else {
            info!("Reconnecting in {} (attempt {attempt}: {cause}){tag}", Seconds(wait));
        }
        let wants_credential = matches!(
            tenure.ending.verdict,
            RetryDecision::Park | RetryDecision::ParkAtLeast(_) | RetryDecision::RenewCredential
        );
        RetryDelay { wait, attempt, cause, is_last: next.exhausted, wants_credential }
    }

    fn say_ending(&self, tenure: &ConnectionLifetime) {
        let (tag, error) = (&self.tag, &tenure.ended);
        let was_up = tenure.ending.lived.is_some();
        if was_up {
            let (code, reason) = error.code_and_reason();
            info!("Disconnected ({code}, {reason}){tag}");
        }
        if matches!(error, FeedError::Violation { .. }) {
            add(&self.taps.violations, 1);
        }
        if was_up && error.is_clean_close() {
            info!("Connection closed cleanly{tag}");
        } else {
            warn!("Connection error: {}{tag}", self.advised(error));
        }
        self.taps.is_blocked.store(error.is_blocked(), Ordering::Release);
    }

    /// What happened, and what the user can do about it.
    fn advised(&self, error: &FeedError) -> String {
        let advice = error.advice(self.origins);
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        format!("{}{advice}", error.chain())
    }
}

/// The line that says until when a `Retry-After` is obeyed.
fn obeyed(asked: Duration, wait: Duration, now: UnixMs) -> String {
    let (until, asked_for) = (now.plus(wait), Seconds(asked));
    if asked > RETRY_AFTER_MAX {
        let most = Seconds(RETRY_AFTER_MAX);
        format!("Retry-After of {asked_for} cut to {most}: no attempt before {until}")
    } else {
        format!("Retry-After of {asked_for} obeyed: no attempt before {until}")
    }
}

/// Reads the credential anew: the person may have pasted a fresh one. `None`: there is none.
pub(super) async fn fresh_credential(source: Option<&CredentialSource>) -> Option<Credential> {
    let source = source?.clone();
    // Reading a file may take a while; it must not hold up the other connections.
    let read = tokio::task::spawn_blocking(move || source.read()).await;
    let fresh = read.ok().flatten();
    if fresh.is_some() {
        info!("The credential was read again");
    }
    fresh
}
