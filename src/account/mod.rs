//! Reads of the account and of open listings over HTTP, on another connection than the orders.
//!
//! - [`reader`]: typed, rate-limited reads; [`failure`]: their errors and the consequences for
//!   ordering.
//! - [`purchases`]: assembles the pages of own purchases into one list. Pure.
//! - [`backfill`]: reads open listings after a gap of the feed.
//! - [`poller`]: reads balance and purchases at an interval and on request.
//! - [`prices`]: downloads reference prices.
//! - `rate_limiter`: keeps the reads of a host below its limit. Pure.
//! - [`look_up`]: looks up orders by their own ids.
//!
//! All of it runs on a background thread and passes its results through bounded queues to the
//! thread that decides.

pub mod backfill;
pub mod failure;
pub mod look_up;
pub mod poller;
pub mod prices;
pub mod purchases;
mod rate_limiter;
pub mod reader;

pub use self::{
    backfill::{SweepResult, fill_gaps, sweep},
    failure::{FailingRead, FailureCause, ReadFailure, ReadHealth, ReadKind},
    look_up::{BOUGHT_FOR, OrderReading, look_up_orders},
    poller::{AccountUpdate, PollConfig, RefreshRequests, poll_account},
    purchases::{IncompleteReason, LookBack, PurchasesReading},
    reader::{AccountReader, UserReading},
};
