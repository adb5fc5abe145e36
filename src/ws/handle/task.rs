//! The background task of a handle: connects, runs sessions and waits, until it is stopped or gives
//! up.
//!
//! Every wait is raced against the stop, so a stop takes effect at once in every state; a live
//! connection is closed with 1000.

use std::sync::Arc;

use super::{
    Target,
    command_queue::CommandQueue,
    event::{HandleEvent, StopReason},
    event_queue::EventQueue,
    options::Options,
    session::{HandleSession, SessionProgress},
};
use crate::{
    protocol::{FeedProtocol, SubscriptionState},
    ws::{
        FeedError, RetriesExhausted,
        connect::{Dial, open},
        gap_tracker::GapTracker,
        reconnector::{ConnectionLifetime, Reconnector, RetryDelay, fresh_credential},
        session::{Session, WriteProgress, now},
        upgrade::{self, UpgradeRequest},
        watchdog::ArrivalStats,
    },
};

pub(super) struct HandleTask<D, L> {
    pub(super) target: Target<D>,
    pub(super) protocol: L,
    pub(super) options: Options,
    pub(super) events: Arc<EventQueue>,
    pub(super) commands: Arc<CommandQueue>,
    pub(super) reconnector: Reconnector,
    pub(super) gap_tracker: GapTracker,
    pub(super) arrival_stats: ArrivalStats,
    pub(super) connections: u64,
    pub(super) malformed_shown: u32,
}

/// A session and its subscriptions.
pub(super) struct LiveSession<D: Dial, L> {
    pub(super) session: Session<D::Stream, L>,
    pub(super) progress: SessionProgress,
}

enum TaskFlow {
    Go,
    Stop,
}

impl<D: Dial, L: FeedProtocol + Clone + Send> HandleTask<D, L> {
    pub(super) fn new(
        target: Target<D>,
        protocol: L,
        options: Options,
        events: Arc<EventQueue>,
        commands: Arc<CommandQueue>,
    ) -> Self {
        let tag = match options.name.as_str() {
            "" => String::new(),
            name => format!(" [{name}]"),
        };
        let metrics = Arc::clone(&options.metrics);
        let host = options.hosts.host(&target.dial.host(), &options.policy);
        Self {
            reconnector: Reconnector::new(
                options.policy,
                host,
                Arc::clone(&metrics),
                "messages",
                tag.clone(),
            )
            .with_setting_names(options.setting_names),
            gap_tracker: GapTracker::new(metrics, tag, options.policy.limits().stable_after),
            target,
            protocol,
            options,
            events,
            commands,
            arrival_stats: ArrivalStats::default(),
            connections: 0,
            malformed_shown: 0,
        }
    }

    /// Makes one attempt to connect.
    pub(super) async fn connect(&mut self) -> Result<LiveSession<D, L>, FeedError> {
        self.gap_tracker.on_dial();
        let limits = *self.options.policy.limits();
        let mut subscriptions =
            SubscriptionState::new(self.protocol.clone(), limits.initial_delay, limits.max_delay)
                .with_sessions_before(self.connections);
        let pace = self.options.replay_pace;
        let progress = SessionProgress::replay(&self.commands, &mut subscriptions, pace, now());
        let request = upgrade::request(
            &self.target.path,
            self.options.origin.as_deref(),
            self.options.user_agent.as_deref(),
            self.options.credential.as_ref(),
        );
        let request = UpgradeRequest {
            authority: &self.target.authority,
            request: &request,
            subprotocol: subscriptions.subprotocol(),
        };
        let session = open(&self.target.dial, &request, subscriptions, &limits).await;
        let session =
            session.inspect_err(|error| self.gap_tracker.on_dial_failed(&error.chain()))?;
        Ok(LiveSession { session, progress })
    }

    /// Connects, with retries by the policy.
    pub(super) async fn connect_retrying(&mut self) -> Result<LiveSession<D, L>, RetriesExhausted> {
        loop {
            let lifetime = match self.connect_when_permitted().await {
                Ok(session) => return Ok(session),
                Err(error) => ConnectionLifetime::failed(error),
            };
            let delay = self.back_off(&lifetime).await;
            if delay.is_last {
                return Err(RetriesExhausted {
                    attempts: delay.attempt,
                    last: Some(lifetime.error),
                });
            }
        }
    }

    /// Runs until the end, starting with `session` if there is one.
    pub(super) async fn run(mut self, mut session: Option<LiveSession<D, L>>) {
        let commands = Arc::clone(&self.commands);
        loop {
            let lifetime = match session.take() {
                Some(session) => self.serve(session).await,
                None => {
                    let connected = tokio::select! {
                        biased;
                        () = commands.stopped() => break,
                        connected = self.connect_when_permitted() => connected,
                    };
                    match connected {
                        Ok(session) => self.serve(session).await,
                        Err(error) => Some(ConnectionLifetime::failed(error)),
                    }
                }
            };
            let Some(lifetime) = lifetime else { break };
            let waiting = self.wait(lifetime);
            let flow = tokio::select! {
                biased;
                () = commands.stopped() => TaskFlow::Stop,
                flow = waiting => flow,
            };
            if let TaskFlow::Stop = flow {
                break;
            }
        }
        self.return_unsent();
        self.commands.stop();
        self.events.close();
    }

    /// Acquires a permit of the host, then connects.
    pub(super) async fn connect_when_permitted(&mut self) -> Result<LiveSession<D, L>, FeedError> {
        self.reconnector.acquire_permit().await;
        self.connect().await
    }

    /// Handles the end of a connection and waits for the next attempt.
    async fn wait(&mut self, lifetime: ConnectionLifetime) -> TaskFlow {
        let delay = self.back_off(&lifetime).await;
        if !delay.is_last {
            return TaskFlow::Go;
        }
        let gave_up = RetriesExhausted { attempts: delay.attempt, last: Some(lifetime.error) };
        self.return_unsent();
        self.events.push_notice(HandleEvent::Disconnected(StopReason::GaveUp(gave_up)));
        TaskFlow::Stop
    }

    async fn back_off(&mut self, lifetime: &ConnectionLifetime) -> RetryDelay {
        let delay = self.reconnector.on_connection_ended(lifetime);
        if delay.is_last {
            return delay;
        }
        let RetryDelay { attempt, wait, ref cause, .. } = delay;
        self.events.push_notice(HandleEvent::Reconnecting { attempt, wait, cause: cause.clone() });
        tokio::time::sleep(wait).await;
        if delay.needs_credential
            && let Some(fresh) = fresh_credential(self.options.credential_source.as_ref()).await
        {
            self.options.credential = Some(fresh);
        }
        delay
    }

    /// Runs a session until its end. Returns `None` after a stop.
    async fn serve(&mut self, live: LiveSession<D, L>) -> Option<ConnectionLifetime> {
        let LiveSession { mut session, mut progress } = live;
        tracing::info!("Connected{}", self.reconnector.tag());
        if let Some(gap) = self.gap_tracker.on_connected() {
            self.events.push_notice(HandleEvent::Reconnected { gap });
        }
        self.arrival_stats.interrupt();
        self.connections = self.connections.saturating_add(1);
        let since = now();
        let mut handler = HandleSession {
            events: &self.events,
            commands: &self.commands,
            metrics: &self.options.metrics,
            gap_tracker: &self.gap_tracker,
            tag: self.reconnector.tag(),
            malformed_shown: &mut self.malformed_shown,
            connection: self.connections,
            pace: self.options.replay_pace,
            healthy_on_delivery: self.reconnector.healthy_on_delivery(),
            mark_healthy: Some(self.reconnector.healthy_callback()),
            progress: &mut progress,
        };
        let ended = tokio::select! {
            biased;
            () = self.commands.stopped() => None,
            ended = session.run(&mut handler, &mut self.arrival_stats) => Some(ended),
        };
        for (text, written) in session.unwritten() {
            self.events.push_notice(HandleEvent::NotSent { text, written });
        }
        let Some(ended) = ended else {
            session.close(1_000).await;
            return None;
        };
        self.options.metrics.record_end(&ended);
        self.gap_tracker.on_disconnected(session.alive_until(&ended), &ended.chain());
        let uptime = now().saturating_duration_since(since);
        // A connection that was lost before all topics were subscribed to was no session.
        if progress.replay_until.is_some_and(|until| now() < until) {
            return Some(ConnectionLifetime::failed(ended));
        }
        Some(ConnectionLifetime::ended(uptime, progress.delivered, ended))
    }

    /// Returns the queued texts, which will not be sent, to the owner.
    fn return_unsent(&self) {
        for text in self.commands.take_sends() {
            self.events.push_notice(HandleEvent::NotSent { text, written: WriteProgress::Nothing });
        }
    }
}
