//! The feed asks for a token before each dial and delivers each event of a binary message.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sniper::{
    config::{Config, Credential, Endpoints},
    domain::trade::{Trade, TradeEvent, TradeId, TradeNotice},
    ws::{
        self, Feed, FeedError,
        policy::{ReconnectPolicy, RetryDecision},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Instant, interval},
};

use super::{
    OtherMarket,
    server::{Kind, REDLINE, message, record},
};
use crate::feed::{
    WAIT_MAX,
    memory::{MemoryDialer, default_config, run},
    peer::{Server, frame},
    quick,
};

/// Serves a response per connection, made of the number of the request. Returns its address and the
/// heads of the requests.
async fn tokens(
    respond: impl Fn(usize) -> String + Send + 'static,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0, "no request");
            }
            seen.lock().unwrap().push(String::from_utf8(head).unwrap());
            stream.write_all(respond(number).as_bytes()).await.unwrap();
        }
    });
    (address, heads)
}

fn response(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
    )
}

fn feed(server: &str, http: &str) -> Feed<OtherMarket> {
    let endpoints = Endpoints::new(server, http).unwrap();
    let config = Config {
        reconnection: ReconnectPolicy::new(quick()).unwrap(),
        credential: Some(Credential::from_key("hunter2").unwrap()),
        ..Config::new(endpoints, "unused")
    };
    Feed::new(OtherMarket, config)
}

#[tokio::test]
async fn each_dial_has_its_own_token_and_each_event_of_a_message_is_delivered() {
    let server = Server::play(|_number, mut peer| async move {
        peer.read_head().await;
        let accept = peer.grant().replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
        peer.write(accept.as_bytes()).await;
        peer.write(&frame(0x82, b"o\x07")).await;
        let token = peer.text().await;
        assert!(peer.head.starts_with(&format!("GET /feed?{}", token.replace(' ', "="))));
        peer.write(&frame(0x82, b"a")).await;
        assert_eq!(peer.text().await, "listings");
        peer.write(&frame(0x81, b"text")).await;
        let records = [
            record(Kind::Listed, 7, 1_005, REDLINE),
            record(Kind::Listed, 7, 1_005, REDLINE),
            record(Kind::Repriced, 7, 905, REDLINE),
            record(Kind::Removed, 7, 0, REDLINE),
            record(Kind::Listed, u64::MAX, 1_005, REDLINE),
        ];
        peer.write(&frame(0x82, &message(&records))).await;
        peer.write(&frame(0x82, b"e torn")).await;
        peer.close(1_001, "again").await;
    })
    .await;
    let (http, heads) = tokens(|number| response("200 OK", "", &format!("tok-{number}"))).await;
    let feed = feed(&server.address, &http);
    let removed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&removed);
    let seven = TradeNotice::Removed { id: TradeId::from_number(7) };
    assert!(feed.notices.set(move |notice| {
        assert_eq!(notice, seven);
        count.fetch_add(1, Ordering::Relaxed);
    }));
    let trades = std::cell::RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| {
        let price = trade.total_value.unwrap().thousandths();
        trades.borrow_mut().push((trade.id.to_string(), trade.event, price));
    };
    let run = ws::run_with_reconnect(&feed, on_trade);
    let reached = async {
        tokio::select! {
            gave_up = run => panic!("{gave_up}"),
            () = server.wait_for_dials(3) => {}
        }
    };
    tokio::time::timeout(WAIT_MAX, reached).await.expect("no third dial");
    let expected = [("7", TradeEvent::Listed, 1_005), ("7", TradeEvent::Repriced, 905)];
    let last = (u64::MAX.to_string(), TradeEvent::Listed, 1_005);
    let expected = expected.map(|(id, event, price)| (id.to_owned(), event, price));
    // The first listing was removed and returns on the next connection, the last one does not.
    let expected = [&expected[..], &[last], &expected[..]].concat();
    let delivered = trades.borrow();
    assert!(delivered.starts_with(&expected), "{delivered:?}");
    assert!(delivered.iter().filter(|trade| **trade == expected[2]).count() == 1, "{delivered:?}");
    assert!(removed.load(Ordering::Relaxed) >= 2);
    assert!(feed.metrics.malformed.load(Ordering::Relaxed) >= 4);
    let heads = heads.lock().unwrap();
    assert!(heads.len() >= 3, "{heads:?}");
    for head in heads.iter() {
        assert!(head.starts_with("GET /v1/token HTTP/1.1\r\n"), "{head}");
        assert!(head.to_ascii_lowercase().contains("\r\nx-api-key: hunter2\r\n"), "{head}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_renewed_without_a_gap_before_the_age_that_the_server_states() {
    const MAX_AGE: u8 = 60;
    let epoch = Instant::now();
    let dialer = MemoryDialer::play(move |_number, mut peer| async move {
        let end = Instant::now() + Duration::from_secs(MAX_AGE.into());
        peer.read_head().await;
        let accept = peer.grant().replace("Sec-WebSocket-Protocol: graphql-transport-ws\r\n", "");
        peer.write(accept.as_bytes()).await;
        peer.write(&frame(0x82, &[b'o', 7, MAX_AGE])).await;
        assert_eq!(peer.text().await, "token guest");
        peer.write(&frame(0x82, b"a")).await;
        let mut seconds = interval(Duration::from_secs(1));
        while Instant::now() < end {
            seconds.tick().await;
            let listing = record(Kind::Listed, epoch.elapsed().as_secs(), 1_005, REDLINE);
            peer.write(&frame(0x82, &message(&[listing]))).await;
        }
    });
    let feed = Feed::new(OtherMarket, Config { credential: None, ..default_config() });
    let ids = run(&feed, &dialer, Duration::from_secs(600)).await;
    // A renewal is due after 80 to 95 % of the age.
    assert!((11..=13).contains(&dialer.dials()), "{}", dialer.dials());
    assert_eq!(feed.metrics.gaps.load(Ordering::Relaxed), 0);
    assert!((599..=601).contains(&ids.len()), "{}", ids.len());
}

#[tokio::test]
async fn a_missing_token_is_an_error_with_its_own_retry_decision() {
    let wait = Duration::from_secs(7);
    for (answer, decision, is_blocked) in [
        (response("403 Forbidden", "", "{}"), RetryDecision::Suspend, true),
        (response("200 OK", "Content-Type: text/html\r\n", "<p>"), RetryDecision::Suspend, true),
        (response("503 X", "Retry-After: 7\r\n", ""), RetryDecision::RetryAfter(wait), false),
        (response("200 OK", "", ""), RetryDecision::RetryLater, false),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), RetryDecision::Retry, false),
    ] {
        let shown = answer.clone();
        let (http, heads) = tokens(move |_number| answer.clone()).await;
        // No feed listens at this address: without a token it is never dialed.
        let feed = feed("ws://127.0.0.1:9/feed", &http);
        let error: FeedError = ws::connect_once(&feed, |_trade| {}).await.unwrap_err();
        assert_eq!(error.retry_decision(), decision, "{shown:?}: {}", error.chain());
        assert_eq!(error.is_blocked(), is_blocked, "{shown:?}");
        assert!(error.chain().contains("token"), "{}", error.chain());
        assert!(!format!("{error:?}").contains("hunter2"));
        assert_eq!(heads.lock().unwrap().len(), 1);
    }
}
