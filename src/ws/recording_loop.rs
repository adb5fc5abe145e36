//! Records a feed: keeps the connection up and passes each message to a [`MessageRecorder`].
//!
//! Messages are parsed only as far as the protocol requires. Used for recordings of any feed; the
//! market's feed with its listings and redundant connections is run by
//! [`run_with_reconnect`](super::run_with_reconnect).

use std::{sync::Arc, time::Instant};

use tracing::{info, warn};

use super::{
    connect::{Dial, TcpDial, open},
    error::{FeedError, ProtocolViolation, SettingNames},
    gap_tracker::Seconds,
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
    domain::latency::RxTimestamps,
    json::RawValue,
    net::{http_message::Auth, tls::Tls},
    text::Escaped,
};

/// Maximum number of malformed messages that are logged; all of them are recorded.
const UNREADABLE_SHOWN_MAX: u32 = 10;

/// A feed to record.
#[derive(Clone, Debug)]
pub struct RecordedFeed<L> {
    pub endpoint: Endpoint,
    pub protocol: L,
    pub topics: Vec<Subscription>,
    pub origin: Option<String>,
    pub user_agent: Option<String>,
    /// The `Cookie` header.
    pub credential: Option<Credential>,
    /// Source of a new credential after a rejection.
    pub credential_source: Option<CredentialSource>,
    pub policy: ReconnectPolicy,
    /// TLS configuration; `None` uses Mozilla's roots.
    pub tls: Option<Tls>,
    /// Suffix that identifies the feed in log lines: empty, or with a leading space.
    pub tag: String,
    /// Names of the settings in advice.
    pub setting_names: SettingNames,
}

/// Records until the retries of the policy are used up, or without end if it sets no limit.
///
/// # Cancel safety
///
/// Cancel safe: the recorder receives whole messages. Dropping the future closes the socket.
pub async fn record_feed<L: FeedProtocol + Clone>(
    feed: &RecordedFeed<L>,
    hosts: &Hosts,
    recorder: &dyn MessageRecorder,
) -> RetriesExhausted {
    let dial = match TcpDial::new(feed.endpoint.clone(), feed.tls.clone()) {
        Ok(dial) => dial,
        Err(error) => return RetriesExhausted { attempts: 0, last: Some(error) },
    };
    let host = hosts.host(&dial.host(), &feed.policy);
    let mut reconnector =
        Reconnector::new(feed.policy, host, Arc::default(), "messages", feed.tag.clone())
            .with_setting_names(feed.setting_names);
    let mut recording = RecordingLoop {
        credential: feed.credential.clone(),
        feed,
        recorder,
        started: now(),
        connections: 0,
        unreadable: 0,
    };
    let mut arrival_stats = ArrivalStats::default();
    loop {
        reconnector.acquire_permit().await;
        let lifetime = recording.attempt(&dial, &reconnector, &mut arrival_stats).await;
        let delay = reconnector.on_connection_ended(&lifetime);
        if delay.is_last {
            return RetriesExhausted { attempts: delay.attempt, last: Some(lifetime.error) };
        }
        tokio::time::sleep(delay.wait).await;
        if delay.needs_credential
            && let Some(fresh) = fresh_credential(feed.credential_source.as_ref()).await
        {
            recording.credential = Some(fresh);
        }
    }
}

/// State of one feed across its connections.
struct RecordingLoop<'s, L> {
    feed: &'s RecordedFeed<L>,
    recorder: &'s dyn MessageRecorder,
    credential: Option<Credential>,
    started: Instant,
    connections: u32,
    unreadable: u32,
}

impl<L: FeedProtocol + Clone> RecordingLoop<'_, L> {
    /// Runs one connection from its dial to its end.
    async fn attempt(
        &mut self,
        dial: &TcpDial,
        reconnector: &Reconnector,
        arrival_stats: &mut ArrivalStats,
    ) -> ConnectionLifetime {
        self.recorder.on_dial();
        let mut session = match self.open(dial).await {
            Ok(session) => session,
            Err(error) => {
                self.recorder.on_disconnected(self.started, &error.chain());
                return ConnectionLifetime::failed(error);
            }
        };
        info!("Connected{}", self.feed.tag);
        self.connections = self.connections.saturating_add(1);
        self.recorder.on_connected();
        arrival_stats.interrupt();
        let since = now();
        let mut handler = RecordingHandler {
            recorder: self.recorder,
            connection: self.connections,
            messages: 0,
            healthy_on_message: reconnector.healthy_on_delivery(),
            mark_healthy: Some(reconnector.healthy_callback()),
            unreadable: &mut self.unreadable,
            feed: self.feed,
        };
        let ended = session.run(&mut handler, arrival_stats).await;
        let messages = handler.messages;
        if let FeedError::Violation { violation: ProtocolViolation::TooBig, .. } = ended {
            self.recorder.on_oversized();
        }
        self.recorder.on_disconnected(session.alive_until(&ended), &ended.chain());
        ConnectionLifetime::ended(now().saturating_duration_since(since), messages, ended)
    }

    async fn open(
        &self,
        dial: &TcpDial,
    ) -> Result<Session<<TcpDial as Dial>::Stream, L>, FeedError> {
        let feed = self.feed;
        let limits = feed.policy.limits();
        let protocol = feed.protocol.clone();
        let mut subscriptions =
            SubscriptionState::new(protocol, limits.initial_delay, limits.max_delay);
        for topic in &feed.topics {
            subscriptions.subscribe(topic.clone(), now());
        }
        let authority = feed.endpoint.authority();
        let request = UpgradeRequest {
            authority: &authority,
            path: feed.endpoint.path(),
            origin: feed.origin.as_deref(),
            user_agent: feed.user_agent.as_deref(),
            auth: Auth::Cookie,
            credential: self.credential.as_ref(),
            subprotocol: subscriptions.subprotocol(),
        };
        open(dial, &request, subscriptions, limits).await
    }
}

/// Passes the messages of one session to the recorder.
struct RecordingHandler<'e, L, P> {
    recorder: &'e dyn MessageRecorder,
    connection: u32,
    messages: u64,
    healthy_on_message: bool,
    mark_healthy: Option<P>,
    unreadable: &'e mut u32,
    feed: &'e RecordedFeed<L>,
}

impl<L, P: FnMut()> RecordingHandler<'_, L, P> {
    /// Returns `true` for an essential topic.
    fn is_essential(&self, operation: OperationId) -> bool {
        // Operations are numbered from 1 in the order of the topics.
        let at = operation.0.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let topic = at.and_then(|at| self.feed.topics.get(at));
        topic.is_none_or(|topic| !topic.is_optional)
    }

    fn mark_healthy(&mut self) {
        if let Some(mut mark_healthy) = self.mark_healthy.take() {
            mark_healthy();
        }
    }
}

impl<L, P: FnMut()> SessionHandler for RecordingHandler<'_, L, P> {
    type Payload<'a> = RawValue<'a>;

    fn on_message(&mut self, _text: &str) {}

    fn on_data(
        &mut self,
        of: Option<OperationId>,
        _payload: RawValue<'_>,
        _arrival: RxTimestamps,
    ) -> bool {
        self.messages = self.messages.saturating_add(1);
        if self.healthy_on_message {
            self.mark_healthy();
        }
        of.is_none_or(|operation| self.is_essential(operation))
    }

    fn on_handled(&mut self, text: &str, at: Instant, is_data: bool) {
        self.recorder.on_message(self.connection, text, at, is_data);
    }

    fn on_notice(&mut self, notice: SessionNotice<'_>) {
        let tag = &self.feed.tag;
        match notice {
            SessionNotice::Malformed { text, error } => {
                *self.unreadable = self.unreadable.saturating_add(1);
                if *self.unreadable <= UNREADABLE_SHOWN_MAX {
                    warn!("Malformed message ({error}){tag}: {}", Escaped(text));
                }
            }
            SessionNotice::Binary(_bytes) => self.recorder.on_binary(),
            SessionNotice::Unknown(_text) => {}
            SessionNotice::Ended { operation, error, retry_in } => {
                let cause = Escaped(error.map_or("completed by the server", |error| error.0));
                match retry_in {
                    Some(wait) => {
                        let wait = Seconds(wait);
                        warn!("Subscription ended, retrying in {wait}{tag}: {cause}");
                    }
                    None => {
                        warn!("Subscription ended, not retried on this connection{tag}: {cause}");
                    }
                }
                if self.is_essential(operation) {
                    self.recorder
                        .on_unsubscribed(now(), &format!("the subscription ended: {cause}"));
                }
            }
            SessionNotice::Resubscribed { .. } => {}
            SessionNotice::Resubscribing { silent } => {
                info!("No messages for {}, resubscribing{tag}", Seconds(silent));
            }
            SessionNotice::Stable => self.mark_healthy(),
        }
    }
}
