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
    error::FeedError,
    host::Host,
    link::Seconds,
    policy::{Admission, Backoff, Change, Ending, Policy, Verdict, Why},
    session::now,
    taps::{Taps, add},
};
use crate::config::{Credential, CredentialSource};

/// How one attempt went, from its dial to its end.
#[derive(Debug)]
pub(super) struct Tenure {
    pub(super) ending: Ending,
    pub(super) ended: Result<(), FeedError>,
}

impl Tenure {
    /// It never came to a session.
    pub(super) fn failed(error: FeedError) -> Self {
        let ending = Ending { lived: None, listings: 0, verdict: error.verdict() };
        Self { ending, ended: Err(error) }
    }

    /// A session that was up and is over.
    pub(super) fn over(lived: Duration, listings: u64, ended: Result<(), FeedError>) -> Self {
        let verdict = ended.as_ref().err().map_or(Verdict::Retry, FeedError::verdict);
        Self { ending: Ending { lived: Some(lived), listings, verdict }, ended }
    }

    /// What ended it, on one line.
    pub(super) fn cause(&self) -> String {
        cause(&self.ended)
    }
}

/// What ended a connection, on one line.
pub(super) fn cause(ended: &Result<(), FeedError>) -> String {
    match ended {
        Ok(()) => "closed cleanly".to_owned(),
        Err(error) => error.chain(),
    }
}

/// What follows from an ending: the wait that must be slept, unless nothing follows.
#[derive(Clone, Debug)]
pub(super) struct Pause {
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
pub(super) struct Cycle {
    policy: Policy,
    backoff: Backoff,
    host: Arc<Host>,
    taps: Arc<Taps>,
    /// What the things are called that make a session productive.
    what: &'static str,
    /// What tells the lines of several connections apart; empty, or with a leading space.
    tag: String,
}

impl Cycle {
    pub(super) fn new(
        policy: Policy,
        host: Arc<Host>,
        taps: Arc<Taps>,
        what: &'static str,
        tag: String,
    ) -> Self {
        Self { policy, backoff: Backoff::new(policy), host, taps, what, tag }
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
            if let Some(Change::Closed) = host.proved() {
                info!("Circuit closed");
            }
        }
    }

    /// Waits until the host may be dialled.
    pub(super) async fn admission(&self) {
        loop {
            match self.host.admit(now()) {
                Admission::Go => return,
                Admission::Probe => {
                    info!("Circuit half-open");
                    return;
                }
                Admission::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Judges how an attempt went, says so, and says how long to wait.
    #[must_use = "a wait that nobody sleeps is a flood"]
    pub(super) fn ended(&mut self, tenure: &Tenure) -> Pause {
        self.say_ending(tenure);
        let next = self.backoff.after(&tenure.ending, fastrand::u64(..));
        let (tag, cause) = (&self.tag, tenure.cause());
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
            && let Some(Change::Opened(cooldown)) = self.host.failed(now)
        {
            warn!("Circuit open for {}: {cause}{tag}", Seconds(cooldown));
            wait = wait.max(cooldown);
        }
        if next.why != Why::Backoff {
            let is_news = self.host.stay_away(now, wait);
            if next.why == Why::Parked && is_news {
                error!("Parked for {}: {cause}{tag}", Seconds(wait));
            }
        }
        if next.exhausted {
            error!("Giving up after {attempt} attempts without success (max_retries){tag}");
        } else {
            info!("Reconnecting in {} (attempt {attempt}: {cause}){tag}", Seconds(wait));
        }
        let wants_credential =
            matches!(tenure.ending.verdict, Verdict::Park | Verdict::RenewCredential);
        Pause { wait, attempt, cause, is_last: next.exhausted, wants_credential }
    }

    fn say_ending(&self, tenure: &Tenure) {
        let tag = &self.tag;
        match &tenure.ended {
            Ok(()) => {
                info!("Disconnected (1000, clean close){tag}");
                info!("Connection closed cleanly{tag}");
            }
            Err(error) => {
                if tenure.ending.lived.is_some() {
                    let (code, reason) = error.code_and_reason();
                    info!("Disconnected ({code}, {reason}){tag}");
                }
                if matches!(error, FeedError::Violation { .. }) {
                    add(&self.taps.violations, 1);
                }
                warn!("Connection error: {}{tag}", error.chain());
            }
        }
        let is_blocked = tenure.ended.as_ref().is_err_and(FeedError::is_blocked);
        self.taps.is_blocked.store(is_blocked, Ordering::Release);
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
