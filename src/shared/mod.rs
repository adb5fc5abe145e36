//! A budget that several bots share, and the choice of the active bot among standbys.
//!
//! The local ledger stays authoritative for its own orders. The members of a group keep a *slice*
//! of each shared limit in a database; a member approves no order beyond the slice that the
//! database has confirmed, and raises the slice in advance, in the background. See `docs/shared.md`
//! for the protocol and its invariants.
//!
//! - [`exchange`]: the messages between a member and the database.
//! - [`database`]: the transaction of an exchange as a pure function, which `store` repeats on
//!   rows.
//! - [`member`]: the member's side as a pure state machine, with [`mod@slice`] and [`standby`].
//! - `store`: the transaction in PostgreSQL.
//! - [`convert`]: conversion between a ledger and the protocol; [`exchanger`]: access to a
//!   database.
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
