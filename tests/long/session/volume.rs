//! Sessions with many listings, rivals and faults: no listing is missed, ordered twice or ordered
//! without a match.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sniper::{
    commands::summary::Summary,
    config::Generation,
    domain::trade::{Trade, TradeEvent},
    sim::{MarketHistory, Rate, SimServer, SimSettings, demo},
};

use super::harness::{TestBot, assert_agrees, cents, ready};

/// Runs a session at a busy market. Returns its summary and the ids of the received listings.
async fn busy(
    market: &SimServer,
    bot: &TestBot,
    duration: Duration,
) -> (Summary, BTreeSet<String>) {
    let mut received = BTreeSet::new();
    let observe = |trade: &Trade<'_>| {
        if trade.event != TradeEvent::Updated {
            received.insert(trade.id.to_string());
        }
    };
    let summary = bot
        .run_observed(observe, async |sniper| {
            ready(sniper, market).await;
            tokio::time::sleep(duration).await;
        })
        .await;
    (summary, received)
}

/// Asserts that no listing between the first and the last received one is missing.
#[track_caller]
fn assert_none_missed(history: &MarketHistory, received: &BTreeSet<String>) {
    let mut times: BTreeMap<Duration, Vec<&str>> = BTreeMap::new();
    for entry in history.listings() {
        times.entry(entry.listed_at).or_default().push(&entry.id);
    }
    let listed: Vec<&str> = times.into_values().flatten().collect();
    let is_received = |id: &&str| received.contains(*id);
    let first = listed.iter().position(is_received).unwrap();
    let last = listed.iter().rposition(is_received).unwrap();
    let missed: Vec<_> = listed[first..=last].iter().filter(|id| !is_received(id)).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
}

/// Asserts that every order was for a wanted listing, and that every received wanted listing
/// matched.
#[track_caller]
fn assert_wanted_were_ordered(
    summary: &Summary,
    history: &MarketHistory,
    received: &BTreeSet<String>,
) {
    let unwanted = history.orders().filter(|(entry, _)| entry.wanted.is_none()).count();
    assert_eq!(unwanted, 0, "an unwanted listing was ordered");
    let wanted =
        history.listings().filter(|entry| entry.wanted.is_some() && received.contains(&entry.id));
    assert_eq!(summary.stats.matched, u64::try_from(wanted.count()).unwrap());
}

#[tokio::test]
async fn at_fifty_listings_a_second_none_is_missed_or_bought_twice() {
    let sound = [Generation::A, Generation::B].map(async |generation| {
        let settings =
            SimSettings { rate: Rate::per_second(50), seed: 3, ..SimSettings::default() };
        let market = SimServer::start(settings).unwrap();
        let bot = TestBot::live(&market, demo::WHITELIST).with_generation(generation);
        let (summary, received) = busy(&market, &bot, Duration::from_secs(10)).await;
        let history = market.history();
        assert_agrees(&summary, &market);
        assert_none_missed(&history, &received);
        assert_wanted_were_ordered(&summary, &history, &received);
        assert!(summary.stats.bought > 3, "{:?}", summary.stats);
        assert_eq!((summary.errors(), summary.feed.reconnects, summary.feed.gaps), (0, 0, 0));
        assert_eq!(history.cold_orders().count(), 0);
        let early = history.orders().filter(|(entry, request)| request.at < entry.can_join_at);
        assert_eq!(early.count(), 0);
    });
    tokio::join!(futures_util::future::join_all(sound), failing());
}

/// Runs a session at a market with many faults, which must get at most one order per listing.
async fn failing() {
    let faults = "cut-before-commit:4% cut-after-commit:4% 5xx-after-commit:4% \
                  5xx-before-commit:4% unknown-error:4% half-body:4% slow:4% doubled:4% \
                  late-rejection:8% empty:4% \
                  foreign:4% feed-cut:10% feed-close:10%";
    let market = SimServer::start(SimSettings {
        rate: Rate::per_second(120),
        faults: faults.split_whitespace().map(|fault| fault.parse().unwrap()).collect(),
        ..SimSettings::default()
    })
    .unwrap();
    let bot = TestBot::live(&market, demo::WHITELIST);
    let (summary, received) = busy(&market, &bot, Duration::from_secs(8)).await;
    let history = market.history();
    assert_agrees(&summary, &market);
    assert_wanted_were_ordered(&summary, &history, &received);
    assert!(history.orders().count() > 5, "{:?}", summary.stats);
    assert!(history.spent() <= cents(40_000), "{}", history.spent());
}
