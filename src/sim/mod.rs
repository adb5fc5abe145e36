//! The simulated market: a seeded marketplace on loopback with play money and injectable faults.
//!
//! `sniper demo` runs the bot against it, `sniper sim` serves it alone, and the tests compare the
//! bot's ledger with its [`history`].
//!
//! - Any market: [`random`] values from a seed; [`items`], [`catalogue`] and [`demo`], which
//!   generate listings and rival buyers; [`faults`]; [`settings`]; [`history`] of what happened;
//!   [`model`], the interfaces of a market; [`state`], [`server`] and `feed_connection`: input and
//!   output.
//! - [`practice`]: listings about the whitelist of a practice run.
//! - [`repricing`]: common code of markets that change prices under one id and store own order ids.
//! - [`csgoroll`], [`lis_skins`], [`waxpeer`]: one market each, with its wire formats.

pub mod catalogue;
pub mod csgoroll;
pub mod demo;
pub mod faults;
mod feed_connection;
pub mod history;
pub mod items;
pub mod lis_skins;
pub mod model;
pub mod practice;
pub mod random;
pub mod repricing;
pub mod server;
pub mod settings;
mod undo_log;
pub mod state;
pub mod waxpeer;

pub use self::{
    catalogue::ListedItem,
    csgoroll::server::SimServer,
    faults::Fault,
    history::{MarketHistory, OrderDecision},
    lis_skins::LisSkinsSim,
    server::{ServerStats, SimServerError},
    settings::{Delivery, Rate, RepricingSettings, Rivals, SimSettings},
    waxpeer::WaxpeerSim,
};
