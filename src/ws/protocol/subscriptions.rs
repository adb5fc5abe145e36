//! Who says what when.
//!
//! # Invariants
//!
//! 1. One greeting per socket, first; nothing but pings and pongs before it is acknowledged.
//! 2. No id is ever used twice, not even after an ending.
//! 3. What is wanted is asked for again after `error` or `complete`, under backoff, on the same
//!    link; one that is merely optional is given up after [`OPTIONAL_FAILURES_MAX`] endings.
//! 4. Messages for ids that are unknown or ended do nothing.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::time::{Duration, Instant};

use super::{FeedProtocol, Incoming};
use crate::json::{FromCursor, JsonError, JsonStr, RawValue};

/// After so many endings in a row an optional subscription is not asked for again on this socket.
pub const OPTIONAL_FAILURES_MAX: u32 = 3;

/// How many ids each conversation has for itself.
const IDS_EACH: u64 = 1 << 20;

/// The place of a subscription among those of a socket. Never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub u64);

/// Something to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What the dialect calls it.
    pub topic: String,
    /// Whether the session is worth something without it.
    pub is_optional: bool,
}

/// What a message means to whoever holds the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolEvent<'a, P> {
    /// The subscriptions may be written: ask [`SubscriptionState::due`].
    Acked,
    /// The session was refused.
    Refused(Option<RawValue<'a>>),
    /// The server asks for a pong: [`SubscriptionState::pong`].
    Ping(Option<RawValue<'a>>),
    /// An event; `None` where the dialect does not say of which subscription.
    Data {
        /// The subscription.
        operation: Option<OperationId>,
        /// The event.
        payload: P,
    },
    /// A subscription ended on the live link.
    Ended {
        /// The subscription.
        operation: OperationId,
        /// The server's words, where it was an error.
        error: Option<RawValue<'a>>,
        /// When it is asked for again; `None`: it is given up.
        again_in: Option<Duration>,
    },
    /// Nothing to do.
    Nothing,
    /// Well-formed, and not a word of the dialect.
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
    wanted: Subscription,
    state: State,
    failures: u32,
}

/// One socket's conversation.
#[derive(Clone, Debug)]
pub struct SubscriptionState<D> {
    dialect: D,
    phase: Phase,
    operations: Vec<ActiveOperation>,
    ids: u64,
    operation_ids: u64,
    heal: (Duration, Duration),
}

impl<D: FeedProtocol> SubscriptionState<D> {
    /// A conversation that has not begun. Ended subscriptions are healed after the first of these
    /// waits, doubling up to the second.
    pub fn new(dialect: D, heal_after: Duration, heal_after_max: Duration) -> Self {
        Self {
            dialect,
            phase: Phase::Unopened,
            operations: Vec::new(),
            ids: 0,
            operation_ids: 0,
            heal: (heal_after, heal_after_max),
        }
    }

    /// The same with other ids than this many earlier conversations had, so that none of theirs is
    /// ever used again.
    #[must_use]
    pub fn after(self, conversations: u64) -> Self {
        Self { ids: conversations.saturating_mul(IDS_EACH), ..self }
    }

    /// The subprotocol to ask for.
    pub fn subprotocol(&self) -> Option<&'static str> {
        self.dialect.subprotocol()
    }

    /// Begins: the greeting, if the dialect has one. Without one the link is live at once.
    pub fn open(&mut self) -> Option<String> {
        let greeting = self.dialect.greeting();
        self.phase = if greeting.is_some() { Phase::AwaitingAck } else { Phase::Live };
        greeting
    }

    /// Whether subscriptions may be written.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Wants something from now on.
    pub fn want(&mut self, wanted: Subscription, now: Instant) -> OperationId {
        self.operation_ids = self.operation_ids.saturating_add(1);
        let operation = OperationId(self.operation_ids);
        let state = State::Due(now);
        self.operations.push(ActiveOperation { operation, wanted, state, failures: 0 });
        operation
    }

    /// Wants it no more. Returns what to write, if it was asked for.
    pub fn unwant(&mut self, operation: OperationId) -> Option<String> {
        let at = self.operations.iter().position(|held| held.operation == operation)?;
        let gone = self.operations.swap_remove(at);
        match gone.state {
            State::Live { id } => self.dialect.unsubscribe(id, &gone.wanted.topic),
            State::Due(_) | State::GivenUp => None,
        }
    }

    /// The next subscription whose time has come, to be written. Call until `None`.
    pub fn due(&mut self, now: Instant) -> Option<(OperationId, Option<String>)> {
        if !self.is_live() {
            return None;
        }
        let is_due =
            |held: &&mut ActiveOperation| matches!(held.state, State::Due(at) if at <= now);
        let held = self.operations.iter_mut().find(is_due)?;
        self.ids = self.ids.saturating_add(1);
        held.state = State::Live { id: self.ids };
        Some((held.operation, self.dialect.subscribe(self.ids, &held.wanted.topic)))
    }

    /// When the next subscription's time comes.
    pub fn next_due(&self) -> Option<Instant> {
        if !self.is_live() {
            return None;
        }
        let due = |held: &ActiveOperation| match held.state {
            State::Due(at) => Some(at),
            State::Live { .. } | State::GivenUp => None,
        };
        self.operations.iter().filter_map(due).min()
    }

    /// Asks for everything anew that is live: returns what to write for the old ones; the new ones
    /// come through [`SubscriptionState::due`].
    pub fn renew(&mut self, now: Instant) -> Vec<String> {
        let mut farewells = Vec::new();
        for held in &mut self.operations {
            if let State::Live { id } = held.state {
                farewells.extend(self.dialect.unsubscribe(id, &held.wanted.topic));
                held.state = State::Due(now);
            }
        }
        farewells
    }

    /// The message that asks whether the server lives, where the dialect has one.
    pub fn ping(&self) -> Option<&'static str> {
        self.dialect.ping()
    }

    /// The answer to a ping.
    pub fn pong(&self, payload: Option<RawValue<'_>>) -> Option<String> {
        self.dialect.pong(payload)
    }

    /// Takes one message.
    ///
    /// # Errors
    ///
    /// A [`JsonError`] when it cannot be read; the conversation goes on.
    #[inline]
    pub fn receive<'a, P: FromCursor<'a>>(
        &mut self,
        text: &'a str,
        now: Instant,
    ) -> Result<ProtocolEvent<'a, P>, JsonError> {
        Ok(match self.dialect.read::<P>(text)? {
            Incoming::Data { id: None, payload } if self.dialect.greeting().is_none() => {
                ProtocolEvent::Data { operation: None, payload }
            }
            Incoming::Data { id, payload } => match self.live(id) {
                Some(held) => {
                    held.failures = 0;
                    ProtocolEvent::Data { operation: Some(held.operation), payload }
                }
                None => ProtocolEvent::Nothing,
            },
            Incoming::Ping(payload) => ProtocolEvent::Ping(payload),
            Incoming::Pong => ProtocolEvent::Nothing,
            Incoming::Ack if self.phase == Phase::AwaitingAck => {
                self.phase = Phase::Live;
                ProtocolEvent::Acked
            }
            Incoming::Ack => ProtocolEvent::Nothing,
            Incoming::Refused(reason) => ProtocolEvent::Refused(reason),
            Incoming::Error { id, payload } => self.ended(id, payload, now),
            Incoming::Complete { id } => self.ended(id, None, now),
            Incoming::Unknown => ProtocolEvent::Unknown,
        })
    }

    #[inline]
    fn live(&mut self, id: Option<JsonStr<'_>>) -> Option<&mut ActiveOperation> {
        let id = id?.decode().parse::<u64>().ok()?;
        self.operations.iter_mut().find(|held| held.state == State::Live { id })
    }

    fn ended<'a, P>(
        &mut self,
        id: Option<JsonStr<'_>>,
        error: Option<RawValue<'a>>,
        now: Instant,
    ) -> ProtocolEvent<'a, P> {
        let (first, longest) = self.heal;
        let Some(held) = self.live(id) else { return ProtocolEvent::Nothing };
        let wait = first.saturating_mul(2_u32.saturating_pow(held.failures)).min(longest);
        held.failures = held.failures.saturating_add(1);
        let again_in = if held.wanted.is_optional && held.failures >= OPTIONAL_FAILURES_MAX {
            held.state = State::GivenUp;
            None
        } else {
            held.state = State::Due(now.checked_add(wait).unwrap_or(now));
            Some(wait)
        };
        ProtocolEvent::Ended { operation: held.operation, error, again_in }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{GraphqlTransportWs, GraphqlWs, PlainJson},
        *,
    };

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn wanted(topic: &str) -> Subscription {
        Subscription { topic: topic.to_owned(), is_optional: false }
    }

    fn machine() -> SubscriptionState<GraphqlTransportWs> {
        SubscriptionState::new(GraphqlTransportWs, SECOND, MINUTE)
    }

    fn due<D: FeedProtocol>(machine: &mut SubscriptionState<D>, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| machine.due(now)).filter_map(|(_, text)| text).collect()
    }

    fn live(topics: &[&str], now: Instant) -> SubscriptionState<GraphqlTransportWs> {
        let mut machine = machine();
        for topic in topics {
            machine.want(wanted(topic), now);
        }
        machine.open();
        assert_eq!(
            receive(&mut machine, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Acked
        );
        due(&mut machine, now);
        machine
    }

    fn receive<'a, D: FeedProtocol>(
        machine: &mut SubscriptionState<D>,
        text: &'a str,
        now: Instant,
    ) -> ProtocolEvent<'a, RawValue<'a>> {
        machine.receive(text, now).unwrap()
    }

    #[test]
    fn nothing_is_asked_for_before_the_acknowledgement() {
        let now = Instant::now();
        let mut machine = machine();
        machine.want(wanted("{}"), now);
        assert_eq!(machine.open().as_deref(), Some(r#"{"type":"connection_init"}"#));
        assert_eq!(due(&mut machine, now), [""; 0]);
        assert_eq!(machine.next_due(), None);
        assert_eq!(
            receive(&mut machine, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Acked
        );
        assert_eq!(due(&mut machine, now), [r#"{"id":"1","type":"subscribe","payload":{}}"#]);
        assert_eq!(due(&mut machine, now), [""; 0]);
    }

    #[test]
    fn a_ping_is_answered_with_its_payload_at_any_time() {
        let now = Instant::now();
        let mut machine = machine();
        machine.open();
        let text = r#"{"type":"ping","payload":{"t": 1}}"#;
        let ProtocolEvent::Ping(payload) = receive(&mut machine, text, now) else {
            panic!("no ping")
        };
        assert_eq!(machine.pong(payload).as_deref(), Some(r#"{"type":"pong","payload":{"t": 1}}"#));
        assert_eq!(machine.pong(None).as_deref(), Some(r#"{"type":"pong"}"#));
    }

    #[test]
    fn a_second_acknowledgement_means_nothing() {
        let now = Instant::now();
        let mut machine = live(&["{}"], now);
        assert_eq!(
            receive(&mut machine, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Nothing
        );
    }

    #[test]
    fn an_ended_subscription_is_asked_for_again_with_a_new_id_under_backoff() {
        let start = Instant::now();
        let mut machine = live(&["{}"], start);
        let mut now = start;
        for (id, secs) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
            let text = format!(r#"{{"id":"{id}","type":"error","payload":[]}}"#);
            let ProtocolEvent::Ended { again_in, .. } = receive(&mut machine, &text, now) else {
                panic!("{text} did not end it")
            };
            assert_eq!(again_in, Some(SECOND * secs));
            assert_eq!(due(&mut machine, now), [""; 0]);
            now += SECOND * secs;
            assert_eq!(machine.next_due(), Some(now));
            let next = id + 1;
            assert_eq!(
                due(&mut machine, now),
                [format!(r#"{{"id":"{next}","type":"subscribe","payload":{{}}}}"#)]
            );
        }
    }

    #[test]
    fn an_event_forgives_earlier_endings() {
        let now = Instant::now();
        let mut machine = live(&["{}"], now);
        for id in 1..=3 {
            let text = format!(r#"{{"id":"{id}","type":"next","payload":1}}"#);
            assert!(matches!(receive(&mut machine, &text, now), ProtocolEvent::Data { .. }));
            let text = format!(r#"{{"id":"{id}","type":"complete"}}"#);
            let ended = receive(&mut machine, &text, now);
            assert!(
                matches!(ended, ProtocolEvent::Ended { again_in: Some(SECOND), .. }),
                "{ended:?}"
            );
            due(&mut machine, now + SECOND);
        }
    }

    #[test]
    fn an_optional_subscription_is_given_up_after_three_endings() {
        let mut now = Instant::now();
        let mut machine = live(&["{}"], now);
        machine.want(Subscription { topic: "{}".to_owned(), is_optional: true }, now);
        due(&mut machine, now);
        for id in 2..=4 {
            let text = format!(r#"{{"id":"{id}","type":"error","payload":[]}}"#);
            let ended = receive(&mut machine, &text, now);
            let ProtocolEvent::Ended { again_in, .. } = ended else { panic!("{ended:?}") };
            assert_eq!(again_in.is_none(), id == 4);
            now += MINUTE;
            assert_eq!(due(&mut machine, now).len(), usize::from(id != 4));
        }
        assert_eq!(machine.next_due(), None);
    }

    #[test]
    fn unknown_and_ended_ids_do_nothing() {
        let now = Instant::now();
        let mut machine = live(&["{}"], now);
        for text in [
            r#"{"id":"9","type":"next","payload":1}"#,
            r#"{"id":"x","type":"next","payload":1}"#,
            r#"{"type":"next","payload":1}"#,
            r#"{"id":"9","type":"complete"}"#,
            r#"{"id":"9","type":"error","payload":[]}"#,
        ] {
            assert_eq!(receive(&mut machine, text, now), ProtocolEvent::Nothing, "{text}");
        }
        receive(&mut machine, r#"{"id":"1","type":"complete"}"#, now);
        let late = r#"{"id":"1","type":"next","payload":1}"#;
        assert_eq!(receive(&mut machine, late, now), ProtocolEvent::Nothing);
    }

    #[test]
    fn renewing_ends_the_old_and_asks_with_a_new_id() {
        let now = Instant::now();
        let mut machine = live(&["{}", "[]"], now);
        let farewells = machine.renew(now);
        assert_eq!(
            farewells,
            [r#"{"id":"1","type":"complete"}"#, r#"{"id":"2","type":"complete"}"#]
        );
        assert_eq!(
            due(&mut machine, now),
            [
                r#"{"id":"3","type":"subscribe","payload":{}}"#,
                r#"{"id":"4","type":"subscribe","payload":[]}"#
            ]
        );
    }

    #[test]
    fn no_conversation_uses_an_id_of_an_earlier_one() {
        let now = Instant::now();
        let mut machine = SubscriptionState::new(PlainJson::SILENT, SECOND, MINUTE).after(2);
        machine.dialect.subscribe = Some(|id, _topic| id.to_string());
        machine.want(wanted("x"), now);
        machine.open();
        assert_eq!(due(&mut machine, now), [(2 * IDS_EACH + 1).to_string()]);
    }

    #[test]
    fn the_older_dialect_has_its_own_words() {
        let now = Instant::now();
        let mut machine = SubscriptionState::new(GraphqlWs, SECOND, MINUTE);
        machine.want(wanted("{}"), now);
        machine.open();
        assert_eq!(
            receive(&mut machine, r#"{"type":"connection_ack"}"#, now),
            ProtocolEvent::Acked
        );
        assert_eq!(due(&mut machine, now), [r#"{"id":"1","type":"start","payload":{}}"#]);
        assert_eq!(receive(&mut machine, r#"{"type":"ka"}"#, now), ProtocolEvent::Nothing);
        let text = r#"{"id":"1","type":"data","payload":1}"#;
        assert!(matches!(receive(&mut machine, text, now), ProtocolEvent::Data { .. }));
    }

    #[test]
    fn plain_json_is_live_at_once_and_every_message_is_an_event() {
        let now = Instant::now();
        let mut machine = SubscriptionState::new(PlainJson::VERBATIM, SECOND, MINUTE);
        machine.want(wanted(r#"{"op":"sub"}"#), now);
        assert_eq!(machine.open(), None);
        assert_eq!(due(&mut machine, now), [r#"{"op":"sub"}"#]);
        assert_eq!(
            receive(&mut machine, r#"{"type":"ping"}"#, now),
            ProtocolEvent::Data { operation: None, payload: RawValue(r#"{"type":"ping"}"#) }
        );
    }

    #[derive(Clone, Debug)]
    enum Move {
        Ack,
        Data(u64),
        End(u64),
        Renew,
        Pass(u64),
    }

    proptest! {
        /// Invariants 1 and 2 under any conversation.
        #[test]
        fn ids_are_never_reused_and_nothing_precedes_the_ack(
            moves in prop::collection::vec(prop_oneof![
                Just(Move::Ack),
                (0_u64..20).prop_map(Move::Data),
                (0_u64..20).prop_map(Move::End),
                Just(Move::Renew),
                (0_u64..100).prop_map(Move::Pass),
            ], 0..60),
        ) {
            let mut now = Instant::now();
            let mut machine = machine();
            machine.want(wanted("{}"), now);
            machine.want(Subscription { topic: "[]".to_owned(), is_optional: true }, now);
            machine.open();
            let (mut acked, mut last) = (false, 0_u64);
            for step in moves {
                match step {
                    Move::Ack => {
                        acked = true;
                        machine.receive::<RawValue<'_>>(r#"{"type":"connection_ack"}"#, now).unwrap();
                    }
                    Move::Data(id) => {
                        let text = format!(r#"{{"id":"{id}","type":"next","payload":1}}"#);
                        let event = machine.receive::<RawValue<'_>>(&text, now).unwrap();
                        let is_data = matches!(event, ProtocolEvent::Data { .. });
                        prop_assert!(!is_data || (acked && id <= last));
                    }
                    Move::End(id) => {
                        let text = format!(r#"{{"id":"{id}","type":"complete"}}"#);
                        machine.receive::<RawValue<'_>>(&text, now).unwrap();
                    }
                    Move::Renew => { machine.renew(now); }
                    Move::Pass(secs) => now += SECOND * u32::try_from(secs).unwrap(),
                }
                for text in due(&mut machine, now) {
                    prop_assert!(acked);
                    let id = text.split('"').nth(3).unwrap().parse::<u64>().unwrap();
                    prop_assert!(id > last);
                    last = id;
                }
            }
        }
    }
}
