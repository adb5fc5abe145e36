//! Connection attempts that the server rejects or never completes.

use std::time::Duration;

use sniper::{
    config::{Config, Endpoints},
    ws::{
        ConnectStep, FeedError,
        policy::{ReconnectPolicy, ReconnectionLimits, RetryDecision},
    },
};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::{
    config, feed_of, once,
    peer::{Server, batch, text},
    quick,
};

/// Answers the upgrade with `answer` and returns the resulting error.
async fn upgrade_error(answer: &'static str) -> FeedError {
    let server = Server::play(move |_, mut peer| async move {
        peer.read_head().await;
        peer.write(answer.as_bytes()).await;
    })
    .await;
    once(&feed_of(config(&server.address, quick()))).await.1.unwrap_err()
}

#[tokio::test]
async fn a_rejected_upgrade_is_classified_by_its_status() {
    for (answer, verdict, blocked) in [
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", RetryDecision::Suspend, true),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<html>",
            RetryDecision::Suspend,
            true,
        ),
        ("HTTP/1.1 404 Not Found\r\n\r\n", RetryDecision::Suspend, false),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", RetryDecision::Suspend, false),
        ("HTTP/1.1 426 Upgrade Required\r\n\r\n", RetryDecision::Suspend, false),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", RetryDecision::Suspend, true),
        (
            "HTTP/1.1 429 Slow\r\nRetry-After: 7\r\n\r\n",
            RetryDecision::RetryAfter(Duration::from_secs(7)),
            false,
        ),
        (
            "HTTP/1.1 503 Busy\r\nRetry-After: 2\r\n\r\n",
            RetryDecision::RetryAfter(Duration::from_secs(2)),
            false,
        ),
        (
            "HTTP/1.1 418 I'm a teapot\r\nRetry-After: 7200\r\n\r\n",
            RetryDecision::RetryAfter(Duration::from_secs(7_200)),
            false,
        ),
        ("HTTP/1.1 418 I'm a teapot\r\n\r\n", RetryDecision::Suspend, false),
        ("HTTP/1.1 451 Unavailable\r\n\r\n", RetryDecision::Suspend, true),
        (
            "HTTP/1.1 403 No\r\nRetry-After: 900\r\n\r\n",
            RetryDecision::SuspendAtLeast(Duration::from_secs(900)),
            true,
        ),
        (
            "HTTP/1.1 503 No\r\nDate: Sun, 01 Mar 2026 10:00:00 GMT\r\n\
             Retry-After: Sun, 01 Mar 2026 10:01:30 GMT\r\n\r\n",
            RetryDecision::RetryAfter(Duration::from_secs(90)),
            false,
        ),
        ("HTTP/1.1 503 No\r\ncf-mitigated: challenge\r\n\r\n", RetryDecision::Suspend, true),
        ("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n", RetryDecision::Suspend, false),
        ("HTTP/1.1 503 Busy\r\n\r\n", RetryDecision::Retry, false),
        ("HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\n\r\n<html>", RetryDecision::Retry, false),
    ] {
        let error = upgrade_error(answer).await;
        assert_eq!((error.retry_decision(), error.is_blocked()), (verdict, blocked), "{answer}");
    }
}

#[tokio::test]
async fn interim_responses_and_empty_extensions_do_not_prevent_the_upgrade() {
    let server = Server::play(|number, mut peer| async move {
        peer.read_head().await;
        let grant = match number {
            0 => format!("HTTP/1.1 100 Continue\r\n\r\n{}", peer.grant()),
            1 => format!("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n{}", peer.grant()),
            2 => format!("HTTP/1.1 102 Processing\r\n\r\n{}", peer.grant()),
            _ => peer.grant().replace("Upgrade\r\n", "Upgrade\r\nSec-WebSocket-Extensions: \r\n"),
        };
        // Each interim response is sent in a separate segment.
        for part in grant.split_inclusive("\r\n\r\n") {
            peer.write(part.as_bytes()).await;
            tokio::task::yield_now().await;
        }
        peer.text().await;
        peer.send_text(r#"{"type":"connection_ack"}"#).await;
        let (id, _) = peer.subscription().await;
        peer.send_text(&batch(&id, &["a"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    for _ in 0..4 {
        let (ids, ended) = once(&feed_of(config(&server.address, quick()))).await;
        assert_eq!(ids, ["a"]);
        assert!(ended.is_ok(), "{ended:?}");
    }
}

#[tokio::test]
async fn a_server_without_the_subprotocol_is_rejected() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        let grant = peer.grant();
        let without = grant.replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
        peer.write(without.as_bytes()).await;
        peer.read_until_close().await;
    })
    .await;
    let (_, ended) = once(&feed_of(config(&server.address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::Subprotocol { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_non_http_response_is_a_handshake_error() {
    let error = upgrade_error("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    assert!(matches!(error, FeedError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_port_fails_immediately() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let (_, ended) = once(&feed_of(config(&address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::Dial(_))), "{ended:?}");
}

#[tokio::test]
async fn tls_to_a_plain_text_server_fails_without_a_panic() {
    let server = Server::play(|_, mut peer| async move {
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        // The client's TLS bytes are not WebSocket frames.
        while peer.stream.read(&mut [0; 1_024]).await.is_ok_and(|count| count != 0) {}
    })
    .await;
    let address = server.address.replace("ws://", "wss://");
    let (_, ended) = once(&feed_of(config(&address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::Tls(_))), "{ended:?}");
}

const SHORT_TIMEOUT: Duration = Duration::from_millis(300);

fn short_timeout(address: &str) -> Config {
    config(address, ReconnectionLimits { connect_timeout: SHORT_TIMEOUT, ..quick() })
}

#[track_caller]
fn assert_deadline_at(ended: &Result<(), FeedError>, expected: ConnectStep) {
    match ended {
        Err(FeedError::Deadline { step, after }) => {
            assert_eq!((*step, *after), (expected, SHORT_TIMEOUT));
        }
        other => panic!("{other:?} instead of a deadline at {expected}"),
    }
}

#[tokio::test]
async fn an_unanswered_tls_handshake_ends_at_the_deadline() {
    let server = Server::play(|_, peer| async move {
        std::future::pending::<()>().await;
        drop(peer);
    })
    .await;
    let address = server.address.replace("ws://", "wss://");
    assert_deadline_at(&once(&feed_of(short_timeout(&address))).await.1, ConnectStep::Tls);
}

#[tokio::test]
async fn an_unanswered_upgrade_ends_at_the_deadline() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_deadline_at(
        &once(&feed_of(short_timeout(&server.address))).await.1,
        ConnectStep::Upgrade,
    );
}

#[tokio::test]
async fn an_upgrade_sent_byte_by_byte_ends_at_the_same_deadline() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        for byte in peer.grant().into_bytes() {
            peer.write(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_deadline_at(
        &once(&feed_of(short_timeout(&server.address))).await.1,
        ConnectStep::Upgrade,
    );
}

#[tokio::test]
async fn a_missing_ack_ends_at_the_deadline_despite_pings() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        loop {
            peer.write(&text(r#"{"type":"ping"}"#)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_deadline_at(&once(&feed_of(short_timeout(&server.address))).await.1, ConnectStep::Ack);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_unanswered_connect_ends_at_the_deadline() {
    let dead = crate::dial::BlackHole::open();
    assert_deadline_at(
        &once(&feed_of(short_timeout(&format!("ws://{}/", dead.address)))).await.1,
        ConnectStep::Connect,
    );
}

#[tokio::test]
async fn a_dead_first_address_does_not_use_up_the_deadline() {
    // `localhost` may resolve to ::1 and 127.0.0.1. The server listens on 127.0.0.1 only.
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.close(1_000, "").await;
    })
    .await;
    let address = server.address.replace("127.0.0.1", "localhost");
    let endpoints = Endpoints::new(&address, "http://127.0.0.1:9/").unwrap();
    let reconnection = ReconnectPolicy::new(quick()).unwrap();
    let feed = feed_of(Config { reconnection, ..Config::new(endpoints, "unused") });
    let (_, ended) = once(&feed).await;
    assert!(ended.is_ok(), "{ended:?}");
}
