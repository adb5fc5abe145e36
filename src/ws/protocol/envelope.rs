//! Parses a message and its envelope in one pass.
//!
//! If `type` and `id` precede `payload`, as the market sends them, the payload is parsed in
//! place. If `payload` comes first, its text is kept and parsed once the type is known.

use crate::json::{Cursor, FromCursor, JsonError, JsonStr, RawValue, ValueKind, read};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a, P> {
    /// The session was accepted.
    Ack,
    /// The session was rejected.
    Rejected(Option<RawValue<'a>>),
    /// Requests a pong with the same payload.
    Ping(Option<RawValue<'a>>),
    Pong,
    /// An event of a subscription; protocols without ids have no id.
    Data {
        id: Option<JsonStr<'a>>,
        payload: P,
    },
    /// Ends a subscription with an error.
    Error {
        id: Option<JsonStr<'a>>,
        payload: Option<RawValue<'a>>,
    },
    /// The server has ended a subscription.
    Complete {
        id: Option<JsonStr<'a>>,
    },
    /// Valid JSON of an unknown type.
    Unknown,
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

/// Parses a message; `data_word` is the type of its events.
///
/// # Errors
///
/// Returns a [`JsonError`] if the text is not a JSON object, repeats one of the three keys, or is
/// an event without a payload.
pub(super) fn open<'a, P: FromCursor<'a>>(
    text: &'a str,
    data_word: &str,
) -> Result<Incoming<'a, P>, JsonError> {
    const SHAPE: JsonError = JsonError::Shape { at: 0 };
    let mut cursor = Cursor::new(text);
    let (mut word, mut id, mut payload) = (None, None, MessagePayload::Absent);
    let mut seen_id = false;
    cursor.object(|key, cursor| {
        match key.decode().as_ref() {
            "type" if word.is_some() => return Err(SHAPE),
            "type" => {
                word = Some(match cursor.peek()? {
                    ValueKind::String => word_of(&cursor.string()?.decode(), data_word),
                    _ => cursor.skip().map(|_no_word| MessageType::Unknown)?,
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
            "payload" if word == Some(MessageType::Data) => {
                payload = MessagePayload::Read(P::from_cursor(cursor)?);
            }
            "payload" => payload = MessagePayload::Text(cursor.skip()?),
            _ => cursor.skip().map(drop)?,
        }
        Ok(())
    })?;
    cursor.end()?;
    let raw = match payload {
        MessagePayload::Text(text) => Some(RawValue(text)),
        MessagePayload::Absent | MessagePayload::Read(_) => None,
    };
    Ok(match word.unwrap_or(MessageType::Unknown) {
        MessageType::Ack => Incoming::Ack,
        MessageType::Rejected => Incoming::Rejected(raw),
        MessageType::Ping => Incoming::Ping(raw),
        MessageType::Pong => Incoming::Pong,
        MessageType::Data => match payload {
            MessagePayload::Read(payload) => Incoming::Data { id, payload },
            MessagePayload::Text(text) => Incoming::Data { id, payload: read(text)? },
            MessagePayload::Absent => return Err(SHAPE),
        },
        MessageType::Error => Incoming::Error { id, payload: raw },
        MessageType::Complete => Incoming::Complete { id },
        MessageType::Unknown => Incoming::Unknown,
    })
}

fn word_of(word: &str, data_word: &str) -> MessageType {
    match word {
        word if word == data_word => MessageType::Data,
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

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match open::<RawValue<'_>>(text, "next") {
            Ok(Incoming::Data { id, payload }) => {
                format!("data {:?} {}", id.map(|id| id.decode().into_owned()), payload.0)
            }
            Ok(Incoming::Error { id, payload }) => format!(
                "error {:?} {:?}",
                id.map(|id| id.decode().into_owned()),
                payload.map(|raw| raw.0)
            ),
            Ok(Incoming::Complete { id }) => {
                format!("complete {:?}", id.map(|id| id.decode().into_owned()))
            }
            Ok(Incoming::Ping(payload)) => format!("ping {:?}", payload.map(|raw| raw.0)),
            Ok(other) => format!("{other:?}"),
            Err(_) => "unreadable".to_owned(),
        };
        assert_eq!(shown, expected, "text: {text}");
    }

    #[test]
    fn the_order_of_keys_is_irrelevant() {
        check(r#"{"id":"1","type":"next","payload":{"a":1}}"#, r#"data Some("1") {"a":1}"#);
        check(r#"{"payload":{"a":1},"id":"1","type":"next"}"#, r#"data Some("1") {"a":1}"#);
        check(r#"{"type":"next","payload":[],"id":"1"}"#, r#"data Some("1") []"#);
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
        check(r#"{"type":"complete","id":"3"}"#, r#"complete Some("3")"#);
        check(r#"{"type":"error","id":"3","payload":[]}"#, r#"error Some("3") Some("[]")"#);
        check(r#"{"type":"connection_error"}"#, "Rejected(None)");
        check(r#"{"type":"something_new","payload":{}}"#, "Unknown");
        check(r#"{"type":5}"#, "Unknown");
        check("{}", "Unknown");
        check(r#"{"type":"next","id":7,"payload":{}}"#, "data None {}");
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
            if open::<RawValue<'_>>(&text, "next").is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
