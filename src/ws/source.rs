//! Anything that events come from, in four functions.
//!
//! A caller that knows only this trait can be handed a [`Bare`](super::handle::Bare) connection, a
//! [`ReconnectingSource`] wrapper around it, or a whole [`Handle`], and need not know which.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    FeedError, FeedMetrics, Gap, RetriesExhausted,
    gap_tracker::GapTracker,
    handle::{Handle, HandleError, HandleEvent, StopReason},
    host_cooldown::Host,
    policy::ReconnectPolicy,
    reconnector::{ConnectionLifetime, Reconnector, RetryDelay},
    session::now,
};

/// Anything that events come from.
pub trait EventSource: Send {
    /// What it is called.
    fn name(&self) -> &str;

    /// Connects.
    ///
    /// # Errors
    ///
    /// Why the attempt failed.
    fn connect(&mut self) -> impl Future<Output = Result<(), FeedError>> + Send;

    /// Subscribes to a topic, now or as soon as it is connected.
    ///
    /// # Errors
    ///
    /// A [`HandleError`] when it is over, or too many topics are wanted.
    fn subscribe(&mut self, topic: &str) -> Result<(), HandleError>;

    /// The next event; `None` when none will come.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is either returned or still there.
    fn next_event(&mut self) -> impl Future<Output = Option<HandleEvent>> + Send;
}

impl EventSource for Handle {
    fn name(&self) -> &str {
        Self::name(self)
    }

    /// It is connected already, or sees to that itself.
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

/// Any source, connected again by the policy whenever it ends.
///
/// Its topics are asked for again after every reconnect; everything happens while an event is waited
/// for, and nothing behind the caller's back.
#[derive(Debug)]
pub struct ReconnectingSource<S> {
    inner: S,
    cycle: Reconnector,
    link: GapTracker,
    topics: Vec<String>,
    state: State,
}

/// How long after an attempt that its caller cut short the next one waits.
const CANCELLED_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
enum State {
    /// Nobody has asked for a connection yet, or it is over.
    Idle,
    Up {
        since: Instant,
        alive: Instant,
        messages: u64,
        proof: HealthProof,
    },
    Waiting {
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HealthProof {
    Given,
    ByDelivery,
    ByTime,
}

impl<S: EventSource> ReconnectingSource<S> {
    /// Wraps a source. The host is what its circuit breaker is shared by, see
    /// [`Hosts`](super::host_cooldown::Hosts).
    pub fn new(inner: S, policy: ReconnectPolicy, host: Arc<Host>) -> Self {
        let tag = match inner.name() {
            "" => String::new(),
            name => format!(" [{name}]"),
        };
        let taps = Arc::new(FeedMetrics::default());
        Self {
            cycle: Reconnector::new(policy, host, Arc::clone(&taps), "messages", tag.clone()),
            link: GapTracker::new(taps, tag, policy.limits().stable_after),
            inner,
            topics: Vec::new(),
            state: State::Idle,
        }
    }

    /// The times in which nothing could arrive.
    pub fn connection_gaps(&self) -> Vec<Gap> {
        self.link.gaps()
    }

    /// One attempt, with everything that is wanted.
    async fn attempt(&mut self) -> Result<Option<HandleEvent>, FeedError> {
        self.link.dials();
        self.inner.connect().await?;
        for topic in &self.topics {
            // What it knows already it ignores; what it cannot take it could not take before.
            let _known = self.inner.subscribe(topic);
        }
        let now = now();
        let proof = if self.cycle.proves_by_delivery() {
            HealthProof::ByDelivery
        } else {
            HealthProof::ByTime
        };
        self.state = State::Up { since: now, alive: now, messages: 0, proof };
        Ok(self.link.up().map(|gap| HandleEvent::Reconnected { gap }))
    }

    /// Judges an ending; the event that tells of it.
    fn judge(&mut self, tenure: ConnectionLifetime) -> HandleEvent {
        let RetryDelay { wait, attempt, cause, is_last, .. } = self.cycle.ended(&tenure);
        if is_last {
            self.state = State::Idle;
            let gave_up = RetriesExhausted { attempts: attempt, last: Some(tenure.ended) };
            return HandleEvent::Disconnected(StopReason::GaveUp(gave_up));
        }
        let now = now();
        self.state = State::Waiting { until: now.checked_add(wait).unwrap_or(now) };
        HandleEvent::Reconnecting { attempt, wait, cause }
    }

    fn ended(&mut self, error: Option<FeedError>) -> HandleEvent {
        // A source of the caller's own may not say how it ended.
        let ended = error.unwrap_or(FeedError::Cut);
        let State::Up { since, alive, messages, .. } = self.state else {
            return self.judge(ConnectionLifetime::over(Duration::ZERO, 0, ended));
        };
        self.link.down(alive, &ended.chain());
        let lived = now().saturating_duration_since(since);
        self.judge(ConnectionLifetime::over(lived, messages, ended))
    }

    /// Keeps the account of what an event proves.
    fn note(&mut self, event: &HandleEvent) {
        let State::Up { alive, messages, proof, .. } = &mut self.state else { return };
        let HandleEvent::Message(message) = event else { return };
        *alive = message.received;
        *messages = messages.saturating_add(1);
        self.link.data();
        if *proof == HealthProof::ByDelivery {
            *proof = HealthProof::Given;
            self.cycle.proof()();
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
        if !self.topics.iter().any(|wanted| wanted == topic) {
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
                    self.cycle.admission().await;
                    // Whoever drops this future amid the attempt has made one; the next must wait.
                    let now = now();
                    let later = now.checked_add(CANCELLED_WAIT).unwrap_or(now);
                    self.state = State::Waiting { until: later };
                    match self.attempt().await {
                        Ok(Some(event)) => return Some(event),
                        Ok(None) => {}
                        Err(error) => return Some(self.judge(ConnectionLifetime::failed(error))),
                    }
                }
                State::Up { .. } => match self.inner.next_event().await {
                    None => return Some(self.ended(None)),
                    Some(HandleEvent::Disconnected(StopReason::Ended(error))) => {
                        return Some(self.ended(error));
                    }
                    Some(event) => {
                        self.note(&event);
                        return Some(event);
                    }
                },
            }
        }
    }
}
