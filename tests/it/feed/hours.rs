//! Scenarios of minutes to a day: the feed over in-memory connections with paused time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sniper::{
    config::{Config, FeedConfig},
    net::dial::AddressOrder,
    ws::policy::ReconnectionLimits,
};
use tempfile::TempDir;
use tokio::{
    io::DuplexStream,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Log,
    bursts::{finish, start_recording},
    config, feed_of,
    memory::{HOUR, MemoryDialer, address_of, default_config, run, without_rotation},
    peer::{Frame, Peer, batch, frame},
};

#[tokio::test(start_paused = true)]
async fn a_silent_socket_is_detected_within_ten_seconds() {
    let dialer = MemoryDialer::play(|_, mut peer| async move {
        peer.subscribed().await;
        std::future::pending::<()>().await;
    });
    let feed = feed_of(default_config());
    run(&feed, &dialer, Duration::from_millis(10_100)).await;
    assert_eq!(dialer.dials(), 2);
    let gaps = feed.metrics.gap_list();
    assert!(gaps[0].cause.contains("silent for 9s"), "{gaps:?}");
    assert!(gaps[0].duration >= Duration::from_secs(9), "counted from the last proof of life");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_only_websocket_pings_is_detected() {
    let dialer = MemoryDialer::play(|_, mut peer| async move {
        peer.subscribed().await;
        loop {
            match peer.frame().await {
                Frame::Ping(payload) => peer.write(&frame(0x8A, &payload)).await,
                Frame::End => return,
                _ => {}
            }
        }
    });
    run(&feed_of(default_config()), &dialer, Duration::from_millis(10_100)).await;
    assert_eq!(dialer.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_data_is_resubscribed_and_then_replaced() {
    let log = Log::capture();
    let dialer = MemoryDialer::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..100 {
            peer.send_text(&batch(&ids[0], &[&format!("{number}-{round}")])).await;
            sleep(Duration::from_secs(1)).await;
        }
        let mut renewed = 0;
        loop {
            match peer.frame().await {
                Frame::Text(text) if text.contains(r#""ping""#) => {
                    peer.send_text(r#"{"type":"pong"}"#).await;
                }
                Frame::Text(text) if text.contains("subscribe") => renewed += 1,
                Frame::End => break,
                _ => {}
            }
        }
        assert_eq!(renewed, 3, "a fresh subscription comes before a fresh connection");
    });
    let duration = Duration::from_secs(100 + 60);
    let feed = feed_of(default_config());
    let ids = run(&feed, &dialer, duration).await;
    assert!(dialer.dials() == 2 && ids.contains(&"1-0".to_owned()), "{}", dialer.dials());
    let gaps = feed.metrics.gap_list();
    assert_eq!(gaps.len(), 1);
    // The server answered all pings. The last listing came 30 s before the disconnect.
    assert!(gaps[0].duration >= Duration::from_secs(30), "counted from the last listing: {gaps:?}");
    log.assert_contains(", resubscribing");
    log.assert_contains("Feed lost: no data for 30");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_without_listings_is_renewed_on_the_same_connection() {
    let subscriptions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&subscriptions);
    let dialer = MemoryDialer::play(move |_, mut peer| {
        let counted = Arc::clone(&counted);
        async move {
            peer.subscribed().await;
            loop {
                match peer.frame().await {
                    Frame::Text(text) if text.contains(r#""ping""#) => {
                        peer.send_text(r#"{"type":"pong"}"#).await;
                    }
                    Frame::Text(text) if text.contains("OnCreateTrades") => {
                        counted.fetch_add(1, Relaxed);
                    }
                    Frame::End => return,
                    _ => {}
                }
            }
        }
    });
    run(&feed_of(Config { feed: without_rotation(), ..default_config() }), &dialer, HOUR).await;
    assert_eq!(dialer.dials(), 1);
    let renewed = subscriptions.load(Relaxed);
    assert!((3..10).contains(&renewed), "{renewed}");
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_five_seconds_causes_no_reconnect() {
    let dialer = MemoryDialer::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..1_000 {
            peer.send_text(&batch(&ids[0], &[&format!("t{round}")])).await;
            let pause = if round % 10 == 9 { 5_000 } else { 500 };
            sleep(Duration::from_millis(pause)).await;
        }
        peer.read_until_close().await;
    });
    let ids = run(&feed_of(default_config()), &dialer, Duration::from_secs(900)).await;
    assert_eq!((dialer.dials(), ids.len()), (1, 950));
}

#[tokio::test(start_paused = true)]
async fn unanswered_pings_cause_no_reconnect_while_listings_arrive() {
    let dialer = MemoryDialer::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        for round in 0..1_000 {
            peer.send_text(&batch(&ids[0], &[&format!("t{round}")])).await;
            sleep(Duration::from_secs(1)).await;
        }
    });
    let ids = run(&feed_of(default_config()), &dialer, Duration::from_secs(900)).await;
    assert_eq!((dialer.dials(), ids.len()), (1, 900));
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_accept_and_close_causes_few_dials() {
    for listings in [0, 1] {
        let dialer = MemoryDialer::play(move |number, mut peer| async move {
            let ids = peer.subscribed().await;
            for _ in 0..listings {
                peer.send_text(&batch(&ids[0], &[&format!("t{number}")])).await;
            }
            peer.close(1_001, "").await;
        });
        run(&feed_of(default_config()), &dialer, HOUR).await;
        let dials = dialer.dials();
        println!("an hour of accept and close, {listings} listings each: {dials} dials");
        assert!((5..90).contains(&dials), "{dials} dials with {listings} listings each");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_feed_keeps_its_cooldown_for_a_whole_day() {
    let dialer = MemoryDialer::play(|_, mut peer| async move {
        peer.read_head().await;
        peer.write(b"HTTP/1.1 403 Forbidden\r\ncf-mitigated: challenge\r\n\r\n").await;
    });
    let feed = feed_of(default_config());
    run(&feed, &dialer, 24 * HOUR).await;
    assert!(dialer.dials() <= 24 * 12 + 1, "{}", dialer.dials());
    assert!(dialer.dials() >= 100, "it never stops trying: {}", dialer.dials());
    assert!(feed.metrics.is_blocked.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_successor_respects_the_retry_after_of_the_server() {
    for (answer, dials) in [
        ("HTTP/1.1 429 Slow\r\nRetry-After: 600\r\n\r\n", 2),
        ("HTTP/1.1 403 No\r\nRetry-After: 600\r\n\r\n", 2),
        ("HTTP/1.1 403 No\r\n\r\n", 3),
        ("HTTP/1.1 502 Bad\r\n\r\n", 30),
    ] {
        let dialer = MemoryDialer::play(move |number, mut peer| async move {
            if number == 0 {
                peer.subscribed().await;
                peer.read_until_close().await;
            } else {
                peer.read_head().await;
                peer.write(answer.as_bytes()).await;
            }
        });
        let feed = FeedConfig { max_age: Duration::from_secs(60), ..FeedConfig::default() };
        let limits =
            ReconnectionLimits { max_consecutive_failures: 0, ..ReconnectionLimits::DEFAULT };
        let feed = feed_of(Config { feed, ..config("ws://127.0.0.1:9/ws", limits) });
        run(&feed, &dialer, Duration::from_secs(500)).await;
        let dialed = dialer.dials();
        assert!(dialed.abs_diff(dials) <= dials / 10, "{answer}: {dialed}");
        assert_eq!(feed.metrics.gaps.load(Relaxed), 0, "{answer}");
    }
}

/// Delivers a listing every two seconds, the same on each connection, after a delay.
async fn deliver(mut peer: Peer<DuplexStream>, epoch: Instant, delay: Duration) {
    let ids = peer.subscribed().await;
    for listing in epoch.elapsed().as_secs() / 2 + 1.. {
        sleep_until(epoch + Duration::from_secs(2 * listing) + delay).await;
        peer.send_text(&batch(&ids[0], &[&format!("t{listing}")])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_always_last_is_replaced_and_a_punctual_one_is_not() {
    let log = Log::capture();
    let epoch = Instant::now();
    let late = Duration::from_millis(5);
    let script =
        move |number, peer| deliver(peer, epoch, if number == 1 { late } else { Duration::ZERO });
    let feed = FeedConfig { connections: 2, ..without_rotation() };
    let feed = feed_of(Config { feed, ..default_config() });
    let dialer = MemoryDialer::play(script);
    let ids = run(&feed, &dialer, Duration::from_secs(9 * 60)).await;
    assert_eq!(dialer.dials(), 2, "replaced too early");
    let [first, last] = feed.metrics.connection_counts()[..] else { panic!("two connections") };
    assert_eq!((first.late, last.first), (0, 0));
    assert!(first.first == u64::try_from(ids.len()).unwrap() && last.late >= 260, "{last:?}");
    assert!(last.late_mean >= late && last.late_max < 2 * late, "{last:?}");

    let feed = feed_of(feed.config);
    let dialer = MemoryDialer::play(script);
    let ids = run(&feed, &dialer, HOUR).await;
    assert_eq!(dialer.dials(), 3, "the replacement is as fast as the other one");
    assert!((1_790..=1_801).contains(&ids.len()), "{}", ids.len());
    let counts = feed.metrics.connection_counts();
    assert_eq!(counts.iter().map(|counts| counts.replaced).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(feed.metrics.rotations.load(Relaxed), 0);
    assert_eq!(feed.metrics.gaps.load(Relaxed), 0);
    log.assert_contains("Connection replaced because it was always the last one [connection 2]");
}

#[tokio::test(start_paused = true)]
async fn a_rotation_keeps_avoiding_the_address_that_was_always_last() {
    let (epoch, late) = (Instant::now(), Duration::from_millis(5));
    let dialer = MemoryDialer::play(move |number, peer| {
        deliver(peer, epoch, if number == 1 { late } else { Duration::ZERO })
    });
    let feed = FeedConfig { connections: 2, max_age: HOUR, ..FeedConfig::default() };
    let feed = feed_of(Config { feed, ..default_config() });
    run(&feed, &dialer, Duration::from_secs(70 * 60)).await;
    let (system, avoid) = (AddressOrder::System, AddressOrder::Avoid(address_of(1)));
    assert_eq!(dialer.orders(), [system, system, avoid, system, avoid]);
}

#[tokio::test(start_paused = true)]
async fn a_loss_keeps_avoiding_the_address_that_was_always_last() {
    let (epoch, late) = (Instant::now(), Duration::from_millis(5));
    let dialer = MemoryDialer::play(move |number, peer| async move {
        let delay = if number == 1 { late } else { Duration::ZERO };
        let life = if number == 2 { 60 } else { 3_600 };
        let _ended = timeout(Duration::from_secs(life), deliver(peer, epoch, delay)).await;
    });
    let feed = FeedConfig { connections: 2, ..without_rotation() };
    let feed = feed_of(Config { feed, ..default_config() });
    run(&feed, &dialer, Duration::from_secs(20 * 60)).await;
    let (system, avoid) = (AddressOrder::System, AddressOrder::Avoid(address_of(1)));
    assert_eq!(dialer.orders(), [system, system, avoid, avoid]);
}

/// The connection that is always last is lost before the look that would replace it, and connects
/// again after it.
#[tokio::test(start_paused = true)]
async fn a_connection_that_was_lost_is_not_replaced_because_the_one_before_was_always_last() {
    let (epoch, late) = (Instant::now(), Duration::from_millis(5));
    let dialer = MemoryDialer::play(move |number, mut peer| async move {
        match number {
            1 => drop(timeout(Duration::from_secs(598), deliver(peer, epoch, late)).await),
            2 => {
                peer.read_head().await;
                sleep_until(epoch + Duration::from_secs(601)).await;
                peer.write(b"HTTP/1.1 502 Bad\r\n\r\n").await;
            }
            _ => deliver(peer, epoch, Duration::ZERO).await,
        }
    });
    let feed = FeedConfig { connections: 2, ..without_rotation() };
    let feed = feed_of(Config { feed, ..default_config() });
    run(&feed, &dialer, Duration::from_secs(20 * 60)).await;
    assert_eq!(dialer.dials(), 4);
    assert_eq!(feed.metrics.connection_counts()[1].replaced, 0);
}

fn with_max_age(seconds: u64) -> FeedConfig {
    FeedConfig { max_age: Duration::from_secs(seconds), ..FeedConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn a_successor_that_ends_at_once_leaves_the_old_connection_in_place() {
    let (folder, epoch) = (TempDir::new().unwrap(), Instant::now());
    let recording = start_recording(&folder);
    let dialer = MemoryDialer::play(move |number, peer| async move {
        let life = Duration::from_secs(if number == 1 { 1 } else { 200 });
        let _ended = timeout(life, deliver(peer, epoch, Duration::ZERO)).await;
    });
    let feed = feed_of(Config { feed: with_max_age(100), ..default_config() });
    assert!(feed.metrics.set_recorder(Arc::new(recording.recorder(0))));
    let ids = run(&feed, &dialer, Duration::from_secs(150)).await;
    assert_eq!((dialer.dials(), feed.metrics.gaps.load(Relaxed)), (3, 0));
    assert_eq!(feed.metrics.rotations.load(Relaxed), 1, "the first renewal was undone");
    assert!((74..=75).contains(&ids.len()), "{}", ids.len());
    let file = recording.directory().join("all/trades.jsonl");
    finish(recording);
    let lines = std::fs::read_to_string(file).unwrap();
    // The successor has ended before second 98, and the next one replaces the old after it.
    let mut of_old = lines.lines().filter(|line| line.contains(r#""conn":1,"#));
    assert!(of_old.any(|line| line.contains("t49")), "the old connection has its number again");
}

#[tokio::test(start_paused = true)]
async fn the_gap_of_a_silent_successor_ends_when_the_old_connection_goes_on() {
    let epoch = Instant::now();
    let dialer = MemoryDialer::play(move |number, mut peer| async move {
        if number == 0 {
            return deliver(peer, epoch, Duration::ZERO).await;
        }
        let ids = peer.subscribed().await;
        peer.send_text(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
        sleep(Duration::from_millis(100)).await;
    });
    let feed = feed_of(Config { feed: with_max_age(100), ..default_config() });
    run(&feed, &dialer, Duration::from_millis(95_050)).await;
    let gaps = feed.metrics.gap_list();
    assert!(gaps.len() == 1 && gaps[0].cause.contains("completed by the server"), "{gaps:?}");
    assert!(!feed.metrics.downtime(Instant::now().into_std()).is_open);
}

#[tokio::test(start_paused = true)]
async fn successors_that_end_at_once_open_the_circuit_breaker() {
    let epoch = Instant::now();
    let dialer = MemoryDialer::play(move |number, peer| async move {
        let life = Duration::from_secs(if number == 0 { 1_000 } else { 1 });
        let _ended = timeout(life, deliver(peer, epoch, Duration::ZERO)).await;
    });
    let limits = ReconnectionLimits {
        max_consecutive_failures: 3,
        circuit_breaker_cooldown: HOUR,
        ..ReconnectionLimits::DEFAULT
    };
    let feed = feed_of(Config { feed: with_max_age(60), ..config("ws://127.0.0.1:9/ws", limits) });
    run(&feed, &dialer, Duration::from_secs(500)).await;
    assert_eq!((dialer.dials(), feed.metrics.gaps.load(Relaxed)), (1 + 3, 0));
}

/// Returns the id of the next subscription to listings; `None` at the end of the connection.
async fn next_subscription(peer: &mut Peer<DuplexStream>) -> Option<String> {
    loop {
        match peer.frame().await {
            Frame::Text(text) if text.contains("OnCreateTrades") => {
                let message: serde_json::Value = serde_json::from_str(&text).unwrap();
                return message["id"].as_str().map(str::to_owned);
            }
            Frame::Text(text) if text.contains(r#""ping""#) => {
                peer.send_text(r#"{"type":"pong"}"#).await;
            }
            Frame::End => return None,
            _ => {}
        }
    }
}

/// Delivers for 76 s, and then ends each subscription to listings.
async fn end_subscriptions(mut peer: Peer<DuplexStream>) {
    let mut id = peer.subscribed().await.remove(0);
    for listing in 0..38 {
        peer.send_text(&batch(&id, &[&format!("t{listing}")])).await;
        sleep(Duration::from_secs(2)).await;
    }
    loop {
        peer.send_text(&format!(r#"{{"id":"{id}","type":"complete"}}"#)).await;
        let Some(next) = next_subscription(&mut peer).await else { return };
        id = next;
    }
}

/// The old connection has no listings, or its close has begun.
#[tokio::test(start_paused = true)]
async fn a_successor_that_ends_is_replaced_at_once_if_the_old_connection_cannot_go_on() {
    for (is_silent, life_ms) in [(true, 1_000), (false, 5_200)] {
        let (epoch, dials) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let times = Arc::clone(&dials);
        let dialer = MemoryDialer::play(move |number, peer| {
            times.lock().unwrap().push(epoch.elapsed());
            async move {
                let life = Duration::from_millis(if number == 1 { life_ms } else { 200_000 });
                if number != 0 || !is_silent {
                    return drop(timeout(life, deliver(peer, epoch, Duration::ZERO)).await);
                }
                end_subscriptions(peer).await;
            }
        });
        let feed = feed_of(Config { feed: with_max_age(100), ..default_config() });
        run(&feed, &dialer, Duration::from_secs(110)).await;
        let dials = dials.lock().unwrap().clone();
        let [_, successor, next, ..] = dials[..] else { panic!("{dials:?}") };
        let wait = next - successor - Duration::from_millis(life_ms);
        assert!(wait <= Duration::from_secs(2), "silent: {is_silent}, waited {wait:?}");
    }
}

/// The successor of the connection that is always last ends at once, and the market blocks dials
/// for so long that the connection is found to be always last again.
#[tokio::test(start_paused = true)]
async fn the_address_of_a_connection_that_goes_on_is_avoided_by_its_next_successor() {
    let (epoch, late) = (Instant::now(), Duration::from_millis(5));
    let dialer = MemoryDialer::play(move |number, mut peer| async move {
        if number != 2 {
            return deliver(peer, epoch, if number == 1 { late } else { Duration::ZERO }).await;
        }
        peer.subscribed().await;
        peer.close(4_400, "").await;
    });
    let limits = ReconnectionLimits {
        circuit_breaker_cooldown: Duration::from_secs(1_500),
        ..ReconnectionLimits::DEFAULT
    };
    let feed = FeedConfig { connections: 2, ..without_rotation() };
    let feed = feed_of(Config { feed, ..config("ws://127.0.0.1:9/ws", limits) });
    run(&feed, &dialer, Duration::from_secs(40 * 60)).await;
    let (system, avoid) = (AddressOrder::System, AddressOrder::Avoid(address_of(1)));
    assert_eq!(dialer.orders(), [system, system, avoid, avoid]);
}
