//! What happens between one connection and the next.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use sniper::{
    config::{Config, Credential, CredentialSource},
    ws::policy::ReconnectionLimits,
};

use super::{
    Log, config, during,
    peer::{Server, batch, frame},
    quick, to_the_end, until,
};

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_dialled_at_doubling_intervals() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.close(1_001, "").await;
    })
    .await;
    during(&config(&server.address, quick()), server.dialled(4)).await;
    for (interval, least) in server.intervals().iter().zip([250, 500, 1_000]) {
        assert!(*interval >= Duration::from_millis(least), "{interval:?} < {least} ms");
        assert!(*interval < Duration::from_millis(least + 400), "{interval:?} > {least} ms");
    }
    let lines = log.lines();
    let waits: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("Reconnecting in ")).collect();
    assert_eq!(
        waits[..3],
        [
            "0.25s (attempt 1: closed by the server with 1001)",
            "0.5s (attempt 2: closed by the server with 1001)",
            "1s (attempt 3: closed by the server with 1001)"
        ]
    );
}

#[tokio::test]
async fn a_productive_session_resets_the_wait_and_says_so() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        match number {
            0 | 1 => peer.stream.set_zero_linger().unwrap(),
            2 => {
                let ids = peer.subscribed().await;
                peer.say(&batch(&ids[0], &["a", "b"])).await;
                peer.close(1_000, "").await;
            }
            _ => {
                let ids = peer.subscribed().await;
                peer.say(&batch(&ids[0], &["a", "c"])).await;
                peer.drained().await;
            }
        }
    })
    .await;
    let config = config(&server.address, quick());
    let ids = until(&config, |ids| ids.len() == 3).await;
    assert_eq!(ids, ["a", "b", "c"], "a listing comes once, also across connections");
    assert_eq!(config.taps.duplicates.load(Relaxed), 1);
    let lines = log.lines();
    let told: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("Connection error"))
        .collect();
    assert!(told[0].starts_with("Reconnecting in 0.25s (attempt 1: "), "{told:?}");
    assert!(told[1].starts_with("Reconnecting in 0.5s (attempt 2: "), "{told:?}");
    assert_eq!(
        told[2..7],
        [
            "Connected",
            "Disconnected (1000, clean close)",
            "Connection closed cleanly",
            "Productive session (2 trades). Backoff reset to 0.25s.",
            "Reconnecting in 0.25s (attempt 1: closed by the server with 1000)",
        ]
    );
    assert_eq!(told[7], "Connected");
    assert!(told[8].starts_with("Reconnected (gap 0."), "{told:?}");
    assert!(told[8].ends_with("s, attempts 1, reconnects 1, back-filled 0)"), "{told:?}");
    assert_eq!(config.taps.reconnects.load(Relaxed), 1);
    let gaps = config.taps.gap_list();
    assert_eq!((gaps.len(), gaps[0].attempts), (1, 1));
    assert!(gaps[0].until.is_some() && gaps[0].lasted >= Duration::from_millis(250));
}

/// A good session first, and then one that is closed at once; both with this code and reason.
async fn closed_twice(code: u16, reason: &'static str) -> (Log, Vec<Duration>) {
    let log = Log::capture();
    let server = Server::play(move |number, mut peer| async move {
        let ids = peer.subscribed().await;
        if number == 0 {
            peer.say(&batch(&ids[0], &["a"])).await;
        }
        if number < 2 {
            peer.close(code, reason).await;
        } else {
            peer.drained().await;
        }
    })
    .await;
    let limits =
        ReconnectionLimits { circuit_breaker_cooldown: Duration::from_millis(900), ..quick() };
    during(&config(&server.address, limits), server.dialled(3)).await;
    (log, server.intervals())
}

#[tokio::test]
async fn after_a_good_session_every_close_is_an_ordinary_reconnect_and_before_one_its_code_decides()
{
    for (code, reason, shown, is_parked) in [
        (1_008, "Pong timeout", "Disconnected (1008, Pong timeout)", true),
        (1_001, "see you", "Disconnected (1001, see you)", false),
        (1_001, "", "Disconnected (1001, going away)", false),
        (1_000, "bye", "Disconnected (1000, bye)", false),
        (4_400, "", "Disconnected (4400, no reason given)", true),
        (1_013, "", "Disconnected (1013, try again later)", false),
    ] {
        let (log, intervals) = closed_twice(code, reason).await;
        log.has(shown);
        log.has("Productive session (1 trades). Backoff reset to 0.25s.");
        log.has(&format!("Reconnecting in 0.25s (attempt 1: closed by the server with {code}"));
        assert!(intervals[0] < Duration::from_millis(700), "{code}: {intervals:?}");
        let parked = log.text().matches("Parked for 0.9s").count();
        assert_eq!(parked, usize::from(is_parked), "{code}: {}", log.text());
        if is_parked {
            assert!(intervals[1] >= Duration::from_millis(900), "{code}: {intervals:?}");
        }
    }
}

#[tokio::test]
async fn a_close_without_a_code_is_shown_as_1005_and_one_before_the_session_with_its_own_code() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        if number == 0 {
            peer.subscribed().await;
            peer.write(&frame(0x88, b"")).await;
            peer.drained().await;
        } else {
            peer.upgrade().await;
            peer.close(1_001, "restarting").await;
        }
    })
    .await;
    during(&config(&server.address, quick()), server.dialled(3)).await;
    log.has("Disconnected (1005, no code given)");
    log.has("closed by the server with 1001: restarting (before it acknowledged the session)");
}

#[tokio::test]
async fn an_error_is_told_with_its_code_and_words_made_harmless() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        peer.subscribed().await;
        peer.close(4_999, "a\u{1b}[2Jb").await;
    })
    .await;
    during(&config(&server.address, quick()), server.dialled(2)).await;
    log.has("Disconnected (4999, a\\u{1b}[2Jb)");
    log.has("Connection error: closed by the server with 4999: a\\u{1b}[2Jb");
    assert!(!log.text().contains('\u{1b}'));
}

#[tokio::test]
async fn what_haste_cannot_heal_is_parked_and_the_credential_is_read_again() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        peer.read_head().await;
        if number == 0 {
            assert_eq!(peer.header("Cookie").as_deref(), Some("session=old"));
            peer.write(b"HTTP/1.1 401 Unauthorized\r\n\r\n").await;
        } else {
            assert_eq!(peer.header("Cookie").as_deref(), Some("session=new"));
            peer.write(peer.grant().as_bytes()).await;
            peer.drained().await;
        }
    })
    .await;
    let limits =
        ReconnectionLimits { circuit_breaker_cooldown: Duration::from_millis(700), ..quick() };
    let config = Config {
        credential: Credential::from_session("old").ok(),
        credential_source: Some(CredentialSource::new(|| Credential::from_session("new").ok())),
        ..config(&server.address, limits)
    };
    during(&config, server.dialled(2)).await;
    assert!(server.intervals()[0] >= Duration::from_millis(700), "{:?}", server.intervals());
    log.has("ERROR Parked for 0.7s: HTTP 401: not signed in;");
    let text = log.text();
    assert!(!text.contains("old") && !text.contains("new"), "{text}");
}

#[tokio::test]
async fn a_forbidden_session_is_tried_again_with_a_fresh_credential_under_backoff() {
    let server = Server::play(|number, mut peer| async move {
        peer.upgrade().await;
        let expected = if number == 0 { "session=old" } else { "session=new" };
        assert_eq!(peer.header("Cookie").as_deref(), Some(expected));
        peer.close(4_403, "Forbidden").await;
    })
    .await;
    let config = Config {
        credential: Credential::from_session("old").ok(),
        credential_source: Some(CredentialSource::new(|| Credential::from_session("new").ok())),
        ..config(&server.address, quick())
    };
    during(&config, server.dialled(2)).await;
    assert!(server.intervals()[0] < Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_asks_for_time_gets_it() {
    let server = Server::play(|_, mut peer| async move {
        peer.read_head().await;
        peer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\n\r\n").await;
    })
    .await;
    let log = Log::capture();
    during(&config(&server.address, quick()), server.dialled(2)).await;
    assert!(server.intervals()[0] >= Duration::from_secs(1), "{:?}", server.intervals());
    log.has("WARN Retry-After of 1s obeyed: no attempt before 20");
}

#[tokio::test]
async fn a_ban_is_named_and_lasts_as_long_as_the_server_says() {
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
    during(&config(&server.address, quick()), waiting).await;
    log.has("Connection error: HTTP 418: this IP address is banned for too many requests");
    log.has("Retry-After of 7200s obeyed: no attempt before ");
    log.has("Reconnecting in 7200s (attempt 1: HTTP 418");
}

#[tokio::test]
async fn a_circuit_opens_half_opens_and_closes_and_each_is_told_once() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        if number < 3 {
            return peer.stream.set_zero_linger().unwrap();
        }
        let ids = peer.subscribed().await;
        peer.say(&batch(&ids[0], &["a"])).await;
        peer.drained().await;
    })
    .await;
    let limits = ReconnectionLimits {
        max_consecutive_failures: 3,
        circuit_breaker_cooldown: Duration::from_millis(900),
        ..quick()
    };
    let config = config(&server.address, limits);
    until(&config, |ids| !ids.is_empty()).await;
    assert!(server.intervals()[2] >= Duration::from_millis(900), "{:?}", server.intervals());
    let lines = log.lines();
    let told = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(told("Circuit open for 0.9s: "), 1, "{lines:?}");
    assert_eq!(told("Circuit half-open"), 1, "{lines:?}");
    assert_eq!(told("Circuit closed"), 1, "{lines:?}");
}

#[tokio::test]
async fn it_gives_up_only_where_that_is_set_and_says_why() {
    let server = Server::play(|_, peer| async move {
        peer.stream.set_zero_linger().unwrap();
    })
    .await;
    let limits = ReconnectionLimits { max_retries: Some(2), ..quick() };
    let gave_up = to_the_end(&config(&server.address, limits)).await;
    assert_eq!(gave_up.attempts, 3);
    assert!(gave_up.last.is_some());
    assert_eq!(server.dials(), 3);
}
