//! `sniper demo`: runs the simulator and the real bot in one process, over real sockets.
//!
//! The demo uses generated settings and a temporary data folder, so it neither reads nor writes
//! files of the user. The simulator runs on its own thread, so that the bot runs as in a real
//! session.

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
    markets::csgoroll,
    sim::{self, SimServer},
    summary::{SimulatedMarketCounts, Summary},
};

/// A running simulator, and the settings to connect to it.
pub struct Demo {
    market: SimServer,
    loaded: Loaded,
    _directory: TempDir,
}

impl Demo {
    /// Starts the simulator and generates settings for it.
    ///
    /// # Errors
    ///
    /// Returns an [`AppError`] if the simulator cannot start or the settings cannot be written.
    pub fn open(args: &DemoArgs) -> Result<Self, AppError> {
        let settings =
            sim::SimSettings { rate: args.rate, seed: args.seed, ..sim::SimSettings::default() };
        let market = SimServer::start(settings)?;
        let directory = TempDir::new().map_err(|error| AppError::Start {
            what: "the demo: its temporary folder cannot be created",
            source: error.into(),
        })?;
        let loaded = load(&market, &directory.0)?;
        Ok(Self { market, loaded, _directory: directory })
    }

    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Logs an introduction for new users.
    pub fn announce(&self) {
        info!("DEMO: a simulated market on this machine, with play money. Nothing real is bought.");
        info!("The bot is the real one. It buys the items on the demo whitelist; simulated rivals");
        info!("buy them too.");
    }

    /// Stops the simulator and adds its counts to the summary.
    pub fn close(self, summary: Summary) -> Summary {
        let books = self.market.books();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let market = SimulatedMarketCounts {
            offered: books.listed,
            wanted: books.wanted,
            sold_to_us: count(books.purchases().count()),
            spent: books.spent(),
            balance: books.balance,
            asked_twice: count(books.ordered_twice().count()),
            cold: count(books.cold_requests().count()),
        };
        Summary { mode: "demo", market: Some(market), ..summary }
    }
}

/// Loads the generated settings, which are complete for a live run.
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
    let sources = Sources {
        lookup: &lookup,
        directory,
        config_file: None,
        live: true,
        decimals: csgoroll::DECIMALS,
    };
    Config::load(&sources).map_err(|problems| AppError::Settings(Box::new(problems)))
}

/// Temporary folder, removed on drop.
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
            debug!(%error, "cannot remove the temporary folder of the demo");
        }
    }
}
