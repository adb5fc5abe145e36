//! A budget that several bots share, and the choice of the active bot among standbys.
//!
//! The local ledger stays the truth about its own orders. The members of a group keep a *slice* of
//! each shared limit in a database; a member approves no order beyond what the database has
//! confirmed, and takes more ahead of need, in the background. See `docs/shared.md` for the protocol
//! and its invariants.
//!
//! - [`exchange`]: what a member and the database say to each other, in one transaction.
//! - [`database`]: the transaction as a pure function, which the SQL of `store` repeats.
//! - [`member`]: the member's side as a pure state machine, with [`mod@slice`] and [`standby`].
//! - `store`: the transaction in PostgreSQL.
//! - [`convert`]: between a ledger and the protocol; [`exchanger`]: access to a database.
//! - [`split`]: which account of a market orders a listing.

pub mod exchange;
mod rules;
pub mod database;
mod slice;
mod standby;
pub mod member;
pub mod split;
#[cfg(feature = "shared")]
pub mod store;
pub mod convert;
pub mod exchanger;
#[cfg(test)]
mod tests;
