//! `[feed] server_filters`: what the site leaves out, and what it must not.

#![expect(clippy::unwrap_used, reason = "what goes wrong in a test should stop it")]

use std::{sync::Arc, time::Duration};

use sniper::{
    config::{Config, Credential, Endpoints, Generation, Sources},
    domain::money::Amount,
    domain::trade::TradeEvent,
    sim::{Rate, SimServer, SimSettings, demo::WHITELIST},
    whitelist::Decision,
    ws,
};
use tokio::sync::Notify;

/// How long a slow machine may take for twenty wanted listings.
const DEADLINE: Duration = Duration::from_secs(60);

/// Settings for a market, made as a person makes them.
fn config(market: &SimServer, directory: &tempfile::TempDir) -> Config {
    let text = format!("[feed]\nserver_filters = true\n{WHITELIST}");
    std::fs::write(directory.path().join("sniper.toml"), text).unwrap();
    let sources = Sources {
        lookup: &|_name| None,
        directory: directory.path(),
        config_file: None,
        live: false,
    };
    let loaded = Config::load(&sources).unwrap();
    Config {
        endpoints: Endpoints::new(&market.ws_url(), &market.http_url()).unwrap(),
        credential: Some(Credential::from_session(&market.session()).unwrap()),
        ..loaded.config
    }
}

#[tokio::test]
async fn the_site_leaves_out_what_no_entry_can_want_and_nothing_else() {
    let settings = SimSettings { rate: Rate::per_second(400), ..SimSettings::default() };
    let market = SimServer::start(settings).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let config = config(&market, &directory);
    assert!(config.feed.server_filters && config.feed.generation == Generation::B);
    let dearest = config.whitelist.entries().iter().map(|entry| entry.max_price).max().unwrap();
    let wanted = Arc::clone(&config.whitelist);
    let (mut seen, mut fitting) = (0_u64, 0_u64);
    let enough = Notify::new();
    let listen = ws::run_with_reconnect(&config, |trade| {
        // What becomes of listings is told of all of them.
        if trade.event != TradeEvent::Listed {
            return;
        }
        seen += 1;
        assert!(trade.total_value.is_none_or(|price| Amount::ZERO < price && price <= dearest));
        if let Decision::Wanted(_) = wanted.decide(&trade) {
            fitting += 1;
        }
        if fitting == 20 {
            enough.notify_one();
        }
    });
    tokio::select! {
        gave_up = listen => panic!("{gave_up}"),
        came = tokio::time::timeout(DEADLINE, enough.notified()) => came.unwrap(),
    }
    let books = market.books();
    assert!(seen < books.offered, "{seen} of {} came", books.offered);
}
