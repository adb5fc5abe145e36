//! What a handle's owner hears, and why a call is refused.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::ws::{FeedError, Gap, RetriesExhausted, session::WriteProgress};

/// Something to subscribe to, as the server calls it.
///
/// Implemented by texts; implement it for a type of your own to subscribe by that.
pub trait Topic {
    /// The topic as text: the JSON of a `subscribe` payload for the GraphQL dialects, a whole
    /// message or a stream's name for plain JSON.
    fn topic(&self) -> String;
}

impl Topic for str {
    fn topic(&self) -> String {
        self.to_owned()
    }
}

impl Topic for String {
    fn topic(&self) -> String {
        self.clone()
    }
}

impl<T: Topic + ?Sized> Topic for &T {
    fn topic(&self) -> String {
        (**self).topic()
    }
}

impl Topic for crate::markets::csgoroll::operations::GraphqlOperation {
    fn topic(&self) -> String {
        self.to_json()
    }
}

/// One message from the server, whole and exact. Acknowledgements arrive as messages too.
#[derive(Clone, Debug)]
pub struct ServerMessage {
    /// The message, to the letter.
    pub text: String,
    /// The topic that it belongs to, where the dialect says so.
    pub topic: Option<Arc<str>>,
    /// The id that was given with that topic.
    pub request_id: Option<u64>,
    /// Which connection it came over, counted from 1.
    pub connection: u64,
    /// When it came off the socket, by the monotonic clock.
    pub received: Instant,
    /// The same in nanoseconds since 1970, by the wall clock.
    pub received_ns: u64,
}

/// Why a subscription ended on a live link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    /// The server answered with an error; its words, made harmless.
    #[error("the server refused the subscription: {0}")]
    Error(String),
    /// The server completed it.
    #[error("the server completed the subscription")]
    Completed,
}

/// Something that a handle's owner hears.
#[derive(Debug)]
#[non_exhaustive]
pub enum HandleEvent {
    /// A message.
    Message(ServerMessage),
    /// The connection is gone; the next attempt follows after this wait.
    Reconnecting {
        /// The number of the coming attempt, counted from the last healthy session.
        attempt: u32,
        /// How long until then.
        wait: Duration,
        /// What ended the last one.
        cause: String,
    },
    /// The connection is up again, and everything wanted was asked for.
    Reconnected {
        /// What was missed.
        gap: Gap,
    },
    /// So many messages were dropped, because they were not fetched in time. They stood before
    /// whatever comes next.
    Lagged(u64),
    /// A message of the owner's that was not surely written. It is never sent again.
    NotSent {
        /// The message.
        text: String,
        /// How far it got.
        written: WriteProgress,
    },
    /// A subscription was refused or ended on the live link.
    Ended {
        /// Its topic.
        topic: Arc<str>,
        /// Why.
        cause: SubscriptionError,
        /// How long until it is asked for again.
        again_in: Option<Duration>,
    },
    /// It is over for good; nothing follows.
    Disconnected(StopReason),
}

/// Why it is over for good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// The retries are used up.
    #[error("no further attempt is made")]
    GaveUp(#[source] RetriesExhausted),
    /// A bare connection, which makes no second attempt, has ended, and how, where that is known. A
    /// clean close is a [`FeedError::Closed`] too.
    #[error("the connection ended")]
    Ended(#[source] Option<FeedError>),
}

/// Why a call on a handle did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It was stopped, or has given up.
    #[error("the connection was stopped")]
    Stopped,
    /// Too much is waiting already; try again when some of it is done.
    #[error("too much is waiting to be sent or is subscribed to already")]
    Busy,
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
