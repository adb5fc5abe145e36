//! A feed heard as it is: kept up by the same policy, each message handed to a [`MessageRecorder`].
//!
//! Nothing is looked at but what the dialect needs. This is what recordings of any feed are made
//! with; the marketplace's own feed, with its listings and its redundant connections, is kept by
//! [`run_with_reconnect`](super::run_with_reconnect).

use std::{sync::Arc, time::Instant};

use tracing::{info, warn};

use super::{
    connect::{Dial, TcpDial, open},
    error::{FeedError, ProtocolViolation, SettingNames},
    host_cooldown::Hosts,
    message_recorder::MessageRecorder,
    policy::ReconnectPolicy,
    protocol::{FeedProtocol, OperationId, Subscription, SubscriptionState},
    reconnector::{ConnectionLifetime, Reconnector, fresh_credential},
    session::{Session, SessionHandler, SessionNotice, now},
    supervisor::RetriesExhausted,
    upgrade::UpgradeRequest,
    watchdog::ArrivalStats,
};
use crate::{
    config::{Credential, CredentialSource, endpoint::Endpoint},
    json::RawValue,
    latency::RxTimestamps,
    net::tls::Tls,
    text::Escaped,
};

/// How many messages that cannot be read are shown; the rest is only recorded.
const UNREADABLE_SHOWN_MAX: u32 = 10;

/// A feed to listen to.
#[derive(Clone, Debug)]
pub struct RecordedFeed<L> {
    /// Where it is.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub dialect: L,
    /// What to subscribe to.
    pub topics: Vec<Subscription>,
    /// The `Origin` header, if any.
    pub origin: Option<String>,
    /// The `User-Agent` header, if any.
    pub user_agent: Option<String>,
    /// Who we are there, if anybody.
    pub credential: Option<Credential>,
    /// Where a fresh credential comes from.
    pub credential_source: Option<CredentialSource>,
    /// When to dial again.
    pub policy: ReconnectPolicy,
    /// How TLS is spoken; `None`: with Mozilla's roots.
    pub tls: Option<Tls>,
    /// What tells its log lines from those of others; empty, or with a leading space.
    pub tag: String,
    /// Which settings advice names.
    pub origins: SettingNames,
}

/// Listens until the retries of the policy are used up; for ever if it has no such bound.
///
/// # Cancel safety
///
/// Safe: the witness hears whole messages. Drop the future to stop; the server sees the socket
/// close.
pub async fn listen<L: FeedProtocol + Clone>(
    station: &RecordedFeed<L>,
    hosts: &Hosts,
    witness: &dyn MessageRecorder,
) -> RetriesExhausted {
    let dial = match TcpDial::new(station.endpoint.clone(), station.tls.clone()) {
        Ok(dial) => dial,
        Err(error) => return RetriesExhausted { attempts: 0, last: Some(error) },
    };
    let host = hosts.host(&dial.host(), &station.policy);
    let mut cycle =
        Reconnector::new(station.policy, host, Arc::default(), "messages", station.tag.clone())
            .advising(station.origins);
    let mut listening = RecordingLoop {
        credential: station.credential.clone(),
        station,
        witness,
        begun: now(),
        connections: 0,
        unreadable: 0,
    };
    let mut rhythm = ArrivalStats::default();
    loop {
        cycle.admission().await;
        let tenure = listening.attempt(&dial, &cycle, &mut rhythm).await;
        let pause = cycle.ended(&tenure);
        if pause.is_last {
            return RetriesExhausted { attempts: pause.attempt, last: Some(tenure.ended) };
        }
        tokio::time::sleep(pause.wait).await;
        if pause.wants_credential
            && let Some(fresh) = fresh_credential(station.credential_source.as_ref()).await
        {
            listening.credential = Some(fresh);
        }
    }
}

/// One station over its connections.
struct RecordingLoop<'s, L> {
    station: &'s RecordedFeed<L>,
    witness: &'s dyn MessageRecorder,
    credential: Option<Credential>,
    begun: Instant,
    connections: u32,
    unreadable: u32,
}

impl<L: FeedProtocol + Clone> RecordingLoop<'_, L> {
    /// One connection from its dial to its end.
    async fn attempt(
        &mut self,
        dial: &TcpDial,
        cycle: &Reconnector,
        rhythm: &mut ArrivalStats,
    ) -> ConnectionLifetime {
        self.witness.dials();
        let mut session = match self.open(dial).await {
            Ok(session) => session,
            Err(error) => {
                self.witness.down(self.begun, &error.chain());
                return ConnectionLifetime::failed(error);
            }
        };
        info!("Connected{}", self.station.tag);
        self.connections = self.connections.saturating_add(1);
        self.witness.up();
        rhythm.interrupt();
        let since = now();
        let mut ear = RecordingHandler {
            witness: self.witness,
            connection: self.connections,
            heard: 0,
            proves_by_message: cycle.proves_by_delivery(),
            proved: Some(cycle.proof()),
            unreadable: &mut self.unreadable,
            station: self.station,
        };
        let ended = session.run(&mut ear, rhythm).await;
        let heard = ear.heard;
        if let FeedError::Violation { violation: ProtocolViolation::TooBig, .. } = ended {
            self.witness.too_long();
        }
        self.witness.down(session.alive_until(&ended), &ended.chain());
        ConnectionLifetime::over(now().saturating_duration_since(since), heard, ended)
    }

    async fn open(
        &self,
        dial: &TcpDial,
    ) -> Result<Session<<TcpDial as Dial>::Stream, L>, FeedError> {
        let station = self.station;
        let limits = station.policy.limits();
        let dialect = station.dialect.clone();
        let mut machine = SubscriptionState::new(dialect, limits.initial_delay, limits.max_delay);
        for topic in &station.topics {
            machine.want(topic.clone(), now());
        }
        let authority = station.endpoint.authority();
        let request = UpgradeRequest {
            authority: &authority,
            path: station.endpoint.path(),
            origin: station.origin.as_deref(),
            user_agent: station.user_agent.as_deref(),
            credential: self.credential.as_ref(),
            subprotocol: machine.subprotocol(),
        };
        open(dial, &request, machine, limits).await
    }
}

/// Hears one session.
struct RecordingHandler<'e, L, P> {
    witness: &'e dyn MessageRecorder,
    connection: u32,
    heard: u64,
    proves_by_message: bool,
    proved: Option<P>,
    unreadable: &'e mut u32,
    station: &'e RecordedFeed<L>,
}

impl<L, P: FnMut()> RecordingHandler<'_, L, P> {
    /// Whether this is one of the topics for which the feed is listened to.
    fn is_essential(&self, operation: OperationId) -> bool {
        // Operations are numbered in the order in which the topics were wanted, from 1.
        let at = operation.0.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let topic = at.and_then(|at| self.station.topics.get(at));
        topic.is_none_or(|topic| !topic.is_optional)
    }

    fn prove(&mut self) {
        if let Some(mut proved) = self.proved.take() {
            proved();
        }
    }
}

impl<L, P: FnMut()> SessionHandler for RecordingHandler<'_, L, P> {
    type Payload<'a> = RawValue<'a>;

    fn arrived(&mut self, _text: &str) {}

    fn data(
        &mut self,
        of: Option<OperationId>,
        _payload: RawValue<'_>,
        _arrival: RxTimestamps,
    ) -> bool {
        self.heard = self.heard.saturating_add(1);
        if self.proves_by_message {
            self.prove();
        }
        of.is_none_or(|operation| self.is_essential(operation))
    }

    fn served(&mut self, text: &str, at: Instant, is_data: bool) {
        self.witness.message(self.connection, text, at, is_data);
    }

    fn notice(&mut self, notice: SessionNotice<'_>) {
        let tag = &self.station.tag;
        match notice {
            SessionNotice::Malformed { text, error } => {
                *self.unreadable = self.unreadable.saturating_add(1);
                if *self.unreadable <= UNREADABLE_SHOWN_MAX {
                    warn!("A message is not JSON ({error}){tag}: {}", Escaped(text));
                }
            }
            SessionNotice::Binary(_bytes) => self.witness.binary(),
            SessionNotice::Unknown(_text) => {}
            SessionNotice::Ended { operation, error, again_in } => {
                let why = Escaped(error.map_or("it was completed", |error| error.0));
                match again_in {
                    Some(wait) => warn!("A subscription ended; again in {wait:?}{tag}: {why}"),
                    None => warn!("A subscription ended and is given up{tag}: {why}"),
                }
                if self.is_essential(operation) {
                    self.witness.unsubscribed(now(), &format!("the subscription ended: {why}"));
                }
            }
            SessionNotice::Asked { .. } => {}
            SessionNotice::Renewed => info!("Nothing for a while; subscribing again{tag}"),
            SessionNotice::Stable => self.prove(),
        }
    }
}
