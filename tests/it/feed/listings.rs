//! Sessions with a server that follows the protocol, or at least sends valid frames.

use std::sync::atomic::Ordering::Relaxed;

use sniper::{
    config::{Config, Credential, FeedConfig, Generation},
    domain::latency::RxTimestamps,
    domain::money::Amount,
    ws::{self, FeedError},
};

use super::{
    config, feed_of, once,
    peer::{Frame, Server, batch, frame, listing, single, text},
    quick, until,
};

#[tokio::test]
async fn generation_b_is_requested_and_a_batch_yields_many_trades() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        assert_eq!(peer.text().await, r#"{"type":"connection_init"}"#);
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (id, name) = peer.subscription().await;
        assert_eq!(name, "OnCreateTrades");
        assert_eq!(peer.subscription().await.1, "OnUpdateTrade");
        assert_eq!(peer.subscription().await.1, "OnUpdateWallet");
        peer.send_text(&batch(&id, &["a", "b", "c"])).await;
        assert_eq!(peer.close(1_000, "").await, Frame::Close(Some(1_000)));
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids, ["a", "b", "c"]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn generation_a_is_requested_if_configured() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        peer.text().await;
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (id, name) = peer.subscription().await;
        assert_eq!(name, "OnCreateTrade");
        peer.send_text(&single(&id, "a")).await;
        peer.close(1_000, "").await;
    })
    .await;
    let feed = FeedConfig { generation: Generation::A, ..FeedConfig::default() };
    let (ids, _) = once(&feed_of(Config { feed, ..config(&server.address, quick()) })).await;
    assert_eq!(ids, ["a"]);
}

#[tokio::test]
async fn the_upgrade_sends_cookie_origin_user_agent_and_subprotocol() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        assert_eq!(peer.header("Cookie").as_deref(), Some("session=s%3Aabc"));
        assert_eq!(peer.header("Origin").as_deref(), Some("https://www.csgoroll.com"));
        assert_eq!(peer.header("Sec-WebSocket-Protocol").as_deref(), Some("graphql-transport-ws"));
        assert!(peer.header("User-Agent").unwrap().starts_with("sniper/"));
        assert!(peer.head.starts_with("GET /ws HTTP/1.1\r\n"), "{}", peer.head);
        peer.text().await;
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        peer.close(1_000, "").await;
    })
    .await;
    let credential = Credential::from_session("s%3Aabc").ok();
    let (_, ended) =
        once(&feed_of(Config { credential, ..config(&server.address, quick()) })).await;
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn only_connection_init_and_pongs_precede_the_ack() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        assert_eq!(peer.text().await, r#"{"type":"connection_init"}"#);
        peer.send_text(r#"{"type":"ping","payload":{"n":1}}"#).await;
        assert_eq!(peer.text().await, r#"{"type":"pong","payload":{"n":1}}"#);
        peer.write(&frame(0x89, b"rfc")).await;
        assert_eq!(peer.frame().await, Frame::Pong(b"rfc".to_vec()));
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (id, _) = peer.subscription().await;
        peer.send_text(&batch(&id, &["a"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids, ["a"]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn websocket_and_protocol_pings_are_answered_with_their_payload() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..50 {
            peer.send_text(&batch(&ids[0], &[&format!("t{round}")])).await;
            peer.send_text(&format!(r#"{{"payload":{{"round":{round}}},"type":"ping"}}"#)).await;
            let pong = format!(r#"{{"type":"pong","payload":{{"round":{round}}}}}"#);
            assert_eq!(peer.text().await, pong);
            peer.write(&frame(0x89, &[round])).await;
            assert_eq!(peer.frame().await, Frame::Pong(vec![round]));
        }
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids.len(), 50);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn an_ended_subscription_is_renewed_on_the_same_connection_with_a_new_id() {
    let server = Server::play(|number, mut peer| async move {
        assert_eq!(number, 0, "the connection must stay open");
        let ids = peer.subscribed().await;
        peer.send_text(&format!(r#"{{"id":"{}","type":"error","payload":[{{}}]}}"#, ids[0])).await;
        let (second, name) = peer.subscription().await;
        assert_eq!(name, "OnCreateTrades");
        assert!(!ids.contains(&second));
        peer.send_text(&batch(&ids[0], &["of-the-ended-one"])).await;
        peer.send_text(&format!(r#"{{"id":"{second}","type":"complete"}}"#)).await;
        let (third, _) = peer.subscription().await;
        assert!(!ids.contains(&third) && third != second);
        peer.send_text(&batch(&third, &["a"])).await;
        peer.read_until_close().await;
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    assert_eq!(until(&feed, |ids| !ids.is_empty()).await, ["a"]);
    assert_eq!(feed.metrics.ended.load(Relaxed), 2);
    assert_eq!(server.dials(), 1);
}

#[tokio::test]
async fn an_error_of_an_optional_subscription_does_not_affect_listings() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for id in &ids[1..] {
            peer.send_text(&format!(r#"{{"id":"{id}","type":"error","payload":[]}}"#)).await;
        }
        peer.send_text(&batch(&ids[0], &["a"])).await;
        for _ in 0..2 {
            let (id, name) = peer.subscription().await;
            assert!(name.starts_with("OnUpdate"), "{name}");
            peer.send_text(&format!(r#"{{"id":"{id}","type":"error","payload":[]}}"#)).await;
        }
        peer.send_text(&batch(&ids[0], &["b"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids, ["a", "b"]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn unreadable_messages_are_dropped_and_counted_without_a_reconnect() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        let deep = "[".repeat(10_000);
        let cut = batch(&ids[0], &["cut"]);
        for malformed in [
            "",
            "nonsense",
            "[]",
            "{\"type\":\"next\"}",
            "{\"id\":\"1\",\"type\":\"next\",\"payload\":{}",
            deep.as_str(),
            cut.get(..cut.len() - 4).unwrap(),
        ] {
            peer.send_text(malformed).await;
        }
        peer.write(&frame(0x82, &[1, 2, 3])).await;
        peer.send_text(r#"{"type":"brand_new","payload":1}"#).await;
        peer.send_text(&format!(r#"{{"id":"{}","type":"next","payload":[]}}"#, ids[0])).await;
        peer.send_text(&format!(
            r#"{{"id":"{}","type":"next","payload":{{"data":{{"createTrades":{{"trades":[7,{}]}}}}}}}}"#,
            ids[0],
            listing("a")
        ))
        .await;
        peer.close(1_000, "").await;
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let (ids, ended) = once(&feed).await;
    assert_eq!(ids, ["a"]);
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(feed.metrics.malformed.load(Relaxed), 8);
    assert_eq!(feed.metrics.unknown.load(Relaxed), 2);
    assert_eq!(feed.metrics.unreadable.load(Relaxed), 1);
    assert_eq!(feed.metrics.errors(), 11);
}

#[tokio::test]
async fn graphql_errors_do_not_end_the_subscription() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.send_text(&format!(
            r#"{{"id":"{}","type":"next","payload":{{"errors":[{{"message":"x"}}],"data":null}}}}"#,
            ids[0]
        ))
        .await;
        peer.send_text(&batch(&ids[0], &["a"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    assert_eq!(once(&feed).await.0, ["a"]);
    assert_eq!(feed.metrics.graphql_errors.load(Relaxed), 1);
}

#[tokio::test]
async fn a_pushed_balance_is_recorded() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.send_text(&format!(
            r#"{{"id":"{}","type":"next","payload":{{"data":{{"updateWallet":{{"wallet":{{"id":"w","name":"MAIN","amount":12.34}}}}}}}}}}"#,
            ids[2]
        ))
        .await;
        peer.close(1_000, "").await;
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let (ids, _) = once(&feed).await;
    assert!(ids.is_empty());
    assert_eq!(feed.metrics.balance(), Some((Amount::from_cents(1_234), 1)));
}

#[tokio::test]
async fn a_frame_in_the_same_segment_as_the_upgrade_is_read() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        let mut bytes = peer.grant().into_bytes();
        bytes.extend(text(r#"{"type":"connection_ack"}"#));
        peer.write(&bytes).await;
        peer.text().await;
        let (id, _) = peer.subscription().await;
        peer.send_text(&batch(&id, &["a"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids, ["a"]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn segments_of_one_byte_are_parsed() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        let grant = peer.grant().into_bytes();
        for byte in grant {
            peer.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        peer.text().await;
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (id, _) = peer.subscription().await;
        for byte in text(&batch(&id, &["a"])) {
            peer.write(&[byte]).await;
            tokio::task::yield_now().await;
        }
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids, ["a"]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn a_listing_carries_its_receive_timestamps() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.send_text(&batch(&ids[0], &["a"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    let started = std::time::Instant::now();
    let mut arrival = None;
    let feed = feed_of(config(&server.address, quick()));
    let ended = ws::connect_once(&feed, |trade| arrival = trade.arrival).await;
    assert!(ended.is_ok());
    let RxTimestamps { polled, read, framed } = arrival.unwrap();
    let moments = [started, polled, read, framed, std::time::Instant::now()];
    assert!(moments.is_sorted(), "{moments:?}");
}

#[tokio::test]
async fn a_connection_error_message_ends_the_session_with_an_error() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        peer.text().await;
        peer.send_text(r#"{"type":"connection_error","payload":{"message":"go away"}}"#).await;
        peer.read_until_close().await;
    })
    .await;
    let (_, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::SessionRejected { .. })), "{ended:?}");
}
