//! Common code of simulated markets that change prices under one id and store the buyer's own order
//! ids.
//!
//! - [`listing`], [`purchase`]: listed items, and their orders and purchases. Pure.
//! - [`market`]: listings, price changes, purchases and the account as a state machine. Pure.
//! - [`books`]: each sale with its buyer and own id. Pure.
//! - [`names`]: phases and paint indices of items, which such markets write in different ways.
//!   Pure.
//! - [`query`]: query strings of requests. Pure.
//! - [`server`]: answers to HTTP requests.
//!
//! The wire formats are not here, but in the folder of each market.

pub mod books;
pub mod listing;
pub mod market;
pub mod names;
mod price_changes;
pub mod purchase;
pub mod query;
pub mod server;

use super::faults::FaultKind;

/// The faults that only such markets can inject.
pub const FAULTS: [FaultKind; 8] = [
    FaultKind::AddressNotBound,
    FaultKind::TradeUrl,
    FaultKind::PriceMoves,
    FaultKind::RequestTimeout,
    FaultKind::PageInsteadOfAnswer,
    FaultKind::FeedDisconnect,
    FaultKind::ListForeign,
    FaultKind::ReadPage,
];
