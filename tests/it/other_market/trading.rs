//! Live sessions on the other marketplace, assembled as `main.rs` does, with a ledger on disk.

use std::{sync::Arc, time::Duration};

use sniper::{
    account::{
        AccountReader, PollConfig, ReadFailure, RefreshRequests, look_up_orders, poll_account,
    },
    commands::session::{SessionEnd, SessionStart, TradingSession},
    commands::summary::Summary,
    config::{Budget, Config, Credential, Endpoints, Mode},
    domain::money::Amount,
    domain::own_order_id::StartId,
    domain::trade::{KeyedBy, TradeId},
    ledger::{OrderState, reader::LedgerReader},
    markets::{AccountQuery, AccountQueryError},
    net::tls::Tls,
    shutdown::{Shutdown, ShutdownReason},
    sniper::Sniper,
    whitelist::{ItemPattern, WhitelistEntry},
    ws::{self, Feed, policy::ReconnectPolicy},
};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{
    OtherMarket,
    server::{CASE, KEY, Kind, OtherServer, REDLINE, message, record},
};
use crate::{
    feed::quick,
    session::{is_reconciled, skipped, until, wait_for_stats},
};

const fn thousandths(thousandths: i64) -> Amount {
    Amount::from_thousandths(thousandths)
}

fn redline() -> WhitelistEntry {
    WhitelistEntry {
        name: Some("redline".to_owned()),
        item: ItemPattern::Named("AK-47 | Redline".to_owned()),
        max_price: thousandths(10_157),
        max_quantity: 10,
        ..WhitelistEntry::default()
    }
}

/// A bot whose ledger outlives its session.
struct OtherBot {
    config: Config,
    directory: TempDir,
}

impl OtherBot {
    fn new(market: &OtherServer, total: i64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let endpoints = Endpoints::new(&market.ws, &market.http).unwrap();
        let budget = Budget {
            max_price: thousandths(20_000),
            total: thousandths(total),
            min_balance: Amount::ZERO,
            ..Budget::default()
        };
        let config = Config {
            mode: Mode::Live,
            credential: Some(Credential::from_key(KEY).unwrap()),
            budget,
            whitelist: Arc::new([redline()]),
            reconnection: ReconnectPolicy::new(quick()).unwrap(),
            ..Config::new(endpoints, directory.path().join("data"))
        };
        Self { config, directory }
    }

    /// Runs a session until `scenario` completes, which begins when the bot can order.
    async fn run(&self, market: &OtherServer, scenario: impl AsyncFnOnce(&Sniper)) -> Summary {
        let mut shutdown = Shutdown::without_signals(None);
        let mut feed = Feed::new(OtherMarket, self.config.clone());
        let backfill = feed.fill_gaps();
        let mut session = TradingSession::start(&feed, backfill, SessionStart::default()).unwrap();
        session.announce();
        let sniper = session.sniper();
        let scenario = async {
            until(|| is_reconciled(&sniper) && market.has_subscriber()).await;
            scenario(&sniper).await;
        };
        let ended = {
            let trading =
                std::pin::pin!(ws::run_with_reconnect(&feed, |trade| sniper.consider(trade)));
            tokio::select! {
                biased;
                ended = session.run_with(trading, &mut shutdown) => ended,
                () = scenario => SessionEnd::Stopped(ShutdownReason::TimeLimit(Duration::ZERO)),
            }
        };
        assert!(matches!(ended, SessionEnd::Stopped(_)), "{ended}");
        session.finish(ended).await
    }

    /// Returns the id, the price and the state of each order in the closed ledger.
    fn ledger(&self) -> Vec<(String, i64, OrderState)> {
        let reader = LedgerReader::open(&self.directory.path().join("data")).unwrap();
        reader.verify().unwrap();
        let orders = reader.state().intents().iter();
        orders.map(|order| (order.id.to_string(), order.price.thousandths(), order.state)).collect()
    }
}

fn order(id: u64, price: i64, state: OrderState) -> (String, i64, OrderState) {
    (id.to_string(), price, state)
}

/// Returns the id and the price limit of each order that arrived.
fn arrived(market: &OtherServer) -> Vec<(String, String)> {
    let orders = market.orders();
    orders.iter().map(|query| (query["id"].clone(), query["max_price"].clone())).collect()
}

fn limit(id: u64, price: i64) -> (String, String) {
    (id.to_string(), price.to_string())
}

#[tokio::test]
async fn a_match_is_bought_with_one_request_at_the_exact_price() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 100_000);
    let summary = bot
        .run(&market, async |sniper| {
            market.list(7, 10_157);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_eq!(arrived(&market), [limit(7, 10_157)]);
    assert_eq!(market.sales(), [(7, 10_157)]);
    assert_eq!(bot.ledger(), [order(7, 10_157, OrderState::Bought)]);
    assert_eq!(summary.orders.spent, thousandths(10_157));
    assert_eq!(summary.balance, Some(thousandths(500_000 - 10_157)));
    assert_eq!(summary.errors(), 0);
}

/// Both prices together exceed the total limit.
#[tokio::test]
async fn a_rejection_frees_the_budget_and_permits_an_order_at_another_price() {
    for (price, reason) in [(10_158, "above price limit"), (9_503, "price changed")] {
        let market = OtherServer::start().await;
        let bot = OtherBot::new(&market, 15_000);
        let summary = bot
            .run(&market, async |sniper| {
                market.set_price(7, price);
                market.send(&message(&[record(Kind::Listed, 7, 10_157, REDLINE)]));
                wait_for_stats(sniper, |stats| stats.rejected == 1).await;
                // Both orders together exceed the limit on approvals that was on disk before.
                until(|| sniper.with_engine(|engine| engine.ledger().is_limit_durable())).await;
                market.reprice(7, 9_503);
                wait_for_stats(sniper, |stats| stats.bought == 1).await;
            })
            .await;
        assert_eq!(arrived(&market), [limit(7, 10_157), limit(7, 9_503)]);
        assert_eq!(market.sales(), [(7, 9_503)]);
        // A market rejects an own id that it has seen.
        let orders = market.orders();
        assert_ne!(orders[0]["own_id"], orders[1]["own_id"]);
        let expected =
            [order(7, 10_157, OrderState::Rejected), order(7, 9_503, OrderState::Bought)];
        assert_eq!(bot.ledger(), expected);
        assert_eq!(summary.stats.rejections.into_iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert_eq!(summary.orders.spent, thousandths(9_503));
        assert!(summary.halts.is_empty(), "{:?}", summary.halts);
    }
}

#[tokio::test]
async fn an_unknown_order_blocks_its_id_until_the_purchases_settle_it() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 100_000);
    let summary = bot
        .run(&market, async |sniper| {
            market.hide_orders();
            market.cut_next_response();
            market.list(7, 10_157);
            wait_for_stats(sniper, |stats| stats.unknown == 1).await;
            market.send(&message(&[record(Kind::Repriced, 7, 9_503, REDLINE)]));
            wait_for_stats(sniper, |stats| stats.matched == 2).await;
            let states = sniper.with_engine(|engine| {
                let orders = engine.ledger().state().intents();
                orders.iter().map(|order| order.state).collect::<Vec<_>>()
            });
            assert_eq!(states, [OrderState::Unknown]);
            wait_for_stats(sniper, |stats| stats.resolved_bought == 1).await;
        })
        .await;
    assert_eq!(arrived(&market), [limit(7, 10_157)]);
    let skips = ["order_pending", "already_requested"].map(|reason| skipped(&summary, reason));
    assert_eq!(skips.iter().sum::<u64>(), 1, "{skips:?}");
    assert_eq!(bot.ledger(), [order(7, 10_157, OrderState::Bought)]);
    assert_eq!(summary.orders.spent, thousandths(10_157));
    assert!(summary.halts.is_empty(), "{:?}", summary.halts);
}

#[tokio::test]
async fn an_unmatched_or_malformed_event_changes_nothing() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 100_000);
    let summary = bot
        .run(&market, async |sniper| {
            market.set_price(7, 5_000);
            let matching = record(Kind::Listed, 7, 5_000, REDLINE);
            market.send(&message(&[
                record(Kind::Listed, 8, 5_000, CASE),
                record(Kind::Listed, 9, 10_158, REDLINE),
                record(Kind::Removed, 10, 0, REDLINE),
                record(Kind::Future, 11, 5_000, REDLINE),
            ]));
            // Nothing of a message with an incomplete record is delivered.
            market.send(&message(&[matching, vec![1, 2, 3]]));
            market.list(12, 4_001);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_eq!(arrived(&market), [limit(12, 4_001)]);
    assert_eq!(bot.ledger(), [order(12, 4_001, OrderState::Bought)]);
    assert_eq!((summary.stats.listings, summary.stats.matched), (3, 1));
    // The unknown kind and the incomplete message, which do not end the connection.
    assert_eq!((summary.feed.unreadable, summary.feed.reconnects), (2, 0));
}

/// The list of purchases shows neither order. The second run looks up the own id of the first run.
#[tokio::test]
async fn an_unknown_order_is_looked_up_by_its_own_id_also_after_a_restart() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 100_000);
    market.hide_purchases();
    let own_id = |number: usize| market.orders()[number]["own_id"].clone();
    let summary = bot
        .run(&market, async |sniper| {
            market.cut_next_response();
            market.list(7, 10_157);
            wait_for_stats(sniper, |stats| stats.resolved_bought == 1).await;
            market.lose_next_order();
            market.list(8, 9_503);
            until(|| market.orders().len() == 2 && 2 <= market.look_ups(&own_id(1))).await;
        })
        .await;
    assert_eq!((summary.stats.unknown, summary.stats.resolved_not_bought), (2, 0));
    let first = order(7, 10_157, OrderState::Bought);
    assert_eq!(bot.ledger(), [first.clone(), order(8, 9_503, OrderState::Unknown)]);
    assert_ne!(own_id(0), own_id(1));
    assert_eq!(market.look_ups(&own_id(0)), 1);

    let before = market.look_ups(&own_id(1));
    let summary = bot
        .run(&market, async |sniper| {
            until(|| before < market.look_ups(&own_id(1))).await;
            assert_eq!(sniper.with_engine(|engine| engine.stats().resolved_bought), 0);
            market.execute_late(&market.orders()[1]);
            wait_for_stats(sniper, |stats| stats.resolved_bought == 1).await;
        })
        .await;
    assert_eq!(bot.ledger(), [first, order(8, 9_503, OrderState::Bought)]);
    assert_eq!(arrived(&market), [limit(7, 10_157), limit(8, 9_503)]);
    assert_eq!(market.look_ups(&own_id(0)), 1, "only unknown orders are looked up");
    assert!(summary.halts.is_empty(), "{:?}", summary.halts);
}

#[tokio::test]
async fn balance_and_purchases_are_read_before_the_first_look_up() {
    let market = OtherServer::start().await;
    let Config { endpoints, credential, .. } = OtherBot::new(&market, 100_000).config;
    let tls = Tls::new().unwrap();
    let reader =
        AccountReader::new(OtherMarket, &endpoints.http, credential.as_ref(), &tls).unwrap();
    let requests = RefreshRequests::new(true);
    let unknown = [7, 8].map(|number| {
        let key = KeyedBy::Id.key(TradeId::from_number(number.into()), None);
        (key, StartId::from_bits([1; 16]).order_id(number))
    });
    assert!(requests.set_looked_up_orders(unknown.into_iter(), std::iter::empty()));
    let (updates, mut received) = mpsc::channel(16);
    let read = async {
        tokio::join!(
            poll_account(&reader, PollConfig::default(), &requests, &updates),
            look_up_orders(&reader, &requests, &updates),
        );
    };
    let wait = async {
        for _ in 0..4 {
            received.recv().await.unwrap();
        }
        drop(received);
    };
    tokio::join!(read, wait);
    assert_eq!(market.reads()[..4], ["/v1/balance", "/v1/purchases", "/v1/order", "/v1/order"]);
}

#[tokio::test]
async fn a_read_that_the_market_does_not_offer_fails_as_such_without_a_request() {
    let market = OtherServer::start().await;
    let Config { endpoints, credential, .. } = OtherBot::new(&market, 100_000).config;
    let tls = Tls::new().unwrap();
    let reader =
        AccountReader::new(OtherMarket, &endpoints.http, credential.as_ref(), &tls).unwrap();
    assert!(!reader.has_open_listings());
    // The server would respond with 404.
    let failure = reader.listings(AccountQuery::OpenListings { after: None }).await.unwrap_err();
    assert!(matches!(failure, ReadFailure::Query(AccountQueryError::Unsupported)), "{failure}");
    assert_eq!(failure.to_string(), "the market does not offer this read");
}
