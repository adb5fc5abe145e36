//! The background task of a handle: connects, runs sessions and waits, until it is stopped or gives
//! up. Its session handler forwards messages and notices, and applies the owner's commands.
//!
//! Every wait is raced against the stop, so a stop takes effect at once in every state; a live
//! connection is closed with 1000.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::error::TryRecvError;
use tracing::{info, warn};

use super::{
    HandleError, HandleEvent, Options, ServerMessage, StopReason, SubscriptionError, Target,
    planner::Planner,
    queues::{CommandQueue, EventQueue, RequestedTopic, difference},
};
use crate::{
    clock,
    markets::DialPlan,
    protocol::{FeedMessage, FeedProtocol, OperationId, SubscriptionState},
    text::Escaped,
    ws::{
        FeedError, RetriesExhausted,
        connect::{Arrival, Dial, HandledBytes, open},
        frames::WsMessage,
        gaps::{GapTracker, Seconds},
        metrics::{FeedMetrics, HandledMessage, add},
        reconnector::{ConnectionLifetime, Reconnector, RetryDelay, fresh_credential, tag_of},
        session::{Session, SessionCommand, SessionHandler, SessionNotice, WriteProgress, now},
        source::EventSource,
        upgrade,
        watchdog::ArrivalStats,
    },
};

pub(super) struct HandleTask<D, P> {
    target: Target<D>,
    protocol: P,
    /// Prepares each connection; `None` uses the options and `protocol`.
    pub(super) planner: Option<Planner<P>>,
    pub(super) options: Options,
    pub(super) events: Arc<EventQueue>,
    pub(super) commands: Arc<CommandQueue>,
    reconnector: Reconnector,
    gap_tracker: GapTracker,
    arrival_stats: ArrivalStats,
    connections: u64,
    malformed_count: u32,
}

/// A session and its subscriptions.
pub(super) struct LiveSession<D: Dial, P> {
    session: Session<D::Stream, P>,
    progress: SessionProgress,
}

impl<D: Dial, P: FeedProtocol + Clone + Send + 'static> HandleTask<D, P> {
    pub(super) fn new(target: Target<D>, protocol: P, options: Options) -> Self {
        let tag = tag_of(&options.name);
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
            events: Arc::new(EventQueue::new(options.channel_capacity, options.channel_bytes)),
            commands: Arc::new(CommandQueue::from_options(&options)),
            target,
            protocol,
            planner: None,
            options,
            arrival_stats: ArrivalStats::default(),
            connections: 0,
            malformed_count: 0,
        }
    }

    /// Makes one attempt to connect.
    pub(super) async fn connect(&mut self) -> Result<LiveSession<D, P>, FeedError> {
        self.gap_tracker.on_dial();
        let limits = *self.options.policy.limits();
        let options = &self.options;
        let (request, protocol) = match &self.planner {
            Some(planner) => {
                let plan = planner.plan(options.credential.clone());
                let DialPlan { upgrade, protocol } = plan
                    .await
                    .inspect_err(|error| self.gap_tracker.on_dial_failed(&error.chain()))?;
                (upgrade, protocol)
            }
            None => {
                let request = upgrade::request(
                    &self.target.path,
                    options.origin.as_deref(),
                    options.user_agent.as_deref(),
                    options.credential.as_ref(),
                );
                (request, self.protocol.clone())
            }
        };
        let mut subscriptions =
            SubscriptionState::new(protocol, limits.initial_delay, limits.max_delay)
                .with_sessions_before(self.connections);
        let pace = self.options.replay_pace;
        let progress = SessionProgress::replay(&self.commands, &mut subscriptions, pace, now());
        let Target { dial, authority, .. } = &self.target;
        let session = open(dial, authority, &request, subscriptions, &limits).await;
        let session =
            session.inspect_err(|error| self.gap_tracker.on_dial_failed(&error.chain()))?;
        Ok(LiveSession { session, progress })
    }

    /// Connects, with retries by the policy.
    pub(super) async fn connect_retrying(&mut self) -> Result<LiveSession<D, P>, RetriesExhausted> {
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
    pub(super) async fn run(mut self, mut session: Option<LiveSession<D, P>>) {
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
            let is_over = tokio::select! {
                biased;
                () = commands.stopped() => true,
                gave_up = self.wait(lifetime) => gave_up,
            };
            if is_over {
                break;
            }
        }
        self.return_unsent();
        self.events.close();
    }

    /// Acquires a permit of the host, then connects.
    async fn connect_when_permitted(&mut self) -> Result<LiveSession<D, P>, FeedError> {
        self.reconnector.acquire_permit().await;
        self.connect().await
    }

    /// Handles the end of a connection and waits for the next attempt. Returns `true` if there is
    /// none.
    async fn wait(&mut self, lifetime: ConnectionLifetime) -> bool {
        let delay = self.back_off(&lifetime).await;
        if !delay.is_last {
            return false;
        }
        let gave_up = RetriesExhausted { attempts: delay.attempt, last: Some(lifetime.error) };
        self.return_unsent();
        self.events.push_notice(HandleEvent::Disconnected(StopReason::GaveUp(gave_up)));
        true
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
    async fn serve(&mut self, live: LiveSession<D, P>) -> Option<ConnectionLifetime> {
        let LiveSession { mut session, mut progress } = live;
        info!("Connected{}", self.reconnector.tag());
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
            malformed_count: &mut self.malformed_count,
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

    /// Stops the commands and returns the queued texts, which will not be sent, to the owner. The
    /// stop comes first, so that no text is accepted after the others were returned.
    fn return_unsent(&self) {
        self.commands.stop();
        for text in self.commands.take_sends() {
            self.events.push_notice(HandleEvent::NotSent { text, written: WriteProgress::Nothing });
        }
    }
}

/// Maximum number of malformed messages of a handle that are logged.
const MALFORMED_LOGGED_MAX: u32 = 10;

/// Handles the events of one session for a handle.
struct HandleSession<'h, F> {
    events: &'h EventQueue,
    commands: &'h CommandQueue,
    metrics: &'h FeedMetrics,
    gap_tracker: &'h GapTracker,
    /// Suffix of log lines that identifies the connection: empty, or with a leading space.
    tag: &'h str,
    /// Number of malformed messages of all connections so far.
    malformed_count: &'h mut u32,
    /// Number of the connection, counted from 1.
    connection: u64,
    /// Delay between two subscriptions.
    pace: Duration,
    healthy_on_delivery: bool,
    mark_healthy: Option<F>,
    progress: &'h mut SessionProgress,
}

/// Progress of one session.
#[derive(Debug, Default)]
struct SessionProgress {
    delivered: u64,
    /// Due time of the last replayed subscription. An end before it counts as a failed attempt.
    replay_until: Option<Instant>,
    version: Option<u64>,
    live: HashMap<Arc<str>, OperationId>,
    by_operation: HashMap<OperationId, RequestedTopic>,
    to_subscribe: VecDeque<RequestedTopic>,
    to_unsubscribe: VecDeque<OperationId>,
    /// The topic that waits for its operation id.
    pending: Option<RequestedTopic>,
    next_at: Option<Instant>,
    /// `true` while a message of a subscription is handled.
    is_delivery: bool,
    /// Operation of the message that is being handled.
    reading: Option<OperationId>,
}

impl SessionProgress {
    /// Subscribes to all topics on a new connection, with a delay of `pace` between them.
    fn replay<P: FeedProtocol>(
        commands: &CommandQueue,
        subscriptions: &mut SubscriptionState<P>,
        pace: Duration,
        now: Instant,
    ) -> Self {
        let mut progress = Self::default();
        let mut at = now;
        for requested in commands.topics(&mut progress.version).unwrap_or_default() {
            progress.replay_until = Some(at);
            let operation = subscriptions.subscribe(requested.subscription(), at);
            progress.live.insert(Arc::clone(&requested.topic), operation);
            progress.by_operation.insert(operation, requested);
            at = at.checked_add(pace).unwrap_or(at);
        }
        progress.next_at = progress.replay_until.map(|_| at);
        progress
    }
}

impl<F: FnMut()> HandleSession<'_, F> {
    fn mark_healthy(&mut self) {
        if let Some(mut mark_healthy) = self.mark_healthy.take() {
            mark_healthy();
        }
    }

    /// Compares the requested topics with the live ones, if they have changed.
    fn reconcile(&mut self) {
        let progress = &mut *self.progress;
        let Some(requested) = self.commands.topics(&mut progress.version) else { return };
        let (to_subscribe, to_unsubscribe) = difference(&progress.live, &requested);
        for (topic, operation) in to_unsubscribe {
            progress.live.remove(&topic);
            progress.by_operation.remove(&operation);
            progress.to_unsubscribe.push_back(operation);
        }
        progress.to_subscribe = to_subscribe.into();
    }

    fn next_subscription(&mut self, now: Instant) -> Option<SessionCommand> {
        let requested = self.progress.to_subscribe.pop_front()?;
        let at = self.progress.next_at.map_or(now, |at| at.max(now));
        self.progress.next_at = at.checked_add(self.pace);
        let subscription = requested.subscription();
        self.progress.pending = Some(requested);
        Some(SessionCommand::Subscribe(subscription, at))
    }

    fn queue_message(&self, text: &str, at: Instant, operation: Option<OperationId>) {
        let requested = operation.and_then(|operation| self.progress.by_operation.get(&operation));
        self.events.push_message(ServerMessage {
            text: text.to_owned(),
            topic: requested.map(|requested| Arc::clone(&requested.topic)),
            request_id: requested.and_then(|requested| requested.request_id),
            connection: self.connection,
            received: at,
            received_ns: clock::now_ns(),
        });
    }

    /// Handles the end of a subscription on a live connection.
    fn on_ended(&self, operation: OperationId, error: Option<&str>, retry_in: Option<Duration>) {
        let tag = self.tag;
        let cause = Escaped(error.unwrap_or("completed by the server"));
        match retry_in.map(Seconds) {
            Some(wait) => warn!("Subscription ended, retrying in {wait}{tag}: {cause}"),
            None => warn!("Subscription ended, not retried on this connection{tag}: {cause}"),
        }
        let Some(requested) = self.progress.by_operation.get(&operation) else { return };
        if !requested.is_optional
            && let Some(recorder) = self.metrics.recorder()
        {
            recorder.on_unsubscribed(now(), &format!("the subscription ended: {cause}"));
        }
        let cause = match error {
            Some(_error) => SubscriptionError::Error(cause.to_string()),
            None => SubscriptionError::Completed,
        };
        let topic = Arc::clone(&requested.topic);
        self.events.push_notice(HandleEvent::Ended { topic, cause, retry_in });
    }
}

impl<P: FeedProtocol, F: FnMut()> SessionHandler<P> for HandleSession<'_, F> {
    type Payload<'a> = ();

    fn decode<'a>(&self, input: &mut P::Input<'a>) -> Result<Self::Payload<'a>, P::DecodeError> {
        P::skip(input)
    }

    fn on_message(&mut self, message: FeedMessage<'_>) {
        add(&self.metrics.frames, 1);
        add(&self.metrics.bytes, u64::try_from(message.len()).unwrap_or(u64::MAX));
    }

    fn on_data(&mut self, of: Option<OperationId>, _payload: (), _arrival: &Arrival<'_>) -> bool {
        self.progress.reading = of;
        self.progress.is_delivery = true;
        let requested = of.and_then(|operation| self.progress.by_operation.get(&operation));
        requested.is_none_or(|requested| !requested.is_optional)
    }

    fn on_handled(&mut self, handled: HandledBytes<'_>) {
        // Recordings and the events of a handle contain texts only.
        let WsMessage::Text(text) = handled.message() else { return };
        let HandledMessage { at, is_data, .. } = handled.handled;
        if let Some(recorder) = self.metrics.recorder() {
            let connection = u32::try_from(self.connection).unwrap_or(u32::MAX);
            recorder.on_message(connection, text, handled.handled);
        }
        if !std::mem::take(&mut self.progress.is_delivery) {
            return;
        }
        let operation = self.progress.reading.take();
        if self.events.takes_messages() {
            self.queue_message(text, at, operation);
        }
        self.progress.delivered = self.progress.delivered.saturating_add(1);
        if is_data {
            self.gap_tracker.on_data();
        }
        if self.healthy_on_delivery {
            self.mark_healthy();
        }
    }

    fn on_notice(&mut self, notice: SessionNotice<'_>) {
        match notice {
            SessionNotice::Malformed { message, error } => {
                add(&self.metrics.malformed, 1);
                *self.malformed_count = self.malformed_count.saturating_add(1);
                if *self.malformed_count <= MALFORMED_LOGGED_MAX {
                    warn!("Malformed message ({error}){}: {message}", self.tag);
                }
            }
            SessionNotice::UnusedKind(message) => {
                add(&self.metrics.malformed, 1);
                match self.metrics.recorder() {
                    Some(recorder) => recorder.on_binary(),
                    None => {
                        let kind = message.kind();
                        warn!("{kind} message dropped{}: {message}", self.tag);
                    }
                }
            }
            SessionNotice::Unknown(_) => add(&self.metrics.unknown, 1),
            SessionNotice::Ended { operation, error, retry_in } => {
                add(&self.metrics.ended, 1);
                self.on_ended(operation, error, retry_in);
            }
            SessionNotice::Resubscribed { .. } => {}
            SessionNotice::Resubscribing { silent } => {
                info!("No messages for {}, resubscribing{}", Seconds(silent), self.tag);
            }
            SessionNotice::Stable => self.mark_healthy(),
        }
    }

    fn poll_command(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<SessionCommand> {
        self.commands.register(cx);
        self.reconcile();
        if let Some(operation) = self.progress.to_unsubscribe.pop_front() {
            return Poll::Ready(SessionCommand::Unsubscribe(operation));
        }
        if let Some(command) = self.next_subscription(now) {
            return Poll::Ready(command);
        }
        match self.commands.next_send() {
            Some(text) => Poll::Ready(SessionCommand::Send(text)),
            None => Poll::Pending,
        }
    }

    fn on_subscribed(&mut self, operation: OperationId) {
        if let Some(requested) = self.progress.pending.take() {
            self.progress.live.insert(Arc::clone(&requested.topic), operation);
            self.progress.by_operation.insert(operation, requested);
        }
    }
}

/// One connection. It reads and answers pings only while an event is awaited.
pub struct SingleConnection<D: Dial, P> {
    task: HandleTask<D, P>,
    live: Option<LiveSession<D, P>>,
}

impl<D: Dial, P: FeedProtocol + Clone + Send + 'static> SingleConnection<D, P> {
    pub fn new(target: Target<D>, protocol: P, options: Options) -> Self {
        Self { task: HandleTask::new(target, protocol, options), live: None }
    }

    /// Reads until there is an event or the session has ended.
    async fn read(&mut self) {
        let Some(live) = &mut self.live else { return };
        let HandleTask {
            events,
            commands,
            options,
            gap_tracker,
            reconnector,
            arrival_stats,
            connections,
            malformed_count,
            ..
        } = &mut self.task;
        let mut handler: HandleSession<'_, fn()> = HandleSession {
            events,
            commands,
            metrics: &options.metrics,
            gap_tracker,
            tag: reconnector.tag(),
            malformed_count,
            connection: *connections,
            pace: options.replay_pace,
            healthy_on_delivery: false,
            mark_healthy: None,
            progress: &mut live.progress,
        };
        let ended = {
            let mut run = pin!(live.session.run(&mut handler, arrival_stats));
            poll_fn(|cx| match run.as_mut().poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if events.has_event() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await
        };
        let Some(ended) = ended else { return };
        for (text, written) in live.session.unwritten() {
            events.push_notice(HandleEvent::NotSent { text, written });
        }
        options.metrics.record_end(&ended);
        gap_tracker.on_disconnected(live.session.alive_until(&ended), &ended.chain());
        events.push_notice(HandleEvent::Disconnected(StopReason::Ended(Some(ended))));
        self.live = None;
    }
}

impl<D: Dial, P: FeedProtocol + Clone + Send + Sync + 'static> EventSource
    for SingleConnection<D, P>
{
    fn name(&self) -> &str {
        &self.task.options.name
    }

    async fn connect(&mut self) -> Result<(), FeedError> {
        self.live = None;
        self.live = Some(self.task.connect().await?);
        self.task.gap_tracker.on_connected();
        self.task.arrival_stats.interrupt();
        self.task.connections = self.task.connections.saturating_add(1);
        Ok(())
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError> {
        self.task.commands.subscribe(topic.to_owned(), None).map(drop)
    }

    async fn next_event(&mut self) -> Option<HandleEvent> {
        loop {
            match self.task.events.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Empty) if self.live.is_some() => self.read().await,
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::endpoint::{Endpoint, Scheme},
        protocol::PlainJson,
    };

    #[test]
    fn no_text_is_accepted_after_the_unsent_ones_were_returned() {
        let endpoint = Endpoint::parse("ws://127.0.0.1:1/", Scheme::WebSocket).unwrap();
        let target = Target::tcp(endpoint, None).unwrap();
        let task = HandleTask::new(target, PlainJson::SILENT, Options::default());
        task.commands.send("queued".to_owned()).unwrap();
        task.return_unsent();
        assert!(matches!(task.events.try_recv(), Ok(HandleEvent::NotSent { .. })));
        assert_eq!(task.commands.send("lost".to_owned()), Err(HandleError::Stopped));
    }
}
