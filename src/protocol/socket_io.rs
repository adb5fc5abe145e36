//! Socket.IO 5 over Engine.IO 4, on one WebSocket with text frames.
//!
//! Each frame begins with the type of an Engine.IO packet; that of a message is followed by the
//! type of a Socket.IO packet, the namespace if it is not the default one, an optional id, and
//! JSON:
//!
//! | server | client | meaning |
//! |---|---|---|
//! | `0{"sid":…,"pingInterval":25000,"pingTimeout":20000}` | `40` | open; connects to the namespace |
//! | `40{"sid":…}` | | connected: the acknowledgment |
//! | `44{"message":…}` | | the namespace rejects the client, for its authorization or for now |
//! | `42["event",{…}]` | `42["event",{…}]` | event with its arguments |
//! | `41` | | the server has disconnected the namespace |
//! | `1` | | the server closes the connection |
//! | `2` | `3` | ping and pong; only the server pings |
//!
//! Binary attachments, acknowledgments and unknown types are counted as unknown. An event that
//! asks for an acknowledgment is read like any other.
//!
//! # Invariants
//!
//! 1. The namespace is connected to once, after the first open packet. No packet before it has a
//!    meaning except an engine close and pings.
//! 2. A packet for another namespace has no effect.
//! 3. The whole text of an event is valid JSON, or the message is malformed.

use std::{borrow::Cow, time::Duration};

use super::{
    ClientMessage, FeedMessage, FeedProtocol, Heartbeat, Incoming, MessageError, MessageKinds,
    Opening,
};
use crate::json::{Cursor, JsonError, JsonStr, ValueKind};

/// Name of the default namespace, which no packet contains.
const DEFAULT_NAMESPACE: &str = "/";

/// Maximum length of the payload of a ping that is returned, in bytes.
const PING_BYTES_MAX: usize = 125;

/// One connection to one namespace.
#[derive(Clone, Debug)]
pub struct SocketIo {
    namespace: Cow<'static, str>,
    is_open: bool,
    heartbeat: Option<Heartbeat>,
}

/// An event: its name, and a cursor at its first argument, or at `null` without one.
#[derive(Clone, Debug)]
pub struct SocketIoEvent<'a> {
    pub name: JsonStr<'a>,
    pub argument: Cursor<'a>,
}

impl SocketIo {
    /// Connects to a namespace, such as `/trade`.
    pub fn in_namespace(namespace: impl Into<Cow<'static, str>>) -> Self {
        Self { namespace: namespace.into(), is_open: false, heartbeat: None }
    }

    /// Returns a message to the namespace with this Socket.IO packet type.
    fn packet(&self, kind: char, json: &str) -> ClientMessage {
        match &*self.namespace {
            DEFAULT_NAMESPACE => format!("4{kind}{json}").into(),
            namespace => format!("4{kind}{namespace},{json}").into(),
        }
    }

    /// Handles the open packet: takes over the times of the server and connects to the namespace.
    fn on_open<'a, T>(&mut self, handshake: &str) -> Result<Incoming<'a, T>, MessageError> {
        if self.is_open {
            return Ok(Incoming::Unknown);
        }
        let mut cursor = Cursor::new(handshake);
        let (mut interval, mut timeout) = (None, None);
        cursor.object(|key, cursor| {
            let time = match &*key.decode() {
                "pingInterval" => &mut interval,
                "pingTimeout" => &mut timeout,
                _ => return cursor.skip().map(drop),
            };
            *time = milliseconds(cursor)?;
            Ok(())
        })?;
        cursor.end()?;
        self.is_open = true;
        self.heartbeat =
            interval.zip(timeout).map(|(interval, timeout)| Heartbeat { interval, timeout });
        Ok(Incoming::Reply(self.packet('0', "")))
    }

    /// Handles a Socket.IO packet, given by its type and the rest of the message.
    #[inline]
    fn on_packet<'a, T>(
        &self,
        packet: &'a str,
        decode: impl FnMut(&mut SocketIoEvent<'a>) -> Result<T, JsonError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        let mut rest = packet.chars();
        let kind = rest.next();
        let content = self.of_namespace(rest.as_str());
        let Some(content) = content.filter(|_content| self.is_open) else {
            return Ok(Incoming::Unknown);
        };
        Ok(match kind {
            Some('2') => Incoming::Data { id: None, payload: read_event(content, decode)? },
            Some('0') => {
                if !content.is_empty() {
                    valid_json(content)?;
                }
                Incoming::Ack
            }
            Some('1') if content.is_empty() => {
                Incoming::Closed { code: None, reason: Some("the namespace was disconnected") }
            }
            Some('4') => match rejection(content)? {
                Some(reason) if super::is_about_access(reason) => Incoming::Rejected(Some(reason)),
                // It may be an overload, which ends.
                reason => Incoming::Closed { code: None, reason },
            },
            _ => Incoming::Unknown,
        })
    }

    /// Strips the namespace off a packet's content. Returns `None` if it is another one.
    #[inline]
    fn of_namespace<'a>(&self, content: &'a str) -> Option<&'a str> {
        if !content.starts_with('/') {
            return (self.namespace == DEFAULT_NAMESPACE).then_some(content);
        }
        let (namespace, content) = content.split_once(',').unwrap_or((content, ""));
        (namespace == self.namespace).then_some(content)
    }
}

/// The default namespace.
impl Default for SocketIo {
    fn default() -> Self {
        Self::in_namespace(DEFAULT_NAMESPACE)
    }
}

impl FeedProtocol for SocketIo {
    type Input<'a> = SocketIoEvent<'a>;
    type DecodeError = JsonError;

    const KINDS: MessageKinds = MessageKinds::Text;
    const NAMES_SUBSCRIPTIONS: bool = false;

    fn of_recording() -> Self {
        Self { is_open: true, ..Self::default() }
    }

    /// Sends nothing, because the server sends the first message.
    fn open(&mut self) -> Opening {
        Opening::AwaitAck(None)
    }

    /// Sends an event. The topic is its JSON array: the name and the arguments.
    fn subscribe(&mut self, _id: u64, topic: &str) -> Option<ClientMessage> {
        Some(self.packet('2', topic))
    }

    fn unsubscribe(&mut self, _id: u64, _topic: &str) -> Option<ClientMessage> {
        None
    }

    fn pong(&self, payload: Option<&str>) -> Option<ClientMessage> {
        Some(format!("3{}", payload.unwrap_or_default()).into())
    }

    fn heartbeat(&self) -> Option<Heartbeat> {
        self.heartbeat
    }

    #[inline]
    fn read<'a, T>(
        &mut self,
        message: FeedMessage<'a>,
        decode: impl FnMut(&mut SocketIoEvent<'a>) -> Result<T, JsonError>,
    ) -> Result<Incoming<'a, T>, MessageError> {
        let text = message.text()?;
        if let Some(packet) = text.strip_prefix('4') {
            return self.on_packet(packet, decode);
        }
        if let Some(handshake) = text.strip_prefix('0') {
            return self.on_open(handshake);
        }
        Ok(match text {
            "1" => Incoming::Closed { code: None, reason: Some("the engine was closed") },
            "2" => Incoming::Ping(None),
            "3" | "6" => Incoming::Pong,
            "" => return Err(MessageError::Malformed { what: "an empty message" }),
            _ => match text.strip_prefix('2') {
                Some(payload) if payload.len() <= PING_BYTES_MAX => Incoming::Ping(Some(payload)),
                _ => Incoming::Unknown,
            },
        })
    }

    /// Returns the payload of an event, which begins with the event's name.
    #[inline]
    fn peek_event<'a>(&self, message: &'a [u8]) -> Option<(Option<u64>, &'a [u8])> {
        let rest = message.strip_prefix(b"42")?;
        let rest = match &*self.namespace {
            DEFAULT_NAMESPACE => rest,
            namespace => rest.strip_prefix(namespace.as_bytes())?.strip_prefix(b",")?,
        };
        Some((None, rest.strip_prefix(b"[").filter(|_payload| self.is_open)?))
    }

    fn skip(input: &mut SocketIoEvent<'_>) -> Result<(), JsonError> {
        input.argument.skip().map(drop)
    }
}

/// Reads a time in whole milliseconds. Any other value is `None`.
fn milliseconds(cursor: &mut Cursor<'_>) -> Result<Option<Duration>, JsonError> {
    let ms = cursor.skip()?.parse().ok();
    Ok(ms.filter(|ms| *ms != 0).map(Duration::from_millis))
}

/// Reads the array of an event, behind its optional id.
#[inline]
fn read_event<'a, T>(
    content: &'a str,
    mut decode: impl FnMut(&mut SocketIoEvent<'a>) -> Result<T, JsonError>,
) -> Result<T, MessageError> {
    let array = content.trim_start_matches(|char: char| char.is_ascii_digit());
    let mut cursor = Cursor::new(array);
    let (mut name, mut decoded) = (None, None);
    cursor.array(|cursor| {
        match name {
            None => name = Some(cursor.string()?),
            Some(name) if decoded.is_none() => {
                let mut event = SocketIoEvent { name, argument: cursor.clone() };
                decoded = Some(decode(&mut event)?);
                *cursor = event.argument;
            }
            Some(_) => drop(cursor.skip()?),
        }
        Ok(())
    })?;
    cursor.end()?;
    match (decoded, name) {
        (Some(decoded), _) => Ok(decoded),
        (None, Some(name)) => {
            Ok(decode(&mut SocketIoEvent { name, argument: Cursor::new("null") })?)
        }
        (None, None) => Err(MessageError::Malformed { what: "an event without a name" }),
    }
}

/// Returns the message of a connect error: its `message`, a bare string, or its whole text.
fn rejection(content: &str) -> Result<Option<&str>, JsonError> {
    if content.is_empty() {
        return Ok(None);
    }
    let mut message = None;
    let mut cursor = Cursor::new(content);
    match cursor.peek()? {
        ValueKind::Object => cursor.object(|key, cursor| {
            let value = cursor.skip()?;
            if &*key.decode() == "message" && message.is_none() {
                message = Some(value);
            }
            Ok(())
        })?,
        _ => drop(cursor.skip()?),
    }
    cursor.end()?;
    let text = message.unwrap_or(content);
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Ok(Some(unquoted.unwrap_or(text)))
}

fn valid_json(text: &str) -> Result<(), JsonError> {
    let mut cursor = Cursor::new(text);
    cursor.skip()?;
    cursor.end()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const OPEN: &str = r#"0{"sid":"Qx1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    /// Reads a message and shows its meaning; that of an event as its name and argument.
    fn read(protocol: &mut SocketIo, text: &str) -> String {
        let decode = |event: &mut SocketIoEvent<'_>| {
            Ok(format!("{} {}", event.name.decode(), event.argument.skip()?))
        };
        match protocol.read(FeedMessage::Text(text), decode) {
            Ok(Incoming::Data { id: None, payload }) => payload,
            Ok(Incoming::Reply(ClientMessage::Text(reply))) => format!("reply {reply}"),
            Ok(Incoming::Rejected(reason)) => format!("rejected {reason:?}"),
            Ok(Incoming::Closed { code: None, reason }) => format!("closed {reason:?}"),
            Ok(Incoming::Ping(payload)) => format!("ping {payload:?}"),
            Ok(other) => format!("{other:?}"),
            Err(_) => "malformed".to_owned(),
        }
    }

    fn script(mut protocol: SocketIo, exchange: &[(&str, &str)]) -> SocketIo {
        assert_eq!(protocol.open(), Opening::AwaitAck(None));
        for (text, expected) in exchange {
            assert_eq!(read(&mut protocol, text), *expected, "{text}");
        }
        protocol
    }

    fn opened() -> SocketIo {
        script(SocketIo::default(), &[(OPEN, "reply 40"), (r#"40{"sid":"Lk2"}"#, "Ack")])
    }

    fn text(message: Option<ClientMessage>) -> Option<String> {
        message.map(|message| match message {
            ClientMessage::Text(text) => text,
            ClientMessage::Binary(_) => panic!("binary"),
        })
    }

    #[test]
    fn a_session_opens_connects_subscribes_and_receives_events() {
        let mut protocol = opened();
        let times = (Duration::from_secs(25), Duration::from_secs(20));
        let heartbeat = protocol.heartbeat().map(|set| (set.interval, set.timeout));
        assert_eq!(heartbeat, Some(times));
        let subscribe = protocol.subscribe(1, r#"["sub",{"name":"csgo"}]"#);
        assert_eq!(text(subscribe).as_deref(), Some(r#"42["sub",{"name":"csgo"}]"#));
        let exchange = [
            (r#"42["handshake",{"id":null}]"#, r#"handshake {"id":null}"#),
            (r#"42["new",{"price":1}]"#, r#"new {"price":1}"#),
            (r#"4217["new",{"price":1}]"#, r#"new {"price":1}"#),
            (r#"42["bare"]"#, "bare null"),
            (r#"42["two",1,{"rest":[]}]"#, "two 1"),
            ("2", "ping None"),
            ("2probe", r#"ping Some("probe")"#),
            ("3", "Pong"),
            ("6", "Pong"),
            ("41", r#"closed Some("the namespace was disconnected")"#),
            ("1", r#"closed Some("the engine was closed")"#),
        ];
        let protocol = script(protocol, &exchange);
        assert_eq!(text(protocol.pong(None)).as_deref(), Some("3"));
        assert_eq!(text(protocol.pong(Some("probe"))).as_deref(), Some("3probe"));
    }

    #[test]
    fn a_connect_error_is_a_rejection_with_its_reason() {
        for (packet, expected) in [
            (r#"44{"message":"Not authorized"}"#, r#"rejected Some("Not authorized")"#),
            (r#"44{"data":{},"message":"Access DENIED"}"#, r#"rejected Some("Access DENIED")"#),
            (r#"44"Invalid API key""#, r#"rejected Some("Invalid API key")"#),
            (r#"44{"message":"Server is overloaded"}"#, r#"closed Some("Server is overloaded")"#),
            (r#"44{"code":1}"#, r#"closed Some("{\"code\":1}")"#),
            ("44", "closed None"),
            ("44{", "malformed"),
        ] {
            script(SocketIo::default(), &[(OPEN, "reply 40"), (packet, expected)]);
        }
    }

    #[test]
    fn a_namespace_of_its_own_ignores_the_packets_of_others() {
        let exchange = [
            (OPEN, "reply 40/trade,"),
            (r#"40{"sid":"x"}"#, "Unknown"),
            (r#"40/trade,{"sid":"x"}"#, "Ack"),
            (r#"42/trade,["init",{"a":1}]"#, r#"init {"a":1}"#),
            (r#"42/trade,7["init",{"a":1}]"#, r#"init {"a":1}"#),
            (r#"42["init",{"a":1}]"#, "Unknown"),
            (r#"42/other,["init",{"a":1}]"#, "Unknown"),
            ("41/other,", "Unknown"),
            ("41/trade,", r#"closed Some("the namespace was disconnected")"#),
            (r#"44/trade,{"message":"no"}"#, r#"closed Some("no")"#),
        ];
        let mut protocol = script(SocketIo::in_namespace("/trade"), &exchange);
        let subscribe = protocol.subscribe(1, r#"["filters",{}]"#);
        assert_eq!(text(subscribe).as_deref(), Some(r#"42/trade,["filters",{}]"#));
        assert!(protocol.peek_event(br#"42["new",{}]"#).is_none());
        assert_eq!(protocol.peek_event(br#"42/trade,["a"]"#), Some((None, &br#""a"]"#[..])));
    }

    #[test]
    fn nothing_has_a_meaning_before_the_open_packet_and_a_second_one_has_none() {
        let early = [
            (r#"40{"sid":"x"}"#, "Unknown"),
            (r#"42["new",{}]"#, "Unknown"),
            ("41", "Unknown"),
            (OPEN, "reply 40"),
            (OPEN, "Unknown"),
        ];
        script(SocketIo::default(), &early);
        assert!(SocketIo::default().peek_event(br#"42["new",{}]"#).is_none());
        assert!(opened().peek_event(br#"42["new",{}]"#).is_some());
    }

    #[test]
    fn times_that_the_server_does_not_state_are_not_guessed() {
        for times in ["", r#""pingInterval":25000"#, r#""pingInterval":-1,"pingTimeout":20000"#] {
            let open = format!("0{{{times}}}");
            let protocol = script(SocketIo::default(), &[(&open, "reply 40")]);
            assert_eq!(protocol.heartbeat(), None, "{times}");
        }
        script(
            SocketIo::default(),
            &[("0", "malformed"), ("0[]", "malformed"), ("0{} x", "malformed")],
        );
    }

    #[test]
    fn unknown_packets_are_counted_and_malformed_events_rejected() {
        let long = format!("2{}", "x".repeat(PING_BYTES_MAX + 1));
        let mut protocol = opened();
        for packet in ["4", "43[]", "45-[]", "46", "5", "7", "9", "x", "11", "ü", "41{}", &long] {
            assert_eq!(read(&mut protocol, packet), "Unknown", "{packet}");
        }
        for packet in
            ["", "42", "42[", "42[]", "42[1]", "42{}", r#"42["a""#, r#"42["a",{]"#, r#"42["a"] x"#]
        {
            assert_eq!(read(&mut protocol, packet), "malformed", "{packet}");
        }
        let binary = protocol.read(FeedMessage::Binary(b"42"), |_event| Ok(()));
        assert_eq!(binary, Err(MessageError::Kind));
    }

    proptest! {
        #[test]
        fn an_encoded_event_is_read_back(
            name in "\\PC{0,12}", number in any::<i64>(), text in "\\PC{0,12}", is_named in any::<bool>(),
        ) {
            let namespace = if is_named { "/trade" } else { DEFAULT_NAMESPACE };
            let mut protocol = SocketIo::in_namespace(namespace);
            read(&mut protocol, OPEN);
            let argument = json!({ "number": number, "text": text });
            let message = protocol.subscribe(1, &json!([name, argument]).to_string());
            let Some(ClientMessage::Text(message)) = message else { panic!("no text") };
            let decode = |event: &mut SocketIoEvent<'_>| {
                Ok((event.name.decode().into_owned(), event.argument.skip()?.to_owned()))
            };
            let Ok(Incoming::Data { payload: (read_name, read_argument), .. }) =
                protocol.read(FeedMessage::Text(&message), decode) else { panic!("{message}") };
            prop_assert_eq!(read_name, name);
            let read_argument: Value = serde_json::from_str(&read_argument).unwrap();
            prop_assert_eq!(read_argument, argument);
        }

        #[test]
        fn no_message_makes_it_panic(texts in prop::collection::vec("[0-6]{0,2}(/trade,)?[\\PC]{0,40}", 0..8), is_named in any::<bool>()) {
            let mut protocol = if is_named { SocketIo::in_namespace("/trade") } else { SocketIo::default() };
            for text in ["0{}"].into_iter().chain(texts.iter().map(String::as_str)) {
                let shown = read(&mut protocol, text);
                if let Some((_, payload)) = protocol.peek_event(text.as_bytes()) {
                    prop_assert!(text.as_bytes().ends_with(payload));
                    prop_assert!(!shown.starts_with("closed") && shown != "Ack");
                }
            }
        }
    }
}
