//! The practice marketplace: seeded, with faults on demand.
//!
//! A market that behaves as the real one is known to, on loopback, with money that is none. `sniper
//! demo` runs the bot against it, `sniper sim` offers it for rehearsal, and the tests hold the bot
//! against its [`market_books`], which are the truth.
//!
//! - What is listed, when, and who takes it: [`items`], [`arrivals`], [`catalogue`], [`offer`],
//!   [`demo`], decided by a seed through [`dice`]. Pure.
//! - The market as a state machine: [`market_state`], [`listing`], [`market_books`], [`faults`]. Pure.
//! - How it speaks: [`query`], [`value`], [`graphql`], [`protocol`]. Pure.
//! - `sniper sim`: [`cli`].
//! - The edge: [`server`] with [`SimServer`], `server_state`, `http_head`, `http_server`, `ws_server`, `prefixed_stream`.
//!
//! It shares no code with the rooms that speak to it: what one of them misunderstands, the other
//! must not misunderstand in the same way.

pub mod arrivals;
pub mod catalogue;
pub mod cli;
pub mod demo;
pub mod dice;
pub mod faults;
pub mod graphql;
mod http_head;
mod http_server;
pub mod items;
pub mod listing;
pub mod market_books;
pub mod market_state;
pub mod offer;
mod prefixed_stream;
pub mod protocol;
pub mod query;
pub mod server;
mod server_state;
pub mod settings;
pub mod value;
mod ws_server;

pub use self::{
    faults::Fault,
    market_books::{JoinDecision, MarketBooks},
    offer::ListedItem,
    server::{SimServer, SimServerError},
    server_state::ServerStats,
    settings::{Delivery, Rate, Rivals, SimSettings},
};
