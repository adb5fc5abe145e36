//! Socket.IO: for any messages in any order it does not panic, sends no subscription before the
//! acknowledgment, connects to its namespace at most once, and an event that it accepts is JSON.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sniper::protocol::{
    FeedMessage, FeedProtocol as _, ProtocolEvent, SocketIo, SocketIoEvent, Subscription,
    SubscriptionState,
};

const SECOND: Duration = Duration::from_secs(1);

fuzz_target!(|input: (bool, Vec<&str>)| {
    let (is_named, messages) = input;
    let protocol = if is_named { SocketIo::in_namespace("/trade") } else { SocketIo::default() };
    let now = Instant::now();
    let mut machine = SubscriptionState::new(protocol, SECOND, 60 * SECOND);
    machine.subscribe(Subscription { topic: r#"["sub"]"#.to_owned(), is_optional: false }, now);
    assert!(machine.open().is_none());
    let (mut acked, mut replies) = (false, 0);
    for text in messages {
        let decode = |event: &mut SocketIoEvent<'_>| SocketIo::skip(event);
        let event = machine.receive(FeedMessage::Text(text), now, decode);
        match event {
            Ok(ProtocolEvent::Acked) => acked = true,
            Ok(ProtocolEvent::Reply(_)) => replies += 1,
            Ok(ProtocolEvent::Ping(payload)) => drop(machine.pong(payload)),
            Ok(ProtocolEvent::Data { .. }) => {
                let array = text.find('[').map(|at| &text[at..]).unwrap_or_default();
                assert!(serde_json::from_str::<serde::de::IgnoredAny>(array).is_ok());
            }
            _ => {}
        }
        assert!(replies <= 1, "connected twice");
        let _payload = machine.peek_event(text.as_bytes());
        while machine.due(now).is_some() {
            assert!(acked, "a subscription before the acknowledgment");
        }
    }
});
