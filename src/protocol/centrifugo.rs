//! The Centrifugo client protocol in JSON: numbered commands, their replies, and pushes of
//! channels.
//!
//! | message | meaning |
//! |---|---|
//! | `{"id":n,"connect":{…}}` | acknowledgment, with the ping interval and the age limit `ttl` |
//! | `{"id":n,"subscribe":{…}}` | a subscription is live |
//! | `{"id":n,"error":{"code":…,"message":…}}` | a command failed |
//! | `{"push":{"channel":…,"pub":{"data":…}}}` | event of a channel |
//! | `{"push":{"channel":…,"unsubscribe":{…}}}` | the server has ended a subscription |
//! | `{"push":{"disconnect":{…}}}` | the server ends the session |
//! | `{}` | ping, answered with `{}` |
//!
//! One text message may contain several objects, see [`split`]. Neither a position in a channel nor
//! a token is renewed on a connection: each reconnect is a gap, and a new connection with a new
//! token replaces the old one before it has reached its age limit.
//!
//! Source: the public documentation of Centrifugo and public clients.

mod split;

use std::{borrow::Cow, time::Duration};

use super::{
    ClientMessage, FeedMessage, FeedProtocol, Heartbeat, Incoming, MessageError, MessageKinds,
    Opening,
};
use crate::{
    json::{Cursor, JsonError, JsonStr, ValueKind},
    secret::Secret,
};

/// Additional time after which a connection without a ping of the server counts as dead.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Error codes of the server (source: its documentation).
const INTERNAL: u32 = 100;
const ALREADY_SUBSCRIBED: u32 = 105;
const TOKEN_EXPIRED: u32 = 109;
const TOO_MANY_REQUESTS: u32 = 111;

/// Close code of a connection whose token is not accepted.
const INVALID_TOKEN: u16 = 3_500;

const SHAPE: JsonError = JsonError::Shape { at: 0 };

/// The client protocol of Centrifugo. A topic is the name of a channel.
///
/// Its default value has no token and no channel.
#[derive(Clone, Debug, Default)]
pub struct Centrifugo {
    token: Option<Secret>,
    /// Name of the client, for the server's statistics.
    name: &'static str,
    /// Number of the last command. The server accepts 32 bits.
    last_command: u32,
    /// Number of the connect command.
    connect: Option<u32>,
    channels: Vec<SubscribedChannel>,
    heartbeat: Option<Heartbeat>,
    max_age: Option<Duration>,
}

/// A channel that was subscribed to.
#[derive(Clone, Debug)]
struct SubscribedChannel {
    id: u64,
    /// Number of the subscribe command.
    command: u32,
    name: String,
}

/// Fields of a message that are not read in place.
#[derive(Debug)]
struct CommandReply<'a> {
    command: Option<u32>,
    connect: Option<&'a str>,
    error: Option<&'a str>,
}

/// Content of a push.
enum ChannelPush<'a, T> {
    Publication {
        channel: Option<JsonStr<'a>>,
        payload: T,
    },
    Unsubscribe {
        channel: Option<JsonStr<'a>>,
        content: &'a str,
    },
    Disconnect(&'a str),
    /// A join, a leave, or something unknown.
    Other,
}

impl Centrifugo {
    /// Creates the protocol of one connection.
    pub fn new(name: &'static str, token: Secret) -> Self {
        Self { token: Some(token), name, ..Self::default() }
    }

    fn command(&mut self, method: &str, parameters: &str) -> (u32, ClientMessage) {
        self.last_command = self.last_command.saturating_add(1);
        let id = self.last_command;
        (id, format!(r#"{{"id":{id},"{method}":{{{parameters}}}}}"#).into())
    }

    /// Returns the id of the subscription to a channel.
    #[inline]
    fn id_of(&self, channel: Option<JsonStr<'_>>) -> Option<u64> {
        let channel = channel?;
        match channel.plain() {
            Some(name) => self.id_of_name(name.as_bytes()),
            None => self.id_of_name(channel.decode().as_bytes()),
        }
    }

    #[inline]
    fn id_of_name(&self, name: &[u8]) -> Option<u64> {
        let channel = self.channels.iter().find(|channel| channel.name.as_bytes() == name)?;
        Some(channel.id)
    }

    fn on_push<'a, T>(&self, push: ChannelPush<'a, T>) -> Incoming<'a, T> {
        match push {
            ChannelPush::Publication { channel, payload } => {
                Incoming::Data { id: self.id_of(channel), payload }
            }
            ChannelPush::Unsubscribe { channel, content } => {
                Incoming::Error { id: self.id_of(channel), error: Some(content) }
            }
            ChannelPush::Disconnect(content) => {
                let code = code_of(content).and_then(|code| u16::try_from(code).ok());
                Incoming::Closed { code, reason: Some(text_of(content)) }
            }
            ChannelPush::Other => Incoming::Unknown,
        }
    }

    fn on_reply<'a, T>(&mut self, reply: &CommandReply<'a>) -> Incoming<'a, T> {
        let is_connect = self.connect.is_some() && reply.command == self.connect;
        match (reply.command, reply.error, reply.connect) {
            (None, ..) => Incoming::Unknown,
            (_, Some(error), _) if is_connect => match code_of(error) {
                // A new connection has a new token.
                Some(INTERNAL | TOKEN_EXPIRED | TOO_MANY_REQUESTS) => {
                    Incoming::Closed { code: None, reason: Some(text_of(error)) }
                }
                _ => Incoming::Rejected(Some(text_of(error))),
            },
            (Some(command), Some(error), _) => {
                let channel = self.channels.iter().find(|channel| channel.command == command);
                match (channel, code_of(error)) {
                    (None, _) => Incoming::Unknown,
                    (Some(_), Some(ALREADY_SUBSCRIBED)) => Incoming::Pong,
                    (Some(_), Some(TOKEN_EXPIRED)) => {
                        Incoming::Closed { code: None, reason: Some(text_of(error)) }
                    }
                    (Some(channel), _) => {
                        Incoming::Error { id: Some(channel.id), error: Some(error) }
                    }
                }
            }
            (Some(_), None, Some(connect)) if is_connect => {
                self.heartbeat = seconds_of(connect, "ping")
                    .map(|interval| Heartbeat { interval, timeout: PING_TIMEOUT });
                self.max_age = seconds_of(connect, "ttl");
                Incoming::Ack
            }
            (Some(_), None, _) if is_connect => Incoming::Rejected(None),
            // A command succeeded.
            (Some(_), None, _) => Incoming::Pong,
        }
    }
}

impl FeedProtocol for Centrifugo {
    type Input<'a> = Cursor<'a>;
    type DecodeError = JsonError;

    const KINDS: MessageKinds = MessageKinds::Text;
    const NAMES_SUBSCRIPTIONS: bool = true;

    fn open(&mut self) -> Opening {
        let name = quoted(self.name);
        let parameters = match &self.token {
            Some(token) => format!(r#""token":{},"name":{name}"#, quoted(token.reveal())),
            None => format!(r#""name":{name}"#),
        };
        let (command, message) = self.command("connect", &parameters);
        self.connect = Some(command);
        Opening::AwaitAck(Some(message))
    }

    fn subscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
        let parameters = format!(r#""channel":{}"#, quoted(topic));
        let (command, message) = self.command("subscribe", &parameters);
        self.channels.retain(|channel| channel.name != topic);
        self.channels.push(SubscribedChannel { id, command, name: topic.to_owned() });
        Some(message)
    }

    fn unsubscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
        self.channels.retain(|channel| channel.id != id);
        Some(self.command("unsubscribe", &format!(r#""channel":{}"#, quoted(topic))).1)
    }

    fn pong(&self, _payload: Option<&str>) -> Option<ClientMessage> {
        Some("{}".into())
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        self.heartbeat
    }

    fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    fn can_reconnect_after(code: u16) -> Option<bool> {
        match code {
            // An invalid token: the next connection has a new one.
            INVALID_TOKEN => Some(true),
            3_000..=3_499 | 4_000..=4_499 => Some(true),
            3_500..=3_999 | 4_500..=4_999 => Some(false),
            _ => None,
        }
    }

    #[inline]
    fn split_first<'a>(
        &self,
        message: FeedMessage<'a>,
    ) -> (FeedMessage<'a>, Option<FeedMessage<'a>>) {
        let FeedMessage::Text(text) = message else { return (message, None) };
        let (first, rest) = split::split_first(text);
        (FeedMessage::Text(first), rest.map(FeedMessage::Text))
    }

    #[inline]
    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        mut decode: impl FnMut(&mut Cursor<'a>) -> Result<T, JsonError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        let mut cursor = Cursor::new(message.text()?);
        let mut reply = CommandReply { command: None, connect: None, error: None };
        let (mut push, mut is_empty) = (None, true);
        cursor.object(|key, cursor| {
            is_empty = false;
            match key.decode().as_ref() {
                "push" if push.is_some() => return Err(SHAPE),
                "push" => push = Some(read_push(cursor, &mut decode)?),
                "id" => reply.command = read_number(cursor)?,
                "connect" => reply.connect = Some(cursor.skip()?),
                "error" => reply.error = Some(cursor.skip()?).filter(|error| *error != "null"),
                _ => cursor.skip().map(drop)?,
            }
            Ok(())
        })?;
        cursor.end()?;
        Ok(match push {
            _ if is_empty => Incoming::Ping(None),
            Some(push) => self.on_push(push),
            None => self.on_reply(&reply),
        })
    }

    #[inline]
    fn peek_event<'a>(&self, message: &'a [u8]) -> Option<(Option<u64>, &'a [u8])> {
        let rest = message.strip_prefix(br#"{"push":{"channel":""#)?;
        let (name, rest) = rest.split_at_checked(memchr::memchr2(b'"', b'\\', rest)?)?;
        let payload = rest.strip_prefix(br#"","pub":{"data":"#)?;
        (!split::may_have_several(payload)).then(|| (self.id_of_name(name), payload))
    }

    fn skip(input: &mut Cursor<'_>) -> Result<(), JsonError> {
        input.skip().map(drop)
    }

    /// Returns `message (code)` of an error, or `reason (code)` of another end.
    fn error_message(error: &str) -> Cow<'_, str> {
        let mut text = None;
        let read = Cursor::new(error).object(|key, cursor| match key.decode().as_ref() {
            "message" | "reason" if text.is_none() && cursor.peek()? == ValueKind::String => {
                cursor.string().map(|found| text = Some(found.decode()))
            }
            _ => cursor.skip().map(drop),
        });
        match (read, text.filter(|text| !text.is_empty()), code_of(error)) {
            (Ok(()), Some(text), Some(code)) => Cow::Owned(format!("{text} ({code})")),
            (Ok(()), Some(text), None) => text,
            _ => Cow::Borrowed(error),
        }
    }
}

/// Returns a text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads a push. An event whose channel follows it is read like any other.
#[inline]
fn read_push<'a, T>(
    cursor: &mut Cursor<'a>,
    decode: &mut impl FnMut(&mut Cursor<'a>) -> Result<T, JsonError>,
) -> Result<ChannelPush<'a, T>, JsonError> {
    let (mut channel, mut payload) = (None, None);
    let (mut unsubscribe, mut disconnect) = (None, None);
    if cursor.peek()? != ValueKind::Object {
        return cursor.skip().map(|_other| ChannelPush::Other);
    }
    cursor.object(|key, cursor| {
        match key.decode().as_ref() {
            "channel" if channel.is_some() => return Err(SHAPE),
            "channel" if cursor.peek()? == ValueKind::String => channel = Some(cursor.string()?),
            "pub" if payload.is_some() => return Err(SHAPE),
            "pub" => payload = read_publication(cursor, decode)?,
            "unsubscribe" => unsubscribe = Some(cursor.skip()?),
            "disconnect" => disconnect = Some(cursor.skip()?),
            _ => cursor.skip().map(drop)?,
        }
        Ok(())
    })?;
    Ok(match (disconnect, unsubscribe, payload) {
        (Some(content), ..) => ChannelPush::Disconnect(content),
        (None, Some(content), _) => ChannelPush::Unsubscribe { channel, content },
        (None, None, Some(payload)) => ChannelPush::Publication { channel, payload },
        (None, None, None) => ChannelPush::Other,
    })
}

/// Decodes the data of a publication, if it has some.
#[inline]
fn read_publication<'a, T>(
    cursor: &mut Cursor<'a>,
    decode: &mut impl FnMut(&mut Cursor<'a>) -> Result<T, JsonError>,
) -> Result<Option<T>, JsonError> {
    if cursor.peek()? != ValueKind::Object {
        return cursor.skip().map(|_other| None);
    }
    let mut payload = None;
    cursor.object(|key, cursor| {
        match key.decode().as_ref() {
            "data" if payload.is_some() => return Err(SHAPE),
            "data" => payload = Some(decode(cursor)?),
            _ => cursor.skip().map(drop)?,
        }
        Ok(())
    })?;
    Ok(payload)
}

/// Reads the number of a command; `None` for any other value.
fn read_number(cursor: &mut Cursor<'_>) -> Result<Option<u32>, JsonError> {
    Ok(cursor.skip()?.parse().ok())
}

/// Returns the text of an error or of another end if it is written without escapes, or else the
/// whole object.
fn text_of(object: &str) -> &str {
    let mut text = None;
    let read = Cursor::new(object).object(|key, cursor| match key.plain() {
        Some("message" | "reason") if cursor.peek()? == ValueKind::String => {
            cursor.string().map(|found| text = found.plain().filter(|found| !found.is_empty()))
        }
        _ => cursor.skip().map(drop),
    });
    read.ok().and(text).unwrap_or(object)
}

/// Returns the value of a key of an object that is a number.
fn number_of(object: &str, name: &str) -> Option<u32> {
    let mut number = None;
    let read = Cursor::new(object).object(|key, cursor| {
        let value = cursor.skip()?;
        if key.decode() == name {
            number = value.parse().ok();
        }
        Ok(())
    });
    read.ok().and(number)
}

fn code_of(object: &str) -> Option<u32> {
    number_of(object, "code")
}

fn seconds_of(object: &str, name: &str) -> Option<Duration> {
    let seconds = number_of(object, name).filter(|seconds| *seconds != 0)?;
    Some(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests;
