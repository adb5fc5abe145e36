//! Subscription protocol: for any messages in any order it does not panic, sends no subscription
//! before the acknowledgment, and uses no id twice.
#![no_main]

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use sniper::{
    json::FromCursor as _,
    markets::csgoroll::feed::NextPayload,
    protocol::{FeedMessage, GraphqlTransportWs, ProtocolEvent, Subscription, SubscriptionState},
};

const SECOND: Duration = Duration::from_secs(1);

fuzz_target!(|messages: Vec<(u8, &str)>| {
    let mut now = Instant::now();
    let mut machine = SubscriptionState::new(GraphqlTransportWs, SECOND, 60 * SECOND);
    for is_optional in [false, true] {
        machine.subscribe(Subscription { topic: "{}".to_owned(), is_optional }, now);
    }
    machine.open();
    let (mut acked, mut ids) = (false, HashSet::new());
    for (seconds, text) in messages {
        now += u32::from(seconds) * SECOND;
        match machine.receive(FeedMessage::Text(text), now, NextPayload::from_cursor) {
            Ok(ProtocolEvent::Acked) => acked = true,
            Ok(ProtocolEvent::Ping(payload)) => drop(machine.pong(payload)),
            _ => {}
        }
        while let Some((_, message)) = machine.due(now) {
            assert!(acked, "a subscription before the acknowledgment");
            assert!(ids.insert(message), "an id was used twice");
        }
    }
});
