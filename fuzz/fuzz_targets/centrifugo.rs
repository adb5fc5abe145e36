//! Centrifugo with the events of LIS-SKINS: for any bytes it does not panic, splits a message into
//! all its characters, sends no subscription before the acknowledgment, and orders nothing that a
//! listing does not name.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use sniper::{
    config::{Config, Endpoints},
    domain::money::Amount,
    json::{Cursor, JsonError},
    markets::{MarketEvent, Marketplace as _, lis_skins::LisSkins},
    protocol::{
        Centrifugo, FeedMessage, FeedProtocol as _, ProtocolEvent, Subscription, SubscriptionState,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fuzz_target!(|messages: Vec<&str>| {
    let endpoints = Endpoints::new("ws://127.0.0.1:1/", "http://127.0.0.1:1/v1").unwrap();
    let market = LisSkins::new(&Config::new(endpoints, "unused"));
    let now = Instant::now();
    let mut machine = SubscriptionState::new(Centrifugo::default(), SECOND, 60 * SECOND);
    let topic = "public:obtained-skins".to_owned();
    machine.subscribe(Subscription { topic, is_optional: false }, now);
    machine.open();
    let mut acked = false;
    for text in messages {
        let without = |text: &str| text.replace(|char: char| char.is_ascii_whitespace(), "");
        let (mut joined, mut rest) = (String::new(), Some(FeedMessage::Text(text)));
        while let Some(message) = rest {
            let (first, behind) = machine.split_first(message);
            joined.push_str(first.text().unwrap());
            rest = behind;
            let decode = |input: &mut Cursor<'_>| {
                let decoded = market.decode(input)?;
                if let Some(MarketEvent::Trade(trade)) = decoded.events {
                    assert!(trade.id.as_str().bytes().all(|byte| byte.is_ascii_digit()));
                    assert!(trade.total_value.is_none_or(|price| Amount::ZERO < price));
                }
                Ok::<(), JsonError>(())
            };
            match machine.receive(first, now, decode) {
                Ok(ProtocolEvent::Acked) => acked = true,
                Ok(ProtocolEvent::Ended { error: Some(error), .. }) => {
                    drop(Centrifugo::error_message(error));
                }
                _ => {}
            }
        }
        assert_eq!(without(&joined), without(text), "a part was lost");
        let _peeked = machine.peek_event(text.as_bytes());
        assert!(machine.due(now).is_none() || acked, "a subscription before the acknowledgment");
    }
});
