//! What only the marketplace knows about us, read seldom and never on the buying connection.
//!
//! - [`reader`]: typed reads over HTTP, at a pace (`pace`, pure); [`failure`]: why one failed, and
//!   what that means for buying; [`health`]: which reads fail, so that each is reported once.
//! - [`purchases`]: from pages to one list of own purchases; `depth`: how far back it goes. Pure.
//! - [`sweep`](mod@sweep): back-fill, what is for sale.
//! - [`mod@watch`]: the loop that reads balance and purchases now and then, and when asked.
//!
//! All of it runs on a background thread. What it learns comes out of bounded queues; whoever
//! decides takes it when there is time.

mod depth;
pub mod failure;
pub mod health;
mod pace;
pub mod purchases;
pub mod reader;
pub mod sweep;
pub mod watch;

pub use self::{
    failure::ReadFailure,
    health::{FailureCause, ReadHealth, ReadKind},
    purchases::{IncompleteReason, LookBack, PurchasesReading},
    reader::{AccountReader, UserReading},
    sweep::{SweepResult, fill_gaps, sweep},
    watch::{AccountUpdate, PollConfig, RefreshRequests, watch},
};
