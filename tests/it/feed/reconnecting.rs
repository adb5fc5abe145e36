//! Reconnects: delays, backoff resets, close codes, credentials and the circuit breaker.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use sniper::{
    config::{Config, Credential, CredentialSource, FeedConfig, Market},
    ws::policy::ReconnectionLimits,
};
use tokio::time::{Instant, sleep_until};

use super::{
    Log, config, during, feed_of,
    memory::{MemoryDialer, run, without_rotation},
    peer::{Server, batch, frame},
    quick, until, until_given_up,
};

/// Source of the session `new`, without a file.
fn new_session() -> CredentialSource {
    let fixed = Credential::from_session("new").ok().map(|new| (new, "CSGOROLL_SESSION"));
    CredentialSource { market: Market::Csgoroll, directory: PathBuf::from("missing"), fixed }
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_dialed_at_doubling_intervals() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.close(1_001, "").await;
    })
    .await;
    during(&feed_of(config(&server.address, quick())), server.wait_for_dials(4)).await;
    for (interval, least) in server.intervals().iter().zip([250, 500, 1_000]) {
        assert!(*interval >= Duration::from_millis(least), "{interval:?} < {least} ms");
    }
    let lines = log.lines();
    let waits: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("Reconnecting in ")).collect();
    assert_eq!(waits[..3], ["0.25s (attempt 1)", "0.5s (attempt 2)", "1s (attempt 3)"]);
}

#[tokio::test]
async fn a_productive_session_resets_the_backoff() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        match number {
            0 | 1 => peer.stream.set_zero_linger().unwrap(),
            2 => {
                let ids = peer.subscribed().await;
                peer.send_text(&batch(&ids[0], &["a", "b"])).await;
                peer.close(1_000, "").await;
            }
            _ => {
                let ids = peer.subscribed().await;
                peer.send_text(&batch(&ids[0], &["a", "c"])).await;
                peer.read_until_close().await;
            }
        }
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let ids = until(&feed, |ids| ids.len() == 3).await;
    assert_eq!(ids, ["a", "b", "c"], "a listing comes once, also across connections");
    assert_eq!(feed.metrics.duplicates.load(Relaxed), 1);
    let lines = log.lines();
    let logged: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("Could not connect"))
        .collect();
    assert!(logged[0].starts_with("Reconnecting in 0.25s (attempt 1)"), "{logged:?}");
    assert!(logged[1].starts_with("Reconnecting in 0.5s (attempt 2)"), "{logged:?}");
    assert_eq!(
        logged[2..6],
        [
            "Connected",
            "Feed closed by the server (1000, clean close)",
            "Productive session (2 trades). Backoff reset to 0.25s.",
            "Reconnecting in 0.25s (attempt 1)",
        ]
    );
    assert_eq!(logged[6], "Connected");
    assert!(logged[7].starts_with("Feed back after 0."), "{logged:?}");
    assert!(logged[7].ends_with("s (1 attempt)"), "{logged:?}");
    assert_eq!(feed.metrics.reconnects.load(Relaxed), 1);
    let gaps = feed.metrics.gap_list();
    assert_eq!((gaps.len(), gaps[0].attempts), (1, 1));
    assert!(gaps[0].until.is_some() && gaps[0].duration >= Duration::from_millis(250));
}

/// Runs a productive session and then one that is closed immediately, both with this close code
/// and reason. Returns the log and the intervals between the connections.
async fn closed_twice(code: u16, reason: &'static str) -> (Log, Vec<Duration>) {
    let log = Log::capture();
    let server = Server::play(move |number, mut peer| async move {
        let ids = peer.subscribed().await;
        if number == 0 {
            peer.send_text(&batch(&ids[0], &["a"])).await;
        }
        if number < 2 {
            peer.close(code, reason).await;
        } else {
            peer.read_until_close().await;
        }
    })
    .await;
    let limits =
        ReconnectionLimits { circuit_breaker_cooldown: Duration::from_millis(900), ..quick() };
    during(&feed_of(config(&server.address, limits)), server.wait_for_dials(3)).await;
    (log, server.intervals())
}

#[test]
fn a_close_code_decides_the_retry_only_before_a_productive_session() {
    let cases = [
        (1_008, "Pong timeout", "Feed lost: closed by the server (1008, Pong timeout)", true),
        (1_001, "see you", "Feed closed by the server (1001, see you)", false),
        (1_001, "", "Feed closed by the server (1001, going away)", false),
        (1_000, "bye", "Feed closed by the server (1000, bye)", false),
        (4_400, "", "Feed lost: closed by the server (4400, no reason given)", true),
        (1_013, "", "Feed lost: closed by the server (1013, try again later)", false),
    ];
    let check = |(code, reason, shown, is_parked)| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (log, intervals) = runtime.block_on(closed_twice(code, reason));
        log.assert_contains(shown);
        log.assert_contains("Productive session (1 trades). Backoff reset to 0.25s.");
        log.assert_contains("Reconnecting in 0.25s (attempt 1)");
        let parked = log.text().matches("Connection rejected, next attempt in 0.9s").count();
        assert_eq!(parked, usize::from(is_parked), "{code}: {}", log.text());
        if is_parked {
            assert!(intervals[1] >= Duration::from_millis(900), "{code}: {intervals:?}");
        }
    };
    // Each thread has its own log.
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || check(case));
        }
    });
}

#[tokio::test]
async fn a_close_without_a_code_is_logged_as_1005() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        if number == 0 {
            peer.subscribed().await;
            peer.write(&frame(0x88, b"")).await;
            peer.read_until_close().await;
        } else {
            peer.upgrade().await;
            peer.close(1_001, "restarting").await;
        }
    })
    .await;
    during(&feed_of(config(&server.address, quick())), server.wait_for_dials(3)).await;
    log.assert_contains("Feed closed by the server (1005, no code given)");
    log.assert_contains(
        "closed by the server (1001, restarting (before it acknowledged the session))",
    );
}

#[tokio::test]
async fn a_close_reason_is_logged_with_escaped_control_characters() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.close(4_999, "a\u{1b}[2Jb").await;
    })
    .await;
    during(&feed_of(config(&server.address, quick())), server.wait_for_dials(2)).await;
    log.assert_contains("Feed lost: closed by the server (4999, a\\u{1b}[2Jb)");
    assert!(!log.text().contains('\u{1b}'));
}

#[tokio::test]
async fn a_401_suspends_the_feed_and_rereads_the_credential() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        peer.read_head().await;
        if number == 0 {
            assert_eq!(peer.header("Cookie").as_deref(), Some("session=old"));
            peer.write(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await;
        } else {
            assert_eq!(peer.header("Cookie").as_deref(), Some("session=new"));
            peer.write(peer.grant().as_bytes()).await;
            peer.read_until_close().await;
        }
    })
    .await;
    let limits =
        ReconnectionLimits { circuit_breaker_cooldown: Duration::from_millis(700), ..quick() };
    let feed = feed_of(Config {
        credential: Credential::from_session("old").ok(),
        credential_source: Some(new_session()),
        ..config(&server.address, limits)
    });
    during(&feed, server.wait_for_dials(2)).await;
    assert!(server.intervals()[0] >= Duration::from_millis(700), "{:?}", server.intervals());
    log.assert_contains(
        "ERROR Connection rejected, next attempt in 0.7s: HTTP 401: not signed in;",
    );
    let text = log.text();
    assert!(!text.contains("old") && !text.contains("new"), "{text}");
}

#[tokio::test]
async fn a_4403_close_is_retried_with_a_reread_credential() {
    let server = Server::play(|number, mut peer| async move {
        peer.upgrade().await;
        let expected = if number == 0 { "session=old" } else { "session=new" };
        assert_eq!(peer.header("Cookie").as_deref(), Some(expected));
        peer.close(4_403, "Forbidden").await;
    })
    .await;
    let feed = feed_of(Config {
        credential: Credential::from_session("old").ok(),
        credential_source: Some(new_session()),
        ..config(&server.address, quick())
    });
    during(&feed, server.wait_for_dials(2)).await;
}

#[tokio::test]
async fn retry_after_delays_the_next_attempt() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        peer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n").await;
    })
    .await;
    let log = Log::capture();
    during(&feed_of(config(&server.address, quick())), server.wait_for_dials(2)).await;
    assert!(server.intervals()[0] >= Duration::from_secs(1), "{:?}", server.intervals());
    log.assert_contains("WARN Retry-After of 1s obeyed: no attempt before 20");
}

/// The second connection fails at once and is due again within the window that the server requests
/// from the first one, whose own backoff is longer than the window.
#[tokio::test(start_paused = true)]
async fn a_retry_after_shorter_than_the_backoff_delays_every_connection_to_the_host() {
    let (log, epoch, dials) = (Log::capture(), Instant::now(), Arc::<Mutex<Vec<u64>>>::default());
    let dial_times = Arc::clone(&dials);
    let dialer = MemoryDialer::play(move |number, mut peer| {
        dial_times.lock().unwrap().push(epoch.elapsed().as_secs());
        async move {
            match number {
                0 => {
                    peer.read_head().await;
                    sleep_until(epoch + Duration::from_secs(5)).await;
                    peer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 8\r\n\r\n").await;
                }
                1 => {}
                _ => {
                    peer.subscribed().await;
                    peer.read_until_close().await;
                }
            }
        }
    });
    let limits = ReconnectionLimits {
        initial_delay: Duration::from_secs(10),
        max_delay: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(8),
        ..quick()
    };
    let feed = FeedConfig { connections: 2, ..without_rotation() };
    let feed = feed_of(Config { feed, ..config("ws://127.0.0.1:9/ws", limits) });
    run(&feed, &dialer, Duration::from_secs(20)).await;
    assert_eq!(*dials.lock().unwrap(), [0, 0, 13, 15]);
    log.assert_contains("WARN Retry-After of 8s obeyed: no attempt before 20");
}

#[tokio::test]
async fn a_ban_is_logged_and_its_retry_after_is_respected() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        peer.write(b"HTTP/1.1 418 I'm a teapot\r\nRetry-After: 7200\r\n\r\n").await;
    })
    .await;
    let waiting = async {
        while !log.text().contains("Reconnecting in") {
            tokio::task::yield_now().await;
        }
    };
    during(&feed_of(config(&server.address, quick())), waiting).await;
    log.assert_contains(
        "Could not connect: HTTP 418: this IP address is banned for too many requests",
    );
    log.assert_contains("Retry-After of 7200s obeyed: no attempt before ");
    log.assert_contains("Reconnecting in 7200s (attempt 1)");
}

#[tokio::test]
async fn each_circuit_breaker_transition_is_logged_once() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        if number < 3 {
            return peer.stream.set_zero_linger().unwrap();
        }
        let ids = peer.subscribed().await;
        peer.send_text(&batch(&ids[0], &["a"])).await;
        peer.read_until_close().await;
    })
    .await;
    let limits = ReconnectionLimits {
        max_consecutive_failures: 3,
        circuit_breaker_cooldown: Duration::from_millis(900),
        ..quick()
    };
    let feed = feed_of(config(&server.address, limits));
    until(&feed, |ids| !ids.is_empty()).await;
    assert!(server.intervals()[2] >= Duration::from_millis(900), "{:?}", server.intervals());
    let lines = log.lines();
    let logged = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(logged("Too many failures: no connection attempt for 0.9s"), 1, "{lines:?}");
    assert_eq!(logged("Pause over: trying one connection"), 1, "{lines:?}");
    assert_eq!(logged("Connection healthy again: normal retries resumed"), 1, "{lines:?}");
}

#[tokio::test]
async fn the_feed_gives_up_only_after_max_retries() {
    let server = Server::play(|_, peer| async move {
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let limits = ReconnectionLimits { max_retries: Some(2), ..quick() };
    let gave_up = until_given_up(&feed_of(config(&server.address, limits))).await;
    assert_eq!(gave_up.attempts, 3);
    assert!(gave_up.last.is_some());
    assert_eq!(server.dials(), 3);
}
