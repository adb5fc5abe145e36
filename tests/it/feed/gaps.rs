//! What a gap is: the time without listings, however it came about.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sniper::{
    config::{Config, FeedConfig},
    domain::trade::Trade,
    ws::{self, Gap},
};
use tokio::sync::Notify;

use super::{
    Log, PATIENCE, config,
    peer::{Server, batch},
    quick, until,
};

/// The gaps of a feed, once there is none that lasts and at least so many have ended.
async fn gaps(config: &Config, at_least: usize) -> Vec<Gap> {
    let is_reached = || {
        let gaps = config.taps.gap_list();
        (gaps.len() >= at_least && gaps.iter().all(|gap| gap.data_at.is_some())).then_some(gaps)
    };
    let found = super::during(config, async {
        loop {
            if let Some(gaps) = is_reached() {
                return gaps;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    found.await
}

#[tokio::test]
async fn a_subscription_that_ended_and_was_renewed_is_a_gap() {
    for (ending, cause) in [
        (r#""type":"error","payload":[{"message":"gone"}]"#, "gone"),
        (r#""type":"complete""#, "it was completed"),
    ] {
        let log = Log::capture();
        let server = Server::play(move |_, mut peer| async move {
            let ids = peer.subscribed().await;
            peer.say(&batch(&ids[0], &["before"])).await;
            peer.say(&format!(r#"{{"id":"{}",{ending}}}"#, ids[0])).await;
            let (second, _) = peer.subscription().await;
            peer.say(&batch(&second, &["after"])).await;
            peer.drained().await;
        })
        .await;
        let config = config(&server.address, quick());
        let gaps = gaps(&config, 1).await;
        assert_eq!((gaps.len(), server.dials()), (1, 1));
        assert_eq!(gaps[0].attempts, 0, "nothing was dialled");
        assert!(gaps[0].cause.contains(cause), "{gaps:?}");
        // It is asked for again after `initial_delay`.
        assert!(gaps[0].lasted >= Duration::from_millis(250), "{gaps:?}");
        let downtime = config.taps.downtime(std::time::Instant::now());
        assert_eq!((downtime.gaps, downtime.is_open), (1, false));
        assert_eq!((downtime.total, downtime.longest), (gaps[0].lasted, gaps[0].lasted));
        assert_eq!(config.taps.reconnects.load(Relaxed), 0);
        log.has("Resubscribed to the listings (gap 0.");
    }
}

#[tokio::test]
async fn what_an_ended_subscription_has_hidden_is_back_filled() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.say(&batch(&ids[0], &["before"])).await;
        peer.say(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
        let (second, _) = peer.subscription().await;
        peer.say(&batch(&second, &["after"])).await;
        peer.drained().await;
    })
    .await;
    let (backfill, mut filler) = ws::backfill();
    let config = Config { backfill: Some(Arc::new(backfill)), ..config(&server.address, quick()) };
    let filling = tokio::spawn(async move {
        let want = filler.wanted().await.unwrap();
        assert!(want.number == 1 && want.since.is_some(), "{want:?}");
        filler.listings().send(super::modes::found("hidden")).await.unwrap();
        filler.done(want).await;
    });
    let (seen, all) = (RefCell::new(Vec::new()), Notify::new());
    let on_trade = |trade: Trade<'_>| {
        seen.borrow_mut().push(trade.id.to_string());
        if seen.borrow().len() == 3 {
            all.notify_one();
        }
    };
    let told = async {
        all.notified().await;
        while !log.text().contains("back-filled 1") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        gave_up = ws::run_with_reconnect(&config, on_trade) => panic!("{gave_up}"),
        () = told => {}
        () = tokio::time::sleep(PATIENCE) => panic!("{:?}\n{}", seen.borrow(), log.text()),
    }
    filling.abort();
    let mut ids = seen.into_inner();
    ids.sort();
    assert_eq!(ids, ["after", "before", "hidden"]);
    assert_eq!(config.taps.gaps.load(Relaxed), 1);
}

#[tokio::test]
async fn a_connection_lost_while_its_subscription_is_ended_is_the_same_gap() {
    let server = Server::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        if number == 0 {
            peer.say(&batch(&ids[0], &["before"])).await;
            peer.say(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
            peer.close(1_012, "").await;
        } else {
            peer.say(&batch(&ids[0], &["after"])).await;
            peer.drained().await;
        }
    })
    .await;
    let config = config(&server.address, quick());
    let gaps = gaps(&config, 1).await;
    assert_eq!((gaps.len(), gaps[0].attempts), (1, 1), "{gaps:?}");
    assert!(gaps[0].cause.contains("it was completed"), "{gaps:?}");
}

#[tokio::test]
async fn connections_that_deliver_nothing_end_no_gap() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        match number {
            0 => peer.say(&batch(&ids[0], &["before"])).await,
            1 | 2 => {}
            _ => {
                peer.say(&batch(&ids[0], &["after"])).await;
                peer.drained().await;
                return;
            }
        }
        peer.close(1_012, "").await;
    })
    .await;
    let config = config(&server.address, quick());
    let gaps = gaps(&config, 1).await;
    assert_eq!((gaps.len(), gaps[0].attempts), (1, 3), "{gaps:?}");
    // 0.25 s, 0.25 s and 0.5 s were waited.
    assert!(gaps[0].lasted >= Duration::from_millis(1_000), "{gaps:?}");
    let lines = log.lines();
    let told: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("Reconnected (")).collect();
    assert_eq!(told.len(), 3, "{lines:?}");
    assert!(told[2].starts_with("Reconnected (gap 1"), "{told:?}");
}

#[tokio::test]
async fn while_another_connection_delivers_an_ended_subscription_is_no_gap() {
    let subscribed = Arc::new(AtomicUsize::new(0));
    let server = Server::play(move |number, mut peer| {
        let subscribed = Arc::clone(&subscribed);
        async move {
            let ids = peer.subscribed().await;
            subscribed.fetch_add(1, Relaxed);
            if number == 0 {
                while subscribed.load(Relaxed) < 2 {
                    tokio::task::yield_now().await;
                }
                peer.say(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
                let (second, _) = peer.subscription().await;
                peer.say(&batch(&second, &["last"])).await;
            }
            peer.drained().await;
        }
    })
    .await;
    let feed = FeedConfig { connections: 2, ..FeedConfig::default() };
    let config = Config { feed, ..config(&server.address, quick()) };
    until(&config, |ids| ids.iter().any(|id| id == "last")).await;
    assert_eq!(config.taps.gap_list(), []);
    assert_eq!(config.taps.ended.load(Relaxed), 1);
}
