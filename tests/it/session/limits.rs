//! Each limit holds in a whole session, and each match that it stops is counted under its name.

use std::time::Duration;

use sniper::{
    domain::money::Amount,
    sim::{SimServer, SimSettings},
    sniper::{Now, Sniper},
};

use super::{
    AMPLE_LIMITS, TestBot, assert_agrees, cents, quiet, ready, redline, skipped, until,
    wait_for_stats,
};

#[tokio::test]
async fn each_limit_skips_orders_beyond_it_and_is_counted_by_name() {
    let changes = [
        ("max_price = 1000", "max_price = 10.14", "max_price", 0),
        ("total = 100000", "total = 20.30", "total", 2),
        ("max_buys_per_minute = 10000", "max_buys_per_minute = 3", "max_buys_per_minute", 3),
        ("max_quantity = 1000", "max_quantity = 1", "max_quantity", 1),
    ];
    let all = changes.map(|(from, to, limit, expected)| async move {
        let market = SimServer::start(quiet()).unwrap();
        let policy = AMPLE_LIMITS.replace(from, to);
        assert_ne!(policy, AMPLE_LIMITS);
        // One listing at a time, so that `max_in_flight` stops none of them.
        let summary = TestBot::live(&market, &policy)
            .run(async |sniper| {
                ready(sniper, &market).await;
                for done in 1..=5 {
                    market.list_items(vec![redline(1_015)]);
                    wait_for_stats(sniper, |stats| stats.bought + stats.skipped_total() == done)
                        .await;
                }
            })
            .await;
        assert_agrees(&summary, &market);
        assert_eq!((summary.stats.bought, skipped(&summary, limit)), (expected, 5 - expected));
    });
    let [price, total, minute, quantity] = all;
    tokio::join!(price, total, minute, quantity);
}

/// The bot deducts its orders itself, before any balance arrives from the market.
#[tokio::test]
async fn each_order_lowers_the_available_balance_immediately() {
    let market = SimServer::start(SimSettings { balance: cents(3_500), ..quiet() }).unwrap();
    let policy = AMPLE_LIMITS.replace("min_balance = 0", "min_balance = 5");
    let summary = TestBot::live(&market, &policy)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![redline(1_015), redline(1_015), redline(1_015), redline(971)]);
            wait_for_stats(sniper, |stats| stats.matched == 4 && stats.bought == 2).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(skipped(&summary, "min_balance"), 2);
    assert_eq!(market.history().balance, cents(3_500 - 2 * 1_015));
    assert_eq!(summary.balance, Some(cents(3_500 - 2 * 1_015)));
}

/// A pushed balance may be older than the last read, so it only triggers another read.
#[tokio::test]
async fn a_pushed_balance_triggers_a_read_that_may_end_the_session() {
    tokio::join!(a_higher_balance_is_pushed(), a_balance_below_the_minimum_is_pushed());
}

async fn a_higher_balance_is_pushed() {
    let market = SimServer::start(SimSettings { balance: cents(1_000), ..quiet() }).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.skipped_total() == 1).await;
            market.adjust_balance(cents(500));
            until(|| balance(sniper) == Some(cents(1_500))).await;
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert!(summary.duration < Duration::from_secs(15), "{:?}", summary.duration);
}

fn balance(sniper: &Sniper) -> Option<Amount> {
    sniper.with_engine(|engine| engine.ledger().snapshot(Now::read().wall).available_min)
}

async fn a_balance_below_the_minimum_is_pushed() {
    let market = SimServer::start(quiet()).unwrap();
    let policy = AMPLE_LIMITS.replace("min_balance = 0", "min_balance = 5");
    let summary = TestBot::live(&market, &policy)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.adjust_balance(cents(499 - 50_000));
            std::future::pending::<()>().await;
        })
        .await;
    let ended = "balance 4.99 below min_balance 5.00; deposit, then start the bot again";
    assert_eq!(summary.ended, ended);
    assert_eq!(summary.balance, Some(cents(499)));
}
