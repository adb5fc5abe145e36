//! The session handler of a handle: forwards messages and notices, and applies the owner's
//! commands.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    command_queue::{CommandQueue, RequestedTopic, difference},
    event::{HandleEvent, ServerMessage, SubscriptionError},
    event_queue::EventQueue,
};
use crate::{
    clock,
    domain::latency::RxTimestamps,
    protocol::{FeedMessage, FeedProtocol, OperationId, SubscriptionState},
    text::Escaped,
    ws::{
        gap_tracker::{GapTracker, Seconds},
        metrics::{FeedMetrics, add},
        session::{SessionCommand, SessionHandler, SessionNotice, now},
    },
};

/// Maximum number of malformed messages of a handle that are logged.
const MALFORMED_SHOWN_MAX: u32 = 10;

/// Handles the events of one session for a handle.
pub(super) struct HandleSession<'h, P> {
    pub(super) events: &'h EventQueue,
    pub(super) commands: &'h CommandQueue,
    pub(super) metrics: &'h FeedMetrics,
    pub(super) gap_tracker: &'h GapTracker,
    /// Suffix of log lines that identifies the connection: empty, or with a leading space.
    pub(super) tag: &'h str,
    /// Number of malformed messages so far.
    pub(super) malformed_shown: &'h mut u32,
    /// Number of the connection, counted from 1.
    pub(super) connection: u64,
    /// Delay between two subscriptions.
    pub(super) pace: Duration,
    pub(super) healthy_on_delivery: bool,
    pub(super) mark_healthy: Option<P>,
    pub(super) progress: &'h mut SessionProgress,
}

/// Progress of one session.
#[derive(Debug, Default)]
pub(super) struct SessionProgress {
    pub(super) delivered: u64,
    /// Due time of the last replayed subscription. An end before it counts as a failed attempt.
    pub(super) replay_until: Option<Instant>,
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
    pub(super) fn replay<L: FeedProtocol>(
        commands: &CommandQueue,
        subscriptions: &mut SubscriptionState<L>,
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

impl<P: FnMut()> HandleSession<'_, P> {
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

impl<L: FeedProtocol, P: FnMut()> SessionHandler<L> for HandleSession<'_, P> {
    type Payload<'a> = ();

    fn decode<'a>(&self, input: &mut L::Input<'a>) -> Result<Self::Payload<'a>, L::DecodeError> {
        L::skip(input)
    }

    fn on_message(&mut self, message: FeedMessage<'_>) {
        add(&self.metrics.frames, 1);
        add(&self.metrics.bytes, u64::try_from(message.len()).unwrap_or(u64::MAX));
    }

    fn on_data(&mut self, of: Option<OperationId>, _payload: (), _arrival: RxTimestamps) -> bool {
        self.progress.reading = of;
        self.progress.is_delivery = true;
        let requested = of.and_then(|operation| self.progress.by_operation.get(&operation));
        requested.is_none_or(|requested| !requested.is_optional)
    }

    fn on_handled(&mut self, message: FeedMessage<'_>, at: Instant, is_data: bool) {
        // Recordings and the events of a handle contain texts only.
        let Ok(text) = message.text() else { return };
        if let Some(recorder) = self.metrics.recorder() {
            let connection = u32::try_from(self.connection).unwrap_or(u32::MAX);
            recorder.on_message(connection, text, at, is_data);
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
                *self.malformed_shown = self.malformed_shown.saturating_add(1);
                if *self.malformed_shown <= MALFORMED_SHOWN_MAX {
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
