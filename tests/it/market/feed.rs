//! The feed of the simulated market.

use std::time::Duration;

use serde_json::{Value, json};
use sniper::sim::{Rate, SimServer, SimSettings, faults::FaultKind};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::{A, B, DEADLINE, Feed, Http, open, quiet, redline, until};

#[test]
fn generation_a_sends_one_listing_per_message() {
    let market = open(quiet());
    let mut feed = Feed::subscribed(&market, A);
    let ids = market.list_items(vec![redline(1_015), redline(1_015)]);
    for id in ids {
        let message = feed.next().unwrap();
        let trade = &message["payload"]["data"]["createTrade"]["trade"];
        assert_eq!((&message["id"], &message["type"]), (&json!("1"), &json!("next")));
        assert_eq!((&trade["id"], &trade["totalValue"]), (&json!(id), &json!(10.15)));
    }
}

#[test]
fn generation_b_sends_a_batch_in_one_message() {
    let market = open(quiet());
    let mut feed = Feed::subscribed(&market, B);
    let ids = market.list_items(vec![redline(1_015), redline(1_015), redline(1_015)]);
    let message = feed.next().unwrap();
    let trades = message["payload"]["data"]["createTrades"]["trades"].as_array().unwrap();
    let received: Vec<&Value> = trades.iter().map(|trade| &trade["id"]).collect();
    assert_eq!(received, ids.iter().collect::<Vec<_>>());
    assert_eq!(trades[0]["canJoin"], true);
}

#[test]
fn every_listing_is_sent_in_order() {
    let market = open(SimSettings { rate: Rate::per_second(2_000), ..SimSettings::default() });
    let mut feed = Feed::subscribed(&market, B);
    let mut received: Vec<String> = Vec::new();
    while received.len() < 1_000 {
        let message = feed.next().unwrap();
        let trades = message["payload"]["data"]["createTrades"]["trades"].as_array().cloned();
        let ids = trades.unwrap_or_default();
        received.extend(ids.iter().map(|trade| trade["id"].as_str().unwrap().to_owned()));
    }
    let listed: Vec<String> = market.history().listings().map(|entry| entry.id.clone()).collect();
    let first = listed.iter().position(|id| *id == received[0]).unwrap();
    assert!(listed[first..].starts_with(&received), "in order and without a gap");
}

#[test]
fn all_feeds_receive_the_same_messages() {
    let market = open(quiet());
    let mut feeds: Vec<Feed> = (0..4).map(|_| Feed::subscribed(&market, B)).collect();
    market.list_items(vec![redline(1_015)]);
    let received: Vec<Value> = feeds.iter_mut().map(|feed| feed.next().unwrap()).collect();
    assert!(received.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!((market.stats().feeds, market.stats().feeds_subscribed), (4, 4));
    drop(feeds);
    until("the feeds are gone", || market.stats().feeds_open == 0);
    assert_eq!(market.stats().feeds_subscribed, 0);
}

#[test]
fn a_purchase_is_sent_to_the_feed_of_the_buyer() {
    let market = open(quiet());
    let mut feed = Feed::acknowledged(&market);
    feed.subscribe("u", "subscription OnUpdateTrade { updateTrade { trade { id status } } }");
    feed.subscribe("w", "subscription OnUpdateWallet { updateWallet { wallet { name amount } } }");
    until("the feed is subscribed", || market.stats().feeds_subscribed == 1);
    let ids = market.list_items(vec![redline(1_015)]);
    Http::new(&market).join(&ids[0]).unwrap();
    let update = feed.next().unwrap();
    assert_eq!(update["payload"]["data"]["updateTrade"]["trade"]["id"], ids[0]);
    let wallet = feed.next().unwrap();
    assert_eq!(wallet["payload"]["data"]["updateWallet"]["wallet"]["amount"], 489.85);
}

#[test]
fn websocket_and_protocol_pings_are_answered() {
    let market = open(quiet());
    let mut feed = Feed::raw(&market);
    feed.send(&json!({"type": "ping", "payload": {"n": 1}}));
    assert_eq!(feed.next().unwrap(), json!({"type": "pong", "payload": {"n": 1}}));
    feed.ping();
    assert_eq!(feed.frame().unwrap(), Message::Pong("x".into()));
}

#[test]
fn the_market_sends_pings() {
    let market = open(SimSettings { ping_every: Duration::from_millis(20), ..quiet() });
    let mut feed = Feed::acknowledged(&market);
    for _ in 0..3 {
        assert_eq!(feed.next().unwrap(), json!({"type": "ping"}));
    }
}

#[test]
fn a_protocol_violation_closes_the_feed_with_its_code() {
    let market = open(quiet());
    let check = |messages: &[&str], expected: u16| {
        let mut feed = Feed::raw(&market);
        messages.iter().for_each(|text| feed.send_text(text));
        assert_eq!(feed.close_code(), Some(expected), "{messages:?}");
    };
    let init = r#"{"type":"connection_init"}"#;
    let subscribe = json!({"id": "1", "type": "subscribe", "payload": {"query": B}}).to_string();
    check(&["nonsense"], 4400);
    check(&[&subscribe], 4401);
    check(&[init, &subscribe, &subscribe], 4409);
    check(&[init, init], 4429);
}

#[test]
fn a_feed_without_the_subprotocol_is_closed() {
    let market = open(quiet());
    let stream = std::net::TcpStream::connect(market.address()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = Feed::request(&market, &[]);
    let (mut socket, _) = tokio_tungstenite::tungstenite::client(request, stream).unwrap();
    let Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("not closed") };
    assert_eq!(u16::from(frame.code), 4406);
}

#[test]
fn an_unknown_field_is_an_error_of_that_subscription() {
    let market = open(quiet());
    let mut feed = Feed::acknowledged(&market);
    feed.subscribe("1", "subscription { createTrades { trades { id ceiling } } }");
    let message = feed.next().unwrap();
    assert_eq!((&message["type"], &message["id"]), (&json!("error"), &json!("1")));
    feed.subscribe("1", B);
    until("the feed is subscribed", || market.stats().feeds_subscribed == 1);
}

/// Injects a fault into a subscribed feed, offers a listing and closes the feed. Returns the
/// received messages and the close code.
fn with_fault(market: &SimServer, kind: FaultKind) -> (Vec<Value>, Option<u16>) {
    let mut feed = Feed::subscribed(market, B);
    market.inject_feed_fault(kind);
    market.list_items(vec![redline(1_015)]);
    market.close_feeds(4000, "last");
    let mut received = Vec::new();
    loop {
        match feed.next() {
            Ok(message) => received.push(message),
            Err(frame) => return (received, frame.map(|frame| frame.code.into())),
        }
    }
}

#[test]
fn injected_feed_faults_take_effect() {
    let market = open(quiet());
    assert_eq!(with_fault(&market, FaultKind::FeedCut), (vec![], None));
    assert_eq!(with_fault(&market, FaultKind::FeedClose), (vec![], Some(1001)));
    assert_eq!(with_fault(&market, FaultKind::FeedSilence), (vec![], Some(4000)));
    let (received, end) = with_fault(&market, FaultKind::FeedComplete);
    assert_eq!((received, end), (vec![json!({"id": "1", "type": "complete"})], Some(4000)));
    let (received, end) = with_fault(&market, FaultKind::FeedError);
    assert_eq!((received.len(), &received[0]["type"], end), (1, &json!("error"), Some(4000)));
    assert_eq!(with_fault(&market, FaultKind::Slow).0.len(), 1);
}

#[test]
fn injected_false_events_stop_once_the_faults_are_cleared() {
    let market = open(SimSettings { faults: vec!["feed-silence:0".parse().unwrap()], ..quiet() });
    let ids = market.list_items(vec![redline(1_015), redline(1_015)]);
    Http::new(&market).join(&ids[0]).unwrap();
    let mut feed = Feed::acknowledged(&market);
    feed.subscribe("u", "subscription { updateTrade { trade { id status } } }");
    feed.subscribe("w", "subscription { updateWallet { wallet { amount } } }");
    feed.subscribe("c", B);
    until("the feed is subscribed", || market.stats().feeds_subscribed == 1);
    feed.send(&json!({"type": "ping"}));
    assert_eq!(feed.next().unwrap(), json!({"type": "pong"}), "all three are subscribed");
    market.inject_feed_fault(FaultKind::FeedLie);
    let trade = feed.next().unwrap()["payload"]["data"]["updateTrade"]["trade"].clone();
    assert!(trade["id"] == ids[0] && trade["status"] != "JOINED", "{trade}");
    market.inject_feed_fault(FaultKind::FeedUnlist);
    let trade = feed.next().unwrap()["payload"]["data"]["updateTrade"]["trade"].clone();
    assert!(trade["id"] == ids[1] && trade["status"] != "LISTED", "{trade}");
    market.inject_feed_fault(FaultKind::PushLie);
    let pushed = feed.next().unwrap()["payload"]["data"]["updateWallet"]["wallet"].clone();
    assert!(pushed["amount"].is_number());
    market.inject_feed_fault(FaultKind::FeedRelist);
    let again = feed.next().unwrap()["payload"]["data"]["createTrades"]["trades"][0].clone();
    assert!(ids.contains(&again["id"].as_str().unwrap().to_owned()), "{again}");
    assert_eq!(market.history().balance.to_string(), "489.85");
    // A silent feed resumes.
    market.inject_feed_fault(FaultKind::FeedSilence);
    market.list_items(vec![redline(1_015)]);
    market.set_faults(&[]);
    let next = market.list_items(vec![redline(1_015)]).remove(0);
    let received = feed.next().unwrap()["payload"]["data"]["createTrades"]["trades"][0].clone();
    assert_eq!(received["id"], next);
}

#[test]
fn configured_feed_faults_take_effect() {
    let faults = vec!["feed-close:1/1".parse().unwrap()];
    let market = open(SimSettings { faults, ..quiet() });
    assert_eq!(Feed::subscribed(&market, B).close_code(), Some(1001));
}

#[test]
fn a_test_can_send_any_text_to_the_feeds() {
    let market = open(quiet());
    let mut feed = Feed::subscribed(&market, B);
    market.send_raw("not JSON");
    assert!(matches!(feed.frame(), Ok(Message::Text(text)) if text == "not JSON"));
    market.close_feeds(4403, "Forbidden");
    assert_eq!(feed.close_code(), Some(4403));
}

#[test]
fn a_feed_that_never_reads_is_dropped_without_delaying_others() {
    let market = open(quiet());
    let slow = Feed::subscribed(&market, B);
    let mut fast = Feed::subscribed(&market, B);
    let text = "x".repeat(4_096);
    until("the slow feed is dropped", || {
        (0..64).for_each(|_| market.send_raw(&text));
        for _ in 0..64 {
            assert!(matches!(fast.frame(), Ok(Message::Text(received)) if received == text));
        }
        market.stats().feeds_dropped == 1
    });
    drop(slow);
}

#[test]
fn stopping_the_market_cuts_its_feeds_and_frees_its_port() {
    let market = open(quiet());
    let address = market.address();
    let mut feed = Feed::subscribed(&market, B);
    drop(market);
    assert!(matches!(
        feed.frame(),
        Err(Error::Io(_) | Error::Protocol(_) | Error::ConnectionClosed)
    ));
    let again = open(SimSettings { listen: address, ..quiet() });
    assert_eq!(again.address(), address);
    feed.set_read_limit(DEADLINE);
}
