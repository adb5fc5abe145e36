//! The marketplace's own feed, recorded from the practice market.

use std::sync::Arc;

use sniper::{
    capture::source::CaptureSource,
    config::{Config, Credential, Endpoints},
    sim::{Market, Rate, Settings},
};
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn the_marketplace_is_recorded_without_wallet_and_without_the_credential() {
    let settings = Settings { rate: Rate::per_second(50), ..Settings::default() };
    let market = Market::start(settings).unwrap();
    let endpoints = Endpoints::new(&market.ws_url(), &market.http_url()).unwrap();
    let directory = TempDir::new().unwrap();
    let config = Config {
        credential: Some(Credential::from_session(&market.session()).unwrap()),
        ..Config::new(endpoints, "unused")
    };
    let taps = Arc::clone(&config.taps);
    let plan = Plan {
        marketplace: Some(config),
        ..plan(vec![CaptureSource::marketplace()], quick(), &directory)
    };
    let outcome =
        until(plan, &directory, |manifest| manifest["sources"][0]["messages"].as_u64() > Some(20))
            .await;
    assert!(outcome.is_complete);
    let raws = raws(&outcome.directory);
    assert!(raws.iter().any(|raw| raw.contains("createTrades")), "{raws:?}");
    assert!(raws.iter().all(|raw| !raw.contains("updateWallet")), "{raws:?}");
    assert!(outcome.directory.join("CSGOROLL/listings.jsonl").is_file());
    let everything = fs::read_to_string(outcome.directory.join("CSGOROLL/listings.jsonl")).unwrap()
        + &fs::read_to_string(outcome.directory.join(MANIFEST_FILE)).unwrap();
    assert!(!everything.contains(&market.session()), "the credential was recorded");
    drop(taps);
}
