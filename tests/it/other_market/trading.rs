//! Live sessions on the other marketplace, assembled as `main.rs` does, with a ledger on disk.

use std::{sync::Arc, time::Duration};

use sniper::{
    commands::session::{SessionEnd, TradingSession},
    config::{Budget, Config, Credential, Endpoints, Mode},
    domain::{
        money::Amount, outcome::Outcome, own_order_id::OwnOrderIds, time::UnixMs, trade::TradeId,
    },
    execution::{ConnectionConfig, OrderClient, OrderClientConfig},
    ledger::{Ledger, OrderRequest, OrderState, reader::LedgerReader},
    markets::MarketApi as _,
    net::tls::Tls,
    shutdown::{Shutdown, ShutdownReason},
    sniper::Sniper,
    summary::Summary,
    whitelist::{ItemPattern, WearSet, WhitelistEntry},
    ws::{self, Feed, policy::ReconnectPolicy},
};
use tempfile::TempDir;

use super::{
    OtherMarket,
    server::{CASE, KEY, Kind, OtherServer, REDLINE, message, record},
};
use crate::{
    feed::quick,
    session::{harness::WAIT_MAX, is_reconciled, skipped, until, wait_for_stats},
};

const fn thousandths(thousandths: i64) -> Amount {
    Amount::from_thousandths(thousandths)
}

fn redline() -> WhitelistEntry {
    WhitelistEntry {
        name: Some("redline".to_owned()),
        item: ItemPattern::Named("AK-47 | Redline".to_owned()),
        wears: WearSet::ANY,
        stattrak: false,
        souvenir: false,
        float_min: None,
        float_max: None,
        min_price: Amount::ZERO,
        max_price: thousandths(10_157),
        max_markup: None,
        max_quantity: 10,
        max_total: None,
        max_age: None,
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
            credential: Some(Credential::from_session(KEY).unwrap()),
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
        let mut session = TradingSession::start(&feed, backfill).unwrap();
        session.announce();
        let sniper = session.sniper();
        let scenario = async {
            until(|| is_reconciled(&sniper) && market.has_subscriber()).await;
            scenario(&sniper).await;
        };
        let ended = tokio::select! {
            biased;
            gave_up = ws::run_with_reconnect(&feed, |trade| sniper.consider(trade)) => SessionEnd::GaveUp(gave_up),
            ended = session.run(&mut shutdown) => ended,
            () = scenario => SessionEnd::Stopped(ShutdownReason::TimeLimit(Duration::ZERO)),
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
async fn a_refusal_frees_the_budget_and_permits_an_order_at_another_price() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 15_000);
    let summary = bot
        .run(&market, async |sniper| {
            let listed = record(Kind::Listed, 7, 10_157, REDLINE);
            market.set_price(7, 10_158);
            market.send(&message(&[listed]));
            wait_for_stats(sniper, |stats| stats.rejected == 1).await;
            market.reprice(7, 9_503);
            wait_for_stats(sniper, |stats| stats.bought == 1).await;
        })
        .await;
    assert_eq!(arrived(&market), [limit(7, 10_157), limit(7, 9_503)]);
    assert_eq!(market.sales(), [(7, 9_503)]);
    let expected = [order(7, 10_157, OrderState::Rejected), order(7, 9_503, OrderState::Bought)];
    assert_eq!(bot.ledger(), expected);
    assert_eq!(summary.orders.spent, thousandths(9_503));
    assert!(summary.halts.is_empty(), "{:?}", summary.halts);
}

#[tokio::test]
async fn an_unknown_order_blocks_its_id_until_the_purchases_settle_it() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 100_000);
    let summary = bot
        .run(&market, async |sniper| {
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
    assert_eq!(skipped(&summary, "already_requested"), 1);
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

#[tokio::test]
async fn an_order_carries_its_own_id_if_the_client_has_own_ids() {
    let market = OtherServer::start().await;
    let bot = OtherBot::new(&market, 100_000);
    let (price, own_ids) = (thousandths(10_157), OwnOrderIds::new("00ffee1122334455"));
    market.set_price(7, 10_157);
    let credential = bot.config.credential.as_ref();
    let setup = OrderClientConfig {
        endpoint: &bot.config.endpoints.http,
        order: &OtherMarket::authenticated(credential, OtherMarket.order_template()),
        keep_warm: &OtherMarket::authenticated(credential, OtherMarket.keep_warm_request()),
        own_ids: Some(own_ids),
        tls: Tls::new().unwrap(),
        connections: 1,
        connection_config: ConnectionConfig::default(),
    };
    let (client, mut reports) = OrderClient::start(&OtherMarket, setup).unwrap();
    assert!(client.warm(1, WAIT_MAX).await);
    let mut ledger = Ledger::in_memory(bot.config.budget.clone(), &[redline()], false);
    let keyed_by = OtherMarket::CAPABILITIES.keyed_by;
    let id = TradeId::from_number(7);
    let request = OrderRequest { id, keyed_by, price, entry: 0, created_at: None };
    let approved = ledger.reserve(request, UnixMs(0)).unwrap();
    let own_id = own_ids.id(approved.sequence().0).to_string();
    client.send(approved).unwrap();
    let report = tokio::time::timeout(WAIT_MAX, reports.recv()).await.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Bought { price: Some(price), server_time: None });
    let orders = market.orders();
    assert_eq!(arrived(&market), [limit(7, 10_157)]);
    assert_eq!(orders[0]["own_id"], own_id);
}
