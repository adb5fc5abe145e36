//! Configuration: secrets and addresses from `.env`, everything else from `sniper.toml`.
//!
//! The configuration is read once, before anything else starts. All errors are reported together,
//! each with its location and a fix; the process environment is never changed. A [`Config`] that
//! was loaded is valid.

pub mod alerts;
pub mod credential;
pub mod dashboard;
pub(crate) mod document;
mod dotenv;
pub mod endpoint;
pub mod environment;
pub mod first_secrets;
pub mod first_settings;
pub mod in_force;
pub mod load;
pub mod market;
pub mod pasted_cookie;
pub mod prices;
pub mod problem;
pub mod reconnection;
pub mod settings;
pub mod shared;
pub mod whitelist_edit;
pub mod trade_url;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use self::credential::{Credential, CredentialSource};
use self::endpoint::{Endpoint, EndpointError, Scheme};
use self::reconnection::ReconnectPolicy;
pub use self::{
    alerts::AlertsConfig,
    dashboard::DashboardConfig,
    load::{Loaded, Sources},
    market::Market,
    prices::PricesConfig,
    problem::{ConfigErrors, Problem, SourceLocation},
    shared::SharedConfig,
    trade_url::TradeUrl,
};
use crate::domain::{money::Amount, whitelist_entry::WhitelistEntry};

/// Maximum number of parallel feed connections.
pub const CONNECTIONS_MAX: usize = 4;

/// Number of parallel feed connections for the setting `"auto"`: the second one covers a loss of
/// the first without a gap, and shows if the first is slow.
pub const CONNECTIONS_AUTO: usize = 2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Sends no orders: nothing that could send one is constructed. The default.
    #[default]
    Dry,
    /// Sends orders, which cost real money.
    Live,
}

impl Mode {
    /// Returns the name in JSON and in the report of `sniper doctor`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dry => "dry",
            Self::Live => "live",
        }
    }
}

/// Version of the listing subscription.
///
/// Source: recordings of 2023–2025 (A), client code of 2026 (B).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// `createTrade`: one listing per event.
    A,
    /// `createTrades`: a batch of listings per event.
    #[default]
    B,
}

/// Addresses of the market, and the headers that identify this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Address of the WebSocket feed.
    pub ws: Endpoint,
    /// Address for account reads and orders.
    pub http: Endpoint,
    /// `Origin` header of both endpoints, and `Referer` of HTTP requests, on a market without an
    /// official API. The others have no such headers.
    pub origin: String,
    /// `User-Agent` header of both endpoints.
    pub user_agent: String,
}

/// Limits on the orders that the bot may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Maximum price of one order.
    pub max_price: Amount,
    /// Maximum total exposure: reserved, spent and unknown orders together.
    pub total: Amount,
    /// Balance that no order may undercut.
    pub min_balance: Amount,
    /// Maximum number of orders in any 60 seconds.
    pub max_buys_per_minute: u32,
    /// Maximum spending in any hour; `None` means no limit.
    pub per_hour: Option<Amount>,
    /// Maximum spending in any 24 hours; `None` means no limit.
    pub per_day: Option<Amount>,
    /// Maximum number of orders in flight.
    pub max_in_flight: u32,
}

/// Settings of orders other than limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrdersConfig {
    /// Maximum time that a listing waits while it cannot be ordered for a moment.
    pub max_wait: Duration,
}

/// Same values as in `sniper.example.toml`.
impl Default for OrdersConfig {
    fn default() -> Self {
        Self { max_wait: Duration::from_secs(5) }
    }
}

/// Settings of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedConfig {
    pub generation: Generation,
    /// Number of parallel connections, 1 to 4. The first copy of a listing is used.
    pub connections: usize,
    /// Age before which each connection is replaced.
    pub max_age: Duration,
    /// Reads the open listings at startup.
    pub sweep_at_start: bool,
    /// Lets the market filter out listings that no whitelist entry can match. Generation B only.
    pub server_filters: bool,
}

/// Same values as in `sniper.example.toml`.
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

/// Interval at which a live bot runs the code of an order without side effects, to keep it in the
/// CPU caches. The runtime's timers have a resolution of one millisecond.
pub const CACHE_WARMING_INTERVAL: Duration = Duration::from_millis(1);

/// Settings that trade resources for latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeedConfig {
    /// Keeps the code of an order in the CPU caches, which takes about 4 % of a core.
    pub cache_warming: bool,
    /// Dedicates a core to the feed, which polls its sockets without sleeping.
    pub spin: bool,
    /// CPU to which the feed's thread is bound.
    pub pin_cpu: Option<u32>,
}

impl Default for SpeedConfig {
    fn default() -> Self {
        Self { cache_warming: true, spin: false, pin_cpu: None }
    }
}

/// Validated configuration of a session. Plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub mode: Mode,
    pub market: Market,
    pub endpoints: Endpoints,
    /// Credential of the account; `None` only in dry mode.
    pub credential: Option<Credential>,
    /// Steam account that receives the items, where the market's orders name it; `None` only in dry
    /// mode.
    pub trade_url: Option<TradeUrl>,
    /// Number of the account, for a feed of its own purchases; decimal digits.
    pub account_id: Option<String>,
    /// Directory for everything that the bot writes.
    pub data_dir: PathBuf,
    /// Directory for records that survive the loss of `data_dir`; `None` if there is none.
    pub state_dir: Option<PathBuf>,
    pub budget: Budget,
    pub orders: OrdersConfig,
    pub feed: FeedConfig,
    pub speed: SpeedConfig,
    /// Items to buy. If empty, every listing is logged and none matches.
    pub whitelist: Arc<[WhitelistEntry]>,
    /// Sources of reference prices.
    pub prices: PricesConfig,
    pub alerts: AlertsConfig,
    pub dashboard: DashboardConfig,
    /// Budget that is shared with other bots; `None` if there is none.
    pub shared: Option<SharedConfig>,
    /// Reconnection policy of the feed.
    pub reconnection: ReconnectPolicy,
    /// Source of a new credential after the market rejected the old one.
    pub credential_source: Option<CredentialSource>,
    /// Root certificate in DER that is trusted besides Mozilla's. No setting sets it; a simulated
    /// market or a test does.
    pub trusted_root: Option<Vec<u8>>,
}

/// Default `Origin` header (source: recordings).
pub const ORIGIN: &str = "https://www.csgoroll.com";
/// Default `User-Agent` header: name and version of this program.
pub const USER_AGENT: &str = concat!("sniper/", env!("CARGO_PKG_VERSION"));

impl Endpoints {
    /// Parses the two addresses and uses the default origin and user agent.
    ///
    /// # Errors
    ///
    /// Returns the [`EndpointError`] of the first invalid address.
    pub fn new(ws: &str, http: &str) -> Result<Self, EndpointError> {
        Ok(Self {
            ws: Endpoint::parse(ws, Scheme::WebSocket)?,
            http: Endpoint::parse(http, Scheme::Http)?,
            origin: ORIGIN.to_owned(),
            user_agent: USER_AGENT.to_owned(),
        })
    }
}

/// Same values as in `sniper.example.toml`.
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
    /// Returns `true` if the code of an order is kept in the CPU caches. A dry run sends no order.
    pub fn warms_caches(&self) -> bool {
        self.mode == Mode::Live && self.speed.cache_warming
    }

    /// Creates the default configuration of a dry run: no credential, empty whitelist. Tests and
    /// the simulator change the fields that they need.
    pub fn new(endpoints: Endpoints, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            mode: Mode::default(),
            market: Market::default(),
            endpoints,
            credential: None,
            trade_url: None,
            account_id: None,
            data_dir: data_dir.into(),
            state_dir: None,
            budget: Budget::default(),
            orders: OrdersConfig::default(),
            feed: FeedConfig::default(),
            speed: SpeedConfig::default(),
            whitelist: Arc::new([]),
            prices: PricesConfig::default(),
            alerts: AlertsConfig::default(),
            dashboard: DashboardConfig::default(),
            shared: None,
            reconnection: ReconnectPolicy::default(),
            credential_source: None,
            trusted_root: None,
        }
    }
}
