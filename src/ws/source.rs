//! A common trait for sources of events.
//!
//! Code that uses [`EventSource`] accepts a [`SingleConnection`](super::handle::SingleConnection),
//! a [`ReconnectingSource`] around one, or a [`Handle`].

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    FeedError, FeedMetrics, Gap, RetriesExhausted,
    gaps::GapTracker,
    handle::{Handle, HandleError, HandleEvent, StopReason},
    policy::ReconnectPolicy,
    reconnector::{ConnectionLifetime, Host, Reconnector, RetryDelay, tag_of},
    session::now,
};

/// A source of events with topics.
pub trait EventSource: Send {
    fn name(&self) -> &str;

    /// Makes one attempt to connect.
    ///
    /// # Errors
    ///
    /// Returns the [`FeedError`] of the failed attempt.
    fn connect(&mut self) -> impl Future<Output = Result<(), FeedError>> + Send;

    /// Subscribes to a topic, at once or as soon as the source is connected.
    ///
    /// # Errors
    ///
    /// Returns a [`HandleError`] after the end of the source, or beyond its maximum number of
    /// topics.
    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError>;

    /// Returns the next event, or `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is either returned or kept for the next call.
    fn next_event(&mut self) -> impl Future<Output = Option<HandleEvent>> + Send;
}

impl EventSource for Handle {
    fn name(&self) -> &str {
        Self::name(self)
    }

    /// Does nothing: a handle connects by itself.
    async fn connect(&mut self) -> Result<(), FeedError> {
        Ok(())
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError> {
        Self::subscribe(self, topic).map(drop)
    }

    async fn next_event(&mut self) -> Option<HandleEvent> {
        self.recv().await
    }
}

/// Wraps a source and reconnects it by a policy.
///
/// Topics are subscribed to again after each reconnect. All work happens inside
/// [`next_event`](EventSource::next_event); there is no background task.
#[derive(Debug)]
pub struct ReconnectingSource<S> {
    inner: S,
    reconnector: Reconnector,
    gap_tracker: GapTracker,
    topics: Vec<String>,
    state: State,
}

/// Wait after an attempt that was cancelled because its future was dropped.
const CANCELLED_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum State {
    /// Not connected yet, or given up.
    Idle,
    Up {
        since: Instant,
        alive: Instant,
        messages: u64,
        /// `true` if the first message marks the session as healthy.
        awaits_delivery: bool,
    },
    Waiting {
        until: Instant,
    },
}

impl<S: EventSource> ReconnectingSource<S> {
    /// Wraps a source. The circuit breaker of `host` is shared with other connections, see
    /// [`Hosts`](super::Hosts).
    pub fn new(inner: S, policy: ReconnectPolicy, host: Arc<Host>) -> Self {
        let tag = tag_of(inner.name());
        let metrics = Arc::new(FeedMetrics::default());
        Self {
            reconnector: Reconnector::new(
                policy,
                host,
                Arc::clone(&metrics),
                "messages",
                tag.clone(),
            ),
            gap_tracker: GapTracker::new(metrics, tag, policy.limits().stable_after),
            inner,
            topics: Vec::new(),
            state: State::Idle,
        }
    }

    /// Returns the intervals in which no event could arrive.
    pub fn connection_gaps(&self) -> Vec<Gap> {
        self.gap_tracker.gaps()
    }

    /// Makes one attempt to connect and subscribes to all topics.
    async fn attempt(&mut self) -> Result<Option<HandleEvent>, FeedError> {
        self.gap_tracker.on_dial();
        self.inner.connect().await?;
        for topic in &self.topics {
            // Known topics are ignored; a topic that is rejected now was rejected before.
            let _already_known = self.inner.subscribe(topic);
        }
        let now = now();
        let awaits_delivery = self.reconnector.healthy_on_delivery();
        self.state = State::Up { since: now, alive: now, messages: 0, awaits_delivery };
        Ok(self.gap_tracker.on_connected().map(|gap| HandleEvent::Reconnected { gap }))
    }

    /// Schedules the next attempt and returns the event that reports it.
    fn schedule_retry(&mut self, lifetime: ConnectionLifetime) -> HandleEvent {
        let RetryDelay { wait, attempt, cause, is_last, .. } =
            self.reconnector.on_connection_ended(&lifetime);
        if is_last {
            self.state = State::Idle;
            let gave_up = RetriesExhausted { attempts: attempt, last: Some(lifetime.error) };
            return HandleEvent::Disconnected(StopReason::GaveUp(gave_up));
        }
        let now = now();
        self.state = State::Waiting { until: now.checked_add(wait).unwrap_or(now) };
        HandleEvent::Reconnecting { attempt, wait, cause }
    }

    fn on_ended(&mut self, error: Option<FeedError>) -> HandleEvent {
        // A custom source may return no error.
        let ended = error.unwrap_or(FeedError::Cut);
        let State::Up { since, alive, messages, .. } = self.state else {
            return self.schedule_retry(ConnectionLifetime::ended(Duration::ZERO, 0, ended));
        };
        self.gap_tracker.on_disconnected(alive, &ended.chain());
        let uptime = now().saturating_duration_since(since);
        self.schedule_retry(ConnectionLifetime::ended(uptime, messages, ended))
    }

    /// Updates the state of the session after an event.
    fn on_event(&mut self, event: &HandleEvent) {
        let State::Up { alive, messages, awaits_delivery, .. } = &mut self.state else { return };
        let HandleEvent::Message(message) = event else { return };
        *alive = message.received;
        *messages = messages.saturating_add(1);
        self.gap_tracker.on_data();
        if std::mem::take(awaits_delivery) {
            self.reconnector.healthy_callback()();
        }
    }
}

impl<S: EventSource> EventSource for ReconnectingSource<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn connect(&mut self) -> Result<(), FeedError> {
        self.attempt().await.map(drop)
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError> {
        self.inner.subscribe(topic)?;
        if !self.topics.iter().any(|known| known == topic) {
            self.topics.push(topic.to_owned());
        }
        Ok(())
    }

    async fn next_event(&mut self) -> Option<HandleEvent> {
        loop {
            match self.state {
                State::Idle => return None,
                State::Waiting { until } => {
                    tokio::time::sleep_until(until.into()).await;
                    self.reconnector.acquire_permit().await;
                    // If this future is dropped during the attempt, the next attempt must still
                    // wait.
                    let now = now();
                    let later = now.checked_add(CANCELLED_WAIT).unwrap_or(now);
                    self.state = State::Waiting { until: later };
                    match self.attempt().await {
                        Ok(Some(event)) => return Some(event),
                        Ok(None) => {}
                        Err(error) => {
                            return Some(self.schedule_retry(ConnectionLifetime::failed(error)));
                        }
                    }
                }
                State::Up { .. } => match self.inner.next_event().await {
                    None => return Some(self.on_ended(None)),
                    Some(HandleEvent::Disconnected(StopReason::Ended(error))) => {
                        return Some(self.on_ended(error));
                    }
                    Some(event) => {
                        self.on_event(&event);
                        return Some(event);
                    }
                },
            }
        }
    }
}
