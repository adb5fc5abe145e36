//! The loop that keeps the feed up.
//!
//! One loop per connection: wait until the host may be dialled, connect, serve, judge how it ended,
//! say so, wait, again. Every decision is made in [`policy`](super::policy); this is where time
//! passes and lines are logged.

use std::{
    cell::{Cell, RefCell},
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    connect::{Dial as _, TcpDial},
    error::FeedError,
    feed::Hub,
    host::Host,
    liveness::Rhythm,
    policy::{Admission, Backoff, Change, Ending, Next, Verdict, Why},
    session::now,
    taps::{Gap, Taps, add},
};
use crate::{
    clock,
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
    let dial = match TcpDial::new(config.endpoints.ws.clone(), config.tls.clone()) {
        Ok(dial) => dial,
        Err(error) => return GaveUp { attempts: 0, last: Some(error) },
    };
    let supervisor = Supervisor {
        host: config.hosts.host(&dial.host(), &config.reconnection),
        dial,
        link: Link::new(&config.taps),
        credential: RefCell::new(config.credential.clone()),
        hub: Hub::new(config, on_trade),
    };
    supervisor.keep(0).await
}

struct Supervisor<'c, F> {
    hub: Hub<'c, F>,
    dial: TcpDial,
    host: Arc<Host>,
    link: Link<'c>,
    credential: RefCell<Option<Credential>>,
}

impl<F: FnMut(Trade<'_>)> Supervisor<'_, F> {
    /// Keeps one connection up.
    async fn keep(&self, connection: usize) -> GaveUp {
        let policy = self.hub.config.reconnection;
        let mut backoff = Backoff::new(policy);
        let mut rhythm = Rhythm::default();
        loop {
            self.admission().await;
            let (ending, ended) = self.attempt(connection, &backoff, &mut rhythm).await;
            let next = backoff.after(&ending, fastrand::u64(..));
            self.report(&ending, &ended, &next);
            if next.exhausted {
                let attempts = next.attempt;
                error!("Giving up after {attempts} attempts without success (max_retries)");
                return GaveUp { attempts, last: ended.err() };
            }
            self.pause(&next, &ended).await;
            if matches!(ending.verdict, Verdict::Park | Verdict::RenewCredential) {
                self.renew_credential().await;
            }
        }
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

    /// One connection from beginning to end.
    async fn attempt(
        &self,
        connection: usize,
        backoff: &Backoff,
        rhythm: &mut Rhythm,
    ) -> (Ending, Result<(), FeedError>) {
        self.link.dials();
        let credential = self.credential.borrow().clone();
        let mut session = match self.hub.open(&self.dial, credential.as_ref()).await {
            Ok(session) => session,
            Err(error) => {
                let ending = Ending { lived: None, listings: 0, verdict: error.verdict() };
                return (ending, Err(error));
            }
        };
        info!("Connected");
        self.link.up();
        rhythm.interrupt();
        let mut listener = self.hub.listener(connection, !backoff.is_flapping(), || {
            if let Some(Change::Closed) = self.host.proved() {
                info!("Circuit closed");
            }
        });
        let ended = session.run(&mut listener, rhythm).await;
        let verdict = ended.as_ref().err().map_or(Verdict::Retry, FeedError::verdict);
        let ending =
            Ending { lived: Some(session.lived()), listings: listener.listings(), verdict };
        self.link.down(session.last_frame(), &cause(&ended));
        (ending, ended)
    }

    /// Says how a connection ended.
    fn report(&self, ending: &Ending, ended: &Result<(), FeedError>, next: &Next) {
        let taps = &self.hub.config.taps;
        match ended {
            Ok(()) => {
                info!("Disconnected (1000, clean close)");
                info!("Connection closed cleanly");
            }
            Err(error) => {
                if ending.lived.is_some() {
                    let (code, reason) = error.code_and_reason();
                    info!("Disconnected ({code}, {reason})");
                }
                if matches!(error, FeedError::Violation { .. }) {
                    add(&taps.violations, 1);
                }
                warn!("Connection error: {}", error.chain());
            }
        }
        let is_blocked = ended.as_ref().is_err_and(FeedError::is_blocked);
        taps.is_blocked.store(is_blocked, Ordering::Release);
        if !next.healthy {
            return;
        }
        let reset = Seconds(self.hub.config.reconnection.limits().initial_delay);
        match ending.listings {
            0 => info!("Stable session. Backoff reset to {reset}."),
            listings => {
                info!("Productive session ({listings} trades). Backoff reset to {reset}.");
            }
        }
    }

    /// Waits before the next dial: as long as the line says.
    async fn pause(&self, next: &Next, ended: &Result<(), FeedError>) {
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
        let attempt = next.attempt;
        info!("Reconnecting in {} (attempt {attempt}: {cause})", Seconds(wait));
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

/// Whether anything can arrive, over all connections of a feed.
struct Link<'c> {
    taps: &'c Taps,
    up: Cell<usize>,
    alive_until: Cell<Option<Instant>>,
    attempts: Cell<u32>,
    reconnects: Cell<u64>,
}

impl<'c> Link<'c> {
    const fn new(taps: &'c Taps) -> Self {
        Self {
            taps,
            up: Cell::new(0),
            alive_until: Cell::new(None),
            attempts: Cell::new(0),
            reconnects: Cell::new(0),
        }
    }

    fn dials(&self) {
        self.attempts.set(self.attempts.get().saturating_add(1));
    }

    /// A connection is up.
    fn up(&self) {
        self.up.set(self.up.get().saturating_add(1));
        self.taps.is_up.store(true, Ordering::Release);
        let attempts = self.attempts.replace(0);
        let Some(from) = self.alive_until.take() else { return };
        let lasted = now().saturating_duration_since(from);
        let reconnects = self.reconnects.get().saturating_add(1);
        self.reconnects.set(reconnects);
        add(&self.taps.reconnects, 1);
        self.taps.gap_changes(|gap| {
            gap.until = Some(clock::now());
            gap.lasted = lasted;
            gap.attempts = attempts;
        });
        info!(
            "Reconnected (gap {}, attempts {attempts}, reconnects {reconnects}, back-filled 0)",
            Seconds(lasted)
        );
    }

    /// A connection that was up is gone; `alive` was its last proof of life.
    fn down(&self, alive: Instant, cause: &str) {
        self.up.set(self.up.get().saturating_sub(1));
        if self.up.get() != 0 {
            return;
        }
        self.taps.is_up.store(false, Ordering::Release);
        self.alive_until.set(Some(alive));
        self.attempts.set(0);
        let ago = now().saturating_duration_since(alive);
        let ago_ms = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
        self.taps.gap_begins(Gap {
            from: crate::time::UnixMs(clock::now().0.saturating_sub(ago_ms)),
            until: None,
            lasted: ago,
            attempts: 0,
            cause: cause.to_owned(),
        });
    }
}

fn cause(ended: &Result<(), FeedError>) -> String {
    match ended {
        Ok(()) => "closed cleanly".to_owned(),
        Err(error) => error.chain(),
    }
}

/// `3.4s`: whole hundredths, without trailing zeros.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0.as_secs(), self.0.subsec_millis() / 10);
        match (hundredths / 10, hundredths % 10) {
            (0, 0) => write!(f, "{whole}s"),
            (tenths, 0) => write!(f, "{whole}.{tenths}s"),
            _ => write!(f, "{whole}.{hundredths:02}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(ms: u64, expected: &str) {
        assert_eq!(Seconds(Duration::from_millis(ms)).to_string(), expected);
    }

    #[test]
    fn waits_are_shown_as_they_are_slept() {
        check(2_000, "2s");
        check(3_400, "3.4s");
        check(2_340, "2.34s");
        check(250, "0.25s");
        check(1_050, "1.05s");
        check(300_000, "300s");
    }
}
