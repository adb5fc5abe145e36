//! `sniper demo`: the practice market and the real bot in one process, over real sockets.
//!
//! Nothing of the user's is read or written: the settings are made for the occasion, and what the
//! bot writes is thrown away. The market runs on a thread of its own, so the bot is what it is
//! elsewhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::{debug, info};

use super::AppError;
use crate::{
    cli::DemoArgs,
    clock,
    config::{Config, Loaded, Sources},
    sim::{self, SimServer},
    summary::{SimulatedMarketCounts, Summary},
};

/// A practice market that is open, and settings for it.
pub struct Demo {
    market: SimServer,
    loaded: Loaded,
    _directory: TempDir,
}

impl Demo {
    /// Opens a market and makes settings for it.
    ///
    /// # Errors
    ///
    /// An [`AppError`] if the market cannot be opened or the settings cannot be written.
    pub fn open(args: &DemoArgs) -> Result<Self, AppError> {
        let settings =
            sim::SimSettings { rate: args.rate, seed: args.seed, ..sim::SimSettings::default() };
        let market = SimServer::start(settings)?;
        let directory = TempDir::new().map_err(|error| AppError::Start {
            what: "the demo: its throw-away folder cannot be made",
            source: error.into(),
        })?;
        let loaded = load(&market, &directory.0)?;
        Ok(Self { market, loaded, _directory: directory })
    }

    /// The settings.
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// What a newcomer should know before it begins.
    pub fn announce(&self) {
        info!(
            "This is a practice market on this machine, with play money. Nothing real is bought."
        );
        info!(
            "Listings come as they do on the real market, rivals want them too, and the bot buys"
        );
        info!("what its whitelist wants. The bot is the real one; only the market is made up.");
    }

    /// Closes the market, and adds what it says itself to the summary.
    pub fn close(self, summary: Summary) -> Summary {
        let books = self.market.books();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let market = SimulatedMarketCounts {
            offered: books.offered,
            wanted: books.wanted,
            sold_to_us: count(books.purchases().count()),
            spent: books.spent(),
            balance: books.balance,
            asked_twice: count(books.doubled().count()),
            cold: count(books.cold().count()),
        };
        Summary { mode: "demo", market: Some(market), ..summary }
    }
}

/// The settings of a demo: those of a user who has filled everything in.
fn load(market: &SimServer, directory: &Path) -> Result<Loaded, AppError> {
    let (ws_url, http_url, session) = (market.ws_url(), market.http_url(), market.session());
    let lookup = |name: &str| match name {
        "CSGOROLL_WS_URL" => Some(ws_url.clone()),
        "CSGOROLL_HTTP_URL" => Some(http_url.clone()),
        "CSGOROLL_SESSION" => Some(session.clone()),
        "RUST_LOG" => std::env::var(name).ok(),
        "XDG_STATE_HOME" => directory.to_str().map(str::to_owned),
        _ => None,
    };
    let sources = Sources { lookup: &lookup, directory, config_file: None, live: true };
    Config::load(&sources).map_err(|problems| AppError::Settings(Box::new(problems)))
}

/// A folder that is gone when it is dropped.
#[derive(Debug)]
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> io::Result<Self> {
        let name = format!("sniper-demo-{}-{}", std::process::id(), clock::now_ns());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        let directory = Self(path);
        fs::write(directory.0.join("sniper.toml"), sim::demo::WHITELIST)?;
        Ok(directory)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            debug!(%error, "the demo's throw-away folder stays behind");
        }
    }
}
