//! Violations of the WebSocket protocol, broken connections and stalled sockets.

use std::{
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use sniper::ws::{FeedError, MESSAGE_BYTES_MAX, ProtocolViolation, policy::ReconnectionLimits};

use super::{
    WAIT_MAX, config, feed_of, once,
    peer::{Frame, Peer, Server, batch, frame, text},
    quick, until,
};

/// Sends a violation on the first connection and a listing on the second. Asserts that the first
/// connection is closed with the right code, counted and replaced.
async fn check_violation(bytes: Vec<u8>, violation: ProtocolViolation) {
    let (closed, seen) = tokio::sync::oneshot::channel();
    let closed = Arc::new(Mutex::new(Some(closed)));
    let server = Server::play(move |number, mut peer| {
        let (bytes, closed) = (bytes.clone(), Arc::clone(&closed));
        async move {
            let ids = peer.subscribed().await;
            if number == 0 {
                peer.write(&bytes).await;
                let last = peer.read_until_close().await;
                closed.lock().unwrap().take().unwrap().send(last).unwrap();
            } else {
                peer.send_text(&batch(&ids[0], &["after"])).await;
                peer.read_until_close().await;
            }
        }
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    assert_eq!(until(&feed, |ids| !ids.is_empty()).await, ["after"]);
    assert_eq!(seen.await.unwrap(), Frame::Close(Some(violation.code())), "{violation:?}");
    assert_eq!(feed.metrics.violations.load(Relaxed), 1);
    assert_eq!(server.dials(), 2);
}

#[tokio::test]
async fn a_message_over_the_limit_is_closed_with_1009() {
    check_violation(frame(0x81, &vec![b' '; MESSAGE_BYTES_MAX + 1]), ProtocolViolation::TooBig)
        .await;
}

#[tokio::test]
async fn fragments_that_add_up_beyond_the_limit_are_closed_with_1009() {
    let half = vec![b' '; MESSAGE_BYTES_MAX / 2 + 1];
    let mut bytes = frame(0x01, &half);
    bytes.extend(frame(0x80, &half));
    check_violation(bytes, ProtocolViolation::TooBig).await;
}

#[tokio::test]
async fn a_frame_length_of_u64_max_is_closed_with_1009() {
    let mut bytes = vec![0x81, 127];
    bytes.extend(u64::MAX.to_be_bytes());
    check_violation(bytes, ProtocolViolation::TooBig).await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_closed_with_1007() {
    check_violation(frame(0x81, &[b'"', 0xFF, 0xFE, b'"']), ProtocolViolation::NotUtf8).await;
}

#[tokio::test]
async fn reserved_bits_are_closed_with_1002() {
    check_violation(frame(0x81 | 0x40, b"{}"), ProtocolViolation::Protocol).await;
}

#[tokio::test]
async fn an_unknown_opcode_is_closed_with_1002() {
    check_violation(frame(0x83, b"{}"), ProtocolViolation::Protocol).await;
}

#[tokio::test]
async fn a_masked_frame_is_closed_with_1002() {
    check_violation(vec![0x81, 0x80 | 2, 0, 0, 0, 0, b'{', b'}'], ProtocolViolation::Protocol)
        .await;
}

#[tokio::test]
async fn a_continuation_without_a_start_is_closed_with_1002() {
    check_violation(frame(0x80, b"{}"), ProtocolViolation::Protocol).await;
}

#[tokio::test]
async fn a_fragmented_ping_is_closed_with_1002() {
    check_violation(frame(0x09, b"x"), ProtocolViolation::Protocol).await;
}

#[tokio::test]
async fn a_fragmented_message_of_exactly_the_limit_is_accepted() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        let message = batch(&ids[0], &["a"]);
        let padded = format!("{message}{}", " ".repeat(MESSAGE_BYTES_MAX - message.len()));
        let (first, rest) = padded.as_bytes().split_at(1_000);
        peer.write(&frame(0x01, first)).await;
        peer.write(&frame(0x89, b"between")).await;
        peer.write(&frame(0x80, rest)).await;
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids, ["a"]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn a_connection_that_ends_without_a_close_is_an_error() {
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
    })
    .await;
    let (_, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::Cut | FeedError::Lost(_))), "{ended:?}");
}

#[tokio::test]
async fn a_reset_connection_is_an_error() {
    let server = Server::play(|_, mut peer: Peer| async move {
        let ids = peer.subscribed().await;
        peer.send_text(&batch(&ids[0], &["a"])).await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let (_, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::Lost(_))), "{ended:?}");
}

#[tokio::test]
async fn a_close_frame_is_read_although_writes_fail() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        let mut bytes = text(r#"{"type":"connection_ack"}"#);
        bytes.extend(frame(0x88, &4_403_u16.to_be_bytes()));
        peer.write(&bytes).await;
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let mut closed = 0;
    for _ in 0..20 {
        let (_, ended) = once(&feed).await;
        closed += usize::from(matches!(ended, Err(FeedError::Closed { code: 4_403, .. })));
    }
    assert!(closed > 0, "the close frame was never read");
}

#[tokio::test]
async fn a_silent_socket_is_detected_after_ping_interval_and_pong_timeout() {
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        assert_eq!(peer.text().await, r#"{"type":"ping"}"#);
        std::future::pending::<()>().await;
    })
    .await;
    let limits = ReconnectionLimits {
        ping_interval: Duration::from_millis(300),
        pong_timeout: Duration::from_millis(200),
        ..quick()
    };
    let started = std::time::Instant::now();
    let (_, ended) = once(&feed_of(config(&server.address, limits))).await;
    assert!(matches!(ended, Err(FeedError::Silent(_))), "{ended:?}");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(500) && took < WAIT_MAX / 2, "{took:?}");
}

#[tokio::test]
async fn an_unfinished_fragment_counts_as_silence() {
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.write(&frame(0x01, b"{")).await;
        std::future::pending::<()>().await;
    })
    .await;
    let limits = ReconnectionLimits {
        ping_interval: Duration::from_millis(100),
        pong_timeout: Duration::from_millis(100),
        ..quick()
    };
    let (_, ended) = once(&feed_of(config(&server.address, limits))).await;
    assert!(matches!(ended, Err(FeedError::Silent(_))), "{ended:?}");
}

#[tokio::test]
async fn a_flood_of_pings_starves_neither_listings_nor_pongs() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..2_000_u32 {
            let mut bytes = text(r#"{"type":"ping"}"#);
            if round % 100 == 0 {
                bytes.extend(text(&batch(&ids[0], &[&format!("t{round}")])));
            }
            peer.write(&bytes).await;
            assert_eq!(peer.text().await, r#"{"type":"pong"}"#);
        }
        peer.close(1_000, "").await;
    })
    .await;
    let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert_eq!(ids.len(), 20);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_never_reads_is_disconnected() {
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        // The server sends pings and never reads the pongs, so the client's writes block.
        let payload = "x".repeat(60_000);
        let ping = text(&format!(r#"{{"type":"ping","payload":"{payload}"}}"#));
        loop {
            peer.write(&ping).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    let limits = ReconnectionLimits { pong_timeout: Duration::from_millis(300), ..quick() };
    let (_, ended) =
        tokio::time::timeout(WAIT_MAX, once(&feed_of(config(&server.address, limits))))
            .await
            .expect("the feed hung");
    assert!(matches!(ended, Err(FeedError::WriteStalled(_) | FeedError::Congested)), "{ended:?}");
}
