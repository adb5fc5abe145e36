//! What a person has set: secrets and addresses from `.env`, policy from `sniper.toml`.
//!
//! The configuration is read once, before anything else starts. Every mistake is reported in one
//! go, with its place and what to write instead; nothing here changes the process environment.
//! [`Config`] is checked: whoever holds one need not look at its parts again.

pub mod endpoint;

use std::{path::PathBuf, sync::Arc};

use self::endpoint::Endpoint;
use crate::{money::Coins, secret::Secret, whitelist::Whitelist};

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
#[derive(Clone, Debug)]
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

/// The value of the `Cookie` header, checked to be one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential(pub Secret);

/// What may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most that any one buy may cost.
    pub max_price: Coins,
    /// The most that may be reserved and spent in all.
    pub total: Coins,
    /// No buy may take the balance below it.
    pub min_balance: Coins,
    /// How many buys may be sent in any sixty seconds.
    pub max_buys_per_minute: u32,
    /// The most that may be spent in any hour; `None`: not limited by it.
    pub per_hour: Option<Coins>,
    /// The most that may be spent in any day; `None`: not limited by it.
    pub per_day: Option<Coins>,
    /// How many buys may be under way at once.
    pub max_in_flight: u32,
}

/// What is asked of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    /// Which listing subscription.
    pub generation: Generation,
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
    /// What may be spent.
    pub budget: Budget,
    /// What is asked of the feed.
    pub feed: Feed,
    /// What is wanted. Empty: every listing is shown and none is wanted.
    pub whitelist: Arc<Whitelist>,
}
