//! Close codes, TLS, slow callbacks, dropping the feed in every state, and back-fill.

use std::{
    cell::RefCell,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use sniper::{
    config::{Config, FeedConfig},
    domain::trade::{Trade, TradeEvent},
    json,
    ws::{
        self, FeedError,
        policy::{ReconnectionLimits, RetryDecision},
    },
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    WAIT_MAX, config, during, feed_of, once,
    peer::{Frame, Peer, Server, batch, listing},
    quick,
};
use crate::certificate::self_signed;

/// Returns the retry decision for each close code, or `None` for a clean close.
async fn decisions_for(codes: Vec<u16>) -> Vec<(u16, Option<RetryDecision>)> {
    let sent = codes.clone();
    let server = Server::play(move |number, mut peer| {
        let code = sent[number];
        async move {
            peer.subscribed().await;
            peer.close(code, "").await;
        }
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let mut verdicts = Vec::new();
    for code in codes {
        let (_, ended) = once(&feed).await;
        verdicts.push((code, ended.err().map(|error| error.retry_decision())));
    }
    verdicts
}

#[tokio::test]
async fn a_close_is_answered_with_the_code_of_the_server() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let server = Server::play(move |number, mut peer| {
        let sender = sender.clone();
        async move {
            // Closes before the ack, or after the subscriptions.
            if number % 2 == 0 {
                peer.upgrade().await;
            } else {
                peer.subscribed().await;
            }
            let answer = peer.close([1_000, 1_012, 4_403][number / 2], "why").await;
            sender.send(answer).await.unwrap();
        }
    })
    .await;
    for code in [1_000, 1_000, 1_012, 1_012, 4_403, 4_403] {
        let _ended = once(&feed_of(config(&server.address, quick()))).await;
        assert_eq!(receiver.recv().await.unwrap(), Frame::Close(Some(code)));
    }
}

#[tokio::test]
async fn every_close_code_is_classified() {
    for (code, verdict) in decisions_for((1_000..=1_015).collect()).await {
        let expected = match code {
            1_000 | 1_001 => None,
            1_002 | 1_003 | 1_007..=1_010 => Some(RetryDecision::Suspend),
            1_013 => Some(RetryDecision::RetryLater),
            // Sending 1004, 1005, 1006 or 1015 is a protocol violation.
            _ => Some(RetryDecision::Retry),
        };
        assert_eq!(verdict, expected, "{code}");
    }
    let codes = (4_400..=4_429).chain([4_004, 4_005, 4_499, 4_500, 4_504, 3_000, 4_999]);
    for (code, verdict) in decisions_for(codes.collect()).await {
        let expected = match code {
            4_403 => RetryDecision::RenewCredential,
            4_400 | 4_401 | 4_406 | 4_409 | 4_429 | 4_004 | 4_005 | 4_500 => RetryDecision::Suspend,
            _ => RetryDecision::Retry,
        };
        assert_eq!(verdict, Some(expected), "{code}");
    }
}

#[tokio::test]
async fn listings_arrive_over_tls() {
    let (server, root) = self_signed();
    let acceptor = TlsAcceptor::from(server);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("wss://localhost:{}/ws", listener.local_addr().unwrap().port());
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // The second client does not trust the certificate and disconnects.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let mut peer = Peer::new(stream);
            let ids = peer.subscribed().await;
            peer.send_text(&batch(&ids[0], &["a"])).await;
            peer.close(1_000, "").await;
        }
    });
    let trusted_root = Some(root.to_vec());
    let (ids, ended) = once(&feed_of(Config { trusted_root, ..config(&address, quick()) })).await;
    assert_eq!(ids, ["a"]);
    assert!(ended.is_ok(), "{ended:?}");
    let (_, ended) = once(&feed_of(config(&address, quick()))).await;
    assert!(matches!(ended, Err(FeedError::Tls(_))), "{ended:?}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_slower_than_every_deadline_causes_no_reconnect() {
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..40 {
            peer.send_text(&batch(&ids[0], &[&format!("t{round}")])).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        peer.close(1_000, "").await;
    })
    .await;
    let limits = ReconnectionLimits {
        ping_interval: Duration::from_millis(400),
        pong_timeout: Duration::from_millis(300),
        ..quick()
    };
    let feed = feed_of(config(&server.address, limits));
    let mut count = 0;
    let ended = ws::connect_once(&feed, |_| {
        count += 1;
        if count == 3 {
            std::thread::sleep(Duration::from_millis(1_200));
        }
    })
    .await;
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!((count, server.dials()), (40, 1));
}

/// Number of events of a flood, with ten listings each: 9 MB in total.
const FLOOD: u32 = 2_000;

/// Starts a server on a separate thread that floods its client. Returns its address.
fn flooding() -> String {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (done, over) = tokio::sync::oneshot::channel();
            let done = Arc::new(std::sync::Mutex::new(Some(done)));
            let server = Server::play(move |_, mut peer| {
                let done = Arc::clone(&done);
                async move {
                    let ids = peer.subscribed().await;
                    for event in 0..FLOOD {
                        let listings: Vec<String> =
                            (0..10).map(|n| format!("t{event}-{n}")).collect();
                        let listings: Vec<&str> = listings.iter().map(String::as_str).collect();
                        peer.send_text(&batch(&ids[0], &listings)).await;
                    }
                    peer.close(1_000, "").await;
                    done.lock().unwrap().take().map(|done| done.send(()));
                }
            })
            .await;
            sender.send(server.address.clone()).unwrap();
            over.await.unwrap();
        });
    });
    receiver.recv().unwrap()
}

#[test]
fn memory_is_bounded_behind_a_slow_callback() {
    let feed = feed_of(config(&flooding(), quick()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut received, mut ended) = (0_u32, None);
    let slow = |_: Trade<'_>| {
        received += 1;
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_micros(50) {}
    };
    let counted = allocation_counter::measure(|| {
        ended = Some(runtime.block_on(ws::connect_once(&feed, slow)));
    });
    assert!(matches!(ended, Some(Ok(()))), "{ended:?}");
    assert_eq!(received, FLOOD * 10);
    // The deduplication tables and the buffer of a read have a fixed size, and nothing else grows.
    assert!(counted.bytes_max < 6 * 1024 * 1024, "{counted:?}");
}

#[tokio::test]
async fn dropping_the_feed_closes_its_socket_in_every_state() {
    let (gone, mut seen) = tokio::sync::mpsc::channel(8);
    let server = Server::play(move |number, mut peer| {
        let gone = gone.clone();
        async move {
            match number {
                0 => peer.read_head().await,
                1 => {
                    peer.upgrade().await;
                    peer.text().await;
                }
                _ => {
                    peer.subscribed().await;
                }
            }
            gone.send(None).await.unwrap();
            loop {
                if let last @ (Frame::Close(_) | Frame::End) = peer.frame().await {
                    gone.send(Some(last)).await.unwrap();
                    return;
                }
            }
        }
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    for _ in 0..3 {
        let reached = during(&feed, seen.recv()).await;
        assert_eq!(reached, Some(None));
        let last = tokio::time::timeout(WAIT_MAX, seen.recv()).await;
        assert!(last.expect("the socket is still open").flatten().is_some());
    }
}

pub(super) fn found(id: &str) -> Trade<'static> {
    let text = format!(r#"{{"data":{{"createTrade":{{"trade":{}}}}}}}"#, listing(id));
    let payload: sniper::markets::csgoroll::feed::NextPayload<'_> = json::read(&text).unwrap();
    let trade = payload.into_trades().next().unwrap().into_owned();
    Trade { event: TradeEvent::BackFilled { age: Duration::from_secs(9) }, ..trade }
}

#[tokio::test]
async fn back_filled_listings_reach_the_callback_once() {
    let log = super::Log::capture();
    let server = Server::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        if number == 0 {
            peer.send_text(&batch(&ids[0], &["before"])).await;
            peer.close(1_000, "").await;
        } else {
            peer.send_text(&batch(&ids[0], &["after"])).await;
            peer.read_until_close().await;
        }
    })
    .await;
    let feed = FeedConfig { sweep_at_start: true, ..FeedConfig::default() };
    let mut feed = feed_of(Config { feed, ..config(&server.address, quick()) });
    let mut filler = feed.fill_gaps();
    let filling = tokio::spawn(async move {
        let sweep = filler.next_request().await.unwrap();
        assert_eq!((sweep.number, sweep.since), (0, None));
        // The gap begins during the sweep and cancels it.
        filler.superseded(sweep).await;
        let want = filler.next_request().await.unwrap();
        assert_eq!(want.number, 1);
        assert!(want.since.is_some());
        for id in ["before", "hidden-2", "hidden-1", "hidden-2", "after"] {
            filler.listings().send(found(id)).await.unwrap();
        }
        filler.done(want).await;
    });
    let seen = RefCell::new(Vec::new());
    let on_trade = |trade: Trade<'_>| {
        let is_found = matches!(trade.event, TradeEvent::BackFilled { .. });
        seen.borrow_mut().push((trade.id.to_string(), is_found));
    };
    let all = async {
        while !log.text().contains("Feed back after") || seen.borrow().len() < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        gave_up = ws::run_with_reconnect(&feed, on_trade) => panic!("{gave_up}"),
        () = all => {}
        () = tokio::time::sleep(WAIT_MAX) => panic!("{:?}\n{}", seen.borrow(), log.text()),
    }
    filling.abort();
    let mut ids: Vec<String> = seen.borrow().iter().map(|(id, _)| id.clone()).collect();
    ids.sort();
    assert_eq!(ids, ["after", "before", "hidden-1", "hidden-2"]);
    assert!(seen.borrow().contains(&("hidden-2".to_owned(), true)));
    assert!(seen.borrow().contains(&("before".to_owned(), false)));
    let found = feed.metrics.backfilled.load(Relaxed);
    log.assert_contains(&format!("s (1 attempt), {found} missed listings recovered"));
    assert!(found == 2 || found == 3, "{found}");
}

/// Checks the table at the end of `docs/resilience.md`.
#[test]
fn every_failure_mode_names_tests_that_exist() {
    let document = std::fs::read_to_string(crate::tidy::top().join("docs/resilience.md")).unwrap();
    let (_, table) = document.split_once("| failure | test |").unwrap();
    let sources = crate::tidy::sources();
    let mut rows = 0;
    for row in table.lines().filter(|row| row.starts_with("| ")) {
        rows += 1;
        let (_, tests) = row.trim_end_matches(" |").rsplit_once(" | ").unwrap();
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            let declared = format!("fn {test}(");
            assert!(
                sources.iter().any(|source| source.text.contains(&declared)),
                "docs/resilience.md names `{test}`, which is no test"
            );
        }
    }
    assert!(rows > 40, "{rows}");
}
