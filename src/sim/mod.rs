//! The practice marketplace: seeded, with faults on demand.
//!
//! A market that behaves as the real one is known to, on loopback, with money that is none. `sniper
//! demo` runs the bot against it, `sniper sim` offers it for rehearsal, and the tests hold the bot
//! against its [`books`], which are the truth.
//!
//! - What is listed, when, and who takes it: [`items`], [`arrivals`], [`catalogue`], [`offer`],
//!   [`demo`], decided by a seed through [`dice`]. Pure.
//! - The market as a state machine: [`exchange`], [`listing`], [`books`], [`faults`]. Pure.
//! - How it speaks: [`query`], [`value`], [`graphql`], [`protocol`]. Pure.
//! - `sniper sim`: [`cli`].
//! - The edge: [`server`] with [`SimServer`], `floor`, `http_head`, `http_server`, `ws_server`, `stream`.
//!
//! It shares no code with the rooms that speak to it: what one of them misunderstands, the other
//! must not misunderstand in the same way.

pub mod arrivals;
pub mod books;
pub mod catalogue;
pub mod cli;
pub mod demo;
pub mod dice;
pub mod exchange;
pub mod faults;
mod floor;
pub mod graphql;
mod http_head;
mod http_server;
pub mod items;
pub mod listing;
pub mod offer;
pub mod protocol;
pub mod query;
pub mod server;
pub mod settings;
mod stream;
pub mod value;
mod ws_server;

pub use self::{
    books::{JoinDecision, MarketBooks},
    faults::Fault,
    floor::ServerStats,
    offer::ListedItem,
    server::{SimServer, SimServerError},
    settings::{Delivery, Rate, Rivals, SimSettings},
};
