//! Prints the market's listings, one line each, with a closure on the feed.
//!
//! `cargo run --example feed -- wss://router.csgoroll.com/ws` reads the real feed as a guest.
//! Without an address it connects to a `sniper sim` in another terminal.

use std::{env, error::Error, io::Write as _};

use sniper::{
    config::{Config, Endpoints},
    markets::csgoroll::Csgoroll,
    text::Escaped,
    ws::{self, Feed},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:8099/ws".to_owned());
    let endpoints = Endpoints::new(&address, "http://127.0.0.1:8099/graphql")?;
    let config = Config::new(endpoints, "data");
    let feed = Feed::new(Csgoroll::new(&config), config);
    let mut out = std::io::stdout().lock();
    let error = ws::run_with_reconnect(&feed, |trade| {
        let price = trade.total_value.map_or_else(|| "?".to_owned(), |price| price.to_string());
        // A closed pipe does not end the feed.
        let _written = writeln!(out, "{price:>10}  {}", Escaped(&trade.market_name)).is_ok();
    })
    .await;
    Err(error.into())
}
