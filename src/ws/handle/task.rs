//! The task behind a handle: connect, serve, wait, again, until it is stopped or gives up.
//!
//! Every wait in it is raced against the stop, so a stop takes effect in every state at once; on a
//! live link the server is told with 1000.

use std::sync::Arc;

use super::{
    Target,
    command_queue::CommandQueue,
    event::{HandleEvent, StopReason},
    event_queue::EventQueue,
    options::Options,
    session::{HandleSession, SessionProgress},
};
use crate::ws::{
    FeedError, RetriesExhausted,
    connect::{Dial, open},
    gap_tracker::GapTracker,
    protocol::{FeedProtocol, SubscriptionState},
    reconnector::{ConnectionLifetime, Reconnector, RetryDelay, fresh_credential},
    session::{Session, WriteProgress, now},
    upgrade::UpgradeRequest,
    watchdog::ArrivalStats,
};

/// Everything that the task owns.
pub(super) struct HandleTask<D, L> {
    pub(super) target: Target<D>,
    pub(super) dialect: L,
    pub(super) options: Options,
    pub(super) mailbox: Arc<EventQueue>,
    pub(super) orders: Arc<CommandQueue>,
    pub(super) cycle: Reconnector,
    pub(super) link: GapTracker,
    pub(super) rhythm: ArrivalStats,
    pub(super) connections: u64,
}

/// A session, and what has been asked for over it.
pub(super) struct LiveSession<D: Dial, L> {
    pub(super) session: Session<D::Stream, L>,
    pub(super) progress: SessionProgress,
}

/// Whether to go on.
enum TaskFlow {
    Go,
    Stop,
}

impl<D: Dial, L: FeedProtocol + Clone + Send> HandleTask<D, L> {
    pub(super) fn new(
        target: Target<D>,
        dialect: L,
        options: Options,
        mailbox: Arc<EventQueue>,
        orders: Arc<CommandQueue>,
    ) -> Self {
        let tag = match options.name.as_str() {
            "" => String::new(),
            name => format!(" [{name}]"),
        };
        let taps = Arc::clone(&options.taps);
        let host = options.hosts.host(&target.dial.host(), &options.policy);
        Self {
            cycle: Reconnector::new(
                options.policy,
                host,
                Arc::clone(&taps),
                "messages",
                tag.clone(),
            ),
            link: GapTracker::new(taps, tag, options.policy.limits().stable_after),
            target,
            dialect,
            options,
            mailbox,
            orders,
            rhythm: ArrivalStats::default(),
            connections: 0,
        }
    }

    /// One attempt to connect.
    pub(super) async fn connect(&mut self) -> Result<LiveSession<D, L>, FeedError> {
        self.link.dials();
        let limits = *self.options.policy.limits();
        let mut machine =
            SubscriptionState::new(self.dialect.clone(), limits.initial_delay, limits.max_delay)
                .after(self.connections);
        let pace = self.options.replay_pace;
        let progress = SessionProgress::replay(&self.orders, &mut machine, pace, now());
        let request = UpgradeRequest {
            authority: &self.target.authority,
            path: &self.target.path,
            origin: self.options.origin.as_deref(),
            user_agent: self.options.user_agent.as_deref(),
            credential: self.options.credential.as_ref(),
            subprotocol: machine.subprotocol(),
        };
        let session = open(&self.target.dial, &request, machine, &limits).await?;
        Ok(LiveSession { session, progress })
    }

    /// Connects by the policy from the first dial on.
    pub(super) async fn first(&mut self) -> Result<LiveSession<D, L>, RetriesExhausted> {
        loop {
            let tenure = match self.admitted().await {
                Ok(session) => return Ok(session),
                Err(error) => ConnectionLifetime::failed(error),
            };
            let pause = self.pause(&tenure).await;
            if pause.is_last {
                return Err(RetriesExhausted { attempts: pause.attempt, last: Some(tenure.ended) });
            }
        }
    }

    /// Runs to the end, beginning with this session if there is one.
    pub(super) async fn run(mut self, mut session: Option<LiveSession<D, L>>) {
        let orders = Arc::clone(&self.orders);
        loop {
            let tenure = match session.take() {
                Some(session) => self.serve(session).await,
                None => {
                    let connected = tokio::select! {
                        biased;
                        () = orders.stopped() => break,
                        connected = self.admitted() => connected,
                    };
                    match connected {
                        Ok(session) => self.serve(session).await,
                        Err(error) => Some(ConnectionLifetime::failed(error)),
                    }
                }
            };
            let Some(tenure) = tenure else { break };
            let waiting = self.wait(tenure);
            let onward = tokio::select! {
                biased;
                () = orders.stopped() => TaskFlow::Stop,
                onward = waiting => onward,
            };
            if let TaskFlow::Stop = onward {
                break;
            }
        }
        self.return_unsent();
        self.orders.stop();
        self.mailbox.close();
    }

    /// Waits until the host may be dialled, and connects.
    pub(super) async fn admitted(&mut self) -> Result<LiveSession<D, L>, FeedError> {
        self.cycle.admission().await;
        self.connect().await
    }

    /// Judges an ending and waits.
    async fn wait(&mut self, tenure: ConnectionLifetime) -> TaskFlow {
        let pause = self.pause(&tenure).await;
        if !pause.is_last {
            return TaskFlow::Go;
        }
        let gave_up = RetriesExhausted { attempts: pause.attempt, last: Some(tenure.ended) };
        self.return_unsent();
        self.mailbox.notice(HandleEvent::Disconnected(StopReason::GaveUp(gave_up)));
        TaskFlow::Stop
    }

    async fn pause(&mut self, tenure: &ConnectionLifetime) -> RetryDelay {
        let pause = self.cycle.ended(tenure);
        if pause.is_last {
            return pause;
        }
        let RetryDelay { attempt, wait, ref cause, .. } = pause;
        self.mailbox.notice(HandleEvent::Reconnecting { attempt, wait, cause: cause.clone() });
        tokio::time::sleep(wait).await;
        if pause.wants_credential
            && let Some(fresh) = fresh_credential(self.options.credential_source.as_ref()).await
        {
            self.options.credential = Some(fresh);
        }
        pause
    }

    /// Serves a session to its end; `None` when it was stopped.
    async fn serve(&mut self, live: LiveSession<D, L>) -> Option<ConnectionLifetime> {
        let LiveSession { mut session, mut progress } = live;
        tracing::info!("Connected{}", self.cycle.tag());
        if let Some(gap) = self.link.up() {
            self.mailbox.notice(HandleEvent::Reconnected { gap });
        }
        self.rhythm.interrupt();
        self.connections = self.connections.saturating_add(1);
        let since = now();
        let mut hearer = HandleSession {
            mailbox: &self.mailbox,
            orders: &self.orders,
            taps: &self.options.taps,
            link: &self.link,
            connection: self.connections,
            pace: self.options.replay_pace,
            proves_by_delivery: self.cycle.proves_by_delivery(),
            proved: Some(self.cycle.proof()),
            progress: &mut progress,
        };
        let ended = tokio::select! {
            biased;
            () = self.orders.stopped() => None,
            ended = session.run(&mut hearer, &mut self.rhythm) => Some(ended),
        };
        for (text, written) in session.unwritten() {
            self.mailbox.notice(HandleEvent::NotSent { text, written });
        }
        let Some(ended) = ended else {
            session.farewell(1_000).await;
            return None;
        };
        self.link.down(session.alive_until(&ended), &ended.chain());
        let lived = now().saturating_duration_since(since);
        // A link that was lost before everything was asked for again was no session at all.
        if progress.replay_until.is_some_and(|until| now() < until) {
            return Some(ConnectionLifetime::failed(ended));
        }
        Some(ConnectionLifetime::over(lived, progress.delivered, ended))
    }

    /// What was to be sent and never will be comes back.
    fn return_unsent(&self) {
        for text in self.orders.take_sends() {
            self.mailbox.notice(HandleEvent::NotSent { text, written: WriteProgress::Nothing });
        }
    }
}
