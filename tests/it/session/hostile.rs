//! Invalid messages and frames: they are dropped and counted, or the connection is closed, and the
//! bot continues to buy.

use std::sync::Arc;

use sniper::sim::SimServer;
use tokio::sync::Notify;

use super::{
    AMPLE_LIMITS, TestBot, assert_agrees, cents, is_reconciled, quiet, ready, redline, until,
    wait_for_stats,
};
use crate::feed::peer::{Server, batch, frame};

#[tokio::test]
async fn unreadable_messages_are_counted_and_orders_continue() {
    let market = SimServer::start(quiet()).unwrap();
    let deep = "[".repeat(100_000);
    let invalid = [
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
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            // A message for an unknown subscription is ignored and not counted as an error.
            market.send_raw(r#"{"type":"next","id":"999","payload":{"data":{"createTrades":7}}}"#);
            for text in invalid {
                market.send_raw(text);
            }
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(summary.feed.reconnects, 0, "the connection lives");
    assert_eq!(summary.errors(), u64::try_from(invalid.len()).unwrap());
}

/// Each listing but the last has a field that is unreadable or of the wrong type.
#[tokio::test]
async fn an_unreadable_listing_is_counted_and_never_bought() {
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
    let ids = market.list_items((0..=changes.len()).map(|_| redline(1_015)).collect());
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |_, mut peer| {
        let (ids, may_begin) = (ids.clone(), Arc::clone(&may_begin));
        async move {
            let subscriptions = peer.subscribed().await;
            may_begin.notified().await;
            let valid = |id: &str| {
                batch(&subscriptions[0], &[id])
                    .replace("2026-03-03", "2126-03-03")
                    .replace(r#""depositor""#, r#""suspectedTraderCanJoinAfter":null,"depositor""#)
            };
            for ((from, to), id) in changes.iter().zip(&ids) {
                let valid = valid(id);
                assert!(valid.contains(from), "{from} in {valid}");
                peer.send_text(&valid.replace(from, to)).await;
            }
            peer.send_text(&valid(&ids[changes.len()])).await;
            peer.read_until_close().await;
        }
    })
    .await;
    let policy = AMPLE_LIMITS.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    let urls = (server.address.as_str(), market.http_url());
    let bot = TestBot::new((urls.0, &urls.1), Some(&market.session()), &policy, true);
    let summary = bot
        .run(async |sniper| {
            until(|| is_reconciled(sniper)).await;
            begin.notify_one();
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    let expected = u64::try_from(changes.len()).unwrap();
    assert_eq!(summary.stats.listings, expected + 1);
    assert!(summary.stats.unreadable >= expected - 2, "{:?}", summary.stats);
    assert_eq!(summary.orders.spent, cents(1_015));
}

#[tokio::test]
async fn a_protocol_violation_closes_with_the_right_code_and_reconnects() {
    let market = SimServer::start(quiet()).unwrap();
    let ids = market.list_items(vec![redline(1_015)]);
    let closes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&closes);
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |number, mut peer| {
        let (ids, noted) = (ids.clone(), Arc::clone(&noted));
        let may_begin = Arc::clone(&may_begin);
        async move {
            let subscriptions = peer.subscribed().await;
            let invalid = match number {
                0 => frame(0xc1, b"reserved bits"),
                1 => frame(0x81, b"\xff\xfe"),
                2 => [&[0x81, 127][..], &(1_u64 << 40).to_be_bytes()].concat(),
                _ => {
                    may_begin.notified().await;
                    let valid = batch(&subscriptions[0], &[&ids[0]])
                        .replace("2026-03-03", "2126-03-03")
                        .replace(
                            r#""depositor""#,
                            r#""suspectedTraderCanJoinAfter":null,"depositor""#,
                        );
                    peer.send_text(&valid).await;
                    peer.read_until_close().await;
                    return;
                }
            };
            peer.write(&invalid).await;
            let end = peer.read_until_close().await;
            noted.lock().unwrap().push(end);
        }
    })
    .await;
    let policy = AMPLE_LIMITS.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    let urls = (server.address.as_str(), market.http_url());
    let bot = TestBot::new((urls.0, &urls.1), Some(&market.session()), &policy, true);
    let summary = bot
        .run(async |sniper| {
            until(|| is_reconciled(sniper) && server.dials() == 4).await;
            begin.notify_one();
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    let codes = [1_002, 1_007, 1_009].map(|code| crate::feed::peer::Frame::Close(Some(code)));
    assert_eq!(*closes.lock().unwrap(), codes);
    assert_eq!(summary.feed.reconnects, 3);
    assert!(summary.errors() >= 3, "violations are counted: {}", summary.errors());
}
