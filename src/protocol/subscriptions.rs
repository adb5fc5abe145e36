//! The subscriptions of one socket and their lifecycle.
//!
//! # Invariants
//!
//! 1. One opening message per socket, sent first; only pings, pongs and replies before its
//!    acknowledgment.
//! 2. No id is used twice, not even after the end of a subscription.
//! 3. A subscription is retried after `error` or `complete`, with backoff, on the same connection;
//!    an optional one is given up after [`OPTIONAL_FAILURES_MAX`] ends in a row.
//! 4. Messages for unknown or ended ids have no effect.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use super::{ClientMessage, FeedMessage, FeedProtocol, Heartbeat, Incoming, MessageError, Opening};
use crate::backoff::ExponentialBackoff;

/// Number of ends in a row after which an optional subscription is given up on this socket.
pub const OPTIONAL_FAILURES_MAX: u32 = 3;

/// Size of the id range of each session.
const IDS_PER_SESSION: u64 = 1 << 20;

/// Identifies a subscription of a socket, which never reuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    pub topic: String,
    /// `true` if the session is useful without it.
    pub is_optional: bool,
}

/// Event that results from a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolEvent<'a, P> {
    /// Subscriptions may be written: see [`SubscriptionState::due`].
    Acked,
    /// The session was rejected.
    Rejected(Option<&'a str>),
    /// The session was ended.
    Closed {
        code: Option<u16>,
        reason: Option<&'a str>,
    },
    /// A pong is due: see [`SubscriptionState::pong`].
    Ping(Option<&'a str>),
    /// A message that the protocol requires must be written.
    Reply(ClientMessage),
    /// An event; `operation` is `None` if the protocol does not name subscriptions.
    Data {
        operation: Option<OperationId>,
        payload: P,
    },
    /// A subscription ended on a live connection.
    Ended {
        operation: OperationId,
        /// Error of the server, if it was one.
        error: Option<&'a str>,
        /// Time until it is subscribed to again; `None` if it is given up.
        retry_in: Option<Duration>,
    },
    Nothing,
    /// A valid message of an unknown type.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Unopened,
    AwaitingAck,
    Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Due(Instant),
    Live { id: u64 },
    GivenUp,
}

#[derive(Clone, Debug)]
struct ActiveOperation {
    operation: OperationId,
    subscription: Subscription,
    state: State,
    failures: u32,
}

/// The protocol state of one socket.
#[derive(Clone, Debug)]
pub struct SubscriptionState<D> {
    protocol: D,
    phase: Phase,
    operations: Vec<ActiveOperation>,
    ids: u64,
    operation_ids: u64,
    retry_delays: ExponentialBackoff,
}

impl<D: FeedProtocol> SubscriptionState<D> {
    /// Creates the state before the connection. Ended subscriptions are retried after
    /// `retry_delay`, which doubles up to `retry_delay_max`.
    pub fn new(protocol: D, retry_delay: Duration, retry_delay_max: Duration) -> Self {
        Self {
            protocol,
            phase: Phase::Unopened,
            operations: Vec::new(),
            ids: 0,
            operation_ids: 0,
            retry_delays: ExponentialBackoff::doubling(retry_delay, retry_delay_max),
        }
    }

    /// Skips the id ranges of this many earlier sessions, so that no id of theirs is reused.
    #[must_use]
    pub fn with_sessions_before(self, sessions: u64) -> Self {
        Self { ids: sessions.saturating_mul(IDS_PER_SESSION), ..self }
    }

    pub fn subprotocol(&self) -> Option<&'static str> {
        self.protocol.subprotocol()
    }

    /// Starts the session and returns its first message, if there is one.
    pub fn open(&mut self) -> Option<ClientMessage> {
        match self.protocol.open() {
            Opening::Live => {
                self.phase = Phase::Live;
                None
            }
            Opening::AwaitAck(message) => {
                self.phase = Phase::AwaitingAck;
                message
            }
        }
    }

    /// Returns the heartbeat that the server has set.
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.protocol.heartbeat()
    }

    /// Returns the age at which the server ends the connection.
    pub fn max_age(&self) -> Option<Duration> {
        self.protocol.max_age()
    }

    /// Returns `true` once subscriptions may be written.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Adds a subscription that is due at `now`.
    pub fn subscribe(&mut self, subscription: Subscription, now: Instant) -> OperationId {
        self.operation_ids = self.operation_ids.saturating_add(1);
        let operation = OperationId(self.operation_ids);
        let state = State::Due(now);
        self.operations.push(ActiveOperation { operation, subscription, state, failures: 0 });
        operation
    }

    /// Removes a subscription. Returns the message to write if it was live.
    pub fn unsubscribe(&mut self, operation: OperationId) -> Option<ClientMessage> {
        let at = self.operations.iter().position(|active| active.operation == operation)?;
        let removed = self.operations.swap_remove(at);
        match removed.state {
            State::Live { id } => self.protocol.unsubscribe(id, &removed.subscription.topic),
            State::Due(_) | State::GivenUp => None,
        }
    }

    /// Returns the next due subscription and its message. Call until it returns `None`.
    pub fn due(&mut self, now: Instant) -> Option<(OperationId, Option<ClientMessage>)> {
        if !self.is_live() {
            return None;
        }
        let is_due =
            |active: &&mut ActiveOperation| matches!(active.state, State::Due(at) if at <= now);
        let active = self.operations.iter_mut().find(is_due)?;
        self.ids = self.ids.saturating_add(1);
        active.state = State::Live { id: self.ids };
        Some((active.operation, self.protocol.subscribe(self.ids, &active.subscription.topic)))
    }

    /// Returns the time at which the next subscription is due.
    pub fn next_due(&self) -> Option<Instant> {
        if !self.is_live() {
            return None;
        }
        let due = |active: &ActiveOperation| match active.state {
            State::Due(at) => Some(at),
            State::Live { .. } | State::GivenUp => None,
        };
        self.operations.iter().filter_map(due).min()
    }

    /// Subscribes again to everything that is live. Returns the messages that end the old
    /// subscriptions; [`SubscriptionState::due`] returns the new ones.
    pub fn resubscribe(&mut self, now: Instant) -> Vec<ClientMessage> {
        let mut unsubscribes = Vec::new();
        for active in &mut self.operations {
            if let State::Live { id } = active.state {
                unsubscribes.extend(self.protocol.unsubscribe(id, &active.subscription.topic));
                active.state = State::Due(now);
            }
        }
        unsubscribes
    }

    pub fn ping(&self) -> Option<ClientMessage> {
        self.protocol.ping()
    }

    pub fn pong(&self, payload: Option<&str>) -> Option<ClientMessage> {
        self.protocol.pong(payload)
    }

    /// Splits the first part off a message that contains several.
    #[inline]
    pub fn split_first<'a>(
        &self,
        message: FeedMessage<'a>,
    ) -> (FeedMessage<'a>, Option<FeedMessage<'a>>) {
        let (first, rest) = self.protocol.split_first(message);
        (first, rest.filter(|rest| rest.len() < message.len()))
    }

    /// Handles one message of the server, or one part of it. `decode` decodes the payload of an
    /// event.
    ///
    /// # Errors
    ///
    /// Returns a [`MessageError`] if the message is malformed; the session continues.
    #[inline]
    pub fn receive<'a, P>(
        &mut self,
        message: FeedMessage<'a>,
        now: Instant,
        decode: impl FnMut(&mut D::Input<'a>) -> Result<P, D::DecodeError>,
    ) -> Result<ProtocolEvent<'a, P>, MessageError> {
        Ok(match self.protocol.read(message, decode)? {
            Incoming::Data { payload, .. } if !D::NAMES_SUBSCRIPTIONS => {
                ProtocolEvent::Data { operation: None, payload }
            }
            Incoming::Data { id, payload } => match self.live(id) {
                Some(active) => {
                    active.failures = 0;
                    ProtocolEvent::Data { operation: Some(active.operation), payload }
                }
                None => ProtocolEvent::Nothing,
            },
            Incoming::Ping(payload) => ProtocolEvent::Ping(payload),
            Incoming::Pong => ProtocolEvent::Nothing,
            Incoming::Reply(message) => ProtocolEvent::Reply(message),
            Incoming::Ack if self.phase == Phase::AwaitingAck => {
                self.phase = Phase::Live;
                ProtocolEvent::Acked
            }
            Incoming::Ack => ProtocolEvent::Nothing,
            Incoming::Rejected(reason) => ProtocolEvent::Rejected(reason),
            Incoming::Closed { code, reason } => ProtocolEvent::Closed { code, reason },
            Incoming::Error { id, error } => self.ended(id, error, now),
            Incoming::Complete { id } => self.ended(id, None, now),
            Incoming::Unknown => ProtocolEvent::Unknown,
        })
    }

    /// Reads an event that was received before, without effect on the subscriptions.
    pub fn read_again<'a, P>(
        &mut self,
        message: FeedMessage<'a>,
        decode: impl FnMut(&mut D::Input<'a>) -> Result<P, D::DecodeError>,
    ) {
        if let Ok(Incoming::Data { payload, .. }) = self.protocol.read(message, decode) {
            drop(std::hint::black_box(payload));
        }
    }

    /// Returns the rest of an event of a live subscription from its payload on; see
    /// [`FeedProtocol::peek_event`].
    #[inline]
    pub fn peek_event<'a>(&self, message: &'a [u8]) -> Option<&'a [u8]> {
        let (id, payload) = self.protocol.peek_event(message)?;
        let is_live = |id| self.operations.iter().any(|active| active.state == State::Live { id });
        (!D::NAMES_SUBSCRIPTIONS || id.is_some_and(is_live)).then_some(payload)
    }

    #[inline]
    fn live(&mut self, id: Option<u64>) -> Option<&mut ActiveOperation> {
        let id = id?;
        self.operations.iter_mut().find(|active| active.state == State::Live { id })
    }

    fn ended<'a, P>(
        &mut self,
        id: Option<u64>,
        error: Option<&'a str>,
        now: Instant,
    ) -> ProtocolEvent<'a, P> {
        let retry_delays = self.retry_delays;
        let Some(active) = self.live(id) else { return ProtocolEvent::Nothing };
        let wait = retry_delays.wait(active.failures);
        active.failures = active.failures.saturating_add(1);
        let retry_in =
            if active.subscription.is_optional && active.failures >= OPTIONAL_FAILURES_MAX {
                active.state = State::GivenUp;
                None
            } else {
                active.state = State::Due(now.checked_add(wait).unwrap_or(now));
                Some(wait)
            };
        ProtocolEvent::Ended { operation: active.operation, error, retry_in }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{GraphqlTransportWs, GraphqlWs, MessageKinds, PlainJson},
        *,
    };
    use crate::json::{Cursor, JsonError};

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn subscription(topic: &str) -> Subscription {
        Subscription { topic: topic.to_owned(), is_optional: false }
    }

    fn subscriptions() -> SubscriptionState<GraphqlTransportWs> {
        SubscriptionState::new(GraphqlTransportWs, SECOND, MINUTE)
    }

    fn text(message: ClientMessage) -> String {
        let ClientMessage::Text(text) = message else { panic!("{message:?}") };
        text
    }

    fn due<D: FeedProtocol>(subscriptions: &mut SubscriptionState<D>, now: Instant) -> Vec<String> {
        let due = std::iter::from_fn(|| subscriptions.due(now));
        due.filter_map(|(_, message)| message.map(text)).collect()
    }

    fn live(topics: &[&str], now: Instant) -> SubscriptionState<GraphqlTransportWs> {
        let mut subscriptions = subscriptions();
        for topic in topics {
            subscriptions.subscribe(subscription(topic), now);
        }
        subscriptions.open();
        assert_eq!(
            receive(&mut subscriptions, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Acked
        );
        due(&mut subscriptions, now);
        subscriptions
    }

    fn receive<'a, D>(
        subscriptions: &mut SubscriptionState<D>,
        text: &'a str,
        now: Instant,
    ) -> ProtocolEvent<'a, &'a str>
    where
        D: FeedProtocol<Input<'a> = Cursor<'a>, DecodeError = JsonError>,
    {
        subscriptions.receive(FeedMessage::Text(text), now, Cursor::skip).unwrap()
    }

    #[test]
    fn nothing_is_subscribed_before_the_acknowledgment() {
        let now = Instant::now();
        let mut subscriptions = subscriptions();
        subscriptions.subscribe(subscription("{}"), now);
        assert_eq!(
            subscriptions.open().map(text).as_deref(),
            Some(r#"{"type":"connection_init"}"#)
        );
        assert_eq!(due(&mut subscriptions, now), [""; 0]);
        assert_eq!(subscriptions.next_due(), None);
        assert_eq!(
            receive(&mut subscriptions, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Acked
        );
        assert_eq!(due(&mut subscriptions, now), [r#"{"id":"1","type":"subscribe","payload":{}}"#]);
        assert_eq!(due(&mut subscriptions, now), [""; 0]);
    }

    #[test]
    fn a_ping_is_answered_with_its_payload_at_any_time() {
        let now = Instant::now();
        let mut subscriptions = subscriptions();
        subscriptions.open();
        let ping = r#"{"type":"ping","payload":{"t": 1}}"#;
        let ProtocolEvent::Ping(payload) = receive(&mut subscriptions, ping, now) else {
            panic!("no ping")
        };
        assert_eq!(
            subscriptions.pong(payload).map(text).as_deref(),
            Some(r#"{"type":"pong","payload":{"t": 1}}"#)
        );
        assert_eq!(subscriptions.pong(None).map(text).as_deref(), Some(r#"{"type":"pong"}"#));
    }

    #[test]
    fn a_second_acknowledgment_is_ignored() {
        let now = Instant::now();
        let mut subscriptions = live(&["{}"], now);
        assert_eq!(
            receive(&mut subscriptions, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Nothing
        );
    }

    #[test]
    fn an_ended_subscription_is_retried_with_a_new_id_and_backoff() {
        let start = Instant::now();
        let mut subscriptions = live(&["{}"], start);
        let mut now = start;
        for (id, secs) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
            let text = format!(r#"{{"id":"{id}","type":"error","payload":[]}}"#);
            let ProtocolEvent::Ended { retry_in, .. } = receive(&mut subscriptions, &text, now)
            else {
                panic!("{text} did not end it")
            };
            assert_eq!(retry_in, Some(SECOND * secs));
            assert_eq!(due(&mut subscriptions, now), [""; 0]);
            now += SECOND * secs;
            assert_eq!(subscriptions.next_due(), Some(now));
            let next = id + 1;
            assert_eq!(
                due(&mut subscriptions, now),
                [format!(r#"{{"id":"{next}","type":"subscribe","payload":{{}}}}"#)]
            );
        }
    }

    #[test]
    fn an_event_resets_the_retry_backoff() {
        let now = Instant::now();
        let mut subscriptions = live(&["{}"], now);
        for id in 1..=3 {
            let text = format!(r#"{{"id":"{id}","type":"next","payload":1}}"#);
            assert!(matches!(receive(&mut subscriptions, &text, now), ProtocolEvent::Data { .. }));
            let text = format!(r#"{{"id":"{id}","type":"complete"}}"#);
            let ended = receive(&mut subscriptions, &text, now);
            assert!(
                matches!(ended, ProtocolEvent::Ended { retry_in: Some(SECOND), .. }),
                "{ended:?}"
            );
            due(&mut subscriptions, now + SECOND);
        }
    }

    #[test]
    fn an_event_that_is_read_again_does_not_reset_the_retry_backoff() {
        let now = Instant::now();
        let mut subscriptions = live(&["{}"], now);
        let error = r#"{"id":"1","type":"error","payload":[]}"#;
        receive(&mut subscriptions, error, now);
        due(&mut subscriptions, now + SECOND);
        let event = FeedMessage::Text(r#"{"id":"2","type":"next","payload":1}"#);
        subscriptions.read_again(event, Cursor::skip);
        let error = r#"{"id":"2","type":"error","payload":[]}"#;
        let ended = receive(&mut subscriptions, error, now);
        assert!(
            matches!(ended, ProtocolEvent::Ended { retry_in: Some(wait), .. } if wait == 2 * SECOND),
            "{ended:?}"
        );
    }

    #[test]
    fn an_optional_subscription_is_given_up_after_three_endings() {
        let mut now = Instant::now();
        let mut subscriptions = live(&["{}"], now);
        subscriptions.subscribe(Subscription { topic: "{}".to_owned(), is_optional: true }, now);
        due(&mut subscriptions, now);
        for id in 2..=4 {
            let text = format!(r#"{{"id":"{id}","type":"error","payload":[]}}"#);
            let ended = receive(&mut subscriptions, &text, now);
            let ProtocolEvent::Ended { retry_in, .. } = ended else { panic!("{ended:?}") };
            assert_eq!(retry_in.is_none(), id == 4);
            now += MINUTE;
            assert_eq!(due(&mut subscriptions, now).len(), usize::from(id != 4));
        }
        assert_eq!(subscriptions.next_due(), None);
    }

    #[test]
    fn messages_for_unknown_and_ended_ids_are_ignored() {
        let now = Instant::now();
        let mut subscriptions = live(&["{}"], now);
        for text in [
            r#"{"id":"9","type":"next","payload":1}"#,
            r#"{"id":"x","type":"next","payload":1}"#,
            r#"{"type":"next","payload":1}"#,
            r#"{"id":"9","type":"complete"}"#,
            r#"{"id":"9","type":"error","payload":[]}"#,
        ] {
            assert_eq!(receive(&mut subscriptions, text, now), ProtocolEvent::Nothing, "{text}");
        }
        receive(&mut subscriptions, r#"{"id":"1","type":"complete"}"#, now);
        let late = r#"{"id":"1","type":"next","payload":1}"#;
        assert_eq!(receive(&mut subscriptions, late, now), ProtocolEvent::Nothing);
    }

    #[test]
    fn resubscribing_ends_the_old_subscription_and_uses_a_new_id() {
        let now = Instant::now();
        let mut subscriptions = live(&["{}", "[]"], now);
        let unsubscribes = subscriptions.resubscribe(now).into_iter().map(text);
        assert_eq!(
            unsubscribes.collect::<Vec<_>>(),
            [r#"{"id":"1","type":"complete"}"#, r#"{"id":"2","type":"complete"}"#]
        );
        assert_eq!(
            due(&mut subscriptions, now),
            [
                r#"{"id":"3","type":"subscribe","payload":{}}"#,
                r#"{"id":"4","type":"subscribe","payload":[]}"#
            ]
        );
    }

    #[test]
    fn no_session_reuses_an_id_of_an_earlier_one() {
        let now = Instant::now();
        let mut subscriptions =
            SubscriptionState::new(PlainJson::SILENT, SECOND, MINUTE).with_sessions_before(2);
        subscriptions.protocol.subscribe = Some(|id, _topic| id.to_string());
        subscriptions.subscribe(subscription("x"), now);
        subscriptions.open();
        assert_eq!(due(&mut subscriptions, now), [(2 * IDS_PER_SESSION + 1).to_string()]);
    }

    #[test]
    fn graphql_ws_uses_its_own_message_types() {
        let now = Instant::now();
        let mut subscriptions = SubscriptionState::new(GraphqlWs, SECOND, MINUTE);
        subscriptions.subscribe(subscription("{}"), now);
        subscriptions.open();
        assert_eq!(
            receive(&mut subscriptions, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Acked
        );
        assert_eq!(due(&mut subscriptions, now), [r#"{"id":"1","type":"start","payload":{}}"#]);
        assert_eq!(receive(&mut subscriptions, r#"{"type":"ka"}"#, now), ProtocolEvent::Nothing);
        let text = r#"{"id":"1","type":"data","payload":1}"#;
        assert!(matches!(receive(&mut subscriptions, text, now), ProtocolEvent::Data { .. }));
    }

    #[test]
    fn plain_json_is_live_at_once_and_every_message_is_an_event() {
        let now = Instant::now();
        let mut subscriptions = SubscriptionState::new(PlainJson::VERBATIM, SECOND, MINUTE);
        subscriptions.subscribe(subscription(r#"{"op":"sub"}"#), now);
        assert_eq!(subscriptions.open(), None);
        assert_eq!(due(&mut subscriptions, now), [r#"{"op":"sub"}"#]);
        assert_eq!(
            receive(&mut subscriptions, r#"{"type":"ping"}"#, now),
            ProtocolEvent::Data { operation: None, payload: r#"{"type":"ping"}"# }
        );
    }

    /// A binary protocol whose server speaks first. Each part of a message is a kind, a length and
    /// that many bytes.
    #[derive(Debug, Default)]
    struct Parts {
        heartbeat: Option<Heartbeat>,
        token: &'static str,
        topics: Vec<(u64, u8)>,
    }

    impl FeedProtocol for Parts {
        type Input<'a> = &'a [u8];
        type DecodeError = MessageError;

        const KINDS: MessageKinds = MessageKinds::Binary;
        const NAMES_SUBSCRIPTIONS: bool = true;

        fn open(&mut self) -> Opening {
            Opening::AwaitAck(None)
        }

        fn subscribe(&mut self, id: u64, topic: &str) -> Option<ClientMessage> {
            let first = *topic.as_bytes().first()?;
            self.topics.push((id, first));
            Some(ClientMessage::Binary(vec![b's', first]))
        }

        fn unsubscribe(&mut self, id: u64, _topic: &str) -> Option<ClientMessage> {
            self.topics.retain(|(other, _)| *other != id);
            None
        }

        fn heartbeat(&self) -> Option<Heartbeat> {
            self.heartbeat
        }

        fn split_first<'a>(
            &self,
            message: FeedMessage<'a>,
        ) -> (FeedMessage<'a>, Option<FeedMessage<'a>>) {
            let FeedMessage::Binary([kind, len, rest @ ..]) = message else {
                return (message, None);
            };
            let Some((payload, behind)) = rest.split_at_checked(usize::from(*len)) else {
                return (FeedMessage::Binary(&[]), Some(message));
            };
            assert!(payload.len() < 250 && *kind != 0);
            let bytes = message.binary().unwrap();
            let first = FeedMessage::Binary(&bytes[..payload.len() + 2]);
            (first, (!behind.is_empty()).then_some(FeedMessage::Binary(behind)))
        }

        fn read<'a, T>(
            &mut self,
            message: FeedMessage<'a>,
            mut decode: impl FnMut(&mut &'a [u8]) -> Result<T, MessageError>,
        ) -> Result<Incoming<'a, T>, MessageError> {
            let Some((&kind, mut rest)) =
                message.binary()?.split_first_chunk().map(|([kind, _len], rest)| (kind, rest))
            else {
                return Err(MessageError::Malformed { what: "no kind" });
            };
            Ok(match kind {
                b'o' => {
                    let [interval, timeout] = *rest else {
                        return Err(MessageError::Malformed { what: "no times" });
                    };
                    let seconds = |count: u8| Duration::from_secs(count.into());
                    let heartbeat =
                        Heartbeat { interval: seconds(interval), timeout: seconds(timeout) };
                    self.heartbeat = Some(heartbeat);
                    Incoming::Reply(ClientMessage::from(self.token))
                }
                b'a' => Incoming::Ack,
                topic => {
                    let payload = decode(&mut rest)?;
                    let id = self.topics.iter().find(|(_, known)| *known == topic);
                    Incoming::Data { id: id.map(|(id, _)| *id), payload }
                }
            })
        }

        fn skip(input: &mut &[u8]) -> Result<(), MessageError> {
            *input = &[];
            Ok(())
        }
    }

    #[test]
    fn a_stateful_binary_protocol_uses_its_token_and_knows_what_was_subscribed() {
        let now = Instant::now();
        let protocol = Parts { token: "token", ..Parts::default() };
        let mut subscriptions = SubscriptionState::new(protocol, SECOND, MINUTE);
        let listings = subscriptions.subscribe(subscription("listings"), now);
        assert_eq!(subscriptions.open(), None);
        let decode = |input: &mut &[u8]| Ok(std::mem::take(input).to_vec());
        assert_eq!(subscriptions.heartbeat(), None);
        let opened = subscriptions.receive(FeedMessage::Binary(b"o\x02\x19\x05"), now, decode);
        assert_eq!(opened, Ok(ProtocolEvent::Reply(ClientMessage::from("token"))));
        let heartbeat = Heartbeat { interval: 25 * SECOND, timeout: 5 * SECOND };
        assert_eq!(subscriptions.heartbeat(), Some(heartbeat));
        assert_eq!(subscriptions.due(now), None);
        let acked = subscriptions.receive(FeedMessage::Binary(b"a\0"), now, decode);
        assert_eq!(acked, Ok(ProtocolEvent::Acked));
        let subscribed = subscriptions.due(now);
        assert_eq!(subscribed, Some((listings, Some(ClientMessage::Binary(b"sl".to_vec())))));
        let event = |payload: &[u8]| ProtocolEvent::Data {
            operation: Some(listings),
            payload: payload.to_vec(),
        };
        let mut rest = Some(FeedMessage::Binary(b"l\x02abx\x01yl\x01c"));
        let mut events = Vec::new();
        while let Some(message) = rest {
            let (first, behind) = subscriptions.split_first(message);
            rest = behind;
            events.push(subscriptions.receive(first, now, decode).unwrap());
        }
        assert_eq!(events, [event(b"ab"), ProtocolEvent::Nothing, event(b"c")]);
        let text = subscriptions.receive(FeedMessage::Text("l"), now, decode);
        assert_eq!(text, Err(MessageError::Kind));
    }

    #[test]
    fn a_part_that_does_not_shorten_the_message_ends_it() {
        let subscriptions = SubscriptionState::new(Parts::default(), SECOND, MINUTE);
        let torn = FeedMessage::Binary(b"l\x09abc");
        assert_eq!(subscriptions.split_first(torn), (FeedMessage::Binary(&[]), None));
    }

    #[derive(Clone, Debug)]
    enum Move {
        Ack,
        Data(u64),
        End(u64),
        Resubscribe,
        Pass(u64),
    }

    proptest! {
        /// Invariants 1 and 2 hold for any sequence of events.
        #[test]
        fn ids_are_never_reused_and_nothing_precedes_the_ack(
            moves in prop::collection::vec(prop_oneof![
                Just(Move::Ack),
                (0_u64..20).prop_map(Move::Data),
                (0_u64..20).prop_map(Move::End),
                Just(Move::Resubscribe),
                (0_u64..100).prop_map(Move::Pass),
            ], 0..60),
        ) {
            let mut now = Instant::now();
            let mut subscriptions = subscriptions();
            subscriptions.subscribe(subscription("{}"), now);
            subscriptions.subscribe(Subscription { topic: "[]".to_owned(), is_optional: true }, now);
            subscriptions.open();
            let (mut acked, mut last) = (false, 0_u64);
            for step in moves {
                match step {
                    Move::Ack => {
                        acked = true;
                        receive(&mut subscriptions, r#"{"type":"connection_ack"}"#, now);
                    }
                    Move::Data(id) => {
                        let text = format!(r#"{{"id":"{id}","type":"next","payload":1}}"#);
                        let event = receive(&mut subscriptions, &text, now);
                        let is_data = matches!(event, ProtocolEvent::Data { .. });
                        prop_assert!(!is_data || (acked && id <= last));
                    }
                    Move::End(id) => {
                        let text = format!(r#"{{"id":"{id}","type":"complete"}}"#);
                        receive(&mut subscriptions, &text, now);
                    }
                    Move::Resubscribe => { subscriptions.resubscribe(now); }
                    Move::Pass(secs) => now += SECOND * u32::try_from(secs).unwrap(),
                }
                for text in due(&mut subscriptions, now) {
                    prop_assert!(acked);
                    let id = text.split('"').nth(3).unwrap().parse::<u64>().unwrap();
                    prop_assert!(id > last);
                    last = id;
                }
            }
        }
    }
}
