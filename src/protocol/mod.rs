//! Subscription protocols as state machines, without sockets and clocks. Pure.
//!
//! A [`FeedProtocol`] builds and parses messages. [`SubscriptionState`] decides their order: the
//! opening first, only replies before its acknowledgment, a unique id per subscription, and
//! a new subscription with backoff after one has ended. The payload of an event is decoded by the
//! marketplace in the same pass as its envelope.

mod centrifugo;
mod graphql;
mod plain_json;
mod socket_io;
mod subscriptions;

use std::{borrow::Cow, fmt, time::Duration};

pub use self::{
    centrifugo::Centrifugo,
    graphql::{GraphqlTransportWs, GraphqlWs},
    plain_json::PlainJson,
    socket_io::{SocketIo, SocketIoEvent},
    subscriptions::{
        OPTIONAL_FAILURES_MAX, OperationId, ProtocolEvent, Subscription, SubscriptionState,
    },
};
use crate::{json::JsonError, text::Escaped};

/// Start of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Subscriptions may be written at once.
    Live,
    /// Only replies are written before the server's acknowledgment. Contains the message
    /// that requests it, if the client sends one.
    AwaitAck(Option<ClientMessage>),
}

/// Times of a heartbeat that the server has set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Maximum time between two messages of a working connection.
    pub interval: Duration,
    /// Additional time after which the connection counts as dead.
    pub timeout: Duration,
}

/// Meaning of one message of the server. Ids are those passed to [`FeedProtocol::subscribe`];
/// `None` for a message that names none, or one that cannot be an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming<'a, T> {
    /// The session was accepted.
    Ack,
    /// The session was rejected, with the server's reason.
    Rejected(Option<&'a str>),
    /// Requests a pong with the same payload.
    Ping(Option<&'a str>),
    /// A pong, or another message that only shows that the connection works.
    Pong,
    /// A message that the protocol requires the client to answer with this one.
    Reply(ClientMessage),
    /// An event of a subscription.
    Data { id: Option<u64>, payload: T },
    /// Ends a subscription with an error.
    Error { id: Option<u64>, error: Option<&'a str> },
    /// The server has ended a subscription.
    Complete { id: Option<u64> },
    /// The server has ended the session. `code` is that of a WebSocket close frame.
    Closed { code: Option<u16>, reason: Option<&'a str> },
    /// A valid message of an unknown type.
    Unknown,
}

/// Builds and parses the messages of a subscription protocol, for one connection. May hold a token
/// and remember what was subscribed to.
///
/// The meaning of a topic depends on the protocol: the JSON of a `subscribe` payload for the two
/// GraphQL protocols, the name of a channel for Centrifugo, the JSON array of an event for
/// Socket.IO, the argument of the two functions of [`PlainJson`] for plain JSON.
pub trait FeedProtocol {
    /// The part of a message that a marketplace decodes: a [`Cursor`](crate::json::Cursor) at the
    /// payload for JSON, the rest of the bytes for a binary format.
    type Input<'a>;
    /// Error of a decoder of that input.
    type DecodeError: Into<MessageError>;

    const KINDS: MessageKinds;
    /// `true` if each event names its subscription. An event for another one is then dropped.
    const NAMES_SUBSCRIPTIONS: bool;

    /// Returns the WebSocket subprotocol to request.
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    /// Returns the protocol for the messages of a recording, which may lack those of the opening.
    fn of_recording() -> Self
    where
        Self: Default,
    {
        Self::default()
    }

    /// Starts the session.
    fn open(&mut self) -> Opening;

    /// Returns the message that subscribes to a topic; `None` if the address selects the topics.
    fn subscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage>;

    /// Returns the message that unsubscribes from a topic.
    fn unsubscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage>;

    /// Returns the ping message; `None` if only the ping of RFC 6455 exists.
    fn ping(&self) -> Option<ClientMessage> {
        None
    }

    /// Returns the answer to a ping of the server; `None` if its pings need none.
    fn pong(&self, _payload: Option<&str>) -> Option<ClientMessage> {
        None
    }

    /// Returns the heartbeat that the server has set before its acknowledgment, which replaces the
    /// configured times.
    fn heartbeat(&self) -> Option<Heartbeat> {
        None
    }

    /// Returns the age at which the server ends the connection, as stated before its
    /// acknowledgment.
    fn max_age(&self) -> Option<Duration> {
        None
    }

    /// Returns whether a new connection may succeed after a close with this code; `None` if the
    /// protocol gives the code no meaning of its own.
    fn can_reconnect_after(_code: u16) -> Option<bool> {
        None
    }

    /// Splits the first part off a message that contains several. The rest must be shorter.
    fn split_first<'a>(
        &self,
        message: FeedMessage<'a>,
    ) -> (FeedMessage<'a>, Option<FeedMessage<'a>>) {
        (message, None)
    }

    /// Parses one message, or one part of it, and calls `decode` for the payload of an event.
    ///
    /// # Errors
    ///
    /// Returns a [`MessageError`] if the message is malformed.
    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        decode: impl FnMut(&mut Self::Input<'a>) -> Result<T, Self::DecodeError>,
    ) -> Result<Incoming<'a, T>, MessageError>;

    /// Returns the id and the rest of an event from its payload on, if the message begins as such
    /// an event usually does. Reads only that beginning, and returns `None` if in doubt.
    fn peek_event<'a>(&self, _message: &'a [u8]) -> Option<(Option<u64>, &'a [u8])> {
        None
    }

    /// Consumes the payload of an event without decoding it.
    ///
    /// # Errors
    ///
    /// Returns an error if the payload is malformed.
    fn skip(input: &mut Self::Input<'_>) -> Result<(), Self::DecodeError>;

    /// Returns the part of a server's error that is meant for people.
    fn error_message(error: &str) -> Cow<'_, str> {
        Cow::Borrowed(error)
    }
}

/// A topic in the form that the server requires.
///
/// Implemented for strings; implement it for own types to subscribe with them.
pub trait Topic {
    /// Returns the topic; [`FeedProtocol`] lists the form for each protocol.
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

/// Data message of the server. `Display` escapes a text and shows only the length of binary data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedMessage<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

impl<'a> FeedMessage<'a> {
    /// Returns the length in bytes.
    pub const fn len(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns the name of the kind, capitalized.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
        }
    }

    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Returns the text of a text message.
    ///
    /// # Errors
    ///
    /// Returns [`MessageError::Kind`] for a binary message.
    pub const fn text(self) -> Result<&'a str, MessageError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Binary(_) => Err(MessageError::Kind),
        }
    }

    /// Returns the bytes of a binary message.
    ///
    /// # Errors
    ///
    /// Returns [`MessageError::Kind`] for a text message.
    pub const fn binary(self) -> Result<&'a [u8], MessageError> {
        match self {
            Self::Binary(bytes) => Ok(bytes),
            Self::Text(_) => Err(MessageError::Kind),
        }
    }
}

impl fmt::Display for FeedMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Escaped(text).fmt(f),
            Self::Binary(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

/// Message of the client.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientMessage {
    Text(String),
    Binary(Vec<u8>),
}

impl From<String> for ClientMessage {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for ClientMessage {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Prints only the length, because a message may contain a token.
impl fmt::Debug for ClientMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, len) = match self {
            Self::Text(text) => ("Text", text.len()),
            Self::Binary(bytes) => ("Binary", bytes.len()),
        };
        write!(f, "{kind}({len} bytes)")
    }
}

/// Kinds of messages that a protocol uses. A message of another kind is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKinds {
    Text,
    Binary,
    Both,
}

impl MessageKinds {
    pub const fn contains(self, message: FeedMessage<'_>) -> bool {
        match (self, message) {
            (Self::Both, _)
            | (Self::Text, FeedMessage::Text(_))
            | (Self::Binary, FeedMessage::Binary(_)) => true,
            (Self::Text, FeedMessage::Binary(_)) | (Self::Binary, FeedMessage::Text(_)) => false,
        }
    }
}

/// Cause for which a message is dropped as malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Text instead of binary data, or the reverse.
    #[error("the protocol does not use messages of this kind")]
    Kind,
    /// Not a message of the protocol.
    #[error("{what}")]
    Malformed { what: &'static str },
}

/// Returns `true` for a rejection that concerns the client's credential, which another attempt does
/// not change, rather than the load of the server.
pub fn is_about_access(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let access =
        ["auth", "credential", "session", "log in", "login", "denied", "forbidden", "banned"];
    let others = ["blocked", "not allowed", "key", "token"];
    (has(&access) || has(&others)) && !has(&["too many", "unavailable", "overload", "limit"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_accepts_only_the_kinds_that_it_uses() {
        let (text, binary) = (FeedMessage::Text("a"), FeedMessage::Binary(b"a"));
        for (kinds, accepts_text, accepts_binary) in [
            (MessageKinds::Text, true, false),
            (MessageKinds::Binary, false, true),
            (MessageKinds::Both, true, true),
        ] {
            assert_eq!(kinds.contains(text), accepts_text, "{kinds:?}");
            assert_eq!(kinds.contains(binary), accepts_binary, "{kinds:?}");
        }
        assert_eq!(text.binary(), Err(MessageError::Kind));
        assert_eq!(binary.text(), Err(MessageError::Kind));
    }

    #[test]
    fn a_message_is_printed_without_control_characters_and_without_its_secrets() {
        assert_eq!(FeedMessage::Text("a\u{1b}[2J").to_string(), "a\\u{1b}[2J");
        assert_eq!(FeedMessage::Binary(b"\x1b[2J").to_string(), "4 bytes");
        let message = ClientMessage::from(r#"{"connect":{"token":"hunter2"}}"#);
        assert!(!format!("{message:?}").contains("hunter2"));
    }
}
