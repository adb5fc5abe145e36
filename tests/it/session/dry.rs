//! A dry run sends no order and opens no connection for orders.

use std::time::Duration;

use sniper::sim::{Rate, SimServer, SimSettings};

use super::{
    AMPLE_LIMITS, TestBot, cents, is_reconciled, quiet, redline, skipped, until, wait_for_stats,
};
use crate::feed::Log;

#[tokio::test]
async fn a_dry_run_sends_no_order_and_opens_no_order_connection() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = TestBot::dry(&market, None, AMPLE_LIMITS)
        .run(async |sniper| {
            until(|| market.stats().feeds_subscribed == 1).await;
            market.list_items(vec![redline(1_015), redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.would_buy == 2).await;
        })
        .await;
    assert_eq!((summary.mode, summary.stats.would_spend), ("dry", cents(2_030)));
    assert_eq!(summary.balance, None);
    let (visits, history) = (market.stats(), market.history());
    assert_eq!((visits.connections, visits.requests), (1, 0), "the feed, and nothing else");
    assert_eq!((history.orders().count(), history.unmatched_orders().len()), (0, 0));
}

#[tokio::test]
async fn a_dry_run_with_a_credential_reads_the_account_and_never_orders() {
    let market = SimServer::start(quiet()).unwrap();
    let policy = AMPLE_LIMITS.replace("total = 100000", "total = 10.15");
    let summary = TestBot::dry(&market, Some(&market.session()), &policy)
        .run(async |sniper| {
            until(|| market.stats().feeds_subscribed == 1 && is_reconciled(sniper)).await;
            market.list_items(vec![redline(1_015), redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.would_buy + stats.skipped_total() == 2).await;
        })
        .await;
    assert_eq!((summary.stats.would_buy, skipped(&summary, "total")), (1, 1));
    assert_eq!(summary.balance, Some(cents(50_000)), "a dry run lowers no balance");
    let (visits, history) = (market.stats(), market.history());
    assert_eq!(visits.connections, 2, "the feed, and one for reads");
    assert_eq!((history.orders().count(), history.unmatched_orders().len()), (0, 0));
    assert_eq!(history.balance, cents(50_000));
}

#[tokio::test]
async fn a_dry_run_continues_with_an_empty_account() {
    let log = Log::capture();
    let market = SimServer::start(SimSettings { balance: cents(0), ..quiet() }).unwrap();
    let summary = TestBot::dry(&market, Some(&market.session()), "")
        .run(async |sniper| {
            until(|| market.stats().feeds_subscribed == 1 && is_reconciled(sniper)).await;
            let later = std::time::Instant::now() + Duration::from_millis(700);
            until(|| later < std::time::Instant::now()).await;
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.listings == 1).await;
        })
        .await;
    assert!(!summary.ended.contains("min_balance"), "{}", summary.ended);
    log.assert_contains("INFO [trade] id=");
    log.assert_contains(
        "markup=0.00% price=10.15 canJoin=true status=LISTED \
         item=\"AK-47 | Redline (Field-Tested)\" stattrak=false",
    );
}

#[tokio::test]
async fn a_dry_run_follows_a_busy_market() {
    let rate = Rate::per_second(300);
    let market = SimServer::start(SimSettings { rate, rivals: None, ..quiet() }).unwrap();
    let summary = TestBot::dry(&market, None, "")
        .run(async |sniper| wait_for_stats(sniper, |stats| stats.listings >= 500).await)
        .await;
    assert_eq!(summary.stats.matched, 0);
    assert_eq!(market.history().orders().count(), 0);
}
