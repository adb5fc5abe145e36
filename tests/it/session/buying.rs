//! A matching listing is bought once, over a warm connection.

use crate::feed::feed_of;
use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use sniper::{
    commands::block_on_busy_polling,
    config::Generation,
    domain::money::Percent,
    sim::{ListedItem, SimServer, SimSettings, catalogue::ListingDefect, faults::FaultKind},
    ws,
};

use tokio::sync::Notify;

use super::{
    AMPLE_LIMITS, TestBot, assert_agrees, cents, is_reconciled, quiet, ready, redline, skipped,
    until, wait_for_stats,
};
use crate::feed::peer::{Server, batch};

#[tokio::test]
async fn listings_of_both_generations_are_bought() {
    let all = [Generation::A, Generation::B].map(async |generation| {
        let market = SimServer::start(quiet()).unwrap();
        let bot = TestBot::live(&market, AMPLE_LIMITS).with_generation(generation);
        let summary = bot
            .run(async |sniper| {
                ready(sniper, &market).await;
                market.list_items(vec![redline(1_015)]);
                market.list_items(vec![ListedItem::plain("Glove Case", cents(100), cents(100))]);
                wait_for_stats(sniper, |stats| stats.bought == 1 && stats.listings == 2).await;
            })
            .await;
        assert_agrees(&summary, &market);
        assert_eq!(summary.orders.spent, cents(1_015), "{generation:?}");
        assert_eq!(summary.balance, Some(cents(50_000 - 1_015)));
        assert_eq!(market.history().balance, cents(50_000 - 1_015));
        assert_eq!(summary.stats.purchases[0].market_name, super::REDLINE);
        assert_eq!(summary.stats.latency.percentiles().count, 1);
        assert_eq!(summary.errors(), 0);
    });
    futures_util::future::join_all(all).await;
}

#[test]
fn a_spinning_session_buys_and_releases_its_ledger() {
    let session = async {
        let market = SimServer::start(quiet()).unwrap();
        let bot = TestBot::live(&market, &format!("{AMPLE_LIMITS}\n[speed]\nspin = true\n"));
        assert!(bot.config.speed.spin);
        // The second session opens the ledger of the first.
        for bought in [1, 2] {
            let summary = bot
                .run(async |sniper| {
                    until(|| is_reconciled(sniper)).await;
                    market.list_items(vec![redline(1_015)]);
                    wait_for_stats(sniper, |stats| stats.bought == 1).await;
                })
                .await;
            assert_eq!(summary.orders.spent, cents(1_015));
            assert_eq!(market.history().purchases().count(), bought);
            assert_eq!(summary.errors(), 0);
        }
        Ok(())
    };
    block_on_busy_polling(true, session).unwrap();
}

#[tokio::test]
async fn each_listing_of_a_batch_is_decided_separately() {
    let market = SimServer::start(quiet()).unwrap();
    let with_defect = |defect| ListedItem { defect: Some(defect), ..redline(1_300) };
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![
                redline(1_100),
                with_defect(ListingDefect::Own),
                with_defect(ListingDefect::CannotJoin),
                redline(1_200),
                with_defect(ListingDefect::TwoItems),
                with_defect(ListingDefect::NotListed),
                with_defect(ListingDefect::NullItems),
                with_defect(ListingDefect::NoItems),
                with_defect(ListingDefect::NoVariant),
                ListedItem {
                    markup: Percent::from_hundredths(0),
                    base: cents(1_299),
                    ..redline(1_300)
                },
                redline(1_400),
            ]);
            wait_for_stats(sniper, |stats| stats.bought == 3 && stats.listings == 11).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(summary.orders.spent, cents(1_100 + 1_200 + 1_400));
    for reason in [
        "own listing",
        "cannot be joined",
        "not exactly one item",
        "not listed any more",
        "markup does not agree",
    ] {
        assert!(skipped(&summary, reason) >= 1, "{reason}: {:?}", summary.stats.skipped);
    }
    assert!(summary.stats.unreadable >= 1, "{:?}", summary.stats);
}

/// The feed comes from a server that repeats listings. Orders go to the simulated market.
#[tokio::test]
async fn a_listing_repeated_over_another_connection_is_not_ordered_again() {
    let market = SimServer::start(quiet()).unwrap();
    let ids = market.list_items(vec![redline(1_015), redline(1_015)]);
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |number, mut peer| {
        let (ids, may_begin) = (ids.clone(), Arc::clone(&may_begin));
        async move {
            let subscriptions = peer.subscribed().await;
            let message = |ids: &[&str]| {
                // Adds a required field, and an expiry that lies in the future.
                batch(&subscriptions[0], ids)
                    .replace("2026-03-03", "2126-03-03")
                    .replace(r#""depositor""#, r#""suspectedTraderCanJoinAfter":null,"depositor""#)
            };
            if number == 0 {
                may_begin.notified().await;
            }
            if number < 2 {
                peer.send_text(&message(&[&ids[0], &ids[0]])).await;
                peer.close(1_000, "").await;
            } else {
                peer.send_text(&message(&[&ids[0], &ids[1]])).await;
                peer.read_until_close().await;
            }
        }
    })
    .await;
    let urls = (server.address.as_str(), market.http_url());
    let policy = AMPLE_LIMITS.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    let bot = TestBot::new((urls.0, &urls.1), Some(&market.session()), &policy, true);
    let summary = bot
        .run(async |sniper| {
            until(|| is_reconciled(sniper)).await;
            begin.notify_one();
            wait_for_stats(sniper, |stats| stats.bought == 2).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!((summary.stats.matched, summary.feed.reconnects), (2, 2));
    let orders: Vec<usize> = market.history().listings().map(|entry| entry.orders.len()).collect();
    assert_eq!(orders, [1, 1]);
}

#[tokio::test]
async fn orders_continue_across_repeated_feed_failures() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            for (done, kind) in (1..).zip([
                FaultKind::FeedCut,
                FaultKind::FeedClose,
                FaultKind::FeedComplete,
                FaultKind::FeedError,
            ]) {
                market.list_items(vec![redline(1_015)]);
                wait_for_stats(sniper, |stats| stats.bought == done).await;
                market.inject_feed_fault(kind);
                until(|| market.stats().feeds_subscribed == 0).await;
                until(|| market.stats().feeds_subscribed == 1).await;
            }
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!((summary.stats.bought, summary.feed.reconnects), (4, 2));
    // A subscription that ends on an open connection is a gap, like a lost connection.
    assert_eq!(summary.feed.gaps, 4);
    assert!(summary.feed.longest_gap <= summary.feed.without_listings, "{:?}", summary.feed);
}

#[tokio::test]
async fn orders_use_warm_connections_after_idle_ones_were_closed() {
    let settings = SimSettings { http_idle: Duration::from_millis(400), ..quiet() };
    let market = SimServer::start(settings).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            let before = market.stats().connections;
            // The market closed all eight idle connections, and the bot reopened them.
            until(|| market.stats().connections >= before + 8).await;
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.bought + stats.not_sent == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(summary.stats.bought, 1, "{:?}", summary.stats);
    assert_eq!(market.history().cold_orders().count(), 0);
}

#[tokio::test]
async fn the_callback_needs_neither_send_nor_static() {
    let market = SimServer::start(quiet()).unwrap();
    let bot = TestBot::dry(&market, None, "");
    let mut lines: Vec<String> = Vec::new();
    let count = Rc::new(RefCell::new(0));
    let print = |trade: sniper::domain::trade::Trade<'_>| {
        *count.borrow_mut() += 1;
        lines.push(format!("{} {}", trade.id, trade.market_name));
    };
    let offering = async {
        until(|| market.stats().feeds_subscribed == 1).await;
        let ids = market.list_items(vec![redline(1_015), redline(1_016)]);
        until(|| *count.borrow() == 2).await;
        ids
    };
    let feed = feed_of(bot.config.clone());
    let ids = tokio::select! {
        gave_up = ws::run_with_reconnect(&feed, print) => panic!("{gave_up}"),
        ids = offering => ids,
    };
    let expected: Vec<String> = ids.iter().map(|id| format!("{id} {}", super::REDLINE)).collect();
    assert_eq!(lines, expected);
}
