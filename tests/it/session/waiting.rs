//! Matching listings that cannot be ordered at once are ordered later: none is missed, and none is
//! ordered twice.

use serde_json::Value;
use sniper::sim::{ListedItem, SimServer};

use super::{
    AMPLE_LIMITS, TestBot, assert_adds_up, assert_agrees, cents, process::Program, quiet, ready,
    redline, until, wait_for_stats,
};

/// Returns listings that the initial balance suffices for.
fn cheap(count: usize) -> Vec<ListedItem> {
    (0..count).map(|_| redline(100)).collect()
}

#[tokio::test]
async fn of_forty_listings_at_once_with_eight_in_flight_all_are_bought_once() {
    let market = SimServer::start(quiet()).unwrap();
    let bot = TestBot::live(&market, AMPLE_LIMITS);
    assert_eq!(bot.config.budget.max_in_flight, 8);
    let summary = bot
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(cheap(40));
            wait_for_stats(sniper, |stats| stats.bought == 40).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!((summary.stats.matched, summary.orders.spent), (40, cents(4_000)));
    assert_eq!((summary.stats.skipped_total(), summary.stats.not_sent), (0, 0));
}

#[tokio::test]
async fn a_listing_from_before_the_account_was_read_is_bought() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            until(|| market.stats().feeds_subscribed == 1).await;
            market.list_items(cheap(3));
            wait_for_stats(sniper, |stats| stats.bought == 3).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!((summary.stats.skipped_total(), summary.stats.not_sent), (0, 0));
}

/// More listings at once than are made durable in advance, from the check at the start on.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_listing_is_missed_while_the_disk_syncs_slowly() {
    let all = ["sync:300", "sync:2000"].map(async |slow| {
        let market = SimServer::start(quiet()).unwrap();
        let args = ["run", "--live", "--json"];
        // The first reading of a new ledger must be durable before its first order.
        let mut first = Program::start(&market, AMPLE_LIMITS, &args);
        until(|| market.stats().feeds_subscribed == 1).await;
        market.list_items(cheap(1));
        until(|| market.history().purchases().count() == 1).await;
        first.signal("-TERM");
        assert_eq!(first.ended().await, Some(0), "{}", first.err());
        until(|| market.stats().feeds_subscribed == 0).await;
        let directory = std::mem::replace(&mut first.directory, tempfile::tempdir().unwrap());
        let variables = [("RUST_LOG", "info"), ("SNIPER_TEST_SLOW", slow)];
        let mut program = Program::spawn(directory, &args, &variables);
        until(|| market.stats().feeds_subscribed == 1).await;
        for (count, bought) in [(40, 41), (150, 191)] {
            market.list_items(cheap(count));
            until(|| market.history().purchases().count() == bought).await;
        }
        // The responses of the last orders may still be on their way.
        until(|| program.err().matches(" BOUGHT ").count() == 190).await;
        program.signal("-TERM");
        assert_eq!(program.ended().await, Some(0), "{}", program.err());
        let summary = program.summary();
        assert_adds_up(&summary);
        let counts = ["matched", "bought", "skipped", "not_sent"].map(|key| &summary[key]);
        let expected: [Value; 4] = [190, 190, 0, 0].map(Value::from);
        assert_eq!(counts, expected.each_ref(), "{summary}");
        assert_eq!(market.history().ordered_twice().count(), 0, "{slow}");
    });
    futures_util::future::join_all(all).await;
}
