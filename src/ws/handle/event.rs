//! Events of a handle, and errors of its calls.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::ws::{FeedError, Gap, RetriesExhausted, session::WriteProgress};

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
    /// The same in nanoseconds since 1970, by the wall clock.
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
    /// next event.
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
    /// A [`SingleConnection`](super::SingleConnection) has ended, with its error if it is known. A
    /// clean close is a [`FeedError::Closed`] too.
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
