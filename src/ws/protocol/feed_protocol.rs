//! The messages of three WebSocket subscription protocols.

use super::envelope::{Incoming, open};
use crate::json::{FromCursor, JsonError, RawValue};

/// Builds and parses the messages of a subscription protocol.
///
/// The meaning of a topic depends on the protocol: the JSON of a `subscribe` payload for the two
/// GraphQL protocols, the server's name of a stream for plain JSON.
pub trait FeedProtocol {
    /// The WebSocket subprotocol to request.
    fn subprotocol(&self) -> Option<&'static str>;

    /// The first message. If there is one, nothing else is sent before its acknowledgment.
    fn connection_init(&self) -> Option<String>;

    /// Message that subscribes to a topic; `None` if the address selects the topics.
    fn subscribe(&self, id: u64, topic: &str) -> Option<String>;

    /// Message that unsubscribes from a topic.
    fn unsubscribe(&self, id: u64, topic: &str) -> Option<String>;

    /// Ping message; `None` if only the ping of RFC 6455 exists.
    fn ping(&self) -> Option<&'static str>;

    /// Answer to a ping of the server.
    fn pong(&self, payload: Option<RawValue<'_>>) -> Option<String>;

    /// Parses one message of the server.
    ///
    /// # Errors
    ///
    /// Returns a [`JsonError`] if the message is malformed.
    fn read<'a, P: FromCursor<'a>>(&self, text: &'a str) -> Result<Incoming<'a, P>, JsonError>;
}

/// `graphql-transport-ws`, the current protocol of GraphQL servers, used by the market.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphqlTransportWs;

impl FeedProtocol for GraphqlTransportWs {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("graphql-transport-ws")
    }

    fn connection_init(&self) -> Option<String> {
        Some(r#"{"type":"connection_init"}"#.to_owned())
    }

    fn subscribe(&self, id: u64, topic: &str) -> Option<String> {
        Some(format!(r#"{{"id":"{id}","type":"subscribe","payload":{topic}}}"#))
    }

    fn unsubscribe(&self, id: u64, _topic: &str) -> Option<String> {
        Some(format!(r#"{{"id":"{id}","type":"complete"}}"#))
    }

    fn ping(&self) -> Option<&'static str> {
        Some(r#"{"type":"ping"}"#)
    }

    fn pong(&self, payload: Option<RawValue<'_>>) -> Option<String> {
        Some(match payload {
            Some(RawValue(payload)) => format!(r#"{{"type":"pong","payload":{payload}}}"#),
            None => r#"{"type":"pong"}"#.to_owned(),
        })
    }

    fn read<'a, P: FromCursor<'a>>(&self, text: &'a str) -> Result<Incoming<'a, P>, JsonError> {
        open(text, "next")
    }
}

/// `graphql-ws`, the older protocol of Apollo's `subscriptions-transport-ws`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphqlWs;

impl FeedProtocol for GraphqlWs {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("graphql-ws")
    }

    fn connection_init(&self) -> Option<String> {
        Some(r#"{"type":"connection_init","payload":{}}"#.to_owned())
    }

    fn subscribe(&self, id: u64, topic: &str) -> Option<String> {
        Some(format!(r#"{{"id":"{id}","type":"start","payload":{topic}}}"#))
    }

    fn unsubscribe(&self, id: u64, _topic: &str) -> Option<String> {
        Some(format!(r#"{{"id":"{id}","type":"stop"}}"#))
    }

    fn ping(&self) -> Option<&'static str> {
        None
    }

    fn pong(&self, _payload: Option<RawValue<'_>>) -> Option<String> {
        None
    }

    fn read<'a, P: FromCursor<'a>>(&self, text: &'a str) -> Result<Incoming<'a, P>, JsonError> {
        open(text, "data")
    }
}

/// Plain JSON: every message is an event, and two functions build the subscription messages.
#[derive(Clone, Copy, Debug)]
pub struct PlainJson {
    /// Builds the message that subscribes; `None` if the address selects the topics.
    pub subscribe: Option<fn(id: u64, topic: &str) -> String>,
    /// Builds the message that unsubscribes.
    pub unsubscribe: Option<fn(id: u64, topic: &str) -> String>,
}

impl PlainJson {
    /// The address selects the streams; nothing is sent.
    pub const SILENT: Self = Self { subscribe: None, unsubscribe: None };

    /// A topic is a complete message that is sent unchanged.
    pub const VERBATIM: Self =
        Self { subscribe: Some(|_id, topic| topic.to_owned()), unsubscribe: None };
}

impl Default for PlainJson {
    fn default() -> Self {
        Self::SILENT
    }
}

impl FeedProtocol for PlainJson {
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    fn connection_init(&self) -> Option<String> {
        None
    }

    fn subscribe(&self, id: u64, topic: &str) -> Option<String> {
        self.subscribe.map(|message| message(id, topic))
    }

    fn unsubscribe(&self, id: u64, topic: &str) -> Option<String> {
        self.unsubscribe.map(|message| message(id, topic))
    }

    fn ping(&self) -> Option<&'static str> {
        None
    }

    fn pong(&self, _payload: Option<RawValue<'_>>) -> Option<String> {
        None
    }

    fn read<'a, P: FromCursor<'a>>(&self, text: &'a str) -> Result<Incoming<'a, P>, JsonError> {
        crate::json::read(text).map(|payload| Incoming::Data { id: None, payload })
    }
}
