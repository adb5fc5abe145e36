//! Rejected orders and their consequences.

use serde_json::{Value, json};
use sniper::{
    commands::summary::Summary,
    ledger::HaltReason,
    sim::{Fault, SimServer, SimSettings, faults::FaultKind},
    sniper::{Now, Sniper},
};

use super::{
    AMPLE_LIMITS, TestBot, assert_agrees, cents, is_reconciled, quiet, ready, redline, skipped,
    until, wait_for_stats,
};
use crate::{
    buyer::market::{Market as Scripted, Reaction, Request, answer, bought, rejected},
    feed::Log,
};

/// Runs a session whose first order fails. Asserts that no further order is sent and that the feed
/// continues. An order that the market's API rejects counts as rejected, one that a proxy in front
/// of it rejects counts as unknown.
async fn stops_buying(feed: &SimServer, bot: &TestBot) -> Summary {
    let summary = bot
        .run(async |sniper| {
            until(|| is_reconciled(sniper) && feed.stats().feeds_subscribed == 1).await;
            feed.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.rejected + stats.unknown == 1).await;
            feed.list_items(vec![redline(1_015), redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.matched == 3).await;
        })
        .await;
    assert_eq!(skipped(&summary, "halted"), 2, "{:?}", summary.stats);
    summary
}

/// Asserts that the log has one ERROR line per remedy and no other.
#[track_caller]
fn assert_errors(log: &Log, remedies: &[&str]) {
    let text = log.text();
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), remedies.len(), "{errors:#?}");
    for remedy in remedies {
        let line = errors.iter().find(|line| line.contains(remedy)).expect(remedy);
        for part in ["Ordering halted: ", "What to do: ", "Still watching, sending no orders."] {
            assert!(line.contains(part), "{part:?} in {line}");
        }
    }
}

#[tokio::test]
async fn the_summary_names_the_item_of_a_halt() {
    let market = SimServer::start(quiet()).unwrap();
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
            sniper.with_engine(|engine| {
                let id = engine.stats().purchases[0].id;
                drop(engine.ledger().halt(HaltReason::Contradiction { id }, Now::read().wall));
            });
        })
        .await;
    let line =
        "Ordering halted: the account bought \"AK-47 | Redline (Field-Tested)\", although its";
    assert!(summary.to_string().contains(line), "{summary}");
    assert!(summary.to_json()["halts"][0]["reason"].as_str().unwrap().contains("Redline"));
}

#[tokio::test]
async fn a_rejection_that_needs_the_user_stops_orders_with_one_error() {
    let log = Log::capture();
    let kinds = [
        (
            FaultKind::Unauthenticated,
            Some("unauthenticated"),
            "copy the new `session` cookie into .env",
        ),
        (FaultKind::Captcha, Some("captcha"), "solve the captcha"),
        (FaultKind::Challenge, None, "pass the challenge"),
        (FaultKind::DailyLimit, Some("daily limit"), "wait until the market's daily limit resets"),
    ];
    let all = kinds.map(async |(kind, counted_as, _)| {
        let faults = vec![Fault::always(kind)];
        let market = SimServer::start(SimSettings { faults, ..quiet() }).unwrap();
        let summary = stops_buying(&market, &TestBot::live(&market, AMPLE_LIMITS)).await;
        assert_agrees(&summary, &market);
        let rejections: Vec<&str> = summary.stats.rejections.keys().copied().collect();
        assert_eq!(rejections, Vec::from_iter(counted_as), "{:?}", summary.stats);
        assert_eq!(market.history().orders().count(), 1);
    });
    futures_util::future::join_all(all).await;
    assert_errors(&log, &kinds.map(|(_, _, remedy)| remedy));
}

/// Starts a market that answers reads normally and the n-th order with `orders(n)`.
async fn answering(orders: impl Fn(usize) -> String + Send + Sync + 'static) -> Scripted {
    let count = std::sync::atomic::AtomicUsize::new(0);
    Scripted::plain(move |request: &Request| {
        Reaction::Answer(if request.body.contains("joinTrades") {
            orders(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        } else {
            read(&request.body)
        })
    })
    .await
}

/// Returns the answer to a request that is not an order.
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

/// Returns live settings with the feed of one market and the orders to another.
fn between(feed: &SimServer, orders: &Scripted) -> TestBot {
    let http = format!("http://{}/graphql", orders.endpoints.http.authority());
    TestBot::new((&feed.ws_url(), &http), Some(&feed.session()), AMPLE_LIMITS, true)
}

fn joins(market: &Scripted) -> usize {
    market.requests().iter().filter(|request| request.body.contains("joinTrades")).count()
}

#[tokio::test]
async fn http_401_and_403_without_data_stop_orders() {
    let log = Log::capture();
    let all = [401, 403].map(async |status| {
        let feed = SimServer::start(quiet()).unwrap();
        let orders = answering(move |_| answer(status, "", "{}")).await;
        let summary = stops_buying(&feed, &between(&feed, &orders)).await;
        assert_eq!((summary.stats.rejected, summary.stats.unknown), (0, 1), "{status}");
        assert_eq!(joins(&orders), 1, "only a keep-warm request may follow");
    });
    futures_util::future::join_all(all).await;
    assert_errors(&log, &["HTTP 401 without data", "HTTP 403 without data"]);
}

#[tokio::test]
async fn a_429_pauses_orders_for_the_retry_after_time() {
    let feed = SimServer::start(quiet()).unwrap();
    let orders = answering(|number| match number {
        0 => answer(429, "Retry-After: 1\r\n", ""),
        _ => answer(200, "", r#"{"errors":[{"message":"Trade no longer available"}]}"#),
    })
    .await;
    let rejected = |sniper: &Sniper| sniper.with_engine(|engine| engine.stats().rejected);
    let summary = between(&feed, &orders)
        .run(async |sniper| {
            until(|| is_reconciled(sniper) && feed.stats().feeds_subscribed == 1).await;
            let started = std::time::Instant::now();
            feed.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.unknown >= 1).await;
            // Orders resume before `WAIT_MAX`. Without `Retry-After` they would pause for longer.
            until(|| {
                feed.list_items(vec![redline(1_015)]);
                rejected(sniper) >= 1
            })
            .await;
            let paused = started.elapsed();
            assert!(paused >= std::time::Duration::from_secs(1), "{paused:?}");
        })
        .await;
    assert!(skipped(&summary, "paused") >= 1, "{:?}", summary.stats);
    assert_eq!((summary.stats.unknown, summary.orders.unknown_coins), (1, cents(1_015)));
    assert_eq!(summary.stats.rejections.get("taken"), Some(&summary.stats.rejected));
}

#[tokio::test]
async fn a_listing_taken_by_a_rival_does_not_stop_orders() {
    let market = SimServer::start(SimSettings { balance: cents(100_000), ..quiet() }).unwrap();
    let rival = std::time::Duration::from_nanos(1);
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            let taken = sniper::sim::ListedItem { rival_after: Some(rival), ..redline(1_015) };
            // If the removal arrives in the same read, nothing is ordered.
            until(|| {
                market.list_items(vec![taken.clone()]);
                sniper.with_engine(|engine| engine.stats().rejected) >= 1
            })
            .await;
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
}

/// The market never answers the request that would confirm the rejection.
#[tokio::test]
async fn a_captcha_stops_orders_before_its_confirmation() {
    let log = Log::capture();
    let feed = SimServer::start(quiet()).unwrap();
    let is_rejected = std::sync::atomic::AtomicBool::new(false);
    let orders = Scripted::plain(move |request: &Request| {
        let order = std::sync::atomic::Ordering::Relaxed;
        if request.body.contains("joinTrades") {
            is_rejected.store(true, order);
            return Reaction::Answer(rejected("Please solve the captcha"));
        }
        let is_order_connection = request.head.contains("Accept-Encoding: identity");
        if is_order_connection && is_rejected.load(order) {
            return Reaction::Silence;
        }
        Reaction::Answer(read(&request.body))
    })
    .await;
    let summary = between(&feed, &orders)
        .run(async |sniper| {
            until(|| is_reconciled(sniper) && feed.stats().feeds_subscribed == 1).await;
            feed.list_items(vec![redline(1_015)]);
            until(|| joins(&orders) == 1 && log.text().contains("Ordering halted: ")).await;
            let counts =
                sniper.with_engine(|engine| (engine.stats().rejected, engine.stats().unknown));
            assert_eq!(counts, (0, 0), "the confirmation is still pending");
            feed.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.skipped.get("halted") == Some(&1)).await;
            // The session would wait ten seconds for the confirmation.
            orders.close_idle();
        })
        .await;
    assert_eq!((summary.stats.rejected, summary.stats.unknown), (0, 1));
    assert_errors(&log, &["solve the captcha"]);
}

/// Each order is answered twice: the second answer is a rejection and arrives as the next order is
/// sent.
#[tokio::test]
async fn a_late_second_response_never_releases_coins() {
    let feed = SimServer::start(SimSettings { balance: cents(100_000), ..quiet() }).unwrap();
    let orders = Scripted::plain(|request: &Request| {
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
    let policy = AMPLE_LIMITS.replace("total = 100000", "total = 55");
    let http = format!("http://{}/graphql", orders.endpoints.http.authority());
    let bot = TestBot::new((&feed.ws_url(), &http), Some(&feed.session()), &policy, true);
    let summary = bot
        .run(async |sniper| {
            until(|| is_reconciled(sniper) && feed.stats().feeds_subscribed == 1).await;
            for number in 0..40 {
                feed.list_items(vec![redline(1_000)]);
                wait_for_stats(sniper, |stats| stats.matched == number + 1).await;
            }
        })
        .await;
    assert!(joins(&orders) <= 5, "{} bought of a total for 5: {:?}", joins(&orders), summary.stats);
    assert_eq!(summary.stats.rejected, 0, "{:?}", summary.stats);
}
