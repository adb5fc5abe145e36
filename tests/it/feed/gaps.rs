//! Gaps of the feed: a gap is a period without listings, regardless of its cause.

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
    markets::csgoroll::Csgoroll,
    ws::{self, Feed, Gap},
};
use tokio::sync::Notify;

use super::{
    Log, WAIT_MAX, config, feed_of,
    peer::{Server, batch},
    quick, until,
};

/// Runs the feed until at least `at_least` gaps were recorded and none is open, and returns them.
async fn gaps(feed: &Feed<Csgoroll>, at_least: usize) -> Vec<Gap> {
    let is_reached = || {
        let gaps = feed.metrics.gap_list();
        (gaps.len() >= at_least && gaps.iter().all(|gap| gap.data_at.is_some())).then_some(gaps)
    };
    let found = super::during(feed, async {
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
async fn an_ended_and_renewed_subscription_is_a_gap() {
    for (ending, cause) in [
        (r#""type":"error","payload":[{"message":"gone"}]"#, "gone"),
        (r#""type":"complete""#, "completed by the server"),
    ] {
        let log = Log::capture();
        let server = Server::play(move |_, mut peer| async move {
            let ids = peer.subscribed().await;
            peer.send_text(&batch(&ids[0], &["before"])).await;
            peer.send_text(&format!(r#"{{"id":"{}",{ending}}}"#, ids[0])).await;
            let (second, _) = peer.subscription().await;
            peer.send_text(&batch(&second, &["after"])).await;
            peer.read_until_close().await;
        })
        .await;
        let feed = feed_of(config(&server.address, quick()));
        let gaps = gaps(&feed, 1).await;
        assert_eq!((gaps.len(), server.dials()), (1, 1));
        assert_eq!(gaps[0].attempts, 0, "nothing was dialed");
        assert!(gaps[0].cause.contains(cause), "{gaps:?}");
        // The subscription is renewed 250 ms after its end arrived; the gap begins when that is
        // processed.
        assert!(gaps[0].duration >= Duration::from_millis(50), "{gaps:?}");
        let downtime = feed.metrics.downtime(std::time::Instant::now());
        assert_eq!((downtime.gaps, downtime.is_open), (1, false));
        assert_eq!((downtime.total, downtime.longest), (gaps[0].duration, gaps[0].duration));
        assert_eq!(feed.metrics.reconnects.load(Relaxed), 0);
        log.assert_contains("Resubscribed after 0.");
    }
}

#[tokio::test]
async fn listings_missed_by_an_ended_subscription_are_back_filled() {
    let log = Log::capture();
    let server = Server::play(|_, mut peer| async move {
        let ids = peer.subscribed().await;
        peer.send_text(&batch(&ids[0], &["before"])).await;
        peer.send_text(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
        let (second, _) = peer.subscription().await;
        peer.send_text(&batch(&second, &["after"])).await;
        peer.read_until_close().await;
    })
    .await;
    let mut feed = feed_of(config(&server.address, quick()));
    let mut filler = feed.fill_gaps();
    let filling = tokio::spawn(async move {
        let want = filler.next_request().await.unwrap();
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
    let logged = async {
        all.notified().await;
        while !log.text().contains(", 1 missed listing recovered") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        gave_up = ws::run_with_reconnect(&feed, on_trade) => panic!("{gave_up}"),
        () = logged => {}
        () = tokio::time::sleep(WAIT_MAX) => panic!("{:?}\n{}", seen.borrow(), log.text()),
    }
    filling.abort();
    let mut ids = seen.into_inner();
    ids.sort();
    assert_eq!(ids, ["after", "before", "hidden"]);
    assert_eq!(feed.metrics.gaps.load(Relaxed), 1);
}

#[tokio::test]
async fn losing_the_connection_of_an_ended_subscription_is_the_same_gap() {
    let server = Server::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        if number == 0 {
            peer.send_text(&batch(&ids[0], &["before"])).await;
            peer.send_text(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
            peer.close(1_012, "").await;
        } else {
            peer.send_text(&batch(&ids[0], &["after"])).await;
            peer.read_until_close().await;
        }
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let gaps = gaps(&feed, 1).await;
    assert_eq!((gaps.len(), gaps[0].attempts), (1, 1), "{gaps:?}");
    assert!(gaps[0].cause.contains("completed by the server"), "{gaps:?}");
}

#[tokio::test]
async fn a_connection_without_listings_does_not_end_a_gap() {
    let log = Log::capture();
    let server = Server::play(|number, mut peer| async move {
        let ids = peer.subscribed().await;
        match number {
            0 => peer.send_text(&batch(&ids[0], &["before"])).await,
            1 | 2 => {}
            _ => {
                peer.send_text(&batch(&ids[0], &["after"])).await;
                peer.read_until_close().await;
                return;
            }
        }
        peer.close(1_012, "").await;
    })
    .await;
    let feed = feed_of(config(&server.address, quick()));
    let gaps = gaps(&feed, 1).await;
    assert_eq!((gaps.len(), gaps[0].attempts), (1, 3), "{gaps:?}");
    // The delays are 0.25 s, 0.25 s and 0.5 s.
    assert!(gaps[0].duration >= Duration::from_millis(1_000), "{gaps:?}");
    let lines = log.lines();
    let logged: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("Feed back after ")).collect();
    assert_eq!(logged.len(), 3, "{lines:?}");
    assert!(logged[2].starts_with("Feed back after 1"), "{logged:?}");
}

#[tokio::test]
async fn an_ended_subscription_is_no_gap_while_another_connection_delivers() {
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
                peer.send_text(&format!(r#"{{"id":"{}","type":"complete"}}"#, ids[0])).await;
                let (second, _) = peer.subscription().await;
                peer.send_text(&batch(&second, &["last"])).await;
            }
            peer.read_until_close().await;
        }
    })
    .await;
    let feed = FeedConfig { connections: 2, ..FeedConfig::default() };
    let feed = feed_of(Config { feed, ..config(&server.address, quick()) });
    until(&feed, |ids| ids.iter().any(|id| id == "last")).await;
    assert_eq!(feed.metrics.gap_list(), []);
    assert_eq!(feed.metrics.ended.load(Relaxed), 1);
}
