//! Frames that nobody should send: dropped and counted, or the socket closed, and buying goes on.

use std::sync::Arc;

use sniper::sim::SimServer;
use tokio::sync::Notify;

use super::{
    PLENTY, Trader, agree, cents, counted, knows_the_account, quiet, ready, redline, until,
};
use crate::feed::peer::{Server, batch, frame};

#[tokio::test]
async fn messages_that_cannot_be_read_are_dropped_and_counted_and_buying_goes_on() {
    let market = SimServer::start(quiet()).unwrap();
    let deep = "[".repeat(100_000);
    let wrong = [
        "not JSON",
        "",
        "{",
        "[1,2]",
        "null",
        "\"\u{1b}[2J\"",
        r#"{"type":7}"#,
        r#"{"type":"gossip"}"#,
        r#"{"type":"next","id":"1","payload":"#,
        r#"{"type":"next","id":"1"}"#,
        r#"{"type":"next","id":"1","payload":[]}"#,
        r#"{"type":"next","id":"1","payload":{"data":null}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"somethingElse":{"trades":[1]}}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrades":7}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrades":{"trades":"x"}}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrades":{"trades":[{}]}}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrade":{"trade":[{"id":7}]}}}}"#,
        &deep,
    ];
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            // What nobody has asked for does nothing, and is no error.
            market.say(r#"{"type":"next","id":"999","payload":{"data":{"createTrades":7}}}"#);
            for text in wrong {
                market.say(text);
            }
            market.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(summary.feed.reconnects, 0, "the connection lives");
    assert_eq!(summary.errors(), u64::try_from(wrong.len()).unwrap());
}

/// A listing of which something cannot be read, or is of another kind than it should be.
#[tokio::test]
async fn a_listing_that_cannot_be_read_is_counted_and_never_bought_nor_guessed_at() {
    let market = SimServer::start(quiet()).unwrap();
    let changes = [
        (r#""totalValue":10.15"#, r#""totalValue":"10.15""#),
        (r#""totalValue":10.15"#, r#""totalValue":-10.15"#),
        (r#""totalValue":10.15"#, r#""totalValue":1e400"#),
        (r#""totalValue":10.15"#, r#""totalValue":10.151"#),
        (r#""totalValue":10.15"#, r#""totalValue":null"#),
        (r#""markupPercent":1.5"#, r#""markupPercent":"1.5""#),
        (r#""itemVariant":{"value":10}"#, r#""itemVariant":null"#),
        (r#""status":"LISTED""#, r#""status":3"#),
        (r#""canJoin":true"#, r#""canJoin":"yes""#),
        (r#""canJoinAfter":null"#, r#""canJoinAfter":"soon""#),
        (r#""expiresAt":"2126"#, r#""expiresAt":"never"#),
        (r#""tradeItems":["#, r#""tradeItems":null,"x":["#),
    ];
    let ids = market.offer((0..=changes.len()).map(|_| redline(1_015)).collect());
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |_, mut peer| {
        let (ids, may_begin) = (ids.clone(), Arc::clone(&may_begin));
        async move {
            let subscriptions = peer.subscribed().await;
            may_begin.notified().await;
            let proper = |id: &str| {
                batch(&subscriptions[0], &[id])
                    .replace("2026-03-03", "2126-03-03")
                    .replace(r#""depositor""#, r#""suspectedTraderCanJoinAfter":null,"depositor""#)
            };
            for ((from, to), id) in changes.iter().zip(&ids) {
                let proper = proper(id);
                assert!(proper.contains(from), "{from} in {proper}");
                peer.say(&proper.replace(from, to)).await;
            }
            peer.say(&proper(&ids[changes.len()])).await;
            peer.drained().await;
        }
    })
    .await;
    let policy = PLENTY.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    let urls = (server.address.as_str(), market.http_url());
    let trader = Trader::new((urls.0, &urls.1), Some(&market.session()), &policy, true);
    let summary = trader
        .trades(async |sniper| {
            until(|| knows_the_account(sniper)).await;
            begin.notify_one();
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
    let expected = u64::try_from(changes.len()).unwrap();
    assert_eq!(summary.tally.listings, expected + 1);
    assert!(summary.tally.unreadable >= expected - 2, "{:?}", summary.tally);
    assert_eq!(summary.orders.spent, cents(1_015));
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left_with_the_right_code_and_dialled_again() {
    let market = SimServer::start(quiet()).unwrap();
    let ids = market.offer(vec![redline(1_015)]);
    let closes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&closes);
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |number, mut peer| {
        let (ids, noted) = (ids.clone(), Arc::clone(&noted));
        let may_begin = Arc::clone(&may_begin);
        async move {
            let subscriptions = peer.subscribed().await;
            let wrong = match number {
                0 => frame(0xc1, b"reserved bits"),
                1 => frame(0x81, b"\xff\xfe"),
                2 => [&[0x81, 127][..], &(1_u64 << 40).to_be_bytes()].concat(),
                _ => {
                    may_begin.notified().await;
                    let proper = batch(&subscriptions[0], &[&ids[0]])
                        .replace("2026-03-03", "2126-03-03")
                        .replace(
                            r#""depositor""#,
                            r#""suspectedTraderCanJoinAfter":null,"depositor""#,
                        );
                    peer.say(&proper).await;
                    peer.drained().await;
                    return;
                }
            };
            peer.write(&wrong).await;
            let end = peer.drained().await;
            noted.lock().unwrap().push(end);
        }
    })
    .await;
    let policy = PLENTY.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    let urls = (server.address.as_str(), market.http_url());
    let trader = Trader::new((urls.0, &urls.1), Some(&market.session()), &policy, true);
    let summary = trader
        .trades(async |sniper| {
            until(|| knows_the_account(sniper) && server.dials() == 4).await;
            begin.notify_one();
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
    let codes = [1_002, 1_007, 1_009].map(|code| crate::feed::peer::Frame::Close(Some(code)));
    assert_eq!(*closes.lock().unwrap(), codes);
    assert_eq!(summary.feed.reconnects, 3);
    assert!(summary.errors() >= 3, "violations are counted: {}", summary.errors());
}
