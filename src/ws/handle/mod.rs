//! A managed connection to any feed with topics.
//!
//! A [`Handle`] is shared by reference. Its background task dials, subscribes, reconnects and
//! tracks gaps, with the same policy and sessions as the market's feed. It is generic over the
//! transport ([`Dial`]) and the protocol ([`FeedProtocol`]).

mod command_queue;
mod event;
mod event_queue;
mod options;
mod session;
mod single_connection;
mod task;

use std::{fmt, sync::Arc, sync::atomic::Ordering};

use tokio::{sync::Mutex, task::JoinHandle};

use self::{command_queue::CommandQueue, event_queue::EventQueue, task::HandleTask};
pub use self::{
    event::{HandleError, HandleEvent, ServerMessage, StopReason, SubscriptionError},
    event_queue::NOTICES_MAX,
    options::{Options, OptionsBuilder},
    single_connection::SingleConnection,
};
use tracing::warn;

use super::{
    FeedError, FeedMetrics, Gap, RetriesExhausted,
    connect::{Dial, TcpDial},
};
pub use crate::protocol::Topic;
use crate::{config::endpoint::Endpoint, net::tls::Tls, protocol::FeedProtocol};

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
    /// An address on the network. If `tls` is `None` and the address requires TLS, Mozilla's roots
    /// are used.
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
    pub async fn connect<D, L>(
        target: Target<D>,
        protocol: L,
        options: Options,
    ) -> Result<Self, FeedError>
    where
        D: Dial + 'static,
        D::Stream: 'static,
        L: FeedProtocol + Clone + Send + 'static,
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
    pub async fn connect_retrying<D, L>(
        target: Target<D>,
        protocol: L,
        options: Options,
    ) -> Result<Self, RetriesExhausted>
    where
        D: Dial + 'static,
        D::Stream: 'static,
        L: FeedProtocol + Clone + Send + 'static,
    {
        let (mut task, handle) = Self::prepare(target, protocol, options);
        let session = task.connect_retrying().await?;
        Ok(handle.start(async move { task.run(Some(session)).await }))
    }

    /// Returns at once and connects in the background, with retries by the policy. Must be called
    /// within a tokio runtime.
    pub fn start_retrying<D, L>(target: Target<D>, protocol: L, options: Options) -> Self
    where
        D: Dial + 'static,
        D::Stream: 'static,
        L: FeedProtocol + Clone + Send + 'static,
    {
        let (task, handle) = Self::prepare(target, protocol, options);
        handle.start(async move { task.run(None).await })
    }

    fn prepare<D, L>(target: Target<D>, protocol: L, options: Options) -> (HandleTask<D, L>, Self)
    where
        D: Dial,
        L: FeedProtocol + Clone + Send,
    {
        let events = Arc::new(EventQueue::new(options.channel_capacity, options.channel_bytes));
        let commands = Arc::new(CommandQueue::from_options(&options));
        let handle = Self {
            events: Arc::clone(&events),
            commands: Arc::clone(&commands),
            metrics: Arc::clone(&options.metrics),
            name: options.name.clone(),
            task: Mutex::new(None),
        };
        (HandleTask::new(target, protocol, options, events, commands), handle)
    }

    fn start(mut self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        let open_queue = OpenQueue(Arc::clone(&self.events));
        *self.task.get_mut() = Some(tokio::spawn(async move {
            task.await;
            drop(open_queue);
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
        let event = self.events.fetch().await;
        if let Some(HandleEvent::Lagged(count)) = event {
            warn!("Fell behind by {count} messages: the oldest were dropped");
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
struct OpenQueue(Arc<EventQueue>);

impl Drop for OpenQueue {
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
