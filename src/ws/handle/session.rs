//! Stands between a session and a handle's owner: messages and notices out, wishes in.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    command_queue::{CommandQueue, WantedTopic, difference},
    event::{HandleEvent, ServerMessage, SubscriptionError},
    event_queue::EventQueue,
};
use crate::{
    clock,
    json::RawValue,
    latency::RxTimestamps,
    text::Escaped,
    ws::{
        gap_tracker::GapTracker,
        metrics::{FeedMetrics, add},
        protocol::{FeedProtocol, OperationId, Subscription, SubscriptionState},
        session::{SessionCommand, SessionHandler, SessionNotice},
    },
};

/// Hears one session on behalf of a handle.
pub(super) struct HandleSession<'h, P> {
    pub(super) mailbox: &'h EventQueue,
    pub(super) orders: &'h CommandQueue,
    pub(super) taps: &'h FeedMetrics,
    pub(super) link: &'h GapTracker,
    /// Which connection this is, counted from 1.
    pub(super) connection: u64,
    /// How long between two subscriptions.
    pub(super) pace: Duration,
    pub(super) proves_by_delivery: bool,
    pub(super) proved: Option<P>,
    pub(super) progress: &'h mut SessionProgress,
}

/// What one session has done so far.
#[derive(Debug, Default)]
pub(super) struct SessionProgress {
    /// Messages delivered.
    pub(super) delivered: u64,
    /// When the last subscription of the replay is due; the session is no session before that.
    pub(super) replay_until: Option<Instant>,
    version: Option<u64>,
    live: HashMap<Arc<str>, OperationId>,
    by_operation: HashMap<OperationId, WantedTopic>,
    coming: VecDeque<WantedTopic>,
    going: VecDeque<OperationId>,
    /// The topic whose operation is about to be told.
    asked: Option<WantedTopic>,
    next_at: Option<Instant>,
    /// Of which operation the message is that is being read.
    reading: Option<OperationId>,
}

impl SessionProgress {
    /// Wants everything that is wanted now of a new link, one after the other at this pace.
    pub(super) fn replay<L: FeedProtocol>(
        orders: &CommandQueue,
        machine: &mut SubscriptionState<L>,
        pace: Duration,
        now: Instant,
    ) -> Self {
        let mut progress = Self::default();
        let mut at = now;
        for wanted in orders.topics(&mut progress.version).unwrap_or_default() {
            progress.replay_until = Some(at);
            let topic = wanted.topic.to_string();
            let operation = machine.want(Subscription { topic, is_optional: false }, at);
            progress.live.insert(Arc::clone(&wanted.topic), operation);
            progress.by_operation.insert(operation, wanted);
            at = at.checked_add(pace).unwrap_or(at);
        }
        progress.next_at = progress.replay_until.map(|_| at);
        progress
    }
}

impl<P: FnMut()> HandleSession<'_, P> {
    fn prove(&mut self) {
        if let Some(mut proved) = self.proved.take() {
            proved();
        }
    }

    /// Compares what is wanted with what is live, if that has changed.
    fn reconcile(&mut self) {
        let progress = &mut *self.progress;
        let Some(wanted) = self.orders.topics(&mut progress.version) else { return };
        let (coming, going) = difference(&progress.live, &wanted);
        for (topic, operation) in going {
            progress.live.remove(&topic);
            progress.by_operation.remove(&operation);
            progress.going.push_back(operation);
        }
        progress.coming = coming.into();
    }

    fn next_want(&mut self, now: Instant) -> Option<SessionCommand> {
        let wanted = self.progress.coming.pop_front()?;
        let at = self.progress.next_at.map_or(now, |at| at.max(now));
        self.progress.next_at = at.checked_add(self.pace);
        let topic = wanted.topic.to_string();
        self.progress.asked = Some(wanted);
        Some(SessionCommand::Want(Subscription { topic, is_optional: false }, at))
    }
}

impl<P: FnMut()> SessionHandler for HandleSession<'_, P> {
    type Payload<'a> = RawValue<'a>;

    fn arrived(&mut self, text: &str) {
        add(&self.taps.frames, 1);
        add(&self.taps.bytes, u64::try_from(text.len()).unwrap_or(u64::MAX));
    }

    fn data(
        &mut self,
        of: Option<OperationId>,
        _payload: RawValue<'_>,
        _arrival: RxTimestamps,
    ) -> bool {
        self.progress.reading = of;
        true
    }

    fn served(&mut self, text: &str, at: Instant, is_data: bool) {
        if !is_data {
            return;
        }
        let operation = self.progress.reading.take();
        let wanted = operation.and_then(|operation| self.progress.by_operation.get(&operation));
        self.mailbox.message(ServerMessage {
            text: text.to_owned(),
            topic: wanted.map(|wanted| Arc::clone(&wanted.topic)),
            request_id: wanted.and_then(|wanted| wanted.request_id),
            connection: self.connection,
            received: at,
            received_ns: clock::now_ns(),
        });
        self.progress.delivered = self.progress.delivered.saturating_add(1);
        self.link.data();
        if self.proves_by_delivery && self.proved.is_some() {
            self.prove();
        }
    }

    fn notice(&mut self, notice: SessionNotice<'_>) {
        match notice {
            SessionNotice::Malformed { text, error } => {
                add(&self.taps.malformed, 1);
                tracing::warn!(
                    "A message that is not JSON was dropped ({error}): {}",
                    Escaped(text)
                );
            }
            SessionNotice::Binary(bytes) => {
                add(&self.taps.malformed, 1);
                tracing::warn!("A binary message of {bytes} bytes was dropped");
            }
            SessionNotice::Unknown(_) => add(&self.taps.unknown, 1),
            SessionNotice::Ended { operation, error, again_in } => {
                add(&self.taps.ended, 1);
                let Some(wanted) = self.progress.by_operation.get(&operation) else { return };
                let cause = match error {
                    Some(error) => SubscriptionError::Error(Escaped(error.0).to_string()),
                    None => SubscriptionError::Completed,
                };
                let topic = Arc::clone(&wanted.topic);
                self.mailbox.notice(HandleEvent::Ended { topic, cause, again_in });
            }
            SessionNotice::Asked { .. } => {}
            SessionNotice::Renewed => tracing::info!("No data for a while; subscribing again"),
            SessionNotice::Stable => self.prove(),
        }
    }

    fn poll_command(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<SessionCommand> {
        self.orders.register(cx);
        self.reconcile();
        if let Some(operation) = self.progress.going.pop_front() {
            return Poll::Ready(SessionCommand::Unwant(operation));
        }
        if let Some(want) = self.next_want(now) {
            return Poll::Ready(want);
        }
        match self.orders.next_send() {
            Some(text) => Poll::Ready(SessionCommand::Send(text)),
            None => Poll::Pending,
        }
    }

    fn wanted(&mut self, operation: OperationId) {
        if let Some(wanted) = self.progress.asked.take() {
            self.progress.live.insert(Arc::clone(&wanted.topic), operation);
            self.progress.by_operation.insert(operation, wanted);
        }
    }
}
