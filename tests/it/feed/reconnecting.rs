//! What happens between one connection and the next.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use sniper::{
    config::{Config, Credential, CredentialSource},
    ws::policy::Limits,
};

use super::{
    Log, config, during,
    peer::{Server, batch},
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
            "0.25s (attempt 1: closed cleanly)",
            "0.5s (attempt 2: closed cleanly)",
            "1s (attempt 3: closed cleanly)"
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
            "Reconnecting in 0.25s (attempt 1: closed cleanly)",
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
    let limits = Limits { circuit_breaker_cooldown: Duration::from_millis(700), ..quick() };
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
    during(&config(&server.address, quick()), server.dialled(2)).await;
    assert!(server.intervals()[0] >= Duration::from_secs(1), "{:?}", server.intervals());
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
    let limits = Limits {
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
    let limits = Limits { max_retries: Some(2), ..quick() };
    let gave_up = to_the_end(&config(&server.address, limits)).await;
    assert_eq!(gave_up.attempts, 3);
    assert!(gave_up.last.is_some());
    assert_eq!(server.dials(), 3);
}
