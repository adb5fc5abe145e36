//! Common code of simulated markets that change prices under one id and store the buyer's own order
//! ids.
//!
//! - [`lot`], [`purchase`]: listed items, and their orders and purchases. Pure.
//! - [`market`]: lots, price changes, purchases and the account as a state machine. Pure.
//! - [`books`]: each sale with its buyer and own id. Pure.
//! - [`names`]: phases and paint indices of items, which such markets write in different ways.
//!   Pure.
//! - [`query`]: query strings of requests. Pure.
//! - [`server`], [`feed_connection`]: input and output.
//!
//! The wire formats are not here, but in the folder of each market.

pub mod books;
pub mod feed_connection;
pub mod lot;
pub mod market;
pub mod names;
mod price_changes;
pub mod purchase;
pub mod query;
pub mod server;
