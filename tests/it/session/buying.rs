//! A listing that is wanted is bought, once, over a warm connection.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use sniper::{
    commands::block_on_core,
    config::Generation,
    domain::money::Percent,
    sim::{ListedItem, SimServer, SimSettings, faults::FaultKind, offer::ListingDefect},
    ws,
};

use tokio::sync::Notify;

use super::{
    PLENTY, Trader, agree, cents, counted, knows_the_account, quiet, ready, redline, skipped, until,
};
use crate::feed::peer::{Server, batch};

#[tokio::test]
async fn both_generations_are_bought_end_to_end() {
    let all = [Generation::A, Generation::B].map(async |generation| {
        let market = SimServer::start(quiet()).unwrap();
        let trader = Trader::live(&market, PLENTY).asking_for(generation);
        let summary = trader
            .trades(async |sniper| {
                ready(sniper, &market).await;
                market.offer(vec![redline(1_015)]);
                market.offer(vec![ListedItem::plain("Glove Case", cents(100), cents(100))]);
                counted(sniper, |tally| tally.bought == 1 && tally.listings == 2).await;
            })
            .await;
        agree(&summary, &market);
        assert_eq!(summary.orders.spent, cents(1_015), "{generation:?}");
        assert_eq!(summary.balance, Some(cents(50_000 - 1_015)));
        assert_eq!(market.books().balance, cents(50_000 - 1_015));
        assert_eq!(summary.tally.purchases[0].market_name, super::REDLINE);
        assert_eq!(summary.tally.latency.percentiles().count, 1);
        assert_eq!(summary.errors(), 0);
    });
    futures_util::future::join_all(all).await;
}

#[test]
fn a_session_that_spins_buys_as_any_other_and_lets_go_of_its_ledger_at_its_end() {
    let session = async {
        let market = SimServer::start(quiet()).unwrap();
        let trader = Trader::live(&market, &format!("{PLENTY}\n[speed]\nspin = true\n"));
        assert!(trader.config.speed.spin);
        // The second takes the ledger over from the first.
        for bought in [1, 2] {
            let summary = trader
                .trades(async |sniper| {
                    until(|| knows_the_account(sniper)).await;
                    market.offer(vec![redline(1_015)]);
                    counted(sniper, |tally| tally.bought == 1).await;
                })
                .await;
            assert_eq!(summary.orders.spent, cents(1_015));
            assert_eq!(market.books().purchases().count(), bought);
            assert_eq!(summary.errors(), 0);
        }
        Ok(())
    };
    block_on_core(true, session).unwrap();
}

#[tokio::test]
async fn a_batch_is_many_listings_and_each_is_decided_on_for_itself() {
    let market = SimServer::start(quiet()).unwrap();
    let odd = |oddity| ListedItem { oddity: Some(oddity), ..redline(1_300) };
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![
                redline(1_100),
                odd(ListingDefect::Own),
                odd(ListingDefect::CannotJoin),
                redline(1_200),
                odd(ListingDefect::TwoItems),
                odd(ListingDefect::NotListed),
                odd(ListingDefect::NullItems),
                odd(ListingDefect::NoItems),
                odd(ListingDefect::NoVariant),
                ListedItem {
                    markup: Percent::from_hundredths(0),
                    base: cents(1_299),
                    ..redline(1_300)
                },
                redline(1_400),
            ]);
            counted(sniper, |tally| tally.bought == 3 && tally.listings == 11).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(summary.orders.spent, cents(1_100 + 1_200 + 1_400));
    for why in [
        "own listing",
        "cannot be joined",
        "not exactly one item",
        "not listed any more",
        "markup does not agree",
    ] {
        assert!(skipped(&summary, why) >= 1, "{why}: {:?}", summary.tally.skipped);
    }
    assert!(summary.tally.unreadable >= 1, "{:?}", summary.tally);
}

/// The feed comes from a server that repeats itself; the buys go to a market that keeps books.
#[tokio::test]
async fn a_listing_that_comes_again_over_another_connection_is_not_asked_for_again() {
    let market = SimServer::start(quiet()).unwrap();
    let ids = market.offer(vec![redline(1_015), redline(1_015)]);
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |number, mut peer| {
        let (ids, may_begin) = (ids.clone(), Arc::clone(&may_begin));
        async move {
            let subscriptions = peer.subscribed().await;
            let say = |ids: &[&str]| {
                // Of a time in which nothing here has run out, and with all that decides.
                batch(&subscriptions[0], ids)
                    .replace("2026-03-03", "2126-03-03")
                    .replace(r#""depositor""#, r#""suspectedTraderCanJoinAfter":null,"depositor""#)
            };
            if number == 0 {
                may_begin.notified().await;
            }
            if number < 2 {
                peer.say(&say(&[&ids[0], &ids[0]])).await;
                peer.close(1_000, "").await;
            } else {
                peer.say(&say(&[&ids[0], &ids[1]])).await;
                peer.drained().await;
            }
        }
    })
    .await;
    let urls = (server.address.as_str(), market.http_url());
    let policy = PLENTY.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    let trader = Trader::new((urls.0, &urls.1), Some(&market.session()), &policy, true);
    let summary = trader
        .trades(async |sniper| {
            until(|| knows_the_account(sniper)).await;
            begin.notify_one();
            counted(sniper, |tally| tally.bought == 2).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!((summary.tally.matched, summary.feed.reconnects), (2, 2));
    let asked: Vec<usize> = market.books().entries().map(|entry| entry.requests.len()).collect();
    assert_eq!(asked, [1, 1]);
}

#[tokio::test]
async fn a_feed_that_breaks_again_and_again_is_bought_from_all_the_same() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            for (done, kind) in (1..).zip([
                FaultKind::FeedCut,
                FaultKind::FeedClose,
                FaultKind::FeedComplete,
                FaultKind::FeedError,
            ]) {
                market.offer(vec![redline(1_015)]);
                counted(sniper, |tally| tally.bought == done).await;
                market.strike(kind);
                until(|| market.visits().feeds_subscribed == 0).await;
                until(|| market.visits().feeds_subscribed == 1).await;
            }
        })
        .await;
    agree(&summary, &market);
    assert_eq!((summary.tally.bought, summary.feed.reconnects), (4, 2));
    // A subscription that ended on the live connection is a gap like a lost connection.
    assert_eq!(summary.feed.gaps, 4);
    assert!(summary.feed.longest_gap <= summary.feed.without_listings, "{:?}", summary.feed);
}

#[tokio::test]
async fn no_buy_is_cold_also_after_the_market_has_closed_idle_connections() {
    let settings = SimSettings { http_idle: Duration::from_millis(400), ..quiet() };
    let market = SimServer::start(settings).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            let before = market.visits().connections;
            // As many as can be in flight were closed for idleness, and opened again.
            until(|| market.visits().connections >= before + 8).await;
            market.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.bought + tally.not_sent == 1).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(summary.tally.bought, 1, "{:?}", summary.tally);
    assert_eq!(market.books().cold().count(), 0);
}

#[tokio::test]
async fn the_closure_needs_neither_send_nor_static() {
    let market = SimServer::start(quiet()).unwrap();
    let trader = Trader::dry(&market, None, "");
    let mut lines: Vec<String> = Vec::new();
    let count = Rc::new(RefCell::new(0));
    let print = |trade: sniper::domain::trade::Trade<'_>| {
        *count.borrow_mut() += 1;
        lines.push(format!("{} {}", trade.id, trade.market_name));
    };
    let offering = async {
        until(|| market.visits().feeds_subscribed == 1).await;
        let ids = market.offer(vec![redline(1_015), redline(1_016)]);
        until(|| *count.borrow() == 2).await;
        ids
    };
    let ids = tokio::select! {
        gave_up = ws::run_with_reconnect(&trader.config, print) => panic!("{gave_up}"),
        ids = offering => ids,
    };
    let expected: Vec<String> = ids.iter().map(|id| format!("{id} {}", super::REDLINE)).collect();
    assert_eq!(lines, expected);
}
