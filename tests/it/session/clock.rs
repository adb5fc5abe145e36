//! A listing that becomes joinable later is ordered at the earliest time that the market's clock
//! certainly allows.

use std::time::Duration;

use sniper::{
    commands::summary::Summary,
    sim::{ListedItem, SimServer, SimSettings},
};

use super::{AMPLE_LIMITS, TestBot, assert_agrees, cents, quiet, ready, redline, wait_for_stats};

/// Maximum delay of the fastest of several orders after the allowed time, on a busy machine. With
/// the market's clock known to a second only, each order would be later than this.
const BEST_DELAY_MAX: Duration = Duration::from_millis(500);

/// Maximum delay of any order after the allowed time, on a busy machine.
const DELAY_MAX: Duration = Duration::from_secs(5);

fn opening_in(ms: u64, price: i64) -> ListedItem {
    ListedItem { can_join_after: Some(Duration::from_millis(ms)), ..redline(price) }
}

/// Asserts that each order arrived after its listing became joinable, within the allowed delay.
#[track_caller]
fn assert_on_time(market: &SimServer, expected: usize) {
    let history = market.history();
    let delays: Vec<Duration> = history
        .orders()
        .map(|(entry, request)| {
            request.at.checked_sub(entry.can_join_at).expect("ordered too early")
        })
        .collect();
    assert_eq!(delays.len(), expected);
    assert!(delays.iter().all(|delay| *delay < DELAY_MAX), "{delays:?}");
    let best = delays.iter().min();
    assert!(best.is_some_and(|best| *best < BEST_DELAY_MAX), "{delays:?}");
}

async fn check_held_listings(clock_ahead_ms: i64) {
    let market = SimServer::start(SimSettings { clock_ahead_ms, ..quiet() }).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![
                opening_in(700, 1_001),
                opening_in(400, 1_002),
                opening_in(1_203, 1_003),
            ]);
            wait_for_stats(sniper, |stats| stats.bought == 3).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(summary.stats.rejected, 0, "clock {clock_ahead_ms} ms ahead: {:?}", summary.stats);
    assert_on_time(&market, 3);
}

#[tokio::test]
async fn a_held_listing_is_bought_on_time_with_any_clock_offset() {
    let (behind, same, ahead) =
        (check_held_listings(-86_400_000), check_held_listings(0), check_held_listings(5_432));
    tokio::join!(behind, same, ahead);
}

/// Time for which flagged accounts cannot join a listing.
const FLAGGED_WAIT: Duration = Duration::from_secs(2);

/// Buys two listings, of which the market releases one later for flagged accounts.
async fn buy_two(suspected_trader: bool) -> (SimServer, Summary) {
    let market = SimServer::start(SimSettings { suspected_trader, ..quiet() }).unwrap();
    let offer = |price| ListedItem { suspected_can_join_after: FLAGGED_WAIT, ..redline(price) };
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![offer(1_001), ListedItem { ..opening_in(200, 1_002) }]);
            wait_for_stats(sniper, |stats| stats.bought == 2).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(summary.stats.rejected, 0, "{:?}", summary.stats);
    (market, summary)
}

#[tokio::test]
async fn suspected_trader_can_join_after_applies_to_flagged_accounts_only() {
    let ((flagged, _), (free, _)) = tokio::join!(buy_two(true), buy_two(false));
    let first_delay = |market: &SimServer| {
        let history = market.history();
        let (entry, request) =
            history.orders().find(|(entry, _)| entry.price == cents(1_001)).unwrap();
        request.at.saturating_sub(entry.listed_at)
    };
    assert!(first_delay(&flagged) >= FLAGGED_WAIT, "{:?}", first_delay(&flagged));
    assert!(first_delay(&free) < FLAGGED_WAIT, "{:?}", first_delay(&free));
}

#[tokio::test]
async fn a_held_listing_that_is_withdrawn_is_not_ordered() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            let ids = market.list_items(vec![opening_in(600, 1_001), opening_in(601, 1_002)]);
            wait_for_stats(sniper, |stats| stats.matched == 2).await;
            assert!(market.delist(&ids[0]));
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(super::skipped(&summary, "taken while held"), 1);
    assert_eq!(market.history().orders().count(), 1);
}

#[tokio::test]
async fn held_listings_are_skipped_at_shutdown() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![opening_in(30_000, 1_001)]);
            wait_for_stats(sniper, |stats| stats.matched == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(super::skipped(&summary, "stopping"), 1);
}
