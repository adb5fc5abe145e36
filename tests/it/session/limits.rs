//! Every limit holds at a real market, and each match that it stops is counted by its name.

use std::time::Duration;

use sniper::{
    domain::money::Amount,
    sim::{SimServer, SimSettings},
    sniper::{Now, Sniper},
};

use super::{PLENTY, Trader, agree, cents, counted, quiet, ready, redline, skipped, until};

#[tokio::test]
async fn each_limit_stops_what_is_beyond_it_and_is_counted_by_its_name() {
    let changes = [
        ("max_price = 1000", "max_price = 10.14", "max_price", 0),
        ("total = 100000", "total = 20.30", "total", 2),
        ("max_buys_per_minute = 10000", "max_buys_per_minute = 3", "max_buys_per_minute", 3),
        ("max_quantity = 1000", "max_quantity = 1", "max_quantity", 1),
    ];
    let all = changes.map(|(from, to, limit, expected)| async move {
        let market = SimServer::start(quiet()).unwrap();
        let policy = PLENTY.replace(from, to);
        assert_ne!(policy, PLENTY);
        // One at a time, so that none is counted among those in flight.
        let summary = Trader::live(&market, &policy)
            .trades(async |sniper| {
                ready(sniper, &market).await;
                for done in 1..=5 {
                    market.offer(vec![redline(1_015)]);
                    counted(sniper, |tally| tally.bought + tally.skipped_total() == done).await;
                }
            })
            .await;
        agree(&summary, &market);
        assert_eq!((summary.tally.bought, skipped(&summary, limit)), (expected, 5 - expected));
    });
    let [price, total, minute, quantity] = all;
    tokio::join!(price, total, minute, quantity);
}

/// Nobody has told the bot of its first buy when the second one comes: it has to know by itself.
#[tokio::test]
async fn each_buy_lowers_the_balance_at_once_and_what_is_beyond_it_is_skipped() {
    let market = SimServer::start(SimSettings { balance: cents(3_500), ..quiet() }).unwrap();
    let policy = PLENTY.replace("min_balance = 0", "min_balance = 5");
    let summary = Trader::live(&market, &policy)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![redline(1_015), redline(1_015), redline(1_015), redline(971)]);
            counted(sniper, |tally| tally.matched == 4 && tally.bought == 2).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(skipped(&summary, "min_balance"), 2);
    assert_eq!(market.books().balance, cents(3_500 - 2 * 1_015));
    assert_eq!(summary.balance, Some(cents(3_500 - 2 * 1_015)));
}

/// A push may be older than the reading before it, so it is only a reason to read again.
#[tokio::test]
async fn a_balance_that_the_feed_tells_is_looked_up_and_ends_a_session_if_it_is_below_the_floor() {
    tokio::join!(more_is_told(), too_little_is_told());
}

async fn more_is_told() {
    let market = SimServer::start(SimSettings { balance: cents(1_000), ..quiet() }).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.skipped_total() == 1).await;
            market.adjust(cents(500));
            until(|| balance(sniper) == Some(cents(1_500))).await;
            market.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
    assert!(summary.lasted < Duration::from_secs(15), "{:?}", summary.lasted);
}

fn balance(sniper: &Sniper) -> Option<Amount> {
    sniper.look(|core| core.ledger().snapshot(Now::read().wall).balance_least)
}

async fn too_little_is_told() {
    let market = SimServer::start(quiet()).unwrap();
    let policy = PLENTY.replace("min_balance = 0", "min_balance = 5");
    let summary = Trader::live(&market, &policy)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.adjust(cents(499 - 50_000));
            std::future::pending::<()>().await;
        })
        .await;
    assert_eq!(summary.ended, "the balance is below min_balance");
    assert_eq!(summary.balance, Some(cents(499)));
}
