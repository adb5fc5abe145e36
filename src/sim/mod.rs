//! The simulated market: a seeded marketplace on loopback with play money and injectable faults.
//!
//! `sniper demo` runs the bot against it, `sniper sim` serves it alone, and the tests compare the
//! bot's ledger with its [`history`].
//!
//! - Listings, their times and their rival buyers: [`items`], [`arrivals`], [`catalogue`],
//!   [`offer`], [`demo`], all derived from a seed through [`random`]. Pure.
//! - The market as a state machine: [`market_state`], [`listing`], [`history`], [`faults`]. Pure.
//! - The wire formats: [`query`], [`value`], [`graphql`], [`protocol`]. Pure.
//! - The command `sniper sim`: [`cli`].
//! - Input and output: [`server`] with [`SimServer`], `server_state`, `http_head`, `http_server`,
//!   `ws_server`.
//!
//! It shares no wire code with the client modules, so a misreading of the protocol on one side
//! cannot be repeated on the other.

pub mod arrivals;
pub mod catalogue;
pub mod cli;
pub mod demo;
pub mod random;
pub mod faults;
pub mod graphql;
mod http_head;
mod http_server;
pub mod items;
pub mod listing;
pub mod history;
pub mod market_state;
pub mod offer;
pub mod protocol;
pub mod query;
pub mod server;
mod server_state;
pub mod settings;
mod ws_server;

pub use self::{
    faults::Fault,
    history::{MarketHistory, OrderDecision},
    offer::ListedItem,
    server::{SimServer, SimServerError},
    server_state::ServerStats,
    settings::{Delivery, Rate, Rivals, SimSettings},
};
