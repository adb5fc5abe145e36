//! `[feed] server_filters`: the server omits only listings that no entry can match.

#![expect(clippy::unwrap_used, reason = "an error fails the test")]

use crate::feed::feed_of;
use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use sniper::{
    config::{Config, Credential, Endpoints, Generation, Sources},
    domain::money::Amount,
    domain::{trade::TradeEvent, whitelist_entry::WhitelistEntry},
    sim::{ListedItem, Rate, SimServer, SimSettings, demo::WHITELIST},
    whitelist::{Decision, Whitelist},
    ws,
};
use tokio::sync::Notify;

/// Maximum time for twenty matching listings on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Interval between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(20);

/// Loads settings for this market from a file.
fn config(market: &SimServer, directory: &tempfile::TempDir) -> Config {
    let text = format!("[feed]\nserver_filters = true\n{WHITELIST}");
    std::fs::write(directory.path().join("sniper.toml"), text).unwrap();
    let sources = Sources {
        lookup: &|_name| None,
        directory: directory.path(),
        config_file: None,
        live: false,
        decimals: |_market| sniper::markets::csgoroll::DECIMALS,
    };
    let loaded = Config::load(&sources).unwrap();
    Config {
        endpoints: Endpoints::new(&market.ws_url(), &market.http_url()).unwrap(),
        credential: Some(Credential::from_session(&market.session()).unwrap()),
        ..loaded.config
    }
}

#[tokio::test]
async fn server_filters_omit_only_listings_that_no_entry_can_match() {
    let settings = SimSettings { rate: Rate::per_second(400), ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = config(&market, &directory);
    assert!(config.feed.server_filters && config.feed.generation == Generation::B);
    let dearest = config.whitelist.iter().map(|entry| entry.max_price).max().unwrap();
    let wanted = Whitelist::new(config.whitelist.to_vec());
    let feed = feed_of(config);
    let (mut seen, mut matched) = (0_u64, 0_u64);
    let enough = Notify::new();
    let listen = ws::run_with_reconnect(&feed, |trade| {
        // Updates are sent for all listings, filtered or not.
        if trade.event != TradeEvent::Listed {
            return;
        }
        seen += 1;
        assert!(trade.total_value.is_none_or(|price| Amount::ZERO < price && price <= dearest));
        if let Decision::Matched(_) = wanted.decide(&trade) {
            matched += 1;
        }
        if matched == 20 {
            enough.notify_one();
        }
    });
    tokio::select! {
        gave_up = listen => panic!("{gave_up}"),
        reached = tokio::time::timeout(DEADLINE, enough.notified()) => reached.unwrap(),
    }
    let history = market.history();
    assert!(seen < history.listed, "{seen} of {} were received", history.listed);
}

#[tokio::test]
async fn a_new_whitelist_renews_the_filters_without_a_gap() {
    let market =
        SimServer::start(SimSettings { rate: Rate::NONE, ..SimSettings::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(&market, &directory);
    let limited = |cents: i64| {
        let max_price = Amount::from_cents(cents);
        let entries =
            config.whitelist.iter().map(|entry| WhitelistEntry { max_price, ..entry.clone() });
        entries.collect::<Vec<_>>()
    };
    let (first, second) = (limited(2_000), limited(5_000));
    config.whitelist = first.clone().into();
    let feed = feed_of(config);
    let renew = feed.renewal();
    assert!(!renew(&second) && !renew(&first), "nothing is to be renewed before the feed runs");
    let seen = RefCell::new(Vec::new());
    let listen = ws::run_with_reconnect(&feed, |trade| {
        if trade.event == TradeEvent::Listed {
            seen.borrow_mut().push((trade.id.to_string(), trade.total_value.unwrap()));
        }
    });
    let list = |cents: i64| {
        let price = Amount::from_cents(cents);
        let items = vec![ListedItem::plain("AK-47 | Redline (Field-Tested)", price, price)];
        market.list_items(items).remove(0)
    };
    let expensive = || seen.borrow().iter().any(|(_, price)| Amount::from_cents(2_000) < *price);
    let script = async {
        let mut cheap = Vec::new();
        while market.stats().feeds_subscribed == 0 {
            tokio::time::sleep(PAUSE).await;
        }
        list(3_000);
        cheap.push(list(1_000));
        while seen.borrow().is_empty() {
            tokio::time::sleep(PAUSE).await;
        }
        assert!(!expensive(), "the market filters by the first whitelist");
        assert!(!renew(&first), "the same filters");
        assert!(renew(&second));
        while !expensive() {
            cheap.push(list(1_000));
            list(3_000);
            tokio::time::sleep(PAUSE).await;
        }
        let is_complete = || {
            let seen = seen.borrow();
            cheap.iter().all(|id| seen.iter().filter(|(found, _)| found == id).count() == 1)
        };
        while !is_complete() {
            tokio::time::sleep(PAUSE).await;
        }
        assert_eq!(feed.metrics.downtime(Instant::now()).gaps, 0);
    };
    tokio::select! {
        gave_up = listen => panic!("{gave_up}"),
        done = tokio::time::timeout(DEADLINE, script) => done.unwrap(),
    }
}
