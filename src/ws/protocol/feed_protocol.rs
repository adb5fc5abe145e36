//! The words of three languages for subscribing to something over a WebSocket.

use super::envelope::{Incoming, open};
use crate::json::{FromCursor, JsonError, RawValue};

/// How a server is spoken to.
///
/// A topic is a text whose meaning the dialect knows: the JSON of a `subscribe` payload for the two
/// GraphQL dialects, whatever the server calls a stream for plain JSON.
pub trait FeedProtocol {
    /// The WebSocket subprotocol to ask for.
    fn subprotocol(&self) -> Option<&'static str>;

    /// What to say first. Where it is something, nothing else is said before it is acknowledged.
    fn greeting(&self) -> Option<String>;

    /// Asks for a topic. `None` where nothing needs to be said, because the address named it.
    fn subscribe(&self, id: u64, topic: &str) -> Option<String>;

    /// Says that a topic is wanted no more.
    fn unsubscribe(&self, id: u64, topic: &str) -> Option<String>;

    /// Asks whether the server lives. `None` where only the ping of RFC 6455 does that.
    fn ping(&self) -> Option<&'static str>;

    /// Answers the server's ping.
    fn pong(&self, payload: Option<RawValue<'_>>) -> Option<String>;

    /// Reads one message.
    ///
    /// # Errors
    ///
    /// A [`JsonError`] when it is not one.
    fn read<'a, P: FromCursor<'a>>(&self, text: &'a str) -> Result<Incoming<'a, P>, JsonError>;
}

/// `graphql-transport-ws`, the protocol of today's GraphQL servers and of the marketplace.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphqlTransportWs;

impl FeedProtocol for GraphqlTransportWs {
    fn subprotocol(&self) -> Option<&'static str> {
        Some("graphql-transport-ws")
    }

    fn greeting(&self) -> Option<String> {
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

    fn greeting(&self) -> Option<String> {
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

/// Plain JSON: every message is an event, and subscribing is whatever the two functions say.
#[derive(Clone, Copy, Debug)]
pub struct PlainJson {
    /// The message that asks for a topic; `None`: the address named it.
    pub subscribe: Option<fn(id: u64, topic: &str) -> String>,
    /// The message that gives a topic back.
    pub unsubscribe: Option<fn(id: u64, topic: &str) -> String>,
}

impl PlainJson {
    /// The streams are in the address; nothing is ever said.
    pub const SILENT: Self = Self { subscribe: None, unsubscribe: None };

    /// A topic is a whole message, sent as it is.
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

    fn greeting(&self) -> Option<String> {
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
