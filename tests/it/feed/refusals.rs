//! Servers that do not let the client in, each in its own way.

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
    config, once,
    peer::{Server, batch, text},
    quick,
};

/// Answers the upgrade with this, and says what became of it.
async fn refused(answer: &'static str) -> FeedError {
    let server = Server::play(move |_, mut peer| async move {
        peer.read_head().await;
        peer.write(answer.as_bytes()).await;
    })
    .await;
    once(&config(&server.address, quick())).await.1.unwrap_err()
}

#[tokio::test]
async fn an_upgrade_that_is_refused_is_classified_by_its_status() {
    for (answer, verdict, blocked) in [
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", RetryDecision::Park, true),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n<html>",
            RetryDecision::Park,
            true,
        ),
        ("HTTP/1.1 404 Not Found\r\n\r\n", RetryDecision::Park, false),
        ("HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", RetryDecision::Park, false),
        ("HTTP/1.1 426 Upgrade Required\r\n\r\n", RetryDecision::Park, false),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", RetryDecision::Park, true),
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
        ("HTTP/1.1 418 I'm a teapot\r\n\r\n", RetryDecision::Park, false),
        ("HTTP/1.1 451 Unavailable\r\n\r\n", RetryDecision::Park, true),
        (
            "HTTP/1.1 403 No\r\nRetry-After: 900\r\n\r\n",
            RetryDecision::ParkAtLeast(Duration::from_secs(900)),
            true,
        ),
        (
            "HTTP/1.1 503 No\r\nDate: Sun, 01 Mar 2026 10:00:00 GMT\r\n\
             Retry-After: Sun, 01 Mar 2026 10:01:30 GMT\r\n\r\n",
            RetryDecision::RetryAfter(Duration::from_secs(90)),
            false,
        ),
        ("HTTP/1.1 503 No\r\ncf-mitigated: challenge\r\n\r\n", RetryDecision::Park, true),
        ("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n", RetryDecision::Park, false),
        ("HTTP/1.1 503 Busy\r\n\r\n", RetryDecision::Retry, false),
        ("HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\n\r\n<html>", RetryDecision::Retry, false),
    ] {
        let error = refused(answer).await;
        assert_eq!((error.verdict(), error.is_blocked()), (verdict, blocked), "{answer}");
    }
}

#[tokio::test]
async fn an_upgrade_after_interim_answers_or_with_an_empty_list_of_extensions_is_granted() {
    let server = Server::play(|number, mut peer| async move {
        peer.read_head().await;
        let grant = match number {
            0 => format!("HTTP/1.1 100 Continue\r\n\r\n{}", peer.grant()),
            1 => format!("HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n{}", peer.grant()),
            2 => format!("HTTP/1.1 102 Processing\r\n\r\n{}", peer.grant()),
            _ => peer.grant().replace("Upgrade\r\n", "Upgrade\r\nSec-WebSocket-Extensions: \r\n"),
        };
        // An interim answer comes in a segment of its own.
        for part in grant.split_inclusive("\r\n\r\n") {
            peer.write(part.as_bytes()).await;
            tokio::task::yield_now().await;
        }
        peer.text().await;
        peer.say(r#"{"type":"connection_ack"}"#).await;
        let (id, _) = peer.subscription().await;
        peer.say(&batch(&id, &["a"])).await;
        peer.close(1_000, "").await;
    })
    .await;
    for _ in 0..4 {
        let (ids, ended) = once(&config(&server.address, quick())).await;
        assert_eq!(ids, ["a"]);
        assert!(ended.is_ok(), "{ended:?}");
    }
}

#[tokio::test]
async fn a_server_without_the_protocol_is_refused() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        let grant = peer.grant();
        let without = grant.replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
        peer.write(without.as_bytes()).await;
        peer.drained().await;
    })
    .await;
    let (_, ended) = once(&config(&server.address, quick())).await;
    assert!(matches!(ended, Err(FeedError::Subprotocol { .. })), "{ended:?}");
}

#[tokio::test]
async fn something_else_than_http_is_refused() {
    let error = refused("SSH-2.0-OpenSSH_9.6\r\n\r\n").await;
    assert!(matches!(error, FeedError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_port_is_an_error_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let (_, ended) = once(&config(&address, quick())).await;
    assert!(matches!(ended, Err(FeedError::Dial(_))), "{ended:?}");
}

#[tokio::test]
async fn tls_to_a_server_without_it_fails_without_a_panic() {
    let server = Server::play(|_, mut peer| async move {
        peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        // What a client says in TLS is no frame.
        while peer.stream.read(&mut [0; 1_024]).await.is_ok_and(|count| count != 0) {}
    })
    .await;
    let address = server.address.replace("ws://", "wss://");
    let (_, ended) = once(&config(&address, quick())).await;
    assert!(matches!(ended, Err(FeedError::Tls(_))), "{ended:?}");
}

const IMPATIENT: Duration = Duration::from_millis(300);

fn impatient(address: &str) -> Config {
    config(address, ReconnectionLimits { connect_timeout: IMPATIENT, ..quick() })
}

#[track_caller]
fn assert_stuck_at(ended: &Result<(), FeedError>, expected: ConnectStep) {
    match ended {
        Err(FeedError::Deadline { step, after }) => {
            assert_eq!((*step, *after), (expected, IMPATIENT));
        }
        other => panic!("{other:?} instead of a deadline at {expected}"),
    }
}

#[tokio::test]
async fn tls_that_is_never_answered_ends_at_the_deadline() {
    let server = Server::play(|_, peer| async move {
        std::future::pending::<()>().await;
        drop(peer);
    })
    .await;
    let address = server.address.replace("ws://", "wss://");
    assert_stuck_at(&once(&impatient(&address)).await.1, ConnectStep::Tls);
}

#[tokio::test]
async fn an_upgrade_that_is_never_answered_ends_at_the_deadline() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        std::future::pending::<()>().await;
    })
    .await;
    assert_stuck_at(&once(&impatient(&server.address)).await.1, ConnectStep::Upgrade);
}

#[tokio::test]
async fn a_dribbled_upgrade_ends_at_the_same_deadline() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        for byte in peer.grant().into_bytes() {
            peer.write(&[byte]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_stuck_at(&once(&impatient(&server.address)).await.1, ConnectStep::Upgrade);
}

#[tokio::test]
async fn an_acknowledgement_that_never_comes_ends_at_the_deadline_whatever_else_is_said() {
    let server = Server::play(|_, mut peer| async move {
        peer.upgrade().await;
        loop {
            peer.write(&text(r#"{"type":"ping"}"#)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_stuck_at(&once(&impatient(&server.address)).await.1, ConnectStep::Ack);
}

/// A listener whose queue of connections is full answers no further SYN.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_black_hole_ends_at_the_deadline() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    for _ in 0..16 {
        let connect = tokio::net::TcpStream::connect(address);
        match tokio::time::timeout(Duration::from_millis(50), connect).await {
            Ok(stream) => filling.push(stream.unwrap()),
            Err(_full) => break,
        }
    }
    assert_stuck_at(&once(&impatient(&format!("ws://{address}/"))).await.1, ConnectStep::Connect);
}

#[tokio::test]
async fn a_dead_first_address_of_two_does_not_cost_the_deadline() {
    // `localhost` may stand for ::1 and 127.0.0.1, and the server listens on the latter alone.
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.close(1_000, "").await;
    })
    .await;
    let address = server.address.replace("127.0.0.1", "localhost");
    let endpoints = Endpoints::new(&address, "http://127.0.0.1:9/").unwrap();
    let reconnection = ReconnectPolicy::new(quick()).unwrap();
    let config = Config { reconnection, ..Config::new(endpoints, "unused") };
    let (_, ended) = once(&config).await;
    assert!(ended.is_ok(), "{ended:?}");
}
