//! `[feed] server_filters`: the server omits only listings that no entry can match.

#![expect(clippy::unwrap_used, reason = "an error fails the test")]

use crate::feed::feed_of;
use std::time::Duration;

use sniper::{
    config::{Config, Credential, Endpoints, Generation, Sources},
    domain::money::Amount,
    domain::trade::TradeEvent,
    sim::{Rate, SimServer, SimSettings, demo::WHITELIST},
    whitelist::{Decision, Whitelist},
    ws,
};
use tokio::sync::Notify;

/// Maximum time for twenty matching listings on a slow machine.
const DEADLINE: Duration = Duration::from_secs(60);

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
