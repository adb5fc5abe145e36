//! Invalid messages and frames, after which the bot continues to buy, and false statements of the
//! market, after which it spends no more than its total by the market's own books.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sniper::{
    clock,
    domain::{money::Amount, trade::TradeStatus},
    ledger::{AccountReading, Operator, OrderState, OwnTrade, account::SETTLE},
    sim::{Fault, SimServer, SimSettings, faults::FaultKind},
    sniper::{Now, Sniper, stats::SessionStats},
};
use tokio::sync::Notify;

use super::{
    AMPLE_LIMITS, TestBot, assert_agrees, cents, is_reconciled, quiet, ready, redline, until,
    wait_for_stats,
};
use crate::feed::{
    Log,
    peer::{Frame, Server, batch, frame},
};

#[tokio::test]
async fn unreadable_messages_are_counted_and_orders_continue() {
    let market = SimServer::start(quiet()).unwrap();
    let deep = "[".repeat(100_000);
    let invalid = [
        "not JSON",
        "",
        "{",
        "[1,2]",
        "null",
        "\"\u{1b}[2J\"",
        r#"{"type":7}"#,
        r#"{"type":"gossip"}"#,
        r#"{"type":"next","id":"1","payload":"#,
        r#"{"type":"next","id":"1"}"#,
        r#"{"type":"next","id":"1","payload":[]}"#,
        r#"{"type":"next","id":"1","payload":{"data":null}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"somethingElse":{"trades":[1]}}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrades":7}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrades":{"trades":"x"}}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrades":{"trades":[{}]}}}}"#,
        r#"{"type":"next","id":"1","payload":{"data":{"createTrade":{"trade":[{"id":7}]}}}}"#,
        &deep,
    ];
    let summary = TestBot::live(&market, AMPLE_LIMITS)
        .run(async |sniper| {
            ready(sniper, &market).await;
            // A message for an unknown subscription is ignored and not counted as an error.
            market.send_raw(r#"{"type":"next","id":"999","payload":{"data":{"createTrades":7}}}"#);
            for text in invalid {
                market.send_raw(text);
            }
            market.list_items(vec![redline(1_015)]);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    assert_eq!(summary.feed.reconnects, 0, "the connection lives");
    assert_eq!(summary.errors(), u64::try_from(invalid.len()).unwrap());
}

/// Returns a message with a listing that can be joined for a century.
fn valid_listing(subscription: &str, id: &str) -> String {
    batch(subscription, &[id])
        .replace("2026-03-03", "2126-03-03")
        .replace(r#""depositor""#, r#""suspectedTraderCanJoinAfter":null,"depositor""#)
}

/// Starts a bot on the feed of a server and the account of a market.
fn bot_on(server: &Server, market: &SimServer) -> TestBot {
    let policy = AMPLE_LIMITS.replace("[[whitelist]]", "[[whitelist]]\nmax_markup_percent = 2");
    TestBot::new((&server.address, &market.http_url()), Some(&market.session()), &policy, true)
}

/// Each listing but the last has a field that is unreadable or of the wrong type.
#[tokio::test]
async fn an_unreadable_listing_is_counted_and_never_bought() {
    let market = SimServer::start(quiet()).unwrap();
    let changes = [
        (r#""totalValue":10.15"#, r#""totalValue":"10.15""#),
        (r#""totalValue":10.15"#, r#""totalValue":-10.15"#),
        (r#""totalValue":10.15"#, r#""totalValue":1e400"#),
        (r#""totalValue":10.15"#, r#""totalValue":10.151"#),
        (r#""totalValue":10.15"#, r#""totalValue":null"#),
        (r#""markupPercent":1.5"#, r#""markupPercent":"1.5""#),
        (r#""itemVariant":{"value":10}"#, r#""itemVariant":null"#),
        (r#""status":"LISTED""#, r#""status":3"#),
        (r#""canJoin":true"#, r#""canJoin":"yes""#),
        (r#""canJoinAfter":null"#, r#""canJoinAfter":"soon""#),
        (r#""expiresAt":"2126"#, r#""expiresAt":"never"#),
        (r#""tradeItems":["#, r#""tradeItems":null,"x":["#),
    ];
    let ids = market.list_items((0..=changes.len()).map(|_| redline(1_015)).collect());
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |_, mut peer| {
        let (ids, may_begin) = (ids.clone(), Arc::clone(&may_begin));
        async move {
            let subscriptions = peer.subscribed().await;
            may_begin.notified().await;
            for ((from, to), id) in changes.iter().zip(&ids) {
                let valid = valid_listing(&subscriptions[0], id);
                assert!(valid.contains(from), "{from} in {valid}");
                peer.send_text(&valid.replace(from, to)).await;
            }
            peer.send_text(&valid_listing(&subscriptions[0], &ids[changes.len()])).await;
            peer.read_until_close().await;
        }
    })
    .await;
    let summary = bot_on(&server, &market)
        .run(async |sniper| {
            until(|| is_reconciled(sniper)).await;
            begin.notify_one();
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    let expected = u64::try_from(changes.len()).unwrap();
    assert_eq!(summary.stats.listings, expected + 1);
    assert!(summary.stats.unreadable >= expected - 2, "{:?}", summary.stats);
    assert_eq!(summary.orders.spent, cents(1_015));
}

#[tokio::test]
async fn a_protocol_violation_closes_with_the_right_code_and_reconnects() {
    let market = SimServer::start(quiet()).unwrap();
    let ids = market.list_items(vec![redline(1_015)]);
    let closes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&closes);
    let begin = Arc::new(Notify::new());
    let may_begin = Arc::clone(&begin);
    let server = Server::play(move |number, mut peer| {
        let (ids, noted) = (ids.clone(), Arc::clone(&noted));
        let may_begin = Arc::clone(&may_begin);
        async move {
            let subscriptions = peer.subscribed().await;
            let invalid = match number {
                0 => frame(0xc1, b"reserved bits"),
                1 => frame(0x81, b"\xff\xfe"),
                2 => [&[0x81, 127][..], &(1_u64 << 40).to_be_bytes()].concat(),
                _ => {
                    may_begin.notified().await;
                    peer.send_text(&valid_listing(&subscriptions[0], &ids[0])).await;
                    peer.read_until_close().await;
                    return;
                }
            };
            peer.write(&invalid).await;
            let end = peer.read_until_close().await;
            noted.lock().unwrap().push(end);
        }
    })
    .await;
    let summary = bot_on(&server, &market)
        .run(async |sniper| {
            until(|| is_reconciled(sniper) && server.dials() == 4).await;
            begin.notify_one();
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_agrees(&summary, &market);
    let codes = [1_002, 1_007, 1_009].map(|code| Frame::Close(Some(code)));
    assert_eq!(*closes.lock().unwrap(), codes);
    assert_eq!(summary.feed.reconnects, 3);
    assert!(summary.errors() >= 3, "violations are counted: {}", summary.errors());
}

/// Price of each listing of the tests below.
const PRICE: Amount = cents(1_015);
/// Allows five orders at [`PRICE`].
const TOTAL: Amount = cents(5_500);
/// Listings that each test offers, more than [`TOTAL`] allows twice.
const OFFERED: u64 = 15;

/// Starts a bot with [`TOTAL`] on this market.
fn bot_with_total(market: &SimServer) -> TestBot {
    TestBot::live(market, &AMPLE_LIMITS.replace("total = 100000", "total = 55"))
}

fn market_with(faults: &[FaultKind]) -> SimServer {
    let faults = faults.iter().map(|kind| Fault::always(*kind)).collect();
    SimServer::start(SimSettings { faults, ..quiet() }).unwrap()
}

/// Returns the number of matches whose outcome is known.
fn settled(stats: &SessionStats) -> u64 {
    stats.bought + stats.rejected + stats.unknown + stats.not_sent + stats.skipped_total()
}

fn resume(sniper: &Sniper) {
    let now = Now::read().wall;
    sniper.with_engine(|engine| engine.ledger().resume(Operator::new("test"), now));
}

/// Offers listings one by one. After each outcome, calls `lie`, and resumes ordering if it is
/// halted.
async fn offer(sniper: &Sniper, market: &SimServer, count: u64, lie: impl Fn()) {
    for _ in 0..count {
        let before = sniper.with_engine(|engine| settled(engine.stats()));
        market.list_items(vec![redline(PRICE.cents())]);
        wait_for_stats(sniper, |stats| before < settled(stats)).await;
        lie();
        if sniper.with_engine(|engine| !engine.ledger().state().halts().is_empty()) {
            resume(sniper);
        }
    }
}

/// Asserts that the market has sold as much as the total allows and no more, and that no listing
/// was ordered twice.
#[track_caller]
fn assert_within_total(market: &SimServer, what: &str) {
    let history = market.history();
    assert_eq!(history.ordered_twice().count(), 0, "{what}");
    let spent = history.spent();
    assert!(spent <= TOTAL, "{what}: the market sold for {spent}, of a total of {TOTAL}");
    assert!(TOTAL < spent.saturating_add(PRICE), "{what}: only {spent} was spent");
}

#[tokio::test]
async fn a_feed_that_calls_purchases_cancelled_or_listed_frees_no_coins() {
    let market = market_with(&[]);
    let summary = bot_with_total(&market)
        .run(async |sniper| {
            ready(sniper, &market).await;
            // Each message has a random purchase and a random status.
            let lie = || {
                for _ in 0..20 {
                    market.inject_feed_fault(FaultKind::FeedLie);
                    market.inject_feed_fault(FaultKind::FeedRelist);
                }
            };
            offer(sniper, &market, OFFERED, lie).await;
        })
        .await;
    assert_within_total(&market, "feed");
    assert_agrees(&summary, &market);
}

/// Each order is bought and its answer is correct, but a rejection of no request follows, which
/// arrives on the connection of the next order.
#[tokio::test]
async fn a_rejection_that_belongs_to_no_request_frees_no_coins() {
    let market = market_with(&[FaultKind::LateRejection]);
    let summary = bot_with_total(&market)
        .run(async |sniper| {
            ready(sniper, &market).await;
            offer(sniper, &market, OFFERED, || {}).await;
        })
        .await;
    assert_within_total(&market, "late rejection");
    assert_agrees(&summary, &market);
    assert_eq!(summary.stats.rejected, 0, "the market has rejected no order");
}

/// Answers with a price of zero halt ordering, and answers with a low price may.
#[tokio::test]
async fn an_answer_with_a_price_below_the_approved_one_frees_no_coins_also_after_a_resume() {
    let all = [FaultKind::PriceZero, FaultKind::PriceLow].map(async |kind| {
        let market = market_with(&[kind]);
        let summary = bot_with_total(&market)
            .run(async |sniper| {
                ready(sniper, &market).await;
                offer(sniper, &market, OFFERED, || {}).await;
            })
            .await;
        assert_within_total(&market, &kind.name());
        assert_agrees(&summary, &market);
        let by_the_ledger = summary.orders.spent;
        assert_eq!(by_the_ledger, market.history().spent(), "{kind}");
    });
    futures_util::future::join_all(all).await;
}

/// The answers to the orders are lost, and the account's list has them with a status that this
/// version does not know. Each charge is refunded at once, so the balance does not show it.
#[tokio::test]
async fn an_order_listed_with_an_unknown_status_is_not_taken_for_absent() {
    let log = Log::capture();
    let market = market_with(&[FaultKind::ServerErrorAfterCommit, FaultKind::ListUnknownStatus]);
    let summary = bot_with_total(&market)
        .run(async |sniper| {
            ready(sniper, &market).await;
            let unknown = AtomicU64::new(0);
            let refund = || {
                let now = sniper.with_engine(|engine| engine.stats().unknown);
                if unknown.swap(now, Ordering::Relaxed) < now {
                    market.adjust_balance(PRICE);
                }
            };
            let uncharged = market.history().balance;
            offer(sniper, &market, OFFERED, refund).await;
            // Readings after the time at which an order that is not listed counts as not bought.
            sniper.with_engine(|engine| {
                let orders = engine.ledger().state().intents().to_vec();
                assert!(orders.iter().any(|order| order.state == OrderState::Unknown));
                let trades = orders.iter().map(|order| OwnTrade {
                    id: order.id,
                    status: TradeStatus::Other,
                    price: Some(order.price),
                    joined_at: None,
                    commission: None,
                    own_id: None,
                });
                let trades: Vec<OwnTrade> = trades.collect();
                for settles in [2, 4] {
                    let started = clock::wall().plus(settles * SETTLE);
                    let reading = AccountReading { trades: &trades, complete: true, started };
                    let effects = engine.ledger().reconcile(&reading, Some(uncharged), started);
                    assert_eq!(effects.changes, [], "after {settles}");
                }
            });
            offer(sniper, &market, OFFERED, refund).await;
            until(|| log.text().contains("listed with a status this version does not know")).await;
            offer(sniper, &market, OFFERED, refund).await;
        })
        .await;
    assert_within_total(&market, "unknown status");
    assert_eq!(summary.orders.not_bought, 0);
}
