//! A managed connection to any feed with topics.
//!
//! A [`Handle`] is shared by reference. Its background task dials, subscribes, reconnects and
//! tracks gaps, with the same policy and sessions as the market's feed. It is generic over the
//! transport ([`Dial`]) and the protocol ([`FeedProtocol`]).

mod planner;
mod queues;
mod task;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task::JoinHandle};
use tracing::warn;

use self::{
    planner::Planner,
    queues::{CommandQueue, EventQueue},
    task::HandleTask,
};
pub use self::{queues::NOTICES_MAX, task::SingleConnection};
use super::{
    FeedError, FeedMetrics, Gap, RetriesExhausted, SettingNames,
    connect::{Dial, TcpDial},
    policy::ReconnectPolicy,
    reconnector::Hosts,
    session::WriteProgress,
};
pub use crate::protocol::Topic;
use crate::{
    config::{Config, Credential, CredentialSource, endpoint::Endpoint},
    markets::Marketplace,
    net::tls::Tls,
    protocol::{FeedProtocol, Subscription},
    text::counted,
};

/// Address of a feed and the way to connect to it.
#[derive(Clone, Debug)]
pub struct Target<D> {
    pub dial: D,
    /// The `Host` header.
    pub authority: String,
    /// Path of the request, with its query.
    pub path: String,
}

impl Target<TcpDial> {
    /// Returns an address on the network as a target. If `tls` is `None` and the address requires
    /// TLS, Mozilla's roots are used.
    ///
    /// # Errors
    ///
    /// Returns [`FeedError::TlsSetUp`] if the TLS configuration cannot be built.
    pub fn tcp(endpoint: Endpoint, tls: Option<Tls>) -> Result<Self, FeedError> {
        Ok(Self {
            authority: endpoint.authority(),
            path: endpoint.path().to_owned(),
            dial: TcpDial::new(endpoint, tls)?,
        })
    }
}

/// A managed connection. Dropping it stops it.
pub struct Handle {
    events: Arc<EventQueue>,
    commands: Arc<CommandQueue>,
    metrics: Arc<FeedMetrics>,
    name: String,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Connects, then keeps the connection up. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns the [`FeedError`] of the first attempt if it fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the connection is closed.
    pub async fn connect<D, P>(
        target: Target<D>,
        protocol: P,
        options: Options,
    ) -> Result<Self, FeedError>
    where
        D: Dial + 'static,
        D::Stream: 'static,
        P: FeedProtocol + Clone + Send + 'static,
    {
        let (mut task, handle) = Self::prepare(target, protocol, options);
        let session = task.connect().await?;
        Ok(handle.start(async move { task.run(Some(session)).await }))
    }

    /// Connects, with retries by the policy, and returns once the connection is up. Failed attempts
    /// are queued as events.
    ///
    /// # Errors
    ///
    /// Returns [`RetriesExhausted`] if `max_retries` is set and used up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the connection is closed.
    pub async fn connect_retrying<D, P>(
        target: Target<D>,
        protocol: P,
        options: Options,
    ) -> Result<Self, RetriesExhausted>
    where
        D: Dial + 'static,
        D::Stream: 'static,
        P: FeedProtocol + Clone + Send + 'static,
    {
        let (mut task, handle) = Self::prepare(target, protocol, options);
        let session = task.connect_retrying().await?;
        Ok(handle.start(async move { task.run(Some(session)).await }))
    }

    /// Returns at once and connects in the background, with retries by the policy. Must be called
    /// within a tokio runtime.
    pub fn start_retrying<D, P>(target: Target<D>, protocol: P, options: Options) -> Self
    where
        D: Dial + 'static,
        D::Stream: 'static,
        P: FeedProtocol + Clone + Send + 'static,
    {
        let (task, handle) = Self::prepare(target, protocol, options);
        handle.start(async move { task.run(None).await })
    }

    /// Does the same as [`start_retrying`](Self::start_retrying), for the feed of a marketplace.
    /// Each connection is prepared by the marketplace: token, headers and protocol.
    pub fn start_on_market<D, M>(
        target: Target<D>,
        (market, config): (&M, &Config),
        options: Options,
    ) -> Self
    where
        D: Dial + 'static,
        D::Stream: 'static,
        M: Marketplace,
        M::Protocol: Clone + Send + 'static,
    {
        let (mut task, handle) = Self::prepare(target, M::Protocol::default(), options);
        task.planner = Some(Planner::of(market, config));
        handle.start(async move { task.run(None).await })
    }

    fn prepare<D, P>(target: Target<D>, protocol: P, options: Options) -> (HandleTask<D, P>, Self)
    where
        D: Dial,
        P: FeedProtocol + Clone + Send + 'static,
    {
        let task = HandleTask::new(target, protocol, options);
        let handle = Self {
            events: Arc::clone(&task.events),
            commands: Arc::clone(&task.commands),
            metrics: Arc::clone(&task.options.metrics),
            name: task.options.name.clone(),
            task: Mutex::new(None),
        };
        (task, handle)
    }

    fn start(mut self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        let close_on_drop = CloseOnDrop(Arc::clone(&self.events));
        *self.task.get_mut() = Some(tokio::spawn(async move {
            task.await;
            drop(close_on_drop);
        }));
        self
    }

    /// Subscribes to a topic, now and after every reconnect. Returns `true` if it is new.
    ///
    /// # Errors
    ///
    /// Returns [`HandleError::Stopped`] after the end, [`HandleError::Busy`] beyond
    /// [`Options::topics_max`].
    pub fn subscribe(&self, topic: &(impl Topic + ?Sized)) -> Result<bool, HandleError> {
        self.commands.subscribe(topic.topic(), None)
    }

    /// Subscribes with an id that is attached to each message of the topic.
    ///
    /// # Errors
    ///
    /// Same as [`Handle::subscribe`].
    pub fn subscribe_as(
        &self,
        topic: &(impl Topic + ?Sized),
        request_id: u64,
    ) -> Result<bool, HandleError> {
        self.commands.subscribe(topic.topic(), Some(request_id))
    }

    /// Unsubscribes from a topic. Returns `true` if it was subscribed to.
    ///
    /// # Errors
    ///
    /// Returns [`HandleError::Stopped`] after the end.
    pub fn unsubscribe(&self, topic: &(impl Topic + ?Sized)) -> Result<bool, HandleError> {
        self.commands.unsubscribe(&topic.topic())
    }

    /// Sends a text at most once. A text that is not known to be written is returned as
    /// [`HandleEvent::NotSent`] and never sent again. While the connection is down it waits for the
    /// next one.
    ///
    /// # Errors
    ///
    /// Returns [`HandleError::Stopped`] after the end, [`HandleError::Busy`] if
    /// [`Options::command_capacity`] texts are queued.
    pub fn send(&self, text: impl Into<String>) -> Result<(), HandleError> {
        self.commands.send(text.into())
    }

    /// Returns the next event, or `None` after [`Handle::stop`] or the last event.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event is either returned or kept for the next call.
    pub async fn recv(&self) -> Option<HandleEvent> {
        let event = self.events.recv().await;
        if let Some(HandleEvent::Lagged(count)) = event {
            let messages = counted(count, "message", "messages");
            warn!("Fell behind by {messages}: the oldest were dropped");
        }
        event
    }

    /// Stops the handle and waits for the end of its task, at most one second.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the handle is stopped in any case.
    pub async fn stop(&self) {
        self.commands.stop();
        if let Some(task) = self.task.lock().await.take() {
            // A task that panicked has ended too.
            let _over = task.await;
        }
        self.events.discard();
    }

    /// Returns the intervals in which no event could arrive.
    pub fn connection_gaps(&self) -> Vec<Gap> {
        self.metrics.gap_list()
    }

    /// Returns the number of reconnects after an outage.
    pub fn total_reconnects(&self) -> u64 {
        self.metrics.reconnects.load(Ordering::Relaxed)
    }

    pub fn metrics(&self) -> &FeedMetrics {
        &self.metrics
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Closes the queue on drop, so that its reader does not wait for a task that panicked.
struct CloseOnDrop(Arc<EventQueue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.commands.stop();
        self.events.discard();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Options of a handle, each with a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum number of queued messages before the oldest are dropped and counted. With zero, the
    /// messages only reach the recorder of `metrics`, and the notices are still queued.
    pub channel_capacity: usize,
    /// Maximum size of the queued messages in bytes before the oldest are dropped and counted.
    pub channel_bytes: usize,
    /// Maximum number of texts that wait to be sent.
    pub command_capacity: usize,
    /// Topics that every connection begins with. An optional one does not show whether the feed
    /// works: its silence is normal, and its end is no gap.
    pub topics: Vec<Subscription>,
    /// Maximum number of subscribed topics.
    pub topics_max: usize,
    /// Delay between two subscriptions after a reconnect; zero subscribes at once.
    pub replay_pace: Duration,
    pub policy: ReconnectPolicy,
    /// Name of the connection in log lines and of
    /// [`EventSource::name`](crate::ws::source::EventSource::name).
    pub name: String,
    /// The `Origin` header of the upgrade.
    pub origin: Option<String>,
    /// The `User-Agent` header of the upgrade.
    pub user_agent: Option<String>,
    /// The `Cookie` header of the upgrade.
    pub credential: Option<Credential>,
    /// Source of a new credential after a rejection.
    pub credential_source: Option<CredentialSource>,
    /// Names of the settings in advice.
    pub setting_names: SettingNames,
    /// Hosts whose circuit breakers are shared.
    pub hosts: Hosts,
    pub metrics: Arc<FeedMetrics>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            channel_capacity: 10_000,
            channel_bytes: 64 * 1024 * 1024,
            command_capacity: 256,
            topics: Vec::new(),
            topics_max: 1_024,
            replay_pace: Duration::ZERO,
            policy: ReconnectPolicy::default(),
            name: String::new(),
            origin: None,
            user_agent: Some(crate::config::USER_AGENT.to_owned()),
            credential: None,
            credential_source: None,
            setting_names: SettingNames::CALLER,
            hosts: Hosts::default(),
            metrics: Arc::default(),
        }
    }
}

/// Builder of options: `Options::builder().name("x").replay_pace(…).build()`.
#[derive(Clone, Debug, Default)]
pub struct OptionsBuilder(Options);

impl Options {
    /// Returns a builder with all defaults.
    pub fn builder() -> OptionsBuilder {
        OptionsBuilder::default()
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)?) => {
        impl OptionsBuilder {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(mut self, $name: $kind) -> Self {
                    self.0.$name = $name;
                    self
                }
            )*

            pub fn build(self) -> Options {
                self.0
            }
        }
    };
}

setters! {
    /// Sets [`Options::channel_capacity`].
    channel_capacity: usize,
    /// Sets [`Options::channel_bytes`].
    channel_bytes: usize,
    /// Sets [`Options::command_capacity`].
    command_capacity: usize,
    /// Sets [`Options::topics`].
    topics: Vec<Subscription>,
    /// Sets [`Options::topics_max`].
    topics_max: usize,
    /// Sets [`Options::replay_pace`].
    replay_pace: Duration,
    /// Sets [`Options::policy`].
    policy: ReconnectPolicy,
    /// Sets [`Options::name`].
    name: String,
    /// Sets [`Options::origin`].
    origin: Option<String>,
    /// Sets [`Options::user_agent`].
    user_agent: Option<String>,
    /// Sets [`Options::credential`].
    credential: Option<Credential>,
    /// Sets [`Options::credential_source`].
    credential_source: Option<CredentialSource>,
    /// Sets [`Options::setting_names`].
    setting_names: SettingNames,
    /// Sets [`Options::hosts`].
    hosts: Hosts,
    /// Sets [`Options::metrics`].
    metrics: Arc<FeedMetrics>,
}

/// One data message of the server.
#[derive(Clone, Debug)]
pub struct ServerMessage {
    /// The message, unchanged.
    pub text: String,
    /// The topic of the message, if the protocol has ids.
    pub topic: Option<Arc<str>>,
    /// The `request_id` of that topic.
    pub request_id: Option<u64>,
    /// Number of the connection, counted from 1.
    pub connection: u64,
    /// Time at which it was read, by the monotonic clock.
    pub received: Instant,
    /// Time at which it was queued, in nanoseconds since 1970, by the wall clock.
    pub received_ns: u64,
}

/// Cause of the end of a subscription on a live connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The server reported an error; its text is escaped.
    #[error("the server rejected the subscription: {0}")]
    Error(String),
    #[error("the server completed the subscription")]
    Completed,
}

#[derive(Debug)]
#[non_exhaustive]
pub enum HandleEvent {
    Message(ServerMessage),
    /// The connection is lost; the next attempt follows after `wait`.
    Reconnecting {
        /// Number of the next attempt, counted from the last healthy session.
        attempt: u32,
        wait: Duration,
        /// Error of the last attempt or session.
        cause: String,
    },
    /// The connection is up again, and all topics are subscribed to.
    Reconnected {
        gap: Gap,
    },
    /// This many messages were dropped because they were not fetched in time. They preceded the
    /// next message.
    Lagged(u64),
    /// A message of the owner that is not known to be written. It is never sent again.
    NotSent {
        text: String,
        written: WriteProgress,
    },
    /// A subscription was rejected or ended on a live connection.
    Ended {
        topic: Arc<str>,
        cause: SubscriptionError,
        /// Time until it is subscribed to again; `None` if it is given up.
        retry_in: Option<Duration>,
    },
    /// The last event: the handle has ended.
    Disconnected(StopReason),
}

/// Cause of the end of a handle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    #[error("the retries are used up")]
    GaveUp(#[source] RetriesExhausted),
    /// A [`SingleConnection`] has ended, with its error if it is known. A clean close is a
    /// [`FeedError::Closed`] too.
    #[error("the connection ended")]
    Ended(#[source] Option<FeedError>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// The handle was stopped or has given up.
    #[error("the connection was stopped")]
    Stopped,
    /// A queue is full; retry later.
    #[error("too many queued messages or subscribed topics")]
    Busy,
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
