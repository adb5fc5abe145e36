//! Many listings, rivals and faults: nothing missed, nothing twice, nothing that is not wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sniper::{
    config::Generation,
    domain::trade::{Trade, TradeEvent},
    sim::{MarketBooks, Rate, SimServer, SimSettings, demo},
    summary::Summary,
};

use super::{Trader, agree, cents, ready};

/// A session at a busy market, and the ids of all that it heard to be listed.
async fn busy(
    market: &SimServer,
    trader: &Trader,
    lasting: Duration,
) -> (Summary, BTreeSet<String>) {
    let mut heard = BTreeSet::new();
    let hear = |trade: &Trade<'_>| {
        if trade.event != TradeEvent::Updated {
            heard.insert(trade.id.to_string());
        }
    };
    let summary = trader
        .trades_heard(hear, async |sniper| {
            ready(sniper, market).await;
            tokio::time::sleep(lasting).await;
        })
        .await;
    (summary, heard)
}

/// Every listing from the first that was heard to the last was heard.
#[track_caller]
fn missed_nothing(books: &MarketBooks, heard: &BTreeSet<String>) {
    let mut times: BTreeMap<Duration, Vec<&str>> = BTreeMap::new();
    for entry in books.entries() {
        times.entry(entry.listed_at).or_default().push(&entry.id);
    }
    let listed: Vec<&str> = times.into_values().flatten().collect();
    let is_heard = |id: &&str| heard.contains(*id);
    let first = listed.iter().position(is_heard).unwrap();
    let last = listed.iter().rposition(is_heard).unwrap();
    let missed: Vec<_> = listed[first..=last].iter().filter(|id| !is_heard(id)).collect();
    assert!(missed.is_empty(), "missed: {missed:?}");
}

/// What was asked for was wanted, and what was wanted and heard of went one way.
#[track_caller]
fn bought_what_is_wanted(summary: &Summary, books: &MarketBooks, heard: &BTreeSet<String>) {
    let unwanted = books.requests().filter(|(entry, _)| entry.wanted.is_none()).count();
    assert_eq!(unwanted, 0, "asked for what nobody wants");
    let wanted =
        books.entries().filter(|entry| entry.wanted.is_some() && heard.contains(&entry.id));
    assert_eq!(summary.tally.matched, u64::try_from(wanted.count()).unwrap());
}

#[tokio::test]
async fn ten_seconds_at_fifty_listings_a_second_miss_nothing_and_buy_nothing_twice() {
    let sound = [Generation::A, Generation::B].map(async |generation| {
        let settings =
            SimSettings { rate: Rate::per_second(50), seed: 3, ..SimSettings::default() };
        let market = SimServer::start(settings).unwrap();
        let trader = Trader::live(&market, demo::WHITELIST).asking_for(generation);
        let (summary, heard) = busy(&market, &trader, Duration::from_secs(10)).await;
        let books = market.books();
        agree(&summary, &market);
        missed_nothing(&books, &heard);
        bought_what_is_wanted(&summary, &books, &heard);
        assert!(summary.tally.bought > 3, "{:?}", summary.tally);
        assert_eq!((summary.errors(), summary.feed.reconnects, summary.feed.gaps), (0, 0, 0));
        assert_eq!(books.cold().count(), 0);
        let early = books.requests().filter(|(entry, request)| request.at < entry.can_join_at);
        assert_eq!(early.count(), 0);
    });
    tokio::join!(futures_util::future::join_all(sound), failing());
}

/// Beside them one at a market that fails in every way: it is asked once for each listing.
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
    let trader = Trader::live(&market, demo::WHITELIST);
    let (summary, heard) = busy(&market, &trader, Duration::from_secs(8)).await;
    let books = market.books();
    agree(&summary, &market);
    bought_what_is_wanted(&summary, &books, &heard);
    assert!(books.requests().count() > 5, "{:?}", summary.tally);
    assert!(books.spent() <= cents(40_000), "{}", books.spent());
}
