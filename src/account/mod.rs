//! What only the marketplace knows about us, read seldom and never on the buying connection.
//!
//! - [`reader`]: typed reads over HTTP, at a pace (`rate_limiter`, pure); [`failure`]: why one failed, and
//!   what that means for buying; [`health`]: which reads fail, so that each is reported once.
//! - [`purchases`]: from pages to one list of own purchases; `look_back`: how far back it goes. Pure.
//! - [`backfill`](mod@sweep): back-fill, what is for sale.
//! - [`mod@watch`]: the loop that reads balance and purchases now and then, and when asked.
//!
//! All of it runs on a background thread. What it learns comes out of bounded queues; whoever
//! decides takes it when there is time.

pub mod backfill;
pub mod failure;
pub mod health;
mod look_back;
pub mod poller;
pub mod purchases;
mod rate_limiter;
pub mod reader;

pub use self::{
    backfill::{SweepResult, fill_gaps, sweep},
    failure::ReadFailure,
    health::{FailureCause, ReadHealth, ReadKind},
    poller::{AccountUpdate, PollConfig, RefreshRequests, watch},
    purchases::{IncompleteReason, LookBack, PurchasesReading},
    reader::{AccountReader, UserReading},
};
