//! Messages of a WebSocket in both directions, and the errors of reading one.

use std::fmt;

use crate::{json::JsonError, text::Escaped};

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
