//! Plain JSON: every message is an event.

use super::{
    ClientMessage, FeedMessage, FeedProtocol, Incoming, MessageError, MessageKinds, Opening,
};
use crate::json::{Cursor, JsonError};

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
    type Input<'a> = Cursor<'a>;
    type DecodeError = JsonError;

    const KINDS: MessageKinds = MessageKinds::Text;
    const NAMES_SUBSCRIPTIONS: bool = false;

    fn open(&mut self) -> Opening {
        Opening::Live
    }

    fn subscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
        self.subscribe.map(|message| message(id, topic).into())
    }

    fn unsubscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
        self.unsubscribe.map(|message| message(id, topic).into())
    }

    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        mut decode: impl FnMut(&mut Cursor<'a>) -> Result<T, JsonError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        let mut cursor = Cursor::new(message.text()?);
        let payload = decode(&mut cursor)?;
        cursor.end()?;
        Ok(Incoming::Data { id: None, payload })
    }

    fn skip(input: &mut Cursor<'_>) -> Result<(), JsonError> {
        input.skip().map(drop)
    }
}
