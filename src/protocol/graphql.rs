//! The two GraphQL subscription protocols. A message and its envelope are parsed in one pass.
//!
//! If `type` and `id` precede `payload`, as the market sends them, the payload is parsed in
//! place. If `payload` comes first, its text is kept and parsed once the type is known.

use std::borrow::Cow;

use super::{
    ClientMessage, FeedMessage, FeedProtocol, Incoming, MessageError, MessageKinds, Opening,
};
use crate::json::{Cursor, JsonError, JsonStr, ValueKind};

/// `graphql-transport-ws`, the current protocol of GraphQL servers.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphqlTransportWs;

impl FeedProtocol for GraphqlTransportWs {
    type Input<'a> = Cursor<'a>;
    type DecodeError = JsonError;

    const KINDS: MessageKinds = MessageKinds::Text;
    const NAMES_SUBSCRIPTIONS: bool = true;

    fn subprotocol(&self) -> Option<&'static str> {
        Some("graphql-transport-ws")
    }

    fn open(&mut self) -> Opening {
        Opening::AwaitAck(Some(r#"{"type":"connection_init"}"#.into()))
    }

    fn subscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
        Some(format!(r#"{{"id":"{id}","type":"subscribe","payload":{topic}}}"#).into())
    }

    fn unsubscribe(&mut self, id: u64, _topic: &str) -> Option<ClientMessage> {
        Some(format!(r#"{{"id":"{id}","type":"complete"}}"#).into())
    }

    fn ping(&self) -> Option<ClientMessage> {
        Some(r#"{"type":"ping"}"#.into())
    }

    fn pong(&self, payload: Option<&str>) -> Option<ClientMessage> {
        Some(match payload {
            Some(payload) => format!(r#"{{"type":"pong","payload":{payload}}}"#).into(),
            None => r#"{"type":"pong"}"#.into(),
        })
    }

    #[inline]
    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        decode: impl FnMut(&mut Cursor<'a>) -> Result<T, JsonError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        Ok(parse_message(message.text()?, "next", decode)?)
    }

    #[inline]
    fn peek_event<'a>(&self, message: &'a [u8]) -> Option<(Option<u64>, &'a [u8])> {
        let mut rest = message.strip_prefix(br#"{"id":""#)?;
        let mut id = 0_u64;
        while let [digit @ b'0'..=b'9', behind @ ..] = rest {
            id = id.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))?;
            rest = behind;
        }
        Some((Some(id), rest.strip_prefix(br#"","type":"next","payload":"#)?))
    }

    fn skip(input: &mut Cursor<'_>) -> Result<(), JsonError> {
        input.skip().map(drop)
    }

    fn error_message(error: &str) -> Cow<'_, str> {
        first_error_message(error)
    }
}

/// `graphql-ws`, the older protocol of Apollo's `subscriptions-transport-ws`.
#[derive(Clone, Copy, Debug, Default)]
pub struct GraphqlWs;

impl FeedProtocol for GraphqlWs {
    type Input<'a> = Cursor<'a>;
    type DecodeError = JsonError;

    const KINDS: MessageKinds = MessageKinds::Text;
    const NAMES_SUBSCRIPTIONS: bool = true;

    fn subprotocol(&self) -> Option<&'static str> {
        Some("graphql-ws")
    }

    fn open(&mut self) -> Opening {
        Opening::AwaitAck(Some(r#"{"type":"connection_init","payload":{}}"#.into()))
    }

    fn subscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
        Some(format!(r#"{{"id":"{id}","type":"start","payload":{topic}}}"#).into())
    }

    fn unsubscribe(&mut self, id: u64, _topic: &str) -> Option<ClientMessage> {
        Some(format!(r#"{{"id":"{id}","type":"stop"}}"#).into())
    }

    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        decode: impl FnMut(&mut Cursor<'a>) -> Result<T, JsonError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        Ok(parse_message(message.text()?, "data", decode)?)
    }

    fn skip(input: &mut Cursor<'_>) -> Result<(), JsonError> {
        input.skip().map(drop)
    }

    fn error_message(error: &str) -> Cow<'_, str> {
        first_error_message(error)
    }
}

/// Returns the message of the first of a list of GraphQL errors, or the raw JSON if there is none.
fn first_error_message(errors: &str) -> Cow<'_, str> {
    let mut message = None;
    let read = Cursor::new(errors).array(|cursor| {
        cursor.object(|key, cursor| match key.decode().as_ref() {
            "message" if message.is_none() => {
                cursor.string().map(|text| message = Some(text.decode()))
            }
            _ => cursor.skip().map(drop),
        })
    });
    read.ok().and(message).unwrap_or(Cow::Borrowed(errors))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MessageType {
    Ack,
    Rejected,
    Ping,
    Pong,
    Data,
    Error,
    Complete,
    Unknown,
}

enum MessagePayload<'a, P> {
    Absent,
    Read(P),
    Text(&'a str),
}

/// Parses a message; `data_type` is the type of its events.
///
/// # Errors
///
/// Returns a [`JsonError`] if the text is not a JSON object, repeats one of the three keys, or is
/// an event without a payload.
#[inline]
fn parse_message<'a, P>(
    text: &'a str,
    data_type: &str,
    mut decode: impl FnMut(&mut Cursor<'a>) -> Result<P, JsonError>,
) -> Result<Incoming<'a, P>, JsonError> {
    const SHAPE: JsonError = JsonError::Shape { at: 0 };
    let mut cursor = Cursor::new(text);
    let (mut message_type, mut id, mut payload) = (None, None, MessagePayload::Absent);
    let mut seen_id = false;
    cursor.object(|key, cursor| {
        match key.decode().as_ref() {
            "type" if message_type.is_some() => return Err(SHAPE),
            "type" => {
                message_type = Some(match cursor.peek()? {
                    ValueKind::String => type_of(&cursor.string()?.decode(), data_type),
                    _ => cursor.skip().map(|_other| MessageType::Unknown)?,
                });
            }
            "id" if seen_id => return Err(SHAPE),
            "id" => {
                seen_id = true;
                match cursor.string() {
                    Ok(text) => id = Some(text),
                    Err(JsonError::Shape { .. }) => cursor.skip().map(drop)?,
                    Err(error) => return Err(error),
                }
            }
            "payload" if !matches!(payload, MessagePayload::Absent) => return Err(SHAPE),
            "payload" if message_type == Some(MessageType::Data) => {
                payload = MessagePayload::Read(decode(cursor)?);
            }
            "payload" => payload = MessagePayload::Text(cursor.skip()?),
            _ => cursor.skip().map(drop)?,
        }
        Ok(())
    })?;
    cursor.end()?;
    let raw = match payload {
        MessagePayload::Text(text) => Some(text),
        MessagePayload::Absent | MessagePayload::Read(_) => None,
    };
    let id = id.and_then(|id: JsonStr<'_>| id.decode().parse().ok());
    Ok(match message_type.unwrap_or(MessageType::Unknown) {
        MessageType::Ack => Incoming::Ack,
        MessageType::Rejected => Incoming::Rejected(raw),
        MessageType::Ping => Incoming::Ping(raw),
        MessageType::Pong => Incoming::Pong,
        MessageType::Data => match payload {
            MessagePayload::Read(payload) => Incoming::Data { id, payload },
            MessagePayload::Text(text) => {
                let mut cursor = Cursor::new(text);
                let payload = decode(&mut cursor)?;
                cursor.end()?;
                Incoming::Data { id, payload }
            }
            MessagePayload::Absent => return Err(SHAPE),
        },
        MessageType::Error => Incoming::Error { id, error: raw },
        MessageType::Complete => Incoming::Complete { id },
        MessageType::Unknown => Incoming::Unknown,
    })
}

fn type_of(name: &str, data_type: &str) -> MessageType {
    match name {
        name if name == data_type => MessageType::Data,
        "ping" => MessageType::Ping,
        "pong" | "ka" => MessageType::Pong,
        "connection_ack" => MessageType::Ack,
        "connection_error" => MessageType::Rejected,
        "error" => MessageType::Error,
        "complete" => MessageType::Complete,
        _ => MessageType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open_raw(text: &str) -> Result<Incoming<'_, &str>, JsonError> {
        parse_message(text, "next", Cursor::skip)
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match open_raw(text) {
            Ok(Incoming::Data { id, payload }) => format!("data {id:?} {payload}"),
            Ok(Incoming::Error { id, error }) => format!("error {id:?} {error:?}"),
            Ok(Incoming::Complete { id }) => format!("complete {id:?}"),
            Ok(Incoming::Ping(payload)) => format!("ping {payload:?}"),
            Ok(other) => format!("{other:?}"),
            Err(_) => "unreadable".to_owned(),
        };
        assert_eq!(shown, expected, "text: {text}");
    }

    #[test]
    fn the_order_of_keys_is_irrelevant() {
        check(r#"{"id":"1","type":"next","payload":{"a":1}}"#, r#"data Some(1) {"a":1}"#);
        check(r#"{"payload":{"a":1},"id":"1","type":"next"}"#, r#"data Some(1) {"a":1}"#);
        check(r#"{"type":"next","payload":[],"id":"1"}"#, r#"data Some(1) []"#);
        check(r#"{"typ\u0065":"n\u0065xt","payload":7}"#, "data None 7");
        check(r#"{"x":{"type":"ping"},"type":"next","payload":7}"#, "data None 7");
    }

    #[test]
    fn each_message_type_is_recognized() {
        check(r#"{"type":"connection_ack"}"#, "Ack");
        check(r#"{"type":"ping"}"#, "ping None");
        check(r#"{"type":"ping","payload":{"t":1}}"#, r#"ping Some("{\"t\":1}")"#);
        check(r#"{"type":"pong","payload":{}}"#, "Pong");
        check(r#"{"type":"ka"}"#, "Pong");
        check(r#"{"type":"complete","id":"3"}"#, r#"complete Some(3)"#);
        check(r#"{"type":"error","id":"3","payload":[]}"#, r#"error Some(3) Some("[]")"#);
        check(r#"{"type":"connection_error"}"#, "Rejected(None)");
        check(r#"{"type":"something_new","payload":{}}"#, "Unknown");
        check(r#"{"type":5}"#, "Unknown");
        check("{}", "Unknown");
        check(r#"{"type":"next","id":7,"payload":{}}"#, "data None {}");
        check(r#"{"type":"next","id":"x","payload":{}}"#, "data None {}");
    }

    #[test]
    fn malformed_messages_are_rejected() {
        for text in [
            "",
            "[]",
            "null",
            "\"next\"",
            "{",
            r#"{"type":"next"}"#,
            r#"{"type":"next","payload":}"#,
            r#"{"type":"next","payload":{}"#,
            r#"{"type":"next","payload":{}} x"#,
            r#"{"type":"ping","type":"next","payload":{}}"#,
            r#"{"type":"next","payload":{},"payload":{}}"#,
            r#"{"id":"1","id":"2","type":"complete"}"#,
        ] {
            check(text, "unreadable");
        }
        let deep = format!(r#"{{"type":"next","payload":{}}}"#, "[".repeat(100_000));
        check(&deep, "unreadable");
    }

    proptest! {
        #[test]
        fn reading_never_panics_and_agrees_with_serde(text in "\\PC{0,80}") {
            if open_raw(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
