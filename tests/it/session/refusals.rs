//! How the market says no, and what follows from it.

use serde_json::{Value, json};
use sniper::{
    sim::{Fault, SimServer, SimSettings, faults::FaultKind},
    sniper::Sniper,
    summary::Summary,
};

use super::{
    PLENTY, Trader, agree, cents, counted, knows_the_account, quiet, ready, redline, skipped, until,
};
use crate::{
    buyer::market::{Market as Scripted, Reaction, Request, answer, bought, rejected},
    feed::Log,
};

/// What a refused order leads to: no further order, and a feed that goes on. It counts as refused
/// if the site's API said no, and as unknown if something in front of it did.
async fn stops_buying(feed: &SimServer, trader: &Trader) -> Summary {
    let summary = trader
        .trades(async |sniper| {
            until(|| knows_the_account(sniper) && feed.visits().feeds_subscribed == 1).await;
            feed.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.refused + tally.unknown == 1).await;
            feed.offer(vec![redline(1_015), redline(1_015)]);
            counted(sniper, |tally| tally.matched == 3).await;
        })
        .await;
    assert_eq!(skipped(&summary, "halted"), 2, "{:?}", summary.tally);
    summary
}

/// There is one loud line for each of these remedies, and no other.
#[track_caller]
fn is_loud_about(log: &Log, remedies: &[&str]) {
    let text = log.text();
    let loud: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(loud.len(), remedies.len(), "{loud:#?}");
    for remedy in remedies {
        let line = loud.iter().find(|line| line.contains(remedy)).expect(remedy);
        for part in ["BUYING STOPPED: ", "What to do: ", "The feed goes on."] {
            assert!(line.contains(part), "{part:?} in {line}");
        }
    }
}

#[tokio::test]
async fn what_only_a_person_can_settle_stops_buying_with_one_loud_line() {
    let log = Log::capture();
    let kinds = [
        (
            FaultKind::Unauthenticated,
            Some("unauthenticated"),
            "copy the new `session` cookie into .env",
        ),
        (FaultKind::Captcha, Some("captcha"), "solve the captcha"),
        (FaultKind::Challenge, None, "pass the challenge"),
        (FaultKind::DailyLimit, Some("daily limit"), "wait until the site's daily limit resets"),
    ];
    let all = kinds.map(async |(kind, counted_as, _)| {
        let faults = vec![Fault::always(kind)];
        let market = SimServer::start(SimSettings { faults, ..quiet() }).unwrap();
        let summary = stops_buying(&market, &Trader::live(&market, PLENTY)).await;
        agree(&summary, &market);
        let refusals: Vec<&str> = summary.tally.refusals.keys().copied().collect();
        assert_eq!(refusals, Vec::from_iter(counted_as), "{:?}", summary.tally);
        assert_eq!(market.books().requests().count(), 1);
    });
    futures_util::future::join_all(all).await;
    is_loud_about(&log, &kinds.map(|(_, _, remedy)| remedy));
}

/// A market for reads and buys that answers each buy in this way.
async fn answering(buys: impl Fn(usize) -> String + Send + Sync + 'static) -> Scripted {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    Scripted::plain(move |request: &Request| {
        Reaction::Answer(if request.body.contains("joinTrades") {
            buys(asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        } else {
            read(&request.body)
        })
    })
    .await
}

/// The answer to any other request than an order.
fn read(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    let wallet = json!({"id": "1", "name": "MAIN", "amount": 500});
    let user = json!({"id": "u", "suspectedTrader": false, "wallets": [wallet]});
    let page = json!({"edges": [], "pageInfo": {"hasNextPage": false, "endCursor": null}});
    match body["operationName"].as_str().unwrap() {
        "CurrentUser" => answer(200, "", &json!({"data": {"currentUser": user}}).to_string()),
        _ => answer(200, "", &json!({"data": {"trades": page}}).to_string()),
    }
}

/// A live trader who hears one market and buys at another.
fn between(feed: &SimServer, buys: &Scripted) -> Trader {
    let http = format!("http://{}/graphql", buys.endpoints.http.authority());
    Trader::new((&feed.ws_url(), &http), Some(&feed.session()), PLENTY, true)
}

fn joins(market: &Scripted) -> usize {
    market.requests().iter().filter(|request| request.body.contains("joinTrades")).count()
}

#[tokio::test]
async fn http_401_and_403_without_data_stop_buying() {
    let log = Log::capture();
    let all = [401, 403].map(async |status| {
        let feed = SimServer::start(quiet()).unwrap();
        let buys = answering(move |_| answer(status, "", "{}")).await;
        let summary = stops_buying(&feed, &between(&feed, &buys)).await;
        assert_eq!((summary.tally.refused, summary.tally.unknown), (0, 1), "{status}");
        assert_eq!(joins(&buys), 1, "the harmless request aside, nothing else was sent");
    });
    futures_util::future::join_all(all).await;
    is_loud_about(&log, &["HTTP 401 without data", "HTTP 403 without data"]);
}

#[tokio::test]
async fn a_429_pauses_buying_for_as_long_as_told_and_no_longer() {
    let feed = SimServer::start(quiet()).unwrap();
    let buys = answering(|number| match number {
        0 => answer(429, "Retry-After: 1\r\n", ""),
        _ => answer(200, "", r#"{"errors":[{"message":"Trade no longer available"}]}"#),
    })
    .await;
    let refused = |sniper: &Sniper| sniper.look(|core| core.tally().refused);
    let summary = between(&feed, &buys)
        .trades(async |sniper| {
            until(|| knows_the_account(sniper) && feed.visits().feeds_subscribed == 1).await;
            feed.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.unknown == 1).await;
            let told = std::time::Instant::now();
            feed.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.skipped.get("paused") == Some(&1)).await;
            until(|| {
                feed.offer(vec![redline(1_015)]);
                refused(sniper) >= 1
            })
            .await;
            let paused = told.elapsed().as_millis();
            assert!((950..3_000).contains(&paused), "{paused} ms");
        })
        .await;
    assert_eq!((summary.tally.unknown, summary.orders.unknown_coins), (1, cents(1_015)));
    assert_eq!(summary.tally.refusals.get("taken"), Some(&summary.tally.refused));
}

#[tokio::test]
async fn a_lost_race_changes_nothing() {
    let market = SimServer::start(SimSettings { balance: cents(100_000), ..quiet() }).unwrap();
    let rival = std::time::Duration::from_nanos(1);
    let summary = Trader::live(&market, PLENTY)
        .trades(async |sniper| {
            ready(sniper, &market).await;
            let taken = sniper::sim::ListedItem { rival_after: Some(rival), ..redline(1_015) };
            market.offer(vec![taken]);
            counted(sniper, |tally| tally.refused == 1).await;
            market.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.bought == 1).await;
        })
        .await;
    agree(&summary, &market);
}

/// A market that never answers the request that would confirm it.
#[tokio::test]
async fn what_a_refusal_asks_for_does_not_wait_for_its_confirmation() {
    let log = Log::capture();
    let feed = SimServer::start(quiet()).unwrap();
    let is_refused = std::sync::atomic::AtomicBool::new(false);
    let buys = Scripted::plain(move |request: &Request| {
        let order = std::sync::atomic::Ordering::Relaxed;
        if request.body.contains("joinTrades") {
            is_refused.store(true, order);
            return Reaction::Answer(rejected("Please solve the captcha"));
        }
        let is_order_connection = request.head.contains("Accept-Encoding: identity");
        if is_order_connection && is_refused.load(order) {
            return Reaction::Silence;
        }
        Reaction::Answer(read(&request.body))
    })
    .await;
    let summary = between(&feed, &buys)
        .trades(async |sniper| {
            until(|| knows_the_account(sniper) && feed.visits().feeds_subscribed == 1).await;
            feed.offer(vec![redline(1_015)]);
            until(|| joins(&buys) == 1 && log.text().contains("BUYING STOPPED: ")).await;
            let counts = sniper.look(|core| (core.tally().refused, core.tally().unknown));
            assert_eq!(counts, (0, 0), "its confirmation is still waited for");
            feed.offer(vec![redline(1_015)]);
            counted(sniper, |tally| tally.skipped.get("halted") == Some(&1)).await;
        })
        .await;
    assert_eq!((summary.tally.refused, summary.tally.unknown), (0, 1));
    is_loud_about(&log, &["solve the captcha"]);
}

/// The answer to each order comes again, as a refusal, in the moment in which the next one leaves.
#[tokio::test]
async fn a_late_second_answer_never_gives_coins_back() {
    let feed = SimServer::start(SimSettings { balance: cents(100_000), ..quiet() }).unwrap();
    let buys = Scripted::plain(|request: &Request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        match body["variables"]["input"]["tradeIds"][0].as_str() {
            Some(id) => Reaction::Dribble(
                vec![bought(id), rejected("Trade is not joinable")],
                std::time::Duration::from_millis(1),
            ),
            None => Reaction::Answer(read(&request.body)),
        }
    })
    .await;
    let policy = PLENTY.replace("total = 100000", "total = 55");
    let http = format!("http://{}/graphql", buys.endpoints.http.authority());
    let trader = Trader::new((&feed.ws_url(), &http), Some(&feed.session()), &policy, true);
    let summary = trader
        .trades(async |sniper| {
            until(|| knows_the_account(sniper) && feed.visits().feeds_subscribed == 1).await;
            for number in 0..40 {
                feed.offer(vec![redline(1_000)]);
                counted(sniper, |tally| tally.matched == number + 1).await;
            }
        })
        .await;
    assert!(joins(&buys) <= 5, "{} bought of a total for 5: {:?}", joins(&buys), summary.tally);
    assert_eq!(summary.tally.refused, 0, "{:?}", summary.tally);
}
