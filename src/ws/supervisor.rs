//! The loop that keeps the feed up.
//!
//! One loop per connection: wait until the host may be dialled, connect, serve, judge how it ended,
//! say so, wait, again. Every decision is made in [`policy`](super::policy); this is where time
//! passes and lines are logged.

use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tracing::{error, info, warn};

use super::{
    connect::{Dial, TcpDial},
    error::FeedError,
    feed::Hub,
    host::Host,
    link::{Link, Seconds},
    liveness::Rhythm,
    policy::{Admission, Backoff, Change, Next, Verdict, Why},
    session::now,
    taps::{CONNECTIONS_MAX, add},
    tenure::Tenure,
};
use crate::{
    config::{Config, Credential},
    trade::Trade,
};

/// Why [`run_with_reconnect`] returned. It does so only where `max_retries` is set.
#[derive(Debug, thiserror::Error)]
#[error("the feed was given up after {attempts} attempts without success")]
pub struct GaveUp {
    /// How many attempts in a row led to nothing.
    pub attempts: u32,
    /// How the last one ended; `None`: with a clean close.
    #[source]
    pub last: Option<FeedError>,
}

/// Hands out listings over as many connections, one after the other, as it takes.
///
/// Never returns unless `max_retries` is set and used up. `on_trade` runs in this task, as soon as a
/// frame was read; it must not wait.
///
/// # Cancel safety
///
/// Safe: `on_trade` never runs in part. Drop the future to stop; the server sees the sockets close.
pub async fn run_with_reconnect(config: &Config, on_trade: impl FnMut(Trade<'_>)) -> GaveUp {
    match TcpDial::new(config.endpoints.ws.clone(), config.tls.clone()) {
        Ok(dial) => run_over(config, dial, on_trade).await,
        Err(error) => GaveUp { attempts: 0, last: Some(error) },
    }
}

/// The same over any way to make a connection.
///
/// # Cancel safety
///
/// Safe, as [`run_with_reconnect`] is.
pub async fn run_over<D: Dial>(
    config: &Config,
    dial: D,
    on_trade: impl FnMut(Trade<'_>),
) -> GaveUp {
    let supervisor = Supervisor {
        host: config.hosts.host(&dial.host(), &config.reconnection),
        dial,
        link: Link::new(&config.taps),
        credential: RefCell::new(config.credential.clone()),
        hub: Hub::new(config, on_trade),
    };
    let connections = config.feed.connections.clamp(1, CONNECTIONS_MAX);
    if connections == 1 {
        return supervisor.keep(0).await;
    }
    let mut all: FuturesUnordered<_> =
        (0..connections).map(|connection| supervisor.keep(connection)).collect();
    let mut gave_up = GaveUp { attempts: 0, last: None };
    while let Some(next) = all.next().await {
        gave_up = next;
    }
    gave_up
}

/// What keeps a feed up.
pub(super) struct Supervisor<'c, D, F> {
    pub(super) hub: Hub<'c, F>,
    pub(super) dial: D,
    pub(super) host: Arc<Host>,
    pub(super) link: Link<'c>,
    pub(super) credential: RefCell<Option<Credential>>,
}

impl<D: Dial, F: FnMut(Trade<'_>)> Supervisor<'_, D, F> {
    /// Keeps one connection up.
    async fn keep(&self, connection: usize) -> GaveUp {
        let mut backoff = Backoff::new(self.hub.config.reconnection);
        let mut rhythm = Rhythm::default();
        loop {
            self.admission().await;
            let tenure = self.tenure(connection, &backoff, &mut rhythm).await;
            let next = backoff.after(&tenure.ending, fastrand::u64(..));
            self.report(connection, &tenure, &next);
            if next.exhausted {
                let attempts = next.attempt;
                error!("Giving up after {attempts} attempts without success (max_retries)");
                return GaveUp { attempts, last: tenure.ended.err() };
            }
            self.pause(connection, &next, &tenure.ended).await;
            if matches!(tenure.ending.verdict, Verdict::Park | Verdict::RenewCredential) {
                self.renew_credential().await;
            }
        }
    }

    /// What tells the lines of several connections apart.
    pub(super) fn tag(&self, connection: usize) -> String {
        if self.hub.config.feed.connections <= 1 {
            return String::new();
        }
        format!(" [connection {}]", connection.saturating_add(1))
    }

    /// Waits until the host may be dialled.
    async fn admission(&self) {
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

    /// Says how a connection ended.
    fn report(&self, connection: usize, tenure: &Tenure, next: &Next) {
        let taps = &self.hub.config.taps;
        let tag = self.tag(connection);
        let Tenure { ending, ended } = tenure;
        match ended {
            Ok(()) => {
                info!("Disconnected (1000, clean close){tag}");
                info!("Connection closed cleanly{tag}");
            }
            Err(error) => {
                if ending.lived.is_some() {
                    let (code, reason) = error.code_and_reason();
                    info!("Disconnected ({code}, {reason}){tag}");
                }
                if matches!(error, FeedError::Violation { .. }) {
                    add(&taps.violations, 1);
                }
                warn!("Connection error: {}{tag}", error.chain());
            }
        }
        let is_blocked = ended.as_ref().is_err_and(FeedError::is_blocked);
        taps.is_blocked.store(is_blocked, Ordering::Release);
        if !next.healthy {
            return;
        }
        let reset = Seconds(self.hub.config.reconnection.limits().initial_delay);
        match ending.listings {
            0 => info!("Stable session. Backoff reset to {reset}.{tag}"),
            listings => {
                info!("Productive session ({listings} trades). Backoff reset to {reset}.{tag}");
            }
        }
    }

    /// Waits before the next dial: as long as the line says.
    async fn pause(&self, connection: usize, next: &Next, ended: &Result<(), FeedError>) {
        let now = now();
        let cause = cause(ended);
        let mut wait = next.wait;
        if !next.healthy
            && let Some(Change::Opened(cooldown)) = self.host.failed(now)
        {
            warn!("Circuit open for {}: {cause}", Seconds(cooldown));
            wait = wait.max(cooldown);
        }
        match next.why {
            Why::Backoff => {}
            Why::Asked => {
                self.host.stay_away(now, wait);
            }
            Why::Parked => {
                if self.host.stay_away(now, wait) {
                    error!("Parked for {}: {cause}", Seconds(wait));
                }
            }
        }
        let (attempt, tag) = (next.attempt, self.tag(connection));
        info!("Reconnecting in {} (attempt {attempt}: {cause}){tag}", Seconds(wait));
        tokio::time::sleep(wait).await;
    }

    /// Reads the credential anew: the person may have pasted a fresh one.
    async fn renew_credential(&self) {
        let Some(source) = self.hub.config.credential_source.clone() else { return };
        // Reading a file may take a while; it must not hold up the other connections.
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        if let Ok(Some(fresh)) = read {
            let is_news = self.credential.borrow().as_ref() != Some(&fresh);
            if is_news {
                info!("The credential was read again and has changed");
            }
            self.credential.replace(Some(fresh));
        }
    }
}

/// What ended a connection, on one line.
pub(super) fn cause(ended: &Result<(), FeedError>) -> String {
    match ended {
        Ok(()) => "closed cleanly".to_owned(),
        Err(error) => error.chain(),
    }
}
