//! What simulated markets share that change prices under one id and know the buyer's own order ids.
//!
//! - [`lot`], [`purchase`]: what is listed, and what is ordered and bought. Pure.
//! - [`market`]: lots, price changes, purchases and the account as a state machine. Pure.
//! - [`books`]: each sale with its buyer and own id. Pure.
//! - [`names`]: phases and paint indices of items, which such markets write in different ways.
//!   Pure.
//! - [`query`]: query strings of requests. Pure.
//! - [`server`], [`feed_connection`]: input and output.
//!
//! Nothing here knows a wire format; these are in the folder of each market.

pub mod books;
pub mod feed_connection;
pub mod lot;
pub mod market;
pub mod names;
mod price_changes;
pub mod purchase;
pub mod query;
pub mod server;
