//! Scripts of exchanges in the documented shape, and hostile messages.

use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::protocol::{OperationId, ProtocolEvent, Subscription, SubscriptionState};

const SECOND: Duration = Duration::from_secs(1);
const LISTINGS: &str = "public:obtained-skins";
const PURCHASES: &str = "private:purchase-skins#4711";
const CONNECTED: &str = r#"{"id":1,"connect":{"client":"6e0c","version":"5.4.0","expires":true,"ttl":3599,"ping":25,"pong":true}}"#;

fn protocol() -> Centrifugo {
    Centrifugo::new("sniper", Secret::new("a.b-c_d"))
}

fn machine(protocol: Centrifugo, now: Instant) -> SubscriptionState<Centrifugo> {
    let mut machine = SubscriptionState::new(protocol, SECOND, 60 * SECOND);
    for (topic, is_optional) in [(LISTINGS, false), (PURCHASES, true)] {
        machine.subscribe(Subscription { topic: topic.to_owned(), is_optional }, now);
    }
    machine
}

fn text(message: ClientMessage) -> String {
    let ClientMessage::Text(text) = message else { panic!("{message:?}") };
    text
}

fn due(machine: &mut SubscriptionState<Centrifugo>, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| machine.due(now)).filter_map(|(_, message)| message.map(text)).collect()
}

/// Handles each object of a message and returns a word for each.
fn receive(
    machine: &mut SubscriptionState<Centrifugo>,
    message: &str,
    now: Instant,
) -> Vec<String> {
    let (mut shown, mut rest) = (Vec::new(), Some(FeedMessage::Text(message)));
    while let Some(message) = rest {
        let (first, behind) = machine.split_first(message);
        rest = behind;
        shown.push(match machine.receive(first, now, Cursor::skip) {
            Ok(ProtocolEvent::Data { operation: Some(OperationId(number)), payload }) => {
                format!("data {number} {payload}")
            }
            Ok(ProtocolEvent::Ended { operation: OperationId(number), error, retry_in }) => {
                let error = error.map(|error| Centrifugo::error_message(error).into_owned());
                let wait = retry_in.map(|wait| wait.as_secs());
                format!("ended {number} {} {wait:?}", error.unwrap_or_default())
            }
            Ok(ProtocolEvent::Ping(payload)) => {
                format!("ping {}", machine.pong(payload).map(text).unwrap_or_default())
            }
            Ok(ProtocolEvent::Closed { code, reason }) => {
                format!("closed {code:?} {}", reason.unwrap_or_default())
            }
            Ok(ProtocolEvent::Rejected(reason)) => format!("rejected {reason:?}"),
            Ok(ProtocolEvent::Acked) => "acked".to_owned(),
            Ok(ProtocolEvent::Nothing) => "nothing".to_owned(),
            Ok(ProtocolEvent::Unknown) => "unknown".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(_) => "malformed".to_owned(),
        });
    }
    shown
}

fn live(now: Instant) -> SubscriptionState<Centrifugo> {
    let mut machine = machine(protocol(), now);
    machine.open();
    assert_eq!(receive(&mut machine, CONNECTED, now), ["acked"]);
    assert_eq!(due(&mut machine, now).len(), 2);
    machine
}

fn publication(channel: &str, data: &str) -> String {
    format!(r#"{{"push":{{"channel":"{channel}","pub":{{"data":{data},"offset":17}}}}}}"#)
}

#[test]
fn a_session_follows_the_documented_exchange() {
    let now = Instant::now();
    let mut machine = machine(protocol(), now);
    assert_eq!(
        machine.open().map(text).as_deref(),
        Some(r#"{"id":1,"connect":{"token":"a.b-c_d","name":"sniper"}}"#)
    );
    assert_eq!((machine.heartbeat(), machine.max_age()), (None, None));
    assert_eq!(receive(&mut machine, "{}", now), ["ping {}"]);
    assert_eq!(due(&mut machine, now), [""; 0], "nothing before the acknowledgment");
    assert_eq!(receive(&mut machine, CONNECTED, now), ["acked"]);
    let heartbeat = Heartbeat { interval: 25 * SECOND, timeout: PING_TIMEOUT };
    assert_eq!(machine.heartbeat(), Some(heartbeat));
    assert_eq!(machine.max_age(), Some(3_599 * SECOND));
    assert_eq!(
        due(&mut machine, now),
        [
            r#"{"id":2,"subscribe":{"channel":"public:obtained-skins"}}"#,
            r#"{"id":3,"subscribe":{"channel":"private:purchase-skins#4711"}}"#,
        ]
    );
    let replies = "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"epoch\":\"x\",\"offset\":9}}\n{\"id\":3,\"subscribe\":{}}\n";
    assert_eq!(receive(&mut machine, replies, now), ["nothing", "nothing"]);
    let (one, other) = (publication(LISTINGS, "[1]"), publication(PURCHASES, "[2]"));
    for message in [format!("{one}\n{{}}\n{other}"), format!("{one}{{}}{other}")] {
        assert_eq!(receive(&mut machine, &message, now), ["data 1 [1]", "ping {}", "data 2 [2]"]);
    }
    let disconnect = r#"{"push":{"disconnect":{"code":3005,"reason":"expired"}}}"#;
    assert_eq!(receive(&mut machine, disconnect, now), ["closed Some(3005) expired"]);
}

#[test]
fn a_server_without_pings_and_expiry_sets_no_times() {
    let now = Instant::now();
    for connect in [
        r#"{"id":1,"connect":{}}"#,
        r#"{"id":1,"connect":{"ping":0,"ttl":0}}"#,
        r#"{"id":1,"connect":{"ping":"25","ttl":-1}}"#,
        r#"{"id":1,"connect":{"ping":1e9,"ttl":99999999999}}"#,
        r#"{"id":1,"connect":null}"#,
    ] {
        let mut machine = machine(protocol(), now);
        machine.open();
        assert_eq!(receive(&mut machine, connect, now), ["acked"], "{connect}");
        assert_eq!((machine.heartbeat(), machine.max_age()), (None, None), "{connect}");
    }
}

#[test]
fn a_failed_connect_command_is_final_unless_a_new_token_or_time_helps() {
    let now = Instant::now();
    for (code, expected) in [
        (100, "closed None m"),
        (109, "closed None m"),
        (111, "closed None m"),
        (101, "rejected Some(\"m\")"),
        (103, "rejected"),
        (9_999, "rejected"),
    ] {
        let mut machine = machine(protocol(), now);
        machine.open();
        let error = format!(r#"{{"id":1,"error":{{"code":{code},"message":"m"}}}}"#);
        let shown = receive(&mut machine, &error, now);
        assert!(shown[0].starts_with(expected), "{code}: {shown:?}");
        assert_eq!(due(&mut machine, now), [""; 0]);
    }
    let mut machine = machine(protocol(), now);
    machine.open();
    assert_eq!(receive(&mut machine, r#"{"id":1,"subscribe":{}}"#, now), ["rejected None"]);
}

#[test]
fn the_text_of_an_end_is_shown_without_its_envelope() {
    for (object, expected) in [
        (r#"{"code":3005,"reason":"expired"}"#, "expired"),
        (r#"{"message":"m","code":1}"#, "m"),
        (r#"{"code":1,"message":""}"#, r#"{"code":1,"message":""}"#),
        (r#"{"message":"a\nb"}"#, r#"{"message":"a\nb"}"#),
        ("7", "7"),
    ] {
        assert_eq!(text_of(object), expected);
    }
}

#[test]
fn a_failed_subscription_is_retried_and_an_optional_one_given_up() {
    let mut now = Instant::now();
    let mut machine = live(now);
    for (command, wait) in [(3, "Some(1)"), (4, "Some(2)"), (5, "None")] {
        let error =
            format!(r#"{{"id":{command},"error":{{"code":103,"message":"permission denied"}}}}"#);
        let expected = format!("ended 2 permission denied (103) {wait}");
        assert_eq!(receive(&mut machine, &error, now), [expected]);
        now += 5 * SECOND;
        assert_eq!(due(&mut machine, now).len(), usize::from(wait != "None"));
    }
    let unsubscribe = format!(
        r#"{{"push":{{"channel":"{LISTINGS}","unsubscribe":{{"code":2500,"reason":"insufficient"}}}}}}"#
    );
    assert_eq!(receive(&mut machine, &unsubscribe, now), ["ended 1 insufficient (2500) Some(1)"]);
    assert_eq!(receive(&mut machine, &publication(LISTINGS, "1"), now), ["nothing"]);
    now += SECOND;
    assert_eq!(
        due(&mut machine, now),
        [r#"{"id":6,"subscribe":{"channel":"public:obtained-skins"}}"#]
    );
    assert_eq!(receive(&mut machine, &publication(LISTINGS, "1"), now), ["data 1 1"]);
}

#[test]
fn an_error_of_a_subscription_that_is_live_or_expired_is_not_retried_there() {
    let now = Instant::now();
    let mut machine = live(now);
    let error = |code| format!(r#"{{"id":2,"error":{{"code":{code},"message":"m"}}}}"#);
    assert_eq!(receive(&mut machine, &error(105), now), ["nothing"]);
    assert_eq!(receive(&mut machine, &publication(LISTINGS, "1"), now), ["data 1 1"]);
    assert_eq!(receive(&mut machine, &error(109), now), ["closed None m"]);
}

#[test]
fn messages_about_unknown_channels_and_commands_have_no_effect() {
    let now = Instant::now();
    let mut machine = live(now);
    for (message, expected) in [
        (publication("public:other", "1"), "nothing"),
        (r#"{"push":{"pub":{"data":1}}}"#.to_owned(), "nothing"),
        (r#"{"push":{"channel":7,"pub":{"data":1}}}"#.to_owned(), "nothing"),
        (format!(r#"{{"push":{{"channel":"{LISTINGS}","join":{{}}}}}}"#), "unknown"),
        (format!(r#"{{"push":{{"channel":"{LISTINGS}","pub":{{}}}}}}"#), "unknown"),
        (format!(r#"{{"push":{{"channel":"{LISTINGS}","pub":[]}}}}"#), "unknown"),
        (r#"{"push":null}"#.to_owned(), "unknown"),
        (r#"{"push":{"channel":"x","unsubscribe":{"code":1}}}"#.to_owned(), "nothing"),
        (r#"{"id":99,"error":{"code":103}}"#.to_owned(), "unknown"),
        (r#"{"error":{"code":103}}"#.to_owned(), "unknown"),
        (r#"{"id":2,"error":null,"subscribe":{}}"#.to_owned(), "nothing"),
        (r#"{"id":-2,"subscribe":{}}"#.to_owned(), "unknown"),
        (r#"{"id":"2","subscribe":{}}"#.to_owned(), "unknown"),
        (r#"{"other":1}"#.to_owned(), "unknown"),
        (CONNECTED.to_owned(), "nothing"),
    ] {
        assert_eq!(receive(&mut machine, &message, now), [expected], "{message}");
    }
    assert_eq!(receive(&mut machine, &publication(LISTINGS, "1"), now), ["data 1 1"]);
}

#[test]
fn the_order_and_the_spelling_of_keys_are_irrelevant() {
    let now = Instant::now();
    let mut machine = live(now);
    for message in [
        r#"{"push":{"pub":{"offset":1,"data":7},"channel":"public:obtained-skins"}}"#,
        r#" { "p\u0075sh" : { "channel" : "public\u003aobtained-skins" , "pub" : { "d\u0061ta" : 7 } } } "#,
    ] {
        assert_eq!(receive(&mut machine, message, now), ["data 1 7"], "{message}");
    }
}

#[test]
fn malformed_messages_are_rejected_and_do_not_hide_the_next_object() {
    let now = Instant::now();
    let mut machine = live(now);
    let good = publication(LISTINGS, "1");
    for bad in [
        "[]",
        "null",
        "\"x\"",
        "{",
        r#"{"id":1"#,
        r#"{"push":{"channel":"a","channel":"b"}}"#,
        r#"{"push":{"pub":{"data":1},"pub":{"data":2}}}"#,
        r#"{"push":{"pub":{"data":1,"data":2}}}"#,
        r#"{"push":{"pub":{"data":1}},"push":{}}"#,
        r#"{"push":{"pub":{"data":}}}"#,
        r#"{"a":"x"#,
    ] {
        let message = format!("{bad}\n{good}");
        let shown = receive(&mut machine, &message, now);
        // An open brace takes the next lines with it.
        let hides = bad == "{" || bad == r#"{"id":1"#;
        assert_eq!(shown.first().map(String::as_str), Some("malformed"), "{bad}");
        assert_eq!(shown.get(1).map(String::as_str), (!hides).then_some("data 1 1"), "{bad}");
    }
    let deep = format!(r#"{{"push":{}}}"#, "[".repeat(100_000));
    assert_eq!(receive(&mut machine, &deep, now), ["malformed"]);
    assert_eq!(receive(&mut machine, "", now), ["malformed"]);
}

#[test]
fn an_event_is_recognized_by_its_beginning() {
    let now = Instant::now();
    let machine = live(now);
    let one = publication(LISTINGS, r#"{"id":1}"#);
    let rest = r#"{"id":1},"offset":17}}}"#;
    assert_eq!(machine.peek_event(one.as_bytes()), Some(rest.as_bytes()));
    assert_eq!(machine.peek_event(publication("other", "{}").as_bytes()), None);
    for other in [
        format!("{one}{one}"),
        format!("{one}\n{one}"),
        "{}".to_owned(),
        CONNECTED.to_owned(),
        one.replace("public:", r"public\u003a"),
        one.replace(r#","pub""#, r#", "pub""#),
    ] {
        assert_eq!(machine.peek_event(other.as_bytes()), None, "{other}");
    }
    let recording = Centrifugo::default();
    assert_eq!(recording.peek_event(one.as_bytes()), Some((None, rest.as_bytes())));
}

#[test]
fn the_protocol_without_subscriptions_reads_the_events_of_a_recording() {
    let mut recording = Centrifugo::default();
    let one = publication(LISTINGS, "7");
    let read = recording.read(FeedMessage::Text(&one), Cursor::skip);
    assert_eq!(read, Ok(Incoming::Data { id: None, payload: "7" }));
}

#[test]
fn a_command_number_has_32_bits_in_every_session() {
    let now = Instant::now();
    let mut machine = machine(protocol(), now).with_sessions_before(1 << 40);
    machine.open();
    receive(&mut machine, CONNECTED, now);
    assert_eq!(
        due(&mut machine, now)[0],
        r#"{"id":2,"subscribe":{"channel":"public:obtained-skins"}}"#
    );
    let again = machine.resubscribe(now);
    assert_eq!(
        again.into_iter().map(text).collect::<Vec<_>>(),
        [
            r#"{"id":4,"unsubscribe":{"channel":"public:obtained-skins"}}"#,
            r#"{"id":5,"unsubscribe":{"channel":"private:purchase-skins#4711"}}"#,
        ]
    );
    assert_eq!(receive(&mut machine, &publication(LISTINGS, "1"), now), ["nothing"]);
    assert_eq!(due(&mut machine, now).len(), 2);
    assert_eq!(receive(&mut machine, &publication(LISTINGS, "1"), now), ["data 1 1"]);
}

#[test]
fn the_token_and_a_channel_are_escaped_and_the_token_is_not_printed() {
    let mut protocol = Centrifugo::new("sniper", Secret::new("hunter2\"}\n"));
    let Opening::AwaitAck(Some(message)) = protocol.open() else { panic!("no message") };
    assert_eq!(text(message), r#"{"id":1,"connect":{"token":"hunter2\"}\n","name":"sniper"}}"#);
    assert!(!format!("{protocol:?}").contains("hunter2"));
    let subscribe = protocol.subscribe(1, "a\"b").map(text);
    assert_eq!(subscribe.as_deref(), Some(r#"{"id":2,"subscribe":{"channel":"a\"b"}}"#));
}

#[test]
fn an_error_shows_its_text_and_its_code() {
    for (error, expected) in [
        (r#"{"code":103,"message":"permission denied"}"#, "permission denied (103)"),
        (r#"{"reason":"expired","code":3005}"#, "expired (3005)"),
        (r#"{"message":"m"}"#, "m"),
        (r#"{"code":103,"message":""}"#, r#"{"code":103,"message":""}"#),
        (r#"{"code":103}"#, r#"{"code":103}"#),
        ("7", "7"),
    ] {
        assert_eq!(Centrifugo::error_message(error), expected, "{error}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic_and_agrees_with_serde(text in "\\PC{0,80}") {
        let read = protocol().read(FeedMessage::Text(&text), Cursor::skip).is_ok();
        prop_assert!(!read || serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }

    /// Pieces of real messages in any order.
    #[test]
    fn any_mixture_of_pieces_is_handled(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "[", "]", "\"", ":", ",", "\n", "\\", "{}", "1", "2", "null",
            "\"id\"", "\"connect\"", "\"subscribe\"", "\"error\"", "\"code\"", "\"push\"",
            "\"channel\"", "\"pub\"", "\"data\"", "\"unsubscribe\"", "\"disconnect\"",
            "\"public:obtained-skins\"", CONNECTED,
            "{\"push\":{\"channel\":\"public:obtained-skins\",\"pub\":{\"data\":7}}}",
        ]), 0..30),
    ) {
        let now = Instant::now();
        let mut machine = machine(protocol(), now);
        machine.open();
        let message = pieces.concat();
        let words = receive(&mut machine, &message, now);
        prop_assert!(!words.is_empty() && words.len() <= message.len().max(1));
        let _peeked = machine.peek_event(message.as_bytes());
    }
}
