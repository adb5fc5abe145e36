//! A connection that looks after itself, for any feed that is made of topics.
//!
//! A [`Handle`] is shared by reference; a task behind it dials, subscribes, reconnects and keeps
//! the account of what was missed, by the same policy and over the same sessions as the
//! marketplace's feed. It is generic over how a connection is made ([`Dial`]) and over what it
//! speaks ([`FeedProtocol`]).

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
    event::{HandleError, HandleEvent, ServerMessage, StopReason, SubscriptionError, Topic},
    event_queue::NOTICES_MAX,
    options::{Options, OptionsBuilder},
    single_connection::SingleConnection,
};
use tracing::warn;

use super::{
    FeedError, FeedMetrics, Gap, RetriesExhausted,
    connect::{Dial, TcpDial},
    protocol::FeedProtocol,
};
use crate::{config::endpoint::Endpoint, net::tls::Tls};

/// Where to connect, and what to ask for there.
#[derive(Clone, Debug)]
pub struct Target<D> {
    /// How a connection is made.
    pub dial: D,
    /// The `Host` header.
    pub authority: String,
    /// The path with its query.
    pub path: String,
}

impl Target<TcpDial> {
    /// An address on the network; `tls` is how TLS is spoken where it asks for it, Mozilla's roots
    /// if there is none.
    ///
    /// # Errors
    ///
    /// [`FeedError::TlsSetUp`] in a broken build.
    pub fn tcp(endpoint: Endpoint, tls: Option<Tls>) -> Result<Self, FeedError> {
        Ok(Self {
            authority: endpoint.authority(),
            path: endpoint.path().to_owned(),
            dial: TcpDial::new(endpoint, tls)?,
        })
    }
}

/// A connection that looks after itself. Dropping it stops it.
pub struct Handle {
    mailbox: Arc<EventQueue>,
    orders: Arc<CommandQueue>,
    taps: Arc<FeedMetrics>,
    name: String,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// Connects, and keeps the connection up from then on. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The [`FeedError`] of the first attempt, if that fails.
    ///
    /// # Cancel safety
    ///
    /// Safe: whatever was under way is closed.
    pub async fn connect<D, L>(
        target: Target<D>,
        dialect: L,
        options: Options,
    ) -> Result<Self, FeedError>
    where
        D: Dial + 'static,
        D::Stream: 'static,
        L: FeedProtocol + Clone + Send + 'static,
    {
        let (mut task, handle) = Self::prepare(target, dialect, options);
        let session = task.connect().await?;
        Ok(handle.start(async move { task.run(Some(session)).await }))
    }

    /// Connects by the policy from the first dial on: returns when it is up. What went wrong until
    /// then waits as events.
    ///
    /// # Errors
    ///
    /// [`RetriesExhausted`], where `max_retries` is set and used up.
    ///
    /// # Cancel safety
    ///
    /// Safe: whatever was under way is closed.
    pub async fn connect_retrying<D, L>(
        target: Target<D>,
        dialect: L,
        options: Options,
    ) -> Result<Self, RetriesExhausted>
    where
        D: Dial + 'static,
        D::Stream: 'static,
        L: FeedProtocol + Clone + Send + 'static,
    {
        let (mut task, handle) = Self::prepare(target, dialect, options);
        let session = task.first().await?;
        Ok(handle.start(async move { task.run(Some(session)).await }))
    }

    /// Starts at once and connects behind the caller's back, by the policy from the first dial on.
    /// Must be called within a tokio runtime.
    pub fn start_retrying<D, L>(target: Target<D>, dialect: L, options: Options) -> Self
    where
        D: Dial + 'static,
        D::Stream: 'static,
        L: FeedProtocol + Clone + Send + 'static,
    {
        let (task, handle) = Self::prepare(target, dialect, options);
        handle.start(async move { task.run(None).await })
    }

    fn prepare<D, L>(target: Target<D>, dialect: L, options: Options) -> (HandleTask<D, L>, Self)
    where
        D: Dial,
        L: FeedProtocol + Clone + Send,
    {
        let mailbox = Arc::new(EventQueue::new(options.channel_capacity, options.channel_bytes));
        let orders = Arc::new(CommandQueue::new(options.command_capacity, options.topics_max));
        let handle = Self {
            mailbox: Arc::clone(&mailbox),
            orders: Arc::clone(&orders),
            taps: Arc::clone(&options.taps),
            name: options.name.clone(),
            task: Mutex::new(None),
        };
        (HandleTask::new(target, dialect, options, mailbox, orders), handle)
    }

    fn start(mut self, task: impl Future<Output = ()> + Send + 'static) -> Self {
        *self.task.get_mut() = Some(tokio::spawn(task));
        self
    }

    /// Subscribes to a topic, now and after every reconnect. Says whether that is news.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`] after the end, [`HandleError::Busy`] beyond
    /// [`Options::topics_max`].
    pub fn subscribe(&self, topic: &(impl Topic + ?Sized)) -> Result<bool, HandleError> {
        self.orders.want(topic.topic(), None)
    }

    /// The same, with an id that comes back with each of its messages.
    ///
    /// # Errors
    ///
    /// As [`Handle::subscribe`].
    pub fn subscribe_as(
        &self,
        topic: &(impl Topic + ?Sized),
        request_id: u64,
    ) -> Result<bool, HandleError> {
        self.orders.want(topic.topic(), Some(request_id))
    }

    /// Gives a topic back. Says whether it was subscribed to.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`] after the end.
    pub fn unsubscribe(&self, topic: &(impl Topic + ?Sized)) -> Result<bool, HandleError> {
        self.orders.unwant(&topic.topic())
    }

    /// Sends a text, at most once: what was not surely written comes back as [`HandleEvent::NotSent`] and
    /// is never sent again. While the connection is down it waits for the next one.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`] after the end, [`HandleError::Busy`] when
    /// [`Options::command_capacity`] of them wait.
    pub fn send(&self, text: impl Into<String>) -> Result<(), HandleError> {
        self.orders.send(text.into())
    }

    /// The next event; `None` after [`Handle::stop`], and after the last event of one that gave up.
    ///
    /// # Cancel safety
    ///
    /// Safe: an event is either returned or still there.
    pub async fn recv(&self) -> Option<HandleEvent> {
        let event = self.mailbox.fetch().await;
        if let Some(HandleEvent::Lagged(count)) = event {
            warn!("Lagged by {count}");
        }
        event
    }

    /// Stops it and waits until nothing of it is left: at most a second, in every state.
    ///
    /// # Cancel safety
    ///
    /// Safe: it is stopped all the same.
    pub async fn stop(&self) {
        self.orders.stop();
        if let Some(task) = self.task.lock().await.take() {
            // A task that panicked is over, too.
            let _over = task.await;
        }
        self.mailbox.discard();
    }

    /// The times in which nothing could arrive.
    pub fn connection_gaps(&self) -> Vec<Gap> {
        self.taps.gap_list()
    }

    /// How often it was up again after it had been down.
    pub fn total_reconnects(&self) -> u64 {
        self.taps.reconnects.load(Ordering::Relaxed)
    }

    /// What can be seen of it.
    pub fn taps(&self) -> &FeedMetrics {
        &self.taps
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.orders.stop();
        self.mailbox.discard();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.name).finish_non_exhaustive()
    }
}
