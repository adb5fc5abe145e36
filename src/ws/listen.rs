//! A feed heard as it is: kept up by the same policy, each message handed to a [`Witness`].
//!
//! Nothing is looked at but what the dialect needs. This is what recordings of any feed are made
//! with; the marketplace's own feed, with its listings and its redundant connections, is kept by
//! [`run_with_reconnect`](super::run_with_reconnect).

use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::{
    connect::{Dial, TcpDial, open},
    cycle::cause,
    error::FeedError,
    host::{Host, Hosts},
    link::Seconds,
    liveness::Rhythm,
    policy::{Admission, Backoff, Change, Ending, Next, Policy, Verdict, Why},
    protocol::{Dialect, Machine, OperationId, Wanted},
    session::{Driver, Notice, Session, now},
    supervisor::GaveUp,
    upgrade::Request,
    witness::Witness,
};
use crate::{
    config::{Credential, CredentialSource, endpoint::Endpoint},
    json::Raw,
    net::tls::Tls,
    text::Escaped,
};

/// How many messages that cannot be read are shown; the rest is only recorded.
const UNREADABLE_SHOWN_MAX: u32 = 10;

/// A feed to listen to.
#[derive(Clone, Debug)]
pub struct Station<L> {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub dialect: L,
    /// What to subscribe to.
    pub topics: Vec<Wanted>,
    /// The `Origin` header, if any.
    pub origin: Option<String>,
    /// The `User-Agent` header, if any.
    pub user_agent: Option<String>,
    /// Who we are there, if anybody.
    pub credential: Option<Credential>,
    /// Where a fresh credential comes from.
    pub credential_source: Option<CredentialSource>,
    /// When to dial again.
    pub policy: Policy,
    /// How TLS is spoken; `None`: with Mozilla's roots.
    pub tls: Option<Tls>,
    /// What tells its log lines from those of others; empty, or with a leading space.
    pub tag: String,
}

/// Listens until the retries of the policy are used up; for ever if it has no such bound.
///
/// # Cancel safety
///
/// Safe: the witness hears whole messages. Drop the future to stop; the server sees the socket
/// close.
pub async fn listen<L: Dialect + Clone>(
    station: &Station<L>,
    hosts: &Hosts,
    witness: &dyn Witness,
) -> GaveUp {
    let dial = match TcpDial::new(station.endpoint.clone(), station.tls.clone()) {
        Ok(dial) => dial,
        Err(error) => return GaveUp { attempts: 0, last: Some(error) },
    };
    let host = hosts.host(&dial.host(), &station.policy);
    let mut listening = Listening {
        credential: station.credential.clone(),
        station,
        host: &host,
        witness,
        begun: now(),
        connections: 0,
        has_failed: false,
        unreadable: 0,
    };
    listening.keep(&dial).await
}

/// One station over its connections.
struct Listening<'s, L> {
    station: &'s Station<L>,
    host: &'s Host,
    witness: &'s dyn Witness,
    credential: Option<Credential>,
    begun: Instant,
    connections: u32,
    has_failed: bool,
    unreadable: u32,
}

impl<L: Dialect + Clone> Listening<'_, L> {
    async fn keep(&mut self, dial: &TcpDial) -> GaveUp {
        let mut backoff = Backoff::new(self.station.policy);
        let mut rhythm = Rhythm::default();
        loop {
            self.admission().await;
            let (ending, ended) = self.attempt(dial, &backoff, &mut rhythm).await;
            let next = backoff.after(&ending, fastrand::u64(..));
            self.report(&ending, &ended, &next);
            if next.exhausted {
                let attempts = next.attempt;
                error!(
                    "Giving up after {attempts} attempts without success (max_retries){}",
                    self.station.tag
                );
                return GaveUp { attempts, last: ended.err() };
            }
            self.pause(&next, &cause(&ended)).await;
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
                    info!("Circuit half-open{}", self.station.tag);
                    return;
                }
                Admission::Wait(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// One connection from its dial to its end.
    async fn attempt(
        &mut self,
        dial: &TcpDial,
        backoff: &Backoff,
        rhythm: &mut Rhythm,
    ) -> (Ending, Result<(), FeedError>) {
        self.witness.dials();
        let mut session = match self.open(dial).await {
            Ok(session) => session,
            Err(error) => {
                self.witness.down(self.begun, &error.chain());
                if self.connections == 0 && !std::mem::replace(&mut self.has_failed, true) {
                    // The dial that opened the gap is one of its attempts.
                    self.witness.dials();
                }
                let ending = Ending { lived: None, listings: 0, verdict: error.verdict() };
                return (ending, Err(error));
            }
        };
        info!("Connected{}", self.station.tag);
        self.connections = self.connections.saturating_add(1);
        if self.connections > 1 {
            self.witness.reconnected();
        }
        rhythm.interrupt();
        let since = now();
        let mut ear = Ear {
            witness: self.witness,
            host: self.host,
            connection: self.connections,
            heard: 0,
            proves_by_message: !backoff.is_flapping(),
            has_proved: false,
            unreadable: &mut self.unreadable,
            tag: &self.station.tag,
        };
        let ended = session.run(&mut ear, rhythm).await;
        let verdict = ended.as_ref().err().map_or(Verdict::Retry, FeedError::verdict);
        let lived = Some(now().saturating_duration_since(since));
        let ending = Ending { lived, listings: ear.heard, verdict };
        self.witness.down(session.last_frame(), &cause(&ended));
        (ending, ended)
    }

    async fn open(
        &self,
        dial: &TcpDial,
    ) -> Result<Session<<TcpDial as Dial>::Stream, L>, FeedError> {
        let station = self.station;
        let limits = station.policy.limits();
        let dialect = station.dialect.clone();
        let mut machine = Machine::new(dialect, limits.initial_delay, limits.max_delay);
        for topic in &station.topics {
            machine.want(topic.clone(), now());
        }
        let authority = station.endpoint.authority();
        let request = Request {
            authority: &authority,
            path: station.endpoint.path(),
            origin: station.origin.as_deref(),
            user_agent: station.user_agent.as_deref(),
            credential: self.credential.as_ref(),
            subprotocol: machine.subprotocol(),
        };
        open(dial, &request, machine, limits).await
    }

    /// Says how a connection ended.
    fn report(&self, ending: &Ending, ended: &Result<(), FeedError>, next: &Next) {
        let tag = &self.station.tag;
        match ended {
            Ok(()) => info!("Disconnected (1000, clean close){tag}"),
            Err(error) => {
                if ending.lived.is_some() {
                    let (code, reason) = error.code_and_reason();
                    info!("Disconnected ({code}, {reason}){tag}");
                }
                warn!("Connection error: {}{tag}", error.chain());
            }
        }
        if next.healthy {
            let reset = Seconds(self.station.policy.limits().initial_delay);
            let count = ending.listings;
            info!("Productive session ({count} messages). Backoff reset to {reset}.{tag}");
        }
    }

    /// Waits before the next dial: as long as the line says.
    async fn pause(&self, next: &Next, cause: &str) {
        let tag = &self.station.tag;
        let (now, mut wait) = (now(), next.wait);
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
        info!("Reconnecting in {} (attempt {}: {cause}){tag}", Seconds(wait), next.attempt);
        tokio::time::sleep(wait).await;
    }

    /// Reads the credential anew: the person may have pasted a fresh one.
    async fn renew_credential(&mut self) {
        let Some(source) = self.station.credential_source.clone() else { return };
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        if let Ok(Some(fresh)) = read {
            self.credential = Some(fresh);
        }
    }
}

/// Hears one session.
struct Ear<'e> {
    witness: &'e dyn Witness,
    host: &'e Host,
    connection: u32,
    heard: u64,
    proves_by_message: bool,
    has_proved: bool,
    unreadable: &'e mut u32,
    tag: &'e str,
}

impl Ear<'_> {
    fn prove(&mut self) {
        if std::mem::replace(&mut self.has_proved, true) {
            return;
        }
        if let Some(Change::Closed) = self.host.proved() {
            info!("Circuit closed{}", self.tag);
        }
    }
}

impl Driver for Ear<'_> {
    type Payload<'a> = Raw<'a>;

    fn arrived(&mut self, _text: &str) {}

    fn data(&mut self, _of: Option<OperationId>, _payload: Raw<'_>, _at: Instant) -> bool {
        self.heard = self.heard.saturating_add(1);
        if self.proves_by_message {
            self.prove();
        }
        true
    }

    fn served(&mut self, text: &str, at: Instant, is_data: bool) {
        self.witness.message(self.connection, text, at, is_data);
    }

    fn notice(&mut self, notice: Notice<'_>) {
        let tag = self.tag;
        match notice {
            Notice::Malformed { text, error } => {
                *self.unreadable = self.unreadable.saturating_add(1);
                if *self.unreadable <= UNREADABLE_SHOWN_MAX {
                    warn!("A message is not JSON ({error}){tag}: {}", Escaped(text));
                }
            }
            Notice::Binary(_bytes) => self.witness.binary(),
            Notice::Unknown(_text) => {}
            Notice::Ended { error, again_in, .. } => {
                let why = error.map_or("it was completed", |error| error.0);
                let again = again_in.unwrap_or(Duration::ZERO);
                warn!("A subscription ended; again in {again:?}{tag}: {}", Escaped(why));
            }
            Notice::Renewed => info!("Nothing for a while; subscribing again{tag}"),
            Notice::Stable => self.prove(),
        }
    }
}
