//! A dry run sends nothing, and has nothing to send with.

use std::time::Duration;

use sniper::sim::{Rate, SimServer, SimSettings};

use super::{PLENTY, Trader, cents, counted, knows_the_account, quiet, redline, skipped, until};
use crate::feed::Log;

#[tokio::test]
async fn a_dry_run_sends_no_buy_and_opens_no_connection_for_one() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = Trader::dry(&market, None, PLENTY)
        .trades(async |sniper| {
            until(|| market.visits().feeds_subscribed == 1).await;
            market.offer(vec![redline(1_015), redline(1_015)]);
            counted(sniper, |tally| tally.would_buy == 2).await;
        })
        .await;
    assert_eq!((summary.mode, summary.tally.would_spend), ("dry", cents(2_030)));
    assert_eq!(summary.balance, None);
    let (visits, books) = (market.visits(), market.books());
    assert_eq!((visits.connections, visits.requests), (1, 0), "the feed, and nothing else");
    assert_eq!((books.requests().count(), books.stray().len()), (0, 0));
}

#[tokio::test]
async fn a_dry_run_with_a_credential_reads_and_never_buys() {
    let market = SimServer::start(quiet()).unwrap();
    let policy = PLENTY.replace("total = 100000", "total = 10.15");
    let summary = Trader::dry(&market, Some(&market.session()), &policy)
        .trades(async |sniper| {
            until(|| market.visits().feeds_subscribed == 1 && knows_the_account(sniper)).await;
            market.offer(vec![redline(1_015), redline(1_015)]);
            counted(sniper, |tally| tally.would_buy + tally.skipped_total() == 2).await;
        })
        .await;
    assert_eq!((summary.tally.would_buy, skipped(&summary, "total")), (1, 1));
    assert_eq!(summary.balance, Some(cents(50_000)), "a dry run lowers no balance");
    let (visits, books) = (market.visits(), market.books());
    assert_eq!(visits.connections, 2, "the feed, and one for reads");
    assert_eq!((books.requests().count(), books.stray().len()), (0, 0));
    assert_eq!(books.balance, cents(50_000));
}

/// Whoever has an empty account may look all the same.
#[tokio::test]
async fn a_dry_run_does_not_end_because_the_account_is_empty() {
    let log = Log::capture();
    let market = SimServer::start(SimSettings { balance: cents(0), ..quiet() }).unwrap();
    let summary = Trader::dry(&market, Some(&market.session()), "")
        .trades(async |sniper| {
            until(|| market.visits().feeds_subscribed == 1 && knows_the_account(sniper)).await;
            let later = std::time::Instant::now() + Duration::from_millis(700);
            until(|| later < std::time::Instant::now()).await;
            market.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.listings == 1).await;
        })
        .await;
    assert_ne!(summary.ended, "the balance is below min_balance");
    log.has("INFO [trade] id=");
    log.has(
        "markup=0.00% price=10.15 canJoin=true status=LISTED \
         item=\"AK-47 | Redline (Field-Tested)\" stattrak=false",
    );
}

#[tokio::test]
async fn a_dry_run_beside_a_busy_market_misses_nothing() {
    let rate = Rate::per_second(300);
    let market = SimServer::start(SimSettings { rate, rivals: None, ..quiet() }).unwrap();
    let summary = Trader::dry(&market, None, "")
        .trades(async |sniper| counted(sniper, |tally| tally.listings >= 500).await)
        .await;
    assert_eq!(summary.tally.matched, 0);
    assert_eq!(market.books().requests().count(), 0);
}
