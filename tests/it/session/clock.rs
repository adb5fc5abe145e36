//! A listing that opens later is bought as early as it is surely allowed, by the market's clock.

use std::time::Duration;

use sniper::{
    sim::{ListedItem, SimServer, SimSettings},
    summary::Summary,
};

use super::{PLENTY, Trader, agree, cents, counted, quiet, ready, redline};

/// How much later than allowed the best of several buys may come, at a market whose listings tell
/// its time to the millisecond.
const LATE_BEST_MAX: Duration = Duration::from_millis(100);

/// How much later any buy may come, on a machine that is busy with other things.
const LATE_MAX: Duration = Duration::from_millis(1_000);

fn opening_in(ms: u64, price: i64) -> ListedItem {
    ListedItem { can_join_after: Some(Duration::from_millis(ms)), ..redline(price) }
}

/// Each buy came after its listing could be joined, and soon after.
#[track_caller]
fn punctual(market: &SimServer, expected: usize) {
    let books = market.books();
    let lateness: Vec<Duration> = books
        .requests()
        .map(|(entry, request)| {
            request.at.checked_sub(entry.can_join_at).expect("asked for too early")
        })
        .collect();
    assert_eq!(lateness.len(), expected);
    assert!(lateness.iter().all(|late| *late < LATE_MAX), "{lateness:?}");
    let best = lateness.iter().min();
    assert!(best.is_some_and(|best| *best < LATE_BEST_MAX), "{lateness:?}");
}

async fn held_at(clock_ahead_ms: i64) {
    let market = SimServer::start(SimSettings { clock_ahead_ms, ..quiet() }).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![
                opening_in(700, 1_001),
                opening_in(400, 1_002),
                opening_in(1_203, 1_003),
            ]);
            counted(sniper, |tally| tally.bought == 3).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(summary.tally.refused, 0, "clock {clock_ahead_ms} ms ahead: {:?}", summary.tally);
    punctual(&market, 3);
}

#[tokio::test]
async fn whatever_the_markets_clock_shows_a_held_listing_is_bought_in_time_and_not_before() {
    let (behind, same, ahead) = (held_at(-86_400_000), held_at(0), held_at(5_432));
    tokio::join!(behind, same, ahead);
}

/// The account is flagged, and the market refuses whoever comes before the later of two moments.
async fn suspected(suspected_trader: bool) -> (SimServer, Summary) {
    let market = SimServer::start(SimSettings { suspected_trader, ..quiet() }).unwrap();
    let after = Duration::from_millis(800);
    let offer = |price| ListedItem { suspected_can_join_after: after, ..redline(price) };
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![offer(1_001), ListedItem { ..opening_in(200, 1_002) }]);
            counted(sniper, |tally| tally.bought == 2).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(summary.tally.refused, 0, "{:?}", summary.tally);
    (market, summary)
}

#[tokio::test]
async fn the_later_moment_of_suspected_traders_binds_them_and_nobody_else() {
    let ((flagged, _), (free, _)) = tokio::join!(suspected(true), suspected(false));
    let first = |market: &SimServer| {
        let books = market.books();
        let (entry, request) =
            books.requests().find(|(entry, _)| entry.price == cents(1_001)).unwrap();
        request.at.saturating_sub(entry.listed_at)
    };
    assert!((800..1_800).contains(&first(&flagged).as_millis()), "{:?}", first(&flagged));
    assert!(first(&free).as_millis() < 700, "{:?}", first(&free));
}

#[tokio::test]
async fn a_held_listing_that_is_taken_back_is_not_asked_for() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            let ids = market.offer(vec![opening_in(600, 1_001), opening_in(601, 1_002)]);
            counted(sniper, |tally| tally.matched == 2).await;
            assert!(market.take_back(&ids[0]));
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(super::skipped(&summary, "taken while held"), 1);
    assert_eq!(market.books().requests().count(), 1);
}

#[tokio::test]
async fn what_is_held_when_the_bot_stops_is_let_go() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            market.offer(vec![opening_in(30_000, 1_001)]);
            counted(sniper, |tally| tally.matched == 1).await;
        })
        .await;
    agree(&summary, &market);
    assert_eq!(super::skipped(&summary, "stopping"), 1);
}
