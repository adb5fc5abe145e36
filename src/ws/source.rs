//! Anything that events come from, in four functions.
//!
//! A caller that knows only this trait can be handed a [`Bare`](super::handle::Bare) connection, a
//! [`Reconnecting`] wrapper around it, or a whole [`Handle`], and need not know which.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    FeedError, Gap, GaveUp, Taps,
    cycle::{Cycle, Pause, Tenure},
    handle::{Event, Handle, HandleError, Reason},
    host::Host,
    link::Link,
    policy::Policy,
    session::now,
};

/// Anything that events come from.
pub trait Source: Send {
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
    fn next_event(&mut self) -> impl Future<Output = Option<Event>> + Send;
}

impl Source for Handle {
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

    async fn next_event(&mut self) -> Option<Event> {
        self.recv().await
    }
}

/// Any source, connected again by the policy whenever it ends.
///
/// Its topics are asked for again after every reconnect; everything happens while an event is waited
/// for, and nothing behind the caller's back.
#[derive(Debug)]
pub struct Reconnecting<S> {
    inner: S,
    cycle: Cycle,
    link: Link,
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
        proof: Proof,
    },
    Waiting {
        until: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Given,
    ByDelivery,
    ByTime,
}

impl<S: Source> Reconnecting<S> {
    /// Wraps a source. The host is what its circuit breaker is shared by, see
    /// [`Hosts`](super::host::Hosts).
    pub fn new(inner: S, policy: Policy, host: Arc<Host>) -> Self {
        let tag = match inner.name() {
            "" => String::new(),
            name => format!(" [{name}]"),
        };
        let taps = Arc::new(Taps::default());
        Self {
            cycle: Cycle::new(policy, host, Arc::clone(&taps), "messages", tag.clone()),
            link: Link::new(taps, tag, policy.limits().stable_after),
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
    async fn attempt(&mut self) -> Result<Option<Event>, FeedError> {
        self.link.dials();
        self.inner.connect().await?;
        for topic in &self.topics {
            // What it knows already it ignores; what it cannot take it could not take before.
            let _known = self.inner.subscribe(topic);
        }
        let now = now();
        let proof = if self.cycle.proves_by_delivery() { Proof::ByDelivery } else { Proof::ByTime };
        self.state = State::Up { since: now, alive: now, messages: 0, proof };
        Ok(self.link.up().map(|gap| Event::Reconnected { gap }))
    }

    /// Judges an ending; the event that tells of it.
    fn judge(&mut self, tenure: Tenure) -> Event {
        let Pause { wait, attempt, cause, is_last, .. } = self.cycle.ended(&tenure);
        if is_last {
            self.state = State::Idle;
            let gave_up = GaveUp { attempts: attempt, last: Some(tenure.ended) };
            return Event::Disconnected(Reason::GaveUp(gave_up));
        }
        let now = now();
        self.state = State::Waiting { until: now.checked_add(wait).unwrap_or(now) };
        Event::Reconnecting { attempt, wait, cause }
    }

    fn ended(&mut self, error: Option<FeedError>) -> Event {
        // A source of the caller's own may not say how it ended.
        let ended = error.unwrap_or(FeedError::Cut);
        let State::Up { since, alive, messages, .. } = self.state else {
            return self.judge(Tenure::over(Duration::ZERO, 0, ended));
        };
        self.link.down(alive, &ended.chain());
        let lived = now().saturating_duration_since(since);
        self.judge(Tenure::over(lived, messages, ended))
    }

    /// Keeps the account of what an event proves.
    fn note(&mut self, event: &Event) {
        let State::Up { alive, messages, proof, .. } = &mut self.state else { return };
        let Event::Message(message) = event else { return };
        *alive = message.received;
        *messages = messages.saturating_add(1);
        self.link.data();
        if *proof == Proof::ByDelivery {
            *proof = Proof::Given;
            self.cycle.proof()();
        }
    }
}

impl<S: Source> Source for Reconnecting<S> {
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

    async fn next_event(&mut self) -> Option<Event> {
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
                        Err(error) => return Some(self.judge(Tenure::failed(error))),
                    }
                }
                State::Up { .. } => match self.inner.next_event().await {
                    None => return Some(self.ended(None)),
                    Some(Event::Disconnected(Reason::Ended(error))) => {
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
