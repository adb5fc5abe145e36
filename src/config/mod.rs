//! What a person has set: secrets and addresses from `.env`, policy from `sniper.toml`.
//!
//! The configuration is read once, before anything else starts. Every mistake is reported in one
//! go, with its place and what to write instead; nothing here changes the process environment.
//! [`Config`] is checked: whoever holds one need not look at its parts again.

pub mod check;
pub mod credential;
mod document;
mod dotenv;
pub mod endpoint;
mod entries;
pub mod environment;
mod fields;
pub mod load;
pub mod policy;
pub mod problem;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use self::credential::{Credential, CredentialSource};
use self::endpoint::{Endpoint, EndpointError, Scheme};
pub use self::{
    load::{Loaded, Sources},
    problem::{ConfigErrors, Problem},
};
use crate::{
    domain::money::Amount,
    net::tls::Tls,
    whitelist::Whitelist,
    ws::{
        self, Backfill, BackfillSender, FeedMetrics, host_cooldown::Hosts, policy::ReconnectPolicy,
    },
};

/// Whether buys are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing that could send a buy is built. The default.
    #[default]
    Dry,
    /// Buys are sent, and cost money.
    Live,
}

/// Which generation of the listing subscription is asked for.
///
/// Source: recordings of 2023–2025 (A), client code of 2026 (B).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// `createTrade`: one listing an event.
    A,
    /// `createTrades`: a batch of listings an event.
    #[default]
    B,
}

/// Where the marketplace is, and who it should think is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The feed.
    pub ws: Endpoint,
    /// Reads and buys.
    pub http: Endpoint,
    /// The `Origin` header of both, and the `Referer` of HTTP.
    pub origin: String,
    /// The `User-Agent` header of both.
    pub user_agent: String,
}

/// What may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most that any one buy may cost.
    pub max_price: Amount,
    /// The most that may be reserved and spent in all.
    pub total: Amount,
    /// No buy may take the balance below it.
    pub min_balance: Amount,
    /// How many buys may be sent in any sixty seconds.
    pub max_buys_per_minute: u32,
    /// The most that may be spent in any hour; `None`: not limited by it.
    pub per_hour: Option<Amount>,
    /// The most that may be spent in any day; `None`: not limited by it.
    pub per_day: Option<Amount>,
    /// How many buys may be under way at once.
    pub max_in_flight: u32,
}

/// What is asked of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedConfig {
    /// Which listing subscription.
    pub generation: Generation,
    /// How many connections are kept up at once, the first copy of a listing winning; 1 to 4.
    pub connections: usize,
    /// Each connection is replaced before it is this old.
    pub max_age: Duration,
    /// Whether what is for sale already is read at start.
    pub sweep_at_start: bool,
    /// Whether the site is asked to leave out what no entry can want. Generation B only.
    pub server_filters: bool,
}

/// The values that `sniper.example.toml` shows.
impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            generation: Generation::default(),
            connections: 1,
            max_age: Duration::from_secs(3_000),
            sweep_at_start: false,
            server_filters: false,
        }
    }
}

/// What is given for speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeedConfig {
    /// A core is given to the feed: it is asked for news without ever sleeping.
    pub spin: bool,
}

/// Everything that is set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether buys are sent.
    pub mode: Mode,
    /// Where the marketplace is.
    pub endpoints: Endpoints,
    /// Who we are there; `None` only in dry mode.
    pub credential: Option<Credential>,
    /// Where the bot writes whatever it writes.
    pub data_dir: PathBuf,
    /// Where what outlives `data_dir` is noted; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
    /// What may be spent.
    pub budget: Budget,
    /// What is asked of the feed.
    pub feed: FeedConfig,
    /// What is given for speed.
    pub speed: SpeedConfig,
    /// What is wanted. Empty: every listing is shown and none is wanted.
    pub whitelist: Arc<Whitelist>,
    /// When the feed dials again.
    pub reconnection: ReconnectPolicy,
    /// Where a fresh credential comes from when the old one was refused; `None`: nowhere.
    pub credential_source: Option<CredentialSource>,
    /// How TLS is spoken; `None`: with Mozilla's roots.
    pub tls: Option<Tls>,
    /// What can be seen of the feed while it runs. Clones share it.
    pub taps: Arc<FeedMetrics>,
    /// Who reads what a gap has hidden; `None`: nobody.
    pub backfill: Option<Arc<Backfill>>,
    /// The hosts that this process has dialled, and whether they may be dialled now. Clones share
    /// it.
    pub hosts: Hosts,
}

/// Where the feed is unless said otherwise (source: client code of December 2025).
pub const WS_URL: &str = "wss://router.csgoroll.com/ws";
/// Where reads and buys go unless said otherwise (source: client code of December 2025).
pub const HTTP_URL: &str = "https://router.csgoroll.com/graphql";
/// The `Origin` unless said otherwise (source: recordings).
pub const ORIGIN: &str = "https://www.csgoroll.com";
/// The `User-Agent` unless said otherwise: this program, by its name.
pub const USER_AGENT: &str = concat!("sniper/", env!("CARGO_PKG_VERSION"));

impl Endpoints {
    /// A marketplace at these two addresses, with the usual origin and user agent.
    ///
    /// # Errors
    ///
    /// An [`EndpointError`] that says what is wrong with the first wrong address.
    pub fn new(ws: &str, http: &str) -> Result<Self, EndpointError> {
        Ok(Self {
            ws: Endpoint::parse(ws, Scheme::WebSocket)?,
            http: Endpoint::parse(http, Scheme::Http)?,
            origin: ORIGIN.to_owned(),
            user_agent: USER_AGENT.to_owned(),
        })
    }
}

/// The values that `sniper.example.toml` shows.
impl Default for Budget {
    fn default() -> Self {
        Self {
            max_price: Amount::from_cents(5_000),
            total: Amount::from_cents(20_000),
            min_balance: Amount::from_cents(500),
            max_buys_per_minute: 10,
            per_hour: None,
            per_day: None,
            max_in_flight: 8,
        }
    }
}

impl Config {
    /// Lets what a gap of the feed has hidden be handed in. Returns the end for whoever reads it.
    pub fn fill_gaps(&mut self) -> BackfillSender {
        let (backfill, filler) = ws::backfill();
        self.backfill = Some(Arc::new(backfill));
        filler
    }

    /// A dry run at this marketplace with every default: no credential, nothing wanted. For tests
    /// and for the practice market, which change the fields they need.
    pub fn new(endpoints: Endpoints, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            mode: Mode::default(),
            endpoints,
            credential: None,
            data_dir: data_dir.into(),
            state_dir: None,
            budget: Budget::default(),
            feed: FeedConfig::default(),
            speed: SpeedConfig::default(),
            whitelist: Arc::default(),
            reconnection: ReconnectPolicy::default(),
            credential_source: None,
            tls: None,
            taps: Arc::default(),
            backfill: None,
            hosts: Hosts::default(),
        }
    }
}
